//! Unbalanced three-phase power flow from a node admittance matrix, in volts and amperes.
//!
//! A node is one conductor at one bus (`671.2`); the neutral is eliminated in the admittances. Sources are Norton currents.
//! A load draws `S f(v)` between its two nodes (or a node and ground) with v its voltage over the rated one. Outside
//! 0.95–1.05 of the rated voltage every load becomes the impedance that it is at that limit. Why a matrix and not a device
//! list: the admittances are what the equations need, and what test feeders publish for comparison.

pub mod build;
pub(crate) mod check;
pub mod dense_check;
pub mod estimate;
pub mod folder;
mod loads;

use crate::error::GridError;
use crate::kernel::{Kernel, Tolerance, conjugate_block, linear_block, run_batch};
use crate::sparse::{Blocks, Class, Factor, Symbolic};
use num_complex::Complex64 as C64;
use std::collections::HashMap;

/// How a load depends on its voltage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseLoadModel {
    Power,
    Impedance,
    /// P in proportion to the voltage, Q to its square.
    Exponential,
    Current,
}

/// One single-phase load between two nodes, or a node and ground. Three-phase loads are three of these.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseLoad {
    pub name: String,
    pub from: usize,
    pub to: Option<usize>,
    pub rated_v: f64,
    /// Consumed at rated voltage, W and var.
    pub p_w: f64,
    pub q_var: f64,
    pub model: PhaseLoadModel,
}

/// A three-phase network without its loads' state.
#[derive(Debug, Clone)]
pub struct PhaseNetwork {
    pub name: String,
    /// `bus.phase`
    pub nodes: Vec<String>,
    /// Line-to-neutral base voltage of each node, V.
    pub base_v: Vec<f64>,
    /// Row, column, siemens; duplicates add up.
    pub admittance: Vec<(usize, usize, C64)>,
    /// Norton current of the sources, A.
    pub source_a: Vec<C64>,
    pub loads: Vec<PhaseLoad>,
}

/// Power of every load in every scenario: row-major, one row per scenario, W and var at rated voltage.
#[derive(Debug, Clone, Copy)]
pub struct PhaseScenarios<'a> {
    pub p_w: &'a [f64],
    pub q_var: &'a [f64],
}

/// Node voltages of many scenarios, row-major, rectangular, V.
#[derive(Debug, Default)]
pub struct PhaseVoltages {
    pub re: Vec<f64>,
    pub im: Vec<f64>,
    pub iterations: Vec<u32>,
    /// Scenarios without a solution; their rows hold NaN.
    pub failed: Vec<(usize, GridError)>,
}

/// A state of a three-phase network.
#[derive(Debug, Clone)]
pub struct PhaseState {
    pub v: Vec<C64>,
    /// Power lost between sources and loads, W; of the sources' internal impedances too.
    pub loss_w: f64,
    pub iterations: usize,
}

/// A compiled three-phase network: ordered, factored at its own loads, ready for batches.
pub struct PhaseSolver {
    network: PhaseNetwork,
    kernel: Kernel,
    inverse_base: Vec<f64>,
    terms: Vec<loads::LoadTerm>,
}

impl PhaseNetwork {
    /// Checks every element; the error names the first at fault.
    pub fn validate(&self) -> Result<(), GridError> {
        let n = self.nodes.len();
        let mut names = HashMap::new();
        for (i, name) in self.nodes.iter().enumerate() {
            if names.insert(name.to_ascii_lowercase(), i).is_some() {
                return Err(GridError::element(format!("node {name}"), "is listed twice"));
            }
        }
        for (what, found) in [("the base voltages", self.base_v.len()), ("the source currents", self.source_a.len())] {
            if found != n {
                return Err(GridError::Length { what, found, expected: n });
            }
        }
        if let Some(i) = self.base_v.iter().position(|v| !(v.is_finite() && *v > 0.0)) {
            return Err(GridError::element(format!("node {}", self.nodes[i]), "its base voltage must be positive"));
        }
        if self.source_a.iter().all(|i| *i == C64::ZERO) {
            return Err(GridError::NoSlack);
        }
        for &(i, j, y) in &self.admittance {
            if i >= n || j >= n {
                return Err(GridError::element(format!("admittance ({i}, {j})"), format!("the network has {n} nodes")));
            }
            if !y.is_finite() {
                return Err(GridError::element(
                    format!("admittance {} to {}", self.nodes[i], self.nodes[j]),
                    "is not finite",
                ));
            }
        }
        for load in &self.loads {
            let name = format!("load {}", load.name);
            if load.from >= n || load.to.is_some_and(|t| t >= n || t == load.from) {
                return Err(GridError::element(name, "hangs on nodes that the network lacks, or on one node twice"));
            }
            if !(load.p_w.is_finite() && load.q_var.is_finite() && load.rated_v.is_finite() && load.rated_v > 0.0) {
                return Err(GridError::element(name, "power must be finite and the rated voltage positive"));
            }
        }
        Ok(())
    }

    fn bus_groups(&self) -> (Vec<usize>, Vec<Vec<usize>>) {
        let mut group_of_name: HashMap<String, usize> = HashMap::new();
        let mut members: Vec<Vec<usize>> = Vec::new();
        let mut group_of_node = Vec::with_capacity(self.nodes.len());
        for (i, node) in self.nodes.iter().enumerate() {
            let bus = node.rsplit_once('.').map_or(node.as_str(), |(bus, _)| bus).to_ascii_lowercase();
            let group = *group_of_name.entry(bus).or_insert_with(|| {
                members.push(Vec::new());
                members.len() - 1
            });
            members[group].push(i);
            group_of_node.push(group);
        }
        (group_of_node, members)
    }

    fn symbolic(&self) -> Symbolic {
        let (group, members) = self.bus_groups();
        let mut edges: Vec<(usize, usize)> = Vec::new();
        let pairs = self.admittance.iter().map(|&(i, j, _)| (i, j));
        for (i, j) in pairs.chain(self.loads.iter().filter_map(|l| l.to.map(|t| (l.from, t)))) {
            let (a, b) = (group[i].min(group[j]), group[i].max(group[j]));
            if a != b {
                edges.push((a, b));
            }
        }
        edges.sort_unstable();
        edges.dedup();
        let mut classes = vec![Class::Passive; members.len()];
        for load in &self.loads {
            classes[group[load.from]] = Class::Active;
            if let Some(to) = load.to {
                classes[group[to]] = Class::Active;
            }
        }
        Symbolic::new(&edges, &classes).expand(&members)
    }

    fn factor(&self, symbolic: &Symbolic, terms: &[loads::LoadTerm]) -> Result<Factor<2>, GridError> {
        let mut blocks = Blocks::<2>::zeros(symbolic);
        for &(i, j, y) in &self.admittance {
            blocks.add(symbolic, i, j, &linear_block(y));
        }
        for (load, term) in self.loads.iter().zip(terms) {
            for (sign, i, j) in load.incidence() {
                blocks.add(symbolic, i, j, &linear_block(-term.m1 * sign));
                blocks.add(symbolic, i, j, &conjugate_block(-term.m2 * sign));
            }
        }
        Factor::new(symbolic, blocks).map_err(|node| GridError::Singular { bus: self.nodes[node].clone() })
    }

    fn newton(&self, symbolic: &Symbolic, power: &[C64]) -> Result<(Vec<C64>, Vec<loads::LoadTerm>, usize), GridError> {
        const LIMIT: usize = 60;
        // start: all loads as impedances at rated voltage
        let mut terms: Vec<loads::LoadTerm> = self.loads.iter().zip(power).map(|(l, s)| l.rated_term(*s)).collect();
        let mut v = vec![C64::ZERO; self.nodes.len()];
        let mut previous = f64::INFINITY;
        for iteration in 1..=LIMIT {
            let factor = self.factor(symbolic, &terms)?;
            let mut rhs = self.source_a.clone();
            if iteration > 1 {
                for ((load, term), s) in self.loads.iter().zip(&terms).zip(power) {
                    let d = load.voltage(&v);
                    let rest = load.current(*s, d) - term.m1 * d - term.m2 * d.conj();
                    rhs[load.from] += rest;
                    if let Some(to) = load.to {
                        rhs[to] -= rest;
                    }
                }
            }
            let new = substitute(symbolic, &factor, &rhs);
            let step =
                v.iter().zip(&new).zip(&self.base_v).map(|((a, b), base)| (a - b).norm() / base).fold(0.0, f64::max);
            v = new;
            if !step.is_finite() {
                break;
            }
            // closed switches beside long lines can leave rounding above 1e-10 for ever
            let rounding = if iteration > 8 { 1e-8 } else { 1e-10 };
            if iteration > 1 && (step < 1e-13 || (step < rounding && step >= previous)) {
                return Ok((v, terms, iteration));
            }
            previous = step;
            terms = self.loads.iter().zip(power).map(|(l, s)| l.term(*s, l.voltage(&v))).collect();
        }
        Err(self.not_converged(&v, power, LIMIT))
    }

    fn not_converged(&self, v: &[C64], power: &[C64], iterations: usize) -> GridError {
        let mut residual = self.source_a.clone();
        for &(i, j, y) in &self.admittance {
            residual[i] -= y * v[j];
        }
        for (load, s) in self.loads.iter().zip(power) {
            let current = load.current(*s, load.voltage(v));
            residual[load.from] += current;
            if let Some(to) = load.to {
                residual[to] -= current;
            }
        }
        let size = |i: usize| {
            let r = residual[i].norm();
            if r.is_finite() { r } else { f64::INFINITY }
        };
        let worst = (0..v.len()).max_by(|&a, &b| size(a).total_cmp(&size(b))).unwrap_or(0);
        GridError::NotConverged {
            bus: self.nodes[worst].clone(),
            vm_pu: v[worst].norm() / self.base_v[worst],
            mismatch_pu: size(worst),
            iterations,
        }
    }
}

fn substitute(symbolic: &Symbolic, factor: &Factor<2>, rhs: &[C64]) -> Vec<C64> {
    let mut x: Vec<[f64; 2]> = symbolic.node.iter().map(|&i| [rhs[i].re, rhs[i].im]).collect();
    factor.solve_one(symbolic, &mut x);
    symbolic.position.iter().map(|&p| C64::new(x[p][0], x[p][1])).collect()
}

impl PhaseSolver {
    /// Validates, orders and factors; the network's own loads are the base state.
    pub fn new(network: &PhaseNetwork) -> Result<Self, GridError> {
        network.validate()?;
        let symbolic = network.symbolic();
        let power: Vec<C64> = network.loads.iter().map(|l| C64::new(l.p_w, l.q_var)).collect();
        let (v, _, _) = network.newton(&symbolic, &power)?;
        let terms: Vec<loads::LoadTerm> = network
            .loads
            .iter()
            .zip(&power)
            .map(|(l, s)| l.term(*s, l.voltage(&v)).at(&symbolic.position, l))
            .collect();
        let factor = network.factor(&symbolic, &terms)?;
        let by_position = |x: &[C64]| symbolic.node.iter().map(|&i| [x[i].re, x[i].im]).collect::<Vec<_>>();
        let mut source = by_position(&network.source_a);
        factor.forward_one(&symbolic, &mut source);
        Ok(Self {
            inverse_base: symbolic.node.iter().map(|&i| 1.0 / network.base_v[i]).collect(),
            kernel: Kernel { source, base: by_position(&v), outputs: symbolic.position.clone(), factor, symbolic },
            terms,
            network: network.clone(),
        })
    }

    /// The network as given.
    pub fn network(&self) -> &PhaseNetwork {
        &self.network
    }

    /// Solves for the network's own loads by Newton's method.
    ///
    /// # Errors
    /// [`GridError::NotConverged`] with the worst node.
    pub fn solve(&self) -> Result<PhaseState, GridError> {
        let power: Vec<C64> = self.network.loads.iter().map(|l| C64::new(l.p_w, l.q_var)).collect();
        let (v, _, iterations) = self.network.newton(&self.kernel.symbolic, &power)?;
        let fed: f64 = v.iter().zip(&self.network.source_a).map(|(v, i)| (v * i.conj()).re).sum();
        let drawn: f64 = self
            .network
            .loads
            .iter()
            .zip(&power)
            .map(|(l, s)| {
                let d = l.voltage(&v);
                -(d * l.current(*s, d).conj()).re
            })
            .sum();
        Ok(PhaseState { v, loss_w: fed - drawn, iterations })
    }

    /// Solves all scenarios on `threads` threads; the tolerance is in pu of each node's base.
    ///
    /// # Errors
    /// Only for input of the wrong length or not finite; scenarios without a solution are in [`PhaseVoltages::failed`].
    pub fn solve_batch(
        &self,
        scenarios: &PhaseScenarios,
        tolerance: Tolerance,
        threads: usize,
        out: &mut PhaseVoltages,
    ) -> Result<(), GridError> {
        let width = self.network.loads.len();
        if width == 0 || !scenarios.p_w.len().is_multiple_of(width) || scenarios.q_var.len() != scenarios.p_w.len() {
            return Err(GridError::Length { what: "the load powers", found: scenarios.p_w.len(), expected: width });
        }
        if let Some(bad) =
            scenarios.p_w.iter().zip(scenarios.q_var).position(|(p, q)| !(p.is_finite() && q.is_finite()))
        {
            let name = &self.network.loads[bad % width].name;
            return Err(GridError::element(
                format!("load {name}, scenario {}", bad / width),
                "its power is not a finite number",
            ));
        }
        let count = scenarios.p_w.len() / width;
        let batch = loads::PhaseBatch { terms: &self.terms, scenarios: *scenarios, count };
        out.failed.clear();
        let scale = Some(self.inverse_base.as_slice());
        run_batch(&self.kernel, &batch, tolerance, scale, threads, [&mut out.re, &mut out.im], &mut out.iterations);
        let nodes = self.network.nodes.len();
        for s in (0..count).filter(|&s| out.iterations[s] == 0).collect::<Vec<_>>() {
            let row = s * width..(s + 1) * width;
            let power: Vec<C64> =
                scenarios.p_w[row.clone()].iter().zip(&scenarios.q_var[row]).map(|(&p, &q)| C64::new(p, q)).collect();
            let range = s * nodes..(s + 1) * nodes;
            match self.network.newton(&self.kernel.symbolic, &power) {
                Ok((v, _, iterations)) => {
                    out.iterations[s] = u32::try_from(iterations).unwrap_or(u32::MAX);
                    for (k, i) in range.enumerate() {
                        (out.re[i], out.im[i]) = (v[k].re, v[k].im);
                    }
                }
                Err(error) => {
                    out.re[range.clone()].fill(f64::NAN);
                    out.im[range].fill(f64::NAN);
                    out.failed.push((s, error));
                }
            }
        }
        Ok(())
    }
}
