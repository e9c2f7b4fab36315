//! Three-phase power flow on hand-made networks.

use grid::Complex64 as C64;
use grid::threephase::dense_check::{distance_to_optimum, measurements_of};
use grid::threephase::estimate::{PhaseEstimator, PhaseMeasurement, PhaseQuantity, SourceKnowledge};
use grid::threephase::{PhaseLoad, PhaseLoadModel, PhaseNetwork, PhaseScenarios, PhaseSolver, PhaseVoltages};
use grid::{GridError, Tolerance};

/// A source of 230 V behind 0.01 + 0.02j Ω per phase, coupled phases, and a line to a second bus.
fn network(model: PhaseLoadModel, delta: bool, p_w: [f64; 3]) -> PhaseNetwork {
    let source = C64::new(0.01, 0.02).inv();
    let (own, mutual) = (C64::new(0.08, 0.03), C64::new(0.02, 0.01));
    // inverse of a matrix with equal diagonal and equal off-diagonal entries
    let scale = (own - mutual) * (own + 2.0 * mutual);
    let (y_own, y_mutual) = ((own + mutual) / scale, -mutual / scale);
    let mut admittance = Vec::new();
    for i in 0..3 {
        admittance.push((i, i, source));
        for j in 0..3 {
            let y = if i == j { y_own } else { y_mutual };
            admittance.extend([(i, j, y), (3 + i, 3 + j, y), (i, 3 + j, -y), (3 + i, j, -y)]);
        }
    }
    let angle = |k: usize| -std::f64::consts::TAU * k as f64 / 3.0;
    PhaseNetwork {
        name: "two buses".into(),
        nodes: ["a.1", "a.2", "a.3", "b.1", "b.2", "b.3"].map(String::from).to_vec(),
        base_v: vec![230.0; 6],
        admittance,
        source_a: (0..6).map(|k| if k < 3 { source * C64::from_polar(230.0, angle(k)) } else { C64::ZERO }).collect(),
        loads: (0..3)
            .map(|k| PhaseLoad {
                name: format!("load {k}"),
                from: 3 + k,
                to: delta.then_some(3 + (k + 1) % 3),
                rated_v: if delta { 230.0 * 3f64.sqrt() } else { 230.0 },
                p_w: p_w[k],
                q_var: 0.3 * p_w[k],
                model,
            })
            .collect(),
    }
}

/// Current into the second bus from the first, by node.
fn line_current(network: &PhaseNetwork, v: &[C64]) -> Vec<C64> {
    let mut out = vec![C64::ZERO; 6];
    for &(i, j, y) in &network.admittance {
        out[i] += y * v[j];
    }
    out
}

#[test]
fn loads_draw_what_their_model_says() {
    use PhaseLoadModel::{Current, Exponential, Impedance, Power};
    for model in [Power, Current, Impedance, Exponential] {
        for delta in [false, true] {
            let network = network(model, delta, [6000.0, 2000.0, 4000.0]);
            let state = PhaseSolver::new(&network).unwrap().solve().unwrap();
            let mut expected = [C64::ZERO; 6];
            for load in &network.loads {
                let d = state.v[load.from] - load.to.map_or(C64::ZERO, |t| state.v[t]);
                let u = d.norm() / load.rated_v;
                assert!(u > 0.95 && u < 1.05, "inside the limits: {u}");
                let (p, q) = match model {
                    Power => (1.0, 1.0),
                    Current => (u, u),
                    Impedance => (u * u, u * u),
                    Exponential => (u, u * u),
                };
                let current = (C64::new(p * load.p_w, q * load.q_var) / d).conj();
                expected[load.from] -= current;
                if let Some(to) = load.to {
                    expected[to] += current;
                }
            }
            let injected = line_current(&network, &state.v);
            for k in 3..6 {
                assert!((injected[k] - expected[k]).norm() < 1e-8, "{model:?} {delta} {k}");
            }
            assert!(state.loss_w > 0.0);
        }
    }
}

#[test]
fn below_the_limit_a_load_is_an_impedance() {
    let network = network(PhaseLoadModel::Power, false, [60_000.0, 0.0, 0.0]);
    let state = PhaseSolver::new(&network).unwrap().solve().unwrap();
    let v = state.v[3];
    assert!(v.norm() < 0.95 * 230.0);
    let y = C64::new(60_000.0, -18_000.0) / (0.95f64 * 230.0).powi(2);
    assert!((line_current(&network, &state.v)[3] + y * v).norm() < 1e-6);
}

#[test]
fn a_batch_equals_single_solutions() {
    let base = network(PhaseLoadModel::Power, true, [6000.0, 2000.0, 4000.0]);
    let solver = PhaseSolver::new(&base).unwrap();
    let (mut p_w, mut q_var) = (Vec::new(), Vec::new());
    for s in 0..13 {
        p_w.extend([500.0 * f64::from(s), 3000.0, 7000.0 - 400.0 * f64::from(s)]);
        q_var.extend([100.0, -50.0 * f64::from(s), 900.0]);
    }
    let mut out = PhaseVoltages::default();
    let scenarios = PhaseScenarios { p_w: &p_w, q_var: &q_var };
    solver.solve_batch(&scenarios, Tolerance { step_pu: 1e-12, max_iterations: 50 }, 2, &mut out).unwrap();
    assert!(out.failed.is_empty());
    for s in 0..13 {
        let mut one = base.clone();
        for (k, load) in one.loads.iter_mut().enumerate() {
            (load.p_w, load.q_var) = (p_w[3 * s + k], q_var[3 * s + k]);
        }
        let single = PhaseSolver::new(&one).unwrap().solve().unwrap();
        for k in 0..6 {
            assert!((C64::new(out.re[6 * s + k], out.im[6 * s + k]) - single.v[k]).norm() < 1e-7);
        }
    }
}

#[test]
fn nonsense_is_named() {
    let mut bad = network(PhaseLoadModel::Power, false, [1.0; 3]);
    bad.loads[1].p_w = f64::NAN;
    assert!(PhaseSolver::new(&bad).err().unwrap().to_string().contains("load 1"));
    let mut bad = network(PhaseLoadModel::Power, false, [1.0; 3]);
    bad.source_a.fill(C64::ZERO);
    assert!(matches!(PhaseSolver::new(&bad), Err(GridError::NoSlack)));
}

#[test]
fn exact_measurements_give_back_the_power_flow() {
    for model in [PhaseLoadModel::Power, PhaseLoadModel::Current, PhaseLoadModel::Impedance] {
        for delta in [false, true] {
            let network = network(model, delta, [6000.0, 2000.0, 4000.0]);
            let flow = PhaseSolver::new(&network).unwrap().solve().unwrap();
            let measurements = measurements_of(&network, &flow.v, 0.0, 1);
            let found =
                PhaseEstimator::new(&network, &measurements, SourceKnowledge::default()).unwrap().estimate().unwrap();
            for (a, b) in found.v.iter().zip(&flow.v) {
                assert!((a - b).norm() < 1e-9, "{model:?} {delta}");
            }
            assert!(found.objective < 1e-12);
        }
    }
}

#[test]
fn noisy_measurements_give_the_dense_optimum() {
    for seed in 0..12 {
        let delta = seed % 2 == 1;
        let network = network(PhaseLoadModel::Power, delta, [6000.0, 2000.0, 4000.0]);
        let flow = PhaseSolver::new(&network).unwrap().solve().unwrap();
        let source = SourceKnowledge { magnitude: 1.01, magnitude_sigma: 0.02, angle_sigma_rad: 0.01 };
        let mut measurements = measurements_of(&network, &flow.v, 3.0, seed);
        for (from, to) in [(0, None), (1, None), (2, None), (3, Some(4)), (5, None)] {
            let d = flow.v[from] - to.map_or(C64::ZERO, |t: usize| flow.v[t]);
            measurements.push(PhaseMeasurement {
                quantity: PhaseQuantity::Voltage { from, to },
                value: d.norm() + f64::from(from as u32) - 2.0,
                sigma: 1.0,
            });
        }
        let found = PhaseEstimator::new(&network, &measurements, source).unwrap().estimate().unwrap();
        assert!(found.objective > 0.5, "noise was seen: {}", found.objective);
        let distance = distance_to_optimum(&network, &measurements, source, &found).unwrap();
        assert!(distance < 1e-9, "seed {seed}: {distance}");
    }
}

#[test]
fn a_gross_error_stands_out_and_what_is_not_seen_is_named() {
    let network = network(PhaseLoadModel::Power, false, [6000.0, 2000.0, 4000.0]);
    let flow = PhaseSolver::new(&network).unwrap().solve().unwrap();
    let mut measurements = measurements_of(&network, &flow.v, 0.0, 1);
    for from in 0..6 {
        let value = flow.v[from].norm();
        measurements.push(PhaseMeasurement { quantity: PhaseQuantity::Voltage { from, to: None }, value, sigma: 0.2 });
    }
    measurements.last_mut().unwrap().value += 3.0;
    let found = PhaseEstimator::new(&network, &measurements, SourceKnowledge::default()).unwrap().estimate().unwrap();
    let worst = (0..measurements.len()).max_by(|&a, &b| {
        let size = |k: usize| found.normalised_residuals[k].unwrap_or(0.0);
        size(a).total_cmp(&size(b))
    });
    assert_eq!(worst, Some(measurements.len() - 1));
    assert!(found.p_value < 1e-3);
    // without any measurement of load 2 and with no voltage near it, nothing tells about it
    let blind: Vec<PhaseMeasurement> = measurements
        .iter()
        .filter(|m| {
            !matches!(m.quantity, PhaseQuantity::ActivePower { load: 2 } | PhaseQuantity::ReactivePower { load: 2 })
                && !matches!(m.quantity, PhaseQuantity::Voltage { .. })
        })
        .copied()
        .collect();
    let error = PhaseEstimator::new(&network, &blind, SourceKnowledge::default()).unwrap().estimate().unwrap_err();
    assert!(error.to_string().contains("load 2"), "{error}");
    let mut bad = measurements.clone();
    bad[0].sigma = 0.0;
    assert!(PhaseEstimator::new(&network, &bad, SourceKnowledge::default()).is_err());
    bad[0] = PhaseMeasurement { quantity: PhaseQuantity::Voltage { from: 0, to: Some(3) }, value: 1.0, sigma: 1.0 };
    assert!(PhaseEstimator::new(&network, &bad, SourceKnowledge::default()).is_err());
}
