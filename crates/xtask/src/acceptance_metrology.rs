//! The long form of the accuracy sweep and the speed figures of the host side.

use crate::run;

/// A thousand random signals against the targets, then the speed figures.
pub fn acceptance() -> Result<(), String> {
    let example = |name: &'static str, rest: &[&str]| {
        let mut words = vec!["run", "--release", "--package", "metrology", "--features", "std", "--example", name, "--"];
        words.extend_from_slice(rest);
        run::step(name, "cargo", &words)
    };
    example("sweep", &["1", "1000"])?;
    example("speed", &[])
}
