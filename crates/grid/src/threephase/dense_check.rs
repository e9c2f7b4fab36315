//! Proof of the three-phase estimator against the textbook: a dense weighted-least-squares step by finite differences of the
//! power flow. It knows neither multipliers nor the estimator's equations.
//!
//! At the optimum the step is zero; its length is the distance to the optimum.

use super::estimate::{PhaseEstimate, PhaseEstimator, PhaseMeasurement, PhaseQuantity, SourceKnowledge};
use super::{PhaseNetwork, PhaseSolver};
use crate::bench::Draw;
use crate::check::{CheckItem, Worst};
use crate::dense::Lu;
use crate::error::GridError;
use num_complex::Complex64 as C64;

/// Measurements made from a power flow: P and Q of every load (1 %, at least 1 % of the mean), the voltage at every third
/// load (0.5 %). `noise` 1 draws errors of that size, 0 none.
pub fn measurements_of(network: &PhaseNetwork, v: &[C64], noise: f64, seed: u64) -> Vec<PhaseMeasurement> {
    let mut draw = Draw::new(seed);
    let consumed: Vec<C64> = network.loads.iter().map(|l| -l.injected(C64::new(l.p_w, l.q_var), v)).collect();
    let floor = 0.01 * consumed.iter().map(|s| s.norm()).sum::<f64>() / consumed.len().max(1) as f64;
    let mut out = Vec::new();
    let mut add = |quantity: PhaseQuantity, truth: f64, sigma: f64| {
        out.push(PhaseMeasurement { quantity, value: truth + noise * sigma * draw.normal(), sigma });
    };
    for (load, s) in consumed.iter().enumerate() {
        add(PhaseQuantity::ActivePower { load }, s.re, (0.01 * s.re.abs()).max(floor));
        add(PhaseQuantity::ReactivePower { load }, s.im, (0.01 * s.im.abs()).max(floor));
        if load % 3 == 0 {
            let (from, to) = (network.loads[load].from, network.loads[load].to);
            let d = network.loads[load].voltage(v).norm();
            add(PhaseQuantity::Voltage { from, to }, d, 0.005 * d);
        }
    }
    out
}

/// The largest change of a node voltage, pu, in one dense Gauss-Newton step from an estimate.
///
/// # Errors
/// A power flow that does not converge.
pub fn distance_to_optimum(
    network: &PhaseNetwork,
    measurements: &[PhaseMeasurement],
    source: SourceKnowledge,
    estimate: &PhaseEstimate,
) -> Result<f64, GridError> {
    let start = Parameters::of(network, estimate);
    let base = start.quantities(network, measurements, source)?;
    let n = start.len();
    let mut columns = Vec::with_capacity(n);
    for k in 0..n {
        let step = start.difference(k);
        let up = start.moved(k, step).quantities(network, measurements, source)?;
        let down = start.moved(k, -step).quantities(network, measurements, source)?;
        columns.push(up.minus(&down, 2.0 * step));
    }
    let mut normal = vec![0.0; n * n];
    let mut right = vec![0.0; n];
    for r in 0..n {
        for c in 0..n {
            normal[r * n + c] = columns[r].weighted.iter().zip(&columns[c].weighted).map(|(a, b)| a * b).sum();
        }
        right[r] = columns[r].weighted.iter().zip(&base.weighted).map(|(j, r)| -j * r).sum();
    }
    // parameters of different size: scale the columns
    let scale: Vec<f64> = (0..n).map(|k| normal[k * n + k].sqrt().max(1e-300)).collect();
    for r in 0..n {
        for c in 0..n {
            normal[r * n + c] /= scale[r] * scale[c];
        }
        right[r] /= scale[r];
    }
    let factor = Lu::new(n, normal)
        .ok_or_else(|| GridError::element("measurements", "do not determine the state of the network"))?;
    let step: Vec<f64> = factor.solve(&right).iter().zip(&scale).map(|(x, s)| x / s).collect();
    let change = |node: usize| -> f64 {
        let sum: C64 = columns.iter().zip(&step).map(|(c, s)| c.v[node] * s).sum();
        sum.norm() / network.base_v[node]
    };
    let from_start = |node: usize| (base.v[node] - estimate.v[node]).norm() / network.base_v[node];
    Ok((0..network.nodes.len()).map(|i| change(i).max(from_start(i))).fold(0.0, f64::max))
}

/// Nominal power of each load and deviation of each source.
#[derive(Clone)]
struct Parameters {
    power: Vec<C64>,
    source: Vec<(usize, C64)>,
    scale: f64,
}

/// What follows from them: voltages and weighted residuals, the sources' last.
struct Quantities {
    v: Vec<C64>,
    weighted: Vec<f64>,
}

impl Parameters {
    fn of(network: &PhaseNetwork, estimate: &PhaseEstimate) -> Self {
        let power: Vec<C64> = network
            .loads
            .iter()
            .zip(&estimate.load_power)
            .map(|(load, s)| {
                // the nominal power whose load model draws the estimated power
                let m = load.voltage(&estimate.v).norm_sqr();
                let [(p, _), (q, _)] = load.shape(m);
                C64::new(s.re / (p * m), s.im / (q * m))
            })
            .collect();
        let source = (0..network.nodes.len()).filter(|&i| network.source_a[i] != C64::ZERO);
        Self {
            scale: power.iter().map(|s| s.norm()).sum::<f64>() / power.len().max(1) as f64,
            source: source.map(|i| (i, estimate.source[i])).collect(),
            power,
        }
    }

    fn len(&self) -> usize {
        2 * (self.power.len() + self.source.len())
    }

    fn difference(&self, k: usize) -> f64 {
        if k < 2 * self.power.len() { 1e-3 * self.scale } else { 1e-4 }
    }

    fn moved(&self, k: usize, step: f64) -> Self {
        let mut out = self.clone();
        let change = if k.is_multiple_of(2) { C64::new(step, 0.0) } else { C64::new(0.0, step) };
        match out.power.get_mut(k / 2) {
            Some(power) => *power += change,
            None => out.source[k / 2 - self.power.len()].1 += change,
        }
        out
    }

    fn quantities(
        &self,
        network: &PhaseNetwork,
        measurements: &[PhaseMeasurement],
        source: SourceKnowledge,
    ) -> Result<Quantities, GridError> {
        let mut moved = network.clone();
        for &(i, e) in &self.source {
            moved.source_a[i] *= 1.0 + e;
        }
        let (v, _, _) = moved.newton(&network.symbolic(), &self.power)?;
        let power = |load: usize| -network.loads[load].injected(self.power[load], &v);
        let mut weighted: Vec<f64> = measurements
            .iter()
            .map(|m| {
                let h = match m.quantity {
                    PhaseQuantity::Voltage { from, to } => (v[from] - to.map_or(C64::ZERO, |t| v[t])).norm(),
                    PhaseQuantity::ActivePower { load } => power(load).re,
                    PhaseQuantity::ReactivePower { load } => power(load).im,
                };
                (h - m.value) / m.sigma
            })
            .collect();
        for (_, e) in &self.source {
            weighted.push((e.re - source.magnitude + 1.0) / source.magnitude_sigma);
            weighted.push(e.im / source.angle_sigma_rad);
        }
        Ok(Quantities { v, weighted })
    }
}

impl Quantities {
    fn minus(&self, other: &Self, span: f64) -> Self {
        Self {
            v: self.v.iter().zip(&other.v).map(|(a, b)| (a - b) / span).collect(),
            weighted: self.weighted.iter().zip(&other.weighted).map(|(a, b)| (a - b) / span).collect(),
        }
    }
}

/// Exact measurements give back the power flow; noisy ones give the optimum of the dense textbook solver.
pub(crate) fn check_estimation(solver: &PhaseSolver, v: &[C64], tolerance: f64) -> Result<Vec<CheckItem>, GridError> {
    let network = solver.network();
    let source = SourceKnowledge::default();
    let exact = measurements_of(network, v, 0.0, 1);
    let estimate = PhaseEstimator::new(network, &exact, source)?.estimate()?;
    let mut worst =
        Worst::new("three-phase estimation, exact measurements: node voltage against the power flow (complex)");
    for (k, (a, b)) in estimate.v.iter().zip(v).enumerate() {
        worst.see(|| format!("node {}", network.nodes[k]), (a - b).norm() / network.base_v[k]);
    }
    let noisy = measurements_of(network, v, 1.0, 2);
    let estimate = PhaseEstimator::new(network, &noisy, source)?.estimate()?;
    let mut dense =
        Worst::new("three-phase estimation, noisy measurements: distance to the dense weighted-least-squares optimum");
    let distance = distance_to_optimum(network, &noisy, source, &estimate)?;
    dense.see(|| "all nodes".to_owned(), distance);
    Ok(vec![worst.item(tolerance), dense.item(tolerance)])
}
