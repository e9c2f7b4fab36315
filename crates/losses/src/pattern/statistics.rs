//! Small descriptive statistics on slices that may hold NaN for "not known". Everything returns NaN when there is too little.

/// Mean of the known values.
pub fn mean(values: &[f64]) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    for &v in values.iter().filter(|v| !v.is_nan()) {
        sum += v;
        count += 1;
    }
    if count == 0 { f64::NAN } else { sum / count as f64 }
}

/// Standard deviation (population) of the known values.
pub fn deviation(values: &[f64]) -> f64 {
    let m = mean(values);
    let (mut sum, mut count) = (0.0, 0usize);
    for &v in values.iter().filter(|v| !v.is_nan()) {
        sum += (v - m) * (v - m);
        count += 1;
    }
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
    let mut known: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    known.sort_unstable_by(f64::total_cmp);
    known
}

/// Quantile of the known values.
pub fn quantile(values: &[f64], p: f64) -> f64 {
    quantile_sorted(&sorted_known(values), p)
}

/// Median of the known values.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Pearson correlation over the pairs in which both are known; NaN below `least` pairs or without variance.
pub fn correlation(a: &[f64], b: &[f64], least: usize) -> f64 {
    correlation_of(a.iter().copied().zip(b.iter().copied()), least)
}

/// Pearson correlation of an iterator of pairs; pairs with NaN are passed over.
pub fn correlation_of(pairs: impl Iterator<Item = (f64, f64)>, least: usize) -> f64 {
    let mut origin = None;
    let (mut n, mut sa, mut sb, mut saa, mut sbb, mut sab) = (0usize, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (x, y) in pairs {
        if x.is_nan() || y.is_nan() {
            continue;
        }
        // Sums about the first pair keep the cancellation small.
        let (x0, y0) = *origin.get_or_insert((x, y));
        let (x, y) = (x - x0, y - y0);
        n += 1;
        sa += x;
        sb += y;
        saa += x * x;
        sbb += y * y;
        sab += x * y;
    }
    if n < least.max(2) {
        return f64::NAN;
    }
    let n = n as f64;
    let (va, vb) = (saa - sa * sa / n, sbb - sb * sb / n);
    if va <= 1e-12 * saa.max(1e-12) || vb <= 1e-12 * sbb.max(1e-12) {
        return f64::NAN;
    }
    (sab - sa * sb / n) / (va * vb).sqrt()
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
