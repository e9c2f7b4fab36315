//! `gridtally losses …`: train and use pattern models, localise theft on a feeder, study how well that works.
//!
//! With `--json` exactly one JSON object goes to standard output; everything meant for eyes goes to standard error.

mod localisation;

use std::error::Error;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use losses::pattern::model::{Options, PatternModel};
use losses::pattern::population::{Population, Portions};
use serde_json::{Value, json};

pub use localisation::{LocaliseArguments, StudyArguments};

/// Population stability index above which a model should be trained again.
const DRIFT_LIMIT: f64 = 0.25;
/// Most customers scored together; bounds the memory.
const SCORED_TOGETHER: usize = 20_000;

/// Finding stolen energy.
#[derive(Debug, clap::Subcommand)]
pub enum LossesCommand {
    /// Train a pattern model on customers, of whom some were inspected, and write it to a file.
    Train(TrainArguments),
    /// Score customers with a pattern model.
    Score(ScoreArguments),
    /// Find who or what takes unmetered energy on one feeder, from its meters and the meter at the transformer.
    Localise(LocaliseArguments),
    /// Simulate thefts on a network and show how often they are found, by kind.
    Study(StudyArguments),
    /// Compute every number of a case's evidence again from stored readings; fails when one differs.
    Explain(super::case_evidence::ExplainArguments),
    /// Write the evidence of a case to a JSON or PDF file.
    Export(super::case_evidence::ExportArguments),
}

/// Arguments of `losses train`.
#[derive(Debug, clap::Args)]
pub struct TrainArguments {
    /// Customers: Parquet with id, transformer, label (1 = theft found, 0 = inspected and honest, empty = not inspected), kwh (list of
    /// daily readings) and perhaps selection (why it was inspected: random or targeted).
    #[arg(long)]
    customers: PathBuf,
    /// Observer meters: Parquet with transformer and kwh.
    #[arg(long)]
    zones: Option<PathBuf>,
    /// Weather: Parquet with temperatureMax and temperatureMin, one row per day.
    #[arg(long)]
    weather: Option<PathBuf>,
    /// Known thefts: Parquet with id and stolen_kwh. By default FILE_details.parquet beside the customers' FILE, where it exists.
    #[arg(long)]
    details: Option<PathBuf>,
    /// Where to write the model.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Measure by cross-validation with so many folds, grouped by transformer.
    #[arg(long, default_value_t = 0)]
    cv: usize,
    /// Seed of everything random; the same seed and data give the same model.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Use no labels: learn from known thefts written into copies of the customers' own records.
    #[arg(long)]
    unsupervised: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Arguments of `losses score`.
#[derive(Debug, clap::Args)]
pub struct ScoreArguments {
    /// The model file.
    #[arg(long)]
    model: PathBuf,
    /// Customers, as for `train`, without labels.
    #[arg(long)]
    customers: PathBuf,
    /// Observer meters.
    #[arg(long)]
    zones: Option<PathBuf>,
    /// Weather.
    #[arg(long)]
    weather: Option<PathBuf>,
    /// Where to write the scores (CSV: id, score, expected_kwh, reason).
    #[arg(long)]
    out: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs one of the commands.
pub fn run(command: LossesCommand) -> Result<(), Box<dyn Error>> {
    match command {
        LossesCommand::Train(arguments) => train(&arguments),
        LossesCommand::Score(arguments) => score(&arguments),
        LossesCommand::Localise(arguments) => localisation::find(&arguments),
        LossesCommand::Study(arguments) => localisation::study(&arguments),
        LossesCommand::Explain(_) | LossesCommand::Export(_) => Err("this command reads a data directory".into()),
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn print_json(value: &Value) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// `x/customers.parquet` → `x/customers_details.parquet`, if that exists.
fn details_beside(customers: &Path) -> Option<PathBuf> {
    let stem = customers.file_stem()?.to_str()?;
    let beside = customers.with_file_name(format!("{stem}_details.parquet"));
    beside.is_file().then_some(beside)
}

fn train(arguments: &TrainArguments) -> Result<(), Box<dyn Error>> {
    if arguments.out.is_none() && arguments.cv < 2 {
        return Err("nothing to do: give --out MODEL to keep the model, --cv 5 to measure it, or both".into());
    }
    let started = Instant::now();
    let details = arguments.details.clone().or_else(|| details_beside(&arguments.customers));
    let (zones, weather) = (arguments.zones.as_deref(), arguments.weather.as_deref());
    let population = Population::read(&arguments.customers, zones, weather, details.as_deref())?;
    let read_seconds = started.elapsed().as_secs_f64();
    eprintln!("read {} customers, {} days, in {read_seconds:.1} s", population.customers.len(), population.days);
    let options = Options {
        seed: arguments.seed,
        folds: arguments.cv,
        threads: threads(),
        without_labels: arguments.unsupervised,
    };
    let started = Instant::now();
    let model = PatternModel::train(&population, options)?;
    let train_seconds = started.elapsed().as_secs_f64();
    if let Some(out) = &arguments.out {
        fs::write(out, model.to_json()?).map_err(|e| format!("cannot write {}: {e}", out.display()))?;
    }
    let metrics = model.cross_validation.as_ref().map(|cv| &cv.metrics);
    if arguments.json {
        return print_json(&json!({
            "customers": model.customers,
            "labelled": model.labelled,
            "thieves": model.thieves,
            "days": population.days,
            "with_zones": model.with_zones,
            "seed": model.seed,
            "data_hash": model.data_hash,
            "auc": metrics.map(|m| m.auc),
            "ap": metrics.map(|m| m.ap),
            "map_at_100": metrics.map(|m| m.map_100),
            "precision_at_1_percent_fpr": metrics.map(|m| m.precision_at_1_percent_fpr),
            "recall_at_1_percent_fpr": metrics.map(|m| m.recall_at_1_percent_fpr),
            "kwh_at_5_percent": metrics.and_then(|m| m.kwh_at_5_percent),
            "cross_validation": model.cross_validation,
            "read_seconds": read_seconds,
            "train_seconds": train_seconds,
            "model": arguments.out,
        }));
    }
    if let Some(m) = metrics {
        eprintln!(
            "cross-validation, {} folds: AUC {:.3}  AP {:.3}  precision at 1 % false positives {:.2}  kWh in the first 5 % {}",
            arguments.cv,
            m.auc,
            m.ap,
            m.precision_at_1_percent_fpr,
            m.kwh_at_5_percent.map_or("not known".to_owned(), |k| format!("{k:.2}")),
        );
    }
    eprintln!("trained in {train_seconds:.1} s");
    Ok(())
}

fn score(arguments: &ScoreArguments) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(&arguments.model)
        .map_err(|e| format!("cannot read the model {}: {e}", arguments.model.display()))?;
    let model = PatternModel::from_json(&text)?;
    model.needs_zones(arguments.zones.is_some())?;
    let (zones, weather) = (arguments.zones.as_deref(), arguments.weather.as_deref());
    let started = Instant::now();
    let mut portions = Portions::open(&arguments.customers, zones, weather, SCORED_TOGETHER)?;
    let mut watch = model.drift_watch();
    let cannot_write = |e| format!("cannot write {}: {e}", arguments.out.display());
    // Beside it until it is whole: a run that fails leaves the scores of the last one.
    let mut unfinished = arguments.out.clone().into_os_string();
    unfinished.push(".unfinished");
    let mut csv = BufWriter::new(fs::File::create(&unfinished).map_err(cannot_write)?);
    csv.write_all(b"id,score,expected_kwh,reason\n").map_err(cannot_write)?;
    let mut customers = 0u32;
    while let Some(population) = portions.next_portion()? {
        for row in model.score_portion(&population, threads(), &mut watch)? {
            let (id, reason) = (quoted(&row.id), quoted(&row.reason));
            writeln!(csv, "{id},{:.9},{:.3},{reason}", row.score, row.expected_kwh).map_err(cannot_write)?;
            customers += 1;
        }
    }
    csv.flush().map_err(cannot_write)?;
    fs::rename(&unfinished, &arguments.out).map_err(cannot_write)?;
    let seconds = started.elapsed().as_secs_f64();
    let drift = watch.drift();
    for quantity in drift.iter().filter(|d| d.stability_index > DRIFT_LIMIT) {
        eprintln!(
            "the population has drifted from the training in \"{}\" (stability index {:.2}); train again",
            quantity.quantity, quantity.stability_index
        );
    }
    if arguments.json {
        return print_json(&json!({
            "customers": customers,
            "seconds": seconds,
            "customers_per_second": f64::from(customers) / seconds,
            "drift": drift,
            "out": arguments.out,
        }));
    }
    eprintln!("read and scored {customers} customers in {seconds:.2} s ({:.0}/s)", f64::from(customers) / seconds);
    Ok(())
}

/// A CSV field; quoted when it must be.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
