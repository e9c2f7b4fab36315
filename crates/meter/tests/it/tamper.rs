//! Every tamper rule: its threshold, its persistence, its end.

use meter::{
    Inputs,
    tamper::{Persistence, RULES, TOLD_PER_DAY_MAX, TamperEngine, Thresholds},
};
use metering::{EventKind, Milliamps, Millihertz, Millivolts, Watts, unit::PerMille};

fn thresholds() -> Thresholds {
    Thresholds { sanctioned: Some(Watts(5_000)), ..Thresholds::default() }
}

fn load(ma: u32) -> Inputs {
    Inputs { current: Milliamps(ma), neutral: Some(Milliamps(ma)), active_mw: i64::from(ma) * 230, ..Inputs::default() }
}

/// For each kind: inputs just inside the rule and just outside it.
fn cases() -> Vec<(EventKind, Inputs, Inputs)> {
    let calm = Inputs::default();
    let volts = |mv| Inputs { voltage: Millivolts(mv), ..calm };
    let currents = |phase, neutral| Inputs { neutral: Some(Milliamps(neutral)), ..load(phase) };
    let power = |mw| Inputs { active_mw: mw, ..load(2_000) };
    let dead = |mv, ma| Inputs { voltage: Millivolts(mv), ..load(ma) };
    let factor = |f| Inputs { power_factor: PerMille(f), ..load(4_000) };
    let hertz = |f| Inputs { frequency: Millihertz(f), ..calm };
    vec![
        (EventKind::CoverOpen, Inputs { cover_open: true, ..calm }, calm),
        (EventKind::Magnet, Inputs { magnet: true, ..calm }, calm),
        (EventKind::Magnet, Inputs { zero_shift: PerMille(-51), ..calm }, Inputs { zero_shift: PerMille(50), ..calm }),
        (EventKind::Bypass, currents(9_399, 10_000), currents(9_400, 10_000)),
        (EventKind::EarthLoad, currents(10_000, 9_399), currents(10_000, 9_400)),
        (EventKind::NeutralMissing, dead(114_999, 501), dead(185_000, 501)),
        (EventKind::ReverseCurrent, power(-115_001), power(-115_000)),
        (EventKind::OverVoltage, volts(264_501), volts(264_500)),
        (EventKind::LowVoltage, volts(172_499), volts(172_500)),
        (EventKind::OverCurrent, Inputs { active_mw: 0, ..load(66_001) }, Inputs { active_mw: 0, ..load(66_000) }),
        (EventKind::Overload, power(5_250_001), power(5_250_000)),
        (EventKind::LowPowerFactor, factor(-499), factor(500)),
        (EventKind::NeutralDisturbance, hertz(46_999), hertz(47_000)),
        (EventKind::NeutralDisturbance, hertz(53_001), hertz(53_000)),
        (
            EventKind::NeutralDisturbance,
            Inputs { voltage_thd: PerMille(251), ..calm },
            Inputs { voltage_thd: PerMille(250), ..calm },
        ),
        (
            EventKind::NeutralDisturbance,
            Inputs { current_dc: PerMille(-101), ..load(501) },
            Inputs { current_dc: PerMille(101), ..load(500) },
        ),
        (EventKind::PowerFail, volts(137_999), volts(180_000)),
    ]
}

fn persistence(kind: EventKind) -> (Persistence, Option<EventKind>) {
    let rule = RULES.iter().find(|rule| rule.on == kind).expect("a rule");
    (rule.persistence, rule.off)
}

fn step(engine: &mut TamperEngine, ms: u64, inputs: &Inputs) -> Vec<EventKind> {
    engine.step(ms, inputs, &thresholds()).collect()
}

#[test]
fn every_rule_begins_at_its_persistence_and_not_a_millisecond_before() {
    assert!(RULES.iter().all(|rule| cases().iter().any(|case| case.0 == rule.on)), "a rule without a case");
    for (kind, inside, outside) in cases() {
        let (times, _) = persistence(kind);
        let mut engine = TamperEngine::default();
        if times.on_ms > 0 {
            assert_eq!(step(&mut engine, times.on_ms - 1, &inside), [], "{kind:?} too early");
            assert!(!engine.is_present(kind));
        }
        assert_eq!(step(&mut engine, 1, &inside), [kind], "{kind:?} at its time");
        assert_eq!(step(&mut engine, times.on_ms.max(1) * 3, &inside), [], "{kind:?} told twice");
        assert!(engine.is_present(kind) && engine.count(kind) == 1);
        let mut engine = TamperEngine::default();
        assert_eq!(step(&mut engine, 86_000_000, &outside), [], "{kind:?} at its threshold");
    }
}

#[test]
fn every_rule_ends_at_its_persistence_and_cover_openings_never() {
    for (kind, inside, outside) in cases() {
        let (times, off) = persistence(kind);
        let mut engine = TamperEngine::default();
        assert_eq!(step(&mut engine, times.on_ms, &inside), [kind]);
        let Some(off) = off else {
            assert_eq!(step(&mut engine, 86_000_000, &outside), []);
            assert!(engine.cover_latched() && !engine.is_active());
            assert_eq!(step(&mut engine, 0, &inside), [kind], "every further opening is told");
            continue;
        };
        assert_eq!(off.code(), kind.code() + 1, "the end is the next even code");
        assert_eq!(step(&mut engine, times.off_ms - 1, &outside), [], "{kind:?} ended too early");
        assert_eq!(step(&mut engine, 1, &outside), [off]);
        assert!(!engine.is_present(kind));
    }
}

#[test]
fn a_break_of_one_window_begins_the_persistence_anew() {
    for (kind, inside, outside) in cases() {
        let (times, _) = persistence(kind);
        if times.on_ms == 0 {
            continue;
        }
        let mut engine = TamperEngine::default();
        assert_eq!(step(&mut engine, times.on_ms - 1, &inside), []);
        assert_eq!(step(&mut engine, 10, &outside), []);
        assert_eq!(step(&mut engine, times.on_ms - 1, &inside), [], "{kind:?} added up over a break");
    }
}

#[test]
fn honest_conditions_near_the_thresholds_raise_nothing() {
    let calm = Inputs::default();
    for honest in [
        Inputs { neutral: None, ..load(10_000) },
        Inputs { neutral: Some(Milliamps(400)), ..calm },
        Inputs { neutral: Some(Milliamps(9_500)), ..load(10_000) },
        Inputs { active_mw: -2_000_000, ..calm },
        Inputs { zero_shift: PerMille(80), ..load(8_000) },
        Inputs { power_factor: PerMille(200), ..load(400) },
        Inputs { current_dc: PerMille(300), ..load(300) },
        Inputs { voltage: Millivolts(184_000), ..load(1_000) },
    ] {
        let mut engine = TamperEngine::default();
        let licensed = Thresholds { may_export: true, ..thresholds() };
        assert_eq!(engine.step(80_000_000, &honest, &licensed).collect::<Vec<_>>(), [], "{honest:?}");
    }
}

#[test]
fn a_voltage_that_fails_is_one_kind_only() {
    for (mv, ma, kind) in [
        (160_000, 0, EventKind::LowVoltage),
        (130_000, 0, EventKind::PowerFail),
        (0, 0, EventKind::PowerFail),
        (120_000, 3_000, EventKind::LowVoltage),
        (100_000, 3_000, EventKind::NeutralMissing),
    ] {
        let mut engine = TamperEngine::default();
        let inputs = Inputs { voltage: Millivolts(mv), ..load(ma) };
        assert_eq!(engine.step(80_000_000, &inputs, &thresholds()).collect::<Vec<_>>(), [kind], "{mv} mV, {ma} mA");
    }
}

#[test]
fn a_chattering_sensor_is_told_a_few_times_a_day_and_counted_always() {
    let mut engine = TamperEngine::default();
    let (calm, near) = (Inputs::default(), Inputs { magnet: true, ..Inputs::default() });
    let mut told = vec![];
    for _ in 0..100 {
        told.extend(step(&mut engine, 10_000, &near));
        told.extend(step(&mut engine, 60_000, &calm));
    }
    let begins = told.iter().filter(|kind| **kind == EventKind::Magnet).count();
    assert_eq!((begins, told.len()), (usize::from(TOLD_PER_DAY_MAX), 2 * usize::from(TOLD_PER_DAY_MAX)));
    assert_eq!(engine.count(EventKind::Magnet), 100);
    step(&mut engine, 86_400_000, &calm);
    assert_eq!(step(&mut engine, 10_000, &near), [EventKind::Magnet], "the next day");
}

#[test]
fn the_state_survives_a_power_failure() {
    let mut engine = TamperEngine::default();
    for (_, inside, _) in cases() {
        step(&mut engine, 45_000, &inside);
    }
    assert!(engine.power_fails().is_none(), "already told");
    let bytes = minicbor::to_vec(engine).expect("encodes");
    assert_eq!(minicbor::decode::<TamperEngine>(&bytes).expect("decodes"), engine);
}

#[test]
fn every_sign_of_the_vocabulary_is_sensed_and_ends_as_it_says() {
    for tamper in metering::tamper::TAMPERS {
        let rule = RULES.iter().find(|rule| rule.on == tamper.kind).unwrap_or_else(|| panic!("no rule: {tamper:?}"));
        let end = (!tamper.is_latched).then(|| EventKind::from_code(tamper.kind.code() + 1));
        assert_eq!(rule.off, end, "{tamper:?}");
    }
}
