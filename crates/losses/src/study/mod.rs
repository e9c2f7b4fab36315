//! Simulated theft campaigns on any feeder: how often is theft seen, and how often is the right usage point named?
//!
//! Everything is drawn from a seed: consumption, wrong impedances, meter errors, gaps, solar homes, a holiday home, a silent meter, and
//! the theft. The noise model is written down in `docs/localisation.md`. Simulated figures say how the method works on a world like
//! this; they are not field precision.

pub mod world;

use grid::network::Network;
use serde::{Deserialize, Serialize};

use crate::localise::{LocaliseError, TheftKind, Verdict, localise};
use crate::pattern::assemble::in_parallel;
use crate::study::world::{Theft, simulate};

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
    /// Share in which the first suspect's kind is right.
    pub kind_right: f64,
    /// Median of estimated / true stolen energy of the first suspect; NaN without theft.
    pub energy_ratio: f64,
}

/// Runs all kinds of theft on the feeder.
pub fn run(network: &Network, options: StudyOptions, threads: usize) -> Result<Vec<StudyRow>, LocaliseError> {
    Theft::ALL.iter().map(|theft| run_kind(network, *theft, options, threads)).collect()
}

struct Outcome {
    alarm: bool,
    top_1: bool,
    top_3: bool,
    kind_right: bool,
    energy_ratio: f64,
}

/// Runs one kind of theft on the feeder.
pub fn run_kind(
    network: &Network,
    theft: Theft,
    options: StudyOptions,
    threads: usize,
) -> Result<StudyRow, LocaliseError> {
    let numbers: Vec<u64> = (0..options.trials as u64).collect();
    let outcomes = in_parallel(&numbers, threads, |number| {
        let seed = options.seed.wrapping_mul(1_000_003).wrapping_add(theft as u64 * 10_007).wrapping_add(*number);
        let (trial, truth) = simulate(network, theft, options.days, seed)?;
        let verdict = localise(network, &trial, None)?;
        Ok(judge(&verdict, theft, &truth.usage_points, truth.stolen_wh))
    });
    let outcomes: Vec<Outcome> = outcomes.into_iter().collect::<Result<_, LocaliseError>>()?;
    let share =
        |test: fn(&Outcome) -> bool| outcomes.iter().filter(|o| test(o)).count() as f64 / outcomes.len().max(1) as f64;
    let ratios: Vec<f64> = outcomes.iter().map(|o| o.energy_ratio).collect();
    Ok(StudyRow {
        theft: theft.name().to_owned(),
        trials: outcomes.len(),
        alarm: share(|o| o.alarm),
        top_1: share(|o| o.top_1),
        top_3: share(|o| o.top_3),
        kind_right: share(|o| o.kind_right),
        energy_ratio: crate::pattern::statistics::median(&ratios),
    })
}

fn judge(verdict: &Verdict, theft: Theft, guilty: &[u32], stolen_wh: f64) -> Outcome {
    let named: Vec<u32> = verdict.suspects.iter().map(|s| s.usage_point).collect();
    let first_three = &named[..named.len().min(3)];
    let first = verdict.suspects.first();
    Outcome {
        alarm: verdict.alarm,
        top_1: named.first().is_some_and(|n| guilty.contains(n)),
        top_3: if theft.all_must_be_named() {
            guilty.iter().all(|g| first_three.contains(g))
        } else {
            first_three.iter().any(|n| guilty.contains(n))
        },
        kind_right: match theft.kind() {
            Some(kind) => first.is_some_and(|s| s.kind == kind),
            None => !verdict.alarm,
        },
        energy_ratio: match theft.kind() {
            Some(TheftKind::TapConstant) | None => f64::NAN,
            Some(_) => first.map_or(f64::NAN, |s| s.estimated_wh / stolen_wh),
        },
    }
}
