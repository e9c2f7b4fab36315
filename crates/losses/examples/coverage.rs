//! How often does the 90 % interval of unaccounted energy hold the truth? Independent draws of zone, meters and day, with all
//! sources of error on: gains by class, ratio errors, register steps, clocks, missing and late reads, technical loss.
//!
//! `cargo run --release -p losses --example coverage`
#![allow(clippy::print_stdout)]

#[path = "../tests/neighbourhood/mod.rs"]
#[allow(dead_code)]
mod neighbourhood;

use losses::alarm::AlarmConfig;
use losses::balance::{Flow, MemberId, MemberSlot, MeterClass, MeterSlot, ZoneConfig, ZoneMonitor, ZoneSlot};
use metering::{Timestamp, UsagePointId, WattHours, ZoneId};
use neighbourhood::{Dice, SLOT_SECONDS};

const DRAWS: usize = 1_000;
/// 5 % and 95 % of the standard normal.
const NINETY: f64 = 1.645;

struct Meter {
    class: MeterClass,
    ct_ratio: f64,
    gain: f64,
    clock_s: f64,
    register: f64,
    last_w: f64,
    silent_from: usize,
}

impl Meter {
    fn new(dice: &mut Dice, class: MeterClass, behind_ct: bool) -> Self {
        let accuracy = class.accuracy();
        let ct_error = if behind_ct { 0.0025 * dice.normal() } else { 0.0 };
        Self {
            class,
            ct_ratio: if behind_ct { 20.0 } else { 1.0 },
            gain: 1.0 + accuracy.gain * dice.normal() + ct_error,
            clock_s: accuracy.clock_s * dice.normal(),
            register: 1_000.0 * dice.uniform(),
            last_w: 300.0,
            silent_from: usize::MAX,
        }
    }

    /// What its register counted in a slot of this mean power; `None` when the reading is missing or late.
    fn slot(&mut self, dice: &mut Dice, at: usize, watts: f64) -> MeterSlot {
        let noise = 1.0 + self.class.accuracy().random * dice.normal();
        let clock = self.clock_s / 3_600.0 * (watts - self.last_w);
        self.last_w = watts;
        let before = self.register.floor();
        self.register += (watts * 0.25 * self.gain * noise + clock).max(0.0) / self.ct_ratio;
        let flow = Flow { import_wh: WattHours((self.register.floor() - before) as u64), export_wh: WattHours(0) };
        let missing = at >= self.silent_from || dice.chance(0.005);
        MeterSlot { flow: (!missing).then_some(flow), ct_ratio: self.ct_ratio, class: self.class }
    }
}

/// From the prior as the model means it: a normal within two standard deviations and not below 0.
fn from_prior(dice: &mut Dice, mean: f64, sd: f64) -> f64 {
    loop {
        let n = dice.normal();
        if n.abs() < 2.0 && mean + sd * n >= 0.0 {
            return mean + sd * n;
        }
    }
}

/// One zone with its own meters and loss: (unaccounted − truth) / sigma of its last day.
fn draw(dice: &mut Dice) -> f64 {
    let homes = 6 + (dice.uniform() * 20.0) as usize;
    let days = 1 + (dice.uniform() * 7.0) as usize;
    let config = ZoneConfig::usage_points(ZoneId::new("Z").expect("id"), homes, AlarmConfig::default());
    let prior = config.prior;
    let k0 = from_prior(dice, prior.k0_w, prior.k0_sd_w);
    let k2 = from_prior(dice, prior.k2_share, prior.k2_share_sd) / prior.reference_w;
    let observer_ct = dice.chance(0.5);
    let mut observer = Meter::new(dice, MeterClass::Class05S, observer_ct);
    let mut meters: Vec<Meter> = (0..homes)
        .map(|_| {
            let behind_ct = dice.chance(0.05);
            Meter::new(dice, if behind_ct { MeterClass::Class05S } else { MeterClass::Class1 }, behind_ct)
        })
        .collect();
    let levels: Vec<f64> =
        meters.iter().map(|m| 350.0 * (0.4 * dice.normal()).exp() * if m.ct_ratio > 1.0 { 4.0 } else { 1.0 }).collect();
    // Late: the last hours of a meter or two have not come yet.
    for _ in 0..(dice.uniform() * 3.0) as usize {
        let late = (dice.uniform() * homes as f64) as usize;
        meters[late].silent_from = days * 96 - (dice.uniform() * 24.0) as usize;
    }
    let mut monitor = ZoneMonitor::new(config);
    let mut balances = vec![];
    for at in 0..days * 96 {
        let (mut total, mut members) = (0.0, vec![]);
        for (home, meter) in meters.iter_mut().enumerate() {
            let evening = if at % 96 > 68 { 1.6 } else { 0.8 };
            let watts = levels[home] * evening * (0.5 + dice.uniform());
            total += watts;
            let id = MemberId::UsagePoint(UsagePointId::new(&format!("U{home}")).expect("id"));
            members.push(MemberSlot { id, meter: meter.slot(dice, at, watts) });
        }
        let supply = total + k0 + k2 * total * total;
        let slot = ZoneSlot {
            zone: config.zone,
            end: Timestamp((at as i64 + 1) * SLOT_SECONDS),
            minutes: 15,
            observer: observer.slot(dice, at, supply),
            members,
        };
        balances.push(monitor.observe(&slot).balance);
    }
    let day = monitor.period(&balances[balances.len() - 96..]).expect("a day");
    day.unaccounted_wh / day.sigma_wh()
}

fn main() {
    let mut dice = Dice::new(2_026);
    let scores: Vec<f64> = (0..DRAWS).map(|_| draw(&mut dice)).collect();
    let covered = scores.iter().filter(|z| z.abs() <= NINETY).count() as f64 / DRAWS as f64;
    let mean = scores.iter().sum::<f64>() / DRAWS as f64;
    let sd = (scores.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / DRAWS as f64).sqrt();
    println!(
        "{DRAWS} draws: the 90 % interval of a day covers {covered:.3} (wanted 0.87 to 0.93); error / sigma: mean {mean:.2}, sd {sd:.2}"
    );
}
