//! The running bill: what it will be if use goes on as so far, and between what bounds.
//!
//! Let k days be known and r lie ahead, μ and σ mean and standard deviation of the known days' energy. The rest is rμ; the bounds are
//! rμ ± 1.2816 · σ · √(r + r²/k): four of five running bills end inside if days are alike and independent (σ√r: the days ahead; σr/√k: the
//! mean is itself an estimate). What is known is stretched to the whole in its own shape by period, so blocks and hours of use are those of
//! the whole bill; demand is the largest so far. Square roots are of integers, cut down.

use std::cell::OnceCell;

use jiff::civil::Date;

use crate::{
    bill::{Account, from_minor, sum_minor, to_minor},
    cycle::{Order, Supply},
    demand::DemandSource,
    error::{Fault, RatingError},
    exact::Exact,
    plan::{Plan, days_between},
    rate::{self, Inputs},
    readings::Track,
    usage::{Energy, Interval, Usage},
};

/// Normal quantile of 90 %, in ten-thousandths: a range of four in five.
const QUANTILE: i128 = 12_816;
/// Fewest known days.
pub const DAYS_LEAST: i32 = 3;

/// What a running bill will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// Days known.
    pub known_days: i32,
    /// Days ahead.
    pub days_ahead: i32,
    /// Energy known, kWh.
    pub known_kwh: Exact,
    /// Energy of the whole bill: lower bound, expected, upper bound, kWh.
    pub kwh: [Exact; 3],
    /// Total: lower bound, expected, upper bound, minor units.
    pub total: [i64; 3],
    /// What has come together so far, minor units.
    pub so_far: i64,
    /// Whether every known day was read; else the range rests on a quarter of the rest either way.
    pub read_daily: bool,
}

/// Forecasts a bill of which the days before `today` are known.
pub fn running_bill(supply: &Supply<'_>, order: &Order, account: &Account, today: Date) -> Result<Forecast, Fault> {
    let place = format!("bill {}", order.id);
    let in_case = |why: RatingError| why.in_files("tariff", supply.readings_file, supply.case_file, &place);
    let listed = supply.tariff_on(order.from).map_err(in_case)?;
    let in_files = |why: RatingError| why.in_files(&listed.file, supply.readings_file, supply.case_file, &place);
    forecast(supply, order, account, today).map_err(in_files)
}

fn forecast(supply: &Supply<'_>, order: &Order, account: &Account, today: Date) -> Result<Forecast, RatingError> {
    let (known_days, days_ahead) = (days_between(order.from, today), days_between(today, order.to));
    if known_days < DAYS_LEAST || days_ahead < 1 {
        return Err(RatingError::Case(format!(
            "a running bill of {} to {} on {today}: at least {DAYS_LEAST} days must be known and one lie ahead",
            order.from, order.to
        )));
    }
    let listed = supply.tariff_on(order.from)?;
    let bill = (order.from, order.to);
    let whole = Plan::new(&listed.tariff, order.from, order.to, bill)?;
    let known = Plan::new(&listed.tariff, order.from, today, bill)?;
    let tracks = supply.known_at(order.issued_s);
    let usage = supply.usage(&known, &tracks)?;
    let days = daily(supply, &known, &tracks)?;
    let read_daily = usage.quality.interpolated_at_s.is_empty() && has_daily_readings(supply, &known, &tracks);
    let (low, mean, high) = rest(&days, i128::from(days_ahead), read_daily);
    let sum: i128 = days.iter().fold(0, |sum, day| sum.saturating_add(*day));
    let total_of = |rest: i128| -> Result<(i64, Exact), RatingError> {
        let stretched = stretched(&usage, sum, rest);
        let inputs = Inputs {
            plan: &whole,
            files: &listed.files,
            usage: &stretched,
            demand: DemandSource { plan: &known, usage: &usage },
            customer: supply.customer,
            sale: None,
        };
        let part = rate::rate(&inputs, &mut account.clone())?;
        let lines = sum_minor(part.lines.iter())?;
        let tariff = &listed.tariff;
        let total = crate::rounding::apply(tariff.rounding.total.as_ref(), &from_minor(lines, tariff.minor_digits));
        let kwh = rate::energy_of_part(&inputs, &part.netting)?;
        Ok((to_minor(&total, tariff.minor_digits)?, kwh))
    };
    let [(low, low_kwh), (expected, expected_kwh), (high, high_kwh)] =
        [total_of(low)?, total_of(mean)?, total_of(high)?];
    let so_far = {
        let inputs = Inputs {
            plan: &known,
            files: &listed.files,
            usage: &usage,
            demand: DemandSource { plan: &known, usage: &usage },
            customer: supply.customer,
            sale: None,
        };
        sum_minor(rate::rate(&inputs, &mut account.clone())?.lines.iter())?
    };
    Ok(Forecast {
        known_days,
        days_ahead,
        known_kwh: usage.kilo(sum),
        kwh: [low_kwh, expected_kwh, high_kwh],
        // Whole-slab tariffs may cost less for more: the bounds of money are those of its three values.
        total: [low.min(expected).min(high), expected, low.max(expected).max(high)],
        so_far,
        read_daily,
    })
}

/// Imported amounts of the known days.
fn daily(supply: &Supply<'_>, known: &Plan<'_>, tracks: &[Track]) -> Result<Vec<i128>, RatingError> {
    let mut days = Vec::new();
    let mut day = known.from;
    while day < known.to {
        let next = day.tomorrow().map_err(|_| RatingError::Case(format!("{day} is the last day of time")))?;
        let plan = Plan::new(known.tariff, day, next, (day, next))?;
        let usage = supply.usage(&plan, tracks)?;
        days.push(usage.import.as_ref().map_or(0, Energy::total));
        day = next;
    }
    Ok(days)
}

fn has_daily_readings(supply: &Supply<'_>, known: &Plan<'_>, tracks: &[Track]) -> bool {
    let inside = |track: &Track| {
        track.points.iter().filter(|point| known.from_s <= point.at_s && point.at_s <= known.to_s).count()
    };
    let energy = tracks.iter().filter(|track| !supply.readings.registers[track.register].quantity.is_maximum());
    let most = energy.map(inside).max().unwrap_or(0);
    i32::try_from(most).is_ok_and(|most| most > days_between(known.from, known.to))
}

/// Energy of the days ahead: lower bound, expected, upper bound.
fn rest(days: &[i128], ahead: i128, read_daily: bool) -> (i128, i128, i128) {
    let known = i128::try_from(days.len()).unwrap_or(1).max(1);
    let sum: i128 = days.iter().fold(0, |sum, day| sum.saturating_add(*day));
    let mean = share_of(sum, ahead, known);
    let spread = if read_daily {
        // Squares of k·x − Σx, so that nothing is divided before the root. Days are counted in units that leave 36 bits.
        let largest = days.iter().map(|day| day.unsigned_abs()).max().and_then(u128::checked_ilog2).unwrap_or(0);
        let unit = largest.saturating_sub(35);
        let small: Vec<i128> = days.iter().map(|day| day >> unit).collect();
        let small_sum: i128 = small.iter().sum();
        let squares: i128 = small.iter().map(|day| (known * day - small_sum).pow(2)).sum();
        // σ² = squares / (k²(k−1)); spread² = σ² · (r + r²/k) = squares · r(k + r) / (k³(k−1)).
        let divisor = (known.pow(3) * (known - 1)).max(1);
        let root = (squares / divisor * (ahead * (known + ahead))).isqrt();
        (root * QUANTILE / 10_000) << unit
    } else {
        mean / 4
    };
    ((mean.saturating_sub(spread)).max(0), mean, mean.saturating_add(spread))
}

/// `amount` × `part` / `whole`, cut down.
fn share_of(amount: i128, part: i128, whole: i128) -> i128 {
    let share = Exact::fraction(part, whole.max(1)).unwrap_or(Exact::ZERO);
    (&Exact::whole(amount) * &share).floor().to_i128().unwrap_or(i128::MAX / 4)
}

/// Known intervals, each enlarged by the share that the rest adds; the sum of what is added is cut down once.
fn stretched(usage: &Usage<'_>, known: i128, rest: i128) -> Usage<'static> {
    let grow = |energy: &Option<Energy<'_>>| {
        energy.as_ref().map(|energy| {
            let mut list = Vec::new();
            let (mut passed, mut added) = (0i128, 0i128);
            energy.each(|start_s, end_s, amount, period| {
                passed = passed.saturating_add(amount);
                let due = share_of(passed, rest, known);
                let amount = amount.saturating_add(due.saturating_sub(added));
                added = due;
                list.push(Interval { start_s, end_s, amount, period: period.map(str::to_owned) });
            });
            Energy::Intervals(list)
        })
    };
    Usage {
        scale: usage.scale,
        import: grow(&usage.import),
        export: grow(&usage.export),
        apparent: grow(&usage.apparent),
        reactive: grow(&usage.reactive),
        demand: usage.demand.clone(),
        netted: OnceCell::new(),
        quality: usage.quality.clone(),
    }
}
