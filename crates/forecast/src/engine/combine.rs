//! The ensemble of one series, and what it remembers of its own errors.

use crate::engine::{Opinion, State, push};
use crate::quantiles::{Band, weighted};

/// Days of residuals before the ridge has a band.
const RESIDUAL_DAYS_LEAST: usize = 10;

/// Shares of trees, ridge, climatology; of those that are there they are scaled to 1.
const SINGLE: [f32; 3] = [0.6, 0.2, 0.2];
const SUM: [f32; 3] = [0.5, 0.5, 0.0];

/// Bands averaged level by level.
pub(crate) fn ensemble(opinion: &Opinion, state: &State, single: bool) -> Vec<Band> {
    let [trees, ridge, usual] = if single { SINGLE } else { SUM };
    (0..opinion.ends.len())
        .map(|k| {
            let mut sum = Mixture::default();
            if let Some(band) = opinion.trees.get(k) {
                sum.add(&state.calibration.apply(band), trees);
            }
            if let Some(band) = opinion.ridge.get(k).and_then(|m| state.ridge_band(*m, opinion.slots[k], opinion.scale))
            {
                sum.add(&band, ridge);
            }
            if usual > 0.0 || sum.weight == 0.0 {
                sum.add(&opinion.climatology[k], usual.max(1e-3));
            }
            sum.band()
        })
        .collect()
}

#[derive(Default)]
struct Mixture {
    weight: f32,
    sum: Option<Band>,
}

impl Mixture {
    fn add(&mut self, band: &Band, weight: f32) {
        let sum = self.sum.get_or_insert(Band::point(0.0));
        sum.0.iter_mut().zip(band.0).for_each(|(s, q)| *s += weight * q);
        self.weight += weight;
    }

    fn band(self) -> Band {
        let mut band = self.sum.unwrap_or(Band::point(0.0));
        band.0.iter_mut().for_each(|q| *q /= self.weight.max(1e-9));
        band.uncrossed()
    }
}

impl State {
    /// The ridge's expectation with the residuals of the last days around the same slot.
    fn ridge_band(&self, expected: f32, slot: usize, scale: f32) -> Option<Band> {
        if self.residuals.len() < RESIDUAL_DAYS_LEAST {
            return None;
        }
        let mut sample = Vec::with_capacity(3 * self.residuals.len());
        for (age, day) in self.residuals.iter().rev().enumerate() {
            let weight = (-(age as f32) / 21.0).exp();
            let n = day.len();
            for (at, share) in [((slot + n - 1) % n, 0.6), (slot, 1.0), ((slot + 1) % n, 0.6)] {
                if day[at].is_finite() {
                    sample.push((day[at], weight * share));
                }
            }
        }
        let mut band = weighted(&mut sample)?;
        band.0.iter_mut().for_each(|q| *q = expected + *q * scale);
        Some(band)
    }

    /// Settles a day: residuals of the ridge, squared errors of the expectations.
    pub(crate) fn remember(&mut self, opinion: &Opinion, actual: &[f32], step_s: i64) {
        let slots = (crate::calendar::DAY_S / step_s) as usize;
        if !opinion.ridge.is_empty() {
            let mut day = vec![f32::NAN; slots];
            for ((slot, expected), y) in opinion.slots.iter().zip(&opinion.ridge).zip(actual) {
                day[*slot] = (y - expected) / opinion.scale;
            }
            push(&mut self.residuals, day);
        }
        let error = |means: &[f32]| {
            let squares: Vec<f64> = means
                .iter()
                .zip(actual)
                .filter(|(_, y)| y.is_finite())
                .map(|(m, y)| f64::from(y - m).powi(2))
                .collect();
            if squares.is_empty() { f64::NAN } else { squares.iter().sum::<f64>() / squares.len() as f64 }
        };
        push(&mut self.errors, [error(&opinion.means), error(&opinion.sums)]);
    }

    /// Mean squared errors of the last days: own, children's sum. A witness not yet heard counts as poor.
    pub(crate) fn mean_errors(&self) -> [f64; 2] {
        let mean = |at: usize| {
            let seen: Vec<f64> = self.errors.iter().map(|e| e[at]).filter(|e| e.is_finite()).collect();
            if seen.is_empty() { None } else { Some(seen.iter().sum::<f64>() / seen.len() as f64) }
        };
        let own = mean(0).unwrap_or(1.0);
        [own, mean(1).unwrap_or(4.0 * own)]
    }

    /// Mean of the last days' losses by interval; 0 where nothing is known yet.
    pub(crate) fn usual_losses(&self, slots: &[usize]) -> Vec<f32> {
        let mean = |slot: usize| {
            let seen = self.losses.iter().map(|d| d[slot]).filter(|v| v.is_finite());
            let (sum, n) = seen.fold((0.0f32, 0u32), |(s, n), v| (s + v, n + 1));
            if n > 0 { sum / n as f32 } else { 0.0 }
        };
        slots.iter().map(|s| mean(*s)).collect()
    }
}
