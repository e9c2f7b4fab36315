//! `gridtally log` and `gridtally witness`: tamper-evident logs checked, proved and cosigned, from their files alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Subcommand};
use privacy::{
    hex::Hex,
    log::{Bundle, Checkpoint, Signed, tiles, verify},
    merkle,
};
use serde_json::json;

use super::CommandError;
use crate::{
    clock::Clock,
    custodian::files::{key_file, write_whole},
};

/// Tamper-evident logs.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Checks every entry and every head of a log's folder; fails when something is wrong
    Verify(VerifyArguments),
    /// Writes one entry as an evidence bundle that anyone can check without us
    Prove(ProveArguments),
}

#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// Folder of the log
    folder: PathBuf,
    /// The log's public key, 64 hexadecimal digits
    #[arg(long)]
    key: Hex<32>,
    /// A witness's public key: the head must be cosigned by it
    #[arg(long)]
    witness: Option<Hex<32>>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct ProveArguments {
    /// Folder of the log
    folder: PathBuf,
    /// Place of the entry, from 0
    #[arg(long)]
    index: usize,
    /// The log's public key, 64 hexadecimal digits
    #[arg(long)]
    key: Hex<32>,
    /// A witness's public key
    #[arg(long)]
    witness: Option<Hex<32>>,
}

#[derive(Debug, Args)]
pub struct WitnessArguments {
    /// The witness's own directory: its key and the last head it saw
    #[arg(long)]
    data: PathBuf,
    /// Folder of the log that it watches
    #[arg(long)]
    log: PathBuf,
    /// The log's public key, 64 hexadecimal digits
    #[arg(long)]
    key: Hex<32>,
    /// The witness's name in its cosignatures
    #[arg(long, default_value = "gridtally.witness")]
    name: String,
    /// Seconds between looks; 0 looks once
    #[arg(long, default_value_t = 60)]
    every: u64,
}

/// Runs `gridtally log`.
pub fn run(command: LogCommand) -> Result<ExitCode, CommandError> {
    match command {
        LogCommand::Verify(arguments) => verify_folder(&arguments),
        LogCommand::Prove(arguments) => prove(&arguments),
    }
}

/// Text of all heads that were ever signed.
fn heads(folder: &Path) -> Result<Vec<String>, CommandError> {
    let Ok(entries) = fs::read_dir(folder.join("heads")) else { return Ok(Vec::new()) };
    let mut heads = Vec::new();
    for entry in entries {
        heads.push(fs::read_to_string(entry?.path())?);
    }
    Ok(heads)
}

fn verify_folder(arguments: &VerifyArguments) -> Result<ExitCode, CommandError> {
    let folder = &arguments.folder;
    let read = |path: &str| fs::read(folder.join(path)).ok();
    let report = verify(&read, &heads(folder)?, &arguments.key, arguments.witness.as_ref())?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        let yes = |is: bool| if is { "yes" } else { "NO" };
        println!("{} entries, root {}", report.size, report.root);
        println!("every entry is in the tree of the signed head: {}", yes(report.included));
        println!("every earlier head is a beginning of this tree: {}", yes(report.consistent));
        if let Some(witnessed) = report.witnessed {
            println!("cosigned by the witness: {}", yes(witnessed));
        }
        if let Some(bad) = report.first_bad {
            println!("the first entry that cannot be trusted: {bad}");
        }
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read_head(folder: &Path) -> Result<Signed, CommandError> {
    let path = folder.join("checkpoint");
    let text = fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    Ok(Signed::parse(&text)?)
}

fn entries(folder: &Path, head: &Checkpoint) -> Result<Vec<Vec<u8>>, CommandError> {
    let size = usize::try_from(head.size)?;
    let entries = tiles::entries(size, &|path: &str| fs::read(folder.join(path)).ok());
    if entries.len() < size {
        return Err(format!("{} holds {} of {size} entries", folder.display(), entries.len()).into());
    }
    Ok(entries)
}

fn prove(arguments: &ProveArguments) -> Result<ExitCode, CommandError> {
    let head = read_head(&arguments.folder)?;
    let entries = entries(&arguments.folder, &head.checkpoint)?;
    let bundle = Bundle::new(&entries, arguments.index, &head, arguments.key, arguments.witness)
        .ok_or_else(|| format!("there is no entry {}: the log holds {}", arguments.index, entries.len()))?;
    bundle.check().map_err(|why| format!("this log proves nothing: {why}"))?;
    println!("{}", serde_json::to_string_pretty(&bundle)?);
    Ok(ExitCode::SUCCESS)
}

/// Runs `gridtally witness`: cosigns heads that continue what it saw, and nothing else.
pub async fn witness(arguments: WitnessArguments) -> Result<ExitCode, CommandError> {
    fs::create_dir_all(&arguments.data)?;
    let key = key_file(&arguments.data.join("witness.key"))?;
    let key = ed25519_dalek::SigningKey::from_bytes(&key);
    eprintln!("witness {} with public key {}", arguments.name, Hex(key.verifying_key().to_bytes()));
    loop {
        let said = look(&arguments, &key)?;
        eprintln!("{said}");
        if arguments.every == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(Duration::from_secs(arguments.every)).await;
    }
}

/// Looks at the log once; an error is an alarm: the log has another history than the one seen before.
fn look(arguments: &WitnessArguments, key: &ed25519_dalek::SigningKey) -> Result<String, CommandError> {
    let head = read_head(&arguments.log)?;
    if !head.is_signed_by(&arguments.key) {
        return Err("the head is not signed by the log's key: nothing was cosigned".into());
    }
    let hashes: Vec<merkle::Hash> =
        entries(&arguments.log, &head.checkpoint)?.iter().map(|entry| merkle::leaf(entry)).collect();
    if merkle::root(&hashes) != head.checkpoint.root {
        return Err("the entries do not give the root of the head: nothing was cosigned".into());
    }
    let seen_path = arguments.data.join("seen");
    if let Ok(text) = fs::read_to_string(&seen_path) {
        let seen = Signed::parse(&text)?.checkpoint;
        let proof = merkle::consistency(&hashes, usize::try_from(seen.size)?);
        let is_next =
            merkle::check_consistency((seen.size, &seen.root), (head.checkpoint.size, &head.checkpoint.root), &proof);
        if !is_next || seen.origin != head.checkpoint.origin {
            return Err(format!(
                "the log was rewritten: its head of {} entries does not continue the head of {} that was cosigned",
                head.checkpoint.size, seen.size
            )
            .into());
        }
    }
    let time = u64::try_from(Clock::Real.now().0).unwrap_or(0);
    let (size, signed) = (head.checkpoint.size, head.cosign(&arguments.name, key, time));
    // what was seen is remembered before it is vouched for
    write_whole(&seen_path, signed.to_text().as_bytes())?;
    if read_head(&arguments.log)?.checkpoint.size != size {
        return Ok(json!({"seen": size, "time": time, "next": "the log has grown meanwhile"}).to_string());
    }
    write_whole(&arguments.log.join("checkpoint"), signed.to_text().as_bytes())?;
    Ok(json!({"cosigned": size, "time": time}).to_string())
}
