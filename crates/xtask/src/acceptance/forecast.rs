//! Forecasts and solar on the shared data: targets, the leak test, coherence, and the weeks held back when they are there.
//!
//! Without held-back readings the last four weeks of the shared history are the hidden part, and targets are ratios to the mean of four
//! weeks on the same days; with them (`acceptance forecast FOLDER`, or a further Parquet file beside `train.parquet`) they are absolute.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{run, tools};

/// Mean of the last four same weekdays with the quantiles of its residuals of four weeks; joins histories; judges solar; checks sums.
const SCRIPT: &str = include_str!("forecast.py");

/// One group's targets: set, kind, with weather, nCRPS on held-back weeks, ratio to the mean of four weeks elsewhere.
const TARGETS: &[(&str, &str, bool, f64, f64)] = &[
    ("london", "household", false, 0.336, 0.838),
    ("london", "transformer", false, 0.103, 0.888),
    ("london", "feeder", false, 0.056, 0.836),
    ("ashd", "aggregate", false, 0.113, 0.764),
    ("aedp", "aggregate", false, 0.162, 0.656),
    ("mascot", "zone_substation", false, 0.0175, 0.389),
    ("ashd", "aggregate", true, 0.080, 0.541),
    ("aedp", "aggregate", true, 0.150, 0.607),
    ("mascot", "zone_substation", true, 0.0160, 0.356),
];
const DAY_S: i64 = 86_400;

/// One set prepared: files, first origin, days.
struct Set {
    name: &'static str,
    folder: PathBuf,
    work: PathBuf,
    history: PathBuf,
    meta: PathBuf,
    first: i64,
    days: i64,
    held_back: bool,
}

struct Bench {
    python: String,
    script: String,
    scorer: String,
}

/// Runs everything; the first argument may name a folder with a subfolder per set that holds the held-back readings.
pub fn run(arguments: &[&str]) -> Result<(), String> {
    let Some(data) = run::shared_data().map(|d| d.join("forecast")).filter(|d| d.is_dir()) else {
        println!("   left out: no acceptance data beside the repository");
        return Ok(());
    };
    let Some(python) = tools::python_with(&["numpy", "pyarrow"]) else { return Ok(()) };
    let work = run::gridtally().with_file_name("acceptance-forecast");
    fs::create_dir_all(&work).map_err(|e| format!("cannot make {}: {e}", work.display()))?;
    let script = work.join("forecast.py");
    fs::write(&script, SCRIPT).map_err(|e| format!("cannot write {}: {e}", script.display()))?;
    let bench = Bench {
        python: python.to_string_lossy().into_owned(),
        script: script.to_string_lossy().into_owned(),
        scorer: data.join("score_forecast.py").to_string_lossy().into_owned(),
    };
    let mut missed = Vec::new();
    for name in ["london", "ashd", "aedp", "mascot"] {
        let set = prepare(&bench, &data, &work, name, arguments.first().copied())?;
        for weather in [false, true] {
            missed.extend(judge(&bench, &set, weather)?);
        }
        missed.extend(leak(&bench, &set)?);
    }
    missed.extend(solar(&bench, &data.join("solar"), &work)?);
    if missed.is_empty() { Ok(()) } else { Err(missed.join("; ")) }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn script(bench: &Bench, words: &[&str]) -> Result<Value, String> {
    let mut all = vec![bench.script.as_str()];
    all.extend(words);
    let out = run::output(&bench.python, &all)?;
    serde_json::from_str(&out).map_err(|e| format!("{}: {e}", words.join(" ")))
}

/// Histories joined where weeks are held back; the hidden part's first day and length.
fn prepare(bench: &Bench, data: &Path, work: &Path, name: &'static str, held: Option<&str>) -> Result<Set, String> {
    let folder = data.join(name);
    let work = work.join(name);
    fs::create_dir_all(&work).map_err(|e| format!("cannot make {}: {e}", work.display()))?;
    let mut parts = vec![folder.join("train.parquet")];
    let known = ["train.parquet", "series.parquet", "weather.parquet", "tou_2013.parquet"];
    let further = held.map_or_else(|| folder.clone(), |h| Path::new(h).join(name));
    for entry in fs::read_dir(&further).map_err(|e| format!("{}: {e}", further.display()))?.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        if file.ends_with(".parquet") && !known.contains(&file.as_str()) {
            parts.push(entry.path());
        }
    }
    let read = fs::read_to_string(folder.join("meta.json")).map_err(|e| format!("{name}: {e}"))?;
    let mut meta: Value = serde_json::from_str(&read).map_err(|e| format!("{name}: {e}"))?;
    let first = meta["origin_first"].as_i64().ok_or_else(|| format!("{name}: meta.json lacks origin_first"))?;
    let held_back = parts.len() > 1;
    let days = if held_back { meta["origins"].as_i64().unwrap_or(56) } else { 28 };
    let first = if held_back { first } else { first - days * DAY_S };
    (meta["origin_first"], meta["origins"]) = (json!(first), json!(days));
    let (history, meta_file) = (work.join("history.parquet"), work.join("meta.json"));
    fs::write(&meta_file, meta.to_string()).map_err(|e| format!("{}: {e}", meta_file.display()))?;
    let mut words = vec!["join".to_owned(), text(&history)];
    words.extend(parts.iter().map(|p| text(p)));
    script(bench, &words.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(Set { name, folder, work, history, meta: meta_file, first, days, held_back })
}

/// The product's forecast of a set.
fn forecast(set: &Set, history: &Path, weather: bool, until: i64, out: &Path) -> Result<(), String> {
    let words = [
        "forecast".to_owned(),
        "--history".to_owned(),
        text(history),
        "--series".to_owned(),
        text(&set.folder.join("series.parquet")),
        "--from".to_owned(),
        set.first.to_string(),
        "--until".to_owned(),
        until.to_string(),
        "--horizon".to_owned(),
        "48".to_owned(),
        "--origins".to_owned(),
        "daily".to_owned(),
        "--out".to_owned(),
        text(out),
    ];
    let mut words: Vec<String> = words.into();
    if weather {
        words.extend(["--weather".to_owned(), text(&set.folder.join("weather.parquet"))]);
    }
    run::output(&text(&run::gridtally()), &words.iter().map(String::as_str).collect::<Vec<_>>()).map(|_| ())
}

fn score(bench: &Bench, set: &Set, file: &Path) -> Result<Value, String> {
    let (history, meta, file) = (text(&set.history), text(&set.meta), text(file));
    let series = text(&set.folder.join("series.parquet"));
    let words =
        [&bench.scorer, "score", "--history", &history, "--series", &series, "--meta", &meta, "--forecast", &file];
    let out = run::output(&bench.python, &words)?;
    serde_json::from_str(&out).map_err(|e| format!("{}: the scorer's answer: {e}", set.name))
}

/// Scores beside the mean of four weeks; what is not reached.
fn judge(bench: &Bench, set: &Set, weather: bool) -> Result<Vec<String>, String> {
    let out = set.work.join(if weather { "weather.out.parquet" } else { "plain.out.parquet" });
    let start = std::time::Instant::now();
    forecast(set, &set.history, weather, set.first + set.days * DAY_S, &out)?;
    let seconds = start.elapsed().as_secs_f64();
    let usual = set.work.join("usual.out.parquet");
    let series = text(&set.folder.join("series.parquet"));
    script(bench, &["usual", &text(&set.history), &series, &text(&set.meta), &text(&usual)])?;
    let (ours, theirs) = (score(bench, set, &out)?, score(bench, set, &usual)?);
    let sums = script(bench, &["sums", &text(&out), &series])?;
    let mut missed = Vec::new();
    for &(name, kind, _, absolute, ratio) in TARGETS.iter().filter(|t| t.0 == set.name && t.2 == weather) {
        let number = |v: &Value, key: &str| v[kind][key].as_f64().unwrap_or(f64::NAN);
        let (own, usual) = (number(&ours, "ncrps_pooled"), number(&theirs, "ncrps_pooled"));
        let (half, ninety) = (number(&ours, "cov50"), number(&ours, "cov90"));
        let sky = if weather { " + weather" } else { "" };
        println!(
            "   {name:<7} {kind:<16}{sky:<10} nCRPS {own:.4}  mean of 4 weeks {usual:.4}  ratio {:.3}  50 % {half:.3}  90 % {ninety:.3}  {seconds:.0} s",
            own / usual
        );
        let (value, target) = if set.held_back { (own, absolute) } else { (own / usual, ratio) };
        if value.is_nan() || value > target {
            missed.push(format!("{name} {kind}{sky}: {value:.4} above {target}"));
        }
        if !(0.87..=0.93).contains(&ninety) || !(0.46..=0.54).contains(&half) {
            missed.push(format!("{name} {kind}{sky}: the bands hold {half:.3} and {ninety:.3}"));
        }
    }
    let gap = sums["gap"].as_f64().unwrap_or(f64::NAN);
    println!("   {:<7} expectations of children against their parents: largest gap {gap:.1e} of the parent", set.name);
    if gap.is_nan() || gap >= 1e-5 {
        missed.push(format!("{}: children do not sum to their parents ({gap:e})", set.name));
    }
    Ok(missed)
}

/// Spoils everything after a moment in three ways; no forecast made at or before it may change.
fn leak(bench: &Bench, set: &Set) -> Result<Vec<String>, String> {
    let mut missed = Vec::new();
    // the large set at one moment, the others at five over the whole range
    let moments: Vec<i64> =
        if set.name == "london" { vec![3] } else { vec![1, set.days / 4, set.days / 2, set.days - 6, set.days - 1] };
    for day in moments {
        let at = set.first + day * DAY_S;
        let (honest, spoilt, out) =
            (set.work.join("leak_a.parquet"), set.work.join("leak_h.parquet"), set.work.join("leak_b.parquet"));
        forecast(set, &set.history, false, at + DAY_S, &honest)?;
        for mode in ["blank", "shuffle", "zero"] {
            let (history, moment, h2) = (text(&set.history), at.to_string(), text(&spoilt));
            let words = [&bench.scorer, "futz", "--history", &history, "--at", &moment, "--mode", mode, "--out", &h2];
            run::output(&bench.python, &words)?;
            forecast(set, &spoilt, false, at + DAY_S, &out)?;
            let (a, b) = (text(&honest), text(&out));
            if let Err(why) =
                run::output(&bench.python, &[&bench.scorer, "leak", "--a", &a, "--b", &b, "--at", &moment])
            {
                missed.push(format!("{}: leak at day {day}, {mode}: {why}", set.name));
            }
        }
    }
    println!(
        "   {:<7} leak test: {}",
        set.name,
        if missed.is_empty() { "nothing of the future is used" } else { "FAILED" }
    );
    Ok(missed)
}

/// Solar found, sized and dated from both kinds of register.
fn solar(bench: &Bench, folder: &Path, work: &Path) -> Result<Vec<String>, String> {
    let mut missed = Vec::new();
    for import_only in [false, true] {
        let out = text(&work.join("solar.out.parquet"));
        let (net, sites) = (text(&folder.join("net.parquet")), text(&folder.join("sites.parquet")));
        let mut words = vec!["solar", "--history", &net, "--sites", &sites, "--out", &out];
        if import_only {
            words.push("--import-only");
        }
        run::output(&text(&run::gridtally()), &words)?;
        let judged = script(bench, &["solar", &out, &text(&folder.join("truth.csv"))])?;
        for (place, f1, error) in [("L", 0.88, 0.06), ("F", 0.80, 0.10)] {
            let number = |key: &str| judged[place][key].as_f64().unwrap_or(f64::NAN);
            let (p, r) = (number("precision"), number("recall"));
            let (median, within) = (number("kwp_error"), number("within_25"));
            let register = if import_only { "import only" } else { "net" };
            println!(
                "   solar {place} {register:<12} precision {p:.2} recall {r:.2}  kWp error {median:.3}, within 25 % {within:.2}  dates {}",
                judged[place]["dates"]
            );
            let found = if import_only { 2.0 * p * r / (p + r) >= f1 } else { p == 1.0 && r == 1.0 };
            let sized = if import_only { within >= 0.40 } else { median <= error };
            if !found || !sized {
                missed.push(format!("solar {place} {register}: found {found}, sized {sized}"));
            }
        }
        if judged["dated"].as_f64().is_some_and(|share| share < 0.8) {
            missed.push("solar: fewer than 80 % of the dated sites within 21 days".to_owned());
        }
    }
    Ok(missed)
}
