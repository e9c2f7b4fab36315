//! How far an estimate can be trusted: posterior variances, normalised residuals, chi-square test, bad data, Huber weights.
//!
//! Everything follows from the factor of the estimation itself, with the multipliers set to zero (the textbook gain matrix):
//! `Cov c` is one solve for a functional c of the voltages, and the sensitivity of a residual to its own measurement,
//! `∂r/∂z = Ω/σ²`, is one solve too. Normalised residual: `|r|/√Ω`.

use crate::error::GridError;
use crate::estimate::{Estimate, Estimator, injection_part};
use crate::estimate_kernel::{EstimateKernel, FlowTerm};
use crate::measurement::{Measurement, Quantity, Side};
use num_complex::Complex64 as C64;

/// Statistical assessment of one estimate.
#[derive(Debug, Clone)]
pub struct Assessment {
    /// `|r|/√Ω` of each measurement; `None` for a measurement that nothing else checks (its residual is always zero).
    pub normalised_residuals: Vec<Option<f64>>,
    pub objective: f64,
    pub degrees_of_freedom: usize,
    /// Probability of an objective at least this large if all measurements have the errors they claim.
    pub p_value: f64,
    /// Posterior standard deviation of each bus's voltage magnitude, pu.
    pub vm_sigma_pu: Vec<f64>,
}

/// Loss of one branch with its uncertainty, pu.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BranchLoss {
    pub loss_p_pu: f64,
    pub sigma_pu: f64,
}

/// Technical losses of the network with their uncertainty.
#[derive(Debug, Clone)]
pub struct TechnicalLosses {
    pub branches: Vec<BranchLoss>,
    pub total_p_pu: f64,
    /// Standard deviation of the total; branches are correlated, so it is not the root of the sum of squares.
    pub total_sigma_pu: f64,
}

/// An estimate without the measurements that contradict the others.
#[derive(Debug, Clone)]
pub struct Cleaned {
    pub estimate: Estimate,
    /// Positions of the removed measurements, in the order of removal, with their normalised residual at that time.
    pub removed: Vec<(usize, f64)>,
    /// The measurements that were kept, by position in the original list.
    pub kept: Vec<usize>,
}

/// Normalised residuals above this are suspect: three standard deviations.
pub const SUSPECT: f64 = 3.0;
/// A measurement whose residual carries less than this share of its variance cannot be checked by the others.
const CRITICAL: f64 = 1e-6;

impl Estimator {
    fn textbook_kernel(&self, estimate: &Estimate) -> Result<EstimateKernel, GridError> {
        let sigmas: Vec<f64> = self.measurements.iter().map(|m| m.sigma_pu).collect();
        self.kernel(&self.flat_multipliers(&estimate.point), &sigmas)
    }

    /// Normalised residuals, chi-square test and voltage uncertainties.
    pub fn assess(&self, estimate: &Estimate) -> Result<Assessment, GridError> {
        let kernel = self.textbook_kernel(estimate)?;
        let v = &estimate.point.v;
        let normalised_residuals = (0..self.measurements.len())
            .map(|k| {
                let share = self.residual_sensitivity(&kernel, v, k);
                let m = &self.measurements[k];
                (share > CRITICAL).then(|| estimate.residuals_pu[k].abs() / (m.sigma_pu * share.sqrt()))
            })
            .collect();
        let node_sigma: Vec<f64> =
            (0..v.len()).map(|node| kernel.voltage_variance(node, v[node]).max(0.0).sqrt()).collect();
        Ok(Assessment {
            normalised_residuals,
            objective: estimate.objective,
            degrees_of_freedom: estimate.degrees_of_freedom,
            p_value: chi_square_tail(estimate.objective, estimate.degrees_of_freedom),
            vm_sigma_pu: self.model.node_of_bus.iter().map(|&n| node_sigma[n]).collect(),
        })
    }

    /// `∂r_k/∂z_k`.
    fn residual_sensitivity(&self, kernel: &EstimateKernel, v: &[C64], k: usize) -> f64 {
        let m = &self.measurements[k];
        if let Some((bus, part)) = injection_part(m.quantity) {
            let node = self.model.node_of_bus[bus];
            let Some(term) = kernel.nodes.iter().find(|t| t.node == node) else { return 0.0 };
            let share = self.plan.pooled.iter().find(|p| p.column == k).map_or(0.0, |p| p.share);
            let ratio = m.sigma_pu * m.sigma_pu * share / term.variance[part];
            let response = kernel.injection_response(term, part, v[node]);
            return 1.0 - share * (1.0 + (response - 1.0) * ratio);
        }
        let weight = 1.0 / (m.sigma_pu * m.sigma_pu);
        let functional = self.functional(v, m, kernel);
        let change = kernel.covariance_times(&functional);
        1.0 - weight * functional.iter().map(|&(node, g)| (g * change[node]).re).sum::<f64>()
    }

    /// Gradient of a measured voltage or flow with respect to node voltages.
    fn functional(&self, v: &[C64], m: &Measurement, kernel: &EstimateKernel) -> Vec<(usize, C64)> {
        match m.quantity {
            Quantity::Voltage { bus } => {
                let node = self.model.node_of_bus[bus];
                vec![(node, v[node].conj() / v[node].norm())]
            }
            Quantity::ActiveFlow { branch, side } => self.flow_functional(v, kernel, branch, side, true),
            Quantity::ReactiveFlow { branch, side } => self.flow_functional(v, kernel, branch, side, false),
            Quantity::ActiveInjection { .. } | Quantity::ReactiveInjection { .. } => Vec::new(),
        }
    }

    fn flow_functional(
        &self,
        v: &[C64],
        kernel: &EstimateKernel,
        branch: usize,
        side: Side,
        active: bool,
    ) -> Vec<(usize, C64)> {
        let b = &self.model.branches[branch];
        let (near, far, y_near, y_far) = match side {
            Side::From => (b.from, b.to, b.yff, b.yft),
            Side::To => (b.to, b.from, b.ytt, b.ytf),
        };
        let (near, far) = (self.model.node_of_bus[near], self.model.node_of_bus[far]);
        let positions = [kernel.symbolic.position[near], kernel.symbolic.position[far]];
        let term =
            FlowTerm { near, far, positions, y_near, y_far, active, weight: 1.0, gradient: [C64::ZERO; 2], column: 0 };
        let (_, g) = term.value_and_gradient(v[near], v[far]);
        vec![(near, g[0]), (far, g[1])]
    }

    /// Posterior standard deviation of the active flow into a branch at one side, pu.
    pub fn flow_sigma_pu(&self, estimate: &Estimate, branch: usize, side: Side) -> Result<f64, GridError> {
        if branch >= self.model.branch_count() {
            let expected = self.model.branch_count();
            return Err(GridError::Length { what: "a branch position", found: branch, expected });
        }
        let kernel = self.textbook_kernel(estimate)?;
        let functional = self.flow_functional(&estimate.point.v, &kernel, branch, side, true);
        Ok(variance(&kernel, &functional).max(0.0).sqrt())
    }

    /// Active losses by branch and in total, each with the uncertainty that the measurements leave.
    pub fn technical_losses(&self, estimate: &Estimate) -> Result<TechnicalLosses, GridError> {
        let kernel = self.textbook_kernel(estimate)?;
        let v = &estimate.point.v;
        let mut total: Vec<(usize, C64)> = Vec::new();
        let mut branches = Vec::with_capacity(self.model.branch_count());
        for (k, flow) in estimate.state.branches.iter().enumerate() {
            if self.model.branches[k].zero {
                branches.push(BranchLoss { loss_p_pu: 0.0, sigma_pu: 0.0 });
                continue;
            }
            let mut functional = self.flow_functional(v, &kernel, k, Side::From, true);
            functional.extend(self.flow_functional(v, &kernel, k, Side::To, true));
            branches.push(BranchLoss {
                loss_p_pu: flow.loss_p_pu(),
                sigma_pu: variance(&kernel, &functional).max(0.0).sqrt(),
            });
            total.append(&mut functional);
        }
        Ok(TechnicalLosses {
            total_p_pu: branches.iter().map(|b| b.loss_p_pu).sum(),
            total_sigma_pu: variance(&kernel, &total).max(0.0).sqrt(),
            branches,
        })
    }

    /// Estimates, and while the largest normalised residual exceeds `threshold` removes that measurement and starts again.
    ///
    /// # Errors
    /// Those of [`Estimator::estimate`]; a removal that would make the network unobservable is not made.
    pub fn estimate_without_bad_data(&self, threshold: f64) -> Result<Cleaned, GridError> {
        let mut kept: Vec<usize> = (0..self.measurements.len()).collect();
        let mut removed = Vec::new();
        let mut current = self.clone();
        let mut estimate = current.estimate()?;
        let zero = self.zero_injections();
        for _ in 0..self.measurements.len() {
            let residuals = current.assess(&estimate)?.normalised_residuals;
            let worst =
                residuals.iter().enumerate().filter_map(|(k, r)| r.map(|r| (k, r))).max_by(|a, b| a.1.total_cmp(&b.1));
            let Some((k, size)) = worst.filter(|(_, size)| *size > threshold) else { break };
            let mut fewer = kept.clone();
            let bad = fewer.remove(k);
            let measurements: Vec<Measurement> = fewer.iter().map(|&k| self.measurements[k]).collect();
            let next = Estimator::new(&self.model, &measurements, &zero)?;
            match next.estimate() {
                Ok(better) => (current, estimate) = (next, better),
                Err(GridError::Unobservable { .. }) => break,
                Err(error) => return Err(error),
            }
            kept = fewer;
            removed.push((bad, size));
        }
        Ok(Cleaned { estimate, removed, kept })
    }

    fn zero_injections(&self) -> Vec<usize> {
        (0..self.model.bus_count()).filter(|&b| self.plan.is_zero(b)).collect()
    }

    /// Huber's estimator: residuals beyond `bend` standard deviations count linearly, not squared. Returns the estimate and
    /// the weight (0–1) of each measurement. `bend` 1.5 keeps 96 % efficiency on clean data.
    ///
    /// # Errors
    /// Those of [`Estimator::estimate`].
    pub fn estimate_robust(&self, bend: f64) -> Result<(Estimate, Vec<f64>), GridError> {
        const ROUNDS: usize = 50;
        let mut estimate = self.estimate()?;
        let values: Vec<f64> = self.measurements.iter().map(|m| m.value_pu).collect();
        let mut weights = vec![1.0; values.len()];
        for _ in 0..ROUNDS {
            let mut change = 0.0f64;
            for ((w, r), m) in weights.iter_mut().zip(&estimate.residuals_pu).zip(&self.measurements) {
                let size = r.abs() / m.sigma_pu;
                let new = if size > bend { bend / size } else { 1.0 };
                change = change.max((new - *w).abs());
                *w = new;
            }
            if change < 1e-6 {
                break;
            }
            let sigmas: Vec<f64> = self.measurements.iter().zip(&weights).map(|(m, w)| m.sigma_pu / w.sqrt()).collect();
            let (point, iterations) = self.solve_point(&values, &sigmas)?;
            estimate = self.finish(point, &values, iterations);
        }
        Ok((estimate, weights))
    }
}

fn variance(kernel: &EstimateKernel, functional: &[(usize, C64)]) -> f64 {
    let change = kernel.covariance_times(functional);
    functional.iter().map(|&(node, g)| (g * change[node]).re).sum()
}

/// `P(X >= x)` for a chi-square variable with `k` degrees of freedom.
pub fn chi_square_tail(x: f64, k: usize) -> f64 {
    if k == 0 {
        return 1.0;
    }
    upper_gamma(k as f64 / 2.0, x / 2.0)
}

/// Regularised upper incomplete gamma function, by series below a + 1 and by Lentz's continued fraction above.
fn upper_gamma(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let scale = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut sum, mut term, mut n) = (1.0 / a, 1.0 / a, a);
        for _ in 0..1000 {
            n += 1.0;
            term *= x / n;
            sum += term;
            if term < sum * 1e-16 {
                break;
            }
        }
        return 1.0 - sum * scale;
    }
    let mut b = x + 1.0 - a;
    let mut c = 1e300;
    let mut d = 1.0 / b;
    let mut h = d;
    for i in 1..1000 {
        let i = f64::from(i);
        let an = -i * (i - a);
        b += 2.0;
        d = 1.0 / (an * d + b);
        c = b + an / c;
        let delta = d * c;
        h *= delta;
        if (delta - 1.0).abs() < 1e-16 {
            break;
        }
    }
    h * scale
}

/// Logarithm of the gamma function for positive arguments (Stirling's series after shifting the argument above 10).
fn ln_gamma(mut x: f64) -> f64 {
    let mut shift = 0.0;
    while x < 10.0 {
        shift -= x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)));
    shift + (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chi_square_tail_matches_tables() {
        // 95 % quantiles from any printed table
        for (k, x) in [(1, 3.841), (5, 11.070), (30, 43.773), (100, 124.342)] {
            assert!((chi_square_tail(x, k) - 0.05).abs() < 1e-4, "{k} degrees of freedom");
        }
        assert_eq!(chi_square_tail(0.0, 4), 1.0);
    }
}
