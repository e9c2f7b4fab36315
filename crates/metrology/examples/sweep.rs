//! The accuracy sweep at any size: `sweep [SEED] [COUNT]`.
#![allow(clippy::print_stdout)]

use metrology::host::sweep::{FrontEndKind, run};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let seed = arguments.next().map_or(Ok(1), |s| s.parse())?;
    let count = arguments.next().map_or(Ok(1000), |s| s.parse())?;
    println!("ideal       {:?}", run(seed, count, FrontEndKind::Ideal)?);
    println!("12 bit 10 A {:?}", run(seed, count / 5, FrontEndKind::TwelveBits { amperes: 10.0 })?);
    println!("12 bit 0.5A {:?}", run(seed, count / 5, FrontEndKind::TwelveBits { amperes: 0.5 })?);
    Ok(())
}
