//! What was used in each period of a calendar, and what it cost where the price goes by the interval.

use super::{Energy, sum_of};
use crate::{calendar::write_instant, error::RatingError, exact::Exact, plan::Plan, series::Series};

/// Amounts by name of period, in the order in which the periods were met.
pub type ByPeriod = Vec<(String, i128)>;

/// Amounts of a kind of energy by the periods of a calendar. An interval belongs to the period that holds at its start; it must not
/// cross into another, unless it is empty or was netted inside a window (`may_cross`).
pub fn by_period(
    energy: &Energy<'_>,
    plan: &Plan<'_>,
    calendar: Option<usize>,
    may_cross: bool,
) -> Result<ByPeriod, RatingError> {
    if let (Energy::Steps { start_s, step_s, values }, Some(calendar)) = (energy, calendar) {
        return steps_by_period((*start_s, *step_s, values), plan, calendar);
    }
    let mut sums: ByPeriod = Vec::new();
    let mut failed = None;
    energy.each(|start_s, end_s, amount, period| {
        if failed.is_none() && amount != 0 {
            match period_of(plan, calendar, (start_s, end_s), period, may_cross) {
                Ok(period) => add(&mut sums, period, amount),
                Err(why) => failed = Some(why),
            }
        }
    });
    failed.map_or(Ok(sums), Err)
}

fn add(sums: &mut ByPeriod, period: &str, amount: i128) {
    match sums.iter_mut().find(|(name, _)| name == period) {
        Some((_, sum)) => *sum = sum.saturating_add(amount),
        None => sums.push((period.to_owned(), amount)),
    }
}

fn period_of<'p>(
    plan: &'p Plan<'_>,
    calendar: Option<usize>,
    (start_s, end_s): (i64, i64),
    register: Option<&'p str>,
    may_cross: bool,
) -> Result<&'p str, RatingError> {
    if let Some(period) = register {
        return Ok(period);
    }
    let Some(index) = calendar else {
        let message = "the charge has periods, but neither a calendar says when they hold nor do registers count by period; \
                       give a calendar, or readings as import_wh@night";
        return Err(RatingError::Tariff(message.into()));
    };
    let calendar = &plan.tariff.calendars[index];
    let (period, until_s) = plan.calendars[index].at(start_s);
    if end_s > until_s && !may_cross {
        return Err(RatingError::Readings(format!(
            "the interval {} to {} crosses into another period of the calendar \"{}\" at {}; \
             read at period boundaries, or by registers of each period",
            write_instant(start_s),
            write_instant(end_s),
            calendar.name,
            write_instant(until_s),
        )));
    }
    // Where no period holds, no rate of the charge names what is used.
    Ok(period.map_or("", |period| calendar.periods[usize::from(period)].name.as_str()))
}

/// Sums of equal steps by the segments of a calendar: long runs, added as integers.
fn steps_by_period(
    (start_s, step_s, values): (i64, i64, &[u32]),
    plan: &Plan<'_>,
    calendar: usize,
) -> Result<ByPeriod, RatingError> {
    let mut sums: Vec<i128> = vec![0; plan.tariff.calendars[calendar].periods.len()];
    for (from_s, to_s, period) in plan.calendars[calendar].iter() {
        let (from, to) = (from_s - start_s, to_s - start_s);
        if from % step_s != 0 || to % step_s != 0 {
            return Err(RatingError::Readings(format!(
                "steps of {step_s} s cross into another period at {}; use shorter steps",
                write_instant(if from % step_s == 0 { to_s } else { from_s })
            )));
        }
        let range = usize::try_from(from / step_s).ok().zip(usize::try_from(to / step_s).ok());
        let run = range
            .and_then(|(from, to)| values.get(from..to))
            .ok_or_else(|| RatingError::Readings(format!("the steps do not cover {}", write_instant(to_s))))?;
        if let Some(period) = period {
            sums[usize::from(period)] += sum_of(run);
        }
    }
    let names = plan.tariff.calendars[calendar].periods.iter().map(|period| period.name.clone());
    Ok(names.zip(sums).filter(|(_, sum)| *sum != 0).collect())
}

/// How a series prices an interval: value × `mul` + `adj`, at most `cap`.
pub struct SeriesPrice<'a> {
    /// Its name, for errors.
    pub name: &'a str,
    /// The steps.
    pub series: &'a Series,
    /// Factor.
    pub mul: &'a Exact,
    /// Addition.
    pub adj: &'a Exact,
    /// Upper limit.
    pub cap: Option<&'a Exact>,
}

/// Sum of amount × price over the intervals of one period (`None`: of all), in scaled units × currency.
pub fn priced(
    energy: &Energy<'_>,
    plan: &Plan<'_>,
    calendar: Option<usize>,
    period: Option<&str>,
    price: &SeriesPrice<'_>,
) -> Result<Exact, RatingError> {
    let mut sum = Exact::ZERO;
    let mut failed = None;
    // Consecutive intervals of one price are multiplied once.
    let mut run: (i128, i64, Exact) = (0, i64::MIN, Exact::ZERO);
    energy.each(|start_s, end_s, amount, register| {
        if failed.is_some() || amount == 0 {
            return;
        }
        let held = period.map(|_| period_of(plan, calendar, (start_s, end_s), register, true));
        match held.transpose() {
            Ok(held) if held == period => {}
            Ok(_) => return,
            Err(why) => {
                failed = Some(why);
                return;
            }
        }
        if start_s >= run.1 || run.1 == i64::MIN {
            sum = &sum + &(&Exact::whole(run.0) * &run.2);
            match price.series.at(start_s) {
                Some((value, until_s)) => run = (0, until_s, price.of(value)),
                None => {
                    let message = format!("the series \"{}\" begins after {}", price.name, write_instant(start_s));
                    failed = Some(RatingError::Tariff(message));
                    return;
                }
            }
        }
        if end_s > run.1 && !price.series.is_constant(start_s, end_s) {
            failed = Some(RatingError::Readings(format!(
                "the interval {} to {} crosses into another price of the series \"{}\"; read as often as prices change",
                write_instant(start_s),
                write_instant(end_s),
                price.name
            )));
        }
        run.0 = run.0.saturating_add(amount);
    });
    failed.map_or_else(|| Ok(&sum + &(&Exact::whole(run.0) * &run.2)), Err)
}

impl SeriesPrice<'_> {
    fn of(&self, value: &Exact) -> Exact {
        let price = &(value * self.mul) + self.adj;
        self.cap.map_or(price.clone(), |cap| price.min(cap.clone()))
    }
}
