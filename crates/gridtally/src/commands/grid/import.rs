//! `gridtally grid import`: a network folder becomes a version in the data directory.

use super::{Outcome, print};
use crate::clock::Clock;
use crate::data_directory::DataDirectory;
use clap::Args;
use grid::folder::{folder_phases, read_network};
use metering::Timestamp;
use std::path::PathBuf;

/// Who the audit names.
const BY: &str = "command line";

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Network folder
    dir: PathBuf,
    /// Data directory of a server that does not run
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Valid from this time on (RFC 3339); now, if not given
    #[arg(long)]
    valid_from: Option<Timestamp>,
}

pub(super) fn run(args: &ImportArgs) -> Outcome {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(import(args))
}

async fn import(args: &ImportArgs) -> Outcome {
    if folder_phases(&args.dir)? == 3 {
        return Err("three-phase folders are read from their admittance matrix and cannot be imported; \
                    import the single-phase equivalent"
            .into());
    }
    let network = read_network(&args.dir)?;
    if !args.data.is_dir() {
        let path = args.data.display();
        return Err(format!("{path} is not there; `gridtally serve --data` makes a data directory").into());
    }
    let directory = match DataDirectory::open(&args.data, false).await {
        Ok(directory) => directory,
        Err(_) => DataDirectory::open(&args.data, true).await?,
    };
    let now = Clock::Real.now();
    let version = directory.store.import_network(&network, args.valid_from.unwrap_or(now), BY, now).await?;
    let back = directory.store.network_at(&version.name, version.valid_from).await?;
    directory.store.close().await?;
    let back = back.ok_or("the imported network is not in the data directory")?;
    print(&format!(
        "network {} is version {}, valid from {}: {} buses, {} branches, {} loads, {} usage points",
        version.name,
        version.id,
        version.valid_from,
        back.buses.len(),
        back.branches.len(),
        back.loads.len(),
        back.usage_points.len()
    ))
}
