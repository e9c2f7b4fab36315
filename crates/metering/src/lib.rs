//! The vocabulary of Gridtally: ids, units, readings with quality, events, controls, OBIS codes and the device frames
//! (protocol version 1, `docs/protocol.md`).
//!
//! Everything that a meter and a server say to each other is defined here once, and used by firmware, simulator, head-end and
//! store alike. The crate is `no_std` (with `alloc`) and pure: no clock, no randomness, no input or output.
//!
//! It is not: a transport (see `headend`), a meter (see `meter`), or a database (see `store`).
#![no_std]
extern crate alloc;

mod absent;
pub mod chain;
pub mod control;
pub mod event;
pub mod frame;
pub mod id;
pub mod local;
pub mod obis;
pub mod reading;
pub mod sms;
pub mod supply;
pub mod tamper;
pub mod time;
pub mod topic;
pub mod unit;
pub mod validation;

pub use control::{Approval, ApprovedControl, Approver, Control, ControlKind, ControlState};
pub use event::{Compartment, EventKind, MeterEvent};
pub use frame::{Body, DecodeError, Down, Frame};
pub use id::{MeterId, UsagePointId, ZoneId};
pub use obis::Obis;
pub use reading::{Channel, ProfileRecord, Quality, RecordFlags};
pub use time::{IntervalLength, Timestamp};
pub use topic::Topic;
pub use unit::{Milliamps, Millihertz, Millivolts, Vars, WattHours, Watts};

/// A value of this vocabulary in CBOR.
///
/// # Panics
/// Never: writing to memory does not fail, and no value of this crate refuses to be written. An empty message instead would be stored,
/// or signed.
pub fn cbor(value: impl minicbor::Encode<()>) -> alloc::vec::Vec<u8> {
    minicbor::to_vec(value).expect("memory takes every value of the vocabulary")
}
