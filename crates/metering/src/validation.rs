//! Validation of readings on arrival: what parses but cannot be true is kept and marked, never dropped.

use alloc::vec::Vec;

use crate::{
    event::EventKind,
    reading::{ProfileRecord, Quality, RecordFlags},
    time::Timestamp,
    unit::WattHours,
};

/// Limits a plausible reading keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlausibilityLimits {
    /// How far ahead of the server's time an interval may end, seconds.
    pub ahead_seconds_max: i64,
    /// Oldest interval end taken as real.
    pub oldest: Timestamp,
    /// Largest power the connection can carry, watts; bounds the energy between two registers.
    pub power_w_max: u64,
}

impl Default for PlausibilityLimits {
    /// Five minutes ahead; nothing before 2015; 60 A × 400 V × 3 phases × 1.2.
    fn default() -> Self {
        Self { ahead_seconds_max: 300, oldest: Timestamp(1_420_070_400), power_w_max: 86_400 }
    }
}

/// Years of its largest power after which a register is beyond what any meter at that connection can have counted.
const YEARS_MAX: u64 = 100;
/// Hours of a year, rounded up.
const HOURS_PER_YEAR: u64 = 8_784;

impl PlausibilityLimits {
    /// Largest register that a meter at this connection can have counted in its life, Wh.
    pub const fn register_wh_max(&self) -> u64 {
        self.power_w_max.saturating_mul(YEARS_MAX * HOURS_PER_YEAR)
    }
}

/// A plausible reading of a meter, to which others are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LastReading {
    /// End of its interval.
    pub end: Timestamp,
    /// Import register then.
    pub import_wh: WattHours,
    /// Export register then.
    pub export_wh: WattHours,
}

/// Judges one record: its quality, and the events to raise. `last` is the newest plausible reading that ends before `record`,
/// `next` the oldest that ends after it (late data).
pub fn judge(
    record: &ProfileRecord,
    last: Option<&LastReading>,
    next: Option<&LastReading>,
    received: Timestamp,
    limits: &PlausibilityLimits,
) -> (Quality, Vec<EventKind>) {
    let mut events = Vec::new();
    let clock_unset = record.flags.contains(RecordFlags::CLOCK_UNSET);
    if clock_unset || record.end > received.plus(limits.ahead_seconds_max) || record.end < limits.oldest {
        events.push(EventKind::ClockWrong);
    } else if record.import_wh.0.max(record.export_wh.0) > limits.register_wh_max() {
        // Also of the very first reading, which has nothing to be compared with.
        events.push(EventKind::ImplausibleEnergy);
    } else {
        if let Some(last) = last {
            events.extend(step(last, record.end, record.import_wh, record.export_wh, limits));
        }
        if let Some(next) = next
            && (next.import_wh < record.import_wh || next.export_wh < record.export_wh)
            && !events.contains(&EventKind::RegisterStepBack)
        {
            events.push(EventKind::RegisterStepBack);
        }
    }
    let quality = if events.is_empty() { Quality::Measured } else { Quality::Suspect };
    (quality, events)
}

/// What is wrong with going on from `last` to the registers at `end`.
pub(crate) fn step(
    last: &LastReading,
    end: Timestamp,
    import: WattHours,
    export: WattHours,
    limits: &PlausibilityLimits,
) -> Option<EventKind> {
    let (Some(imported), Some(exported)) = (import.checked_sub(last.import_wh), export.checked_sub(last.export_wh))
    else {
        return Some(EventKind::RegisterStepBack);
    };
    let seconds = u64::try_from(end.seconds_since(last.end)).unwrap_or(0).max(60);
    let most = u128::from(limits.power_w_max) * u128::from(seconds) / 3_600;
    (u128::from(imported.0.max(exported.0)) > most).then_some(EventKind::ImplausibleEnergy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn record(end: i64, import: u64) -> ProfileRecord {
        ProfileRecord {
            end: Timestamp(end),
            flags: RecordFlags::default(),
            import_wh: WattHours(import),
            export_wh: WattHours(0),
            voltage_mv: None,
            current_ma: None,
            extra: vec![],
            masked: None,
        }
    }

    #[test]
    fn each_rule_marks_and_names_what_it_saw() {
        let now = Timestamp(1_800_000_000);
        let last = LastReading { end: Timestamp(1_799_999_100), import_wh: WattHours(1_000), export_wh: WattHours(0) };
        let limits = PlausibilityLimits::default();
        let judged = |record: &ProfileRecord| judge(record, Some(&last), None, now, &limits);
        assert_eq!(judged(&record(now.0, 1_250)), (Quality::Measured, vec![]));
        assert_eq!(judged(&record(now.0, 999)), (Quality::Suspect, vec![EventKind::RegisterStepBack]));
        assert_eq!(judged(&record(now.0, 31_000)), (Quality::Suspect, vec![EventKind::ImplausibleEnergy]));
        assert_eq!(judged(&record(2_100_000_000, 1_250)), (Quality::Suspect, vec![EventKind::ClockWrong]));
        assert_eq!(judged(&record(86_400, 1_250)), (Quality::Suspect, vec![EventKind::ClockWrong]));
        let next = LastReading { import_wh: WattHours(1_100), ..last };
        assert_eq!(
            judge(&record(now.0, 1_250), Some(&last), Some(&next), now, &limits).1,
            vec![EventKind::RegisterStepBack]
        );
    }
}
