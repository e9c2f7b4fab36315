//! Generalised least squares with nuisance columns of known prior: how well does one more column explain the residual?
//!
//! r ~ N(0, D + XΛX'). As in the localisation, Woodbury makes a column cost O(slots × nuisance). The noise after a column is
//! taken may still be more than the meters explain (a theft beside the fault) and last over several slots; z is taken down
//! by √(mean square × correlation time), never up.

use super::series::Prepared;
use crate::localise::regression::{backward, cholesky, dot, forward};

/// Columns of a free daily profile.
const HOURS_OF_DAY: usize = 24;

/// What a column's fit says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fit {
    pub(super) coefficient: f64,
    /// Standard error with the noise that is left.
    pub(super) error: f64,
    /// Coefficient / error.
    pub(super) z: f64,
    /// z with the noise of the meters alone: ranks columns of one subject.
    pub(super) raw_z: f64,
}

pub(super) struct Engine {
    weights: Vec<f64>,
    nuisance: Vec<Vec<f64>>,
    factor: Vec<f64>,
    per_day: usize,
}

pub(super) struct Scaled {
    values: Vec<f64>,
    reduced: Vec<f64>,
}

impl Engine {
    /// With `profile` any shape over the hours of the day is left to chance: only what departs from it counts.
    pub(super) fn new(data: &Prepared, profile: bool) -> Self {
        let weights: Vec<f64> = data.variance.iter().map(|v| 1.0 / v.max(1e-6).sqrt()).collect();
        let slots = weights.len();
        let scaled = |values: &dyn Fn(usize) -> f64, sd: f64| -> Vec<f64> {
            (0..slots).map(|t| values(t) * weights[t] * sd).collect()
        };
        let mut nuisance: Vec<Vec<f64>> = data
            .members
            .iter()
            .map(|m| {
                scaled(
                    &|t| m.net_wh[t],
                    m.series.class.accuracy().gain.hypot(if m.series.ct_ratio == 1.0 { 0.0 } else { 0.0025 }),
                )
            })
            .collect();
        nuisance.push(scaled(&|t| data.supplied_wh[t], data.series.observer.class.accuracy().gain.max(0.0025)));
        let prior = data.series.prior;
        nuisance.push(scaled(&|_| data.hours, prior.k0_sd_w.max(5.0)));
        let k2 = prior.k2_share_sd.max(0.002) / prior.reference_w.max(1.0);
        nuisance.push(scaled(&|t| data.supplied_wh[t].powi(2) / data.hours, k2));
        if profile {
            let level = (data.residual_wh.iter().map(|r| r * r).sum::<f64>() / slots as f64).sqrt() * 3.0 + 1.0;
            for hour in 0..HOURS_OF_DAY {
                let is = |t: usize| {
                    let middle = data.ends[t].plus(-(data.hours * 1_800.0) as i64);
                    usize::try_from(middle.second_of_day() / 3_600).unwrap_or(0).min(23) == hour
                };
                nuisance.push(scaled(&|t| if is(t) { 1.0 } else { 0.0 }, level));
            }
        }
        let m = nuisance.len();
        let mut factor = vec![0.0; m * m];
        for i in 0..m {
            for j in 0..=i {
                factor[i * m + j] = dot(&nuisance[i], &nuisance[j]) + if i == j { 1.0 } else { 0.0 };
            }
        }
        cholesky(&mut factor, m);
        Self { weights, nuisance, factor, per_day: data.per_day }
    }

    pub(super) fn scale(&self, values: &[f64]) -> Scaled {
        let values: Vec<f64> = values.iter().zip(&self.weights).map(|(v, w)| v * w).collect();
        let mut reduced: Vec<f64> = self.nuisance.iter().map(|x| dot(x, &values)).collect();
        forward(&self.factor, &mut reduced);
        Scaled { values, reduced }
    }

    /// (coefficient, raw z) of a column on a target, with the noise of the meters alone: cheap.
    pub(super) fn quick(&self, column: &Scaled, target: &Scaled) -> (f64, f64) {
        let length = inner(column, column);
        let whole = dot(&column.values, &column.values);
        if length <= 1e-6 * whole || length <= 0.0 {
            return (0.0, 0.0);
        }
        let product = inner(column, target);
        (product / length, product / length.sqrt())
    }

    /// The full answer for a column.
    pub(super) fn fit(&self, column: &Scaled, target: &Scaled) -> Fit {
        let (coefficient, raw_z) = self.quick(column, target);
        if raw_z == 0.0 {
            return Fit { coefficient: 0.0, error: f64::INFINITY, z: 0.0, raw_z };
        }
        let rest = Scaled {
            values: target.values.iter().zip(&column.values).map(|(t, c)| t - coefficient * c).collect(),
            reduced: target.reduced.iter().zip(&column.reduced).map(|(t, c)| t - coefficient * c).collect(),
        };
        let inflation = self.inflation(&rest);
        let z = raw_z / inflation;
        Fit { coefficient, error: (coefficient / z).abs(), z, raw_z }
    }

    /// √(mean square × correlation time) of what nuisance leaves, at least 1.
    fn inflation(&self, rest: &Scaled) -> f64 {
        let mut theta = rest.reduced.clone();
        backward(&self.factor, &mut theta);
        let mut left = rest.values.clone();
        for (column, t) in self.nuisance.iter().zip(&theta) {
            left.iter_mut().zip(column).for_each(|(l, x)| *l -= t * x);
        }
        let n = left.len();
        let square = dot(&left, &left) / n as f64;
        let mut time = 1.0;
        for lag in 1..(self.per_day / 3).min(n) {
            let correlation = dot(&left[lag..], &left[..n - lag]) / (n as f64 * square).max(1e-12);
            if correlation < 0.05 {
                break;
            }
            time += 2.0 * correlation;
        }
        (square * time).sqrt().max(1.0)
    }
}

fn inner(a: &Scaled, b: &Scaled) -> f64 {
    dot(&a.values, &b.values) - dot(&a.reduced, &b.reduced)
}
