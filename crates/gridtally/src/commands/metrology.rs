//! `gridtally metrology`: the metrology core against test files, and a picture of what it sees.
//!
//! `check` judges, `measure` only measures, `demo` draws. The work is done in the `metrology` crate; here are the
//! arguments, the files and the exit code.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use metrology::host::check::Verdict;
use metrology::host::files::TestFile;
use metrology::host::{demo, vectors};
use serde_json::json;

/// Subcommands of `gridtally metrology`.
#[derive(clap::Subcommand)]
pub enum MetrologyCommand {
    /// Run vector and flicker files through the core and compare with their expectations; exit code 1 if any fails.
    Check {
        /// Vector files or flicker files (told apart by their keys).
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Print one JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Measure vector and flicker files without looking at their expectations.
    Measure {
        /// Vector files or flicker files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Print one JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Draw waveform, spectrum and display of a signal as SVG and PNG; the limits of EN 50160 beside the spectrum are from
    /// secondary sources and were not compared with the standard's text.
    Demo {
        /// A vector file; without one, a built-in household with a distorted current.
        file: Option<PathBuf>,
        /// Which vector of the file; the first without it.
        #[arg(long)]
        vector: Option<String>,
        /// Directory for the pictures, created if missing.
        #[arg(long, default_value = "metrology-demo")]
        out: PathBuf,
        /// Print one JSON object with the paths written.
        #[arg(long)]
        json: bool,
    },
}

/// Runs a subcommand.
pub fn run(command: MetrologyCommand) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        MetrologyCommand::Check { files, json } => check(&files, json),
        MetrologyCommand::Measure { files, json } => measure(&files, json),
        MetrologyCommand::Demo { file, vector, out, json } => draw(file.as_deref(), vector.as_deref(), &out, json),
    }
}

fn parse(path: &Path) -> Result<TestFile, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    TestFile::parse(&text).map_err(|e| format!("{}: {e}", path.display()))
}

fn check(files: &[PathBuf], as_json: bool) -> Result<ExitCode, Box<dyn Error>> {
    let mut verdict = Verdict::default();
    for path in files {
        let items = parse(path)?.check().map_err(|e| format!("{}: {e}", path.display()))?;
        verdict.extend(items);
    }
    let mut out = std::io::stdout().lock();
    if as_json {
        serde_json::to_writer(&mut out, &verdict)?;
        writeln!(out)?;
    } else {
        for item in verdict.items.iter().filter(|i| !i.pass) {
            writeln!(
                out,
                "FAIL {} {}: expected {}, got {}, tolerance {}",
                item.id, item.quantity, item.expected, item.got, item.tolerance
            )?;
        }
        writeln!(out, "{} passed, {} failed", verdict.passed, verdict.failed)?;
    }
    Ok(if verdict.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(files: &[PathBuf], as_json: bool) -> Result<ExitCode, Box<dyn Error>> {
    let mut measured = Vec::new();
    for path in files {
        measured.extend(parse(path)?.measure().map_err(|e| format!("{}: {e}", path.display()))?);
    }
    let mut out = std::io::stdout().lock();
    if as_json {
        serde_json::to_writer(&mut out, &json!({ "vectors": measured }))?;
        writeln!(out)?;
    } else {
        for entry in &measured {
            writeln!(out, "{}", entry["id"].as_str().unwrap_or_default())?;
            for (name, value) in entry["quantities"].as_object().into_iter().flatten() {
                writeln!(out, "  {name:<20} {value}")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn draw(
    file: Option<&Path>,
    wanted: Option<&str>,
    directory: &Path,
    as_json: bool,
) -> Result<ExitCode, Box<dyn Error>> {
    let (vector, udin_v) = match file {
        None => (demo::household(), 230.0),
        Some(path) => {
            let TestFile::Vectors(file) = parse(path)? else {
                return Err(format!("{}: flicker files hold no waveform to draw", path.display()).into());
            };
            let found = file.vectors.into_iter().find(|v| wanted.is_none_or(|w| v.id == w));
            let missing = || format!("{}: no vector {}", path.display(), wanted.unwrap_or("at all"));
            (found.ok_or_else(missing)?, file.udin_v)
        }
    };
    let run = vectors::run(&vector, udin_v)?;
    std::fs::create_dir_all(directory).map_err(|e| format!("cannot create {}: {e}", directory.display()))?;
    let mut written = Vec::new();
    for (name, picture) in demo::pictures(&vector, &run)? {
        for (ending, bytes) in [("svg", picture.svg().into_bytes()), ("png", picture.png())] {
            let path = directory.join(format!("{name}.{ending}"));
            std::fs::write(&path, bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
            written.push(path.display().to_string());
        }
    }
    let mut out = std::io::stdout().lock();
    if as_json {
        serde_json::to_writer(&mut out, &json!({ "vector": vector.id, "files": written }))?;
        writeln!(out)?;
    } else {
        for path in &written {
            writeln!(out, "{path}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
