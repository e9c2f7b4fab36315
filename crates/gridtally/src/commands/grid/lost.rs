//! `gridtally grid lost`: loses measurements of known load series and recovers them, from history alone and through the
//! estimator with the feeder's head meter.

use super::{Outcome, print};
use clap::Args;
use grid::folder::read_network;
use grid::lost::Outage;
use grid::lost_study::{LostStudy, StudyOptions, StudyResult, learn};
use grid::model::Model;
use grid::profiles::{LoadSeries, Profiles};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct LostArgs {
    /// Network folder
    dir: PathBuf,
    /// Parquet file with the profiles that loads.csv names; without it the series are synthetic
    #[arg(long)]
    profiles: Option<PathBuf>,
    /// Seed of consumers, first day, losses and meter errors; several are pooled
    #[arg(long = "seed", default_values_t = [1])]
    seeds: Vec<u64>,
    /// Days learned
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u16).range(7..=300))]
    learned: u16,
    /// Days tested after them
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=60))]
    tested: u16,
    /// How far correlations between consumers are shrunk, 0-1
    #[arg(long, default_value_t = 0.05)]
    shrinkage: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const OUTAGES: [(&str, Outage); 5] = [
    ("10 % at random", Outage::Random { share: 0.1 }),
    ("30 % at random", Outage::Random { share: 0.3 }),
    ("concentrator (25 %), 15 minutes", Outage::Concentrator { share: 0.25, slots: 1 }),
    ("concentrator (25 %), 2 hours", Outage::Concentrator { share: 0.25, slots: 8 }),
    ("concentrator (25 %), 24 hours", Outage::Concentrator { share: 0.25, slots: 96 }),
];

pub(super) fn run(args: &LostArgs) -> Outcome {
    let network = read_network(&args.dir)?;
    let model = Model::new(&network)?;
    let profiles = args.profiles.as_ref().map(|path| Profiles::read(path, &network)).transpose()?;
    let learned_days = usize::from(args.learned);
    let days = learned_days + usize::from(args.tested);
    let options = StudyOptions { learned_days, shrinkage: args.shrinkage, ..StudyOptions::default() };
    let mut studies: Vec<LostStudy> = OUTAGES.iter().map(|(_, o)| LostStudy::new(&model, *o, options)).collect();
    for &seed in &args.seeds {
        let series = match &profiles {
            Some(profiles) => profiles.series(&network, days, seed)?,
            None => LoadSeries::synthetic(&network, days, seed),
        };
        let histories = learn(&series, &options)?;
        for study in &mut studies {
            study.add(&series, &histories, seed)?;
        }
    }
    let results: Vec<StudyResult> = studies.iter().map(LostStudy::result).collect();
    if args.json {
        let rows: Vec<Value> =
            OUTAGES.iter().zip(&results).map(|((name, _), result)| json!({"loss": name, "result": result})).collect();
        let object = json!({
            "network": network.name, "seeds": args.seeds, "learned_days": args.learned, "tested_days": args.tested,
            "series": if profiles.is_some() { "profiles" } else { "synthetic" }, "losses": rows,
        });
        return print(&object.to_string());
    }
    print(&table(&results))
}

fn table(results: &[StudyResult]) -> String {
    let mut text = String::from(
        "                                     history alone                                    with the head meter\n\
         loss                               V RMSE pu  sum WAPE  (mean)  90 % one  90 % sum   drop RMSE  sum WAPE  90 % one  90 % sum  90 % V\n",
    );
    for ((name, _), r) in OUTAGES.iter().zip(results) {
        let percent = |x: f64| 100.0 * x;
        text += &format!(
            "{name:<34} {:>9.1e} {:>8.1}% {:>6.1}% {:>8.1}% {:>8.1}% {:>11.1e} {:>8.1}% {:>8.1}% {:>8.1}% {:>6.1}%\n",
            r.voltage_rmse_pu,
            percent(r.sum_wape),
            percent(r.usual_sum_wape),
            percent(r.single_coverage),
            percent(r.sum_coverage),
            r.estimated_drop_rmse_pu,
            percent(r.estimated_sum_wape),
            percent(r.estimated_single_coverage),
            percent(r.estimated_sum_coverage),
            percent(r.estimated_voltage_coverage),
        );
    }
    text.trim_end().to_owned()
}
