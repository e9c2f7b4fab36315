//! `gridtally privacy`: masked meters shown end to end, and what privacy costs a state estimate and a network.

mod bytes;
mod demo;
mod frames;
mod plot;
mod town;
mod trade_off;
mod trial;

use clap::Subcommand;

use super::CommandError;

/// Masked meters and private releases.
#[derive(Debug, Subcommand)]
pub enum PrivacyCommand {
    /// A neighbourhood of masked meters for a month: what is exact, what is refused, and what each party saw
    Demo(demo::DemoArguments),
    /// What privacy costs a state estimate of a network folder: the trade-off as table and plot
    Estimate(trade_off::EstimateArguments),
    /// Bytes of a sum over shares against the number of clients, beside an all-to-all scheme
    Bytes(bytes::BytesArguments),
    /// Theft found by one number per home, beside the clear model on the same trials
    Theft(trial::TheftArguments),
    /// Looks for eight consecutive readings of a home in files where none may be
    Search(town::SearchArguments),
}

/// Runs it.
pub fn run(command: PrivacyCommand) -> Result<std::process::ExitCode, CommandError> {
    match command {
        PrivacyCommand::Demo(arguments) => demo::run(&arguments),
        PrivacyCommand::Estimate(arguments) => trade_off::run(&arguments),
        PrivacyCommand::Bytes(arguments) => bytes::run(&arguments),
        PrivacyCommand::Theft(arguments) => trial::run(&arguments),
        PrivacyCommand::Search(arguments) => town::search(&arguments),
    }
}
