//! Power flow over time for a fixed set of buses, and the path resistances that tie injections to voltage drops.
//!
//! Why: the localisation of losses asks the same three things of a feeder over and over: what the voltages would be if the
//! meters told the truth, what is lost in the wires meanwhile, and how strongly bus i feels power drawn at bus k.

use crate::error::GridError;
use crate::flow::{FlowSolver, Scenarios};
use crate::kernel::Tolerance;
use crate::model::Model;
use num_complex::Complex64 as C64;

/// Result of [`FlowSolver::solve_series`]; rows are slots, columns the buses of the model.
#[derive(Debug, Default)]
pub struct Series {
    /// Voltage magnitudes, row-major, slots by buses, pu.
    pub vm_pu: Vec<f64>,
    /// Active power lost in the network in each slot, pu.
    pub loss_p_pu: Vec<f64>,
    /// Active power fed in at the slack bus in each slot, pu.
    pub slack_p_pu: Vec<f64>,
    /// Reactive power fed in at the slack bus in each slot, pu.
    pub slack_q_pu: Vec<f64>,
    /// Slots without a solution, with the reason; their values are NaN.
    pub failed: Vec<(usize, GridError)>,
}

impl FlowSolver {
    /// Solves one power flow per slot and derives magnitudes, losses and the power at the slack bus.
    ///
    /// Shapes as in [`Scenarios`]. Multiply powers by [`Model::base_mva`] for MW.
    ///
    /// # Errors
    /// Input of the wrong length or not finite; slots without a solution are listed in [`Series::failed`].
    pub fn solve_series(&self, slots: &Scenarios, threads: usize) -> Result<Series, GridError> {
        let tolerance = Tolerance { step_pu: 1e-10, max_iterations: 40 };
        let voltages = self.solve(slots, tolerance, threads)?;
        let model = self.model();
        let width = model.bus_count();
        let columns = self.columns().len();
        let count = voltages.iterations.len();
        let slack = model.slack_node();
        let mut out = Series {
            vm_pu: voltages.re.iter().zip(&voltages.im).map(|(r, i)| r.hypot(*i)).collect(),
            failed: voltages.failed,
            ..Series::default()
        };
        for s in 0..count {
            let v = |node: usize| {
                let at = s * width + model.buses_of_node[node][0];
                C64::new(voltages.re[at], voltages.im[at])
            };
            let mut current = model.diagonal[slack] * v(slack);
            for c in &model.couplings {
                if c.i == slack {
                    current += c.yij * v(c.j);
                } else if c.j == slack {
                    current += c.yji * v(c.i);
                }
            }
            let head = v(slack) * current.conj();
            let mut loss = head.re;
            for (k, &bus) in self.columns().iter().enumerate() {
                if model.node_of_bus[bus] != slack {
                    loss += slots.p_pu[s * columns + k];
                }
            }
            for node in 0..model.node_count() {
                let m = v(node).norm_sqr();
                loss += model.current[node].re * m.sqrt() - model.load_admittance[node].re * m;
            }
            out.slack_p_pu.push(head.re);
            out.slack_q_pu.push(head.im);
            out.loss_p_pu.push(loss);
        }
        Ok(out)
    }
}

/// `R + jX` shared by the paths from the slack bus to two buses: `dV_i ≈ (R_ik dP_k + X_ik dQ_k) / V`, all in pu.
///
/// Row-major, one row and one column for each position in `buses`. In a radial network this is the impedance of the
/// common path; in a meshed one the entry of the impedance matrix. Shunts are part of it.
///
/// # Errors
/// [`GridError::Singular`] when a bus hangs on nothing but infinite impedances.
pub fn path_impedances(model: &Model, buses: &[usize]) -> Result<Vec<C64>, GridError> {
    let mut columns = Vec::with_capacity(buses.len());
    for &bus in buses {
        columns.push(crate::flow::impedance_column(model, bus)?);
    }
    let mut out = Vec::with_capacity(buses.len() * buses.len());
    for &bus in buses {
        for column in &columns {
            out.push(column[bus]);
        }
    }
    Ok(out)
}

/// Resistances of [`path_impedances`], pu.
pub fn path_resistances(model: &Model, buses: &[usize]) -> Result<Vec<f64>, GridError> {
    Ok(path_impedances(model, buses)?.into_iter().map(|z| z.re).collect())
}
