//! Simulated theft campaigns on any feeder: how often is theft seen, and how often is the right usage point named?
//!
//! Everything is drawn from a seed: consumption, wrong impedances, meter errors, gaps, solar homes, a holiday home, a silent meter, and
//! the theft. The noise model is written down in `docs/localisation.md`. Simulated figures say how the method works on a world like
//! this; they are not field precision.

pub mod world;

use grid::network::Network;
use serde::{Deserialize, Serialize};

use crate::localise::{Known, LocaliseError, TheftKind, Verdict, localise, oracle};
use crate::pattern::assemble::in_parallel;
use crate::study::world::{Theft, Truth, simulate};

/// How to run a study.
#[derive(Debug, Clone, Copy)]
pub struct StudyOptions {
    /// Trials of each kind of theft.
    pub trials: usize,
    /// Days of each trial.
    pub days: usize,
    /// Seed of everything.
    pub seed: u64,
}

/// Result of all trials of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyRow {
    /// Kind of theft and its size.
    pub theft: String,
    /// Trials.
    pub trials: usize,
    /// Share with an alarm (of honest feeders: false alarms).
    pub alarm: f64,
    /// Share in which the first suspect is right.
    pub top_1: f64,
    /// Share in which the first three hold the right one (two thieves: both).
    pub top_3: f64,
    /// The same of an oracle that knows the true impedances, the kind of theft, and of a tap its power in every slot. It is as good
    /// as the readings allow; 0 where there is nothing to place.
    pub oracle_top_1: f64,
    /// Its first three.
    pub oracle_top_3: f64,
    /// Share in which the first suspect's kind is right.
    pub kind_right: f64,
    /// Median of estimated / true stolen energy (of two thieves: both); NaN without theft.
    pub energy_ratio: f64,
    /// Trials with an alarm whose first suspect is an honest home on holiday or with solar.
    pub look_alikes_named: usize,
}

/// Runs all kinds of theft on the feeder.
pub fn run(network: &Network, options: StudyOptions, threads: usize) -> Result<Vec<StudyRow>, LocaliseError> {
    run_kinds(network, &Theft::ALL, options, threads)
}

struct Outcome {
    theft: Theft,
    alarm: bool,
    places: Places,
    oracle: Places,
    kind_right: bool,
    energy_ratio: f64,
    look_alike_named: bool,
}

/// Whether the first, and the first three, are right.
#[derive(Default)]
struct Places {
    top_1: bool,
    top_3: bool,
}

/// Runs some kinds of theft on the feeder, all trials side by side on the threads.
pub fn run_kinds(
    network: &Network,
    thefts: &[Theft],
    options: StudyOptions,
    threads: usize,
) -> Result<Vec<StudyRow>, LocaliseError> {
    // Trial by trial, so that every thread gets some of each kind: they do not take the same time.
    let trials: Vec<(Theft, u64)> =
        (0..options.trials as u64).flat_map(|number| thefts.iter().map(move |theft| (*theft, number))).collect();
    let outcomes = in_parallel(&trials, threads, |(theft, number)| {
        let seed = options.seed.wrapping_mul(1_000_003).wrapping_add(*theft as u64 * 10_007).wrapping_add(*number);
        let (trial, truth) = simulate(network, *theft, options.days, seed)?;
        let verdict = localise(network, &trial, None)?;
        let known = match theft.kind() {
            Some(TheftKind::TapVarying) => Some(Known::Tap(&truth.tap_w)),
            Some(kind @ (TheftKind::UnderRegistration | TheftKind::NightBypass)) => Some(Known::Kind(kind)),
            Some(TheftKind::TapConstant) | None => None,
        };
        let best = known.map(|known| oracle(&truth.network, &trial, known)).transpose()?.unwrap_or_default();
        Ok(judge(&verdict, *theft, &truth, &best))
    });
    let outcomes: Vec<Outcome> = outcomes.into_iter().collect::<Result<_, LocaliseError>>()?;
    Ok(thefts.iter().map(|theft| row(*theft, outcomes.iter().filter(|o| o.theft == *theft).collect())).collect())
}

fn row(theft: Theft, outcomes: Vec<&Outcome>) -> StudyRow {
    let share =
        |test: fn(&Outcome) -> bool| outcomes.iter().filter(|o| test(o)).count() as f64 / outcomes.len().max(1) as f64;
    let ratios: Vec<f64> = outcomes.iter().map(|o| o.energy_ratio).collect();
    StudyRow {
        theft: theft.name().to_owned(),
        trials: outcomes.len(),
        alarm: share(|o| o.alarm),
        top_1: share(|o| o.places.top_1),
        top_3: share(|o| o.places.top_3),
        oracle_top_1: share(|o| o.oracle.top_1),
        oracle_top_3: share(|o| o.oracle.top_3),
        kind_right: share(|o| o.kind_right),
        energy_ratio: crate::pattern::statistics::median(&ratios),
        look_alikes_named: outcomes.iter().filter(|o| o.look_alike_named).count(),
    }
}

fn placed(named: &[u32], theft: Theft, guilty: &[u32]) -> Places {
    let first_three = &named[..named.len().min(3)];
    Places {
        top_1: named.first().is_some_and(|n| guilty.contains(n)),
        top_3: if theft.all_must_be_named() {
            guilty.iter().all(|g| first_three.contains(g))
        } else {
            first_three.iter().any(|n| guilty.contains(n))
        },
    }
}

fn judge(verdict: &Verdict, theft: Theft, truth: &Truth, oracle: &[u32]) -> Outcome {
    let named: Vec<u32> = verdict.suspects.iter().map(|s| s.usage_point).collect();
    let first = verdict.suspects.first();
    let localisable = theft.kind().is_some_and(|k| k != TheftKind::TapConstant);
    Outcome {
        theft,
        alarm: verdict.alarm,
        places: placed(&named, theft, &truth.usage_points),
        oracle: if localisable { placed(oracle, theft, &truth.usage_points) } else { Places::default() },
        kind_right: match theft.kind() {
            Some(kind) => first.is_some_and(|s| s.kind == kind),
            None => !verdict.alarm,
        },
        energy_ratio: match theft.kind() {
            Some(TheftKind::TapConstant) | None => f64::NAN,
            // Two thieves: what the first two are held for together.
            Some(_) if first.is_none() => f64::NAN,
            Some(kind) => {
                let thieves = if kind == TheftKind::TapVarying { 1 } else { truth.usage_points.len() };
                verdict.suspects.iter().take(thieves).map(|s| s.estimated_wh).sum::<f64>() / truth.stolen_wh
            }
        },
        // A constant tap's suspects are named as "not localisable", which accuses nobody.
        look_alike_named: verdict.alarm
            && first.is_some_and(|s| s.kind != TheftKind::TapConstant && truth.look_alikes.contains(&s.usage_point)),
    }
}
