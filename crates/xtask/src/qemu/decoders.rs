//! What the decoders of other makers' meters take in a microcontroller: code and constants of a program with each of them, without those
//! of the same program with none. Held to the ratchet as everything else.

use super::{flash_bytes, hold, image};

/// Names in the ratchet file, the programs, and the limits that never move.
const DECODERS: [(&str, &str, u64); 4] = [
    ("decoder_p1_bytes", "decoder_p1", 64 * 1024),
    ("decoder_sml_bytes", "decoder_sml", 24 * 1024),
    ("decoder_push_bytes", "decoder_push", 64 * 1024),
    ("decoder_all_bytes", "decoder_all", 96 * 1024),
];

/// Builds the programs and weighs them.
pub fn run() -> Result<(), String> {
    let without = flash_bytes(&image("decoder_none")?)?;
    let weigh = |(name, program, _): (&str, &str, u64)| {
        let with = flash_bytes(&image(program)?)?;
        Ok((name.to_owned(), with.saturating_sub(without)))
    };
    let sizes: Vec<(String, u64)> = DECODERS.into_iter().map(weigh).collect::<Result<_, String>>()?;
    hold(&sizes, &DECODERS.map(|(name, _, limit)| (name, limit)))
}
