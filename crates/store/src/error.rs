//! What can go wrong in the store, in words that tell what to do.

use std::path::PathBuf;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused or failed.
    #[error("the database failed: {0}; check free space and permissions of the data directory")]
    Database(#[from] sqlx::Error),
    /// A transaction could not begin, write or end; nothing of it is written.
    #[error(
        "the transaction {name} failed: {why}; check free space and permissions of the data directory, and that no other program has its files open"
    )]
    Transaction {
        /// Which.
        name: &'static str,
        /// Why.
        why: sqlx::Error,
    },
    /// The directory could not be used.
    #[error("the data directory {path} cannot be used: {why}")]
    Directory {
        /// Which directory or file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The directory holds no data and `create` was not asked for.
    #[error("{0} holds no Gridtally data; give the right directory or let it be created")]
    NotFound(PathBuf),
    /// A simulation's directory was opened for real use, or the other way round.
    #[error("{path} was created for {}; choose another directory for {}", kind(*.simulation), kind(!.simulation))]
    Simulation {
        /// Which directory.
        path: PathBuf,
        /// What the directory was created for.
        simulation: bool,
    },
    /// The files were written by a newer version.
    #[error("the data was written by a newer version (schema {found}, this program knows {known}): use that version")]
    Newer {
        /// Schema version found.
        found: i64,
        /// Newest schema version known.
        known: i64,
    },
    /// Stored bytes are not what was written.
    #[error("stored data is damaged: {0}; restore the file from a backup")]
    Damaged(String),
    /// The thing named is not there.
    #[error("there is no {kind} {id}")]
    Unknown {
        /// What kind of thing.
        kind: &'static str,
        /// Its name.
        id: String,
    },
    /// A rule forbids it; the text says which.
    #[error("{0}")]
    Refused(String),
    /// The input is not usable; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// No randomness from the operating system.
    #[error("the operating system gave no random bytes: {0}")]
    Random(String),
    /// A task of the store ended early.
    #[error("a background task of the store stopped: {0}; restart the program")]
    Task(String),
}

fn kind(simulation: bool) -> &'static str {
    if simulation { "a simulation" } else { "real meters" }
}

impl StoreError {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    /// Says in which transaction the database failed.
    pub(crate) fn within(self, name: &'static str) -> Self {
        match self {
            Self::Database(why) => Self::Transaction { name, why },
            other => other,
        }
    }

    pub(crate) fn unknown(kind: &'static str, id: impl ToString) -> Self {
        Self::Unknown { kind, id: id.to_string() }
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(e: serde_json::Error) -> Self {
        Self::Damaged(format!("a stored document does not parse ({e})"))
    }
}
