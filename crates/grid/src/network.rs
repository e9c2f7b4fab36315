//! The single-phase equivalent network as engineers know it: buses, branches, loads, in per unit, and its validation.
//!
//! Why: the solvers below trust what they get; everything a file can get wrong is caught and named here.
//! It is not a geographic or asset model and holds no results.

use crate::error::GridError;
use std::collections::{HashMap, HashSet};

/// What holds a bus's voltage or power.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BusKind {
    /// The feeding bus: voltage magnitude (pu) and angle (degrees) are given.
    Slack { vm_pu: f64, va_deg: f64 },
    /// A bus whose injection is given.
    Load,
}

/// One bus.
#[derive(Debug, Clone, PartialEq)]
pub struct Bus {
    pub id: u32,
    pub name: String,
    pub vn_kv: f64,
    pub kind: BusKind,
    /// Shunt conductance, as MW consumed at 1 pu.
    pub gs_mw: f64,
    /// Shunt susceptance, as Mvar injected at 1 pu.
    pub bs_mvar: f64,
}

/// What a branch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BranchKind {
    Line,
    Trafo,
}

/// One branch: a pi section with an ideal transformer `tap * exp(j shift)` on the `from` side.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    pub id: u32,
    pub from: u32,
    pub to: u32,
    pub kind: BranchKind,
    pub name: String,
    pub r_pu: f64,
    pub x_pu: f64,
    /// Total shunt conductance of the pi section, half at each end.
    pub g_pu: f64,
    /// Total shunt susceptance of the pi section, half at each end.
    pub b_pu: f64,
    pub tap: f64,
    pub shift_deg: f64,
    pub rate_mva: Option<f64>,
    pub length_km: Option<f64>,
}

/// How a load's power depends on its voltage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoadModel {
    #[default]
    Power,
    Current,
    Impedance,
}

/// One load (consumption positive) or generator (negative).
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    pub id: u32,
    pub bus: u32,
    pub name: String,
    pub kind: String,
    pub p_mw: f64,
    pub q_mvar: f64,
    pub profile: String,
    pub peak_p_mw: Option<f64>,
    pub peak_q_mvar: Option<f64>,
    pub model: LoadModel,
}

/// Where a usage point hangs, from `valid_from` on.
#[derive(Debug, Clone, PartialEq)]
pub struct UsagePoint {
    pub usage_point: String,
    pub load: Option<u32>,
    pub bus: u32,
    /// 1, 2 or 3; `None` for a three-phase connection or a single-phase equivalent network.
    pub phase: Option<u8>,
    /// UTC, RFC 3339, as written in the file.
    pub valid_from: String,
}

/// A whole network. Build it, then call [`Network::validate`]; the solvers do so themselves.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    pub name: String,
    pub base_mva: f64,
    pub frequency_hz: f64,
    pub buses: Vec<Bus>,
    pub branches: Vec<Branch>,
    pub loads: Vec<Load>,
    pub usage_points: Vec<UsagePoint>,
}

impl Network {
    /// Position of every bus number in `buses`.
    pub fn bus_index(&self) -> HashMap<u32, usize> {
        self.buses.iter().enumerate().map(|(i, b)| (b.id, i)).collect()
    }

    /// Position of the slack bus in `buses`.
    pub fn slack(&self) -> Result<usize, GridError> {
        let slacks: Vec<usize> = self
            .buses
            .iter()
            .enumerate()
            .filter(|(_, b)| matches!(b.kind, BusKind::Slack { .. }))
            .map(|(i, _)| i)
            .collect();
        match slacks.as_slice() {
            [] => Err(GridError::NoSlack),
            [one] => Ok(*one),
            [a, b, ..] => {
                Err(GridError::ManySlacks { count: slacks.len(), first: self.buses[*a].id, second: self.buses[*b].id })
            }
        }
    }

    /// Net constant injections (P, Q) per bus in pu, generation positive, in the order of `buses`.
    pub fn injections_pu(&self) -> (Vec<f64>, Vec<f64>) {
        let index = self.bus_index();
        let mut p = vec![0.0; self.buses.len()];
        let mut q = vec![0.0; self.buses.len()];
        for load in &self.loads {
            if let Some(&i) = index.get(&load.bus) {
                p[i] -= load.p_mw / self.base_mva;
                q[i] -= load.q_mvar / self.base_mva;
            }
        }
        (p, q)
    }

    /// Checks every element; the error names the first one at fault.
    pub fn validate(&self) -> Result<(), GridError> {
        if !(self.base_mva.is_finite() && self.base_mva > 0.0) {
            return Err(GridError::element(
                "network.json",
                format!("base_mva is {}, it must be a positive number", self.base_mva),
            ));
        }
        let mut index = HashMap::new();
        for (i, bus) in self.buses.iter().enumerate() {
            validate_bus(bus)?;
            if index.insert(bus.id, i).is_some() {
                return Err(GridError::element(format!("bus {}", bus.id), "is listed twice"));
            }
        }
        let slack = self.slack()?;
        let mut branch_ids = HashMap::new();
        for branch in &self.branches {
            validate_branch(branch, &index, &self.buses)?;
            if branch_ids.insert(branch.id, ()).is_some() {
                return Err(GridError::element(format!("branch {}", branch.id), "is listed twice"));
            }
        }
        self.check_loads(&index)?;
        self.check_usage_points(&index)?;
        self.check_connected(&index, slack)
    }

    fn check_loads(&self, index: &HashMap<u32, usize>) -> Result<(), GridError> {
        let mut ids = HashSet::new();
        for load in &self.loads {
            let name = || format!("load {} ({})", load.id, load.name);
            if !ids.insert(load.id) {
                return Err(GridError::element(name(), "is listed twice: it would be supplied twice"));
            }
            if !index.contains_key(&load.bus) {
                return Err(GridError::element(
                    name(),
                    format!("is at bus {}, which buses.csv does not list", load.bus),
                ));
            }
            if !(load.p_mw.is_finite() && load.q_mvar.is_finite()) {
                return Err(GridError::element(name(), "p_mw and q_mvar must be finite numbers"));
            }
            if [load.peak_p_mw, load.peak_q_mvar].into_iter().flatten().any(|peak| !peak.is_finite()) {
                return Err(GridError::element(name(), "peak_p_mw and peak_q_mvar must be finite numbers"));
            }
        }
        Ok(())
    }

    fn check_usage_points(&self, index: &HashMap<u32, usize>) -> Result<(), GridError> {
        let loads: HashMap<u32, u32> = self.loads.iter().map(|load| (load.id, load.bus)).collect();
        let mut seen = HashSet::new();
        for point in &self.usage_points {
            let name = || format!("usage point {}", point.usage_point);
            if point.usage_point.is_empty() {
                return Err(GridError::element(format!("a usage point at bus {}", point.bus), "has no name"));
            }
            if !seen.insert((&point.usage_point, &point.valid_from)) {
                return Err(GridError::element(name(), "is listed twice with the same valid_from"));
            }
            if !index.contains_key(&point.bus) {
                return Err(GridError::element(
                    name(),
                    format!("is at bus {}, which buses.csv does not list", point.bus),
                ));
            }
            let Some(load) = point.load else { continue };
            match loads.get(&load) {
                None => {
                    return Err(GridError::element(name(), format!("is load {load}, which loads.csv does not list")));
                }
                Some(bus) if *bus != point.bus => {
                    let reason = format!("is at bus {}, but its load {load} is at bus {bus}", point.bus);
                    return Err(GridError::element(name(), reason));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn check_connected(&self, index: &HashMap<u32, usize>, slack: usize) -> Result<(), GridError> {
        let mut neighbours = vec![Vec::new(); self.buses.len()];
        for branch in &self.branches {
            let (f, t) = (index[&branch.from], index[&branch.to]);
            neighbours[f].push(t);
            neighbours[t].push(f);
        }
        let mut seen = vec![false; self.buses.len()];
        let mut queue = vec![slack];
        seen[slack] = true;
        while let Some(i) = queue.pop() {
            for &j in &neighbours[i] {
                if !seen[j] {
                    seen[j] = true;
                    queue.push(j);
                }
            }
        }
        match seen.iter().position(|&s| !s) {
            Some(i) => Err(GridError::Island { bus: self.buses[i].id, count: seen.iter().filter(|&&s| !s).count() }),
            None => Ok(()),
        }
    }

    /// Number of independent loops (parallel branches count): 0 for a radial network.
    pub fn loop_count(&self) -> usize {
        (self.branches.len() + 1).saturating_sub(self.buses.len())
    }
}

fn validate_bus(bus: &Bus) -> Result<(), GridError> {
    let name = || format!("bus {}", bus.id);
    if !(bus.vn_kv.is_finite() && bus.vn_kv > 0.0) {
        return Err(GridError::element(name(), format!("vn_kv is {}, it must be a positive number", bus.vn_kv)));
    }
    if !(bus.gs_mw.is_finite() && bus.bs_mvar.is_finite()) {
        return Err(GridError::element(name(), "gs_mw and bs_mvar must be finite numbers"));
    }
    if let BusKind::Slack { vm_pu, va_deg } = bus.kind
        && !(vm_pu.is_finite() && vm_pu > 0.0 && va_deg.is_finite())
    {
        return Err(GridError::element(
            name(),
            format!("the slack voltage {vm_pu} pu at {va_deg} degrees is not usable"),
        ));
    }
    Ok(())
}

fn validate_branch(branch: &Branch, index: &HashMap<u32, usize>, buses: &[Bus]) -> Result<(), GridError> {
    let name = || format!("branch {} ({})", branch.id, branch.name);
    for (end, bus) in [("from", branch.from), ("to", branch.to)] {
        if !index.contains_key(&bus) {
            return Err(GridError::element(name(), format!("{end} bus {bus} is not in buses.csv")));
        }
    }
    if branch.from == branch.to {
        return Err(GridError::element(name(), format!("both ends are at bus {}", branch.from)));
    }
    let numbers = [branch.r_pu, branch.x_pu, branch.g_pu, branch.b_pu, branch.tap, branch.shift_deg];
    if numbers.iter().any(|v| !v.is_finite()) {
        return Err(GridError::element(
            name(),
            "r_pu, x_pu, g_pu, b_pu, tap and shift_deg must be finite numbers (is an impedance missing?)",
        ));
    }
    if branch.r_pu < 0.0 {
        return Err(GridError::element(name(), format!("r_pu is {}, a resistance cannot be negative", branch.r_pu)));
    }
    if branch.tap <= 0.0 {
        return Err(GridError::element(name(), format!("tap is {}, it must be positive (1 for a line)", branch.tap)));
    }
    if let Some(length) = branch.length_km
        && !(length.is_finite() && length >= 0.0)
    {
        return Err(GridError::element(name(), format!("length_km is {length}, a length cannot be negative")));
    }
    if let Some(rate) = branch.rate_mva
        && !(rate.is_finite() && rate >= 0.0)
    {
        return Err(GridError::element(name(), format!("rate_mva is {rate}, a rating cannot be negative")));
    }
    let zero = branch.r_pu == 0.0 && branch.x_pu == 0.0;
    let plain = branch.tap == 1.0 && branch.shift_deg == 0.0 && branch.g_pu == 0.0 && branch.b_pu == 0.0;
    if zero && !plain {
        return Err(GridError::element(
            name(),
            "the impedance is zero (missing?) although it has a tap, a shift or a shunt",
        ));
    }
    let (kv_from, kv_to) = (buses[index[&branch.from]].vn_kv, buses[index[&branch.to]].vn_kv);
    if branch.kind == BranchKind::Line && (kv_from / kv_to - 1.0).abs() > 0.05 {
        return Err(GridError::element(
            name(),
            format!("is a line between {kv_from} kV and {kv_to} kV: wrong base, or a transformer listed as a line?"),
        ));
    }
    Ok(())
}
