//! The command line: one file per command. Names are fixed; scripts and tests call them.

#![allow(clippy::print_stdout, reason = "commands talk to the person at the terminal")]

pub mod admin;
pub mod bench;
pub mod bench_bill;
pub mod bench_ingest;
pub mod bill;
pub mod case_evidence;
pub mod custodian;
pub mod demo;
pub mod escrow;
pub mod forecast;
pub mod grid;
pub mod log;
pub mod losses;
pub mod meters;
pub mod metrology;
pub mod privacy;
pub mod serve;
pub mod simulate;
pub mod solar;
pub mod tariff;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Finds stolen electricity and runs the meters around it.
#[derive(Parser)]
#[command(name = "gridtally", version, about, max_term_width = 120)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Server and simulated neighbourhood in one process: watch a theft begin, be found and cut off
    Demo(demo::DemoArguments),
    /// The product: listeners, pipeline, console and REST on one data directory
    Serve(serve::ServeArguments),
    /// The simulated neighbourhood alone, against any running server
    Simulate(simulate::SimulateArguments),
    /// Topology, enrolment, tokens
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    /// Power flow, state estimation, comparison with references, speed, on a network folder
    #[command(subcommand)]
    Grid(grid::GridCommand),
    /// Pattern models, localisation, studies, explanations
    #[command(subcommand)]
    Losses(losses::LossesCommand),
    /// Telegrams and files of real meters and makers' devices: readings, and field by field
    #[command(subcommand)]
    Meters(meters::MetersCommand),
    /// Solar behind the meter: which sites, how much, since when
    Solar(solar::SolarArguments),
    /// Day-ahead forecasts with their doubt, from a file of readings
    Forecast(forecast::ForecastArguments),
    /// The metrology core on files of waveforms
    #[command(subcommand)]
    Metrology(metrology::MetrologyCommand),
    /// The role that holds mask keys and never a reading
    Custodian(custodian::CustodianArguments),
    /// A custodian's secrets in three parts, of which any two give them back
    #[command(subcommand)]
    Escrow(escrow::EscrowCommand),
    /// Cosigns a log whose heads continue what it saw
    Witness(log::WitnessArguments),
    /// Tamper-evident logs: check, prove
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Masked meters and private releases
    #[command(subcommand)]
    Privacy(privacy::PrivacyCommand),
    /// Price lists: what they mean, whether they can be
    #[command(subcommand)]
    Tariff(tariff::TariffCommand),
    /// Bills: what they are, why, and what they would be
    #[command(subcommand)]
    Bill(bill::BillCommand),
    /// Speed on this machine, end to end
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

/// Any error, told to the person at the terminal.
pub type CommandError = Box<dyn std::error::Error + Send + Sync>;

/// Runs the command line.
pub fn run(line: CommandLine) -> Result<ExitCode, CommandError> {
    match line.command {
        Command::Demo(arguments) => runtime()?.block_on(demo::run(arguments)),
        Command::Serve(arguments) => runtime()?.block_on(serve::run(arguments)),
        Command::Simulate(arguments) => runtime()?.block_on(simulate::run(arguments)),
        Command::Admin(command) => runtime()?.block_on(admin::run(command)),
        Command::Grid(command) => grid::run(command).map(|()| ExitCode::SUCCESS).map_err(told),
        Command::Losses(losses::LossesCommand::Explain(arguments)) => {
            runtime()?.block_on(case_evidence::explain(arguments))
        }
        Command::Losses(losses::LossesCommand::Export(arguments)) => {
            runtime()?.block_on(case_evidence::export(arguments))
        }
        Command::Losses(command) => losses::run(command).map(|()| ExitCode::SUCCESS).map_err(told),
        Command::Meters(command) => meters::run(command),
        Command::Solar(arguments) => solar::run(&arguments).map_err(told).map(|()| ExitCode::SUCCESS),
        Command::Forecast(arguments) => forecast::run(&arguments).map_err(told).map(|()| ExitCode::SUCCESS),
        Command::Metrology(command) => metrology::run(command).map_err(told),
        Command::Custodian(arguments) => runtime()?.block_on(custodian::run(arguments)),
        Command::Escrow(command) => escrow::run(command),
        Command::Witness(arguments) => runtime()?.block_on(log::witness(arguments)),
        Command::Log(command) => log::run(command),
        Command::Privacy(command) => privacy::run(command),
        Command::Tariff(command) => tariff::run(command),
        Command::Bill(command) => bill::run(command),
        Command::Bench(command) => runtime()?.block_on(bench::run(command)),
    }
}

/// An error of a command that runs on one thread.
fn told(error: Box<dyn std::error::Error>) -> CommandError {
    error.to_string().into()
}

fn runtime() -> Result<tokio::runtime::Runtime, std::io::Error> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
