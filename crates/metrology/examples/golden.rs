//! Prints one line per golden scenario: name, hash, windows, events. The microcontroller prints the same.
#![allow(clippy::print_stdout)]

use metrology::fft::Spectrum;
use metrology::golden::{SCENARIOS, run};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut spectrum = Box::new(Spectrum::default());
    for scenario in &SCENARIOS {
        let outcome = run(scenario, &mut spectrum, || 0)?;
        println!("golden {} {:016x} {} {}", scenario.name, outcome.hash.0, outcome.windows, outcome.events);
    }
    Ok(())
}
