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
use crate::pattern::statistics::{correlation, differences, mean, median, quantile};

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

const SHAPES: [Shape; 3] = [Shape::Scale, Shape::Missing, Shape::Ramp];

/// Running sums, from the end, of a column's products; index τ = sum over t ≥ τ.
struct Tail {
    scale: Vec<f64>,
    /// Products with t/T as well, for the ramp.
    ramp: Vec<f64>,
}

/// Products with `other` from every onset on: plain, and weighted with t/T.
fn tails(column: &Column, other: &Column) -> Tail {
    let n = column.fast.len();
    let mut scale = vec![0.0; n + 1];
    let mut ramp = vec![0.0; n + 1];
    for t in (0..n).rev() {
        let product = column.fast[t] * other.fast[t] + column.slow[t] * other.slow[t];
        scale[t] = scale[t + 1] + product;
        ramp[t] = ramp[t + 1] + product * (t as f64 / n as f64);
    }
    Tail { scale, ramp }
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
    /// Squared lengths from every onset: scale, missing, and ramp.
    scale_length: Vec<f64>,
    missing_length: Vec<f64>,
    ramp_length: Vec<f64>,
    first: usize,
    last: usize,
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
        let scale_tail = tails(&scale, &scale);
        let missing_length = tails(&missing, &missing).scale;
        let mut squares = vec![0.0; n + 1];
        for t in (0..n).rev() {
            let u = t as f64 / n as f64;
            squares[t] = squares[t + 1] + u * u * (scale.fast[t].powi(2) + scale.slow[t].powi(2));
        }
        let ramp_length = (0..=n)
            .map(|t| {
                let u = t as f64 / n as f64;
                squares[t] - 2.0 * u * scale_tail.ramp[t] + u * u * scale_tail.scale[t]
            })
            .collect();
        let (scale_length, kwh) = (scale_tail.scale, values);
        Self { scale, missing, kwh, missing_kwh, scale_length, missing_length, ramp_length, first, last }
    }

    /// Inner products with `other` of one shape from every onset on.
    fn products(&self, shape: Shape, other: &Column) -> Vec<f64> {
        match shape {
            Shape::Scale => tails(&self.scale, other).scale,
            Shape::Missing => tails(&self.missing, other).scale,
            Shape::Ramp => {
                let tail = tails(&self.scale, other);
                ramp_products(&tail)
            }
        }
    }

    fn lengths(&self, shape: Shape) -> &[f64] {
        match shape {
            Shape::Scale => &self.scale_length,
            Shape::Missing => &self.missing_length,
            Shape::Ramp => &self.ramp_length,
        }
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

    fn onsets(&self) -> impl Iterator<Item = usize> {
        let end = (self.last + 1).saturating_sub(LEAST_LENGTH).max(self.first + 1);
        (self.first..end).step_by(ONSET_STEP)
    }
}

fn ramp_products(tail: &Tail) -> Vec<f64> {
    let n = (tail.scale.len() - 1) as f64;
    tail.scale.iter().zip(&tail.ramp).enumerate().map(|(t, (s, r))| r - t as f64 / n * s).collect()
}

/// For each customer and shape: products with the residual, and lengths squared, after the picks so far.
struct State {
    products: [Vec<f64>; 3],
    lengths: [Vec<f64>; 3],
}

impl State {
    fn new(candidate: &Candidate, residual: &Column) -> Self {
        Self {
            products: SHAPES.map(|s| candidate.products(s, residual)),
            lengths: SHAPES.map(|s| candidate.lengths(s).to_vec()),
        }
    }

    /// Makes everything orthogonal to the unit column `unit`, of which the residual held `amount`.
    fn project(&mut self, candidate: &Candidate, unit: &Column, amount: f64) {
        let scale = tails(&candidate.scale, unit);
        let ramp = ramp_products(&scale);
        let missing = candidate.products(Shape::Missing, unit);
        for (index, along) in [scale.scale, missing, ramp].iter().enumerate() {
            for ((p, l), a) in self.products[index].iter_mut().zip(&mut self.lengths[index]).zip(along) {
                *p -= amount * a;
                *l -= a * a;
            }
        }
    }

    /// Best onset by signed z (`sign` +1 or −1) in units of `noise`.
    fn best(&self, candidate: &Candidate, shape: Shape, sign: f64, noise: f64) -> Match {
        let index = SHAPES.iter().position(|s| *s == shape).unwrap_or(0);
        let original = candidate.lengths(shape);
        let mut best = NO_MATCH;
        for onset in candidate.onsets() {
            let length = self.lengths[index][onset];
            // A column almost inside the span of the picks says nothing.
            if length <= 0.02 * original[onset] || length <= 1e-9 {
                continue;
            }
            let z = sign * self.products[index][onset] / length.sqrt() / noise;
            if z > best.z {
                best = Match { z, coefficient: self.products[index][onset] / length, onset };
            }
        }
        best
    }
}

/// What was taken in a zone.
struct Pick {
    customer: usize,
    shape: Shape,
    onset: usize,
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
    let shared = Shared { zone, candidates: &candidates, residual_kwh: &residual_kwh, weights: &weights };
    describe(&shared, &base, &pursued)
}

struct Shared<'a> {
    zone: &'a Zone<'a>,
    candidates: &'a [Candidate],
    residual_kwh: &'a [f64],
    weights: &'a [f64],
}

/// The pursuit: the residual made orthogonal to the picks, and all customers' states.
struct Pursuit {
    residual: Column,
    units: Vec<Column>,
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
        for unit in &self.units {
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
        self.units.push(unit);
    }

    fn noise(&self, weights: &[f64]) -> f64 {
        noise(&self.residual, weights)
    }

    fn run(&self, candidates: &[Candidate]) -> Self {
        let mut work = Self {
            residual: self.residual.clone(),
            units: self.units.clone(),
            picks: Vec::new(),
            states: self
                .states
                .iter()
                .map(|s| State { products: s.products.clone(), lengths: s.lengths.clone() })
                .collect(),
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
            work.take(candidates[customer].column(shape, found.onset), candidates);
            work.picks.push(Pick { customer, shape, onset: found.onset });
        }
        work
    }

    /// The state of one customer when all picks but its own are taken.
    fn without(&self, base: &Pursuit, candidates: &[Candidate], customer: usize) -> (State, f64) {
        let mut work = Pursuit {
            residual: base.residual.clone(),
            units: base.units.clone(),
            picks: Vec::new(),
            states: vec![State {
                products: base.states[customer].products.clone(),
                lengths: base.states[customer].lengths.clone(),
            }],
        };
        let own = std::slice::from_ref(&candidates[customer]);
        for pick in self.picks.iter().filter(|p| p.customer != customer) {
            work.take(candidates[pick.customer].column(pick.shape, pick.onset), own);
        }
        let length = work.residual.dot(&work.residual).sqrt();
        (work.states.remove(0), length)
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
    let mut rows = Vec::with_capacity(candidates.len());
    let mut best_of = Vec::with_capacity(candidates.len());
    for (index, candidate) in candidates.iter().enumerate() {
        let own_state;
        let state = if pursued.picks.iter().any(|p| p.customer == index) {
            own_state = pursued.without(base, candidates, index).0;
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
        steps(shared, index, found[strongest].onset, &mut row);
        reversal(shared, pursued, index, noise_last, &mut row);
        slow_comparison(shared, index, &mut row);
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
fn steps(shared: &Shared<'_>, index: usize, best_onset: usize, row: &mut Vec<f64>) {
    let kwh = shared.zone.customers[index];
    let adjusted: Vec<f64> = kwh.iter().zip(shared.zone.seasonal).map(|(x, r)| x / r).collect();
    let missing: Vec<f64> =
        shared.residual_kwh.iter().zip(shared.weights).map(|(r, w)| if *w > 0.0 { *r } else { f64::NAN }).collect();
    let step = |values: &[f64], at: usize| {
        let before = mean(&values[at.saturating_sub(STEP_DAYS)..at]);
        let after = mean(&values[at..(at + STEP_DAYS).min(values.len())]);
        after - before
    };
    let own_mean = mean(kwh).max(0.1);
    let (mut deepest, mut at) = (0.0, 0);
    for t in (STEP_DAYS..kwh.len().saturating_sub(STEP_DAYS)).step_by(7) {
        let fall = -step(&adjusted, t);
        if fall > deepest {
            (deepest, at) = (fall, t);
        }
    }
    let rise = if at > 0 { step(&missing, at) } else { f64::NAN };
    let spread: Vec<f64> =
        (STEP_DAYS..missing.len().saturating_sub(STEP_DAYS)).step_by(14).map(|t| step(&missing, t).abs()).collect();
    row.push((rise / deepest.max(0.05 * own_mean)).clamp(-5.0, 5.0));
    row.push(rise / median(&spread).max(0.1));
    let inside = best_onset >= STEP_DAYS && best_onset + STEP_DAYS <= kwh.len();
    let at_best = if inside { -step(&adjusted, best_onset) / own_mean } else { f64::NAN };
    row.push(at_best);
}

/// Readings turned round within 28-day blocks leave (turned − reported) in the residual, with coefficient one.
fn reversal(shared: &Shared<'_>, pursued: &Pursuit, index: usize, noise: f64, row: &mut Vec<f64>) {
    let values = &shared.candidates[index].kwh;
    let days = values.len();
    let (mut best_z, mut best_share) = (0.0, 0.0);
    for offset in 0..REVERSAL {
        let mut turned = vec![0.0; days];
        for start in (offset..days.saturating_sub(REVERSAL - 1)).step_by(REVERSAL) {
            for k in 0..REVERSAL {
                let t = start + k;
                turned[t] = (values[start + REVERSAL - 1 - k] - values[t]) * shared.weights[t];
            }
        }
        let (mut product, mut length) = (0.0, 0.0);
        let mut t = days;
        while t > offset {
            t -= 1;
            product += turned[t] * pursued.residual.fast[t];
            length += turned[t] * turned[t];
            if t % REVERSAL == offset && length > 0.0 && days - t >= 2 * REVERSAL {
                let z: f64 = product / length.sqrt() / noise;
                if z > best_z {
                    (best_z, best_share) = (z, product / length);
                }
            }
        }
    }
    row.extend([best_z, best_share]);
}

/// The plain weekly comparisons that carried signal by themselves.
fn slow_comparison(shared: &Shared<'_>, index: usize, row: &mut Vec<f64>) {
    let weekly = |values: &[f64]| crate::pattern::statistics::block_means(values, 7, 3);
    let kwh = shared.zone.customers[index];
    let adjusted: Vec<f64> = kwh.iter().zip(shared.zone.seasonal).map(|(x, r)| x / r).collect();
    let missing: Vec<f64> =
        shared.residual_kwh.iter().zip(shared.weights).map(|(r, w)| if *w > 0.0 { *r } else { f64::NAN }).collect();
    let (own, zone) = (weekly(&adjusted), weekly(&missing));
    row.push(correlation(&differences(&own), &differences(&zone), 12));
    row.push(correlation(&own, &zone, 12));
    let half = missing.len() / 2;
    let own_mean = mean(kwh).max(0.1);
    row.push((mean(&missing[half..]) - mean(&missing[..half])) / own_mean);
    let (low, high) = (quantile(&zone, 0.1), quantile(&zone, 0.9));
    row.push((high - low) / own_mean);
}
