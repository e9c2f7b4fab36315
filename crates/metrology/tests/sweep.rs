//! The short form of the accuracy sweep; the long form runs in the acceptance chores.
#![cfg(feature = "std")]

use metrology::host::sweep::{FrontEndKind, Worst, run};

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
