//! The metrology vectors of the shared data as recorded samples through the emulated core, beside the host.

use std::{fs, path::Path, time::Instant};

use super::{emulator, image, lines, printed};
use crate::run;

/// Runs all vectors on both and compares every line.
pub fn run() -> Result<(), String> {
    let Some(data) = run::shared_data() else {
        println!("   vectors: left out, no acceptance data beside the repository");
        return Ok(());
    };
    let folder = std::env::temp_dir().join(format!("gridtally-vectors-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let result = in_folder(&folder, &data.join("metrology/vectors.json"));
    let _ = fs::remove_dir_all(&folder);
    result
}

fn in_folder(folder: &Path, vectors: &Path) -> Result<(), String> {
    // The emulated program opens this name in the emulator's folder.
    let recording = folder.join("vectors.bin").to_string_lossy().into_owned();
    let vectors = vectors.to_string_lossy().into_owned();
    let host = run::output(
        "cargo",
        &[
            "run",
            "--release",
            "--locked",
            "--quiet",
            "--package",
            "metrology",
            "--features",
            "std",
            "--example",
            "vector_stream",
            "--",
            &vectors,
            &recording,
        ],
    )?;
    let image = image("vectors")?;
    let begun = Instant::now();
    let emulated = printed(emulator(&image).args(["-serial", "null"]).current_dir(folder))?;
    let (host_lines, emulated_lines) = (lines(&host, "vector"), lines(&emulated, "vector"));
    let differing: Vec<String> = host_lines
        .iter()
        .enumerate()
        .filter(|(k, line)| emulated_lines.get(*k) != Some(line))
        .map(|(k, line)| format!("host {line}, emulation {}", emulated_lines.get(k).unwrap_or(&"nothing")))
        .collect();
    if host_lines.is_empty() || !differing.is_empty() || emulated_lines.len() != host_lines.len() {
        return Err(format!("vectors: host and emulation differ\n{}", differing.join("\n")));
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("   {} vectors are equal on host and emulation, bit for bit ({seconds:.0} s emulated)", host_lines.len());
    Ok(())
}
