//! Whether a control may be carried out: signature, duplicate, clock, expiry, counter, in this order.
//!
//! Only a control with a valid signature touches the memory: someone who can forge a packet but not a signature can neither
//! use up counters nor occupy identifiers.

use alloc::{collections::VecDeque, vec::Vec};

use ed25519_dalek::VerifyingKey;
use metering::{Control, MeterId, Timestamp, control::ReplyOutcome, frame::Reply};
use minicbor::{Decode, Encode};

/// Answers remembered for repeated controls.
pub const REPLIES_MAX: usize = 16;

/// What is remembered of controls, kept through power failures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ControlMemory {
    #[n(0)]
    last_counter: Option<u64>,
    #[n(1)]
    replies: VecDeque<Reply>,
    #[n(2)]
    #[cbor(default)]
    pending: Vec<PendingControl>,
}

/// A control that the relay is carrying out and that is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PendingControl {
    /// Its identifier.
    #[n(0)]
    pub control: u64,
    /// Whether it closes the contact (reconnect) or opens it (disconnect).
    #[n(1)]
    pub closes: bool,
}

/// What to do with a control that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Carry it out.
    CarryOut,
    /// It was answered before: say the same again.
    Repeat(Reply),
    /// Refuse it.
    Refuse(ReplyOutcome),
}

impl ControlMemory {
    /// Judges a control.
    pub fn judge(
        &mut self,
        control: &Control,
        meter: MeterId,
        key: Option<&VerifyingKey>,
        now: Option<Timestamp>,
    ) -> Verdict {
        if key.is_some_and(|key| !control.is_signed_by(meter, key)) {
            return Verdict::Refuse(ReplyOutcome::Signature);
        }
        if let Some(reply) = self.replies.iter().find(|reply| reply.control == control.id) {
            return Verdict::Repeat(reply.clone());
        }
        let Some(now) = now else { return Verdict::Refuse(ReplyOutcome::ClockUnset) };
        if self.last_counter.is_some_and(|last| control.counter <= last) {
            return Verdict::Refuse(ReplyOutcome::Counter);
        }
        self.last_counter = Some(control.counter);
        if now > control.expires { Verdict::Refuse(ReplyOutcome::Expired) } else { Verdict::CarryOut }
    }

    /// Whether a counter is newer than every one taken; then it is taken. For what is signed and needs no answer.
    pub(crate) fn take_counter(&mut self, counter: Option<u64>) -> bool {
        let newer = counter.filter(|counter| self.last_counter.is_none_or(|last| *counter > last));
        self.last_counter = newer.or(self.last_counter);
        newer.is_some()
    }

    /// Remembers that a control is being carried out.
    pub(crate) fn begin(&mut self, pending: PendingControl) {
        self.pending.push(pending);
    }

    /// Controls being carried out. The relay bounds their number.
    pub fn pending(&self) -> &[PendingControl] {
        &self.pending
    }

    /// Whether a control is being carried out.
    pub fn is_pending(&self, control: u64) -> bool {
        self.pending.iter().any(|pending| pending.control == control)
    }

    /// Remembers an answer; the control is no longer pending.
    pub fn remember(&mut self, reply: &Reply) {
        self.pending.retain(|pending| pending.control != reply.control);
        if self.replies.len() == REPLIES_MAX {
            self.replies.pop_front();
        }
        self.replies.push_back(reply.clone());
    }

    /// How a control was answered, while that is remembered.
    pub fn answer_to(&self, control: u64) -> Option<ReplyOutcome> {
        self.replies.iter().rev().find(|reply| reply.control == control).map(|reply| reply.outcome)
    }

    /// The last counter taken.
    pub fn last_counter(&self) -> Option<u64> {
        self.last_counter
    }
}
