//! Logs go to standard error; `GRIDTALLY_LOG` sets how much (default: warnings, and what the product itself has to say).

use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging. Called once, by `main`.
pub fn start() {
    let filter = EnvFilter::try_from_env("GRIDTALLY_LOG").unwrap_or_else(|_| EnvFilter::new("warn,gridtally=info"));
    let _ = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).try_init();
}
