//! The balance of one zone as a stream: one [`ZoneSlot`] in, one [`ZoneVerdict`] out. The whole state is serialisable and small.

use std::collections::BTreeMap;

use metering::{Timestamp, ZoneId};
use serde::{Deserialize, Serialize};

use super::{
    CT_RATIO_SD, EnergyBalance, MemberId, MeterClass, MeterSlot, ZoneSlot,
    estimate::{MemberState, Others, bin_of},
    on_grid,
};
use crate::{
    alarm::{AlarmChange, AlarmConfig, AlarmState, Detector, Residual},
    technical::{TechnicalModel, TechnicalPrior},
};

/// By how much fewer equal homes would weigh as n uneven ones do, before their use is known.
const UNEVEN_USE: f64 = 1.7;
/// Least coverage of a slot to learn from.
const LEARN_COVERAGE: f64 = 0.9;

/// What a monitor needs to know of its zone at the start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ZoneConfig {
    /// The zone.
    pub zone: ZoneId,
    /// What is known of its technical loss.
    pub prior: TechnicalPrior,
    /// Standard deviation of the common gain error of its meters: observer, and the mean of the members.
    pub gain_sd: f64,
    /// The alarm's budget.
    pub alarm: AlarmConfig,
}

impl ZoneConfig {
    /// A zone of usage points without network data.
    pub fn usage_points(zone: ZoneId, usage_points: usize, alarm: AlarmConfig) -> Self {
        let gain_sd = common_gain_sd(MeterClass::Class05S, MeterClass::Class1, usage_points);
        Self { zone, prior: TechnicalPrior::low_voltage(usage_points), gain_sd, alarm }
    }

    /// A feeder of `transformers` zones with `usage_points` below them, without network data.
    pub fn feeder(zone: ZoneId, transformers: usize, usage_points: usize, alarm: AlarmConfig) -> Self {
        let gain_sd = common_gain_sd(MeterClass::Class05S, MeterClass::Class05S, transformers);
        Self { zone, prior: TechnicalPrior::feeder(transformers, usage_points), gain_sd, alarm }
    }
}

/// The most that one member can have taken in a slot, Wh: twice what came in by the observer and from the members that export (an observer
/// may read low); without bound where the observer is missing.
fn possible_wh(slot: &ZoneSlot) -> f64 {
    let exported: f64 = slot.members.iter().filter_map(|m| m.meter.net_wh()).map(|wh| (-wh).max(0.0)).sum();
    slot.observer.net_wh().map_or(f64::INFINITY, |supplied| 2.0 * (supplied.max(0.0) + exported))
}

/// Observer's gain and the energy-weighted mean of `n` members'.
fn common_gain_sd(observer: MeterClass, members: MeterClass, n: usize) -> f64 {
    let member = members.accuracy().gain;
    observer.accuracy().gain.hypot(member * (UNEVEN_USE / n.max(1) as f64).min(1.0).sqrt())
}

/// What a slot brought.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ZoneVerdict {
    /// The balance.
    pub balance: EnergyBalance,
    /// What the alarm looks at: unaccounted less known gain error and habit, Wh.
    pub residual_wh: f64,
    /// Where the alarm stands.
    pub alarm: AlarmState,
    /// Whether it changed in this slot.
    pub change: Option<AlarmChange>,
}

/// The running balance of one zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ZoneMonitor {
    config: ZoneConfig,
    technical: TechnicalModel,
    detector: Detector,
    members: Vec<MemberState>,
    observer_last_w: Option<f64>,
    /// End of the newest slot observed.
    last_end: Option<Timestamp>,
}

/// Sums over the members of a slot.
#[derive(Default)]
struct Metered {
    net_wh: f64,
    measured_abs_wh: f64,
    estimated_abs_wh: f64,
    random_var: f64,
    gain_var: f64,
    estimate_var: f64,
    estimate_systematic_var: f64,
}

impl ZoneMonitor {
    /// A monitor that knows nothing but its configuration.
    pub fn new(config: ZoneConfig) -> Self {
        Self {
            config,
            technical: TechnicalModel::new(config.prior, config.gain_sd),
            detector: Detector::default(),
            members: Vec::new(),
            observer_last_w: None,
            last_end: None,
        }
    }

    /// The zone.
    pub fn zone(&self) -> ZoneId {
        self.config.zone
    }

    /// Where the alarm stands.
    pub fn alarm(&self) -> AlarmState {
        self.detector.state()
    }

    /// The fitted technical loss.
    pub fn technical(&self) -> &TechnicalModel {
        &self.technical
    }

    /// End of the newest slot observed.
    pub fn last_end(&self) -> Option<Timestamp> {
        self.last_end
    }

    /// Changes the alarm's budget from the next slot on.
    pub fn set_alarm(&mut self, alarm: AlarmConfig) {
        self.config.alarm = alarm;
    }

    /// Forgets that time went beyond `to`: slots after it are observed again. What was learnt from them stays; of a slot without an observer
    /// that is nothing.
    pub fn take_back(&mut self, to: Timestamp) {
        self.last_end = self.last_end.map(|last| last.min(to));
    }

    /// Takes the present level of unaccounted energy as known and ends the alarm: for an operator who knows the reason.
    pub fn accept_level(&mut self) {
        self.detector.accept_level();
    }

    /// The balance over several recent intervals of this zone, with the systematic errors of the loss model and the gains carried
    /// through the whole time, and the random ones as correlated from slot to slot as this zone's were: narrower than [`EnergyBalance::total`], which takes every interval's error to point the same way.
    pub fn period(&self, balances: &[EnergyBalance]) -> Option<EnergyBalance> {
        let mut total = EnergyBalance::total(balances)?;
        let hours = |b: &EnergyBalance| f64::from(b.minutes) / 60.0;
        let slots = || balances.iter().filter(|b| b.minutes > 0).map(|b| (b.supplied_wh / hours(b), hours(b)));
        // What is systematic beside the model: long gaps, a missing observer.
        let beside: f64 = balances
            .iter()
            .filter(|b| b.minutes > 0)
            .map(|b| {
                let model = self.technical.loss(b.supplied_wh / hours(b), hours(b)).systematic_var;
                (b.sigma_systematic_wh.powi(2) - model).max(0.0).sqrt()
            })
            .sum();
        total.sigma_systematic_wh = self.technical.period_systematic_var(slots()).sqrt().hypot(beside);
        total.sigma_random_wh *= self.detector.correlation_over(balances.len()).sqrt();
        Some(total)
    }

    /// Habit of the residual at that time of day, Wh: known gain error apart, what the alarm subtracts from `unaccounted_wh`.
    pub fn habit_wh(&self, end: Timestamp, minutes: u16) -> f64 {
        self.detector.habit_wh(end, minutes)
    }

    /// Takes in the next slot. A slot that does not end after the last one is balanced and changes nothing (see [`Self::revise`]).
    pub fn observe(&mut self, slot: &ZoneSlot) -> ZoneVerdict {
        if self.last_end.is_some_and(|last| slot.end <= last) {
            let balance = self.revise(slot);
            return ZoneVerdict { balance, residual_wh: 0.0, alarm: self.alarm(), change: None };
        }
        self.align(slot);
        let day = slot.end.plus(-1).day();
        if self.last_end.is_none_or(|last| last.plus(-1).day() < day) {
            self.weigh_members(slot);
        }
        let hours = f64::from(slot.minutes) / 60.0;
        let metered = self.metered(slot, hours);
        let (balance, residual) = self.balance(slot, &metered, hours);
        self.observer_last_w = slot.observer.net_wh().map(|wh| wh / hours);
        self.last_end = Some(slot.end);
        let Some(residual) = residual else {
            return ZoneVerdict { balance, residual_wh: 0.0, alarm: self.alarm(), change: None };
        };
        let change = self.detector.observe(&residual, &self.config.alarm);
        if self.detector.blocks_learning() {
            if change.is_some() {
                self.technical.discard_pending();
            }
        } else if residual.learnable {
            let slot_var = self.detector.slot_var(residual.meter_var, residual.supplied_wh);
            // An estimate in a long gap is off in the same way in all its slots.
            let estimate_var = residual.estimate_var + 30.0 * residual.estimate_sd * residual.estimate_sd;
            let noise_var = self.detector.correlation_factor() * slot_var + estimate_var;
            let difference = balance.supplied_wh - balance.metered_wh;
            self.technical.observe(day, balance.supplied_wh / hours, hours, difference, noise_var);
        }
        let residual_wh = residual.residual_wh - self.detector.habit_wh(slot.end, slot.minutes);
        ZoneVerdict { balance, residual_wh, alarm: self.alarm(), change }
    }

    /// The common gain error of these meters, each weighing by what its member usually takes; as long as that is not known, as configured.
    fn weigh_members(&mut self, slot: &ZoneSlot) {
        let (mut sum_w, mut gain_var) = (0.0, 0.0);
        for (state, member) in self.members.iter().zip(&slot.members) {
            let Some(watts) = state.usual_w() else { continue };
            sum_w += watts.abs();
            gain_var += (gain_sd(&member.meter) * watts).powi(2);
        }
        let gain = if sum_w > 0.0 {
            gain_sd(&slot.observer).hypot(gain_var.sqrt() / sum_w)
        } else if slot.observer.ct_ratio == 1.0 {
            self.config.gain_sd
        } else {
            self.config.gain_sd.hypot(CT_RATIO_SD)
        };
        self.technical.set_gain_sd(gain);
    }

    /// The balance of a slot with the present state, without learning from it: for late readings of an earlier slot.
    pub fn revise(&self, slot: &ZoneSlot) -> EnergyBalance {
        let mut copy = self.clone();
        copy.align(slot);
        let hours = f64::from(slot.minutes) / 60.0;
        let metered = copy.metered(slot, hours);
        copy.balance(slot, &metered, hours).0
    }

    /// Brings the member states into the order of the slot; new members start empty, gone ones are dropped.
    fn align(&mut self, slot: &ZoneSlot) {
        let same = self.members.len() == slot.members.len()
            && self.members.iter().zip(&slot.members).all(|(state, member)| state.id == member.id);
        if same {
            return;
        }
        let mut old: BTreeMap<MemberId, MemberState> =
            std::mem::take(&mut self.members).into_iter().map(|state| (state.id, state)).collect();
        self.members =
            slot.members.iter().map(|m| old.remove(&m.id).unwrap_or_else(|| MemberState::new(m.id))).collect();
    }

    /// Adds the members up and learns from them in the same pass.
    fn metered(&mut self, slot: &ZoneSlot, hours: f64) -> Metered {
        let mut sum = Metered::default();
        let mut missing = 0u32;
        let bin = bin_of(slot.end, hours);
        let per_hour = 1.0 / hours;
        let possible_wh = possible_wh(slot);
        for (state, member) in self.members.iter_mut().zip(&slot.members) {
            let Some(net_wh) = member.meter.net_wh() else {
                missing += 1;
                continue;
            };
            let watts = net_wh * per_hour;
            sum.net_wh += net_wh;
            sum.measured_abs_wh += net_wh.abs();
            let gain = gain_sd(&member.meter);
            sum.gain_var += gain * gain * net_wh * net_wh;
            sum.random_var += random_var(&member.meter, net_wh, watts - f64::from(state.last_w));
            // What the zone cannot have delivered is a wrong reading: counted until it is proved wrong, never learned as usual.
            if net_wh <= possible_wh || state.usual_w().is_none() {
                state.learn(watts as f32, bin);
            }
        }
        if missing == 0 {
            return sum;
        }
        let present = slot.members.len() as f64 - f64::from(missing);
        let others = Others {
            mean_w: if present > 0.0 { sum.net_wh * per_hour / present } else { 350.0 },
            over_usual: self.over_usual(slot, bin, sum.net_wh * per_hour),
        };
        for (state, member) in self.members.iter_mut().zip(&slot.members) {
            if member.meter.flow.is_some() {
                continue;
            }
            let estimate = state.estimate(bin, hours, &others);
            state.miss(hours);
            let net_wh = on_grid(estimate.net_wh);
            sum.net_wh += net_wh;
            sum.estimated_abs_wh += net_wh.abs();
            sum.estimate_var += estimate.random_var;
            sum.estimate_systematic_var += estimate.systematic_sd * estimate.systematic_sd;
        }
        sum
    }

    /// What the members measured in this slot take together (`measured_w`) relative to what they usually take; asked for only when a
    /// missing one was never seen at this time of day, otherwise 1.
    fn over_usual(&self, slot: &ZoneSlot, bin: usize, measured_w: f64) -> f64 {
        let members = || self.members.iter().zip(&slot.members);
        if members().all(|(state, member)| member.meter.flow.is_some() || state.knows(bin)) {
            return 1.0;
        }
        let usual =
            members().filter(|(_, member)| member.meter.flow.is_some()).filter_map(|(state, _)| state.usual_w());
        let usual_w = usual.sum::<f64>();
        if usual_w > 0.0 { (measured_w / usual_w).clamp(0.2, 5.0) } else { 1.0 }
    }

    /// The balance and what the alarm looks at.
    fn balance(&self, slot: &ZoneSlot, metered: &Metered, hours: f64) -> (EnergyBalance, Option<Residual>) {
        let measured = slot.observer.net_wh();
        // Without the observer nothing can be unaccounted for: the supply is what the meters and the loss make of it.
        let supplied_wh = measured.unwrap_or_else(|| {
            let metered_w = metered.net_wh / hours;
            on_grid(metered.net_wh + self.technical.loss(metered_w, hours).loss_wh)
        });
        let loss = self.technical.loss(supplied_wh / hours, hours);
        let technical_wh = if measured.is_some() { on_grid(loss.loss_wh) } else { supplied_wh - metered.net_wh };
        let unaccounted_wh = supplied_wh - metered.net_wh - technical_wh;
        let step_w = self.observer_last_w.map_or(0.0, |last| supplied_wh / hours - last);
        let meter_var = random_var(&slot.observer, supplied_wh, step_w) + metered.random_var;
        let slot_var = self.detector.slot_var(meter_var, supplied_wh.abs());
        // Where some feed in what others draw, gains weigh on more energy than what is supplied.
        let common = self.technical.gain_sd() * supplied_wh;
        let gain_excess = (metered.gain_var - common * common).max(0.0);
        let systematic_var = loss.systematic_var + gain_excess + metered.estimate_systematic_var;
        let present = slot.members.iter().filter(|m| m.meter.flow.is_some()).count();
        // A silent meter that is expected idle may not be: it counts for a watt-hour at least, so that only all are "covered".
        let estimated_abs_wh = metered.estimated_abs_wh.max((slot.members.len() - present) as f64);
        let measured_share = if metered.measured_abs_wh > 0.0 {
            metered.measured_abs_wh / (metered.measured_abs_wh + estimated_abs_wh)
        } else if metered.estimated_abs_wh > 0.0 {
            0.0
        } else if slot.members.is_empty() {
            1.0
        } else {
            present as f64 / slot.members.len() as f64
        };
        let mut balance = EnergyBalance {
            zone: slot.zone,
            end: slot.end,
            minutes: slot.minutes,
            supplied_wh,
            metered_wh: metered.net_wh,
            technical_wh,
            unaccounted_wh,
            sigma_random_wh: (slot_var + metered.estimate_var).sqrt(),
            sigma_systematic_wh: systematic_var.sqrt(),
            coverage: measured_share,
        };
        if measured.is_none() {
            balance.coverage = 0.0;
            // What could be missing unseen: a tenth of the zone, and the whole error of its parts.
            balance.sigma_systematic_wh = balance.sigma_systematic_wh.hypot(0.1 * supplied_wh);
            return (balance, None);
        }
        let (prior_wh, prior_sd) = self.technical.prior_loss(supplied_wh / hours, hours);
        let residual = Residual {
            end: slot.end,
            minutes: slot.minutes,
            residual_wh: unaccounted_wh - loss.gain_wh,
            meter_var,
            estimate_var: metered.estimate_var,
            estimate_sd: metered.estimate_systematic_var.sqrt(),
            supplied_wh: supplied_wh.abs(),
            standing: (supplied_wh - metered.net_wh - prior_wh, prior_sd),
            learnable: measured_share >= LEARN_COVERAGE,
            settled: self.technical.learned_days() >= 0.9,
        };
        (balance, Some(residual))
    }
}

/// Random variance of a meter's slot, Wh²: register step, clock error on a load that changed by `step_w`, random error.
fn random_var(meter: &MeterSlot, net_wh: f64, step_w: f64) -> f64 {
    let accuracy = meter.class.accuracy();
    let quantum = accuracy.quantum_wh * meter.ct_ratio;
    let clock = accuracy.clock_s * (1.0 / 3_600.0) * step_w;
    let random = accuracy.random * net_wh;
    quantum * quantum * (1.0 / 6.0) + clock * clock + random * random
}

/// Standard deviation of a meter's gain with that of its current transformers.
fn gain_sd(meter: &MeterSlot) -> f64 {
    let own = meter.class.accuracy().gain;
    if meter.ct_ratio == 1.0 { own } else { own.hypot(CT_RATIO_SD) }
}
