//! Signs a board's calibration: `calibrate KEY UNSIGNED`. KEY is a file of 64 hexadecimal digits, the bench's Ed25519 seed; UNSIGNED
//! are the digits that the board answered to `bench finish`. Prints the lines to say to the board.
#![allow(clippy::print_stdout)]

use std::{
    error::Error,
    time::{SystemTime, UNIX_EPOCH},
};

use ed25519_dalek::SigningKey;

mod keys;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [key, unsigned] = words.as_slice() else {
        return Err("calibrate KEY UNSIGNED; UNSIGNED is what the board answered to `bench finish`".into());
    };
    let key = SigningKey::from_bytes(&keys::seed(key.as_ref())?);
    let unsigned = keys::bytes(unsigned).ok_or("UNSIGNED is hexadecimal digits, 272 of them")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let record = board::bench::sign(&unsigned, u32::try_from(now)?, &key)
        .map_err(|why| format!("UNSIGNED is not all that the board said after `ok unsigned`: {why}"))?
        .to_bytes();
    println!("set calibration-key {}", keys::digits(&key.verifying_key().to_bytes()));
    println!("calibrate {}", keys::digits(&record[..record.len() / 2]));
    println!("calibrate+ {}", keys::digits(&record[record.len() / 2..]));
    Ok(())
}
