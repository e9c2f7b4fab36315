//! Time: UTC seconds, and the interval lengths of load profiles. Civil time lives where tariffs and pages need it.

use core::{fmt, str::FromStr};

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

const SECONDS_PER_DAY: i64 = 86_400;

/// Seconds since 1970-01-01T00:00:00Z, leap seconds not counted. Serialised as a number; [`fmt::Display`] gives RFC 3339.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(transparent)]
#[cbor(transparent)]
pub struct Timestamp(#[n(0)] pub i64);

impl Timestamp {
    /// Whole seconds from `earlier` to `self`; negative when `earlier` is later.
    pub fn seconds_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This instant moved by `seconds`, held at the ends of the range.
    pub fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Days since the epoch of the UTC day that holds this instant.
    pub fn day(self) -> i64 {
        self.0.div_euclid(SECONDS_PER_DAY)
    }

    /// Seconds since UTC midnight, 0 to 86,399.
    pub fn second_of_day(self) -> i64 {
        self.0.rem_euclid(SECONDS_PER_DAY)
    }

    /// The latest multiple of `seconds` (counted from the epoch) at or before this instant. `seconds` must be positive.
    pub fn floor_to(self, seconds: i64) -> Self {
        Self(self.0.div_euclid(seconds) * seconds)
    }

    /// Year, month (1–12) and day of month (1–31) in the proleptic Gregorian calendar.
    ///
    /// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
    pub fn civil(self) -> (i64, i64, i64) {
        let z = self.day() + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
    }

    /// The instant of a UTC civil time, or `None` when a field is out of range (month lengths are checked).
    pub fn from_civil(date: (i64, i64, i64), time: (i64, i64, i64)) -> Option<Self> {
        let ((year, month, day), (hour, minute, second)) = (date, time);
        let in_range = (0..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && (0..24).contains(&hour)
            && (0..60).contains(&minute)
            && (0..60).contains(&second);
        if !in_range {
            return None;
        }
        let y = if month <= 2 { year - 1 } else { year };
        let era = y.div_euclid(400);
        let yoe = y.rem_euclid(400);
        let mp = if month > 2 { month - 3 } else { month + 9 };
        let doy = (153 * mp + 2) / 5 + day - 1;
        let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
        let days = era * 146_097 + doe - 719_468;
        let instant = Self(days * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second);
        (instant.civil() == date).then_some(instant)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        let s = self.second_of_day();
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", s / 3_600, s / 60 % 60, s % 60)
    }
}

/// A text is not an instant of the form `2026-11-21T05:30:00Z` or a date `2026-11-21`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampError;

impl fmt::Display for TimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a UTC time: write 2026-11-21T05:30:00Z or 2026-11-21")
    }
}

impl core::error::Error for TimestampError {}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let (date, time) = match text.split_once(['T', ' ']) {
            Some((date, time)) => (date, time.strip_suffix('Z').ok_or(TimestampError)?),
            None => (text, "00:00:00"),
        };
        let three = |part: &str, mark: char| -> Option<(i64, i64, i64)> {
            let mut fields = part.splitn(3, mark).map(|field| {
                let digits = !field.is_empty() && field.bytes().all(|b| b.is_ascii_digit());
                digits.then(|| field.parse::<i64>().ok()).flatten()
            });
            Some((fields.next()??, fields.next()??, fields.next()??))
        };
        let date = three(date, '-').ok_or(TimestampError)?;
        let time = three(time, ':').ok_or(TimestampError)?;
        Self::from_civil(date, time).ok_or(TimestampError)
    }
}

/// Length of a load-profile interval. Intervals end on multiples of their length, counted in UTC from midnight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub enum IntervalLength {
    /// One minute.
    M1,
    /// Five minutes.
    M5,
    /// A quarter of an hour, the default.
    #[default]
    M15,
    /// Half an hour.
    M30,
    /// One hour.
    M60,
}

impl IntervalLength {
    /// Minutes.
    pub const fn minutes(self) -> u16 {
        match self {
            Self::M1 => 1,
            Self::M5 => 5,
            Self::M15 => 15,
            Self::M30 => 30,
            Self::M60 => 60,
        }
    }

    /// Seconds.
    pub fn seconds(self) -> i64 {
        i64::from(self.minutes()) * 60
    }

    /// Intervals in a UTC day.
    pub const fn per_day(self) -> u16 {
        1_440 / self.minutes()
    }
}

impl TryFrom<u16> for IntervalLength {
    type Error = &'static str;

    fn try_from(minutes: u16) -> Result<Self, Self::Error> {
        Ok(match minutes {
            1 => Self::M1,
            5 => Self::M5,
            15 => Self::M15,
            30 => Self::M30,
            60 => Self::M60,
            _ => return Err("a profile interval is 1, 5, 15, 30 or 60 minutes"),
        })
    }
}

impl From<IntervalLength> for u16 {
    fn from(length: IntervalLength) -> u16 {
        length.minutes()
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn text_and_instant_agree() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_239_000, "2026-11-21T05:30:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp(seconds).to_string(), text);
            assert_eq!(text.parse(), Ok(Timestamp(seconds)));
        }
        for bad in ["2026-02-29", "2026-13-01", "2026-1-1T00:00", "yesterday", "2026-11-21T05:30:00+01:00", "-1-01-01"]
        {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_instant_survives_its_text(seconds in -2_000_000_000i64..200_000_000_000) {
            let instant = Timestamp(seconds);
            proptest::prop_assert_eq!(instant.to_string().parse(), Ok(instant));
        }
    }
}
