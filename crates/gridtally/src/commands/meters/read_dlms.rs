//! `gridtally meters read-dlms`: our client reads a meter over TCP, in the wrapper or in HDLC frames, and switches it under an approval.
//!
//! The conversation is `telegrams::dlms::client`; here are the socket, time limits and the counter's file. Every exchange has a limit of
//! time, so a meter that falls silent ends the command with what to do.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

use metering::Timestamp;
use serde_json::{Map, Value as Json, json};
use telegrams::{
    Zone,
    bytes::from_hex,
    cipher::Keys,
    dlms::{
        apdu::{Selection, Target, access_result},
        axdr::{Value, obis_text},
        client::{Authentication, Client, Progress},
        disconnect::{Effect, ReadBack, Wanted, judge},
        event_log::Codes,
        hdlc_link::{Event, Link, Role},
        objects::DISCONNECT,
        reading_out,
        security::SystemTitle,
    },
    framing::{
        Splitter,
        hdlc::{Frame, HdlcFraming},
        wrapper::{Wrapped, WrapperFraming},
    },
    models,
};

use super::kept_counter::KeptCounter;

/// Which meter, and what of it.
#[derive(clap::Args)]
pub struct ReadDlmsArguments {
    /// Address of the meter.
    pub meter: SocketAddr,
    /// In HDLC frames (7E …) and not in the TCP wrapper.
    #[arg(long)]
    pub hdlc: bool,
    /// Our address: 16 public, others as the meter assigns them.
    #[arg(long, default_value_t = 16)]
    pub client: u8,
    /// The meter's logical device.
    #[arg(long, default_value_t = 1)]
    pub device: u8,
    /// Password of low level security.
    #[arg(long, conflicts_with = "key")]
    pub password: Option<String>,
    /// Global encryption key, 32 hexadecimal digits: HLS-GMAC.
    #[arg(long, requires = "counter_file")]
    pub key: Option<String>,
    /// Global authentication key, 32 hexadecimal digits.
    #[arg(long)]
    pub authentication_key: Option<String>,
    /// Our system title, 16 hexadecimal digits.
    #[arg(long, default_value = "47544C0000000001")]
    pub title: String,
    /// File that keeps our invocation counter across restarts.
    #[arg(long)]
    pub counter_file: Option<PathBuf>,
    /// Object that holds the counter which the meter expects; read without security first (such as 0-0:43.1.0).
    #[arg(long)]
    pub counter_object: Option<String>,
    /// The meter knows short names only.
    #[arg(long)]
    pub short_names: bool,
    /// Registers to read.
    #[arg(long, default_values = ["1-0:1.8.0"])]
    pub register: Vec<String>,
    /// An attribute to read as it is: CLASS/CODE/INDEX, such as 7/1-0:99.1.0/2.
    #[arg(long)]
    pub attribute: Vec<String>,
    /// A profile to read.
    #[arg(long)]
    pub profile: Option<String>,
    /// First and last time of its rows (RFC 3339); all of it when left out.
    #[arg(long, num_args = 2, requires = "profile")]
    pub between: Vec<String>,
    /// Most rows that are taken.
    #[arg(long, default_value_t = 4_096)]
    pub rows_max: u32,
    /// Read the event logs, named by the codes of this standard.
    #[arg(long, value_enum)]
    pub events: Option<EventCodes>,
    /// Open or close the contact, and read back what it did.
    #[arg(long, value_enum, requires = "approved_by")]
    pub switch: Option<Switch>,
    /// Who has approved the switching.
    #[arg(long)]
    pub approved_by: Option<String>,
    /// Seconds that the meter may take for one answer.
    #[arg(long, default_value_t = 10)]
    pub patience: u64,
}

/// Standards of event codes.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum EventCodes {
    /// India.
    Is15959,
    /// The Netherlands, IDIS.
    Dsmr,
}

/// What the contact is to do.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Switch {
    /// Open.
    Off,
    /// Close, or be ready to.
    On,
}

/// Reads and prints one JSON object.
pub fn run(arguments: &ReadDlmsArguments) -> Result<(), String> {
    let mut out = Map::new();
    let kept = KeptCounter { file: arguments.counter_file.clone() };
    let mut counter = kept.counter()?;
    if let Some(object) = &arguments.counter_object {
        let target = Target { class: 1, obis: models::obis(object)?, index: 2 };
        let mut line = Line::open(arguments, Client::new(Authentication::None, 512, counter, None))?;
        let value = line.ask(target, None)?.map_err(|code| format!("{object}: {}", access_result(code)))?;
        let expected = Value::whole(&value).and_then(|value| u32::try_from(value.decimal()?.digits).ok());
        counter.at_least(expected.ok_or_else(|| format!("{object} holds no counter"))?.saturating_add(1));
        line.close()?;
    }
    kept.refill(&mut counter)?;
    let mut client = Client::new(authentication(arguments)?, 512, counter, None);
    if arguments.short_names {
        client = client.with_short_names();
    }
    let mut line = Line::open(arguments, client)?;
    line.kept = Some(kept);
    if arguments.short_names {
        let request = line.client.list_names();
        let Progress::Value(list) = line.exchange(request)? else { return Err("no list of short names".into()) };
        line.client.take_names(&list).map_err(|why| why.to_string())?;
    }
    out.insert("registers".into(), registers(arguments, &mut line)?);
    if !arguments.attribute.is_empty() {
        out.insert("attributes".into(), attributes(arguments, &mut line)?);
    }
    if let Some(profile) = &arguments.profile {
        out.insert("profile".into(), rows(arguments, profile, &mut line)?);
    }
    if let Some(codes) = arguments.events {
        out.insert("events".into(), events(codes, arguments.rows_max, &mut line)?);
    }
    if let (Some(switch), Some(who)) = (arguments.switch, &arguments.approved_by) {
        out.insert("switched".into(), switched(switch, who, &mut line)?);
    }
    line.close()?;
    println!("{}", Json::Object(out));
    Ok(())
}

fn authentication(arguments: &ReadDlmsArguments) -> Result<Authentication, String> {
    let key = |text: &String| {
        from_hex(text).and_then(|bytes| bytes.try_into().ok()).ok_or("a key is 32 hexadecimal digits".to_owned())
    };
    if let Some(encryption) = &arguments.key {
        let authentication = arguments.authentication_key.as_ref().map(key).transpose()?;
        let keys = Keys { encryption: key(encryption)?, authentication };
        let title: Option<SystemTitle> = from_hex(&arguments.title).and_then(|bytes| bytes.try_into().ok());
        let title = title.ok_or("a system title is 16 hexadecimal digits")?;
        let mut challenge = vec![0; 16];
        getrandom::fill(&mut challenge).map_err(|why| why.to_string())?;
        return Ok(Authentication::HlsGmac { keys, title, challenge, suite: 0 });
    }
    Ok(match &arguments.password {
        Some(password) => Authentication::Lls(password.clone().into_bytes()),
        None => Authentication::None,
    })
}

fn registers(arguments: &ReadDlmsArguments, line: &mut Line) -> Result<Json, String> {
    let mut out = Map::new();
    for text in &arguments.register {
        let obis = models::obis(text)?;
        let read = reading_out::register(obis, &mut |target, selection| line.asked(target, selection));
        let shown = match read.map_err(|why| why.to_string())? {
            Some((value, unit)) => json!({ "value": value.to_string(), "unit": unit }),
            None => json!({ "error": "the meter has no such register" }),
        };
        out.insert(obis_text(&obis), shown);
    }
    Ok(Json::Object(out))
}

fn attributes(arguments: &ReadDlmsArguments, line: &mut Line) -> Result<Json, String> {
    let mut out = Map::new();
    for text in &arguments.attribute {
        let bad = || format!("{text:?}: write CLASS/CODE/INDEX, such as 7/1-0:99.1.0/2");
        let parts: Vec<&str> = text.split('/').collect();
        let [class, code, index] = parts.as_slice() else { return Err(bad()) };
        let (class, index) = (class.parse().map_err(|_| bad())?, index.parse().map_err(|_| bad())?);
        let shown = match line.ask(Target { class, obis: models::obis(code)?, index }, None)? {
            Ok(value) => Value::whole(&value).map_or(Json::Null, |value| as_json(&value)),
            Err(code) => json!({ "error": access_result(code) }),
        };
        out.insert(text.clone(), shown);
    }
    Ok(Json::Object(out))
}

/// Numbers as text, bytes as hexadecimal, the rest as it is.
fn as_json(value: &Value<'_>) -> Json {
    if let Some(items) = value.items() {
        return items.iter().map(as_json).collect();
    }
    match (value, value.octets()) {
        (Value::Null, _) => Json::Null,
        (Value::Boolean(value), _) => json!(value),
        (_, Some(octets)) => json!(telegrams::bytes::hex(octets)),
        (other, None) => other.decimal().map_or_else(|| json!(other.shown(0)), |number| json!(number.to_string())),
    }
}

fn rows(arguments: &ReadDlmsArguments, profile: &str, line: &mut Line) -> Result<Json, String> {
    let told = |why: telegrams::Fault| why.to_string();
    let instant = |text: &String| {
        telegrams::files::clock::iso(text, Some(Zone::UTC)).ok_or_else(|| format!("{text:?} is no time (RFC 3339)"))
    };
    let span = match arguments.between.as_slice() {
        [from, to] => (instant(from)?, instant(to)?),
        _ => (Timestamp(0), Timestamp(4_102_444_800)),
    };
    let obis = models::obis(profile)?;
    let layout = reading_out::layout(obis, &mut |target, selection| line.asked(target, selection)).map_err(told)?;
    let layout = layout.ok_or_else(|| format!("the meter has no profile {profile}"))?;
    let rows = reading_out::rows(&layout, span, Some(Zone::UTC), arguments.rows_max, &mut |target, selection| {
        line.asked(target, selection)
    });
    let rows = rows.map_err(told)?.into_iter().map(|row| {
        let numbers: Vec<Option<String>> = row.numbers.iter().map(|n| n.map(|number| number.to_string())).collect();
        json!({ "time": row.time.map(|time| time.to_string()), "numbers": numbers })
    });
    let columns: Vec<String> = layout.columns.iter().map(|column| obis_text(&column.obis)).collect();
    Ok(json!({ "columns": columns, "period_s": layout.period_s, "rows": rows.collect::<Vec<_>>() }))
}

fn events(codes: EventCodes, rows_max: u32, line: &mut Line) -> Result<Json, String> {
    let codes = match codes {
        EventCodes::Is15959 => Codes::Is15959,
        EventCodes::Dsmr => Codes::Dsmr,
    };
    let entries = reading_out::event_logs(codes, rows_max, &mut |target, selection| line.asked(target, selection));
    let entries = entries.map_err(|why| why.to_string())?.into_iter().map(|entry| {
        json!({ "time": entry.time.map(|time| time.to_string()), "code": entry.code, "meaning": entry.meaning })
    });
    Ok(entries.collect())
}

/// The ACTION, then what is read back: success is acceptance, not effect.
fn switched(switch: Switch, who: &str, line: &mut Line) -> Result<Json, String> {
    let (wanted, method, parameter) = match switch {
        Switch::Off => (Wanted::Disconnected, 1, [15, 0]),
        Switch::On => (Wanted::Connected, 2, [15, 0]),
    };
    let target = |index| Target { class: 70, obis: DISCONNECT, index };
    let request = line.client.action(target(method), Some(&parameter)).map_err(|why| why.to_string())?;
    let (code, _) = match line.exchange(request)? {
        Progress::Done(code, returned) => (code, returned),
        Progress::Refused(code) => (code, None),
        other => return Err(format!("no answer to an action: {other:?}")),
    };
    let mut number = |index| -> Result<Option<i64>, String> {
        let value = line.ask(target(index), None)?.ok();
        Ok(value.as_deref().and_then(Value::whole).and_then(|value| value.decimal()).map(|number| number.digits))
    };
    let read = ReadBack {
        output: number(2)?.map(|output| output != 0),
        control: number(3)?.and_then(|control| u8::try_from(control).ok()),
        mode: number(4)?.and_then(|mode| u8::try_from(mode).ok()),
        load_voltage: None,
    };
    let (effect, why) = match judge(wanted, code, read) {
        Effect::Verified => ("verified", ""),
        Effect::Armed => ("armed", "the button at the meter closes it"),
        Effect::Refused(why) => ("refused", why),
        Effect::Failed(why) => ("failed", why),
        Effect::Unknown => ("unknown", "too little could be read back"),
    };
    Ok(json!({ "effect": effect, "why": why, "approved_by": who, "output": read.output, "control": read.control }))
}

/// Frames of either kind.
enum Framed {
    Wrapper(Splitter<WrapperFraming>),
    Hdlc(Splitter<HdlcFraming>, Box<Link>),
}

/// A connection to a meter, and the client's half of the conversation.
struct Line {
    stream: TcpStream,
    framed: Framed,
    /// Frames that have arrived and wait for their turn.
    arrived: std::collections::VecDeque<Vec<u8>>,
    client: Client,
    ports: (u16, u16),
    kept: Option<KeptCounter>,
}

/// Most frames of one answer.
const FRAMES_MAX: usize = 200_000;

impl Line {
    /// Connects and associates.
    fn open(arguments: &ReadDlmsArguments, client: Client) -> Result<Self, String> {
        let patience = Duration::from_secs(arguments.patience.max(1));
        let stream = TcpStream::connect_timeout(&arguments.meter, patience)
            .map_err(|why| format!("{}: {why}", arguments.meter))?;
        let told = |why: std::io::Error| why.to_string();
        stream.set_read_timeout(Some(patience)).map_err(told)?;
        stream.set_write_timeout(Some(patience)).map_err(told)?;
        let framed = if arguments.hdlc {
            let (here, there) = (Link::client_address(arguments.client), Link::client_address(arguments.device));
            Framed::Hdlc(Splitter::new(HdlcFraming), Box::new(Link::new(Role::Client, &here, &there)))
        } else {
            Framed::Wrapper(Splitter::new(WrapperFraming))
        };
        let ports = (u16::from(arguments.client), u16::from(arguments.device));
        let mut line = Self { stream, framed, arrived: std::collections::VecDeque::new(), client, ports, kept: None };
        line.connect()?;
        let request = line.client.open().map_err(|why| why.to_string())?;
        match line.exchange(request)? {
            Progress::Opened => Ok(line),
            other => Err(format!("the association was not opened: {other:?}")),
        }
    }

    /// SNRM and UA, where there is HDLC.
    fn connect(&mut self) -> Result<(), String> {
        let Framed::Hdlc(_, link) = &self.framed else { return Ok(()) };
        let request = link.connect();
        self.stream.write_all(&request).map_err(|why| why.to_string())?;
        for _ in 0..8 {
            if matches!(self.event()?, Event::Connected) {
                return Ok(());
            }
        }
        Err("the meter does not answer SNRM with UA".into())
    }

    /// The next frame of HDLC and what it means.
    fn event(&mut self) -> Result<Event, String> {
        let bytes = self.frame()?;
        let Framed::Hdlc(_, link) = &mut self.framed else { return Err("no HDLC here".into()) };
        let frame = Frame::parse(bytes.get(1..).unwrap_or_default()).map_err(|why| why.to_string())?;
        link.take(&frame).map_err(|why| why.to_string())
    }

    /// The next whole frame.
    fn frame(&mut self) -> Result<Vec<u8>, String> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.arrived.pop_front() {
                return Ok(frame);
            }
            let count = self.stream.read(&mut buffer).map_err(|why| {
                format!("the meter does not answer in time ({why}): an older association may be open, wait for its inactivity time-out")
            })?;
            if count == 0 {
                return Err("the meter closed the connection".into());
            }
            let mut fault = None;
            let mut sink = |frame: Result<&[u8], telegrams::Fault>| match frame {
                Ok(frame) => self.arrived.push_back(frame.to_vec()),
                Err(why) => fault = Some(why),
            };
            match &mut self.framed {
                Framed::Wrapper(splitter) => splitter.push(&buffer[..count], &mut sink),
                Framed::Hdlc(splitter, _) => splitter.push(&buffer[..count], &mut sink),
            }
            if let (Some(why), true) = (fault, self.arrived.is_empty()) {
                return Err(why.to_string());
            }
        }
    }

    fn send(&mut self, apdu: &[u8]) -> Result<(), String> {
        let bytes = match &mut self.framed {
            Framed::Hdlc(_, link) => link.send(apdu),
            Framed::Wrapper(_) => Wrapped { source: self.ports.0, destination: self.ports.1, apdu }
                .encode()
                .ok_or("a request that is too long")?,
        };
        self.stream.write_all(&bytes).map_err(|why| why.to_string())
    }

    fn receive(&mut self) -> Result<Vec<u8>, String> {
        if let Framed::Wrapper(_) = self.framed {
            let frame = self.frame()?;
            return Wrapped::parse(&frame).map(|wrapped| wrapped.apdu.to_vec()).ok_or_else(|| "not the wrapper".into());
        }
        for _ in 0..FRAMES_MAX {
            match self.event()? {
                Event::Apdu(apdu) => return Ok(apdu),
                Event::Send(bytes) => self.stream.write_all(&bytes).map_err(|why| why.to_string())?,
                Event::Closed(_) => return Err("the meter disconnected".into()),
                Event::Connected | Event::Nothing => {}
            }
        }
        Err("an answer without end".into())
    }

    /// Carries a request to the meter, and what its answers ask for, until there is a result.
    fn exchange(&mut self, request: Vec<u8>) -> Result<Progress, String> {
        let mut request = Some(request);
        for _ in 0..FRAMES_MAX {
            if let Some(request) = request.take() {
                self.send(&request)?;
            }
            let answer = self.receive()?;
            if let Some(kept) = &self.kept {
                let mut counter = self.client.counters().0;
                kept.refill(&mut counter)?;
                self.client.keep(counter);
            }
            match self.client.take(&answer).map_err(|why| why.to_string())? {
                Progress::Send(next) => request = Some(next),
                Progress::Wait => {}
                other => return Ok(other),
            }
        }
        Err("an answer without end".into())
    }

    /// An attribute or a part of it.
    fn ask(&mut self, target: Target, selection: Option<Selection<'_>>) -> Result<Result<Vec<u8>, u8>, String> {
        // A short-name meter whose list lacks the object has none.
        let request = match self.client.get(target, selection) {
            Ok(request) => request,
            Err(telegrams::Fault::Structure(why)) if why.contains("short names") => return Ok(Err(4)),
            Err(why) => return Err(why.to_string()),
        };
        match self.exchange(request)? {
            Progress::Value(value) => Ok(Ok(value)),
            Progress::Refused(code) => Ok(Err(code)),
            other => Err(format!("no answer to a read: {other:?}")),
        }
    }

    /// The same for `reading_out`, whose faults are those of telegrams.
    fn asked(
        &mut self,
        target: Target,
        selection: Option<Selection<'_>>,
    ) -> Result<Result<Vec<u8>, u8>, telegrams::Fault> {
        self.ask(target, selection).map_err(telegrams::Fault::structure)
    }

    /// Releases the association and leaves.
    fn close(mut self) -> Result<(), String> {
        let request = self.client.close();
        // Some meters just close.
        let _ = self.exchange(request);
        if let Framed::Hdlc(_, link) = &self.framed {
            let farewell = link.disconnect();
            self.stream.write_all(&farewell).map_err(|why| why.to_string())?;
        }
        Ok(())
    }
}
