//! Signs a program for the boards: `sign KEY PROGRAM OUT HARDWARE VERSION FLOOR`. KEY is a file of 64 hexadecimal digits, the
//! maker's Ed25519 seed; the key for provisioning is printed.
#![allow(clippy::print_stdout)]

use std::{error::Error, fs, path::Path};

use board::image::Header;
use ed25519_dalek::{Signer, SigningKey};

fn seed(path: &Path) -> Result<[u8; 32], Box<dyn Error>> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let digits = text.trim().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    Ok(bytes.ok_or("the key file holds 64 hexadecimal digits: `openssl rand -hex 32 > KEY`")?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [key, program, out, hardware, version, floor] = words.as_slice() else {
        return Err("sign KEY PROGRAM OUT HARDWARE VERSION FLOOR".into());
    };
    let key = SigningKey::from_bytes(&seed(Path::new(key))?);
    let program = fs::read(program)?;
    let header = Header::of(&program, hardware.parse()?, version.parse()?, floor.parse()?).ok_or("larger than 4 GB")?;
    let signed = header.signed_bytes();
    fs::write(out, [&signed[..], &key.sign(&signed).to_bytes(), &program].concat())?;
    let public: String = key.verifying_key().to_bytes().iter().map(|b| format!("{b:02x}")).collect();
    println!("{out}: version {version} for hardware {hardware}; set firmware-key {public}");
    Ok(())
}
