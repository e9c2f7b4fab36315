//! The feeder below the observer meter: its network, the flows of the metered power, and the residual of the balance.
//!
//! The network is cut at the observer's bus, which becomes the slack; its voltage is the observer's reading of each slot.
//! Voltages come from the power flow of the metered active power; reactive power is not metered and assumed a fixed share.
//! y(t) = delivered(t) − Σ net metered(t) − line losses(t), in Wh, positive: energy is missing.

use grid::flow::{FlowSolver, Scenarios, Voltages};
use grid::model::Model;
use grid::network::{BusKind, Network};
use grid::{Complex64, Tolerance};

use crate::localise::LocaliseError;
use crate::localise::trial::{Connection, MeterClass, Trial, fill};

/// Reactive power assumed for consumption, as a share of the active power (households measure 0.09–0.13).
const REACTIVE_SHARE: f64 = 0.1;
/// Step in pu with which sensitivities are measured on the power flow: 1 kW on a base of 1 MVA.
const PROBE_W: f64 = 1_000.0;

/// A cable section between connections and junctions of a radial feeder.
#[derive(Debug, Clone)]
pub struct Section {
    /// Bus at its upper and lower end, among the buses of the cut network.
    pub ends: (usize, usize),
    /// Modelled fall of the voltage from upper to lower end in pu, by slot.
    pub fall_pu: Vec<f64>,
    /// Fall per W drawn at each usage point, in pu at mean load.
    pub fall_per_watt: Vec<f64>,
}

/// A feeder with a month of power flows.
pub struct Feeder {
    /// Usage points in order.
    pub usage_points: Vec<u32>,
    /// Position of each usage point's bus among the buses of the cut network.
    pub bus_of_point: Vec<usize>,
    /// Whether the connection is a generator's meter (feeds in only).
    pub generator: Vec<bool>,
    /// Energy drawn in Wh, gaps filled, `[point][slot]`.
    pub drawn_wh: Vec<Vec<f64>>,
    /// Net energy in Wh, gaps filled, `[point][slot]`.
    pub net_wh: Vec<Vec<f64>>,
    /// Measured voltage in pu, NaN = missing, `[point][slot]`.
    pub voltage_pu: Vec<Vec<f64>>,
    /// Voltage of each usage point by the power flow of the metered power, `[point][slot]`.
    pub modelled_pu: Vec<Vec<f64>>,
    /// Line losses of that flow in Wh by slot.
    pub losses_wh: Vec<f64>,
    /// Missing energy in Wh by slot.
    pub residual_wh: Vec<f64>,
    /// Variance of the residual from meter class, counter step and filled gaps, in Wh².
    pub variance: Vec<f64>,
    /// Energy delivered in Wh.
    pub delivered_wh: Vec<f64>,
    /// Voltage fall in pu at point i per W drawn at point k, `[i][k]`, at mean load.
    pub fall_per_watt: Vec<Vec<f64>>,
    /// The cable sections; empty when the network is meshed.
    pub sections: Vec<Section>,
    /// The sections above each usage point.
    pub paths: Vec<Vec<usize>>,
    /// Hours of a slot.
    pub slot_hours: f64,
    /// Local hour of each slot's start.
    pub hours: Vec<f64>,
    /// Class of the connections' meters.
    pub class: MeterClass,
    /// Class of the observer.
    pub observer_class: MeterClass,
    /// Slots of a day.
    pub slots_per_day: usize,
}

impl Feeder {
    /// Builds the feeder: cut network, filled readings, power flow of all slots.
    pub fn new(network: &Network, trial: &Trial) -> Result<Self, LocaliseError> {
        let cut = cut_at(network, trial.observer_bus)?;
        let index = cut.bus_index();
        let mut bus_of_point = Vec::new();
        let mut generator = Vec::new();
        for connection in &trial.connections {
            let load = network.loads.iter().find(|l| l.id == connection.usage_point);
            let bus = load.and_then(|l| index.get(&l.bus));
            let (Some(load), Some(&bus)) = (load, bus) else {
                return Err(LocaliseError::Mismatch(format!(
                    "usage point {} has readings but no connection below bus {} of network \"{}\"; is this the right network folder?",
                    connection.usage_point, trial.observer_bus, network.name
                )));
            };
            bus_of_point.push(bus);
            generator.push(load.kind != "load");
        }
        let per_day = trial.slots_per_day();
        let net: Vec<Vec<f64>> = trial.connections.iter().map(net_of).collect();
        let filled: Vec<_> = net.iter().map(|n| fill(n, per_day)).collect();
        let drawn_wh = trial.connections.iter().map(|c| fill(&c.import_wh, per_day).values).collect();
        let mut feeder = Self {
            usage_points: trial.connections.iter().map(|c| c.usage_point).collect(),
            bus_of_point,
            generator,
            drawn_wh,
            net_wh: filled.iter().map(|f| f.values.clone()).collect(),
            voltage_pu: trial.connections.iter().map(|c| c.voltage_pu.clone()).collect(),
            modelled_pu: Vec::new(),
            losses_wh: Vec::new(),
            residual_wh: Vec::new(),
            variance: Vec::new(),
            delivered_wh: trial.delivered_wh.clone(),
            fall_per_watt: Vec::new(),
            sections: Vec::new(),
            paths: vec![Vec::new(); trial.connections.len()],
            slot_hours: f64::from(trial.slot_minutes) / 60.0,
            hours: (0..trial.delivered_wh.len()).map(|t| trial.hour(t)).collect(),
            class: trial.class,
            observer_class: trial.observer_class,
            slots_per_day: per_day,
        };
        let reference: Vec<f64> = trial.observer_pu.iter().map(|v| if v.is_nan() { 1.0 } else { *v }).collect();
        feeder.flow(&cut, &reference)?;
        let filled_variance: Vec<&[f64]> = filled.iter().map(|f| f.variance.as_slice()).collect();
        feeder.balance(&filled_variance);
        Ok(feeder)
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.delivered_wh.len()
    }

    /// Number of usage points.
    pub fn points(&self) -> usize {
        self.usage_points.len()
    }

    /// Power flow of every slot and, in the same batch, of one probe per usage point at mean load.
    fn flow(&mut self, cut: &Network, reference: &[f64]) -> Result<(), LocaliseError> {
        let model = Model::new(cut)?;
        let base_w = model.base_mva() * 1e6;
        let mut columns: Vec<usize> = self.bus_of_point.clone();
        columns.sort_unstable();
        columns.dedup();
        columns.retain(|c| *c != model.slack_index());
        let (slots, points) = (self.slots(), self.points());
        let column_of: Vec<Option<usize>> =
            self.bus_of_point.iter().map(|b| columns.iter().position(|c| c == b)).collect();
        let width = columns.len();
        let rows = slots + points + 1;
        let (mut p, mut q) = (vec![0.0; rows * width], vec![0.0; rows * width]);
        let mut slack = reference.to_vec();
        slack.resize(rows, reference.iter().sum::<f64>() / reference.len() as f64);
        for point in 0..points {
            let Some(column) = column_of[point] else { continue };
            let mut sum = 0.0;
            for slot in 0..slots {
                let watts = self.net_wh[point][slot] / self.slot_hours;
                sum += watts;
                p[slot * width + column] -= watts / base_w;
                q[slot * width + column] -= REACTIVE_SHARE * watts.max(0.0) / base_w;
            }
            for row in slots..rows {
                p[row * width + column] -= sum / slots as f64 / base_w;
            }
            p[(slots + 1 + point) * width + column] -= PROBE_W / base_w;
        }
        let solver = FlowSolver::new(&model, &columns, &vec![Complex64::new(0.0, 0.0); model.bus_count()])?;
        let scenarios = Scenarios { p_pu: &p, q_pu: &q, slack_vm_pu: Some(&slack) };
        let voltages = solver.solve(&scenarios, Tolerance::default(), 1)?;
        if let Some((slot, error)) = voltages.failed.first() {
            return Err(LocaliseError::Mismatch(format!(
                "the metered load of slot {slot} cannot be supplied by this network: {error}"
            )));
        }
        let buses = model.bus_count();
        let magnitude = |row: usize, bus: usize| voltages.re[row * buses + bus].hypot(voltages.im[row * buses + bus]);
        self.modelled_pu =
            self.bus_of_point.iter().map(|&b| (0..slots).map(|slot| magnitude(slot, b)).collect()).collect();
        self.fall_per_watt = self
            .bus_of_point
            .iter()
            .map(|&b| {
                let still = magnitude(slots, b);
                (0..points).map(|k| (still - magnitude(slots + 1 + k, b)) / PROBE_W).collect()
            })
            .collect();
        let (ends, paths) = tree(cut, model.slack_index(), &self.bus_of_point);
        self.paths = paths;
        self.sections = ends
            .into_iter()
            .map(|(upper, lower)| {
                let fall = |row: usize| magnitude(row, upper) - magnitude(row, lower);
                Section {
                    ends: (upper, lower),
                    fall_pu: (0..slots).map(fall).collect(),
                    fall_per_watt: (0..points).map(|k| (fall(slots + 1 + k) - fall(slots)) / PROBE_W).collect(),
                }
            })
            .collect();
        let losses = line_losses_pu(cut, &voltages, slots);
        self.losses_wh = losses.iter().map(|l| l * base_w * self.slot_hours).collect();
        Ok(())
    }

    fn balance(&mut self, filled_variance: &[&[f64]]) {
        let step = self.class.quantum_wh * self.class.quantum_wh / 6.0;
        for slot in 0..self.slots() {
            let metered: f64 = self.net_wh.iter().map(|n| n[slot]).sum();
            let delivered = self.delivered_wh[slot];
            self.residual_wh.push(delivered - metered - self.losses_wh[slot]);
            let mut variance = (self.observer_class.random_sd * delivered).powi(2) + step;
            for (net, filled) in self.net_wh.iter().zip(filled_variance) {
                variance += (self.class.random_sd * net[slot]).powi(2) + step + filled[slot];
            }
            self.variance.push(variance);
        }
    }
}

/// The sections (upper, lower bus) of a radial network between connections and junctions, and those above each connection;
/// nothing when it is meshed.
fn tree(cut: &Network, slack: usize, bus_of_point: &[usize]) -> (Vec<(usize, usize)>, Vec<Vec<usize>>) {
    let index = cut.bus_index();
    let buses = cut.buses.len();
    let none = (Vec::new(), vec![Vec::new(); bus_of_point.len()]);
    if cut.branches.len() + 1 != buses {
        return none;
    }
    let mut beside: Vec<Vec<usize>> = vec![Vec::new(); buses];
    for branch in &cut.branches {
        let (a, b) = (index[&branch.from], index[&branch.to]);
        beside[a].push(b);
        beside[b].push(a);
    }
    let mut above = vec![usize::MAX; buses];
    above[slack] = slack;
    let mut order = vec![slack];
    let mut next = 0;
    while next < order.len() {
        let here = order[next];
        next += 1;
        for &other in &beside[here] {
            if above[other] == usize::MAX {
                above[other] = here;
                order.push(other);
            }
        }
    }
    if order.len() != buses {
        return none;
    }
    // Buses with a connection, and those where ways to connections part.
    let mut ways = vec![0usize; buses];
    for &bus in order.iter().rev() {
        let used = ways[bus] > 0 || bus_of_point.contains(&bus);
        if used && bus != slack {
            ways[above[bus]] += 1;
        }
    }
    let kept = |bus: usize| bus == slack || bus_of_point.contains(&bus) || ways[bus] > 1;
    let mut sections = Vec::new();
    let mut section_of = vec![usize::MAX; buses];
    for &bus in order.iter().filter(|&&b| b != slack && kept(b)) {
        let mut upper = above[bus];
        while !kept(upper) {
            upper = above[upper];
        }
        section_of[bus] = sections.len();
        sections.push((upper, bus));
    }
    let paths = bus_of_point
        .iter()
        .map(|&bus| {
            let (mut path, mut here) = (Vec::new(), bus);
            while here != slack {
                path.push(section_of[here]);
                here = sections[section_of[here]].0;
            }
            path
        })
        .collect();
    (sections, paths)
}

/// Line losses of the first `slots` solved scenarios, in pu.
pub(crate) fn line_losses_pu(network: &Network, voltages: &Voltages, slots: usize) -> Vec<f64> {
    let index = network.bus_index();
    let buses = network.buses.len();
    let lines: Vec<(usize, usize, f64)> = network
        .branches
        .iter()
        .map(|b| (index[&b.from], index[&b.to], b.r_pu * b.r_pu + b.x_pu * b.x_pu, b.r_pu))
        .filter(|(_, _, z2, _)| *z2 > 0.0)
        .map(|(f, t, z2, r)| (f, t, r / z2))
        .collect();
    (0..slots)
        .map(|slot| {
            let row = slot * buses;
            lines
                .iter()
                .map(|(f, t, g)| {
                    let re = voltages.re[row + f] - voltages.re[row + t];
                    let im = voltages.im[row + f] - voltages.im[row + t];
                    (re * re + im * im) * g
                })
                .sum()
        })
        .collect()
}

fn net_of(connection: &Connection) -> Vec<f64> {
    connection.import_wh.iter().zip(&connection.export_wh).map(|(i, e)| i - e).collect()
}

/// The part of the network below `bus`, with `bus` as slack. Everything that stays connected when the transformer branches
/// at `bus` are removed belongs to it.
pub fn cut_at(network: &Network, bus: u32) -> Result<Network, LocaliseError> {
    use grid::network::BranchKind;
    if !network.buses.iter().any(|b| b.id == bus) {
        return Err(LocaliseError::Mismatch(format!(
            "the observer's bus {bus} is not in network \"{}\"; is this the right network folder?",
            network.name
        )));
    }
    let feeds = |branch: &grid::network::Branch| branch.to == bus && branch.kind == BranchKind::Trafo;
    let mut reached = vec![bus];
    let mut next = 0;
    while next < reached.len() {
        let here = reached[next];
        next += 1;
        for branch in network.branches.iter().filter(|b| !feeds(b)) {
            let other = if branch.from == here {
                branch.to
            } else if branch.to == here {
                branch.from
            } else {
                continue;
            };
            if !reached.contains(&other) {
                reached.push(other);
            }
        }
    }
    let mut cut = network.clone();
    cut.buses.retain(|b| reached.contains(&b.id));
    cut.branches.retain(|b| !feeds(b) && reached.contains(&b.from) && reached.contains(&b.to));
    cut.loads.clear();
    cut.usage_points.clear();
    for b in &mut cut.buses {
        b.kind = if b.id == bus { BusKind::Slack { vm_pu: 1.0, va_deg: 0.0 } } else { BusKind::Load };
    }
    Ok(cut)
}
