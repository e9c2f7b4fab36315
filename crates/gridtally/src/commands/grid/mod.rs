//! `gridtally grid`: power flow, estimation, comparison with references and timing on a network folder.

mod bench;
mod import;
mod lost;
mod phase;

use clap::Args;
use grid::check::{CheckTolerance, check_folder};
use grid::estimate::Estimator;
use grid::flow::{self, State};
use grid::folder::{folder_phases, read_network};
use grid::measurement::{read_measurements, read_zero_injections};
use grid::model::Model;
use grid::network::Network;
use grid::quality::SUSPECT;
use grid::threephase::PhaseSolver;
use grid::threephase::folder::read_phase_network;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

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
    Bench(bench::BenchArgs),
    /// Lose measurements of known series and recover them: errors and coverage
    Lost(lost::LostArgs),
    /// Put a network into a data directory as a version
    Import(import::ImportArgs),
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
    /// CSV with type,at,side,value_pu,sigma_pu (three-phase: type,at,value,sigma in V, W, var)
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

/// Runs one of the commands.
///
/// # Errors
/// What the command could not do, in words for the user.
pub fn run(command: GridCommand) -> Outcome {
    match command {
        GridCommand::Solve(args) => solve(&args),
        GridCommand::Estimate(args) => estimate(&args),
        GridCommand::Check(args) => check(&args),
        GridCommand::Bench(args) => bench::bench_folder(&args),
        GridCommand::Lost(args) => lost::run(&args),
        GridCommand::Import(args) => import::run(&args),
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
    if folder_phases(&args.dir)? == 3 {
        return phase::estimate(args);
    }
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
