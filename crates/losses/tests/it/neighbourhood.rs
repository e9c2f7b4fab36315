//! A synthetic zone for tests: homes with appliances, real meter errors, resistive losses, thieves with known truth. Seeded.
//! Simpler than the simulator of the product on purpose: an independent check of the detector's assumptions.

use losses::{
    alarm::{AlarmChange, AlarmConfig},
    balance::{Flow, MemberId, MemberSlot, MeterClass, MeterSlot, ZoneConfig, ZoneMonitor, ZoneSlot, ZoneVerdict},
    explain::{MemberHistory, ZoneHistory},
};
use metering::{MeterEvent, MeterId, Timestamp, UsagePointId, WattHours, ZoneId};
use rand_pcg::{Pcg64Mcg, rand_core::RngCore};

pub const SLOT_SECONDS: i64 = 900;
/// 2026-01-05, a Monday.
pub const START: Timestamp = Timestamp(1_767_571_200);

pub struct Dice(Pcg64Mcg);

impl Dice {
    pub fn new(seed: u64) -> Self {
        let mut rng = Pcg64Mcg::new(u128::from(seed) << 64 | 0x9e37_79b9_7f4a_7c15);
        for _ in 0..4 {
            rng.next_u64();
        }
        Self(rng)
    }
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (self.uniform().max(1e-12), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Theft {
    /// The meter counts only this share.
    Under(f64),
    /// From 22 to 6 h the meter counts only this share.
    Night(f64),
    /// An unmetered load of a home's shape and this mean, W.
    Tap(f64),
    /// An unmetered constant load, W.
    Constant(f64),
    /// The observer counts only this share.
    Observer(f64),
}

#[derive(Clone, Copy, Debug)]
pub struct Thief {
    pub home: usize,
    pub theft: Theft,
    /// Slots since the start of the world.
    pub from: usize,
    pub until: usize,
}

struct Home {
    mean_w: f64,
    gain: f64,
    clock_s: f64,
    path_ohm: f64,
    /// Appliance in use: remaining slots and power.
    running: Vec<(u32, f64)>,
    away_until: usize,
    register: f64,
    last_w: f64,
    evening: f64,
}

pub struct World {
    pub dice: Dice,
    homes: Vec<Home>,
    tap: Home,
    observer_gain: f64,
    observer_register: f64,
    trunk_ohm: f64,
    pub thieves: Vec<Thief>,
    /// Probability that a slot of a meter is missing.
    pub missing: f64,
    pub vacations: bool,
    slot: usize,
    pub true_loss_wh: f64,
    pub true_stolen_wh: f64,
}

fn home(dice: &mut Dice) -> Home {
    Home {
        mean_w: 342.0 * (0.5 * dice.normal() - 0.125).exp(),
        gain: 1.0 + (0.005 * dice.normal()).clamp(-0.01, 0.01),
        clock_s: 3.0 * dice.normal(),
        path_ohm: 0.04 + 0.1 * dice.uniform(),
        running: vec![],
        away_until: 0,
        register: 1e6 * dice.uniform(),
        last_w: 0.0,
        evening: 17.0 + 3.0 * dice.uniform(),
    }
}

impl Home {
    fn power(&mut self, dice: &mut Dice, slot: usize, vacations: bool) -> f64 {
        let hour = (slot % 96) as f64 / 4.0;
        if vacations && slot % 96 == 40 && self.away_until < slot && dice.chance(0.006) {
            self.away_until = slot + 96 * (2 + (dice.uniform() * 10.0) as usize);
        }
        let base = self.mean_w * 0.3 * (0.8 + 0.4 * dice.uniform());
        if slot < self.away_until {
            self.running.clear();
            return base * 0.8;
        }
        let bump = |at: f64, width: f64| (-((hour - at) / width).powi(2)).exp();
        let activity = 0.15 + 1.2 * bump(self.evening, 2.5) + 0.7 * bump(7.5, 1.5) + 0.4 * bump(13.0, 2.0);
        let season = 1.0 + 0.1 * ((slot / 96) as f64 / 58.0).sin();
        if dice.chance((0.22 * activity).min(0.9)) {
            let power = self.mean_w / 342.0 * (200.0 + 2_000.0 * dice.uniform().powi(3)) * season;
            self.running.push((1 + (dice.uniform() * 5.0) as u32, power));
        }
        let sum: f64 = self.running.iter().map(|(_, w)| w).sum();
        self.running.iter_mut().for_each(|(left, _)| *left -= 1);
        self.running.retain(|(left, _)| *left > 0);
        base + sum
    }

    /// Counts a slot's energy with gain, clock and register step; answers the difference of whole registers.
    fn count(&mut self, dice: &mut Dice, watts: f64) -> u64 {
        let before = self.register.floor();
        let clock = self.clock_s / 3_600.0 * (watts - self.last_w);
        self.last_w = watts;
        let noise = 1.0 + 0.0003 * dice.normal();
        self.register += (watts * 0.25 * self.gain * noise + clock).max(0.0);
        (self.register.floor() - before) as u64
    }
}

impl World {
    pub fn new(seed: u64, homes: usize) -> Self {
        let mut dice = Dice::new(seed);
        let tap = home(&mut dice);
        let all = (0..homes).map(|_| home(&mut dice)).collect();
        let observer_gain = 1.0 + (0.0025 * dice.normal()).clamp(-0.005, 0.005);
        let trunk_ohm = 0.008 + 0.012 * dice.uniform();
        Self {
            dice,
            homes: all,
            tap,
            observer_gain,
            observer_register: 0.0,
            trunk_ohm,
            thieves: vec![],
            missing: 0.0,
            vacations: true,
            slot: 0,
            true_loss_wh: 0.0,
            true_stolen_wh: 0.0,
        }
    }

    /// Makes a home use `factor` times as much.
    pub fn enlarge(&mut self, home: usize, factor: f64) {
        self.homes[home].mean_w *= factor;
    }

    pub fn zone() -> ZoneId {
        ZoneId::new("T-1").expect("id")
    }

    pub fn point(home: usize) -> UsagePointId {
        UsagePointId::new(&format!("U-{home}")).expect("id")
    }

    pub fn monitor(homes: usize, alarm: AlarmConfig) -> ZoneMonitor {
        ZoneMonitor::new(ZoneConfig::usage_points(Self::zone(), homes, alarm))
    }

    pub fn end(slot: usize) -> Timestamp {
        START.plus((slot as i64 + 1) * SLOT_SECONDS)
    }

    pub fn step(&mut self) -> ZoneSlot {
        let slot = self.slot;
        self.slot += 1;
        let hour = slot % 96 / 4;
        let night = !(6..22).contains(&hour);
        let active: Vec<Thief> = self.thieves.iter().copied().filter(|t| (t.from..t.until).contains(&slot)).collect();
        let (mut total, mut losses, mut members) = (0.0, 2.0 * self.homes.len() as f64, vec![]);
        self.true_stolen_wh = 0.0;
        let mut observer_share = 1.0;
        for (index, home) in self.homes.iter_mut().enumerate() {
            let watts = home.power(&mut self.dice, slot, self.vacations);
            let (mut counted, mut drawn) = (watts, watts);
            for thief in active.iter().filter(|t| t.home == index) {
                match thief.theft {
                    Theft::Under(share) => counted = watts * share,
                    Theft::Night(share) if night => counted = watts * share,
                    Theft::Night(_) => {}
                    Theft::Tap(mean) => {
                        let shape = self.tap.power(&mut self.dice, slot, false);
                        drawn += mean / self.tap.mean_w * shape / 1.25;
                    }
                    Theft::Constant(w) => drawn += w,
                    Theft::Observer(share) => observer_share = share,
                }
            }
            self.true_stolen_wh += (drawn - counted) * 0.25;
            total += drawn;
            losses += home.path_ohm * 1.3 * (drawn / 230.0).powi(2);
            let flow = Flow { import_wh: WattHours(home.count(&mut self.dice, counted)), export_wh: WattHours(0) };
            let lost = self.missing > 0.0 && self.dice.chance(self.missing);
            members.push(MemberSlot {
                id: MemberId::UsagePoint(Self::point(index)),
                meter: MeterSlot { flow: (!lost).then_some(flow), ct_ratio: 1.0, class: MeterClass::Class1 },
            });
        }
        losses += self.trunk_ohm * (total / 400.0).powi(2);
        self.true_loss_wh = losses * 0.25;
        let before = self.observer_register.floor();
        let noise = 1.0 + 0.0003 * self.dice.normal();
        self.observer_register += (total + losses) * 0.25 * self.observer_gain * observer_share * noise;
        let flow =
            Flow { import_wh: WattHours((self.observer_register.floor() - before) as u64), export_wh: WattHours(0) };
        ZoneSlot {
            zone: Self::zone(),
            end: Self::end(slot),
            minutes: 15,
            observer: MeterSlot { flow: Some(flow), ct_ratio: 1.0, class: MeterClass::Class05S },
            members,
        }
    }
}

/// A run with everything kept for the explanation.
pub struct Run {
    pub verdicts: Vec<ZoneVerdict>,
    pub slots: Vec<ZoneSlot>,
    pub changes: Vec<(usize, AlarmChange)>,
}

pub fn run(world: &mut World, homes: usize, days: usize, alarm: AlarmConfig) -> Run {
    let mut monitor = World::monitor(homes, alarm);
    let mut run = Run { verdicts: vec![], slots: vec![], changes: vec![] };
    for slot in 0..days * 96 {
        let input = world.step();
        let verdict = monitor.observe(&input);
        if let Some(change) = verdict.change {
            run.changes.push((slot, change));
        }
        run.verdicts.push(verdict);
        run.slots.push(input);
    }
    run
}

impl Run {
    pub fn first_raised(&self) -> Option<(usize, AlarmChange)> {
        self.changes.iter().copied().find(|(_, c)| matches!(c, AlarmChange::Raised { .. }))
    }

    /// The history up to `now` (slots), as the pipeline would read it after an alarm.
    pub fn history(&self, alarm: AlarmChange, now: usize, events: &[(usize, MeterEvent)]) -> ZoneHistory {
        let AlarmChange::Raised { kind, onset, by, .. } = alarm else { panic!("not raised") };
        let members = self.slots[0]
            .members
            .iter()
            .enumerate()
            .map(|(index, member)| MemberHistory {
                id: member.id,
                meter: MeterId::new(&format!("M-{index}")).expect("id"),
                ct_ratio: 1.0,
                class: MeterClass::Class1,
                installed: None,
                slots: self.slots[..now].iter().map(|s| s.members[index].meter.flow).collect(),
                events: events.iter().filter(|(home, _)| *home == index).map(|(_, e)| *e).collect(),
            })
            .collect();
        ZoneHistory {
            zone: World::zone(),
            observer: MeterId::new("OBS-1").expect("id"),
            minutes: 15,
            onset,
            kind,
            by,
            balances: self.verdicts[..now].iter().map(|v| v.balance).collect(),
            members,
            parent: vec![],
        }
    }
}
