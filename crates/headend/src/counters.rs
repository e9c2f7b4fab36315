//! What the head-end counts, for `/metrics` and for tests.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// Counts since the start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counting {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Counting {
            pub(crate) fn snapshot(&self) -> Counters {
                Counters { $($name: self.$name.load(Relaxed),)* }
            }
        }

        impl Counters {
            /// The counts in the text format of Prometheus.
            pub fn prometheus(&self) -> String {
                let mut text = String::new();
                $(
                    let name = concat!("gridtally_headend_", stringify!($name), "_total");
                    let help = concat!($($doc),+);
                    let _ = writeln!(text, "# HELP {name}{help}\n# TYPE {name} counter\n{name} {}", self.$name);
                )*
                text
            }
        }
    };
}

counters! {
    /// Connections opened.
    connections,
    /// Connections refused because the limit was reached.
    refused_full,
    /// Connections and requests without TLS refused because they came from a network that must use it.
    refused_plain,
    /// TLS handshakes that failed.
    refused_tls,
    /// Connections refused for a wrong meter or secret, by MQTT or HTTP.
    refused_secret,
    /// Connections that did not log on in time.
    connect_timeouts,
    /// Connections that had not logged on and made way for newer ones of their address.
    made_way,
    /// Connections accepted.
    accepted,
    /// Connections ended because the same client connected again, or the meter held too many.
    taken_over,
    /// Connections accepted while the same meter was connected from another address: its secret may have been copied.
    two_addresses,
    /// Connections closed after silence longer than their keep-alive permits.
    keep_alive_timeouts,
    /// Connections closed because the peer did not take what waited for it.
    write_timeouts,
    /// Connections closed for a breach of MQTT.
    protocol_errors,
    /// Packets larger than permitted.
    packets_too_large,
    /// Publishes and subscriptions to a topic that is not the meter's own.
    foreign_topics,
    /// Payloads received by MQTT.
    publishes,
    /// Bytes of those payloads.
    publish_bytes,
    /// Payloads received by HTTP.
    posts,
    /// Payloads that were no frame.
    malformed,
    /// Acknowledgements sent after a commit.
    acknowledged,
    /// Batches the pipeline did not store; their connections were closed without acknowledgement.
    not_stored,
    /// Frames sent to meters.
    down_sent,
    /// Frames the meters acknowledged.
    down_acknowledged,
    /// Texts (SMS) taken: readings and events are durable then.
    texts_taken,
    /// Files of the inbox of texts that were put aside as refused: foreign, damaged, forged, of no enrolled meter.
    texts_refused,
    /// Texts the pipeline did not store; they stay in the inbox and are offered again.
    texts_not_stored,
    /// Passes over the inbox of texts that failed, because it could not be read or a file not be moved.
    inbox_failures,
}

impl Counting {
    pub(crate) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(u64::try_from(n).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn one(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_text_has_help_type_and_value() {
        let counting = Counting::default();
        Counting::add(&counting.acknowledged, 3);
        let text = counting.snapshot().prometheus();
        assert!(text.contains(
            "# HELP gridtally_headend_acknowledged_total Acknowledgements sent after a commit.\n\
             # TYPE gridtally_headend_acknowledged_total counter\n\
             gridtally_headend_acknowledged_total 3\n"
        ));
    }
}
