//! The calendar people live by: local clock, weekdays, public holidays. Days are numbers since 1970-01-01.

use serde::{Deserialize, Serialize};

/// Seconds of a day.
pub const DAY_S: i64 = 86_400;

/// How the local clock differs from the time of the readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Clock {
    /// A constant offset in seconds east of the readings' time; 0 when the readings carry the local clock.
    Fixed(i64),
    /// Summer time by the European rule (last Sunday of March to last Sunday of October, 01:00 UTC); the winter's offset in seconds.
    European(i64),
}

impl Clock {
    /// Seconds to add to the readings' time at that time.
    pub fn offset_s(self, unix_s: i64) -> i64 {
        match self {
            Clock::Fixed(offset) => offset,
            Clock::European(offset) => {
                let (year, _, _) = date(unix_s.div_euclid(DAY_S));
                let turn = |month| last_sunday(year, month) * DAY_S + 3_600;
                let summer = unix_s >= turn(3) && unix_s < turn(10);
                offset + if summer { 3_600 } else { 0 }
            }
        }
    }

    /// Local day and second of the day.
    pub fn local(self, unix_s: i64) -> (i64, i64) {
        let local = unix_s + self.offset_s(unix_s);
        (local.div_euclid(DAY_S), local.rem_euclid(DAY_S))
    }

    /// The time at which the local clock shows a second of a day; the first of two in autumn, one that does not exist in spring
    /// gives the time an hour later.
    pub fn unix_s(self, day: i64, second: i64) -> i64 {
        let local = day * DAY_S + second;
        let guess = local - self.offset_s(local);
        let earlier = local - self.offset_s(guess - 3_600);
        if earlier + self.offset_s(earlier) == local { earlier } else { local - self.offset_s(guess) }
    }
}

/// Day of a date (proleptic Gregorian).
///
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`.
pub fn day_of(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let of_era = y - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of the month; the inverse of [`day_of`].
pub fn date(day: i64) -> (i64, i64, i64) {
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z - era * 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

/// 0 = Monday … 6 = Sunday.
pub fn weekday(day: i64) -> usize {
    (day + 3).rem_euclid(7) as usize
}

fn last_sunday(year: i64, month: i64) -> i64 {
    let last = day_of(year, month + 1, 1) - 1;
    last - (weekday(last) as i64 + 1).rem_euclid(7)
}

/// Easter Sunday (Gregorian). Source: the "anonymous" algorithm, as in Meeus, Astronomical Algorithms, chapter 8.
fn easter(year: i64) -> i64 {
    let (a, b, c) = (year % 19, year / 100, year % 100);
    let (d, e, f) = (b / 4, b % 4, (b + 8) / 25);
    let h = (19 * a + b - d - (b - f + 1) / 3 + 15) % 30;
    let l = (32 + 2 * e + 2 * (c / 4) - h - c % 4) % 7;
    let m = (a + 11 * h + 22 * l) / 451;
    let sum = h + l - 7 * m + 114;
    day_of(year, sum / 31, sum % 31 + 1)
}

/// What kind of day it is for a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DayType {
    Working,
    Saturday,
    /// Sunday or a public holiday.
    Rest,
}

impl DayType {
    /// 0, 1, 2.
    pub fn number(self) -> f32 {
        match self {
            DayType::Working => 0.0,
            DayType::Saturday => 1.0,
            DayType::Rest => 2.0,
        }
    }
}

/// Public holidays: those which nearly every western calendar has, and those given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holidays {
    given: Vec<i64>,
}

impl Holidays {
    /// Adds days (since 1970-01-01) to New Year, Good Friday, Easter Monday and the two days of Christmas.
    pub fn with(mut given: Vec<i64>) -> Self {
        given.sort_unstable();
        Self { given }
    }

    /// These and further days.
    pub fn and(&self, further: Vec<i64>) -> Self {
        let mut given = self.given.clone();
        given.extend(further);
        given.sort_unstable();
        given.dedup();
        Self { given }
    }

    /// Whether the day is one.
    pub fn contains(&self, day: i64) -> bool {
        let (year, month, of_month) = date(day);
        matches!((month, of_month), (1, 1) | (12, 25 | 26))
            || self.given.binary_search(&day).is_ok()
            || matches!(day - easter(year), -2 | 1)
    }

    /// The kind of the day.
    pub fn day_type(&self, day: i64) -> DayType {
        match weekday(day) {
            6 => DayType::Rest,
            _ if self.contains(day) => DayType::Rest,
            5 => DayType::Saturday,
            _ => DayType::Working,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_round_trip_and_known_days_are_right() {
        for day in (-200_000..200_000).step_by(37) {
            let (y, m, d) = date(day);
            assert_eq!(day_of(y, m, d), day);
        }
        assert_eq!(weekday(day_of(2013, 11, 6)), 2, "a Wednesday");
        assert!(Holidays::default().contains(day_of(2013, 3, 29)), "Good Friday 2013");
        assert!(Holidays::default().contains(day_of(2024, 4, 1)), "Easter Monday 2024");
        assert!(!Holidays::default().contains(day_of(2024, 4, 2)));
    }

    #[test]
    fn summer_time_begins_and_ends_as_in_london() {
        let london = Clock::European(0);
        let spring = day_of(2013, 3, 31) * DAY_S + 3_600;
        assert_eq!((london.offset_s(spring - 1), london.offset_s(spring)), (0, 3_600));
        let autumn = day_of(2013, 10, 27) * DAY_S + 3_600;
        assert_eq!((london.offset_s(autumn - 1), london.offset_s(autumn)), (3_600, 0));
        for unix in (spring - 90_000..spring + 90_000).chain(autumn - 90_000..autumn + 90_000).step_by(1_800) {
            let (day, second) = london.local(unix);
            let back = london.unix_s(day, second);
            assert!(back == unix || back == unix - 3_600, "the first of two");
        }
    }
}
