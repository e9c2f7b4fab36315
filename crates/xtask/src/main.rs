//! The project's own chores, one command each: `cargo xtask help` lists them.
//!
//! It is not part of the product: nothing here is linked into `gridtally`.
#![allow(clippy::print_stdout)] // a chore talks to the person who started it

mod acceptance;
mod ci;
mod run;
mod tidy;
mod tools;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask ci                    everything continuous integration does; installs what is missing on Debian/Ubuntu
cargo xtask tidy                  layers, sizes, names and banned calls
cargo xtask acceptance [NAME]     long proofs; without a name, lists them
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["ci"] => ci::run(),
        ["tidy"] => tidy::run(),
        ["acceptance"] => acceptance::list(),
        ["acceptance", name, rest @ ..] => acceptance::run(name, rest),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("no such chore: {}\n\n{HELP}", other.join(" "))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
