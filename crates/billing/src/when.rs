//! Local time as a tariff speaks of it: months, seasons, weekdays, holidays, times of day.

use jiff::civil::Date;

use crate::tariff::Holidays;

/// Minutes of a day on the clock.
pub const DAY_MINUTES: u16 = 1440;
/// Bit of `holiday` in a mask of days; bits 0 to 6 are Monday to Sunday.
pub const HOLIDAY_BIT: u8 = 1 << 7;

/// A time of the year and of the day. All that is given must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct When {
    /// Bit n: month n, 1 to 12.
    pub months: u16,
    /// Month and day, inclusive, may wrap the year's end. Empty: all year.
    pub seasons: Vec<(MonthDay, MonthDay)>,
    /// Bits 0–6: Monday to Sunday, bit 7: holiday.
    pub days: u8,
    /// First minute of the local day.
    pub from_minute: u16,
    /// Minute that ends it; not above `from_minute`: over midnight.
    pub to_minute: u16,
}

/// Month and day, ordered as in a year.
pub type MonthDay = (u8, u8);

/// A local date as calendars see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayKind {
    month_day: MonthDay,
    /// One bit for the weekday it counts as, and the bit of a holiday.
    days: u8,
}

impl DayKind {
    /// Of a month and day, and a mask of days as in [`When::days`].
    pub fn new(month_day: MonthDay, days: u8) -> DayKind {
        DayKind { month_day, days }
    }

    /// Of a date. A holiday that is treated as a weekday is that day (and still `holiday`); else it is `holiday` only.
    pub fn of(date: Date, holidays: &Holidays) -> DayKind {
        let weekday = 1u8 << date.weekday().to_monday_zero_offset().unsigned_abs();
        let days = match (holidays.dates.binary_search(&date), holidays.treated_as) {
            (Err(_), _) => weekday,
            (Ok(_), Some(day)) => (1 << day) | HOLIDAY_BIT,
            (Ok(_), None) => HOLIDAY_BIT,
        };
        DayKind { month_day: (date.month().unsigned_abs(), date.day().unsigned_abs()), days }
    }
}

impl When {
    /// Always.
    pub const ALWAYS: When =
        When { months: 0b1_1111_1111_1110, seasons: Vec::new(), days: u8::MAX, from_minute: 0, to_minute: DAY_MINUTES };

    /// Whether it holds at a minute of a local day. The part after midnight of a time that crosses it is tested on its own day.
    pub fn holds(&self, day: DayKind, minute: u16) -> bool {
        let in_time = if self.from_minute < self.to_minute {
            self.from_minute <= minute && minute < self.to_minute
        } else {
            minute >= self.from_minute || minute < self.to_minute
        };
        in_time && self.holds_on(day)
    }

    /// Whether it holds at some minute of a local day.
    pub fn holds_on(&self, day: DayKind) -> bool {
        let in_season = |(from, to): &(MonthDay, MonthDay)| {
            if from <= to {
                *from <= day.month_day && day.month_day <= *to
            } else {
                day.month_day >= *from || day.month_day <= *to
            }
        };
        self.months & (1 << day.month_day.0) != 0
            && self.days & day.days != 0
            && (self.seasons.is_empty() || self.seasons.iter().any(in_season))
    }

    /// The minutes at which it may begin or end.
    pub fn edges(&self) -> [u16; 2] {
        [self.from_minute % DAY_MINUTES, self.to_minute % DAY_MINUTES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn a_night_belongs_on_each_side_of_midnight_to_its_own_day() {
        let night = When { days: 0b001_0000, from_minute: 22 * 60, to_minute: 6 * 60, ..When::ALWAYS };
        let kind = |d| DayKind::of(d, &Holidays::default());
        assert!(night.holds(kind(date(2025, 10, 3)), 23 * 60), "Friday evening");
        assert!(night.holds(kind(date(2025, 10, 3)), 3 * 60), "Friday morning");
        assert!(!night.holds(kind(date(2025, 10, 4)), 3 * 60), "Saturday morning is not Friday");
        assert!(!night.holds(kind(date(2025, 10, 3)), 6 * 60));
    }

    #[test]
    fn a_season_wraps_the_year_and_a_holiday_is_what_the_tariff_says() {
        let winter = When { seasons: vec![((11, 1), (3, 31))], ..When::ALWAYS };
        let holidays = Holidays { dates: vec![date(2025, 5, 1)], treated_as: Some(6) };
        let kind = |d| DayKind::of(d, &holidays);
        assert!(winter.holds_on(kind(date(2024, 2, 29))) && winter.holds_on(kind(date(2024, 11, 1))));
        assert!(!winter.holds_on(kind(date(2024, 4, 1))));
        let sunday = When { days: 0b100_0000, ..When::ALWAYS };
        let thursday = When { days: 0b000_1000, ..When::ALWAYS };
        assert!(sunday.holds_on(kind(date(2025, 5, 1))) && !thursday.holds_on(kind(date(2025, 5, 1))));
        let only = Holidays { treated_as: None, ..holidays.clone() };
        assert!(!sunday.holds_on(DayKind::of(date(2025, 5, 1), &only)));
    }
}
