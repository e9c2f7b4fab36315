//! The running bill: what it will be if use goes on as so far, and between what bounds.
//!
//! Working days and free days (weekends and the tariff's holidays) are told apart. Let k days be known and r lie ahead, and σ the standard
//! deviation of the known days' energy about the mean of their kind. The rest is Σ days ahead × mean of their kind; the bounds are
//! rest ± 1.2816 · σ · √(r + r²/k): four of five running bills end inside if days of a kind are alike and independent (σ√r: the days
//! ahead; σr/√k: the mean is itself an estimate). What is known is stretched to the whole in its own shape by kind of day and period, so
//! blocks and hours of use are those of the whole bill; demand is the largest so far. Square roots are of integers, cut down.

use std::cell::OnceCell;

use jiff::civil::{Date, Weekday};

use crate::{
    bill::{Account, rounded_total, sum_minor},
    calendar::local_date,
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
    let ahead = ahead(&whole, today)?;
    let outlook = Outlook::new(&days, ahead, read_daily);
    let sum: i128 = days.iter().fold(0, |sum, day| sum.saturating_add(day.amount));
    let total_of = |rest: i128| -> Result<(i64, Exact), RatingError> {
        let stretched = stretched(&usage, &known, &outlook, rest);
        let inputs = Inputs {
            demand: DemandSource::new(&known, &usage),
            ..Inputs::new(&whole, &listed.files, &stretched, supply.customer)
        };
        let part = rate::rate(&inputs, &mut account.clone())?;
        let total = rounded_total(&listed.tariff, sum_minor(part.lines.iter())?)?;
        Ok((total, rate::energy_of_part(&inputs, &part.netting)?))
    };
    let (low, low_kwh) = total_of(outlook.rest.saturating_sub(outlook.spread).max(0))?;
    let (expected, expected_kwh) = total_of(outlook.rest)?;
    let (high, high_kwh) = total_of(outlook.rest.saturating_add(outlook.spread))?;
    let so_far = {
        let inputs = Inputs::new(&known, &listed.files, &usage, supply.customer);
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

/// A known day.
struct KnownDay {
    /// Whether people work.
    working: bool,
    /// Imported, scaled units.
    amount: i128,
}

fn is_working(plan: &Plan<'_>, day: Date) -> bool {
    let weekend = matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
    !weekend && plan.tariff.holidays.dates.binary_search(&day).is_err()
}

fn next_day(day: Date) -> Result<Date, RatingError> {
    day.tomorrow().map_err(|_| RatingError::Case(format!("{day} is the last day of time")))
}

/// Imported amounts of the known days.
fn daily(supply: &Supply<'_>, known: &Plan<'_>, tracks: &[Track]) -> Result<Vec<KnownDay>, RatingError> {
    let mut days = Vec::new();
    let mut day = known.from;
    while day < known.to {
        let next = next_day(day)?;
        let plan = Plan::new(known.tariff, day, next, (day, next))?;
        let usage = supply.usage(&plan, tracks)?;
        days.push(KnownDay { working: is_working(known, day), amount: usage.import.as_ref().map_or(0, Energy::total) });
        day = next;
    }
    Ok(days)
}

/// Free and working days that lie ahead.
fn ahead(whole: &Plan<'_>, today: Date) -> Result<[i128; 2], RatingError> {
    let mut count = [0, 0];
    let mut day = today;
    while day < whole.to {
        count[usize::from(is_working(whole, day))] += 1;
        day = next_day(day)?;
    }
    Ok(count)
}

fn has_daily_readings(supply: &Supply<'_>, known: &Plan<'_>, tracks: &[Track]) -> bool {
    let inside = |track: &Track| {
        track.points.iter().filter(|point| known.from_s <= point.at_s && point.at_s <= known.to_s).count()
    };
    let energy = tracks.iter().filter(|track| !supply.readings.registers[track.register].quantity.is_maximum());
    let most = energy.map(inside).max().unwrap_or(0);
    i32::try_from(most).is_ok_and(|most| most > days_between(known.from, known.to))
}

/// What is expected of the days ahead. Pairs are of free and of working days.
struct Outlook {
    /// Known energy.
    known: [i128; 2],
    /// Expected energy of the days ahead.
    ahead: [i128; 2],
    /// Their sum.
    rest: i128,
    /// Half of the range.
    spread: i128,
}

impl Outlook {
    fn new(days: &[KnownDay], days_ahead: [i128; 2], read_daily: bool) -> Outlook {
        let (mut known, mut count) = ([0i128; 2], [0i128; 2]);
        for day in days {
            let kind = usize::from(day.working);
            known[kind] = known[kind].saturating_add(day.amount);
            count[kind] += 1;
        }
        let all = known[0].saturating_add(known[1]);
        // A kind of which no day is known yet is taken as the mean of all.
        let of = |kind: usize| match count[kind] {
            0 => share_of(all, days_ahead[kind], count[0] + count[1]),
            days => share_of(known[kind], days_ahead[kind], days),
        };
        let ahead = [of(0), of(1)];
        let rest = ahead[0].saturating_add(ahead[1]);
        let mean = |kind: usize| share_of(known[kind], 1, count[kind]);
        let spread =
            if read_daily { spread(days, [mean(0), mean(1)], days_ahead[0] + days_ahead[1]) } else { rest / 4 };
        Outlook { known, ahead, rest, spread }
    }
}

/// 1.2816 · σ · √(r + r²/k), in integers: deviations keep 36 bits, so that squares and their sum fit.
fn spread(days: &[KnownDay], mean: [i128; 2], ahead: i128) -> i128 {
    let known = i128::try_from(days.len()).unwrap_or(1).max(1);
    let kinds = 1 + i128::from(days.iter().any(|day| day.working) && days.iter().any(|day| !day.working));
    let deviation = |day: &KnownDay| day.amount.saturating_sub(mean[usize::from(day.working)]);
    let largest = days.iter().map(|day| deviation(day).unsigned_abs()).max().and_then(u128::checked_ilog2).unwrap_or(0);
    let unit = largest.saturating_sub(35);
    let squares: i128 = days.iter().map(|day| (deviation(day) >> unit).pow(2)).sum();
    let root = (squares * ahead * (known + ahead) / ((known - kinds).max(1) * known)).isqrt();
    (root * QUANTILE / 10_000) << unit
}

/// `amount` × `part` / `whole`, cut down.
fn share_of(amount: i128, part: i128, whole: i128) -> i128 {
    let share = Exact::fraction(part, whole.max(1)).unwrap_or(Exact::ZERO);
    (&Exact::whole(amount) * &share).floor().to_i128().unwrap_or(i128::MAX / 4)
}

/// Known intervals, each enlarged by what the days ahead of its kind add; of a kind that is not known yet, the other takes it.
fn stretched(usage: &Usage<'_>, known: &Plan<'_>, outlook: &Outlook, rest: i128) -> Usage<'static> {
    let scaled = |kind: usize| share_of(outlook.ahead[kind], rest, outlook.rest);
    let mut add = [scaled(0), scaled(1)];
    for kind in [0, 1] {
        if outlook.known[kind] == 0 {
            add[1 - kind] = add[1 - kind].saturating_add(add[kind]);
            add[kind] = 0;
        }
    }
    let grow = |energy: &Option<Energy<'_>>| {
        energy.as_ref().map(|energy| {
            let mut list = Vec::new();
            let (mut passed, mut added) = ([0i128; 2], [0i128; 2]);
            energy.each(|start_s, end_s, amount, period| {
                let day = local_date(&known.tariff.zone, start_s).unwrap_or(known.from);
                let kind = usize::from(is_working(known, day));
                passed[kind] = passed[kind].saturating_add(amount);
                let due = share_of(passed[kind], add[kind], outlook.known[kind]);
                let amount = amount.saturating_add(due.saturating_sub(added[kind]));
                added[kind] = due;
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
