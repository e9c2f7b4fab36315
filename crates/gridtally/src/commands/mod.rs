//! The command line: one file per command. Names are fixed; scripts and tests call them.

pub mod admin;
pub mod bench;
pub mod demo;
pub mod serve;
pub mod simulate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Finds stolen electricity and runs the meters around it.
#[derive(Debug, Parser)]
#[command(name = "gridtally", version, about, max_term_width = 120)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
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
        Command::Bench(command) => runtime()?.block_on(bench::run(command)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, std::io::Error> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
