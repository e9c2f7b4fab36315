//! Small files that must be whole or not there: keys, heads, tiles.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use crate::commands::CommandError;

/// Writes a file as a whole: beside it, synchronised, then renamed over it.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // the parent of a bare name is the empty path
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = parent.join(name);
    let mut file = private_file(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(parent)?.sync_all()
}

fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// 32 secret bytes of a file; a file that is not there is made from the operating system's randomness.
///
/// # Errors
/// A file of another length, or one that cannot be read or made.
pub fn key_file(path: &Path) -> Result<[u8; 32], CommandError> {
    if path.exists() {
        return read_key(path);
    }
    let bytes = random()?;
    write_whole(path, &bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    Ok(bytes)
}

/// 32 secret bytes of a file that must be there.
///
/// # Errors
/// It is not, cannot be read, or has another length.
pub fn read_key(path: &Path) -> Result<[u8; 32], CommandError> {
    let restore = "restore it from its backup or from escrow: nothing can take its place";
    let bytes = fs::read(path).map_err(|e| format!("cannot read {}: {e}; {restore}", path.display()))?;
    bytes.try_into().map_err(|_| format!("{} does not hold 32 bytes; {restore}", path.display()).into())
}

/// 32 random bytes.
///
/// # Errors
/// The operating system has none.
pub fn random() -> Result<[u8; 32], CommandError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| format!("the operating system gave no random bytes: {e}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_written_in_the_current_folder() {
        let name = format!("gridtally-bare-name-{}", std::process::id());
        write_whole(Path::new(&name), b"here").expect("writes");
        assert_eq!(fs::read(&name).expect("reads"), b"here");
        fs::remove_file(&name).expect("removes");
    }
}
