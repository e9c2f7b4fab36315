//! Signs a board's calibration: `calibrate KEY DATE UNSIGNED`. KEY is a file of 64 hexadecimal digits, the bench's Ed25519 seed; DATE is
//! in seconds since 1970 (`date +%s`); UNSIGNED are the digits that the board answered to `bench finish`. Prints the lines to say to the
//! board.
#![allow(clippy::print_stdout)]

use std::error::Error;

use ed25519_dalek::SigningKey;

mod keys;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [key, date, unsigned] = words.as_slice() else {
        return Err(
            "calibrate KEY DATE UNSIGNED; DATE is `date +%s`, UNSIGNED is what the board answered to `bench finish`"
                .into(),
        );
    };
    let key = SigningKey::from_bytes(&keys::seed(key.as_ref())?);
    let unsigned = keys::bytes(unsigned).ok_or("UNSIGNED is hexadecimal digits, 272 of them")?;
    let date = date.parse().map_err(|_| "DATE is in seconds since 1970: `date +%s`")?;
    let record = board::bench::sign(&unsigned, date, &key)
        .map_err(|why| format!("UNSIGNED is not all that the board said after `ok unsigned`: {why}"))?
        .to_bytes();
    println!("set calibration-key {}", keys::digits(&key.verifying_key().to_bytes()));
    println!("calibrate {}", keys::digits(&record[..record.len() / 2]));
    println!("calibrate+ {}", keys::digits(&record[record.len() / 2..]));
    Ok(())
}
