//! Theft without curves: an alarm from exact sums, and one number per home that says who it may be.
//!
//! Imbalance of a slot `e_t = supplied − metered − loss`. Its mean over the days is taken off slot by slot of the day, so that what
//! is unmetered every day at the same hour (street lights) has no part in it. What is left is freed of everything that follows the
//! metered sum `m_t` and its square by least squares: an error of the transformer's meter is in proportion to the one, an error of the
//! loss model to the other, and with them the largest homes would stand first. The weight is the sign of the rest. A meter that
//! registers less than its home uses leaves a residual in proportion to its own load, so its score `Σ_t w_t·x_t` stands out. Sign weights
//! are chosen because a home-day then enters a score by at most its clipped energy, which is what the noise of a private score is
//! scaled to. A score is a reason to look, never an accusation.

use crate::{draws::Draws, policy::Policy, query::BalanceSeries};

/// Slots of a day; the shape that is taken off.
const DAY: usize = 96;

/// What the record of an alarm shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Missing energy, Wh a day.
    pub missing_wh_day: i64,
    /// What a case needs, Wh a day.
    pub needed_wh_day: i64,
}

fn residual(series: &BalanceSeries) -> impl Iterator<Item = i64> {
    let both = series.supplied.iter().zip(&series.metered).zip(&series.loss);
    both.map(|((supplied, metered), loss)| supplied.saturating_sub(*metered).saturating_sub(*loss))
}

/// What is missing by the record, and what a case needs: a share of the group's energy or so much a day, whichever is less.
pub fn alarm(series: &BalanceSeries, policy: &Policy) -> Alarm {
    let slots = i64::try_from(series.supplied.len().max(1)).unwrap_or(i64::MAX);
    let per_day = |sum: i64| sum.saturating_mul(i64::from(policy.day_slots)) / slots;
    let supplied = per_day(series.supplied.iter().fold(0, |a, b| i64::saturating_add(a, *b)));
    let share = supplied / 1_000 * i64::from(policy.alarm_permille);
    Alarm {
        missing_wh_day: per_day(residual(series).fold(0, i64::saturating_add)),
        needed_wh_day: share.min(i64::from(policy.alarm_wh_day)),
    }
}

/// A remainder so small beside the imbalance is rounding, not a residual.
const ROUNDING: f64 = 1e-9;

/// Weights of the scores: −1, 0 or 1 per slot. Sums, products and quotients of `f64` in a fixed order: the same on every machine,
/// so that custodians and operator need not tell each other.
pub fn signs(series: &BalanceSeries) -> Vec<i64> {
    let e: Vec<f64> = residual(series).map(|v| v as f64).collect();
    let metered = || series.metered.iter().map(|m| *m as f64);
    let mut rest = without_shape(e);
    let least = ROUNDING * rest.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    let first = without_shape(metered().collect());
    let mut second = without_shape(metered().map(|m| m * m).collect());
    take_off(&mut second, &first);
    take_off(&mut rest, &first);
    take_off(&mut rest, &second);
    let sign = |v: f64| if v.abs() <= least { 0 } else { v.signum() as i64 };
    rest.into_iter().map(sign).collect()
}

/// Values less the mean of their slot of the day.
fn without_shape(mut values: Vec<f64>) -> Vec<f64> {
    for slot in 0..DAY.min(values.len()) {
        let of_slot = || values.iter().skip(slot).step_by(DAY);
        let mean = of_slot().sum::<f64>() / of_slot().count() as f64;
        values.iter_mut().skip(slot).step_by(DAY).for_each(|v| *v -= mean);
    }
    values
}

/// Takes off `values` what follows `shape`, by least squares; nothing when the shape is flat.
fn take_off(values: &mut [f64], shape: &[f64]) {
    let square: f64 = shape.iter().map(|s| s * s).sum();
    let product: f64 = values.iter().zip(shape).map(|(v, s)| v * s).sum();
    if square > 0.0 && (product / square).is_finite() {
        values.iter_mut().zip(shape).for_each(|(v, s)| *v -= product / square * s);
    }
}

/// Places of homes by score, highest first, with how far each stands above the middle in robust standard deviations.
pub fn rank(scores: &[i64]) -> Vec<(usize, f64)> {
    let mut sorted = scores.to_vec();
    sorted.sort_unstable();
    let Some(middle) = sorted.get(sorted.len() / 2).copied() else { return Vec::new() };
    let mut distances: Vec<u64> = scores.iter().map(|s| s.abs_diff(middle)).collect();
    distances.sort_unstable();
    // 1.4826: the median distance of a normal distribution in standard deviations
    let spread = distances[distances.len() / 2].max(1) as f64 * 1.4826;
    let mut ranked: Vec<(usize, f64)> =
        scores.iter().enumerate().map(|(home, s)| (home, s.saturating_sub(middle) as f64 / spread)).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
}

/// How often the highest of so many scores would stand as high by chance, by scores of random signs of the same spread: the share of
/// `rounds` random draws of `homes` values whose highest distance reaches `z`.
pub fn chance(homes: usize, z: f64, rounds: u32, draws: &mut Draws) -> f64 {
    let mut reached = 0_u32;
    for _ in 0..rounds {
        let highest = (0..homes).map(|_| nearly_normal(draws)).fold(f64::MIN, f64::max);
        reached += u32::from(highest >= z);
    }
    f64::from(reached + 1) / f64::from(rounds + 1)
}

/// Sum of twelve uniform numbers less six: mean 0, deviation 1.
fn nearly_normal(draws: &mut Draws) -> f64 {
    (0..12).map(|_| (draws.bits() >> 11) as f64 / (1_u64 << 53) as f64).sum::<f64>() - 6.0
}
