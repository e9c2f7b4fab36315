//! Exact weighted-least-squares state estimation with zero injections as hard constraints.
//!
//! Minimise `½ Σ ((z - h)/σ)²` over voltages and injections subject to `Y V = conj(S/V)`. With multipliers µ per node the
//! optimum satisfies, at every node, `[Y V] = conj(S/V)` and `[Yᵀ µ] + conj(D µ) = a`, `D = conj(S/V²)`, where a is the
//! gradient of the voltage and flow terms (`dL = Re Σ a dV`) and the measured injections follow in closed form,
//! `S = z - σp² Re κ - j σq² Im κ`, `κ = µ/conj(V)`: a perfect measurement (zero injection) has σ = 0, without huge
//! weights. Four real unknowns per node (V, µ) coupled exactly like Y: on a tree the elimination has no fill-in.
//! A single estimate refactors in every step (Newton's method); batches share the factor of a base state and iterate the
//! exact equations to their fixed point. Injections that nobody measured are left free by a proximal step.

use crate::error::GridError;
use crate::estimate_kernel::{EstimateKernel, FlowTerm, NodeTerm, SlackRow, VoltageTerm};
use crate::flow::{State, edges};
use crate::kernel::linear_block;
use crate::measurement::{Measurement, Quantity, Side};
use crate::model::Model;
use crate::sparse::{Block, Blocks, Class, Factor, Symbolic};
use num_complex::Complex64 as C64;

/// Variance given to an injection that is not measured; the proximal step removes its influence.
const FREE_SIGMA: f64 = 10.0;
const NEWTON_LIMIT: usize = 60;
const NEWTON_STEP: f64 = 1e-13;

/// One component (P or Q) of what is known about the injection of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Prior {
    pub(crate) variance: f64,
    pub(crate) free: bool,
}

/// A measurement of an injection and its share in the pooled value of its node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pooled {
    pub(crate) column: usize,
    pub(crate) node: usize,
    /// 0 for P, 1 for Q
    pub(crate) part: usize,
    pub(crate) share: f64,
}

/// The structure of an estimation problem, independent of the measured values.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) symbolic: Symbolic,
    /// P and Q priors of each node
    pub(crate) priors: Vec<[Prior; 2]>,
    /// the same by bus, to split a fused node's injection again
    bus_priors: Vec<[Prior; 2]>,
    pub(crate) pooled: Vec<Pooled>,
    pub(crate) slack: usize,
    pub(crate) slack_free: bool,
    pub(crate) direction: C64,
}

/// Voltages and multipliers at the nodes.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) v: Vec<C64>,
    pub(crate) mu: Vec<C64>,
    /// pooled injection values by node
    pub(crate) z: Vec<C64>,
}

/// The result of one estimation.
#[derive(Debug, Clone)]
pub struct Estimate {
    pub state: State,
    /// `z - h` of each measurement, pu.
    pub residuals_pu: Vec<f64>,
    /// `Σ (residual/σ)²`.
    pub objective: f64,
    /// Measurements minus unknowns plus constraints.
    pub degrees_of_freedom: usize,
    pub(crate) point: Point,
}

/// An estimation problem: a network, what is measured where and how well, and which buses inject nothing.
#[derive(Debug, Clone)]
pub struct Estimator {
    pub(crate) model: Model,
    pub(crate) measurements: Vec<Measurement>,
    pub(crate) plan: Plan,
}

/// Estimates once. `zero_injections` are positions of buses that are known to inject nothing.
///
/// # Errors
/// See [`Estimator::new`] and [`Estimator::estimate`].
pub fn estimate(model: &Model, measurements: &[Measurement], zero_injections: &[usize]) -> Result<Estimate, GridError> {
    Estimator::new(model, measurements, zero_injections)?.estimate()
}

impl Estimator {
    /// Validates the measurements and fixes the structure; the values given are those of the base state.
    ///
    /// # Errors
    /// The measurement that makes no sense: unknown position, NaN, σ not positive, an injection at a zero-injection bus.
    pub fn new(model: &Model, measurements: &[Measurement], zero_injections: &[usize]) -> Result<Self, GridError> {
        for m in measurements {
            validate(model, m)?;
        }
        let plan = Plan::new(model, measurements, zero_injections)?;
        Ok(Self { model: model.clone(), measurements: measurements.to_vec(), plan })
    }

    /// The measurements in the order of all per-measurement slices.
    pub fn measurements(&self) -> &[Measurement] {
        &self.measurements
    }

    /// The compiled network.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The estimate for the values given to [`Estimator::new`].
    ///
    /// # Errors
    /// [`GridError::Unobservable`] naming the first bus that the measurements do not determine (the slack bus without any
    /// voltage measurement);
    /// [`GridError::EstimateNotConverged`].
    pub fn estimate(&self) -> Result<Estimate, GridError> {
        // losses alone would tell the voltage level in theory, uselessly in practice
        if !self.measurements.iter().any(|m| matches!(m.quantity, Quantity::Voltage { .. })) {
            return Err(GridError::Unobservable { bus: self.model.bus_ids[self.model.slack_bus] });
        }
        let values: Vec<f64> = self.measurements.iter().map(|m| m.value_pu).collect();
        let sigmas: Vec<f64> = self.measurements.iter().map(|m| m.sigma_pu).collect();
        let point = self.solve_point(&values, &sigmas)?;
        self.check_observable(&point)?;
        Ok(self.finish(point.0, &values, point.1))
    }

    /// Solves for one set of values and weights by Newton's method.
    pub(crate) fn solve_point(&self, values: &[f64], sigmas: &[f64]) -> Result<(Point, usize), GridError> {
        let mut point = self.start(values)?;
        let mut previous = f64::INFINITY;
        let mut last = (f64::INFINITY, 0);
        for iteration in 1..=NEWTON_LIMIT {
            let kernel = self.kernel(&point, sigmas)?;
            let new = kernel.step_one(&self.plan, &point, values);
            let (step, at) = largest_step(&point.v, &new.v);
            if !step.is_finite() {
                break;
            }
            last = (step, at);
            let share = if step > 0.3 { 0.3 / step } else { 1.0 };
            blend(&mut point, &new, share);
            // rounding limits ill-conditioned sets (sigmas many orders apart) to about this
            let stagnates = step < 1e-9 && step >= previous;
            if share == 1.0 && (step < NEWTON_STEP || stagnates) {
                return Ok((point, iteration));
            }
            previous = step;
        }
        let bus = self.model.bus_ids[self.model.buses_of_node[last.1][0]];
        let residuals = self.residuals(&point, values);
        let worst = (0..residuals.len())
            .max_by(|&a, &b| (residuals[a] / sigmas[a]).abs().total_cmp(&(residuals[b] / sigmas[b]).abs()))
            .map_or_else(String::new, |k| self.measurements[k].describe(&self.model.bus_ids));
        Err(GridError::EstimateNotConverged { bus, step_pu: last.0, iterations: NEWTON_LIMIT, worst })
    }

    fn start(&self, values: &[f64]) -> Result<Point, GridError> {
        let model = &self.model;
        let mut vm = model.slack_voltage.norm();
        for (k, m) in self.measurements.iter().enumerate() {
            if let Quantity::Voltage { bus } = m.quantity
                && model.node_of_bus[bus] == self.plan.slack
            {
                vm = values[k];
            }
        }
        let v = crate::flow::no_load(model, self.plan.direction * vm)?;
        Ok(Point { mu: vec![C64::ZERO; v.len()], z: self.plan.pool(values), v })
    }

    /// The frozen equations at a point. `sigmas` weigh voltages and flows and, by ratio, the injections.
    pub(crate) fn kernel(&self, point: &Point, sigmas: &[f64]) -> Result<EstimateKernel, GridError> {
        let terms = self.terms(point, sigmas);
        let factor = self.factor(&terms)?;
        Ok(EstimateKernel {
            symbolic: self.plan.symbolic.clone(),
            factor,
            nodes: terms.nodes,
            voltages: terms.voltages,
            flows: terms.flows,
            slack: SlackRow {
                position: self.plan.symbolic.position[self.plan.slack],
                free: self.plan.slack_free,
                direction: self.plan.direction,
            },
        })
    }

    /// Linearised terms at a point.
    pub(crate) fn terms(&self, point: &Point, sigmas: &[f64]) -> Terms {
        let plan = &self.plan;
        let mut terms = Terms::default();
        let scale = self.variance_scale(sigmas);
        for (node, prior) in plan.priors.iter().enumerate() {
            if (plan.slack_free && node == plan.slack) || !prior.iter().any(|p| p.variance > 0.0) {
                continue;
            }
            let variance = [0, 1].map(|k| prior[k].variance * scale[node][k]);
            let linear = node_derivative(point.v[node], point.mu[node], point.z[node], variance);
            terms.nodes.push(NodeTerm {
                node,
                position: plan.symbolic.position[node],
                variance,
                free: [prior[0].free, prior[1].free],
                linear,
            });
        }
        for (column, m) in self.measurements.iter().enumerate() {
            let weight = 1.0 / (sigmas[column] * sigmas[column]);
            match m.quantity {
                Quantity::Voltage { bus } => {
                    let node = self.model.node_of_bus[bus];
                    let u = point.v[node].conj() / point.v[node].norm();
                    terms.voltages.push(VoltageTerm {
                        node,
                        position: plan.symbolic.position[node],
                        weight,
                        gradient: u,
                        column,
                    });
                }
                Quantity::ActiveFlow { branch, side } | Quantity::ReactiveFlow { branch, side } => {
                    let active = matches!(m.quantity, Quantity::ActiveFlow { .. });
                    terms.flows.push(self.flow_term(point, branch, side, active, weight, column));
                }
                Quantity::ActiveInjection { .. } | Quantity::ReactiveInjection { .. } => {}
            }
        }
        terms
    }

    fn flow_term(
        &self,
        point: &Point,
        branch: usize,
        side: Side,
        active: bool,
        weight: f64,
        column: usize,
    ) -> FlowTerm {
        let b = &self.model.branches[branch];
        let (near, far, y_near, y_far) = match side {
            Side::From => (b.from, b.to, b.yff, b.yft),
            Side::To => (b.to, b.from, b.ytt, b.ytf),
        };
        let (near, far) = (self.model.node_of_bus[near], self.model.node_of_bus[far]);
        let mut term = FlowTerm {
            near,
            far,
            positions: [self.plan.symbolic.position[near], self.plan.symbolic.position[far]],
            y_near,
            y_far,
            active,
            weight,
            gradient: [C64::ZERO; 2],
            column,
        };
        term.gradient = term.value_and_gradient(point.v[near], point.v[far]).1;
        term
    }

    /// How much the pooled variance of each node changes when measurement sigmas differ from the plan's.
    fn variance_scale(&self, sigmas: &[f64]) -> Vec<[f64; 2]> {
        let mut scale = vec![[1.0; 2]; self.plan.priors.len()];
        for p in &self.plan.pooled {
            let ratio = sigmas[p.column] / self.measurements[p.column].sigma_pu;
            // exact where one measurement stands alone; pooled ones share the ratio
            scale[p.node][p.part] *= 1.0 + p.share * (ratio * ratio - 1.0);
        }
        scale
    }

    pub(crate) fn factor(&self, terms: &Terms) -> Result<Factor<4>, GridError> {
        let (model, plan) = (&self.model, &self.plan);
        let symbolic = &plan.symbolic;
        let mut blocks = Blocks::<4>::zeros(symbolic);
        let mut add = |i: usize, j: usize, mut block: Block<4>| {
            if i == plan.slack {
                block = plan.slack_rows(&block);
            }
            blocks.add(symbolic, i, j, &block);
        };
        for node in 0..model.node_count() {
            add(node, node, coupling_block(model.diagonal[node], model.diagonal[node]));
        }
        for c in &model.couplings {
            add(c.i, c.j, coupling_block(c.yij, c.yji));
            add(c.j, c.i, coupling_block(c.yji, c.yij));
        }
        for term in &terms.nodes {
            add(term.node, term.node, term.linear);
        }
        for term in &terms.voltages {
            add(term.node, term.node, gradient_block(term.gradient, term.gradient, term.weight));
        }
        for term in &terms.flows {
            let ends = [term.near, term.far];
            for (row, &i) in ends.iter().enumerate() {
                for (column, &j) in ends.iter().enumerate() {
                    add(i, j, gradient_block(term.gradient[row], term.gradient[column], term.weight));
                }
            }
        }
        blocks.add(symbolic, plan.slack, plan.slack, &plan.slack_identity());
        Factor::new(symbolic, blocks)
            .map_err(|node| GridError::Unobservable { bus: model.bus_ids[model.buses_of_node[node][0]] })
    }

    /// Every measured quantity computed from a point.
    pub(crate) fn residuals(&self, point: &Point, values: &[f64]) -> Vec<f64> {
        let model = &self.model;
        let state = State::from_nodes(model, &point.v, &vec![C64::ZERO; model.bus_count()], 0);
        let split = self.split_injections(&state, values);
        self.measurements
            .iter()
            .zip(values)
            .map(|(m, z)| {
                z - match m.quantity {
                    Quantity::Voltage { bus } => state.v[bus].norm(),
                    Quantity::ActiveInjection { bus } => split[bus].re,
                    Quantity::ReactiveInjection { bus } => split[bus].im,
                    Quantity::ActiveFlow { branch, side: Side::From } => state.branches[branch].p_from_pu,
                    Quantity::ActiveFlow { branch, side: Side::To } => state.branches[branch].p_to_pu,
                    Quantity::ReactiveFlow { branch, side: Side::From } => state.branches[branch].q_from_pu,
                    Quantity::ReactiveFlow { branch, side: Side::To } => state.branches[branch].q_to_pu,
                }
            })
            .collect()
    }

    /// Injection of each bus; the adjustment of a fused node goes to its buses in proportion to their variances.
    fn split_injections(&self, state: &State, values: &[f64]) -> Vec<C64> {
        let model = &self.model;
        let mut out = state.injection.clone();
        for buses in model.buses_of_node.iter().filter(|b| b.len() > 1) {
            let total: C64 = buses.iter().map(|&b| state.injection[b]).sum();
            let mut parts = vec![[0.0; 2]; buses.len()];
            for part in 0..2 {
                let pooled: Vec<f64> =
                    buses.iter().map(|&b| self.plan.pool_bus(&self.measurements, values, b, part)).collect();
                let gap = [total.re, total.im][part] - pooled.iter().sum::<f64>();
                let free: Vec<bool> = buses.iter().map(|&b| self.plan.bus_priors[b][part].free).collect();
                let weight = |k: usize| match free.iter().any(|f| *f) {
                    true => f64::from(u8::from(free[k])),
                    false => self.plan.bus_priors[buses[k]][part].variance,
                };
                let sum: f64 = (0..buses.len()).map(weight).sum();
                for k in 0..buses.len() {
                    parts[k][part] = pooled[k] + if sum > 0.0 { gap * weight(k) / sum } else { 0.0 };
                }
            }
            for (k, &b) in buses.iter().enumerate() {
                out[b] = C64::new(parts[k][0], parts[k][1]);
            }
        }
        out
    }

    pub(crate) fn finish(&self, point: Point, values: &[f64], iterations: usize) -> Estimate {
        let model = &self.model;
        let rough = State::from_nodes(model, &point.v, &vec![C64::ZERO; model.bus_count()], iterations);
        let known = self.split_injections(&rough, values);
        let state = State::from_nodes(model, &point.v, &known, iterations);
        let residuals_pu = self.residuals(&point, values);
        let objective =
            residuals_pu.iter().zip(&self.measurements).map(|(r, m)| (r / m.sigma_pu) * (r / m.sigma_pu)).sum();
        let unknowns = 2 * model.node_count() - 1;
        let constraints: usize = self.plan.priors.iter().flatten().filter(|p| p.variance == 0.0).count();
        let degrees_of_freedom = (self.measurements.len() + constraints).saturating_sub(unknowns);
        Estimate { state, residuals_pu, objective, degrees_of_freedom, point }
    }

    /// A free injection whose posterior is as wide as its proximal prior, or a slack voltage nobody saw, is unobservable.
    fn check_observable(&self, solved: &(Point, usize)) -> Result<(), GridError> {
        let point = &solved.0;
        let sigmas: Vec<f64> = self.measurements.iter().map(|m| m.sigma_pu).collect();
        let kernel = self.kernel(&self.flat_multipliers(point), &sigmas)?;
        let slack_sigma = kernel.voltage_variance(self.plan.slack, point.v[self.plan.slack]).sqrt();
        if slack_sigma.is_nan() || slack_sigma >= 0.2 {
            return Err(GridError::Unobservable { bus: self.model.bus_ids[self.model.slack_bus] });
        }
        for term in &kernel.nodes {
            for part in 0..2 {
                if term.free[part] {
                    let posterior = kernel.injection_variance(term, part, point.v[term.node]);
                    if posterior.is_nan() || posterior >= 0.2 * FREE_SIGMA * FREE_SIGMA {
                        let bus = self.model.buses_of_node[term.node][0];
                        return Err(GridError::Unobservable { bus: self.model.bus_ids[bus] });
                    }
                }
            }
        }
        Ok(())
    }

    /// The point with zero multipliers and injections taken from the voltages: where the textbook gain matrix is formed.
    pub(crate) fn flat_multipliers(&self, point: &Point) -> Point {
        let currents = self.model.node_currents(&point.v);
        let z = point.v.iter().zip(&currents).map(|(v, i)| v * i.conj()).collect();
        Point { v: point.v.clone(), mu: vec![C64::ZERO; point.v.len()], z }
    }
}

/// The linearised terms at a point.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    pub(crate) nodes: Vec<NodeTerm>,
    pub(crate) voltages: Vec<VoltageTerm>,
    pub(crate) flows: Vec<FlowTerm>,
}

fn validate(model: &Model, m: &Measurement) -> Result<(), GridError> {
    let at = m.describe(&model.bus_ids);
    let known = match m.quantity {
        Quantity::Voltage { bus } | Quantity::ActiveInjection { bus } | Quantity::ReactiveInjection { bus } => {
            bus < model.bus_count()
        }
        Quantity::ActiveFlow { branch, .. } | Quantity::ReactiveFlow { branch, .. } => branch < model.branch_count(),
    };
    if !known {
        return Err(GridError::element(at, "the network has no such bus or branch"));
    }
    if let Quantity::ActiveFlow { branch, .. } | Quantity::ReactiveFlow { branch, .. } = m.quantity
        && model.branches[branch].zero
    {
        return Err(GridError::element(
            at,
            "the branch has no impedance: measure the injection or a neighbouring branch instead",
        ));
    }
    if !m.value_pu.is_finite() {
        return Err(GridError::element(at, format!("its value {} is not a finite number", m.value_pu)));
    }
    if !(m.sigma_pu.is_finite() && m.sigma_pu > 0.0) {
        return Err(GridError::element(
            at,
            format!("its sigma {} must be positive; list exact zeros as zero injections", m.sigma_pu),
        ));
    }
    if matches!(m.quantity, Quantity::Voltage { .. }) && m.value_pu <= 0.0 {
        return Err(GridError::element(at, format!("a voltage magnitude of {} pu is not possible", m.value_pu)));
    }
    Ok(())
}

impl Plan {
    fn new(model: &Model, measurements: &[Measurement], zero: &[usize]) -> Result<Self, GridError> {
        let free = Prior { variance: FREE_SIGMA * FREE_SIGMA, free: true };
        let mut information = vec![[0.0; 2]; model.bus_count()];
        for m in measurements {
            if let Some((bus, part)) = injection_part(m.quantity) {
                information[bus][part] += 1.0 / (m.sigma_pu * m.sigma_pu);
            }
        }
        let mut bus_priors: Vec<[Prior; 2]> = information
            .iter()
            .map(|w| w.map(|w| if w > 0.0 { Prior { variance: 1.0 / w, free: false } } else { free }))
            .collect();
        for &bus in zero {
            if bus >= model.bus_count() {
                return Err(GridError::Length {
                    what: "a zero-injection position",
                    found: bus,
                    expected: model.bus_count(),
                });
            }
            if information[bus] != [0.0; 2] {
                return Err(GridError::element(
                    format!("bus {}", model.bus_ids[bus]),
                    "is listed as zero injection and has an injection measurement",
                ));
            }
            bus_priors[bus] = [Prior { variance: 0.0, free: false }; 2];
        }
        let mut priors = vec![[Prior { variance: 0.0, free: false }; 2]; model.node_count()];
        for (bus, prior) in bus_priors.iter().enumerate() {
            for part in 0..2 {
                let node = &mut priors[model.node_of_bus[bus]][part];
                *node = if node.free || prior[part].free {
                    free
                } else {
                    Prior { variance: node.variance + prior[part].variance, free: false }
                };
            }
        }
        let pooled = measurements
            .iter()
            .enumerate()
            .filter_map(|(column, m)| {
                let (bus, part) = injection_part(m.quantity)?;
                let share = 1.0 / (m.sigma_pu * m.sigma_pu * information[bus][part]);
                Some(Pooled { column, node: model.node_of_bus[bus], part, share })
            })
            .collect();
        let slack = model.slack_node();
        let classes = classes(model, measurements, &priors, slack);
        Ok(Self {
            symbolic: Symbolic::new(&edges(model), &classes),
            slack_free: priors[slack].iter().all(|p| p.free),
            priors,
            bus_priors,
            pooled,
            slack,
            direction: model.slack_voltage / model.slack_voltage.norm(),
        })
    }

    /// Whether a bus is known to inject nothing.
    pub(crate) fn is_zero(&self, bus: usize) -> bool {
        self.bus_priors[bus].iter().all(|p| p.variance == 0.0)
    }

    /// Pooled injection values by node; zero where nothing is measured.
    pub(crate) fn pool(&self, values: &[f64]) -> Vec<C64> {
        let mut z = vec![C64::ZERO; self.priors.len()];
        for p in &self.pooled {
            let value = p.share * values[p.column];
            z[p.node] += if p.part == 0 { C64::new(value, 0.0) } else { C64::new(0.0, value) };
        }
        z
    }

    fn pool_bus(&self, measurements: &[Measurement], values: &[f64], bus: usize, part: usize) -> f64 {
        self.pooled
            .iter()
            .filter(|p| p.part == part && injection_part(measurements[p.column].quantity) == Some((bus, part)))
            .map(|p| p.share * values[p.column])
            .sum()
    }

    /// Replaces the rows of the slack node: its angle is given and, when its injection is free, its multiplier is zero.
    fn slack_rows(&self, block: &Block<4>) -> Block<4> {
        let mut out = [[0.0; 4]; 4];
        if !self.slack_free {
            out[0] = block[0];
            out[1] = block[1];
        }
        for c in 0..4 {
            out[2][c] = self.direction.re * block[2][c] - self.direction.im * block[3][c];
        }
        out
    }

    fn slack_identity(&self) -> Block<4> {
        let mut out = [[0.0; 4]; 4];
        if self.slack_free {
            out[0][2] = 1.0;
            out[1][3] = 1.0;
        }
        out[3][0] = -self.direction.im;
        out[3][1] = self.direction.re;
        out
    }
}

pub(crate) fn injection_part(quantity: Quantity) -> Option<(usize, usize)> {
    match quantity {
        Quantity::ActiveInjection { bus } => Some((bus, 0)),
        Quantity::ReactiveInjection { bus } => Some((bus, 1)),
        _ => None,
    }
}

fn classes(model: &Model, measurements: &[Measurement], priors: &[[Prior; 2]], slack: usize) -> Vec<Class> {
    let mut classes: Vec<Class> = priors
        .iter()
        .map(|p| if p.iter().all(|p| p.variance == 0.0) { Class::Passive } else { Class::Active })
        .collect();
    for m in measurements {
        match m.quantity {
            Quantity::Voltage { bus } => classes[model.node_of_bus[bus]] = Class::Active,
            Quantity::ActiveFlow { branch, .. } | Quantity::ReactiveFlow { branch, .. } => {
                let b = &model.branches[branch];
                classes[model.node_of_bus[b.from]] = Class::Active;
                classes[model.node_of_bus[b.to]] = Class::Active;
            }
            _ => {}
        }
    }
    classes[slack] = Class::Last;
    classes
}

pub(crate) fn coupling_block(y: C64, y_transposed: C64) -> Block<4> {
    let (a, b) = (linear_block(y), linear_block(y_transposed));
    let mut out = [[0.0; 4]; 4];
    for r in 0..2 {
        for c in 0..2 {
            out[r][c] = a[r][c];
            out[r + 2][c + 2] = b[r][c];
        }
    }
    out
}

/// `-w g (Re(g' dV))` in the rows of the stationarity condition.
pub(crate) fn gradient_block(row: C64, column: C64, weight: f64) -> Block<4> {
    let mut out = [[0.0; 4]; 4];
    for (r, g) in [row.re, row.im].into_iter().enumerate() {
        out[r + 2][0] = -weight * g * column.re;
        out[r + 2][1] = weight * g * column.im;
    }
    out
}

/// Derivatives of `[-conj(S/V); S conj(µ)/V²]` with respect to (V, µ), where S depends on both.
pub(crate) fn node_derivative(v: C64, mu: C64, z: C64, variance: [f64; 2]) -> Block<4> {
    let i = C64::I;
    let vc = v.conj();
    let kappa = mu / vc;
    let s = z - C64::new(variance[0] * kappa.re, variance[1] * kappa.im);
    let mut out = [[0.0; 4]; 4];
    let zero = C64::ZERO;
    for (c, (dv, dm)) in [(C64::ONE, zero), (i, zero), (zero, C64::ONE), (zero, i)].into_iter().enumerate() {
        let dk = dm / vc - mu * dv.conj() / (vc * vc);
        let ds = -C64::new(variance[0] * dk.re, variance[1] * dk.im);
        let di = ds.conj() / vc - s.conj() * dv.conj() / (vc * vc);
        let dc = ds * mu.conj() / (v * v) + s * dm.conj() / (v * v) - 2.0 * s * mu.conj() * dv / (v * v * v);
        out[0][c] = -di.re;
        out[1][c] = -di.im;
        out[2][c] = dc.re;
        out[3][c] = dc.im;
    }
    out
}

fn largest_step(old: &[C64], new: &[C64]) -> (f64, usize) {
    let mut worst = (0.0, 0);
    for (i, (a, b)) in old.iter().zip(new).enumerate() {
        let step = (a - b).norm();
        if step > worst.0 || !step.is_finite() {
            worst = (step, i);
        }
        if !step.is_finite() {
            break;
        }
    }
    worst
}

fn blend(point: &mut Point, new: &Point, share: f64) {
    for (old, new) in point.v.iter_mut().zip(&new.v).chain(point.mu.iter_mut().zip(&new.mu)) {
        *old += (new - *old) * share;
    }
    point.z.clone_from(&new.z);
}
