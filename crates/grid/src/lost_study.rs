//! How well lost measurements are recovered on a network: losses drawn on known series, recovered from history alone and then
//! through the estimator, which also sees the feeder's head meter. Deterministic from a seed.
//!
//! Learned and tested spans are disjoint; the intervals are calibrated inside the learned span only.

use crate::bench::Draw;
use crate::error::GridError;
use crate::estimate::Estimator;
use crate::estimate_covariance::CorrelatedGroup;
use crate::flow::{FlowSolver, Scenarios};
use crate::kernel::Tolerance;
use crate::lost::{History, INTERVAL_90, Outage, Recovered};
use crate::measurement::{Measurement, Quantity};
use crate::model::Model;
use crate::profiles::{LoadSeries, SLOTS_PER_DAY};
use num_complex::Complex64 as C64;

/// How a study is run.
#[derive(Debug, Clone, Copy)]
pub struct StudyOptions {
    /// Days learned; the rest of the series is tested.
    pub learned_days: usize,
    pub shrinkage: f64,
    /// Every how many slots the estimator runs too.
    pub estimate_every: usize,
}

impl Default for StudyOptions {
    fn default() -> Self {
        Self { learned_days: 21, shrinkage: 0.05, estimate_every: 4 }
    }
}

/// Errors and coverage of one kind of loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct StudyResult {
    /// Lost values tested.
    pub values: usize,
    /// Voltage error at the buses whose readings were lost, power flow of what arrived and what was recovered, pu.
    pub voltage_rmse_pu: f64,
    /// `Σ|error of the lost sum| / Σ|lost sum|`, history alone.
    pub sum_wape: f64,
    /// The same for the mean of the slot of the day, to compare.
    pub usual_sum_wape: f64,
    /// Single values.
    pub single_wape: f64,
    /// Share of the 90 % intervals that hold the truth.
    pub single_coverage: f64,
    pub sum_coverage: f64,
    /// After the estimator with the head meter: the same quantities.
    /// Voltage error relative to the head's (whose own error all buses share), pu.
    pub estimated_drop_rmse_pu: f64,
    pub estimated_sum_wape: f64,
    pub estimated_single_coverage: f64,
    pub estimated_sum_coverage: f64,
    pub estimated_voltage_coverage: f64,
}

#[derive(Default)]
struct Sums {
    values: usize,
    hits: usize,
    absolute: f64,
    absolute_truth: f64,
    slots: usize,
    slot_hits: usize,
    slot_error: f64,
    slot_usual: f64,
    slot_truth: f64,
    square: f64,
    voltages: usize,
    voltage_hits: usize,
}

impl Sums {
    /// One slot: values found, their sigmas, the truth, and the sum with its sigma.
    fn see(&mut self, found: &[f64], sigmas: &[f64], truth: &[f64], sum_sigma: f64) {
        for ((value, sigma), truth) in found.iter().zip(sigmas).zip(truth) {
            self.values += 1;
            self.hits += usize::from((value - truth).abs() <= INTERVAL_90 * sigma);
            self.absolute += (value - truth).abs();
            self.absolute_truth += truth.abs();
        }
        let (sum, wanted): (f64, f64) = (found.iter().sum(), truth.iter().sum());
        self.slots += 1;
        self.slot_hits += usize::from((sum - wanted).abs() <= INTERVAL_90 * sum_sigma);
        self.slot_error += (sum - wanted).abs();
        self.slot_truth += wanted.abs();
    }

    /// The error counted, and the error with the sigma that is to hold it.
    fn see_voltage(&mut self, error: f64, claimed: Option<(f64, f64)>) {
        self.voltages += 1;
        self.square += error * error;
        self.voltage_hits += usize::from(claimed.is_some_and(|(e, s)| e.abs() <= INTERVAL_90 * s));
    }
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// One kind of loss, tested on one or more series of the same network.
pub struct LostStudy<'a> {
    model: &'a Model,
    outage: Outage,
    options: StudyOptions,
    plain: Sums,
    estimated: Sums,
}

impl<'a> LostStudy<'a> {
    pub fn new(model: &'a Model, outage: Outage, options: StudyOptions) -> Self {
        Self { model, outage, options, plain: Sums::default(), estimated: Sums::default() }
    }

    /// Adds a series; `learned` holds what [`learn`] returned for it.
    ///
    /// # Errors
    /// A series without tested days, or what power flow and estimation report.
    pub fn add(&mut self, series: &LoadSeries, learned: &[History; 2], seed: u64) -> Result<(), GridError> {
        let n = series.buses.len();
        let first = self.options.learned_days * SLOTS_PER_DAY;
        let slots = series.slots();
        if slots <= first {
            return Err(GridError::Length {
                what: "the series in slots",
                found: slots,
                expected: first + SLOTS_PER_DAY,
            });
        }
        let mut draw = Draw::new(seed ^ 0x5eed);
        let lost = self.outage.draw(slots - first, n, &mut draw);
        let truth = [&series.p_pu[first * n..], &series.q_pu[first * n..]];
        let mut filters = [learned[0].filter(), learned[1].filter()];
        let mut filled = [truth[0].to_vec(), truth[1].to_vec()];
        let mut recovered: Vec<[Recovered; 2]> = Vec::new();
        for row in 0..slots - first {
            let at = row * n..(row + 1) * n;
            let mut step = |part: usize| {
                let now: Vec<Option<f64>> =
                    truth[part][at.clone()].iter().zip(&lost[at.clone()]).map(|(v, l)| (!l).then_some(*v)).collect();
                filters[part].step(row % SLOTS_PER_DAY, &now)
            };
            let found = [step(0)?, step(1)?];
            for (filled, found) in filled.iter_mut().zip(&found) {
                for (&i, value) in found.channels.iter().zip(&found.values) {
                    filled[row * n + i] = *value;
                }
            }
            self.score(&found[0], &truth[0][at], &learned[0], row);
            recovered.push(found);
        }
        let solver = FlowSolver::new(self.model, &series.buses, &base(self.model, series))?;
        let tolerance = Tolerance::default();
        let solve =
            |p: &[f64], q: &[f64]| solver.solve(&Scenarios { p_pu: p, q_pu: q, slack_vm_pu: None }, tolerance, 1);
        let (true_v, found_v) = (solve(truth[0], truth[1])?, solve(&filled[0], &filled[1])?);
        if let Some((_, error)) = true_v.failed.into_iter().chain(found_v.failed).next() {
            return Err(error);
        }
        let buses = self.model.bus_count();
        for (row, found) in recovered.iter().enumerate() {
            for &i in &found[0].channels {
                let at = row * buses + series.buses[i];
                let error = found_v.re[at].hypot(found_v.im[at]) - true_v.re[at].hypot(true_v.im[at]);
                self.plain.see_voltage(error, None);
            }
            if row % self.options.estimate_every == 0 && !found[0].channels.is_empty() {
                let v: Vec<C64> =
                    (row * buses..(row + 1) * buses).map(|k| C64::new(true_v.re[k], true_v.im[k])).collect();
                let at = row * n..(row + 1) * n;
                self.estimate(series, found, [&truth[0][at.clone()], &truth[1][at]], &v, &mut draw)?;
            }
        }
        Ok(())
    }

    fn score(&mut self, found: &Recovered, truth: &[f64], history: &History, row: usize) {
        if found.channels.is_empty() {
            return;
        }
        let wanted: Vec<f64> = found.channels.iter().map(|&i| truth[i]).collect();
        self.plain.see(&found.values, &found.sigmas(), &wanted, found.total().1);
        let usual: f64 = found.channels.iter().map(|&i| history.usual(i, row % SLOTS_PER_DAY).0).sum();
        self.plain.slot_usual += (usual - wanted.iter().sum::<f64>()).abs();
    }

    /// What arrived with meter errors, what was recovered with its covariance, the head meter and its voltage.
    fn estimate(
        &mut self,
        series: &LoadSeries,
        found: &[Recovered; 2],
        truth: [&[f64]; 2],
        v: &[C64],
        draw: &mut Draw,
    ) -> Result<(), GridError> {
        const METER: f64 = 0.01;
        const VOLTMETER: f64 = 0.001;
        let model = self.model;
        let slack = model.slack_index();
        let floor = METER * truth[0].iter().map(|p| p.abs()).sum::<f64>() / series.buses.len() as f64;
        let mut measurements = Vec::new();
        let mut measured = |quantity: Quantity, truth: f64, sigma_pu: f64| {
            measurements.push(Measurement { quantity, value_pu: truth + sigma_pu * draw.normal(), sigma_pu });
        };
        measured(Quantity::Voltage { bus: slack }, v[slack].norm(), VOLTMETER);
        // loads on buses fused with the slack bus are not behind the head meter
        let fused = series.buses.iter().enumerate().filter(|&(_, &b)| b != slack && model.same_node(b, slack));
        let beside: C64 = fused.map(|(i, _)| C64::new(truth[0][i], truth[1][i])).sum();
        let head = model.node_injection(slack, v) - beside;
        measured(Quantity::ActiveInjection { bus: slack }, head.re, METER * head.norm());
        measured(Quantity::ReactiveInjection { bus: slack }, head.im, METER * head.norm());
        for (i, &bus) in series.buses.iter().enumerate() {
            if bus != slack && found[0].channels.binary_search(&i).is_err() {
                let quantities = [Quantity::ActiveInjection { bus }, Quantity::ReactiveInjection { bus }];
                for (quantity, truth) in quantities.into_iter().zip([truth[0][i], truth[1][i]]) {
                    measured(quantity, truth, (METER * truth.abs()).max(floor));
                }
            }
        }
        let m = found[0].channels.len();
        let mut group = CorrelatedGroup { measurements: Vec::new(), covariance: vec![0.0; 4 * m * m] };
        for (part, found) in found.iter().enumerate() {
            for (k, &i) in found.channels.iter().enumerate() {
                let row = part * m + k;
                for c in 0..m {
                    group.covariance[row * 2 * m + part * m + c] = found.covariance[k * m + c];
                }
                // recovered values are never better than the meter would have been
                group.covariance[row * 2 * m + row] += floor * floor;
                let bus = series.buses[i];
                let quantity =
                    if part == 0 { Quantity::ActiveInjection { bus } } else { Quantity::ReactiveInjection { bus } };
                group.measurements.push(measurements.len());
                let sigma_pu = group.covariance[row * 2 * m + row].sqrt();
                measurements.push(Measurement { quantity, value_pu: found.values[k], sigma_pu });
            }
        }
        let zero: Vec<usize> =
            (0..model.bus_count()).filter(|b| *b != slack && series.buses.binary_search(b).is_err()).collect();
        let out = Estimator::new(model, &measurements, &zero)?.estimate_correlated(&group)?;
        let wanted: Vec<f64> = found[0].channels.iter().map(|&i| truth[0][i]).collect();
        let sigmas: Vec<f64> = (0..m).map(|k| out.covariance[k * 2 * m + k].max(0.0).sqrt()).collect();
        let sum: f64 = (0..m).map(|r| out.covariance[r * 2 * m..r * 2 * m + m].iter().sum::<f64>()).sum();
        self.estimated.see(&out.values_pu[..m], &sigmas, &wanted, sum.max(0.0).sqrt());
        let common = out.estimate.state.v[slack].norm() - v[slack].norm();
        for &i in &found[0].channels {
            let bus = series.buses[i];
            let error = out.estimate.state.v[bus].norm() - v[bus].norm();
            self.estimated.see_voltage(error - common, Some((error, out.vm_sigma_pu[bus])));
        }
        Ok(())
    }

    /// What was seen so far.
    pub fn result(&self) -> StudyResult {
        let (plain, estimated) = (&self.plain, &self.estimated);
        let rmse = |s: &Sums| (s.square / s.voltages.max(1) as f64).sqrt();
        StudyResult {
            values: plain.values,
            voltage_rmse_pu: rmse(plain),
            sum_wape: plain.slot_error / plain.slot_truth,
            usual_sum_wape: plain.slot_usual / plain.slot_truth,
            single_wape: plain.absolute / plain.absolute_truth,
            single_coverage: share(plain.hits, plain.values),
            sum_coverage: share(plain.slot_hits, plain.slots),
            estimated_drop_rmse_pu: rmse(estimated),
            estimated_sum_wape: estimated.slot_error / estimated.slot_truth,
            estimated_single_coverage: share(estimated.hits, estimated.values),
            estimated_sum_coverage: share(estimated.slot_hits, estimated.slots),
            estimated_voltage_coverage: share(estimated.voltage_hits, estimated.voltages),
        }
    }
}

/// Learns active and reactive power from the first days of a series.
///
/// # Errors
/// Those of [`History::learn`].
pub fn learn(series: &LoadSeries, options: &StudyOptions) -> Result<[History; 2], GridError> {
    let n = series.buses.len();
    let end = (options.learned_days * SLOTS_PER_DAY * n).min(series.p_pu.len());
    let learn = |values: &[f64]| History::learn(&values[..end], n, SLOTS_PER_DAY, options.shrinkage);
    Ok([learn(&series.p_pu)?, learn(&series.q_pu)?])
}

/// Mean injections, the base of the batch.
fn base(model: &Model, series: &LoadSeries) -> Vec<C64> {
    let n = series.buses.len();
    let slots = series.slots() as f64;
    let mut out = vec![C64::ZERO; model.bus_count()];
    for (at, (p, q)) in series.p_pu.iter().zip(&series.q_pu).enumerate() {
        out[series.buses[at % n]] += C64::new(*p, *q) / slots;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::radial_feeder;

    #[test]
    fn recovery_helps_on_a_feeder_and_the_head_meter_more() {
        let network = radial_feeder(30, 2);
        let model = Model::new(&network).expect("a valid feeder");
        let options = StudyOptions { learned_days: 10, estimate_every: 16, ..StudyOptions::default() };
        let series = LoadSeries::synthetic(&network, 14, 3);
        let learned = learn(&series, &options).expect("clean series");
        let mut study = LostStudy::new(&model, Outage::Concentrator { share: 0.25, slots: 8 }, options);
        study.add(&series, &learned, 1).expect("solvable");
        let result = study.result();
        assert!(result.values > 100);
        assert!(result.sum_wape < result.usual_sum_wape, "{result:?}");
        assert!(result.estimated_sum_wape < result.sum_wape, "{result:?}");
        assert!(result.voltage_rmse_pu < 1e-3 && result.single_coverage > 0.8, "{result:?}");
    }
}
