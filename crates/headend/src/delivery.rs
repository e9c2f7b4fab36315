//! What the head-end hands to the pipeline, and what the pipeline answers: one [`Batch`] for each read of a socket, one
//! [`Outcome`] for each delivery, and no acknowledgement to the meter before that answer.

use std::{fmt, net::SocketAddr};

use bytes::Bytes;
use metering::{
    Body, DecodeError, Frame, MeterId, Timestamp,
    frame::{Encoding, FRAME_BYTES_MAX, PowerQuality, check_start},
    topic::UpKind,
};
use tokio::sync::oneshot;

/// Length of an interval of power quality (IEC 61000-4-30), seconds.
const QUALITY_SECONDS: i64 = 600;
/// Most orders of harmonics: up to the 63rd.
const HARMONICS_MAX: usize = 63;
/// Most dips, swells and interruptions of ten minutes.
const DIPS_MAX: usize = 600;

/// One payload of one meter.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The meter whose credentials opened the connection; never taken from the payload.
    pub meter: MeterId,
    /// The kind its topic names; by HTTP the kind of the frame, `None` when that did not parse.
    pub kind: Option<UpKind>,
    /// The bytes as they came, for the durable log and the conflict check.
    pub payload: Bytes,
    /// The frame, or why the payload is none.
    pub frame: Result<Frame, FrameError>,
    /// When it arrived, by the server's clock.
    pub received: Timestamp,
    /// Where it came from; `None` when the HTTP server does not tell.
    pub peer: Option<SocketAddr>,
}

/// Deliveries that came together, in the order of their arrival.
#[derive(Debug)]
pub struct Batch {
    /// What came; never empty.
    pub deliveries: Vec<Delivery>,
    /// To be answered after the durable commit, with one outcome for each delivery in the same order. Dropped, or answered with
    /// another number of outcomes, it means "not stored": nothing is acknowledged and the connection is closed, so that the
    /// meter sends again.
    pub done: oneshot::Sender<Vec<Outcome>>,
}

/// What became of a delivery. Every one of them is durable, so every one is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored.
    Stored,
    /// The same frame was stored before.
    Duplicate,
    /// The same (meter, boot, sequence) was stored with other bytes; both are kept.
    Conflict,
    /// Not a frame; kept in the quarantine.
    Quarantined,
}

impl Outcome {
    /// The word in HTTP answers.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
            Self::Quarantined => "quarantined",
        }
    }
}

/// Why a payload is not a frame of the meter that sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// It does not parse.
    Decode(DecodeError),
    /// It parses but names another meter than the one whose secret opened the connection.
    OtherMeter(MeterId),
    /// It parses but its body is of another kind than the topic says.
    OtherKind(UpKind),
    /// Power quality whose interval does not end on full ten minutes.
    QualityEnd(Timestamp),
    /// Power quality with more in a list than an interval can have; which list.
    QualityList(&'static str),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => error.fmt(f),
            Self::OtherMeter(meter) => {
                write!(f, "the frame names meter {meter}, but came with the secret of another meter")
            }
            Self::OtherKind(kind) => {
                write!(f, "the body is of kind {}, but the topic says otherwise", kind.level())
            }
            Self::QualityEnd(end) => {
                write!(f, "power quality is of ten minutes that end on a full ten minutes; {end} is none")
            }
            Self::QualityList(list) => write!(f, "power quality holds more {list} than ten minutes can have"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Reads a payload of `meter`, in CBOR or JSON as its first byte tells. `kind` is the kind its topic names, `None` by HTTP.
pub fn read_frame(meter: MeterId, kind: Option<UpKind>, payload: &[u8]) -> Result<Frame, FrameError> {
    check_start(payload).map_err(FrameError::Decode)?;
    let frame = match Encoding::of(payload) {
        Encoding::Cbor => Frame::from_cbor(payload),
        Encoding::Json if payload.len() > FRAME_BYTES_MAX => Err(DecodeError::TooLarge),
        Encoding::Json => serde_json::from_slice::<Frame>(payload)
            .map_err(|error| DecodeError::Malformed(error.to_string()))
            .and_then(Frame::check),
    }
    .map_err(FrameError::Decode)?;
    if frame.meter != meter {
        return Err(FrameError::OtherMeter(frame.meter));
    }
    if let Body::Quality(values) = &frame.body {
        check_quality(values)?;
    }
    match kind {
        Some(kind) if kind != frame.body.kind() => Err(FrameError::OtherKind(frame.body.kind())),
        _ => Ok(frame),
    }
}

/// One interval has one end, and no more harmonics and dips than there can be: what is kept of a meter and day stays bounded.
fn check_quality(values: &PowerQuality) -> Result<(), FrameError> {
    if values.end.0.rem_euclid(QUALITY_SECONDS) != 0 {
        return Err(FrameError::QualityEnd(values.end));
    }
    let lists = [
        ("voltage harmonics", values.harmonics.len(), HARMONICS_MAX),
        ("current harmonics", values.current_harmonics_ma.len(), HARMONICS_MAX),
        ("dips", values.dips.len(), DIPS_MAX),
    ];
    match lists.into_iter().find(|(_, length, most)| length > most) {
        Some((list, ..)) => Err(FrameError::QualityList(list)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quality(end: i64, change: impl FnOnce(&mut PowerQuality)) -> Result<Frame, FrameError> {
        let meter = MeterId::new("M-1").expect("id");
        let text = format!(r#"{{"v":1,"meter":"M-1","boot":1,"seq":1,"quality":{{"end":{end},"voltage_mv":230000}}}}"#);
        let mut frame: Frame = serde_json::from_str(&text).expect("parses");
        let Body::Quality(values) = &mut frame.body else { panic!("quality") };
        change(values);
        read_frame(meter, Some(UpKind::Quality), &frame.to_cbor())
    }

    #[test]
    fn power_quality_is_of_full_ten_minutes_and_bounded() {
        assert!(quality(600_000, |_| {}).is_ok());
        assert_eq!(quality(600_001, |_| {}), Err(FrameError::QualityEnd(Timestamp(600_001))));
        assert_eq!(
            quality(600_000, |values| values.harmonics = vec![1; HARMONICS_MAX + 1]),
            Err(FrameError::QualityList("voltage harmonics"))
        );
    }
}
