//! A tariff compiled for a stretch of local days: instants, calendars, days and months, computed once for all customers.

use jiff::civil::Date;

use crate::{
    calendar::{Segments, day_start},
    error::RatingError,
    exact::Exact,
    rounding,
    tariff::{MonthBy, Tariff},
};

/// Longest bill, in days: three years, so that no date can make the work endless.
pub const BILL_DAYS_MAX: i32 = 1100;

/// A part of a bill under one tariff.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// Its tariff.
    pub tariff: &'a Tariff,
    /// First local day.
    pub from: Date,
    /// The day after the last.
    pub to: Date,
    /// Beginning, Unix seconds.
    pub from_s: i64,
    /// End, Unix seconds.
    pub to_s: i64,
    /// Local days.
    pub days: Exact,
    /// Months, by the tariff's one rule.
    pub months: Exact,
    /// Years by days: one over the days of the year of each.
    pub years_by_day: Exact,
    /// For every calendar of the tariff.
    pub calendars: Vec<Segments>,
}

/// Number of days from one date to another.
pub fn days_between(from: Date, to: Date) -> i32 {
    from.until(to).map_or(0, |span| span.get_days())
}

impl<'a> Plan<'a> {
    /// Compiles the days [from, to) of a bill of `bill` days.
    pub fn new(tariff: &'a Tariff, from: Date, to: Date, bill: (Date, Date)) -> Result<Plan<'a>, RatingError> {
        let days = days_between(from, to);
        if !(1..=BILL_DAYS_MAX).contains(&days) {
            let message = format!("{from} to {to}: a bill has 1 to {BILL_DAYS_MAX} days, and ends after it begins");
            return Err(RatingError::Case(message));
        }
        let instant = |day: Date| {
            let outside = || RatingError::Case(format!("{day} lies outside of the time that can be computed"));
            day_start(&tariff.zone, day).ok_or_else(outside)
        };
        let (from_s, to_s) = (instant(from)?, instant(to)?);
        let compile = |calendar| Segments::of_calendar(calendar, &tariff.holidays, &tariff.zone, (from_s, to_s));
        let months = match &tariff.month_count.by {
            MonthBy::Bill => share(i128::from(days), i128::from(days_between(bill.0, bill.1).max(days))),
            MonthBy::Days(length) => Exact::whole(i128::from(days)).over(length).unwrap_or(Exact::ONE),
            MonthBy::Calendar => by_length(from, to, |day| i128::from(day.days_in_month())),
        };
        Ok(Plan {
            tariff,
            from,
            to,
            from_s,
            to_s,
            days: Exact::whole(i128::from(days)),
            months: rounding::apply(tariff.month_count.round.as_ref(), &months),
            years_by_day: by_length(from, to, |day| i128::from(day.days_in_year())),
            calendars: tariff.calendars.iter().map(compile).collect(),
        })
    }

    /// Of a single month that is not a stretch of time: a token sale.
    pub fn of_one_month(tariff: &'a Tariff, day: Date) -> Result<Plan<'a>, RatingError> {
        let next = day.tomorrow().map_err(|_| RatingError::Case(format!("{day} is the last day of time")))?;
        Ok(Plan { months: Exact::ONE, ..Plan::new(tariff, day, next, (day, next))? })
    }

    /// Name of the period of a calendar that holds at an instant.
    pub fn period_at(&self, calendar: usize, at_s: i64) -> Option<&'a str> {
        let number = self.calendars[calendar].at(at_s).0?;
        Some(self.tariff.calendars[calendar].periods[usize::from(number)].name.as_str())
    }

    /// The month of a bill is that of its first day.
    pub fn month(&self) -> u8 {
        self.from.month().unsigned_abs()
    }
}

fn share(part: i128, whole: i128) -> Exact {
    Exact::fraction(part, whole).unwrap_or(Exact::ONE)
}

/// Sum over the days of one over a length that each day has. Days of equal length are counted first.
fn by_length(from: Date, to: Date, length: impl Fn(Date) -> i128) -> Exact {
    let mut sum = Exact::ZERO;
    let mut run: (i128, i128) = (0, 1);
    let mut day = from;
    while day < to {
        let this = length(day);
        if this != run.1 {
            sum = &sum + &share(run.0, run.1);
            run = (0, this);
        }
        run.0 += 1;
        match day.tomorrow() {
            Ok(next) => day = next,
            Err(_) => break,
        }
    }
    &sum + &share(run.0, run.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn months_and_years_are_counted_by_days() {
        let of = |from, to, length: fn(Date) -> i128| by_length(from, to, length).to_decimal(6);
        let month: fn(Date) -> i128 = |day| i128::from(day.days_in_month());
        assert_eq!(of(date(2024, 3, 1), date(2024, 5, 1), month), "2");
        assert_eq!(of(date(2014, 7, 1), date(2014, 7, 11), month), "0.322581");
        let year: fn(Date) -> i128 = |day| i128::from(day.days_in_year());
        assert_eq!(of(date(2024, 2, 1), date(2024, 3, 1), year), "0.079235");
        assert_eq!(of(date(2024, 12, 31), date(2025, 1, 2), year), "0.005472");
    }
}
