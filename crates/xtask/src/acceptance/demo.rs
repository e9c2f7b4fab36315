//! The main job, measured: `gridtally demo` at many seeds, and `serve` killed under a lockstep neighbourhood.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::run;

const KILLS: usize = 20;

/// 17 virtual days at one seed: long enough for history, the large theft and its disconnection.
pub fn short(_: &[&str]) -> Result<(), String> {
    let report = demo(&["demo", "--days", "17", "--speed", "max", "--seed", "1", "--json"])?;
    describe(1, &report);
    let mut complaints = nothing_lost(&report);
    let verified = controls(&report).any(|c| c["kind"] == "disconnect" && c["state"] == "Verified");
    if !verified {
        complaints.push("no disconnection was verified".into());
    }
    finish(complaints)
}

/// 30 virtual days at seeds 1 to 20, or at the seeds given; `--profiles FILE` is passed on.
pub fn seeds(arguments: &[&str]) -> Result<(), String> {
    let (numbers, passed_on): (Vec<&str>, Vec<&str>) = arguments.iter().partition(|word| word.parse::<u64>().is_ok());
    let seeds: Vec<u64> = match numbers.is_empty() {
        true => (1..=20).collect(),
        false => numbers.iter().filter_map(|word| word.parse().ok()).collect(),
    };
    let mut complaints = Vec::new();
    let (mut zone_months, mut false_alarms, mut accusations) = (0.0, 0, 0);
    let mut reports = Vec::new();
    for seed in &seeds {
        let seed_text = seed.to_string();
        let mut words = vec!["demo", "--days", "30", "--speed", "max", "--seed", &seed_text, "--json"];
        words.extend(&passed_on);
        let report = demo(&words)?;
        describe(*seed, &report);
        complaints.extend(nothing_lost(&report).into_iter().map(|c| format!("seed {seed}: {c}")));
        complaints.extend(thefts_alarmed(&report).into_iter().map(|c| format!("seed {seed}: {c}")));
        let zones = report["zones"].as_array().map_or(0, Vec::len);
        zone_months += zones as f64 * report["days"].as_f64().unwrap_or(0.0) / 30.0;
        false_alarms += zones_with_false_alarm(&report);
        accusations += report["false_accusations"].as_u64().unwrap_or(0);
        reports.push((*seed, report));
    }
    precision_and_delays(&reports);
    println!(
        "   {false_alarms} false alarms in {zone_months:.1} zone-months (stated: at most 1 in 100); {accusations} false accusations"
    );
    // At a stated rate of 0.01 a Poisson count above this has less than one chance in a hundred.
    let permitted = (0..).find(|&n| poisson_tail(zone_months * 0.01, n) < 0.01).unwrap_or(0);
    if false_alarms > permitted {
        complaints.push(format!("{false_alarms} false alarms, more than the {permitted} that the stated rate permits"));
    }
    if accusations > permitted {
        complaints.push(format!("{accusations} honest usage points were named first"));
    }
    finish(complaints)
}

/// One row a seed: precision of the first five, and the hours until each theft was alarmed / its thief named (a dash: not within the run).
fn precision_and_delays(reports: &[(u64, Value)]) {
    println!(
        "   seed  first five  stole  precision  canaries seen  hours to alarm/name by theft (kind, share of its zone)"
    );
    let (mut hits, mut listed, mut to_alarm, mut to_name) = (0, 0, Vec::new(), Vec::new());
    for (seed, report) in reports {
        let (stole, of) = (report["hits_at_5"].as_u64().unwrap_or(0), report["listed_at_5"].as_u64().unwrap_or(0));
        (hits, listed) = (hits + stole, listed + of);
        let precision = report["precision_at_5"].as_f64().map_or("–".to_owned(), |p| format!("{p:.2}"));
        let canaries = match (report["canaries"]["detected"].as_u64(), report["canaries"]["canaries"].as_u64()) {
            (Some(seen), Some(all)) => format!("{seen}/{all}"),
            _ => "–".to_owned(),
        };
        let mut cells = Vec::new();
        for theft in report["thefts"].as_array().into_iter().flatten() {
            let (alarm, named) = (theft["alarm_hours"].as_f64(), theft["named_hours"].as_f64());
            to_alarm.extend(alarm);
            to_name.extend(named);
            let hours = |hours: Option<f64>| hours.map_or("–".to_owned(), |h| format!("{h:.0}"));
            let share = 100.0 * theft["zone_share"].as_f64().unwrap_or(0.0);
            let kind = theft["kind"].as_str().unwrap_or("?");
            cells.push(format!("{}/{} ({kind}, {share:.0} %)", hours(alarm), hours(named)));
        }
        println!("   {seed:>4}  {of:>10}  {stole:>5}  {precision:>9}  {canaries:>13}  {}", cells.join(", "));
    }
    println!(
        "   precision of the first five over all seeds: {hits} of {listed}; median hours to the alarm {}, to the name {}",
        median(to_alarm),
        median(to_name)
    );
}

fn median(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).map_or("–".to_owned(), |value| format!("{value:.0}"))
}

/// Chance of more than `n` events at mean `mean`.
fn poisson_tail(mean: f64, n: u64) -> f64 {
    let mut term = (-mean).exp();
    let mut below = term;
    for k in 1..=n {
        term *= mean / k as f64;
        below += term;
    }
    1.0 - below
}

fn demo(words: &[&str]) -> Result<Value, String> {
    let program = run::gridtally().to_string_lossy().into_owned();
    let text = run::output(&program, words)?;
    serde_json::from_str(&text).map_err(|e| format!("demo --json did not print one object: {e}"))
}

fn describe(seed: u64, report: &Value) {
    let zones = report["zones"].as_array().cloned().unwrap_or_default();
    let thefts = zones.iter().filter(|zone| !zone["theft_started"].is_null()).count();
    let alarmed = zones.iter().filter(|zone| !zone["theft_started"].is_null() && !zone["alarm_at"].is_null()).count();
    let states: Vec<String> = controls(report)
        .map(|c| format!("{} {}", c["kind"].as_str().unwrap_or("?"), c["state"].as_str().unwrap_or("?")))
        .collect();
    println!(
        "   seed {seed}: {} frames, {} readings, lost {} Wh, doubled {} Wh, zones with theft {thefts}, alarmed {alarmed}, \
         cases {}, false accusations {}, controls [{}], {:.1} s, {} MB",
        report["frames_sent"],
        report["readings_stored"],
        report["lost_wh"],
        report["doubled_wh"],
        report["cases"].as_array().map_or(0, Vec::len),
        report["false_accusations"],
        states.join(", "),
        report["wall_s"].as_f64().unwrap_or(0.0),
        report["peak_rss_mb"],
    );
}

fn controls(report: &Value) -> impl Iterator<Item = &Value> {
    report["controls"].as_array().into_iter().flatten()
}

fn nothing_lost(report: &Value) -> Vec<String> {
    ["lost_wh", "doubled_wh"]
        .into_iter()
        .filter(|key| report[key].as_i64() != Some(0))
        .map(|key| format!("{key} = {}", report[key]))
        .collect()
}

/// Every theft of at least 3 % of its zone's energy is alarmed within 48 hours.
fn thefts_alarmed(report: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    for zone in report["zones"].as_array().into_iter().flatten() {
        let (Some(started), Some(supplied), Some(stolen)) =
            (zone["theft_started"].as_str(), zone["supplied_wh"].as_f64(), zone["stolen_wh"].as_f64())
        else {
            continue;
        };
        if stolen.abs() < 0.03 * supplied {
            continue;
        }
        let end = report["simulated_end"].as_str().unwrap_or_default();
        let late = match zone["alarm_at"].as_str() {
            Some(alarm) => hours_between(started, alarm) > 48.0,
            None => hours_between(started, end) > 48.0,
        };
        if late {
            complaints.push(format!("zone {}: theft from {started}, alarm {}", zone["name"], zone["alarm_at"]));
        }
    }
    complaints
}

fn zones_with_false_alarm(report: &Value) -> u64 {
    let zones = report["zones"].as_array().into_iter().flatten();
    let early = |zone: &&Value| match (zone["theft_started"].as_str(), zone["alarm_at"].as_str()) {
        (None, Some(_)) => true,
        (Some(started), Some(alarm)) => alarm < started,
        _ => false,
    };
    zones.filter(early).count() as u64
}

fn hours_between(earlier: &str, later: &str) -> f64 {
    let seconds = |text: &str| -> Option<f64> {
        let digits: Vec<f64> =
            text.split(|c: char| !c.is_ascii_digit()).filter_map(|field| field.parse().ok()).collect();
        let [year, month, day, hour, minute, second] = digits.first_chunk::<6>().copied()?;
        let (y, m) = if month <= 2.0 { (year - 1.0, month + 9.0) } else { (year, month - 3.0) };
        let days = (365.25 * y).floor() - (y / 100.0).floor() + (y / 400.0).floor() + (30.6 * m + 0.5).floor() + day;
        Some(days * 86_400.0 + hour * 3_600.0 + minute * 60.0 + second)
    };
    match (seconds(earlier), seconds(later)) {
        (Some(a), Some(b)) => (b - a) / 3_600.0,
        _ => f64::INFINITY,
    }
}

fn finish(complaints: Vec<String>) -> Result<(), String> {
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("; ")) }
}

/// `serve` and `simulate --lockstep` as two processes, `serve` killed again and again: the same end as undisturbed.
pub fn kill(arguments: &[&str]) -> Result<(), String> {
    let seed = arguments.first().copied().unwrap_or("1");
    let days = arguments.get(1).copied().unwrap_or("17");
    let folder = std::env::temp_dir().join(format!("gridtally-kill-{}", std::process::id()));
    let undisturbed = two_processes(&folder.join("undisturbed"), seed, days, 0)?;
    let killed = two_processes(&folder.join("killed"), seed, days, KILLS)?;
    let _ = std::fs::remove_dir_all(&folder);
    let mut complaints = Vec::new();
    for part in ["registers", "balances", "cases", "controls"] {
        if undisturbed[part].is_null() {
            complaints.push(format!("the export holds no {part}"));
        } else if undisturbed[part] != killed[part] {
            complaints.push(format!("{part} differ after {KILLS} kills"));
        }
    }
    if complaints.is_empty() {
        println!("   seed {seed}, {days} days, {KILLS} kills: registers, balances, cases and controls are the same");
    }
    finish(complaints)
}

struct Serve {
    child: Child,
    http: String,
    mqtt: String,
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `serve` and reads the addresses from its first lines. `ports` pins them at a restart.
fn serve(data: &Path, ports: Option<(&str, &str)>) -> Result<Serve, String> {
    let (http, mqtt) = ports.unwrap_or(("127.0.0.1:0", "127.0.0.1:0"));
    let mut child = Command::new(run::gridtally())
        .args(["serve", "--clock", "sim", "--http", http, "--mqtt", mqtt, "--data"])
        .arg(data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    let out = child.stdout.take().ok_or("serve has no output")?;
    let (mut http, mut mqtt) = (String::new(), String::new());
    let mut lines = BufReader::new(out).lines();
    while http.is_empty() || mqtt.is_empty() {
        let line = lines.next().ok_or("serve ended before it listened")?.map_err(|e| e.to_string())?;
        if let Some((_, address)) = line.split_once("console http://") {
            http = address.split(['/', ' ']).next().unwrap_or_default().to_owned();
        }
        if let Some((_, address)) = line.split_once("meters mqtt://") {
            mqtt = address.trim().to_owned();
        }
    }
    std::thread::spawn(move || lines.for_each(drop));
    Ok(Serve { child, http, mqtt })
}

fn two_processes(data: &Path, seed: &str, days: &str, kills: usize) -> Result<Value, String> {
    std::fs::create_dir_all(data).map_err(|e| e.to_string())?;
    let program = run::gridtally().to_string_lossy().into_owned();
    let data_text = data.to_string_lossy().into_owned();
    let token =
        run::output(&program, &["admin", "token", "--name", "simulator", "--data", &data_text, "--simulation"])?;
    let mut server = serve(data, None)?;
    let (http, mqtt) = (server.http.clone(), server.mqtt.clone());
    let start = Instant::now();
    let mut simulator = Command::new(&program)
        .args(["simulate", "--lockstep", "--json", "--seed", seed, "--days", days])
        .args([
            "--server",
            &format!("mqtt://{mqtt}"),
            "--http",
            &format!("http://{http}"),
            "--admin-token",
            token.trim(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    // Killing at moments spread by a fixed irregular sequence, so that a failing run can be repeated roughly.
    let mut pause = 400u64;
    let mut done = 0;
    while done < kills && simulator.try_wait().map_err(|e| e.to_string())?.is_none() {
        pause = 300 + (pause * 7_919 + 104_729) % 1_700;
        std::thread::sleep(Duration::from_millis(pause));
        server.child.kill().map_err(|e| e.to_string())?;
        let _ = server.child.wait();
        server = serve(data, Some((&http, &mqtt)))?;
        done += 1;
    }
    let mut report = String::new();
    if let Some(mut out) = simulator.stdout.take() {
        out.read_to_string(&mut report).map_err(|e| e.to_string())?;
    }
    let status = simulator.wait().map_err(|e| e.to_string())?;
    println!("   {done} kills in {:.0} s", start.elapsed().as_secs_f64());
    if !status.success() || done < kills {
        return Err(format!("the simulator ended ({status}) after {done} of {kills} kills"));
    }
    drop(server);
    let export: PathBuf = data.join("state.json");
    run::output(&program, &["admin", "export-state", "--data", &data_text, "--out", &export.to_string_lossy()])?;
    serde_json::from_str(&std::fs::read_to_string(export).map_err(|e| e.to_string())?).map_err(|e| e.to_string())
}
