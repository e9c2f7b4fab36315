//! Which meters are connected now, and the way to each of them. A meter may hold a few connections with different client
//! identifiers (`mosquitto_sub` listening while `mosquitto_pub` reports); what is sent to it goes to the newest that listens.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use metering::{MeterId, frame::Encoding, topic::DownKind};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::mqtt::session::{End, Listening};

const PRESENCE_BACKLOG: usize = 4_096;

/// A meter came, began to listen, or left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The meter.
    pub meter: MeterId,
    /// How it is now.
    pub state: PresenceState,
}

/// How a meter is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresenceState {
    /// Not connected.
    Absent,
    /// Connected; it may send but listens to nothing yet.
    Connected,
    /// Connected and subscribed to its down topics: commands can be sent.
    Listening,
}

/// Why a frame did not reach a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The meter is not connected.
    NotConnected,
    /// The meter reports through a gateway, which carries nothing to it.
    BehindGateway(MeterId),
    /// The meter is connected but not subscribed to the topic of this kind.
    NotListening,
    /// Too many frames wait for this meter already.
    Busy,
    /// The meter did not acknowledge in time; it may still have received the frame.
    TimedOut,
    /// The connection ended before the acknowledgement; the meter may still have received the frame.
    Disconnected,
    /// The meter refused the frame (MQTT 5), or takes no packet of that size.
    Refused,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotConnected => "the meter is not connected",
            Self::BehindGateway(gateway) => {
                return write!(
                    f,
                    "the meter reports through the gateway {gateway}, which carries nothing to it: \
                     only a connection of its own can take a control"
                );
            }
            Self::NotListening => {
                "the meter is connected but has not subscribed to its down topics (gt/1/<meter>/down/#)"
            }
            Self::Busy => "too many frames wait for this meter: try again when it has acknowledged some",
            Self::TimedOut => "the meter did not acknowledge in time",
            Self::Disconnected => "the connection ended before the meter acknowledged",
            Self::Refused => "the meter refused the frame",
        })
    }
}

impl std::error::Error for SendError {}

/// A frame on its way to a meter.
#[derive(Debug)]
pub(crate) struct DownItem {
    pub(crate) kind: DownKind,
    pub(crate) payload: Vec<u8>,
    pub(crate) done: oneshot::Sender<Result<(), SendError>>,
}

/// What the registry holds of one connection.
#[derive(Debug)]
struct Link {
    connection: u64,
    client: String,
    address: IpAddr,
    listening: Listening,
    down: mpsc::Sender<DownItem>,
    end: Option<oneshot::Sender<End>>,
}

/// What a connection gets when it is entered.
pub(crate) struct Entered {
    pub(crate) down: mpsc::Receiver<DownItem>,
    pub(crate) end: oneshot::Receiver<End>,
    /// Another address from which the same meter is connected.
    pub(crate) elsewhere: Option<IpAddr>,
}

#[derive(Debug)]
pub(crate) struct Registry {
    links: Mutex<Links>,
    presence: broadcast::Sender<Presence>,
    per_meter_max: usize,
    down_window: usize,
}

#[derive(Debug, Default)]
struct Links {
    meters: HashMap<MeterId, Vec<Link>>,
    /// Meters whose last payload was JSON; all others are spoken to in CBOR.
    json: HashSet<MeterId>,
    /// Meters that a connected gateway has spoken for: its name and its connection.
    behind: HashMap<MeterId, (MeterId, u64)>,
    /// The same by connection.
    gateways: HashMap<u64, HashSet<MeterId>>,
    is_closed: bool,
}

impl Registry {
    pub(crate) fn new(per_meter_max: usize, down_window: usize) -> Self {
        Self {
            links: Mutex::default(),
            presence: broadcast::Sender::new(PRESENCE_BACKLOG),
            per_meter_max: per_meter_max.max(1),
            down_window: down_window.max(1),
        }
    }

    /// Enters an accepted connection and ends the one it takes over. `None` when the server is stopping.
    pub(crate) fn enter(&self, meter: MeterId, client: String, connection: u64, address: IpAddr) -> Option<Entered> {
        let (down_tx, down) = mpsc::channel(self.down_window);
        let (end_tx, end) = oneshot::channel();
        let mut links = self.lock();
        if links.is_closed {
            return None;
        }
        let own = links.meters.entry(meter).or_default();
        let was_absent = own.is_empty();
        let elsewhere = own.iter().map(|link| link.address).find(|other| *other != address);
        let taken_over = own.iter().position(|link| link.client == client);
        let taken_over = taken_over.or_else(|| (own.len() >= self.per_meter_max).then_some(0));
        if let Some(mut link) = taken_over.map(|at| own.remove(at))
            && let Some(end) = link.end.take()
        {
            // a connection that is ending by itself does not mind
            let _ = end.send(End::TakenOver);
        }
        let listening = Listening::default();
        own.push(Link { connection, client, address, listening, down: down_tx, end: Some(end_tx) });
        if was_absent {
            self.announce(meter, PresenceState::Connected);
        }
        Some(Entered { down, end, elsewhere })
    }

    /// Notes what a connection listens to.
    pub(crate) fn listen(&self, meter: MeterId, connection: u64, listening: Listening) {
        let mut links = self.lock();
        let Some(own) = links.meters.get_mut(&meter) else { return };
        let before = state(own);
        if let Some(link) = own.iter_mut().find(|link| link.connection == connection) {
            link.listening = listening;
        }
        let after = state(own);
        if before != after {
            self.announce(meter, after);
        }
    }

    /// Removes a connection that ended.
    pub(crate) fn leave(&self, meter: MeterId, connection: u64) {
        let mut links = self.lock();
        for meter in links.gateways.remove(&connection).unwrap_or_default() {
            // Another gateway may have taken it on.
            if links.behind.get(&meter).is_some_and(|(_, through)| *through == connection) {
                links.behind.remove(&meter);
            }
        }
        let Some(own) = links.meters.get_mut(&meter) else { return };
        let before = state(own);
        own.retain(|link| link.connection != connection);
        let after = state(own);
        if own.is_empty() {
            links.meters.remove(&meter);
        }
        if before != after {
            self.announce(meter, after);
        }
    }

    /// Notes the encoding of the meter's last payload.
    pub(crate) fn speaks(&self, meter: MeterId, encoding: Encoding) {
        let mut links = self.lock();
        match encoding {
            Encoding::Json => links.json.insert(meter),
            Encoding::Cbor => links.json.remove(&meter),
        };
    }

    /// Notes that a gateway speaks for a meter, or no more.
    pub(crate) fn behind(&self, meter: MeterId, gateway: MeterId, connection: u64, is_there: bool) {
        let mut links = self.lock();
        if is_there {
            if links.behind.insert(meter, (gateway, connection)) != Some((gateway, connection)) {
                links.gateways.entry(connection).or_default().insert(meter);
            }
        } else if links.behind.get(&meter).is_some_and(|(_, through)| *through == connection) {
            links.behind.remove(&meter);
        }
    }

    /// The connected gateway through which a meter reports that has no connection of its own.
    pub(crate) fn gateway_of(&self, meter: MeterId) -> Option<MeterId> {
        let links = self.lock();
        links.behind.get(&meter).filter(|_| !links.meters.contains_key(&meter)).map(|(gateway, _)| *gateway)
    }

    /// Meters whose last payload was JSON.
    pub(crate) fn json_meters(&self) -> BTreeSet<MeterId> {
        self.lock().json.iter().copied().collect()
    }

    /// The encoding the meter used last, and the queue of its newest connection that listens to `kind`.
    pub(crate) fn route(
        &self,
        meter: MeterId,
        kind: DownKind,
    ) -> Result<(Encoding, mpsc::Sender<DownItem>), SendError> {
        let links = self.lock();
        let absent = || links.behind.get(&meter).map_or(SendError::NotConnected, |(g, _)| SendError::BehindGateway(*g));
        let own = links.meters.get(&meter).ok_or_else(absent)?;
        let link = own.iter().rev().find(|link| link.listening.hears(kind)).ok_or(SendError::NotListening)?;
        let encoding = if links.json.contains(&meter) { Encoding::Json } else { Encoding::Cbor };
        Ok((encoding, link.down.clone()))
    }

    /// How the meter is connected.
    pub(crate) fn presence(&self, meter: MeterId) -> PresenceState {
        self.lock().meters.get(&meter).map_or(PresenceState::Absent, |own| state(own))
    }

    /// How many meters are connected.
    pub(crate) fn meters(&self) -> usize {
        self.lock().meters.len()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Presence> {
        self.presence.subscribe()
    }

    /// Ends the connections of one meter.
    pub(crate) fn end(&self, meter: MeterId, why: &End) {
        for link in self.lock().meters.get_mut(&meter).into_iter().flatten() {
            if let Some(end) = link.end.take() {
                let _ = end.send(why.clone());
            }
        }
    }

    /// Ends every connection and lets none in any more.
    pub(crate) fn close(&self) {
        let mut links = self.lock();
        links.is_closed = true;
        for link in links.meters.values_mut().flatten() {
            if let Some(end) = link.end.take() {
                let _ = end.send(End::ShuttingDown);
            }
        }
    }

    fn announce(&self, meter: MeterId, state: PresenceState) {
        // nobody needs to be interested
        let _ = self.presence.send(Presence { meter, state });
    }

    fn lock(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn state(links: &[Link]) -> PresenceState {
    if links.is_empty() {
        PresenceState::Absent
    } else if links.iter().any(|link| link.listening.hears_any()) {
        PresenceState::Listening
    } else {
        PresenceState::Connected
    }
}
