//! A distribution as its quantiles at fixed levels, and what is read from it.

use serde::{Deserialize, Serialize};

/// How many levels a forecast has.
pub const COUNT: usize = 19;

/// The levels 0.05, 0.10 … 0.95.
pub const LEVELS: [f32; COUNT] =
    [0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95];

/// Position of the median.
pub const MEDIAN: usize = 9;

/// Quantiles at [`LEVELS`], rising; kWh of an interval unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Band(pub [f32; COUNT]);

impl Band {
    /// All levels at one value.
    pub const fn point(value: f32) -> Self {
        Self([value; COUNT])
    }

    /// The band whose levels do not cross: sorted (rearrangement never makes the pinball loss larger).
    pub fn uncrossed(mut self) -> Self {
        self.0.sort_unstable_by(f32::total_cmp);
        self
    }

    /// The median.
    pub fn median(&self) -> f32 {
        self.0[MEDIAN]
    }

    /// Width between the quartiles.
    pub fn width50(&self) -> f32 {
        self.0[14] - self.0[4]
    }

    /// Expectation: the mean over the levels, each standing for a twentieth, the two tails by the outermost level and half its
    /// distance to the next but one.
    pub fn mean(&self) -> f32 {
        let q = &self.0;
        let body: f32 = q[1..COUNT - 1].iter().sum::<f32>() + 0.75 * (q[0] + q[COUNT - 1]);
        let low = q[0] - 0.5 * (q[2] - q[0]);
        let high = q[COUNT - 1] + 0.5 * (q[COUNT - 1] - q[COUNT - 3]);
        (body + 0.75 * (low + high)) / 20.0
    }

    /// Every level moved by the same amount.
    pub fn shifted(mut self, by: f32) -> Self {
        self.0.iter_mut().for_each(|q| *q += by);
        self
    }

    /// Probability of a value above `limit`, by linear interpolation between levels; beyond them the tail falls exponentially
    /// with the slope between the outermost two levels.
    pub fn probability_above(&self, limit: f32) -> f32 {
        let q = &self.0;
        if limit >= q[COUNT - 1] {
            let slope = (q[COUNT - 1] - q[COUNT - 3]).max(1e-9);
            return 0.05 * (-(limit - q[COUNT - 1]) * 1.0986 / slope).exp();
        }
        if limit < q[0] {
            let slope = (q[2] - q[0]).max(1e-9);
            return 1.0 - 0.05 * (-(q[0] - limit) * 1.0986 / slope).exp();
        }
        let above = q.partition_point(|v| *v <= limit);
        let (a, b) = (q[above - 1], q[above]);
        let share = if b > a { (limit - a) / (b - a) } else { 0.0 };
        1.0 - (LEVELS[above - 1] + share * (LEVELS[above] - LEVELS[above - 1]))
    }
}

/// Mean pinball loss of a band against what came.
pub fn pinball(band: &Band, actual: f32) -> f64 {
    let sum: f64 = band
        .0
        .iter()
        .zip(LEVELS)
        .map(|(q, level)| {
            let d = f64::from(actual - q);
            (f64::from(level) * d).max((f64::from(level) - 1.0) * d)
        })
        .sum();
    sum / COUNT as f64
}

/// Weighted quantiles of a sample `(value, weight)`, which is sorted on the way; `None` when the weights sum to nothing.
/// Between two values it interpolates at the middles of their weights.
pub fn weighted(sample: &mut [(f32, f32)]) -> Option<Band> {
    sample.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let total: f32 = sample.iter().map(|s| s.1).sum();
    if total.is_nan() || total <= 0.0 {
        return None;
    }
    let mut band = Band::point(0.0);
    let (mut at, mut before) = (0, 0.0);
    for (q, level) in band.0.iter_mut().zip(LEVELS) {
        let goal = level * total;
        while at + 1 < sample.len() && before + 0.5 * sample[at].1 < goal {
            before += sample[at].1;
            at += 1;
        }
        let middle = before + 0.5 * sample[at].1;
        *q = if at == 0 || goal >= middle {
            sample[at].0
        } else {
            let last = middle - 0.5 * (sample[at].1 + sample[at - 1].1);
            let share = ((goal - last) / (middle - last).max(1e-12)).clamp(0.0, 1.0);
            sample[at - 1].0 + share * (sample[at].0 - sample[at - 1].0)
        };
    }
    Some(band)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_sample_gives_its_own_levels() {
        let mut sample: Vec<(f32, f32)> = (0..1_000).map(|i| (i as f32 / 1_000.0, 1.0)).collect();
        let band = weighted(&mut sample).expect("weights");
        for (q, level) in band.0.iter().zip(LEVELS) {
            assert!((q - level).abs() < 2e-3, "{q} {level}");
        }
        assert!((band.mean() - 0.5).abs() < 1e-3);
        assert!((band.probability_above(0.8) - 0.2).abs() < 1e-2);
        assert!(weighted(&mut []).is_none());
    }

    #[test]
    fn the_mean_of_a_skewed_sample_is_nearly_its_mean() {
        let mut sample: Vec<(f32, f32)> =
            (0..20_000).map(|i| (-(1.0 - (i as f32 + 0.5) / 20_000.0).ln(), 1.0)).collect();
        let band = weighted(&mut sample).expect("weights");
        assert!((band.mean() - 1.0).abs() < 0.05, "{}", band.mean());
        assert!((band.probability_above(4.0) - (-4.0f32).exp()).abs() < 0.01);
    }
}
