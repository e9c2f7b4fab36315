//! The span audit: what can be computed from everything that was released about one meter.
//!
//! Released sums `Σ_t w_t·x_t` are rows of a matrix; an operator can form every combination of them. The audit asks for the
//! combination that depends on the fewest slots and refuses a row that would bring that number below the floor: two bills
//! that differ in one slot subtract to that slot. Slots with equal columns are alike, so a month of a tariff with eight registers
//! is a matrix of a few columns. A combination that vanishes on a set of columns is fixed by `rank − 1` independent ones of them:
//! where there are few enough choices all are tried, otherwise many are drawn, slots at random, which finds a combination on a
//! small share `δ` of the slots with probability `(1 − δ)^(rank − 1)` per draw.

use std::collections::BTreeMap;

use crate::{
    draws::Draws,
    ramp::{MODULUS, add, invert, mul, sub},
};

/// Choices of columns that are all tried.
const CHOICES_MAX: u64 = 20_000;
/// Draws beyond that.
const DRAWS: u32 = 2_000;
/// Share of all weight that the heaviest slots may carry, thousandths.
const CONCENTRATION_PERMILLE: u64 = 100;
/// How many slots that is asked of.
const HEAVIEST: usize = 8;
/// Largest weight against the smallest.
const RATIO_MAX: u64 = 64;

/// A released sum: weight by counter, zeros left out.
pub type Functional = BTreeMap<u64, i64>;

fn element(weight: i64) -> u64 {
    let magnitude = weight.unsigned_abs() % MODULUS;
    if weight < 0 { sub(0, magnitude) } else { magnitude }
}

/// Columns that occur, as elements of the field, with the number of slots that have them.
fn columns(functionals: &[&Functional]) -> Vec<(Vec<u64>, usize)> {
    let mut at: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    for (k, functional) in functionals.iter().enumerate() {
        for (counter, weight) in *functional {
            at.entry(*counter).or_insert_with(|| vec![0; functionals.len()])[k] = *weight;
        }
    }
    let mut counts: BTreeMap<Vec<i64>, usize> = BTreeMap::new();
    for column in at.into_values() {
        *counts.entry(column).or_default() += 1;
    }
    counts.into_iter().map(|(column, count)| (column.into_iter().map(element).collect(), count)).collect()
}

/// An echelon form that grows by one vector at a time.
#[derive(Clone, Default)]
struct Echelon {
    rows: Vec<(usize, Vec<u64>)>,
}

impl Echelon {
    /// Takes a vector in; whether it was independent of those before.
    fn take(&mut self, vector: &[u64]) -> bool {
        let mut v = vector.to_vec();
        for (pivot, row) in &self.rows {
            let factor = v[*pivot];
            if factor != 0 {
                for (a, b) in v.iter_mut().zip(row) {
                    *a = sub(*a, mul(factor, *b));
                }
            }
        }
        let Some(pivot) = v.iter().position(|a| *a != 0) else { return false };
        let inverse = invert(v[pivot]);
        v.iter_mut().for_each(|a| *a = mul(*a, inverse));
        self.rows.push((pivot, v));
        true
    }

    /// A vector orthogonal to all taken ones, when they leave exactly one dimension.
    fn orthogonal(&self, width: usize) -> Option<Vec<u64>> {
        let free = (0..width).find(|k| self.rows.iter().all(|(pivot, _)| pivot != k))?;
        let mut y = vec![0; width];
        y[free] = 1;
        // a later row does not hold the pivots of earlier ones, so solve from the last back
        for (pivot, row) in self.rows.iter().rev() {
            let known = y.iter().zip(row).fold(0, |sum, (a, b)| add(sum, mul(*a, *b)));
            y[*pivot] = sub(0, known);
        }
        Some(y)
    }
}

/// Independent rows only: the columns of a matrix of full rank.
fn independent(columns: &mut [(Vec<u64>, usize)]) -> usize {
    let Some(height) = columns.first().map(|(column, _)| column.len()) else { return 0 };
    let mut echelon = Echelon::default();
    let row = |k: usize| -> Vec<u64> { columns.iter().map(|(column, _)| column[k]).collect() };
    let kept: Vec<usize> = (0..height).filter(|k| echelon.take(&row(*k))).collect();
    for (column, _) in columns.iter_mut() {
        *column = kept.iter().map(|k| column[*k]).collect();
    }
    kept.len()
}

/// The fewest slots that a combination of the functionals depends on; `None` when there is none but zero.
pub fn smallest_support(functionals: &[&Functional]) -> Option<usize> {
    let mut columns = columns(functionals);
    let rank = independent(&mut columns);
    if rank == 0 {
        return None;
    }
    columns.retain(|(column, _)| column.iter().any(|a| *a != 0));
    let total: usize = columns.iter().map(|(_, count)| count).sum();
    if rank == 1 {
        return Some(total);
    }
    let mut smallest = total;
    let mut consider = |chosen: &Echelon| {
        let Some(y) = chosen.orthogonal(rank) else { return };
        let on =
            |(column, _): &&(Vec<u64>, usize)| column.iter().zip(&y).fold(0, |sum, (a, b)| add(sum, mul(*a, *b))) != 0;
        smallest = smallest.min(columns.iter().filter(on).map(|(_, count)| count).sum());
    };
    if choices(columns.len(), rank - 1) <= CHOICES_MAX {
        every_choice(&columns, rank - 1, 0, &Echelon::default(), &mut consider);
    } else {
        let mut draws = Draws::new(&[0x53; 32]);
        for _ in 0..DRAWS {
            if let Some(chosen) = drawn(&columns, rank - 1, total, &mut draws) {
                consider(&chosen);
            }
        }
    }
    Some(smallest)
}

fn choices(of: usize, take: usize) -> u64 {
    let of = of as u64;
    (0..take as u64).fold(1, |product: u64, k| product.saturating_mul(of.saturating_sub(k)) / (k + 1))
}

fn every_choice(
    columns: &[(Vec<u64>, usize)],
    left: usize,
    from: usize,
    chosen: &Echelon,
    consider: &mut impl FnMut(&Echelon),
) {
    if left == 0 {
        return consider(chosen);
    }
    for k in from..columns.len() {
        let mut next = chosen.clone();
        if next.take(&columns[k].0) {
            every_choice(columns, left - 1, k + 1, &next, consider);
        }
    }
}

fn drawn(columns: &[(Vec<u64>, usize)], take: usize, total: usize, draws: &mut Draws) -> Option<Echelon> {
    let mut chosen = Echelon::default();
    let mut taken = 0;
    for _ in 0..16 * take {
        let mut at = usize::try_from(draws.below(total as u128)).ok()?;
        let column = columns.iter().find(|(_, count)| {
            let is_here = at < *count;
            at = at.saturating_sub(*count);
            is_here
        })?;
        taken += usize::from(chosen.take(&column.0));
        if taken == take {
            return Some(chosen);
        }
    }
    None
}

/// Whether weights hide their readings in one sum: none may stand out so far that its slot can be read from the leading digits
/// (weights `2^(16·j)` would give four readings in one number).
pub fn is_spread(functional: &Functional) -> bool {
    let mut magnitudes: Vec<u64> = functional.values().map(|w| w.unsigned_abs()).collect();
    magnitudes.sort_unstable_by(|a, b| b.cmp(a));
    let (Some(largest), Some(smallest)) = (magnitudes.first(), magnitudes.last()) else { return false };
    let all: u64 = magnitudes.iter().sum();
    let heaviest: u64 = magnitudes.iter().take(HEAVIEST).sum();
    largest / smallest <= RATIO_MAX && heaviest.saturating_mul(1_000) <= all.saturating_mul(CONCENTRATION_PERMILLE)
}
