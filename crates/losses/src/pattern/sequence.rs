//! A small one-dimensional convolutional network on the weekly course of a customer, trained here: pure Rust, one
//! thread, seeded, and the same to the bit on every run. It costs nothing to build (no tensor library) and about 20 seconds to train on
//! four thousand customers.
//!
//! Input: `CHANNELS` numbers a week (level, spread, lowest and highest day, step to the last week, share of known days: the mask is an input, gaps are
//! zero). Two convolutions with stride two and one without, rectified; mean and maximum over time; one output unit. Adam, dropout on
//! the pooled features, the start of each record shifted at random while training.

use pulp::{Arch, Simd, WithSimd};
use serde::{Deserialize, Serialize};

use crate::pattern::canary::Dice;
use crate::pattern::features::Prepared;

/// Numbers per week.
pub const CHANNELS: usize = 6;
/// Filters of the layers.
const FILTERS: usize = 16;
/// Width of the kernels in steps.
const WIDTH: usize = 5;
/// Strides of the layers.
const STRIDES: [usize; 3] = [2, 2, 1];
const BATCH: usize = 32;
const RATE: f32 = 3e-3;
const DECAY: f32 = 2e-4;
const DROPOUT: f64 = 0.3;
/// Most weeks by which a record is shifted while training.
const SHIFT: usize = 4;

/// The weekly input of one customer: `CHANNELS` numbers per week.
pub fn input(series: &Prepared) -> Vec<f32> {
    let weeks = series.log_level.len() / 7;
    let mut out = Vec::with_capacity(weeks * CHANNELS);
    let mut last = f64::NAN;
    for week in series.log_level[..weeks * 7].chunks_exact(7) {
        let (mut n, mut sum, mut sq, mut low, mut high) = (0.0, 0.0, 0.0, f64::NAN, f64::NAN);
        for &v in week.iter().filter(|v| !v.is_nan()) {
            n += 1.0;
            sum += v;
            sq += v * v;
            low = v.min(low);
            high = v.max(high);
        }
        if n < 3.0 {
            out.extend([0.0; CHANNELS - 1]);
            out.push((n / 7.0) as f32);
            last = f64::NAN;
            continue;
        }
        let level = sum / n;
        let spread = (sq / n - level * level).max(0.0).sqrt();
        let step = if last.is_nan() { 0.0 } else { level - last };
        last = level;
        let clipped = |v: f64| (v.clamp(-4.0, 2.0)) as f32;
        out.extend([clipped(level), (spread * 2.0).min(3.0) as f32, clipped(low), clipped(high), clipped(step)]);
        out.push((n / 7.0) as f32);
    }
    out
}

/// A trained network (or the average of several).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Network {
    members: Vec<Vec<f32>>,
}

/// Where each layer's numbers lie in the flat parameter vector.
struct Layout {
    /// (start, inputs) of each convolution; FILTERS biases follow the kernel.
    convolutions: [(usize, usize); 3],
    head: usize,
    total: usize,
}

fn layout() -> Layout {
    let first = CHANNELS * WIDTH * FILTERS + FILTERS;
    let other = FILTERS * WIDTH * FILTERS + FILTERS;
    let head = first + 2 * other;
    Layout {
        convolutions: [(0, CHANNELS), (first, FILTERS), (first + other, FILTERS)],
        head,
        total: head + 2 * FILTERS + 1,
    }
}

impl Network {
    /// Trains `members` networks for `epochs` passes each. `inputs` as from [`input`], all of one length.
    pub fn fit(inputs: &[&[f32]], labels: &[bool], epochs: usize, members: usize, seed: u64) -> Self {
        let members = (0..members as u64)
            .map(|m| train(inputs, labels, epochs, seed.wrapping_mul(977).wrapping_add(m)))
            .collect();
        Self { members }
    }

    /// Log-odds, averaged over the members.
    pub fn predict(&self, inputs: &[&[f32]]) -> Vec<f64> {
        let layout = layout();
        let mut pass = Pass::default();
        inputs
            .iter()
            .map(|x| {
                let sum: f64 = self.members.iter().map(|p| f64::from(pass.forward(&layout, p, x, None))).sum();
                sum / self.members.len().max(1) as f64
            })
            .collect()
    }
}

/// Weeks hidden at once when asking where the network looks.
const HIDDEN: usize = 8;

impl Network {
    /// The first day of the eight weeks without which the log-odds fall most, if they fall at all.
    pub fn busiest_day(&self, course: &[f32]) -> Option<usize> {
        let whole = self.predict(&[course]).first().copied()?;
        let width = HIDDEN * CHANNELS;
        let mut best: Option<(f64, usize)> = None;
        let starts: Vec<usize> = (0..course.len().saturating_sub(width)).step_by(width / 2).collect();
        let hidden: Vec<Vec<f32>> = starts
            .iter()
            .map(|&start| {
                let mut hidden = course.to_vec();
                hidden[start..start + width].fill(0.0);
                hidden
            })
            .collect();
        let hidden: Vec<&[f32]> = hidden.iter().map(Vec::as_slice).collect();
        for (start, without) in starts.into_iter().zip(self.predict(&hidden)) {
            let fall = whole - without;
            if fall > 0.0 && best.is_none_or(|(f, _)| fall > f) {
                best = Some((fall, start / CHANNELS * 7));
            }
        }
        best.map(|(_, day)| day)
    }
}

fn train(inputs: &[&[f32]], labels: &[bool], epochs: usize, seed: u64) -> Vec<f32> {
    let layout = layout();
    let mut dice = Dice::new(seed);
    let mut parameters = vec![0.0f32; layout.total];
    for (start, channels) in layout.convolutions {
        let spread = (2.0 / (channels * WIDTH) as f64).sqrt();
        for p in &mut parameters[start..start + channels * WIDTH * FILTERS] {
            *p = (dice.normal() * spread) as f32;
        }
    }
    for p in &mut parameters[layout.head..layout.total - 1] {
        *p = (dice.normal() * 0.1) as f32;
    }
    let prevalence = labels.iter().filter(|l| **l).count() as f64 / labels.len().max(1) as f64;
    parameters[layout.total - 1] = (prevalence.max(1e-3) / (1.0 - prevalence).max(1e-3)).ln() as f32;
    let (mut first_moment, mut second_moment) = (vec![0.0f32; layout.total], vec![0.0f32; layout.total]);
    let mut order: Vec<usize> = (0..inputs.len()).collect();
    let mut pass = Pass::default();
    let mut gradient = vec![0.0f32; layout.total];
    let steps = epochs * inputs.len().div_ceil(BATCH);
    let mut step = 0usize;
    for _ in 0..epochs {
        for i in (1..order.len()).rev() {
            order.swap(i, dice.below(i + 1));
        }
        for batch in order.chunks(BATCH) {
            gradient.fill(0.0);
            for &i in batch {
                let shifted = shift(inputs[i], dice.below(2 * SHIFT + 1));
                let keep: Vec<f32> = (0..2 * FILTERS)
                    .map(|_| if dice.unit() < DROPOUT { 0.0 } else { (1.0 / (1.0 - DROPOUT)) as f32 })
                    .collect();
                let z = pass.forward(&layout, &parameters, &shifted, Some(&keep));
                let error = 1.0 / (1.0 + (-z).exp()) - if labels[i] { 1.0 } else { 0.0 };
                pass.backward(&layout, &parameters, &shifted, &keep, error / batch.len() as f32, &mut gradient);
            }
            step += 1;
            // The rate falls along a cosine to zero.
            let rate = RATE * 0.5 * (1.0 + (std::f32::consts::PI * step as f32 / steps as f32).cos());
            let (c1, c2) = (1.0 - 0.9f32.powi(step.min(10_000) as i32), 1.0 - 0.999f32.powi(step.min(100_000) as i32));
            for (((p, g), m), v) in parameters.iter_mut().zip(&gradient).zip(&mut first_moment).zip(&mut second_moment)
            {
                *m = 0.9 * *m + 0.1 * g;
                *v = 0.999 * *v + 0.001 * g * g;
                *p -= rate * ((*m / c1) / ((*v / c2).sqrt() + 1e-8) + DECAY * *p);
            }
        }
    }
    parameters
}

/// Shifts by `by − SHIFT` weeks; weeks shifted in are unknown (zero mask).
fn shift(x: &[f32], by: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    if by >= SHIFT {
        let offset = (by - SHIFT) * CHANNELS;
        let keep = x.len().saturating_sub(offset);
        out[x.len() - keep..].copy_from_slice(&x[..keep]);
    } else {
        let offset = (SHIFT - by) * CHANNELS;
        let keep = x.len().saturating_sub(offset);
        out[..keep].copy_from_slice(&x[x.len() - keep..]);
    }
    out
}

/// Buffers of one forward and backward pass.
#[derive(Default)]
struct Pass {
    /// Outputs of the layers after rectification, [time][FILTERS].
    activations: [Vec<f32>; 3],
    gradients: [Vec<f32>; 3],
    pooled: Vec<f32>,
    highest: Vec<usize>,
}

impl Pass {
    fn forward(&mut self, layout: &Layout, p: &[f32], x: &[f32], keep: Option<&[f32]>) -> f32 {
        for (layer, stride) in STRIDES.into_iter().enumerate() {
            let (start, channels) = layout.convolutions[layer];
            let mut output = std::mem::take(&mut self.activations[layer]);
            let source = if layer == 0 { x } else { &self.activations[layer - 1] };
            let (kernel, rest) = p[start..].split_at(channels * WIDTH * FILTERS);
            let mut bias = [0.0; FILTERS];
            bias.copy_from_slice(&rest[..FILTERS]);
            convolve(source, channels, kernel, &bias, stride, &mut output);
            self.activations[layer] = output;
        }
        let last = &self.activations[2];
        let times = (last.len() / FILTERS).max(1);
        self.pooled.clear();
        self.pooled.resize(2 * FILTERS, 0.0);
        self.highest.clear();
        self.highest.resize(FILTERS, 0);
        for (t, step) in last.chunks_exact(FILTERS).enumerate() {
            for (f, v) in step.iter().enumerate() {
                self.pooled[f] += v / times as f32;
                if *v > self.pooled[FILTERS + f] {
                    self.pooled[FILTERS + f] = *v;
                    self.highest[f] = t;
                }
            }
        }
        let head = &p[layout.head..layout.head + 2 * FILTERS];
        let mut z = p[layout.total - 1];
        for (f, (w, v)) in head.iter().zip(&self.pooled).enumerate() {
            z += w * v * keep.map_or(1.0, |k| k[f]);
        }
        z
    }

    fn backward(&mut self, layout: &Layout, p: &[f32], x: &[f32], keep: &[f32], error: f32, gradient: &mut [f32]) {
        let times = (self.activations[2].len() / FILTERS).max(1);
        gradient[layout.total - 1] += error;
        let mut top = std::mem::take(&mut self.gradients[2]);
        top.clear();
        top.resize(self.activations[2].len(), 0.0);
        for f in 0..2 * FILTERS {
            gradient[layout.head + f] += error * self.pooled[f] * keep[f];
        }
        for f in 0..FILTERS {
            let even = error * p[layout.head + f] * keep[f] / times as f32;
            for t in 0..times {
                top[t * FILTERS + f] += even;
            }
            top[self.highest[f] * FILTERS + f] += error * p[layout.head + FILTERS + f] * keep[FILTERS + f];
        }
        self.gradients[2] = top;
        for layer in (0..3).rev() {
            let (start, channels) = layout.convolutions[layer];
            let mut upstream = std::mem::take(&mut self.gradients[layer]);
            for (g, a) in upstream.iter_mut().zip(&self.activations[layer]) {
                if *a <= 0.0 {
                    *g = 0.0;
                }
            }
            let mut below = if layer > 0 { std::mem::take(&mut self.gradients[layer - 1]) } else { Vec::new() };
            let source = if layer == 0 { x } else { &self.activations[layer - 1] };
            below.clear();
            below.resize(if layer > 0 { source.len() } else { 0 }, 0.0);
            let size = channels * WIDTH * FILTERS;
            let (kernel_gradient, rest) = gradient[start..].split_at_mut(size);
            let kernel = &p[start..start + size];
            back_convolve(source, channels, kernel, STRIDES[layer], &upstream, kernel_gradient, &mut below);
            for step in upstream.chunks_exact(FILTERS) {
                for (b, g) in rest[..FILTERS].iter_mut().zip(step) {
                    *b += g;
                }
            }
            self.gradients[layer] = upstream;
            if layer > 0 {
                self.gradients[layer - 1] = below;
            }
        }
    }
}

/// One layer: out[t][f] = max(0, b[f] + Σ k[w][c][f] x[t·stride + w − WIDTH/2][c]); outside the record is zero.
struct Convolution<'a> {
    x: &'a [f32],
    channels: usize,
    kernel: &'a [[f32; FILTERS]],
    bias: &'a [f32; FILTERS],
    stride: usize,
    out: &'a mut [[f32; FILTERS]],
}

/// Steps computed side by side, so that their sums do not wait for each other.
const ABREAST: usize = 4;

impl WithSimd for Convolution<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, channels, kernel, bias, stride, out } = self;
        let (window, before, step) = (WIDTH * channels, WIDTH / 2 * channels, stride * channels);
        let mut t = 0;
        while t < out.len() {
            let start = t * step;
            let last = start + (ABREAST - 1) * step + window;
            if t + ABREAST <= out.len() && start >= before && last <= x.len() + before {
                let windows: [&[f32]; ABREAST] = std::array::from_fn(|k| &x[start - before + k * step..][..window]);
                filter(simd, windows, kernel, bias, &mut out[t..t + ABREAST]);
                t += ABREAST;
            } else {
                // At the ends of the record a part of the window is outside.
                let outside = before.saturating_sub(start);
                let inside = &x[(start + outside - before).min(x.len())..];
                let width = inside.len().min(window - outside);
                filter(simd, [&inside[..width]], &kernel[outside..outside + width], bias, &mut out[t..t + 1]);
                t += 1;
            }
        }
    }
}

/// out[k][f] = max(0, b[f] + Σ kernel[j][f] windows[k][j]); products are rounded before they are added.
#[inline(always)]
fn filter<S: Simd, const N: usize>(
    simd: S,
    windows: [&[f32]; N],
    kernel: &[[f32; FILTERS]],
    bias: &[f32; FILTERS],
    out: &mut [[f32; FILTERS]],
) {
    for first in (0..FILTERS).step_by(S::F32_LANES) {
        let filters = first..first + S::F32_LANES;
        let mut sums = [S::as_simd_f32s(&bias[filters.clone()]).0[0]; N];
        for (j, row) in kernel.iter().enumerate() {
            let weights = S::as_simd_f32s(&row[filters.clone()]).0[0];
            for k in 0..N {
                sums[k] = simd.add_f32s(sums[k], simd.mul_f32s(simd.splat_f32s(windows[k][j]), weights));
            }
        }
        for k in 0..N {
            S::as_mut_simd_f32s(&mut out[k][filters.clone()]).0[0] = simd.max_f32s(sums[k], simd.splat_f32s(0.0));
        }
    }
}

fn convolve(x: &[f32], channels: usize, kernel: &[f32], bias: &[f32; FILTERS], stride: usize, out: &mut Vec<f32>) {
    let times = (x.len() / channels).div_ceil(stride);
    out.clear();
    out.resize(times * FILTERS, 0.0);
    let (out, kernel) = (out.as_chunks_mut().0, kernel.as_chunks().0);
    Arch::new().dispatch(Convolution { x, channels, kernel, bias, stride, out });
}

fn back_convolve(
    x: &[f32],
    channels: usize,
    kernel: &[f32],
    stride: usize,
    upstream: &[f32],
    kernel_gradient: &mut [f32],
    below: &mut [f32],
) {
    let length = x.len() / channels;
    for (t, g) in upstream.chunks_exact(FILTERS).enumerate() {
        if g.iter().all(|v| *v == 0.0) {
            continue;
        }
        for w in 0..WIDTH {
            let Some(at) = (t * stride + w).checked_sub(WIDTH / 2).filter(|a| *a < length) else { continue };
            for c in 0..channels {
                let index = (w * channels + c) * FILTERS;
                let v = x[at * channels + c];
                for (k, g) in kernel_gradient[index..index + FILTERS].iter_mut().zip(g) {
                    *k += v * g;
                }
                if !below.is_empty() {
                    let row = &kernel[index..index + FILTERS];
                    let mut lanes = [0.0f32; 4];
                    for (f, (k, g)) in row.iter().zip(g).enumerate() {
                        lanes[f % 4] += k * g;
                    }
                    below[at * channels + c] += lanes.iter().sum::<f32>();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradient_agrees_with_finite_differences() {
        let layout = layout();
        let mut dice = Dice::new(11);
        let parameters: Vec<f32> = (0..layout.total).map(|_| (dice.normal() * 0.3) as f32).collect();
        let x: Vec<f32> = (0..20 * CHANNELS).map(|_| dice.normal() as f32).collect();
        let keep = vec![1.0; 2 * FILTERS];
        let mut pass = Pass::default();
        pass.forward(&layout, &parameters, &x, Some(&keep));
        let mut gradient = vec![0.0; layout.total];
        pass.backward(&layout, &parameters, &x, &keep, 1.0, &mut gradient);
        for index in [3, 200, 600, layout.convolutions[2].0 + 40, layout.head + 5, layout.total - 1] {
            let mut moved = parameters.clone();
            moved[index] += 1e-2;
            let up = pass.forward(&layout, &moved, &x, None);
            moved[index] -= 2e-2;
            let down = pass.forward(&layout, &moved, &x, None);
            let slope = (up - down) / 2e-2;
            assert!(
                (slope - gradient[index]).abs() < 0.02 + 0.02 * slope.abs(),
                "{index}: {slope} {}",
                gradient[index]
            );
        }
    }

    #[test]
    fn learns_to_tell_a_fall_from_none() {
        let mut dice = Dice::new(5);
        let (mut inputs, mut labels) = (Vec::new(), Vec::new());
        for i in 0..200 {
            let falls = i % 4 == 0;
            let at = 10 + dice.below(20);
            let x = (0..40)
                .flat_map(|t| {
                    let level = if falls && t >= at { -1.0 } else { 0.0 } + 0.2 * dice.normal() as f32;
                    [level, 0.3, level - 0.2, level + 0.2, 0.0, 1.0]
                })
                .collect();
            inputs.push(x);
            labels.push(falls);
        }
        let inputs: Vec<&[f32]> = inputs.iter().map(|x: &Vec<f32>| x.as_slice()).collect();
        let network = Network::fit(&inputs[..150], &labels[..150], 15, 1, 1);
        let scores = network.predict(&inputs[150..]);
        assert!(crate::pattern::metrics::auc(&scores, &labels[150..]) > 0.95);
        let again = Network::fit(&inputs[..150], &labels[..150], 15, 1, 1).predict(&inputs[150..]);
        assert_eq!(scores, again);
    }
}
