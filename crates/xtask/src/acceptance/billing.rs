//! Every shared billing case through the product's own command, line by line to the minor unit; every tariff checked; the records of the
//! rate database imported and billed again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::run;

/// Keys of a line that must be the same; `from` and `to` are those of a part where the bill is split.
const LINE_KEYS: [&str; 8] = ["code", "period", "block", "quantity", "unit_price", "amount", "from", "to"];
/// Keys of a bill, of a token sale and of prepaid days that must be the same.
const BILL_KEYS: [&str; 6] = ["total", "carry", "token_kwh", "events", "closing_balance", "id"];
/// Keys of a day of prepayment.
const LEDGER_KEYS: [&str; 4] = ["date", "kwh", "debit", "balance"];

/// All shared cases.
pub fn cases(_: &[&str]) -> Result<(), String> {
    let Some(data) = run::shared_data() else {
        println!("   left out: no acceptance data beside the repository");
        return Ok(());
    };
    let folders = case_folders(&data.join("billing"))?;
    let (mut lines, mut failures) = (0usize, Vec::new());
    for folder in &folders {
        match check_case(folder) {
            Ok(count) => lines += count,
            Err(why) => failures.push(format!("{}: {why}", name_of(folder))),
        }
    }
    println!("   {} of {} cases, {lines} lines equal to the minor unit", folders.len() - failures.len(), folders.len());
    failures.extend(check_tariffs(&folders)?);
    failures.extend(import_again(&folders)?);
    for failure in &failures {
        println!("   {failure}");
    }
    if failures.is_empty() { Ok(()) } else { Err(format!("{} findings", failures.len())) }
}

fn case_folders(root: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(root).map_err(|why| format!("{}: {why}", root.display()))?;
    let mut folders: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.join("case.json").is_file()).collect();
    folders.sort();
    Ok(folders)
}

fn name_of(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn read_json(path: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))?;
    serde_json::from_str(&text).map_err(|why| format!("{}: {why}", path.display()))
}

fn bill_case(folder: &Path) -> Result<Value, String> {
    let out = Command::new(run::gridtally())
        .args(["bill", "case", &folder.to_string_lossy(), "--json"])
        .output()
        .map_err(|why| format!("gridtally does not start: {why}"))?;
    if !out.status.success() {
        return Err(format!("{}: {}", out.status, String::from_utf8_lossy(&out.stdout).trim()));
    }
    serde_json::from_slice(&out.stdout).map_err(|why| format!("no JSON: {why}"))
}

/// How many lines were compared.
fn check_case(folder: &Path) -> Result<usize, String> {
    compare(&bill_case(folder)?, &read_json(&folder.join("expected.json"))?)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn same(keys: &[&str], got: &Value, expected: &Value, place: &str) -> Result<(), String> {
    for key in keys {
        if got.get(*key) != expected.get(*key) {
            return Err(format!("{place} {key}: {} instead of {}", got[*key], expected[*key]));
        }
    }
    Ok(())
}

fn compare(got: &Value, expected: &Value) -> Result<usize, String> {
    let (bills, wanted) = (list(got, "bills"), list(expected, "bills"));
    if bills.len() != wanted.len() {
        return Err(format!("{} bills instead of {}", bills.len(), wanted.len()));
    }
    let mut count = 0;
    for (got, expected) in bills.iter().zip(wanted) {
        let place = format!("bill {}", expected["id"]);
        count += compare_lines(list(got, "lines"), list(expected, "lines"), &place)?;
        same(&BILL_KEYS, got, expected, &place)?;
        let (days, wanted) = (list(got, "ledger"), list(expected, "ledger"));
        if days.len() != wanted.len() {
            return Err(format!("{place}: {} days instead of {}", days.len(), wanted.len()));
        }
        for (got, expected) in days.iter().zip(wanted) {
            same(&LEDGER_KEYS, got, expected, &place)?;
            count += compare_lines(list(got, "lines"), list(expected, "lines"), &place)?;
        }
    }
    Ok(count)
}

fn compare_lines(got: &[Value], expected: &[Value], place: &str) -> Result<usize, String> {
    if got.len() != expected.len() {
        return Err(format!("{place}: {} lines instead of {}", got.len(), expected.len()));
    }
    for (number, (got, expected)) in got.iter().zip(expected).enumerate() {
        same(&LINE_KEYS, got, expected, &format!("{place}, line {}", number + 1))?;
    }
    Ok(got.len())
}

/// Published tariffs are accepted by `tariff check`.
fn check_tariffs(folders: &[PathBuf]) -> Result<Vec<String>, String> {
    let (mut count, mut refused) = (0, Vec::new());
    for folder in folders {
        let case = read_json(&folder.join("case.json"))?;
        for name in list(&case, "tariffs").iter().filter_map(Value::as_str) {
            count += 1;
            let file = folder.join(name);
            let out =
                Command::new(run::gridtally()).args(["tariff", "check", &file.to_string_lossy(), "--json"]).output();
            let out = out.map_err(|why| format!("gridtally does not start: {why}"))?;
            if !out.status.success() {
                refused.push(format!(
                    "{}/{name} is refused: {}",
                    name_of(folder),
                    String::from_utf8_lossy(&out.stdout)
                ));
            }
        }
    }
    println!("   {} of {count} published tariffs accepted", count - refused.len());
    Ok(refused)
}

/// A record of the rate database, imported, gives the same bills as the shared tariff, wherever nothing was changed in that by hand.
fn import_again(folders: &[PathBuf]) -> Result<Vec<String>, String> {
    let (mut count, mut failures) = (0, Vec::new());
    for folder in folders.iter().filter(|folder| folder.join("urdb.json").is_file()) {
        let shared = read_json(&folder.join("tariff.json"))?;
        if shared["source"].get("changed_by_us").is_some() {
            continue;
        }
        count += 1;
        if let Err(why) = import_one(folder, &shared) {
            failures.push(format!("{}: imported again: {why}", name_of(folder)));
        }
    }
    println!("   {} of {count} records imported to the same bills", count - failures.len());
    Ok(failures)
}

fn import_one(folder: &Path, shared: &Value) -> Result<(), String> {
    let work = run::root().join("target/acceptance-billing").join(name_of(folder));
    fs::create_dir_all(&work).map_err(|why| why.to_string())?;
    for name in ["case.json", "readings.csv.gz"] {
        fs::copy(folder.join(name), work.join(name)).map_err(|why| format!("{name}: {why}"))?;
    }
    let zone = shared["timezone"].as_str().unwrap_or_default();
    let program = run::gridtally().to_string_lossy().into_owned();
    let record = folder.join("urdb.json");
    let text = run::output(&program, &["tariff", "import", &record.to_string_lossy(), "--timezone", zone])?;
    let mut tariff: Value = serde_json::from_str(&text).map_err(|why| why.to_string())?;
    // The cases have hourly data: a window of 15 or 30 minutes cannot be measured in it. What becomes of exported energy was chosen by the case.
    for key in ["demand", "export"] {
        let Some(object) = tariff.as_object_mut() else { continue };
        match shared.get(key) {
            Some(value) => object.insert(key.to_owned(), value.clone()),
            None => object.remove(key),
        };
    }
    fs::write(work.join("tariff.json"), tariff.to_string()).map_err(|why| why.to_string())?;
    let (got, expected) = (bill_case(&work)?, read_json(&folder.join("expected.json"))?);
    for (got, expected) in list(&got, "bills").iter().zip(list(&expected, "bills")) {
        same(&["total"], got, expected, &format!("bill {}", expected["id"]))?;
    }
    Ok(())
}
