//! `gridtally losses localise` and `study`: one feeder's answer, and how often such answers are right.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use losses::localise::{Trial, localise};
use losses::study::{self, StudyOptions};
use serde_json::json;

use super::{print_json, threads};

/// Arguments of `losses localise`.
#[derive(Debug, clap::Args)]
pub struct LocaliseArguments {
    /// Network folder.
    #[arg(long)]
    network: PathBuf,
    /// Folder with readings.parquet, observer.parquet and meta.json.
    #[arg(long)]
    trial: PathBuf,
    /// Use only the first so many days.
    #[arg(long)]
    days: Option<usize>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Arguments of `losses study`.
#[derive(Debug, clap::Args)]
pub struct StudyArguments {
    /// Network folder.
    #[arg(long)]
    network: PathBuf,
    /// Trials of each of the eight kinds.
    #[arg(long, default_value_t = 10)]
    trials: usize,
    /// Days of each trial.
    #[arg(long, default_value_t = 30)]
    days: usize,
    /// Seed of the simulation.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Localises theft in one trial folder.
pub fn find(arguments: &LocaliseArguments) -> Result<(), Box<dyn Error>> {
    let network = grid::folder::read_network(&arguments.network)?;
    let trial = Trial::read(&arguments.trial)?;
    let verdict = localise(&network, &trial, arguments.days)?;
    if arguments.json {
        return print_json(&serde_json::to_value(&verdict)?);
    }
    eprintln!("{} (p = {:.2e})", if verdict.alarm { "energy is missing" } else { "no theft seen" }, verdict.p_value);
    for suspect in &verdict.suspects {
        eprintln!(
            "  {:>6}  {:<20} {:>9.2}  {:>9.1} kWh  {}",
            suspect.usage_point,
            suspect.kind.name(),
            suspect.score,
            suspect.estimated_wh / 1_000.0,
            suspect.reason
        );
    }
    Ok(())
}

/// Runs simulated campaigns and prints the table.
pub fn study(arguments: &StudyArguments) -> Result<(), Box<dyn Error>> {
    let network = grid::folder::read_network(&arguments.network)?;
    let options = StudyOptions { trials: arguments.trials, days: arguments.days, seed: arguments.seed };
    let started = Instant::now();
    let table = study::run(&network, options, threads())?;
    let seconds = started.elapsed().as_secs_f64();
    let named: usize = table.iter().map(|row| row.look_alikes_named).sum();
    if arguments.json {
        return print_json(&json!({
            "network": network.name,
            "days": arguments.days,
            "seed": arguments.seed,
            "seconds": seconds,
            "kinds": table,
            "look_alikes_named": named,
        }));
    }
    eprintln!(
        "{}, {} days, seed {}: {} trials in {seconds:.0} s; oracle: true impedances, kind and a tap's power known",
        network.name,
        arguments.days,
        arguments.seed,
        table.iter().map(|row| row.trials).sum::<usize>()
    );
    eprintln!(
        "{:<24} {:>6} {:>6} {:>8} {:>6} {:>6} {:>13} {:>7}",
        "theft", "trials", "alarm", "kind ok", "top-1", "top-3", "oracle 1/3", "energy"
    );
    for row in &table {
        let oracle = format!("{:.2}/{:.2}", row.oracle_top_1, row.oracle_top_3);
        eprintln!(
            "{:<24} {:>6} {:>6.2} {:>8.2} {:>6.2} {:>6.2} {:>13} {:>7.2}",
            row.theft, row.trials, row.alarm, row.kind_right, row.top_1, row.top_3, oracle, row.energy_ratio
        );
    }
    eprintln!("named holiday or solar homes: {named}");
    Ok(())
}
