//! `cargo xtask peers billing`: our packed engine against PySAM's `Utilityrate5` on the same tariffs, in one run on this machine.
//!
//! PySAM bills a year of 8,760 hours in one `execute`; we bill months of quarter-hours. Compared is the time of one thread for one interval,
//! bare and with what each must set up for a customer. PySAM's time is the fastest of many runs; ours is the whole of a run.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::{run, tools};

const CASES: [&str; 4] = ["a16-sce-ev9-tou", "a01-fpl-rs1-tiers", "a06-coned-season-tiers", "a17-sdge-evhp-tou"];

/// Prints one JSON object: nanoseconds per interval, bare and with the set-up of the arrays.
const PEER: &str = r#"
import json, sys, time
import PySAM.Utilityrate5 as rate
from PySAM.UtilityRateTools import URDBv8_to_ElectricityRates
record = json.load(open(sys.argv[1]))
record = record.get("urdb", record)
load = [0.3 + 0.7 * ((h % 24) in range(17, 22)) + 0.001 * (h % 97) for h in range(8760)]
def prepared():
    model = rate.new()
    for name, value in URDBv8_to_ElectricityRates(json.loads(json.dumps(record))).items():
        try:
            model.value(name, value)
        except Exception:
            pass
    model.value("analysis_period", 1); model.value("system_use_lifetime_output", 0); model.value("inflation_rate", 0)
    model.value("degradation", [0]); model.value("rate_escalation", [0]); model.value("load", load); model.value("gen", [0] * 8760)
    return model
best_bare = best_all = 1e9
for _ in range(40):
    start = time.perf_counter(); model = prepared(); ready = time.perf_counter(); model.execute(0); end = time.perf_counter()
    best_bare, best_all = min(best_bare, end - ready), min(best_all, end - start)
print(json.dumps({"bare_ns": best_bare / 8760 * 1e9, "with_setup_ns": best_all / 8760 * 1e9, "year_bill": model.Outputs.year1_hourly_ec_without_system and sum(model.Outputs.year1_hourly_ec_without_system)}))
"#;

/// Runs it.
pub fn run() -> Result<(), String> {
    let data = run::shared_data().ok_or("no acceptance data beside the repository: there are no records to bill")?;
    run::build_product()?;
    let python = tools::python_with(&["nrel-pysam"]).ok_or("PySAM cannot be installed; is the network there?")?;
    println!("   ns for one interval on one thread      ours   PySAM execute   ratio   PySAM with set-up   ratio");
    for case in CASES {
        let folder = data.join("billing").join(case);
        let ours = ours(&folder)?;
        let out = run::output(&python.to_string_lossy(), &["-c", PEER, &folder.join("urdb.json").to_string_lossy()])?;
        let peer: Value = serde_json::from_str(out.trim()).map_err(|why| format!("PySAM: {why}"))?;
        let (bare, all) = (number(&peer, "bare_ns")?, number(&peer, "with_setup_ns")?);
        println!("   {case:<36} {ours:>7.1} {bare:>15.1} {:>7.1} {all:>19.1} {:>7.1}", bare / ours, all / ours);
    }
    Ok(())
}

fn number(value: &Value, key: &str) -> Result<f64, String> {
    value[key].as_f64().ok_or_else(|| format!("no {key} in {value}"))
}

/// Nanoseconds of one thread for one interval, everything of a bill included.
fn ours(folder: &Path) -> Result<f64, String> {
    let tariff = folder.join("tariff.json");
    let out = Command::new(run::gridtally())
        .args(["bench", "bill", "--meters", "8000", "--days", "31", "--tariff", &tariff.to_string_lossy(), "--json"])
        .output()
        .map_err(|why| format!("gridtally does not start: {why}"))?;
    let report: Value = serde_json::from_slice(&out.stdout)
        .map_err(|why| format!("bench bill: {why}: {}", String::from_utf8_lossy(&out.stderr)))?;
    Ok(number(&report, "ns_per_interval")? * number(&report, "threads")?)
}
