//! The data directory: the store's files and the server's signing key. The store holds the lock: one program at a time.
//!
//! It holds readings of homes, hashes of passwords and the key that meters trust: nobody but its owner may look into it.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};
use store::{Store, StoreError};

/// The file with the key that signs controls.
const KEY_FILE: &str = "server.key";

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
    /// The key is gone though meters trust it.
    #[error(
        "{path} is missing, and {meters} meters trust only the key that was in it: restore it from a backup. If it is lost for ever, \
         `gridtally admin renew-key --data …` makes a new one; then every meter must be enrolled again, and until then refuses controls"
    )]
    KeyMissing {
        /// Where it was.
        path: PathBuf,
        /// Enrolled meters.
        meters: usize,
    },
    /// Others may look into it.
    #[error(
        "{path} may be read by others on this machine and could not be closed to them ({source}): `chmod 700` it as its owner"
    )]
    Open {
        /// The directory or file.
        path: PathBuf,
        /// Why it could not be closed.
        source: std::io::Error,
    },
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
        private_files();
        make(path)?;
        close_to_others(path)?;
        let store = Store::open(path, store::OpenOptions { create: true, simulation }).await?;
        let key = match signing_key(path, &store).await {
            Ok(key) => key,
            Err(error) => {
                store.close().await?;
                return Err(error);
            }
        };
        close_to_others(path)?;
        // Without the key file the database does not tell how texts are signed.
        let seal = Sha256::new().chain_update(b"gridtally text keys").chain_update(key.to_bytes()).finalize();
        store.set_text_seal(seal.into());
        Ok(Self { store, key })
    }

    /// Makes a new signing key in place of one that is lost, and takes every meter's secret back: they trust the old key. The number
    /// of meters that must be enrolled again.
    ///
    /// # Errors
    /// When a key is there, or a file cannot be written.
    pub async fn renew_key(path: &Path, by: &str, now: metering::Timestamp) -> Result<usize, DataDirectoryError> {
        let file = path.join(KEY_FILE);
        if file.exists() {
            let source = std::io::Error::other("it is there; a key that works is not replaced");
            return Err(DataDirectoryError::Io { path: file, source });
        }
        let simulation = Store::made_for_simulation(path).await?;
        let store = Store::open(path, store::OpenOptions { create: false, simulation }).await?;
        let meters: Vec<_> = store.credentials().await?.into_iter().map(|(meter, _)| meter).collect();
        for meter in &meters {
            store.withdraw(*meter, by, now).await?;
        }
        new_key(&file)?;
        store.audit_note(by, "server_key.renew", "server", "", now).await?;
        store.close().await?;
        Ok(meters.len())
    }
}

/// From now on the process makes files that nobody but its owner can read: the store makes some while it runs.
fn private_files() {
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// Makes the directory, for its owner only.
fn make(path: &Path) -> Result<(), DataDirectoryError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| DataDirectoryError::Io { path: path.into(), source })
}

/// Takes every permission of others away, from the directory and what lies in it, and says so.
#[cfg(unix)]
fn close_to_others(path: &Path) -> Result<(), DataDirectoryError> {
    use std::os::unix::fs::PermissionsExt;
    let io = |source| DataDirectoryError::Io { path: path.into(), source };
    let mut all = vec![path.to_owned()];
    for entry in std::fs::read_dir(path).map_err(io)? {
        all.push(entry.map_err(io)?.path());
    }
    for path in all {
        // What was there a moment ago may be gone: SQLite removes its helpers.
        let Ok(about) = std::fs::symlink_metadata(&path) else { continue };
        let mode = about.permissions().mode();
        if about.is_symlink() || mode & 0o077 == 0 {
            continue;
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode & 0o700))
            .map_err(|source| DataDirectoryError::Open { path: path.clone(), source })?;
        if about.is_dir() {
            tracing::warn!(path = %path.display(), "others on this machine could look in here; now only its owner can");
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn close_to_others(_path: &Path) -> Result<(), DataDirectoryError> {
    Ok(())
}

/// The key of the directory: read, or made when no meter knows another one.
async fn signing_key(directory: &Path, store: &Store) -> Result<SigningKey, DataDirectoryError> {
    let path = directory.join(KEY_FILE);
    let io = |source| DataDirectoryError::Io { path: path.clone(), source };
    if path.exists() {
        let mut bytes = Vec::new();
        File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(io)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| DataDirectoryError::Key(path.clone()))?;
        return Ok(SigningKey::from_bytes(&bytes));
    }
    let meters = store.credentials().await?.len();
    if meters > 0 {
        return Err(DataDirectoryError::KeyMissing { path, meters });
    }
    new_key(&path)
}

fn new_key(path: &Path) -> Result<SigningKey, DataDirectoryError> {
    let io = |source| DataDirectoryError::Io { path: path.into(), source };
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

    #[tokio::test]
    async fn a_lost_key_is_never_silently_replaced() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let directory = DataDirectory::open(folder.path(), false).await.expect("opens");
        let meter = metering::MeterId::new("M-1").expect("id");
        directory.store.enrol(&[meter], "test", metering::Timestamp(0)).await.expect("enrolled");
        let before = directory.key.to_bytes();
        directory.store.close().await.expect("closes");
        let key = folder.path().join(KEY_FILE);
        let renewed = DataDirectory::renew_key(folder.path(), "test", metering::Timestamp(0)).await;
        assert!(renewed.is_err(), "a key that is there stays");
        std::fs::remove_file(&key).expect("lost");
        let refused = DataDirectory::open(folder.path(), false).await.err().expect("refused").to_string();
        assert!(refused.contains("1 meters trust") && refused.contains("backup"), "{refused}");
        assert!(!key.exists(), "nothing was put in its place");
        let renewed = DataDirectory::renew_key(folder.path(), "test", metering::Timestamp(0)).await.expect("renewed");
        assert_eq!(renewed, 1);
        let directory = DataDirectory::open(folder.path(), false).await.expect("opens");
        assert_ne!(directory.key.to_bytes(), before);
        assert!(directory.store.credentials().await.expect("read").is_empty(), "no meter trusts the new key");
        directory.store.close().await.expect("closes");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nobody_else_looks_into_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary directory");
        let data = folder.path().join("a/data");
        let check = |data: &Path| {
            let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
            assert_eq!(mode(data), 0o700);
            for entry in std::fs::read_dir(data).expect("readable") {
                let path = entry.expect("an entry").path();
                assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
            }
        };
        let directory = DataDirectory::open(&data, false).await.expect("opens");
        check(&data);
        directory.store.close().await.expect("closes");
        // one that an earlier version made
        let open = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
        open(&data, 0o755).expect("set");
        open(&data.join("gridtally.db"), 0o644).expect("set");
        let directory = DataDirectory::open(&data, false).await.expect("opens");
        check(&data);
        directory.store.close().await.expect("closes");
    }
}
