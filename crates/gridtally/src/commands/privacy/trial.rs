//! `gridtally privacy theft`: one number per home against the clear model that sees every curve, on the same trials.

use std::process::ExitCode;

use clap::Args;
use metering::Timestamp;
use privacy::{
    draws::Draws,
    noise::{Ratio, laplace},
    query::BalanceSeries,
    theft::{rank, signs},
};
use serde_json::json;
use sim::household::Household;

use super::super::CommandError;

#[derive(Debug, Args)]
pub struct TheftArguments {
    /// Trials
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    trials: u32,
    /// Homes
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(10..=300))]
    homes: u32,
    /// Days
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(7..=31))]
    days: u32,
    /// Share of its use that the thief's meter does not register, percent
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=95))]
    percent: u32,
    /// Noise of the scores with clipped readings, epsilon
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    epsilon: u32,
    /// Seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const CLIP_DAY_WH: i64 = 20_000;
/// ε of the curve: what noise costs a case.
const LEVELS: [u32; 6] = [1, 2, 4, 8, 16, 32];

/// One trial: loads, registered readings, the balance.
struct Trial {
    registered: Vec<Vec<i64>>,
    series: BalanceSeries,
    thief: usize,
}

fn trial(arguments: &TheftArguments, number: u32, draws: &mut Draws) -> Trial {
    let first = 20_514 + i64::from(number % 40) * 7;
    let used: Vec<Vec<i64>> = (0..arguments.homes)
        .map(|home| {
            let household = Household::draw(arguments.seed, u64::from(number * arguments.homes + home));
            let of_day = |d: u32| household.day(Timestamp((first + i64::from(d)) * 86_400));
            let slots = |minutes: Vec<f32>| -> Vec<i64> {
                minutes
                    .chunks(15)
                    .map(|p| (p.iter().map(|w| f64::from(*w)).sum::<f64>() / 60.0).round() as i64)
                    .collect()
            };
            (0..arguments.days).flat_map(|d| slots(of_day(d))).collect()
        })
        .collect();
    let thief = usize::try_from(draws.below(u128::from(arguments.homes))).unwrap_or(0);
    let mut registered = used.clone();
    registered[thief].iter_mut().for_each(|x| *x = *x * i64::from(100 - arguments.percent) / 100);
    let slots = used[0].len();
    let total = |all: &[Vec<i64>], t: usize| -> i64 { all.iter().map(|home| home[t]).sum() };
    // two per cent of loss at 20 kWh a slot, the model wrong by a tenth, the transformer's meter by two in a thousand
    let loss = |sum: i64| sum * sum / 1_000_000;
    let supplied = (0..slots).map(|t| (total(&used, t) + loss(total(&used, t))) * 1_002 / 1_000).collect();
    let metered: Vec<i64> = (0..slots).map(|t| total(&registered, t)).collect();
    let loss = metered.iter().map(|m| loss(*m) * 9 / 10).collect();
    Trial { registered, series: BalanceSeries { supplied, metered, loss }, thief }
}

fn clipped(readings: &[i64]) -> Vec<i64> {
    let of_day = |day: &[i64]| -> Vec<i64> {
        let mut left = CLIP_DAY_WH;
        let clip = |x: &i64| {
            let given = (*x).min(2_000).min(left);
            left -= given;
            given
        };
        day.iter().map(clip).collect()
    };
    readings.chunks(96).flat_map(of_day).collect()
}

/// Ridge regression of the imbalance on every home's curve, daily shape taken off: what a model that sees all would say.
fn ridge(trial: &Trial) -> Vec<f64> {
    let slots = trial.series.supplied.len();
    let demeaned = |x: &dyn Fn(usize) -> f64| -> Vec<f64> {
        let mean = |slot: usize| {
            let of_slot: Vec<f64> = (slot..slots).step_by(96).map(x).collect();
            of_slot.iter().sum::<f64>() / of_slot.len() as f64
        };
        let means: Vec<f64> = (0..96).map(mean).collect();
        (0..slots).map(|t| x(t) - means[t % 96]).collect()
    };
    let s = &trial.series;
    let e = demeaned(&|t| (s.supplied[t] - s.metered[t] - s.loss[t]) as f64);
    let x: Vec<Vec<f64>> = trial.registered.iter().map(|home| demeaned(&|t| home[t] as f64)).collect();
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let n = x.len();
    let mut matrix: Vec<Vec<f64>> = x.iter().map(|a| x.iter().map(|b| dot(a, b)).collect()).collect();
    let mean = (0..n).map(|i| matrix[i][i]).sum::<f64>() / n as f64;
    let mut right: Vec<f64> = x.iter().map(|a| dot(a, &e)).collect();
    for (i, row) in matrix.iter_mut().enumerate() {
        row[i] += mean / 10.0;
    }
    for i in 0..n {
        for r in i + 1..n {
            let factor = matrix[r][i] / matrix[i][i];
            let (above, below) = matrix.split_at_mut(r);
            for (cell, pivot) in below[0][i..].iter_mut().zip(&above[i][i..]) {
                *cell -= factor * pivot;
            }
            right[r] -= factor * right[i];
        }
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|c| matrix[i][c] * right[c]).sum();
        right[i] = (right[i] - known) / matrix[i][i];
    }
    right
}

fn place_of<T: Copy + PartialOrd>(scores: &[T], thief: usize) -> usize {
    scores.iter().filter(|score| **score > scores[thief]).count()
}

/// Lower end of Wilson's interval at 95 % for so many successes.
fn wilson_low(successes: usize, trials: usize) -> f64 {
    let (n, z2) = (trials as f64, 1.96_f64 * 1.96);
    let p = successes as f64 / n;
    (p + z2 / (2.0 * n) - 1.96 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt()) / (1.0 + z2 / n)
}

/// The thief's places by one method in all trials.
struct Method {
    name: String,
    epsilon: Option<u32>,
    places: Vec<usize>,
}

impl Method {
    fn new(name: &str, epsilon: Option<u32>) -> Self {
        Self { name: name.to_owned(), epsilon, places: Vec::new() }
    }

    fn among(&self, first: usize) -> usize {
        self.places.iter().filter(|place| **place < first).count()
    }

    fn share(&self, first: usize) -> f64 {
        self.among(first) as f64 / self.places.len() as f64
    }

    fn to_json(&self) -> serde_json::Value {
        let low = wilson_low(self.among(3), self.places.len());
        json!({"method": self.name, "epsilon": self.epsilon, "top1": self.share(1), "top3": self.share(3), "top3_low": low})
    }
}

/// The masked score exact, the same on clipped readings with the noise asked for, the clear model; then the curve.
fn methods(arguments: &TheftArguments) -> Result<(Vec<Method>, Vec<Method>), CommandError> {
    let mut start = [0; 32];
    start[..8].copy_from_slice(&arguments.seed.to_le_bytes());
    let mut draws = Draws::new(&start);
    let named = [
        ("masked score, exact", None),
        ("masked score, clipped with noise", Some(arguments.epsilon)),
        ("clear model (ridge regression)", None),
    ];
    let mut methods = named.map(|(name, epsilon)| Method::new(name, epsilon));
    let mut curve = LEVELS.map(|level| Method::new("masked score, clipped with noise", Some(level)));
    for number in 0..arguments.trials {
        let trial = trial(arguments, number, &mut draws);
        let signs = signs(&trial.series);
        let score = |home: &[i64]| -> i64 { home.iter().zip(&signs).map(|(x, s)| x * s).sum() };
        let exact: Vec<i64> = trial.registered.iter().map(|home| score(home)).collect();
        let clipped: Vec<i64> = trial.registered.iter().map(|home| score(&clipped(home))).collect();
        methods[0].places.push(rank(&exact).iter().position(|(home, _)| *home == trial.thief).unwrap_or(exact.len()));
        methods[2].places.push(place_of(&ridge(&trial), trial.thief));
        for method in curve.iter_mut().chain([&mut methods[1]]) {
            let scale = Ratio::new(CLIP_DAY_WH.unsigned_abs(), u64::from(method.epsilon.unwrap_or(1)));
            let noisy = |score: &i64| Ok::<i64, CommandError>(score + laplace(&mut draws, scale)?);
            let noisy: Vec<i64> = clipped.iter().map(noisy).collect::<Result<_, _>>()?;
            method.places.push(place_of(&noisy, trial.thief));
        }
    }
    Ok((methods.into(), curve.into()))
}

pub(super) fn run(arguments: &TheftArguments) -> Result<ExitCode, CommandError> {
    let (methods, curve) = methods(arguments)?;
    let rows = |methods: &[Method]| methods.iter().map(Method::to_json).collect::<Vec<_>>();
    if arguments.json {
        println!(
            "{}",
            json!({"trials": arguments.trials, "homes": arguments.homes, "days": arguments.days,
            "percent": arguments.percent, "epsilon": arguments.epsilon, "methods": rows(&methods), "curve": rows(&curve)})
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{} trials, {} homes, {} days, {} % not registered; in brackets the lower end of Wilson's interval at 95 %",
        arguments.trials, arguments.homes, arguments.days, arguments.percent
    );
    for method in methods.iter().chain(&curve) {
        let name = method.epsilon.map_or(method.name.clone(), |epsilon| format!("{}, epsilon {epsilon}", method.name));
        println!(
            "{name:<46} first {:>5.1} %, among three {:>5.1} % ({:.1})",
            100.0 * method.share(1),
            100.0 * method.share(3),
            100.0 * wilson_low(method.among(3), method.places.len())
        );
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_is_wilson() {
        // 190 of 200 and 200 of 200, from the formula's paper by hand
        assert!((wilson_low(190, 200) - 0.9104).abs() < 5e-4, "{}", wilson_low(190, 200));
        assert!((wilson_low(200, 200) - 0.9812).abs() < 5e-4, "{}", wilson_low(200, 200));
        assert!(wilson_low(0, 10).abs() < 1e-9);
    }
}
