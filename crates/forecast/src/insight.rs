//! What a customer's own readings say, as far as quarter-hours and half-hours can say it. Every statement carries the kWh it rests on;
//! what is likely but not certain says "probably"; appliances that need seconds to be seen are not named.

use crate::calendar::DAY_S;
use crate::frame::Frame;
use crate::quantiles::Band;

/// Days looked at.
const DAYS: usize = 28;
/// Customers a comparison needs, so that nobody can be read out of it.
pub const GROUP_LEAST: usize = 10;
/// Intervals outside the 90 % band that make a day unlike the usual, hours.
const UNLIKE_HOURS: f64 = 2.0;

/// What is always on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BaseLoad {
    /// The 5 % quantile of the nights of four weeks, kW.
    pub kw: f32,
    /// Against the four weeks before, kW; `None` without them.
    pub change_kw: Option<f32>,
    /// In a year, kWh; the cost is this times the price.
    pub year_kwh: f32,
}

/// The base load from a frame of eight weeks; `None` with fewer than ten nights.
pub fn base_load(frame: &Frame) -> Option<BaseLoad> {
    let per_hour = frame.slots as f32 / 24.0;
    let nights = |first: i64, last: i64| {
        let mut values: Vec<f32> = (first..=last)
            .filter_map(|back| frame.day(frame.today - back))
            .flat_map(|day| day[..(6 * frame.slots) / 24].iter().copied())
            .filter(|v| v.is_finite())
            .collect();
        values.sort_unstable_by(f32::total_cmp);
        (values.len() >= 10 * frame.slots / 4).then(|| values[values.len() / 20] * per_hour)
    };
    let kw = nights(1, DAYS as i64)?;
    let change_kw = nights(DAYS as i64 + 1, 2 * DAYS as i64).map(|before| kw - before);
    Some(BaseLoad { kw, change_kw, year_kwh: kw * 8_766.0 })
}

/// Share of the energy of four weeks that falls between two hours of the day; `None` without energy.
pub fn share_between(frame: &Frame, from_hour: usize, to_hour: usize) -> Option<f32> {
    let (from, to) = (from_hour * frame.slots / 24, to_hour * frame.slots / 24);
    let (mut part, mut whole) = (0.0, 0.0);
    for day in (1..=DAYS as i64).filter_map(|back| frame.day(frame.today - back)) {
        for (slot, value) in day.iter().enumerate().filter(|(_, v)| v.is_finite()) {
            whole += value;
            part += if (from..to).contains(&slot) { *value } else { 0.0 };
        }
    }
    (whole > 0.0).then(|| part / whole)
}

/// A day that was not like the usual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnlikeDay {
    /// Hours outside the 90 % band.
    pub hours: f64,
    /// Energy above the band's middle (negative: below), kWh.
    pub kwh: f32,
}

/// Whether a day left its band for two hours or more.
pub fn unlike_usual(bands: &[Band], actual: &[f32], step_s: i64) -> Option<UnlikeDay> {
    let outside = bands.iter().zip(actual).filter(|(b, y)| **y < b.0[0] || **y > b.0[18]).count();
    let hours = outside as f64 * step_s as f64 / 3_600.0;
    let kwh = bands.iter().zip(actual).filter(|(_, y)| y.is_finite()).map(|(b, y)| y - b.mean()).sum();
    (hours >= UNLIKE_HOURS).then_some(UnlikeDay { hours, kwh })
}

/// Energy per degree, with its doubt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    /// kWh a day per °C of heating (or cooling) need.
    pub kwh_per_degree: f64,
    /// 90 % interval.
    pub interval: (f64, f64),
    /// Days it rests on.
    pub days: usize,
}

/// Temperatures from which on one heats or cools, °C of the day's mean.
pub const HEATING_BELOW: f64 = 15.5;
pub const COOLING_ABOVE: f64 = 22.0;

/// Slope of the day's energy over `need` = degrees under [`HEATING_BELOW`] or over [`COOLING_ABOVE`]; least squares. `None` under 20 days
/// or without variation; a slope whose interval holds 0 is no sign of heating.
pub fn slope(days: &[(f64, f64)]) -> Option<Slope> {
    let n = days.len() as f64;
    if days.len() < 20 {
        return None;
    }
    let (mx, my) = (days.iter().map(|d| d.0).sum::<f64>() / n, days.iter().map(|d| d.1).sum::<f64>() / n);
    let sxx: f64 = days.iter().map(|d| (d.0 - mx).powi(2)).sum();
    if sxx < 1e-6 {
        return None;
    }
    let b = days.iter().map(|d| (d.0 - mx) * (d.1 - my)).sum::<f64>() / sxx;
    let rest: f64 = days.iter().map(|d| (d.1 - my - b * (d.0 - mx)).powi(2)).sum();
    // days follow each other and their errors with them: the spread is widened by a half
    let spread = 1.5 * 1.645 * (rest / (n - 2.0) / sxx).sqrt();
    Some(Slope { kwh_per_degree: b, interval: (b - spread, b + spread), days: days.len() })
}

/// Charging of a car, or a storage heater: long rectangles in the night.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NightBlock {
    /// Nights with one, of those looked at.
    pub nights: usize,
    pub of_nights: usize,
    /// Usual power, kW.
    pub kw: f32,
    /// Energy of all blocks, kWh.
    pub kwh: f32,
}

impl NightBlock {
    /// "Probably", and only when it happens often enough to be a habit.
    pub fn words(&self) -> Option<String> {
        (self.nights >= 4).then(|| {
            format!(
                "probably a charging car or a storage heater: {} of {} nights, about {:.1} kW, {:.0} kWh",
                self.nights, self.of_nights, self.kw, self.kwh
            )
        })
    }
}

/// Blocks of an hour and a half or more at 2 to 12 kW above the base between 22 and 7 o'clock, level within a fifth.
pub fn night_blocks(frame: &Frame, base_kw: f32) -> NightBlock {
    let per_hour = frame.slots as f32 / 24.0;
    let (least, from, count) = ((3 * frame.slots) / 48, 22 * frame.slots as i64 / 24, 9 * frame.slots / 24);
    let (mut nights, mut of_nights, mut powers, mut kwh) = (0, 0, Vec::new(), 0.0);
    for back in 1..=DAYS as i64 {
        let night: Vec<f32> =
            (0..count as i64).map(|k| frame.value(frame.today - back - 1, from + k) * per_hour - base_kw).collect();
        if night.iter().any(|v| v.is_nan()) {
            continue;
        }
        of_nights += 1;
        let mut best: &[f32] = &[];
        for start in 0..night.len() {
            let level = |n: usize| {
                night[start..start + n].iter().all(|v| (2.0..12.0).contains(v) && (v / night[start] - 1.0).abs() < 0.2)
            };
            let length = (1..=night.len() - start).take_while(|n| level(*n)).last().unwrap_or(0);
            if length > best.len() {
                best = &night[start..start + length];
            }
        }
        if best.len() >= least.max(2) {
            nights += 1;
            powers.push(best.iter().sum::<f32>() / best.len() as f32);
            kwh += best.iter().sum::<f32>() / per_hour;
        }
    }
    powers.sort_unstable_by(f32::total_cmp);
    NightBlock { nights, of_nights, kw: powers.get(powers.len() / 2).copied().unwrap_or(0.0), kwh }
}

/// Share of a group that uses less than `own`; `None` for a group of fewer than ten others.
pub fn standing(own: f32, others: &[f32]) -> Option<f32> {
    (others.len() >= GROUP_LEAST).then(|| others.iter().filter(|o| **o < own).count() as f32 / others.len() as f32)
}

/// Mean energy of a day over four weeks, kWh; `None` without a whole day.
pub fn day_energy(frame: &Frame) -> Option<f32> {
    let whole: Vec<f32> = (1..=DAYS as i64)
        .filter_map(|back| frame.day(frame.today - back))
        .map(|d| d.iter().sum::<f32>())
        .filter(|v| v.is_finite())
        .collect();
    (!whole.is_empty()).then(|| whole.iter().sum::<f32>() / whole.len() as f32)
}

/// Length of an interval of a frame, seconds.
pub fn step_s(frame: &Frame) -> i64 {
    DAY_S / frame.slots as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Clock;
    use crate::series::{Origin, Series};

    /// 0.1 kW always, 1 kW from 18 to 21, and on every second night 3.5 kW from 1 to 4.
    fn home(charges: bool) -> Frame {
        let rows: Vec<(i64, f32)> = (0..60 * 48)
            .map(|i| {
                let (day, hour) = (i / 48, (i % 48) as f32 / 2.0);
                let mut kw = 0.1 + if (18.0..21.0).contains(&hour) { 1.0 } else { 0.0 };
                kw += if charges && day % 2 == 0 && (1.0..4.0).contains(&hour) { 3.5 } else { 0.0 };
                (1_800 * (i as i64 + 1), kw * 0.5)
            })
            .collect();
        let series = Series::new("a", 1_800, &rows).expect("a good series");
        Frame::of_days(&series.known_at(Origin::at(60 * DAY_S)), Clock::Fixed(0), 57)
    }

    #[test]
    fn what_is_said_is_what_there_is() {
        let base = base_load(&home(false)).expect("enough nights");
        assert!((base.kw - 0.1).abs() < 1e-4 && (base.year_kwh - 876.6).abs() < 0.5);
        assert!(base.change_kw.is_some_and(|c| c.abs() < 1e-4));
        let evening = share_between(&home(false), 17, 21).expect("energy");
        assert!((evening - 3.4 / 5.4).abs() < 1e-3, "{evening}");
        assert!(night_blocks(&home(false), 0.1).words().is_none(), "an evening peak is no car");
        let block = night_blocks(&home(true), 0.1);
        assert!(block.nights == 14 && (block.kw - 3.5).abs() < 0.01, "{block:?}");
        assert!(block.words().is_some_and(|w| w.starts_with("probably")));
    }

    #[test]
    fn a_slope_has_an_interval_and_a_comparison_a_group() {
        let days: Vec<(f64, f64)> =
            (0..60).map(|i| ((i % 12) as f64, 5.0 + 0.8 * (i % 12) as f64 + ((i * 7) % 5) as f64 * 0.3)).collect();
        let found = slope(&days).expect("enough days");
        assert!(found.interval.0 < 0.8 && 0.8 < found.interval.1 && found.interval.0 > 0.5, "{found:?}");
        assert!(slope(&days[..10]).is_none());
        assert!(standing(5.0, &[1.0; 9]).is_none(), "nine are too few to hide in");
        assert_eq!(standing(5.0, &[1.0; 10]), Some(1.0));
    }

    #[test]
    fn a_day_outside_its_band_is_unlike_the_usual() {
        let bands = vec![Band::point(0.0); 48].into_iter().map(|b| Band(b.0.map(|_| 0.5))).collect::<Vec<_>>();
        let mut day = vec![0.5f32; 48];
        assert!(unlike_usual(&bands, &day, 1_800).is_none());
        day[10..14].fill(2.0);
        let found = unlike_usual(&bands, &day, 1_800).expect("two hours");
        assert!((found.kwh - 6.0).abs() < 1e-3 && found.hours == 2.0);
    }
}
