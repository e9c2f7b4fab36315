//! Localisation on a small feeder of our own making.

use grid::network::{Branch, BranchKind, Bus, BusKind, Load, LoadModel, Network};
use losses::localise::{TheftKind, localise};
use losses::study::world::{Theft, simulate};
use losses::study::{self, StudyOptions};

/// A transformer with two cables of ten houses each, 30 m apart.
fn feeder() -> Network {
    let bus = |id: u32, kind| Bus { id, name: format!("bus {id}"), vn_kv: 0.4, kind, gs_mw: 0.0, bs_mvar: 0.0 };
    let branch = |id: u32, from, to, kind, r_pu, x_pu| Branch {
        id,
        from,
        to,
        kind,
        name: format!("branch {id}"),
        r_pu,
        x_pu,
        g_pu: 0.0,
        b_pu: 0.0,
        tap: 1.0,
        shift_deg: 0.0,
        rate_mva: None,
        length_km: None,
    };
    let mut network = Network {
        name: "two cables".to_owned(),
        base_mva: 1.0,
        frequency_hz: 50.0,
        buses: vec![bus(0, BusKind::Slack { vm_pu: 1.02, va_deg: 0.0 }), bus(1, BusKind::Load)],
        branches: vec![branch(0, 0, 1, BranchKind::Trafo, 0.02, 0.08)],
        loads: Vec::new(),
        usage_points: Vec::new(),
    };
    for house in 0..20u32 {
        let id = 2 + house;
        let from = if house % 10 == 0 { 1 } else { id - 1 };
        network.buses.push(bus(id, BusKind::Load));
        network.branches.push(branch(1 + house, from, id, BranchKind::Line, 0.06, 0.015));
        network.loads.push(Load {
            id: house + 1,
            bus: id,
            name: format!("house {house}"),
            kind: "load".to_owned(),
            p_mw: 0.004,
            q_mvar: 0.0,
            profile: "H0-A".to_owned(),
            peak_p_mw: None,
            peak_q_mvar: None,
            model: LoadModel::Power,
        });
    }
    network
}

#[test]
fn an_honest_feeder_is_left_alone() {
    let network = feeder();
    for seed in 0..4 {
        let (trial, _) = simulate(&network, Theft::None, 14, seed).expect("simulated");
        let verdict = localise(&network, &trial, None).expect("localised");
        assert!(!verdict.alarm, "seed {seed}: {verdict:?}");
    }
}

#[test]
fn a_meter_that_counts_too_little_is_named_with_its_energy() {
    let network = feeder();
    let (trial, truth) = simulate(&network, Theft::Share30, 14, 5).expect("simulated");
    let verdict = localise(&network, &trial, None).expect("localised");
    assert!(verdict.alarm && verdict.p_value < 1e-3);
    let first = &verdict.suspects[0];
    assert_eq!(vec![first.usage_point], truth.usage_points);
    assert_eq!(first.kind, TheftKind::UnderRegistration);
    assert!((first.estimated_wh / truth.stolen_wh - 1.0).abs() < 0.3, "{} {}", first.estimated_wh, truth.stolen_wh);
}

#[test]
fn a_night_bypass_is_told_from_a_slow_meter() {
    let network = feeder();
    let (trial, truth) = simulate(&network, Theft::Night, 14, 6).expect("simulated");
    let verdict = localise(&network, &trial, None).expect("localised");
    assert_eq!(vec![verdict.suspects[0].usage_point], truth.usage_points);
    assert_eq!(verdict.suspects[0].kind, TheftKind::NightBypass);
}

#[test]
fn a_constant_tap_is_detected_and_called_not_localisable() {
    let network = feeder();
    let (trial, _) = simulate(&network, Theft::Constant, 14, 7).expect("simulated");
    let verdict = localise(&network, &trial, None).expect("localised");
    assert!(verdict.alarm);
    assert_eq!(verdict.suspects[0].kind, TheftKind::TapConstant);
    assert!(verdict.suspects[0].reason.contains("not localisable"));
}

#[test]
fn a_varying_tap_is_placed_near_by_voltage() {
    let network = feeder();
    let (trial, truth) = simulate(&network, Theft::Tap1000, 30, 8).expect("simulated");
    let verdict = localise(&network, &trial, None).expect("localised");
    assert!(verdict.alarm);
    assert_eq!(verdict.suspects[0].kind, TheftKind::TapVarying);
    let near = verdict.suspects.iter().take(3).any(|s| s.usage_point.abs_diff(truth.usage_points[0]) <= 1);
    assert!(near, "{:?} {:?}", truth, verdict.suspects);
}

#[test]
fn readings_of_another_network_are_refused() {
    let network = feeder();
    let (mut trial, _) = simulate(&network, Theft::None, 2, 1).expect("simulated");
    trial.connections[0].usage_point = 999;
    let error = localise(&network, &trial, None).expect_err("mismatch").to_string();
    assert!(error.contains("right network folder"), "{error}");
}

#[test]
fn a_study_is_reproducible() {
    let options = StudyOptions { trials: 1, days: 7, seed: 3 };
    let network = feeder();
    let once = study::run(&network, options, 1).expect("study");
    let again = study::run(&network, options, 2).expect("study");
    assert_eq!(format!("{once:?}"), format!("{again:?}"));
    assert_eq!(once.len(), Theft::ALL.len());
}
