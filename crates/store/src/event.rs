//! Events, replies, snapshots: what meters report that is not a profile. Kept as rows, written with the frame in one transaction.

use metering::{EventKind, MeterEvent, MeterId, Timestamp, frame::Reply};
use serde::{Deserialize, Serialize};

/// Which events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of one meter only.
    pub meter: Option<MeterId>,
    /// That happened after this.
    pub after: Option<Timestamp>,
    /// That happened at or before this.
    pub to: Option<Timestamp>,
    /// Of these kinds only; empty = all.
    pub kinds: Vec<EventKind>,
    /// Tamper events only.
    pub tamper_only: bool,
    /// Stored after the event with this id: for reading on without gaps. The answer is then in the order of storing.
    pub after_id: Option<u64>,
    /// Only those that come after the event with this id in an answer with the newest first.
    pub before: Option<u64>,
    /// Most rows; 0: all. Nothing is left out that was not asked to be.
    pub limit: u32,
}

/// An event as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Grows in the order of storing.
    pub id: u64,
    /// The meter.
    pub meter: MeterId,
    /// When the server received it (or raised it).
    pub received: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: MeterEvent,
}

/// A meter's answer to a control, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredReply {
    /// Grows in the order of storing.
    pub id: u64,
    /// The meter.
    pub meter: MeterId,
    /// When the server received it.
    pub received: Timestamp,
    /// The answer.
    #[serde(flatten)]
    pub reply: Reply,
}

/// Tamper events of one meter, of one kind and of one day, that came since a place in the log of events.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldedEvent {
    /// The first of them.
    pub event: StoredEvent,
    /// How many there were.
    pub count: u64,
}
