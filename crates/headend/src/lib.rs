//! Talks to meters: MQTT and HTTP in, durable acknowledgement, commands out.
//!
//! MQTT 3.1.1 and 5 are taken on one listener, plain or over TLS. A publish is acknowledged when the pipeline says that it is
//! stored, in order, and never before. A meter may use its own topics only (`docs/protocol.md`).
//!
//! It is not a broker: nothing is retained, no session outlives its connection, and no meter hears another.

mod certificates;
mod config;
mod connection;
mod counters;
mod credentials;
mod delivery;
mod http;
mod inbox;
mod listener;
mod log_once;
mod mqtt;
mod registry;
mod room;
mod shared;
mod text;

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metering::{Down, MeterId, Timestamp, frame::Encoding};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

pub use certificates::Certificates;
pub use config::{HeadendConfig, Network, NetworkError, Networks, TlsListen};
pub use counters::Counters;
pub use credentials::{Credentials, Gateway};
pub use delivery::{Batch, Delivery, FrameError, Outcome, read_frame};
pub use http::{Encrypted, FRAMES_PER_POST_MAX, readings_router};
pub use inbox::{FILES_PER_PASS_MAX, Inbox, InboxPass};
pub use registry::{Presence, PresenceState, SendError};
pub use room::{Busy, MakeWay, NoRoom, Place, Room, household};
pub use text::{TEXT_BOOT, TextOutcome, TextRefused};

use mqtt::session::End;
use registry::{DownItem, Registry};
use shared::Shared;

/// The server's clock.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Why the head-end did not start.
#[derive(Debug, thiserror::Error)]
pub enum HeadendError {
    /// An address could not be listened on.
    #[error("cannot listen on {address}: {source}; choose another address or port, or stop what uses it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Certificate or key could not be used.
    #[error("cannot use {path:?} for TLS: {reason}; it must be a PEM file, and the key must belong to the certificate")]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The running head-end. Dropped without [`Headend::shutdown`], it stops at once.
pub struct Headend {
    shared: Arc<Shared>,
    room: Arc<Room>,
    mqtt: Option<SocketAddr>,
    mqtts: Option<SocketAddr>,
    certificates: Option<Arc<Certificates>>,
    stop: watch::Sender<bool>,
    listeners: Mutex<Vec<JoinHandle<()>>>,
}

/// Starts the listeners. Every payload goes to `sink`; a full `sink` holds the meters back.
pub async fn start(
    config: HeadendConfig,
    credentials: Arc<Credentials>,
    now: Now,
    sink: mpsc::Sender<Batch>,
) -> Result<Headend, HeadendError> {
    let room = Room::new(config.connections_max, config.waiting_per_address_max);
    let plain = match config.mqtt {
        Some(address) => Some(listener::bind(address).await?),
        None => None,
    };
    let secure = match &config.mqtts {
        Some(files) => {
            let certificates = Certificates::load(&files.certificates, &files.key)?;
            Some((listener::bind(files.listen).await?, certificates))
        }
        None => None,
    };
    let registry = Registry::new(config.connections_per_meter_max, config.down_window);
    let shared = Arc::new(Shared {
        config,
        credentials,
        now,
        sink,
        registry,
        counting: Default::default(),
        log: Default::default(),
    });
    let (stop, stopped) = watch::channel(false);
    let listeners = Mutex::default();
    let mut headend = Headend { shared, room, mqtt: None, mqtts: None, certificates: None, stop, listeners };
    if let Some(plain) = plain {
        headend.mqtt = plain.local_addr().ok();
        headend.listen(plain, None, stopped.clone());
    }
    if let Some((secure, certificates)) = secure {
        headend.mqtts = secure.local_addr().ok();
        let acceptor = certificates.acceptor(&[])?;
        headend.certificates = Some(certificates);
        headend.listen(secure, Some(acceptor), stopped);
    }
    Ok(headend)
}

impl Headend {
    fn listen(
        &self,
        listener: tokio::net::TcpListener,
        tls: Option<tokio_rustls::TlsAcceptor>,
        stopped: watch::Receiver<bool>,
    ) {
        let accepting = listener::accept(listener, tls, self.room.clone(), self.shared.clone(), stopped);
        self.listeners().push(tokio::spawn(accepting));
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The certificate of MQTT over TLS, to be read again when its files change.
    pub fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.certificates.as_ref()
    }

    /// Where plain MQTT listens.
    pub fn mqtt_addr(&self) -> Option<SocketAddr> {
        self.mqtt
    }

    /// Where MQTT over TLS listens.
    pub fn mqtts_addr(&self) -> Option<SocketAddr> {
        self.mqtts
    }

    /// Sends a frame to a meter, in the encoding it used last (CBOR until it has spoken), and waits for its MQTT
    /// acknowledgement. A meter that subscribed with QoS 0 does not acknowledge: then success means that the frame was handed to
    /// its connection. Success never means that a command was carried out; the meter's reply tells that.
    pub async fn send(&self, meter: MeterId, down: &Down) -> Result<(), SendError> {
        let kind = down.kind();
        let (encoding, queue) = self.shared.registry.route(meter, kind)?;
        let payload = match encoding {
            Encoding::Cbor => down.to_cbor(),
            Encoding::Json => down_as_json(down).map_err(|_| SendError::Refused)?,
        };
        let (done, acknowledged) = oneshot::channel();
        queue.try_send(DownItem { kind, payload, done }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Busy,
            mpsc::error::TrySendError::Closed(_) => SendError::NotConnected,
        })?;
        match timeout(self.shared.config.down_timeout, acknowledged).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(SendError::Disconnected),
            Err(_) => Err(SendError::TimedOut),
        }
    }

    /// Tells which encoding a meter used last, as far as the store remembers: after a start the head-end itself does not know,
    /// and would speak CBOR to a maker's meter that listens and has not spoken yet.
    pub fn assume_encoding(&self, meter: MeterId, encoding: Encoding) {
        self.shared.registry.speaks(meter, encoding);
    }

    /// The meters whose last payload was JSON, to be kept for [`Headend::assume_encoding`].
    pub fn json_meters(&self) -> BTreeSet<MeterId> {
        self.shared.registry.json_meters()
    }

    /// Whether the meter is connected.
    pub fn is_connected(&self, meter: MeterId) -> bool {
        self.presence(meter) != PresenceState::Absent
    }

    /// How the meter is connected now.
    pub fn presence(&self, meter: MeterId) -> PresenceState {
        self.shared.registry.presence(meter)
    }

    /// The gateway through which a meter reports that has no connection of its own: no control can reach it. Forgotten when the gateway
    /// leaves or says that the meter did.
    pub fn gateway_of(&self, meter: MeterId) -> Option<MeterId> {
        self.shared.registry.gateway_of(meter)
    }

    /// Open connections, those that have not logged on yet included.
    pub fn connections(&self) -> usize {
        self.room.taken()
    }

    /// Meters connected.
    pub fn meters_connected(&self) -> usize {
        self.shared.registry.meters()
    }

    /// Announces meters that come, begin to listen and leave. A receiver that lags misses some: ask [`Headend::presence`] then.
    pub fn subscribe_presence(&self) -> broadcast::Receiver<Presence> {
        self.shared.registry.subscribe()
    }

    /// Closes the connections of a meter, for instance after its secret was replaced.
    pub fn disconnect(&self, meter: MeterId) {
        self.shared.registry.end(meter, &End::Administrative);
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        self.shared.counting.snapshot()
    }

    /// Stops listening, acknowledges what is committed within a few seconds, and closes every connection.
    pub async fn shutdown(&self) {
        self.shared.registry.close();
        // the listeners may have ended already
        let _ = self.stop.send(true);
        let listeners = std::mem::take(&mut *self.listeners());
        for listener in listeners {
            let _ = listener.await;
        }
    }
}

impl Drop for Headend {
    fn drop(&mut self) {
        for listener in self.listeners().iter() {
            listener.abort();
        }
    }
}

/// The body alone, as in CBOR: the topic tells the kind.
fn down_as_json(down: &Down) -> serde_json::Result<Vec<u8>> {
    match down {
        Down::Control(body) => serde_json::to_vec(body),
        Down::Config(body) => serde_json::to_vec(body),
        Down::Time(body) => serde_json::to_vec(body),
    }
}
