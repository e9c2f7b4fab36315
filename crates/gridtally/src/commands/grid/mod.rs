//! `gridtally grid`: power flow, estimation, comparison with references and timing on a network folder.

use clap::Args;
use grid::check::{CheckTolerance, check_folder};
use grid::estimate::Estimator;
use grid::flow::{self, State};
use grid::folder::{folder_phases, read_network};
use grid::measurement::{read_measurements, read_zero_injections};
use grid::model::Model;
use grid::network::Network;
use grid::quality::SUSPECT;
use grid::threephase::folder::read_phase_network;
use grid::threephase::{PhaseScenarios, PhaseSolver, PhaseVoltages};
use grid::{Tolerance, bench};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// What to do with a network folder.
#[derive(Debug, clap::Subcommand)]
pub enum GridCommand {
    /// Power flow: voltages, flows and losses
    Solve(SolveArgs),
    /// State estimation from measurements
    Estimate(EstimateArgs),
    /// Compare with the folder's reference/; exits 1 above a tolerance
    Check(CheckArgs),
    /// Time batches of scenarios
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
pub struct SolveArgs {
    /// Network folder
    dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct EstimateArgs {
    /// Network folder
    dir: PathBuf,
    /// CSV with type,at,side,value_pu,sigma_pu
    #[arg(long)]
    measurements: PathBuf,
    /// CSV with the column bus: buses that inject nothing
    #[arg(long)]
    zero_injection: Option<PathBuf>,
    /// Remove measurements that contradict the others
    #[arg(long)]
    remove_bad_data: bool,
    /// Huber weights instead of plain squares
    #[arg(long, conflicts_with = "remove_bad_data")]
    robust: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Network folder
    dir: PathBuf,
    /// Largest accepted error of the power flow, pu
    #[arg(long, default_value_t = 1e-9)]
    tol_pf: f64,
    /// Largest accepted error of the estimation, pu
    #[arg(long, default_value_t = 1e-8)]
    tol_se: f64,
    /// Largest accepted error of the three-phase power flow, pu
    #[arg(long, default_value_t = 1e-6)]
    tol_pf3: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

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

/// Runs one of the commands.
///
/// # Errors
/// What the command could not do, in words for the user.
pub fn run(command: GridCommand) -> Outcome {
    match command {
        GridCommand::Solve(args) => solve(&args),
        GridCommand::Estimate(args) => estimate(&args),
        GridCommand::Check(args) => check(&args),
        GridCommand::Bench(args) => bench_folder(&args),
    }
}

fn print(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}") {
        // a reader that has seen enough (head, less) is no failure
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn state_json(network: &Network, state: &State) -> Value {
    let buses: Vec<Value> = network
        .buses
        .iter()
        .zip(state.v.iter().zip(&state.injection))
        .map(|(b, (v, s))| {
            json!({"bus": b.id, "vm_pu": v.norm(), "va_deg": v.arg().to_degrees(), "p_inj_pu": s.re, "q_inj_pu": s.im})
        })
        .collect();
    let branches: Vec<Value> = network
        .branches
        .iter()
        .zip(&state.branches)
        .map(|(b, f)| {
            json!({
                "branch": b.id, "p_from_pu": f.p_from_pu, "q_from_pu": f.q_from_pu, "p_to_pu": f.p_to_pu,
                "q_to_pu": f.q_to_pu, "i_from_pu": f.i_from_pu, "i_to_pu": f.i_to_pu,
            })
        })
        .collect();
    json!({
        "network": network.name, "phases": 1, "base_mva": network.base_mva, "buses": buses, "branches": branches,
        "losses": {
            "p_pu": state.loss_p_pu, "q_pu": state.loss_q_pu,
            "p_mw": state.loss_p_pu * network.base_mva, "q_mvar": state.loss_q_pu * network.base_mva,
        },
        "iterations": state.iterations,
    })
}

fn print_state(network: &Network, state: &State) -> Outcome {
    let mut text = String::from("     bus      vm_pu     va_deg       p_inj_pu       q_inj_pu\n");
    for (b, (v, s)) in network.buses.iter().zip(state.v.iter().zip(&state.injection)) {
        text +=
            &format!("{:>8} {:>10.6} {:>10.5} {:>14.8} {:>14.8}\n", b.id, v.norm(), v.arg().to_degrees(), s.re, s.im);
    }
    text += "\n  branch      p_from_pu      q_from_pu        p_to_pu        q_to_pu        loss_pu\n";
    for (b, f) in network.branches.iter().zip(&state.branches) {
        text += &format!(
            "{:>8} {:>14.8} {:>14.8} {:>14.8} {:>14.8} {:>14.8}\n",
            b.id,
            f.p_from_pu,
            f.q_from_pu,
            f.p_to_pu,
            f.q_to_pu,
            f.loss_p_pu()
        );
    }
    text += &format!(
        "\nlosses: {:.6} MW, {:.6} Mvar ({} iterations)",
        state.loss_p_pu * network.base_mva,
        state.loss_q_pu * network.base_mva,
        state.iterations
    );
    print(&text)
}

fn solve(args: &SolveArgs) -> Outcome {
    if folder_phases(&args.dir)? == 3 {
        return solve_three_phase(args);
    }
    let network = read_network(&args.dir)?;
    let state = flow::solve(&Model::new(&network)?)?;
    if args.json { print(&state_json(&network, &state).to_string()) } else { print_state(&network, &state) }
}

fn solve_three_phase(args: &SolveArgs) -> Outcome {
    let network = read_phase_network(&args.dir)?;
    let state = PhaseSolver::new(&network)?.solve()?;
    let rows = network.nodes.iter().zip(&network.base_v).zip(&state.v);
    if args.json {
        let buses: Vec<Value> = rows
            .map(|((node, base), v)| {
                json!({
                    "node": node, "v_base_ln": base, "v_re": v.re, "v_im": v.im, "vm_pu": v.norm() / base,
                    "va_deg": v.arg().to_degrees(),
                })
            })
            .collect();
        let losses = json!({"p_kw": state.loss_w / 1000.0});
        let object = json!({
            "network": network.name, "phases": 3, "buses": buses, "losses": losses, "iterations": state.iterations,
        });
        return print(&object.to_string());
    }
    let mut text = String::from("            node      volts      vm_pu     va_deg\n");
    for ((node, base), v) in rows {
        text += &format!("{node:>16} {:>10.3} {:>10.6} {:>10.5}\n", v.norm(), v.norm() / base, v.arg().to_degrees());
    }
    text += &format!("\nlosses: {:.4} kW ({} iterations)", state.loss_w / 1000.0, state.iterations);
    print(&text)
}

fn estimate(args: &EstimateArgs) -> Outcome {
    let network = read_network(&args.dir)?;
    let model = Model::new(&network)?;
    let measurements = read_measurements(&args.measurements, &network)?;
    let zero = match &args.zero_injection {
        Some(path) => read_zero_injections(path, &network)?,
        None => Vec::new(),
    };
    let mut estimator = Estimator::new(&model, &measurements, &zero)?;
    let mut kept: Vec<usize> = (0..measurements.len()).collect();
    let mut removed = Vec::new();
    let mut weights = None;
    let estimate = if args.remove_bad_data {
        let cleaned = estimator.estimate_without_bad_data(SUSPECT)?;
        removed = cleaned.removed;
        kept = cleaned.kept;
        let rest: Vec<_> = kept.iter().map(|&k| measurements[k]).collect();
        estimator = Estimator::new(&model, &rest, &zero)?;
        cleaned.estimate
    } else if args.robust {
        let (estimate, w) = estimator.estimate_robust(1.5)?;
        weights = Some(w);
        estimate
    } else {
        estimator.estimate()?
    };
    let assessment = estimator.assess(&estimate)?;
    let losses = estimator.technical_losses(&estimate)?;
    let suspects: Vec<(usize, f64)> = kept
        .iter()
        .zip(&assessment.normalised_residuals)
        .filter_map(|(&k, r)| r.filter(|r| *r > SUSPECT).map(|r| (k, r)))
        .collect();
    if args.json {
        let mut object = state_json(&network, &estimate.state);
        for (bus, sigma) in object["buses"].as_array_mut().into_iter().flatten().zip(&assessment.vm_sigma_pu) {
            bus["vm_sigma_pu"] = json!(sigma);
        }
        object["losses"]["p_sigma_pu"] = json!(losses.total_sigma_pu);
        let row = |&(k, r): &(usize, f64)| json!({"measurement": k + 1, "normalised_residual": r});
        object["estimation"] = json!({
            "objective": estimate.objective, "degrees_of_freedom": assessment.degrees_of_freedom,
            "p_value": assessment.p_value, "suspects": suspects.iter().map(row).collect::<Vec<_>>(),
            "removed": removed.iter().map(row).collect::<Vec<_>>(), "weights": weights,
        });
        return print(&object.to_string());
    }
    print_state(&network, &estimate.state)?;
    print(&format!(
        "loss uncertainty {:.2e} pu; objective {:.3} with {} degrees of freedom, p = {:.4}",
        losses.total_sigma_pu, estimate.objective, assessment.degrees_of_freedom, assessment.p_value
    ))?;
    for (k, r) in suspects {
        print(&format!("suspect: measurement {} of the file, normalised residual {r:.2}", k + 1))?;
    }
    for (k, r) in removed {
        print(&format!("removed: measurement {} of the file, normalised residual {r:.2}", k + 1))?;
    }
    Ok(())
}

fn check(args: &CheckArgs) -> Outcome {
    let tolerance =
        CheckTolerance { power_flow_pu: args.tol_pf, estimation_pu: args.tol_se, three_phase_pu: args.tol_pf3 };
    let items = check_folder(&args.dir, &tolerance)?;
    let bad = items.iter().filter(|i| !i.ok).count();
    if args.json {
        print(&json!({"folder": args.dir.display().to_string(), "ok": bad == 0, "items": items}).to_string())?;
    } else {
        for item in &items {
            let verdict = if item.ok { "ok  " } else { "FAIL" };
            print(&format!(
                "{verdict} {:.2e} (limit {:.0e}) {}, at {}",
                item.max_error, item.tolerance, item.what, item.at
            ))?;
        }
    }
    if bad > 0 { Err(format!("{bad} of {} comparisons are above their tolerance", items.len()).into()) } else { Ok(()) }
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

fn bench_folder(args: &BenchArgs) -> Outcome {
    let threads = std::thread::available_parallelism()?.get();
    let tolerance = Tolerance { step_pu: args.tolerance, ..Tolerance::default() };
    let mut timings = if folder_phases(&args.dir)? == 3 {
        vec![bench_three_phase(args, threads, tolerance)?]
    } else {
        bench_single_phase(&args.dir, args, threads, tolerance)?
    };
    if args.growth {
        for buses in [100, 1000, 10_000] {
            let model = Model::new(&bench::radial_feeder(buses, 4))?;
            let mut batch = bench::FlowBench::new(&model, usize::try_from(args.scenarios)?, 1)?;
            let what = format!("power flow, {buses} buses");
            timings.push(measure(&what, args, threads, |t| batch.run(tolerance, t))?);
        }
    }
    if args.json {
        let rows: Vec<Value> = timings
            .iter()
            .map(|t| {
                json!({
                    "what": t.what, "us_per_scenario_one_thread": t.one, "us_per_scenario_all_threads": t.all,
                    "mean_iterations": t.iterations,
                })
            })
            .collect();
        let object = json!({
            "folder": args.dir.display().to_string(), "scenarios": args.scenarios, "threads": threads,
            "tolerance_pu": args.tolerance, "timings": rows,
        });
        return print(&object.to_string());
    }
    for t in timings {
        print(&format!(
            "{:<24} {:>9.2} µs per scenario on one thread, {:>9.2} µs on {threads} ({:.1} iterations)",
            t.what, t.one, t.all, t.iterations
        ))?;
    }
    Ok(())
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
