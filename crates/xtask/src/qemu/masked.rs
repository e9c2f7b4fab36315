//! Masked records on the emulated microcontroller: every one must be the host's, to the bit, and none may cost more instructions than the
//! ratchet says.

use meter::golden::masked;

use super::{counts, emulator, hold, image, lines, printed};

/// Counts of the ratchet file, and the limits that never move: a millisecond of a 100 MHz core.
const LIMITS: [(&str, u64); 3] =
    [("masked_record_1", 100_000), ("masked_record_2", 100_000), ("masked_record_3", 100_000)];

/// Runs both and compares.
pub fn run() -> Result<(), String> {
    let image = image("masked")?;
    let emulated = printed(emulator(&image).args(["-serial", "null", "-icount", "shift=0"]))?;
    let mut host: Vec<String> = Vec::new();
    for custodians in 1..=3 {
        masked(custodians, || 0, |line| host.push(line.to_owned()));
    }
    if host.is_empty() || lines(&emulated, "masked") != host {
        return Err(format!("masked records: host and emulation differ\nhost:\n{host:#?}\nemulation:\n{emulated}"));
    }
    println!("   {} masked records are equal on host and emulation", host.len());
    hold(&counts(&emulated)?, &LIMITS)
}
