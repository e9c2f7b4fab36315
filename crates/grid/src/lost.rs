//! Lost measurements: the conditional Gaussian of what is missing, given what arrived, by time of day.
//!
//! History gives for every slot of the day a mean and spread per channel; the standardised deviations share one
//! correlation matrix, shrunk towards its diagonal: `C ← (1 - s) C + s diag C`. With the lost part l and the available
//! part a, `ẑ_l = µ_l + S_la S_aa⁻¹ (z_a - µ_a)` and `Σ_l = S_ll - S_la S_aa⁻¹ S_al`. With `P = S⁻¹` computed once,
//! `ẑ_l = µ_l - P_ll⁻¹ P_la (z_a - µ_a)` and `Σ_l = P_ll⁻¹`: one factorisation of the size of the loss. The previous slot's
//! deviation of each lost channel joins by its lag-one correlation (a scalar Kalman update with decaying gain).
//! Recovered values are estimates with intervals; they are never readings.

use crate::error::GridError;

/// A dense symmetric positive definite factor, lower triangle, row-major.
#[derive(Debug, Clone)]
struct Cholesky {
    n: usize,
    lower: Vec<f64>,
}

impl Cholesky {
    fn new(n: usize, matrix: &[f64]) -> Option<Self> {
        let mut lower = matrix.to_vec();
        for j in 0..n {
            for k in 0..j {
                let factor = lower[j * n + k];
                for i in j..n {
                    lower[i * n + j] -= lower[i * n + k] * factor;
                }
            }
            let pivot = lower[j * n + j];
            if pivot.is_nan() || pivot <= 0.0 {
                return None;
            }
            let root = pivot.sqrt();
            for i in j..n {
                lower[i * n + j] /= root;
            }
        }
        Some(Self { n, lower })
    }

    fn solve(&self, x: &mut [f64]) {
        let n = self.n;
        for i in 0..n {
            for k in 0..i {
                x[i] -= self.lower[i * n + k] * x[k];
            }
            x[i] /= self.lower[i * n + i];
        }
        for i in (0..n).rev() {
            for k in i + 1..n {
                x[i] -= self.lower[k * n + i] * x[k];
            }
            x[i] /= self.lower[i * n + i];
        }
    }

    fn inverse(&self) -> Vec<f64> {
        let n = self.n;
        let mut out = vec![0.0; n * n];
        let mut column = vec![0.0; n];
        for j in 0..n {
            column.fill(0.0);
            column[j] = 1.0;
            self.solve(&mut column);
            for i in 0..n {
                out[i * n + j] = column[i];
            }
        }
        out
    }
}

/// What history says about a set of channels.
#[derive(Debug, Clone)]
pub struct History {
    channels: usize,
    slots_per_day: usize,
    /// slot-major
    mean: Vec<f64>,
    spread: Vec<f64>,
    /// inverse of the shrunk correlation matrix
    precision: Vec<f64>,
    /// correlation of a channel's deviation with its deviation one slot earlier
    lag_one: Vec<f64>,
}

/// Recovered values of the lost channels of one slot.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The lost channels, in the order of `values` and `covariance`.
    pub channels: Vec<usize>,
    pub values: Vec<f64>,
    /// Full covariance of the errors, row-major.
    pub covariance: Vec<f64>,
}

impl Recovered {
    /// Standard deviation of each recovered value.
    pub fn sigmas(&self) -> Vec<f64> {
        let n = self.channels.len();
        (0..n).map(|i| self.covariance[i * n + i].max(0.0).sqrt()).collect()
    }

    /// Sum of all recovered values and its standard deviation.
    pub fn total(&self) -> (f64, f64) {
        (self.values.iter().sum(), self.covariance.iter().sum::<f64>().max(0.0).sqrt())
    }
}

impl History {
    /// Learns from complete days: `values` row-major, one row per slot, `channels` columns, first row at the start of a day.
    /// `shrinkage` in 0–1, about 0.05.
    ///
    /// # Errors
    /// Fewer than two days, a value that is not finite, or a shrinkage outside its range.
    pub fn learn(values: &[f64], channels: usize, slots_per_day: usize, shrinkage: f64) -> Result<Self, GridError> {
        let width = channels * slots_per_day;
        if width == 0 || values.len() < 2 * width || !values.len().is_multiple_of(width) {
            return Err(GridError::Length {
                what: "the history (whole days, two at least)",
                found: values.len(),
                expected: 2 * width,
            });
        }
        if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
            let place = format!("channel {}, row {}", bad % channels, bad / channels);
            return Err(GridError::element(place, "the history holds a value that is not a finite number"));
        }
        if !(0.0..=1.0).contains(&shrinkage) {
            return Err(GridError::element("shrinkage", format!("{shrinkage} is not between 0 and 1")));
        }
        let (mean, spread) = daily_shape(values, channels, slots_per_day);
        let rows = values.len() / channels;
        let mut deviation = vec![0.0; values.len()];
        for (at, d) in deviation.iter_mut().enumerate() {
            let shape = at % width;
            *d = (values[at] - mean[shape]) / spread[shape];
        }
        let mut correlation = vec![0.0; channels * channels];
        let mut lag_one = vec![0.0; channels];
        for row in 0..rows {
            let d = &deviation[row * channels..(row + 1) * channels];
            for i in 0..channels {
                for j in 0..=i {
                    correlation[i * channels + j] += d[i] * d[j];
                }
            }
            if row > 0 {
                for (i, lag) in lag_one.iter_mut().enumerate() {
                    *lag += d[i] * deviation[(row - 1) * channels + i];
                }
            }
        }
        for i in 0..channels {
            let own = correlation[i * channels + i].max(f64::MIN_POSITIVE);
            lag_one[i] = (lag_one[i] / own).clamp(-0.99, 0.99);
            for j in 0..=i {
                let scaled = correlation[i * channels + j] / rows as f64;
                let shrunk = if i == j { scaled.max(1e-9) } else { (1.0 - shrinkage) * scaled };
                correlation[i * channels + j] = shrunk;
                correlation[j * channels + i] = shrunk;
            }
        }
        let factor = Cholesky::new(channels, &correlation).ok_or_else(|| {
            GridError::element("history", "its channels are linearly dependent: use more days or a larger shrinkage")
        })?;
        Ok(Self { channels, slots_per_day, mean, spread, precision: factor.inverse(), lag_one })
    }

    /// Mean and standard deviation of a channel at a slot of the day.
    pub fn usual(&self, channel: usize, slot_of_day: usize) -> (f64, f64) {
        let at = (slot_of_day % self.slots_per_day) * self.channels + channel;
        (self.mean[at], self.spread[at])
    }

    /// Estimates the channels that are `None` in `now`. `previous` holds the slot before, where known.
    ///
    /// # Errors
    /// Slices of the wrong length, a value that is not finite.
    pub fn recover(
        &self,
        slot_of_day: usize,
        now: &[Option<f64>],
        previous: Option<&[Option<f64>]>,
    ) -> Result<Recovered, GridError> {
        let n = self.channels;
        for values in [Some(now), previous].into_iter().flatten() {
            if values.len() != n {
                return Err(GridError::Length { what: "the values of a slot", found: values.len(), expected: n });
            }
            if let Some(bad) = values.iter().position(|v| v.is_some_and(|v| !v.is_finite())) {
                return Err(GridError::element(format!("channel {bad}"), "its value is not a finite number"));
            }
        }
        let lost: Vec<usize> = (0..n).filter(|&i| now[i].is_none()).collect();
        let m = lost.len();
        let deviation = |i: usize, value: f64, slot: usize| {
            let (mean, spread) = self.usual(i, slot);
            (value - mean) / spread
        };
        // information form: P_ll x = -P_la d_a
        let mut information = vec![0.0; m * m];
        let mut x = vec![0.0; m];
        for (r, &i) in lost.iter().enumerate() {
            for (c, &j) in lost.iter().enumerate() {
                information[r * m + c] = self.precision[i * n + j];
            }
            for (j, value) in now.iter().enumerate() {
                if let Some(value) = value {
                    x[r] -= self.precision[i * n + j] * deviation(j, *value, slot_of_day);
                }
            }
            let before = previous.and_then(|p| p[i]);
            if let Some(before) = before {
                self.add_previous(
                    &mut information,
                    &mut x,
                    m,
                    r,
                    i,
                    deviation(i, before, slot_of_day + self.slots_per_day - 1),
                );
            }
        }
        let factor = Cholesky::new(m, &information)
            .ok_or_else(|| GridError::element("history", "its precision matrix is not positive definite"))?;
        factor.solve(&mut x);
        let mut covariance = factor.inverse();
        let spread: Vec<f64> = lost.iter().map(|&i| self.usual(i, slot_of_day).1).collect();
        for r in 0..m {
            for c in 0..m {
                covariance[r * m + c] *= spread[r] * spread[c];
            }
        }
        let values = lost.iter().zip(&x).map(|(&i, d)| {
            let (mean, spread) = self.usual(i, slot_of_day);
            mean + spread * d
        });
        Ok(Recovered { values: values.collect(), covariance, channels: lost })
    }

    /// Adds `d(t) = ρ d(t-1) + noise` as a further observation of a lost channel. What the previous value says beyond the
    /// prior of variance 1 is the information ρ²/(1-ρ²) about d.
    fn add_previous(&self, information: &mut [f64], x: &mut [f64], m: usize, r: usize, channel: usize, before: f64) {
        let rho = self.lag_one[channel];
        let weight = rho * rho / (1.0 - rho * rho);
        information[r * m + r] += weight;
        if rho.abs() > 1e-6 {
            x[r] += weight * before / rho;
        }
    }
}

/// Mean and standard deviation by slot of the day; the spread is floored at a tenth of the channel's overall spread.
fn daily_shape(values: &[f64], channels: usize, slots_per_day: usize) -> (Vec<f64>, Vec<f64>) {
    let width = channels * slots_per_day;
    let days = (values.len() / width) as f64;
    let mut mean = vec![0.0; width];
    let mut square = vec![0.0; width];
    for (at, v) in values.iter().enumerate() {
        mean[at % width] += v / days;
    }
    for (at, v) in values.iter().enumerate() {
        square[at % width] += (v - mean[at % width]).powi(2) / (days - 1.0);
    }
    let mut floor = vec![0.0; channels];
    for (at, s) in square.iter().enumerate() {
        floor[at % channels] += s / slots_per_day as f64;
    }
    let spread =
        square.iter().enumerate().map(|(at, s)| s.max(0.01 * floor[at % channels]).sqrt().max(1e-12)).collect();
    (mean, spread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Draw;

    /// Channels that share a weather-like factor, so that the arrived ones tell about the lost ones.
    fn days(count: usize, draw: &mut Draw) -> Vec<f64> {
        let mut out = Vec::new();
        for slot in 0..count * 24 {
            let common = draw.normal();
            for channel in 0..6 {
                let shape = 2.0 + (slot % 24) as f64 / 24.0 + channel as f64;
                out.push(shape + 0.8 * common + 0.3 * draw.normal());
            }
        }
        out
    }

    #[test]
    fn recovery_beats_the_mean_and_its_intervals_hold() {
        let mut draw = Draw::new(11);
        let history = History::learn(&days(60, &mut draw), 6, 24, 0.05).expect("clean history");
        let test = days(60, &mut draw);
        let (mut inside, mut total, mut squared, mut squared_mean) = (0, 0, 0.0, 0.0);
        for (row, truth) in test.chunks_exact(6).enumerate() {
            let now: Vec<Option<f64>> = truth.iter().enumerate().map(|(i, v)| (i > 1).then_some(*v)).collect();
            let recovered = history.recover(row % 24, &now, None).expect("finite input");
            for ((&i, value), sigma) in recovered.channels.iter().zip(&recovered.values).zip(recovered.sigmas()) {
                let error = value - truth[i];
                squared += error * error;
                squared_mean += (history.usual(i, row % 24).0 - truth[i]).powi(2);
                inside += usize::from(error.abs() < 1.645 * sigma);
                total += 1;
            }
        }
        assert!(squared < 0.35 * squared_mean, "{squared} against {squared_mean}");
        let coverage = f64::from(inside as u32) / f64::from(total as u32);
        assert!((0.86..0.94).contains(&coverage), "{coverage}");
    }

    #[test]
    fn nothing_lost_is_nothing_recovered() {
        let mut draw = Draw::new(3);
        let history = History::learn(&days(10, &mut draw), 6, 24, 0.05).expect("clean history");
        assert!(history.recover(0, &[Some(1.0); 6], None).expect("finite input").values.is_empty());
        assert!(history.recover(0, &[Some(f64::NAN); 6], None).is_err());
    }
}
