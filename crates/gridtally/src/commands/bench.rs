//! `gridtally bench`: speed on this machine, end to end, with the server as a child process.

use std::{
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use clap::{Args, Subcommand};
use metering::MeterId;
use serde_json::json;
use store::Role;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::{CommandError, admin::hex, bench_ingest};
use crate::{clock::Clock, data_directory::DataDirectory};

/// Benchmarks.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Meters connect and report a quarter-hour burst; rate, acknowledgement time, bytes on disk
    Ingest(IngestArguments),
    /// Bills of a month of quarter-hours: from packed blocks to written bills
    Bill(super::bench_bill::BillArguments),
}

/// Arguments of `bench ingest`.
#[derive(Debug, Args)]
pub struct IngestArguments {
    /// Meters, each with a connection of its own
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    meters: u32,
    /// Frames of each meter
    #[arg(long, default_value_t = 4)]
    frames: usize,
    /// Profile records in a frame
    #[arg(long, default_value_t = 1)]
    records: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs one.
pub async fn run(command: BenchCommand) -> Result<ExitCode, CommandError> {
    match command {
        BenchCommand::Ingest(arguments) => ingest(arguments).await,
        BenchCommand::Bill(arguments) => super::bench_bill::run(arguments).await,
    }
}

async fn ingest(arguments: IngestArguments) -> Result<ExitCode, CommandError> {
    let count = usize::try_from(arguments.meters)?;
    bench_ingest::raise_open_files(count)?;
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let meters = enrol(&data, arguments.meters).await?;
    let (mut server, address) = serve(&data).await?;
    let end = Clock::Real.now().floor_to(900);
    let report = bench_ingest::burst(address.parse()?, meters, arguments.frames, arguments.records, end).await;
    let memory_mb = resident_mb(server.id());
    // Asked to stop, the server finishes what it accepted; then the files are what they will be.
    stop(&mut server).await;
    let report = report?;
    let (stored, bytes, values) = on_disk(&data).await?;
    let expected = count * arguments.frames * arguments.records;
    let summary = json!({
        "meters": report.meters, "connected": report.connected, "refused": report.refused_count(),
        "frames_sent": report.sent, "frames_acknowledged": report.acknowledged, "lost": report.lost,
        "readings_expected": expected, "readings_stored": stored,
        "connect_s": report.connect_s, "burst_s": report.burst_s,
        "frames_per_s": report.frames_per_s(), "readings_per_s": report.records_per_s(),
        "ack_p50_ms": report.p50_ms, "ack_p99_ms": report.p99_ms, "ack_max_ms": report.max_ms,
        "bytes_on_disk": bytes, "bytes_per_value": bytes as f64 / values.max(1) as f64, "server_rss_mb": memory_mb,
    });
    if arguments.json {
        println!("{summary}");
    } else {
        println!(
            "{} of {} meters connected in {:.1} s, {} refused",
            report.connected,
            report.meters,
            report.connect_s,
            report.refused_count()
        );
        println!(
            "{} frames sent, {} acknowledged, {} lost, in {:.2} s",
            report.sent, report.acknowledged, report.lost, report.burst_s
        );
        println!(
            "{:.0} frames/s, {:.0} readings/s, acknowledged after {:.0} ms (p50), {:.0} ms (p99)",
            report.frames_per_s(),
            report.records_per_s(),
            report.p50_ms,
            report.p99_ms
        );
        println!(
            "{stored} of {expected} readings stored; {:.2} bytes per value in {bytes} bytes on disk, server {memory_mb} MB",
            bytes as f64 / values.max(1) as f64
        );
    }
    let complete = report.refused_count() == 0 && report.lost == 0 && stored == u64::try_from(expected)?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn enrol(data: &Path, count: u32) -> Result<Vec<(MeterId, String)>, CommandError> {
    let directory = DataDirectory::open(data, false).await?;
    directory.store.create_api_token("bench", Role::Operator, "bench", Clock::Real.now()).await?;
    let names: Vec<MeterId> = (1..=count).map(|n| MeterId::new(&format!("B-{n:06}"))).collect::<Result<_, _>>()?;
    let mut enrolled = Vec::new();
    for chunk in names.chunks(1_000) {
        let made = directory.store.enrol(chunk, "bench", Clock::Real.now()).await?;
        enrolled.extend(made.into_iter().map(|e| (e.meter, hex(&e.secret))));
    }
    directory.store.close().await?;
    Ok(enrolled)
}

/// Starts this program as a server and reads where it listens.
async fn serve(data: &Path) -> Result<(Child, String), CommandError> {
    let program: PathBuf = std::env::current_exe()?;
    let mut child = Command::new(program)
        .args(["serve", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--data"])
        .arg(data)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let out = child.stdout.take().ok_or("the server has no output")?;
    let mut lines = BufReader::new(out).lines();
    while let Some(line) = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await?? {
        if let Some(address) = line.strip_prefix("meters mqtt://") {
            let address = address.to_owned();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok((child, address));
        }
    }
    Err("the server ended before it listened".into())
}

async fn stop(server: &mut Child) {
    if let Some(id) = server.id() {
        let _ = Command::new("kill").args(["-TERM", &id.to_string()]).status().await;
        if tokio::time::timeout(Duration::from_secs(60), server.wait()).await.is_ok() {
            return;
        }
    }
    let _ = server.kill().await;
}

/// Readings stored, bytes of the directory, and values in those readings (registers, voltage, current).
async fn on_disk(data: &Path) -> Result<(u64, u64, u64), CommandError> {
    let directory = DataDirectory::open(data, false).await?;
    directory.store.seal().await?;
    let counts = directory.store.counts().await?;
    directory.store.close().await?;
    Ok((counts.readings, counts.block_bytes, counts.readings * 4))
}

/// Resident memory of a process; 0 where the system does not tell.
pub(super) fn resident_mb(id: Option<u32>) -> u64 {
    let Some(id) = id else { return 0 };
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) / 1_024
}
