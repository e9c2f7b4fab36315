//! The client side of `gridtally bench ingest`: many meters connect, then all report a quarter of an hour (or several) at once, and
//! every acknowledgement is timed. An acknowledgement means "durably stored", so the rate is the rate of the whole way to the disk.
//!
//! The client speaks just enough MQTT 3.1.1, written by hand, so that the load generator takes little of the machine it shares with
//! the server.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use metering::{
    Body, Frame, MeterId, Milliamps, Millivolts, ProfileRecord, RecordFlags, Timestamp, Topic, WattHours,
    frame::{FRAME_BYTES_MAX, Profile, RECORDS_MAX},
    topic::UpKind,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Barrier, Semaphore},
    task::JoinSet,
    time::timeout,
};

/// Frames of one meter that may wait for their acknowledgement; the window of the server.
const WINDOW: usize = 64;
/// Log-ons at once: the queue of new connections of a listener is short on most machines.
const LOG_ONS: usize = 256;
const LOG_ON_TIMEOUT: Duration = Duration::from_secs(30);
/// A meter that hears no acknowledgement for so long counts the rest as lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// Files beside the connections: standard streams, libraries, the runtime.
const FILES_BESIDE: u64 = 64;
const SLOT_SECONDS: i64 = 900;

/// What a burst came to.
#[derive(Clone, Debug, PartialEq)]
pub struct BurstReport {
    /// Meters that should connect.
    pub meters: usize,
    /// Meters that did.
    pub connected: usize,
    /// Meters that were refused or could not connect, and why, counted.
    pub refused: BTreeMap<String, usize>,
    /// Frames handed to a connection.
    pub sent: usize,
    /// Frames acknowledged, each once.
    pub acknowledged: usize,
    /// Frames of connected meters without acknowledgement.
    pub lost: usize,
    /// Profile records in the acknowledged frames.
    pub records: usize,
    /// Bytes of all frames sent, without topic and headers.
    pub payload_bytes: u64,
    /// Seconds until all had logged on.
    pub connect_s: f64,
    /// Seconds from the first frame to the last acknowledgement.
    pub burst_s: f64,
    /// Half of the acknowledgements took no longer than this, milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl BurstReport {
    /// Acknowledged frames a second.
    pub fn frames_per_s(&self) -> f64 {
        per_second(self.acknowledged, self.burst_s)
    }

    /// Acknowledged profile records a second.
    pub fn records_per_s(&self) -> f64 {
        per_second(self.records, self.burst_s)
    }

    /// Meters that were refused.
    pub fn refused_count(&self) -> usize {
        self.refused.values().sum()
    }
}

/// Why a burst could not even begin.
#[derive(Debug, thiserror::Error)]
pub enum BurstError {
    /// The limit of open files is too low.
    #[error(
        "{needed} open files are needed and {limit} are permitted: run `ulimit -n {needed}` first (as root, or with a higher hard \
         limit in /etc/security/limits.conf), or take fewer meters"
    )]
    OpenFiles {
        /// Files needed.
        needed: u64,
        /// Files permitted.
        limit: u64,
    },
    /// The shape of the burst makes no frame.
    #[error("a frame holds 1 to {RECORDS_MAX} records and a burst at least one frame and one meter")]
    Shape,
}

/// Sees to it that this process and the ones it starts may open enough files for so many connections, raising the soft limit with
/// `prlimit` (util-linux) where it is too low and the hard limit permits it. Call it before starting the server as a child.
pub fn raise_open_files(connections: usize) -> Result<(), BurstError> {
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(FILES_BESIDE);
    let Some((soft, hard)) = open_files() else { return Ok(()) };
    if soft >= needed {
        return Ok(());
    }
    if hard >= needed {
        let (own, limit) = (std::process::id().to_string(), format!("--nofile={hard}:{hard}"));
        // where the tool is missing, the check below explains
        let _ = std::process::Command::new("prlimit").args(["--pid", &own, &limit]).status();
    }
    match open_files() {
        Some((limit, _)) if limit < needed => Err(BurstError::OpenFiles { needed, limit }),
        _ => Ok(()),
    }
}

/// Soft and hard limit of open files; `None` where the system does not tell.
fn open_files() -> Option<(u64, u64)> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut values = line.split_whitespace().map(|value| match value {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some((values.next()??, values.next()??))
}

/// Connects all meters (with their secrets, 64 hexadecimal digits), then lets each report `frames_per_meter` frames of
/// `records_per_frame` quarter hours, the last of them ending at or before `last_end`. Registers, voltages and currents vary, so
/// that what they take on disk is that of real readings.
pub async fn burst(
    addr: SocketAddr,
    meters: Vec<(MeterId, String)>,
    frames_per_meter: usize,
    records_per_frame: usize,
    last_end: Timestamp,
) -> Result<BurstReport, BurstError> {
    if meters.is_empty() || frames_per_meter == 0 || !(1..=RECORDS_MAX).contains(&records_per_frame) {
        return Err(BurstError::Shape);
    }
    raise_open_files(meters.len())?;
    let count = meters.len();
    let log_ons = Arc::new(Semaphore::new(LOG_ONS));
    let ready = Arc::new(Barrier::new(count + 1));
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for (meter, secret) in meters {
        let frames = frames(meter, frames_per_meter, records_per_frame, last_end);
        tasks.spawn(meter_task(addr, meter, secret, frames, log_ons.clone(), ready.clone()));
    }
    ready.wait().await;
    let started = Instant::now();
    let mut results = Vec::with_capacity(count);
    while let Some(result) = tasks.join_next().await {
        results.push(result.unwrap_or_else(|error| Err(format!("the task failed: {error}"))));
    }
    Ok(summary(results, frames_per_meter, records_per_frame, started - began, started))
}

/// What one meter saw.
struct Seen {
    sent: usize,
    payload_bytes: u64,
    delays: Vec<Duration>,
    last: Option<Instant>,
}

async fn meter_task(
    addr: SocketAddr,
    meter: MeterId,
    secret: String,
    frames: Vec<Vec<u8>>,
    log_ons: Arc<Semaphore>,
    ready: Arc<Barrier>,
) -> Result<Seen, String> {
    let connected = {
        let place = log_ons.acquire().await.map_err(|error| error.to_string());
        let connected = timeout(LOG_ON_TIMEOUT, log_on(addr, meter, &secret)).await;
        drop(place);
        connected.unwrap_or_else(|_| Err("no answer to the log-on".to_owned()))
    };
    ready.wait().await;
    Ok(report(connected?, meter, &frames).await)
}

async fn log_on(addr: SocketAddr, meter: MeterId, secret: &str) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(addr).await.map_err(|error| format!("connect: {error}"))?;
    stream.set_nodelay(true).map_err(|error| format!("connect: {error}"))?;
    // MQTT 3.1.1, clean session with user name and password, keep-alive ten minutes
    let mut body = b"\x00\x04MQTT\x04\xc2\x02\x58".to_vec();
    for text in [meter.as_str(), meter.as_str(), secret] {
        push_text(&mut body, text);
    }
    let mut packet = Vec::new();
    push_packet(&mut packet, 0x10, &body);
    let mut answer = [0; 4];
    let exchange = async {
        stream.write_all(&packet).await?;
        stream.read_exact(&mut answer).await
    };
    exchange.await.map_err(|error| format!("log-on: {}", error.kind()))?;
    if answer == [0x20, 2, 0, 0] { Ok(stream) } else { Err(format!("log-on refused with code {}", answer[3])) }
}

/// Sends the frames, at most [`WINDOW`] of them unacknowledged, and times the acknowledgements.
async fn report(mut stream: TcpStream, meter: MeterId, frames: &[Vec<u8>]) -> Seen {
    let topic = Topic::Up(meter, UpKind::Profile).name();
    let mut seen = Seen { sent: 0, payload_bytes: 0, delays: Vec::with_capacity(frames.len()), last: None };
    let mut sent_at: Vec<Instant> = Vec::with_capacity(frames.len());
    let mut inbox = Vec::new();
    while seen.delays.len() < frames.len() {
        let end = frames.len().min(seen.delays.len() + WINDOW);
        let mut packets = Vec::new();
        for (n, payload) in frames.iter().enumerate().take(end).skip(seen.sent) {
            let mut body = Vec::with_capacity(topic.len() + payload.len() + 4);
            push_text(&mut body, &topic);
            body.extend(packet_id(n).to_be_bytes());
            body.extend(payload);
            push_packet(&mut packets, 0x32, &body);
            seen.payload_bytes += u64::try_from(payload.len()).unwrap_or(u64::MAX);
        }
        sent_at.resize(end, Instant::now());
        seen.sent = end;
        let exchange = async {
            stream.write_all(&packets).await?;
            stream.read_buf(&mut inbox).await
        };
        match timeout(PATIENCE, exchange).await {
            Ok(Ok(bytes)) if bytes > 0 => {}
            _ => return seen,
        }
        let now = Instant::now();
        let whole = inbox.len() / 4 * 4;
        for puback in inbox[..whole].chunks_exact(4) {
            let n = seen.delays.len();
            // acknowledgements come in order; anything else is a fault of the server and counts as lost
            if n >= seen.sent || *puback != [0x40, 2, packet_id(n).to_be_bytes()[0], packet_id(n).to_be_bytes()[1]] {
                return seen;
            }
            seen.delays.push(now - sent_at[n]);
        }
        if whole > 0 {
            seen.last = Some(now);
            inbox.drain(..whole);
        }
    }
    // a goodbye; who is gone already needs none
    let _ = stream.write_all(&[0xe0, 0]).await;
    seen
}

/// The packet identifier of frame `n`: 1 to 65,535, then from 1 again; far more than wait at once.
fn packet_id(n: usize) -> u16 {
    u16::try_from(n % 65_535 + 1).unwrap_or(1)
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    bytes.extend(text.as_bytes());
}

fn push_packet(bytes: &mut Vec<u8>, first: u8, body: &[u8]) {
    bytes.push(first);
    let mut length = body.len();
    while length > 0x7f {
        bytes.push((length & 0x7f).to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    bytes.push(length.to_le_bytes()[0]);
    bytes.extend(body);
}

/// The frames of one meter, in the order of their sequence.
fn frames(meter: MeterId, count: usize, records: usize, last_end: Timestamp) -> Vec<Vec<u8>> {
    let mut draw = meter.as_str().bytes().fold(0u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let mut below = |end: u64| {
        // SplitMix64 (Steele, Lea, Flood 2014)
        draw = draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (draw ^ (draw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((z ^ (z >> 27)) >> 16) % end
    };
    let slots = i64::try_from(count * records).unwrap_or(i64::MAX);
    let first_end = last_end.floor_to(SLOT_SECONDS).plus(-(slots - 1).saturating_mul(SLOT_SECONDS));
    let mut import = 1_000_000 + below(9_000_000);
    let boot = u64::try_from(first_end.0).unwrap_or(0);
    let mut slot = 0;
    let mut record = || {
        let energy = 20 + below(400);
        import += energy;
        let record = ProfileRecord {
            end: first_end.plus(slot * SLOT_SECONDS),
            flags: RecordFlags::default(),
            import_wh: WattHours(import),
            export_wh: WattHours(0),
            voltage_mv: u32::try_from(226_000 + below(90) * 100).ok().map(Millivolts),
            // four times the energy is the mean power; at 230 V and a power factor of 0.95
            current_ma: u32::try_from(energy * 4_000 / 218).ok().map(Milliamps),
            extra: Vec::new(),
            masked: None,
        };
        slot += 1;
        record
    };
    let mut all = Vec::with_capacity(count);
    for seq in 0..count {
        let profile = Profile { minutes: 15, records: (0..records).map(|_| record()).collect() };
        let seq = u64::try_from(seq).unwrap_or(u64::MAX);
        let bytes = Frame::new(meter, boot, seq, Body::Profile(profile)).to_cbor();
        debug_assert!(bytes.len() <= FRAME_BYTES_MAX, "a frame of at most {RECORDS_MAX} records fits");
        all.push(bytes);
    }
    all
}

fn summary(
    results: Vec<Result<Seen, String>>,
    frames_per_meter: usize,
    records_per_frame: usize,
    connecting: Duration,
    started: Instant,
) -> BurstReport {
    let meters = results.len();
    let mut refused = BTreeMap::new();
    let mut delays = Vec::new();
    let (mut connected, mut sent, mut payload_bytes, mut last) = (0, 0, 0, started);
    for result in results {
        match result {
            Ok(seen) => {
                connected += 1;
                sent += seen.sent;
                payload_bytes += seen.payload_bytes;
                last = seen.last.map_or(last, |at| last.max(at));
                delays.extend(seen.delays);
            }
            Err(why) => *refused.entry(why).or_insert(0) += 1,
        }
    }
    delays.sort_unstable();
    let acknowledged = delays.len();
    let at = |per_mille: usize| {
        let index = (acknowledged * per_mille).div_ceil(1_000).saturating_sub(1);
        delays.get(index).map_or(0.0, |delay| delay.as_secs_f64() * 1e3)
    };
    BurstReport {
        meters,
        connected,
        refused,
        sent,
        acknowledged,
        lost: connected * frames_per_meter - acknowledged,
        records: acknowledged * records_per_frame,
        payload_bytes,
        connect_s: connecting.as_secs_f64(),
        burst_s: (last - started).as_secs_f64(),
        p50_ms: at(500),
        p99_ms: at(990),
        max_ms: at(1_000),
    }
}

fn per_second(count: usize, seconds: f64) -> f64 {
    let count = u32::try_from(count).map_or(f64::INFINITY, f64::from);
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_frames_with_rising_registers_and_gapless_ends() {
        let meter = MeterId::new("M-1").expect("valid");
        let last_end = Timestamp(1_767_225_600 + 100);
        let mut records = Vec::new();
        for (seq, bytes) in frames(meter, 3, 4, last_end).iter().enumerate() {
            let frame = Frame::from_cbor(bytes).expect("a frame");
            assert_eq!(frame.seq, u64::try_from(seq).expect("small"));
            let Body::Profile(profile) = frame.body else { panic!("a profile") };
            records.extend(profile.records);
        }
        assert_eq!(records.len(), 12);
        assert_eq!(records.last().map(|record| record.end), Some(Timestamp(1_767_225_600)));
        for pair in records.windows(2) {
            assert_eq!(pair[1].end.seconds_since(pair[0].end), SLOT_SECONDS);
            assert!(pair[1].import_wh > pair[0].import_wh);
        }
    }

    #[test]
    fn the_largest_frame_fits() {
        let meter = MeterId::new(&"M".repeat(32)).expect("valid");
        let bytes = &frames(meter, 1, RECORDS_MAX, Timestamp(1_767_225_600))[0];
        assert!(bytes.len() <= FRAME_BYTES_MAX && Frame::from_cbor(bytes).is_ok());
    }

    #[test]
    fn percentiles_and_losses() {
        let started = Instant::now();
        let seen = |delays: std::ops::Range<u64>| {
            let delays: Vec<Duration> = delays.map(Duration::from_millis).collect();
            Ok(Seen { sent: 100, payload_bytes: 1_000, last: Some(started + Duration::from_secs(1)), delays })
        };
        let results = vec![seen(1..101), seen(1..51), Err("no answer".to_owned()), Err("no answer".to_owned())];
        let report = summary(results, 100, 4, Duration::from_secs(2), started);
        assert_eq!((report.meters, report.connected, report.refused_count()), (4, 2, 2));
        assert_eq!((report.acknowledged, report.lost, report.records), (150, 50, 600));
        assert_eq!((report.p50_ms, report.p99_ms, report.max_ms), (38.0, 99.0, 100.0));
        assert_eq!(report.frames_per_s(), 150.0);
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_refuses_everyone() {
        let meter = MeterId::new("M-1").expect("valid");
        let address = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
            listener.local_addr().expect("bound")
        };
        let report = burst(address, vec![(meter, "00".repeat(32))], 1, 1, Timestamp(0)).await.expect("a report");
        assert_eq!((report.connected, report.refused_count(), report.acknowledged), (0, 1, 0));
        let shape = burst(address, vec![], 1, 1, Timestamp(0)).await;
        assert!(matches!(shape, Err(BurstError::Shape)));
    }
}
