//! Logs go to standard error; `GRIDTALLY_LOG` sets how much (default: warnings, and what the product itself has to say).

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging. Called once, by `main`.
pub fn start() {
    let filter = EnvFilter::try_from_env("GRIDTALLY_LOG").unwrap_or_else(|_| EnvFilter::new("warn,gridtally=info"));
    // Colours are for people at a terminal; in a file or a journal they are litter.
    let ansi = std::io::stderr().is_terminal();
    let _ = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).with_target(false).try_init();
}
