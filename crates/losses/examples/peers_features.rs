//! Exports the features of the benchmark as a table and prints our trees' figures on the same folds, for the comparison
//! with another trainer: `peers_features DATA_DIR OUT.csv own|zones`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use losses::pattern::assemble::{assemble, names};
use losses::pattern::features::Background;
use losses::pattern::metrics::Metrics;
use losses::pattern::population::Population;
use losses::pattern::trees::{Settings, Target, Trees};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, data, out, mode] = arguments.as_slice() else {
        return Err("usage: peers_features DATA_DIR OUT.csv own|zones".into());
    };
    let data = Path::new(data);
    let with_zones = mode == "zones";
    let zones = data.join("lcl_transformers_train.parquet");
    let population = Population::read(
        &data.join("lcl_theft_train.parquet"),
        with_zones.then_some(zones.as_path()),
        Some(&data.join("lcl_weather_daily.parquet")),
        None,
    )?;
    let everyone: Vec<usize> = (0..population.customers.len()).collect();
    let background = Background::new(population.seasonal_curve(&everyone, 2), population.temperature_c.clone());
    let rows = assemble(&population, &background, with_zones, 2)?.rows;
    let mut fold = vec![0; everyone.len()];
    for (place, (_, members)) in population.by_transformer().into_iter().enumerate() {
        members.into_iter().for_each(|i| fold[i] = place % 5);
    }
    let labels: Vec<bool> = population.customers.iter().map(|c| c.label == Some(true)).collect();
    let target: Vec<f64> = labels.iter().map(|l| f64::from(u8::from(*l))).collect();
    let mut table = format!("fold,label,{}\n", names(with_zones).join(","));
    for &i in &everyone {
        write!(table, "{},{}", fold[i], target[i])?;
        for value in rows.row(i) {
            if value.is_finite() { write!(table, ",{value}")? } else { table.push_str(",nan") }
        }
        table.push('\n');
    }
    std::fs::write(out, table)?;
    let mut scores = vec![0.0; everyone.len()];
    let (mut fit_seconds, mut predict_seconds) = (0.0, 0.0);
    for part in 0..5 {
        let (test, train): (Vec<usize>, Vec<usize>) = everyone.iter().partition(|i| fold[**i] == part);
        let outcomes: Vec<f64> = train.iter().map(|&i| target[i]).collect();
        let (train, tested) = (rows.pick(&train), rows.pick(&test));
        let started = Instant::now();
        let trees =
            Trees::fit(&train, &outcomes, &vec![1.0; outcomes.len()], Target::LogOdds, &Settings::default(), 1)?;
        fit_seconds += started.elapsed().as_secs_f64();
        let started = Instant::now();
        let predicted = trees.predict(&tested);
        predict_seconds += started.elapsed().as_secs_f64();
        test.iter().zip(predicted).for_each(|(&i, p)| scores[i] = p);
    }
    let metrics = Metrics::measure(&scores, &labels, None);
    println!(
        "{{\"auc\":{},\"ap\":{},\"fit_seconds\":{},\"predict_per_second\":{}}}",
        metrics.auc,
        metrics.ap,
        fit_seconds / 5.0,
        everyone.len() as f64 / predict_seconds
    );
    Ok(())
}
