//! State estimation: optimality by finite differences, invariance, bad data, observability.

use crate::support::random_network;
use grid::Complex64 as C64;
use grid::bench::Draw;
use grid::estimate::{Estimator, estimate};
use grid::estimate_covariance::CorrelatedGroup;
use grid::flow::{State, solve, solve_injections};
use grid::measurement::{Measurement, Quantity, Side};
use grid::model::Model;
use grid::network::{LoadModel, Network};
use grid::{BatchEstimator, GridError, Tolerance};
use proptest::prelude::*;

fn value(state: &State, quantity: Quantity) -> f64 {
    match quantity {
        Quantity::Voltage { bus } => state.v[bus].norm(),
        Quantity::ActiveInjection { bus } => state.injection[bus].re,
        Quantity::ReactiveInjection { bus } => state.injection[bus].im,
        Quantity::ActiveFlow { branch, side: Side::From } => state.branches[branch].p_from_pu,
        Quantity::ActiveFlow { branch, side: Side::To } => state.branches[branch].p_to_pu,
        Quantity::ReactiveFlow { branch, side: Side::From } => state.branches[branch].q_from_pu,
        Quantity::ReactiveFlow { branch, side: Side::To } => state.branches[branch].q_to_pu,
    }
}

/// A network with constant-power loads, noisy measurements of everything, and its zero-injection buses.
fn case(seed: u64, buses: usize, chords: usize, noise: f64) -> (Network, Vec<Measurement>, Vec<usize>) {
    let mut network = random_network(seed, buses, chords);
    for l in &mut network.loads {
        l.model = LoadModel::Power;
    }
    let state = solve(&Model::new(&network).unwrap()).unwrap();
    let slack = network.slack().unwrap();
    let mut draw = Draw::new(seed ^ 77);
    let mut measurements = Vec::new();
    let mut add = |quantity: Quantity, sigma_pu: f64| {
        let value_pu = value(&state, quantity) + noise * sigma_pu * draw.normal();
        measurements.push(Measurement { quantity, value_pu, sigma_pu });
    };
    let mut zero = Vec::new();
    for (bus, b) in network.buses.iter().enumerate().filter(|(i, _)| *i != slack) {
        if network.loads.iter().any(|l| l.bus == b.id) {
            add(Quantity::ActiveInjection { bus }, 0.002);
            add(Quantity::ReactiveInjection { bus }, 0.001);
        } else {
            zero.push(bus);
        }
        if bus % 3 == 0 {
            add(Quantity::Voltage { bus }, 0.005);
        }
    }
    add(Quantity::Voltage { bus: slack }, 0.001);
    add(Quantity::ActiveFlow { branch: 0, side: Side::To }, 0.001);
    add(Quantity::ReactiveFlow { branch: 0, side: Side::From }, 0.001);
    (network, measurements, zero)
}

/// Makes up to six injections a group with a random covariance; their sigmas follow it.
fn correlated(seed: u64, measurements: &mut [Measurement]) -> CorrelatedGroup {
    let mut draw = Draw::new(seed ^ 5);
    let injections = (0..measurements.len()).filter(|&k| {
        matches!(measurements[k].quantity, Quantity::ActiveInjection { .. } | Quantity::ReactiveInjection { .. })
    });
    let chosen: Vec<usize> = injections.take(6).collect();
    let m = chosen.len();
    let factors: Vec<f64> = (0..m * m).map(|_| 0.002 * draw.normal()).collect();
    let mut covariance = vec![0.0; m * m];
    for r in 0..m {
        for c in 0..m {
            covariance[r * m + c] = (0..m).map(|k| factors[r * m + k] * factors[c * m + k]).sum();
        }
        covariance[r * m + r] += 1e-6;
        measurements[chosen[r]].sigma_pu = covariance[r * m + r].sqrt();
    }
    CorrelatedGroup { measurements: chosen, covariance }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_estimate_is_a_stationary_point_of_the_weighted_squares(seed: u64, buses in 3usize..20, chords in 0usize..2) {
        let (network, measurements, zero) = case(seed, buses, chords, 1.0);
        let model = Model::new(&network).unwrap();
        let found = estimate(&model, &measurements, &zero).unwrap();
        let slack = network.slack().unwrap();
        for &bus in &zero {
            prop_assert!(found.state.injection[bus].norm() < 1e-10);
        }
        let objective = |power: &[C64], v0: C64| {
            let state = solve_injections(&model, power, v0).unwrap();
            measurements.iter().map(|m| ((m.value_pu - value(&state, m.quantity)) / m.sigma_pu).powi(2)).sum::<f64>()
        };
        let base = objective(&found.state.injection, found.state.v[slack]);
        prop_assert!((base - found.objective).abs() < 1e-6 * base.max(1.0));
        let step = 1e-5;
        for bus in (0..buses).filter(|b| *b != slack && !zero.contains(b)) {
            for direction in [C64::ONE, C64::I] {
                let [up, down] = [step, -step].map(|s| {
                    let mut power = found.state.injection.clone();
                    power[bus] += direction * s;
                    objective(&power, found.state.v[slack])
                });
                // slope zero and curvature positive
                prop_assert!((up - down).abs() < 1e-3 * (up + down - 2.0 * base), "slope at bus {bus}");
            }
        }
        let [up, down] = [step, -step].map(|s| objective(&found.state.injection, found.state.v[slack] * (1.0 + s)));
        prop_assert!((up - down).abs() < 1e-3 * (up + down - 2.0 * base), "slope at the slack bus");
    }

    #[test]
    fn correlated_injections_are_weighed_with_their_full_covariance(seed: u64, buses in 4usize..16) {
        let (network, mut measurements, zero) = case(seed, buses, 1, 1.0);
        let model = Model::new(&network).unwrap();
        let group = correlated(seed, &mut measurements);
        let m = group.measurements.len();
        let estimator = Estimator::new(&model, &measurements, &zero).unwrap();
        let found = estimator.estimate_correlated(&group).unwrap();
        let slack = network.slack().unwrap();
        let objective = |power: &[C64], v0: C64| {
            let state = solve_injections(&model, power, v0).unwrap();
            let residuals: Vec<f64> = measurements.iter().map(|m| m.value_pu - value(&state, m.quantity)).collect();
            let outside = (0..residuals.len()).filter(|k| !group.measurements.contains(k));
            let alone: f64 = outside.map(|k| (residuals[k] / measurements[k].sigma_pu).powi(2)).sum();
            let own: Vec<C64> = group.measurements.iter().map(|&k| C64::new(residuals[k], 0.0)).collect();
            let matrix = (0..m).map(|r| (0..m).map(|c| C64::new(group.covariance[r * m + c], 0.0)).collect()).collect();
            let weighted = crate::support::dense_solve(matrix, own.clone());
            alone + own.iter().zip(&weighted).map(|(a, b)| a.re * b.re).sum::<f64>()
        };
        let state = &found.estimate.state;
        let base = objective(&state.injection, state.v[slack]);
        prop_assert!((base - found.estimate.objective).abs() < 1e-6 * base.max(1.0));
        let step = 1e-5;
        for bus in (0..buses).filter(|b| *b != slack && !zero.contains(b)) {
            for direction in [C64::ONE, C64::I] {
                let [up, down] = [step, -step].map(|s| {
                    let mut power = state.injection.clone();
                    power[bus] += direction * s;
                    objective(&power, state.v[slack])
                });
                prop_assert!((up - down).abs() < 1e-3 * (up + down - 2.0 * base), "slope at bus {bus}");
            }
        }
        // with its diagonal only, the group is what the plain estimator sees, and so are the uncertainties
        let mut diagonal = group.clone();
        (0..m * m).filter(|k| k / m != k % m).for_each(|k| diagonal.covariance[k] = 0.0);
        let same = estimator.estimate_correlated(&diagonal).unwrap();
        let plain = estimator.estimate().unwrap();
        let sigmas = estimator.assess(&plain).unwrap().vm_sigma_pu;
        for (bus, sigma) in sigmas.iter().enumerate() {
            prop_assert!((same.estimate.state.v[bus] - plain.state.v[bus]).norm() < 1e-10);
            prop_assert!((same.vm_sigma_pu[bus] - sigma).abs() < 1e-6 * sigma);
        }
        for k in 0..m {
            prop_assert!(found.covariance[k * m + k] <= group.covariance[k * m + k] * (1.0 + 1e-9));
        }
    }

    #[test]
    fn numbering_does_not_matter(seed: u64, buses in 3usize..25) {
        let (network, measurements, zero) = case(seed, buses, 1, 1.0);
        let first = estimate(&Model::new(&network).unwrap(), &measurements, &zero).unwrap();
        let mut turned = network.clone();
        turned.buses.reverse();
        let at = |bus: usize| buses - 1 - bus;
        let moved: Vec<Measurement> = measurements.iter().map(|m| {
            let quantity = match m.quantity {
                Quantity::Voltage { bus } => Quantity::Voltage { bus: at(bus) },
                Quantity::ActiveInjection { bus } => Quantity::ActiveInjection { bus: at(bus) },
                Quantity::ReactiveInjection { bus } => Quantity::ReactiveInjection { bus: at(bus) },
                other => other,
            };
            Measurement { quantity, ..*m }
        }).collect();
        let zero: Vec<usize> = zero.iter().map(|&b| at(b)).collect();
        let second = estimate(&Model::new(&turned).unwrap(), &moved, &zero).unwrap();
        for bus in 0..buses {
            prop_assert!((first.state.v[bus] - second.state.v[at(bus)]).norm() < 1e-10);
        }
    }

    #[test]
    fn batches_equal_single_estimates(seed: u64, buses in 3usize..25, threads in 1usize..3) {
        let (network, measurements, zero) = case(seed, buses, 0, 1.0);
        let model = Model::new(&network).unwrap();
        let batch = BatchEstimator::new(&Estimator::new(&model, &measurements, &zero).unwrap()).unwrap();
        let mut draw = Draw::new(seed);
        let rows: Vec<Vec<Measurement>> = (0..11).map(|_| measurements.iter().map(|m| {
            Measurement { value_pu: m.value_pu + m.sigma_pu * draw.normal(), ..*m }
        }).collect()).collect();
        let values: Vec<f64> = rows.iter().flatten().map(|m| m.value_pu).collect();
        let out = batch.estimate(&values, Tolerance { step_pu: 1e-12, max_iterations: 60 }, threads).unwrap();
        prop_assert!(out.failed.is_empty());
        for (r, row) in rows.iter().enumerate() {
            let single = estimate(&model, row, &zero).unwrap();
            for (k, v) in single.state.v.iter().enumerate() {
                prop_assert!((C64::new(out.re[r * buses + k], out.im[r * buses + k]) - v).norm() < 1e-9);
            }
        }
    }
}

#[test]
fn a_gross_error_is_found_and_removed() {
    let (network, mut measurements, zero) = case(9, 15, 0, 0.3);
    let model = Model::new(&network).unwrap();
    let bad = measurements.iter().position(|m| matches!(m.quantity, Quantity::ActiveFlow { .. })).unwrap();
    measurements[bad].value_pu += 0.1;
    let estimator = Estimator::new(&model, &measurements, &zero).unwrap();
    let dirty = estimator.estimate().unwrap();
    assert!(estimator.assess(&dirty).unwrap().p_value < 1e-6);
    let cleaned = estimator.estimate_without_bad_data(grid::quality::SUSPECT).unwrap();
    assert_eq!(cleaned.removed.iter().map(|r| r.0).collect::<Vec<_>>(), [bad]);
}

#[test]
fn huber_weights_play_a_gross_error_down() {
    let (network, mut measurements, zero) = case(9, 15, 0, 0.3);
    let model = Model::new(&network).unwrap();
    // one meter among many that the flow into the network checks; one flow against many weaker meters would win by leverage
    let bad = measurements.iter().position(|m| matches!(m.quantity, Quantity::ActiveInjection { .. })).unwrap();
    measurements[bad].value_pu += 0.1;
    let estimator = Estimator::new(&model, &measurements, &zero).unwrap();
    let dirty = estimator.estimate().unwrap();
    let (robust, weights) = estimator.estimate_robust(1.5).unwrap();
    let least = (0..weights.len()).min_by(|&a, &b| weights[a].total_cmp(&weights[b])).unwrap();
    assert_eq!(least, bad);
    let truth = solve(&model).unwrap();
    let error = |s: &State| s.v.iter().zip(&truth.v).map(|(a, b)| (a - b).norm()).fold(0.0, f64::max);
    assert!(error(&robust.state) < error(&dirty.state));
}

#[test]
fn posterior_spread_matches_repeated_draws() {
    let (network, measurements, zero) = case(4, 12, 0, 0.0);
    let model = Model::new(&network).unwrap();
    let estimator = Estimator::new(&model, &measurements, &zero).unwrap();
    let centre = estimator.estimate().unwrap();
    let claimed = estimator.assess(&centre).unwrap().vm_sigma_pu;
    let losses = estimator.technical_losses(&centre).unwrap();
    let mut draw = Draw::new(8);
    let (mut squares, mut loss_squares, count) = (vec![0.0; 12], 0.0, 400);
    for _ in 0..count {
        let noisy: Vec<Measurement> = measurements
            .iter()
            .map(|m| Measurement { value_pu: m.value_pu + m.sigma_pu * draw.normal(), ..*m })
            .collect();
        let one = estimate(&model, &noisy, &zero).unwrap();
        for (s, (v, c)) in squares.iter_mut().zip(one.state.v.iter().zip(&centre.state.v)) {
            *s += (v.norm() - c.norm()).powi(2) / f64::from(count);
        }
        let loss: f64 = one.state.branches.iter().map(|b| b.loss_p_pu()).sum();
        loss_squares += (loss - losses.total_p_pu).powi(2) / f64::from(count);
    }
    for (s, c) in squares.iter().zip(&claimed) {
        assert!((s.sqrt() / c - 1.0).abs() < 0.15, "{} against {c}", s.sqrt());
    }
    assert!((loss_squares.sqrt() / losses.total_sigma_pu - 1.0).abs() < 0.2);
}

#[test]
fn what_cannot_be_seen_is_an_error_and_what_can_is_found() {
    let (network, measurements, zero) = case(3, 10, 0, 0.0);
    let model = Model::new(&network).unwrap();
    let truth = solve(&model).unwrap();
    let dropped = measurements
        .iter()
        .find_map(|m| match m.quantity {
            Quantity::ActiveInjection { bus } => Some(bus),
            _ => None,
        })
        .unwrap();
    let without: Vec<Measurement> = measurements
        .iter()
        .copied()
        .filter(|m| {
            !matches!(m.quantity, Quantity::ActiveInjection { bus } | Quantity::ReactiveInjection { bus } if bus == dropped)
                && !matches!(m.quantity, Quantity::ActiveFlow { .. } | Quantity::ReactiveFlow { .. })
                && !matches!(m.quantity, Quantity::Voltage { bus } if bus != model.slack_index())
        })
        .collect();
    match estimate(&model, &without, &zero) {
        Err(GridError::Unobservable { bus }) => assert_eq!(bus, model.bus_ids()[dropped]),
        other => panic!("{other:?}"),
    }
    // the flow into the network tells what the missing meter would have
    let mut enough = without.clone();
    let slack = model.slack_index();
    for quantity in [Quantity::ActiveInjection { bus: slack }, Quantity::ReactiveInjection { bus: slack }] {
        enough.push(Measurement { quantity, value_pu: value(&truth, quantity), sigma_pu: 0.001 });
    }
    let found = estimate(&model, &enough, &zero).unwrap();
    for (a, b) in found.state.v.iter().zip(&truth.v) {
        assert!((a - b).norm() < 1e-9);
    }
    let no_voltage: Vec<Measurement> =
        measurements.iter().copied().filter(|m| !matches!(m.quantity, Quantity::Voltage { .. })).collect();
    assert!(matches!(estimate(&model, &no_voltage, &zero), Err(GridError::Unobservable { .. })));
}

#[test]
fn nonsense_measurements_are_named() {
    let (network, measurements, zero) = case(3, 6, 0, 0.0);
    let model = Model::new(&network).unwrap();
    let with = |change: &dyn Fn(&mut Measurement)| {
        let mut bad = measurements.clone();
        change(&mut bad[0]);
        Estimator::new(&model, &bad, &zero).unwrap_err().to_string()
    };
    assert!(with(&|m| m.value_pu = f64::NAN).contains("not a finite number"));
    assert!(with(&|m| m.sigma_pu = 0.0).contains("sigma"));
    assert!(with(&|m| m.quantity = Quantity::Voltage { bus: 99 }).contains("position 99"));
}
