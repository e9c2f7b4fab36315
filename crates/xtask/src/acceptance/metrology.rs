//! The metrology vectors and flicker points through the product's own command; the long sweep of random signals.

use crate::run;

/// Every vector within its tolerance.
pub fn vectors(_: &[&str]) -> Result<(), String> {
    let Some(data) = run::shared_data() else {
        println!("   left out: no acceptance data beside the repository");
        return Ok(());
    };
    let folder = data.join("metrology");
    let files = ["vectors.json", "flicker.json"].map(|name| folder.join(name).to_string_lossy().into_owned());
    let program = run::gridtally().to_string_lossy().into_owned();
    let text = run::output(&program, &["metrology", "check", &files[0], &files[1], "--json"])?;
    let report: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    println!("   passed {}, failed {}", report["passed"], report["failed"]);
    Ok(())
}

/// The vectors, a thousand random signals against the targets, then the speed of the host side.
pub fn sweep(_: &[&str]) -> Result<(), String> {
    vectors(&[])?;
    example("sweep", &["1", "1000"])?;
    example("speed", &[])
}

fn example(name: &str, arguments: &[&str]) -> Result<(), String> {
    let mut words =
        vec!["run", "--release", "--locked", "--package", "metrology", "--features", "std", "--example", name, "--"];
    words.extend_from_slice(arguments);
    run::step(name, "cargo", &words)
}
