//! `gridtally meters`: telegrams and files of real meters to readings, and a telegram explained field by field.
//!
//! The work is done in the `telegrams` crate; here are the arguments, the files and the exit code.

mod kept_counter;
mod read_dlms;
mod serve_dlms;
mod simulated;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Map, Value, json};
use telegrams::{Fault, Quality, Reading, explain, folder, models::Models};

use super::CommandError;

/// Subcommands of `gridtally meters`.
#[derive(clap::Subcommand)]
pub enum MetersCommand {
    /// Decode every file of a folder that has an index.json (kind = folder of the file; keys, zone and framing from the index)
    Decode {
        /// The folder.
        folder: PathBuf,
        /// Print one JSON object `{file: [readings] or {"error": …}}` instead of text.
        #[arg(long)]
        json: bool,
        /// A folder with description files (TOML) of your own; they come before those that are built in.
        #[arg(long)]
        models: Option<PathBuf>,
    },
    /// A simulated meter that answers DLMS over TCP, for clients of others
    ServeDlms(serve_dlms::ServeDlmsArguments),
    /// Read a DLMS meter over TCP: registers, a profile, event logs; open and close its contact under an approval
    ReadDlms(Box<read_dlms::ReadDlmsArguments>),
    /// Show a telegram or a file field by field
    Explain {
        /// The file; an index.json beside it or one folder up gives kind, zone and keys.
        file: PathBuf,
        /// Its kind (p1, sml, dlms-push, mbus, wmbus, modbus, mqtt, http, sparkplug, nem12, espi, iec61968, mscons, csv); by its beginning
        /// when not given.
        #[arg(long)]
        kind: Option<String>,
        /// Zone of local times (Europe/Amsterdam, UTC+10).
        #[arg(long)]
        zone: Option<String>,
        /// Encryption key, 32 hexadecimal digits.
        #[arg(long)]
        key: Option<String>,
        /// Authentication key, 32 hexadecimal digits.
        #[arg(long)]
        authentication_key: Option<String>,
        /// A folder with description files (TOML) of your own.
        #[arg(long)]
        models: Option<PathBuf>,
    },
}

/// Runs a subcommand.
pub fn run(command: MetersCommand) -> Result<ExitCode, CommandError> {
    match command {
        MetersCommand::Decode { folder, json, models } => decode(&folder, json, &known_models(models.as_deref())?),
        MetersCommand::ServeDlms(arguments) => {
            serve_dlms::run(&arguments, &|| crate::clock::Clock::Real.now())?;
            Ok(ExitCode::SUCCESS)
        }
        MetersCommand::ReadDlms(arguments) => {
            read_dlms::run(&arguments)?;
            Ok(ExitCode::SUCCESS)
        }
        MetersCommand::Explain { file, kind, zone, key, authentication_key, models } => {
            let mut entry = of_index(&file)?.unwrap_or_default();
            entry.zone = zone.or(entry.zone);
            entry.encryption_key = key.or(entry.encryption_key);
            entry.authentication_key = authentication_key.or(entry.authentication_key);
            explain_file(&file, kind.as_deref(), entry, &known_models(models.as_deref())?)
        }
    }
}

/// The built-in descriptions and those of a folder.
fn known_models(folder: Option<&Path>) -> Result<Models, CommandError> {
    let mut models = Models::builtin()?;
    let Some(folder) = folder else { return Ok(models) };
    let entries = fs::read_dir(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "toml"))
    {
        let text = fs::read_to_string(&path).map_err(|why| format!("{}: {why}", path.display()))?;
        models.add(&path.display().to_string(), &text)?;
    }
    Ok(models)
}

fn read_index(folder: &Path) -> Result<Vec<folder::Entry>, CommandError> {
    let path = folder.join("index.json");
    let text = fs::read_to_string(&path).map_err(|why| {
        format!("{}: {why}; a folder of telegrams needs an index.json that lists its files", path.display())
    })?;
    Ok(serde_json::from_str(&text).map_err(|why| format!("{}: {why}", path.display()))?)
}

fn decode(folder: &Path, as_json: bool, models: &Models) -> Result<ExitCode, CommandError> {
    let beside = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let mut out = Map::new();
    for entry in read_index(folder)? {
        let outcome = match fs::read(folder.join(&entry.file)) {
            Ok(bytes) => folder::decode(&entry, &bytes, &beside, models),
            Err(why) => return Err(format!("{}: {why}", entry.file).into()),
        };
        if !as_json {
            println!("{}", line(&entry.file, &outcome));
        }
        out.insert(entry.file, shown(&outcome));
    }
    if as_json {
        println!("{}", serde_json::to_string(&Value::Object(out))?);
    }
    Ok(ExitCode::SUCCESS)
}

fn line(file: &str, outcome: &Result<Vec<Reading>, Fault>) -> String {
    match outcome {
        Ok(readings) => format!("{file:50} {} readings", readings.len()),
        Err(why) => format!("{file:50} {why}"),
    }
}

fn shown(outcome: &Result<Vec<Reading>, Fault>) -> Value {
    match outcome {
        Ok(readings) => readings.iter().map(reading).collect(),
        Err(why) => json!({ "error": why.to_string() }),
    }
}

fn reading(reading: &Reading) -> Value {
    let mut value = json!({
        "meter": reading.meter.as_deref(),
        "time": reading.time.map(|time| time.to_string()),
        "quantity": reading.quantity,
        "value": reading.value.to_string(),
        "unit": reading.unit,
    });
    if reading.quality != Quality::Measured {
        value["quality"] = reading.quality.word().into();
    }
    if let Some(seconds) = reading.interval_s {
        value["interval_s"] = seconds.into();
    }
    value
}

/// The entry of a file in the index beside it or one folder up.
fn of_index(file: &Path) -> Result<Option<folder::Entry>, CommandError> {
    let absolute = fs::canonicalize(file).map_err(|why| format!("{}: {why}", file.display()))?;
    for folder in absolute.ancestors().skip(1).take(2).filter(|folder| folder.join("index.json").is_file()) {
        let name = absolute.strip_prefix(folder).map(|name| name.display().to_string()).unwrap_or_default();
        if let Some(entry) = read_index(folder)?.into_iter().find(|entry| entry.file == name) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

fn explain_file(
    file: &Path,
    kind: Option<&str>,
    mut entry: folder::Entry,
    models: &Models,
) -> Result<ExitCode, CommandError> {
    let bytes = fs::read(file).map_err(|why| format!("{}: {why}", file.display()))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if entry.file.is_empty() || kind.is_some() {
        entry.file = format!("{}/{name}", kind.unwrap_or_else(|| explain::sniff(&name, &bytes)));
    }
    let root = fs::canonicalize(file)?.parent().and_then(Path::parent).map(Path::to_path_buf).unwrap_or_default();
    let beside = |name: &str| fs::read_to_string(root.join(name)).ok();
    print!("{}", explain::explain(&entry, &bytes, &beside, models)?);
    Ok(ExitCode::SUCCESS)
}
