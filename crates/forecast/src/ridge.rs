//! One linear model per slot of the day, pooled over the series of a group, fitted by ridge regression in milliseconds.
//!
//! Minimises `Σ w (y − β·z)² + λ Σ w |β|²` over standardised features z of the slot and, at half weight, of its two neighbours; the
//! intercept is free. Solved by Cholesky on the normal equations. At a feeder it is as good as trees.

use crate::trees::Rows;

/// A fitted model.
#[derive(Debug, Clone, PartialEq)]
pub struct Ridge {
    width: usize,
    centre: Vec<f32>,
    spread: Vec<f32>,
    /// By slot: intercept, then one weight per column.
    weights: Vec<Vec<f64>>,
}

/// Standardised values beyond this many deviations are cut: a linear model must not follow an outlier.
const CUT: f32 = 6.0;

impl Ridge {
    /// Fits on rows, their slots and targets. `None` when there are no rows or the equations have no solution.
    pub fn fit(rows: &Rows, slots: &[usize], targets: &[f32], slot_count: usize, lambda: f64) -> Option<Self> {
        let (centre, spread) = standard(rows);
        let width = rows.width + 1;
        let mut model = Self { width: rows.width, centre, spread, weights: Vec::new() };
        let mut sums: Vec<Normal> = (0..slot_count).map(|_| Normal::new(width)).collect();
        let mut z = vec![0.0f64; width];
        for (index, (&slot, &target)) in slots.iter().zip(targets).enumerate() {
            model.standardise(rows.row(index), &mut z);
            sums[slot].add(&z, f64::from(target));
        }
        for slot in 0..slot_count {
            let mut whole = sums[slot].clone();
            whole.add_share(&sums[(slot + slot_count - 1) % slot_count], 0.5);
            whole.add_share(&sums[(slot + 1) % slot_count], 0.5);
            model.weights.push(whole.solve(lambda)?);
        }
        Some(model)
    }

    fn standardise(&self, row: &[f32], z: &mut [f64]) {
        z[0] = 1.0;
        for (at, value) in row.iter().enumerate() {
            let v = (value - self.centre[at]) / self.spread[at];
            z[at + 1] = if v.is_nan() { 0.0 } else { f64::from(v.clamp(-CUT, CUT)) };
        }
    }

    /// The expectation for one row of a slot.
    pub fn predict(&self, row: &[f32], slot: usize) -> f32 {
        let mut z = vec![0.0; self.width + 1];
        self.standardise(row, &mut z);
        self.weights[slot].iter().zip(&z).map(|(w, z)| w * z).sum::<f64>() as f32
    }
}

/// Mean and deviation of each column over its finite values; a constant column gets an infinite deviation and so no say.
fn standard(rows: &Rows) -> (Vec<f32>, Vec<f32>) {
    let mut sums = vec![(0.0f64, 0.0f64, 0.0f64); rows.width];
    for row in rows.values.chunks_exact(rows.width.max(1)) {
        for (sum, v) in sums.iter_mut().zip(row).filter(|(_, v)| v.is_finite()) {
            let v = f64::from(*v);
            *sum = (sum.0 + 1.0, sum.1 + v, sum.2 + v * v);
        }
    }
    sums.iter()
        .map(|&(n, s, ss)| {
            let mean = s / n.max(1.0);
            let deviation = (ss / n.max(1.0) - mean * mean).max(0.0).sqrt();
            (mean as f32, if deviation > 1e-6 { deviation as f32 } else { f32::INFINITY })
        })
        .unzip()
}

/// Sums of the normal equations; the lower triangle row after row.
#[derive(Debug, Clone)]
struct Normal {
    width: usize,
    count: f64,
    gram: Vec<f64>,
    right: Vec<f64>,
}

impl Normal {
    fn new(width: usize) -> Self {
        Self { width, count: 0.0, gram: vec![0.0; width * width], right: vec![0.0; width] }
    }

    fn add(&mut self, z: &[f64], target: f64) {
        self.count += 1.0;
        for (i, row) in self.gram.chunks_exact_mut(self.width).enumerate() {
            let zi = z[i];
            row[..=i].iter_mut().zip(z).for_each(|(g, zj)| *g += zi * zj);
            self.right[i] += zi * target;
        }
    }

    fn add_share(&mut self, other: &Self, share: f64) {
        self.count += share * other.count;
        self.gram.iter_mut().zip(&other.gram).for_each(|(a, b)| *a += share * b);
        self.right.iter_mut().zip(&other.right).for_each(|(a, b)| *a += share * b);
    }

    /// Cholesky in place, then two substitutions.
    fn solve(mut self, lambda: f64) -> Option<Vec<f64>> {
        let n = self.width;
        if self.count < 1.0 {
            return None;
        }
        for i in 1..n {
            self.gram[i * n + i] += lambda * self.count;
        }
        for i in 0..n {
            for j in 0..=i {
                let dot: f64 = (0..j).map(|k| self.gram[i * n + k] * self.gram[j * n + k]).sum();
                let rest = self.gram[i * n + j] - dot;
                if i == j && (rest.is_nan() || rest <= 0.0) {
                    return None;
                }
                self.gram[i * n + j] = if i == j { rest.sqrt() } else { rest / self.gram[j * n + j] };
            }
        }
        let mut x = self.right;
        for i in 0..n {
            let dot: f64 = (0..i).map(|k| self.gram[i * n + k] * x[k]).sum();
            x[i] = (x[i] - dot) / self.gram[i * n + i];
        }
        for i in (0..n).rev() {
            let dot: f64 = (i + 1..n).map(|k| self.gram[k * n + i] * x[k]).sum();
            x[i] = (x[i] - dot) / self.gram[i * n + i];
        }
        Some(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trees::Draws;

    #[test]
    fn a_linear_world_is_found_again() {
        let mut draws = Draws::new(1);
        let mut rows = Rows { values: Vec::new(), width: 3 };
        let (mut slots, mut targets) = (Vec::new(), Vec::new());
        for i in 0..4_000 {
            let x = [draws.unit(), draws.unit() * 5.0, 2.0];
            rows.values.extend(x);
            slots.push(i % 4);
            targets.push(1.0 + 3.0 * x[0] - 0.5 * x[1]);
        }
        let model = Ridge::fit(&rows, &slots, &targets, 4, 1e-6).expect("it solves");
        for (i, target) in targets.iter().enumerate() {
            assert!((model.predict(rows.row(i), slots[i]) - target).abs() < 1e-3);
        }
        assert!(Ridge::fit(&rows, &[], &[], 4, 1e-6).is_none(), "no rows, no model");
    }
}
