//! Exact weighted-least-squares estimation of an unbalanced network, with the method of the single-phase estimator.
//!
//! Unknown are the powers of the loads and small deviations of the sources; voltages follow from `Y V = I`. With a multiplier
//! µ per node, `d` the voltage across a load, `m` the difference of its multipliers and `κ = m/conj(d)`, the optimum
//! satisfies at every node `[Y V] = I` and `[Yᵀ µ] + T conj(m)/d² = a`, where the power a load injects is
//! `T = z - σp² Re κ - j σq² Im κ` and a is the gradient of the voltage terms. A source current is
//! `i (1 + e)` with `e = e₀ - σr² Re(µ i) + j σa² Im(µ i)`: its magnitude and angle are known to σr and σa. Nodes without load
//! inject nothing, exactly. Newton's method; the factor has the pattern of Y.
//!
//! Measured powers are what a load consumes at its present voltage; load models play no part here.

use super::{PhaseNetwork, loads::LoadTerm};
use crate::error::GridError;
use crate::estimate::{coupling_block, gradient_block, node_derivative};
use crate::quality::chi_square_tail;
use crate::sparse::{Block, Blocks, Factor, Symbolic};
use num_complex::Complex64 as C64;

const LIMIT: usize = 60;

/// A measurable quantity; nodes and loads as positions in the network's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseQuantity {
    /// Voltage magnitude between two nodes of one bus, or a node and ground, V.
    Voltage { from: usize, to: Option<usize> },
    /// Active power consumed by a load, W.
    ActivePower { load: usize },
    /// Reactive power consumed by a load, var.
    ReactivePower { load: usize },
}

/// One measurement in V, W or var.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PhaseMeasurement {
    pub quantity: PhaseQuantity,
    pub value: f64,
    /// Standard deviation of its error.
    pub sigma: f64,
}

/// How well the sources are known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SourceKnowledge {
    /// Expected magnitude over that of the network's source currents.
    pub magnitude: f64,
    pub magnitude_sigma: f64,
    pub angle_sigma_rad: f64,
}

impl Default for SourceKnowledge {
    fn default() -> Self {
        Self { magnitude: 1.0, magnitude_sigma: 0.01, angle_sigma_rad: 0.001 }
    }
}

/// The result of one estimation.
#[derive(Debug, Clone)]
pub struct PhaseEstimate {
    /// Node voltages, V.
    pub v: Vec<C64>,
    /// Power consumed by each load, W and var.
    pub load_power: Vec<C64>,
    /// Relative deviation of each source current, by node; zero where there is no source.
    pub source: Vec<C64>,
    /// `z - h` of each measurement.
    pub residuals: Vec<f64>,
    /// `Σ (residual/σ)²`, with the sources'.
    pub objective: f64,
    pub degrees_of_freedom: usize,
    /// Probability of an objective at least this large if all measurements have the errors they claim.
    pub p_value: f64,
    /// Posterior standard deviation of each node's voltage magnitude, V.
    pub vm_sigma_v: Vec<f64>,
    /// `|r|/√Ω` of each measurement; `None` for one that nothing else checks.
    pub normalised_residuals: Vec<Option<f64>>,
    pub iterations: usize,
}

/// What is known about one part (P or Q) of a load.
#[derive(Debug, Clone, Copy)]
struct Prior {
    /// pooled value, as an injection
    z: f64,
    variance: f64,
    free: bool,
}

#[derive(Clone)]
struct Point {
    v: Vec<C64>,
    mu: Vec<C64>,
    /// P and Q of each load; free ones move
    priors: Vec<[Prior; 2]>,
}

/// An estimation problem on a three-phase network.
pub struct PhaseEstimator {
    network: PhaseNetwork,
    symbolic: Symbolic,
    measurements: Vec<PhaseMeasurement>,
    source: SourceKnowledge,
    priors: Vec<[Prior; 2]>,
}

impl PhaseEstimator {
    /// Validates network and measurements. Loads without a measurement are unknown, not zero.
    ///
    /// # Errors
    /// The element or measurement that makes no sense.
    pub fn new(
        network: &PhaseNetwork,
        measurements: &[PhaseMeasurement],
        source: SourceKnowledge,
    ) -> Result<Self, GridError> {
        network.validate()?;
        let (groups, _) = network.bus_groups();
        for m in measurements {
            m.validate(network, &groups)?;
        }
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if ![source.magnitude, source.magnitude_sigma, source.angle_sigma_rad].into_iter().all(positive) {
            return Err(GridError::element("source", "its magnitude and sigmas must be positive"));
        }
        let total: f64 = network.loads.iter().map(|l| l.p_w.hypot(l.q_var)).sum();
        let free = Prior { z: 0.0, variance: (10.0 * (total + 1000.0)).powi(2), free: true };
        let mut priors = vec![[free; 2]; network.loads.len()];
        let mut information = vec![[0.0; 2]; network.loads.len()];
        for m in measurements {
            if let Some((load, part)) = m.quantity.load_part() {
                let weight = 1.0 / (m.sigma * m.sigma);
                information[load][part] += weight;
                let sum: f64 = information[load][part];
                let prior = &mut priors[load][part];
                prior.z += weight / sum * (-m.value - prior.z);
                prior.variance = 1.0 / sum;
                prior.free = false;
            }
        }
        Ok(Self {
            symbolic: network.symbolic(),
            network: network.clone(),
            measurements: measurements.to_vec(),
            source,
            priors,
        })
    }

    /// Estimates.
    ///
    /// # Errors
    /// A load whose power the measurements do not determine; non-convergence with the worst node.
    pub fn estimate(&self) -> Result<PhaseEstimate, GridError> {
        let mut point = self.start()?;
        let (mut previous, mut worst) = (f64::INFINITY, 0);
        for iteration in 1..=LIMIT {
            let change = self.step(&mut point)?;
            let size = |i: usize| {
                let step = C64::new(change[i][0], change[i][1]).norm() / self.network.base_v[i];
                if step.is_finite() { step } else { f64::INFINITY }
            };
            worst = (0..change.len()).max_by(|&a, &b| size(a).total_cmp(&size(b))).unwrap_or(0);
            let step = size(worst);
            if step.is_infinite() {
                break;
            }
            let share = if step > 0.3 { 0.3 / step } else { 1.0 };
            for (i, x) in change.iter().enumerate() {
                point.v[i] += share * C64::new(x[0], x[1]);
                point.mu[i] += share * C64::new(x[2], x[3]);
            }
            // admittances of closed switches and long lines side by side leave rounding of about this size
            if share == 1.0 && (step < 1e-13 || (step < 1e-8 && step >= previous)) {
                return self.finish(&point, iteration);
            }
            previous = step;
        }
        Err(GridError::NotConverged {
            bus: self.network.nodes[worst].clone(),
            vm_pu: point.v[worst].norm() / self.network.base_v[worst],
            mismatch_pu: previous,
            iterations: LIMIT,
        })
    }

    /// One linear solution with all loads as impedances at rated voltage.
    fn start(&self) -> Result<Point, GridError> {
        let network = &self.network;
        let known = |p: &Prior| if p.free { 0.0 } else { -p.z };
        let terms: Vec<LoadTerm> = network
            .loads
            .iter()
            .zip(&self.priors)
            .map(|(l, [p, q])| l.rated_term(C64::new(known(p), known(q))))
            .collect();
        let factor = network.factor(&self.symbolic, &terms)?;
        let source: Vec<C64> = network.source_a.iter().map(|i| i * self.source.magnitude).collect();
        let v = super::substitute(&self.symbolic, &factor, &source);
        Ok(Point { mu: vec![C64::ZERO; v.len()], v, priors: self.priors.clone() })
    }

    /// Voltage across load `k` and the difference of its multipliers.
    fn across(&self, point: &Point, k: usize) -> (C64, C64) {
        let load = &self.network.loads[k];
        let other = |x: &[C64]| load.to.map_or(C64::ZERO, |t| x[t]);
        (point.v[load.from] - other(&point.v), point.mu[load.from] - other(&point.mu))
    }

    /// Power that load `k` injects at a point.
    fn injected(&self, point: &Point, k: usize) -> C64 {
        let (d, m) = self.across(point, k);
        let kappa = m / d.conj();
        let [p, q] = &point.priors[k];
        C64::new(p.z - p.variance * kappa.re, q.z - q.variance * kappa.im)
    }

    /// Deviation of the source current at a node.
    fn deviation(&self, mu: C64, current: C64) -> C64 {
        let s = mu * current;
        let SourceKnowledge { magnitude, magnitude_sigma, angle_sigma_rad } = self.source;
        C64::new(magnitude - 1.0 - magnitude_sigma.powi(2) * s.re, angle_sigma_rad.powi(2) * s.im)
    }

    /// Newton's change of (V, µ) by node; free powers move to their present value.
    fn step(&self, point: &mut Point) -> Result<Vec<[f64; 4]>, GridError> {
        let factor = self.factor(point)?;
        let network = &self.network;
        let mut first = vec![C64::ZERO; network.nodes.len()];
        let mut second = first.clone();
        for &(i, j, y) in &network.admittance {
            first[i] -= y * point.v[j];
            second[j] -= y * point.mu[i];
        }
        for (k, load) in network.loads.iter().enumerate() {
            let power = self.injected(point, k);
            let (d, m) = self.across(point, k);
            let (current, gradient) = ((power / d).conj(), power * m.conj() / (d * d));
            for (node, sign) in load.ends() {
                first[node] += sign * current;
                second[node] -= sign * gradient;
            }
            for (prior, now) in point.priors[k].iter_mut().zip([power.re, power.im]) {
                if prior.free {
                    prior.z = now;
                }
            }
        }
        for (i, current) in network.source_a.iter().enumerate() {
            first[i] += current * (1.0 + self.deviation(point.mu[i], *current));
        }
        for m in &self.measurements {
            if let PhaseQuantity::Voltage { from, to } = m.quantity {
                let d = point.v[from] - to.map_or(C64::ZERO, |t| point.v[t]);
                let a = (d.norm() - m.value) / (m.sigma * m.sigma) * d.conj() / d.norm();
                second[from] += a;
                if let Some(to) = to {
                    second[to] -= a;
                }
            }
        }
        let mut x: Vec<[f64; 4]> =
            self.symbolic.node.iter().map(|&i| [first[i].re, first[i].im, second[i].re, second[i].im]).collect();
        factor.solve_one(&self.symbolic, &mut x);
        Ok(self.symbolic.position.iter().map(|&p| x[p]).collect())
    }

    fn factor(&self, point: &Point) -> Result<Factor<4>, GridError> {
        let network = &self.network;
        let mut blocks = Blocks::<4>::zeros(&self.symbolic);
        for &(i, j, y) in &network.admittance {
            let (forward, transposed) = (coupling_block(y, C64::ZERO), coupling_block(C64::ZERO, y));
            blocks.add(&self.symbolic, i, j, &forward);
            blocks.add(&self.symbolic, j, i, &transposed);
        }
        for (k, load) in network.loads.iter().enumerate() {
            let (d, m) = self.across(point, k);
            let [p, q] = &point.priors[k];
            let block = node_derivative(d, m, C64::new(p.z, q.z), [p.variance, q.variance]);
            self.add_pair(&mut blocks, (load.from, load.to), &block);
        }
        for (i, &current) in network.source_a.iter().enumerate().filter(|(_, c)| **c != C64::ZERO) {
            let mut block = [[0.0; 4]; 4];
            for (column, mu) in [C64::ONE, C64::I].into_iter().enumerate() {
                let s = mu * current;
                let SourceKnowledge { magnitude_sigma, angle_sigma_rad, .. } = self.source;
                let change = current * C64::new(-magnitude_sigma.powi(2) * s.re, angle_sigma_rad.powi(2) * s.im);
                block[0][2 + column] = -change.re;
                block[1][2 + column] = -change.im;
            }
            blocks.add(&self.symbolic, i, i, &block);
        }
        for m in &self.measurements {
            if let PhaseQuantity::Voltage { from, to } = m.quantity {
                let d = point.v[from] - to.map_or(C64::ZERO, |t| point.v[t]);
                self.add_pair(&mut blocks, (from, to), &voltage_block(d, m));
            }
        }
        Factor::new(&self.symbolic, blocks).map_err(|node| GridError::Singular { bus: network.nodes[node].clone() })
    }

    fn add_pair(&self, blocks: &mut Blocks<4>, (from, to): (usize, Option<usize>), block: &Block<4>) {
        blocks.add(&self.symbolic, from, from, block);
        if let Some(to) = to {
            let negative = block.map(|row| row.map(|x| -x));
            blocks.add(&self.symbolic, to, to, block);
            blocks.add(&self.symbolic, from, to, &negative);
            blocks.add(&self.symbolic, to, from, &negative);
        }
    }

    fn finish(&self, point: &Point, iterations: usize) -> Result<PhaseEstimate, GridError> {
        let network = &self.network;
        let load_power: Vec<C64> = (0..network.loads.len()).map(|k| -self.injected(point, k)).collect();
        let residuals: Vec<f64> = self
            .measurements
            .iter()
            .map(|m| {
                m.value
                    - match m.quantity {
                        PhaseQuantity::Voltage { from, to } => {
                            (point.v[from] - to.map_or(C64::ZERO, |t| point.v[t])).norm()
                        }
                        PhaseQuantity::ActivePower { load } => load_power[load].re,
                        PhaseQuantity::ReactivePower { load } => load_power[load].im,
                    }
            })
            .collect();
        let source: Vec<C64> =
            network.source_a.iter().zip(&point.mu).map(|(i, mu)| self.source_deviation(*mu, *i)).collect();
        let mut objective: f64 = residuals.iter().zip(&self.measurements).map(|(r, m)| (r / m.sigma).powi(2)).sum();
        for (e, _) in source.iter().zip(&network.source_a).filter(|(_, i)| **i != C64::ZERO) {
            objective += ((e.re - self.source.magnitude + 1.0) / self.source.magnitude_sigma).powi(2);
            objective += (e.im / self.source.angle_sigma_rad).powi(2);
        }
        let degrees_of_freedom = self.measurements.len().saturating_sub(2 * network.loads.len());
        let trust = Trust::new(self, point)?;
        trust.check_observable()?;
        Ok(PhaseEstimate {
            vm_sigma_v: (0..network.nodes.len()).map(|i| trust.voltage_variance(i, None).max(0.0).sqrt()).collect(),
            normalised_residuals: self
                .measurements
                .iter()
                .zip(&residuals)
                .map(|(m, r)| {
                    let share = trust.residual_share(m);
                    (share > 1e-6).then(|| r.abs() / (m.sigma * share.sqrt()))
                })
                .collect(),
            v: point.v.clone(),
            load_power,
            source,
            residuals,
            objective,
            degrees_of_freedom,
            p_value: chi_square_tail(objective, degrees_of_freedom),
            iterations,
        })
    }

    fn source_deviation(&self, mu: C64, current: C64) -> C64 {
        if current == C64::ZERO { C64::ZERO } else { self.deviation(mu, current) }
    }
}

/// The textbook gain at an estimate: multipliers zero.
struct Trust<'a> {
    estimator: &'a PhaseEstimator,
    point: Point,
    factor: Factor<4>,
}

impl<'a> Trust<'a> {
    fn new(estimator: &'a PhaseEstimator, point: &Point) -> Result<Self, GridError> {
        let mut flat = point.clone();
        for k in 0..flat.priors.len() {
            let power = estimator.injected(point, k);
            (flat.priors[k][0].z, flat.priors[k][1].z) = (power.re, power.im);
        }
        flat.mu.fill(C64::ZERO);
        Ok(Self { factor: estimator.factor(&flat)?, point: flat, estimator })
    }

    /// Change of (V, µ) by node for a source in the first or second equations at a pair of nodes.
    fn response(&self, ends: &[(usize, f64)], first: C64, second: C64) -> Vec<[f64; 4]> {
        let symbolic = &self.estimator.symbolic;
        let mut x = vec![[0.0; 4]; symbolic.len()];
        for &(node, sign) in ends {
            let row = &mut x[symbolic.position[node]];
            for (k, value) in [first.re, first.im, second.re, second.im].into_iter().enumerate() {
                row[k] += sign * value;
            }
        }
        self.factor.solve_one(symbolic, &mut x);
        x
    }

    fn voltage_variance(&self, from: usize, to: Option<usize>) -> f64 {
        let ends: Vec<(usize, f64)> = std::iter::once((from, 1.0)).chain(to.map(|t| (t, -1.0))).collect();
        let d: C64 = ends.iter().map(|&(n, sign)| sign * self.point.v[n]).sum();
        let g = d.conj() / d.norm();
        let x = self.response(&ends, C64::ZERO, -g);
        let position = &self.estimator.symbolic.position;
        ends.iter().map(|&(n, sign)| sign * (g * C64::new(x[position[n]][0], x[position[n]][1])).re).sum()
    }

    /// `1 - σ² ∂κ/∂z` of one part of a load: how the estimate follows its pooled value.
    fn load_response(&self, load: usize, part: usize) -> f64 {
        let (d, _) = self.estimator.across(&self.point, load);
        let unit = if part == 0 { C64::ONE } else { C64::I };
        let ends = self.estimator.network.loads[load].ends();
        let x = self.response(&ends, (unit / d).conj(), C64::ZERO);
        let position = &self.estimator.symbolic.position;
        let m: C64 = ends.iter().map(|&(n, sign)| sign * C64::new(x[position[n]][2], x[position[n]][3])).sum();
        let kappa = m / d.conj();
        1.0 - self.point.priors[load][part].variance * if part == 0 { kappa.re } else { kappa.im }
    }

    /// `∂r/∂z` of a measurement.
    fn residual_share(&self, m: &PhaseMeasurement) -> f64 {
        match (m.quantity, m.quantity.load_part()) {
            (_, Some((load, part))) => {
                let share = self.point.priors[load][part].variance / (m.sigma * m.sigma);
                1.0 - share * self.load_response(load, part)
            }
            (PhaseQuantity::Voltage { from, to }, None) => 1.0 - self.voltage_variance(from, to) / (m.sigma * m.sigma),
            _ => 0.0,
        }
    }

    fn check_observable(&self) -> Result<(), GridError> {
        for (load, priors) in self.point.priors.iter().enumerate() {
            for part in (0..2).filter(|&part| priors[part].free) {
                let left = self.load_response(load, part);
                if left.is_nan() || left >= 0.2 {
                    let name = &self.estimator.network.loads[load].name;
                    return Err(GridError::element(
                        format!("load {name}"),
                        "its power is not observable from the measurements: measure it (a pseudo-measurement will do)",
                    ));
                }
            }
        }
        Ok(())
    }
}

impl PhaseQuantity {
    fn load_part(self) -> Option<(usize, usize)> {
        match self {
            Self::ActivePower { load } => Some((load, 0)),
            Self::ReactivePower { load } => Some((load, 1)),
            Self::Voltage { .. } => None,
        }
    }
}

impl PhaseMeasurement {
    fn validate(&self, network: &PhaseNetwork, groups: &[usize]) -> Result<(), GridError> {
        let node = |i: usize| network.nodes.get(i).map_or_else(|| format!("position {i}"), Clone::clone);
        let name = match self.quantity {
            PhaseQuantity::Voltage { from, to: None } => format!("voltage at node {}", node(from)),
            PhaseQuantity::Voltage { from, to: Some(to) } => format!("voltage between {} and {}", node(from), node(to)),
            PhaseQuantity::ActivePower { load } | PhaseQuantity::ReactivePower { load } => {
                format!("power of load {}", network.loads.get(load).map_or("(unknown)", |l| l.name.as_str()))
            }
        };
        let fail = |reason: String| Err(GridError::element(name.clone(), reason));
        let n = groups.len();
        match self.quantity {
            PhaseQuantity::Voltage { from, to } => {
                if from >= n || to.is_some_and(|t| t >= n || t == from || groups[t] != groups[from]) {
                    return fail("the network has no such pair of nodes at one bus".into());
                }
                if self.value <= 0.0 {
                    return fail(format!("a voltage magnitude of {} V is not possible", self.value));
                }
            }
            PhaseQuantity::ActivePower { load } | PhaseQuantity::ReactivePower { load } => {
                if load >= network.loads.len() {
                    return fail("the network has no such load".into());
                }
            }
        }
        if !self.value.is_finite() {
            return fail(format!("its value {} is not a finite number", self.value));
        }
        if !(self.sigma.is_finite() && self.sigma > 0.0) {
            return fail(format!("its sigma {} must be positive", self.sigma));
        }
        Ok(())
    }
}

/// `-da` of a voltage term by (dV), exactly: with h = |d|, `a = w (h - z) conj(d)/h`.
fn voltage_block(d: C64, m: &PhaseMeasurement) -> Block<4> {
    let (h, weight) = (d.norm(), 1.0 / (m.sigma * m.sigma));
    let g = d.conj() / h;
    let mut block = gradient_block(g, g, weight);
    for (column, dv) in [C64::ONE, C64::I].into_iter().enumerate() {
        let bend = weight * (h - m.value) / h * (dv.conj() - g * (g * dv).re);
        block[2][column] -= bend.re;
        block[3][column] -= bend.im;
    }
    block
}
