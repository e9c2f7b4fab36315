//! The accuracy sweep at any size: `sweep [SEED] [COUNT]`.
#![allow(clippy::print_stdout)]

use metrology::host::sweep::{FrontEndKind, run};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let seed = arguments.next().map_or(Ok(1), |s| s.parse())?;
    let count = arguments.next().map_or(Ok(1000), |s| s.parse())?;
    let ideal = run(seed, count, FrontEndKind::Ideal)?;
    println!("ideal       {ideal:?}");
    let strong = run(seed, count / 5, FrontEndKind::TwelveBits { amperes: 10.0 })?;
    println!("12 bit 10 A {strong:?}");
    let weak = run(seed, count / 5, FrontEndKind::TwelveBits { amperes: 0.5 })?;
    println!("12 bit 0.5A {weak:?}");
    let within = ideal.p_pct_of_s <= 0.05
        && ideal.frequency_hz <= 0.005
        && ideal.thd_points <= 0.05
        && strong.p_pct_of_s <= 0.1
        && weak.p_pct_of_s <= 0.5;
    if within { Ok(()) } else { Err("a deviation exceeds its target".into()) }
}
