//! Missing power placed from three instants.

use grid::flow::{FlowSolver, Scenarios};
use grid::model::Model;
use grid::{Complex64, Tolerance};
use losses::localise::feeder::cut_at;
use losses::localise::snapshot::{Snapshot, SnapshotReading, SnapshotSetting, localise_snapshots, right_counters};
use losses::localise::trial::MeterClass;
use losses::pattern::canary::Dice;

const HOUSES: usize = 20;

fn setting() -> SnapshotSetting {
    SnapshotSetting {
        observer_bus: 1,
        nominal_volts: 230.0,
        class: MeterClass { gain_sd: 0.005, random_sd: 0.005, quantum_wh: 1.0, voltage_random_sd: 0.001 },
        observer_class: MeterClass { gain_sd: 0.0025, random_sd: 0.001, quantum_wh: 1.0, voltage_random_sd: 0.0003 },
    }
}

/// Three instants of the two-cable feeder with a tap at `house`; `calibrated`: the meters' offsets are known.
fn instants(house: usize, tap_w: [f64; 3], calibrated: bool, seed: u64) -> Vec<Snapshot> {
    let network = crate::feeder::two_cables();
    let mut dice = Dice::new(seed);
    let mut cut = cut_at(&network, 1).expect("cut");
    for branch in &mut cut.branches {
        let factor = (0.1 * dice.normal()).exp();
        branch.r_pu *= factor;
        branch.x_pu *= factor;
    }
    let model = Model::new(&cut).expect("model");
    let buses = model.bus_count();
    let columns: Vec<usize> = (0..buses).filter(|b| *b != model.slack_index()).collect();
    let index = cut.bus_index();
    let offsets: Vec<f64> = (0..HOUSES).map(|_| dice.between(-0.005, 0.005)).collect();
    let solver = FlowSolver::new(&model, &columns, &vec![Complex64::new(0.0, 0.0); buses]).expect("solver");
    tap_w
        .iter()
        .map(|tap| {
            let used: Vec<f64> = (0..HOUSES).map(|_| 200.0 + 1_500.0 * dice.unit().powi(3)).collect();
            let mut p = vec![0.0; columns.len()];
            for (h, watts) in used.iter().enumerate() {
                let bus = index[&(2 + h as u32)];
                let column = columns.iter().position(|c| *c == bus).expect("a column");
                p[column] -= (watts + if h == house { *tap } else { 0.0 }) / 1e6;
            }
            let q: Vec<f64> = p.iter().map(|p| 0.1 * p).collect();
            let slack = [1.01];
            let scenarios = Scenarios { p_pu: &p, q_pu: &q, slack_vm_pu: Some(&slack) };
            let solved = solver.solve(&scenarios, Tolerance::default(), 1).expect("solved");
            let voltage = |bus: usize| solved.re[bus].hypot(solved.im[bus]);
            let losses: f64 = cut
                .branches
                .iter()
                .map(|b| {
                    let (f, t) = (index[&b.from], index[&b.to]);
                    let (re, im) = (solved.re[f] - solved.re[t], solved.im[f] - solved.im[t]);
                    (re * re + im * im) * b.r_pu / (b.r_pu * b.r_pu + b.x_pu * b.x_pu) * 1e6
                })
                .sum();
            let readings = (0..HOUSES)
                .map(|h| {
                    let true_pu = voltage(index[&(2 + h as u32)]);
                    SnapshotReading {
                        usage_point: h as u32 + 1,
                        watts: (used[h] * (1.0 + 0.003 * dice.normal())).round(),
                        voltage_pu: true_pu * (1.0 + offsets[h] + 0.001 * dice.normal()),
                        amperes: Some(used[h] / (230.0 * true_pu)),
                        vars: 0.0,
                        offset_pu: calibrated.then_some(offsets[h]),
                    }
                })
                .collect();
            let total = used.iter().sum::<f64>() + tap + losses;
            let delivered_w = total * (1.0 + 0.002 * dice.normal());
            Snapshot { delivered_w, unheard_sd_w: 0.0, observer_pu: 1.01, readings }
        })
        .collect()
}

#[test]
fn a_tap_that_changes_between_the_instants_is_placed_near() {
    let network = crate::feeder::two_cables();
    let (mut near, mut calibrated_near, trials) = (0, 0, 40);
    for seed in 0..trials {
        let house = (seed * 7 % HOUSES as u64) as usize;
        for calibrated in [false, true] {
            let snapshots = instants(house, [3_000.0, 200.0, 2_500.0], calibrated, seed);
            let verdict = localise_snapshots(Some(&network), &setting(), &snapshots).expect("verdict");
            assert!(verdict.alarm, "{verdict:?}");
            assert!((verdict.missing_w[0] - 3_000.0).abs() < 4.0 * verdict.missing_sd_w[0], "{verdict:?}");
            assert!(verdict.count_wrongly.is_empty());
            let first = i64::from(verdict.suspects[0].usage_point) - 1;
            let same_cable = first / 10 == house as i64 / 10;
            let hit = same_cable && first.abs_diff(house as i64) <= 2;
            *(if calibrated { &mut calibrated_near } else { &mut near }) += usize::from(hit);
        }
    }
    // One of four or five houses of twenty by chance: 0.22.
    assert!(near * 10 >= trials as usize * 5, "{near} of {trials}");
    assert!(calibrated_near * 10 >= trials as usize * 7, "{calibrated_near} of {trials}");
}

#[test]
fn an_honest_zone_is_left_alone() {
    let network = crate::feeder::two_cables();
    for seed in 100..120 {
        let snapshots = instants(0, [0.0; 3], false, seed);
        let verdict = localise_snapshots(Some(&network), &setting(), &snapshots).expect("verdict");
        assert!(!verdict.alarm && verdict.suspects.is_empty(), "{verdict:?}");
    }
}

#[test]
fn a_meter_that_counts_less_than_its_current_is_told_without_a_network() {
    let mut snapshots = instants(3, [0.0; 3], false, 1);
    for snapshot in &mut snapshots {
        let reading = &mut snapshot.readings[4];
        *reading = SnapshotReading { watts: 400.0, amperes: Some(5.0), voltage_pu: 1.0, ..*reading };
        snapshot.delivered_w += 1_150.0;
    }
    let verdict = localise_snapshots(None, &setting(), &snapshots).expect("verdict");
    assert_eq!(verdict.count_wrongly.len(), 1);
    assert_eq!(verdict.count_wrongly[0].usage_point, 5);
    assert!(!verdict.localised && verdict.suspects.is_empty());
    let uncounted_w = verdict.count_wrongly[0].watts;
    assert!((uncounted_w - 750.0).abs() < 1.0, "{uncounted_w} of 5 A × 230 V − 400 W");
}

#[test]
fn a_motor_that_idles_is_no_theft() {
    let mut snapshots = instants(3, [0.0; 3], false, 1);
    for snapshot in &mut snapshots {
        let reading = &mut snapshot.readings[4];
        *reading = SnapshotReading { watts: 400.0, vars: 1_078.0, amperes: Some(5.0), voltage_pu: 1.0, ..*reading };
    }
    let verdict = localise_snapshots(None, &setting(), &snapshots).expect("verdict");
    assert!(verdict.count_wrongly.is_empty(), "{verdict:?}");
    assert!(right_counters(&setting(), &snapshots).contains(&5));
}

#[test]
fn meters_that_did_not_answer_widen_what_may_be_missing() {
    let mut snapshots = instants(0, [0.0; 3], false, 3);
    for snapshot in &mut snapshots {
        snapshot.delivered_w += 2_000.0;
    }
    assert!(localise_snapshots(None, &setting(), &snapshots).expect("verdict").alarm);
    for snapshot in &mut snapshots {
        snapshot.unheard_sd_w = 1_500.0;
    }
    let verdict = localise_snapshots(None, &setting(), &snapshots).expect("verdict");
    assert!(!verdict.alarm && verdict.missing_sd_w.iter().all(|sd| *sd > 1_500.0), "{verdict:?}");
}

#[test]
fn too_many_or_no_snapshots_are_refused() {
    assert!(localise_snapshots(None, &setting(), &[]).is_err());
    let one = instants(0, [0.0; 3], false, 1).remove(0);
    assert!(localise_snapshots(None, &setting(), &vec![one; 7]).is_err());
}
