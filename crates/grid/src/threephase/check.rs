//! Compares the three-phase power flow with a folder's `reference/`: the snapshot, the single minutes and, where there are
//! profiles, the whole day through the batch solver.

use super::folder::{read_parquet, read_phase_network};
use super::{PhaseScenarios, PhaseSolver, PhaseVoltages};
use crate::check::{CheckItem, Worst};
use crate::error::GridError;
use crate::folder::Table;
use crate::kernel::Tolerance;
use num_complex::Complex64 as C64;
use std::path::Path;

pub(crate) fn check_folder(dir: &Path, tolerance: f64) -> Result<Vec<CheckItem>, GridError> {
    let network = read_phase_network(dir)?;
    let solver = PhaseSolver::new(&network)?;
    let state = solver.solve()?;
    let mut worst = Worst::new("three-phase power flow: node voltage (complex)");
    compare(&dir.join("reference/pf_nodes.csv"), &solver, &state.v, &mut worst)?;
    let mut items = vec![worst.item(tolerance)];
    let mut worst = Worst::new("three-phase power flow: Kirchhoff residual, pu of the largest load current");
    residual(&solver, &state.v, &mut worst);
    items.push(worst.item(tolerance));
    items.extend(super::dense_check::check_estimation(&solver, &state.v, tolerance)?);
    let profiles = dir.join("profiles_1min_kw.parquet");
    if profiles.exists() {
        items.extend(check_day(dir, &profiles, &solver, tolerance)?);
    }
    Ok(items)
}

fn compare(path: &Path, solver: &PhaseSolver, v: &[C64], worst: &mut Worst) -> Result<(), GridError> {
    let table = Table::read(path)?;
    table.require(&["node", "v_re", "v_im"])?;
    let network = solver.network();
    for (k, row) in table.rows().enumerate() {
        if network.nodes.get(k).map(String::as_str) != Some(row.text("node")) {
            return Err(row.error(format!("node '{}' is out of order", row.text("node"))));
        }
        let reference = C64::new(row.number("v_re")?, row.number("v_im")?);
        worst.see(|| format!("node {}", network.nodes[k]), (v[k] - reference).norm() / network.base_v[k]);
    }
    Ok(())
}

fn residual(solver: &PhaseSolver, v: &[C64], worst: &mut Worst) {
    let network = solver.network();
    let mut currents = network.source_a.clone();
    let mut largest = 0.0f64;
    for load in &network.loads {
        let current = load.current(C64::new(load.p_w, load.q_var), load.voltage(v));
        largest = largest.max(current.norm());
        currents[load.from] += current;
        if let Some(to) = load.to {
            currents[to] -= current;
        }
    }
    let mut magnitude: Vec<f64> = currents.iter().map(|i| i.norm()).collect();
    for &(i, j, y) in &network.admittance {
        currents[i] -= y * v[j];
        magnitude[i] += (y * v[j]).norm();
    }
    // what rounding leaves of large cancelling terms is no error of the solution
    for (i, r) in currents.iter().enumerate() {
        let rounding = magnitude[i] * 1e-12;
        worst.see(|| format!("node {}", network.nodes[i]), (r.norm() - rounding).max(0.0) / largest.max(1e-9));
    }
}

fn check_day(dir: &Path, profiles: &Path, solver: &PhaseSolver, tolerance: f64) -> Result<Vec<CheckItem>, GridError> {
    let profiles = read_parquet(profiles, &[])?;
    let loads = &solver.network().loads;
    if profiles.len() < loads.len() {
        return Err(GridError::Length { what: "the load profiles", found: profiles.len(), expected: loads.len() });
    }
    let minutes = profiles[0].len();
    let (mut p_w, mut q_var) = (Vec::new(), Vec::new());
    for minute in 0..minutes {
        for (load, profile) in loads.iter().zip(&profiles) {
            p_w.push(load.p_w * profile[minute]);
            q_var.push(load.q_var * profile[minute]);
        }
    }
    let mut out = PhaseVoltages::default();
    let strict = Tolerance { step_pu: 1e-11, max_iterations: 60 };
    solver.solve_batch(&PhaseScenarios { p_w: &p_w, q_var: &q_var }, strict, 1, &mut out)?;
    if let Some((_, error)) = out.failed.pop() {
        return Err(error);
    }
    let nodes = solver.network().nodes.len();
    let mut items = Vec::new();
    for minute in [1usize, 566, 1440] {
        let path = dir.join(format!("reference/pf_nodes_min{minute}.csv"));
        if !path.exists() || minute > minutes {
            continue;
        }
        let row = (minute - 1) * nodes..minute * nodes;
        let v: Vec<C64> = out.re[row.clone()].iter().zip(&out.im[row]).map(|(&r, &i)| C64::new(r, i)).collect();
        let mut worst = Worst::new(format!("three-phase power flow, batch, minute {minute}: node voltage (complex)"));
        compare(&path, solver, &v, &mut worst)?;
        items.push(worst.item(tolerance));
    }
    let path = dir.join("reference/series_load_vm_volt.parquet");
    if path.exists() {
        let series = read_parquet(&path, &[])?;
        let mut worst = Worst::new("three-phase power flow, batch, whole day: load voltage (magnitude)");
        for (k, load) in loads.iter().enumerate().take(series.len()) {
            for (minute, reference) in series[k].iter().enumerate().take(minutes) {
                let at = minute * nodes + load.from;
                let error = (out.re[at].hypot(out.im[at]) - reference).abs() / solver.network().base_v[load.from];
                worst.see(|| format!("load {}, minute {}", load.name, minute + 1), error);
            }
        }
        items.push(worst.item(tolerance));
    }
    Ok(items)
}
