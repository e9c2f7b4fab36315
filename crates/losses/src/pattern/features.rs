//! The 113 consumption features of one customer, from daily kWh alone (and, for three of them, temperature).
//!
//! Notation: x daily kWh with gaps as NaN, m its mean, ref the population's seasonal curve (median of x/m over customers),
//! L = ln((x + 0.02 m) / (ref m + 0.02 m)): what is left when season and level are taken away. All features are relative to
//! the customer's own level except the mean itself; a feature that cannot be computed is NaN and the models treat it as missing.

use crate::pattern::statistics::{
    autocorrelation, block_means, correlation, deviation, differences, mean, median, quantile_sorted, sorted_known,
};

/// Number of features.
pub const COUNT: usize = 113;
/// Thirty-day blocks whose levels are features.
const BLOCKS: usize = 27;
const QUANTILES: [(f64, &str); 9] = [
    (0.01, "q01"),
    (0.05, "q05"),
    (0.10, "q10"),
    (0.25, "q25"),
    (0.50, "q50"),
    (0.75, "q75"),
    (0.90, "q90"),
    (0.95, "q95"),
    (0.99, "q99"),
];
const WEEKLY: [&str; 15] = [
    "drop_size",
    "drop_position",
    "drop_t",
    "before",
    "after",
    "variance_ratio",
    "rise_t",
    "cusum",
    "fall_4",
    "rise_4",
    "fall_8",
    "rise_8",
    "fall_13",
    "rise_13",
    "slope",
];

/// What all customers are compared with; the same for a whole population.
#[derive(Debug, Clone)]
pub struct Background {
    /// Seasonal curve by day, around 1.
    pub seasonal: Vec<f64>,
    /// Its first differences.
    pub seasonal_steps: Vec<f64>,
    /// Daily mean temperature in °C; empty when unknown.
    pub temperature_c: Vec<f64>,
}

impl Background {
    /// Prepares the curve and the temperature for use by every customer.
    pub fn new(seasonal: Vec<f64>, temperature_c: Vec<f64>) -> Self {
        let seasonal_steps = seasonal.windows(2).map(|w| w[1] - w[0]).collect();
        Self { seasonal, seasonal_steps, temperature_c }
    }
}

/// A customer's series in the forms that the features share.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Daily kWh, NaN = gap.
    pub kwh: Vec<f64>,
    /// Mean of the known days in kWh.
    pub mean: f64,
    /// L, see the module's notation.
    pub log_level: Vec<f64>,
    /// x / (ref m).
    pub ratio: Vec<f64>,
    /// First differences of `kwh` and of `ratio`; one shorter.
    pub kwh_steps: Vec<f64>,
    /// See `kwh_steps`.
    pub ratio_steps: Vec<f64>,
    /// Weekly means of `log_level`.
    pub log_weeks: Vec<f64>,
    /// Greatest fall and greatest rise in `log_weeks`.
    pub log_changes: Option<(Change, Change)>,
}

impl Prepared {
    /// Derives the shared forms.
    pub fn new(kwh: &[f64], background: &Background) -> Self {
        let m = mean(kwh);
        let floor = 0.02 * m;
        let mut log_level = Vec::with_capacity(kwh.len());
        let mut ratio = Vec::with_capacity(kwh.len());
        for (&x, &r) in kwh.iter().zip(&background.seasonal) {
            log_level.push(if m > 0.0 { ((x + floor) / (r * m + floor)).ln() } else { f64::NAN });
            ratio.push(if m > 0.0 { x / (r * m) } else { f64::NAN });
        }
        let log_weeks = block_means(&log_level, 7, 3);
        Self {
            kwh: kwh.to_vec(),
            mean: m,
            kwh_steps: differences(kwh),
            ratio_steps: differences(&ratio),
            log_changes: changes(&log_weeks),
            log_weeks,
            log_level,
            ratio,
        }
    }
}

/// Names of the features in order.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(COUNT);
    let fixed = |names: &mut Vec<String>, list: &[&str]| names.extend(list.iter().map(|s| (*s).to_owned()));
    fixed(&mut names, &["days", "first_day", "last_day", "gap_share", "longest_gap", "mean", "cv", "skew", "kurtosis"]);
    names.extend(QUANTILES.iter().map(|(_, n)| (*n).to_owned()));
    fixed(&mut names, &["zero_share", "low_share", "longest_zero_run", "longest_low_run", "low_runs"]);
    fixed(&mut names, &["step_mean", "step_median", "flat_share"]);
    names.extend([1, 2, 7, 14, 28].iter().map(|lag| format!("autocorrelation_{lag}")));
    names.extend((0..7).map(|d| format!("weekday_{d}")));
    fixed(&mut names, &["weekday_range"]);
    names.extend((0..BLOCKS).map(|b| format!("level_{b:02}")));
    fixed(&mut names, &["level_range", "level_min", "level_max", "level_sd"]);
    names.extend(WEEKLY.iter().map(|n| format!("log_{n}")));
    names.extend(WEEKLY.iter().map(|n| format!("ratio_{n}")));
    fixed(&mut names, &["season_correlation", "season_step_correlation", "quarter_step_correlation_min"]);
    fixed(&mut names, &["quarter_step_correlation_max", "quarter_cv_min", "quarter_cv_max", "quarter_cv_ratio"]);
    fixed(&mut names, &["temperature_correlation", "temperature_correlation_min", "temperature_correlation_max"]);
    fixed(&mut names, &["year_over_year", "year_overlap", "year_correlation"]);
    names
}

/// Appends the 113 features of a customer to `out`.
pub fn extract(series: &Prepared, background: &Background, out: &mut Vec<f64>) {
    record(&series.kwh, out);
    shape(series, out);
    low_use(series, out);
    steps(series, out);
    rhythm(series, out);
    levels(series, out);
    weekly(&series.log_weeks, series.log_changes, out);
    let ratio_weeks = block_means(&series.ratio, 7, 3);
    weekly(&ratio_weeks, changes(&ratio_weeks), out);
    season(series, background, out);
    temperature(series, background, out);
    year_over_year(series, out);
}

fn record(kwh: &[f64], out: &mut Vec<f64>) {
    let count = kwh.iter().filter(|v| !v.is_nan()).count();
    let first = kwh.iter().position(|v| !v.is_nan()).unwrap_or(0);
    let last = kwh.iter().rposition(|v| !v.is_nan()).unwrap_or(0);
    let span = last + 1 - first;
    let (longest_gap, _) = runs(kwh[first..=last.max(first)].iter().map(|v| Some(v.is_nan())));
    out.extend([count as f64, first as f64, last as f64, 1.0 - count as f64 / span.max(1) as f64, longest_gap as f64]);
}

fn shape(series: &Prepared, out: &mut Vec<f64>) {
    let m = series.mean;
    let sd = deviation(&series.kwh);
    let (mut third, mut fourth, mut count) = (0.0, 0.0, 0usize);
    for &v in series.kwh.iter().filter(|v| !v.is_nan()) {
        let z = (v - m) / sd;
        third += z * z * z;
        fourth += z * z * z * z;
        count += 1;
    }
    out.extend([m, sd / m, third / count as f64, fourth / count as f64]);
    let sorted = sorted_known(&series.kwh);
    out.extend(QUANTILES.iter().map(|(p, _)| quantile_sorted(&sorted, *p) / m));
}

/// (longest run, number of runs) of true; None (a gap) neither ends nor lengthens a run.
pub(crate) fn runs(flags: impl Iterator<Item = Option<bool>>) -> (usize, usize) {
    let (mut longest, mut current, mut count) = (0usize, 0usize, 0usize);
    for flag in flags.flatten() {
        if flag {
            current += 1;
            if current == 1 {
                count += 1;
            }
            longest = longest.max(current);
        } else {
            current = 0;
        }
    }
    (longest, count)
}

fn low_use(series: &Prepared, out: &mut Vec<f64>) {
    let below = |limit: f64| series.kwh.iter().map(move |v| if v.is_nan() { None } else { Some(*v < limit) });
    let share = |limit: f64| {
        let known = series.kwh.iter().filter(|v| !v.is_nan()).count().max(1);
        below(limit).flatten().filter(|b| *b).count() as f64 / known as f64
    };
    let zero = (0.02 * series.mean).max(0.02);
    let low = 0.3 * series.mean;
    let (zero_run, _) = runs(below(zero));
    let (low_run, low_runs) = runs(below(low));
    out.extend([share(zero), share(low), zero_run as f64, low_run as f64, low_runs as f64]);
}

fn steps(series: &Prepared, out: &mut Vec<f64>) {
    let steps: Vec<f64> = series.kwh_steps.iter().map(|step| step.abs() / series.mean).collect();
    let known = steps.iter().filter(|v| !v.is_nan()).count().max(1);
    let flat = steps.iter().filter(|v| **v < 0.01).count();
    out.extend([mean(&steps), median(&steps), flat as f64 / known as f64]);
}

fn rhythm(series: &Prepared, out: &mut Vec<f64>) {
    out.extend([1, 2, 7, 14, 28].iter().map(|lag| autocorrelation(&series.kwh, *lag)));
    let weekday = weekday_ratios(&series.ratio);
    out.extend(weekday);
    let (low, high) = extremes(&weekday);
    out.push(high - low);
}

/// Mean by day of the week relative to the overall mean; index 0 is the weekday of the first day.
pub(crate) fn weekday_ratios(values: &[f64]) -> [f64; 7] {
    let (mut sums, mut counts) = ([0.0; 7], [0usize; 7]);
    for week in values.chunks(7) {
        for ((sum, count), v) in sums.iter_mut().zip(&mut counts).zip(week) {
            *sum += if v.is_nan() { 0.0 } else { *v };
            *count += usize::from(!v.is_nan());
        }
    }
    let overall = sums.iter().sum::<f64>() / counts.iter().sum::<usize>().max(1) as f64;
    let mut ratios = [f64::NAN; 7];
    for ((ratio, sum), count) in ratios.iter_mut().zip(sums).zip(counts) {
        if count > 0 {
            *ratio = sum / count as f64 / overall;
        }
    }
    ratios
}

/// (least, greatest) of the known values; NaN when none is known.
pub(crate) fn extremes(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::NAN, f64::NAN), |(low, high), v| (low.min(*v), high.max(*v)))
}

fn levels(series: &Prepared, out: &mut Vec<f64>) {
    let mut levels = block_means(&series.log_level, 30, 8);
    levels.resize(BLOCKS, f64::NAN);
    let middle = median(&levels);
    for level in &mut levels {
        *level -= middle;
    }
    let (low, high) = extremes(&levels);
    out.extend(&levels);
    out.extend([high - low, low, high, deviation(&levels)]);
}

/// The best split of a weekly series into before and after.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// Index of the first value of the later part.
    pub at: usize,
    /// Two-sample t of (before − after): positive for a fall.
    pub t: f64,
    /// Mean before and after.
    pub before: f64,
    /// Mean from `at` on.
    pub after: f64,
    /// ln(variance after / variance before).
    pub variance_ratio: f64,
}

/// Least known weeks on either side of a change.
const LEAST_WEEKS: usize = 4;

/// The greatest fall and the greatest rise of a weekly series, by t; None when it is too short.
pub fn changes(weeks: &[f64]) -> Option<(Change, Change)> {
    let total_n = weeks.iter().filter(|v| !v.is_nan()).count();
    if total_n < 2 * LEAST_WEEKS {
        return None;
    }
    let (mut total, mut total_sq) = (0.0, 0.0);
    for &v in weeks.iter().filter(|v| !v.is_nan()) {
        total += v;
        total_sq += v * v;
    }
    let (mut n, mut sum, mut sq) = (0usize, 0.0, 0.0);
    let mut best: Option<(Change, Change)> = None;
    for (index, &v) in weeks.iter().enumerate() {
        if v.is_nan() {
            continue;
        }
        if n >= LEAST_WEEKS && total_n - n >= LEAST_WEEKS {
            let (n1, n2) = (n as f64, (total_n - n) as f64);
            let (before, after) = (sum / n1, (total - sum) / n2);
            let ss1 = (sq - sum * before).max(0.0);
            let ss2 = (total_sq - sq - (total - sum) * after).max(0.0);
            let pooled = ((ss1 + ss2) / (n1 + n2 - 2.0)).max(1e-6);
            let t = (before - after) / (pooled * (1.0 / n1 + 1.0 / n2)).sqrt();
            // The logarithm is taken of the changes that are kept alone.
            let change = || {
                let variance_ratio = ((ss2 / n2 + 1e-5) / (ss1 / n1 + 1e-5)).ln();
                Change { at: index, t, before, after, variance_ratio }
            };
            let (fall, rise) = best.get_or_insert_with(|| (change(), change()));
            if t > fall.t {
                *fall = change();
            }
            if t < rise.t {
                *rise = change();
            }
        }
        n += 1;
        sum += v;
        sq += v * v;
    }
    best
}

fn weekly(weeks: &[f64], changes: Option<(Change, Change)>, out: &mut Vec<f64>) {
    match changes {
        Some((fall, rise)) => out.extend([
            fall.before - fall.after,
            fall.at as f64,
            fall.t,
            fall.before,
            fall.after,
            fall.variance_ratio,
            -rise.t,
        ]),
        None => out.extend([f64::NAN; 7]),
    }
    out.push(cusum_maximum(weeks));
    let sums = running_sums(weeks);
    for width in [4, 8, 13] {
        let (fall, rise) = adjacent_windows(&sums, width);
        out.extend([fall, rise]);
    }
    out.push(slope(weeks));
}

/// Greatest standardised excursion of the cumulative sum of deviations from the mean, with sign of a fall positive.
fn cusum_maximum(weeks: &[f64]) -> f64 {
    let (m, sd) = (mean(weeks), deviation(weeks));
    let n = weeks.iter().filter(|v| !v.is_nan()).count();
    if n < 2 * LEAST_WEEKS || sd < 1e-9 {
        return f64::NAN;
    }
    let (mut sum, mut highest, mut lowest) = (0.0, 0.0f64, 0.0f64);
    for &v in weeks.iter().filter(|v| !v.is_nan()) {
        sum += (v - m) / sd;
        highest = highest.max(sum);
        lowest = lowest.min(sum);
    }
    let scale = (n as f64).sqrt();
    if highest > -lowest { highest / scale } else { lowest / scale }
}

/// (sum, count) of the known values before each place, and of all at the end.
fn running_sums(weeks: &[f64]) -> Vec<(f64, usize)> {
    let mut sums = Vec::with_capacity(weeks.len() + 1);
    let (mut sum, mut count) = (0.0, 0usize);
    sums.push((sum, count));
    for &v in weeks {
        if !v.is_nan() {
            sum += v;
            count += 1;
        }
        sums.push((sum, count));
    }
    sums
}

/// (deepest fall, highest rise) between the means of two adjacent windows of `width` values, in units of the series.
fn adjacent_windows(sums: &[(f64, usize)], width: usize) -> (f64, f64) {
    let window = |from: usize, to: usize| {
        let (s, n) = (sums[to].0 - sums[from].0, sums[to].1 - sums[from].1);
        if n * 2 < width { f64::NAN } else { s / n as f64 }
    };
    let (mut fall, mut rise) = (f64::NAN, f64::NAN);
    for middle in width..=(sums.len() - 1).saturating_sub(width) {
        let step = window(middle, middle + width) - window(middle - width, middle);
        fall = fall.min(step);
        rise = rise.max(step);
    }
    (fall, rise)
}

/// Least-squares slope per value.
pub(crate) fn slope(values: &[f64]) -> f64 {
    let (mut n, mut st, mut sv, mut stt, mut stv) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (t, &v) in values.iter().enumerate().filter(|(_, v)| !v.is_nan()) {
        let t = t as f64;
        n += 1.0;
        st += t;
        sv += v;
        stt += t * t;
        stv += t * v;
    }
    let spread = stt - st * st / n;
    if n < 2.0 * LEAST_WEEKS as f64 || spread <= 0.0 { f64::NAN } else { (stv - st * sv / n) / spread }
}

/// Days of a quarter.
const QUARTER: usize = 91;

fn season(series: &Prepared, background: &Background, out: &mut Vec<f64>) {
    out.push(correlation(&series.kwh, &background.seasonal, 30));
    out.push(correlation(&series.kwh_steps, &background.seasonal_steps, 30));
    let by_quarter: Vec<f64> = series
        .kwh_steps
        .chunks(QUARTER)
        .zip(background.seasonal_steps.chunks(QUARTER))
        .map(|(a, b)| correlation(a, b, 30))
        .collect();
    let (low, high) = extremes(&by_quarter);
    out.extend([low, high]);
    let spread: Vec<f64> = series
        .ratio
        .chunks(QUARTER)
        .map(|c| if c.iter().filter(|v| !v.is_nan()).count() < 30 { f64::NAN } else { deviation(c) / mean(c) })
        .collect();
    let (low, high) = extremes(&spread);
    out.extend([low, high, high / low.max(1e-6)]);
}

fn temperature(series: &Prepared, background: &Background, out: &mut Vec<f64>) {
    if background.temperature_c.is_empty() {
        out.extend([f64::NAN; 3]);
        return;
    }
    out.push(correlation(&series.kwh, &background.temperature_c, 60));
    let halves: Vec<f64> = series
        .kwh
        .chunks(2 * QUARTER)
        .zip(background.temperature_c.chunks(2 * QUARTER))
        .map(|(a, b)| correlation(a, b, 60))
        .collect();
    let (low, high) = extremes(&halves);
    out.extend([low, high]);
}

/// Days between the two years compared: 52 whole weeks, so that weekdays match.
const YEAR: usize = 364;

fn year_over_year(series: &Prepared, out: &mut Vec<f64>) {
    if series.kwh.len() <= YEAR {
        out.extend([f64::NAN, 0.0, f64::NAN]);
        return;
    }
    // Season is taken out first, so that a cold year does not look like a change of habit.
    let pairs = series.ratio.iter().zip(&series.ratio[YEAR..]).filter(|(a, b)| !a.is_nan() && !b.is_nan());
    let (mut earlier, mut later, mut overlap) = (0.0, 0.0, 0usize);
    for (a, b) in pairs {
        earlier += a;
        later += b;
        overlap += 1;
    }
    let ratio = if overlap < 28 {
        f64::NAN
    } else {
        ((later / overlap as f64 + 0.02) / (earlier / overlap as f64 + 0.02)).ln()
    };
    out.extend([ratio, overlap as f64, correlation(&series.ratio, &series.ratio[YEAR..], 28)]);
}
