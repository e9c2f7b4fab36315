//! What happens when in a simulation that is played to be watched: written by who plays it, shown on the overview. It says what the
//! neighbourhood does, never what the server will find.

use metering::Timestamp;
use serde::{Deserialize, Serialize};

/// Key of the settings.
pub const SETTING: &str = "programme";

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Virtual time.
    pub at: Timestamp,
    /// What happens, a sentence without its end.
    pub what: String,
    /// Where to look.
    pub look: String,
}

/// The newest entry that has happened, and the next one.
pub fn around(entries: &[Entry], now: Timestamp) -> (Option<&Entry>, Option<&Entry>) {
    (entries.iter().rfind(|entry| entry.at <= now), entries.iter().find(|entry| entry.at > now))
}
