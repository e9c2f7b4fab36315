//! The supply fails: one event, saved, and nothing else.

use meter::{Action, Inputs, Memory, Meter, MeterConfig, Settings, Uptime, clock::MeterClock};
use metering::{
    Body, Control, ControlKind, Down, EventKind, Frame, MeterId, Milliamps, Millivolts, Timestamp, topic::UpKind,
};

const START: i64 = 1_772_409_600;
const DEAD: Millivolts = Millivolts(40_000);

fn meter() -> Meter {
    let config = MeterConfig::new(MeterId::new("M-1").expect("valid"));
    let memory = Memory::new(&config, Settings { now_seconds: 0, ..Settings::default() });
    Meter::start(config, memory, 1, MeterClock::backed_up(START * 1_000, Uptime(0)), Uptime(0))
}

fn failures(meter: &Meter) -> usize {
    meter.log().events().filter(|event| event.kind == EventKind::PowerFail).count()
}

#[test]
fn the_failure_is_told_once_with_what_was_measured_until_then() {
    let mut meter = meter();
    let load = Inputs { active_mw: 3_600_000_000, current: Milliamps(9_000), ..Inputs::default() };
    meter.step(Uptime(1_000), &load).for_each(drop);
    let registered = meter.registers().import_wh();
    let last = Inputs { voltage: DEAD, current: Milliamps(0), ..load };
    let actions: Vec<Action> = meter.last_gasp(Uptime(2_000), &last).collect();
    assert_eq!(actions, [Action::Save, Action::FrameReady]);
    assert!(meter.registers().import_wh() > registered, "the last second counts");
    let frames = meter.ring().frames_made();
    let newest = meter.newest_frame().expect("the gasp");
    assert_eq!(newest.kind, UpKind::Event);
    let Body::Event(event) = Frame::from_cbor(newest.payload).expect("own bytes").body else { panic!("no event") };
    assert_eq!((event.kind, event.voltage_mv), (EventKind::PowerFail, Some(DEAD)));
    // the hold-up lasts a while: neither another gasp nor steps say it again, or say anything else
    let dead = Inputs { active_mw: 0, ..last };
    for n in 0..40 {
        let uptime = Uptime(2_100 + n * 200);
        let mut actions: Vec<Action> = meter.last_gasp(uptime, &dead).collect();
        actions.extend(meter.step(uptime, &dead));
        assert!(!actions.contains(&Action::FrameReady) && !actions.iter().any(|a| matches!(a, Action::Relay(_))));
    }
    assert_eq!((meter.ring().frames_made(), failures(&meter)), (frames, 1));
}

#[test]
fn an_order_under_way_does_not_move_the_relay_in_the_gasp() {
    let mut meter = meter();
    meter.step(Uptime(1_000), &Inputs::default()).for_each(drop);
    let expires = Timestamp(START + 600);
    let order = Control { id: 1, kind: ControlKind::Disconnect, expires, counter: 1, signatures: vec![] };
    meter.receive(&Down::Control(order)).for_each(drop);
    let actions: Vec<Action> = meter.last_gasp(Uptime(1_100), &Inputs { voltage: DEAD, ..Inputs::default() }).collect();
    assert!(!actions.iter().any(|action| matches!(action, Action::Relay(_))), "{actions:?}");
    assert!(actions.contains(&Action::Save));
}

#[test]
fn after_a_restart_the_same_event_waits_and_the_return_is_told() {
    let mut meter = meter();
    meter.step(Uptime(1_000), &Inputs::default()).for_each(drop);
    meter.last_gasp(Uptime(1_100), &Inputs { voltage: DEAD, ..Inputs::default() }).for_each(drop);
    let config = meter.config().clone();
    let clock = MeterClock::backed_up((START + 3_600) * 1_000, Uptime(0));
    let mut meter = Meter::start(config, meter.into_memory(), 2, clock, Uptime(0));
    let mut pulses = 0;
    for second in 1..10 {
        let actions = meter.step(Uptime(second * 1_000), &Inputs::default());
        pulses += actions.filter(|action| matches!(action, Action::Relay(_))).count();
    }
    assert_eq!(pulses, 0);
    let kinds: Vec<EventKind> = meter
        .ring()
        .payloads()
        .filter_map(|payload| match Frame::from_cbor(payload).expect("own bytes").body {
            Body::Event(event) => Some(event.kind),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, [EventKind::Boot, EventKind::PowerFail, EventKind::Boot, EventKind::PowerRestore]);
}
