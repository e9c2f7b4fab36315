//! Power flow and estimation against the references of every network folder beside the repository.

use std::fs;

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
