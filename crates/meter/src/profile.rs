//! The load profile: splits what is measured at the ends of intervals and gives a record for each interval that ends.

use minicbor::{Decode, Encode};

use metering::{IntervalLength, Milliamps, Millivolts, ProfileRecord, RecordFlags, Timestamp, WattHours};

use crate::{inputs::Inputs, register::Registers};

/// The interval under way, kept through power failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Profile {
    #[n(0)]
    #[cbor(with = "crate::settings::interval_minutes")]
    length: IntervalLength,
    #[n(1)]
    flags: RecordFlags,
    #[n(2)]
    voltage_mv_ms: u64,
    #[n(3)]
    current_ma_ms: u64,
    #[n(4)]
    weight_ms: u64,
    #[n(5)]
    last: Option<LastRecord>,
    #[n(6)]
    records: u64,
    #[n(7)]
    unsampled_us: u64,
}

/// The last record given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LastRecord {
    /// End of its interval.
    #[n(0)]
    pub end: Timestamp,
    /// Import register then.
    #[n(1)]
    pub import_wh: WattHours,
    /// Export register then.
    #[n(2)]
    pub export_wh: WattHours,
}

impl Profile {
    /// A profile with nothing measured; the first record is marked as partial.
    pub fn new(length: IntervalLength) -> Self {
        Self { length, flags: RecordFlags::PARTIAL, ..Self::default() }
    }

    /// Interval length.
    pub fn length(&self) -> IntervalLength {
        self.length
    }

    /// Changes the interval length; the interval under way becomes partial.
    pub fn set_length(&mut self, length: IntervalLength) {
        self.length = length;
        self.mark(RecordFlags::PARTIAL);
    }

    /// Adds flags to the interval under way.
    pub fn mark(&mut self, flags: RecordFlags) {
        self.flags = self.flags.with(flags);
    }

    /// Tells that a part of the interval under way was not sampled. Its energy is registered as the mean of what was; when it is
    /// more than a thousandth of the interval, the record says [`RecordFlags::INCOMPLETE`].
    pub fn miss(&mut self, unsampled_us: u32) {
        self.unsampled_us = self.unsampled_us.saturating_add(u64::from(unsampled_us));
    }

    /// The last record given.
    pub fn last(&self) -> Option<LastRecord> {
        self.last
    }

    /// Records ever given.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Adds a window from `from_ms` to `to_ms` (clock milliseconds) to registers and intervals; calls `emit` for each interval
    /// that ends in it. Ends only grow: after the clock was set back, the interval goes on until a new end is reached.
    pub fn add(
        &mut self,
        registers: &mut Registers,
        (from_ms, to_ms): (i64, i64),
        inputs: &Inputs,
        mut emit: impl FnMut(ProfileRecord),
    ) {
        let length_ms = self.length.seconds() * 1_000;
        let mut from = from_ms;
        while from < to_ms {
            let boundary = (from.div_euclid(length_ms) + 1) * length_ms;
            let to = boundary.min(to_ms);
            let elapsed = u64::try_from(to - from).unwrap_or(0);
            registers.add(inputs.active_mw, inputs.reactive_mvar, inputs.voltage.0, inputs.current.0, elapsed);
            let weighted = |value: u32| u64::from(value).saturating_mul(elapsed);
            self.voltage_mv_ms = self.voltage_mv_ms.saturating_add(weighted(inputs.voltage.0));
            self.current_ma_ms = self.current_ma_ms.saturating_add(weighted(inputs.current.0));
            self.weight_ms = self.weight_ms.saturating_add(elapsed);
            let end = Timestamp(to.div_euclid(1_000));
            if to == boundary && self.last.is_none_or(|last| last.end < end) {
                emit(self.close(end, registers));
            }
            from = to;
        }
    }

    fn close(&mut self, end: Timestamp, registers: &Registers) -> ProfileRecord {
        // microseconds against milliseconds: a thousandth
        if self.unsampled_us > self.weight_ms {
            self.mark(RecordFlags::INCOMPLETE);
        }
        let mean = |sum: u64| sum.checked_div(self.weight_ms).and_then(|m| u32::try_from(m).ok());
        let record = ProfileRecord {
            end,
            flags: self.flags,
            import_wh: registers.import_wh(),
            export_wh: registers.export_wh(),
            voltage_mv: mean(self.voltage_mv_ms).map(Millivolts),
            current_ma: mean(self.current_ma_ms).map(Milliamps),
            extra: alloc::vec::Vec::new(),
            masked: None,
        };
        let last = LastRecord { end, import_wh: record.import_wh, export_wh: record.export_wh };
        *self = Self { length: self.length, last: Some(last), records: self.records + 1, ..Self::default() };
        record
    }
}
