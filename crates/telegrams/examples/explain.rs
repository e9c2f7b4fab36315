//! Explains one file of a folder with an `index.json`.
#![allow(clippy::print_stdout, reason = "an example talks to the person at the terminal")]

use std::{fs, path::Path};

use telegrams::{explain, folder, models::Models};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("which folder?")?;
    let folder = Path::new(&folder);
    let models = Models::builtin()?;
    let entries: Vec<folder::Entry> = serde_json::from_str(&fs::read_to_string(folder.join("index.json"))?)?;
    let beside = |name: &str| fs::read_to_string(folder.join(name)).ok();
    for file in std::env::args().skip(2) {
        let entry = entries.iter().find(|entry| entry.file == file).ok_or("no such file in the index")?;
        let bytes = fs::read(folder.join(&entry.file))?;
        println!("{}", explain::explain(entry, &bytes, &beside, &models)?);
    }
    Ok(())
}
