//! Every control gets one answer, and the answer is true when it is given, however controls, slow contacts and power failures
//! fall together.

use std::collections::BTreeMap;

use meter::{Action, Inputs, Memory, Meter, MeterConfig, Settings, Uptime, clock::MeterClock, relay::Pulse};
use metering::{
    Body, Control, ControlKind, Down, Frame, MeterId, Millivolts, Timestamp,
    control::ReplyOutcome,
    frame::{Config, RelayState},
};
use proptest::prelude::*;

const START: i64 = 1_772_409_600;

/// A meter whose contact follows its pulse only after a while.
struct Slow {
    meter: Option<Meter>,
    config: MeterConfig,
    boot: u64,
    uptime: u64,
    time: u64,
    closed: bool,
    /// The position the contact takes, and when.
    moves: Option<(u64, bool)>,
    lag_ms: u64,
    button: bool,
    next_id: u64,
    version: u32,
    orders: BTreeMap<u64, ControlKind>,
    answers: BTreeMap<u64, Vec<ReplyOutcome>>,
}

impl Slow {
    fn new() -> Self {
        let config = MeterConfig::new(MeterId::new("M-1").expect("valid"));
        let memory = Memory::new(&config, Settings { now_seconds: 0, ..Settings::default() });
        let clock = MeterClock::backed_up(START * 1_000, Uptime(0));
        let meter = Meter::start(config.clone(), memory, 1, clock, Uptime(0));
        Self {
            meter: Some(meter),
            config,
            boot: 1,
            uptime: 0,
            time: 0,
            closed: true,
            moves: None,
            lag_ms: 0,
            button: false,
            next_id: 0,
            version: 0,
            orders: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }

    fn meter(&mut self) -> &mut Meter {
        self.meter.as_mut().expect("running")
    }

    fn inputs(&self) -> Inputs {
        let load_voltage = Some(Millivolts(if self.closed { 230_000 } else { 0 }));
        Inputs { contact_closed: Some(self.closed), load_voltage, button: self.button, ..Inputs::default() }
    }

    fn obey(&mut self, actions: Vec<Action>) {
        for action in actions {
            if let Action::Relay(pulse) = action {
                self.moves = Some((self.time + self.lag_ms, pulse == Pulse::Close));
            }
        }
        self.read_answers();
    }

    fn step(&mut self, ms: u64) {
        (self.uptime, self.time) = (self.uptime + ms, self.time + ms);
        if let Some((_, closed)) = self.moves.take_if(|(at, _)| *at <= self.time) {
            self.closed = closed;
        }
        let (uptime, inputs) = (Uptime(self.uptime), self.inputs());
        let actions = self.meter().step(uptime, &inputs).collect();
        self.obey(actions);
    }

    fn run(&mut self, ms: u64) {
        (0..ms / 100).for_each(|_| self.step(100));
    }

    fn send(&mut self, kind: ControlKind) -> u64 {
        self.next_id += 1;
        let expires = Timestamp(START + 86_400);
        let control = Control { id: self.next_id, kind, expires, counter: self.next_id, signatures: vec![] };
        self.orders.insert(control.id, kind);
        let actions = self.meter().receive(&Down::Control(control)).collect();
        self.obey(actions);
        self.next_id
    }

    fn set_without_button(&mut self, without: bool) {
        self.version += 1;
        let config = Config { version: self.version, close_without_button: Some(without), ..Config::default() };
        let actions = self.meter().receive(&Down::Config(config)).collect();
        self.obey(actions);
    }

    fn brown_out(&mut self) {
        let memory = self.meter.take().expect("running").into_memory();
        if let Some((_, closed)) = self.moves.take() {
            self.closed = closed; // a latching relay ends its travel
        }
        (self.boot, self.uptime) = (self.boot + 1, 0);
        let clock = MeterClock::backed_up(START * 1_000 + i64::try_from(self.time).expect("small"), Uptime(0));
        self.meter = Some(Meter::start(self.config.clone(), memory, self.boot, clock, Uptime(0)));
        self.step(0);
    }

    /// Takes the replies made since the last call, while the contact is where it was when they were made.
    fn read_answers(&mut self) {
        while let Some(out) = self.meter().next_to_send() {
            let (id, frame) = (out.id, Frame::from_cbor(out.payload).expect("a frame"));
            assert!(self.meter().acknowledge(id));
            let Body::Reply(reply) = frame.body else { continue };
            self.check(reply.control, reply.outcome);
            self.answers.entry(reply.control).or_default().push(reply.outcome);
        }
    }

    fn check(&mut self, control: u64, outcome: ReplyOutcome) {
        let wants_closed = self.orders[&control] == ControlKind::Reconnect;
        if outcome == ReplyOutcome::Done {
            assert_eq!(self.closed, wants_closed, "control {control} is told done, and the contact says otherwise");
            assert!(self.moves.is_none(), "control {control} is told done while the contact still moves");
            let state = self.meter().relay_state();
            assert_eq!(state == Some(RelayState::Closed), wants_closed, "done with the relay {state:?}");
        }
    }

    fn outcome(&self, control: u64) -> Option<ReplyOutcome> {
        self.answers.get(&control).and_then(|list| list.last().copied())
    }
}

#[test]
fn a_reconnect_while_the_contact_opens_is_answered_by_its_own_end() {
    let mut slow = Slow::new();
    slow.lag_ms = 400;
    slow.set_without_button(true);
    slow.run(11_000);
    let cut = slow.send(ControlKind::Disconnect);
    slow.run(200);
    let back = slow.send(ControlKind::Reconnect);
    slow.run(1_000);
    assert_eq!((slow.outcome(cut), slow.outcome(back)), (Some(ReplyOutcome::Done), None));
    slow.run(11_000);
    assert_eq!(slow.outcome(back), Some(ReplyOutcome::Done));
    assert!(slow.closed);
}

#[test]
fn a_disconnect_while_the_contact_closes_is_not_done_before_it_is_open() {
    let mut slow = Slow::new();
    slow.lag_ms = 400;
    slow.set_without_button(true);
    slow.run(11_000);
    slow.send(ControlKind::Disconnect);
    slow.run(12_000);
    let back = slow.send(ControlKind::Reconnect);
    slow.run(200);
    let cut = slow.send(ControlKind::Disconnect);
    slow.run(1_000);
    assert_eq!((slow.outcome(back), slow.outcome(cut)), (Some(ReplyOutcome::Done), None));
    slow.run(11_000);
    assert_eq!(slow.outcome(cut), Some(ReplyOutcome::Done));
    assert!(!slow.closed);
}

#[test]
fn a_cut_whose_answer_power_took_is_answered_after_the_start_and_not_refused() {
    let mut slow = Slow::new();
    slow.lag_ms = 400;
    slow.run(11_000);
    let cut = slow.send(ControlKind::Disconnect);
    slow.run(100);
    slow.brown_out();
    assert_eq!(slow.outcome(cut), Some(ReplyOutcome::Done), "it opened, and says so");
    // ordered and not begun: the spacing was waited for
    let mut slow = Slow::new();
    let cut = slow.send(ControlKind::Disconnect);
    slow.run(100);
    slow.brown_out();
    assert_eq!(slow.outcome(cut), Some(ReplyOutcome::Overtaken));
    slow.run(30_000);
    assert!(slow.closed, "and is not carried out later");
}

#[derive(Clone, Debug)]
enum Happening {
    Run(u64),
    Disconnect,
    Reconnect,
    WithoutButton(bool),
    Button(bool),
    Lag(u64),
    BrownOut,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        5 => (100u64..1_500).prop_map(Happening::Run),
        2 => (9_000u64..12_000).prop_map(Happening::Run),
        3 => Just(Happening::Disconnect),
        3 => Just(Happening::Reconnect),
        1 => any::<bool>().prop_map(Happening::WithoutButton),
        2 => any::<bool>().prop_map(Happening::Button),
        1 => (0u64..900).prop_map(Happening::Lag),
        1 => Just(Happening::BrownOut),
    ];
    prop::collection::vec(one, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_control_is_answered_once_and_done_is_true(list in happenings()) {
        let mut slow = Slow::new();
        slow.step(0);
        for happening in list {
            match happening {
                Happening::Run(ms) => slow.run(ms),
                Happening::Disconnect => drop(slow.send(ControlKind::Disconnect)),
                Happening::Reconnect => drop(slow.send(ControlKind::Reconnect)),
                Happening::WithoutButton(without) => slow.set_without_button(without),
                Happening::Button(down) => slow.button = down,
                Happening::Lag(ms) => slow.lag_ms = ms,
                Happening::BrownOut => slow.brown_out(),
            }
        }
        slow.run(25_000);
        for control in 1..=slow.next_id {
            let answers = slow.answers.get(&control).cloned().unwrap_or_default();
            prop_assert_eq!(answers.len(), 1, "control {} ({:?}) was answered {:?}", control, slow.orders[&control], answers);
        }
    }
}
