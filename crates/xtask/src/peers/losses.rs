//! The pattern model beside Python LightGBM: the same features, the same folds, one run, one table of ratios.
//!
//! Our own command writes nothing but its model and figures, so the features go through a table of numbers exported by the
//! `peers_features` example of the `losses` crate. Python, NumPy and LightGBM live in a virtual environment under `target/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The benchmark's files beside the repository.
const DATA: &str = "../shared/data/lcl";

/// Grouped five-fold cross-validation with LightGBM's settings from the benchmark's baseline.
const SCRIPT: &str = r#"
import json, sys, time
import numpy as np
import lightgbm as lgb

def auc(score, label):
    order = np.argsort(score, kind="stable")
    rank = np.empty(len(score)); rank[order] = np.arange(1, len(score) + 1)
    n1 = label.sum(); n0 = len(label) - n1
    return (rank[label == 1].sum() - n1 * (n1 + 1) / 2) / (n1 * n0)

def ap(score, label):
    hit = label[np.argsort(-score, kind="stable")]
    precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
    return (precision * hit).sum() / hit.sum()

table = np.genfromtxt(sys.argv[1], delimiter=",", skip_header=1)
fold, label, features = table[:, 0], table[:, 1], table[:, 2:]
scores = np.zeros(len(label)); seconds = 0.0; predict = 0.0
for f in range(5):
    train, test = fold != f, fold == f
    model = lgb.LGBMClassifier(n_estimators=400, learning_rate=0.04, num_leaves=15, max_depth=5, min_child_samples=15,
        subsample=0.8, subsample_freq=1, colsample_bytree=0.3, reg_lambda=5.0, n_jobs=2, random_state=1, verbose=-1)
    start = time.perf_counter(); model.fit(features[train], label[train]); seconds += time.perf_counter() - start
    start = time.perf_counter(); scores[test] = model.predict_proba(features[test])[:, 1]; predict += time.perf_counter() - start
print(json.dumps({"auc": auc(scores, label), "ap": ap(scores, label), "fit_seconds": seconds / 5,
    "predict_per_second": len(label) / predict}))
"#;

/// Compares and prints the table to standard error.
///
/// # Errors
/// When the data, Python or a step is missing; the text says which.
pub fn run() -> Result<(), String> {
    let data = Path::new(DATA);
    if !data.join("lcl_theft_train.parquet").is_file() {
        return Err(format!("the benchmark is not at {}; put it there to compare", data.display()));
    }
    let folder = PathBuf::from("target/peers-losses");
    fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let python = environment(&folder)?;
    let script = folder.join("lightgbm_cv.py");
    fs::write(&script, SCRIPT).map_err(|e| format!("cannot write {}: {e}", script.display()))?;
    eprintln!("{:<22} {:>8} {:>8} {:>12} {:>14}", "", "AUC", "AP", "fit in s", "predicted/s");
    for (name, zones) in [("consumption only", false), ("with zone meters", true)] {
        let table = folder.join(if zones { "zones.csv" } else { "own.csv" });
        let mut export = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
        export.args(["run", "--quiet", "--release", "-p", "losses", "--example", "peers_features", "--"]);
        export.arg(data).arg(&table).arg(if zones { "zones" } else { "own" });
        let ours = figures(&output(&mut export)?)?;
        let peer = figures(&output(Command::new(&python).arg(&script).arg(&table))?)?;
        eprintln!("{name}");
        for (label, values) in [("  forust-ml (ours)", &ours), ("  LightGBM", &peer)] {
            eprintln!("{label:<22} {:>8.4} {:>8.4} {:>12.2} {:>14.0}", values[0], values[1], values[2], values[3]);
        }
        eprintln!(
            "{:<22} {:>8.3} {:>8.3} {:>12.2} {:>14.2}",
            "  ours / LightGBM",
            ours[0] / peer[0],
            ours[1] / peer[1],
            ours[2] / peer[2],
            ours[3] / peer[3]
        );
    }
    Ok(())
}

/// The Python of a virtual environment that has LightGBM; made on first use.
fn environment(folder: &Path) -> Result<PathBuf, String> {
    let python = folder.join("venv/bin/python");
    if !python.is_file() {
        output(Command::new("python3").args(["-m", "venv"]).arg(folder.join("venv")))?;
    }
    if output(Command::new(&python).args(["-c", "import lightgbm, numpy, sklearn"])).is_err() {
        output(Command::new(&python).args(["-m", "pip", "install", "--quiet", "lightgbm", "numpy", "scikit-learn"]))?;
    }
    Ok(python)
}

fn output(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let done = command.output().map_err(|e| format!("{shown} does not start: {e}"))?;
    if !done.status.success() {
        return Err(format!("{shown} failed: {}", String::from_utf8_lossy(&done.stderr)));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// (AUC, AP, seconds of a fit, predictions per second) from one JSON object.
fn figures(text: &str) -> Result<[f64; 4], String> {
    let value: serde_json::Value =
        serde_json::from_str(text.trim()).map_err(|e| format!("no figures in \"{text}\": {e}"))?;
    let number = |key: &str| value[key].as_f64().ok_or_else(|| format!("no {key} in {text}"));
    Ok([number("auc")?, number("ap")?, number("fit_seconds")?, number("predict_per_second")?])
}
