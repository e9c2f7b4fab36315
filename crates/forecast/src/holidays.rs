//! Public holidays that nobody listed, found in the readings: working days that looked like days of rest, and the rule by which they come again.
//!
//! A day's profile P lies between that of the working days around it, W, and that of the days of rest, R, at `α = (P − W)·(R − W)/|R − W|²`
//! (0 = works, 1 = rests), less the middle of the ten working days next to it, so that a spell of weather or a works outing of a week is
//! no holiday. A date, or an nth weekday of a month, is a holiday when each of its past occurrences on a working day rested: two of
//! them or more, or one when the other reading of that day (date or nth weekday) was refuted in another year.

use std::collections::BTreeMap;

use crate::calendar::{Clock, DAY_S, DayType, Holidays, date, day_of, weekday};
use crate::series::Known;

/// α of each occurrence, and their mean's least.
const ONCE: f64 = 0.3;
const MEAN: f64 = 0.4;
/// α of a day that alone makes a rule: a stranger day than a Sunday is something else.
const ALONE: core::ops::RangeInclusive<f64> = 0.6..=1.4;
/// Least mean of a rule, in its own (robust) deviations.
const DEVIATIONS: f64 = 5.0;
/// Working days before and after that a day is set off against.
const NEXT: usize = 5;
/// Days on each side that a day is compared with.
const AROUND: i64 = 21;
/// Fewest days of either kind to compare with.
const DAYS_LEAST: usize = 4;
/// Series looked at.
const SERIES_MOST: usize = 200;
/// Working days judged before anything is concluded: less than a year knows no rule.
const JUDGED_LEAST: usize = 200;

/// How a holiday comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    /// Month and day.
    Date(i64, i64),
    /// Month, weekday, which one of the month (0 = first).
    Nth(i64, usize, i64),
}

impl Rule {
    fn both(day: i64) -> [Self; 2] {
        let (_, month, of_month) = date(day);
        [Self::Date(month, of_month), Self::Nth(month, weekday(day), (of_month - 1) / 7)]
    }

    /// The day of a year; `None` when the month has none.
    fn day(self, year: i64) -> Option<i64> {
        let day = match self {
            Self::Date(month, of_month) => day_of(year, month, of_month),
            Self::Nth(month, wanted, which) => {
                let first = day_of(year, month, 1);
                first + (wanted as i64 - weekday(first) as i64).rem_euclid(7) + 7 * which
            }
        };
        Self::both(day).contains(&self).then_some(day)
    }
}

/// The holidays given, and those found in the readings, up to the end of the year after the origin's.
pub fn with_found(given: &Holidays, series: &[Known<'_>], clock: Clock) -> Holidays {
    let alphas = set_off(&rested(given, series, clock));
    let (Some(first), Some(last)) = (alphas.keys().next(), alphas.keys().next_back()) else { return given.clone() };
    if alphas.len() < JUDGED_LEAST {
        return given.clone();
    }
    let deviation = 1.4826 * middle(alphas.values().map(|a| a.abs()).collect());
    let years = date(*first).0..=date(*last).0 + 1;
    let occurrences =
        |rule: Rule| -> Vec<f64> { years.clone().filter_map(|y| alphas.get(&rule.day(y)?)).copied().collect() };
    let mut found = Vec::new();
    for day in alphas.iter().filter(|(_, alpha)| **alpha > ONCE).map(|(day, _)| *day) {
        let [by_date, by_weekday] = Rule::both(day);
        for (rule, other) in [(by_date, by_weekday), (by_weekday, by_date)] {
            let seen = occurrences(rule);
            let n = seen.len() as f64;
            let mean = seen.iter().sum::<f64>() / n;
            let rests = seen.iter().all(|a| *a > ONCE) && mean > MEAN && mean * n.sqrt() > DEVIATIONS * deviation;
            let refuted = || occurrences(other).iter().any(|a| *a < ONCE);
            if rests && (seen.len() >= 2 || ALONE.contains(&mean) && refuted()) {
                found.extend(years.clone().filter_map(|y| rule.day(y)).filter(|d| weekday(*d) < 5));
            }
        }
    }
    given.and(found)
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Each day's α less the middle of those of the working days next to it.
fn set_off(alphas: &BTreeMap<i64, f64>) -> BTreeMap<i64, f64> {
    let days: Vec<(i64, f64)> = alphas.iter().map(|(d, a)| (*d, *a)).collect();
    (0..days.len())
        .map(|at| {
            let near = at.saturating_sub(NEXT)..(at + NEXT + 1).min(days.len());
            let others = near.filter(|other| *other != at).map(|other| days[other].1).collect();
            (days[at].0, days[at].1 - middle(others))
        })
        .collect()
}

/// α of each working day, over all series.
fn rested(given: &Holidays, series: &[Known<'_>], clock: Clock) -> BTreeMap<i64, f64> {
    let mut sums: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for known in series.iter().take(SERIES_MOST) {
        let days = profiles(known, clock);
        for (&day, own) in days.iter().filter(|(d, _)| given.day_type(**d) == DayType::Working) {
            let mean = |kind: DayType| mean_of(&days, own.len(), day, |d| d != day && given.day_type(d) == kind);
            let (Some(works), Some(rests)) = (mean(DayType::Working), mean(DayType::Rest)) else { continue };
            let entry = sums.entry(day).or_default();
            for ((p, w), r) in own.iter().zip(&works).zip(&rests) {
                entry.0 += (p - w) * (r - w);
                entry.1 += (r - w).powi(2);
            }
        }
    }
    sums.into_iter().map(|(day, (along, length))| (day, along / length.max(1e-12))).collect()
}

/// Whole days by slot, in units of the series' mean.
fn profiles(known: &Known<'_>, clock: Clock) -> BTreeMap<i64, Vec<f64>> {
    let step = known.step_s();
    let size = known.values().iter().filter(|v| v.is_finite()).map(|v| f64::from(v.abs())).sum::<f64>()
        / known.values().len().max(1) as f64;
    let first = clock.local(known.first_end()).0;
    let last = clock.local(known.origin().unix_s().min(known.first_end() + known.values().len() as i64 * step)).0;
    let mut out = BTreeMap::new();
    for day in first..last {
        let start = clock.unix_s(day, 0);
        let row: Vec<f64> =
            (1..=DAY_S / step).map(|k| f64::from(known.value(start + k * step)) / size.max(1e-9)).collect();
        if row.iter().all(|v| v.is_finite()) {
            out.insert(day, row);
        }
    }
    out
}

/// Mean of the days around one that are wanted.
fn mean_of(
    days: &BTreeMap<i64, Vec<f64>>,
    slots: usize,
    around: i64,
    wanted: impl Fn(i64) -> bool,
) -> Option<Vec<f64>> {
    let mut sum = vec![0.0; slots];
    let mut n = 0;
    for (_, row) in days.range(around - AROUND..=around + AROUND).filter(|(d, _)| wanted(**d)) {
        sum.iter_mut().zip(row).for_each(|(s, v)| *s += v);
        n += 1;
    }
    (n >= DAYS_LEAST).then(|| sum.into_iter().map(|s| s / n as f64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Origin, Series};
    use crate::trees::Draws;

    /// Offices that rest on Sundays and on `holidays`.
    fn offices(first: i64, days: i64, holidays: &[i64]) -> Series {
        let mut draws = Draws::new(5);
        let mut rows = Vec::new();
        for day in first..first + days {
            let rest = weekday(day) == 6 || holidays.contains(&day);
            for slot in 0..48 {
                let busy = if (16..36).contains(&slot) && !rest { 2.0 } else { 0.0 };
                rows.push((day * DAY_S + (slot + 1) * 1_800, 1.0 + busy * (0.9 + 0.2 * draws.unit())));
            }
        }
        Series::new("offices", 1_800, &rows).expect("a good series")
    }

    #[test]
    fn a_rule_is_learnt_from_past_years_and_a_day_off_by_chance_is_not() {
        let (first, fair) = (day_of(2020, 7, 1), day_of(2022, 8, 10));
        let kept: Vec<i64> = [(2021, 6, 14), (2022, 6, 13), (2022, 4, 25), (2021, 1, 26), (2022, 1, 26), (2023, 1, 26)]
            .map(|(y, m, d)| day_of(y, m, d))
            .to_vec();
        let all: Vec<i64> = kept.iter().copied().chain([fair]).collect();
        let series = offices(first, 1_000, &all);
        let found =
            with_found(&Holidays::default(), &[series.known_at(Origin::at((first + 1_000) * DAY_S))], Clock::Fixed(0));
        assert!(found.contains(day_of(2023, 6, 12)), "second Monday of June, seen twice");
        assert!(found.contains(day_of(2024, 1, 26)), "a date that always rested");
        assert!(found.contains(day_of(2023, 4, 25)), "a date seen once, as the fourth Monday of April 2021 was worked");
        assert!(!found.contains(day_of(2023, 4, 24)));
        assert!(!found.contains(day_of(2023, 6, 14)));
        let working = (day_of(2022, 5, 2)..day_of(2022, 6, 12)).filter(|d| weekday(*d) < 5);
        assert!(working.into_iter().all(|d| !found.contains(d)), "working days stay working days");
        // what is known at an earlier origin does not know the second June
        let early = with_found(
            &Holidays::default(),
            &[series.known_at(Origin::at(day_of(2022, 3, 1) * DAY_S))],
            Clock::Fixed(0),
        );
        assert!(!early.contains(day_of(2023, 6, 12)));
    }
}
