//! `gridtally admin`: topology, enrolment, tokens; on a data directory, or on a running server by REST.

mod people;
mod place;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use metering::{MeterId, Timestamp};
use serde_json::{Value, json};
use store::{CaseFilter, ControlFilter, Role, Store};

use super::CommandError;
use crate::{audit_head, clock::Clock, data_directory::DataDirectory};
use people::NewTokenWords;
use place::{Place, PlaceArguments};

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
        place: PlaceArguments,
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
        place: PlaceArguments,
    },
    /// Take a meter's secret back: it is let in no more
    Withdraw {
        /// The meter
        meter: MeterId,
        #[command(flatten)]
        place: PlaceArguments,
    },
    /// Make a token for a program; prints it, once
    Token {
        /// Name of the program
        #[arg(long)]
        name: String,
        /// Permission to read and to work on cases only, instead of everything
        #[arg(long)]
        read_only: bool,
        /// Days until it ends; without, it does not
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: Option<u32>,
        /// A directory that is not there is made for simulation
        #[arg(long)]
        simulation: bool,
        #[command(flatten)]
        place: PlaceArguments,
    },
    /// Take a program's token back
    RevokeToken {
        /// Name of the program
        #[arg(long)]
        name: String,
        #[command(flatten)]
        place: PlaceArguments,
    },
    /// Make a person, or let one in again with a new first password; prints the password, once
    Person {
        /// Name of the person
        name: String,
        /// operator or engineer; of a person who is there already it stays
        #[arg(long, default_value = "operator")]
        role: String,
        #[command(flatten)]
        place: PlaceArguments,
    },
    /// Make a new server key when the old one is lost; every meter must be enrolled again then
    RenewKey {
        /// Data directory of a server that does not run
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
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

/// Runs one.
pub async fn run(command: AdminCommand) -> Result<ExitCode, CommandError> {
    match command {
        AdminCommand::ImportTopology { file, place } => import_topology(&file, place).await,
        AdminCommand::Enrol { meters, json, place } => enrol(meters, json, place).await,
        AdminCommand::Withdraw { meter, place } => withdraw(meter, place).await,
        AdminCommand::Token { name, read_only, days, simulation, place } => {
            let role = if read_only { Role::Engineer } else { Role::Operator };
            people::token(NewTokenWords { name, role, days }, simulation, place).await
        }
        AdminCommand::RevokeToken { name, place } => people::revoke_token(&name, place).await,
        AdminCommand::Person { name, role, place } => people::person(&name, role, place).await,
        AdminCommand::RenewKey { data } => {
            let meters = DataDirectory::renew_key(&data, BY, Clock::Real.now()).await?;
            println!("a new key is made; {meters} meters must be enrolled again: they trust the one that was lost");
            Ok(ExitCode::SUCCESS)
        }
        AdminCommand::ExportState { data, out } => export_state(&data, &out).await,
        AdminCommand::VerifyAudit { data } => verify_audit(&data).await,
    }
}

/// Opens a directory that no server has open.
async fn open_alone(data: &Path) -> Result<DataDirectory, CommandError> {
    match place::open_directory(data).await? {
        Place::Directory(directory) => Ok(*directory),
        Place::Server(_) => Err(format!("a server runs on {}: stop it first", data.display()).into()),
    }
}

async fn import_topology(file: &Path, place: PlaceArguments) -> Result<ExitCode, CommandError> {
    let bytes = std::fs::read(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    let csv = store::csv_text(&bytes).map_err(|e| format!("{}: {e}", file.display()))?;
    let report: Value = match place.open().await? {
        Place::Directory(directory) => {
            let report = directory.store.import_topology(csv, BY, Clock::Real.now()).await?;
            directory.store.close().await?;
            serde_json::to_value(report)?
        }
        Place::Server(server) => server.ask("POST", "/api/v1/topology", "text/csv", csv.to_owned()).await?,
    };
    let rejected = report["rejected"].as_array().cloned().unwrap_or_default();
    let count = report["rejected_count"].as_u64().unwrap_or(rejected.len() as u64);
    println!("{} rows accepted, {} unchanged, {count} rejected", report["accepted"], report["unchanged"]);
    for row in &rejected {
        println!("  line {}: {}", row["line"], row["reason"].as_str().unwrap_or_default());
    }
    Ok(if count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn enrol(meters: Vec<MeterId>, as_json: bool, place: PlaceArguments) -> Result<ExitCode, CommandError> {
    let enrolled: Value = match place.open().await? {
        Place::Directory(directory) => {
            let enrolled = directory.store.enrol(&meters, BY, Clock::Real.now()).await?;
            let key = hex(&directory.key.verifying_key().to_bytes());
            directory.store.close().await?;
            let list: Vec<Value> = enrolled.iter().map(|e| credentials(e.meter, &hex(&e.secret), &key)).collect();
            json!({ "meters": list })
        }
        Place::Server(server) => server.ask_json("POST", "/api/v1/meters", &json!({ "meters": meters })).await?,
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

async fn withdraw(meter: MeterId, place: PlaceArguments) -> Result<ExitCode, CommandError> {
    match place.open().await? {
        Place::Directory(directory) => {
            directory.store.withdraw(meter, BY, Clock::Real.now()).await?;
            directory.store.close().await?;
        }
        Place::Server(server) => {
            server.ask("DELETE", &format!("/api/v1/meters/{meter}/secret"), "application/json", String::new()).await?;
        }
    }
    println!("{meter} is let in no more");
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

async fn verify_audit(data: &Path) -> Result<ExitCode, CommandError> {
    let directory = open_alone(data).await?;
    let key = directory.key.verifying_key();
    let (rows, head) = audit_head::verify(data, &directory.store, &key).await?;
    match head {
        Some(head) => println!("{rows} rows, unbroken; row {} was signed at {}", head.id, head.at),
        None => println!("{rows} rows, unbroken; none was signed yet, so rows cut off at the end would not show"),
    }
    directory.store.close().await?;
    Ok(ExitCode::SUCCESS)
}

async fn export_state(data: &Path, out: &Path) -> Result<ExitCode, CommandError> {
    let directory = open_alone(data).await?;
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
