//! Masked meters driven as a user would: the demonstration, the trade-off on a shared network, every abuse by its number, every party
//! killed with SIGKILL 200 times, and the evidence of a run checked by a program that shares nothing with ours.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::run;

/// Abuses that each have a test named after their number, in `docs/privacy/threats.md`.
const CASES: [u8; 20] = [8, 9, 10, 13, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 33];

/// That every case has its test, and that those and the attacks, the kills and the searched memory pass.
fn abuses() -> Result<(), String> {
    let root = run::root();
    let mut sources = String::new();
    let tests = root.join("crates/privacy/tests/it");
    let listed = std::fs::read_dir(&tests).map_err(|e| format!("cannot read {}: {e}", tests.display()))?;
    let files = listed.filter_map(|entry| Some(entry.ok()?.path()));
    let further = ["crates/privacy/src/mask.rs", "crates/meter/tests/it/masked.rs"].map(|name| root.join(name));
    for path in files.chain(further) {
        sources += &std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    }
    let missing: Vec<u8> = CASES.into_iter().filter(|n| !sources.contains(&format!("fn case_{n:02}_"))).collect();
    if !missing.is_empty() {
        return Err(format!("no test for the abuse cases {missing:?}"));
    }
    println!("   {} abuse cases have their test", CASES.len());
    run::step("abuses, attacks, kills, memory", "cargo", &["test", "--release", "--package", "privacy"])?;
    let meter = ["test", "--release", "--package", "meter", "--test", "it", "--", "masked", "power_cut"];
    run::step("a meter that masks, its power cut", "cargo", &meter)
}

/// Demonstration with one, two and three custodians; theft found; vectors checked by the independent program; the trade-off.
pub fn run(_: &[&str]) -> Result<(), String> {
    let program = run::gridtally().to_string_lossy().into_owned();
    for custodians in ["1", "2", "3"] {
        let told = run::output(&program, &["privacy", "demo", "--custodians", custodians, "--json"])?;
        let figures: Value = serde_json::from_str(&told).map_err(|e| format!("{e}: {told}"))?;
        let number = |key: &str| figures[key].as_f64().ok_or_else(|| format!("no {key} in {told}"));
        let is_exact = number("sums")? == number("sums_exact")? && number("bills")? == number("bills_exact")?;
        println!(
            "   {custodians} custodian(s): {} sums, {} registers of bills exact, {} refused, epsilon {}",
            figures["sums_exact"], figures["bills_exact"], figures["refused"], figures["epsilon_spent"]
        );
        if !is_exact || number("wrong")? != 0.0 || number("refused")? < 7.0 || number("runs_in_clear")? != 0.0 {
            return Err(told);
        }
    }
    theft(&program)?;
    abuses()?;
    let parties = ["test", "--release", "--package", "privacy", "--test", "it", "--", "killed_with_sigkill"];
    run::step_with(
        "meters, operator, custodian, witness killed 200 times",
        "cargo",
        &parties,
        &[("GRIDTALLY_KILLS", "200")],
    )?;
    let kills = ["test", "--release", "--package", "gridtally", "--lib", "--", "custodian", "privacy"];
    run::step_with("custodian killed 200 times", "cargo", &kills, &[("GRIDTALLY_KILLS", "200")])?;
    let root = run::root();
    let path = |name: &str| root.join(name).to_string_lossy().into_owned();
    let script = path("docs/privacy/check_masks.py");
    println!("   {}", run::output("python3", &[&script, &path("crates/privacy/tests/vectors/protocol.json")])?.trim());
    let folder = std::env::temp_dir().join(format!("gridtally-privacy-{}", std::process::id()));
    let checked = evidence(&program, &path("docs/privacy/check_evidence.py"), &folder);
    let drawn = checked.and_then(|()| plots(&program, &folder));
    let _ = std::fs::remove_dir_all(&folder);
    drawn
}

/// The masked score among three in a week, exact, surely in 95 of 100 cases; in a month with the noise of a case.
fn theft(program: &str) -> Result<(), String> {
    for (days, method, name) in [("7", 0, "exact, a week"), ("30", 1, "with noise of epsilon 4, a month")] {
        let told = run::output(program, &["privacy", "theft", "--trials", "200", "--days", days, "--json"])?;
        let figures: Value = serde_json::from_str(&told).map_err(|e| format!("{e}: {told}"))?;
        println!("   theft, {name}: {}", figures["methods"][method]);
        figures["curve"].as_array().into_iter().flatten().for_each(|level| println!("      {level}"));
        if figures["methods"][method]["top3_low"].as_f64().unwrap_or(0.0) < 0.95 {
            return Err(format!("{name}: the thief is not among three in 95 of 100 cases: {told}"));
        }
    }
    Ok(())
}

/// Tables and plots of the documents are what the product draws.
fn plots(program: &str, folder: &Path) -> Result<(), String> {
    let docs = run::root().join("docs/privacy");
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()));
    let same = |name: &str, arguments: &[&str]| -> Result<String, String> {
        let drawn = folder.join(name);
        let table = run::output(program, &[arguments, &["--svg", &drawn.to_string_lossy()]].concat())?;
        if read(&drawn)? != read(&docs.join(name))? {
            return Err(format!("docs/privacy/{name} is not what `gridtally {}` draws", arguments.join(" ")));
        }
        println!("   docs/privacy/{name} is what is drawn");
        Ok(table)
    };
    same("bytes.svg", &["privacy", "bytes"])?;
    let Some(data) = run::shared_data() else {
        println!("   the trade-off is left out: no acceptance data beside the repository");
        return Ok(());
    };
    let network = data.join("networks/ukgds95").to_string_lossy().into_owned();
    let table = same("estimate.svg", &["privacy", "estimate", &network])?;
    println!("{table}");
    let is_told = read(&docs.join("README.md"))?.contains(table.trim_end());
    is_told.then_some(()).ok_or_else(|| "docs/privacy/README.md shows another table".into())
}

/// A witness that is killed at any moment vouches for the log afterwards, and its directory is whole.
fn witness_killed(program: &str, log: &str, key: &str, data: &str) -> Result<String, String> {
    let arguments = ["witness", "--data", data, "--log", log, "--key", key, "--every", "0"];
    for kill in 0..200_u64 {
        let started = Command::new(program).args(arguments).stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut witness = started.map_err(|e| format!("the witness does not start: {e}"))?;
        // multiples of a number without a common factor reach every moment of its life
        std::thread::sleep(Duration::from_micros(kill * 7_919 % 40_000));
        witness.kill().and_then(|()| witness.wait()).map_err(|e| format!("the witness cannot be killed: {e}"))?;
        if kill % 20 == 19 {
            run::output(program, &arguments)?;
        }
    }
    let out = Command::new(program).args(arguments).output().map_err(|e| e.to_string())?;
    let told = String::from_utf8_lossy(&out.stderr);
    let public = told.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned();
    let verified = run::output(program, &["log", "verify", log, "--key", key, "--witness", &public, "--json"])?;
    println!("   the witness was killed 200 times; the log: {}", verified.trim());
    Ok(public)
}

/// A bundle of a run's log is good for the independent program, and an altered one is not.
fn evidence(program: &str, script: &str, folder: &Path) -> Result<(), String> {
    let text = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (log, name) = (text("log"), text("bundle.json"));
    let told = run::output(program, &["privacy", "demo", "--json", "--log", &log])?;
    let figures: Value = serde_json::from_str(&told).map_err(|e| format!("{e}: {told}"))?;
    let key = figures["log_key"].as_str().ok_or("the demonstration tells no key of its log")?;
    let witness = witness_killed(program, &log, key, &text("witness"))?;
    let entries = figures["log_entries"].as_u64().ok_or("the demonstration tells no number of entries")?;
    let write = |text: &str| std::fs::write(&name, text).map_err(|e| format!("{name}: {e}"));
    // the first, the last and one between
    for index in [0, entries / 2, entries - 1].map(|index| index.to_string()) {
        let bundle =
            run::output(program, &["log", "prove", &log, "--index", &index, "--key", key, "--witness", &witness])?;
        write(&bundle)?;
        println!("   {}", run::output("python3", &[script, &name])?.trim());
        write(&bundle.replacen("\\\"at\\\":1", "\\\"at\\\":2", 1))?;
        match run::output("python3", &[script, &name]) {
            Err(why) if why.contains("not in the tree") => {}
            other => return Err(format!("an altered bundle is not refused: {other:?}")),
        }
    }
    Ok(())
}
