//! Calibration of a series' bands from its own last errors: each level is moved, in units of the band's 50 % width, by what the last
//! 28 days say. The state is small and is stored with the series.
//!
//! A level q of a band with median m and width w is moved by `damping × w × (τ-quantile of (y − q)/w over the last 28 days)`.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::quantiles::{Band, COUNT, LEVELS};

/// Days remembered.
pub const DAYS: usize = 28;
/// Fewest days before anything is moved.
const LEAST_DAYS: usize = 10;
/// Share of the movement that is made: the past errors are a sample.
const DAMPING: f32 = 0.8;

/// One day's bands and what came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Day {
    /// (y − q)/w by level, interval after interval, COUNT values each.
    misses: Vec<f32>,
}

/// The state of one series' calibration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    days: VecDeque<Day>,
    /// Movement by level in units of the width; from the days remembered.
    shifts: Vec<f32>,
}

/// The unit of a band: its 50 % width, but never nothing.
fn unit(band: &Band) -> f32 {
    band.width50().max(1e-3 * band.median().abs()).max(1e-6)
}

impl Calibration {
    /// Takes a day's bands as they were before calibration, and what came (NaN = no reading).
    pub fn learn(&mut self, bands: &[Band], actual: &[f32]) {
        let mut misses = Vec::with_capacity(bands.len() * COUNT);
        for (band, y) in bands.iter().zip(actual).filter(|(_, y)| y.is_finite()) {
            let w = unit(band);
            misses.extend(band.0.iter().map(|q| (y - q) / w));
        }
        self.days.push_back(Day { misses });
        if self.days.len() > DAYS {
            self.days.pop_front();
        }
        self.fit();
    }

    fn fit(&mut self) {
        self.shifts.clear();
        if self.days.len() < LEAST_DAYS {
            return;
        }
        let mut column: Vec<f32> = Vec::new();
        for (level, tau) in LEVELS.iter().enumerate() {
            column.clear();
            column.extend(self.days.iter().flat_map(|d| d.misses.iter().skip(level).step_by(COUNT)));
            if column.is_empty() {
                self.shifts.clear();
                return;
            }
            let at = ((tau * column.len() as f32) as usize).min(column.len() - 1);
            let (_, value, _) = column.select_nth_unstable_by(at, f32::total_cmp);
            self.shifts.push(DAMPING * *value);
        }
    }

    /// The calibrated band.
    pub fn apply(&self, band: &Band) -> Band {
        if self.shifts.len() != COUNT {
            return *band;
        }
        let w = unit(band);
        let mut moved = *band;
        moved.0.iter_mut().zip(&self.shifts).for_each(|(q, shift)| *q += shift * w);
        moved.uncrossed()
    }
}

/// How often the bands of the last days held what came.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hits {
    /// By day: intervals inside the 50 % and the 90 % band, and all of them.
    days: VecDeque<[u32; 3]>,
}

impl Hits {
    /// Takes a day's bands as they were shown, and what came (NaN = no reading).
    pub fn learn(&mut self, bands: &[Band], actual: &[f32]) {
        let mut hits = [0; 3];
        for (band, y) in bands.iter().zip(actual).filter(|(_, y)| y.is_finite()) {
            hits[0] += u32::from(band.0[4] <= *y && *y <= band.0[14]);
            hits[1] += u32::from(band.0[0] <= *y && *y <= band.0[18]);
            hits[2] += 1;
        }
        self.days.push_back(hits);
        if self.days.len() > DAYS {
            self.days.pop_front();
        }
    }

    /// Share of the intervals inside the 50 % and the 90 % band; `None` before the first.
    pub fn coverage(&self) -> Option<(f64, f64)> {
        let sum = self.days.iter().fold([0u32; 3], |a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]]);
        (sum[2] > 0).then(|| (f64::from(sum[0]) / f64::from(sum[2]), f64::from(sum[1]) / f64::from(sum[2])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_band_that_is_too_narrow_becomes_right() {
        let mut state = Calibration::default();
        let narrow = Band(std::array::from_fn(|i| 10.0 + 0.5 * (LEVELS[i] - 0.5)));
        let mut seed = 1u64;
        let mut day = || -> Vec<f32> {
            (0..48)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    9.0 + 2.0 * (seed >> 40) as f32 / 16_777_216.0
                })
                .collect()
        };
        let mut shown = Hits::default();
        for _ in 0..60 {
            let came = day();
            shown.learn(&[state.apply(&narrow); 48], &came);
            state.learn(&[narrow; 48], &came);
        }
        let (half, ninety) = shown.coverage().expect("days were learnt");
        assert!((half - 0.45).abs() < 0.06 && (ninety - 0.78).abs() < 0.08, "damped: {half} {ninety}");
        assert!(state.apply(&narrow).width50() > 3.0 * narrow.width50());
        let text = serde_json::to_string(&state).expect("a state is stored");
        let back: Calibration = serde_json::from_str(&text).expect("and read");
        assert_eq!(back.apply(&narrow), state.apply(&narrow));
    }
}
