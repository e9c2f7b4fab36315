//! `gridtally grid bench`: times batches of scenarios on one thread and on all.

use super::{Outcome, print};
use clap::Args;
use grid::folder::{folder_phases, read_network};
use grid::measurement::{read_measurements, read_zero_injections};
use grid::model::Model;
use grid::threephase::folder::read_phase_network;
use grid::threephase::{PhaseScenarios, PhaseSolver, PhaseVoltages};
use grid::{Tolerance, bench};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Network folder
    dir: PathBuf,
    /// Scenarios in a batch
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    scenarios: u32,
    /// Runs of each batch; the fastest counts
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Largest change of a voltage in the last iteration, pu
    #[arg(long, default_value_t = 1e-8)]
    tolerance: f64,
    /// Time synthetic radial feeders of 100, 1000 and 10000 buses too
    #[arg(long)]
    growth: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Microseconds per scenario on one thread and on all.
struct Timing {
    what: String,
    one: f64,
    all: f64,
    iterations: f64,
}

fn measure(
    what: &str,
    args: &BenchArgs,
    threads: usize,
    mut batch: impl FnMut(usize) -> Result<f64, grid::GridError>,
) -> Result<Timing, Box<dyn std::error::Error>> {
    let mut best = [f64::INFINITY; 2];
    let mut iterations = 0.0;
    for _ in 0..args.runs {
        for (best, threads) in best.iter_mut().zip([1, threads]) {
            let start = Instant::now();
            iterations = batch(threads)?;
            *best = best.min(start.elapsed().as_secs_f64() * 1e6 / f64::from(args.scenarios));
        }
    }
    Ok(Timing { what: what.to_owned(), one: best[0], all: best[1], iterations })
}

pub(super) fn bench_folder(args: &BenchArgs) -> Outcome {
    let threads = std::thread::available_parallelism()?.get();
    let tolerance = Tolerance { step_pu: args.tolerance, ..Tolerance::default() };
    let timings = if folder_phases(&args.dir)? == 3 {
        vec![bench_three_phase(args, threads, tolerance)?]
    } else {
        bench_single_phase(&args.dir, args, threads, tolerance)?
    };
    let growth = if args.growth { bench_growth(args, threads, tolerance)? } else { Vec::new() };
    if args.json {
        let rows: Vec<Value> = timings
            .iter()
            .map(|t| {
                json!({
                    "what": t.what, "us_per_scenario_one_thread": t.one, "us_per_scenario_all_threads": t.all,
                    "times_as_fast": t.one / t.all, "mean_iterations": t.iterations,
                })
            })
            .collect();
        let object = json!({
            "folder": args.dir.display().to_string(), "scenarios": args.scenarios, "threads": threads,
            "tolerance_pu": args.tolerance, "timings": rows,
            "growth": growth.iter().map(|(buses, t)| {
                json!({"buses": buses, "ns_per_bus_one_thread": t.one * 1e3 / f64::from(*buses),
                    "ns_per_bus_all_threads": t.all * 1e3 / f64::from(*buses)})
            }).collect::<Vec<_>>(),
        });
        return print(&object.to_string());
    }
    for t in timings {
        print(&format!(
            "{:<24} {:>9.2} µs per scenario on one thread, {:>9.2} µs on {threads}: {:.2} times as fast ({:.1} iterations)",
            t.what,
            t.one,
            t.all,
            t.one / t.all,
            t.iterations
        ))?;
    }
    for (buses, t) in &growth {
        let size = f64::from(*buses);
        print(&format!(
            "radial feeder of {buses:>6} buses: {:>6.2} ns per bus and scenario on one thread, {:>6.2} ns on {threads}",
            t.one * 1e3 / size,
            t.all * 1e3 / size
        ))?;
    }
    if let (Some((small, a)), Some((large, b))) = (growth.first(), growth.last()) {
        let ratio = b.one / f64::from(*large) / (a.one / f64::from(*small));
        print(&format!("growth of the time per bus from {small} to {large} buses: {ratio:.2}"))?;
    }
    Ok(())
}

/// Voltages written per batch of the growth measurement, whatever the size of the feeder: all sizes pay the same for memory.
const GROWTH_VOLTAGES: u32 = 1_000_000;

fn bench_growth(
    args: &BenchArgs,
    threads: usize,
    tolerance: Tolerance,
) -> Result<Vec<(u32, Timing)>, Box<dyn std::error::Error>> {
    let mut timings = Vec::new();
    for buses in [100, 1000, 10_000] {
        let model = Model::new(&bench::radial_feeder(buses, 4))?;
        let args = BenchArgs { scenarios: GROWTH_VOLTAGES / buses, dir: args.dir.clone(), ..*args };
        let mut batch = bench::FlowBench::new(&model, usize::try_from(args.scenarios)?, 1)?;
        let what = format!("power flow, {buses} buses");
        timings.push((buses, measure(&what, &args, threads, |t| batch.run(tolerance, t))?));
    }
    Ok(timings)
}

fn bench_single_phase(
    dir: &Path,
    args: &BenchArgs,
    threads: usize,
    tolerance: Tolerance,
) -> Result<Vec<Timing>, Box<dyn std::error::Error>> {
    let network = read_network(dir)?;
    let model = Model::new(&network)?;
    let count = usize::try_from(args.scenarios)?;
    let mut flows = bench::FlowBench::new(&model, count, 1)?;
    let mut timings = vec![measure("power flow", args, threads, |t| flows.run(tolerance, t))?];
    for set in ["full", "sparse"] {
        let path = dir.join(format!("reference/se_{set}_measurements.csv"));
        if !path.exists() {
            continue;
        }
        let measurements = read_measurements(&path, &network)?;
        let zero = read_zero_injections(&dir.join(format!("reference/se_{set}_zero_injection.csv")), &network)?;
        let mut batch = bench::EstimateBench::new(&model, &measurements, &zero, count, 2)?;
        timings.push(measure(&format!("estimation, {set} set"), args, threads, |t| batch.run(tolerance, t))?);
    }
    Ok(timings)
}

fn bench_three_phase(
    args: &BenchArgs,
    threads: usize,
    tolerance: Tolerance,
) -> Result<Timing, Box<dyn std::error::Error>> {
    let solver = PhaseSolver::new(&read_phase_network(&args.dir)?)?;
    let mut draw = bench::Draw::new(3);
    let (mut p_w, mut q_var) = (Vec::new(), Vec::new());
    for _ in 0..args.scenarios {
        for load in &solver.network().loads {
            let factor = 0.5 + draw.uniform();
            p_w.push(load.p_w * factor);
            q_var.push(load.q_var * factor);
        }
    }
    let mut out = PhaseVoltages::default();
    measure("three-phase power flow", args, threads, |t| {
        solver.solve_batch(&PhaseScenarios { p_w: &p_w, q_var: &q_var }, tolerance, t, &mut out)?;
        match out.failed.pop() {
            Some((_, error)) => Err(error),
            None => Ok(out.iterations.iter().map(|&i| f64::from(i)).sum::<f64>() / f64::from(args.scenarios)),
        }
    })
}
