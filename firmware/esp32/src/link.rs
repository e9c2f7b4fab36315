//! The meter's connection: MQTT 3.1.1 over TLS 1.3, one connection at a time, everything not acknowledged sent again.
//!
//! The server's certificate must be of the provisioned authority (ECDSA P-256). Until the server has told the time, its validity
//! period cannot be checked; the signature and the name are.

use alloc::{boxed::Box, vec, vec::Vec};
use core::{
    fmt,
    sync::atomic::{AtomicU32, Ordering},
};

use board::{
    mqtt::{self, Packet},
    provisioning::Provision,
};
use embassy_net::{Stack, dns::DnsQueryType, tcp::TcpSocket};
use embassy_sync::{blocking_mutex::raw::NoopRawMutex, mutex::Mutex};
use embassy_time::{Duration, Instant, Timer, with_timeout};
use embedded_io_async::Write as _;
use embedded_tls::{
    Aes128GcmSha256, Certificate, CryptoProvider, CryptoRngCore, TlsClock, TlsConfig, TlsConnection, TlsContext,
    TlsError, TlsVerifier, pki::CertVerifier,
};
use esp_hal::rng::Trng;
use meter::{FrameId, kept::KeptMeter};
use metering::{
    Down,
    topic::{Topic, UpKind},
};

use crate::flash::Chip;

/// Frames on the way at once.
const WINDOW: usize = 4;
const KEEP_ALIVE_S: u16 = 60;
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const CERTIFICATE_BYTES_MAX: usize = 2_048;

/// Seconds since 1970 as the meter knows them; 0 while it does not.
pub static UTC: AtomicU32 = AtomicU32::new(0);
/// Frames that the server has acknowledged since the start.
pub static ACKNOWLEDGED: AtomicU32 = AtomicU32::new(0);

/// The meter, shared by the tasks of one executor.
pub type SharedMeter = Mutex<NoopRawMutex, KeptMeter<Chip>>;

struct Clock;

impl TlsClock for Clock {
    fn now() -> Option<u64> {
        Some(UTC.load(Ordering::Relaxed)).filter(|&s| s > 0).map(u64::from)
    }
}

struct Provider<'a> {
    random: Trng,
    verifier: CertVerifier<'a, Aes128GcmSha256, Clock, CERTIFICATE_BYTES_MAX>,
}

impl CryptoProvider for Provider<'_> {
    type CipherSuite = Aes128GcmSha256;
    type Signature = &'static [u8];

    fn rng(&mut self) -> impl CryptoRngCore {
        &mut self.random
    }

    fn verifier(&mut self) -> Result<&mut impl TlsVerifier<Aes128GcmSha256>, TlsError> {
        Ok(&mut self.verifier)
    }
}

/// Why a connection ended.
enum Ended {
    Name,
    Socket,
    Tls(TlsError),
    Protocol(mqtt::MqttError),
    Refused(u8),
    Silent,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("the server's name is not known here"),
            Self::Socket => f.write_str("no connection to the server"),
            Self::Tls(why) => write!(f, "TLS: {why:?}"),
            Self::Protocol(why) => write!(f, "{why}"),
            Self::Refused(code) => write!(f, "the server refused the meter (code {code}): check name and secret"),
            Self::Silent => f.write_str("the server does not answer"),
        }
    }
}

impl From<TlsError> for Ended {
    fn from(why: TlsError) -> Self {
        Self::Tls(why)
    }
}

/// Connects for ever; pauses grow to a minute and are spread, so that a street does not come back at once.
pub async fn run(stack: Stack<'static>, meter: &'static SharedMeter, provision: &'static Provision) -> ! {
    let mut pause_s = 2;
    loop {
        stack.wait_config_up().await;
        let begun = Instant::now();
        if let Err(why) = connection(stack, meter, provision).await {
            esp_println::println!("link: {why}");
        }
        meter.lock().await.link_lost();
        pause_s = if begun.elapsed().as_secs() > 60 { 2 } else { (pause_s * 2).min(60) };
        let spread = Trng::try_new().map_or(0, |random| u64::from(random.random()) % (pause_s * 1_000));
        Timer::after_millis(pause_s * 1_000 + spread).await;
    }
}

async fn connection(stack: Stack<'static>, meter: &SharedMeter, provision: &Provision) -> Result<(), Ended> {
    let addresses = stack.dns_query(&provision.server, DnsQueryType::A).await.map_err(|_| Ended::Name)?;
    let address = *addresses.first().ok_or(Ended::Name)?;
    let (mut rx, mut tx) = (vec![0; 4_096], vec![0; 4_096]);
    let mut socket = TcpSocket::new(stack, &mut rx, &mut tx);
    socket.set_timeout(Some(Duration::from_secs(u64::from(KEEP_ALIVE_S) * 2)));
    socket.connect((address, provision.port)).await.map_err(|_| Ended::Socket)?;
    let (mut read_record, mut write_record) = (vec![0; 16_640].into_boxed_slice(), vec![0; 4_096].into_boxed_slice());
    let mut tls = TlsConnection::new(socket, &mut read_record, &mut write_record);
    let config = TlsConfig::new().with_server_name(&provision.server);
    let verifier = CertVerifier::new(Certificate::X509(&provision.authority));
    let random = Trng::try_new().map_err(|_| Ended::Socket)?;
    tls.open(TlsContext::new(&config, Box::new(Provider { random, verifier }).as_mut())).await?;
    tls.write_all(&mqtt::connect(&provision.meter, &provision.secret, KEEP_ALIVE_S)).await?;
    tls.flush().await?;
    let mut session = Session { tls, meter, bytes: Vec::new(), on_the_way: Vec::new(), next_id: 0, asked: None };
    session.connected().await?;
    session.serve().await
}

struct Session<'a, 'b> {
    tls: TlsConnection<'b, TcpSocket<'b>, Aes128GcmSha256>,
    meter: &'a SharedMeter,
    /// Bytes that are not a whole packet yet.
    bytes: Vec<u8>,
    on_the_way: Vec<(u16, FrameId)>,
    next_id: u16,
    /// When a ping was sent that was not answered.
    asked: Option<Instant>,
}

impl Session<'_, '_> {
    async fn send(&mut self, packet: &[u8]) -> Result<(), Ended> {
        self.tls.write_all(packet).await?;
        Ok(self.tls.flush().await?)
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.next_id
    }

    /// Waits for bytes; `false` when none came in time.
    async fn more(&mut self, time: Duration) -> Result<bool, Ended> {
        let mut part = [0; 512];
        match with_timeout(time, self.tls.read(&mut part)).await {
            Err(_) => Ok(false),
            Ok(Ok(0)) => Err(Ended::Socket),
            Ok(Ok(count)) => {
                self.bytes.extend_from_slice(&part[..count]);
                Ok(true)
            }
            Ok(Err(why)) => Err(why.into()),
        }
    }

    async fn connected(&mut self) -> Result<(), Ended> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if let Some((Packet::Connack(code), taken)) = mqtt::read(&self.bytes).map_err(Ended::Protocol)? {
                self.bytes.drain(..taken);
                if code != 0 {
                    return Err(Ended::Refused(code));
                }
                let filter = Topic::down_filter(self.meter.lock().await.meter().config().meter);
                let id = self.id();
                return self.send(&mqtt::subscribe(&filter, id)).await;
            }
            self.more(Duration::from_secs(1)).await?;
        }
        Err(Ended::Silent)
    }

    async fn serve(&mut self) -> Result<(), Ended> {
        let mut heard = Instant::now();
        loop {
            self.offer().await?;
            if self.more(LOOK_AGAIN).await? {
                heard = Instant::now();
                self.asked = None;
            }
            self.take().await?;
            let quiet = heard.elapsed().as_secs();
            match self.asked {
                Some(at) if at.elapsed().as_secs() > 20 => return Err(Ended::Silent),
                None if quiet * 2 > u64::from(KEEP_ALIVE_S) => {
                    self.send(&mqtt::ping()).await?;
                    self.asked = Some(Instant::now());
                }
                _ => {}
            }
        }
    }

    /// Sends what waits, as far as the window goes.
    async fn offer(&mut self) -> Result<(), Ended> {
        while self.on_the_way.len() < WINDOW {
            let id = self.id();
            let packet = {
                let mut meter = self.meter.lock().await;
                let name = meter.meter().config().meter;
                let Some(out) = meter.next_to_send() else { return Ok(()) };
                self.on_the_way.push((id, out.id));
                let kind: UpKind = out.kind;
                mqtt::publish(&Topic::Up(name, kind).name(), id, out.payload, false)
            };
            self.send(&packet).await?;
        }
        Ok(())
    }

    async fn take(&mut self) -> Result<(), Ended> {
        loop {
            let answer = match mqtt::read(&self.bytes).map_err(Ended::Protocol)? {
                None => return Ok(()),
                Some((packet, taken)) => {
                    let mut answer = None;
                    match packet {
                        Packet::Puback(id) => {
                            if let Some(at) = self.on_the_way.iter().position(|(sent, _)| *sent == id) {
                                let (_, frame) = self.on_the_way.swap_remove(at);
                                self.meter.lock().await.acknowledge(frame);
                                // the only writer; the C3 has no read-modify-write
                                ACKNOWLEDGED.store(ACKNOWLEDGED.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                            }
                        }
                        Packet::Publish { topic, id, payload } => {
                            if let Some(Topic::Down(_, kind)) = Topic::parse(topic)
                                && let Ok(down) = Down::from_cbor(kind, payload)
                            {
                                crate::measure::ORDERS.send(down).await;
                            }
                            answer = id;
                        }
                        Packet::Suback(false) => return Err(Ended::Refused(0x80)),
                        Packet::Connack(_) | Packet::Suback(true) | Packet::Pingresp => {}
                    }
                    self.bytes.drain(..taken);
                    answer
                }
            };
            if let Some(id) = answer {
                self.send(&mqtt::puback(id)).await?;
            }
        }
    }
}
