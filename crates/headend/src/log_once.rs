//! Log lines that a peer cannot multiply: each text once for an address and meter in ten minutes, and only a few texts for an
//! address; the rest is only counted.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use metering::MeterId;
use tokio::time::Instant;

const QUIET: Duration = Duration::from_secs(600);
/// Addresses remembered.
const PEERS_MAX: usize = 4_096;
/// Lines for one address in ten minutes: behind one address there may be a whole street of meters, or one that makes up reasons.
const LINES_PER_PEER_MAX: usize = 32;
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Remembers what was logged lately.
#[derive(Debug, Default)]
pub(crate) struct LogOnce {
    logged: Mutex<Logged>,
}

#[derive(Debug, Default)]
struct Logged {
    at: HashMap<IpAddr, Vec<(u64, Instant)>>,
    pruned: Option<Instant>,
}

impl LogOnce {
    /// Whether a text is to be logged for this peer and meter now. When too many peers misbehave at once, new ones are not logged.
    pub(crate) fn permits(&self, peer: IpAddr, meter: Option<MeterId>, text: &str) -> bool {
        let now = Instant::now();
        let is_recent = |at: &Instant| now.duration_since(*at) < QUIET;
        let mut hasher = DefaultHasher::new();
        (meter.map(|meter| meter.to_string()), text).hash(&mut hasher);
        let key = hasher.finish();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.at.len() >= PEERS_MAX && logged.pruned.is_none_or(|at| now.duration_since(at) >= PRUNE_EVERY) {
            logged.at.retain(|_, lines| lines.iter().any(|(_, at)| is_recent(at)));
            logged.pruned = Some(now);
        }
        if logged.at.len() >= PEERS_MAX && !logged.at.contains_key(&peer) {
            return false;
        }
        let lines = logged.at.entry(peer).or_default();
        lines.retain(|(_, at)| is_recent(at));
        if lines.len() >= LINES_PER_PEER_MAX || lines.iter().any(|(known, _)| *known == key) {
            return false;
        }
        lines.push((key, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_for_each_peer_meter_and_text() {
        let log = LogOnce::default();
        let peer = IpAddr::from([10, 0, 0, 1]);
        let meter = |n: u32| MeterId::new(&format!("M-{n}")).ok();
        assert!(log.permits(peer, meter(1), "a"));
        assert!(!log.permits(peer, meter(1), "a"));
        assert!(log.permits(peer, meter(1), "b"), "another reason of the same meter");
        assert!(log.permits(peer, meter(2), "a"), "another meter behind the same address");
        assert!(log.permits(IpAddr::from([10, 0, 0, 2]), meter(1), "a"));
        tokio::time::advance(QUIET).await;
        assert!(log.permits(peer, meter(1), "a"));
    }

    #[tokio::test(start_paused = true)]
    async fn neither_a_crowd_nor_an_inventive_peer_grows_the_memory() {
        let log = LogOnce::default();
        let logged = (0u32..10_000).filter(|n| log.permits(IpAddr::from(n.to_be_bytes()), None, "a")).count();
        assert_eq!(logged, PEERS_MAX);
        let peer = IpAddr::from(7u32.to_be_bytes());
        let logged = (0..1_000).filter(|n| log.permits(peer, None, &format!("reason {n}"))).count();
        assert_eq!(logged, LINES_PER_PEER_MAX - 1);
    }
}
