//! Style that matters is a test: layers, sizes, dead files, banned names and calls, each with its reason.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::run;

/// Crate, and the crates of the project it may use. Order is the layering of ARCHITECTURE.md, bottom up.
const LAYERS: &[(&str, &[&str])] = &[
    ("metering", &[]),
    ("metrology", &[]),
    ("privacy", &["metering"]),
    ("meter", &["metering", "metrology", "privacy"]),
    ("board", &["metering", "metrology"]),
    ("grid", &["metering"]),
    ("registry", &["metering"]),
    ("losses", &["metering", "registry", "grid"]),
    ("billing", &["metering"]),
    ("telegrams", &["metering"]),
    ("forecast", &["grid"]),
    ("store", &["metering", "registry", "losses", "grid"]),
    ("headend", &["metering"]),
    ("sim", &["metering", "metrology", "meter", "grid"]),
    ("web", &["metering", "metrology", "registry", "grid", "losses", "store"]),
    (
        "gridtally",
        &[
            "metering",
            "metrology",
            "meter",
            "registry",
            "grid",
            "losses",
            "forecast",
            "billing",
            "store",
            "headend",
            "web",
            "sim",
            "privacy",
            "telegrams",
        ],
    ),
    ("xtask", &["metering", "meter", "telegrams"]),
];

/// Crates that must stay pure: no clock, no environment, no input or output but the file readers named in [`MAY_READ`].
const PURE: &[&str] = &[
    "metering",
    "metrology",
    "meter",
    "board",
    "registry",
    "grid",
    "losses",
    "forecast",
    "billing",
    "privacy",
    "telegrams",
];

/// Files of pure crates that read a folder which the caller names: importers of network and benchmark tables, which are the
/// crate's own file formats. They take a path, and read; nothing else there may touch a disk.
const MAY_READ: &[&str] =
    &["grid/src/folder.rs", "grid/src/threephase/folder.rs", "losses/src/tables.rs", "losses/src/localise/trial.rs"];

/// Longest file, in lines. A longer one asks to be divided by noun.
const FILE_LINES_MAX: usize = 800;

/// Text that must not stand in product code, and why.
const BANNED: &[(&str, &str, &[&str])] = &[
    (
        "SystemTime::now",
        "time is an argument; the one real clock is made in gridtally/src/clock.rs",
        &["gridtally/src/clock.rs"],
    ),
    ("thread_rng", "randomness is an argument, from a seed", &[]),
    (
        "fail_each_write_once(",
        "failures on purpose are for tests",
        &["store/src/faults.rs", "gridtally/tests/it/writes_fail.rs"],
    ),
    ("todo!(", "no stub", &[]),
    ("unimplemented!(", "no stub", &[]),
    ("#[ignore", "a test that does not run is a defect", &[]),
    ("../shared", "acceptance data is named in xtask and .ci/run only", &[]),
];

/// Text that must not stand in pure crates.
const BANNED_IN_PURE: &[(&str, &str)] = &[
    ("std::env", "a pure core reads no environment"),
    ("tokio", "a pure core is not asynchronous"),
    ("sqlx", "a pure core knows no database"),
    ("Instant::now", "a pure core has no clock"),
    ("println!", "a pure core does not print"),
    ("eprintln!", "a pure core does not print"),
    ("std::net", "a pure core knows no network"),
    ("std::process", "a pure core starts nothing"),
    ("tracing", "a pure core does not log"),
];

/// As [`BANNED_IN_PURE`], but for the files of [`MAY_READ`].
const BANNED_BUT_READERS: &[(&str, &str)] = &[
    ("fs::", "a pure core reads no file; importers are named in MAY_READ of xtask/src/tidy.rs"),
    ("File::", "a pure core reads no file; importers are named in MAY_READ of xtask/src/tidy.rs"),
];

/// Names that say nothing.
const BANNED_FILE_NAMES: &[&str] = &["util.rs", "utils.rs", "common.rs", "helpers.rs", "manager.rs", "misc.rs"];

/// Whether a line holds the text, and not as the end of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    let inside = |at: usize| line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| !inside(at))
}

/// Checks the tree and lists every finding.
pub fn run() -> Result<(), String> {
    let root = run::root();
    let mut findings = Vec::new();
    check_layers(&root, &mut findings)?;
    check_code_map(&root, &mut findings)?;
    let mut files = Vec::new();
    for (name, _) in LAYERS {
        rust_files(&root.join("crates").join(name), &mut files)?;
    }
    for file in &files {
        check_file(&root, file, &mut findings)?;
    }
    check_dead_files(&files, &mut findings)?;
    for finding in &findings {
        println!("tidy: {finding}");
    }
    match findings.len() {
        0 => Ok(()),
        n => Err(format!("{n} findings")),
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn manifest(root: &Path, name: &str) -> Result<toml::Table, String> {
    let path = root.join("crates").join(name).join("Cargo.toml");
    read(&path)?.parse().map_err(|e| format!("{}: {e}", path.display()))
}

fn check_layers(root: &Path, findings: &mut Vec<String>) -> Result<(), String> {
    let known: Vec<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    for entry in fs::read_dir(root.join("crates")).map_err(|e| e.to_string())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !known.contains(&name.as_str()) {
            findings.push(format!("crates/{name} is not in the layer table of xtask/src/tidy.rs"));
        }
    }
    for (name, may) in LAYERS {
        let manifest = manifest(root, name)?;
        let Some(dependencies) = manifest.get("dependencies").and_then(toml::Value::as_table) else { continue };
        for used in dependencies.keys().filter(|key| known.contains(&key.as_str())) {
            if !may.contains(&used.as_str()) {
                findings.push(format!("{name} uses {used}: arrows only point down (see ARCHITECTURE.md)"));
            }
        }
    }
    Ok(())
}

/// The code map of ARCHITECTURE.md holds every crate with the description of its manifest.
fn check_code_map(root: &Path, findings: &mut Vec<String>) -> Result<(), String> {
    let architecture = read(&root.join("ARCHITECTURE.md"))?;
    for (name, _) in LAYERS {
        let manifest = manifest(root, name)?;
        let description = manifest
            .get("package")
            .and_then(|p| p.get("description"))
            .and_then(toml::Value::as_str)
            .unwrap_or_default();
        let row = format!("| `{name}` | {description} |");
        if !architecture.contains(&row) {
            findings.push(format!("ARCHITECTURE.md lacks the row: {row}"));
        }
    }
    Ok(())
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn check_file(root: &Path, path: &Path, findings: &mut Vec<String>) -> Result<(), String> {
    let text = read(path)?;
    let short = path.strip_prefix(root.join("crates")).unwrap_or(path).to_string_lossy().replace('\\', "/");
    let owner = short.split('/').next().unwrap_or_default().to_owned();
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(format!("{short} has {lines} lines, more than {FILE_LINES_MAX}: divide it by noun"));
    }
    if let Some(name) = path.file_name().and_then(|n| n.to_str())
        && BANNED_FILE_NAMES.contains(&name)
    {
        findings.push(format!("{short}: the name says nothing; name it after what it holds"));
    }
    let is_module = short.contains("/src/");
    if is_module && !text.trim_start().starts_with("//!") {
        findings.push(format!("{short} begins without a header that says what it is and why"));
    }
    if owner == "xtask" {
        return Ok(());
    }
    for (word, why, except) in BANNED {
        if text.contains(word) && !except.contains(&short.as_str()) {
            findings.push(format!("{short} holds `{word}`: {why}"));
        }
    }
    if PURE.contains(&owner.as_str()) && is_module {
        let readers: &[_] = if MAY_READ.contains(&short.as_str()) { &[] } else { BANNED_BUT_READERS };
        for (word, why) in BANNED_IN_PURE.iter().chain(readers) {
            if code_lines(&text).any(|line| has_word(line, word)) {
                findings.push(format!("{short} holds `{word}`: {why}"));
            }
        }
    }
    if matches!(owner.as_str(), "metering" | "meter") && is_module {
        for word in ["f32", "f64"] {
            if code_lines(&text).any(|line| has_word(line, word)) {
                findings.push(format!("{short} holds `{word}`: quantities are integers here"));
            }
        }
    }
    // Money: no float in the tests either, which are what says that an amount is right.
    if owner == "billing" {
        for word in ["f32", "f64", "as_f64", "from_f64", "to_f64"] {
            if text.lines().any(|line| has_word(line, word)) {
                findings
                    .push(format!("{short} holds `{word}`: money and energy are exact; no binary float comes near"));
            }
        }
    }
    Ok(())
}

/// Lines that are not comments, up to the tests of the file.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// Every file under `src` is reached by a `mod` of its parent.
fn check_dead_files(files: &[PathBuf], findings: &mut Vec<String>) -> Result<(), String> {
    let mut declared: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for path in files {
        let names = read(path)?
            .lines()
            .filter_map(|line| {
                let line = line.trim().strip_suffix(';')?;
                let (before, name) = line.rsplit_once("mod ")?;
                (before.is_empty() || before.ends_with(' ') || before.ends_with(']')).then(|| name.to_owned())
            })
            .collect();
        declared.insert(path.clone(), names);
    }
    for path in files {
        let Some(stem) = path.file_stem().and_then(|s| s.to_str()) else { continue };
        let Some(folder) = path.parent() else { continue };
        let in_src = path.components().any(|c| c.as_os_str() == "src");
        if !in_src || path.components().any(|c| c.as_os_str() == "bin") || matches!(stem, "lib" | "main" | "build") {
            continue;
        }
        let (name, home) = if stem == "mod" {
            let Some(name) = folder.file_name().and_then(|n| n.to_str()) else { continue };
            (name, folder.parent().unwrap_or(folder))
        } else {
            (stem, folder)
        };
        let parents =
            ["lib.rs", "main.rs", "mod.rs"].map(|file| home.join(file)).into_iter().chain([home.with_extension("rs")]);
        let reached = parents
            .into_iter()
            .any(|parent| declared.get(&parent).is_some_and(|names| names.iter().any(|n| n == name)));
        if !reached {
            findings.push(format!("{} is reached by no `mod`: dead file", path.display()));
        }
    }
    Ok(())
}
