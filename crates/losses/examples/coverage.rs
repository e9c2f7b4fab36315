//! How often does the 90 % interval of unaccounted energy hold the truth, over an hour and over a day, and where do the errors come
//! from? The world: `tests/coverage_world`.
//!
//! `cargo run --release -p losses --example coverage [DRAWS]`
#![allow(clippy::print_stdout)]

#[path = "../tests/it/coverage_world.rs"]
mod coverage_world;
#[path = "../tests/it/neighbourhood.rs"]
#[allow(dead_code)]
mod neighbourhood;

use coverage_world::{Outcome, Source, WATCHED, covered, draw, score};
use losses::balance::EnergyBalance;
use neighbourhood::Dice;

fn main() {
    let draws: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1_000);
    for seed in [2_026, 1, 2] {
        let mut dice = Dice::new(seed);
        let outcomes: Vec<Outcome> = (0..draws).map(|_| draw(&mut dice, &Source::ALL)).collect();
        println!("seed {seed}; the 90 % intervals shall cover 0.87 to 0.93");
        strata(&outcomes);
    }
    println!("\nroot mean square in thousandths of the supplied energy: errors made, deviations claimed");
    parts("all", &Source::ALL, draws);
    for source in Source::ALL {
        parts(&format!("{source:?} alone"), &[source], draws / 2);
    }
    let mut dice = Dice::new(2_026);
    let sources: Vec<Source> = Source::ALL.into_iter().chain([Source::Phases]).collect();
    println!("\nwith uneven phases, of which the model of the loss knows nothing");
    strata(&(0..draws).map(|_| draw(&mut dice, &sources)).collect::<Vec<_>>());
}

fn strata(outcomes: &[Outcome]) {
    line("all", &outcomes.iter().collect::<Vec<_>>());
    for late in 0..3 {
        line(&format!("  {late} meters late"), &outcomes.iter().filter(|o| o.late == late).collect::<Vec<_>>());
    }
    for days in WATCHED {
        line(&format!("  watched for {days} days"), &outcomes.iter().filter(|o| o.days == days).collect::<Vec<_>>());
    }
}

fn line(what: &str, outcomes: &[&Outcome]) {
    let spread = |of: fn(&Outcome) -> EnergyBalance| {
        let scores: Vec<f64> = outcomes.iter().map(|o| score(&of(o))).collect();
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        let sd = (scores.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / scores.len() as f64).sqrt();
        format!("mean {mean:>5.2}, sd {sd:.2}")
    };
    println!(
        "{what:<22} {:>5} draws: hour {:.3} covered (error / sigma: {}), day {:.3} ({})",
        outcomes.len(),
        covered(outcomes.iter().map(|o| &o.hour)),
        spread(|o| o.hour),
        covered(outcomes.iter().map(|o| &o.day)),
        spread(|o| o.day)
    );
}

/// Errors made with some sources of error, and what the balance claims.
fn parts(what: &str, sources: &[Source], draws: usize) {
    let mut dice = Dice::new(7);
    let outcomes: Vec<Outcome> = (0..draws).map(|_| draw(&mut dice, sources)).collect();
    for (name, days) in [("1 day", 1..=1), ("2 to 7", 2..=7), ("longer", 8..=99)] {
        let chosen: Vec<&Outcome> = outcomes.iter().filter(|o| days.contains(&o.days)).collect();
        let root = |of: &dyn Fn(&Outcome) -> f64| {
            1_000.0 * (chosen.iter().map(|o| of(o).powi(2)).sum::<f64>() / chosen.len() as f64).sqrt()
        };
        println!(
            "{what:<16} {name:<7} hour: {:>6.2} made, {:>6.2} random, {:>6.2} systematic; day: {:>6.2} made, {:>6.2}, {:>6.2}",
            root(&|o| o.hour.unaccounted_wh / o.hour.supplied_wh),
            root(&|o| o.hour.sigma_random_wh / o.hour.supplied_wh),
            root(&|o| o.hour.sigma_systematic_wh / o.hour.supplied_wh),
            root(&|o| o.day.unaccounted_wh / o.day.supplied_wh),
            root(&|o| o.day.sigma_random_wh / o.day.supplied_wh),
            root(&|o| o.day.sigma_systematic_wh / o.day.supplied_wh)
        );
    }
}
