//! `gridtally simulate`: the neighbourhood alone, against any running server.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use sim::{SimConfig, SimEvent, Target, World, rest::RestClient};

use super::{CommandError, demo};

/// Arguments of `simulate`.
#[derive(Debug, Args)]
pub struct SimulateArguments {
    /// The server's MQTT listener, mqtt://host:port
    #[arg(long, value_name = "URL")]
    server: String,
    /// The server's REST address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    http: String,
    /// An API token of the server with every permission
    #[arg(long, value_name = "TOKEN")]
    admin_token: String,
    /// Meters in all: homes spread over four transformers, and five observers
    #[arg(long, value_name = "N", default_value_t = 165, value_parser = clap::value_parser!(u16).range(9..=4000))]
    meters: u16,
    /// Virtual days in all, 14 of history included
    #[arg(long, value_name = "N", default_value_t = 30)]
    days: u32,
    /// Speed after the history: N times real time, or max
    #[arg(long, value_name = "N|max", default_value = "600")]
    speed: demo::Speed,
    /// The same as --speed max: a slot ends only when everything of it is acknowledged and processed
    #[arg(long)]
    lockstep: bool,
    /// Everything random follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Measured load profiles instead of generated ones
    #[arg(long, value_name = "FILE")]
    profiles: Option<PathBuf>,
    #[command(flatten)]
    waveform: demo::WaveformArguments,
    #[command(flatten)]
    cut_off: demo::CutOffArguments,
    /// Seconds for which a server that does not answer is waited for
    #[arg(long, default_value_t = 120)]
    patience: u64,
    /// Print the ground truth as one JSON object at the end
    #[arg(long)]
    json: bool,
}

/// Runs the neighbourhood.
pub async fn run(arguments: SimulateArguments) -> Result<ExitCode, CommandError> {
    let mut config = SimConfig::demo(arguments.seed, 14);
    config.loads = demo::load_source(arguments.profiles.as_deref())?;
    config.waveforms = arguments.waveform.plan();
    config.cut_off = arguments.cut_off.plan(&config);
    config.homes_per_transformer = (arguments.meters - 5) / config.transformers;
    let mut rest = RestClient::new(&arguments.http, &arguments.admin_token, Duration::from_secs(arguments.patience))?;
    config.verifying_key = rest.server_key().await?;
    let until = config.start.plus(i64::from(arguments.days) * 86_400);
    let target = Target {
        mqtt: arguments.server,
        http: arguments.http,
        admin_token: arguments.admin_token,
        patience: Duration::from_secs(arguments.patience),
    };
    let pace = if arguments.lockstep { demo::Speed::Max.pace() } else { arguments.speed.pace() };
    let progress = |event: SimEvent| {
        if !matches!(event, SimEvent::Reached { .. }) {
            tracing::info!(?event);
        }
    };
    let report = sim::drive(World::new(&config)?, target, pace, until, progress).await?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{} frames acknowledged, {} made, until {}", report.frames_sent, report.frames_made, report.end);
    }
    Ok(ExitCode::SUCCESS)
}
