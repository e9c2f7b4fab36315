//! `gridtally escrow`: a custodian's secrets in three parts, of which any two give them back.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use privacy::{
    draws::Draws,
    escrow::{self, Part, Secrets},
};
use serde_json::json;

use super::CommandError;
use crate::custodian::{
    Service,
    files::{random, write_whole},
};

/// A custodian's secrets in three parts.
#[derive(Debug, Subcommand)]
pub enum EscrowCommand {
    /// Writes the three parts; the custodian must not be running. Again after meters were enrolled
    Split(SplitArguments),
    /// Writes the secrets of two or three parts into a new custodian's directory
    Join(JoinArguments),
}

#[derive(Debug, Args)]
pub struct SplitArguments {
    /// The custodian's directory
    #[arg(long)]
    data: PathBuf,
    /// Three files, one for each holder
    #[arg(long, required = true, num_args = 3, value_names = ["FILE", "FILE", "FILE"])]
    parts: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct JoinArguments {
    /// The new directory: policy and journal come from their own backups
    #[arg(long)]
    data: PathBuf,
    /// Two or three files of the same sharing
    #[arg(required = true, num_args = 2..=3)]
    parts: Vec<PathBuf>,
}

/// Runs it.
pub fn run(command: EscrowCommand) -> Result<ExitCode, CommandError> {
    match command {
        EscrowCommand::Split(arguments) => split(&arguments),
        EscrowCommand::Join(arguments) => join(&arguments),
    }
}

fn split(arguments: &SplitArguments) -> Result<ExitCode, CommandError> {
    if let Some(there) = arguments.parts.iter().find(|path| path.exists()) {
        return Err(format!("{} exists already; a part is never overwritten", there.display()).into());
    }
    let secrets = Service::open(&arguments.data)?.secrets()?;
    let parts = escrow::split(&secrets, &mut Draws::new(&random()?))?;
    for (part, path) in parts.iter().zip(&arguments.parts) {
        write_whole(path, serde_json::to_string(part)?.as_bytes())
            .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    println!("{}", json!({"meters": secrets.meters.len(), "sharing": parts[0].sharing, "parts": 3, "needed": 2}));
    Ok(ExitCode::SUCCESS)
}

fn join(arguments: &JoinArguments) -> Result<ExitCode, CommandError> {
    let read = |path: &PathBuf| -> Result<Part, CommandError> {
        let text = fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        serde_json::from_str(&text).map_err(|e| format!("{} is no part of an escrow: {e}", path.display()).into())
    };
    let parts: Vec<Part> = arguments.parts.iter().map(read).collect::<Result<_, _>>()?;
    let (secrets, altered) = escrow::join(&parts)?;
    restore(&arguments.data, &secrets)?;
    println!(
        "{}",
        json!({"meters": secrets.meters.len(), "altered": altered, "next": "put policy.toml and the newest journal into the directory"})
    );
    Ok(ExitCode::SUCCESS)
}

/// Writes secrets into a directory that holds none.
///
/// # Errors
/// A directory in use, or the disk.
pub fn restore(folder: &Path, secrets: &Secrets) -> Result<(), CommandError> {
    if folder.join("noise.key").exists() || folder.join("keys").exists() {
        return Err(format!("{} holds keys already; choose a new directory", folder.display()).into());
    }
    for (meter, key) in &secrets.meters {
        write_whole(&folder.join("keys").join(meter.as_str()), &key.0)?;
    }
    write_whole(&folder.join("log.key"), &secrets.log_key.0)?;
    if let Some(head) = &secrets.head {
        // the next start compares the journal with it
        write_whole(&folder.join("log/checkpoint"), head.as_bytes())?;
    }
    Ok(write_whole(&folder.join("noise.key"), &secrets.noise_key.0)?)
}
