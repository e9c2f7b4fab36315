//! What the observer meter of a zone says about each customer below it.
//!
//! r(t) = M(t) − Σ reported x_i(t) − technical loss is the energy missing in the zone. A handful of thieves make it up, and
//! each leaves its own hand-writing in it day by day. Per customer three columns are tried, each from any onset τ on:
//!   scale    x_i(t)                       a meter that counts a fixed share: stolen = (1/α − 1) x
//!   ramp     x_i(t) (t − τ)/T             the share grows
//!   missing  max(0, level_i ref(t) − x_i(t))   spells, a second feed, made-up readings: what lacks to the usual level
//! They are matched with r by orthogonal matching pursuit: the best column of the zone is taken, everything is made orthogonal
//! to it, and so on, so that one thief's energy is not also charged to the neighbours. Daily variation (a 15-day moving
//! average taken away) counts fully, slow variation with the small weight `SLOW_WEIGHT`, because loss model and season are
//! wrong slowly. Onsets cost nothing: sums from τ to the end are running sums.
//!
//! Not a balance with error bars and not a finding: the columns are features for the models.

use crate::pattern::features::extremes;
use crate::pattern::statistics::{block_means, correlation, differences, mean, median, quantile, quantiles};

/// Names of the features in order.
pub const NAMES: [&str; 30] = [
    "zone_scale_z",
    "zone_scale_share",
    "zone_scale_onset",
    "zone_scale_z_first",
    "zone_negative_z",
    "zone_missing_z",
    "zone_missing_share",
    "zone_missing_onset",
    "zone_missing_z_first",
    "zone_ramp_z",
    "zone_ramp_z_first",
    "zone_best_z",
    "zone_best_rank",
    "zone_best_over_next",
    "zone_picked",
    "zone_kwh",
    "zone_kwh_share",
    "zone_missing_share_of_supply",
    "zone_left_share_of_supply",
    "zone_picks",
    "zone_step_ratio",
    "zone_step_z",
    "zone_step_at_best_ratio",
    "zone_reversal_z",
    "zone_reversal_share",
    "zone_change_correlation",
    "zone_level_correlation",
    "zone_half_shift",
    "zone_rise_kwh",
    "zone_kwh_log",
];

/// Weight of slow variation relative to daily variation.
const SLOW_WEIGHT: f64 = 0.01;
/// Days of the moving average that separates slow from daily.
const WINDOW: usize = 15;
/// Most columns taken in one zone; bounds the search.
const MOST_PICKS: usize = 10;
/// A column is taken only above this (squared z).
const LEAST_GAIN: f64 = 16.0;
/// Technical loss assumed: fixed share of peak, and load²/peak; the residual is only centred by it.
const FIXED_LOSS: f64 = 0.0055;
const LOAD_LOSS: f64 = 0.02;
/// Noise of an observer meter's day relative to its reading.
const METER_NOISE: f64 = 0.003;
/// Days of a block that a reversing manipulation turns round.
const REVERSAL: usize = 28;
/// Onsets are tried every so many days, and a column must last at least `LEAST_LENGTH` days.
const ONSET_STEP: usize = 7;
const LEAST_LENGTH: usize = 28;

/// One zone: the customers' series and the observer meter's, all of the same days; NaN = not known.
pub struct Zone<'a> {
    /// Daily kWh of each customer.
    pub customers: Vec<&'a [f64]>,
    /// Daily kWh through the observer meter.
    pub supplied: &'a [f64],
    /// Seasonal curve.
    pub seasonal: &'a [f64],
}

/// A column in the two views in which it is compared, already weighted.
#[derive(Clone)]
struct Column {
    fast: Vec<f64>,
    slow: Vec<f64>,
}

impl Column {
    fn new(values: &[f64], weights: &[f64]) -> Self {
        let average = moving_average(values, weights);
        let fast = values.iter().zip(&average).zip(weights).map(|((v, a), w)| (v - a) * w).collect();
        let slow = values.iter().zip(weights).map(|(v, w)| v * w * SLOW_WEIGHT.sqrt()).collect();
        Self { fast, slow }
    }

    fn cut_before(&self, onset: usize) -> Self {
        let cut = |values: &[f64]| -> Vec<f64> {
            values.iter().enumerate().map(|(t, v)| if t < onset { 0.0 } else { *v }).collect()
        };
        Self { fast: cut(&self.fast), slow: cut(&self.slow) }
    }

    fn dot(&self, other: &Self) -> f64 {
        dot(&self.fast, &other.fast) + dot(&self.slow, &other.slow)
    }

    fn subtract(&mut self, factor: f64, other: &Self) {
        for (a, b) in self.fast.iter_mut().zip(&other.fast) {
            *a -= factor * b;
        }
        for (a, b) in self.slow.iter_mut().zip(&other.slow) {
            *a -= factor * b;
        }
    }

    fn scale(&mut self, factor: f64) {
        self.fast.iter_mut().chain(&mut self.slow).for_each(|v| *v *= factor);
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
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

/// Centred moving average over `WINDOW` days of those with weight.
fn moving_average(values: &[f64], weights: &[f64]) -> Vec<f64> {
    let n = values.len();
    let mut sums = Vec::with_capacity(n + 1);
    sums.push((0.0, 0.0));
    for (v, w) in values.iter().zip(weights) {
        let (s, c): (f64, f64) = sums[sums.len() - 1];
        let counted = if *w > 0.0 { 1.0 } else { 0.0 };
        sums.push((s + v * counted, c + counted));
    }
    (0..n)
        .map(|t| {
            let (from, to) = (t.saturating_sub(WINDOW / 2), (t + WINDOW / 2 + 1).min(n));
            let count = sums[to].1 - sums[from].1;
            if count > 0.0 { (sums[to].0 - sums[from].0) / count } else { 0.0 }
        })
        .collect()
}

/// Gaps within the metered span filled by straight lines, zero outside it: how a sum over a zone must treat a customer.
fn filled(kwh: &[f64]) -> Vec<f64> {
    let mut values = vec![0.0; kwh.len()];
    let mut last: Option<usize> = None;
    for (t, &v) in kwh.iter().enumerate().filter(|(_, v)| !v.is_nan()) {
        if let Some(before) = last {
            let step = (v - kwh[before]) / (t - before) as f64;
            for (offset, value) in values[before..t].iter_mut().enumerate() {
                *value = kwh[before] + step * offset as f64;
            }
        }
        values[t] = v;
        last = Some(t);
    }
    values
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Scale,
    Missing,
    Ramp,
}

/// In the order of the arrays by shape.
const SHAPES: [Shape; 3] = [Shape::Scale, Shape::Missing, Shape::Ramp];

/// Products of a candidate's column with another from each of its onsets to the end: plain, and weighted with t/T.
struct Tail {
    scale: Vec<f64>,
    ramp: Vec<f64>,
}

/// The days from which thefts are tried.
#[derive(Clone, Copy)]
struct Onsets {
    first: usize,
    count: usize,
}

impl Onsets {
    fn new(first: usize, last: usize) -> Self {
        let end = (last + 1).saturating_sub(LEAST_LENGTH).max(first + 1);
        Self { first, count: (end - first).div_ceil(ONSET_STEP) }
    }

    fn day(self, index: usize) -> usize {
        self.first + index * ONSET_STEP
    }

    /// Sums of `term` from each onset to the end; `term` adds up the days of a range.
    fn tails<const N: usize>(self, days: usize, term: impl Fn(usize, usize) -> [f64; N]) -> [Vec<f64>; N] {
        let mut tails = std::array::from_fn(|_| vec![0.0; self.count]);
        let mut sums = [0.0; N];
        for index in (0..self.count).rev() {
            let end = if index + 1 == self.count { days } else { self.day(index + 1) };
            for ((sum, tail), part) in sums.iter_mut().zip(&mut tails).zip(term(self.day(index), end)) {
                *sum += part;
                tail[index] = *sum;
            }
        }
        tails
    }

    fn products(self, column: &Column, other: &Column) -> Tail {
        let n = column.fast.len();
        let [scale, ramp] = self.tails(n, |from, to| {
            let (mut plain, mut weighted, mut offset) = (0.0, 0.0, 0.0);
            let fast = column.fast[from..to].iter().zip(&other.fast[from..to]);
            let slow = column.slow[from..to].iter().zip(&other.slow[from..to]);
            for ((f, g), (s, r)) in fast.zip(slow) {
                let product = f * g + s * r;
                plain += product;
                weighted += product * offset;
                offset += 1.0;
            }
            [plain, (weighted + from as f64 * plain) / n as f64]
        });
        Tail { scale, ramp }
    }

    fn plain_products(self, column: &Column, other: &Column) -> Vec<f64> {
        let [tail] = self.tails(column.fast.len(), |from, to| {
            [dot(&column.fast[from..to], &other.fast[from..to]) + dot(&column.slow[from..to], &other.slow[from..to])]
        });
        tail
    }

    fn ramp_products(self, tail: &Tail, days: usize) -> Vec<f64> {
        let start = |index: usize| self.day(index) as f64 / days as f64;
        tail.scale.iter().zip(&tail.ramp).enumerate().map(|(i, (s, r))| r - start(i) * s).collect()
    }
}

/// The best onset of one shape: signed z, coefficient, onset.
#[derive(Clone, Copy, Debug)]
struct Match {
    z: f64,
    coefficient: f64,
    onset: usize,
}

const NO_MATCH: Match = Match { z: 0.0, coefficient: 0.0, onset: 0 };

/// Everything about one customer's columns that does not depend on the picks.
struct Candidate {
    scale: Column,
    missing: Column,
    kwh: Vec<f64>,
    missing_kwh: Vec<f64>,
    /// Squared lengths of the shapes from every onset.
    lengths: [Vec<f64>; 3],
    onsets: Onsets,
}

impl Candidate {
    fn new(kwh: &[f64], seasonal: &[f64], weights: &[f64]) -> Self {
        let values = filled(kwh);
        let first = kwh.iter().position(|v| !v.is_nan()).unwrap_or(0);
        let last = kwh.iter().rposition(|v| !v.is_nan()).unwrap_or(0);
        let ratio: Vec<f64> = kwh.iter().zip(seasonal).map(|(x, r)| x / r).collect();
        let level = quantile(&ratio, 0.85);
        let missing_kwh: Vec<f64> = values
            .iter()
            .zip(seasonal)
            .enumerate()
            .map(|(t, (x, r))| if t < first || t > last || level.is_nan() { 0.0 } else { (level * r - x).max(0.0) })
            .collect();
        let scale = Column::new(&values, weights);
        let missing = Column::new(&missing_kwh, weights);
        let n = values.len();
        let onsets = Onsets::new(first, last);
        let plain = onsets.products(&scale, &scale);
        let missing_length = onsets.plain_products(&missing, &missing);
        let [squares] = onsets.tails(n, |from, to| {
            let square = |t: usize| (t as f64 / n as f64).powi(2) * (scale.fast[t].powi(2) + scale.slow[t].powi(2));
            [(from..to).map(square).sum()]
        });
        let ramp_length = (0..onsets.count)
            .map(|i| {
                let u = onsets.day(i) as f64 / n as f64;
                squares[i] - 2.0 * u * plain.ramp[i] + u * u * plain.scale[i]
            })
            .collect();
        let lengths = [plain.scale, missing_length, ramp_length];
        Self { scale, missing, kwh: values, missing_kwh, lengths, onsets }
    }

    /// Inner products of the three shapes with `other` from every onset on.
    fn products(&self, other: &Column) -> [Vec<f64>; 3] {
        let tail = self.onsets.products(&self.scale, other);
        let ramp = self.onsets.ramp_products(&tail, other.fast.len());
        [tail.scale, self.onsets.plain_products(&self.missing, other), ramp]
    }

    fn column(&self, shape: Shape, onset: usize) -> Column {
        match shape {
            Shape::Scale => self.scale.cut_before(onset),
            Shape::Missing => self.missing.cut_before(onset),
            Shape::Ramp => {
                let mut column = self.scale.cut_before(onset);
                let n = column.fast.len() as f64;
                for (t, (f, s)) in column.fast.iter_mut().zip(&mut column.slow).enumerate() {
                    let u = t.saturating_sub(onset) as f64 / n;
                    *f *= u;
                    *s *= u;
                }
                column
            }
        }
    }

    fn energy(&self, shape: Shape, found: Match) -> f64 {
        let n = self.kwh.len() as f64;
        let from = found.onset;
        let sum: f64 = match shape {
            Shape::Scale => self.kwh[from..].iter().sum(),
            Shape::Missing => self.missing_kwh[from..].iter().sum(),
            Shape::Ramp => self.kwh[from..].iter().enumerate().map(|(k, v)| v * k as f64 / n).sum(),
        };
        found.coefficient * sum
    }
}

/// For each customer and shape: products with the residual, and lengths squared, after the picks so far.
#[derive(Clone)]
struct State {
    products: [Vec<f64>; 3],
    lengths: [Vec<f64>; 3],
}

impl State {
    fn new(candidate: &Candidate, residual: &Column) -> Self {
        Self { products: candidate.products(residual), lengths: candidate.lengths.clone() }
    }

    /// Makes everything orthogonal to the unit column `unit`, of which the residual held `amount`.
    fn project(&mut self, candidate: &Candidate, unit: &Column, amount: f64) {
        for (index, along) in candidate.products(unit).iter().enumerate() {
            for ((p, l), a) in self.products[index].iter_mut().zip(&mut self.lengths[index]).zip(along) {
                *p -= amount * a;
                *l -= a * a;
            }
        }
    }

    /// Best onset by signed z (`sign` +1 or −1) in units of `noise`.
    fn best(&self, candidate: &Candidate, shape: Shape, sign: f64, noise: f64) -> Match {
        let index = shape as usize;
        let rows = self.products[index].iter().zip(&self.lengths[index]).zip(&candidate.lengths[index]);
        // Squares are compared; the root is taken of the best alone.
        let (mut best, mut at) = (0.0, None);
        for (onset, ((product, length), original)) in rows.enumerate() {
            // A column almost inside the span of the picks says nothing.
            if sign * product <= 0.0 || *length <= 0.02 * original || *length <= 1e-9 {
                continue;
            }
            let gain = product * product / length;
            if gain > best {
                (best, at) = (gain, Some(onset));
            }
        }
        at.map_or(NO_MATCH, |i| Match {
            z: best.sqrt() / noise,
            coefficient: self.products[index][i] / self.lengths[index][i],
            onset: candidate.onsets.day(i),
        })
    }
}

/// What was taken in a zone.
struct Pick {
    customer: usize,
    shape: Shape,
    onset: usize,
    /// Unit columns before it.
    units_before: usize,
}

/// Features of every customer of a zone, in the zone's order.
pub fn extract(zone: &Zone<'_>) -> Vec<Vec<f64>> {
    let n = zone.customers.len();
    let days = zone.supplied.len();
    let known = zone.supplied.iter().filter(|v| !v.is_nan()).count();
    if n == 0 || known < 2 * LEAST_LENGTH {
        return vec![vec![f64::NAN; NAMES.len()]; n];
    }
    let peak = extremes(zone.supplied).1;
    let weights: Vec<f64> =
        zone.supplied.iter().map(|m| if *m > 0.0 { 1.0 / (METER_NOISE * m.max(0.1 * peak)) } else { 0.0 }).collect();
    let candidates: Vec<Candidate> =
        zone.customers.iter().map(|k| Candidate::new(k, zone.seasonal, &weights)).collect();
    let mut residual_kwh = vec![0.0; days];
    for t in 0..days {
        if weights[t] > 0.0 {
            let m = zone.supplied[t];
            let metered: f64 = candidates.iter().map(|c| c.kwh[t]).sum();
            residual_kwh[t] = m - metered - FIXED_LOSS * peak - LOAD_LOSS * m * m / peak;
        }
    }
    let base = Pursuit::new(&candidates, &residual_kwh, zone.supplied, &weights);
    let pursued = base.run(&candidates);
    let shared = Shared::new(zone, &candidates, &residual_kwh, &weights);
    describe(&shared, &base, &pursued)
}

/// What all customers of a zone are compared with.
struct Shared<'a> {
    zone: &'a Zone<'a>,
    candidates: &'a [Candidate],
    residual_kwh: &'a [f64],
    weights: &'a [f64],
    /// Missing energy by day, NaN = not known; its running sums, weekly means and their differences.
    missing: Running,
    weekly: Vec<f64>,
    weekly_steps: Vec<f64>,
    /// Median size of the missing energy's own steps.
    usual_step: f64,
    /// Second half minus first half.
    half_shift: f64,
    /// Between the 10th and 90th percentile of the weekly means.
    range: f64,
}

impl<'a> Shared<'a> {
    fn new(zone: &'a Zone<'a>, candidates: &'a [Candidate], residual_kwh: &'a [f64], weights: &'a [f64]) -> Self {
        let missing: Vec<f64> =
            residual_kwh.iter().zip(weights).map(|(r, w)| if *w > 0.0 { *r } else { f64::NAN }).collect();
        let days = missing.len();
        let running = Running::new(missing.iter().copied());
        let starts = (STEP_DAYS..days.saturating_sub(STEP_DAYS)).step_by(14);
        let spread: Vec<f64> = starts.map(|t| running.step(t).abs()).collect();
        let weekly = block_means(&missing, 7, 3);
        let [low, high] = quantiles(&weekly, [0.1, 0.9]);
        let half = days / 2;
        Self {
            zone,
            candidates,
            residual_kwh,
            weights,
            weekly_steps: differences(&weekly),
            weekly,
            usual_step: median(&spread),
            half_shift: running.mean(half, days) - running.mean(0, half),
            range: high - low,
            missing: running,
        }
    }
}

/// Running sums and counts of the known days of a series.
struct Running {
    sums: Vec<(f64, u32)>,
}

impl Running {
    fn new(values: impl Iterator<Item = f64>) -> Self {
        let (mut sum, mut count) = (0.0, 0);
        let mut sums = vec![(0.0, 0)];
        sums.extend(values.map(|v| {
            if !v.is_nan() {
                sum += v;
                count += 1;
            }
            (sum, count)
        }));
        Self { sums }
    }

    /// Mean of the known days of a range; NaN without any.
    fn mean(&self, from: usize, to: usize) -> f64 {
        let count = self.sums[to].1 - self.sums[from].1;
        if count == 0 { f64::NAN } else { (self.sums[to].0 - self.sums[from].0) / f64::from(count) }
    }

    /// Mean of the `STEP_DAYS` from `at` on minus that of the days before.
    fn step(&self, at: usize) -> f64 {
        let days = self.sums.len() - 1;
        self.mean(at, (at + STEP_DAYS).min(days)) - self.mean(at.saturating_sub(STEP_DAYS), at)
    }
}

/// The pursuit: the residual made orthogonal to the picks, and all customers' states.
struct Pursuit {
    residual: Column,
    /// Unit columns taken, and how much of each the residual held.
    units: Vec<(Column, f64)>,
    picks: Vec<Pick>,
    states: Vec<State>,
}

impl Pursuit {
    /// Starts with the loss model's two columns (a constant and load²) taken out.
    fn new(candidates: &[Candidate], residual_kwh: &[f64], supplied: &[f64], weights: &[f64]) -> Self {
        let residual = Column::new(residual_kwh, weights);
        let states = candidates.iter().map(|c| State::new(c, &residual)).collect();
        let mut start = Self { residual, units: Vec::new(), picks: Vec::new(), states };
        let ones: Vec<f64> = weights.iter().map(|w| if *w > 0.0 { 1.0 } else { 0.0 }).collect();
        let load: Vec<f64> = supplied.iter().map(|m| if m.is_nan() { 0.0 } else { m * m }).collect();
        for nuisance in [ones, load] {
            start.take(Column::new(&nuisance, weights), candidates);
        }
        start
    }

    fn orthogonal(&self, mut column: Column) -> Option<Column> {
        let length = column.dot(&column);
        for (unit, _) in &self.units {
            let along = column.dot(unit);
            column.subtract(along, unit);
        }
        let left = column.dot(&column);
        if left <= 1e-6 * length || left <= 0.0 {
            return None;
        }
        column.scale(1.0 / left.sqrt());
        Some(column)
    }

    fn take(&mut self, column: Column, candidates: &[Candidate]) {
        let Some(unit) = self.orthogonal(column) else { return };
        let amount = self.residual.dot(&unit);
        self.residual.subtract(amount, &unit);
        for (state, candidate) in self.states.iter_mut().zip(candidates) {
            state.project(candidate, &unit, amount);
        }
        self.units.push((unit, amount));
    }

    fn noise(&self, weights: &[f64]) -> f64 {
        noise(&self.residual, weights)
    }

    fn run(&self, candidates: &[Candidate]) -> Self {
        let mut work = Self {
            residual: self.residual.clone(),
            units: self.units.clone(),
            picks: Vec::new(),
            states: self.states.clone(),
        };
        for _ in 0..MOST_PICKS {
            let mut best: Option<(usize, Shape, Match)> = None;
            for (index, (state, candidate)) in work.states.iter().zip(candidates).enumerate() {
                for shape in SHAPES {
                    let found = state.best(candidate, shape, 1.0, 1.0);
                    if best.is_none_or(|(_, _, b)| found.z > b.z) {
                        best = Some((index, shape, found));
                    }
                }
            }
            let Some((customer, shape, found)) = best else { break };
            if found.z * found.z < LEAST_GAIN {
                break;
            }
            let units_before = work.units.len();
            work.take(candidates[customer].column(shape, found.onset), candidates);
            work.picks.push(Pick { customer, shape, onset: found.onset, units_before });
        }
        work
    }

    /// The state of one customer when all picks but its own are taken.
    fn without(&self, base: &Pursuit, candidates: &[Candidate], customer: usize) -> State {
        let mut work = Pursuit {
            residual: base.residual.clone(),
            units: base.units.clone(),
            picks: Vec::new(),
            states: vec![base.states[customer].clone()],
        };
        let own = std::slice::from_ref(&candidates[customer]);
        // Up to its first own pick nothing changes; from there on the columns are made orthogonal anew.
        let first = self.picks.iter().position(|p| p.customer == customer).unwrap_or(self.picks.len());
        let kept = self.picks.get(first).map_or(self.units.len(), |p| p.units_before);
        for (unit, amount) in &self.units[base.units.len()..kept] {
            work.residual.subtract(*amount, unit);
            work.states[0].project(&own[0], unit, *amount);
            work.units.push((unit.clone(), *amount));
        }
        for pick in self.picks[first..].iter().filter(|p| p.customer != customer) {
            work.take(candidates[pick.customer].column(pick.shape, pick.onset), own);
        }
        work.states.remove(0)
    }
}

/// Root mean square of the daily part of a weighted residual.
fn noise(residual: &Column, weights: &[f64]) -> f64 {
    let known = weights.iter().filter(|w| **w > 0.0).count().max(1);
    (dot(&residual.fast, &residual.fast) / known as f64).sqrt().max(0.3)
}

fn describe(shared: &Shared<'_>, base: &Pursuit, pursued: &Pursuit) -> Vec<Vec<f64>> {
    let candidates = shared.candidates;
    let zone = shared.zone;
    let noise_first = base.noise(shared.weights);
    let noise_last = pursued.noise(shared.weights);
    let supply: f64 = zone.supplied.iter().filter(|v| !v.is_nan()).sum();
    let missing_share = shared.residual_kwh.iter().sum::<f64>() / supply;
    let turned = Turned::new(shared.weights, &pursued.residual.fast);
    let mut rows = Vec::with_capacity(candidates.len());
    let mut best_of = Vec::with_capacity(candidates.len());
    for (index, candidate) in candidates.iter().enumerate() {
        let own_state;
        let state = if pursued.picks.iter().any(|p| p.customer == index) {
            own_state = pursued.without(base, candidates, index);
            &own_state
        } else {
            &pursued.states[index]
        };
        let found = SHAPES.map(|s| state.best(candidate, s, 1.0, noise_last));
        let first = SHAPES.map(|s| base.states[index].best(candidate, s, 1.0, noise_first));
        let negative = state.best(candidate, Shape::Scale, -1.0, noise_last);
        let strongest = (0..3).max_by(|a, b| found[*a].z.total_cmp(&found[*b].z)).unwrap_or(0);
        let kwh = candidate.energy(SHAPES[strongest], found[strongest]);
        let own: f64 = candidate.kwh.iter().sum::<f64>().max(1.0);
        let picked = pursued.picks.iter().position(|p| p.customer == index);
        best_of.push(found[strongest].z);
        let mut row = Vec::with_capacity(NAMES.len());
        let onset = |m: Match| m.onset as f64;
        row.extend([found[0].z, found[0].coefficient, onset(found[0]), first[0].z, negative.z]);
        row.extend([found[1].z, found[1].coefficient, onset(found[1]), first[1].z]);
        row.extend([found[2].z, first[2].z, found[strongest].z]);
        // Rank and distance to the next need all customers; filled in below.
        row.extend([0.0, 0.0]);
        row.push(picked.map_or(-1.0, |p| (MOST_PICKS - p) as f64));
        row.extend([kwh / own, kwh / (missing_share * supply).abs().max(0.002 * supply)]);
        let left = pursued.residual.slow.iter().zip(shared.weights).filter(|(_, w)| **w > 0.0);
        let left: f64 = left.map(|(s, w)| s / w / SLOW_WEIGHT.sqrt()).sum::<f64>() / supply;
        row.extend([missing_share, left, pursued.picks.len() as f64]);
        let kwh_by_day = zone.customers[index];
        let adjusted: Vec<f64> = kwh_by_day.iter().zip(zone.seasonal).map(|(x, r)| x / r).collect();
        let own_mean = mean(kwh_by_day).max(0.1);
        steps(shared, &adjusted, own_mean, found[strongest].onset, &mut row);
        turned.describe(&candidate.kwh, noise_last, &mut row);
        slow_comparison(shared, &adjusted, own_mean, &mut row);
        row.push(kwh.max(0.0).ln_1p());
        rows.push(row);
    }
    let order = crate::pattern::metrics::ranking(&best_of);
    for (rank, &index) in order.iter().enumerate() {
        let other = if rank == 0 { order.get(1) } else { order.first() };
        rows[index][12] = rank as f64;
        rows[index][13] = best_of[index] - other.map_or(0.0, |&o| best_of[o]);
    }
    rows
}

/// Days on either side of a step that is compared between customer and zone.
const STEP_DAYS: usize = 42;

/// Does the zone's missing energy rise when and by as much as the customer's use falls?
fn steps(shared: &Shared<'_>, adjusted: &[f64], own_mean: f64, best_onset: usize, row: &mut Vec<f64>) {
    let own = Running::new(adjusted.iter().copied());
    let days = adjusted.len();
    let (mut deepest, mut at) = (0.0, 0);
    for t in (STEP_DAYS..days.saturating_sub(STEP_DAYS)).step_by(7) {
        let fall = -own.step(t);
        if fall > deepest {
            (deepest, at) = (fall, t);
        }
    }
    let rise = if at > 0 { shared.missing.step(at) } else { f64::NAN };
    row.push((rise / deepest.max(0.05 * own_mean)).clamp(-5.0, 5.0));
    row.push(rise / shared.usual_step.max(0.1));
    let inside = best_onset >= STEP_DAYS && best_onset + STEP_DAYS <= days;
    row.push(if inside { -own.step(best_onset) / own_mean } else { f64::NAN });
}

/// Readings turned round within 28-day blocks leave (turned − reported) in the residual, with coefficient one. What of
/// that comparison is the same for all customers of a zone.
struct Turned {
    /// Weight² and weight × residual by day.
    squares: Vec<f64>,
    residual: Vec<f64>,
}

impl Turned {
    fn new(weights: &[f64], residual: &[f64]) -> Self {
        Self {
            squares: weights.iter().map(|w| w * w).collect(),
            residual: weights.iter().zip(residual).map(|(w, r)| w * r).collect(),
        }
    }

    /// (product with the residual, squared length) of the block that begins at `start`.
    fn block(&self, kwh: &[f64], start: usize) -> (f64, f64) {
        let range = start..start + REVERSAL;
        let (values, squares, residual) = (&kwh[range.clone()], &self.squares[range.clone()], &self.residual[range]);
        let (mut product, mut length) = (0.0, 0.0);
        // The difference at the mirrored day has the opposite sign.
        for k in 0..REVERSAL / 2 {
            let mirrored = REVERSAL - 1 - k;
            let difference = values[mirrored] - values[k];
            product += difference * (residual[k] - residual[mirrored]);
            length += difference * difference * (squares[k] + squares[mirrored]);
        }
        (product, length)
    }

    /// Appends the best z over where the blocks may lie and since when they are turned, and its coefficient.
    fn describe(&self, kwh: &[f64], noise: f64, row: &mut Vec<f64>) {
        let days = kwh.len();
        let (mut best, mut best_share) = (0.0, 0.0);
        for offset in 0..REVERSAL.min(days.saturating_sub(REVERSAL - 1)) {
            let blocks = (days - offset) / REVERSAL;
            let (mut product, mut length) = (0.0f64, 0.0);
            for start in (0..blocks).rev().map(|b| offset + b * REVERSAL) {
                let (p, l) = self.block(kwh, start);
                product += p;
                length += l;
                if product > 0.0 && length > 0.0 && days - start >= 2 * REVERSAL && product * product > best * length {
                    (best, best_share) = (product * product / length, product / length);
                }
            }
        }
        row.extend([best.sqrt() / noise, best_share]);
    }
}

/// The plain weekly comparisons that carried signal by themselves.
fn slow_comparison(shared: &Shared<'_>, adjusted: &[f64], own_mean: f64, row: &mut Vec<f64>) {
    let own = block_means(adjusted, 7, 3);
    row.push(correlation(&differences(&own), &shared.weekly_steps, 12));
    row.push(correlation(&own, &shared.weekly, 12));
    row.push(shared.half_shift / own_mean);
    row.push(shared.range / own_mean);
}
