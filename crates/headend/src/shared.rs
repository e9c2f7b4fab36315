//! What every connection of the head-end shares.

use std::{net::IpAddr, sync::Arc};

use metering::MeterId;
use tokio::sync::mpsc;

use crate::{
    Batch, Credentials, Now, config::HeadendConfig, counters::Counting, log_once::LogOnce, registry::Registry,
};

/// Longest text of a log line that a peer has a hand in, characters.
const TEXT_CHARS_MAX: usize = 300;

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
    /// The one rule for whoever speaks without TLS, by MQTT or by HTTP: loopback and the permitted networks only.
    pub(crate) fn admit_plain(&self, peer: IpAddr) -> Result<(), &'static str> {
        if self.config.plain_networks.contains(peer) {
            return Ok(());
        }
        Counting::one(&self.counting.refused_plain);
        Err(
            "a meter without TLS was refused: let it use TLS (MQTT: the TLS port, readings: https), or add its network \
             to plain_networks",
        )
    }

    /// Logs what a peer did wrong, once for each peer, meter and text in a while.
    pub(crate) fn note(
        &self,
        peer: IpAddr,
        meter: Option<MeterId>,
        reason: &'static str,
        text: impl FnOnce() -> String,
    ) {
        let text = text();
        if self.log.permits(peer, meter, &text) {
            let text = printable(&text);
            tracing::warn!(%peer, reason, "{text} (the same again is only counted for ten minutes)");
        }
    }
}

/// Text of which a peer has written parts, fit for one line of a log: nothing that moves the cursor, breaks the line or turns the
/// direction of writing.
fn printable(text: &str) -> String {
    let mut shown = String::new();
    let mut chars = text.chars();
    for c in chars.by_ref().take(TEXT_CHARS_MAX) {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            other => shown.extend(other.escape_debug()),
        }
    }
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_stays_one_line() {
        let shown = printable("a\nWARN forged \u{202e}\u{1b}[31m \"é\" \\");
        assert_eq!(shown, "a\\nWARN forged \\u{202e}\\u{1b}[31m \"é\" \\");
        assert_eq!(printable(&"x".repeat(1_000)).chars().count(), TEXT_CHARS_MAX + 1);
    }
}
