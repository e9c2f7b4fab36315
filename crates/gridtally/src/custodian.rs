//! The custodian's role: its own directory, keys and door. What it gives is decided in `privacy::custodian`; this writes the journal
//! before anything is done, keeps the log's files, and answers over mutual TLS.
//!
//! ```text
//! DIR/policy.toml    the policy               DIR/journal      one line per event, the truth
//! DIR/noise.key      32 random bytes          DIR/keys/METER   the custodian's secret half for one meter
//! DIR/log.key        signs the log's heads    DIR/log/         the public log (C2SP tlog-tiles, heads/)
//! ```
//! Erasing a meter is a line in the journal and then the removal of its file; a file that comes back from a backup is removed at
//! the next start.

pub mod door;
pub mod files;
pub mod service;

pub use service::{Service, ServiceError};
