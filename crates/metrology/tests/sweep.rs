//! The short form of the accuracy sweep; the long form runs in the acceptance chores.
#![cfg(feature = "std")]

use metrology::host::sweep::{FrontEndKind, Worst, run, signal};
use metrology::host::vectors::{Vector, measure};

fn sweep(count: u32, kind: FrontEndKind) -> Worst {
    run(7, count, kind).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn ideal_front_end_stays_within_the_targets() {
    let worst = sweep(40, FrontEndKind::Ideal);
    assert!(worst.p_pct_of_s <= 0.05, "{worst:?}");
    assert!(worst.q_pct_of_s <= 0.1, "{worst:?}");
    assert!(worst.vrms_pct <= 0.05 && worst.irms_pct <= 0.05, "{worst:?}");
    assert!(worst.frequency_hz <= 0.005, "{worst:?}");
    assert!(worst.thd_points <= 0.05, "{worst:?}");
}

#[test]
fn twelve_bits_stay_within_the_targets() {
    let strong = sweep(10, FrontEndKind::TwelveBits { amperes: 10.0 });
    assert!(strong.p_pct_of_s <= 0.1, "{strong:?}");
    let weak = sweep(10, FrontEndKind::TwelveBits { amperes: 0.5 });
    assert!(weak.p_pct_of_s <= 0.5, "{weak:?}");
}

/// Even harmonics move the two crossings of a cycle in opposite directions: by up to a tenth of a half cycle here.
#[test]
fn even_harmonics_hide_neither_frequency_nor_voltage() {
    let mut seen = 0;
    for (second, fourth) in [(0.064, 0.06), (0.1, 0.0), (0.1, 0.06)] {
        for step in 0..12 {
            let degrees = f64::from(step) * 30.0;
            let v_harm = vec![(1.0, 230.0, 0.0), (2.0, 230.0 * second, degrees), (4.0, 230.0 * fourth, degrees)];
            let i_harm = vec![(1.0, 5.0, -20.0)];
            let base = Vector { id: "even".into(), duration_s: 1.0, ..Vector::default() };
            let vector = Vector { f_hz: 53.993, fs_hz: 6_400.0, v_harm, i_harm, ..base };
            let measured = measure(&vector, 230.0).unwrap_or_else(|e| panic!("{e}"));
            let value = |name: &str| measured.get(name).and_then(serde_json::Value::as_f64);
            let frequency = value("freq_hz").unwrap_or_else(|| panic!("no frequency: {second} {fourth} at {degrees}"));
            assert!((frequency - vector.f_hz).abs() <= 0.005, "{frequency} Hz: {second} {fourth} at {degrees}");
            let rms = 230.0 * (1.0 + second * second + fourth * fourth).sqrt();
            let volts = value("vrms").unwrap_or_default();
            assert!((volts - rms).abs() / rms <= 0.000_5, "{volts} V of {rms}: {second} {fourth} at {degrees}");
            seen += 1;
        }
    }
    assert_eq!(seen, 36);
}

/// Signal 559 of the first long sweep: a second, fourth and sixth harmonic that together move each crossing so far, and make the two
/// half cycles so different, that it was once taken for a fault without end.
#[test]
fn half_cycles_that_differ_are_no_fault() {
    let vector = signal(1, 559, FrontEndKind::Ideal);
    let measured = measure(&vector, 230.0).unwrap_or_else(|e| panic!("{e}"));
    let frequency = measured.get("freq_hz").and_then(serde_json::Value::as_f64);
    assert!(frequency.is_some_and(|f| (f - vector.f_hz).abs() <= 0.005), "{frequency:?} of {} Hz", vector.f_hz);
}
