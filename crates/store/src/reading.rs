//! Frames on their way in, and readings on their way out.

use bytes::Bytes;
use metering::{
    Frame, MeterId, ProfileRecord, Quality, Timestamp, WattHours,
    frame::{Hello, Now, PowerQuality, RelayState},
    validation::LastReading,
};
use registry::Flow;
use serde::{Deserialize, Serialize};

/// A parsed frame with the bytes it came in.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The frame.
    pub frame: Frame,
    /// The bytes received, CBOR or JSON: kept in the log and compared when the same sequence comes again.
    pub payload: Bytes,
    /// When the server received it.
    pub received: Timestamp,
}

/// What became of a frame; all three are to be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accepted {
    /// New and stored.
    Stored,
    /// The same bytes were stored before; nothing was done.
    Duplicate,
    /// The same (meter, boot, sequence) came before with other bytes: both are kept and an event is raised.
    Conflict,
}

/// A payload that is not a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The authenticated sender.
    pub meter: MeterId,
    /// The last level of the topic, or the path it was posted to.
    pub topic: String,
    /// What was wrong.
    pub why: String,
    /// The payload; at most the first 4096 bytes are kept.
    pub payload: Bytes,
    /// When it was received.
    pub received: Timestamp,
}

/// One interval as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRecord {
    /// What the meter sent.
    #[serde(flatten)]
    pub record: ProfileRecord,
    /// Length of the interval, minutes.
    pub minutes: u16,
    /// How far it can be trusted.
    pub quality: Quality,
    /// When the server first knew it, to the second if it came more than an hour after the end of its interval,
    /// else the end of the interval.
    pub known_at: Timestamp,
    /// How many other versions of this interval are kept; see `Store::versions`.
    pub other_versions: u16,
}

impl StoredRecord {
    /// The register reading at the end of the interval.
    pub fn registers(&self) -> LastReading {
        LastReading { end: self.record.end, import_wh: self.record.import_wh, export_wh: self.record.export_wh }
    }
}

/// Energy between two registers of ascending records, when both are there, trusted and not masked.
pub fn flow(records: &[StoredRecord], begin: Timestamp, end: Timestamp) -> Option<Flow> {
    let trusted = |at: Timestamp| {
        let from = records.partition_point(|r| r.record.end < at);
        let mut there = records[from..].iter().take_while(|r| r.record.end == at);
        let found = there.find(|r| r.quality.is_trusted() && r.record.masked.is_none())?;
        Some((found.record.import_wh, found.record.export_wh))
    };
    Flow::between(trusted(begin)?, trusted(end)?)
}

/// Ten-minute power-quality values as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredQuality {
    /// When the server received them.
    pub received: Timestamp,
    /// The values.
    #[serde(flatten)]
    pub values: PowerQuality,
}

/// The newest that is known of a meter, held in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latest {
    /// When the last frame of any kind was received.
    pub received: Timestamp,
    /// The newest instantaneous values (from `now`, `snapshot` or a reply).
    pub now: Option<Now>,
    /// The relay as last sensed.
    pub relay: Option<RelayState>,
    /// What the meter said at its last start.
    pub hello: Option<Hello>,
    /// End of the newest interval received, plausible or not.
    pub profile_end: Option<Timestamp>,
}

/// Where a register reading comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegisterSource {
    /// Instantaneous values.
    Now,
    /// The end of an interval of the load profile.
    Profile,
    /// What the meter said at its last start.
    Hello,
}

/// The newest reading of a meter's registers, whatever it was said with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewestRegister {
    /// When the registers stood so.
    pub at: Timestamp,
    /// Import register.
    pub import_wh: WattHours,
    /// Export register, where it was said.
    pub export_wh: Option<WattHours>,
    /// What said it.
    pub source: RegisterSource,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Frames stored (duplicates not counted, conflicting ones counted).
    pub frames: u64,
    /// Profile records in those frames.
    pub readings: u64,
    /// Frames received again with the same bytes.
    pub duplicates: u64,
    /// Frames with the sequence of another and other bytes.
    pub conflicts: u64,
    /// Payloads that were no frames, all counted, the newest 10,000 kept.
    pub quarantined: u64,
    /// Records marked suspect.
    pub suspect: u64,
    /// Size of all files of the directory.
    pub bytes_on_disk: u64,
    /// Size of the block files alone.
    pub block_bytes: u64,
}
