//! Quantile trees: gradient boosting of all levels at once, on histograms.
//!
//! A round grows one tree for the whole distribution and gives each leaf one step per level. The pinball gradients of the levels,
//! `τ − 1{y < q(τ)}`, are nearly the same function of the row, so a split is judged by their projections on three orthonormal
//! shapes over τ: shift, spread and skew (Legendre polynomials). What a round costs hardly depends on the number of levels, and the
//! levels share their structure, so they rarely cross. A leaf's step is the τ-quantile of its own residuals times the rate.
//!
//! Randomness (rows and columns per tree) comes from a seed; the result does not depend on the number of processors.

mod bins;
mod grow;

use serde::{Deserialize, Serialize};

use crate::quantiles::{Band, COUNT, LEVELS};

pub use bins::{BINS, Edges};
use grow::{Cell, Grower, Tree};

/// Settings of one forest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Trees per bag.
    pub rounds: usize,
    /// Step size.
    pub rate: f32,
    /// Leaves of a tree.
    pub leaves: usize,
    /// Fewest rows of a leaf (of those drawn for the tree); with less than a hundred times as many rows drawn, a hundredth of them.
    pub leaf_rows: usize,
    /// Share of rows per tree.
    pub rows: f32,
    /// Share of columns per tree.
    pub columns: f32,
    /// Forests averaged; each is fitted on a thread of its own.
    pub bags: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rounds: 150, rate: 0.08, leaves: 31, leaf_rows: 60, rows: 0.5, columns: 0.6, bags: 2 }
    }
}

/// Rows of features one after the other; NaN = unknown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// Row after row.
    pub values: Vec<f32>,
    /// Columns of a row.
    pub width: usize,
}

impl Rows {
    /// Number of rows.
    pub fn count(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..(index + 1) * self.width]
    }
}

/// Trees of one bag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Bag {
    base: Band,
    trees: Vec<Tree>,
}

/// A fitted model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantileTrees {
    edges: Edges,
    bags: Vec<Bag>,
}

/// A small generator: SplitMix64. Source: Steele, Lea, Flood 2014.
#[derive(Debug, Clone)]
pub struct Draws(u64);

impl Draws {
    /// From a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in 0 … 1.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / 16_777_216.0
    }
}

impl QuantileTrees {
    /// Fits on rows and targets (same count; targets finite).
    pub fn fit(rows: &Rows, targets: &[f32], settings: &Settings, seed: u64) -> Self {
        let edges = Edges::of(rows);
        let binned = edges.bin(rows);
        let fit = |bag: usize| Bag::fit(&binned, rows.width, targets, settings, seed.wrapping_add(bag as u64));
        let bags = match settings.bags {
            0 | 1 => vec![fit(0)],
            n => std::thread::scope(|scope| {
                let fit = &fit;
                let running: Vec<_> = (0..n).map(|bag| scope.spawn(move || fit(bag))).collect();
                running.into_iter().map(|r| r.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
            }),
        };
        Self { edges, bags }
    }

    /// The band of each row, not crossing.
    pub fn predict(&self, rows: &Rows) -> Vec<Band> {
        let binned = self.edges.bin(rows);
        let share = 1.0 / self.bags.len().max(1) as f32;
        binned
            .chunks_exact(rows.width.max(1))
            .map(|row| {
                let mut sum = [0.0f32; COUNT];
                for bag in &self.bags {
                    let mut own = bag.base.0;
                    for tree in &bag.trees {
                        let step = tree.leaf(row);
                        own.iter_mut().zip(step).for_each(|(q, s)| *q += s);
                    }
                    sum.iter_mut().zip(own).for_each(|(s, q)| *s += q * share);
                }
                Band(sum).uncrossed()
            })
            .collect()
    }
}

/// Orthonormal shapes over the levels: shift, spread, skew.
fn shapes() -> [[f32; COUNT]; 3] {
    let legendre = |k: usize, t: f32| match k {
        0 => 1.0,
        1 => 3.0f32.sqrt() * (2.0 * t - 1.0),
        _ => 5.0f32.sqrt() * (6.0 * t * t - 6.0 * t + 1.0),
    };
    std::array::from_fn(|k| std::array::from_fn(|i| legendre(k, LEVELS[i]) / COUNT as f32))
}

impl Bag {
    fn fit(binned: &[u8], width: usize, targets: &[f32], settings: &Settings, seed: u64) -> Self {
        let mut draws = Draws::new(seed.wrapping_mul(0x2545_F491_4F6C_DD1D));
        let count = targets.len();
        let mut all: Vec<f32> = targets.to_vec();
        let base = quantiles_of(&mut all);
        let mut current: Vec<[f32; COUNT]> = vec![base.0; count];
        let mut trees = Vec::with_capacity(settings.rounds);
        let mut cells = vec![Cell::default(); count];
        let shapes = shapes();
        for _ in 0..settings.rounds {
            let members: Vec<u32> = (0..count as u32).filter(|_| draws.unit() < settings.rows).collect();
            let mut columns: Vec<usize> = (0..width).filter(|_| draws.unit() < settings.columns).collect();
            if columns.is_empty() {
                columns = (0..width).collect();
            }
            for &row in &members {
                cells[row as usize] = gradient(targets[row as usize], &current[row as usize], &shapes);
            }
            let least = (settings.leaf_rows as f32).min(members.len() as f32 / 100.0).max(1.0);
            let grower = Grower { binned, width, columns: &columns, cells: &cells, settings, least };
            let (mut tree, members, leaves) = grower.grow(members);
            let mut sample = Vec::new();
            for (leaf, range) in leaves.iter().enumerate() {
                let step = leaf_step(&members[range.clone()], targets, &current, &mut sample);
                tree.steps[leaf] = step.0.map(|s| s * settings.rate);
            }
            for (row, q) in binned.chunks_exact(width).zip(current.iter_mut()) {
                let step = tree.leaf(row);
                q.iter_mut().zip(step).for_each(|(q, s)| *q += s);
            }
            trees.push(tree);
        }
        Self { base, trees }
    }
}

/// The pinball gradients of a row, projected on the shapes.
fn gradient(target: f32, current: &[f32; COUNT], shapes: &[[f32; COUNT]; 3]) -> Cell {
    let mut sums = [0.0f32; 3];
    let pulls: [f32; COUNT] = std::array::from_fn(|i| LEVELS[i] - if target < current[i] { 1.0 } else { 0.0 });
    for (sum, shape) in sums.iter_mut().zip(shapes) {
        *sum = pulls.iter().zip(shape).map(|(p, s)| p * s).sum();
    }
    Cell([sums[0], sums[1], sums[2], 1.0])
}

/// Rows of a leaf that its quantiles are read from; more would not change a step that is then damped by the rate.
const LEAF_SAMPLE: usize = 640;

/// The quantiles of the residuals of a leaf's rows, level by level.
fn leaf_step(members: &[u32], targets: &[f32], current: &[[f32; COUNT]], sample: &mut Vec<f32>) -> Band {
    let stride = members.len().div_ceil(LEAF_SAMPLE).max(1);
    let mut step = Band::point(0.0);
    for (level, tau) in LEVELS.iter().enumerate() {
        sample.clear();
        sample.extend(members.iter().step_by(stride).map(|&r| targets[r as usize] - current[r as usize][level]));
        if let Some(value) = quantile(sample, *tau) {
            step.0[level] = value;
        }
    }
    step
}

/// Interpolated quantile; reorders the sample.
fn quantile(sample: &mut [f32], tau: f32) -> Option<f32> {
    let last = sample.len().checked_sub(1)?;
    let place = tau * sample.len() as f32 - 0.5;
    let below = (place.max(0.0) as usize).min(last);
    let (_, low, above) = sample.select_nth_unstable_by(below, f32::total_cmp);
    let low = *low;
    let next = above.iter().copied().fold(f32::INFINITY, f32::min);
    let share = (place - below as f32).clamp(0.0, 1.0);
    Some(if next.is_finite() { low + share * (next - low) } else { low })
}

fn quantiles_of(sample: &mut [f32]) -> Band {
    sample.sort_unstable_by(f32::total_cmp);
    let last = sample.len().saturating_sub(1);
    Band(LEVELS.map(|tau| sample.get(((tau * sample.len() as f32) as usize).min(last)).copied().unwrap_or(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantiles::pinball;

    /// y = x0 + (0.2 + x1) · u, u even in 0 … 1.
    fn world(count: usize, seed: u64) -> (Rows, Vec<f32>) {
        let mut draws = Draws::new(seed);
        let mut rows = Rows { values: Vec::new(), width: 3 };
        let targets = (0..count)
            .map(|_| {
                let x = [draws.unit(), draws.unit(), if draws.unit() < 0.2 { f32::NAN } else { draws.unit() }];
                rows.values.extend(x);
                x[0] + (0.2 + x[1]) * draws.unit()
            })
            .collect();
        (rows, targets)
    }

    #[test]
    fn level_and_spread_are_learnt() {
        let (rows, targets) = world(20_000, 1);
        let settings = Settings { rounds: 60, rate: 0.15, columns: 1.0, ..Settings::default() };
        let model = QuantileTrees::fit(&rows, &targets, &settings, 7);
        let (fresh, actual) = world(4_000, 2);
        let bands = model.predict(&fresh);
        let loss: f64 = bands.iter().zip(&actual).map(|(b, y)| pinball(b, *y)).sum::<f64>() / 4_000.0;
        let oracle: f64 = (0..4_000)
            .map(|i| {
                let x = fresh.row(i);
                let true_band = Band(LEVELS.map(|tau| x[0] + (0.2 + x[1]) * tau));
                pinball(&true_band, actual[i])
            })
            .sum::<f64>()
            / 4_000.0;
        assert!(loss < 1.04 * oracle, "{loss} against {oracle}");
        let inside = bands.iter().zip(&actual).filter(|(b, y)| b.0[0] <= **y && **y <= b.0[18]).count();
        assert!((inside as f64 / 4_000.0 - 0.9).abs() < 0.03, "{inside}");
    }

    #[test]
    fn the_same_seed_gives_the_same_trees_and_they_are_stored_whole() {
        let (rows, targets) = world(3_000, 3);
        let settings = Settings { rounds: 10, ..Settings::default() };
        let model = QuantileTrees::fit(&rows, &targets, &settings, 5);
        assert_eq!(model, QuantileTrees::fit(&rows, &targets, &settings, 5));
        assert_ne!(model, QuantileTrees::fit(&rows, &targets, &settings, 6));
        let back: QuantileTrees = serde_json::from_str(&serde_json::to_string(&model).expect("stored")).expect("read");
        assert_eq!(back.predict(&rows), model.predict(&rows));
    }

    #[test]
    fn one_row_or_equal_rows_give_their_value() {
        let rows = Rows { values: vec![1.0; 30], width: 1 };
        let model = QuantileTrees::fit(&rows, &[2.5; 30], &Settings::default(), 1);
        assert!(model.predict(&rows).iter().all(|b| b.0.iter().all(|q| (q - 2.5).abs() < 1e-6)));
    }
}
