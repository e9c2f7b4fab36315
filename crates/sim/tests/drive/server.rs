//! The other end of the wire, small and written from the MQTT 5 standard by hand: it stores frames, acknowledges, sends
//! controls, and "dies" on request: all connections break and none is taken for a while.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use metering::{Body, Control, Down, Frame, MeterId, Timestamp, Topic};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::Instant,
};

#[derive(Default)]
pub struct State {
    pub frames: BTreeMap<(MeterId, u64, u64), Vec<u8>>,
    pub conflicts: u64,
    pub duplicates: u64,
    pub published: u64,
    pub deaths: u64,
    /// It dies after storing, before acknowledging, whenever this many publishes have come.
    pub dies_every: Option<u64>,
    pub answered: BTreeSet<u64>,
    /// Orders and when they are due.
    pub orders: Vec<(Timestamp, MeterId, Control)>,
    pub clocks: Vec<Timestamp>,
    pub topology_rows: usize,
    pub down_until: Option<Instant>,
    pub meters: BTreeMap<MeterId, mpsc::UnboundedSender<Vec<u8>>>,
}

#[derive(Clone)]
pub struct Server {
    state: Arc<Mutex<State>>,
    death: Arc<watch::Sender<u64>>,
    pub mqtt: SocketAddr,
    pub http: SocketAddr,
}

impl Server {
    pub async fn start(state: State) -> Self {
        let mqtt = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let http = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let server = Self {
            state: Arc::new(Mutex::new(state)),
            death: Arc::new(watch::channel(0).0),
            mqtt: mqtt.local_addr().expect("bound"),
            http: http.local_addr().expect("bound"),
        };
        let (a, b) = (server.clone(), server.clone());
        tokio::spawn(async move { a.listen(mqtt, true).await });
        tokio::spawn(async move { b.listen(http, false).await });
        server
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    fn die(&self) {
        let mut state = self.state();
        state.deaths += 1;
        state.meters.clear();
        state.down_until = Some(Instant::now() + Duration::from_millis(30));
        self.death.send_replace(state.deaths);
    }

    async fn listen(self, listener: TcpListener, mqtt: bool) {
        loop {
            let (stream, _) = listener.accept().await.expect("accepts");
            if self.state().down_until.is_some_and(|until| Instant::now() < until) {
                continue;
            }
            let (server, mut death) = (self.clone(), self.death.subscribe());
            tokio::spawn(async move {
                tokio::select! {
                    _ = death.changed() => {}
                    _ = async { if mqtt { server.meter(stream).await } else { server.rest(stream).await } } => {}
                }
            });
        }
    }

    async fn meter(&self, mut stream: TcpStream) -> Option<()> {
        let (sender, mut outgoing) = mpsc::unbounded_channel::<Vec<u8>>();
        let (mut reader, mut writer) = stream.split();
        let mut buffer = Vec::new();
        let mut who = None;
        loop {
            while let Some((kind, body)) = packet(&mut buffer) {
                let answer = match kind >> 4 {
                    1 => vec![0x20, 3, 0, 0, 0],
                    8 => {
                        let filter = String::from_utf8_lossy(&body[5..body.len() - 1]).into_owned();
                        let meter = MeterId::new(filter.split('/').nth(2)?).ok()?;
                        who = Some(meter);
                        self.state().meters.insert(meter, sender.clone());
                        vec![0x90, 4, body[0], body[1], 0, 1]
                    }
                    3 => self.publish(who?, &body)?,
                    12 => vec![0xd0, 0],
                    _ => vec![],
                };
                writer.write_all(&answer).await.ok()?;
            }
            let mut chunk = [0; 4096];
            tokio::select! {
                n = reader.read(&mut chunk) => match n.ok()? {
                    0 => return None,
                    n => buffer.extend_from_slice(&chunk[..n]),
                },
                bytes = outgoing.recv() => writer.write_all(&bytes?).await.ok()?,
            }
        }
    }

    /// Stores a frame; `None` when the server dies of it.
    fn publish(&self, meter: MeterId, body: &[u8]) -> Option<Vec<u8>> {
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = std::str::from_utf8(&body[2..2 + length]).expect("text");
        let (id, payload) = (&body[2 + length..4 + length], &body[5 + length..]);
        assert_eq!(body[4 + length], 0, "no properties");
        let frame = Frame::from_cbor(payload).expect("a frame");
        assert_eq!(Topic::parse(topic), Some(Topic::Up(meter, frame.body.kind())));
        let dies = {
            let mut state = self.state();
            state.published += 1;
            if let Body::Reply(reply) = &frame.body {
                state.answered.insert(reply.control);
            }
            match state.frames.insert((meter, frame.boot, frame.seq), payload.to_vec()) {
                Some(before) if before == payload => state.duplicates += 1,
                Some(_) => state.conflicts += 1,
                None => {}
            }
            state.dies_every.is_some_and(|every| state.published.is_multiple_of(every))
        };
        if dies {
            self.die();
            return None;
        }
        Some(vec![0x40, 2, id[0], id[1]])
    }

    async fn rest(&self, mut stream: TcpStream) -> Option<()> {
        let mut buffer = Vec::new();
        loop {
            let (head, body) = loop {
                if let Some(request) = request(&mut buffer) {
                    break request;
                }
                let mut chunk = [0; 8192];
                match stream.read(&mut chunk).await.ok()? {
                    0 => return None,
                    n => buffer.extend_from_slice(&chunk[..n]),
                }
            };
            assert!(head.to_ascii_lowercase().contains("authorization: bearer token"), "{head}");
            let body = String::from_utf8(body).expect("text");
            let answer = match head.split_whitespace().nth(1)? {
                "/api/v1/topology" => {
                    self.state().topology_rows = body.lines().count() - 1;
                    r#"{"accepted":1,"unchanged":0,"rejected":[]}"#.to_owned()
                }
                "/api/v1/meters" => {
                    let asked: serde_json::Value = serde_json::from_str(&body).expect("JSON");
                    let list = asked["meters"].as_array().expect("a list").iter();
                    let list: Vec<_> = list.map(|m| serde_json::json!({"meter": m, "secret": "00"})).collect();
                    serde_json::json!({ "meters": list }).to_string()
                }
                "/api/v1/clock" => {
                    let now = serde_json::from_str::<serde_json::Value>(&body).expect("JSON")["now"].as_i64()?;
                    self.advance(Timestamp(now)).await;
                    status(now)
                }
                _ => status(0),
            };
            let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
            stream.write_all(text.as_bytes()).await.ok()?;
        }
    }

    /// Sends what is due and waits for the answers, time standing still.
    async fn advance(&self, now: Timestamp) {
        self.state().clocks.push(now);
        let due: Vec<_> = self.state().orders.iter().filter(|(at, ..)| *at <= now).cloned().collect();
        for (_, meter, control) in due {
            if self.is_answered(control.id) {
                continue;
            }
            let name = Topic::Down(meter, metering::topic::DownKind::Control).name();
            let payload = Down::Control(control.clone()).to_cbor();
            let mut packet = vec![0x32];
            let mut length = name.len() + payload.len() + 5;
            while length >= 128 {
                packet.push(u8::try_from(length % 128).expect("small") | 128);
                length /= 128;
            }
            packet.push(u8::try_from(length).expect("small"));
            packet.extend([0, u8::try_from(name.len()).expect("short")]);
            packet.extend(name.as_bytes());
            packet.extend([0, 1, 0]);
            packet.extend(payload);
            if let Some(sender) = self.state().meters.get(&meter) {
                let _ = sender.send(packet);
            }
            let deadline = Instant::now() + Duration::from_secs(10);
            while !self.is_answered(control.id) && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }

    pub fn is_answered(&self, control: u64) -> bool {
        self.state().answered.contains(&control)
    }
}

fn status(now: i64) -> String {
    serde_json::json!({"now": now, "processed_through": now, "idle": true, "wake_at": null, "meters_connected": 0})
        .to_string()
}

/// Takes one MQTT packet from the front of the buffer.
fn packet(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (mut length, mut at) = (0usize, 1);
    loop {
        let byte = *buffer.get(at)?;
        length |= usize::from(byte & 127) << (7 * (at - 1));
        at += 1;
        if byte & 128 == 0 {
            break;
        }
    }
    if buffer.len() < at + length {
        return None;
    }
    let packet: Vec<u8> = buffer.drain(..at + length).collect();
    Some((packet[0], packet[at..].to_vec()))
}

/// Takes one HTTP request from the front of the buffer.
fn request(buffer: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let end = buffer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let length =
        head.to_ascii_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse().ok());
    let total = end + length.unwrap_or(0);
    if buffer.len() < total {
        return None;
    }
    let request: Vec<u8> = buffer.drain(..total).collect();
    Some((head, request[end..].to_vec()))
}
