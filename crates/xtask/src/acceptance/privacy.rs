//! Masked meters driven as a user would: the demonstration, the trade-off on a shared network, a custodian killed 200 times under
//! requests, and the evidence checked by a program that shares nothing with ours.

use serde_json::Value;

use crate::run;

/// Demonstration with one, two and three custodians; theft found; vectors checked by the independent program; the trade-off.
pub fn run(_: &[&str]) -> Result<(), String> {
    let program = run::gridtally().to_string_lossy().into_owned();
    for custodians in ["1", "2", "3"] {
        let told = run::output(&program, &["privacy", "demo", "--custodians", custodians, "--json"])?;
        let figures: Value = serde_json::from_str(&told).map_err(|e| format!("{e}: {told}"))?;
        let number = |key: &str| figures[key].as_f64().ok_or_else(|| format!("no {key} in {told}"));
        let is_exact = number("sums")? == number("sums_exact")? && number("bills")? == number("bills_exact")?;
        println!(
            "   {custodians} custodian(s): {} sums, {} registers of bills exact, {} refused, epsilon {}",
            figures["sums_exact"], figures["bills_exact"], figures["refused"], figures["epsilon_spent"]
        );
        if !is_exact || number("wrong")? != 0.0 || number("refused")? < 7.0 || number("runs_in_clear")? != 0.0 {
            return Err(told);
        }
    }
    let told = run::output(&program, &["privacy", "theft", "--json"])?;
    let figures: Value = serde_json::from_str(&told).map_err(|e| format!("{e}: {told}"))?;
    println!("   theft: {}", figures["methods"]);
    if figures["methods"][0]["top3"].as_f64().unwrap_or(0.0) < 0.95 {
        return Err("the masked score finds fewer than 95 of 100 thieves among three".into());
    }
    let kills = ["test", "--release", "--package", "gridtally", "--lib", "--", "killed_at_random_moments"];
    run::step_with("custodian killed 200 times", "cargo", &kills, &[("GRIDTALLY_KILLS", "200")])?;
    let root = run::root();
    let path = |name: &str| root.join(name).to_string_lossy().into_owned();
    let script = path("docs/privacy/check_masks.py");
    println!("   {}", run::output("python3", &[&script, &path("crates/privacy/tests/vectors/protocol.json")])?.trim());
    evidence(&path("docs/privacy/check_evidence.py"))?;
    let Some(data) = run::shared_data() else {
        println!("   the trade-off is left out: no acceptance data beside the repository");
        return Ok(());
    };
    let network = data.join("networks/ukgds95").to_string_lossy().into_owned();
    println!("{}", run::output(&program, &["privacy", "estimate", &network])?);
    Ok(())
}

/// A bundle is good for the independent program, and an altered one is not.
fn evidence(script: &str) -> Result<(), String> {
    let bundle = run::output("cargo", &["run", "--release", "--quiet", "--package", "privacy", "--example", "bundle"])?;
    let file = std::env::temp_dir().join(format!("gridtally-bundle-{}.json", std::process::id()));
    let name = file.to_string_lossy().into_owned();
    let write = |text: &str| std::fs::write(&file, text).map_err(|e| format!("{name}: {e}"));
    write(&bundle)?;
    println!("   {}", run::output("python3", &[script, &name])?.trim());
    write(&bundle.replace("\\\"at\\\":33", "\\\"at\\\":34"))?;
    let altered = run::output("python3", &[script, &name]);
    let _ = std::fs::remove_file(&file);
    match altered {
        Err(why) if why.contains("not in the tree") => Ok(()),
        other => Err(format!("an altered bundle is not refused: {other:?}")),
    }
}
