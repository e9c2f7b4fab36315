//! Starting other programs: one line on screen for each, the exit status as a result.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The acceptance data beside the repository, when it is there.
pub fn shared_data() -> Option<PathBuf> {
    let folder = root().join("../shared/data");
    folder.is_dir().then_some(folder)
}

/// Runs a program in the root of the repository and fails when it fails.
pub fn step(title: &str, program: &str, arguments: &[&str]) -> Result<(), String> {
    step_with(title, program, arguments, &[])
}

/// As [`step`], with environment variables.
pub fn step_with(title: &str, program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<(), String> {
    println!("── {title}: {program} {}", arguments.join(" "));
    let start = Instant::now();
    let status = Command::new(program)
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(root())
        .status()
        .map_err(|e| format!("{title}: {program} does not start: {e}"))?;
    println!("   {title}: {:.0} s", start.elapsed().as_secs_f64());
    if status.success() { Ok(()) } else { Err(format!("{title} failed ({status})")) }
}

/// Builds the product and what is run beside it. Always all crates: each set of crates chooses its own features of what they depend
/// on, and would compile half of it anew.
pub fn build_product() -> Result<(), String> {
    step("build", "cargo", &["build", "--release", "--workspace", "--bins", "--examples", "--locked"])
}

/// Runs a program and returns what it printed; fails when it fails.
pub fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let out = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .output()
        .map_err(|e| format!("{program} does not start: {e}"))?;
    if !out.status.success() {
        return Err(format!(
            "{program} {} failed ({}):\n{}",
            arguments.join(" "),
            out.status,
            String::from_utf8_lossy(&out.stderr)
        ));
    }
    String::from_utf8(out.stdout).map_err(|_| format!("{program} printed something that is not text"))
}

/// The built product.
pub fn gridtally() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("release/gridtally")
}
