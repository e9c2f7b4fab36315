//! `gridtally meters serve-dlms`: a simulated meter that answers DLMS over TCP, in the wrapper or in HDLC frames.
//!
//! For clients of others, to be tried without a meter. The conversation is `telegrams::dlms::server`; here are the socket, the clock and
//! the file that keeps the invocation counter. One connection at a time, as a real meter has.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    time::Duration,
};

use metering::Timestamp;
use telegrams::{
    bytes::from_hex,
    cipher::Keys,
    dlms::{
        apdu::Target,
        axdr::Value,
        hdlc_link::{Event, Link, Role},
        objects::{self, Disconnect, Objects},
        security::{OwnCounter, SystemTitle},
        server::{Access, Server},
        time::DateTime,
    },
    framing::{
        Splitter,
        hdlc::{Frame, HdlcFraming},
        wrapper::{Wrapped, WrapperFraming},
    },
};

/// What the meter is asked with.
#[derive(clap::Args)]
pub struct ServeDlmsArguments {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:4059")]
    pub listen: SocketAddr,
    /// Password of low level security; without one it is not offered.
    #[arg(long)]
    pub password: Option<String>,
    /// Global encryption key, 32 hexadecimal digits; without one HLS-GMAC is not offered.
    #[arg(long, requires = "counter_file")]
    pub key: Option<String>,
    /// Global authentication key, 32 hexadecimal digits.
    #[arg(long)]
    pub authentication_key: Option<String>,
    /// File that keeps the meter's invocation counter across restarts.
    #[arg(long)]
    pub counter_file: Option<PathBuf>,
    /// Who has approved that clients switch the contact; without a name it is refused.
    #[arg(long)]
    pub approved_by: Option<String>,
    /// Connections to serve before the command ends; without a number it serves on.
    #[arg(long)]
    pub connections: Option<u32>,
}

const TITLE: SystemTitle = *b"GTL\0\0\0\x47\x11";
const ENERGY: [u8; 6] = [1, 0, 1, 8, 0, 255];
const CLOCK: [u8; 6] = [0, 0, 1, 0, 0, 255];
const PERIOD_S: u32 = 900;
const ROWS: i64 = 240;
/// A silent client is left after this time.
const PATIENCE: Duration = Duration::from_secs(120);

/// The invocation counter and where it is kept.
struct Kept {
    file: Option<PathBuf>,
}

impl Kept {
    fn counter(&self) -> Result<OwnCounter, String> {
        let text = self.file.as_ref().and_then(|file| fs::read_to_string(file).ok());
        let limit = match &text {
            Some(text) => text.trim().parse().map_err(|_| "the counter file holds no number".to_owned())?,
            None => 0,
        };
        Ok(OwnCounter::restarted(limit))
    }

    /// Keeps a further limit durably when the counter has none left.
    fn refill(&self, counter: &mut OwnCounter) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut probe = *counter;
        if probe.take().is_some() && probe.take().is_some() {
            return Ok(());
        }
        let limit = counter.reserve().ok_or("all invocation counters are used up: the keys must be changed")?;
        let write = || {
            let mut kept = fs::File::create(file)?;
            kept.write_all(limit.to_string().as_bytes())?;
            kept.sync_all()
        };
        write().map_err(|why| format!("{}: {why}", file.display()))?;
        counter.kept(limit);
        Ok(())
    }
}

/// Serves until the given number of connections has ended.
pub fn run(arguments: &ServeDlmsArguments, now: &dyn Fn() -> Timestamp) -> Result<(), String> {
    let key = |text: &String| {
        from_hex(text).and_then(|bytes| bytes.try_into().ok()).ok_or("a key is 32 hexadecimal digits".to_owned())
    };
    let authentication = arguments.authentication_key.as_ref().map(key).transpose()?;
    let keys = arguments.key.as_ref().map(key).transpose()?.map(|encryption| Keys { encryption, authentication });
    let access =
        Access { public: true, password: arguments.password.as_ref().map(|text| text.clone().into_bytes()), keys };
    let kept = Kept { file: arguments.counter_file.clone() };
    let objects = simulated(now(), arguments.approved_by.is_some());
    let mut server = Server::new(objects, TITLE, access, kept.counter()?, None);
    let listener = TcpListener::bind(arguments.listen).map_err(|why| format!("{}: {why}", arguments.listen))?;
    let address = listener.local_addr().map_err(|why| why.to_string())?;
    println!("a simulated meter answers DLMS on {address} (wrapper or HDLC, client 16, meter 1)");
    let mut left = arguments.connections;
    for stream in listener.incoming() {
        let outcome = stream.map_err(|why| why.to_string()).and_then(|stream| serve(stream, &mut server, &kept, now));
        if let Err(why) = outcome {
            eprintln!("connection: {why}");
        }
        server.disconnected();
        left = left.map(|count| count.saturating_sub(1));
        if left == Some(0) {
            break;
        }
    }
    Ok(())
}

/// Registers, a clock, a number, and a load profile of 240 quarter-hours up to now.
fn simulated(now: Timestamp, is_approved: bool) -> Objects {
    let end = now.floor_to(i64::from(PERIOD_S));
    let rows = (0..ROWS).map(|row| {
        let at = end.plus((row - ROWS + 1) * i64::from(PERIOD_S));
        let time = DateTime::encode_utc(at);
        let energy = 1_000_000 + row.unsigned_abs() * 25;
        (at, Value::Structure(vec![Value::Octets(&time), Value::Unsigned(energy, 4)]).encoded())
    });
    let columns = [Target { class: 8, obis: CLOCK, index: 2 }, Target { class: 3, obis: ENERGY, index: 2 }];
    let all = vec![
        objects::register(ENERGY, 1_005_975, 0, 30),
        objects::register([1, 0, 2, 8, 0, 255], 0, 0, 30),
        objects::register([1, 0, 1, 7, 0, 255], 351, 0, 27),
        objects::register([1, 0, 32, 7, 0, 255], 2_305, -1, 35),
        objects::register([1, 0, 31, 7, 0, 255], 153, -2, 33),
        objects::register([1, 0, 14, 7, 0, 255], 5_001, -2, 44),
        objects::data([0, 0, 42, 0, 0, 255], &Value::Octets(b"GTL0000000004711")),
        objects::data([0, 0, 96, 1, 0, 255], &Value::Octets(b"A-4711")),
        objects::clock(now),
        objects::profile([1, 0, 99, 1, 0, 255], PERIOD_S, &columns, rows.collect()),
    ];
    Objects::new(all, Disconnect { output: true, control: 1, mode: 4, is_approved })
}

fn serve(mut stream: TcpStream, server: &mut Server, kept: &Kept, now: &dyn Fn() -> Timestamp) -> Result<(), String> {
    let told = |why: std::io::Error| why.to_string();
    stream.set_read_timeout(Some(PATIENCE)).map_err(told)?;
    let (mut wrapper, mut hdlc) = (Splitter::new(WrapperFraming), Splitter::new(HdlcFraming));
    let mut link = Link::new(Role::Meter, &[3], &[]);
    let (mut buffer, mut is_hdlc) = ([0; 2048], None);
    loop {
        let count = stream.read(&mut buffer).map_err(told)?;
        if count == 0 {
            return Ok(());
        }
        let bytes = &buffer[..count];
        let mut frames: Vec<Vec<u8>> = Vec::new();
        let mut sink = |frame: Result<&[u8], telegrams::Fault>| frames.extend(frame.ok().map(<[u8]>::to_vec));
        if *is_hdlc.get_or_insert(bytes[0] == 0x7E) {
            hdlc.push(bytes, &mut sink);
        } else {
            wrapper.push(bytes, &mut sink);
        }
        for frame in frames {
            kept.refill(server.counters().0)?;
            server.objects.put(objects::clock(now()));
            let answer = if is_hdlc == Some(true) {
                hdlc_answer(&frame, &mut link, server)?
            } else {
                wrapped_answer(&frame, server)?
            };
            stream.write_all(&answer).map_err(told)?;
        }
    }
}

fn challenge() -> Result<[u8; 16], String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|why| why.to_string())?;
    Ok(bytes)
}

fn wrapped_answer(frame: &[u8], server: &mut Server) -> Result<Vec<u8>, String> {
    let Some(wrapped) = Wrapped::parse(frame) else { return Ok(Vec::new()) };
    let Some(apdu) = server.answer(wrapped.apdu, challenge()?) else { return Ok(Vec::new()) };
    let answer = Wrapped { source: wrapped.destination, destination: wrapped.source, apdu: &apdu };
    answer.encode().ok_or_else(|| "an answer that is too long".into())
}

fn hdlc_answer(bytes: &[u8], link: &mut Link, server: &mut Server) -> Result<Vec<u8>, String> {
    let told = |why: telegrams::Fault| why.to_string();
    let frame = Frame::parse(bytes.get(1..).unwrap_or_default()).map_err(told)?;
    Ok(match link.take(&frame).map_err(told)? {
        Event::Send(bytes) => bytes,
        Event::Closed(bytes) => {
            server.disconnected();
            bytes
        }
        Event::Apdu(apdu) => match server.answer(&apdu, challenge()?) {
            Some(answer) => link.send(&answer),
            None => Vec::new(),
        },
        Event::Connected | Event::Nothing => Vec::new(),
    })
}
