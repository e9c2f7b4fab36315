//! Power flow of a single-phase equivalent network: one state by Newton's method, batches on a shared factor.
//!
//! A batch starts every scenario from one base state; scenarios that do not contract on the shared factor are solved again
//! by Newton's method on their own. A scenario without a solution is reported, never returned as numbers.

use crate::error::GridError;
use crate::kernel::{Kernel, Loads, Tolerance, conjugate_block, linear_block, run_batch};
use crate::model::Model;
use crate::sparse::{Blocks, Class, Factor, Symbolic};
use num_complex::Complex64 as C64;
use pulp::Simd;

/// Power flow on one branch, pu; positive from the bus into the branch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BranchFlow {
    pub p_from_pu: f64,
    pub q_from_pu: f64,
    pub p_to_pu: f64,
    pub q_to_pu: f64,
    /// Current magnitudes, pu.
    pub i_from_pu: f64,
    pub i_to_pu: f64,
}

impl BranchFlow {
    /// Active power lost in the branch, pu.
    pub fn loss_p_pu(&self) -> f64 {
        self.p_from_pu + self.p_to_pu
    }
}

/// A complete state of the network. Slices follow [`Model::bus_ids`] and the network's branches.
#[derive(Debug, Clone)]
pub struct State {
    pub v: Vec<C64>,
    /// Injections at each bus, pu, generation positive.
    pub injection: Vec<C64>,
    pub branches: Vec<BranchFlow>,
    /// Losses in branches and shunts, pu.
    pub loss_p_pu: f64,
    pub loss_q_pu: f64,
    pub iterations: usize,
}

impl State {
    /// Voltage magnitudes, pu.
    pub fn vm_pu(&self) -> Vec<f64> {
        self.v.iter().map(|v| v.norm()).collect()
    }

    /// Voltage angles, degrees.
    pub fn va_deg(&self) -> Vec<f64> {
        self.v.iter().map(|v| v.arg().to_degrees()).collect()
    }

    /// Derives injections and flows from voltages. `injection` overrides what the voltages imply where it is known.
    pub(crate) fn from_nodes(model: &Model, nodes: &[C64], known: &[C64], iterations: usize) -> Self {
        let v = model.to_buses(nodes);
        let currents = model.node_currents(nodes);
        let mut injection = known.to_vec();
        for (node, buses) in model.buses_of_node.iter().enumerate() {
            // the balance of a node goes to its first free bus: the slack bus, or the only bus
            let total = nodes[node] * currents[node].conj();
            let free = if node == model.slack_node() { model.slack_bus } else { buses[0] };
            let others: C64 = buses.iter().filter(|&&b| b != free).map(|&b| known[b]).sum();
            injection[free] = total - others;
        }
        let mut branches: Vec<BranchFlow> = model
            .branches
            .iter()
            .map(|b| {
                let i_from = b.yff * v[b.from] + b.yft * v[b.to];
                let i_to = b.ytf * v[b.from] + b.ytt * v[b.to];
                branch_flow(v[b.from] * i_from.conj(), v[b.to] * i_to.conj(), i_from.norm(), i_to.norm())
            })
            .collect();
        fill_zero_branches(model, &v, &injection, &mut branches);
        let loss: C64 = injection.iter().sum();
        Self { v, injection, branches, loss_p_pu: loss.re, loss_q_pu: loss.im, iterations }
    }
}

fn branch_flow(from: C64, to: C64, i_from_pu: f64, i_to_pu: f64) -> BranchFlow {
    BranchFlow { p_from_pu: from.re, q_from_pu: from.im, p_to_pu: to.re, q_to_pu: to.im, i_from_pu, i_to_pu }
}

/// Flows through zero-impedance branches by the balance of their buses, leaves first; a closed ring of them is undefined
/// and its last branch is taken to carry nothing.
fn fill_zero_branches(model: &Model, v: &[C64], injection: &[C64], flows: &mut [BranchFlow]) {
    let zero: Vec<usize> = (0..flows.len()).filter(|&k| model.branches[k].zero).collect();
    if zero.is_empty() {
        return;
    }
    let mut surplus = injection.to_vec();
    let mut degree = vec![0usize; v.len()];
    for (k, b) in model.branches.iter().enumerate() {
        if b.zero {
            degree[b.from] += 1;
            degree[b.to] += 1;
        } else {
            surplus[b.from] -= C64::new(flows[k].p_from_pu, flows[k].q_from_pu);
            surplus[b.to] -= C64::new(flows[k].p_to_pu, flows[k].q_to_pu);
        }
    }
    let mut open: Vec<usize> = zero;
    while !open.is_empty() {
        let leaf = open.iter().position(|&k| degree[model.branches[k].from] == 1 || degree[model.branches[k].to] == 1);
        let k = open.swap_remove(leaf.unwrap_or(0));
        let b = model.branches[k];
        let from_to = match (leaf, degree[b.from] == 1) {
            (None, _) => C64::ZERO,
            (Some(_), true) => surplus[b.from],
            (Some(_), false) => -surplus[b.to],
        };
        degree[b.from] -= 1;
        degree[b.to] -= 1;
        surplus[b.from] -= from_to;
        surplus[b.to] += from_to;
        let current = from_to.norm() / v[b.from].norm();
        flows[k] = branch_flow(from_to, -from_to, current, current);
    }
}

/// Derivatives of the load current `conj(S) V f(|V|²)`: `(M1, M2)` of [`crate::kernel`].
fn load_derivatives(power: C64, current: C64, v: C64) -> (C64, C64) {
    let m = v.norm_sqr();
    let root = m.sqrt();
    let m1 = current.conj() * (0.5 / root);
    let m2 = -power.conj() * v * v / (m * m) - current.conj() * v * v * (0.5 / (m * root));
    (m1, m2)
}

fn load_current(power: C64, current: C64, v: C64) -> C64 {
    power.conj() * v / v.norm_sqr() + current.conj() * v / v.norm()
}

/// Coupled node pairs of the model, for the ordering.
pub(crate) fn edges(model: &Model) -> Vec<(usize, usize)> {
    model.couplings.iter().map(|c| (c.i, c.j)).collect()
}

fn singular(model: &Model, node: usize) -> GridError {
    GridError::Singular { bus: model.bus_ids[model.buses_of_node[node][0]].to_string() }
}

/// Factor of `Y - M1 - M2 conj(.)`, the slack row replaced by `V = V0`.
fn factor_at(model: &Model, symbolic: &Symbolic, derivatives: &[(C64, C64)]) -> Result<Factor<2>, GridError> {
    let slack = model.slack_node();
    let mut blocks = Blocks::<2>::zeros(symbolic);
    for node in 0..model.node_count() {
        if node == slack {
            blocks.add(symbolic, node, node, &linear_block(C64::ONE));
            continue;
        }
        let (m1, m2) = derivatives[node];
        blocks.add(symbolic, node, node, &linear_block(model.diagonal[node] + model.load_admittance[node] - m1));
        blocks.add(symbolic, node, node, &conjugate_block(-m2));
    }
    for c in &model.couplings {
        if c.i != slack {
            blocks.add(symbolic, c.i, c.j, &linear_block(c.yij));
        }
        if c.j != slack {
            blocks.add(symbolic, c.j, c.i, &linear_block(c.yji));
        }
    }
    Factor::new(symbolic, blocks).map_err(|node| singular(model, node))
}

/// Solves for given injections of constant power per bus (pu, generation positive) and a slack voltage, by Newton's method.
///
/// Loads of the network with constant current or impedance keep their values from the network.
///
/// # Errors
/// [`GridError::NotConverged`] with the worst bus, [`GridError::Length`] or [`GridError::Element`] for unusable input.
pub fn solve_injections(model: &Model, power: &[C64], slack_voltage: C64) -> Result<State, GridError> {
    check_injections(model, power)?;
    if !(slack_voltage.is_finite() && slack_voltage.norm() > 0.0) {
        return Err(GridError::element(
            format!("bus {}", model.bus_ids[model.slack_bus]),
            format!("the slack voltage {slack_voltage} is not usable"),
        ));
    }
    let mut classes = vec![Class::Active; model.node_count()];
    classes[model.slack_node()] = Class::Last;
    let symbolic = Symbolic::new(&edges(model), &classes);
    let node_power = node_power(model, power);
    let (nodes, iterations) = newton(model, &symbolic, &node_power, slack_voltage)?;
    let mut known = power.to_vec();
    for (node, buses) in model.buses_of_node.iter().enumerate() {
        let v = nodes[node];
        known[buses[0]] += model.current[node] * v.norm() - (model.load_admittance[node].conj()) * v.norm_sqr();
    }
    Ok(State::from_nodes(model, &nodes, &known, iterations))
}

/// Solves the network with its own loads.
pub fn solve(model: &Model) -> Result<State, GridError> {
    solve_injections(model, &model.power, model.slack_voltage)
}

fn check_injections(model: &Model, power: &[C64]) -> Result<(), GridError> {
    if power.len() != model.bus_count() {
        return Err(GridError::Length {
            what: "the injection vector",
            found: power.len(),
            expected: model.bus_count(),
        });
    }
    match power.iter().position(|s| !s.is_finite()) {
        Some(i) => Err(GridError::element(format!("bus {}", model.bus_ids[i]), "its injection is not a finite number")),
        None => Ok(()),
    }
}

fn node_power(model: &Model, power: &[C64]) -> Vec<C64> {
    let mut nodes = vec![C64::ZERO; model.node_count()];
    for (bus, s) in power.iter().enumerate() {
        nodes[model.node_of_bus[bus]] += s;
    }
    nodes
}

/// Voltages without any load, by node.
pub(crate) fn no_load(model: &Model, v0: C64) -> Result<Vec<C64>, GridError> {
    let mut classes = vec![Class::Active; model.node_count()];
    classes[model.slack_node()] = Class::Last;
    let symbolic = Symbolic::new(&edges(model), &classes);
    let factor = factor_at(model, &symbolic, &vec![(C64::ZERO, C64::ZERO); model.node_count()])?;
    Ok(apply(&symbolic, &factor, |_| C64::ZERO, model.slack_node(), v0))
}

/// Column `bus` of the impedance matrix seen with the slack bus held: voltage per unit current injected there, per bus.
/// Phase shifts of transformers are taken out by the no-load angles.
pub(crate) fn impedance_column(model: &Model, bus: usize) -> Result<Vec<C64>, GridError> {
    if bus >= model.bus_count() {
        return Err(GridError::Length { what: "a bus position", found: bus, expected: model.bus_count() });
    }
    let mut classes = vec![Class::Active; model.node_count()];
    classes[model.slack_node()] = Class::Last;
    let symbolic = Symbolic::new(&edges(model), &classes);
    let factor = factor_at(model, &symbolic, &vec![(C64::ZERO, C64::ZERO); model.node_count()])?;
    let slack = model.slack_node();
    let idle = apply(&symbolic, &factor, |_| C64::ZERO, slack, C64::ONE);
    let turn = |node: usize| idle[node] / idle[node].norm();
    let at = model.node_of_bus[bus];
    let response = apply(&symbolic, &factor, |i| if i == at { turn(at) } else { C64::ZERO }, slack, C64::ZERO);
    let turned: Vec<C64> = response.iter().enumerate().map(|(i, z)| z / turn(i)).collect();
    Ok(model.to_buses(&turned))
}

const NEWTON_LIMIT: usize = 60;
const NEWTON_STEP: f64 = 1e-13;

fn newton(model: &Model, symbolic: &Symbolic, power: &[C64], v0: C64) -> Result<(Vec<C64>, usize), GridError> {
    let slack = model.slack_node();
    let none = vec![(C64::ZERO, C64::ZERO); model.node_count()];
    let mut v = apply(symbolic, &factor_at(model, symbolic, &none)?, |_| C64::ZERO, slack, v0);
    let mut previous_step = f64::INFINITY;
    for iteration in 1..=NEWTON_LIMIT {
        let derivatives: Vec<(C64, C64)> =
            (0..v.len()).map(|i| load_derivatives(power[i], model.current[i], v[i])).collect();
        let factor = factor_at(model, symbolic, &derivatives)?;
        let rhs = |i: usize| {
            load_current(power[i], model.current[i], v[i]) - derivatives[i].0 * v[i] - derivatives[i].1 * v[i].conj()
        };
        let new = apply(symbolic, &factor, rhs, slack, v0);
        let step = v.iter().zip(&new).map(|(a, b)| (a - b).norm()).fold(0.0, f64::max);
        if !step.is_finite() {
            break;
        }
        // a long step is shortened: the quadratic model holds near the state only
        let share = if step > 0.3 { 0.3 / step } else { 1.0 };
        for (v, new) in v.iter_mut().zip(&new) {
            *v += (new - *v) * share;
        }
        let stagnates = step < 1e-10 && step >= previous_step;
        if share == 1.0 && (step < NEWTON_STEP || stagnates) {
            return Ok((v, iteration));
        }
        previous_step = step;
    }
    Err(not_converged(model, power, &v, NEWTON_LIMIT))
}

fn apply(symbolic: &Symbolic, factor: &Factor<2>, rhs: impl Fn(usize) -> C64, slack: usize, v0: C64) -> Vec<C64> {
    let mut x: Vec<[f64; 2]> = symbolic
        .node
        .iter()
        .map(|&node| {
            let b = if node == slack { v0 } else { rhs(node) };
            [b.re, b.im]
        })
        .collect();
    factor.solve_one(symbolic, &mut x);
    symbolic.position.iter().map(|&p| C64::new(x[p][0], x[p][1])).collect()
}

fn not_converged(model: &Model, power: &[C64], v: &[C64], iterations: usize) -> GridError {
    let currents = model.node_currents(v);
    let mismatch = |i: usize| {
        let drawn = load_current(power[i], model.current[i], v[i]) - model.load_admittance[i] * v[i];
        let size = ((currents[i] - drawn) * v[i]).norm();
        if size.is_finite() { size } else { f64::INFINITY }
    };
    let worst = (0..v.len())
        .filter(|&i| i != model.slack_node())
        .max_by(|&a, &b| mismatch(a).total_cmp(&mismatch(b)))
        .unwrap_or(model.slack_node());
    GridError::NotConverged {
        bus: model.bus_ids[model.buses_of_node[worst][0]].to_string(),
        vm_pu: v[worst].norm(),
        mismatch_pu: mismatch(worst),
        iterations,
    }
}

/// A factor shared by many scenarios of one network.
pub struct FlowSolver {
    model: Model,
    kernel: Kernel,
    /// position, M2 conj and M1 at the base state, per injecting node
    points: Vec<Point>,
    /// for each injecting bus (column of the scenarios), its index in `points`; none at the slack node, which balances itself
    point_of_column: Vec<Option<usize>>,
    columns: Vec<usize>,
}

#[derive(Clone, Copy)]
struct Point {
    position: usize,
    m1: C64,
    m2: C64,
    current: C64,
}

/// Injections of many scenarios: row-major, one row per scenario, one column per injecting bus, pu, generation positive.
#[derive(Debug, Clone, Copy)]
pub struct Scenarios<'a> {
    pub p_pu: &'a [f64],
    pub q_pu: &'a [f64],
    /// Slack voltage magnitude of each scenario, pu; `None` for the network's own.
    pub slack_vm_pu: Option<&'a [f64]>,
}

/// Voltages of many scenarios: row-major, one row per scenario, one column per bus of the model, rectangular, pu.
#[derive(Debug, Default)]
pub struct Voltages {
    pub re: Vec<f64>,
    pub im: Vec<f64>,
    /// Iterations of each scenario.
    pub iterations: Vec<u32>,
    /// Scenarios without a solution, with the reason; their rows hold NaN.
    pub failed: Vec<(usize, GridError)>,
}

impl FlowSolver {
    /// Prepares batches in which only the buses at positions `columns` inject; `base` (pu per bus) is a typical scenario.
    pub fn new(model: &Model, columns: &[usize], base: &[C64]) -> Result<Self, GridError> {
        check_injections(model, base)?;
        if let Some(&bad) = columns.iter().find(|&&c| c >= model.bus_count()) {
            return Err(GridError::Length {
                what: "an injecting bus position",
                found: bad,
                expected: model.bus_count(),
            });
        }
        let mut classes: Vec<Class> = (0..model.node_count())
            .map(|i| if model.current[i] == C64::ZERO { Class::Passive } else { Class::Active })
            .collect();
        for &bus in columns {
            classes[model.node_of_bus[bus]] = Class::Active;
        }
        let slack = model.slack_node();
        classes[slack] = Class::Last;
        let symbolic = Symbolic::new(&edges(model), &classes);
        let mut kept = vec![C64::ZERO; model.bus_count()];
        for &bus in columns {
            kept[bus] = base[bus];
        }
        let power = node_power(model, &kept);
        let (v, _) = newton(model, &symbolic, &power, model.slack_voltage)?;
        let derivatives: Vec<(C64, C64)> = (0..v.len())
            .map(|i| {
                if classes[i] == Class::Active {
                    load_derivatives(power[i], model.current[i], v[i])
                } else {
                    Default::default()
                }
            })
            .collect();
        let factor = factor_at(model, &symbolic, &derivatives)?;
        let mut source = vec![[0.0; 2]; symbolic.len()];
        source[symbolic.position[slack]] = [model.slack_voltage.re, model.slack_voltage.im];
        factor.forward_one(&symbolic, &mut source);
        let by_position =
            |values: &[C64]| symbolic.node.iter().map(|&n| [values[n].re, values[n].im]).collect::<Vec<_>>();
        let active: Vec<usize> = (0..v.len()).filter(|&i| classes[i] == Class::Active).collect();
        let points: Vec<Point> = active
            .iter()
            .map(|&i| Point {
                position: symbolic.position[i],
                m1: derivatives[i].0,
                m2: derivatives[i].1,
                current: model.current[i],
            })
            .collect();
        let mut point_of_node = vec![None; model.node_count()];
        for (k, &node) in active.iter().enumerate() {
            point_of_node[node] = Some(k);
        }
        Ok(Self {
            points,
            point_of_column: columns.iter().map(|&bus| point_of_node[model.node_of_bus[bus]]).collect(),
            columns: columns.to_vec(),
            kernel: Kernel {
                source,
                base: by_position(&v),
                outputs: model.node_of_bus.iter().map(|&n| symbolic.position[n]).collect(),
                factor,
                symbolic,
            },
            model: model.clone(),
        })
    }

    /// Positions of the injecting buses: the columns of [`Scenarios`].
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The compiled network.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Solves all scenarios on `threads` threads.
    ///
    /// # Errors
    /// Only for input of the wrong length or non-finite input; scenarios without a solution are in [`Voltages::failed`].
    pub fn solve(&self, scenarios: &Scenarios, tolerance: Tolerance, threads: usize) -> Result<Voltages, GridError> {
        let mut out = Voltages::default();
        self.solve_into(scenarios, tolerance, threads, &mut out)?;
        Ok(out)
    }

    /// [`FlowSolver::solve`] into an existing result, whose memory is reused.
    ///
    /// # Errors
    /// Those of [`FlowSolver::solve`].
    pub fn solve_into(
        &self,
        scenarios: &Scenarios,
        tolerance: Tolerance,
        threads: usize,
        out: &mut Voltages,
    ) -> Result<(), GridError> {
        let count = self.check(scenarios)?;
        let batch = Batch { solver: self, scenarios, count };
        out.failed.clear();
        run_batch(&self.kernel, &batch, tolerance, None, threads, [&mut out.re, &mut out.im], &mut out.iterations);
        let width = self.model.bus_count();
        for s in 0..count {
            if out.iterations[s] > 0 {
                continue;
            }
            let row = s * width..(s + 1) * width;
            match self.solve_alone(scenarios, s) {
                Ok(state) => {
                    out.iterations[s] = u32::try_from(state.iterations).unwrap_or(u32::MAX);
                    for (k, i) in row.enumerate() {
                        (out.re[i], out.im[i]) = (state.v[k].re, state.v[k].im);
                    }
                }
                Err(error) => {
                    out.re[row.clone()].fill(f64::NAN);
                    out.im[row].fill(f64::NAN);
                    out.failed.push((s, error));
                }
            }
        }
        Ok(())
    }

    fn solve_alone(&self, scenarios: &Scenarios, s: usize) -> Result<State, GridError> {
        let mut power = vec![C64::ZERO; self.model.bus_count()];
        for (k, &bus) in self.columns.iter().enumerate() {
            let at = s * self.columns.len() + k;
            power[bus] += C64::new(scenarios.p_pu[at], scenarios.q_pu[at]);
        }
        let v0 = match scenarios.slack_vm_pu {
            Some(vm) => self.model.slack_voltage / self.model.slack_voltage.norm() * vm[s],
            None => self.model.slack_voltage,
        };
        solve_injections(&self.model, &power, v0)
    }

    fn check(&self, scenarios: &Scenarios) -> Result<usize, GridError> {
        let width = self.columns.len();
        let count = match scenarios.slack_vm_pu {
            Some(vm) => vm.len(),
            None if width > 0 => scenarios.p_pu.len() / width,
            None => 0,
        };
        for (what, values) in [
            ("the active power of the scenarios", scenarios.p_pu),
            ("the reactive power of the scenarios", scenarios.q_pu),
        ] {
            if values.len() != count * width {
                return Err(GridError::Length { what, found: values.len(), expected: count * width });
            }
            if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
                let bus = self.model.bus_ids[self.columns[bad % width]];
                return Err(GridError::element(
                    format!("bus {bus}, scenario {}", bad / width),
                    format!("{what} is not a finite number"),
                ));
            }
        }
        if let Some(bad) = scenarios.slack_vm_pu.and_then(|vm| vm.iter().position(|v| !(v.is_finite() && *v > 0.0))) {
            return Err(GridError::element(format!("scenario {bad}"), "its slack voltage is not a positive number"));
        }
        Ok(count)
    }
}

struct Batch<'a> {
    solver: &'a FlowSolver,
    scenarios: &'a Scenarios<'a>,
    count: usize,
}

impl Loads for Batch<'_> {
    fn width(&self) -> usize {
        2 * self.solver.points.len()
    }

    #[inline(always)]
    fn gather(&self, first: usize, lanes: usize, data: &mut [f64]) {
        data.fill(0.0);
        let width = self.solver.columns.len();
        let last = self.count - 1;
        for (k, &point) in self.solver.point_of_column.iter().enumerate() {
            let Some(point) = point else { continue };
            let (p, q) = data[2 * point * lanes..2 * (point + 1) * lanes].split_at_mut(lanes);
            for lane in 0..lanes {
                let at = (first + lane).min(last) * width + k;
                p[lane] += self.scenarios.p_pu[at];
                q[lane] += self.scenarios.q_pu[at];
            }
        }
    }

    #[inline(always)]
    fn accumulate<S: Simd>(&self, simd: S, data: &[S::f64s], v: &[[S::f64s; 2]], rhs: &mut [[S::f64s; 2]]) {
        let one = simd.splat_f64s(1.0);
        for (point, s) in self.solver.points.iter().zip(data.chunks_exact(2)) {
            let [vr, vi] = v[point.position];
            let (p, q) = (s[0], s[1]);
            let m = simd.mul_add_e_f64s(vr, vr, simd.mul_f64s(vi, vi));
            let inverse = simd.div_f64s(one, m);
            // conj(S) V / |V|² - M2 conj(V)
            let re = simd.mul_f64s(inverse, simd.mul_add_e_f64s(p, vr, simd.mul_f64s(q, vi)));
            let im = simd.mul_f64s(inverse, simd.negate_mul_add_e_f64s(q, vr, simd.mul_f64s(p, vi)));
            let (m2r, m2i) = (simd.splat_f64s(point.m2.re), simd.splat_f64s(point.m2.im));
            let mut re = simd.negate_mul_add_e_f64s(m2r, vr, simd.negate_mul_add_e_f64s(m2i, vi, re));
            let mut im = simd.negate_mul_add_e_f64s(m2i, vr, simd.mul_add_e_f64s(m2r, vi, im));
            if point.current != C64::ZERO {
                // conj(S) V / |V| - M1 V
                let root = simd.sqrt_f64s(inverse);
                let cr = simd.mul_add_e_f64s(simd.splat_f64s(point.current.re), root, simd.splat_f64s(-point.m1.re));
                let ci = simd.mul_add_e_f64s(simd.splat_f64s(-point.current.im), root, simd.splat_f64s(-point.m1.im));
                re = simd.mul_add_e_f64s(cr, vr, simd.negate_mul_add_e_f64s(ci, vi, re));
                im = simd.mul_add_e_f64s(cr, vi, simd.mul_add_e_f64s(ci, vr, im));
            }
            let target = &mut rhs[point.position];
            *target = [simd.add_f64s(target[0], re), simd.add_f64s(target[1], im)];
        }
    }

    #[inline(always)]
    fn source(&self, scenario: usize) -> f64 {
        self.scenarios.slack_vm_pu.map_or(1.0, |vm| vm[scenario] / self.solver.model.slack_voltage.norm())
    }

    fn scenario_count(&self) -> usize {
        self.count
    }
}
