//! Log lines that a peer cannot multiply: one for each address and reason in ten minutes, the rest only counted.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const QUIET: Duration = Duration::from_secs(600);
const PEERS_MAX: usize = 4_096;
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Remembers what was logged lately.
#[derive(Debug, Default)]
pub(crate) struct LogOnce {
    logged: Mutex<Logged>,
}

#[derive(Debug, Default)]
struct Logged {
    at: HashMap<(IpAddr, &'static str), Instant>,
    pruned: Option<Instant>,
}

impl LogOnce {
    /// Whether `reason` is to be logged for this peer now. When too many peers misbehave at once, new ones are not logged.
    pub(crate) fn permits(&self, peer: IpAddr, reason: &'static str) -> bool {
        let now = Instant::now();
        let is_recent = |at: &Instant| now.duration_since(*at) < QUIET;
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.at.get(&(peer, reason)).is_some_and(is_recent) {
            return false;
        }
        if logged.at.len() >= PEERS_MAX && logged.pruned.is_none_or(|at| now.duration_since(at) >= PRUNE_EVERY) {
            logged.at.retain(|_, at| is_recent(at));
            logged.pruned = Some(now);
        }
        if logged.at.len() >= PEERS_MAX {
            return false;
        }
        logged.at.insert((peer, reason), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_for_each_peer_and_reason() {
        let log = LogOnce::default();
        let peer = IpAddr::from([10, 0, 0, 1]);
        assert!(log.permits(peer, "a"));
        assert!(!log.permits(peer, "a"));
        assert!(log.permits(peer, "b"));
        assert!(log.permits(IpAddr::from([10, 0, 0, 2]), "a"));
        tokio::time::advance(QUIET).await;
        assert!(log.permits(peer, "a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_does_not_grow_the_memory() {
        let log = LogOnce::default();
        let logged = (0u32..10_000).filter(|n| log.permits(IpAddr::from(n.to_be_bytes()), "a")).count();
        assert_eq!(logged, PEERS_MAX);
    }
}
