//! All tests with other random draws than those of `ci`.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::run::step_with;

/// The variable that proptest takes its seed from.
pub const PROPERTY_SEED: &str = "PROPTEST_RNG_SEED";
/// The words of `cargo` that run every test.
pub const TESTS: &[&str] = &["test", "--release", "--workspace", "--locked", "--no-fail-fast"];

/// Runs all tests with as many seeds as asked for; the first is drawn from the clock and printed.
pub fn run(arguments: &[&str]) -> Result<(), String> {
    let rounds: u64 = match arguments {
        [] => 10,
        [rounds] => rounds.parse().map_err(|_| format!("how many rounds? not a number: {rounds}"))?,
        _ => return Err("one number at most: how many rounds".into()),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    for seed in now..now + rounds {
        let seed = seed.to_string();
        step_with(&format!("seed {seed}"), "cargo", TESTS, &[(PROPERTY_SEED, &seed)])
            .map_err(|why| format!("{why}; again with {PROPERTY_SEED}={seed} cargo test --release --workspace"))?;
    }
    Ok(())
}
