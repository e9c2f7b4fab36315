//! `gridtally losses explain CASE` and `gridtally losses export CASE`: the evidence of a case computed once more from stored readings, and
//! handed over as a file.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use web::bundle;

use super::CommandError;
use crate::{data_directory::DataDirectory, pipeline::recompute};

/// Rows that differ are always shown; of the others so many, unless all are asked for.
const EQUAL_ROWS_SHOWN: usize = 12;

/// Arguments of `losses explain`.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// Number of the case; `C-7` and `7` are the same
    #[arg(value_name = "CASE", value_parser = case_number)]
    case: u64,
    /// Data directory of a server that does not run
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Show every number, equal or not
    #[arg(long)]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `losses export`.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// Number of the case
    #[arg(value_name = "CASE", value_parser = case_number)]
    case: u64,
    /// Data directory of a server that does not run
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The file to write; its ending says what: `.json` or `.pdf`
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

fn case_number(text: &str) -> Result<u64, String> {
    text.trim_start_matches("C-").parse().map_err(|_| format!("{text} is no case: give its number, as 7 or C-7"))
}

/// Opens a directory of either kind; it must be there.
async fn open(data: &Path) -> Result<DataDirectory, CommandError> {
    if !data.is_dir() {
        return Err(format!("{} is not there; give the data directory of the server", data.display()).into());
    }
    match DataDirectory::open(data, false).await {
        Ok(directory) => Ok(directory),
        Err(_) => Ok(DataDirectory::open(data, true).await?),
    }
}

fn no_such_case(case: u64) -> CommandError {
    format!("there is no case {case} in this data directory").into()
}

/// Computes every number of a case's evidence again. Fails when one differs.
pub async fn explain(arguments: ExplainArguments) -> Result<ExitCode, CommandError> {
    let directory = open(&arguments.data).await?;
    let report = recompute::recompute(&directory.store, arguments.case).await;
    directory.store.close().await?;
    let report = report?.ok_or_else(|| no_such_case(arguments.case))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        tell(&report, arguments.all)?;
    }
    Ok(if report.equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(report: &recompute::Report, all: bool) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    let mut equal_shown = 0;
    for row in &report.rows {
        if row.equal {
            equal_shown += 1;
            if !all && equal_shown > EQUAL_ROWS_SHOWN {
                continue;
            }
        }
        let verdict = if row.equal { "equal" } else { "DIFFERENT" };
        writeln!(out, "{} · {}", row.what, row.number)?;
        writeln!(out, "  stored      {}", row.stored)?;
        writeln!(out, "  recomputed  {}", row.recomputed.as_deref().unwrap_or("nothing stored leads to it"))?;
        writeln!(out, "  {verdict}")?;
    }
    let hidden = equal_shown.saturating_sub(EQUAL_ROWS_SHOWN);
    if !all && hidden > 0 {
        writeln!(out, "… and {hidden} more that are equal (--all shows them)")?;
    }
    writeln!(
        out,
        "case {}: {} numbers recomputed from stored readings, {} different",
        report.case, report.numbers, report.different
    )?;
    Ok(())
}

/// Writes a case's evidence to a file.
pub async fn export(arguments: ExportArguments) -> Result<ExitCode, CommandError> {
    let directory = open(&arguments.data).await?;
    let made = bundle::gather(&directory.store, arguments.case).await;
    directory.store.close().await?;
    let made = made.map_err(|e| e.to_string())?.ok_or_else(|| no_such_case(arguments.case))?;
    let bytes = match arguments.out.extension().and_then(|ending| ending.to_str()) {
        Some("json") => made.json.clone(),
        Some("pdf") => bundle::pdf(&made),
        _ => return Err("the file's ending says what to write: .json or .pdf".into()),
    };
    std::fs::write(&arguments.out, bytes).map_err(|e| format!("cannot write {}: {e}", arguments.out.display()))?;
    println!("case {} written to {}; SHA-256 of its JSON {}", arguments.case, arguments.out.display(), made.sha256);
    Ok(ExitCode::SUCCESS)
}
