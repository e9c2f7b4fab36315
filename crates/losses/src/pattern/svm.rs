//! A support vector machine with a Gaussian kernel, trained by sequential minimal optimisation, on clipped and
//! standardised features. A missing feature counts as its average. It sees smooth similarity where trees see thresholds, which is why
//! the blend has it.

use pulp::{Arch, Simd, WithSimd};
use serde::{Deserialize, Serialize};

use crate::pattern::statistics::{deviation, quantile_sorted, sorted_known};
use crate::pattern::trees::Rows;

/// Penalty of a violated margin.
const PENALTY: f64 = 2.0;
/// Kernel exponent times the number of features.
const SHARPNESS: f64 = 0.25;
/// Violation of optimality at which training stops.
const TOLERANCE: f64 = 0.02;
/// Most steps per training row; bounds training.
const MOST_STEPS_PER_ROW: usize = 30;
/// Standardised features are clipped here.
const CLIP: f64 = 4.0;

/// Brings features to comparable scale: robust limits, then mean 0 and deviation 1.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scaler {
    low: Vec<f64>,
    high: Vec<f64>,
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Scaler {
    /// Learns the limits (1st and 99th percentile), means and deviations.
    pub fn fit(rows: &Rows) -> Self {
        let count = rows.count();
        let mut scaler = Self { low: Vec::new(), high: Vec::new(), mean: Vec::new(), deviation: Vec::new() };
        for column in 0..rows.columns {
            let values: Vec<f64> = (0..count).map(|r| rows.values[r * rows.columns + column]).collect();
            let sorted = sorted_known(&values);
            let known = |v: f64| if v.is_finite() { v } else { 0.0 };
            let (low, high) = (known(quantile_sorted(&sorted, 0.01)), known(quantile_sorted(&sorted, 0.99)));
            let clipped: Vec<f64> = sorted.iter().map(|v| v.clamp(low, high)).collect();
            scaler.low.push(low);
            scaler.high.push(high);
            scaler.mean.push(known(crate::pattern::statistics::mean(&clipped)));
            scaler.deviation.push(known(deviation(&clipped)).max(1e-9));
        }
        scaler
    }

    /// One row, scaled; missing becomes 0.
    pub fn apply(&self, row: &[f64], out: &mut Vec<f32>) {
        for (column, &v) in row.iter().enumerate() {
            let scaled = if v.is_nan() {
                0.0
            } else {
                (v.clamp(self.low[column], self.high[column]) - self.mean[column]) / self.deviation[column]
            };
            out.push(scaled.clamp(-CLIP, CLIP) as f32);
        }
    }
}

/// A trained machine: support vectors with their coefficients.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Svm {
    scaler: Scaler,
    columns: usize,
    gamma: f32,
    vectors: Vec<f32>,
    coefficients: Vec<f32>,
    bias: f64,
}

impl Svm {
    /// Trains on yes/no labels. Deterministic: no randomness is used.
    pub fn fit(rows: &Rows, labels: &[bool]) -> Self {
        let scaler = Scaler::fit(rows);
        let n = rows.count();
        let columns = rows.columns;
        let mut scaled = Vec::with_capacity(n * columns);
        for r in 0..n {
            scaler.apply(rows.row(r), &mut scaled);
        }
        let gamma = (SHARPNESS / columns as f64) as f32;
        let y: Vec<f64> = labels.iter().map(|l| if *l { 1.0 } else { -1.0 }).collect();
        let (alpha, bias) = optimise(&scaled, columns, gamma, &y);
        let mut machine = Self { scaler, columns, gamma, vectors: Vec::new(), coefficients: Vec::new(), bias };
        for (r, a) in alpha.iter().enumerate().filter(|(_, a)| **a > 1e-9) {
            machine.vectors.extend(&scaled[r * columns..(r + 1) * columns]);
            machine.coefficients.push((a * y[r]) as f32);
        }
        machine
    }

    /// Signed distances from the margin's middle; higher is more suspicious.
    pub fn predict(&self, rows: &Rows) -> Vec<f64> {
        let (mut scaled, mut distances) = (Vec::with_capacity(self.columns), vec![0.0; self.coefficients.len()]);
        (0..rows.count())
            .map(|r| {
                scaled.clear();
                self.scaler.apply(rows.row(r), &mut scaled);
                Arch::new().dispatch(Distances { vectors: &self.vectors, point: &scaled, squared: &mut distances });
                let terms = distances.iter().zip(&self.coefficients);
                let sum: f64 = terms.map(|(d, c)| f64::from(*c) * f64::from((-self.gamma * d).exp())).sum();
                sum + self.bias
            })
            .collect()
    }
}

/// The squared distance of each of `vectors` (one after the other) from `point`.
struct Distances<'a> {
    vectors: &'a [f32],
    point: &'a [f32],
    squared: &'a mut [f32],
}

impl WithSimd for Distances<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        for (vector, squared) in self.vectors.chunks_exact(self.point.len()).zip(self.squared) {
            *squared = squared_distance(vector, self.point);
        }
    }
}

/// Lanes and rest are added in an order that does not depend on the processor.
#[inline(always)]
fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    for (x, y) in a8.iter().zip(b8) {
        for lane in 0..8 {
            let d = x[lane] - y[lane];
            lanes[lane] += d * d;
        }
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(x, y)| (x - y) * (x - y)).sum::<f32>()
}

/// Sequential minimal optimisation with second-order choice of the pair (Fan, Chen, Lin 2005). Returns (alpha, bias).
fn optimise(scaled: &[f32], columns: usize, gamma: f32, y: &[f64]) -> (Vec<f64>, f64) {
    let n = y.len();
    let kernel_row = |i: usize| -> Vec<f32> {
        let mut squared = vec![0.0; n];
        let point = &scaled[i * columns..(i + 1) * columns];
        Arch::new().dispatch(Distances { vectors: scaled, point, squared: &mut squared });
        squared.into_iter().map(|d| (-gamma * d).exp()).collect()
    };
    // Rows of the kernel matrix are computed when first needed and kept: at most n² single floats.
    let mut kernel: Vec<Vec<f32>> = vec![Vec::new(); n];
    let mut alpha = vec![0.0f64; n];
    // Gradient of the dual: G = Qα − 1.
    let mut gradient = vec![-1.0f64; n];
    let mut bounds = (0.0, 0.0);
    for _ in 0..MOST_STEPS_PER_ROW * n {
        let mut first = None;
        let mut highest = f64::NEG_INFINITY;
        for t in 0..n {
            let may_rise = if y[t] > 0.0 { alpha[t] < PENALTY } else { alpha[t] > 0.0 };
            if may_rise && -y[t] * gradient[t] > highest {
                highest = -y[t] * gradient[t];
                first = Some(t);
            }
        }
        let Some(i) = first else { break };
        if kernel[i].is_empty() {
            kernel[i] = kernel_row(i);
        }
        let mut second = None;
        let (mut lowest, mut best_gain) = (f64::INFINITY, 0.0);
        for t in 0..n {
            let may_fall = if y[t] > 0.0 { alpha[t] > 0.0 } else { alpha[t] < PENALTY };
            if !may_fall {
                continue;
            }
            let value = -y[t] * gradient[t];
            lowest = lowest.min(value);
            let gap = highest - value;
            if gap > 0.0 {
                let curvature = (2.0 - 2.0 * f64::from(kernel[i][t])).max(1e-9);
                let gain = gap * gap / curvature;
                if gain > best_gain {
                    best_gain = gain;
                    second = Some(t);
                }
            }
        }
        bounds = (highest, lowest);
        let Some(j) = second else { break };
        if highest - lowest < TOLERANCE {
            break;
        }
        if kernel[j].is_empty() {
            kernel[j] = kernel_row(j);
        }
        let curvature = (2.0 - 2.0 * f64::from(kernel[i][j])).max(1e-9);
        let mut step = (-y[i] * gradient[i] + y[j] * gradient[j]) / curvature;
        let room = |t: usize, rises: bool| {
            if (y[t] > 0.0) == rises { PENALTY - alpha[t] } else { alpha[t] }
        };
        step = step.min(room(i, true)).min(room(j, false));
        alpha[i] += y[i] * step;
        alpha[j] -= y[j] * step;
        let (ki, kj) = (&kernel[i], &kernel[j]);
        for t in 0..n {
            gradient[t] += y[t] * step * (f64::from(ki[t]) - f64::from(kj[t]));
        }
    }
    (alpha, 0.5 * (bounds.0 + bounds.1))
}
