//! Masked meters driven as a user would: the demonstration, the trade-off on a shared network, every abuse by its number, every party
//! killed, a custodian 200 times under requests, and the evidence checked by a program that shares nothing with ours.

use serde_json::Value;

use crate::run;

/// Abuses that each have a test named after their number, in `docs/privacy/threats.md`.
const CASES: [u8; 20] = [8, 9, 10, 13, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 33];

/// That every case has its test, and that those and the attacks, the kills and the searched memory pass.
fn abuses() -> Result<(), String> {
    let root = run::root();
    let mut sources = String::new();
    let tests = root.join("crates/privacy/tests/it");
    let listed = std::fs::read_dir(&tests).map_err(|e| format!("cannot read {}: {e}", tests.display()))?;
    let files = listed.filter_map(|entry| Some(entry.ok()?.path()));
    let further = ["crates/privacy/src/mask.rs", "crates/meter/tests/it/masked.rs"].map(|name| root.join(name));
    for path in files.chain(further) {
        sources += &std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    }
    let missing: Vec<u8> = CASES.into_iter().filter(|n| !sources.contains(&format!("fn case_{n:02}_"))).collect();
    if !missing.is_empty() {
        return Err(format!("no test for the abuse cases {missing:?}"));
    }
    println!("   {} abuse cases have their test", CASES.len());
    run::step("abuses, attacks, kills, memory", "cargo", &["test", "--release", "--package", "privacy"])?;
    let meter = ["test", "--release", "--package", "meter", "--test", "it", "--", "masked", "power_cut"];
    run::step("a meter that masks, its power cut", "cargo", &meter)
}

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
    abuses()?;
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
