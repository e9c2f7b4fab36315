//! Compares the solvers with a folder's `reference/`: the largest error of each quantity and the element it is at.

use crate::error::GridError;
use crate::flow::{self, State};
use crate::folder::{Table, folder_phases, read_network};
use crate::model::Model;
use crate::network::Network;
use num_complex::Complex64 as C64;
use std::collections::HashMap;
use std::path::Path;

/// Largest accepted errors, pu.
#[derive(Debug, Clone, Copy)]
pub struct CheckTolerance {
    pub power_flow_pu: f64,
    pub estimation_pu: f64,
    pub three_phase_pu: f64,
}

impl Default for CheckTolerance {
    fn default() -> Self {
        Self { power_flow_pu: 1e-9, estimation_pu: 1e-8, three_phase_pu: 1e-6 }
    }
}

/// One compared quantity.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CheckItem {
    /// What was compared, such as `power flow: bus voltage (complex)`.
    pub what: String,
    /// The element with the largest error.
    pub at: String,
    /// The largest error, pu.
    pub max_error: f64,
    pub tolerance: f64,
    pub ok: bool,
}

/// Collects the largest error of one quantity.
pub(crate) struct Worst {
    what: String,
    at: String,
    error: f64,
    count: usize,
}

impl Worst {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), at: String::new(), error: 0.0, count: 0 }
    }

    pub(crate) fn see(&mut self, at: impl FnOnce() -> String, error: f64) {
        self.count += 1;
        if error > self.error || !error.is_finite() || self.at.is_empty() {
            self.error = error;
            self.at = at();
        }
    }

    pub(crate) fn item(self, tolerance: f64) -> CheckItem {
        let ok = self.count > 0 && self.error <= tolerance;
        CheckItem { what: self.what, at: self.at, max_error: self.error, tolerance, ok }
    }
}

/// Compares everything the folder has references for.
///
/// # Errors
/// A file that cannot be read or a case that cannot be solved; a result outside its tolerance is not an error but an item
/// with `ok == false`.
pub fn check_folder(dir: &Path, tolerance: &CheckTolerance) -> Result<Vec<CheckItem>, GridError> {
    if folder_phases(dir)? == 3 {
        return crate::threephase::check::check_folder(dir, tolerance.three_phase_pu);
    }
    let network = read_network(dir)?;
    let model = Model::new(&network)?;
    let mut items = check_power_flow(dir, &network, &model, tolerance.power_flow_pu)?;
    for set in ["full", "sparse"] {
        let measurements = dir.join(format!("reference/se_{set}_measurements.csv"));
        if !measurements.exists() {
            continue;
        }
        let zero = dir.join(format!("reference/se_{set}_zero_injection.csv"));
        let table = crate::measurement::read_measurements(&measurements, &network)?;
        let zero = crate::measurement::read_zero_injections(&zero, &network)?;
        let estimate = crate::estimate::estimate(&model, &table, &zero)?;
        let mut worst = Worst::new(format!("estimation, {set} set: bus voltage (complex)"));
        compare_voltages(&dir.join(format!("reference/se_{set}_bus.csv")), &network, &estimate.state.v, &mut worst)?;
        items.push(worst.item(tolerance.estimation_pu));
    }
    if items.is_empty() {
        return Err(GridError::File {
            path: dir.join("reference").display().to_string(),
            reason: "holds no reference".into(),
        });
    }
    Ok(items)
}

fn compare_voltages(path: &Path, network: &Network, v: &[C64], worst: &mut Worst) -> Result<(), GridError> {
    let index = network.bus_index();
    let table = Table::read(path)?;
    table.require(&["bus", "vm_pu", "va_deg"])?;
    for row in table.rows() {
        let id = row.id("bus")?;
        let bus = *index.get(&id).ok_or_else(|| row.error(format!("bus {id} is not in buses.csv")))?;
        let reference = C64::from_polar(row.number("vm_pu")?, row.number("va_deg")?.to_radians());
        worst.see(|| format!("bus {id}"), (v[bus] - reference).norm());
    }
    Ok(())
}

fn check_power_flow(dir: &Path, network: &Network, model: &Model, tolerance: f64) -> Result<Vec<CheckItem>, GridError> {
    let path = dir.join("reference/pf_bus.csv");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let state = flow::solve(model)?;
    let mut voltage = Worst::new("power flow: bus voltage (complex)");
    compare_voltages(&path, network, &state.v, &mut voltage)?;
    let batch = batch_state(model)?;
    let mut lanes = Worst::new("power flow, batch: bus voltage (complex)");
    compare_voltages(&path, network, &batch, &mut lanes)?;
    let mut items = vec![voltage.item(tolerance), lanes.item(tolerance)];
    let path = dir.join("reference/pf_branch.csv");
    if path.exists() {
        items.push(compare_flows(&path, network, &state)?.item(tolerance));
    }
    Ok(items)
}

/// The network's own loads through the batch solver, started away from the solution (at half the load).
fn batch_state(model: &Model) -> Result<Vec<C64>, GridError> {
    let columns: Vec<usize> = (0..model.bus_count()).filter(|&i| model.power[i] != C64::ZERO).collect();
    let base: Vec<C64> = model.power.iter().map(|s| s * 0.5).collect();
    let solver = flow::FlowSolver::new(model, &columns, &base)?;
    let p: Vec<f64> = columns.iter().map(|&c| model.power[c].re).collect();
    let q: Vec<f64> = columns.iter().map(|&c| model.power[c].im).collect();
    let vm = [model.slack_voltage.norm()];
    let scenarios = flow::Scenarios { p_pu: &p, q_pu: &q, slack_vm_pu: Some(&vm) };
    let tolerance = crate::kernel::Tolerance { step_pu: 1e-12, max_iterations: 60 };
    let mut out = solver.solve(&scenarios, tolerance, 1)?;
    if let Some((_, error)) = out.failed.pop() {
        return Err(error);
    }
    Ok(out.re.iter().zip(&out.im).map(|(&r, &i)| C64::new(r, i)).collect())
}

/// Flows are compared relative to the larger of 1 pu and their size: the per-unit base of some networks is far below their load.
fn compare_flows(path: &Path, network: &Network, state: &State) -> Result<Worst, GridError> {
    let index: HashMap<u32, usize> = network.branches.iter().enumerate().map(|(i, b)| (b.id, i)).collect();
    let table = Table::read(path)?;
    table.require(&["branch", "p_from_pu", "q_from_pu", "p_to_pu", "q_to_pu"])?;
    let mut worst = Worst::new("power flow: branch flows (relative above 1 pu)");
    for row in table.rows() {
        let id = row.id("branch")?;
        let k = *index.get(&id).ok_or_else(|| row.error(format!("branch {id} is not in branches.csv")))?;
        let f = &state.branches[k];
        for (column, value) in
            [("p_from_pu", f.p_from_pu), ("q_from_pu", f.q_from_pu), ("p_to_pu", f.p_to_pu), ("q_to_pu", f.q_to_pu)]
        {
            let reference = row.number(column)?;
            worst.see(|| format!("branch {id}, {column}"), (value - reference).abs() / reference.abs().max(1.0));
        }
    }
    Ok(worst)
}
