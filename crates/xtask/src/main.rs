//! The project's own chores, one command each: `cargo xtask help` lists them.
//!
//! It is not part of the product: nothing here is linked into `gridtally`.
#![allow(clippy::print_stdout)] // a chore talks to the person who started it

mod acceptance;
mod browser;
mod ci;
mod firmware;
mod peers;
mod qemu;
mod run;
mod screenshots;
mod tidy;
mod tools;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask ci                    everything continuous integration does; installs what is missing on Debian/Ubuntu
cargo xtask tidy                  layers, sizes, names and banned calls
cargo xtask acceptance [NAME]     long proofs; without a name, lists them; with --as-built before the name, without building first
cargo xtask peers NAME            billing, devices, forecast, grid or losses: speed and quality beside other programs on the same data; installs them from PyPI; with --as-built before `devices`, without building first
cargo xtask qemu                  the firmware on an emulated microcontroller: equal to the host (golden runs, vectors, neighbours), within its instruction budget
cargo xtask firmware [c6|c3]      the firmware of an ESP32 as an image for its flash
cargo xtask firmware size         what the decoders of P1, SML and DLMS push take on RV32IMAC (ESP32-C6), in bytes
cargo xtask screenshots           the pictures of the README, from the running demo
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // Chores name files from the root of the repository, wherever they are started.
    if let Err(why) = std::env::set_current_dir(run::root()) {
        eprintln!("xtask: {}: {why}", run::root().display());
        return ExitCode::FAILURE;
    }
    let outcome = match words.as_slice() {
        ["ci"] => ci::run(),
        ["tidy"] => tidy::run(),
        ["acceptance"] => acceptance::list(),
        ["acceptance", "--as-built", name, rest @ ..] => acceptance::as_built(name, rest),
        ["acceptance", name, rest @ ..] => acceptance::run(name, rest),
        ["peers", "--as-built", name] => peers::as_built(name),
        ["peers", name] => peers::run(name),
        ["qemu"] => qemu::run(),
        ["firmware", "size"] => qemu::decoders::run(),
        ["firmware", rest @ ..] => firmware::run(rest),
        ["screenshots", "--as-built"] => screenshots::take(),
        ["screenshots"] => run::build_product().and_then(|()| screenshots::take()),
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
