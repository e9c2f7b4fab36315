//! The bytes of a row of the durable log: the frames of one batch with what was decided about them, so that a rebuild repeats
//! nothing that depended on the moment.
//!
//! ```text
//! 1 | count | count × ( decided | received | length | CBOR frame | hash | count × (record, count × event code) ) | CRC-32C
//! ```

use metering::{EventKind, Frame, Timestamp};

use crate::{
    block::{
        bits::{BitReader, BitWriter, BitsError, unzigzag, zigzag},
        crc::crc32c,
    },
    error::StoreError,
};

const VERSION: u64 = 1;
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
}

impl Logged {
    /// What was wrong with a record.
    pub(crate) fn wrong_with(&self, record: usize) -> &[EventKind] {
        self.wrong.iter().find(|(index, _)| *index == record).map_or(&[], |(_, kinds)| kinds)
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
    if from.get(8)? != VERSION {
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
        let length = from.get_count(body.len())?;
        let frame = Frame::from_cbor(from.get_bytes(length)?).map_err(|_| BitsError)?;
        frames.push(Logged { frame, hash, received, conflict, wrong });
    }
    Ok(frames)
}
