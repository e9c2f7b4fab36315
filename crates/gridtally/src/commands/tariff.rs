//! `gridtally tariff`: explain a price list, refuse what cannot be, import from the Utility Rate Database.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use billing::cycle::Listed;
use billing::tariff::{check, describe, household};
use serde_json::json;

use super::CommandError;
use super::bill::files_of;

/// Subcommands of `gridtally tariff`.
#[derive(Debug, clap::Subcommand)]
pub enum TariffCommand {
    /// Say in plain sentences what a tariff means, or why it cannot be; exit code 2 if it is refused
    Check {
        /// A tariff file, JSON or TOML; files it names lie beside it.
        file: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Convert a record of the public Utility Rate Database; what it could not carry is listed. Exit code 2 if bills refuse the result
    Import {
        /// The record, JSON.
        file: PathBuf,
        /// IANA time zone of the utility; the record has none.
        #[arg(long)]
        timezone: Option<String>,
        /// Write the tariff here instead of to standard output.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

/// Runs a subcommand.
pub fn run(command: TariffCommand) -> Result<ExitCode, CommandError> {
    match command {
        TariffCommand::Check { file, json } => check(&file, json),
        TariffCommand::Import { file, timezone, out } => import(&file, timezone.as_deref(), out.as_deref()),
    }
}

/// Name of a file without its folder, as a case names it.
pub(super) fn name_of(file: &Path) -> String {
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Reads a tariff and the files beside it.
pub(super) fn listed(file: &Path) -> Result<Listed, billing::error::Fault> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files = files_of(folder);
    billing::case::read_tariff(&files, "the command line", "FILE", &name_of(file))
}

/// The text of a file, or what is wrong with it and what to do.
fn read(file: &Path) -> Result<String, String> {
    std::fs::read(file)
        .map_err(|why| format!("cannot be read: {why}; name a file that is there"))
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "is not UTF-8 text; save it as such".to_owned()))
}

/// Bad input, told as `gridtally bill` tells it.
fn unreadable(name: &str, why: &str, as_json: bool) -> Result<ExitCode, CommandError> {
    if as_json {
        writeln!(std::io::stdout().lock(), "{}", json!({ "error": why, "file": name, "where": "" }))?;
    } else {
        eprintln!("{name}: {why}");
    }
    Ok(ExitCode::from(2))
}

fn check(file: &Path, as_json: bool) -> Result<ExitCode, CommandError> {
    let name = name_of(file);
    let text = match read(file) {
        Ok(text) => text,
        Err(why) => return unreadable(&name, &why, as_json),
    };
    let (tariff, findings) = match check::read(&name, &text) {
        Ok((tariff, findings)) => (Some(tariff), findings),
        Err(findings) => (None, findings),
    };
    let accepted = tariff.is_some() && findings.iter().all(|finding| finding.weight == check::Weight::Note);
    let sentences = tariff.as_ref().map(describe::sentences).unwrap_or_default();
    let household = match (&tariff, listed(file)) {
        (None, _) => Vec::new(),
        (Some(_), Err(fault)) => vec![format!("What a household pays depends on files that cannot be read: {fault}")],
        (Some(_), Ok(listed)) => household_words(&listed),
    };
    let mut out = std::io::stdout().lock();
    if as_json {
        let findings: Vec<_> = findings
            .iter()
            .map(|f| {
                json!({ "weight": f.weight.word(), "line": f.line, "field": f.field, "problem": f.problem, "remedy": f.remedy })
            })
            .collect();
        let told = json!({
            "file": name, "accepted": accepted, "findings": findings, "sentences": sentences, "household": household,
        });
        writeln!(out, "{told}")?;
    } else {
        for sentence in sentences.iter().chain(&household) {
            writeln!(out, "{sentence}")?;
        }
        for finding in &findings {
            writeln!(out, "{}: {}: {finding}", name, finding.weight.word())?;
        }
        writeln!(out, "{}", if accepted { "accepted" } else { "refused" })?;
    }
    Ok(if accepted { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn household_words(listed: &Listed) -> Vec<String> {
    let kwh = household::HOUSEHOLD_KWH;
    let household = match household::of(listed) {
        Ok(household) => household,
        Err(why) => return vec![format!("What a household of {kwh} kWh pays cannot be said: {why}.")],
    };
    let assumed = match household.assumed.as_slice() {
        [] => String::new(),
        assumed => format!(" (assumed: {})", assumed.join(", ")),
    };
    let currency = &listed.tariff.currency;
    let mut words = vec![format!(
        "A household of {kwh} kWh in {}, the same at all times{assumed}, pays {currency} {}:",
        household.month.strftime("%Y-%m"),
        billing::bill::written(household.total, listed.tariff.minor_digits)
    )];
    words.extend(household.part.lines.iter().map(|line| {
        let amount = billing::bill::written(line.amount, listed.tariff.minor_digits);
        format!("  {} – {}: {} {} = {amount}", line.code, line.description, line.quantity.to_decimal(3), line.unit)
    }));
    words
}

fn import(file: &Path, timezone: Option<&str>, to: Option<&Path>) -> Result<ExitCode, CommandError> {
    let text = match read(file) {
        Ok(text) => text,
        Err(why) => return unreadable(&name_of(file), &why, false),
    };
    let imported = match billing::urdb::import(&text, timezone) {
        Ok(imported) => imported,
        Err(why) => {
            eprintln!("{}: {why}", file.display());
            return Ok(ExitCode::from(2));
        }
    };
    let tariff = serde_json::to_string_pretty(&imported.tariff)?;
    match to {
        None => writeln!(std::io::stdout().lock(), "{tariff}")?,
        Some(path) => std::fs::write(path, tariff.clone() + "\n")
            .map_err(|why| format!("cannot write {}: {why}", path.display()))?,
    }
    for open in &imported.open {
        eprintln!("look at: {open}");
    }
    let findings = match check::read("import.json", &tariff) {
        Ok((_, findings)) | Err(findings) => findings,
    };
    for finding in findings.iter().filter(|finding| finding.weight > check::Weight::Note) {
        eprintln!("{}: {finding}", finding.weight.word());
    }
    let refused = findings.iter().any(|finding| finding.weight == check::Weight::Refused);
    Ok(if refused { ExitCode::from(2) } else { ExitCode::SUCCESS })
}
