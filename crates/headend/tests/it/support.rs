//! A head-end on a free port, and an MQTT client written by hand so that it can also do what no library lets one do.

use std::{sync::Arc, time::Duration};

use headend::{Batch, Credentials, Delivery, Headend, HeadendConfig, Outcome};
use metering::{
    Control, ControlKind, Down, Frame, MeterId, Timestamp,
    frame::{Body, Now},
    sms::TextKey,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

pub const PATIENCE: Duration = Duration::from_secs(10);
pub const NOW: Timestamp = Timestamp(1_767_225_600);

pub const CONNACK: u8 = 2;
pub const PUBLISH: u8 = 3;
pub const PUBACK: u8 = 4;
pub const PUBREC: u8 = 5;
pub const PUBCOMP: u8 = 7;
pub const SUBACK: u8 = 9;
pub const UNSUBACK: u8 = 11;
pub const PINGRESP: u8 = 13;
pub const DISCONNECT: u8 = 14;

pub fn meter(n: usize) -> MeterId {
    MeterId::new(&format!("M-{n}")).expect("valid")
}

pub fn secret(n: usize) -> [u8; 32] {
    [u8::try_from(n).expect("small"); 32]
}

pub fn hex(secret: [u8; 32]) -> String {
    secret.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn now_frame(meter: MeterId, seq: u64) -> Frame {
    Frame::new(meter, 7, seq, Body::Now(Now { at: NOW, ..Now::default() }))
}

/// A disconnection.
pub fn control() -> Down {
    Down::Control(Control {
        id: 5,
        kind: ControlKind::Disconnect,
        expires: Timestamp(NOW.0 + 600),
        counter: 1,
        signatures: vec![],
    })
}

/// A head-end for the meters M-1 to M-9 and the far end of its channel.
pub struct Server {
    pub headend: Headend,
    pub batches: mpsc::Receiver<Batch>,
    pub credentials: Arc<Credentials>,
}

pub async fn server() -> Server {
    server_with(|_| {}).await
}

pub async fn server_with(change: impl FnOnce(&mut HeadendConfig)) -> Server {
    let mut config = HeadendConfig { mqtt: Some(([127, 0, 0, 1], 0).into()), ..HeadendConfig::default() };
    change(&mut config);
    let credentials = Arc::new(Credentials::new());
    credentials.replace_text_keys((1..10).map(|n| (meter(n), TextKey::from_secret(&secret(n)))));
    let _ = credentials.replace_all((1..10).map(|n| (meter(n), Credentials::hash(&secret(n)))));
    let (sink, batches) = mpsc::channel(16);
    let headend = headend::start(config, credentials.clone(), Arc::new(|| NOW), sink).await.expect("starts");
    Server { headend, batches, credentials }
}

impl Server {
    /// The next batch of the pipeline.
    pub async fn batch(&mut self) -> Batch {
        timeout(PATIENCE, self.batches.recv()).await.expect("a batch in time").expect("the head-end runs")
    }

    /// Takes batches until `count` deliveries are together, and answers each with `outcome`.
    pub async fn store(&mut self, count: usize, outcome: Outcome) -> Vec<Delivery> {
        let mut all = Vec::new();
        while all.len() < count {
            let batch = self.batch().await;
            batch.done.send(vec![outcome; batch.deliveries.len()]).expect("the connection waits");
            all.extend(batch.deliveries);
        }
        all
    }

    pub async fn client(&self, version: u8, n: usize) -> Client<TcpStream> {
        self.client_named(version, n, &format!("client-{n}")).await
    }

    pub async fn client_named(&self, version: u8, n: usize, name: &str) -> Client<TcpStream> {
        let mut client = self.raw(version).await;
        client.log_on(n, name).await;
        client
    }

    /// Connected by TCP, nothing said yet.
    pub async fn raw(&self, version: u8) -> Client<TcpStream> {
        let address = self.headend.mqtt_addr().expect("plain MQTT");
        Client::new(TcpStream::connect(address).await.expect("connects"), version)
    }
}

/// A packet as it came: type, flags, everything behind the fixed header.
#[derive(Debug, PartialEq, Eq)]
pub struct Packet {
    pub kind: u8,
    pub flags: u8,
    pub body: Vec<u8>,
}

impl Packet {
    /// The packet identifier of an acknowledgement.
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.body[0], self.body[1]])
    }
}

pub struct Client<S> {
    pub stream: S,
    pub version: u8,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S, version: u8) -> Self {
        Self { stream, version }
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("writes");
    }

    pub async fn log_on(&mut self, n: usize, name: &str) {
        let connect = Connect { name, ..Connect::of(n) };
        self.write(&connect.packet(self.version)).await;
        let connack = self.packet().await;
        assert_eq!((connack.kind, connack.body[0], connack.body[1]), (CONNACK, 0, 0), "{connack:?}");
    }

    pub async fn publish(&mut self, frame: &Frame, id: u16) {
        let topic = format!("gt/1/{}/up/{}", frame.meter, frame.body.kind().level());
        let packet = publish(self.version, &topic, &frame.to_cbor(), 0x02, id);
        self.write(&packet).await;
    }

    pub async fn subscribe(&mut self, filter: &str, qos: u8) -> u8 {
        let mut body = vec![0, 9];
        if self.version == 5 {
            body.push(0);
        }
        body.extend(text(filter));
        body.push(qos);
        self.write(&packet(0x82, &body)).await;
        let answer = self.packet().await;
        assert_eq!((answer.kind, answer.id()), (SUBACK, 9));
        *answer.body.last().expect("a code")
    }

    pub async fn packet(&mut self) -> Packet {
        self.next().await.expect("a packet, not the end of the connection")
    }

    /// The next packet, or `None` when the server closed the connection.
    pub async fn next(&mut self) -> Option<Packet> {
        timeout(PATIENCE, self.read_packet()).await.expect("a packet or the end in time")
    }

    async fn read_packet(&mut self) -> Option<Packet> {
        let first = self.stream.read_u8().await.ok()?;
        let (mut length, mut shift) = (0usize, 0);
        loop {
            let byte = self.stream.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.ok()?;
        Some(Packet { kind: first >> 4, flags: first & 15, body })
    }

    /// Sends a ping and checks that its answer is the next packet: nothing else was sent before.
    pub async fn expect_silence(&mut self) {
        self.write(&[0xc0, 0]).await;
        let answer = self.packet().await;
        assert_eq!(answer.kind, PINGRESP, "{answer:?}");
    }

    /// Checks that the server closes, with this DISCONNECT reason on MQTT 5 (`None`: without any).
    pub async fn expect_close(&mut self, reason: Option<u8>) {
        let mut last = self.next().await;
        if let (5, Some(reason)) = (self.version, reason) {
            let packet = last.expect("DISCONNECT before the end");
            assert_eq!((packet.kind, packet.body.first()), (DISCONNECT, Some(&reason)), "{packet:?}");
            last = self.next().await;
        }
        assert_eq!(last, None);
    }
}

/// The fields of a CONNECT.
pub struct Connect<'a> {
    pub name: &'a str,
    pub user: String,
    pub password: String,
    pub flags: u8,
    pub keep_alive: u16,
    /// MQTT 5 properties, without their length.
    pub properties: &'a [u8],
}

impl Connect<'_> {
    pub fn of(n: usize) -> Self {
        Self {
            name: "client",
            user: meter(n).to_string(),
            password: hex(secret(n)),
            flags: 0xc2,
            keep_alive: 60,
            properties: &[],
        }
    }

    pub fn packet(&self, version: u8) -> Vec<u8> {
        let mut body = text("MQTT");
        body.extend([version, self.flags]);
        body.extend(self.keep_alive.to_be_bytes());
        if version == 5 {
            body.push(u8::try_from(self.properties.len()).expect("short"));
            body.extend(self.properties);
        }
        body.extend(text(self.name));
        if self.flags & 4 != 0 {
            if version == 5 {
                body.push(0);
            }
            body.extend(text("gt/1/M-1/up/now"));
            body.extend(text("gone"));
        }
        body.extend(text(&self.user));
        body.extend(text(&self.password));
        packet(0x10, &body)
    }
}

pub fn text(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).expect("short").to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// A whole packet from its first byte and what follows the length.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let digit = u8::try_from(length & 0x7f).expect("seven bits");
        length >>= 7;
        bytes.push(if length > 0 { digit | 0x80 } else { digit });
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// PUBLISH; `flags` are DUP (8), QoS (2, 4), RETAIN (1).
pub fn publish(version: u8, topic: &str, payload: &[u8], flags: u8, id: u16) -> Vec<u8> {
    let mut body = text(topic);
    if flags & 6 != 0 {
        body.extend(id.to_be_bytes());
    }
    if version == 5 {
        body.push(0);
    }
    body.extend(payload);
    packet(0x30 | flags, &body)
}
