//! Decodes a folder with an `index.json` and prints, for each file, how its readings compare with `*.expected.json`.
#![allow(clippy::print_stdout, reason = "an example talks to the person at the terminal")]

use std::{collections::BTreeMap, fs, path::Path};

use telegrams::{Decimal, Reading, folder, models::Models};

type Key = (String, String, String, String);

fn key(meter: &str, time: &str, quantity: &str, value: Decimal, unit: &str) -> Key {
    let (kilo, base) = match unit.strip_prefix('k') {
        Some(base) => (3, base),
        None => (0, unit),
    };
    let value = value.scaled(kilo).unwrap_or(value).reduced();
    (meter.into(), time.into(), quantity.into(), format!("{value} {}", base.to_lowercase()))
}

fn ours(reading: &Reading) -> Key {
    let time = reading.time.map_or(String::new(), |time| time.to_string());
    key(reading.meter.as_deref().unwrap_or(""), &time, &reading.quantity, reading.value, &reading.unit)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("which folder?")?;
    let folder = Path::new(&folder);
    let names_matter = std::env::args().nth(2).is_none();
    let models = Models::builtin()?;
    let entries: Vec<folder::Entry> = serde_json::from_str(&fs::read_to_string(folder.join("index.json"))?)?;
    let beside = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let (mut good, mut bad) = (0, 0);
    for entry in &entries {
        let bytes = fs::read(folder.join(&entry.file))?;
        let outcome = folder::decode(entry, &bytes, &beside, &models);
        let expected = fs::read_to_string(folder.join(format!("{}.expected.json", entry.file)))?;
        let expected: Vec<serde_json::Value> = serde_json::from_str(&expected)?;
        let text = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap_or("").to_string();
        let mut left: BTreeMap<Key, i32> = BTreeMap::new();
        for row in &expected {
            let value = Decimal::parse(&text(row, "value")).ok_or("a value")?;
            let mut k = key(&text(row, "meter"), &text(row, "time"), &text(row, "quantity"), value, &text(row, "unit"));
            if !names_matter {
                k.2.clear();
            }
            *left.entry(k).or_default() += 1;
        }
        let readings = outcome.as_ref().map(Vec::as_slice).unwrap_or_default();
        let mut extra = Vec::new();
        for reading in readings {
            let mut k = ours(reading);
            if !names_matter {
                k.2.clear();
            }
            match left.get_mut(&k) {
                Some(count) if *count > 0 => *count -= 1,
                _ => extra.push(k),
            }
        }
        let missing: Vec<&Key> = left.iter().filter(|(_, count)| **count > 0).map(|(k, _)| k).collect();
        if missing.is_empty() && (!expected.is_empty() || readings.is_empty()) {
            good += 1;
            if !extra.is_empty() {
                println!("ok {} (+{})", entry.file, extra.len());
            }
        } else {
            bad += 1;
            println!("BAD {} expected {} missing {} extra {}", entry.file, expected.len(), missing.len(), extra.len());
            if let Err(why) = &outcome {
                println!("    {}", why.to_string().chars().take(300).collect::<String>());
            }
            for k in missing.iter().take(25) {
                println!("    - {k:?}");
            }
            for k in extra.iter().take(25) {
                println!("    + {k:?}");
            }
        }
    }
    println!("{good} good, {bad} bad");
    Ok(())
}
