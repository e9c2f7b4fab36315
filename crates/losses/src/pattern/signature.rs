//! Features that ask which tampering a series would look like, beyond the general description in `features`.
//!
//! Around the greatest fall the days before and after are compared in shape: a meter that counts a fixed share less keeps the
//! shape (all quantiles fall alike, rhythm and day-to-day noise relative to the level stay), a vacancy or a move does not; a
//! second feed cuts a constant off (low quantiles fall most); readings made up from a mean lose rhythm, memory and the
//! shared reaction to weather. Windows of 56 days look for the same without a fall.

use crate::pattern::features::{Background, Prepared, extremes, weekday_ratios};
use crate::pattern::statistics::{
    autocorrelation, block_means, correlation, deviation, mean, quantile, quantiles, sorted_known,
};

/// Names of the features in order.
pub const NAMES: [&str; 38] = [
    "split_q10_change",
    "split_q50_change",
    "split_q90_change",
    "split_low_minus_high",
    "split_amount_low",
    "split_amount_high",
    "split_memory_before",
    "split_memory_after",
    "split_week_memory_change",
    "split_weekday_agreement",
    "split_noise_before",
    "split_noise_after",
    "split_noise_change",
    "split_reaction_before",
    "split_reaction_after",
    "split_low_share_after",
    "split_flat_after",
    "recovery",
    "end_level",
    "ramp_gain",
    "ramp_slope",
    "ramp_start",
    "window_memory_min",
    "window_memory_max",
    "window_reaction_min",
    "window_reaction_max",
    "window_noise_min",
    "window_noise_max",
    "window_noise_ratio",
    "window_flat_max",
    "reversal",
    "reversal_max",
    "deep_share",
    "deep_runs",
    "deep_run_mean",
    "deep_level",
    "deep_edge",
    "two_level",
];

/// Least known days for a part of a series to be described.
const LEAST_DAYS: usize = 28;
/// Days of a window in the search without a fall.
const WINDOW: usize = 56;
/// Days of a block that a reversing manipulation turns round.
const REVERSAL: usize = 28;

/// Appends the features to `out`.
pub fn extract(series: &Prepared, background: &Background, out: &mut Vec<f64>) {
    let split = series.log_changes.map_or(series.kwh.len() / 2, |(fall, _)| fall.at * 7);
    around_split(series, background, split, out);
    after_split(&series.log_weeks, split / 7, out);
    windows(series, background, out);
    reversal(series, background, out);
    deep_days(series, out);
}

struct Part {
    quantiles: [f64; 3],
    memory: f64,
    week_memory: f64,
    noise: f64,
    reaction: f64,
    low_share: f64,
    flat: f64,
    weekday: [f64; 7],
}

fn describe(series: &Prepared, background: &Background, from: usize, to: usize) -> Part {
    let ratio = &series.ratio[from..to];
    let known = ratio.iter().filter(|v| !v.is_nan()).count();
    if known < LEAST_DAYS {
        let nan = f64::NAN;
        return Part {
            quantiles: [nan; 3],
            memory: nan,
            week_memory: nan,
            noise: nan,
            reaction: nan,
            low_share: nan,
            flat: nan,
            weekday: [nan; 7],
        };
    }
    let level = mean(ratio);
    let steps = &series.ratio_steps[from..to - 1];
    let last = (to - 1).min(background.seasonal_steps.len());
    let reaction = correlation(&series.kwh_steps[from..to - 1], &background.seasonal_steps[from.min(last)..last], 20);
    let flat_limit = 0.01 * level;
    Part {
        quantiles: quantiles(ratio, [0.1, 0.5, 0.9]),
        memory: autocorrelation(ratio, 1),
        week_memory: autocorrelation(ratio, 7),
        noise: deviation(steps) / level,
        reaction,
        low_share: ratio.iter().filter(|v| **v < 0.15).count() as f64 / known as f64,
        flat: steps.iter().filter(|v| v.abs() < flat_limit).count() as f64 / known as f64,
        weekday: weekday_ratios(ratio),
    }
}

fn around_split(series: &Prepared, background: &Background, split: usize, out: &mut Vec<f64>) {
    let days = series.kwh.len();
    let split = split.clamp(1, days - 1);
    let before = describe(series, background, 0, split);
    let after = describe(series, background, split, days);
    let change: Vec<f64> =
        before.quantiles.iter().zip(after.quantiles).map(|(b, a)| ((a + 0.02) / (b + 0.02)).ln()).collect();
    out.extend(&change);
    out.extend([
        change[0] - change[2],
        before.quantiles[0] - after.quantiles[0],
        before.quantiles[2] - after.quantiles[2],
        before.memory,
        after.memory,
        after.week_memory - before.week_memory,
        correlation(&before.weekday, &after.weekday, 7),
        before.noise,
        after.noise,
        ((after.noise + 0.01) / (before.noise + 0.01)).ln(),
        before.reaction,
        after.reaction,
        after.low_share,
        after.flat,
    ]);
}

fn after_split(weeks: &[f64], split: usize, out: &mut Vec<f64>) {
    let level_after = mean(&weeks[split.min(weeks.len())..]);
    let known: Vec<f64> = weeks.iter().copied().filter(|v| !v.is_nan()).collect();
    let tail = &known[known.len().saturating_sub(8)..];
    let lowest = adjacent_lowest(&known, 8);
    out.extend([mean(tail) - lowest, mean(tail) - mean(&known[..known.len().min(13)])]);
    // A ramp: level until a start, then a straight line to the end. Compared with one step by the sum of squares.
    let (mut best, mut best_start, mut best_slope) = (f64::INFINITY, f64::NAN, f64::NAN);
    let step_error = {
        let before = mean(&weeks[..split.min(weeks.len())]);
        let part = |values: &[f64], level: f64| -> f64 {
            values.iter().filter(|v| !v.is_nan()).map(|v| (v - level) * (v - level)).sum()
        };
        part(&weeks[..split.min(weeks.len())], before) + part(&weeks[split.min(weeks.len())..], level_after)
    };
    for (start, error, rate) in ramps(&known) {
        if error < best {
            (best, best_start, best_slope) = (error, start as f64, rate);
        }
    }
    out.extend([((step_error + 0.1) / (best + 0.1)).ln(), best_slope, best_start]);
}

fn adjacent_lowest(values: &[f64], width: usize) -> f64 {
    values.windows(width).map(mean).fold(f64::NAN, f64::min)
}

/// Weeks between the starts of ramps tried, and least weeks of a ramp.
const RAMP_STEP: usize = 4;
const LEAST_RAMP: usize = 12;

/// Least squares of v = a + b h, h = max(0, t − start), for every start tried: (start, sum of squares, b).
fn ramps(values: &[f64]) -> Vec<(usize, f64, f64)> {
    let n = values.len() as f64;
    let sum: f64 = values.iter().sum();
    let squares = values.iter().map(|v| v * v).sum::<f64>() - sum * sum / n;
    // Σ v and Σ (t − start) v from the start on, which grows from the end of the series.
    let (mut after, mut along) = (0.0, 0.0);
    let mut ramps = Vec::with_capacity(values.len().div_ceil(RAMP_STEP));
    for start in (0..values.len()).rev() {
        along += after;
        after += values[start];
        if start % RAMP_STEP > 0 || start + LEAST_RAMP >= values.len() {
            continue;
        }
        let last = (values.len() - 1 - start) as f64;
        let (height, heights) = (last * (last + 1.0) / 2.0, last * (last + 1.0) * (2.0 * last + 1.0) / 6.0);
        let spread = heights - height * height / n;
        let shared = along - height * sum / n;
        let rate = if spread > 0.0 { shared / spread } else { 0.0 };
        ramps.push((start, (squares - rate * shared).max(0.0), rate));
    }
    ramps.reverse();
    ramps
}

fn windows(series: &Prepared, background: &Background, out: &mut Vec<f64>) {
    let mut memory = Vec::new();
    let mut reaction = Vec::new();
    let mut noise = Vec::new();
    let mut flat = Vec::new();
    for from in (0..series.kwh.len().saturating_sub(WINDOW)).step_by(WINDOW) {
        let ratio = &series.ratio[from..from + WINDOW];
        if ratio.iter().filter(|v| !v.is_nan()).count() < LEAST_DAYS {
            continue;
        }
        let level = mean(ratio).max(1e-6);
        let inner = from..from + WINDOW - 1;
        let steps = &series.ratio_steps[inner.clone()];
        memory.push(autocorrelation(ratio, 1));
        reaction.push(correlation(&series.kwh_steps[inner], &background.seasonal_steps[from..], 20));
        noise.push(deviation(steps) / level);
        flat.push(steps.iter().filter(|v| v.abs() < 0.01 * level).count() as f64 / WINDOW as f64);
    }
    let (memory_min, memory_max) = extremes(&memory);
    let (reaction_min, reaction_max) = extremes(&reaction);
    let (noise_min, noise_max) = extremes(&noise);
    out.extend([memory_min, memory_max, reaction_min, reaction_max, noise_min, noise_max]);
    out.extend([noise_max / noise_min.max(1e-3), extremes(&flat).1]);
}

fn reversal(series: &Prepared, background: &Background, out: &mut Vec<f64>) {
    // Within a block read backwards, the day-to-day reaction to the shared curve matches the curve turned round.
    let mut gains = Vec::new();
    for from in (0..series.kwh.len().saturating_sub(REVERSAL)).step_by(REVERSAL) {
        let own = &series.kwh_steps[from..from + REVERSAL - 1];
        let shared = &background.seasonal_steps[from..from + REVERSAL - 1];
        let turned: [f64; REVERSAL - 1] = std::array::from_fn(|k| -shared[REVERSAL - 2 - k]);
        let forward = correlation(own, shared, 15);
        let backward = correlation(own, &turned, 15);
        gains.push(backward - forward);
    }
    out.extend([mean(&gains), extremes(&block_means(&gains, 4, 2)).1]);
}

/// Days far below the usual level come from absence or from bypassing; bypassing has sharp edges and even floors.
fn deep_days(series: &Prepared, out: &mut Vec<f64>) {
    let usual = quantile(&series.ratio, 0.75);
    let limit = 0.4 * usual;
    let (mut deep, mut total, mut runs, mut was_deep) = (Vec::new(), 0usize, 0usize, false);
    let mut edges = Vec::new();
    let mut previous = f64::NAN;
    for &v in series.ratio.iter().filter(|v| !v.is_nan()) {
        total += 1;
        let is_deep = v < limit;
        if is_deep {
            deep.push(v / usual);
        }
        if is_deep != was_deep {
            runs += usize::from(is_deep);
            edges.push((v - previous).abs() / usual);
        }
        was_deep = is_deep;
        previous = v;
    }
    let logs: Vec<f64> = series.log_level.iter().copied().filter(|v| !v.is_nan()).collect();
    out.extend([
        deep.len() as f64 / total.max(1) as f64,
        runs as f64,
        deep.len() as f64 / runs.max(1) as f64,
        mean(&deep),
        mean(&edges),
        two_level_gain(&logs),
    ]);
}

/// How much of the variance two fixed levels explain (Otsu): 1 = all, 0 = nothing.
fn two_level_gain(values: &[f64]) -> f64 {
    let sorted = sorted_known(values);
    let n = sorted.len();
    if n < LEAST_DAYS {
        return f64::NAN;
    }
    let total: f64 = sorted.iter().sum();
    let variance: f64 = {
        let m = total / n as f64;
        sorted.iter().map(|v| (v - m) * (v - m)).sum()
    };
    let mut sum = 0.0;
    let mut best = 0.0f64;
    for (index, v) in sorted.iter().enumerate().take(n - 1) {
        sum += v;
        let n1 = (index + 1) as f64;
        let n2 = (n - index - 1) as f64;
        let gap = sum / n1 - (total - sum) / n2;
        best = best.max(gap * gap * n1 * n2 / n as f64);
    }
    best / variance.max(1e-9)
}
