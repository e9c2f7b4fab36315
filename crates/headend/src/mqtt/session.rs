//! One MQTT session with one meter, as a pure state machine: who it is, which topics it may use, what waits for its commit, what
//! waits for the meter's acknowledgement. It catches what the protocol library lets pass.
//!
//! The caller feeds bytes, carries out the events, and writes [`Session::out`] to the peer.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use metering::{
    Frame, MeterId, Topic,
    topic::{DownKind, UpKind},
};

use super::codec::{
    Acknowledgement, Announcement, Codec, Connect, ConnectRefusal, Failure, Farewell, Grant, Level, Publish, Received,
    SubscriptionAnswer,
};
use super::thingsboard::{self, Message, Refused};
use crate::{
    Credentials,
    config::HeadendConfig,
    credentials::Peer,
    delivery::{FrameError, Outcome, read_frame},
};

const CLIENT_BYTES_MAX: usize = 256;
const FILTERS_MAX: usize = 16;
const CONNECT: u8 = 0x10;
const TLS_HANDSHAKE: u8 = 0x16;

/// What the caller must do, in order.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most events are publishes, and all are carried out at once")]
pub(crate) enum SessionEvent {
    /// The meter is who it says; `silence_max` is how long it may say nothing.
    Accepted { meter: MeterId, client: String, silence_max: Duration },
    /// A payload to hand to the pipeline; [`Session::acknowledge`] follows after its commit.
    Publish { meter: MeterId, kind: Option<UpKind>, payload: Bytes, frame: Result<Frame, FrameError> },
    /// A gateway says that a meter is reached through it, or no more.
    Behind { meter: MeterId, is_there: bool },
    /// The kinds the meter listens to have changed.
    Listening(Listening),
    /// The meter acknowledged (or, MQTT 5, refused) what was sent with this token.
    DownDone { token: u64, taken: bool },
    /// Something to log and count that does not end the session: a subscription to a topic that is not the meter's.
    ForeignFilter(String),
    /// The session is over: write what waits, then close.
    End(End),
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer said goodbye or closed the connection.
    Left,
    /// Wrong meter or secret; the user name it came with.
    Secret(String),
    /// A publish to a topic that is not the meter's own up topic.
    ForeignTopic(String),
    /// A packet above the limit.
    TooLarge,
    /// A breach of MQTT.
    Protocol(String),
    /// The same client connected again, or the meter held too many connections.
    TakenOver,
    /// It did not log on in time.
    ConnectTimeout,
    /// Longer silent than its keep-alive permits.
    KeepAlive,
    /// It does not take what waits for it.
    WriteTimeout,
    /// The pipeline did not store what it sent.
    NotStored,
    /// Ended by the operator, for instance because its secret was replaced.
    Administrative,
    /// The server stops.
    ShuttingDown,
}

/// Which down kinds a meter listens to, and at which QoS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listening([Option<Grant>; 3]);

impl Listening {
    /// Whether it listens to this kind.
    pub(crate) fn hears(self, kind: DownKind) -> bool {
        self.0[index(kind)].is_some()
    }

    /// Whether it listens to anything.
    pub(crate) fn hears_any(self) -> bool {
        self.0.iter().any(Option::is_some)
    }
}

fn index(kind: DownKind) -> usize {
    match kind {
        DownKind::Control => 0,
        DownKind::Config => 1,
        DownKind::Time => 2,
    }
}

/// Why a frame could not be sent to the meter now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DownError {
    /// The meter does not listen to this kind.
    NotListening,
    /// The frame is larger than the meter takes, or the session is over.
    Refused,
}

enum State {
    Fresh,
    Open(Peer),
    Ended,
}

/// One session.
pub(crate) struct Session {
    codec: Codec,
    state: State,
    is_untouched: bool,
    bridge: BridgeLevel,
    connection: u64,
    window: usize,
    keep_alive_max: Duration,
    waiting: VecDeque<Level>,
    filters: Vec<(String, Grant)>,
    down: HashMap<u16, u64>,
    down_window: usize,
    received: Vec<Received>,
    out: Vec<u8>,
}

impl Session {
    /// A session on a new connection; `connection` names a client that comes without an identifier.
    pub(crate) fn new(config: &HeadendConfig, connection: u64) -> Self {
        let window = config.window.clamp(1, 8_192);
        // MQTT 3.1.1 clients cannot be told the window: it is kept by not reading, and this is only the backstop
        let backstop = u16::try_from(window * 4).unwrap_or(u16::MAX);
        Self {
            codec: Codec::new(config.packet_bytes_max, backstop),
            state: State::Fresh,
            is_untouched: true,
            bridge: BridgeLevel::default(),
            connection,
            window,
            keep_alive_max: config.keep_alive_max,
            waiting: VecDeque::new(),
            filters: Vec::new(),
            down: HashMap::new(),
            down_window: config.down_window,
            received: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Whether more input may be processed: the window is open and the session not over.
    pub(crate) fn takes_input(&self) -> bool {
        self.waiting.len() < self.window && !self.is_over()
    }

    /// Whether the session is over.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Whether the meter is ready for another frame of ours.
    pub(crate) fn takes_down(&self) -> bool {
        matches!(self.state, State::Open(_))
            && self.down.len() < self.down_window
            && self.codec.vacancy().is_none_or(|vacancy| vacancy > 0)
    }

    /// Bytes to be written to the peer; the caller removes what it has written.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Processes input until it is used up, the window is full or the session is over; returns how many bytes it took.
    pub(crate) fn receive(&mut self, input: &[u8], credentials: &Credentials, events: &mut Vec<SessionEvent>) -> usize {
        // The level of a bridge is put right before anything reads it.
        let plain = self.bridge.plain(input);
        let mut rest = plain.as_deref().unwrap_or(input);
        if let (true, Some(first)) = (self.is_untouched, input.first()) {
            self.is_untouched = false;
            if *first != CONNECT {
                let what = if *first == TLS_HANDSHAKE { "TLS on the port without TLS" } else { "no CONNECT first" };
                self.breach(what, events);
            }
        }
        while !rest.is_empty() && self.takes_input() {
            let mut received = std::mem::take(&mut self.received);
            self.codec.receive(&mut rest, &mut self.out, &mut received);
            for packet in received.drain(..) {
                if self.is_over() {
                    break;
                }
                self.handle(packet, credentials, events);
            }
            self.received = received;
        }
        let consumed = input.len() - rest.len();
        self.bridge.pass(&input[..consumed]);
        consumed
    }

    /// Acknowledges the oldest payloads handed out, one for each outcome, in their order.
    pub(crate) fn acknowledge(&mut self, outcomes: &[Outcome], events: &mut Vec<SessionEvent>) {
        for outcome in outcomes {
            let Some(level) = self.waiting.pop_front() else { return };
            if self.is_over() {
                continue;
            }
            let how = match outcome {
                Outcome::Quarantined => Acknowledgement::NotAFrame,
                Outcome::Stored | Outcome::Duplicate | Outcome::Conflict => Acknowledgement::Taken,
            };
            let sent = match level {
                Level::Qos0 => Ok(()),
                Level::Qos1(id) => self.codec.acknowledge(id, how, &mut self.out),
                Level::Qos2(id) => self.codec.acknowledge_qos2(id, &mut self.out),
            };
            self.check(sent, events);
        }
    }

    /// Publishes a frame to the meter. `Ok(true)`: a [`SessionEvent::DownDone`] with this token follows; `Ok(false)`: the meter
    /// subscribed with QoS 0 and will not acknowledge.
    pub(crate) fn send(&mut self, kind: DownKind, payload: &[u8], token: u64) -> Result<bool, DownError> {
        let State::Open(Peer { name: meter, .. }) = self.state else { return Err(DownError::Refused) };
        let grant = self.listening().0[index(kind)].ok_or(DownError::NotListening)?;
        let topic = Topic::Down(meter, kind).name();
        match self.codec.publish(&topic, payload, grant, &mut self.out) {
            Ok(Some(id)) => {
                self.down.insert(id, token);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(_) => Err(DownError::Refused),
        }
    }

    /// Ends the session from our side.
    pub(crate) fn end(&mut self, why: End, events: &mut Vec<SessionEvent>) {
        if self.is_over() {
            return;
        }
        let farewell = match &why {
            End::Left | End::Secret(_) | End::ConnectTimeout | End::WriteTimeout => None,
            End::ForeignTopic(topic) if is_invalid_topic_name(topic) => Some(Farewell::TopicInvalid),
            End::ForeignTopic(_) => Some(Farewell::NotAuthorized),
            End::TooLarge | End::Protocol(_) => Some(Farewell::Protocol),
            End::TakenOver => Some(Farewell::TakenOver),
            End::KeepAlive => Some(Farewell::KeepAlive),
            End::NotStored => Some(Farewell::ServerBusy),
            End::Administrative => Some(Farewell::Administrative),
            End::ShuttingDown => Some(Farewell::ShuttingDown),
        };
        self.finish(why, farewell, events);
    }

    fn finish(&mut self, why: End, farewell: Option<Farewell>, events: &mut Vec<SessionEvent>) {
        if let (Some(farewell), State::Open(_)) = (farewell, &self.state) {
            self.codec.disconnect(farewell, &mut self.out);
        }
        self.state = State::Ended;
        events.push(SessionEvent::End(why));
    }

    fn check(&mut self, result: Result<(), Failure>, events: &mut Vec<SessionEvent>) {
        if let Err(failure) = result {
            self.fail(failure, events);
        }
    }

    fn fail(&mut self, failure: Failure, events: &mut Vec<SessionEvent>) {
        let why = match failure {
            Failure::TooLarge => End::TooLarge,
            Failure::Protocol(text) => End::Protocol(text),
        };
        self.end(why, events);
    }

    fn breach(&mut self, what: &str, events: &mut Vec<SessionEvent>) {
        self.end(End::Protocol(what.to_owned()), events);
    }

    fn handle(&mut self, packet: Received, credentials: &Credentials, events: &mut Vec<SessionEvent>) {
        let (peer, packet) = match (&self.state, packet) {
            (State::Fresh, Received::Connect(connect)) => return self.connect(&connect, credentials, events),
            (_, Received::Failed(failure)) => return self.fail(failure, events),
            (State::Open(peer), packet) => (peer.clone(), packet),
            // the library delivers packets between CONNECT and CONNACK: nobody is let in that way
            (State::Fresh | State::Ended, _) => {
                return self.breach("a packet before the connection was accepted", events);
            }
        };
        match packet {
            Received::Publish(publish) => self.publish(&peer, &publish, events),
            Received::PublishAcknowledged(id, taken) => {
                if let Some(token) = self.down.remove(&id) {
                    events.push(SessionEvent::DownDone { token, taken });
                }
            }
            Received::Release(id) if self.is_waiting(id) => self.breach("PUBREL before PUBREC", events),
            Received::Release(id) => {
                let sent = self.codec.complete_qos2(id, &mut self.out);
                self.check(sent, events);
            }
            // the library would answer at once; while the first copy waits for its commit, the answer waits too
            Received::RepeatedQos2(id) if self.is_waiting(id) => {}
            Received::RepeatedQos2(id) => {
                let sent = self.codec.acknowledge_qos2(id, &mut self.out);
                self.check(sent, events);
            }
            Received::Subscribe(id, filters) => self.subscribe(&peer, id, filters, events),
            Received::Unsubscribe(id, filters) => self.unsubscribe(id, &filters, events),
            Received::Ping => {
                let sent = self.codec.answer_ping(&mut self.out);
                self.check(sent, events);
            }
            Received::Disconnect => self.end(End::Left, events),
            Received::Connect(_) => self.breach("a second CONNECT", events),
            Received::Unexpected => self.breach("an unexpected packet", events),
            Received::Failed(failure) => self.fail(failure, events),
        }
    }

    fn is_waiting(&self, id: u16) -> bool {
        self.waiting.contains(&Level::Qos2(id))
    }

    fn connect(&mut self, connect: &Connect, credentials: &Credentials, events: &mut Vec<SessionEvent>) {
        let refusal = if !are_connect_flags_valid(connect.flags) {
            Some((ConnectRefusal::Malformed, End::Protocol("reserved or contradictory CONNECT flags".into())))
        } else if connect.enhanced_authentication {
            Some((ConnectRefusal::Authentication, End::Protocol("enhanced authentication is not offered".into())))
        } else if connect.client.len() > CLIENT_BYTES_MAX
            || (connect.client.is_empty() && !connect.clean && !self.codec.is_v5())
        {
            Some((ConnectRefusal::ClientIdentifier, End::Protocol("client identifier missing or too long".into())))
        } else {
            None
        };
        if let Some((refusal, why)) = refusal {
            // refused or not, the connection ends here
            let _ = self.codec.refuse(refusal, &mut self.out);
            return self.finish(why, None, events);
        }
        let Some(peer) = credentials.verify_peer(&connect.user, &connect.password) else {
            let _ = self.codec.refuse(ConnectRefusal::Secret, &mut self.out);
            let user: String = connect.user.chars().take(64).collect();
            return self.finish(End::Secret(user), None, events);
        };
        let assigned = connect.client.is_empty().then(|| format!("auto-{}", self.connection));
        let asked = Duration::from_secs(connect.keep_alive_s.into());
        let is_kept = !asked.is_zero() && asked <= self.keep_alive_max;
        let keep_alive = if is_kept { asked } else { self.keep_alive_max };
        let announce = Announcement {
            assigned_client: assigned.as_deref(),
            keep_alive_s: (!is_kept).then(|| u16::try_from(keep_alive.as_secs()).unwrap_or(u16::MAX)),
            window: u16::try_from(self.window).unwrap_or(u16::MAX),
        };
        if let Err(failure) = self.codec.accept(&announce, &mut self.out) {
            return self.fail(failure, events);
        }
        let meter = peer.name;
        self.state = State::Open(peer);
        let client = assigned.unwrap_or_else(|| connect.client.clone());
        events.push(SessionEvent::Accepted { meter, client, silence_max: keep_alive * 3 / 2 });
    }

    fn publish(&mut self, peer: &Peer, publish: &Publish, events: &mut Vec<SessionEvent>) {
        let level = publish.level();
        match level {
            Level::Qos0 if publish.is_dup() => return self.breach("DUP with QoS 0", events),
            Level::Qos1(0) | Level::Qos2(0) => return self.breach("packet identifier 0", events),
            Level::Qos2(_) if self.codec.is_v5() => {
                let why = End::Protocol("QoS 2, though 1 was announced as the highest".into());
                return self.finish(why, Some(Farewell::QosNotSupported), events);
            }
            _ => {}
        }
        if publish.topic().starts_with(BROKER_TOPICS) {
            return self.acknowledge_unread(level, events);
        }
        if publish.is_retain() && self.codec.is_v5() {
            let why = End::Protocol("a retained message, though none was announced to be kept".into());
            return self.finish(why, Some(Farewell::RetainNotSupported), events);
        }
        let payload = Bytes::copy_from_slice(publish.payload());
        match Topic::parse(publish.topic()) {
            Some(Topic::Up(meter, kind)) if peer.speaks_for(meter) => {
                self.waiting.push_back(level);
                let frame = read_frame(meter, Some(kind), &payload);
                events.push(SessionEvent::Publish { meter, kind: Some(kind), payload, frame });
            }
            _ => match thingsboard::read(publish.topic(), &payload, peer) {
                Some(Ok(message)) => self.thingsboard(level, message, events),
                Some(Err(Refused::Malformed(what))) => self.breach(what, events),
                Some(Err(Refused::Foreign(device))) => {
                    let topic: String = publish.topic().chars().take(64).collect();
                    self.end(End::ForeignTopic(format!("{topic} for device {device}")), events);
                }
                None => {
                    let topic = publish.topic().chars().take(128).collect();
                    self.end(End::ForeignTopic(topic), events);
                }
            },
        }
    }

    /// Carries out what a message of ThingsBoard's API asks for.
    fn thingsboard(&mut self, level: Level, message: Message, events: &mut Vec<SessionEvent>) {
        match message {
            Message::Reports(reports) => {
                let Some(last) = reports.len().checked_sub(1) else { return self.acknowledge_unread(level, events) };
                for (at, (meter, payload)) in reports.into_iter().enumerate() {
                    // The message is acknowledged when its last part is stored.
                    self.waiting.push_back(if at == last { level } else { Level::Qos0 });
                    let frame = read_frame(meter, None, &payload);
                    events.push(SessionEvent::Publish { meter, kind: None, payload, frame });
                }
                return;
            }
            Message::Attached(meter) => events.push(SessionEvent::Behind { meter, is_there: true }),
            Message::Detached(meter) => events.push(SessionEvent::Behind { meter, is_there: false }),
            Message::Asked { topic, answer } => {
                if self.filters.iter().any(|(filter, _)| thingsboard::covers(filter, &topic)) {
                    let sent = self.codec.publish(&topic, &answer, Grant::Qos0, &mut self.out);
                    self.check(sent.map(drop), events);
                }
            }
            Message::Unread => {}
        }
        if !self.is_over() {
            self.acknowledge_unread(level, events);
        }
    }

    /// Takes a message that says nothing of a meter: the state of a broker, a question of an SDK.
    fn acknowledge_unread(&mut self, level: Level, events: &mut Vec<SessionEvent>) {
        let sent = match level {
            Level::Qos0 => Ok(()),
            Level::Qos1(id) => self.codec.acknowledge(id, Acknowledgement::Taken, &mut self.out),
            Level::Qos2(id) => self.codec.acknowledge_qos2(id, &mut self.out),
        };
        self.check(sent, events);
    }

    fn subscribe(&mut self, peer: &Peer, id: u16, filters: Vec<(String, Grant)>, events: &mut Vec<SessionEvent>) {
        if id == 0 {
            return self.breach("packet identifier 0", events);
        }
        let mut answers = Vec::with_capacity(filters.len());
        for (filter, grant) in filters {
            if hears(&filter, peer).is_none() {
                let is_shared = filter.starts_with("$share/");
                answers.push(match is_shared {
                    true => SubscriptionAnswer::SharedNotSupported,
                    false => SubscriptionAnswer::NotAuthorized,
                });
                events.push(SessionEvent::ForeignFilter(filter.chars().take(128).collect()));
                continue;
            }
            self.filters.retain(|(known, _)| *known != filter);
            if self.filters.len() >= FILTERS_MAX {
                return self.breach("too many subscriptions", events);
            }
            self.filters.push((filter, grant));
            answers.push(SubscriptionAnswer::Granted(grant));
        }
        let sent = self.codec.answer_subscribe(id, &answers, &mut self.out);
        self.check(sent, events);
        events.push(SessionEvent::Listening(self.listening()));
    }

    fn unsubscribe(&mut self, id: u16, filters: &[String], events: &mut Vec<SessionEvent>) {
        if id == 0 {
            return self.breach("packet identifier 0", events);
        }
        let existed: Vec<bool> = filters
            .iter()
            .map(|filter| {
                let before = self.filters.len();
                self.filters.retain(|(known, _)| known != filter);
                self.filters.len() < before
            })
            .collect();
        let sent = self.codec.answer_unsubscribe(id, &existed, &mut self.out);
        self.check(sent, events);
        events.push(SessionEvent::Listening(self.listening()));
    }

    fn listening(&self) -> Listening {
        let State::Open(peer) = &self.state else { return Listening::default() };
        let mut listening = Listening::default();
        for (filter, grant) in &self.filters {
            for kind in hears(filter, peer).unwrap_or(&[]) {
                let slot = &mut listening.0[index(*kind)];
                if *slot != Some(Grant::Qos1) {
                    *slot = Some(*grant);
                }
            }
        }
        listening
    }
}

/// The down kinds a filter covers, or `None` when it reaches beyond the meter's own down topics.
fn hears(filter: &str, peer: &Peer) -> Option<&'static [DownKind]> {
    // No frame is ever sent there, and an SDK that is refused connects for ever.
    let is_gateway = peer.meters.is_some();
    if filter.starts_with(thingsboard::DEVICE) || is_gateway && filter.starts_with(thingsboard::GATEWAY) {
        return Some(&[]);
    }
    let rest = filter.strip_prefix("gt/1/")?.strip_prefix(peer.name.as_str())?.strip_prefix("/down/")?;
    match rest {
        "#" | "+" => Some(&DownKind::ALL),
        level => {
            let at = DownKind::ALL.iter().position(|kind| kind.level() == level)?;
            DownKind::ALL.get(at..=at)
        }
    }
}

/// Where brokers tell each other whether they are connected.
const BROKER_TOPICS: &str = "$SYS/";

/// The highest bit of the protocol level, by which mosquitto's bridge says that it is one (84 for 4): taken away before the CONNECT is
/// read. It stands in the byte behind the name, which is the seventh behind the packet's length.
#[derive(Debug, Default)]
struct BridgeLevel {
    /// Bytes of the connection that have been read.
    read: usize,
    /// Where the level stands, once the length has been read.
    level_at: Option<usize>,
}

impl BridgeLevel {
    /// The input with the bit taken away, when it is in it.
    fn plain(&self, input: &[u8]) -> Option<Vec<u8>> {
        let mut ahead = Self { read: self.read, level_at: self.level_at };
        let at = ahead.pass(input)?;
        (input[at] == 0x84).then(|| {
            let mut plain = input.to_vec();
            plain[at] = 0x04;
            plain
        })
    }

    /// Notes what was read; the place of the level in it.
    fn pass(&mut self, input: &[u8]) -> Option<usize> {
        let mut found = None;
        for (at, byte) in input.iter().enumerate() {
            match self.level_at {
                // Behind the level nothing matters any more.
                Some(level) if self.read > level => break,
                Some(level) if self.read == level => found = Some(at),
                None if self.read >= 1 && byte & 0x80 == 0 => self.level_at = Some(self.read + 7),
                _ => {}
            }
            self.read += 1;
        }
        found
    }
}

fn is_invalid_topic_name(topic: &str) -> bool {
    topic.is_empty() || topic.contains(['#', '+', '\0'])
}

/// Bit 0 is reserved; will QoS (bits 3, 4) is at most 2; without a will (bit 2) its QoS and retain bits are zero.
fn are_connect_flags_valid(flags: u8) -> bool {
    let will_qos = (flags >> 3) & 3;
    let has_will = flags & 4 != 0;
    flags & 1 == 0 && will_qos < 3 && (has_will || flags & 0b0011_1000 == 0)
}
