//! Localisation of theft on the shared trials, against their truth, at 7 and 30 days.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::run;

/// A figure of one kind of theft over its trials.
#[derive(Default)]
struct Score {
    trials: usize,
    alarms: usize,
    first: usize,
    first_three: usize,
    kind_right: usize,
}

impl Score {
    fn share(&self, hits: usize) -> f64 {
        hits as f64 / self.trials.max(1) as f64
    }
}

const KINDS: [&str; 6] =
    ["none", "under_registration", "night_bypass", "under_registration_two", "tap_varying", "tap_constant"];

/// `losses localise` on every trial, for each of the two periods.
pub fn trials(_: &[&str]) -> Result<(), String> {
    let Some(data) = run::shared_data().filter(|d| d.join("localisation").is_dir()) else {
        println!("   left out: no acceptance data beside the repository");
        return Ok(());
    };
    let mut missed = Vec::new();
    for days in [30, 7] {
        let mut scores: Vec<Score> = KINDS.iter().map(|_| Score::default()).collect();
        for trial in folders(&data.join("localisation"))? {
            score(&data, &trial, days, &mut scores)?;
        }
        for (kind, score) in KINDS.iter().zip(&scores) {
            println!(
                "   {days:>2} days {kind:<24} trials {:>2}  alarm {:.2}  top-1 {:.2}  top-3 {:.2}  kind {:.2}",
                score.trials,
                score.share(score.alarms),
                score.share(score.first),
                score.share(score.first_three),
                score.share(score.kind_right)
            );
        }
        missed.extend(targets(&scores, days));
    }
    if missed.is_empty() { Ok(()) } else { Err(missed.join("; ")) }
}

fn folders(root: &Path) -> Result<Vec<std::path::PathBuf>, String> {
    let mut all: Vec<_> = fs::read_dir(root)
        .map_err(|e| e.to_string())?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("truth.json").is_file())
        .collect();
    all.sort();
    Ok(all)
}

fn read(path: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

fn score(data: &Path, trial: &Path, days: u32, scores: &mut [Score]) -> Result<(), String> {
    let (meta, truth) = (read(&trial.join("meta.json"))?, read(&trial.join("truth.json"))?);
    let network = data.join("networks").join(meta["network"].as_str().unwrap_or_default());
    let program = run::gridtally().to_string_lossy().into_owned();
    let (network, folder, days) = (network.to_string_lossy(), trial.to_string_lossy(), days.to_string());
    let words = ["losses", "localise", "--network", &network, "--trial", &folder, "--days", &days, "--json"];
    let answer: Value = serde_json::from_str(&run::output(&program, &words)?).map_err(|e| e.to_string())?;
    let kind = truth["kind"].as_str().unwrap_or_default();
    let Some(at) = KINDS.iter().position(|k| *k == kind) else { return Err(format!("unknown kind {kind}")) };
    let guilty: Vec<u64> = truth["usage_points"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    let suspects = answer["suspects"].as_array().cloned().unwrap_or_default();
    let named: Vec<u64> = suspects.iter().filter_map(|s| s["usage_point"].as_u64()).collect();
    let three = &named[..named.len().min(3)];
    let score = &mut scores[at];
    score.trials += 1;
    score.alarms += usize::from(answer["alarm"] == true);
    score.first += usize::from(named.first().is_some_and(|n| guilty.contains(n)));
    let hit = if kind == "under_registration_two" {
        guilty.iter().all(|g| three.contains(g))
    } else {
        three.iter().any(|n| guilty.contains(n))
    };
    score.first_three += usize::from(hit);
    let called = suspects.first().and_then(|s| s["kind"].as_str()).unwrap_or_default();
    score.kind_right += usize::from(called == kind.trim_end_matches("_two"));
    Ok(())
}

/// What is not reached.
fn targets(scores: &[Score], days: u32) -> Vec<String> {
    let of = |kind: &str| KINDS.iter().position(|k| *k == kind).map(|at| &scores[at]);
    let mut missed = Vec::new();
    let mut least = |kinds: &[&str], what: &str, target: f64, hits: fn(&Score) -> usize| {
        let chosen: Vec<&Score> = kinds.iter().filter_map(|k| of(k)).collect();
        let trials: usize = chosen.iter().map(|s| s.trials).sum();
        let share = chosen.iter().map(|s| hits(s)).sum::<usize>() as f64 / trials.max(1) as f64;
        if trials > 0 && share < target {
            missed.push(format!("{days} days, {}: {what} {share:.2} below {target}", kinds.join(" and ")));
        }
    };
    let (metered, thefts) = (["under_registration", "night_bypass"], &KINDS[1..]);
    let (detection, first, three, tap_three) =
        if days == 30 { (0.98, 0.88, 0.97, 0.75) } else { (0.90, 0.84, 0.95, 0.40) };
    least(thefts, "detection", detection, |s| s.alarms);
    least(&metered, "top-1", first, |s| s.first);
    least(&metered, "top-3", three, |s| s.first_three);
    least(&["tap_varying"], "top-3", tap_three, |s| s.first_three);
    if days == 30 {
        least(&["tap_varying"], "top-1", 0.45, |s| s.first);
        least(&["under_registration_two"], "both in the first three", 0.85, |s| s.first_three);
    }
    least(&["tap_constant"], "alarm", 1.0, |s| s.alarms);
    least(&["tap_constant"], "kind", 1.0, |s| s.kind_right);
    if let Some(honest) = of("none")
        && honest.share(honest.alarms) > 0.05
    {
        missed.push(format!("{days} days: false alarms {:.2}", honest.share(honest.alarms)));
    }
    missed
}
