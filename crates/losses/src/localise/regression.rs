//! The balance as a regression: y = Σ g_i P_i + γ M + λ losses + noise, with priors on what honest meters may be wrong by, and
//! candidate columns for what thieves would leave.
//!
//! y ~ N(0, C) for an honest feeder, C = D + X Λ X': D per-slot variances, X the nuisance columns, Λ their prior variances.
//! A candidate column d has z = d'C⁻¹y / √(d'C⁻¹d). With columns scaled by D^(-1/2) and Λ^(1/2), Woodbury gives
//! a'C⁻¹b = a'b − u_a'u_b with u_a = L⁻¹X'a and LL' = I + X'X: O(T n) per column after one factorisation.

use crate::localise::feeder::Feeder;
use crate::pattern::canary::Dice;

/// Relative standard deviation of the loss model (impedances, reactive power).
const LOSS_SD: f64 = 0.10;
/// Hours during which a bypass is called nightly.
const NIGHT: (f64, f64) = (22.0, 6.0);

/// What a candidate column stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A meter that counts a fixed share too little.
    Share,
    /// A bypass at night.
    Night,
    /// A constant power past all meters.
    Constant,
}

/// A column, scaled, with its products.
#[derive(Clone)]
struct Scaled {
    values: Vec<f64>,
    reduced: Vec<f64>,
}

/// A candidate and how well it explains what is missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Index of the usage point; None for the constant.
    pub point: Option<usize>,
    /// Shape.
    pub shape: Shape,
    /// Signed z, given the columns taken before.
    pub z: f64,
    /// Coefficient of the column.
    pub coefficient: f64,
}

/// The whitened regression of one feeder.
pub struct Regression {
    /// 1 / standard deviation of each slot.
    pub weights: Vec<f64>,
    nuisance: Vec<Vec<f64>>,
    /// Lower Cholesky factor of I + X'X, row by row.
    factor: Vec<f64>,
    target: Scaled,
    columns: Vec<(Option<usize>, Shape, Scaled)>,
    /// Orthonormal columns taken so far.
    taken: Vec<Scaled>,
}

impl Regression {
    /// Sets the regression up; `extra_variance` (Wh²) is added to each slot, for instance that of a varying tap.
    pub fn new(feeder: &Feeder, extra_variance: f64) -> Self {
        let weights: Vec<f64> = feeder.variance.iter().map(|v| 1.0 / (v + extra_variance).sqrt()).collect();
        let scaled =
            |values: &[f64], sd: f64| -> Vec<f64> { values.iter().zip(&weights).map(|(v, w)| v * w * sd).collect() };
        let mut nuisance: Vec<Vec<f64>> = feeder.net_wh.iter().map(|p| scaled(p, feeder.class.gain_sd)).collect();
        nuisance.push(scaled(&feeder.delivered_wh, feeder.observer_class.gain_sd));
        nuisance.push(scaled(&feeder.losses_wh, LOSS_SD));
        let m = nuisance.len();
        let mut gram = vec![0.0; m * m];
        for i in 0..m {
            for j in 0..=i {
                gram[i * m + j] = dot(&nuisance[i], &nuisance[j]) + if i == j { 1.0 } else { 0.0 };
            }
        }
        cholesky(&mut gram, m);
        let empty = Scaled { values: Vec::new(), reduced: Vec::new() };
        let mut regression =
            Self { weights, nuisance, factor: gram, target: empty, columns: Vec::new(), taken: Vec::new() };
        regression.target = regression.scale(&feeder.residual_wh);
        for point in (0..feeder.points()).filter(|p| !feeder.generator[*p]) {
            for shape in [Shape::Share, Shape::Night] {
                let column = regression.scale(&column(feeder, Some(point), shape));
                regression.columns.push((Some(point), shape, column));
            }
        }
        let constant = regression.scale(&column(feeder, None, Shape::Constant));
        regression.columns.push((None, Shape::Constant, constant));
        regression
    }

    fn scale(&self, values: &[f64]) -> Scaled {
        let values: Vec<f64> = values.iter().zip(&self.weights).map(|(v, w)| v * w).collect();
        let mut reduced: Vec<f64> = self.nuisance.iter().map(|x| dot(x, &values)).collect();
        forward(&self.factor, &mut reduced);
        Scaled { values, reduced }
    }

    /// All candidates given what is taken, best z first.
    pub fn ranked(&self) -> Vec<Candidate> {
        let mut found: Vec<Candidate> = self
            .columns
            .iter()
            .map(|(point, shape, column)| {
                let (mut product, mut length) = (inner(column, &self.target), inner(column, column));
                let whole = length;
                for unit in &self.taken {
                    let along = inner(column, unit);
                    product -= along * inner(unit, &self.target);
                    length -= along * along;
                }
                // What lies within the taken columns cannot be told from them.
                if length <= 0.05 * whole || length <= 0.0 {
                    return Candidate { point: *point, shape: *shape, z: 0.0, coefficient: 0.0 };
                }
                Candidate { point: *point, shape: *shape, z: product / length.sqrt(), coefficient: product / length }
            })
            .collect();
        found.sort_by(|a, b| b.z.total_cmp(&a.z));
        found
    }

    /// Takes a candidate's column as explained.
    pub fn take(&mut self, candidate: Candidate) {
        let Some((_, _, column)) = self.columns.iter().find(|(p, s, _)| *p == candidate.point && *s == candidate.shape)
        else {
            return;
        };
        let mut unit = column.clone();
        for earlier in &self.taken {
            let along = inner(&unit, earlier);
            subtract(&mut unit, along, earlier);
        }
        let length = inner(&unit, &unit).sqrt();
        if length > 0.0 {
            unit.values.iter_mut().chain(&mut unit.reduced).for_each(|v| *v /= length);
            self.taken.push(unit);
        }
    }

    /// What nuisance and taken columns leave, in standard deviations of each slot.
    pub fn whitened_residual(&self) -> Vec<f64> {
        let mut rest = self.target.clone();
        for unit in &self.taken {
            let along = inner(&rest, unit);
            subtract(&mut rest, along, unit);
        }
        // BLUP of the nuisance: θ = A⁻¹ X' rest.
        let mut theta = rest.reduced.clone();
        backward(&self.factor, &mut theta);
        for (column, t) in self.nuisance.iter().zip(&theta) {
            for (r, x) in rest.values.iter_mut().zip(column) {
                *r -= t * x;
            }
        }
        rest.values
    }
}

impl Regression {
    /// The largest z of all candidates when days of `residual` (whitened) are drawn anew and the nuisance from its prior.
    pub fn resampled_maximum(&self, residual: &[f64], block: usize, dice: &mut Dice) -> f64 {
        let slots = residual.len();
        let mut values = Vec::with_capacity(slots + block);
        while values.len() < slots {
            // Whole days keep the hour; the sign may as well be the other.
            let day = dice.below((slots / block.max(1)).max(1)) * block;
            let sign = if dice.unit() < 0.5 { 1.0 } else { -1.0 };
            values.extend(residual[day..(day + block.max(1)).min(slots)].iter().map(|r| sign * r));
        }
        values.truncate(slots);
        for column in &self.nuisance {
            let theta = dice.normal();
            values.iter_mut().zip(column).for_each(|(v, x)| *v += theta * x);
        }
        let mut reduced: Vec<f64> = self.nuisance.iter().map(|x| dot(x, &values)).collect();
        forward(&self.factor, &mut reduced);
        let target = Scaled { values, reduced };
        self.columns
            .iter()
            .map(|(_, _, column)| inner(column, &target) / inner(column, column).sqrt().max(1e-12))
            .fold(0.0, f64::max)
    }

    /// The missing energy in Wh by slot with only the nuisance taken away, fitted beside the taken columns.
    pub fn cleaned(&self) -> Vec<f64> {
        let residual = self.whitened_residual();
        let mut taken = vec![0.0; residual.len()];
        for unit in &self.taken {
            let along = inner(&self.target, unit);
            // The unit's own whitened values hold the column; its nuisance part is in `reduced` and already accounted for.
            for (t, v) in taken.iter_mut().zip(&unit.values) {
                *t += along * v;
            }
        }
        residual.iter().zip(&taken).zip(&self.weights).map(|((r, t), w)| (r + t) / w).collect()
    }
}

/// The unscaled column of a candidate in Wh.
pub fn column(feeder: &Feeder, point: Option<usize>, shape: Shape) -> Vec<f64> {
    match (point, shape) {
        (Some(p), Shape::Share) => feeder.drawn_wh[p].clone(),
        (Some(p), Shape::Night) => {
            let at_night = |hour: f64| hour >= NIGHT.0 || hour < NIGHT.1;
            feeder.drawn_wh[p].iter().zip(&feeder.hours).map(|(v, h)| if at_night(*h) { *v } else { 0.0 }).collect()
        }
        _ => vec![feeder.slot_hours; feeder.slots()],
    }
}

fn inner(a: &Scaled, b: &Scaled) -> f64 {
    dot(&a.values, &b.values) - dot(&a.reduced, &b.reduced)
}

fn subtract(from: &mut Scaled, factor: f64, other: &Scaled) {
    for (a, b) in from.values.iter_mut().zip(&other.values) {
        *a -= factor * b;
    }
    for (a, b) in from.reduced.iter_mut().zip(&other.reduced) {
        *a -= factor * b;
    }
}

/// Inner product in four lanes, so that the compiler can use wide instructions.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 4];
    let (a4, a_rest) = a.as_chunks::<4>();
    let (b4, b_rest) = b.as_chunks::<4>();
    for (x, y) in a4.iter().zip(b4) {
        for lane in 0..4 {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    lanes.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum::<f64>()
}

/// In-place Cholesky factor of a positive definite matrix, lower triangle, row by row.
pub fn cholesky(matrix: &mut [f64], size: usize) {
    for i in 0..size {
        for j in 0..=i {
            let sum = dot(&matrix[i * size..i * size + j], &matrix[j * size..j * size + j]);
            let rest = matrix[i * size + j] - sum;
            matrix[i * size + j] = if i == j { rest.max(1e-300).sqrt() } else { rest / matrix[j * size + j] };
        }
    }
}

/// Solves L x = b in place.
pub fn forward(factor: &[f64], x: &mut [f64]) {
    let size = x.len();
    for i in 0..size {
        let sum = dot(&factor[i * size..i * size + i], &x[..i]);
        x[i] = (x[i] - sum) / factor[i * size + i];
    }
}

/// Solves L' x = b in place.
pub fn backward(factor: &[f64], x: &mut [f64]) {
    let size = x.len();
    for i in (0..size).rev() {
        let sum: f64 = (i + 1..size).map(|j| factor[j * size + i] * x[j]).sum();
        x[i] = (x[i] - sum) / factor[i * size + i];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cholesky_solves() {
        let mut a = vec![4.0, 0.0, 2.0, 3.0];
        cholesky(&mut a, 2);
        let mut x = vec![8.0, 7.0];
        forward(&a, &mut x);
        backward(&a, &mut x);
        // [4 2; 2 3] x = [8; 7]
        assert!((x[0] - 1.25).abs() < 1e-12 && (x[1] - 1.5).abs() < 1e-12);
    }
}
