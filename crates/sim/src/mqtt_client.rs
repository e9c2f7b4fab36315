//! A meter's connection: a small MQTT 5 client around the state machine of `mqtt-protocol-core`, one task per meter.
//!
//! It connects, subscribes to the meter's own topics, publishes at QoS 1 and tells of every acknowledgement. When the connection
//! breaks it comes back by itself, with jittered pauses. It keeps nothing: what was not acknowledged is sent again by the meter's
//! ring, which the owner tells of every break. All packets of a session carry a *generation*, so that nothing of an older
//! connection is taken for the present one.

use std::time::Duration;

use metering::{Down, MeterId, Topic, frame::DecodeError, topic::UpKind};
use mqtt_protocol_core::mqtt::{
    self, Version,
    connection::{ConnectionOptions, Event},
    packet::{GenericPacketTrait, Packet, Qos, SubEntry, SubOpts, v5_0},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
    time::{self, Instant},
};

use crate::random::mix;

/// Most frames of a meter on the way at once.
pub const WINDOW: usize = 32;
/// Largest packet taken from the server.
const PACKET_BYTES_MAX: u32 = 64 * 1024;
const KEEP_ALIVE_SECONDS: u16 = 60;
/// Longest wait for the server's answer while connecting, and longest silence after a ping.
const ANSWER_MAX: Duration = Duration::from_secs(20);
const PAUSE_MIN: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_millis(1_000);

type Client = mqtt::Connection<mqtt::role::Client>;

/// What happens on a meter's connection.
#[derive(Debug)]
pub enum LinkEvent {
    /// Connected and subscribed; frames may be published with this generation.
    Up {
        /// Number of this connection.
        generation: u64,
    },
    /// The connection broke or could not be made; everything unacknowledged must be sent again.
    Lost {
        /// Number of the broken connection.
        generation: u64,
        /// Whether it had been up.
        was_up: bool,
        /// Why.
        reason: String,
    },
    /// A frame is acknowledged.
    Acknowledged {
        /// Number of the connection.
        generation: u64,
        /// The tag it was published with.
        tag: u64,
    },
    /// The server sent something.
    Received(Result<Down, DecodeError>),
}

/// What the owner asks of a connection.
#[derive(Debug)]
enum Order {
    Publish { generation: u64, tag: u64, kind: UpKind, payload: Vec<u8> },
    Hold(bool),
}

/// How to connect.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// `host:port`.
    pub address: String,
    /// The meter, also the user name.
    pub meter: MeterId,
    /// Its secret, the password.
    pub secret: String,
    /// Place of the meter, told with every event.
    pub place: usize,
    /// Seeds the jitter of pauses.
    pub seed: u64,
}

/// Handle of a meter's connection; dropping it ends the task.
pub struct Link {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// Starts connecting. Events come with the meter's place.
    pub fn start(config: LinkConfig, events: mpsc::Sender<(usize, LinkEvent)>) -> Self {
        let (orders, inbox) = mpsc::channel(WINDOW + 8);
        let task = tokio::spawn(Task { config, events, inbox, held: false, generation: 0 }.run());
        Self { orders, task }
    }

    /// Whether [`Link::publish`] will take a frame.
    pub fn has_room(&self) -> bool {
        self.orders.capacity() > 0
    }

    /// Publishes a frame on the connection of this generation; tells whether it was taken. The owner keeps at most [`WINDOW`] on
    /// the way.
    pub fn publish(&self, generation: u64, tag: u64, kind: UpKind, payload: Vec<u8>) -> bool {
        self.orders.try_send(Order::Publish { generation, tag, kind, payload }).is_ok()
    }

    /// Breaks the connection and stays away until released.
    pub async fn hold(&self, held: bool) {
        // the task ends only with the handle
        let _ = self.orders.send(Order::Hold(held)).await;
    }
}

struct Task {
    config: LinkConfig,
    events: mpsc::Sender<(usize, LinkEvent)>,
    inbox: mpsc::Receiver<Order>,
    held: bool,
    generation: u64,
}

/// Why a session ended.
enum End {
    /// The owner is gone.
    Over,
    Broken(String),
}

impl Task {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            while self.held {
                match self.inbox.recv().await {
                    Some(Order::Hold(held)) => self.held = held,
                    Some(Order::Publish { .. }) => {}
                    None => return,
                }
            }
            self.generation += 1;
            let mut was_up = false;
            let end = self.session(&mut was_up).await;
            let End::Broken(reason) = end else { return };
            let lost = LinkEvent::Lost { generation: self.generation, was_up, reason };
            if self.events.send((self.config.place, lost)).await.is_err() {
                return;
            }
            pause = if was_up { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
            if !self.held && !self.pause(pause).await {
                return;
            }
        }
    }

    /// Waits between half of and the whole pause; orders are heard meanwhile. `false` when the owner is gone.
    async fn pause(&mut self, pause: Duration) -> bool {
        let draw = mix(self.config.seed ^ self.generation ^ (self.config.place as u64) << 32) % 1_000;
        let share = 0.5 + f64::from(u32::try_from(draw).unwrap_or(0)) / 2_000.0;
        let until = Instant::now() + pause.mul_f64(share);
        loop {
            match time::timeout_at(until, self.inbox.recv()).await {
                Err(_) => return true,
                Ok(None) => return false,
                Ok(Some(Order::Publish { .. })) => {}
                Ok(Some(Order::Hold(held))) => {
                    self.held = held;
                    if held {
                        return true;
                    }
                }
            }
        }
    }

    async fn session(&mut self, was_up: &mut bool) -> End {
        let connected = time::timeout(ANSWER_MAX, TcpStream::connect(&self.config.address)).await;
        let mut stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return End::Broken(error.to_string()),
            Err(_) => return End::Broken("no answer".into()),
        };
        if let Err(error) = stream.set_nodelay(true) {
            return End::Broken(error.to_string());
        }
        let options = ConnectionOptions::new().maximum_packet_size_recv(PACKET_BYTES_MAX);
        let mut session = Session {
            client: Client::with_options(Version::V5_0, options),
            config: self.config.clone(),
            generation: self.generation,
            out: Vec::new(),
            told: Vec::new(),
            tags: Vec::new(),
            owed: Vec::new(),
            up: false,
        };
        if let Err(reason) = session.begin() {
            return End::Broken(reason);
        }
        let end = self.talk(&mut stream, &mut session).await;
        *was_up = session.up;
        end
    }

    async fn talk(&mut self, stream: &mut TcpStream, session: &mut Session) -> End {
        let mut buffer = vec![0; 8 * 1024];
        let mut heard = Instant::now();
        let mut spoken = Instant::now();
        let quiet = Duration::from_secs(u64::from(KEEP_ALIVE_SECONDS) / 3);
        loop {
            if !session.out.is_empty() {
                if let Err(error) = stream.write_all(&session.out).await {
                    return End::Broken(error.to_string());
                }
                session.out.clear();
                spoken = Instant::now();
            }
            for event in session.told.drain(..) {
                if self.events.send((self.config.place, event)).await.is_err() {
                    return End::Over;
                }
            }
            // acknowledgements of what was received are written only after it was handed over
            if let Err(reason) = session.acknowledge_received() {
                return End::Broken(reason);
            }
            if !session.out.is_empty() {
                continue;
            }
            tokio::select! {
                read = stream.read(&mut buffer) => match read {
                    Ok(0) => return End::Broken("closed by the server".into()),
                    Ok(n) => {
                        heard = Instant::now();
                        if let Err(reason) = session.take(&buffer[..n]) {
                            return End::Broken(reason);
                        }
                    }
                    Err(error) => return End::Broken(error.to_string()),
                },
                order = self.inbox.recv() => {
                    let Some(order) = order else { return End::Over };
                    if let Some(end) = self.obey(order, session) {
                        return end;
                    }
                    for _ in 0..WINDOW {
                        let Ok(order) = self.inbox.try_recv() else { break };
                        if let Some(end) = self.obey(order, session) {
                            return end;
                        }
                    }
                }
                () = time::sleep_until(spoken.max(heard) + quiet) => {
                    let silent = heard.elapsed();
                    if silent > quiet * 2 + ANSWER_MAX || (!session.up && silent > ANSWER_MAX) {
                        return End::Broken("the server is silent".into());
                    }
                    if let Err(reason) = session.ping() {
                        return End::Broken(reason);
                    }
                }
            }
        }
    }

    fn obey(&mut self, order: Order, session: &mut Session) -> Option<End> {
        match order {
            Order::Publish { generation, tag, kind, payload } if generation == self.generation => {
                session.publish(tag, kind, payload).err().map(End::Broken)
            }
            // of an older connection: the ring sends it again
            Order::Publish { .. } => None,
            Order::Hold(held) => {
                self.held = held;
                held.then(|| End::Broken("held".into()))
            }
        }
    }
}

/// One connection's protocol state.
struct Session {
    client: Client,
    config: LinkConfig,
    generation: u64,
    out: Vec<u8>,
    told: Vec<LinkEvent>,
    /// Packet ids on the way and what they carry; at most [`WINDOW`].
    tags: Vec<(u16, u64)>,
    /// Received and not acknowledged yet.
    owed: Vec<u16>,
    up: bool,
}

impl Session {
    fn begin(&mut self) -> Result<(), String> {
        let connect = v5_0::Connect::builder()
            .client_id(self.config.meter.as_str())
            .and_then(|b| b.user_name(self.config.meter.as_str()))
            .and_then(|b| b.password(self.config.secret.as_str()))
            .and_then(|b| b.clean_start(true).keep_alive(KEEP_ALIVE_SECONDS).build())
            .map_err(text)?;
        let events = self.client.send(connect.into());
        self.follow(events)
    }

    fn publish(&mut self, tag: u64, kind: UpKind, payload: Vec<u8>) -> Result<(), String> {
        let id = self.client.acquire_packet_id().map_err(text)?;
        let publish = v5_0::Publish::builder()
            .topic_name(Topic::Up(self.config.meter, kind).name())
            .map_err(text)?
            .qos(Qos::AtLeastOnce)
            .packet_id(id)
            .payload(payload)
            .build()
            .map_err(text)?;
        self.tags.push((id, tag));
        let events = self.client.send(publish.into());
        self.follow(events)
    }

    fn subscribe(&mut self) -> Result<(), String> {
        let id = self.client.acquire_packet_id().map_err(text)?;
        let options = SubOpts::new().set_qos(Qos::AtLeastOnce);
        let entry = SubEntry::new(Topic::down_filter(self.config.meter), options).map_err(text)?;
        let subscribe = v5_0::Subscribe::builder().entries(vec![entry]).packet_id(id).build().map_err(text)?;
        let events = self.client.send(subscribe.into());
        self.follow(events)
    }

    fn acknowledge_received(&mut self) -> Result<(), String> {
        for id in std::mem::take(&mut self.owed) {
            let puback = v5_0::Puback::builder().packet_id(id).build().map_err(text)?;
            let events = self.client.send(puback.into());
            self.follow(events)?;
        }
        Ok(())
    }

    fn ping(&mut self) -> Result<(), String> {
        let ping = v5_0::Pingreq::builder().build().map_err(text)?;
        let events = self.client.send(ping.into());
        self.follow(events)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut cursor = mqtt::common::Cursor::new(bytes);
        let length = u64::try_from(bytes.len()).unwrap_or(0);
        while cursor.position() < length {
            let events = self.client.recv(&mut cursor);
            self.follow(events)?;
        }
        Ok(())
    }

    fn follow(&mut self, events: Vec<Event>) -> Result<(), String> {
        for event in events {
            match event {
                Event::RequestSendPacket { packet, .. } => {
                    self.out.extend_from_slice(&packet.to_continuous_buffer());
                }
                Event::NotifyPacketReceived(packet) => self.received(packet)?,
                Event::NotifyError(error) => return Err(format!("protocol error: {error:?}")),
                Event::RequestClose => return Err("closed".into()),
                Event::NotifyPacketIdReleased(_) | Event::RequestTimerReset { .. } | Event::RequestTimerCancel(_) => {}
            }
        }
        Ok(())
    }

    fn received(&mut self, packet: Packet) -> Result<(), String> {
        match packet {
            Packet::V5_0Connack(connack) => {
                if connack.reason_code() != mqtt::result_code::ConnectReasonCode::Success {
                    return Err(format!("the server refuses the meter: {:?}", connack.reason_code()));
                }
                self.subscribe()
            }
            Packet::V5_0Suback(_) => {
                self.up = true;
                self.told.push(LinkEvent::Up { generation: self.generation });
                Ok(())
            }
            Packet::V5_0Puback(puback) => {
                let id = puback.packet_id();
                if let Some(at) = self.tags.iter().position(|&(known, _)| known == id) {
                    let (_, tag) = self.tags.swap_remove(at);
                    self.told.push(LinkEvent::Acknowledged { generation: self.generation, tag });
                }
                Ok(())
            }
            Packet::V5_0Publish(publish) => {
                if let Some(Topic::Down(meter, kind)) = Topic::parse(publish.topic_name())
                    && meter == self.config.meter
                {
                    let down = Down::from_cbor(kind, publish.payload().as_slice());
                    self.told.push(LinkEvent::Received(down));
                }
                if let Some(id) = publish.packet_id() {
                    self.owed.push(id);
                }
                Ok(())
            }
            Packet::V5_0Disconnect(disconnect) => {
                Err(format!("the server ends the connection: {:?}", disconnect.reason_code()))
            }
            _ => Ok(()),
        }
    }
}

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}
