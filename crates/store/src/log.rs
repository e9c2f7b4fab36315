//! The bytes of a row of the durable log: the frames of one batch with what was decided about them, so that a rebuild repeats
//! nothing that depended on the moment.
//!
//! ```text
//! 2 | count | count × ( conflict | received | hash | count × (record, count × event code)
//!     | count × (record, end, import, export, quality) | length | CBOR frame ) | CRC-32C
//! ```
//! Version 1 had no re-judged readings (the second list); it is still read.

use metering::{EventKind, Frame, Quality, Timestamp, WattHours, chain::Remark, validation::LastReading};

use crate::{
    block::{
        bits::{BitReader, BitWriter, BitsError, unzigzag, zigzag},
        crc::crc32c,
    },
    error::StoreError,
};

const VERSION: u64 = 2;
const VERSION_WITHOUT_REMARKS: u64 = 1;
/// Most frames in a row.
const FRAMES_MAX: usize = 1 << 20;

/// A frame in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logged {
    pub frame: Frame,
    /// Hash of the bytes it came in.
    pub hash: u64,
    pub received: Timestamp,
    /// Came under a sequence that was taken.
    pub conflict: bool,
    /// What was wrong with which of its records; a record that is named here is suspect.
    pub wrong: Vec<(usize, Vec<EventKind>)>,
    /// What each of its records proved about earlier readings.
    pub remarks: Vec<(usize, Remark)>,
}

impl Logged {
    /// What was wrong with a record.
    pub(crate) fn wrong_with(&self, record: usize) -> &[EventKind] {
        self.wrong.iter().find(|(index, _)| *index == record).map_or(&[], |(_, kinds)| kinds)
    }

    /// What a record proved.
    pub(crate) fn proved_by(&self, record: usize) -> Vec<Remark> {
        self.remarks.iter().filter(|(index, _)| *index == record).map(|(_, remark)| *remark).collect()
    }
}

/// Packs a batch; the frames as bytes beside them.
pub(crate) fn encode<'a>(frames: impl ExactSizeIterator<Item = (&'a Logged, &'a [u8])>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + frames.len() * 128);
    let mut head = BitWriter::default();
    head.put(VERSION, 8);
    head.put_varint(frames.len() as u64);
    bytes.extend(head.finish());
    for (logged, cbor) in frames {
        let mut out = BitWriter::default();
        out.put(u64::from(logged.conflict), 8);
        out.put_varint(zigzag(logged.received.0));
        out.put(logged.hash, 64);
        out.put_varint(logged.wrong.len() as u64);
        for (record, kinds) in &logged.wrong {
            out.put_varint(*record as u64);
            out.put_varint(kinds.len() as u64);
            kinds.iter().for_each(|kind| out.put(u64::from(kind.code()), 16));
        }
        out.put_varint(logged.remarks.len() as u64);
        for (record, Remark { reading, quality }) in &logged.remarks {
            out.put_varint(*record as u64);
            out.put_varint(zigzag(reading.end.0));
            out.put_varint(reading.import_wh.0);
            out.put_varint(reading.export_wh.0);
            out.put(u64::from(quality.code()), 8);
        }
        out.put_varint(cbor.len() as u64);
        bytes.extend(out.finish());
        bytes.extend(cbor);
    }
    bytes.extend(crc32c(&bytes).to_le_bytes());
    bytes
}

/// Reads a batch.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Logged>, StoreError> {
    let damaged = |why: &str| StoreError::damaged(format!("a row of the log: {why}"));
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| damaged("too short"))?;
    if u32::from_le_bytes(*crc) != crc32c(body) {
        return Err(damaged("its checksum does not fit"));
    }
    frames(body).map_err(|BitsError| damaged("its contents make no sense"))
}

fn frames(body: &[u8]) -> Result<Vec<Logged>, BitsError> {
    let mut from = BitReader::new(body);
    let version = from.get(8)?;
    if version != VERSION && version != VERSION_WITHOUT_REMARKS {
        return Err(BitsError);
    }
    let count = from.get_count(FRAMES_MAX)?;
    let mut frames = Vec::new();
    for _ in 0..count {
        let conflict = from.get(8)? == 1;
        let received = Timestamp(unzigzag(from.get_varint()?));
        let hash = from.get(64)?;
        let mut wrong = Vec::new();
        for _ in 0..from.get_count(FRAMES_MAX)? {
            let record = from.get_count(FRAMES_MAX)?;
            let mut kinds = Vec::new();
            for _ in 0..from.get_count(FRAMES_MAX)? {
                kinds.push(EventKind::from_code(u16::try_from(from.get(16)?).map_err(|_| BitsError)?));
            }
            wrong.push((record, kinds));
        }
        let remarks = if version == VERSION { remarks(&mut from)? } else { Vec::new() };
        let length = from.get_count(body.len())?;
        let frame = Frame::from_cbor(from.get_bytes(length)?).map_err(|_| BitsError)?;
        frames.push(Logged { frame, hash, received, conflict, wrong, remarks });
    }
    Ok(frames)
}

fn remarks(from: &mut BitReader<'_>) -> Result<Vec<(usize, Remark)>, BitsError> {
    let mut remarks = Vec::new();
    for _ in 0..from.get_count(FRAMES_MAX)? {
        let record = from.get_count(FRAMES_MAX)?;
        let reading = LastReading {
            end: Timestamp(unzigzag(from.get_varint()?)),
            import_wh: WattHours(from.get_varint()?),
            export_wh: WattHours(from.get_varint()?),
        };
        let quality = u8::try_from(from.get(8)?).ok().and_then(Quality::from_code).ok_or(BitsError)?;
        remarks.push((record, Remark { reading, quality }));
    }
    Ok(remarks)
}
