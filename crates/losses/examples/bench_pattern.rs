//! Speed of the pattern model on generated customers: `bench_pattern CUSTOMERS [zones]`.
//!
//! A model is trained on 2,000 generated customers (828 days, transformers of 40, a tenth steal), written, read back (timed), and then
//! scores CUSTOMERS in batches of 20,000, as a nightly run over a large utility would. Only scoring is timed, not generating.
//! Beside the wall clock stands the processor time of this process (Linux), which other load on the machine does not change much.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Instant;

use losses::pattern::assemble::in_parallel;
use losses::pattern::canary::{Dice, draw_kind, tamper};
use losses::pattern::model::{Options, PatternModel};
use losses::pattern::population::{Customer, Population};

const DAYS: usize = 828;
const HOMES: usize = 40;
const BATCH: usize = 20_000;
const THREADS: usize = 2;

fn zone(number: usize) -> (Vec<Customer>, Vec<f64>) {
    let mut dice = Dice::new(number as u64);
    let mut supplied = vec![0.0; DAYS];
    let customers = (0..HOMES)
        .map(|home| {
            let level = 9.0 * (0.5 * dice.normal()).exp();
            let mut memory = 0.0;
            let kwh: Vec<f64> = (0..DAYS)
                .map(|t| {
                    memory = 0.7 * memory + 0.2 * dice.normal();
                    let season = 1.0 + 0.3 * (t as f64 / 365.0 * std::f64::consts::TAU).cos();
                    level * season * f64::exp(memory)
                })
                .collect();
            supplied.iter_mut().zip(&kwh).for_each(|(s, k)| *s += k * 1.015);
            let steals = dice.unit() < 0.1;
            let kind = draw_kind(&mut dice);
            let theft = steals.then(|| tamper(&kwh, kind, &mut dice));
            let stolen_kwh = Some(theft.as_ref().map_or(0.0, |t| t.stolen_kwh));
            let kwh = theft.map_or(kwh, |t| t.kwh);
            let (id, transformer) = (format!("C{number:06}{home:02}"), format!("T{number:06}"));
            Customer { id, transformer, label: Some(steals), selection: None, stolen_kwh, kwh }
        })
        .collect();
    (customers, supplied)
}

fn population(first: usize, customers: usize, with_zones: bool) -> Population {
    let numbers: Vec<usize> = (first..first + customers.div_ceil(HOMES)).collect();
    let mut population = Population { days: DAYS, ..Population::default() };
    for (number, (customers, supplied)) in numbers.iter().zip(in_parallel(&numbers, THREADS, |n| zone(*n))) {
        population.customers.extend(customers);
        if with_zones {
            population.zones.insert(format!("T{number:06}"), supplied);
        }
    }
    population
}

/// Processor seconds of this process so far, where the system tells.
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let customers: usize = arguments.get(1).ok_or("usage: bench_pattern CUSTOMERS [zones]")?.parse()?;
    let with_zones = arguments.get(2).is_some_and(|a| a == "zones");
    let training = population(0, 2_000, with_zones);
    let options = Options { seed: 1, folds: 0, threads: THREADS, without_labels: false };
    let (started, processor) = (Instant::now(), processor_seconds());
    let text = PatternModel::train(&training, options)?.to_json()?;
    let spent = |since: Option<f64>| processor_seconds().zip(since).map_or(f64::NAN, |(now, then)| now - then);
    println!("trained on 2000: {:.1} s, processor {:.1} s", started.elapsed().as_secs_f64(), spent(processor));
    let started = Instant::now();
    let model = PatternModel::from_json(&text)?;
    println!("model of {:.1} MB read in {:.2} s", text.len() as f64 / 1e6, started.elapsed().as_secs_f64());
    let (mut scored, mut seconds, mut processor_total) = (0usize, 0.0, 0.0);
    while scored < customers {
        let batch = population(1_000_000 + scored / HOMES, BATCH.min(customers - scored), with_zones);
        let (started, processor) = (Instant::now(), processor_seconds());
        scored += model.score(&batch, THREADS)?.0.len();
        seconds += started.elapsed().as_secs_f64();
        processor_total += spent(processor);
    }
    println!(
        "scored {scored} in {seconds:.1} s on {THREADS} threads: {:.0}/s; processor {processor_total:.1} s, {:.3} ms each, \
         {:.0}/s if both cores were free",
        scored as f64 / seconds,
        processor_total * 1e3 / scored as f64,
        THREADS as f64 * scored as f64 / processor_total
    );
    Ok(())
}
