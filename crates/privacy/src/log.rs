//! The tamper-evident log: entries under a Merkle tree (RFC 6962), signed heads, tiles as files.
//!
//! Files follow the layout of C2SP tlog-tiles, so that anyone's tool can read them: `checkpoint` (a signed note), `tile/<L>/<N>` with
//! 256 hashes each, `tile/entries/<N>` with the entries, the last of each as `….p/<W>`. Beside it `heads/<size>` keeps every
//! head that was ever signed: one that is no beginning of today's tree proves that the log was altered.

pub mod bundle;
pub mod note;
pub mod tiles;
pub mod verify;

pub use bundle::Bundle;
pub use note::{Checkpoint, NoteError, Signed};
pub use verify::{Report, verify};
