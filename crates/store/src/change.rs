//! What the store announces after a commit.

use metering::{
    MeterEvent, MeterId, Timestamp,
    frame::{Now, Reply},
    topic::UpKind,
};

/// A committed change. A receiver that lags skips the oldest: read the store again then.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A frame was stored.
    Frame {
        /// Who sent it.
        meter: MeterId,
        /// Its kind.
        kind: UpKind,
        /// The instantaneous values it carried, if any (`now`, `snapshot`, `reply`).
        now: Option<Now>,
    },
    /// An event of a meter, or one that the server raised about a meter.
    Event {
        /// The meter.
        meter: MeterId,
        /// What happened.
        event: MeterEvent,
    },
    /// A meter answered a control.
    Reply {
        /// The meter.
        meter: MeterId,
        /// Its answer.
        reply: Reply,
    },
    /// The pipeline finished a slot.
    Slot {
        /// Everything up to here has been processed.
        processed_through: Timestamp,
    },
    /// A case was opened or changed.
    Case {
        /// Which.
        id: u64,
    },
    /// A control was made or changed.
    Control {
        /// Which.
        id: u64,
    },
    /// Zones, usage points or installations changed.
    Topology,
    /// Meters were enrolled: credentials changed.
    Enrolled,
    /// A setting changed.
    Setting(String),
}
