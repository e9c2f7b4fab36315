//! The thin entry: parse the command line, run it, tell the error.

use std::process::ExitCode;

use clap::Parser;
use gridtally::commands;

fn main() -> ExitCode {
    let line = commands::CommandLine::parse();
    gridtally::logging::start();
    match commands::run(line) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gridtally: {error}");
            let mut cause = error.source();
            while let Some(inner) = cause {
                eprintln!("  because: {inner}");
                cause = inner.source();
            }
            ExitCode::FAILURE
        }
    }
}
