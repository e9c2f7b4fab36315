//! `cargo xtask peers devices`: the shared telegrams through readers of others, what makers' libraries send through ours, and both halves of
//! DLMS, Modbus and MQTT against programs of others, in one run.
//!
//! The peers come from PyPI into a virtual environment under `target/`; the Gurux client is GPL-2 and runs as a process of its own. Their times
//! are wall time of the fastest run of a second, as ours, so that another load on the machine hardly counts.

mod dlms;
mod gateways;
mod modbus;

use std::{fs, path::Path};

use serde_json::Value;

use crate::run;

const COMPARE: &str = include_str!("devices.py");
const MAKERS: &str = include_str!("makers.py");

const PACKAGES: [&str; 13] = [
    "dsmr-parser==1.11.2",
    "smllib==1.7",
    "pyMeterBus==0.8.5",
    "nemreader",
    "pandas",
    "dlms-cosem",
    "gurux-dlms==1.0.203",
    "hatasmota",
    "aioshelly",
    "pysparkplug==0.6.1",
    "pyemoncms==0.1.3",
    "tb-mqtt-client==1.13.14",
    "pymodbus==3.16.1",
];

/// Captures whose decoding is timed: P1, SML, DLMS push.
const TIMED: [&str; 3] = ["p1/v5.txt", "sml/ISKRA_MT631-D1A52-K0z-H01_with_PIN.bin", "dlms-push/iskra_am550.bin"];

/// Starts each peer and prints the tables.
pub fn run() -> Result<(), String> {
    let folder = run::shared_data().ok_or("no shared data beside the repository")?.join("devices");
    let python = environment()?;
    let work = run::root().join("target/peers-devices");
    fs::create_dir_all(&work).map_err(|why| why.to_string())?;
    let gridtally = run::gridtally().display().to_string();
    let decoded = run::output(&gridtally, &["meters", "decode", &folder.display().to_string(), "--json"])?;
    let decoded_file = work.join("decoded.json");
    fs::write(&decoded_file, decoded).map_err(|why| why.to_string())?;
    let theirs = run::output(
        &python,
        &[
            "-c",
            COMPARE,
            &folder.display().to_string(),
            &decoded_file.display().to_string(),
            TIMED[0],
            TIMED[1],
            TIMED[2],
        ],
    )?;
    let theirs: Value = serde_json::from_str(theirs.trim()).map_err(|why| why.to_string())?;
    let timed: Vec<String> = TIMED.iter().map(|file| folder.join(file).display().to_string()).collect();
    let speed = run::gridtally().with_file_name("examples").join("decoding_speed").display().to_string();
    let ours = run::output(&speed, &timed.iter().map(String::as_str).collect::<Vec<_>>())?;
    let ours: Value = serde_json::from_str(ours.trim()).map_err(|why| why.to_string())?;
    let makers = run::output(
        &python,
        &[
            "-c",
            MAKERS,
            &folder.display().to_string(),
            &decoded_file.display().to_string(),
            &gridtally,
            &work.display().to_string(),
        ],
    )?;
    let makers: Value = serde_json::from_str(makers.trim()).map_err(|why| why.to_string())?;
    let rows = [&theirs, &makers].into_iter().flat_map(|told| told["table"].as_array().into_iter().flatten());
    let rows: Vec<&Value> = rows.collect();
    table(&rows);
    speeds(&theirs, &ours);
    modbus::read(&python, &folder)?;
    dlms::gurux(&python, &gridtally, &work)?;
    dlms::independent_meter(&gridtally, &work)?;
    gateways::run(&python, &gridtally, &work)
}

fn environment() -> Result<String, String> {
    let folder = run::root().join("target/peers-devices/venv");
    let python = folder.join("bin/python").display().to_string();
    if !Path::new(&python).is_file() {
        run::step("virtual environment", "python3", &["-m", "venv", &folder.display().to_string()])?;
    }
    let mut words = vec!["-m", "pip", "install", "--quiet"];
    words.extend(PACKAGES);
    run::step("peers from PyPI", &python, &words)?;
    Ok(python)
}

fn table(rows: &[&Value]) {
    println!("{:20} {:26} {:>6} {:>7} {:>7}", "peer", "kind", "files", "values", "equal");
    for row in rows {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        println!(
            "{:20} {:26} {:>6} {:>7} {:>7}",
            text("peer"),
            text("kind"),
            row["files"],
            row["values"],
            row["equal"]
        );
        for note in row["notes"].as_array().into_iter().flatten() {
            println!("    {}", note.as_str().unwrap_or_default());
        }
    }
}

fn speeds(theirs: &Value, ours: &Value) {
    println!("\n{:14} {:>12} {:>12} {:>8}", "speed", "theirs µs", "ours µs", "ratio");
    let pairs = [("dsmr-parser", "p1"), ("smllib", "sml_readings"), ("dlms-cosem", "push")];
    for (peer, name) in pairs {
        line(peer, theirs["speed"][peer].as_f64(), ours[name].as_f64());
    }
    line("sml-rs", ours["sml_rs"].as_f64(), ours["sml"].as_f64());
}

fn line(peer: &str, theirs: Option<f64>, ours: Option<f64>) {
    match theirs.zip(ours) {
        Some((theirs, ours)) => println!("{peer:14} {theirs:>12.2} {ours:>12.2} {:>8.1}", theirs / ours),
        None => println!("{peer:14} not measured"),
    }
}
