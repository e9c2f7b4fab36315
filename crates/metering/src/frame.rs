//! Device protocol version 1: the frames between meter and server, in CBOR (`docs/protocol.cddl`) or, for makers, in JSON with
//! the same fields. Every frame from a meter carries meter, boot number and sequence; the server takes each (meter, boot,
//! sequence) once.

use alloc::{string::String, vec::Vec};
use core::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{
    absent,
    control::{Control, ReplyOutcome, SignatureBytes, signature_as_hex},
    event::MeterEvent,
    id::MeterId,
    reading::ProfileRecord,
    time::{IntervalLength, Timestamp},
    topic::{DownKind, UpKind},
    unit::{Milliamps, Millihertz, Millivolts, PerMille, Vars, WattHours, Watts},
};

/// The protocol version this crate speaks.
pub const PROTOCOL_VERSION: u8 = 1;
/// Largest frame, in bytes; the head-end refuses larger packets before it reads them.
pub const FRAME_BYTES_MAX: usize = 16 * 1024;
/// Most profile records in one frame.
pub const RECORDS_MAX: usize = 192;

/// A frame from a meter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(try_from = "JsonFrame")]
#[cbor(map)]
pub struct Frame {
    /// Protocol version, 1.
    #[n(0)]
    pub v: u8,
    /// The meter that speaks.
    #[n(1)]
    pub meter: MeterId,
    /// Any number new at each start of the meter.
    #[n(2)]
    pub boot: u64,
    /// Counts the frames since the start, from 0 or 1, without gaps.
    #[n(3)]
    pub seq: u64,
    /// What it says.
    #[n(4)]
    #[serde(flatten)]
    pub body: Body,
}

/// A frame as JSON has it: every kind of body is a member of its own, and one of them must be there.
#[derive(Deserialize)]
struct JsonFrame {
    v: u8,
    meter: MeterId,
    boot: u64,
    seq: u64,
    hello: Option<Hello>,
    profile: Option<Profile>,
    now: Option<Now>,
    event: Option<MeterEvent>,
    reply: Option<Reply>,
    quality: Option<PowerQuality>,
    snapshot: Option<Now>,
}

/// The names of the bodies, for messages.
const BODIES: &str = "hello, profile, now, event, reply, quality or snapshot";

impl TryFrom<JsonFrame> for Frame {
    type Error = String;

    /// Takes the one body; what holds two would lose one of them, so it is refused whole.
    fn try_from(json: JsonFrame) -> Result<Self, String> {
        let bodies = [
            json.hello.map(Body::Hello),
            json.profile.map(Body::Profile),
            json.now.map(Body::Now),
            json.event.map(Body::Event),
            json.reply.map(Body::Reply),
            json.quality.map(Body::Quality),
            json.snapshot.map(Body::Snapshot),
        ];
        let mut bodies = bodies.into_iter().flatten();
        let body =
            bodies.next().ok_or_else(|| alloc::format!("it has no body: one member named {BODIES} is needed"))?;
        if let Some(second) = bodies.next() {
            let mut kinds = alloc::format!("{} and {}", body.kind().level(), second.kind().level());
            bodies.for_each(|more| kinds += &alloc::format!(" and {}", more.kind().level()));
            return Err(alloc::format!("a frame holds one body, this one {kinds}: send a frame for each"));
        }
        Ok(Self { v: json.v, meter: json.meter, boot: json.boot, seq: json.seq, body })
    }
}

/// What a frame from a meter says. In JSON the body is the one member named after the kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// First frame after a start.
    #[n(0)]
    Hello(#[n(0)] Hello),
    /// A batch of profile records, oldest first.
    #[n(1)]
    Profile(#[n(0)] Profile),
    /// Instantaneous values.
    #[n(2)]
    Now(#[n(0)] Now),
    /// Something happened at the meter.
    #[n(3)]
    Event(#[n(0)] MeterEvent),
    /// Answer to a control.
    #[n(4)]
    Reply(#[n(0)] Reply),
    /// Power quality.
    #[n(5)]
    Quality(#[n(0)] PowerQuality),
    /// Registers and power at one agreed second.
    #[n(6)]
    Snapshot(#[n(0)] Now),
}

impl Body {
    /// The kind, as in the topic.
    pub const fn kind(&self) -> UpKind {
        match self {
            Self::Hello(_) => UpKind::Hello,
            Self::Profile(_) => UpKind::Profile,
            Self::Now(_) => UpKind::Now,
            Self::Event(_) => UpKind::Event,
            Self::Reply(_) => UpKind::Reply,
            Self::Quality(_) => UpKind::Quality,
            Self::Snapshot(_) => UpKind::Snapshot,
        }
    }
}

/// Who the meter is and how it is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// The meter's time; `None` when its clock was never set.
    #[n(0)]
    pub at: Option<Timestamp>,
    /// Firmware name and version.
    #[n(1)]
    #[serde(default, deserialize_with = "absent::in_json")]
    #[cbor(default, decode_with = "absent::in_cbor")]
    pub firmware: String,
    /// Hardware model.
    #[n(2)]
    #[serde(default, deserialize_with = "absent::in_json")]
    #[cbor(default, decode_with = "absent::in_cbor")]
    pub model: String,
    /// Profile interval in minutes.
    #[n(3)]
    pub profile_minutes: u16,
    /// Import register at the start.
    #[n(4)]
    pub import_wh: WattHours,
    /// Export register at the start.
    #[n(5)]
    #[serde(default, deserialize_with = "absent::in_json")]
    #[cbor(default, decode_with = "absent::in_cbor")]
    pub export_wh: WattHours,
    /// Relay state at the start; `None` when the meter has no relay.
    #[n(6)]
    pub relay: Option<RelayState>,
    /// Frames waiting in the ring.
    #[n(7)]
    #[serde(default, deserialize_with = "absent::in_json")]
    #[cbor(default, decode_with = "absent::in_cbor")]
    pub waiting: u32,
    /// Whether it senses voltage behind its relay. `Some(false)`: what a disconnection did cannot be read back from it.
    #[n(8)]
    pub senses_load: Option<bool>,
}

/// Profile records, oldest first, at most [`RECORDS_MAX`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cbor(map)]
pub struct Profile {
    /// Interval length in minutes: 1, 5, 15, 30 or 60.
    #[n(0)]
    pub minutes: u16,
    /// The records.
    #[n(1)]
    pub records: Vec<ProfileRecord>,
}

/// Instantaneous values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cbor(map)]
pub struct Now {
    /// When.
    #[n(0)]
    pub at: Timestamp,
    /// Voltage on the supply side.
    #[n(1)]
    pub voltage_mv: Option<Millivolts>,
    /// Phase current.
    #[n(2)]
    pub current_ma: Option<Milliamps>,
    /// Active power.
    #[n(3)]
    pub power_w: Option<Watts>,
    /// Reactive power.
    #[n(4)]
    pub reactive_var: Option<Vars>,
    /// Power factor, thousandths.
    #[n(5)]
    pub power_factor: Option<PerMille>,
    /// Frequency.
    #[n(6)]
    pub frequency_mhz: Option<Millihertz>,
    /// Neutral current.
    #[n(7)]
    pub neutral_ma: Option<Milliamps>,
    /// Voltage on the load side of the relay.
    #[n(8)]
    pub load_voltage_mv: Option<Millivolts>,
    /// Contact sense and relay state.
    #[n(9)]
    pub relay: Option<RelayState>,
    /// Import register.
    #[n(10)]
    pub import_wh: Option<WattHours>,
    /// Export register.
    #[n(11)]
    pub export_wh: Option<WattHours>,
    /// The control that asked for these values, in a snapshot.
    #[n(12)]
    pub control: Option<u64>,
}

/// State of the supply relay, as sensed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum RelayState {
    /// Contact closed, supply on.
    #[n(0)]
    Closed,
    /// Contact open by command.
    #[n(1)]
    Open,
    /// Contact open by the load limit.
    #[n(2)]
    OpenLimit,
    /// Contact open by a tamper rule of the meter.
    #[n(3)]
    OpenTamper,
    /// Contact open, armed: the button closes it.
    #[n(4)]
    Ready,
    /// Contact open, locked out after too many tries.
    #[n(5)]
    Locked,
    /// Contact does not follow.
    #[n(6)]
    Fault,
}

impl RelayState {
    /// The word on pages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::OpenLimit => "open (load limit)",
            Self::OpenTamper => "open (tamper)",
            Self::Ready => "open (ready to reconnect)",
            Self::Locked => "locked out",
            Self::Fault => "fault",
        }
    }
}

/// Answer to a control, with what the meter senses afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cbor(map)]
pub struct Reply {
    /// The control answered.
    #[n(0)]
    pub control: u64,
    /// How it went.
    #[n(1)]
    pub outcome: ReplyOutcome,
    /// What the meter senses now.
    #[n(2)]
    pub now: Now,
}

/// Ten-minute power-quality values (IEC 61000-4-30) with the dips, swells and interruptions that ended within.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cbor(map)]
pub struct PowerQuality {
    /// End of the ten minutes.
    #[n(0)]
    pub end: Timestamp,
    /// Rms voltage.
    #[n(1)]
    pub voltage_mv: Millivolts,
    /// Frequency.
    #[n(2)]
    pub frequency_mhz: Option<Millihertz>,
    /// Total harmonic distortion of the voltage, thousandths of the fundamental.
    #[n(3)]
    pub thd: Option<PerMille>,
    /// Voltage harmonics from order 2 on, in hundredths of a percent of the fundamental.
    #[n(4)]
    #[serde(default, deserialize_with = "absent::in_json", skip_serializing_if = "Vec::is_empty")]
    #[cbor(default, decode_with = "absent::in_cbor")]
    pub harmonics: Vec<u16>,
    /// Short-term flicker severity, thousandths.
    #[n(5)]
    pub pst: Option<PerMille>,
    /// Dips, swells and interruptions.
    #[n(6)]
    #[serde(default, deserialize_with = "absent::in_json", skip_serializing_if = "Vec::is_empty")]
    #[cbor(default, decode_with = "absent::in_cbor")]
    pub dips: Vec<Dip>,
    /// Whether an event within the interval makes its values flagged.
    #[n(7)]
    #[serde(default, deserialize_with = "absent::in_json")]
    #[cbor(default, decode_with = "absent::in_cbor")]
    pub flagged: bool,
    /// Current harmonics from order 1 (the fundamental) on, rms.
    #[n(8)]
    #[serde(default, deserialize_with = "absent::in_json", skip_serializing_if = "Vec::is_empty")]
    #[cbor(default, decode_with = "absent::in_cbor")]
    pub current_harmonics_ma: Vec<Milliamps>,
    /// One representative cycle.
    #[n(9)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycle: Option<Cycle>,
}

/// Most points of a [`Cycle`].
pub const CYCLE_POINTS_MAX: usize = 256;

/// One cycle of the mains at equal steps, from the rising zero crossing of the voltage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cbor(map)]
pub struct Cycle {
    /// Voltage, tenths of a volt.
    #[n(0)]
    pub voltage_dv: Vec<i16>,
    /// Current at the same instants, hundredths of an ampere.
    #[n(1)]
    pub current_ca: Vec<i16>,
}

/// A voltage dip, swell or interruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cbor(map)]
pub struct Dip {
    /// When it began.
    #[n(0)]
    pub at: Timestamp,
    /// How long it lasted, milliseconds.
    #[n(1)]
    pub duration_ms: u32,
    /// Smallest (dip) or largest (swell) Urms(1/2), in thousandths of the reference.
    #[n(2)]
    pub extreme: PerMille,
}

/// What a server sends. On MQTT the topic tells the kind; over the wire the body stands alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Down {
    /// A command.
    Control(Control),
    /// Settings.
    Config(Config),
    /// The time.
    Time(TimeFrame),
}

/// Settings the meter keeps; a field left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cbor(map)]
pub struct Config {
    /// Version of the settings; the meter ignores one that is not newer.
    #[n(0)]
    pub version: u32,
    /// Profile interval in minutes.
    #[n(1)]
    pub profile_minutes: Option<u16>,
    /// Seconds between `now` frames; 0 switches them off.
    #[n(2)]
    pub now_seconds: Option<u32>,
    /// Whether a reconnect closes by itself instead of waiting for the button.
    #[n(3)]
    pub close_without_button: Option<bool>,
    /// Grows with everything signed that is sent to this meter, controls among them.
    #[n(4)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter: Option<u64>,
    /// Ed25519 signature over [`Config::signed_bytes`], hexadecimal in JSON.
    #[n(5)]
    #[serde(default, skip_serializing_if = "Option::is_none", with = "signature_as_hex")]
    pub signature: Option<SignatureBytes>,
}

/// The server's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cbor(map)]
pub struct TimeFrame {
    /// Now.
    #[n(0)]
    pub now: Timestamp,
    /// Grows with everything signed that is sent to this meter, controls among them.
    #[n(1)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter: Option<u64>,
    /// Ed25519 signature over [`TimeFrame::signed_bytes`], hexadecimal in JSON.
    #[n(2)]
    #[serde(default, skip_serializing_if = "Option::is_none", with = "signature_as_hex")]
    pub signature: Option<SignatureBytes>,
}

impl TimeFrame {
    /// A time that nobody has signed; a meter that holds the server's key does not take it.
    pub const fn unsigned(now: Timestamp) -> Self {
        Self { now, counter: None, signature: None }
    }

    /// A signed time.
    pub fn signed(now: Timestamp, meter: MeterId, counter: u64, key: &SigningKey) -> Self {
        let mut frame = Self { counter: Some(counter), ..Self::unsigned(now) };
        frame.signature = Some(SignatureBytes(key.sign(&frame.signed_bytes(meter)).to_bytes()));
        frame
    }

    /// What is signed: the CBOR of `[["gridtally time 1", meter], [now, counter]]`.
    pub fn signed_bytes(&self, meter: MeterId) -> Vec<u8> {
        crate::cbor((("gridtally time 1", meter), (self.now, self.counter)))
    }

    /// Whether it is signed by `key` for this meter.
    pub fn is_signed_by(&self, meter: MeterId, key: &VerifyingKey) -> bool {
        is_signed(self.signature, &self.signed_bytes(meter), key)
    }
}

impl Config {
    /// The same settings, signed.
    #[must_use]
    pub fn signed(mut self, meter: MeterId, counter: u64, key: &SigningKey) -> Self {
        self.counter = Some(counter);
        self.signature = Some(SignatureBytes(key.sign(&self.signed_bytes(meter)).to_bytes()));
        self
    }

    /// What is signed: the CBOR of `[["gridtally config 1", meter], config]`, the config with its counter and without signature.
    pub fn signed_bytes(&self, meter: MeterId) -> Vec<u8> {
        let unsigned = Self { signature: None, ..self.clone() };
        crate::cbor((("gridtally config 1", meter), unsigned))
    }

    /// Whether it is signed by `key` for this meter.
    pub fn is_signed_by(&self, meter: MeterId, key: &VerifyingKey) -> bool {
        is_signed(self.signature, &self.signed_bytes(meter), key)
    }
}

fn is_signed(signature: Option<SignatureBytes>, bytes: &[u8], key: &VerifyingKey) -> bool {
    signature.is_some_and(|signature| key.verify(bytes, &Signature::from_bytes(&signature.0)).is_ok())
}

/// How a payload is written: the first byte tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// CBOR, for firmware.
    Cbor,
    /// JSON, for makers.
    Json,
}

/// Why a payload is not a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Nothing was sent.
    Empty,
    /// It begins with a byte order mark, which neither encoding has.
    ByteOrderMark,
    /// It is compressed.
    Compressed,
    /// More than [`FRAME_BYTES_MAX`] bytes.
    TooLarge,
    /// Not a frame of this protocol; the text says where it went wrong.
    Malformed(String),
    /// A protocol version this server does not speak.
    Version(u8),
    /// More than [`RECORDS_MAX`] records, or none.
    RecordCount(usize),
    /// A profile interval other than 1, 5, 15, 30 or 60 minutes.
    ProfileMinutes(u16),
    /// More than [`CYCLE_POINTS_MAX`] points in a cycle, or voltage and current of unequal length.
    CyclePoints,
    /// Bytes follow after the frame.
    TrailingBytes,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the payload is empty"),
            Self::ByteOrderMark => f.write_str(
                "the payload begins with a byte order mark (EF BB BF or FE FF): send JSON in UTF-8 without one",
            ),
            Self::Compressed => {
                f.write_str("the payload is compressed (gzip): send it as it is, a frame is small enough")
            }
            Self::TooLarge => {
                write!(f, "the payload is larger than {FRAME_BYTES_MAX} bytes: send fewer records in one frame")
            }
            Self::Malformed(why) => write!(f, "not a frame: {why}"),
            Self::Version(v) => write!(f, "protocol version {v} is not spoken here; this server speaks version 1"),
            Self::RecordCount(n) => write!(f, "a profile frame holds 1 to {RECORDS_MAX} records, this one {n}"),
            Self::ProfileMinutes(m) => {
                write!(f, "a profile interval of {m} minutes is not supported: 1, 5, 15, 30 or 60")
            }
            Self::CyclePoints => {
                write!(f, "a cycle holds at most {CYCLE_POINTS_MAX} points, as many of the current as of the voltage")
            }
            Self::TrailingBytes => f.write_str("bytes follow after the frame"),
        }
    }
}

impl core::error::Error for DecodeError {}

impl Frame {
    /// A frame of this protocol version.
    pub fn new(meter: MeterId, boot: u64, seq: u64, body: Body) -> Self {
        Self { v: PROTOCOL_VERSION, meter, boot, seq, body }
    }

    /// Writes CBOR.
    pub fn to_cbor(&self) -> Vec<u8> {
        crate::cbor(self)
    }

    /// Reads CBOR.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, DecodeError> {
        check_size(bytes)?;
        check_start(bytes)?;
        let mut decoder = minicbor::Decoder::new(bytes);
        let frame: Self = decoder.decode().map_err(|e| DecodeError::Malformed(alloc::format!("{e}")))?;
        if decoder.position() != bytes.len() {
            return Err(DecodeError::TrailingBytes);
        }
        frame.check()
    }

    /// Checks a frame read by whatever means (for JSON: after `serde_json`): version, record count, interval length.
    pub fn check(self) -> Result<Self, DecodeError> {
        if self.v != PROTOCOL_VERSION {
            return Err(DecodeError::Version(self.v));
        }
        let minutes = match &self.body {
            Body::Profile(profile) => {
                if profile.records.is_empty() || profile.records.len() > RECORDS_MAX {
                    return Err(DecodeError::RecordCount(profile.records.len()));
                }
                profile.minutes
            }
            Body::Hello(hello) => hello.profile_minutes,
            Body::Quality(PowerQuality { cycle: Some(cycle), .. })
                if cycle.voltage_dv.len() > CYCLE_POINTS_MAX || cycle.current_ca.len() != cycle.voltage_dv.len() =>
            {
                return Err(DecodeError::CyclePoints);
            }
            _ => return Ok(self),
        };
        IntervalLength::try_from(minutes).map_err(|_| DecodeError::ProfileMinutes(minutes))?;
        Ok(self)
    }
}

impl Encoding {
    /// The encoding of a payload: JSON begins with `{` or white space, a CBOR map does not.
    pub fn of(bytes: &[u8]) -> Self {
        match bytes.first() {
            Some(b'{' | b' ' | b'\t' | b'\r' | b'\n') => Self::Json,
            _ => Self::Cbor,
        }
    }
}

/// Refuses what begins like neither encoding, in the words of who sent it.
pub fn check_start(bytes: &[u8]) -> Result<(), DecodeError> {
    match bytes {
        [0xef, 0xbb, 0xbf, ..] | [0xfe, 0xff, ..] | [0xff, 0xfe, ..] => Err(DecodeError::ByteOrderMark),
        [0x1f, 0x8b, ..] => Err(DecodeError::Compressed),
        _ => Ok(()),
    }
}

impl Down {
    /// The kind, as in the topic.
    pub const fn kind(&self) -> DownKind {
        match self {
            Self::Control(_) => DownKind::Control,
            Self::Config(_) => DownKind::Config,
            Self::Time(_) => DownKind::Time,
        }
    }

    /// Writes the body in CBOR.
    pub fn to_cbor(&self) -> Vec<u8> {
        match self {
            Self::Control(body) => crate::cbor(body),
            Self::Config(body) => crate::cbor(body),
            Self::Time(body) => crate::cbor(body),
        }
    }

    /// Reads the body of a kind from CBOR.
    pub fn from_cbor(kind: DownKind, bytes: &[u8]) -> Result<Self, DecodeError> {
        check_size(bytes)?;
        let result = match kind {
            DownKind::Control => minicbor::decode(bytes).map(Self::Control),
            DownKind::Config => minicbor::decode(bytes).map(Self::Config),
            DownKind::Time => minicbor::decode(bytes).map(Self::Time),
        };
        result.map_err(|e| DecodeError::Malformed(alloc::format!("{e}")))
    }
}

fn check_size(bytes: &[u8]) -> Result<(), DecodeError> {
    match bytes.len() {
        0 => Err(DecodeError::Empty),
        n if n > FRAME_BYTES_MAX => Err(DecodeError::TooLarge),
        _ => Ok(()),
    }
}
