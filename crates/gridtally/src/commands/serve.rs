//! `gridtally serve`: the product, until it is told to stop.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};
use store::OneTime;

use super::CommandError;
use crate::{
    config::Config,
    server::{Server, ServerOptions},
};

/// How long a set-up link works, seconds.
const SET_UP_SECONDS: i64 = 24 * 3_600;

/// Where the time comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ClockSource {
    /// The machine
    #[default]
    Real,
    /// A simulator's authenticated clock message; only on a data directory made for simulation
    Sim,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArguments {
    /// Data directory; made when it is not there
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Configuration file (TOML); without one, the defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of console and REST, instead of the configured one
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// Address of plain MQTT, instead of the configured one
    #[arg(long, value_name = "ADDRESS")]
    mqtt: Option<SocketAddr>,
    /// Where the time comes from
    #[arg(long, value_enum, default_value_t)]
    clock: ClockSource,
}

/// Serves until Ctrl-C or a termination signal.
pub async fn run(arguments: ServeArguments) -> Result<ExitCode, CommandError> {
    let mut config = Config::load(arguments.config.as_deref())?;
    if let Some(http) = arguments.http {
        config.http.listen = http;
    }
    if let Some(mqtt) = arguments.mqtt {
        config.mqtt.listen = mqtt;
    }
    let simulated_clock = arguments.clock == ClockSource::Sim;
    let server =
        Server::start(ServerOptions { data: arguments.data, config, simulated_clock, any_port: false }).await?;
    println!("console {}", server.url);
    println!("meters mqtt://{}", server.mqtt);
    if let Some(mqtts) = server.mqtts {
        println!("meters mqtts://{mqtts}");
    }
    if let Some(readings) = server.readings {
        println!("readings http://{readings}/api/v1/readings");
    }
    if server.store.users().await?.is_empty() {
        let token = server.store.create_one_time(&OneTime::SetUp, server.clock.now().plus(SET_UP_SECONDS)).await?;
        println!("set up the first operator, once, within a day: {}/setup?token={token}", server.url);
    }
    stopped().await?;
    println!("stopping");
    server.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Waits for Ctrl-C or a termination signal.
pub async fn stopped() -> Result<(), CommandError> {
    #[cfg(unix)]
    {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result?,
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await?;
    Ok(())
}
