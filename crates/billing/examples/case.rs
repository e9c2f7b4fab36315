//! Computes case folders and prints `gridtally-expected/1`, one line each: the folder's name, a tab, the JSON (or the fault).

use std::io::{Read, Write};

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for folder in std::env::args().skip(1) {
        let path = std::path::PathBuf::from(&folder);
        let files = |name: &str| -> Result<Vec<u8>, String> {
            let bytes = std::fs::read(path.join(name)).map_err(|why| why.to_string())?;
            if !name.ends_with(".gz") {
                return Ok(bytes);
            }
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).map_err(|why| why.to_string())?;
            Ok(plain)
        };
        let answer = match billing::case::Case::read(&files).and_then(|case| case.run()) {
            Ok(results) => serde_json::to_string(&results).map_err(std::io::Error::other)?,
            Err(fault) => fault.to_string(),
        };
        writeln!(out, "{folder}\t{answer}")?;
    }
    Ok(())
}
