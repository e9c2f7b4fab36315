//! Frames over a serial line: a sync byte, the length, the kind, the payload and a CRC-32. Bytes may be lost, added or changed; the
//! receiver finds the next whole message and never believes a damaged one. What is not acknowledged is sent again by the sender.

use alloc::{collections::VecDeque, vec::Vec};

use metering::{
    Down,
    frame::FRAME_BYTES_MAX,
    topic::{DownKind, UpKind},
};

use crate::ring::FrameId;

const SYNC: u8 = 0xa5;
/// Sync, two bytes of length, kind.
const HEAD: usize = 4;
const CRC: usize = 4;
/// Longest payload: a frame with its name and kind.
pub const PAYLOAD_MAX: usize = FRAME_BYTES_MAX + 16;

/// What is said over the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Meter to server: a frame from the ring.
    Up {
        /// Its name, for the acknowledgement.
        id: FrameId,
        /// Its kind.
        kind: UpKind,
        /// Its bytes (CBOR).
        payload: Vec<u8>,
    },
    /// Server to meter: the frame is stored for good.
    Acknowledge(FrameId),
    /// Server to meter.
    Down(Down),
    /// Meter to meter, where neighbours share a serial line: a datagram of the local comparison.
    Neighbour(Vec<u8>),
}

impl Message {
    /// The bytes on the line.
    pub fn encode(&self) -> Vec<u8> {
        let (code, payload) = match self {
            Self::Up { id, kind, payload } => {
                let mut bytes = Vec::with_capacity(payload.len() + 9);
                bytes.extend(id.0.to_le_bytes());
                bytes.push(kind.code());
                bytes.extend(payload);
                (1, bytes)
            }
            Self::Acknowledge(id) => (2, Vec::from(id.0.to_le_bytes())),
            Self::Down(down) => {
                let code = match down.kind() {
                    DownKind::Control => 3,
                    DownKind::Config => 4,
                    DownKind::Time => 5,
                };
                (code, down.to_cbor())
            }
            Self::Neighbour(datagram) => (6, datagram.clone()),
        };
        let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        let mut bytes = Vec::with_capacity(HEAD + payload.len() + CRC);
        bytes.push(SYNC);
        bytes.extend(length.to_le_bytes());
        bytes.push(code);
        bytes.extend(payload);
        let crc = crc32(&bytes[1..]);
        bytes.extend(crc.to_le_bytes());
        bytes
    }

    fn decode(code: u8, payload: &[u8]) -> Option<Self> {
        let down = |kind| Down::from_cbor(kind, payload).ok().map(Self::Down);
        match code {
            1 => {
                let (id, rest) = payload.split_first_chunk::<8>()?;
                let (kind, payload) = rest.split_first()?;
                let kind = UpKind::from_code(*kind)?;
                Some(Self::Up { id: FrameId(u64::from_le_bytes(*id)), kind, payload: Vec::from(payload) })
            }
            2 => Some(Self::Acknowledge(FrameId(u64::from_le_bytes(payload.try_into().ok()?)))),
            3 => down(DownKind::Control),
            4 => down(DownKind::Config),
            5 => down(DownKind::Time),
            6 => Some(Self::Neighbour(Vec::from(payload))),
            _ => None,
        }
    }
}

/// Takes bytes as they come and gives whole messages.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    bytes: VecDeque<u8>,
    refused: u64,
}

impl Decoder {
    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// How often something that began like a message was none.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The next whole message, if there is one.
    pub fn next_message(&mut self) -> Option<Message> {
        loop {
            while self.bytes.front().is_some_and(|byte| *byte != SYNC) {
                self.bytes.pop_front();
            }
            let length = usize::from(u16::from_le_bytes([*self.bytes.get(1)?, *self.bytes.get(2)?]));
            if length <= PAYLOAD_MAX {
                if self.bytes.len() < HEAD + length + CRC {
                    return None;
                }
                let whole = &self.bytes.make_contiguous()[..HEAD + length + CRC];
                let (body, crc) = whole.split_at(HEAD + length);
                if crc32(&body[1..]).to_le_bytes() == *crc {
                    let message = Message::decode(body[3], &body[HEAD..]);
                    self.bytes.drain(..HEAD + length + CRC);
                    if message.is_some() {
                        return message;
                    }
                    self.refused += 1;
                    continue;
                }
            }
            // damaged, or not a beginning: the next sync byte may be one
            self.refused += 1;
            self.bytes.pop_front();
        }
    }

    /// Nothing has come for a while: what waits for its rest will not be completed.
    pub fn give_up(&mut self) {
        if self.bytes.pop_front().is_some() {
            self.refused += 1;
        }
    }
}

/// CRC-32 (IEEE 802.3), bit by bit with a table of sixteen.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = table();
    let step = |crc: u32, nibble: u8| TABLE[usize::from((crc.to_le_bytes()[0] ^ nibble) & 15)] ^ (crc >> 4);
    !bytes.iter().fold(!0, |crc, byte| step(step(crc, *byte), byte >> 4))
}

const fn table() -> [u32; 16] {
    let mut table = [0; 16];
    let mut n = 0u32;
    while n < 16 {
        let mut value = n;
        let mut bit = 0;
        while bit < 4 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[n as usize] = value;
        n += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use metering::{Timestamp, frame::TimeFrame};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn crc_of_the_check_string() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    fn messages() -> Vec<Message> {
        vec![
            Message::Up { id: FrameId(7), kind: UpKind::Profile, payload: vec![SYNC; 300] },
            Message::Acknowledge(FrameId(u64::MAX)),
            Message::Down(Down::Time(TimeFrame::unsigned(Timestamp(1_772_409_600)))),
            Message::Up { id: FrameId(8), kind: UpKind::Event, payload: vec![] },
            Message::Neighbour(vec![0xa5; 120]),
        ]
    }

    fn read(decoder: &mut Decoder) -> Vec<Message> {
        core::iter::from_fn(|| decoder.next_message()).collect()
    }

    proptest! {
        /// However the line damages bytes, what comes out was sent; undamaged messages after the damage come out.
        #[test]
        fn nothing_damaged_comes_out_and_the_line_recovers(
            damage in prop::collection::vec((0usize..400, any::<u8>(), 0u8..3), 0..6),
            piece in 1usize..64,
        ) {
            let mut bytes: Vec<u8> = messages().iter().flat_map(Message::encode).collect();
            for (at, value, how) in damage {
                let at = at % bytes.len();
                match how {
                    0 => bytes[at] = value,
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, value),
                }
            }
            // a long silence, then the same again, whole
            let mut decoder = Decoder::default();
            let mut out = vec![];
            for part in bytes.chunks(piece) {
                decoder.push(part);
                out.extend(read(&mut decoder));
            }
            while !decoder.bytes.is_empty() {
                decoder.give_up();
                out.extend(read(&mut decoder));
            }
            for message in &out {
                prop_assert!(messages().contains(message));
            }
            decoder.push(&messages().iter().flat_map(Message::encode).collect::<Vec<u8>>());
            prop_assert_eq!(read(&mut decoder), messages());
        }
    }
}
