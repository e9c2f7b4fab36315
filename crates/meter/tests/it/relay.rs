//! The relay and the load limit against a contact, a button, a load and a net that do whatever they like.
//!
//! Random sequences of orders, button presses, back-feed, welded and stuck contacts, brown-outs at every moment (also between
//! the saving of an intention and its pulse) must never break a rule of the relay. The rules are written down here a second
//! time, from what the outside sees: pulses, orders, presses and times. `GRIDTALLY_SEQUENCES` sets how many; a failure names its
//! seed.
#![allow(clippy::print_stdout)] // the long runs say what they have tried

use crate::random::Random;
use meter::{
    Inputs, Uptime,
    load_limit::{LoadLimit, LoadLimitRules},
    relay::{OpenReason, Pulse, Relay, RelayMemory, RelayRules},
};
use metering::{EventKind, Milliamps, Millivolts, Watts, control::ReplyOutcome, frame::RelayState};

const DAY_MS: u64 = 86_400_000;

/// What the meter's shell and the world around it are.
struct World {
    relay: Relay,
    limit: LoadLimit,
    saved: (RelayMemory, Option<Watts>),
    /// Since the first start, ms.
    time: u64,
    started: u64,
    contact_closed: bool,
    welded: bool,
    stuck_open: bool,
    back_fed: bool,
    button: bool,
    /// A pulse was given and its end was not told yet.
    settling: bool,
    wants_w: i64,
    oracle: Oracle,
}

/// What an onlooker knows.
#[derive(Default)]
struct Oracle {
    last_pulse: Option<u64>,
    last_order: Option<Order>,
    /// The button went down after the last reconnect that was armed, in this run.
    pressed: bool,
    /// Armed, not closed and not disconnected since: that is remembered through brown-outs.
    armed: bool,
    /// Who opened the contact last.
    opened_by_limit: bool,
    closings: (u64, u32),
    /// Since when the load has been above the limit, without a break, contact closed.
    above_since: Option<u64>,
    limit: Option<i64>,
    limit_opened_at: u64,
    locked: bool,
    /// The limit was lifted since: then closing may have been decided at once.
    lifted: bool,
    trips: u32,
    faulty: bool,
    was_down: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Disconnect,
    Armed,
    CloseNow,
}

impl World {
    fn new() -> Self {
        let relay = Relay::start(RelayRules::default(), RelayMemory::default(), Uptime(0));
        Self {
            saved: (relay.memory(), None),
            relay,
            limit: LoadLimit::start(None, Uptime(0)),
            time: 0,
            started: 0,
            contact_closed: true,
            welded: false,
            stuck_open: false,
            back_fed: false,
            button: false,
            settling: false,
            wants_w: 0,
            oracle: Oracle { was_down: true, ..Oracle::default() },
        }
    }

    fn uptime(&self) -> Uptime {
        Uptime(self.time - self.started)
    }

    fn day(&self) -> i64 {
        i64::try_from(self.time / DAY_MS).expect("small")
    }

    fn inputs(&self) -> Inputs {
        let watts = if self.contact_closed { self.wants_w } else { 0 };
        let live = self.contact_closed || self.back_fed;
        Inputs {
            current: Milliamps(u32::try_from(watts * 1_000 / 230).expect("positive")),
            active_mw: watts * 1_000,
            load_voltage: Some(Millivolts(if live { 230_000 } else { 0 })),
            button: self.button,
            contact_closed: Some(self.contact_closed),
            ..Inputs::default()
        }
    }

    fn save(&mut self) {
        self.saved = (self.relay.memory(), self.limit.limit());
    }

    fn brown_out(&mut self) {
        self.started = self.time;
        self.relay = Relay::start(RelayRules::default(), self.saved.0, Uptime(0));
        self.limit = LoadLimit::start(self.saved.1, Uptime(0));
        self.oracle.above_since = None;
        self.oracle.was_down = true;
        self.oracle.trips = 0;
        self.oracle.limit_opened_at = self.time;
        self.oracle.pressed = false;
        self.settling = false;
        if self.oracle.last_order == Some(Order::CloseNow) {
            self.oracle.last_order = self.oracle.armed.then_some(Order::Armed);
        }
        let state = self.relay.state();
        assert!(self.step(0, false).is_none(), "a pulse at the start");
        // a contact that moved without us is believed; one that is closed although it was opened is a fault
        let expected = match (state, self.contact_closed) {
            (RelayState::Fault, _) => RelayState::Fault,
            (RelayState::Closed, false) => RelayState::Open,
            (RelayState::Closed, true) => RelayState::Closed,
            (_, true) => RelayState::Fault,
            (open, false) => open,
        };
        assert_eq!(self.relay.state(), expected, "after a start");
        self.oracle.faulty |= expected == RelayState::Fault;
    }

    /// One window. With `cut`, power fails after the intention was saved and before the pulse reached the coil.
    fn step(&mut self, ms: u64, cut: bool) -> Option<Pulse> {
        self.time += ms;
        let inputs = self.inputs();
        self.watch_inputs(&inputs);
        let (uptime, day) = (self.uptime(), self.day());
        let before = self.relay.state();
        let limited = self.limit.step(&LoadLimitRules::default(), &mut self.relay, (uptime, ms, day), &inputs);
        if let Some(reason) = limited {
            self.check_limit(reason);
        }
        let step = self.relay.step(uptime, ms, day, &inputs);
        if let Some(pulse) = step.pulse {
            self.check_pulse(pulse, before, &inputs);
            self.save();
            if cut {
                self.brown_out();
                return None;
            }
            self.settling = true;
            self.contact_closed = match pulse {
                Pulse::Open => self.welded,
                Pulse::Close => !self.stuck_open,
            };
        }
        let has_settled = [EventKind::LoadConnected, EventKind::LoadDisconnected, EventKind::WeldedContact].map(Some);
        self.settling &= !has_settled.contains(&step.event);
        if step.event == Some(EventKind::WeldedContact) {
            self.oracle.faulty = true;
        }
        if step.event == Some(EventKind::WeldedContact) {
            assert_eq!(self.relay.state(), RelayState::Fault, "welded and not a fault");
        }
        self.save();
        step.pulse
    }

    fn watch_inputs(&mut self, inputs: &Inputs) {
        let oracle = &mut self.oracle;
        oracle.pressed |= inputs.button && !oracle.was_down;
        oracle.was_down = inputs.button;
        let above = self.contact_closed && oracle.limit.is_some_and(|limit| inputs.active_mw > limit * 1_000);
        if !above {
            oracle.above_since = None;
        }
    }

    fn check_limit(&mut self, reason: OpenReason) {
        let oracle = &mut self.oracle;
        assert!(oracle.limit.is_some(), "tripped without a limit");
        oracle.trips += 1;
        // five tries, then the lock-out
        assert_eq!(reason == OpenReason::Lockout, oracle.trips > 5, "trip {} was {reason:?}", oracle.trips);
        oracle.limit_opened_at = self.time;
        oracle.locked = reason == OpenReason::Lockout;
        oracle.lifted = false;
    }

    fn check_pulse(&mut self, pulse: Pulse, before: RelayState, inputs: &Inputs) {
        let time = self.time;
        let oracle = &mut self.oracle;
        assert!(!oracle.faulty, "a pulse to a faulty relay");
        assert!(time - self.started >= 10_000, "a pulse within ten seconds of the start");
        assert!(oracle.last_pulse.is_none_or(|last| time - last >= 10_000), "two pulses within ten seconds");
        oracle.last_pulse = Some(time);
        if pulse == Pulse::Open {
            oracle.opened_by_limit = matches!(self.relay.state(), RelayState::OpenLimit | RelayState::Locked);
            let ordered = oracle.last_order == Some(Order::Disconnect);
            assert!(ordered || oracle.opened_by_limit, "opened by nobody");
            return;
        }
        assert_eq!(inputs.load_voltage, Some(Millivolts(0)), "closed onto voltage");
        let day = time / DAY_MS;
        oracle.closings = if oracle.closings.0 == day { (day, oracle.closings.1 + 1) } else { (day, 1) };
        assert!(oracle.closings.1 <= 24, "closed 25 times in a day");
        let order = oracle.last_order.take();
        let pressed = std::mem::take(&mut oracle.pressed);
        oracle.armed = false;
        if matches!(before, RelayState::OpenLimit | RelayState::Locked) && order != Some(Order::CloseNow) {
            let pause = match (oracle.lifted, oracle.locked) {
                (true, _) => 0,
                (false, true) => 1_800_000,
                (false, false) => 60_000,
            };
            assert!(time - oracle.limit_opened_at >= pause, "the limit tried again too early");
            if oracle.locked {
                (oracle.trips, oracle.locked) = (0, false);
            }
            return;
        }
        match order {
            Some(Order::Armed) => assert!(pressed, "closed without the button"),
            Some(Order::CloseNow) => {}
            _ => panic!("closed without an order"),
        }
    }

    fn disconnect(&mut self) {
        self.relay.open(OpenReason::Command, None);
        self.oracle.last_order = Some(Order::Disconnect);
        self.oracle.armed = false;
        self.save();
    }

    fn reconnect(&mut self, without_button: bool) {
        let (inputs, day, state) = (self.inputs(), self.day(), self.relay.state());
        let close_ordered = self.oracle.last_order == Some(Order::CloseNow);
        let is_closing = self.relay.is_busy() && (!self.settling || close_ordered);
        let outcome = self.relay.reconnect(&inputs, day, without_button, None);
        match outcome {
            Some(ReplyOutcome::Armed) => {
                // armed while a closing (by button, order or limit) waits for its ten seconds: that still counts
                self.oracle.pressed &= self.oracle.last_order == Some(Order::Armed);
                self.oracle.pressed |= is_closing;
                self.oracle.last_order = Some(Order::Armed);
                self.oracle.armed = true;
            }
            None => self.oracle.last_order = Some(Order::CloseNow),
            Some(ReplyOutcome::BackFeed) => assert!(self.back_fed || self.contact_closed),
            Some(ReplyOutcome::ContactFault) => assert_eq!(state, RelayState::Fault),
            Some(ReplyOutcome::RateLimit) => assert!(self.oracle.closings.1 >= 24, "refused without reason"),
            Some(_) => {}
        }
        self.save();
    }

    fn set_limit(&mut self, limit: Option<i32>) {
        self.limit.set(limit.map(Watts));
        self.oracle.limit = limit.map(i64::from);
        self.oracle.lifted |= limit.is_none();
        (self.oracle.trips, self.oracle.above_since) = (0, None);
        self.save();
    }
}

fn run(seed: u64) -> usize {
    let mut random = Random(seed);
    let mut world = World::new();
    world.step(0, false);
    let operations = 5 + random.below(60);
    let mut pulses = 0;
    for _ in 0..operations {
        match random.below(16) {
            0..=5 => {
                let ms = [200, 1_000, 5_000, 10_000, 61_000, 301_000, 1_801_000]
                    [usize::try_from(random.below(7)).expect("small")];
                let cut = random.below(24) == 0;
                pulses += usize::from(world.step(ms, cut).is_some());
            }
            6 => world.disconnect(),
            7 => world.reconnect(random.below(3) == 0),
            8 | 9 => world.button = !world.button,
            10 => world.back_fed = random.below(3) == 0,
            11 => world.wants_w = i64::try_from(random.below(6_000)).expect("small"),
            12 => {
                let limit = (random.below(3) > 0).then(|| 500 + i32::try_from(random.below(3_000)).expect("small"));
                world.set_limit(limit);
            }
            13 => world.brown_out(),
            14 => (world.welded, world.stuck_open) = (random.below(8) == 0, random.below(12) == 0),
            _ => {
                // a consumer in a hurry: order, button, and the wait
                world.reconnect(false);
                world.button = true;
                pulses += usize::from(world.step(11_000, false).is_some());
                world.button = false;
                pulses += usize::from(world.step(11_000, false).is_some());
            }
        }
    }
    pulses
}

fn sequences() -> u64 {
    std::env::var("GRIDTALLY_SEQUENCES").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000)
}

#[test]
fn no_sequence_breaks_a_rule_of_the_relay() {
    let (mut pulses, mut moved) = (0, 0u64);
    for seed in 0..sequences() {
        let of_this = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|why| {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(why)
        });
        pulses += of_this;
        moved += u64::from(of_this > 0);
    }
    assert!(moved * 3 > sequences(), "only {moved} sequences moved the relay: the test has lost its teeth");
    println!("{} sequences, {moved} moved the relay, {pulses} pulses", sequences());
}

#[test]
fn the_load_limit_tries_five_times_locks_out_and_begins_again() {
    let mut world = World::new();
    world.wants_w = 3_000;
    world.step(0, false);
    world.set_limit(Some(1_000));
    let (mut opened, mut closed, mut states) = (vec![], vec![], vec![]);
    for _ in 0..3 * 3_600 {
        match world.step(1_000, false) {
            Some(Pulse::Open) => opened.push(world.time / 1_000),
            Some(Pulse::Close) => closed.push(world.time / 1_000),
            None => {}
        }
        if states.last() != Some(&world.relay.state()) {
            states.push(world.relay.state());
        }
    }
    let lockouts = states.iter().filter(|state| **state == RelayState::Locked).count();
    assert_eq!(lockouts, 3, "{states:?}");
    for (n, (open, close)) in opened.iter().zip(&closed).enumerate() {
        let pause = close - open;
        let expected = if n % 6 == 5 { 1_800..1_805 } else { 60..65 };
        assert!(expected.contains(&pause), "closing {n} came after {pause} s");
    }
    for (close, open) in closed.iter().zip(&opened[1..]) {
        assert!((300..305).contains(&(open - close)), "opened {} s after closing", open - close);
    }
}
