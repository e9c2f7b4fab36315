//! Who read what about whom, and who was refused what, for the audit: each once an hour, so that a page that refreshes itself does not
//! fill it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{auth::Caller, state::AppState};

/// The same again is not written within this time.
const QUIET: Duration = Duration::from_secs(3_600);
/// Entries remembered; when there are more, all are forgotten, and written once more when they come again.
const ENTRIES_MAX: usize = 50_000;

/// What was written lately.
#[derive(Debug, Default)]
pub(crate) struct AccessLog(Mutex<HashMap<[String; 3], Instant>>);

impl AccessLog {
    fn is_new(&self, key: [String; 3], now: Instant) -> bool {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.get(&key).is_some_and(|at| now.duration_since(*at) < QUIET) {
            return false;
        }
        if entries.len() >= ENTRIES_MAX {
            entries.retain(|_, at| now.duration_since(*at) < QUIET);
        }
        if entries.len() >= ENTRIES_MAX {
            entries.clear();
        }
        entries.insert(key, now);
        true
    }
}

impl AppState {
    /// Writes down that staff read personal data. Consumers read what is theirs.
    pub(crate) async fn note_read(&self, caller: &Caller, what: &str, subject: &str) {
        if caller.is_staff() {
            self.note_access(&caller.name, what, subject).await;
        }
    }

    /// Writes down what somebody read or was refused. The answer does not wait for more than that; a failure is in the log.
    pub(crate) async fn note_access(&self, by: &str, what: &str, subject: &str) {
        if !self.access_log.is_new([by, what, subject].map(str::to_owned), Instant::now()) {
            return;
        }
        if let Err(error) = self.store.audit_note(by, what, subject, "", self.now()).await {
            tracing::error!(%error, by, what, "not written into the audit");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_written_once_an_hour() {
        let (log, now) = (AccessLog::default(), Instant::now());
        let key = |n: usize| ["anna".to_owned(), "profile.read".to_owned(), format!("meter:M-{n}")];
        assert!(log.is_new(key(1), now));
        assert!(!log.is_new(key(1), now + QUIET / 2));
        assert!(log.is_new(key(2), now));
        assert!(log.is_new(key(1), now + QUIET));
        assert_eq!((0..2 * ENTRIES_MAX).filter(|n| log.is_new(key(n + 10), now)).count(), 2 * ENTRIES_MAX);
        assert!(log.0.lock().expect("lock").len() <= ENTRIES_MAX);
    }
}
