//! Lost measurements: what is missing, given what arrived and what was seen last, with calibrated intervals.
//!
//! History gives every channel a mean and spread by slot of the day (smoothed over neighbouring slots: three weeks are few).
//! The standardised deviations follow `d(t) = a d(t-1) + b d(t-2) + e` with a, b and the spread of e by channel and slot of the
//! day, and one correlation of the innovations e, shrunk towards its diagonal: `Q ← (1 - s) Q + s diag Q`. A Kalman filter
//! carries the covariance of what is unknown, of this slot and the one before, from slot to slot. What arrives is exact, so the
//! unknown part l given the available part k is `d_l = d⁻_l + P⁻_lk P⁻_kk⁻¹ (d_k - d⁻_k)`, `P_l = P⁻_ll - P⁻_lk P⁻_kk⁻¹ P⁻_kl`:
//! one elimination, whatever the pattern.
//!
//! Household loads are not Gaussian, so the spread is calibrated inside the history: days are left out, losses are drawn on
//! them, and the 90 % quantile of the standardised errors becomes a factor, by how long ago a channel was last seen.
//! Recovered values are estimates with intervals; they are never readings.

use crate::bench::Draw;
use crate::dense::condition;
use crate::error::GridError;
use crate::lost_course::{Course, autoregression, daily_shape, shrunk_covariance};

/// 90 % of a normal variable lies within this many standard deviations.
pub const INTERVAL_90: f64 = 1.644_853_6;
/// Calibration classes end at these parts of a day since a channel was last seen (half an hour, three hours); the last is open.
const AGE_CLASSES: [f64; 2] = [2.0 / 96.0, 12.0 / 96.0];
const FOLDS: usize = 7;

/// Which measurements are lost over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outage {
    /// Every value on its own with this probability.
    Random { share: f64 },
    /// A share of neighbouring channels (those of one concentrator) for a run of slots, then all is well for as long.
    Concentrator { share: f64, slots: usize },
}

impl Outage {
    /// Draws `slots` rows of `channels`: true where the value is lost.
    pub fn draw(&self, slots: usize, channels: usize, draw: &mut Draw) -> Vec<bool> {
        let mut lost = vec![false; slots * channels];
        match *self {
            Outage::Random { share } => lost.iter_mut().for_each(|l| *l = draw.uniform() < share),
            Outage::Concentrator { share, slots: length } => {
                let width = ((share * channels as f64).round() as usize).clamp(1, channels);
                let mut at = 0;
                while at < slots {
                    let first = ((draw.uniform() * (channels - width + 1) as f64) as usize).min(channels - width);
                    for row in at..(at + length).min(slots) {
                        lost[row * channels + first..row * channels + first + width].fill(true);
                    }
                    at += 2 * length.max(1);
                }
            }
        }
        lost
    }
}

/// Factors on standard deviations that make 90 % intervals hold 90 % of the errors, by age class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    pub single: [f64; 3],
    pub total: [f64; 3],
}

/// What history says about a set of channels.
#[derive(Debug, Clone)]
pub struct History {
    channels: usize,
    slots_per_day: usize,
    /// slot-major
    mean: Vec<f64>,
    spread: Vec<f64>,
    /// covariance of the standardised deviations
    stationary: Vec<f64>,
    /// covariance of their innovations in units of each one's spread
    innovation: Vec<f64>,
    /// how a deviation follows from the two before it, slot-major
    course: Vec<Course>,
    calibration: Calibration,
}

/// Recovered values of the lost channels of one slot.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The lost channels, in the order of `values` and `covariance`.
    pub channels: Vec<usize>,
    pub values: Vec<f64>,
    /// Full covariance of the errors, row-major, calibrated value by value.
    pub covariance: Vec<f64>,
    total_sigma: f64,
}

impl Recovered {
    /// Standard deviation of each recovered value; the value ± [`INTERVAL_90`] of it is the 90 % interval.
    pub fn sigmas(&self) -> Vec<f64> {
        let n = self.channels.len();
        (0..n).map(|i| self.covariance[i * n + i].max(0.0).sqrt()).collect()
    }

    /// Sum of all recovered values and its calibrated standard deviation.
    pub fn total(&self) -> (f64, f64) {
        (self.values.iter().sum(), self.total_sigma)
    }
}

impl History {
    /// Learns from complete days: `values` row-major, one row per slot, `channels` columns, first row at the start of a day.
    /// `shrinkage` in 0–1, about 0.05. Intervals are calibrated when there are seven days or more.
    ///
    /// # Errors
    /// Fewer than two days, a value that is not finite, or a shrinkage outside its range.
    pub fn learn(values: &[f64], channels: usize, slots_per_day: usize, shrinkage: f64) -> Result<Self, GridError> {
        let width = channels * slots_per_day;
        if width == 0 || values.len() < 2 * width || !values.len().is_multiple_of(width) {
            return Err(GridError::Length {
                what: "the history (whole days, two at least)",
                found: values.len(),
                expected: 2 * width,
            });
        }
        if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
            let place = format!("channel {}, row {}", bad % channels, bad / channels);
            return Err(GridError::element(place, "the history holds a value that is not a finite number"));
        }
        if !(0.0..=1.0).contains(&shrinkage) {
            return Err(GridError::element("shrinkage", format!("{shrinkage} is not between 0 and 1")));
        }
        let mut history = Self::plain(values, channels, slots_per_day, shrinkage);
        if values.len() / width >= FOLDS {
            history.calibration = calibrate(values, channels, slots_per_day, shrinkage)?;
        }
        Ok(history)
    }

    /// Learns without calibration.
    fn plain(values: &[f64], channels: usize, slots_per_day: usize, shrinkage: f64) -> Self {
        let width = channels * slots_per_day;
        let (mean, spread) = daily_shape(values, channels, slots_per_day);
        let rows = values.len() / channels;
        let deviation: Vec<f64> =
            values.iter().enumerate().map(|(at, v)| (v - mean[at % width]) / spread[at % width]).collect();
        let (course, innovations) = autoregression(&deviation, channels, slots_per_day);
        Self {
            channels,
            slots_per_day,
            mean,
            spread,
            stationary: shrunk_covariance(&deviation, channels, rows, shrinkage),
            innovation: shrunk_covariance(&innovations, channels, rows - 2, shrinkage),
            course,
            calibration: Calibration { single: [1.0; 3], total: [1.0; 3] },
        }
    }

    /// Mean and standard deviation of a channel at a slot of the day.
    pub fn usual(&self, channel: usize, slot_of_day: usize) -> (f64, f64) {
        let at = (slot_of_day % self.slots_per_day) * self.channels + channel;
        (self.mean[at], self.spread[at])
    }

    /// The factors found by calibration.
    pub fn calibration(&self) -> Calibration {
        self.calibration
    }

    /// A filter that knows nothing but the history yet.
    pub fn filter(&self) -> Filter<'_> {
        let n = self.channels;
        Filter {
            history: self,
            deviation: [vec![0.0; n], vec![0.0; n]],
            covariance: [vec![0.0; n * n], vec![0.0; n * n], vec![0.0; n * n]],
            age: vec![u32::MAX; n],
            started: false,
        }
    }
}

/// Follows the channels slot by slot.
#[derive(Debug, Clone)]
pub struct Filter<'a> {
    history: &'a History,
    /// of the last slot and of the one before it
    deviation: [Vec<f64>; 2],
    /// given everything so far, zero where a channel was seen: of the last slot, of the last (rows) with the one before, of the
    /// one before
    covariance: [Vec<f64>; 3],
    /// slots since a channel was seen
    age: Vec<u32>,
    started: bool,
}

/// What is expected of a slot before it arrives, with what is still unknown of the slot before it.
struct Predicted {
    deviation: Vec<f64>,
    /// channels unknown in the slot before
    before: Vec<usize>,
    /// of this slot's channels in the wanted order, then `before`; the upper triangle counts
    covariance: Vec<f64>,
}

impl Filter<'_> {
    /// Takes the next slot and estimates the channels that are `None` in it.
    ///
    /// # Errors
    /// A slice of the wrong length, a value that is not finite; the filter is then as before.
    pub fn step(&mut self, slot_of_day: usize, now: &[Option<f64>]) -> Result<Recovered, GridError> {
        let n = self.history.channels;
        if now.len() != n {
            return Err(GridError::Length { what: "the values of a slot", found: now.len(), expected: n });
        }
        if let Some(bad) = now.iter().position(|v| v.is_some_and(|v| !v.is_finite())) {
            return Err(GridError::element(format!("channel {bad}"), "its value is not a finite number"));
        }
        let order: Vec<usize> =
            (0..n).filter(|&i| now[i].is_some()).chain((0..n).filter(|&i| now[i].is_none())).collect();
        let known = now.iter().flatten().count();
        let lost = order[known..].to_vec();
        let mut predicted = self.predict(slot_of_day, &order);
        let size = n + predicted.before.len();
        let mut gap = vec![0.0; size];
        let mut deviation = predicted.deviation;
        for (k, &i) in order[..known].iter().enumerate() {
            let (mean, spread) = self.history.usual(i, slot_of_day);
            let seen = (now[i].unwrap_or(mean) - mean) / spread;
            gap[k] = seen - deviation[i];
            deviation[i] = seen;
        }
        condition(size, known, &mut predicted.covariance, &mut gap).ok_or_else(|| {
            GridError::element("history", "its channels are linearly dependent: use more days or a larger shrinkage")
        })?;
        for (k, &i) in lost.iter().enumerate() {
            deviation[i] += gap[known + k];
        }
        for (k, &i) in predicted.before.iter().enumerate() {
            self.deviation[0][i] += gap[n + k];
        }
        self.remember(&lost, &predicted.before, &predicted.covariance);
        let [last, before] = &mut self.deviation;
        std::mem::swap(last, before);
        *last = deviation;
        for (age, value) in self.age.iter_mut().zip(now) {
            *age = if value.is_some() { 0 } else { age.saturating_add(1) };
        }
        self.started = true;
        Ok(self.recovered(slot_of_day, lost))
    }

    /// What is expected of the slot, its channels in the given order.
    fn predict(&self, slot_of_day: usize, order: &[usize]) -> Predicted {
        let History { channels: n, innovation, .. } = self.history;
        let n = *n;
        let [last, cross, earlier] = &self.covariance;
        let before: Vec<usize> = if self.started { (0..n).filter(|&i| self.age[i] > 0).collect() } else { Vec::new() };
        let size = n + before.len();
        let course = &self.history.course[(slot_of_day % self.history.slots_per_day) * n..][..n];
        let mut matrix = vec![0.0; size * size];
        for (r, &i) in order.iter().enumerate() {
            let row = &mut matrix[r * size..(r + 1) * size];
            for (c, &j) in order.iter().enumerate().skip(r) {
                let (at, turned, from, to) = (i * n + j, j * n + i, &course[i], &course[j]);
                row[c] = if self.started {
                    from.last * (to.last * last[at] + to.earlier * cross[at])
                        + from.earlier * (to.last * cross[turned] + to.earlier * earlier[at])
                        + from.spread * to.spread * innovation[at]
                } else {
                    self.history.stationary[at]
                };
            }
            for (x, &j) in row[n..].iter_mut().zip(&before) {
                *x = course[i].last * last[i * n + j] + course[i].earlier * cross[j * n + i];
            }
        }
        for (r, &i) in before.iter().enumerate() {
            for (c, &j) in before.iter().enumerate().skip(r) {
                matrix[(n + r) * size + n + c] = last[i * n + j];
            }
        }
        let [one, two] = &self.deviation;
        let deviation =
            course.iter().zip(one).zip(two).map(|((course, one), two)| course.last * one + course.earlier * two);
        Predicted { deviation: deviation.collect(), before, covariance: matrix }
    }

    /// Keeps the conditional covariance of what was lost now and of what is still unknown of the slot before.
    fn remember(&mut self, lost: &[usize], before: &[usize], matrix: &[f64]) {
        let n = self.history.channels;
        let (size, known) = (n + before.len(), n - lost.len());
        let [last, cross, earlier] = &mut self.covariance;
        if self.started {
            earlier.fill(0.0);
        } else {
            earlier.clone_from(&self.history.stationary);
        }
        last.fill(0.0);
        cross.fill(0.0);
        for (r, &i) in lost.iter().enumerate() {
            let row = &matrix[(known + r) * size..(known + r + 1) * size];
            for (c, &j) in lost.iter().enumerate().skip(r) {
                last[i * n + j] = row[known + c];
                last[j * n + i] = row[known + c];
            }
            for (x, &j) in row[n..].iter().zip(before) {
                cross[i * n + j] = *x;
            }
        }
        for (r, &i) in before.iter().enumerate() {
            for (c, &j) in before.iter().enumerate().skip(r) {
                let value = matrix[(n + r) * size + n + c];
                earlier[i * n + j] = value;
                earlier[j * n + i] = value;
            }
        }
    }

    fn recovered(&self, slot_of_day: usize, lost: Vec<usize>) -> Recovered {
        let (n, m) = (self.history.channels, lost.len());
        let usual: Vec<(f64, f64)> = lost.iter().map(|&i| self.history.usual(i, slot_of_day)).collect();
        let Calibration { single, total } = self.history.calibration;
        let age = |i: usize| f64::from(self.age[i]) / self.history.slots_per_day as f64;
        let mut covariance = vec![0.0; m * m];
        let mut sum = 0.0;
        for r in 0..m {
            for c in 0..m {
                let raw = self.covariance[0][lost[r] * n + lost[c]] * usual[r].1 * usual[c].1;
                sum += raw;
                covariance[r * m + c] = raw * single[age_class(age(lost[r]))] * single[age_class(age(lost[c]))];
            }
        }
        let mean_age = lost.iter().map(|&i| age(i)).sum::<f64>() / m.max(1) as f64;
        Recovered {
            values: lost.iter().zip(&usual).map(|(&i, (mean, spread))| mean + spread * self.deviation[0][i]).collect(),
            covariance,
            total_sigma: sum.max(0.0).sqrt() * total[age_class(mean_age)],
            channels: lost,
        }
    }
}

fn age_class(days: f64) -> usize {
    AGE_CLASSES.iter().take_while(|end| days > **end).count()
}

/// Leaves out one block of days after the other, draws losses on it and compares the errors with what the filter claims.
fn calibrate(values: &[f64], channels: usize, slots_per_day: usize, shrinkage: f64) -> Result<Calibration, GridError> {
    let width = channels * slots_per_day;
    let days = values.len() / width;
    let mut draw = Draw::new(0x1057);
    let (mut single, mut total): ([Vec<f64>; 3], [Vec<f64>; 3]) = Default::default();
    for fold in 0..FOLDS {
        let (from, to) = (fold * days / FOLDS * width, (fold + 1) * days / FOLDS * width);
        let rest = [&values[..from], &values[to..]].concat();
        let history = History::plain(&rest, channels, slots_per_day, shrinkage);
        for outage in [
            Outage::Random { share: 0.2 },
            Outage::Concentrator { share: 0.25, slots: 4 },
            Outage::Concentrator { share: 0.25, slots: slots_per_day },
        ] {
            let lost = outage.draw((to - from) / channels, channels, &mut draw);
            let mut filter = history.filter();
            for (row, (truth, lost)) in
                values[from..to].chunks_exact(channels).zip(lost.chunks_exact(channels)).enumerate()
            {
                let now: Vec<Option<f64>> = truth.iter().zip(lost).map(|(v, l)| (!l).then_some(*v)).collect();
                let found = filter.step(row % slots_per_day, &now)?;
                if row == 0 || found.channels.is_empty() {
                    continue;
                }
                let mut age = 0.0;
                for ((&i, value), sigma) in found.channels.iter().zip(&found.values).zip(found.sigmas()) {
                    let own = f64::from(filter.age[i]) / slots_per_day as f64;
                    single[age_class(own)].push((value - truth[i]).abs() / sigma);
                    age += own / found.channels.len() as f64;
                }
                let (sum, sigma) = found.total();
                let wanted: f64 = found.channels.iter().map(|&i| truth[i]).sum();
                total[age_class(age)].push((sum - wanted).abs() / sigma);
            }
        }
    }
    Ok(Calibration { single: single.map(factor_90), total: total.map(factor_90) })
}

/// The factor that makes 90 % of the standardised errors lie within [`INTERVAL_90`]; 1 for too few errors.
fn factor_90(mut errors: Vec<f64>) -> f64 {
    errors.retain(|e| e.is_finite());
    if errors.len() < 50 {
        return 1.0;
    }
    errors.sort_by(f64::total_cmp);
    errors[errors.len() * 9 / 10] / INTERVAL_90
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Channels that share a weather-like factor and keep some of their deviation from slot to slot.
    fn days(count: usize, draw: &mut Draw) -> Vec<f64> {
        let mut out = Vec::new();
        let mut own = [0.0; 6];
        for slot in 0..count * 24 {
            let common = draw.normal();
            for (channel, own) in own.iter_mut().enumerate() {
                *own = 0.7 * *own + 0.3 * draw.normal();
                let shape = 2.0 + (slot as f64 / 24.0 * std::f64::consts::TAU).sin() + channel as f64;
                out.push(shape + 0.8 * common + *own);
            }
        }
        out
    }

    #[test]
    fn recovery_beats_the_mean_and_its_intervals_hold() {
        let mut draw = Draw::new(11);
        let history = History::learn(&days(60, &mut draw), 6, 24, 0.05).expect("clean history");
        let test = days(60, &mut draw);
        let mut filter = history.filter();
        let (mut inside, mut total, mut squared, mut squared_mean) = (0u32, 0u32, 0.0, 0.0);
        for (row, truth) in test.chunks_exact(6).enumerate() {
            let now: Vec<Option<f64>> = truth.iter().enumerate().map(|(i, v)| (i > 1).then_some(*v)).collect();
            let recovered = filter.step(row % 24, &now).expect("finite input");
            for ((&i, value), sigma) in recovered.channels.iter().zip(&recovered.values).zip(recovered.sigmas()) {
                let error = value - truth[i];
                squared += error * error;
                squared_mean += (history.usual(i, row % 24).0 - truth[i]).powi(2);
                inside += u32::from(error.abs() < INTERVAL_90 * sigma);
                total += 1;
            }
        }
        assert!(squared < 0.35 * squared_mean, "{squared} against {squared_mean}");
        let coverage = f64::from(inside) / f64::from(total);
        assert!((0.87..0.93).contains(&coverage), "{coverage}");
    }

    #[test]
    fn the_last_value_seen_helps_and_its_weight_fades() {
        let mut draw = Draw::new(12);
        let mut values = Vec::new();
        let mut state = [0.0; 2];
        for _ in 0..40 * 24 {
            for s in &mut state {
                *s = 0.9 * *s + draw.normal();
                values.push(*s);
            }
        }
        let history = History::learn(&values, 2, 24, 0.05).expect("clean history");
        let mut filter = history.filter();
        filter.step(0, &[Some(4.0), Some(0.0)]).expect("finite input");
        let mut steps = Vec::new();
        for slot in 1..24 {
            let found = filter.step(slot, &[None, Some(0.0)]).expect("finite input");
            steps.push((found.values[0] - history.usual(0, slot).0, found.sigmas()[0]));
        }
        let ((first, narrow), (last, wide)) = (steps[0], steps[22]);
        assert!(first > 2.5 && last.abs() < 1.0, "{first} then {last}");
        assert!(wide > 1.5 * narrow, "{narrow} then {wide}");
    }

    #[test]
    fn nothing_lost_is_nothing_recovered() {
        let mut draw = Draw::new(3);
        let history = History::learn(&days(10, &mut draw), 6, 24, 0.05).expect("clean history");
        let mut filter = history.filter();
        assert!(filter.step(0, &[Some(1.0); 6]).expect("finite input").values.is_empty());
        assert!(filter.step(0, &[Some(f64::NAN); 6]).is_err());
        assert!(filter.step(0, &[None; 5]).is_err());
        assert_eq!(filter.step(1, &[None; 6]).expect("all lost").values.len(), 6);
    }
}
