//! Small descriptive statistics on slices that may hold NaN for "not known". Everything returns NaN when there is too little.
//!
//! Sums run in a fixed number of lanes, and nothing is fused, so that a result is the same to the bit whatever vectors the
//! processor has.

use pulp::{Arch, Simd, WithSimd};

/// Sums are kept in so many lanes, which the processor adds side by side.
const LANES: usize = 4;

/// Sum of `term` over the known values, and how many there are.
#[inline(always)]
fn sum_known(values: &[f64], term: impl Fn(f64) -> f64) -> (f64, usize) {
    let (mut sums, mut count) = ([0.0; LANES], 0usize);
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, &v) in sums.iter_mut().zip(chunk) {
            *sum += if v.is_nan() { 0.0 } else { term(v) };
            count += usize::from(!v.is_nan());
        }
    }
    for &v in rest.iter().filter(|v| !v.is_nan()) {
        sums[0] += term(v);
        count += 1;
    }
    (sums.iter().sum(), count)
}

/// Mean of the known values.
pub fn mean(values: &[f64]) -> f64 {
    let (sum, count) = sum_known(values, |v| v);
    if count == 0 { f64::NAN } else { sum / count as f64 }
}

/// Standard deviation (population) of the known values.
pub fn deviation(values: &[f64]) -> f64 {
    let m = mean(values);
    let (sum, count) = sum_known(values, |v| (v - m) * (v - m));
    if count < 2 { f64::NAN } else { (sum / count as f64).sqrt() }
}

/// Quantile by linear interpolation of values sorted ascending without NaN; `p` in 0..=1.
pub fn quantile_sorted(sorted: &[f64], p: f64) -> f64 {
    if sorted.is_empty() {
        return f64::NAN;
    }
    let position = p * (sorted.len() - 1) as f64;
    let low = position.floor() as usize;
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (position - low as f64) * (sorted[high] - sorted[low])
}

/// Sorts ascending by total order, dropping NaN.
pub fn sorted_known(values: &[f64]) -> Vec<f64> {
    // As whole numbers of the same order, which sort faster.
    let mut keys: Vec<u64> = values.iter().filter(|v| !v.is_nan()).map(|v| order_key(*v)).collect();
    if keys.len() >= LEAST_TO_DEAL {
        deal_by_upper_half(&mut keys);
    }
    // Hardly anything is left to do where the upper halves differ.
    keys.sort();
    keys.into_iter().map(from_order_key).collect()
}

/// From so many values on, dealing into heaps is faster than comparing.
const LEAST_TO_DEAL: usize = 256;

/// A number of the same order as `f64::total_cmp`'s.
fn order_key(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

fn from_order_key(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 1 { key & !(1 << 63) } else { !key })
}

/// Sorts by the upper 32 bits, eight bits at a time from the lowest of them.
fn deal_by_upper_half(keys: &mut Vec<u64>) {
    let digit = |key: u64, pass: usize| (key >> (32 + 8 * pass)) as usize & 0xff;
    let mut starts = [[0usize; 256]; 4];
    for &key in keys.iter() {
        for (pass, counts) in starts.iter_mut().enumerate() {
            counts[digit(key, pass)] += 1;
        }
    }
    let mut dealt = vec![0; keys.len()];
    for (pass, starts) in starts.iter_mut().enumerate() {
        let mut next = 0;
        for start in starts.iter_mut() {
            next += std::mem::replace(start, next);
        }
        for &key in keys.iter() {
            let place = &mut starts[digit(key, pass)];
            dealt[*place] = key;
            *place += 1;
        }
        std::mem::swap(keys, &mut dealt);
    }
}

/// Quantile of the known values.
pub fn quantile(values: &[f64], p: f64) -> f64 {
    quantiles(values, [p])[0]
}

/// Quantiles of the known values; `p` ascending, each as [`quantile_sorted`] of the sorted values.
pub fn quantiles<const N: usize>(values: &[f64], p: [f64; N]) -> [f64; N] {
    let mut known: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    let mut found = [f64::NAN; N];
    if known.is_empty() {
        return found;
    }
    let last = known.len() - 1;
    let mut sorted_below = 0;
    for (found, p) in found.iter_mut().zip(p) {
        let position = p * last as f64;
        let low = (position.floor() as usize).max(sorted_below);
        let (_, at, above) = known[sorted_below..].select_nth_unstable_by(low - sorted_below, f64::total_cmp);
        let at = *at;
        let next = above.iter().copied().min_by(f64::total_cmp).unwrap_or(at);
        *found = at + (position - low as f64) * (next - at);
        sorted_below = low;
    }
    found
}

/// Median of the known values.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Sums of a correlation about an origin.
#[derive(Default, Clone, Copy)]
struct Sums {
    n: f64,
    a: f64,
    b: f64,
    aa: f64,
    bb: f64,
    ab: f64,
}

impl Sums {
    /// Adds a pair; one with NaN adds nothing. Without branches, so that lanes run side by side.
    #[inline(always)]
    fn add(&mut self, x: f64, y: f64) {
        let known = !(x - y).is_nan();
        let (x, y) = if known { (x, y) } else { (0.0, 0.0) };
        self.n += if known { 1.0 } else { 0.0 };
        self.a += x;
        self.b += y;
        self.aa += x * x;
        self.bb += y * y;
        self.ab += x * y;
    }

    fn join(self, other: Self) -> Self {
        Self {
            n: self.n + other.n,
            a: self.a + other.a,
            b: self.b + other.b,
            aa: self.aa + other.aa,
            bb: self.bb + other.bb,
            ab: self.ab + other.ab,
        }
    }

    fn correlation(self, least: usize) -> f64 {
        let n = self.n;
        if n < least.max(2) as f64 {
            return f64::NAN;
        }
        let (va, vb) = (self.aa - self.a * self.a / n, self.bb - self.b * self.b / n);
        if va <= 1e-12 * self.aa.max(1e-12) || vb <= 1e-12 * self.bb.max(1e-12) {
            return f64::NAN;
        }
        (self.ab - self.a * self.b / n) / (va * vb).sqrt()
    }
}

/// The sums over two slices of one length, about their first pair, which keeps the cancellation small.
struct PairSums<'a>(&'a [f64], &'a [f64]);

impl WithSimd for PairSums<'_> {
    type Output = Sums;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> Sums {
        let Self(a, b) = self;
        let (x0, y0) = (a[0], b[0]);
        let mut lanes = [Sums::default(); LANES];
        let (a4, a_rest) = a.as_chunks::<LANES>();
        let (b4, b_rest) = b.as_chunks::<LANES>();
        for (x, y) in a4.iter().zip(b4) {
            for lane in 0..LANES {
                lanes[lane].add(x[lane] - x0, y[lane] - y0);
            }
        }
        for (x, y) in a_rest.iter().zip(b_rest) {
            lanes[0].add(x - x0, y - y0);
        }
        lanes.into_iter().fold(Sums::default(), Sums::join)
    }
}

/// Pearson correlation over the pairs in which both are known; NaN below `least` pairs or without variance.
pub fn correlation(a: &[f64], b: &[f64], least: usize) -> f64 {
    let shared = a.len().min(b.len());
    let Some(first) = (0..shared).find(|&t| !(a[t] - b[t]).is_nan()) else { return f64::NAN };
    Arch::new().dispatch(PairSums(&a[first..shared], &b[first..shared])).correlation(least)
}

/// Correlation of a series with itself `lag` steps later.
pub fn autocorrelation(values: &[f64], lag: usize) -> f64 {
    if values.len() <= lag {
        return f64::NAN;
    }
    correlation(&values[lag..], &values[..values.len() - lag], 10)
}

/// First differences; NaN where either neighbour is unknown. One shorter than the input.
pub fn differences(values: &[f64]) -> Vec<f64> {
    values.windows(2).map(|w| w[1] - w[0]).collect()
}

/// Means of consecutive blocks of `size`; NaN for a block with fewer than `least` known values. The last block may be short.
pub fn block_means(values: &[f64], size: usize, least: usize) -> Vec<f64> {
    values
        .chunks(size)
        .map(|chunk| {
            let (mut sum, mut count) = (0.0, 0usize);
            for &v in chunk.iter().filter(|v| !v.is_nan()) {
                sum += v;
                count += 1;
            }
            if count < least { f64::NAN } else { sum / count as f64 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_selection_and_keys_agree_with_the_plain_definitions() {
        let mut dice = crate::pattern::canary::Dice::new(5);
        for n in [0, 1, 2, 3, 5, 8, 50, 333, 2_000] {
            let mut draw =
                || -> Vec<f64> { (0..n).map(|_| if dice.unit() < 0.2 { f64::NAN } else { dice.normal() }).collect() };
            let (a, b) = (draw(), draw());
            let mut plain: Vec<f64> = a.iter().copied().filter(|v| !v.is_nan()).collect();
            plain.sort_by(f64::total_cmp);
            assert_eq!(sorted_known(&a), plain);
            let p = [0.0, 0.1, 0.1, 0.5, 0.85, 1.0];
            for (found, p) in quantiles(&a, p).into_iter().zip(p) {
                let wanted = quantile_sorted(&plain, p);
                assert!(found == wanted || found.is_nan() && wanted.is_nan(), "{found} {wanted}");
            }
            let known: Vec<(f64, f64)> =
                a.iter().copied().zip(b.iter().copied()).filter(|(x, y)| !x.is_nan() && !y.is_nan()).collect();
            let (x, y): (Vec<f64>, Vec<f64>) = known.into_iter().unzip();
            let found = correlation(&x, &y, 3);
            assert!(x.len() >= 3 || found.is_nan());
            let product = |x: &[f64], y: &[f64]| {
                let (mx, my) = (x.iter().sum::<f64>() / x.len() as f64, y.iter().sum::<f64>() / y.len() as f64);
                x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum::<f64>()
            };
            if x.len() > 3 {
                let wanted = product(&x, &y) / (product(&x, &x) * product(&y, &y)).sqrt();
                assert!((found - wanted).abs() < 1e-12);
                assert!((correlation(&a, &b, 3) - wanted).abs() < 1e-12);
                assert!((mean(&a) - plain.iter().sum::<f64>() / plain.len() as f64).abs() < 1e-12);
            }
        }
    }
}
