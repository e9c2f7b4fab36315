//! From registers to intervals: differences, roll-overs, multipliers, boundaries between readings, and what no meter covers.

use super::{DemandReading, Energy, Interval, Quality, Usage};
use crate::{
    calendar::write_instant,
    error::RatingError,
    exact::Exact,
    readings::{Flag, Quantity, Readings, Track},
};

/// Largest amount of an interval, scaled units: a file of them still sums without overflow.
const AMOUNT_MAX: i128 = 1_000_000_000_000_000_000_000_000_000_000;

/// Makes the usage of [from, to) from registers known at some moment.
pub fn from_tracks<'a>(
    readings: &Readings,
    tracks: &[Track],
    (from_s, to_s): (i64, i64),
) -> Result<Usage<'a>, RatingError> {
    let scale = common_scale(readings)?;
    let mut usage = Usage::none(scale);
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
