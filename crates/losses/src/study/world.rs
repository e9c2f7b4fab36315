//! A feeder's month drawn from a seed: true loads, true network, what the meters say, and the theft.

use grid::flow::{FlowSolver, Scenarios};
use grid::model::Model;
use grid::network::{BranchKind, Network};
use grid::{Complex64, Tolerance};

use crate::localise::feeder::{cut_at, line_losses_pu};
use crate::localise::trial::{Connection, MeterClass};
use crate::localise::{LocaliseError, TheftKind, Trial};
use crate::pattern::canary::Dice;

/// Slots of a day.
const PER_DAY: usize = 96;
const SLOT_HOURS: f64 = 0.25;
/// Mean use above which a connection may be a thief, in W.
const LEAST_THIEF_W: f64 = 100.0;
/// By how much a load's reactive share swings over the day, relative to its mean.
const REACTIVE_SWING: f64 = 0.2;

/// A kind of theft with its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theft {
    /// Nobody steals.
    None,
    /// 30 % not counted.
    Share30,
    /// 10 % not counted.
    Share10,
    /// 80 % not counted from 22 to 6 o'clock.
    Night,
    /// Two meters, 30 % and 15 or 30 %.
    Two,
    /// Varying tap of 1 kW.
    Tap1000,
    /// Varying tap of 500 W.
    Tap500,
    /// Constant tap of 1 kW.
    Constant,
}

impl Theft {
    /// All kinds in the order of the tables.
    pub const ALL: [Self; 8] =
        [Self::None, Self::Share30, Self::Share10, Self::Night, Self::Two, Self::Tap1000, Self::Tap500, Self::Constant];

    /// Name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Share30 => "under_registration_30",
            Self::Share10 => "under_registration_10",
            Self::Night => "night_bypass",
            Self::Two => "under_registration_two",
            Self::Tap1000 => "tap_varying_1000_w",
            Self::Tap500 => "tap_varying_500_w",
            Self::Constant => "tap_constant_1000_w",
        }
    }

    /// The kind that the verdict should name.
    pub fn kind(self) -> Option<TheftKind> {
        match self {
            Self::None => None,
            Self::Share30 | Self::Share10 | Self::Two => Some(TheftKind::UnderRegistration),
            Self::Night => Some(TheftKind::NightBypass),
            Self::Tap1000 | Self::Tap500 => Some(TheftKind::TapVarying),
            Self::Constant => Some(TheftKind::TapConstant),
        }
    }

    /// Whether all guilty points must be among the first three, not just one.
    pub fn all_must_be_named(self) -> bool {
        self == Self::Two
    }
}

/// What really happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// The guilty usage points; for a tap all connections at its bus.
    pub usage_points: Vec<u32>,
    /// Stolen energy in Wh.
    pub stolen_wh: f64,
    /// Power of a tap in W by slot; empty without one.
    pub tap_w: Vec<f64>,
    /// The network with its true impedances.
    pub network: Network,
    /// Honest usage points that look suspicious: on holiday, or with solar.
    pub look_alikes: Vec<u32>,
}

/// Draws a trial on the feeder below the network's (first) transformer.
pub fn simulate(network: &Network, theft: Theft, days: usize, seed: u64) -> Result<(Trial, Truth), LocaliseError> {
    let mut dice = Dice::new(seed);
    let observer_bus = network
        .branches
        .iter()
        .find(|b| b.kind == BranchKind::Trafo)
        .map(|b| b.to)
        .or_else(|| network.slack().ok().map(|s| network.buses[s].id))
        .ok_or_else(|| {
            LocaliseError::Mismatch(format!("network \"{}\" has neither transformer nor slack", network.name))
        })?;
    let mut cut = cut_at(network, observer_bus)?;
    let mut true_network = network.clone();
    for branch in &mut cut.branches {
        let factor = (0.1 * dice.normal()).exp();
        branch.r_pu *= factor;
        branch.x_pu *= factor;
        let same = true_network.branches.iter_mut().find(|b| b.id == branch.id && b.from == branch.from);
        if let Some(same) = same {
            (same.r_pu, same.x_pu) = (branch.r_pu, branch.x_pu);
        }
    }
    let index = cut.bus_index();
    let loads: Vec<_> = network.loads.iter().filter(|l| index.contains_key(&l.bus) && l.kind == "load").collect();
    if loads.len() < 3 {
        return Err(LocaliseError::Mismatch(format!("network \"{}\" has fewer than three consumers", network.name)));
    }
    let slots = days * PER_DAY;
    let business: Vec<bool> = loads.iter().map(|l| l.profile.starts_with('G')).collect();
    let mut used_w: Vec<Vec<f64>> = loads
        .iter()
        .zip(&business)
        .map(|(l, business)| consumption(l.p_mw.abs() * 1e6, *business, slots, &mut dice))
        .collect();
    let alike = look_alikes(&mut used_w, days, &mut dice);
    let mut metered_w = used_w.clone();
    let mut tap_w = vec![0.0; slots];
    let (guilty, tap_bus) = steal(theft, &mut metered_w, &mut tap_w, &mut dice);
    let bus_of_load: Vec<usize> = loads.iter().map(|l| index[&l.bus]).collect();
    let stolen_w: f64 = tap_w.iter().sum::<f64>()
        + used_w.iter().flatten().zip(metered_w.iter().flatten()).map(|(u, m)| u - m).sum::<f64>();
    let tap = tap_bus.map(|k| (bus_of_load[k], tap_w.as_slice()));
    let world = World { cut: &cut, bus_of_load: &bus_of_load, business: &business, used_w: &used_w, tap };
    let flow = world.flow(slots, &mut dice)?;
    let usage_points = match tap_bus {
        Some(k) => (0..loads.len()).filter(|i| bus_of_load[*i] == bus_of_load[k]).collect(),
        None => guilty,
    };
    let truth = Truth {
        look_alikes: alike.into_iter().filter(|i| !usage_points.contains(i)).map(|i| loads[i].id).collect(),
        usage_points: usage_points.into_iter().map(|i| loads[i].id).collect(),
        stolen_wh: stolen_w * SLOT_HOURS,
        tap_w: if tap_bus.is_some() { tap_w.clone() } else { Vec::new() },
        network: true_network,
    };
    let class = MeterClass { gain_sd: 0.005, random_sd: 0.005, quantum_wh: 1.0, voltage_random_sd: 0.001 };
    let observer_class = MeterClass { gain_sd: 0.0025, random_sd: 0.001, quantum_wh: 1.0, voltage_random_sd: 0.0003 };
    let gain = 1.0 + observer_class.gain_sd * dice.normal();
    let offset = dice.between(-0.002, 0.002);
    let delivered_wh = (0..slots)
        .map(|t| {
            let total: f64 = used_w.iter().map(|u| u[t]).sum::<f64>() + tap_w[t] + flow.losses_w[t];
            (total * SLOT_HOURS * gain * (1.0 + observer_class.random_sd * dice.normal())).round()
        })
        .collect();
    let observer_pu = flow.observer_pu.iter().map(|v| reading_pu(*v, offset, observer_class, &mut dice)).collect();
    let silent = (dice.below(loads.len()), dice.below(slots.saturating_sub(2 * PER_DAY).max(1)));
    let connections = (0..loads.len())
        .map(|i| {
            let mut connection = measure(loads[i].id, &metered_w[i], &flow.voltage_pu[i], class, &mut dice);
            if i == silent.0 {
                silence(&mut connection, silent.1, 2 * PER_DAY);
            }
            connection
        })
        .collect();
    let trial = Trial {
        observer_bus,
        slot_minutes: 15,
        first_hour: 0.0,
        delivered_wh,
        observer_pu,
        connections,
        class,
        observer_class,
    };
    Ok((trial, truth))
}

fn reading_pu(voltage: f64, offset: f64, class: MeterClass, dice: &mut Dice) -> f64 {
    (voltage * (1.0 + offset + class.voltage_random_sd * dice.normal()) * 2300.0).round() / 2300.0
}

fn measure(usage_point: u32, watts: &[f64], voltage: &[f64], class: MeterClass, dice: &mut Dice) -> Connection {
    let gain = 1.0 + (class.gain_sd * dice.normal()).clamp(-0.01, 0.01);
    let offset = dice.between(-0.005, 0.005);
    let (mut drawn, mut fed, mut import_wh, mut export_wh) = (0.0f64, 0.0f64, Vec::new(), Vec::new());
    for w in watts {
        let energy = w * SLOT_HOURS * gain * (1.0 + class.random_sd * dice.normal());
        let before = (drawn.floor(), fed.floor());
        drawn += energy.max(0.0);
        fed += (-energy).max(0.0);
        import_wh.push(drawn.floor() - before.0);
        export_wh.push(fed.floor() - before.1);
    }
    let voltage_pu = voltage.iter().map(|v| reading_pu(*v, offset, class, dice)).collect();
    let mut connection = Connection { usage_point, import_wh, export_wh, voltage_pu };
    for slot in 0..watts.len() {
        if dice.unit() < 0.01 {
            silence(&mut connection, slot, 1);
        }
    }
    connection
}

fn silence(connection: &mut Connection, from: usize, slots: usize) {
    let to = (from + slots).min(connection.import_wh.len());
    for series in [&mut connection.import_wh, &mut connection.export_wh, &mut connection.voltage_pu] {
        series[from.min(to)..to].fill(f64::NAN);
    }
}

/// A consumer's power: a daily and weekly shape, standby, and appliances that switch.
fn consumption(peak_w: f64, business: bool, slots: usize, dice: &mut Dice) -> Vec<f64> {
    let mean = peak_w.max(500.0) * 0.12 * (0.25 * dice.normal()).exp();
    let shift = dice.between(-1.5, 1.5);
    let (rhythm, mut wander) = (dice.between(0.6, 1.4), 0.0);
    let shape = |hour: f64, weekend: bool| {
        let bump = |at: f64, width: f64| (-((hour - at) / width).powi(2)).exp();
        if business {
            let open = bump(12.0, 4.5);
            0.35 + if weekend { 0.3 } else { 1.9 } * open
        } else {
            0.45 + 0.7 * rhythm * bump(7.5, 1.5) + 0.6 * bump(12.5, 2.0) + 1.5 * bump(19.5, 2.6)
        }
    };
    let mut watts: Vec<f64> = (0..slots)
        .map(|t| {
            let hour = ((t % PER_DAY) as f64 * SLOT_HOURS + shift).rem_euclid(24.0);
            wander = 0.9 * wander + 0.25 * dice.normal();
            mean * 0.7 * shape(hour, t / PER_DAY % 7 >= 5) * f64::exp(wander - 0.16)
        })
        .collect();
    let appliance = if business { 0.15 } else { 0.3 } * mean;
    let added = appliances(appliance, slots, dice);
    watts.iter_mut().zip(added).for_each(|(w, a)| *w += a);
    watts
}

/// Switching loads with a given mean power in W: starts mostly in waking hours, a half to three hours each.
fn appliances(mean_w: f64, slots: usize, dice: &mut Dice) -> Vec<f64> {
    let mut watts = vec![0.0; slots];
    let mut slot = 0;
    while slot < slots {
        let hour = (slot % PER_DAY) as f64 * SLOT_HOURS;
        let chance = if (6.5..23.0).contains(&hour) { 0.09 } else { 0.02 };
        if dice.unit() < chance {
            let length = 2 + dice.below(11);
            let power = dice.between(0.5, 2.0);
            let end = (slot + length).min(slots);
            watts[slot..end].iter_mut().for_each(|w| *w += power);
        }
        slot += 1;
    }
    let mean = watts.iter().sum::<f64>() / slots.max(1) as f64;
    watts.iter_mut().for_each(|w| *w *= mean_w / mean.max(1e-9));
    watts
}

/// Solar behind five in a hundred meters, and one home on holiday: honest, and not to be named.
fn look_alikes(used_w: &mut [Vec<f64>], days: usize, dice: &mut Dice) -> Vec<usize> {
    let homes = used_w.len();
    let mut alike = Vec::new();
    for _ in 0..homes.div_ceil(20) {
        let (home, peak) = (dice.below(homes), dice.between(2_000.0, 7_000.0));
        alike.push(home);
        let mut cloud = 0.6;
        for (t, w) in used_w[home].iter_mut().enumerate() {
            let hour = (t % PER_DAY) as f64 * SLOT_HOURS;
            cloud = (cloud + 0.08 * dice.normal()).clamp(0.15, 1.0);
            *w -= peak * cloud * (1.0 - ((hour - 12.5) / 6.0).powi(2)).max(0.0);
        }
    }
    if days > 12 {
        let (home, start) = (dice.below(homes), dice.below(days - 10) * PER_DAY);
        used_w[home][start..start + 10 * PER_DAY].iter_mut().for_each(|w| *w = 0.06 * *w + 15.0);
        alike.push(home);
    }
    alike
}

/// Applies the theft to what is metered, or draws a tap. Returns the guilty loads and the tapped load.
fn steal(
    theft: Theft,
    metered_w: &mut [Vec<f64>],
    tap_w: &mut Vec<f64>,
    dice: &mut Dice,
) -> (Vec<usize>, Option<usize>) {
    let slots = tap_w.len();
    let mut eligible: Vec<usize> = (0..metered_w.len())
        .filter(|i| {
            let mean = metered_w[*i].iter().sum::<f64>() / slots.max(1) as f64;
            mean > LEAST_THIEF_W && metered_w[*i].iter().all(|w| *w >= 0.0)
        })
        .collect();
    if eligible.is_empty() {
        eligible = (0..metered_w.len()).collect();
    }
    let first = eligible[dice.below(eligible.len())];
    let second = eligible[dice.below(eligible.len())];
    let mut reduce = |point: usize, share: f64, night: bool| {
        for (t, w) in metered_w[point].iter_mut().enumerate() {
            let hour = (t % PER_DAY) as f64 * SLOT_HOURS;
            if !night || !(6.0..22.0).contains(&hour) {
                *w *= 1.0 - share;
            }
        }
    };
    match theft {
        Theft::None => (Vec::new(), None),
        Theft::Share30 | Theft::Share10 => {
            reduce(first, if theft == Theft::Share30 { 0.3 } else { 0.1 }, false);
            (vec![first], None)
        }
        Theft::Night => {
            reduce(first, 0.8, true);
            (vec![first], None)
        }
        Theft::Two => {
            reduce(first, 0.3, false);
            if second == first {
                return (vec![first], None);
            }
            reduce(second, if dice.unit() < 0.5 { 0.3 } else { 0.15 }, false);
            (vec![first, second], None)
        }
        Theft::Tap1000 | Theft::Tap500 => {
            let mean = if theft == Theft::Tap1000 { 1_000.0 } else { 500.0 };
            *tap_w = if dice.unit() < 0.5 {
                appliances(mean, slots, dice)
            } else {
                let shift = dice.below(PER_DAY);
                (0..slots).map(|t| if (t + shift) % PER_DAY < PER_DAY / 2 { 2.0 * mean } else { 0.0 }).collect()
            };
            (Vec::new(), Some(first))
        }
        Theft::Constant => {
            tap_w.fill(1_000.0);
            (Vec::new(), Some(first))
        }
    }
}

/// A load's reactive power as a share of its active power: its own, and swinging over the day, so never quite in proportion.
struct ReactiveShare {
    mean: f64,
    phase: f64,
}

impl ReactiveShare {
    fn draw(business: bool, dice: &mut Dice) -> Self {
        let mean = if business { dice.between(0.05, 0.7) } else { dice.between(0.09, 0.13) };
        Self { mean, phase: dice.between(0.0, std::f64::consts::TAU) }
    }

    fn at(&self, slot: usize) -> f64 {
        let angle = (slot % PER_DAY) as f64 / PER_DAY as f64 * std::f64::consts::TAU;
        self.mean * (1.0 + REACTIVE_SWING * (angle + self.phase).sin())
    }
}

struct World<'a> {
    cut: &'a Network,
    bus_of_load: &'a [usize],
    business: &'a [bool],
    used_w: &'a [Vec<f64>],
    tap: Option<(usize, &'a [f64])>,
}

/// What the world's power flow gives.
struct Flow {
    /// Voltage at the observer by slot.
    observer_pu: Vec<f64>,
    /// Voltage by load and slot.
    voltage_pu: Vec<Vec<f64>>,
    /// Line losses in W by slot.
    losses_w: Vec<f64>,
}

impl World<'_> {
    fn flow(&self, slots: usize, dice: &mut Dice) -> Result<Flow, LocaliseError> {
        let model = Model::new(self.cut)?;
        let base_w = model.base_mva() * 1e6;
        let buses = model.bus_count();
        let columns: Vec<usize> = (0..buses).filter(|b| *b != model.slack_index()).collect();
        let width = columns.len();
        let column_of = |bus: usize| columns.iter().position(|c| *c == bus);
        let (mut p, mut q) = (vec![0.0; slots * width], vec![0.0; slots * width]);
        for (load, watts) in self.used_w.iter().enumerate() {
            let Some(column) = column_of(self.bus_of_load[load]) else { continue };
            let reactive = ReactiveShare::draw(self.business[load], dice);
            for (slot, w) in watts.iter().enumerate() {
                p[slot * width + column] -= w / base_w;
                q[slot * width + column] -= reactive.at(slot) * w.max(0.0) / base_w;
            }
        }
        if let Some((column, watts)) = self.tap.and_then(|(bus, watts)| column_of(bus).map(|c| (c, watts))) {
            for (slot, w) in watts.iter().enumerate() {
                p[slot * width + column] -= w / base_w;
            }
        }
        let mut drift = 0.0;
        let slack: Vec<f64> = (0..slots)
            .map(|t| {
                drift = 0.999 * drift + 0.0001 * dice.normal();
                let angle = (t % PER_DAY) as f64 / PER_DAY as f64 * std::f64::consts::TAU;
                1.02 - 0.004 * angle.sin() + drift
            })
            .collect();
        let solver = FlowSolver::new(&model, &columns, &vec![Complex64::new(0.0, 0.0); buses])?;
        let scenarios = Scenarios { p_pu: &p, q_pu: &q, slack_vm_pu: Some(&slack) };
        let solved = solver.solve(&scenarios, Tolerance::default(), 1)?;
        if let Some((slot, error)) = solved.failed.first() {
            return Err(LocaliseError::Mismatch(format!(
                "the simulated load of slot {slot} cannot be supplied: {error}"
            )));
        }
        let losses = line_losses_pu(self.cut, &solved, slots).iter().map(|l| l * base_w).collect();
        let voltages = self
            .bus_of_load
            .iter()
            .map(|&b| (0..slots).map(|t| solved.re[t * buses + b].hypot(solved.im[t * buses + b])).collect())
            .collect();
        Ok(Flow { observer_pu: slack, voltage_pu: voltages, losses_w: losses })
    }
}
