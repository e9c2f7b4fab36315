//! What is usual: weighted quantiles of the past days around the same time of day. It needs no training and works from a week on.
//!
//! Weights: slot ±1 half; exp(−age / 21 days); the same weekday 1.5, another type of day 0.25. Source: measured, `docs/forecast.md`.

use crate::calendar::{Holidays, weekday};
use crate::frame::Frame;
use crate::quantiles::{Band, weighted};

/// Days of history without which nothing is said.
pub const LEAST_DAYS: usize = 7;
/// Days looked back on.
pub const DAYS: usize = 56;
const AGE_DAYS: f32 = 21.0;

/// The band of one slot of `day`, kWh; `None` when no value is known.
pub fn band(frame: &Frame, holidays: &Holidays, day: i64, slot: usize) -> Option<Band> {
    let kind = holidays.day_type(day);
    let mut sample = Vec::with_capacity(3 * DAYS);
    for back in 1..=DAYS as i64 {
        let past = day - back;
        let likeness = if holidays.day_type(past) != kind {
            0.25
        } else if weekday(past) == weekday(day) {
            1.5
        } else {
            1.0
        };
        let weight = likeness * (-(back as f32) / AGE_DAYS).exp();
        for (by, share) in [(-1, 0.5), (0, 1.0), (1, 0.5)] {
            let value = frame.value(past, slot as i64 + by);
            if value.is_finite() {
                sample.push((value, weight * share));
            }
        }
    }
    weighted(&mut sample)
}
