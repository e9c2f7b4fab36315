//! DLMS with others, both ways: the Gurux client on our simulated meter, our client on a meter of `dlms-cosem-rs`.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::run;

const GURUX: &str = include_str!("../gurux_client.py");
/// A young crate with a server; its example is a meter on port 4059.
const SERVER: &str = "dlms-cosem-rs";
const SERVER_VERSION: &str = "0.1.0";
const KEYS: [&str; 4] =
    ["--key", "000102030405060708090A0B0C0D0E0F", "--authentication-key", "D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF"];

/// Ends a program when the comparison is over, whatever came of it.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until somebody listens.
pub fn wait_for(port: &str) -> Result<(), String> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        if TcpStream::connect(format!("127.0.0.1:{port}")).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("nobody listens on port {port}"))
}

/// The Gurux client reads our simulated meter in every way, and switches it; our own client reads it before and after.
pub fn gurux(python: &str, gridtally: &str, work: &Path) -> Result<(), String> {
    let port = "24059";
    let counter: PathBuf = work.join("counter");
    let meter = Command::new(gridtally)
        .args(["meters", "serve-dlms", "--listen", &format!("127.0.0.1:{port}"), "--password", "Gridtally-secret"])
        .args(KEYS)
        .args(["--approved-by", "peers", "--counter-file", &counter.display().to_string()])
        .stdout(Stdio::null())
        .spawn();
    let _meter = Running(meter.map_err(|why| why.to_string())?);
    wait_for(port)?;
    println!("\ngurux-dlms client on our simulated meter");
    let ways = [
        ("none", "wrapper"),
        ("lls", "wrapper"),
        ("hls", "wrapper"),
        ("none", "hdlc"),
        ("lls", "hdlc"),
        ("hls", "hdlc"),
    ];
    for (number, (how, framing)) in ways.into_iter().enumerate() {
        // Its invocation counter must grow from one conversation to the next.
        let counter = (number * 1_000 + 1).to_string();
        let before = ours(gridtally, port, &[])?;
        let told = run::output(python, &["-c", GURUX, port, how, framing, &counter])?;
        let after = ours(gridtally, port, &[])?;
        let told = told.lines().last().unwrap_or_default().to_owned();
        let read: Value = serde_json::from_str(&told).map_err(|why| format!("{how} over {framing}: {why}: {told}"))?;
        // The meter counts on while it is read.
        let energy = read["energy"].as_i64().unwrap_or(-1);
        let whole = (energy_of(&before)..=energy_of(&after)).contains(&energy)
            && read["rows"] == 240
            && read["by_entry"] == 3
            && read["by_range"] == 10
            && read["after_disconnect"] == false
            && read["after_reconnect"] == true;
        println!("    {how:5} {framing:8} {} {told}", if whole { "equal" } else { "UNEQUAL" });
        if !whole {
            return Err(format!("{how} over {framing}: {told}, ours before {before} and after {after}"));
        }
    }
    Ok(())
}

/// What our own client reads.
fn ours(gridtally: &str, port: &str, more: &[&str]) -> Result<Value, String> {
    let address = format!("127.0.0.1:{port}");
    let told = run::output(gridtally, &[&["meters", "read-dlms", &address], more].concat())?;
    serde_json::from_str(told.trim()).map_err(|why| format!("{why}: {told}"))
}

fn energy_of(read: &Value) -> i64 {
    let value = read["registers"]["1-0:1.8.0*255"]["value"].as_str().unwrap_or_default();
    value.parse().unwrap_or(-1)
}

/// Our client on a meter that others wrote: registers, its profile in blocks and by entry, disconnection and reconnection.
pub fn independent_meter(gridtally: &str, work: &Path) -> Result<(), String> {
    let source = server_source(work)?;
    let target = work.join("server-target").display().to_string();
    let manifest = source.join("Cargo.toml").display().to_string();
    let build = ["build", "--quiet", "--example", "meter", "--manifest-path", &manifest, "--target-dir", &target];
    run::step("a meter of others", "cargo", &build)?;
    println!("\nour client on the meter of {SERVER} {SERVER_VERSION}");
    for ciphered in [false, true] {
        let mut meter = Command::new(format!("{target}/debug/examples/meter"));
        if ciphered {
            meter.arg("--ciphered");
        }
        let meter = meter.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let _meter = Running(meter.map_err(|why| why.to_string())?);
        wait_for("4059")?;
        let counter = work.join("our-counter").display().to_string();
        let mut words = vec!["--attribute", "7/1-0:99.1.0/2"];
        if ciphered {
            words.extend(KEYS);
            words.extend(["--counter-file", &counter, "--title", "4D4D4D0000000001"]);
        }
        let how = if ciphered { "hls" } else { "none" };
        for (switch, output) in [("off", false), ("on", true)] {
            words.extend(["--switch", switch, "--approved-by", "peers"]);
            let read = ours(gridtally, "4059", &words)?;
            words.truncate(words.len() - 4);
            let rows = read["attributes"]["7/1-0:99.1.0/2"].as_array().map_or(0, Vec::len);
            let energy = energy_of(&read);
            let whole = rows == 240 && energy > 0 && read["switched"]["output"] == output;
            println!(
                "    {how:5} {}: energy {energy}, {rows} rows, switched {switch}: {}",
                if whole { "equal" } else { "UNEQUAL" },
                read["switched"]
            );
            if !whole {
                return Err(format!("{how}: {}", shortened(&read.to_string())));
            }
        }
    }
    Ok(())
}

fn shortened(text: &str) -> String {
    text.chars().take(600).collect()
}

/// The source of the crate, unpacked by cargo itself.
fn server_source(work: &Path) -> Result<PathBuf, String> {
    let probe = work.join("server-probe");
    fs::create_dir_all(probe.join("src")).map_err(|why| why.to_string())?;
    let manifest = format!(
        "[package]\nname = \"server-probe\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[dependencies]\n{SERVER} = \"={SERVER_VERSION}\"\n[workspace]\n"
    );
    fs::write(probe.join("Cargo.toml"), manifest).map_err(|why| why.to_string())?;
    fs::write(probe.join("src/lib.rs"), "").map_err(|why| why.to_string())?;
    let file = probe.join("Cargo.toml").display().to_string();
    let told = run::output("cargo", &["metadata", "--format-version", "1", "--manifest-path", &file])?;
    let told: Value = serde_json::from_str(&told).map_err(|why| why.to_string())?;
    let packages = told["packages"].as_array().into_iter().flatten();
    let found =
        packages.filter(|package| package["name"] == SERVER).find_map(|package| package["manifest_path"].as_str());
    let manifest = PathBuf::from(found.ok_or("cargo does not name the crate's source")?);
    // Its folder in the registry must stay as it is: it is built from a copy.
    let copy = work.join("server-source");
    let from = manifest.parent().ok_or("a manifest without a folder")?;
    if !copy.is_dir() {
        let copied = Command::new("cp").arg("-r").arg(from).arg(&copy).status().map_err(|why| why.to_string())?;
        copied.success().then_some(()).ok_or("the source could not be copied")?;
        let manifest = copy.join("Cargo.toml");
        let text = fs::read_to_string(&manifest).map_err(|why| why.to_string())?;
        // It lies below our workspace and is none of it.
        fs::write(&manifest, format!("{text}\n[workspace]\n")).map_err(|why| why.to_string())?;
    }
    Ok(copy)
}
