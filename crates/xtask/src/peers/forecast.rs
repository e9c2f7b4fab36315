//! Quantile trees beside LightGBM on the same table, and the mean of four weeks beside the product on the shared loads
//! (`cargo xtask acceptance forecast` prints the latter for every set). Python and LightGBM live in a virtual environment under `target/`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::tools;

/// Eleven LightGBM quantile models with our number of rounds, rate and leaves, on two threads.
const SCRIPT: &str = r#"
import json, sys, time
import numpy as np
import lightgbm as lgb
rows = int(sys.argv[2]); table = np.fromfile(sys.argv[1], dtype="<f4").reshape(-1, 35)
x, y, jx, jy = table[:rows, :34], table[:rows, 34], table[rows:, :34], table[rows:, 34]
levels = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]; loss = 0.0; fit = 0.0; cpu = 0.0; predict = 0.0
for q in levels:
    model = lgb.LGBMRegressor(objective="quantile", alpha=q, n_estimators=150, learning_rate=0.08, num_leaves=31, min_child_samples=60,
        subsample=0.5, subsample_freq=1, colsample_bytree=0.6, max_bin=127, n_jobs=2, random_state=1, verbose=-1)
    start = (time.perf_counter(), time.process_time()); model.fit(x, y)
    fit += time.perf_counter() - start[0]; cpu += time.process_time() - start[1]
    start = time.perf_counter(); p = model.predict(jx); predict += time.perf_counter() - start
    d = jy - p; loss += np.maximum(q * d, (q - 1) * d).mean()
print(json.dumps({"fit_seconds": fit, "fit_cpu_seconds": cpu, "predict_per_second": len(jy) / predict, "pinball": loss / len(levels)}))
"#;

/// Rows of the table; the targets are set for this size.
const ROWS: usize = 300_000;
/// Most processor time of a fit: as a multiple of LightGBM's, and in seconds on the threads that both use.
const RATIO_MOST: f64 = 1.3;
const SECONDS_MOST: f64 = 60.0;
const THREADS: f64 = 2.0;

/// Compares and prints the table to standard error.
///
/// # Errors
/// When Python or a step is missing; the text says which.
pub fn run() -> Result<(), String> {
    let folder = PathBuf::from("target/peers-forecast");
    fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let Some(python) = tools::python_with(&["lightgbm", "numpy", "scikit-learn"]) else {
        return Err("LightGBM cannot be had here; nothing to compare with".to_owned());
    };
    let (script, table) = (folder.join("lightgbm_quantiles.py"), folder.join("table.f32"));
    fs::write(&script, SCRIPT).map_err(|e| format!("cannot write {}: {e}", script.display()))?;
    let mut own = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    own.args(["run", "--quiet", "--release", "-p", "forecast", "--example", "peers_trees", "--"]);
    own.arg(&table).arg(ROWS.to_string());
    let ours = figures(&output(&mut own)?)?;
    let peer = figures(&output(Command::new(python).arg(&script).arg(&table).arg(ROWS.to_string()))?)?;
    eprintln!("{:<22} {:>10} {:>10} {:>14} {:>10}", "", "fit in s", "processor", "predicted/s", "pinball");
    for (label, v) in [("quantile trees (ours)", &ours), ("LightGBM, 11 levels", &peer)] {
        eprintln!("{label:<22} {:>10.1} {:>10.1} {:>14.0} {:>10.5}", v[0], v[1], v[2], v[3]);
    }
    let ratio: Vec<f64> = ours.iter().zip(&peer).map(|(a, b)| a / b).collect();
    eprintln!("{:<22} {:>10.3} {:>10.3} {:>14.2} {:>10.4}", "ours / LightGBM", ratio[0], ratio[1], ratio[2], ratio[3]);
    let mut missed = Vec::new();
    // by processor time: another program on the machine does not change it
    if ratio[1] > RATIO_MOST {
        missed.push(format!("fitting takes {:.2} times LightGBM's processor time, more than {RATIO_MOST}", ratio[1]));
    }
    if ours[1] > SECONDS_MOST * THREADS {
        missed.push(format!(
            "fitting takes {:.0} s of processor time, more than {SECONDS_MOST} s on {THREADS} threads",
            ours[1]
        ));
    }
    if ratio[3] > 1.0 {
        missed.push(format!("the loss is {:.4} times LightGBM's", ratio[3]));
    }
    if missed.is_empty() { Ok(()) } else { Err(missed.join("; ")) }
}

fn output(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let done = command.output().map_err(|e| format!("{shown} does not start: {e}"))?;
    if !done.status.success() {
        return Err(format!("{shown} failed: {}", String::from_utf8_lossy(&done.stderr)));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// (seconds of all fits, the same of processor time, rows predicted a second, pinball) from one JSON object.
fn figures(text: &str) -> Result<[f64; 4], String> {
    let value: serde_json::Value =
        serde_json::from_str(text.trim()).map_err(|e| format!("no figures in \"{text}\": {e}"))?;
    let number = |key: &str| value[key].as_f64().ok_or_else(|| format!("no {key} in {text}"));
    Ok([number("fit_seconds")?, number("fit_cpu_seconds")?, number("predict_per_second")?, number("pinball")?])
}
