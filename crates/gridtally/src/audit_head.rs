//! The newest row of the audit, signed and kept beside the database. The chain of hashes alone shows a changed row, but not rows cut off
//! at the end, nor a chain computed anew; whoever can write the database cannot sign.
//!
//! The signature is made with the server's key. Keep a copy of the file, or of the line that the log repeats every hour, on another
//! machine: then not even the owner of this one can rewrite what was before.

use std::{
    fmt,
    io::Write as _,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use metering::Timestamp;
use store::{Store, StoreError};
use tokio::{sync::watch, time::MissedTickBehavior};

use crate::clock::Clock;

const SIGN_EVERY: Duration = Duration::from_secs(60);
/// The head stands in the log this often, in turns of [`SIGN_EVERY`].
const LOG_EVERY: u32 = 60;
const WORDS: &str = "gridtally audit head 1";

/// A row of the audit that was the newest one at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// The row.
    pub id: u64,
    /// Its hash, 64 hexadecimal digits.
    pub hash: String,
    /// When it was signed.
    pub at: Timestamp,
}

/// Why the audit and its signed head do not fit.
#[derive(Debug, thiserror::Error)]
pub enum AuditHeadError {
    /// The file cannot be read or written.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not what this server wrote.
    #[error("{0} was not signed with this server's key: it was altered, or belongs to another directory")]
    NotSigned(PathBuf),
    /// Rows are gone.
    #[error("the audit was cut off: row {0} was signed and is not there any more")]
    Cut(u64),
    /// Rows were written anew.
    #[error("the audit was rewritten: row {0} is not the one that was signed")]
    Rewritten(u64),
    /// The chain itself is broken, or the database fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl fmt::Display for AuditHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{WORDS} {} {} {}", self.id, self.hash, self.at.0)
    }
}

impl FromStr for AuditHead {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.strip_prefix(WORDS).ok_or(())?.split_ascii_whitespace();
        let mut next = || words.next().ok_or(());
        let (id, hash, at) = (next()?, next()?, next()?);
        let head =
            Self { id: id.parse().map_err(drop)?, hash: hash.to_owned(), at: Timestamp(at.parse().map_err(drop)?) };
        // One way to write a head: what is signed is the text.
        if head.to_string() == text { Ok(head) } else { Err(()) }
    }
}

/// Where it lies.
pub fn path(data: &Path) -> PathBuf {
    data.join("audit.head")
}

/// Signs the newest row and puts it into the file; `None` when there is no row or it is signed already.
///
/// # Errors
/// When the database or the file fails.
pub async fn sign(
    data: &Path,
    store: &Store,
    key: &SigningKey,
    at: Timestamp,
) -> Result<Option<AuditHead>, AuditHeadError> {
    let Some(newest) = store.audit(1).await?.into_iter().next() else { return Ok(None) };
    if read(data, &key.verifying_key())?.is_some_and(|head| head.id == newest.id && head.hash == newest.hash) {
        return Ok(None);
    }
    let head = AuditHead { id: newest.id, hash: newest.hash, at };
    let text = head.to_string();
    let signature = super::commands::admin::hex(&key.sign(text.as_bytes()).to_bytes());
    write(&path(data), &format!("{text}\n{signature}\n"))?;
    Ok(Some(head))
}

/// Replaces the file as a whole.
fn write(path: &Path, text: &str) -> Result<(), AuditHeadError> {
    let io = |source| AuditHeadError::Io { path: path.into(), source };
    let new = path.with_extension("head.new");
    let mut file = std::fs::File::create(&new).map_err(io)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    std::fs::rename(&new, path).map_err(io)
}

/// The signed head; `None` when none was written yet.
///
/// # Errors
/// When the file cannot be read or was not signed by this key.
pub fn read(data: &Path, key: &VerifyingKey) -> Result<Option<AuditHead>, AuditHeadError> {
    let path = path(data);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(AuditHeadError::Io { path, source }),
    };
    let signed = || {
        let (head, signature) = text.trim_end().split_once('\n')?;
        let digits = signature.as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        let signature = Signature::from_slice(&bytes?).ok()?;
        key.verify(head.as_bytes(), &signature).ok()?;
        head.parse::<AuditHead>().ok()
    };
    signed().map(Some).ok_or_else(|| AuditHeadError::NotSigned(path.clone()))
}

/// Walks the whole chain and compares it with the signed head. The number of rows, and the head when there is one.
///
/// # Errors
/// When a row was changed, the chain was cut or rewritten, or the head is not this server's.
pub async fn verify(
    data: &Path,
    store: &Store,
    key: &VerifyingKey,
) -> Result<(u64, Option<AuditHead>), AuditHeadError> {
    let head = read(data, key)?;
    let rows = store.verify_audit().await?;
    if let Some(head) = &head {
        match store.audit_hash(head.id).await? {
            None => return Err(AuditHeadError::Cut(head.id)),
            Some(hash) if hash != head.hash => return Err(AuditHeadError::Rewritten(head.id)),
            Some(_) => {}
        }
    }
    Ok((rows, head))
}

/// Signs every minute until stopped, and once more at the end.
pub async fn run(data: PathBuf, store: Store, key: SigningKey, clock: Clock, mut stopped: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(SIGN_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turns = 0_u32;
    loop {
        let is_last = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => true,
            _ = ticks.tick() => false,
        };
        match sign(&data, &store, &key, clock.now()).await {
            Ok(Some(head)) if turns.is_multiple_of(LOG_EVERY) || is_last => {
                tracing::info!(row = head.id, hash = head.hash, "head of the audit");
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the head of the audit is not signed"),
        }
        if is_last {
            return;
        }
        turns = turns.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_directory::DataDirectory;

    async fn directory(path: &Path, rows: u64) -> DataDirectory {
        let directory = DataDirectory::open(path, false).await.expect("opens");
        for row in 0..rows {
            let subject = format!("control:{row}");
            directory.store.audit_note("anna", "control.approve", &subject, "", Timestamp(1_000)).await.expect("noted");
        }
        directory
    }

    #[tokio::test]
    async fn a_cut_and_a_rewritten_chain_show() {
        let (real, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let server = directory(real.path(), 7).await;
        let key = server.key.verifying_key();
        assert_eq!(verify(real.path(), &server.store, &key).await.expect("whole"), (7, None));
        let head = sign(real.path(), &server.store, &server.key, Timestamp(2_000)).await.expect("signed").expect("new");
        assert_eq!((head.id, read(real.path(), &key).expect("read")), (7, Some(head.clone())));
        assert_eq!(sign(real.path(), &server.store, &server.key, Timestamp(3_000)).await.expect("signed"), None);

        // a chain that is whole in itself, with five rows fewer
        let cut = directory(other.path(), 2).await;
        std::fs::copy(path(real.path()), path(other.path())).expect("copied");
        let found = verify(other.path(), &cut.store, &key).await;
        assert!(matches!(found, Err(AuditHeadError::Cut(7))), "{found:?}");
        // and one of the same length that says something else
        for row in 0..5 {
            let subject = format!("control:{row}");
            cut.store.audit_note("mallory", "control.approve", &subject, "", Timestamp(1_000)).await.expect("noted");
        }
        let found = verify(other.path(), &cut.store, &key).await;
        assert!(matches!(found, Err(AuditHeadError::Rewritten(7))), "{found:?}");
        // a head signed by somebody else, or changed
        sign(other.path(), &cut.store, &cut.key, Timestamp(2_000)).await.expect_err("not its own head");
        let text = std::fs::read_to_string(path(real.path())).expect("read").replacen(" 7 ", " 6 ", 1);
        std::fs::write(path(real.path()), text).expect("written");
        assert!(matches!(read(real.path(), &key), Err(AuditHeadError::NotSigned(_))));
        server.store.close().await.expect("closes");
        cut.store.close().await.expect("closes");
    }
}
