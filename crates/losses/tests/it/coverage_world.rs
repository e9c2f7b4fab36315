//! Zones, meters and days drawn independently, for the coverage of the intervals of unaccounted energy. Every source of error can be
//! drawn alone: gains by class, ratio errors, register steps, clocks, random errors, missing and late reads, the zone's own loss, and
//! what makes that no square of the total: homes hang on one phase each, their shares differ from day to day, and every conductor
//! loses by its own current. Nobody steals, so the truth of `unaccounted` is 0.

use super::neighbourhood::{Dice, SLOT_SECONDS};
use losses::alarm::AlarmConfig;
use losses::balance::{
    EnergyBalance, Flow, MemberId, MemberSlot, MeterClass, MeterSlot, ZoneConfig, ZoneMonitor, ZoneSlot,
};
use metering::{Timestamp, UsagePointId, WattHours, ZoneId};

/// 5 % and 95 % of the standard normal.
pub const NINETY: f64 = 1.645;
/// Days that a zone may have been watched when its last one is judged.
pub const WATCHED: [usize; 6] = [1, 2, 4, 7, 14, 28];
/// Day-to-day spread of a home's use around its mean, as a share.
const DAY_SPREAD: f64 = 0.35;
/// Spread between homes of what they take in the evening, as a share.
const EVENING_SPREAD: f64 = 0.35;
/// By how much the season moves the level of all homes of a zone, as a share.
const SEASON: f64 = 0.2;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Fixed gain errors of observer and meters.
    Gains,
    /// Ratio errors of current transformers.
    Ratios,
    /// Clocks that are off by seconds.
    Clocks,
    /// Registers that count whole watt-hours, behind transformers times their ratio.
    Steps,
    /// Random errors of the readings.
    Readings,
    /// Single readings that are missing.
    Missing,
    /// Meters whose last hours have not come yet.
    Late,
    /// Standby and copper losses that are not those expected.
    Losses,
    /// Phases that are loaded unevenly, differently each day.
    Phases,
}

impl Source {
    /// Those that the intervals answer for: what is beside the loss' own law is left to the alarm's habit.
    pub const ALL: [Self; 8] =
        [Self::Gains, Self::Ratios, Self::Clocks, Self::Steps, Self::Readings, Self::Missing, Self::Late, Self::Losses];
}

struct Meter {
    class: MeterClass,
    ct_ratio: f64,
    gain: f64,
    clock_s: f64,
    random: f64,
    missing: f64,
    fine: bool,
    register: f64,
    last_w: f64,
    silent_from: usize,
}

impl Meter {
    fn new(dice: &mut Dice, sources: &[Source], class: MeterClass, behind_ct: bool) -> Self {
        let accuracy = class.accuracy();
        let mut of = |source: Source, sd: f64| if sources.contains(&source) { sd * dice.normal() } else { 0.0 };
        let gain = 1.0 + of(Source::Gains, accuracy.gain) + if behind_ct { of(Source::Ratios, 0.0025) } else { 0.0 };
        let clock_s = of(Source::Clocks, accuracy.clock_s);
        Self {
            class,
            ct_ratio: if behind_ct { 20.0 } else { 1.0 },
            gain,
            clock_s,
            random: if sources.contains(&Source::Readings) { accuracy.random } else { 0.0 },
            missing: if sources.contains(&Source::Missing) { 0.005 } else { 0.0 },
            fine: !sources.contains(&Source::Steps),
            register: 1_000.0 * dice.uniform(),
            last_w: 300.0,
            silent_from: usize::MAX,
        }
    }

    /// What its register counted in a slot of this mean power; `None` when the reading is missing or late.
    fn slot(&mut self, dice: &mut Dice, at: usize, watts: f64) -> MeterSlot {
        let noise = 1.0 + self.random * dice.normal();
        let clock = self.clock_s / 3_600.0 * (watts - self.last_w);
        self.last_w = watts;
        // A register without steps counts thousandths.
        let ratio = if self.fine { 0.001 } else { self.ct_ratio };
        let before = self.register.floor();
        self.register += (watts * 0.25 * self.gain * noise + clock).max(0.0) / ratio;
        let flow = Flow { import_wh: WattHours((self.register.floor() - before) as u64), export_wh: WattHours(0) };
        let missing = at >= self.silent_from || dice.chance(self.missing);
        MeterSlot { flow: (!missing).then_some(flow), ct_ratio: ratio, class: self.class }
    }
}

/// From the prior as the model means it: a normal within two standard deviations and not below 0.
fn from_prior(dice: &mut Dice, sources: &[Source], mean: f64, sd: f64) -> f64 {
    loop {
        let n = if sources.contains(&Source::Losses) { dice.normal() } else { 0.0 };
        if n.abs() < 2.0 && mean + sd * n >= 0.0 {
            return mean + sd * n;
        }
    }
}

/// The homes' mean power, W, what each takes in the evening relative to the rest of the day, and the phase that each hangs on.
struct Homes {
    level_w: Vec<f64>,
    evening: Vec<f64>,
    phase: Vec<usize>,
}

impl Homes {
    fn new(dice: &mut Dice, meters: &[Meter]) -> Self {
        let season = 1.0 + SEASON * (2.0 * dice.uniform() - 1.0);
        let large = |meter: &Meter| if meter.class == MeterClass::Class05S { 4.0 } else { 1.0 };
        let level_w = meters.iter().map(|m| 350.0 * season * (0.4 * dice.normal()).exp() * large(m)).collect();
        let evening = meters.iter().map(|_| 2.0 * (EVENING_SPREAD * dice.normal()).exp()).collect();
        Self { level_w, evening, phase: meters.iter().map(|_| (dice.uniform() * 3.0) as usize).collect() }
    }

    /// Each home's mean power on a day.
    fn day(&self, dice: &mut Dice) -> Vec<f64> {
        let today = |dice: &mut Dice| (DAY_SPREAD * dice.normal() - 0.5 * DAY_SPREAD * DAY_SPREAD).exp();
        self.level_w.iter().map(|level| level * today(dice)).collect()
    }

    /// Each home's power in a slot of a day.
    fn slot(&self, dice: &mut Dice, day_w: &[f64], slot_of_day: usize) -> Vec<f64> {
        let shape = |evening: f64| 0.8 * if slot_of_day > 68 { evening } else { 1.0 };
        day_w.iter().zip(&self.evening).map(|(watts, e)| watts * shape(*e) * (0.5 + dice.uniform())).collect()
    }

    /// Copper loss relative to that of a balanced load: each conductor loses by the square of its own current, the neutral too.
    fn imbalance(&self, watts: &[f64]) -> f64 {
        let mut phases = [0.0f64; 3];
        watts.iter().zip(&self.phase).for_each(|(w, p)| phases[*p] += w);
        let [a, b, c] = phases;
        let neutral = a * a + b * b + c * c - a * b - b * c - c * a;
        3.0 * (a * a + b * b + c * c + neutral) / (a + b + c).powi(2)
    }

    /// Its mean over many days.
    fn usual_imbalance(&self, dice: &mut Dice) -> f64 {
        let days = 60;
        let sum: f64 = (0..days)
            .map(|_| {
                let day = self.day(dice);
                self.imbalance(&self.slot(dice, &day, 0))
            })
            .sum();
        sum / f64::from(days)
    }
}

/// What became of one zone.
pub struct Outcome {
    /// Days that the zone had been watched.
    pub days: usize,
    /// Meters that were late.
    pub late: usize,
    /// The last hour.
    pub hour: EnergyBalance,
    /// The last day.
    pub day: EnergyBalance,
}

/// Error of the balance over its standard deviation.
pub fn score(balance: &EnergyBalance) -> f64 {
    balance.unaccounted_wh / balance.sigma_wh()
}

/// One zone with its own meters and loss.
pub fn draw(dice: &mut Dice, sources: &[Source]) -> Outcome {
    let homes = 6 + (dice.uniform() * 20.0) as usize;
    let days = WATCHED[(dice.uniform() * WATCHED.len() as f64) as usize];
    let config = ZoneConfig::usage_points(ZoneId::new("Z").expect("id"), homes, AlarmConfig::default());
    let prior = config.prior;
    let k0 = from_prior(dice, sources, prior.k0_w, prior.k0_sd_w);
    let k2 = from_prior(dice, sources, prior.k2_share, prior.k2_share_sd) / prior.reference_w;
    let observer_ct = dice.chance(0.5);
    let mut observer = Meter::new(dice, sources, MeterClass::Class05S, observer_ct);
    let mut meters: Vec<Meter> = (0..homes)
        .map(|_| {
            let behind_ct = dice.chance(0.05);
            let class = if behind_ct { MeterClass::Class05S } else { MeterClass::Class1 };
            Meter::new(dice, sources, class, behind_ct)
        })
        .collect();
    let slots = days * 96;
    // The last hours of a meter or two have not come yet.
    let late = if sources.contains(&Source::Late) { (dice.uniform() * 3.0) as usize } else { 0 };
    for _ in 0..late {
        let meter = (dice.uniform() * homes as f64) as usize;
        meters[meter].silent_from = slots - (dice.uniform() * 24.0) as usize;
    }
    let world = Homes::new(dice, &meters);
    let usual = world.usual_imbalance(dice);
    let mut monitor = ZoneMonitor::new(config);
    let mut balances = vec![];
    let mut day_w = vec![];
    for at in 0..slots {
        if at % 96 == 0 {
            day_w = world.day(dice);
        }
        let watts = world.slot(dice, &day_w, at % 96);
        let uneven = if sources.contains(&Source::Phases) { world.imbalance(&watts) / usual } else { 1.0 };
        let total: f64 = watts.iter().sum();
        let members = meters.iter_mut().enumerate().map(|(home, meter)| {
            let id = MemberId::UsagePoint(UsagePointId::new(&format!("U{home}")).expect("id"));
            MemberSlot { id, meter: meter.slot(dice, at, watts[home]) }
        });
        let members = members.collect();
        let slot = ZoneSlot {
            zone: config.zone,
            end: Timestamp((at as i64 + 1) * SLOT_SECONDS),
            minutes: 15,
            observer: observer.slot(dice, at, total + k0 + k2 * total * total * uneven),
            members,
        };
        balances.push(monitor.observe(&slot).balance);
    }
    let last = |slots: usize| monitor.period(&balances[balances.len() - slots..]).expect("slots");
    Outcome { days, late, hour: last(4), day: last(96) }
}

/// Share of the 90 % intervals that hold the truth.
pub fn covered<'a>(balances: impl IntoIterator<Item = &'a EnergyBalance>) -> f64 {
    let (mut held, mut all) = (0.0, 0.0);
    for balance in balances {
        held += f64::from(u8::from(score(balance).abs() <= NINETY));
        all += 1.0;
    }
    held / all
}
