//! `gridtally bench`: speed on this machine, end to end.

use std::process::ExitCode;

use clap::Subcommand;

use super::CommandError;

/// Benchmarks.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {}

/// Runs one.
pub async fn run(command: BenchCommand) -> Result<ExitCode, CommandError> {
    match command {}
}
