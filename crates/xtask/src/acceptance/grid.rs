//! Power flow and estimation against the references of every network folder beside the repository.

use std::fs;

use serde_json::Value;

use crate::run;

/// Networks whose references do not follow from the published rules alone; reported, not required.
const REPORTED_ONLY: &[&str] = &["ieee34", "ieee37"];

/// `grid check` on every folder.
pub fn references(_: &[&str]) -> Result<(), String> {
    let Some(data) = run::shared_data() else {
        println!("   left out: no acceptance data beside the repository");
        return Ok(());
    };
    let program = run::gridtally().to_string_lossy().into_owned();
    let mut folders: Vec<_> = fs::read_dir(data.join("networks"))
        .map_err(|e| e.to_string())?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("reference").is_dir())
        .collect();
    folders.sort();
    let mut failed = Vec::new();
    for folder in &folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match run::output(&program, &["grid", "check", &folder.to_string_lossy()]) {
            Ok(_) => println!("   {name}: within tolerance"),
            Err(why) if REPORTED_ONLY.contains(&name.as_str()) => println!("   {name} (reported only): {why}"),
            Err(why) => {
                println!("   {name}: {why}");
                failed.push(name);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("outside tolerance: {}", failed.join(", "))) }
}

/// Seeds pooled by [`lost`].
const LOST_SEEDS: [&str; 3] = ["1", "2", "3"];

/// `grid lost` on the network with measured profiles, judged, and on the classic study's network, shown.
///
/// Judged is what history and the values that arrived give: voltages within 3.5e-4 pu and sums within 11 % where one interval is
/// lost, and always 90 % intervals of single values that hold 88-92 %. Longer outages, and what the head meter adds, are shown.
pub fn lost(_: &[&str]) -> Result<(), String> {
    let Some(data) = run::shared_data() else {
        println!("   left out: no acceptance data beside the repository");
        return Ok(());
    };
    let program = run::gridtally().to_string_lossy().into_owned();
    let networks = data.join("networks");
    let path = |name: &str| networks.join(name).to_string_lossy().into_owned();
    let seeds: Vec<&str> = LOST_SEEDS.iter().flat_map(|seed| ["--seed", seed]).collect();
    let classic = path("ukgds95");
    let ask = ["grid", "lost", classic.as_str()];
    let synthetic: Vec<&str> = [ask.as_slice(), seeds.as_slice()].concat();
    println!("   ukgds95, synthetic series\n{}", run::output(&program, &synthetic)?);
    let (rural, profiles) = (path("simbench-lv-rural2"), path("simbench-profiles/profiles_15min_2016.parquet"));
    let ask = ["grid", "lost", rural.as_str(), "--profiles", profiles.as_str(), "--json"];
    let measured: Vec<&str> = [ask.as_slice(), seeds.as_slice()].concat();
    let text = run::output(&program, &measured)?;
    let object: Value = serde_json::from_str(text.trim()).map_err(|e| e.to_string())?;
    let mut failed = Vec::new();
    for row in object["losses"].as_array().into_iter().flatten() {
        let name = row["loss"].as_str().unwrap_or_default();
        let value = |key: &str| row["result"][key].as_f64().unwrap_or(f64::NAN);
        let sum = value("estimated_sum_wape");
        let (voltage, lost_sum) = (value("voltage_rmse_pu"), value("sum_wape"));
        let coverage = [value("single_coverage"), value("estimated_single_coverage")];
        let drop = value("estimated_drop_rmse_pu");
        println!(
            "   {name}: voltage drop {drop:.2e} pu, sum {:.1} %, 90 % intervals hold {:.1} %; from history alone {:.2e} pu, \
             {:.1} %, {:.1} % (sums {:.1} %)",
            100.0 * sum,
            100.0 * coverage[1],
            voltage,
            100.0 * lost_sum,
            100.0 * coverage[0],
            100.0 * value("sum_coverage"),
        );
        let is_long = name.ends_with(" hours");
        let is_near = voltage <= 3.5e-4 && lost_sum <= 0.11;
        let good = (is_long || is_near) && coverage.iter().all(|c| (0.88..=0.92).contains(c));
        if !good {
            failed.push(name.to_owned());
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("outside the targets: {}", failed.join(", "))) }
}

/// `grid bench --growth`: the time per bus stays within 1.5 times, two threads are 1.8 times as fast as one.
pub fn speed(_: &[&str]) -> Result<(), String> {
    let Some(data) = run::shared_data() else {
        println!("   left out: no acceptance data beside the repository");
        return Ok(());
    };
    let program = run::gridtally().to_string_lossy().into_owned();
    let folder = data.join("networks/ukgds95").to_string_lossy().into_owned();
    let text = run::output(&program, &["grid", "bench", &folder, "--growth", "--runs", "100", "--json"])?;
    let object: Value = serde_json::from_str(text.trim()).map_err(|e| e.to_string())?;
    let growth: Vec<f64> = object["growth"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| row["ns_per_bus_one_thread"].as_f64())
        .collect();
    let (Some(first), Some(last)) = (growth.first(), growth.last()) else {
        return Err("the bench printed no growth".into());
    };
    println!("   ns per bus and scenario for 100, 1,000 and 10,000 buses: {growth:.1?}, ratio {:.2}", last / first);
    let mut slow = Vec::new();
    for timing in object["timings"].as_array().into_iter().flatten() {
        let ratio = timing["times_as_fast"].as_f64().unwrap_or(f64::NAN);
        println!("   {}: all threads {ratio:.2} times as fast as one", timing["what"].as_str().unwrap_or_default());
        if ratio.is_nan() || ratio < 1.8 {
            slow.push(ratio);
        }
    }
    if last / first > 1.5 {
        return Err("the time per bus grows by more than 1.5".into());
    }
    if slow.is_empty() {
        Ok(())
    } else {
        Err("two threads are less than 1.8 times as fast as one (is the machine busy?)".into())
    }
}
