//! What can go wrong, in words that say what to do.

use std::{io, path::PathBuf};

/// Why a simulation cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The settings contradict each other.
    #[error("the simulation's settings cannot work: {0}")]
    Config(String),
    /// A profile file cannot be read.
    #[error("cannot read the load profiles {path}: {reason}")]
    Profiles {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An address is not understood.
    #[error("{0:?} is not an address: write mqtt://host:port, http://host:port or host:port")]
    Address(String),
    /// The server answered, and said no.
    #[error("the server refused {request}: HTTP {status}: {answer}")]
    Refused {
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
        /// Its text, shortened.
        answer: String,
    },
    /// The server's answer is not what the interface promises.
    #[error("the server's answer to {request} is not understood: {reason}")]
    Answer {
        /// Method and path.
        request: String,
        /// Why.
        reason: String,
    },
    /// The server could not be reached for too long.
    #[error("no progress with the server for {seconds} s ({doing}): is it running and reachable? Last error: {last}")]
    Unreachable {
        /// How long it was tried.
        seconds: u64,
        /// What was being tried.
        doing: String,
        /// The last error seen.
        last: String,
    },
    /// A bounded loop did not end.
    #[error("the server and the meters do not come to rest at {at}: {what}")]
    Restless {
        /// Virtual time.
        at: metering::Timestamp,
        /// What kept happening.
        what: String,
    },
    /// Something in the local system.
    #[error("input or output failed: {0}")]
    Io(#[from] io::Error),
}
