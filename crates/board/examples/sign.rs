//! Signs a program for the boards: `sign KEY PROGRAM OUT HARDWARE VERSION FLOOR [downgrade]`; a downgrade may replace a newer version. KEY is a file of 64 hexadecimal digits, the
//! maker's Ed25519 seed; the key for provisioning is printed.
#![allow(clippy::print_stdout)]

use std::{error::Error, fs};

use board::image::Header;
use ed25519_dalek::{Signer, SigningKey};

mod keys;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (words, is_downgrade) = match words.split_last() {
        Some((last, words)) if last == "downgrade" => (words, true),
        _ => (&words[..], false),
    };
    let [key, program, out, hardware, version, floor] = words else {
        return Err("sign KEY PROGRAM OUT HARDWARE VERSION FLOOR [downgrade]".into());
    };
    let key = SigningKey::from_bytes(&keys::seed(key.as_ref())?);
    let program = fs::read(program)?;
    let header = Header::of(&program, hardware.parse()?, version.parse()?, floor.parse()?).ok_or("larger than 4 GB")?;
    let header = if is_downgrade { header.as_downgrade() } else { header };
    let signed = header.signed_bytes();
    fs::write(out, [&signed[..], &key.sign(&signed).to_bytes(), &program].concat())?;
    let public = keys::digits(&key.verifying_key().to_bytes());
    println!("{out}: version {version} for hardware {hardware}; set firmware-key {public}");
    Ok(())
}
