//! Known thefts written into copies of real records.
//!
//! The tampering functions are the published ones (Jokar et al. 2016, Punmiya & Choe 2019, and a second feed, a ramp and
//! spells beside them). Uses: the unsupervised mode, which learns to tell a copy with theft from the record as it is and so
//! needs no inspection results; and canaries, which show what the live detection would see. A score won on canaries is
//! never field precision.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::RngCore as _;
use rand_pcg::rand_core::SeedableRng as _;

use crate::pattern::statistics::mean;

/// How readings are falsified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tampering {
    /// A fixed share is counted.
    Scale,
    /// A fixed load runs past the meter.
    Subtract,
    /// Spells in which little or nothing is counted.
    Spells,
    /// The counted share falls slowly.
    Ramp,
    /// Another share every day.
    RandomScale,
    /// A random share of the mean instead of the reading.
    RandomMean,
    /// The mean instead of the reading.
    FlatMean,
    /// Readings of 28 days in reverse order: energy neutral.
    Reverse,
}

/// All kinds with the shares in which they are drawn.
pub const KINDS: [(Tampering, f64); 8] = [
    (Tampering::Scale, 0.28),
    (Tampering::Subtract, 0.18),
    (Tampering::Spells, 0.14),
    (Tampering::Ramp, 0.14),
    (Tampering::RandomScale, 0.10),
    (Tampering::RandomMean, 0.06),
    (Tampering::FlatMean, 0.04),
    (Tampering::Reverse, 0.06),
];

/// A source of randomness from a seed; the same seed gives the same draws on every machine.
pub struct Dice(Pcg64Mcg);

impl Dice {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform in 0..below; 0 when `below` is 0.
    pub fn below(&mut self, below: usize) -> usize {
        ((self.unit() * below as f64) as usize).min(below.saturating_sub(1))
    }

    /// Standard normal (Box–Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// Draws a kind by its share.
pub fn draw_kind(dice: &mut Dice) -> Tampering {
    let mut left = dice.unit();
    for (kind, share) in KINDS {
        if left < share {
            return kind;
        }
        left -= share;
    }
    Tampering::Scale
}

/// A record with theft written into it.
#[derive(Debug, Clone, PartialEq)]
pub struct Canary {
    /// The falsified daily kWh; gaps stay gaps.
    pub kwh: Vec<f64>,
    /// Energy no longer counted, in kWh.
    pub stolen_kwh: f64,
    /// First falsified day.
    pub onset: usize,
}

/// Writes a theft of `kind` into a copy of `kwh`: a quarter from the first day, the others from 10–85 % of the record.
pub fn tamper(kwh: &[f64], kind: Tampering, dice: &mut Dice) -> Canary {
    let first = kwh.iter().position(|v| !v.is_nan()).unwrap_or(0);
    let last = kwh.iter().rposition(|v| !v.is_nan()).unwrap_or(0);
    let span = last + 1 - first;
    let onset = if dice.unit() < 0.25 { first } else { first + (dice.between(0.10, 0.85) * span as f64) as usize };
    let mut falsified = kwh.to_vec();
    falsify(&mut falsified[onset..=last.max(onset)], kind, 1, dice);
    let stolen_kwh = kwh.iter().zip(&falsified).map(|(a, b)| a - b).filter(|d| !d.is_nan()).sum::<f64>();
    Canary { kwh: falsified, stolen_kwh, onset }
}

/// Writes a theft of `kind` into all of `after` (kWh per slot, `slots_per_day` of them a day; gaps stay gaps).
pub fn falsify(after: &mut [f64], kind: Tampering, slots_per_day: usize, dice: &mut Dice) {
    let level = mean(after).max(0.0);
    let day = slots_per_day.max(1);
    match kind {
        Tampering::Scale => {
            let share = dice.between(0.1, 0.8);
            after.iter_mut().for_each(|v| *v *= share);
        }
        Tampering::Subtract => {
            let amount = dice.between(0.3, 0.9) * level;
            after.iter_mut().for_each(|v| *v = (*v - amount).max(0.03 * *v));
        }
        Tampering::Spells => spells(after, day, dice),
        Tampering::Ramp => {
            let floor = dice.between(0.2, 0.7);
            let length = after.len().max(2) as f64 - 1.0;
            for (t, v) in after.iter_mut().enumerate() {
                *v *= 1.0 - (1.0 - floor) * t as f64 / length;
            }
        }
        Tampering::RandomScale => after.chunks_mut(day).for_each(|slots| {
            let share = dice.between(0.1, 0.8);
            slots.iter_mut().for_each(|v| *v *= share);
        }),
        Tampering::RandomMean => after.iter_mut().for_each(|v| replace(v, dice.between(0.1, 0.8) * level)),
        Tampering::FlatMean => {
            let share = dice.between(0.4, 1.0);
            after.iter_mut().for_each(|v| replace(v, share * level));
        }
        Tampering::Reverse => after.chunks_exact_mut(28 * day).for_each(<[f64]>::reverse),
    }
}

fn replace(value: &mut f64, by: f64) {
    if !value.is_nan() {
        *value = by;
    }
}

fn spells(after: &mut [f64], slots_per_day: usize, dice: &mut Dice) {
    let share = [0.0, 0.1, 0.3][dice.below(3)];
    let mut slot = 0;
    while slot < after.len() {
        let length = (3 + dice.below(28)) * slots_per_day;
        let pause = (5 + dice.below(40)) * slots_per_day;
        let end = (slot + length).min(after.len());
        after[slot..end].iter_mut().for_each(|v| *v *= share);
        slot = end + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_is_taken_and_gaps_stay() {
        let mut kwh: Vec<f64> = (0..500).map(|t| 8.0 + (t % 7) as f64).collect();
        kwh[123] = f64::NAN;
        for (kind, _) in KINDS {
            let canary = tamper(&kwh, kind, &mut Dice::new(7));
            assert!(canary.kwh[123].is_nan() || kind == Tampering::Reverse, "{kind:?}");
            assert_eq!(canary.kwh[..canary.onset.min(100)], kwh[..canary.onset.min(100)]);
            if kind != Tampering::Reverse && kind != Tampering::FlatMean {
                assert!(canary.stolen_kwh > 0.0, "{kind:?} stole {}", canary.stolen_kwh);
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_theft() {
        let kwh = vec![5.0; 300];
        let twice = [0, 1].map(|_| tamper(&kwh, Tampering::RandomScale, &mut Dice::new(3)));
        assert_eq!(twice[0], twice[1]);
        assert_ne!(twice[0], tamper(&kwh, Tampering::RandomScale, &mut Dice::new(4)));
    }
}
