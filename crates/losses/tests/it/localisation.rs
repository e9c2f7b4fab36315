//! Localisation on a small feeder of our own making.

use crate::feeder::two_cables;
use losses::localise::{TheftKind, localise};
use losses::study::world::{Theft, simulate};
use losses::study::{self, StudyOptions};

#[test]
fn an_honest_feeder_is_left_alone() {
    let network = two_cables();
    for seed in 0..4 {
        let (trial, _) = simulate(&network, Theft::None, 14, seed).expect("simulated");
        let verdict = localise(&network, &trial, None).expect("localised");
        assert!(!verdict.alarm, "seed {seed}: {verdict:?}");
    }
}

#[test]
fn a_meter_that_counts_too_little_is_named_with_its_energy() {
    let network = two_cables();
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
    let network = two_cables();
    let (trial, truth) = simulate(&network, Theft::Night, 14, 6).expect("simulated");
    let verdict = localise(&network, &trial, None).expect("localised");
    assert_eq!(vec![verdict.suspects[0].usage_point], truth.usage_points);
    assert_eq!(verdict.suspects[0].kind, TheftKind::NightBypass);
}

#[test]
fn a_constant_tap_is_detected_and_called_not_localisable() {
    let network = two_cables();
    let (trial, _) = simulate(&network, Theft::Constant, 14, 7).expect("simulated");
    let verdict = localise(&network, &trial, None).expect("localised");
    assert!(verdict.alarm);
    assert_eq!(verdict.suspects[0].kind, TheftKind::TapConstant);
    assert!(verdict.suspects[0].reason.contains("not localisable"));
}

#[test]
fn a_varying_tap_is_placed_near_by_voltage() {
    let network = two_cables();
    let (trial, truth) = simulate(&network, Theft::Tap1000, 30, 8).expect("simulated");
    let verdict = localise(&network, &trial, None).expect("localised");
    assert!(verdict.alarm);
    assert_eq!(verdict.suspects[0].kind, TheftKind::TapVarying);
    let near = verdict.suspects.iter().take(3).any(|s| s.usage_point.abs_diff(truth.usage_points[0]) <= 1);
    assert!(near, "{:?} {:?}", truth, verdict.suspects);
}

#[test]
fn readings_of_another_network_are_refused() {
    let network = two_cables();
    let (mut trial, _) = simulate(&network, Theft::None, 2, 1).expect("simulated");
    trial.connections[0].usage_point = 999;
    let error = localise(&network, &trial, None).expect_err("mismatch").to_string();
    assert!(error.contains("right network folder"), "{error}");
}

#[test]
fn a_study_is_reproducible() {
    let options = StudyOptions { trials: 1, days: 7, seed: 3 };
    let network = two_cables();
    let once = study::run(&network, options, 1).expect("study");
    let again = study::run(&network, options, 2).expect("study");
    assert_eq!(format!("{once:?}"), format!("{again:?}"));
    assert_eq!(once.len(), Theft::ALL.len());
}
