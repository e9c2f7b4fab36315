//! The data directory: the store's files and the server's signing key. The store holds the lock: one program at a time.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use ed25519_dalek::SigningKey;
use store::{Store, StoreError};

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirectoryError {
    /// The file system says no.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The key file is damaged.
    #[error("{0} does not hold 32 bytes; restore it from a backup: meters trust only the key they were enrolled with")]
    Key(PathBuf),
    /// The operating system has no randomness.
    #[error("the operating system gave no random bytes: {0}")]
    Random(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An opened data directory.
pub struct DataDirectory {
    /// The databases.
    pub store: Store,
    /// Signs controls; meters are told its public half when they are enrolled.
    pub key: SigningKey,
}

impl DataDirectory {
    /// Opens a directory, or makes one. `simulation` marks a new one for ever; an old one must have been made the same way.
    pub async fn open(path: &Path, simulation: bool) -> Result<Self, DataDirectoryError> {
        let io = |source| DataDirectoryError::Io { path: path.into(), source };
        std::fs::create_dir_all(path).map_err(io)?;
        let store = Store::open(path, store::OpenOptions { create: true, simulation }).await?;
        let key = signing_key(&path.join("server.key"))?;
        Ok(Self { store, key })
    }
}

fn signing_key(path: &Path) -> Result<SigningKey, DataDirectoryError> {
    let io = |source| DataDirectoryError::Io { path: path.into(), source };
    if path.exists() {
        let mut bytes = Vec::new();
        File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(io)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| DataDirectoryError::Key(path.into()))?;
        return Ok(SigningKey::from_bytes(&bytes));
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| DataDirectoryError::Random(e.to_string()))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(io)?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(io)?;
    Ok(SigningKey::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_program_at_a_time_and_one_key_for_ever() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let first = DataDirectory::open(folder.path(), true).await.expect("opens");
        assert!(DataDirectory::open(folder.path(), true).await.is_err(), "two programs on one directory");
        let key = first.key.to_bytes();
        first.store.close().await.expect("closes");
        let again = DataDirectory::open(folder.path(), true).await.expect("opens again");
        assert_eq!(again.key.to_bytes(), key);
        again.store.close().await.expect("closes");
        assert!(
            DataDirectory::open(folder.path(), false).await.is_err(),
            "a simulation's directory is not for real meters"
        );
    }
}
