//! Runs test files given on the command line and lists what fails.
#![allow(clippy::print_stdout)]

use metrology::host::{check::Verdict, files::TestFile};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let mut verdict = Verdict::default();
        verdict.extend(TestFile::parse(&std::fs::read_to_string(&path)?)?.check()?);
        for item in verdict.items.iter().filter(|i| !i.pass) {
            println!("{item:?}");
        }
        println!("{path}: {} passed, {} failed", verdict.passed, verdict.failed);
    }
    Ok(())
}
