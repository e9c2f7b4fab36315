//! The supply relay: when it may move and when it must not.
//!
//! Rules: never a pulse at the start; a remote reconnect only arms, the consumer's button closes, unless configured otherwise;
//! never closed onto voltage on the load side; at least ten seconds between two operations; a daily cap on closings (opening is
//! never refused, and cannot happen more often than closing plus one); after every operation the contact is checked, and one
//! that does not follow is a fault that only a person clears.

use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use metering::{EventKind, Milliamps, Millivolts, control::ReplyOutcome, frame::RelayState};

use crate::inputs::{Inputs, Uptime};

/// Limits of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayRules {
    /// Shortest time between two operations, ms.
    pub spacing_ms: u64,
    /// Most closings in a UTC day.
    pub closings_per_day_max: u8,
    /// How long the contact may take to follow, ms.
    pub settle_ms_max: u64,
    /// Current above which an open contact is taken as welded (0.5 % of Ib).
    pub open_current_max: Milliamps,
    /// Voltage on the load side above which the relay is not closed.
    pub back_feed_min: Millivolts,
    /// How long back-feed must last before it is told, ms.
    pub back_feed_ms: u64,
}

impl Default for RelayRules {
    fn default() -> Self {
        Self {
            spacing_ms: 10_000,
            closings_per_day_max: 24,
            settle_ms_max: 1_000,
            open_current_max: Milliamps(50),
            back_feed_min: Millivolts(23_000),
            back_feed_ms: 10_000,
        }
    }
}

/// A pulse to the latching relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// Open the contact.
    Open,
    /// Close the contact.
    Close,
}

/// Who asked for an operation: it decides the state after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenReason {
    /// A control.
    Command,
    /// The load limit.
    Limit,
    /// The load limit gave up for a while.
    Lockout,
}

impl OpenReason {
    const fn state(self) -> RelayState {
        match self {
            Self::Command => RelayState::Open,
            Self::Limit => RelayState::OpenLimit,
            Self::Lockout => RelayState::Locked,
        }
    }
}

/// Controls that may wait for one operation; a further one is refused.
const CONTROLS_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Open(OpenReason),
    Close,
}

/// An operation with the controls that are answered by its end; none when the button or the load limit asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    operation: Operation,
    controls: Vec<u64>,
}

/// What the relay does in a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayStep {
    /// A pulse to give.
    pub pulse: Option<Pulse>,
    /// An event to log.
    pub event: Option<EventKind>,
    /// Controls that are answered now: by the end of their own operation, or because it will not take place.
    pub answers: Vec<(u64, ReplyOutcome)>,
}

/// The relay's memory, kept through power failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RelayMemory {
    #[n(0)]
    state: RelayState,
    #[n(1)]
    closings_today: u8,
    #[n(2)]
    day: i64,
}

impl Default for RelayMemory {
    fn default() -> Self {
        Self { state: RelayState::Closed, closings_today: 0, day: 0 }
    }
}

/// The relay.
#[derive(Clone, Debug)]
pub struct Relay {
    rules: RelayRules,
    memory: RelayMemory,
    /// Time of the last operation; the start counts as one.
    moved_at: Uptime,
    /// Asked for and waiting for the spacing.
    waiting: Option<Pending>,
    /// Pulsed and waiting for the contact.
    settling: Option<Pending>,
    /// Answers that the next step gives.
    answers: Vec<(u64, ReplyOutcome)>,
    /// Whether the contact was compared with the memory since the start.
    checked: bool,
    button_was_down: bool,
    back_feed_ms: u64,
    back_feed_told: bool,
}

impl Relay {
    /// A relay after a start at `uptime`, with what it remembered.
    pub fn start(rules: RelayRules, memory: RelayMemory, uptime: Uptime) -> Self {
        Self {
            rules,
            memory,
            moved_at: uptime,
            waiting: None,
            settling: None,
            answers: Vec::new(),
            checked: false,
            // a button held down (or stuck) at the start is not a press
            button_was_down: true,
            back_feed_ms: 0,
            back_feed_told: false,
        }
    }

    /// What must survive a power failure.
    pub fn memory(&self) -> RelayMemory {
        self.memory
    }

    /// Its state.
    pub fn state(&self) -> RelayState {
        self.memory.state
    }

    /// Whether an operation waits or is being checked.
    pub fn is_busy(&self) -> bool {
        self.waiting.is_some() || self.settling.is_some()
    }

    /// Asks to open, by a control or without one. `None`: it will be done, and a step answers the control when the contact has
    /// followed.
    pub fn open(&mut self, reason: OpenReason, control: Option<u64>) -> Option<ReplyOutcome> {
        match self.memory.state {
            RelayState::Fault => Some(ReplyOutcome::ContactFault),
            RelayState::Closed => self.wait_for(Operation::Open(reason), control),
            // open already, or opening: a closing that has not begun is taken back, a command outranks the limit and disarms
            _ => {
                self.take_back_waiting();
                if reason == OpenReason::Command || self.memory.state == RelayState::OpenLimit {
                    self.memory.state = reason.state();
                }
                self.done_or_settling(control)
            }
        }
    }

    /// Asks to reconnect by control: arms, or closes when no button is wanted. `None`: a step answers the control.
    pub fn reconnect(
        &mut self,
        inputs: &Inputs,
        day: i64,
        without_button: bool,
        control: Option<u64>,
    ) -> Option<ReplyOutcome> {
        match self.memory.state {
            RelayState::Fault => Some(ReplyOutcome::ContactFault),
            RelayState::Closed => {
                // an opening that has not begun is taken back
                self.take_back_waiting();
                self.done_or_settling(control)
            }
            // while the contact still opens, the voltage behind it is the supply's own; it is looked at before the closing
            _ if self.settling.is_none() && self.is_back_fed(inputs) => Some(ReplyOutcome::BackFeed),
            _ if self.cap_reached(day) => Some(ReplyOutcome::RateLimit),
            _ if without_button => self.wait_for(Operation::Close, control),
            _ => {
                self.memory.state = RelayState::Ready;
                Some(ReplyOutcome::Armed)
            }
        }
    }

    /// Lets an operation wait for its spacing, in place of a contrary one; controls that want the same are answered together.
    fn wait_for(&mut self, operation: Operation, control: Option<u64>) -> Option<ReplyOutcome> {
        let closes = |operation| operation == Operation::Close;
        if self.waiting.as_ref().is_some_and(|waiting| closes(waiting.operation) != closes(operation)) {
            self.take_back_waiting();
        }
        let waiting = self.waiting.get_or_insert_with(|| Pending { operation, controls: Vec::new() });
        waiting.operation = operation;
        waiting.add(control)
    }

    /// Takes back what has not begun; its controls were overtaken.
    fn take_back_waiting(&mut self) {
        let waiting = self.waiting.take();
        self.end(waiting, ReplyOutcome::Overtaken);
    }

    /// The contact is asked to be where it is, or where it is going.
    fn done_or_settling(&mut self, control: Option<u64>) -> Option<ReplyOutcome> {
        match &mut self.settling {
            Some(settling) => settling.add(control),
            None => Some(ReplyOutcome::Done),
        }
    }

    fn end(&mut self, pending: Option<Pending>, outcome: ReplyOutcome) {
        let controls = pending.into_iter().flat_map(|pending| pending.controls);
        self.answers.extend(controls.map(|control| (control, outcome)));
    }

    /// The load limit tries again (or is lifted): closes when the rules allow. Tells whether it will.
    pub fn retry_after_limit(&mut self, inputs: &Inputs, day: i64) -> bool {
        let mine = matches!(self.memory.state, RelayState::OpenLimit | RelayState::Locked);
        let allowed = mine && !self.is_busy() && !self.is_back_fed(inputs) && !self.cap_reached(day);
        if allowed {
            self.wait_for(Operation::Close, None);
        }
        allowed
    }

    /// One window: checks the contact, the button and the back-feed, gives a pulse when one is due, and the answers to controls.
    pub fn step(&mut self, uptime: Uptime, elapsed_ms: u64, day: i64, inputs: &Inputs) -> RelayStep {
        let step = self.decide(uptime, elapsed_ms, day, inputs);
        RelayStep { answers: core::mem::take(&mut self.answers), ..step }
    }

    fn decide(&mut self, uptime: Uptime, elapsed_ms: u64, day: i64, inputs: &Inputs) -> RelayStep {
        let pressed = inputs.button && !self.button_was_down;
        self.button_was_down = inputs.button;
        if !self.checked {
            self.checked = true;
            return self.check_at_start(inputs);
        }
        if let Some(settling) = self.settling.take() {
            return self.settle(settling, uptime, inputs);
        }
        if pressed && self.memory.state == RelayState::Ready && self.waiting.is_none() {
            self.wait_for(Operation::Close, None);
        }
        let is_due = uptime.since(self.moved_at) >= self.rules.spacing_ms;
        if let Some(waiting) = self.waiting.take_if(|_| is_due) {
            return self.pulse(waiting, uptime, day, inputs);
        }
        RelayStep { event: self.watch_back_feed(elapsed_ms, inputs), ..RelayStep::default() }
    }

    /// At the start nothing is pulsed: what the contact says is compared with what was remembered.
    fn check_at_start(&mut self, inputs: &Inputs) -> RelayStep {
        let closed = contact_closed(inputs, &self.rules);
        let event = match (self.memory.state, closed) {
            (RelayState::Fault, _) | (_, None) => None,
            (RelayState::Closed, Some(false)) => {
                self.memory.state = RelayState::Open;
                Some(EventKind::LoadDisconnected)
            }
            (RelayState::Closed, Some(true)) | (_, Some(false)) => None,
            (_, Some(true)) => {
                self.memory.state = RelayState::Fault;
                Some(EventKind::WeldedContact)
            }
        };
        RelayStep { event, ..RelayStep::default() }
    }

    fn pulse(&mut self, pending: Pending, uptime: Uptime, day: i64, inputs: &Inputs) -> RelayStep {
        let operation = pending.operation;
        let refused = match operation {
            Operation::Open(_) => None,
            Operation::Close if self.is_back_fed(inputs) => Some(ReplyOutcome::BackFeed),
            Operation::Close if self.cap_reached(day) => Some(ReplyOutcome::RateLimit),
            Operation::Close => None,
        };
        if let Some(refused) = refused {
            let event = (refused == ReplyOutcome::BackFeed).then_some(EventKind::BackFeed);
            self.end(Some(pending), refused);
            return RelayStep { event, ..RelayStep::default() };
        }
        if operation == Operation::Close {
            if self.memory.day != day {
                (self.memory.day, self.memory.closings_today) = (day, 0);
            }
            self.memory.closings_today = self.memory.closings_today.saturating_add(1);
        }
        self.moved_at = uptime;
        self.settling = Some(pending);
        // the intention is remembered before the pulse: after a power failure the contact is compared with it
        let pulse = match operation {
            Operation::Open(reason) => {
                self.memory.state = reason.state();
                Pulse::Open
            }
            Operation::Close => {
                self.memory.state = RelayState::Closed;
                Pulse::Close
            }
        };
        RelayStep { pulse: Some(pulse), ..RelayStep::default() }
    }

    fn settle(&mut self, settling: Pending, uptime: Uptime, inputs: &Inputs) -> RelayStep {
        let wanted = settling.operation == Operation::Close;
        let followed = contact_closed(inputs, &self.rules).is_none_or(|closed| closed == wanted);
        if followed {
            self.end(Some(settling), ReplyOutcome::Done);
            let event = if wanted { EventKind::LoadConnected } else { EventKind::LoadDisconnected };
            return RelayStep { event: Some(event), ..RelayStep::default() };
        }
        if uptime.since(self.moved_at) < self.rules.settle_ms_max {
            self.settling = Some(settling);
            return RelayStep::default();
        }
        self.end(Some(settling), ReplyOutcome::ContactFault);
        let waiting = self.waiting.take();
        let event = if wanted {
            // the contact stayed open: no supply, and no danger; who asked to open it has what he wants
            self.memory.state = RelayState::Open;
            self.end(waiting, ReplyOutcome::Done);
            EventKind::LoadDisconnected
        } else {
            self.memory.state = RelayState::Fault;
            self.end(waiting, ReplyOutcome::ContactFault);
            EventKind::WeldedContact
        };
        RelayStep { event: Some(event), ..RelayStep::default() }
    }

    fn watch_back_feed(&mut self, elapsed_ms: u64, inputs: &Inputs) -> Option<EventKind> {
        let open = !matches!(self.memory.state, RelayState::Closed | RelayState::Fault);
        if !(open && self.is_back_fed(inputs)) {
            self.back_feed_ms = 0;
            self.back_feed_told = false;
            return None;
        }
        self.back_feed_ms = self.back_feed_ms.saturating_add(elapsed_ms);
        let due = self.back_feed_ms >= self.rules.back_feed_ms && !self.back_feed_told;
        self.back_feed_told |= due;
        due.then_some(EventKind::BackFeed)
    }

    fn is_back_fed(&self, inputs: &Inputs) -> bool {
        inputs.load_voltage.is_some_and(|voltage| voltage >= self.rules.back_feed_min)
    }

    fn cap_reached(&self, day: i64) -> bool {
        self.memory.day == day && self.memory.closings_today >= self.rules.closings_per_day_max
    }
}

impl Pending {
    fn add(&mut self, control: Option<u64>) -> Option<ReplyOutcome> {
        if self.controls.len() == CONTROLS_MAX && control.is_some() {
            return Some(ReplyOutcome::RateLimit);
        }
        self.controls.extend(control);
        None
    }
}

/// Where the contact is, by its sense and by the current through it; `None` when nothing tells.
fn contact_closed(inputs: &Inputs, rules: &RelayRules) -> Option<bool> {
    if inputs.current > rules.open_current_max {
        return Some(true);
    }
    inputs.contact_closed
}
