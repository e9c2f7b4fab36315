//! Keys in files, and bytes in digits, for the tools of maker and bench.

use std::{error::Error, fs, path::Path};

/// The bytes of hexadecimal digits.
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(|pair| if pair.len() == 2 { byte(pair) } else { None }).collect()
}

/// Hexadecimal digits of bytes.
pub fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The Ed25519 seed in a file of 64 hexadecimal digits.
pub fn seed(path: &Path) -> Result<[u8; 32], Box<dyn Error>> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let seed = bytes(&text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    Ok(seed.ok_or("the key file holds 64 hexadecimal digits: `openssl rand -hex 32 > KEY`")?)
}
