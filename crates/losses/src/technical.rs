//! The technical loss of a zone, `k0 + k2·P²` (iron and standby losses, and copper losses), fitted online until the grid model
//! takes over.
//!
//! The observed difference `supplied − metered` is explained as `k0·h + k2·P²·h + γ·P·h + noise`, where γ is the common gain
//! error of the meters. It is Bayesian linear regression on sufficient statistics (6 + 3 numbers) with box constraints: k0, k2 ≥ 0
//! and at most [`BOUND_SD`] prior deviations away from the prior mean, so that a theft that was always there cannot be learned away
//! entirely. Estimate and covariance are those of the posterior within the box (`bounded.rs`): a loss that cannot be negative is known
//! better than the normal of its prior says. Residuals are Huber-weighted. A day's statistics enter only when they are [`DELAY_DAYS`] old and no alarm came
//! (none of the delay in the first [`YOUNG_DAYS`] days), and old ones fade with a half-life of 45 days, the prior never.
//!
//! P is the mean power of the slot as delivered to the members (what the observer measures less the loss at the present fit), so mean(P)² understates mean(P²); the fit absorbs the constant part of that.
//! Signs: losses positive. Units: W, Wh, shares.

mod bounded;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Furthest distance of k0 and k2 from their prior mean, in prior standard deviations.
pub const BOUND_SD: f64 = 2.0;
/// Age at which a day's observations are learned, days.
pub const DELAY_DAYS: usize = 2;
/// Days learned before the delay applies.
pub const YOUNG_DAYS: f64 = 10.0;
/// No network loses more than this share of what it is supplied in its copper.
const MOST_LOST: f64 = 0.3;
/// A network is built for what it carries: beyond so many times the power that the copper loss is stated for, that power was
/// stated too small, and the loss grows with the load only.
const BUILT_FOR: f64 = 4.0;
/// The same as [`BOUND_SD`] for the common gain error.
const GAIN_BOUND_SD: f64 = 3.0;
const DAILY_FADE: f64 = 0.984_7;

/// Upper triangle of a symmetric 3 × 3 matrix: 00, 01, 02, 11, 12, 22.
type Symmetric = [f64; 6];

/// What is known of a zone's technical loss before any reading: from conductor and transformer data, or a default.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TechnicalPrior {
    /// Power that flows all the time, W.
    pub k0_w: f64,
    /// Its standard deviation, W.
    pub k0_sd_w: f64,
    /// Mean power the copper loss is stated for, W.
    pub reference_w: f64,
    /// Copper loss at that power, as a share of it.
    pub k2_share: f64,
    /// Its standard deviation.
    pub k2_share_sd: f64,
}

impl TechnicalPrior {
    /// Low-voltage zone of `usage_points` homes without network data: 2 W per meter, 2 % ± 1.5 % copper loss at 350 W per home.
    pub fn low_voltage(usage_points: usize) -> Self {
        let n = usage_points.max(1) as f64;
        Self { k0_w: 2.0 * n, k0_sd_w: 2.0 * n, reference_w: 350.0 * n, k2_share: 0.02, k2_share_sd: 0.015 }
    }

    /// Feeder with `transformers` child zones metered on their low side, `usage_points` below: iron loss 200 W ± 150 W each, 1.5 % ± 1 %
    /// copper loss.
    pub fn feeder(transformers: usize, usage_points: usize) -> Self {
        let (t, n) = (transformers.max(1) as f64, usage_points.max(1) as f64);
        Self { k0_w: 200.0 * t, k0_sd_w: 150.0 * t, reference_w: 350.0 * n, k2_share: 0.015, k2_share_sd: 0.01 }
    }
}

/// Sufficient statistics of one day or of all learned days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Statistics {
    /// X'WX: 00, 01, 02, 11, 12, 22.
    info: Symmetric,
    /// X'Wy.
    rhs: [f64; 3],
    /// Share of a day observed.
    days: f64,
}

impl Statistics {
    fn add(&mut self, other: &Self) {
        for (a, b) in self.info.iter_mut().zip(other.info) {
            *a += b;
        }
        for (a, b) in self.rhs.iter_mut().zip(other.rhs) {
            *a += b;
        }
        self.days += other.days;
    }

    fn scale(&mut self, by: f64) {
        self.info.iter_mut().chain(&mut self.rhs).for_each(|v| *v *= by);
    }
}

/// Expected loss of a slot with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TechnicalLoss {
    /// Expected loss k0 + k2·P², Wh.
    pub loss_wh: f64,
    /// Expected contribution of the common gain error γ, Wh; not a loss, but not missing energy either.
    pub gain_wh: f64,
    /// Variance of the systematic error of `supplied − metered − loss`: posterior of all three terms and what is known of γ, Wh².
    pub systematic_var: f64,
}

/// The running fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TechnicalModel {
    prior: TechnicalPrior,
    gain_sd: f64,
    learned: Statistics,
    pending: VecDeque<Statistics>,
    today: Statistics,
    day: i64,
    /// k0 (W), copper share, γ.
    theta: [f64; 3],
    /// Posterior covariance: 00, 01, 02, 11, 12, 22.
    covariance: Symmetric,
}

impl TechnicalModel {
    /// A fit that knows its prior only; `gain_sd` is the standard deviation of the common gain error of the zone's meters.
    pub fn new(prior: TechnicalPrior, gain_sd: f64) -> Self {
        let mut model = Self {
            prior,
            gain_sd,
            learned: Statistics::default(),
            pending: VecDeque::new(),
            today: Statistics::default(),
            day: i64::MIN,
            theta: [0.0; 3],
            covariance: [0.0; 6],
        };
        model.solve();
        model
    }

    /// Standard deviation of the common gain error before any reading.
    pub fn gain_sd(&self) -> f64 {
        self.gain_sd
    }

    /// What is known of the meters has changed: another standard deviation of the common gain error.
    pub fn set_gain_sd(&mut self, gain_sd: f64) {
        if gain_sd != self.gain_sd {
            self.gain_sd = gain_sd;
            self.solve();
        }
    }

    /// The prior.
    pub fn prior(&self) -> &TechnicalPrior {
        &self.prior
    }

    /// k0 in W.
    pub fn k0_w(&self) -> f64 {
        self.theta[0]
    }

    /// k2 in 1/W: the copper loss in W is k2·P².
    pub fn k2_per_w(&self) -> f64 {
        self.theta[1] / self.prior.reference_w
    }

    /// Days of observations behind the fit (faded ones count in full).
    pub fn learned_days(&self) -> f64 {
        self.learned.days
    }

    fn regressors(&self, power_w: f64, hours: f64) -> [f64; 3] {
        // What is delivered is what is supplied less the loss that it causes; two rounds settle to a thousandth of the loss.
        let loss_w = |delivered_w: f64| {
            (self.theta[0] + self.theta[1] * self.per_share(delivered_w)).min(MOST_LOST * power_w.abs())
        };
        let delivered_w = power_w - loss_w(power_w - loss_w(power_w));
        [hours, self.per_share(delivered_w) * hours, power_w * hours]
    }

    /// What the copper share is multiplied with at a delivered power: P² / reference, W.
    fn per_share(&self, delivered_w: f64) -> f64 {
        let built_for_w = self.prior.reference_w.max(delivered_w.abs() / BUILT_FOR);
        delivered_w * delivered_w / built_for_w
    }

    /// Expected loss at a mean power over a slot of `hours`.
    pub fn loss(&self, power_w: f64, hours: f64) -> TechnicalLoss {
        let x = self.regressors(power_w, hours);
        let gain_prior = self.gain_sd * self.gain_sd;
        let known_gain = (gain_prior - self.covariance[5]).max(0.0) * x[2] * x[2];
        TechnicalLoss {
            // More than what is supplied cannot be lost: without supply, iron and meters take nothing either.
            loss_wh: (self.theta[0] * x[0] + self.theta[1] * x[1]).min(power_w.abs() * hours),
            gain_wh: self.theta[2] * x[2],
            systematic_var: quadratic(&self.covariance, &x).max(0.0) + known_gain,
        }
    }

    /// Variance of the systematic error of several slots together, each a (mean power, hours), Wh². Errors of k0, k2 and γ that
    /// cancel between low and high load do so here; adding the slots' deviations up would not let them.
    pub fn period_systematic_var(&self, slots: impl Iterator<Item = (f64, f64)>) -> f64 {
        let mut x = [0.0; 3];
        for (power_w, hours) in slots {
            x.iter_mut().zip(self.regressors(power_w, hours)).for_each(|(sum, one)| *sum += one);
        }
        let known_gain = (self.gain_sd * self.gain_sd - self.covariance[5]).max(0.0) * x[2] * x[2];
        quadratic(&self.covariance, &x).max(0.0) + known_gain
    }

    /// Loss by the prior alone and its standard deviation with that of the gains, Wh: what a standing loss is compared with.
    pub fn prior_loss(&self, power_w: f64, hours: f64) -> (f64, f64) {
        let x = self.regressors(power_w, hours);
        let parts = [self.prior.k0_sd_w * x[0], self.prior.k2_share_sd * x[1], self.gain_sd * x[2]];
        let sd = parts.iter().map(|p| p * p).sum::<f64>().sqrt();
        (self.prior.k0_w * x[0] + self.prior.k2_share * x[1], sd)
    }

    /// Takes in `difference_wh = supplied − metered` of a slot with the variance of its noise (inflated for correlation between
    /// slots). `day` is the UTC day number.
    pub fn observe(&mut self, day: i64, power_w: f64, hours: f64, difference_wh: f64, noise_var: f64) {
        self.roll(day);
        let x = self.regressors(power_w, hours);
        let miss = difference_wh - (self.theta[0] * x[0] + self.theta[1] * x[1] + self.theta[2] * x[2]);
        let young = self.learned.days < 1.0;
        let spread = noise_var + quadratic(&self.covariance, &x).max(0.0);
        let z = miss.abs() / spread.sqrt().max(1e-9);
        let huber = if z > 2.5 && !young { 2.5 / z } else { 1.0 };
        let w = huber / noise_var.max(1e-9);
        let s = &mut self.today;
        let mut at = 0;
        for i in 0..3 {
            for j in i..3 {
                s.info[at] += w * x[i] * x[j];
                at += 1;
            }
            s.rhs[i] += w * x[i] * difference_wh;
        }
        s.days += hours / 24.0;
    }

    /// Forgets what was observed and not yet learned: an alarm says it was not clean.
    pub fn discard_pending(&mut self) {
        self.pending.clear();
        self.today = Statistics::default();
    }

    /// Moves on to `day`: yesterday becomes pending, what is old enough is learned.
    fn roll(&mut self, day: i64) {
        if day <= self.day {
            return;
        }
        if self.day != i64::MIN {
            self.pending.push_back(std::mem::take(&mut self.today));
            let delay = if self.learned.days < YOUNG_DAYS { 0 } else { DELAY_DAYS };
            while self.pending.len() > delay
                && let Some(old) = self.pending.pop_front()
            {
                if old.days > 0.0 {
                    self.learned.scale(DAILY_FADE);
                    self.learned.add(&old);
                }
            }
            self.solve();
        }
        self.day = day;
    }

    /// Posterior mean and covariance within the box.
    fn solve(&mut self) {
        let p = &self.prior;
        let mean = [p.k0_w, p.k2_share, 0.0];
        let sd = [p.k0_sd_w.max(1e-6), p.k2_share_sd.max(1e-9), self.gain_sd.max(1e-9)];
        let mut a = self.learned.info;
        let mut b = self.learned.rhs;
        for (i, at) in [(0, 0), (1, 3), (2, 5)] {
            let precision = 1.0 / (sd[i] * sd[i]);
            a[at] += precision;
            b[i] += precision * mean[i];
        }
        let reach = [BOUND_SD, BOUND_SD, GAIN_BOUND_SD];
        let floor = [0.0, 0.0, f64::NEG_INFINITY];
        let limits = std::array::from_fn(|i| ((mean[i] - reach[i] * sd[i]).max(floor[i]), mean[i] + reach[i] * sd[i]));
        (self.theta, self.covariance) = bounded::moments(&a, &b, &limits);
    }
}

fn entry(m: &Symmetric, i: usize, j: usize) -> f64 {
    const AT: [[usize; 3]; 3] = [[0, 1, 2], [1, 3, 4], [2, 4, 5]];
    m[AT[i][j]]
}

fn multiply(m: &Symmetric, v: &[f64; 3]) -> [f64; 3] {
    std::array::from_fn(|i| (0..3).map(|j| entry(m, i, j) * v[j]).sum())
}

fn quadratic(m: &Symmetric, x: &[f64; 3]) -> f64 {
    let y = multiply(m, x);
    (0..3).map(|i| x[i] * y[i]).sum()
}

/// Inverse of a symmetric positive definite 3 × 3 matrix (cofactors, after scaling to a unit diagonal).
fn inverse(m: &Symmetric) -> Symmetric {
    let d: [f64; 3] = std::array::from_fn(|i| entry(m, i, i).sqrt());
    let (a, b, c) = (m[1] / (d[0] * d[1]), m[2] / (d[0] * d[2]), m[4] / (d[1] * d[2]));
    let det = (1.0 + 2.0 * a * b * c - a * a - b * b - c * c).max(1e-12);
    let s = |value: f64, i: usize, j: usize| value / (det * d[i] * d[j]);
    [
        s(1.0 - c * c, 0, 0),
        s(b * c - a, 0, 1),
        s(a * c - b, 0, 2),
        s(1.0 - b * b, 1, 1),
        s(a * b - c, 1, 2),
        s(1.0 - a * a, 2, 2),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(model: &mut TechnicalModel, days: std::ops::Range<i64>, truth: impl Fn(f64) -> f64) {
        for day in days {
            for slot in 0..96 {
                let phase = (f64::from(slot) / 96.0 - 0.3) * std::f64::consts::TAU;
                let power = 14_000.0 * (1.0 + 0.6 * phase.sin());
                let noise = ((slot * 37 + day as i32 * 11) % 19 - 9) as f64;
                model.observe(day, power, 0.25, truth(power) * 0.25 + noise, 60.0);
            }
        }
    }

    #[test]
    fn the_fit_finds_the_loss_and_narrows() {
        let prior = TechnicalPrior::low_voltage(40);
        let mut model = TechnicalModel::new(prior, 0.0028);
        let wide = model.loss(14_000.0, 0.25).systematic_var;
        run(&mut model, 0..20, |p| 60.0 + 0.012 / 14_000.0 * p * p);
        let loss = model.loss(20_000.0, 0.25);
        let truth = (60.0 + 0.012 / 14_000.0 * 4e8) * 0.25;
        assert!((loss.loss_wh + loss.gain_wh - truth).abs() < 2.0, "{loss:?} {truth}");
        assert!(model.loss(14_000.0, 0.25).systematic_var < wide / 4.0);
        assert!(model.k0_w() >= 0.0 && model.k2_per_w() >= 0.0);
    }

    #[test]
    fn a_theft_that_was_always_there_is_not_learned_away() {
        let mut model = TechnicalModel::new(TechnicalPrior::low_voltage(40), 0.0028);
        run(&mut model, 0..30, |p| 60.0 + 0.012 / 14_000.0 * p * p + 0.15 * p);
        let p = 14_000.0;
        assert!(model.loss(p, 1.0).loss_wh < 0.075 * p, "{}", model.loss(p, 1.0).loss_wh / p);
    }

    #[test]
    fn no_more_is_lost_than_was_supplied_nor_than_a_network_loses() {
        let model = TechnicalModel::new(TechnicalPrior::low_voltage(4), 0.0028);
        for power in [0.0, 1.0, 8.0, 50.0, 1_400.0, 124_848.0, 40e6, 4e9, -5_000.0] {
            let loss = model.loss(power, 0.25).loss_wh;
            assert!((0.0..=power.abs() * 0.25).contains(&loss), "{loss} Wh of {power} W");
            assert!(power < 1e5 || loss < 0.1 * power * 0.25, "{loss} Wh of {power} W");
        }
    }

    #[test]
    fn what_an_alarm_spoils_is_not_learned() {
        let mut model = TechnicalModel::new(TechnicalPrior::low_voltage(40), 0.0028);
        run(&mut model, 0..15, |p| 60.0 + 0.012 / 14_000.0 * p * p);
        let mut undisturbed = model.clone();
        run(&mut model, 15..16, |p| 600.0 + 0.012 / 14_000.0 * p * p);
        model.discard_pending();
        undisturbed.roll(15);
        assert_eq!(model.loss(14_000.0, 1.0), undisturbed.loss(14_000.0, 1.0));
    }
}
