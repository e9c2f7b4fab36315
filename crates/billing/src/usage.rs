//! What was used in a stretch of time: intervals of energy and demand registers, with their quality.
//!
//! Consumption is the difference of consecutive readings of one meter, plus the modulus after a roll-over, times its multiplier; several
//! meters add up. A boundary without a reading lies on the straight line between its neighbours, cut down to whole units of the register.
//! Amounts are integers: Wh times `scale`, where `scale` clears the denominators of all multipliers.

use std::cell::OnceCell;

use crate::{
    calendar::write_instant,
    error::RatingError,
    exact::Exact,
    plan::Plan,
    readings::{Flag, Quantity, Readings, Track},
    series::Series,
};

/// Largest amount of an interval, scaled units: a file of them still sums without overflow.
const AMOUNT_MAX: i128 = 1_000_000_000_000_000_000_000_000_000_000;

/// Energy between two instants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Beginning, Unix seconds.
    pub start_s: i64,
    /// End.
    pub end_s: i64,
    /// Scaled units.
    pub amount: i128,
    /// Period of a register that counts only then.
    pub period: Option<String>,
}

/// Energy of one kind in a stretch of time.
#[derive(Clone, Debug)]
pub enum Energy<'a> {
    /// As registers were read.
    Intervals(Vec<Interval>),
    /// Equal steps from the beginning of the stretch, one value each: a packed block. Scale 1.
    Steps {
        /// Beginning, Unix seconds.
        start_s: i64,
        /// Length of a step, seconds; above zero.
        step_s: i64,
        /// Units of each step.
        values: &'a [u32],
    },
}

impl Energy<'_> {
    /// Sum, scaled units.
    pub fn total(&self) -> i128 {
        match self {
            Energy::Intervals(list) => list.iter().map(|interval| interval.amount).sum(),
            Energy::Steps { values, .. } => values.iter().map(|value| i128::from(*value)).sum(),
        }
    }

    /// Calls with start, end, amount and period of every interval.
    pub fn each(&self, mut take: impl FnMut(i64, i64, i128, Option<&str>)) {
        match self {
            Energy::Intervals(list) => {
                for interval in list {
                    take(interval.start_s, interval.end_s, interval.amount, interval.period.as_deref());
                }
            }
            Energy::Steps { start_s, step_s, values } => {
                let mut at_s = *start_s;
                for value in *values {
                    take(at_s, at_s + step_s, i128::from(*value), None);
                    at_s += step_s;
                }
            }
        }
    }
}

/// A maximum-demand register read in the stretch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemandReading {
    /// Active or apparent.
    pub quantity: Quantity,
    /// Its only period, if any.
    pub period: Option<String>,
    /// W or VA, multiplied.
    pub value: Exact,
    /// Instant of the reading.
    pub at_s: i64,
}

/// How good the readings are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// A value that counts was estimated by whoever read, or a boundary lies between readings.
    pub estimated: bool,
    /// Instants of boundaries that lie between readings.
    pub interpolated_at_s: Vec<i64>,
    /// Seconds of the stretch that no meter covers.
    pub missing_s: i64,
}

/// What was used.
#[derive(Clone, Debug)]
pub struct Usage<'a> {
    /// Units of amount per Wh.
    pub scale: i128,
    /// From the grid; `None`: there is no such register.
    pub import: Option<Energy<'a>>,
    /// To the grid.
    pub export: Option<Energy<'a>>,
    /// Apparent.
    pub apparent: Option<Energy<'a>>,
    /// Reactive.
    pub reactive: Option<Energy<'a>>,
    /// Maximum-demand registers.
    pub demand: Vec<DemandReading>,
    /// Import and export netted inside windows, once asked for.
    pub netted: OnceCell<(Energy<'static>, Energy<'static>)>,
    /// Quality.
    pub quality: Quality,
}

/// Amounts by name of period, in the order in which the periods were met.
pub type ByPeriod = Vec<(String, i128)>;

impl Usage<'_> {
    /// An amount in kWh (kVAh, kvarh).
    pub fn kilo(&self, amount: i128) -> Exact {
        let denominator = self.scale.checked_mul(1000);
        let direct = denominator.and_then(|denominator| Exact::fraction(amount, denominator));
        direct.unwrap_or_else(|| {
            let whole = &Exact::whole(self.scale) * &Exact::whole(1000);
            Exact::whole(amount).over(&whole).unwrap_or(Exact::ZERO)
        })
    }

    /// The energy of a quantity, if a register counts it.
    pub fn energy(&self, quantity: Quantity) -> Option<&Energy<'_>> {
        match quantity {
            Quantity::Import => self.import.as_ref(),
            Quantity::Export => self.export.as_ref(),
            Quantity::Apparent => self.apparent.as_ref(),
            Quantity::Reactive => self.reactive.as_ref(),
            Quantity::DemandActive | Quantity::DemandApparent => None,
        }
    }
}

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
    let mut sums: Vec<u64> = vec![0; plan.tariff.calendars[calendar].periods.len()];
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
        let sum: u64 = run.iter().map(|value| u64::from(*value)).sum();
        if let Some(period) = period {
            sums[usize::from(period)] += sum;
        }
    }
    let names = plan.tariff.calendars[calendar].periods.iter().map(|period| period.name.clone());
    Ok(names.zip(sums).filter(|(_, sum)| *sum != 0).map(|(name, sum)| (name, i128::from(sum))).collect())
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

/// Makes the usage of [from, to) from registers known at some moment.
pub fn from_tracks<'a>(
    readings: &Readings,
    tracks: &[Track],
    (from_s, to_s): (i64, i64),
) -> Result<Usage<'a>, RatingError> {
    let scale = common_scale(readings)?;
    let mut usage = Usage {
        scale,
        import: None,
        export: None,
        apparent: None,
        reactive: None,
        demand: Vec::new(),
        netted: OnceCell::new(),
        quality: Quality::default(),
    };
    for track in tracks {
        let register = &readings.registers[track.register];
        if register.quantity.is_maximum() {
            demand_readings(readings, track, (from_s, to_s), &mut usage.demand);
            continue;
        }
        let list = intervals(readings, track, (from_s, to_s), scale, &mut usage.quality)?;
        let slot = match register.quantity {
            Quantity::Import => &mut usage.import,
            Quantity::Export => &mut usage.export,
            Quantity::Apparent => &mut usage.apparent,
            _ => &mut usage.reactive,
        };
        match slot {
            Some(Energy::Intervals(all)) => all.extend(list),
            _ => *slot = Some(Energy::Intervals(list)),
        }
    }
    refuse_double_counting(readings, tracks, (from_s, to_s))?;
    cover(&mut usage, (from_s, to_s))?;
    Ok(usage)
}

/// Common denominator of all multipliers.
fn common_scale(readings: &Readings) -> Result<i128, RatingError> {
    let mut scale = Exact::ONE;
    for meter in &readings.meters {
        let rest = &scale * &meter.multiplier;
        if !rest.is_whole() {
            // Decimal multipliers: a power of ten clears any of them.
            let mut power = 1;
            while !(&Exact::power_of_ten(power) * &meter.multiplier).is_whole() {
                power += 1;
            }
            scale = scale.max(Exact::power_of_ten(power));
        }
    }
    let fits = scale.to_i128().filter(|scale| *scale <= 1_000_000_000_000);
    fits.ok_or_else(|| RatingError::Case("a multiplier has more than 12 decimals; write it with fewer".into()))
}

fn intervals(
    readings: &Readings,
    track: &Track,
    (from_s, to_s): (i64, i64),
    scale: i128,
    quality: &mut Quality,
) -> Result<Vec<Interval>, RatingError> {
    let meter = &readings.meters[track.meter];
    let factor = (&meter.multiplier * &Exact::whole(scale)).to_i128().unwrap_or(0);
    let period = readings.registers[track.register].period.as_ref();
    let mut list = Vec::new();
    for pair in track.points.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        if after.at_s <= from_s || before.at_s >= to_s {
            continue;
        }
        let mut used = i128::from(after.value) - i128::from(before.value);
        if used < 0 {
            used += i128::from(meter.rollover_wh.unwrap_or(0));
        }
        if used < 0 || meter.rollover_wh.is_some_and(|modulus| before.value.max(after.value) >= modulus) {
            return Err(RatingError::Readings(format!(
                "row {}: the register of meter \"{}\" falls from {} to {}; if it rolled over, give `rollover_wh` of the meter, \
                 else mend the reading",
                after.row + 2,
                meter.name,
                before.value,
                after.value
            )));
        }
        let length = i128::from(after.at_s) - i128::from(before.at_s);
        let on_line = |at_s: i64| used * (i128::from(at_s) - i128::from(before.at_s)) / length;
        let (start_s, end_s) = (before.at_s.max(from_s), after.at_s.min(to_s));
        for (point, boundary) in [(before, start_s), (after, end_s)] {
            if point.at_s != boundary && used != 0 {
                quality.interpolated_at_s.push(boundary);
            }
            quality.estimated |= point.flag == Flag::Estimated && point.at_s == boundary;
        }
        let amount = (on_line(end_s) - on_line(start_s)).checked_mul(factor).filter(|amount| *amount <= AMOUNT_MAX);
        let amount = amount.ok_or_else(|| {
            RatingError::Readings(format!("row {}: more energy than can be billed; mend the reading", after.row + 2))
        })?;
        list.push(Interval { start_s, end_s, amount, period: period.cloned() });
    }
    Ok(list)
}

fn demand_readings(readings: &Readings, track: &Track, (from_s, to_s): (i64, i64), found: &mut Vec<DemandReading>) {
    let register = &readings.registers[track.register];
    for point in track.points.iter().filter(|point| from_s < point.at_s && point.at_s <= to_s) {
        found.push(DemandReading {
            quantity: register.quantity,
            period: register.period.clone(),
            value: &Exact::whole(i128::from(point.value)) * &readings.meters[track.meter].multiplier,
            at_s: point.at_s,
        });
    }
}

/// A meter's total register and its registers by period count the same energy.
fn refuse_double_counting(
    readings: &Readings,
    tracks: &[Track],
    (from_s, to_s): (i64, i64),
) -> Result<(), RatingError> {
    let counts = |track: &&Track| {
        track.points.windows(2).any(|pair| pair[1].at_s > from_s && pair[0].at_s < to_s)
            && !readings.registers[track.register].quantity.is_maximum()
    };
    for total in tracks.iter().filter(counts).filter(|t| readings.registers[t.register].period.is_none()) {
        let quantity = readings.registers[total.register].quantity;
        let by_period = tracks.iter().filter(counts).any(|track| {
            let register = &readings.registers[track.register];
            track.meter == total.meter && register.quantity == quantity && register.period.is_some()
        });
        if by_period {
            return Err(RatingError::Readings(format!(
                "meter \"{}\" has a total register and registers by period for the same energy, which would count twice; \
                 give one kind",
                readings.meters[total.meter].name
            )));
        }
    }
    Ok(())
}

/// The stretch must begin and end inside of readings; gaps between meters are counted.
fn cover(usage: &mut Usage<'_>, (from_s, to_s): (i64, i64)) -> Result<(), RatingError> {
    let mut spans: Vec<(i64, i64)> = Vec::new();
    for energy in [&usage.import, &usage.apparent, &usage.export, &usage.reactive].into_iter().flatten() {
        energy.each(|start_s, end_s, _, _| spans.push((start_s, end_s)));
        if !spans.is_empty() {
            break;
        }
    }
    spans.sort_unstable();
    let begins = spans.first().map(|span| span.0);
    let ends = spans.iter().map(|span| span.1).max();
    if begins != Some(from_s) {
        let message = format!("no reading at or before {}, the beginning; read or estimate one", write_instant(from_s));
        return Err(RatingError::Readings(message));
    }
    if ends != Some(to_s) {
        let message = format!("no reading at or after {}, the end; read or estimate one", write_instant(to_s));
        return Err(RatingError::Readings(message));
    }
    let mut reached = from_s;
    for (start_s, end_s) in spans {
        usage.quality.missing_s += (start_s - reached).max(0);
        reached = reached.max(end_s);
    }
    let quality = &mut usage.quality;
    quality.interpolated_at_s.sort_unstable();
    quality.interpolated_at_s.dedup();
    quality.estimated |= !quality.interpolated_at_s.is_empty();
    Ok(())
}
