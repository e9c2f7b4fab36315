//! `gridtally admin`: topology, enrolment, tokens; on a data directory, or on a running server by REST.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use metering::{MeterId, Timestamp};
use serde_json::{Value, json};
use sim::rest::RestClient;
use store::{CaseFilter, ControlFilter, Role, Store};

use super::CommandError;
use crate::{clock::Clock, data_directory::DataDirectory};

/// Who the audit names for work on a data directory from the command line.
const BY: &str = "command line";

/// Administration.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Import zones, usage points and meters (CSV: zone, parent, observer_meter, usage_point, meter, ct_ratio, phase, valid_from)
    ImportTopology {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Give meters secrets; prints secret, topics and a QR code, once
    Enrol {
        /// The meters
        #[arg(required = true)]
        meters: Vec<MeterId>,
        /// Print JSON instead
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Make a token for a program; prints it, once
    Token {
        /// Name of the program
        #[arg(long)]
        name: String,
        /// Permission to read and to work on cases only, instead of everything
        #[arg(long)]
        read_only: bool,
        /// Data directory; made when it is not there
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Make the directory for simulation
        #[arg(long)]
        simulation: bool,
    },
    /// Write registers, balances, cases and controls as one JSON object, for comparison and archives
    ExportState {
        /// Data directory of a server that does not run
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Check that the audit log is unbroken
    VerifyAudit {
        /// Data directory of a server that does not run
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

/// Where to work: a data directory, or a running server.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Place {
    /// Data directory of a server that does not run
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    data: Option<PathBuf>,
    /// A running server, http://host:port
    #[arg(long, value_name = "URL", requires = "token")]
    server: Option<String>,
    /// API token of the running server
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

/// Runs one.
pub async fn run(command: AdminCommand) -> Result<ExitCode, CommandError> {
    match command {
        AdminCommand::ImportTopology { file, place } => import_topology(&file, place).await,
        AdminCommand::Enrol { meters, json, place } => enrol(meters, json, place).await,
        AdminCommand::Token { name, read_only, data, simulation } => token(&name, read_only, &data, simulation).await,
        AdminCommand::ExportState { data, out } => export_state(&data, &out).await,
        AdminCommand::VerifyAudit { data } => verify_audit(&data).await,
    }
}

/// Opens a directory of either kind; it must be there.
async fn open(data: &Path) -> Result<DataDirectory, CommandError> {
    if !data.is_dir() {
        return Err(format!("{} is not there; `gridtally serve --data` makes a data directory", data.display()).into());
    }
    match DataDirectory::open(data, false).await {
        Ok(directory) => Ok(directory),
        Err(_) => Ok(DataDirectory::open(data, true).await?),
    }
}

fn rest(server: &str, token: Option<String>) -> Result<RestClient, CommandError> {
    Ok(RestClient::new(server, &token.unwrap_or_default(), std::time::Duration::from_secs(30))?)
}

async fn import_topology(file: &Path, place: Place) -> Result<ExitCode, CommandError> {
    let bytes = std::fs::read(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    let csv = store::csv_text(&bytes).map_err(|e| format!("{}: {e}", file.display()))?;
    let report: Value = match (place.data, place.server) {
        (Some(data), _) => {
            let directory = open(&data).await?;
            let report = directory.store.import_topology(csv, BY, Clock::Real.now()).await?;
            directory.store.close().await?;
            serde_json::to_value(report)?
        }
        (None, Some(server)) => rest(&server, place.token)?.post_text("/api/v1/topology", "text/csv", csv).await?,
        (None, None) => return Err("say where: --data DIR, or --server URL with --token".into()),
    };
    let rejected = report["rejected"].as_array().cloned().unwrap_or_default();
    let refused = report["rejected_count"].as_u64().unwrap_or(rejected.len() as u64);
    println!("{} rows accepted, {} unchanged, {refused} rejected", report["accepted"], report["unchanged"]);
    for row in &rejected {
        println!("  line {}: {}", row["line"], row["reason"].as_str().unwrap_or_default());
    }
    Ok(if rejected.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn enrol(meters: Vec<MeterId>, as_json: bool, place: Place) -> Result<ExitCode, CommandError> {
    let enrolled: Value = match (place.data, place.server) {
        (Some(data), _) => {
            let directory = open(&data).await?;
            let enrolled = directory.store.enrol(&meters, BY, Clock::Real.now()).await?;
            let key = hex(&directory.key.verifying_key().to_bytes());
            directory.store.close().await?;
            let list: Vec<Value> = enrolled.iter().map(|e| credentials(e.meter, &hex(&e.secret), &key)).collect();
            json!({ "meters": list })
        }
        (None, Some(server)) => {
            let body = json!({ "meters": meters }).to_string();
            rest(&server, place.token)?.post_text("/api/v1/meters", "application/json", &body).await?
        }
        (None, None) => return Err("say where: --data DIR, or --server URL with --token".into()),
    };
    if as_json {
        println!("{enrolled}");
        return Ok(ExitCode::SUCCESS);
    }
    for meter in enrolled["meters"].as_array().into_iter().flatten() {
        print_enrolment(meter)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn credentials(meter: MeterId, secret: &str, server_key: &str) -> Value {
    json!({
        "meter": meter,
        "secret": secret,
        "server_key": server_key,
        "topics": { "up": format!("gt/1/{meter}/up/"), "down": metering::Topic::down_filter(meter) },
    })
}

fn print_enrolment(meter: &Value) -> Result<(), CommandError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    println!("meter      {}   (MQTT user name and client id)", text(&meter["meter"]));
    println!("secret     {}   (MQTT password; shown once)", text(&meter["secret"]));
    println!("publish    {}hello, profile, now, event, reply, quality, snapshot", text(&meter["topics"]["up"]));
    println!("subscribe  {}", text(&meter["topics"]["down"]));
    println!("server key {}   (Ed25519, verifies controls)", text(&meter["server_key"]));
    let code = qrcode::QrCode::new(format!("gridtally:{}:{}", text(&meter["meter"]), text(&meter["secret"])))?;
    println!("{}", terminal(&code));
    Ok(())
}

/// A QR code in half blocks, two modules high per line of text.
fn terminal(code: &qrcode::QrCode) -> String {
    let width = code.width();
    let dark = |x: usize, y: usize| {
        (2..width + 2).contains(&x) && (2..width + 2).contains(&y) && code[(x - 2, y - 2)] == qrcode::Color::Dark
    };
    let mut text = String::new();
    for y in (0..width + 4).step_by(2) {
        for x in 0..width + 4 {
            text.push(match (dark(x, y), dark(x, y + 1)) {
                (true, true) => ' ',
                (true, false) => '▄',
                (false, true) => '▀',
                (false, false) => '█',
            });
        }
        text.push('\n');
    }
    text
}

async fn token(name: &str, read_only: bool, data: &Path, simulation: bool) -> Result<ExitCode, CommandError> {
    let directory = match data.is_dir() && !simulation {
        true => open(data).await?,
        false => DataDirectory::open(data, simulation).await?,
    };
    let role = if read_only { Role::Engineer } else { Role::Operator };
    println!("{}", directory.store.create_api_token(name, role, BY, Clock::Real.now()).await?);
    directory.store.close().await?;
    Ok(ExitCode::SUCCESS)
}

async fn verify_audit(data: &Path) -> Result<ExitCode, CommandError> {
    let directory = open(data).await?;
    println!("{} rows, unbroken", directory.store.verify_audit().await?);
    directory.store.close().await?;
    Ok(ExitCode::SUCCESS)
}

async fn export_state(data: &Path, out: &Path) -> Result<ExitCode, CommandError> {
    let directory = open(data).await?;
    let state = state(&directory.store).await?;
    directory.store.close().await?;
    std::fs::write(out, serde_json::to_vec_pretty(&state)?)
        .map_err(|e| format!("cannot write {}: {e}", out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Everything that must be the same after a crash as without one.
async fn state(store: &Store) -> Result<Value, CommandError> {
    let end = Timestamp(i64::MAX / 2);
    let topology = store.topology(store.pipeline_state().await?.processed_through.unwrap_or(end)).await?;
    let mut registers = serde_json::Map::new();
    for meter in store.meters(end).await? {
        let last = store.registers_at(meter.meter, end).await?;
        registers.insert(meter.meter.to_string(), json!(last.map(|r| (r.end, r.import_wh, r.export_wh))));
    }
    let mut balances = serde_json::Map::new();
    for zone in &topology.zones {
        balances
            .insert(zone.zone.to_string(), serde_json::to_value(store.balances(zone.zone, Timestamp(0), end).await?)?);
    }
    let cases = store.cases(CaseFilter { limit: 100_000, ..CaseFilter::default() }).await?;
    let controls = store.controls(ControlFilter { limit: 100_000, ..ControlFilter::default() }).await?;
    let controls: Vec<Value> = controls
        .iter()
        .map(|c| {
            json!({"id": c.id, "meter": c.meter, "kind": c.kind.word(), "state": c.state.word(), "reason": c.reason,
            "steps": c.history.iter().map(|s| (s.at, s.state.word())).collect::<Vec<_>>()})
        })
        .collect();
    Ok(json!({ "registers": registers, "balances": balances, "cases": cases, "controls": controls }))
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
