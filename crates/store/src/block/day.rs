//! The intervals of one meter in one UTC day, with every version that came.

use metering::{
    Milliamps, Millivolts, ProfileRecord, Quality, RecordFlags, Timestamp, WattHours,
    chain::Remark,
    reading::{Channel, ChannelValue, Masked},
    validation::LastReading,
};

use crate::reading::StoredRecord;

/// Most versions kept of one interval.
pub(crate) const VERSIONS_MAX: usize = 16;
/// Later than this after the end of its interval, the time of arrival is kept, seconds.
const LATE_AFTER_S: i64 = 3_600;
/// Interval ends further than this from 1970 are held here; they are suspect anyway.
const END_MOST: i64 = 1 << 42;

/// Numbers of the columns in a block. Channels of the wire are kept as 256 + channel.
pub(crate) mod column {
    pub(crate) const IMPORT: u16 = 0;
    pub(crate) const EXPORT: u16 = 1;
    pub(crate) const VOLTAGE: u16 = 2;
    pub(crate) const CURRENT: u16 = 3;
    pub(crate) const FLAGS: u16 = 4;
    pub(crate) const QUALITY: u16 = 5;
    pub(crate) const LATE: u16 = 6;
    pub(crate) const MINUTES: u16 = 7;
    pub(crate) const MASK_EPOCH: u16 = 8;
    pub(crate) const MASKED_IMPORT: u16 = 9;
    pub(crate) const MASKED_EXPORT: u16 = 10;
    pub(crate) const WIRE: u16 = 256;
}

/// One version of one interval, small enough to keep a day of many meters in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interval {
    /// End, seconds since 1970.
    pub end: i64,
    /// Import register, Wh.
    pub import: u64,
    /// Export register, Wh.
    pub export: u64,
    /// Mean voltage, mV.
    pub voltage: Option<u32>,
    /// Mean current, mA.
    pub current: Option<u32>,
    /// Seconds from the end to the arrival, zero up to an hour.
    pub late_s: u32,
    /// What the meter said.
    pub flags: u16,
    /// Length.
    pub minutes: u16,
    /// What the server said.
    pub quality: Quality,
    /// Further columns by number, ascending; unknown ones too.
    pub more: Option<Box<[(u16, i64)]>>,
}

impl Interval {
    /// The stored form of a record. Of two values of one further channel the first is kept.
    pub(crate) fn new(record: &ProfileRecord, minutes: u16, quality: Quality, received: Timestamp) -> Self {
        let late = received.seconds_since(record.end);
        let mut more: Vec<(u16, i64)> =
            record.extra.iter().map(|v| (column::WIRE + u16::from(v.channel.0), v.value)).collect();
        if let Some(masked) = &record.masked {
            more.push((column::MASK_EPOCH, i64::from(masked.epoch)));
            more.push((column::MASKED_IMPORT, masked.import.cast_signed()));
            more.push((column::MASKED_EXPORT, masked.export.cast_signed()));
        }
        more.sort_by_key(|(id, _)| *id);
        more.dedup_by_key(|(id, _)| *id);
        Self {
            end: record.end.0.clamp(-END_MOST, END_MOST),
            import: record.import_wh.0,
            export: record.export_wh.0,
            voltage: record.voltage_mv.map(|v| v.0),
            current: record.current_ma.map(|v| v.0),
            late_s: if late > LATE_AFTER_S { u32::try_from(late).unwrap_or(u32::MAX) } else { 0 },
            flags: record.flags.0,
            minutes,
            quality,
            more: (!more.is_empty()).then(|| more.into_boxed_slice()),
        }
    }

    /// Whether both say the same, whatever the server thought of it and whenever it came.
    fn says_the_same(&self, other: &Self) -> bool {
        self.end == other.end
            && self.import == other.import
            && self.export == other.export
            && self.voltage == other.voltage
            && self.current == other.current
            && self.flags == other.flags
            && self.minutes == other.minutes
            && self.more == other.more
    }

    /// The outside's form.
    pub(crate) fn to_stored(&self, other_versions: usize) -> StoredRecord {
        let more = self.more.as_deref().unwrap_or_default();
        let of = |id: u16| more.iter().find(|(column, _)| *column == id).map(|(_, value)| *value);
        let extra = more
            .iter()
            .filter_map(|(id, value)| {
                let channel = u8::try_from(id.checked_sub(column::WIRE)?).ok()?;
                Some(ChannelValue { channel: Channel(channel), value: *value })
            })
            .collect();
        let masked = of(column::MASKED_IMPORT).map(|import| Masked {
            epoch: of(column::MASK_EPOCH).and_then(|v| u32::try_from(v).ok()).unwrap_or(0),
            import: import.cast_unsigned(),
            export: of(column::MASKED_EXPORT).unwrap_or(0).cast_unsigned(),
        });
        StoredRecord {
            record: ProfileRecord {
                end: Timestamp(self.end),
                flags: RecordFlags(self.flags),
                import_wh: WattHours(self.import),
                export_wh: WattHours(self.export),
                voltage_mv: self.voltage.map(Millivolts),
                current_ma: self.current.map(Milliamps),
                extra,
                masked,
            },
            minutes: self.minutes,
            quality: self.quality,
            known_at: Timestamp(self.end).plus(i64::from(self.late_s)),
            other_versions: u16::try_from(other_versions).unwrap_or(u16::MAX),
        }
    }

    /// The registers at its end.
    pub(crate) fn reading(&self) -> LastReading {
        LastReading { end: Timestamp(self.end), import_wh: WattHours(self.import), export_wh: WattHours(self.export) }
    }

    /// Whether billing and balance may rest on it without review.
    pub(crate) fn is_plausible(&self) -> bool {
        self.quality.is_trusted()
    }

    /// Whether a remark is about it.
    pub(crate) fn is_meant_by(&self, remark: &Remark) -> bool {
        self.reading() == remark.reading
    }
}

/// What merging a version did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// There was none of this end.
    New,
    /// There was one of this end that says something else; both are kept.
    Version,
    /// Known already, or more versions than are kept.
    Known,
}

/// The intervals of one day: by end, versions of one end in the order of their arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Day {
    intervals: Vec<Interval>,
    /// Intervals whose quality became another, here or in an older generation of the same day; gone once that is packed.
    remarks: Vec<Remark>,
}

impl Day {
    /// From intervals that are in order already.
    pub(crate) fn from_ordered(intervals: Vec<Interval>) -> Self {
        Self { intervals, remarks: Vec::new() }
    }

    /// What was said about intervals after their arrival.
    pub(crate) fn remarks(&self) -> &[Remark] {
        &self.remarks
    }

    /// Gives the intervals that a remark is about their new quality, those in an older generation when it is merged. Doing it
    /// again changes nothing.
    pub(crate) fn remark(&mut self, remark: Remark) {
        for interval in self.intervals.iter_mut().filter(|interval| interval.is_meant_by(&remark)) {
            interval.quality = remark.quality;
        }
        self.remarks.retain(|known| known.reading != remark.reading);
        self.remarks.push(remark);
    }

    /// Everything, by end and arrival.
    pub(crate) fn all(&self) -> &[Interval] {
        &self.intervals
    }

    /// Adds a version. Doing it again changes nothing.
    pub(crate) fn merge(&mut self, mut new: Interval) -> Merged {
        if let Some(remark) = self.remarks.iter().find(|remark| new.is_meant_by(remark)) {
            new.quality = remark.quality;
        }
        if self.intervals.last().is_none_or(|last| last.end < new.end) {
            self.intervals.push(new);
            return Merged::New;
        }
        let from = self.intervals.partition_point(|i| i.end < new.end);
        let to = self.intervals.partition_point(|i| i.end <= new.end);
        let versions = &self.intervals[from..to];
        if versions.len() >= VERSIONS_MAX || versions.iter().any(|known| known.says_the_same(&new)) {
            return Merged::Known;
        }
        let merged = if versions.is_empty() { Merged::New } else { Merged::Version };
        self.intervals.insert(to, new);
        merged
    }

    /// Whether a version that says the same is there.
    pub(crate) fn holds(&self, wanted: &Interval) -> bool {
        let from = self.intervals.partition_point(|i| i.end < wanted.end);
        self.intervals[from..].iter().take_while(|i| i.end == wanted.end).any(|known| known.says_the_same(wanted))
    }

    /// The intervals that end in (`after`, `to`], every version.
    pub(crate) fn between(&self, after: Timestamp, to: Timestamp) -> Self {
        let from = self.intervals.partition_point(|i| i.end <= after.0);
        let past = self.intervals.partition_point(|i| i.end <= to.0).max(from);
        let within = |remark: &&Remark| remark.reading.end > after && remark.reading.end <= to;
        Self {
            intervals: self.intervals[from..past].to_vec(),
            remarks: self.remarks.iter().filter(within).copied().collect(),
        }
    }

    /// Adds every version of a later day's worth.
    pub(crate) fn merge_all(&mut self, newer: &Self) {
        for interval in &newer.intervals {
            self.merge(interval.clone());
        }
        for remark in &newer.remarks {
            self.remark(*remark);
        }
    }

    /// The versions of each end, in order.
    pub(crate) fn by_end(&self) -> impl Iterator<Item = &[Interval]> {
        self.intervals.chunk_by(|a, b| a.end == b.end)
    }

    /// The valid version of each end, with the number of others.
    pub(crate) fn winners(&self) -> impl Iterator<Item = (&Interval, usize)> {
        self.by_end().map(|versions| (&versions[winner(versions)], versions.len() - 1))
    }
}

/// Which version of one end is valid: the newest plausible one, or the newest if none is.
pub(crate) fn winner(versions: &[Interval]) -> usize {
    versions.iter().rposition(Interval::is_plausible).unwrap_or(versions.len().saturating_sub(1))
}
