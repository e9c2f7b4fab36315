//! The meter's own properties at full length: the same tests that `cargo test` runs shortened.

use crate::run::step_with;

/// A million sequences, or as many as the word after the name says.
pub fn relay(arguments: &[&str]) -> Result<(), String> {
    long_test("relay::", "GRIDTALLY_SEQUENCES", arguments.first().unwrap_or(&"1000000"))
}

/// Ten thousand cuts, or as many as the word after the name says.
pub fn power_cut(arguments: &[&str]) -> Result<(), String> {
    long_test("power_cut::", "GRIDTALLY_CUTS", arguments.first().unwrap_or(&"10000"))
}

fn long_test(name: &str, variable: &str, count: &str) -> Result<(), String> {
    let arguments = ["test", "--release", "--locked", "-p", "meter", "--test", "it", "--", name, "--nocapture"];
    step_with(name, "cargo", &arguments, &[(variable, count)])
}
