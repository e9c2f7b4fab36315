//! Batches of random scenarios for timing: every load between 50 % and 150 % of its network value, and measurements
//! drawn around the power flow of such scenarios. Deterministic from a seed; the caller holds the stopwatch.

use crate::error::GridError;
use crate::flow::{FlowSolver, Scenarios, Voltages};
use crate::kernel::Tolerance;
use crate::measurement::Measurement;
use crate::model::Model;
use crate::network::{Branch, BranchKind, Bus, BusKind, Load, LoadModel, Network};
use num_complex::Complex64 as C64;

/// A small generator of uniform numbers (splitmix64), for scenarios only.
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// A synthetic radial feeder: a main line with laterals of up to ten buses, a load at every second bus, voltage drop of a
/// few percent whatever the size.
pub fn radial_feeder(buses: u32, seed: u64) -> Network {
    let mut draw = Draw::new(seed);
    let mut network = Network {
        name: format!("radial feeder of {buses} buses"),
        base_mva: 1.0,
        frequency_hz: 50.0,
        buses: Vec::new(),
        branches: Vec::new(),
        loads: Vec::new(),
        usage_points: Vec::new(),
    };
    let size = f64::from(buses);
    let mut main = 0;
    let mut previous = 0;
    for id in 0..buses {
        let kind = if id == 0 { BusKind::Slack { vm_pu: 1.0, va_deg: 0.0 } } else { BusKind::Load };
        network.buses.push(Bus { id, name: String::new(), vn_kv: 11.0, kind, gs_mw: 0.0, bs_mvar: 0.0 });
        if id == 0 {
            continue;
        }
        if id % 10 == 1 {
            previous = main;
            main = id;
        }
        network.branches.push(Branch {
            id,
            from: previous,
            to: id,
            kind: BranchKind::Line,
            name: String::new(),
            r_pu: (0.5 + draw.uniform()) / size,
            x_pu: 0.5 / size,
            g_pu: 0.0,
            b_pu: 0.0,
            tap: 1.0,
            shift_deg: 0.0,
            rate_mva: None,
            length_km: None,
        });
        previous = id;
        if id % 2 == 0 {
            let p_mw = draw.uniform() / size;
            network.loads.push(Load {
                id,
                bus: id,
                name: String::new(),
                kind: "load".into(),
                p_mw,
                q_mvar: 0.3 * p_mw,
                profile: String::new(),
                peak_p_mw: None,
                peak_q_mvar: None,
                model: LoadModel::Power,
            });
        }
    }
    network
}

/// A prepared power flow batch.
pub struct FlowBench {
    solver: FlowSolver,
    p: Vec<f64>,
    q: Vec<f64>,
    out: Voltages,
}

impl FlowBench {
    /// `count` scenarios of the network's loads.
    pub fn new(model: &Model, count: usize, seed: u64) -> Result<Self, GridError> {
        let columns: Vec<usize> = (0..model.bus_count()).filter(|&i| model.power[i] != C64::ZERO).collect();
        let solver = FlowSolver::new(model, &columns, &model.power)?;
        let mut draw = Draw::new(seed);
        let (mut p, mut q) = (Vec::new(), Vec::new());
        for _ in 0..count {
            for &bus in &columns {
                let factor = 0.5 + draw.uniform();
                p.push(model.power[bus].re * factor);
                q.push(model.power[bus].im * factor);
            }
        }
        Ok(Self { solver, p, q, out: Voltages::default() })
    }

    /// Solves the batch once; returns the mean number of iterations.
    pub fn run(&mut self, tolerance: Tolerance, threads: usize) -> Result<f64, GridError> {
        let scenarios = Scenarios { p_pu: &self.p, q_pu: &self.q, slack_vm_pu: None };
        self.solver.solve_into(&scenarios, tolerance, threads, &mut self.out)?;
        match self.out.failed.pop() {
            Some((_, error)) => Err(error),
            None => Ok(mean(&self.out.iterations)),
        }
    }
}

/// A prepared estimation batch.
pub struct EstimateBench {
    batch: crate::BatchEstimator,
    values: Vec<f64>,
    out: Voltages,
}

impl EstimateBench {
    /// `count` draws of the measurements, each value with an error of its own sigma.
    pub fn new(
        model: &Model,
        measurements: &[Measurement],
        zero_injections: &[usize],
        count: usize,
        seed: u64,
    ) -> Result<Self, GridError> {
        let estimator = crate::estimate::Estimator::new(model, measurements, zero_injections)?;
        let batch = crate::BatchEstimator::new(&estimator)?;
        let mut draw = Draw::new(seed);
        let values = (0..count).flat_map(|_| measurements).map(|m| m.value_pu + m.sigma_pu * draw.normal()).collect();
        Ok(Self { batch, values, out: Voltages::default() })
    }

    /// The measured values, row-major, one row per scenario.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Estimates the batch once; returns the mean number of iterations.
    pub fn run(&mut self, tolerance: Tolerance, threads: usize) -> Result<f64, GridError> {
        self.batch.estimate_into(&self.values, tolerance, threads, &mut self.out)?;
        match self.out.failed.pop() {
            Some((_, error)) => Err(error),
            None => Ok(mean(&self.out.iterations)),
        }
    }
}

fn mean(iterations: &[u32]) -> f64 {
    iterations.iter().map(|&i| f64::from(i)).sum::<f64>() / iterations.len().max(1) as f64
}
