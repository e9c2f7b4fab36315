//! What every connection of the head-end shares.

use std::{net::IpAddr, sync::Arc};

use tokio::sync::mpsc;

use crate::{
    Batch, Credentials, Now, config::HeadendConfig, counters::Counting, log_once::LogOnce, registry::Registry,
};

pub(crate) struct Shared {
    pub(crate) config: HeadendConfig,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) now: Now,
    pub(crate) sink: mpsc::Sender<Batch>,
    pub(crate) registry: Registry,
    pub(crate) counting: Counting,
    pub(crate) log: LogOnce,
}

impl Shared {
    /// Logs what a peer did wrong, once for each peer and reason in a while.
    pub(crate) fn note(&self, peer: IpAddr, reason: &'static str, text: impl FnOnce() -> String) {
        if self.log.permits(peer, reason) {
            tracing::warn!(%peer, reason, "{} (further cases are only counted for ten minutes)", text());
        }
    }
}
