//! Runs vector files given on the command line and lists what fails.
#![allow(clippy::print_stdout)]

use metrology::host::{check, vectors};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let file: vectors::VectorFile = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        let mut verdict = check::Verdict::default();
        for vector in &file.vectors {
            verdict.extend(check::judge(vector, &vectors::measure(vector, file.udin_v)?));
        }
        for item in verdict.items.iter().filter(|i| !i.pass) {
            println!("{item:?}");
        }
        println!("{path}: {} passed, {} failed", verdict.passed, verdict.failed);
    }
    Ok(())
}
