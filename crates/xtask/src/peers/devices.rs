//! `cargo xtask peers devices`: the shared telegrams through readers of others, and the Gurux client on our simulated meter, in one run.
//!
//! The peers come from PyPI into a virtual environment under `target/`; the Gurux client is GPL-2 and runs as a process of its own. Their times
//! are wall time of the fastest of many runs, as ours.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::run;

const COMPARE: &str = include_str!("devices.py");
const GURUX: &str = include_str!("gurux_client.py");

const PACKAGES: [&str; 7] = [
    "dsmr-parser==1.11.2",
    "smllib==1.7",
    "pyMeterBus==0.8.5",
    "nemreader",
    "pandas",
    "dlms-cosem==25.1.0",
    "gurux-dlms==1.0.203",
];

/// Captures whose decoding is timed: P1, SML, DLMS push.
const TIMED: [&str; 3] = ["p1/v5.txt", "sml/ISKRA_MT631-D1A52-K0z-H01_with_PIN.bin", "dlms-push/iskra_am550.bin"];

/// Starts each peer and prints the tables.
pub fn run() -> Result<(), String> {
    let folder = run::shared_data().ok_or("no shared data beside the repository")?.join("devices");
    let python = environment()?;
    run::step("build", "cargo", &["build", "--release", "--locked", "-p", "gridtally"])?;
    run::step("build", "cargo", &["build", "--release", "--locked", "-p", "telegrams", "--example", "decoding_speed"])?;
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
    tables(&theirs, &ours);
    gurux(&python, &gridtally, &work)
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

fn tables(theirs: &Value, ours: &Value) {
    println!("{:14} {:14} {:>6} {:>7} {:>7}", "peer", "kind", "files", "values", "equal");
    for row in theirs["table"].as_array().into_iter().flatten() {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        println!(
            "{:14} {:14} {:>6} {:>7} {:>7}",
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

/// Ends the meter when the comparison is over, whatever came of it.
struct Meter(Child);

impl Drop for Meter {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The Gurux client reads our simulated meter in every way, and switches it.
fn gurux(python: &str, gridtally: &str, work: &Path) -> Result<(), String> {
    let port = "24059";
    let counter: PathBuf = work.join("counter");
    let key = ["--key", "000102030405060708090A0B0C0D0E0F", "--authentication-key", "D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF"];
    let meter = Command::new(gridtally)
        .args(["meters", "serve-dlms", "--listen", &format!("127.0.0.1:{port}"), "--password", "Gridtally-secret"])
        .args(key)
        .args(["--approved-by", "peers", "--counter-file", &counter.display().to_string()])
        .spawn();
    let _meter = Meter(meter.map_err(|why| why.to_string())?);
    wait_for(port)?;
    println!("\ngurux-dlms client on our simulated meter");
    for (number, (how, framing)) in [
        ("none", "wrapper"),
        ("lls", "wrapper"),
        ("hls", "wrapper"),
        ("none", "hdlc"),
        ("lls", "hdlc"),
        ("hls", "hdlc"),
    ]
    .into_iter()
    .enumerate()
    {
        // Its invocation counter must grow from one conversation to the next.
        let counter = (number * 1_000 + 1).to_string();
        let told = run::output(python, &["-c", GURUX, port, how, framing, &counter])?;
        let told = told.lines().last().unwrap_or_default().to_owned();
        let read: Value = serde_json::from_str(&told).map_err(|why| format!("{how} over {framing}: {why}: {told}"))?;
        let whole = read["energy"] == 1_005_975
            && read["rows"] == 240
            && read["by_entry"] == 3
            && read["by_range"] == 10
            && read["after_disconnect"] == false
            && read["after_reconnect"] == true;
        println!("    {how:5} {framing:8} {} {told}", if whole { "equal" } else { "UNEQUAL" });
        if !whole {
            return Err(format!("{how} over {framing}: {told}"));
        }
    }
    Ok(())
}

fn wait_for(port: &str) -> Result<(), String> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        if std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err("the simulated meter does not listen".into())
}
