//! The whole meter, driven as a shell drives it.

use ed25519_dalek::SigningKey;
use meter::{Action, Inputs, Memory, Meter, MeterConfig, Settings, Uptime, clock::MeterClock, relay::Pulse};
use metering::{
    Body, Control, ControlKind, Down, EventKind, Frame, IntervalLength, MeterId, Milliamps, Millivolts, RecordFlags,
    Timestamp, Watts,
    control::ReplyOutcome,
    frame::{Config, RelayState, TimeFrame},
};
use proptest::prelude::*;

const START: i64 = 1_772_409_600;

/// A meter with its relay and a shell around it.
struct Bench {
    meter: Option<Meter>,
    config: MeterConfig,
    uptime: u64,
    boot: u64,
    inputs: Inputs,
    pulses: Vec<(u64, Pulse)>,
    welded: bool,
    /// No closing pulse came while voltage stood on the load side.
    closed_onto_nothing: bool,
    /// Virtual milliseconds since the first start.
    time: u64,
}

impl Bench {
    fn new(config: MeterConfig) -> Self {
        let memory = Memory::new(&config, Settings { now_seconds: 0, ..Settings::default() });
        let clock = MeterClock::backed_up(START * 1_000, Uptime(0));
        let meter = Meter::start(config.clone(), memory, 1, clock, Uptime(0));
        let inputs = Inputs::default();
        Self {
            meter: Some(meter),
            config,
            uptime: 0,
            boot: 1,
            inputs,
            pulses: vec![],
            welded: false,
            closed_onto_nothing: true,
            time: 0,
        }
    }

    fn plain() -> Self {
        Self::new(MeterConfig::new(MeterId::new("M-1").expect("valid")))
    }

    fn meter(&mut self) -> &mut Meter {
        self.meter.as_mut().expect("running")
    }

    fn obey(&mut self, actions: Vec<Action>) {
        for action in actions {
            if let Action::Relay(pulse) = action {
                self.pulses.push((self.time, pulse));
                self.closed_onto_nothing &= pulse == Pulse::Open || self.inputs.load_voltage == Some(Millivolts(0));
                let closed = if self.welded { true } else { pulse == Pulse::Close };
                self.inputs.contact_closed = Some(closed);
                self.inputs.load_voltage = Some(Millivolts(if closed { 230_000 } else { 0 }));
                if !closed {
                    (self.inputs.current, self.inputs.active_mw) = (Milliamps(0), 0);
                }
            }
        }
    }

    fn step(&mut self, ms: u64) {
        self.uptime += ms;
        self.time += ms;
        let (uptime, inputs) = (Uptime(self.uptime), self.inputs);
        let actions = self.meter().step(uptime, &inputs).collect();
        self.obey(actions);
    }

    fn steps(&mut self, count: usize, ms: u64) {
        (0..count).for_each(|_| self.step(ms));
    }

    fn send(&mut self, down: &Down) {
        let actions = self.meter().receive(down).collect();
        self.obey(actions);
    }

    fn control(&self, id: u64, kind: ControlKind) -> Control {
        let now = Timestamp(START + i64::try_from(self.time / 1_000).expect("small"));
        Control { id, kind, expires: now.plus(600), counter: id, signatures: vec![] }
    }

    fn order(&mut self, id: u64, kind: ControlKind) -> Option<ReplyOutcome> {
        let control = self.control(id, kind);
        self.send(&Down::Control(control));
        self.steps(2, 1_000);
        self.reply_to(id)
    }

    /// The last answer to a control among the waiting frames; takes all frames.
    fn reply_to(&mut self, id: u64) -> Option<ReplyOutcome> {
        self.frames().iter().rev().find_map(|f| match &f.body {
            Body::Reply(reply) if reply.control == id => Some(reply.outcome),
            _ => None,
        })
    }

    fn frames(&mut self) -> Vec<Frame> {
        let mut list = vec![];
        while let Some(out) = self.meter().next_to_send() {
            let (id, frame) = (out.id, Frame::from_cbor(out.payload).expect("a frame"));
            list.push(frame);
            assert!(self.meter().acknowledge(id));
        }
        list
    }

    fn events(&mut self) -> Vec<EventKind> {
        let event = |f: &Frame| if let Body::Event(e) = &f.body { Some(e.kind) } else { None };
        self.frames().iter().filter_map(event).collect()
    }

    /// Power fails and comes back.
    fn brown_out(&mut self) {
        let memory = self.meter.take().expect("running").into_memory();
        self.boot += 1;
        self.uptime = 0;
        let clock = MeterClock::backed_up(START * 1_000 + i64::try_from(self.time).expect("small"), Uptime(0));
        self.meter = Some(Meter::start(self.config.clone(), memory, self.boot, clock, Uptime(0)));
    }
}

fn load(watts: i64) -> Inputs {
    let ma = u32::try_from(watts * 1_000 / 230).expect("positive");
    Inputs { active_mw: watts * 1_000, current: Milliamps(ma), neutral: Some(Milliamps(ma)), ..Inputs::default() }
}

#[test]
fn quarter_hours_carry_registers_at_their_ends_however_the_steps_fall() {
    for ms in [1_000, 7_000, 60_000, 61_000] {
        let mut bench = Bench::plain();
        bench.inputs = load(1_200);
        while bench.uptime < 3_700_000 {
            bench.step(ms);
        }
        let records: Vec<_> = bench
            .frames()
            .into_iter()
            .filter_map(|f| if let Body::Profile(p) = f.body { Some(p.records) } else { None })
            .flatten()
            .collect();
        assert_eq!(records.len(), 4, "steps of {ms} ms");
        for (n, record) in (1i64..).zip(&records) {
            assert_eq!(record.end, Timestamp(START + 900 * n));
            assert_eq!(record.import_wh.0, 300 * u64::try_from(n).expect("small"));
            assert_eq!(record.voltage_mv, Some(Millivolts(230_000)));
            assert_eq!(record.flags.contains(RecordFlags::PARTIAL), n == 1);
        }
    }
}

#[test]
fn the_interval_length_can_be_set_and_an_old_version_of_settings_is_ignored() {
    let mut bench = Bench::plain();
    bench.inputs = load(600);
    let config =
        |version, minutes| Down::Config(Config { version, profile_minutes: Some(minutes), ..Config::default() });
    bench.send(&config(2, 5));
    bench.send(&config(1, 60));
    bench.send(&config(3, 7));
    bench.steps(60, 60_000);
    let frames = bench.frames();
    let records: usize = frames.iter().map(|f| if let Body::Profile(p) = &f.body { p.records.len() } else { 0 }).sum();
    assert_eq!(records, 12);
    assert_eq!(bench.meter().settings().profile, IntervalLength::M5);
}

#[test]
fn a_clock_set_back_repeats_no_interval_and_loses_no_energy() {
    let mut bench = Bench::plain();
    bench.inputs = load(3_600);
    bench.steps(31, 60_000);
    bench.send(&Down::Time(TimeFrame::unsigned(Timestamp(START + 900))));
    bench.steps(60, 60_000);
    let frames = bench.frames();
    let records: Vec<_> =
        frames.iter().flat_map(|f| if let Body::Profile(p) = &f.body { p.records.clone() } else { vec![] }).collect();
    assert!(records.windows(2).all(|w| w[0].end < w[1].end && w[0].import_wh <= w[1].import_wh));
    assert!(records.iter().any(|r| r.flags.contains(RecordFlags::CLOCK_SET)));
    assert!(frames.iter().any(|f| matches!(&f.body, Body::Event(e) if e.kind == EventKind::ClockSet)));
    assert_eq!(bench.meter().registers().import_wh().0, 91 * 60);
}

#[test]
fn time_and_settings_are_taken_from_the_server_only_and_never_twice() {
    let key = SigningKey::from_bytes(&[9; 32]);
    let id = MeterId::new("M-1").expect("valid");
    let config = MeterConfig { verifying_key: Some(key.verifying_key()), ..MeterConfig::new(id) };
    let mut bench = Bench::new(config);
    bench.steps(20, 1_000);
    let forged = SigningKey::from_bytes(&[8; 32]);
    let later = Timestamp(START + 620);
    let settings = Config { version: 1, close_without_button: Some(true), ..Config::default() };
    for down in [
        Down::Time(TimeFrame::unsigned(later)),
        Down::Time(TimeFrame::signed(later, id, 5, &forged)),
        Down::Time(TimeFrame::signed(later, MeterId::new("M-2").expect("valid"), 5, &key)),
        Down::Config(settings.clone()),
        Down::Config(settings.clone().signed(id, 5, &forged)),
    ] {
        bench.send(&down);
        assert!(!bench.events().contains(&EventKind::ClockSet), "{down:?}");
        assert!(!bench.meter().settings().close_without_button, "{down:?}");
    }
    bench.send(&Down::Time(TimeFrame::signed(later, id, 5, &key)));
    assert!(bench.events().contains(&EventKind::ClockSet));
    bench.send(&Down::Config(settings.clone().signed(id, 5, &key)));
    assert!(!bench.meter().settings().close_without_button, "one counter, one thing");
    bench.send(&Down::Config(settings.signed(id, 6, &key)));
    assert!(bench.meter().settings().close_without_button);
    bench.send(&Down::Time(TimeFrame::signed(later, id, 5, &key)));
    bench.steps(2, 1_000);
    assert!(!bench.events().contains(&EventKind::ClockSet), "heard before");
    // A control's counter is of the same row.
    let mut control = bench.control(6, ControlKind::Disconnect);
    control.sign(id, &key);
    bench.send(&Down::Control(control));
    bench.steps(2, 1_000);
    assert_eq!(bench.reply_to(6), Some(ReplyOutcome::Counter));
}

#[test]
fn a_time_of_yesterday_must_be_said_twice() {
    let mut bench = Bench::plain();
    bench.steps(20, 1_000);
    let yesterday = |seconds: i64| Down::Time(TimeFrame::unsigned(Timestamp(START - 86_400 + seconds)));
    bench.send(&yesterday(0));
    bench.steps(30, 1_000);
    bench.send(&yesterday(30));
    assert!(!bench.events().contains(&EventKind::ClockSet));
    bench.steps(40, 1_000);
    bench.send(&yesterday(70));
    assert!(bench.events().contains(&EventKind::ClockSet));
}

#[test]
fn disconnect_opens_once_reconnect_arms_and_the_button_closes() {
    let mut bench = Bench::plain();
    bench.inputs = load(2_000);
    bench.steps(20, 1_000);
    assert_eq!(bench.order(1, ControlKind::Disconnect), Some(ReplyOutcome::Done));
    assert_eq!(bench.pulses.len(), 1);
    assert_eq!(bench.order(2, ControlKind::Disconnect), Some(ReplyOutcome::Done), "open already: nothing moves");
    assert_eq!(bench.order(3, ControlKind::Reconnect), Some(ReplyOutcome::Armed));
    bench.steps(30, 1_000);
    assert_eq!((bench.pulses.len(), bench.meter().relay_state()), (1, Some(RelayState::Ready)));
    bench.inputs.button = true;
    bench.steps(2, 1_000);
    bench.inputs.button = false;
    assert_eq!(bench.pulses.last().map(|p| p.1), Some(Pulse::Close));
    assert_eq!(bench.meter().relay_state(), Some(RelayState::Closed));
    let events = bench.events();
    assert!(events.contains(&EventKind::LoadConnected), "{events:?}");
}

#[test]
fn a_button_alone_never_closes_and_configuration_may_do_without_it() {
    let mut bench = Bench::plain();
    bench.steps(20, 1_000);
    bench.order(1, ControlKind::Disconnect);
    bench.inputs.button = true;
    bench.steps(30, 1_000);
    bench.inputs.button = false;
    assert_eq!(bench.pulses.len(), 1);
    bench.send(&Down::Config(Config { version: 1, close_without_button: Some(true), ..Config::default() }));
    bench.steps(10, 1_000);
    assert_eq!(bench.order(2, ControlKind::Reconnect), Some(ReplyOutcome::Done));
    assert_eq!(bench.meter().relay_state(), Some(RelayState::Closed));
}

#[test]
fn voltage_on_the_load_side_forbids_closing_and_is_told() {
    let mut bench = Bench::plain();
    bench.steps(20, 1_000);
    bench.order(1, ControlKind::Disconnect);
    bench.inputs.load_voltage = Some(Millivolts(228_000));
    bench.steps(15, 1_000);
    assert!(bench.events().contains(&EventKind::BackFeed));
    assert_eq!(bench.order(2, ControlKind::Reconnect), Some(ReplyOutcome::BackFeed));
    bench.inputs.load_voltage = Some(Millivolts(0));
    bench.step(1_000);
    assert_eq!(bench.order(3, ControlKind::Reconnect), Some(ReplyOutcome::Armed));
    bench.inputs.load_voltage = Some(Millivolts(228_000));
    bench.inputs.button = true;
    bench.steps(3, 1_000);
    assert_eq!(bench.pulses.len(), 1, "armed, but back-fed when the button is pressed");
}

#[test]
fn a_welded_contact_is_a_fault() {
    let mut bench = Bench::plain();
    bench.welded = true;
    bench.inputs = load(2_000);
    bench.steps(20, 1_000);
    let control = bench.control(1, ControlKind::Disconnect);
    bench.send(&Down::Control(control));
    bench.steps(4, 1_000);
    let frames = bench.frames();
    let has = |kind| frames.iter().any(|f| matches!(&f.body, Body::Event(e) if e.kind == kind));
    assert!(has(EventKind::WeldedContact));
    assert!(frames.iter().any(|f| matches!(&f.body, Body::Reply(r) if r.outcome == ReplyOutcome::ContactFault)));
    assert_eq!(bench.meter().relay_state(), Some(RelayState::Fault));
    assert_eq!(bench.order(2, ControlKind::Reconnect), Some(ReplyOutcome::ContactFault));
}

#[test]
fn controls_are_checked_and_a_repeated_one_gets_the_same_answer() {
    let mut bench = Bench::plain();
    bench.steps(20, 1_000);
    let late = Control { expires: Timestamp(START), ..bench.control(5, ControlKind::Disconnect) };
    bench.send(&Down::Control(late.clone()));
    assert_eq!(bench.reply_to(5), Some(ReplyOutcome::Expired));
    bench.send(&Down::Control(late));
    assert_eq!(bench.reply_to(5), Some(ReplyOutcome::Expired));
    let old = Control { counter: 4, ..bench.control(6, ControlKind::Disconnect) };
    bench.send(&Down::Control(old));
    assert_eq!(bench.reply_to(6), Some(ReplyOutcome::Counter));
    assert_eq!(bench.order(7, ControlKind::Disconnect), Some(ReplyOutcome::Done));
    assert_eq!(bench.order(8, ControlKind::Reconnect), Some(ReplyOutcome::Armed));
    let again = Control { counter: 9, ..bench.control(7, ControlKind::Disconnect) };
    bench.send(&Down::Control(again));
    assert_eq!(bench.reply_to(7), Some(ReplyOutcome::Done));
    assert_eq!(bench.meter().relay_state(), Some(RelayState::Ready), "an old order is not carried out again");
    bench.brown_out();
    bench.step(1_000);
    assert_eq!(bench.order(8, ControlKind::Reconnect), Some(ReplyOutcome::Armed), "remembered through a power failure");
}

#[test]
fn with_a_key_only_signed_controls_for_this_meter_count() {
    let key = SigningKey::from_bytes(&[7; 32]);
    let id = MeterId::new("M-1").expect("valid");
    let mut bench = Bench::new(MeterConfig { verifying_key: Some(key.verifying_key()), ..MeterConfig::new(id) });
    bench.steps(20, 1_000);
    assert_eq!(bench.order(1, ControlKind::Disconnect), Some(ReplyOutcome::Signature));
    let mut foreign = bench.control(1, ControlKind::Disconnect);
    foreign.sign(MeterId::new("M-2").expect("valid"), &key);
    bench.send(&Down::Control(foreign));
    assert_eq!(bench.reply_to(1), Some(ReplyOutcome::Signature));
    let mut signed = bench.control(1, ControlKind::Disconnect);
    signed.sign(id, &key);
    bench.send(&Down::Control(signed));
    bench.steps(2, 1_000);
    assert_eq!(bench.reply_to(1), Some(ReplyOutcome::Done), "the forged ones have used up nothing");
}

#[test]
fn without_a_clock_controls_are_refused_and_records_say_so() {
    let config = MeterConfig::new(MeterId::new("M-1").expect("valid"));
    let memory = Memory::new(&config, Settings::default());
    let mut bench = Bench::new(config.clone());
    bench.meter = Some(Meter::start(config, memory, 1, MeterClock::unset(), Uptime(0)));
    bench.steps(16, 60_000);
    let frames = bench.frames();
    let flagged =
        |f: &Frame| matches!(&f.body, Body::Profile(p) if p.records[0].flags.contains(RecordFlags::CLOCK_UNSET));
    assert!(frames.iter().any(flagged));
    assert_eq!(bench.order(1, ControlKind::Disconnect), Some(ReplyOutcome::ClockUnset));
}

#[test]
fn a_snapshot_comes_at_its_second_and_at_once_when_that_has_passed() {
    let mut bench = Bench::plain();
    bench.inputs = load(900);
    bench.step(1_000);
    assert_eq!(bench.order(1, ControlKind::SnapshotAt { at: Timestamp(START + 30) }), Some(ReplyOutcome::Done));
    bench.steps(20, 1_000);
    assert!(!bench.frames().iter().any(|f| matches!(f.body, Body::Snapshot(_))));
    bench.steps(10, 1_000);
    let snapshot = |frames: Vec<Frame>| {
        frames.into_iter().find_map(|f| if let Body::Snapshot(n) = f.body { Some(n) } else { None })
    };
    let now = snapshot(bench.frames()).expect("a snapshot");
    assert_eq!((now.at, now.control, now.power_w), (Timestamp(START + 30), Some(1), Some(Watts(900))));
    let control = bench.control(2, ControlKind::SnapshotAt { at: Timestamp(0) });
    bench.send(&Down::Control(control));
    bench.step(0);
    assert_eq!(snapshot(bench.frames()).and_then(|n| n.control), Some(2));
}

#[test]
fn the_load_limit_trips_tries_again_locks_and_is_lifted() {
    let mut bench = Bench::plain();
    bench.steps(20, 1_000);
    assert_eq!(bench.order(1, ControlKind::LoadLimit { limit_w: Some(Watts(1_000)) }), Some(ReplyOutcome::Done));
    let mut states = vec![];
    for _ in 0..60 * 60 {
        let closed = bench.inputs.contact_closed == Some(true);
        bench.inputs = Inputs {
            contact_closed: bench.inputs.contact_closed,
            load_voltage: bench.inputs.load_voltage,
            ..load(if closed { 2_000 } else { 0 })
        };
        bench.step(1_000);
        let state = bench.meter().relay_state();
        if states.last() != Some(&state) {
            states.push(state);
        }
    }
    let trips = states.iter().filter(|s| **s == Some(RelayState::OpenLimit)).count();
    assert_eq!((trips, states.last()), (5, Some(&Some(RelayState::Locked))), "{states:?}");
    bench.order(2, ControlKind::LoadLimit { limit_w: None });
    bench.steps(20, 1_000);
    assert_eq!(bench.meter().relay_state(), Some(RelayState::Closed));
}

#[test]
fn an_overflow_is_an_event_and_registers_keep_the_energy() {
    let id = MeterId::new("M-1").expect("valid");
    let mut bench = Bench::new(MeterConfig { ring_frames_max: 16, ..MeterConfig::new(id) });
    bench.inputs = load(4_000);
    bench.steps(40, 900_000);
    let frames = bench.frames();
    assert_eq!(frames.len(), 16);
    let overflows = frames.iter().filter(|f| matches!(&f.body, Body::Event(e) if e.kind == EventKind::RingOverflow));
    assert_eq!(overflows.count(), 1);
    assert_eq!(bench.meter().registers().import_wh().0, 40_000);
    let last = frames.iter().rev().find_map(|f| if let Body::Profile(p) = &f.body { p.records.last() } else { None });
    assert_eq!(last.map(|r| r.import_wh.0), Some(40_000));
}

#[derive(Clone, Debug)]
enum Operation {
    Step(u64),
    Load(i64),
    Disconnect,
    Reconnect,
    Repeat,
    Limit(Option<i32>),
    Button(bool),
    BackFeed(bool),
    BrownOut,
    WithoutButton(bool),
    Acknowledge(u8),
    LinkLost,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let one = prop_oneof![
        6 => (0u64..120_000).prop_map(Operation::Step),
        2 => (0i64..8_000).prop_map(Operation::Load),
        2 => Just(Operation::Disconnect),
        2 => Just(Operation::Reconnect),
        1 => Just(Operation::Repeat),
        1 => prop::option::of(100i32..4_000).prop_map(Operation::Limit),
        3 => any::<bool>().prop_map(Operation::Button),
        1 => any::<bool>().prop_map(Operation::BackFeed),
        1 => Just(Operation::BrownOut),
        1 => any::<bool>().prop_map(Operation::WithoutButton),
        2 => (0u8..6).prop_map(Operation::Acknowledge),
        1 => Just(Operation::LinkLost),
    ];
    prop::collection::vec(one, 1..120)
}

/// What the test itself knows, independent of the meter.
#[derive(Default)]
struct Oracle {
    /// A reconnect came after the last disconnect.
    ordered: bool,
    /// The button was down since that reconnect.
    pressed: bool,
    /// The load limit, which closes by itself, was ever set.
    limited: bool,
    /// Closing without the button was ever configured.
    by_itself: bool,
    next_id: u64,
    version: u32,
    energy_mw_ms: u128,
    ends: Vec<(u64, i64, u64)>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Random commands, resets, buttons and feeds: the relay's rules hold, registers are exact, every frame arrives.
    #[test]
    fn invariants_hold_in_any_sequence(list in operations()) {
        let mut bench = Bench::plain();
        let mut oracle = Oracle::default();
        let mut arrived: std::collections::BTreeSet<(u64, u64)> = Default::default();
        let mut back_fed = false;
        let mut wants = 0i64;
        bench.step(0);
        let mut last_import = 0;
        for operation in list {
            let pulses_before = bench.pulses.len();
            match operation {
                Operation::Step(ms) => {
                    let closed = bench.inputs.contact_closed == Some(true);
                    let live = if closed { wants } else { 0 };
                    let volts = if closed || back_fed { 230_000 } else { 0 };
                    let (contact_closed, button) = (bench.inputs.contact_closed, bench.inputs.button);
                    bench.inputs = Inputs { contact_closed, button, load_voltage: Some(Millivolts(volts)), ..load(live) };
                    oracle.energy_mw_ms += u128::from(live.unsigned_abs()) * 1_000 * u128::from(ms);
                    bench.step(ms);
                }
                Operation::Load(watts) => wants = watts,
                Operation::Disconnect => {
                    oracle.next_id += 1;
                    let control = bench.control(oracle.next_id, ControlKind::Disconnect);
                    bench.send(&Down::Control(control));
                    oracle.ordered = false;
                }
                Operation::Reconnect => {
                    oracle.next_id += 1;
                    let control = bench.control(oracle.next_id, ControlKind::Reconnect);
                    bench.send(&Down::Control(control));
                    (oracle.ordered, oracle.pressed) = (true, false);
                }
                Operation::Repeat if oracle.next_id > 0 => {
                    let control = bench.control(oracle.next_id, ControlKind::Disconnect);
                    bench.send(&Down::Control(control));
                }
                Operation::Limit(limit) => {
                    oracle.next_id += 1;
                    oracle.limited |= limit.is_some();
                    let kind = ControlKind::LoadLimit { limit_w: limit.map(Watts) };
                    let control = bench.control(oracle.next_id, kind);
                    bench.send(&Down::Control(control));
                }
                Operation::Button(down) => bench.inputs.button = down,
                Operation::BackFeed(on) => back_fed = on,
                Operation::BrownOut => {
                    bench.brown_out();
                    bench.step(0);
                    prop_assert_eq!(bench.pulses.len(), pulses_before, "a pulse at the start");
                }
                Operation::WithoutButton(without) => {
                    oracle.version += 1;
                    oracle.by_itself |= without;
                    let config = Config { version: oracle.version, close_without_button: Some(without), ..Config::default() };
                    bench.send(&Down::Config(config));
                }
                Operation::Acknowledge(count) => {
                    for _ in 0..count {
                        let Some(out) = bench.meter().next_to_send() else { break };
                        let (id, frame) = (out.id, Frame::from_cbor(out.payload).expect("a frame"));
                        prop_assert!(arrived.insert((frame.boot, frame.seq)), "sent again after its acknowledgement");
                        if let Body::Profile(profile) = &frame.body {
                            oracle.ends.extend(profile.records.iter().map(|r| (frame.boot, r.end.0, r.import_wh.0)));
                        }
                        prop_assert!(bench.meter().acknowledge(id));
                    }
                }
                Operation::LinkLost => bench.meter().link_lost(),
                Operation::Repeat => {}
            }
            oracle.pressed |= bench.inputs.button;
            for n in pulses_before..bench.pulses.len() {
                let (at, pulse) = bench.pulses[n];
                let previous = n.checked_sub(1).map(|i| bench.pulses[i].0);
                prop_assert!(previous.is_none_or(|p| at - p >= 10_000), "two operations within ten seconds");
                if pulse == Pulse::Close {
                    prop_assert!(bench.closed_onto_nothing, "closed onto voltage");
                    prop_assert!(oracle.ordered || oracle.limited, "closed without an order");
                    prop_assert!(oracle.pressed || oracle.by_itself || oracle.limited, "closed without the button");
                }
            }
            let import = bench.meter().registers().import_wh().0;
            prop_assert!(import >= last_import, "a register stepped back");
            last_import = import;
        }
        let held = bench.meter().registers().import;
        let total = u128::from(held.units()) * 3_600_000_000 + u128::from(held.remainder());
        prop_assert_eq!(total, oracle.energy_mw_ms, "energy lost or doubled");
        bench.meter().link_lost();
        for frame in bench.frames() {
            prop_assert!(arrived.insert((frame.boot, frame.seq)));
        }
        for boot in 1..=bench.boot {
            let of_boot: Vec<u64> = arrived.iter().filter(|(b, _)| *b == boot).map(|(_, s)| *s).collect();
            let expected: Vec<u64> = (0..u64::try_from(of_boot.len()).unwrap_or(0)).collect();
            prop_assert_eq!(of_boot, expected, "a frame is missing");
        }
    }
}
