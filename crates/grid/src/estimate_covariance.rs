//! Estimation in which the errors of some measured injections are correlated: recovered values with their full covariance.
//!
//! With Σ the covariance of a group of injections, the closed form of the optimum becomes `S = z - Σ Re κ` (Im κ for reactive
//! power) over the whole group instead of entry by entry. The diagonal of Σ stays in the sparse factor; the rest, Δ, is a
//! low-rank change: with R the response of κ to a shift of each injection, the shifts `δ = -Δ κ` of all others follow from
//! one dense system of the size of the group, `(I + Δ R) δ = -Δ κ₀`. Newton's method on both together; nothing is dropped.

use crate::dense::{Lu, times};
use crate::error::GridError;
use crate::estimate::{Estimate, Estimator, Point, injection_part};
use crate::estimate_kernel::EstimateKernel;
use num_complex::Complex64 as C64;

const LIMIT: usize = 60;

/// Injection measurements with correlated errors.
#[derive(Debug, Clone)]
pub struct CorrelatedGroup {
    /// Positions of injection measurements, each the only one of its bus and kind.
    pub measurements: Vec<usize>,
    /// Row-major, pu²; its diagonal holds the squares of the measurements' sigmas.
    pub covariance: Vec<f64>,
}

/// An estimate with what is left of the uncertainty of its group.
#[derive(Debug, Clone)]
pub struct CorrelatedEstimate {
    pub estimate: Estimate,
    /// Estimated values of the group's injections, pu.
    pub values_pu: Vec<f64>,
    /// Their posterior covariance, row-major, pu².
    pub covariance: Vec<f64>,
    /// Posterior standard deviation of each bus's voltage magnitude, pu.
    pub vm_sigma_pu: Vec<f64>,
}

/// The group as the equations see it.
struct Group {
    nodes: Vec<usize>,
    parts: Vec<usize>,
    columns: Vec<usize>,
    covariance: Vec<f64>,
    /// the covariance without its diagonal
    rest: Vec<f64>,
}

/// The low-rank change at one linearisation.
struct Coupled {
    /// response of all unknowns, by position, to each shift
    columns: Vec<Vec<[f64; 4]>>,
    response: Vec<f64>,
    factor: Lu,
}

impl Estimator {
    /// Estimates for the values given to [`Estimator::new`], with the full covariance of a group of injections.
    ///
    /// # Errors
    /// Those of [`Estimator::estimate`]; a group that is not made of single injection measurements, or whose covariance does
    /// not fit them or is not positive definite.
    pub fn estimate_correlated(&self, group: &CorrelatedGroup) -> Result<CorrelatedEstimate, GridError> {
        let start = self.estimate()?;
        let group = self.group(group)?;
        let values: Vec<f64> = self.measurements.iter().map(|m| m.value_pu).collect();
        let sigmas: Vec<f64> = self.measurements.iter().map(|m| m.sigma_pu).collect();
        let (point, iterations) = self.solve_correlated(&start.point, &group, &values, &sigmas)?;
        let mut estimate = self.finish(point, &values, iterations);
        let residuals: Vec<f64> = group.columns.iter().map(|&k| estimate.residuals_pu[k]).collect();
        let m = residuals.len();
        for (k, r) in residuals.iter().enumerate() {
            estimate.objective -= r * r / group.covariance[k * m + k];
        }
        let inverse = Lu::new(m, group.covariance.clone()).ok_or_else(not_definite)?;
        estimate.objective += inverse.solve(&residuals).iter().zip(&residuals).map(|(a, b)| a * b).sum::<f64>();
        let values_pu = group.columns.iter().zip(&residuals).map(|(&k, r)| values[k] - r).collect();
        let flat = self.flat_multipliers(&estimate.point);
        let kernel = self.kernel(&flat, &sigmas)?;
        let coupled = Coupled::new(&kernel, &group, &flat).ok_or_else(not_definite)?;
        Ok(CorrelatedEstimate {
            covariance: coupled.posterior(&group),
            vm_sigma_pu: self.coupled_sigmas(&kernel, &coupled, &group, &flat),
            values_pu,
            estimate,
        })
    }

    fn group(&self, group: &CorrelatedGroup) -> Result<Group, GridError> {
        let m = group.measurements.len();
        if group.covariance.len() != m * m {
            return Err(GridError::Length {
                what: "the covariance of the group",
                found: group.covariance.len(),
                expected: m * m,
            });
        }
        if let Some(at) = group.covariance.iter().position(|c| !c.is_finite()) {
            return Err(GridError::element(format!("covariance, row {}", at / m), "holds a value that is not finite"));
        }
        let (mut nodes, mut parts) = (Vec::new(), Vec::new());
        for (k, &column) in group.measurements.iter().enumerate() {
            let name = || match self.measurements.get(column) {
                Some(measurement) => measurement.describe(&self.model.bus_ids),
                None => format!("measurement {column}"),
            };
            let fail = |reason: &str| GridError::element(name(), reason);
            let Some((bus, part)) = self.measurements.get(column).and_then(|m| injection_part(m.quantity)) else {
                return Err(fail("a correlated group is made of injection measurements"));
            };
            let node = self.model.node_of_bus[bus];
            let variance = self.measurements[column].sigma_pu.powi(2);
            let prior = self.plan.priors[node][part];
            if prior.free || (prior.variance - variance).abs() > 1e-9 * variance {
                return Err(fail("shares its node with other injections of the same kind; a group needs it alone"));
            }
            if (group.covariance[k * m + k] - variance).abs() > 1e-6 * variance {
                return Err(fail("the diagonal of the covariance must be the square of its sigma"));
            }
            if (self.plan.slack_free && node == self.plan.slack) || group.measurements[..k].contains(&column) {
                return Err(fail("cannot be in the group (twice, or at the slack bus)"));
            }
            nodes.push(node);
            parts.push(part);
        }
        // the diagonal of the factor is the plan's own
        let mut covariance = group.covariance.clone();
        for (k, &column) in group.measurements.iter().enumerate() {
            covariance[k * m + k] = self.measurements[column].sigma_pu.powi(2);
        }
        let mut rest = covariance.clone();
        (0..m).for_each(|k| rest[k * m + k] = 0.0);
        Ok(Group { nodes, parts, columns: group.measurements.clone(), covariance, rest })
    }

    fn solve_correlated(
        &self,
        start: &Point,
        group: &Group,
        values: &[f64],
        sigmas: &[f64],
    ) -> Result<(Point, usize), GridError> {
        let mut point = start.clone();
        let mut measured = start.clone();
        let mut previous = f64::INFINITY;
        let mut step = f64::INFINITY;
        for iteration in 1..=LIMIT {
            let kernel = self.kernel(&point, sigmas)?;
            let coupled = Coupled::new(&kernel, group, &point).ok_or_else(not_definite)?;
            measured.v.clone_from(&point.v);
            measured.mu.clone_from(&point.mu);
            let mut new = kernel.step_one(&self.plan, &measured, values);
            let kappa = group.kappa(&point, |node| (new.v[node], new.mu[node]));
            let shifts = coupled.shifts(group, &kappa);
            for (column, shift) in coupled.columns.iter().zip(&shifts) {
                for (p, x) in column.iter().enumerate() {
                    let node = kernel.symbolic.node[p];
                    new.v[node] += shift * C64::new(x[0], x[1]);
                    new.mu[node] += shift * C64::new(x[2], x[3]);
                }
            }
            measured.z.clone_from(&new.z);
            for ((&node, &part), shift) in group.nodes.iter().zip(&group.parts).zip(&shifts) {
                new.z[node] += if part == 0 { C64::new(*shift, 0.0) } else { C64::new(0.0, *shift) };
            }
            step = point.v.iter().zip(&new.v).map(|(a, b)| (a - b).norm()).fold(0.0, f64::max);
            if !step.is_finite() {
                break;
            }
            point = new;
            if step < 1e-13 || (step < 1e-9 && step >= previous) {
                return Ok((point, iteration));
            }
            previous = step;
        }
        let worst =
            group.columns.first().map_or_else(String::new, |&k| self.measurements[k].describe(&self.model.bus_ids));
        let bus = self.model.bus_ids[self.model.slack_bus];
        Err(GridError::EstimateNotConverged { bus, step_pu: step, iterations: LIMIT, worst })
    }

    fn coupled_sigmas(&self, kernel: &EstimateKernel, coupled: &Coupled, group: &Group, point: &Point) -> Vec<f64> {
        let sigma = |node: usize| {
            let v = point.v[node];
            let g = v.conj() / v.norm();
            let own = kernel.response(&[(node, C64::ZERO, -g)]);
            let position = &kernel.symbolic.position;
            let at = |n: usize| {
                (C64::new(own[position[n]][0], own[position[n]][1]), C64::new(own[position[n]][2], own[position[n]][3]))
            };
            let kappa: Vec<f64> = group.pick(|node| at(node).1 / point.v[node].conj());
            let shifts = coupled.shifts(group, &kappa);
            let mut change = at(node).0;
            for (column, shift) in coupled.columns.iter().zip(&shifts) {
                let x = column[position[node]];
                change += shift * C64::new(x[0], x[1]);
            }
            (g * change).re.max(0.0).sqrt()
        };
        let nodes: Vec<f64> = (0..point.v.len()).map(sigma).collect();
        self.model.node_of_bus.iter().map(|&n| nodes[n]).collect()
    }
}

fn not_definite() -> GridError {
    GridError::element("covariance of the group", "is not positive definite")
}

impl Group {
    /// The group's part of a complex value per node.
    fn pick(&self, value: impl Fn(usize) -> C64) -> Vec<f64> {
        let entry = |(&node, &part): (&usize, &usize)| if part == 0 { value(node).re } else { value(node).im };
        self.nodes.iter().zip(&self.parts).map(entry).collect()
    }

    /// κ of new unknowns, linearised at `point`.
    fn kappa(&self, point: &Point, new: impl Fn(usize) -> (C64, C64)) -> Vec<f64> {
        self.pick(|node| {
            let conj = point.v[node].conj();
            let kappa = point.mu[node] / conj;
            let (v, mu) = new(node);
            kappa + (mu - point.mu[node]) / conj - kappa * (v - point.v[node]).conj() / conj
        })
    }
}

impl Coupled {
    fn new(kernel: &EstimateKernel, group: &Group, point: &Point) -> Option<Self> {
        let m = group.nodes.len();
        let mut columns = Vec::with_capacity(m);
        let mut response = vec![0.0; m * m];
        for (c, (&node, &part)) in group.nodes.iter().zip(&group.parts).enumerate() {
            let unit = if part == 0 { C64::ONE } else { C64::I };
            let current = unit.conj() / point.v[node].conj();
            let kappa = point.mu[node] / point.v[node].conj();
            let x = kernel.response(&[(node, current, -(current * kappa).conj())]);
            let change = group.pick(|node| {
                let x = x[kernel.symbolic.position[node]];
                let conj = point.v[node].conj();
                let kappa = point.mu[node] / conj;
                C64::new(x[2], x[3]) / conj - kappa * C64::new(x[0], -x[1]) / conj
            });
            for (r, value) in change.iter().enumerate() {
                response[r * m + c] = *value;
            }
            columns.push(x);
        }
        let mut system = vec![0.0; m * m];
        for r in 0..m {
            system[r * m + r] = 1.0;
            for k in (0..m).filter(|&k| group.rest[r * m + k] != 0.0) {
                let factor = group.rest[r * m + k];
                for c in 0..m {
                    system[r * m + c] += factor * response[k * m + c];
                }
            }
        }
        Some(Self { columns, response, factor: Lu::new(m, system)? })
    }

    /// Shifts that follow from κ without them.
    fn shifts(&self, group: &Group, kappa: &[f64]) -> Vec<f64> {
        let wanted: Vec<f64> = times(&group.rest, kappa).iter().map(|x| -x).collect();
        self.factor.solve(&wanted)
    }

    /// `Σ - Σ M Σ` with M the response of κ in the coupled system: `M w = R (w + δ)`, `δ = -(I + Δ R)⁻¹ Δ R w`.
    fn posterior(&self, group: &Group) -> Vec<f64> {
        let m = group.nodes.len();
        let mut out = group.covariance.clone();
        for c in 0..m {
            let w: Vec<f64> = (0..m).map(|r| group.covariance[r * m + c]).collect();
            let shifts = self.shifts(group, &times(&self.response, &w));
            let total: Vec<f64> = w.iter().zip(&shifts).map(|(a, b)| a + b).collect();
            let taken = times(&group.covariance, &times(&self.response, &total));
            for r in 0..m {
                out[r * m + c] -= taken[r];
            }
        }
        out
    }
}
