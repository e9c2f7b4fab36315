//! Headers of M-Bus telegrams: link layer of wM-Bus, extended link layer, authentication and fragmentation, transport.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use crate::{bytes::Cursor, checksum};

/// The address of a meter: maker, number, version, medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Maker's code, three letters packed.
    pub maker: u16,
    /// Number, low byte first.
    pub number: [u8; 4],
    /// Version of the model.
    pub version: u8,
    /// Medium: 02 electricity, 03 gas, 04 heat, 06 warm water, 07 water.
    pub medium: u8,
}

impl Address {
    /// `maker number version medium`, as in the link layer of wM-Bus.
    pub fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        Some(Self { maker: cursor.u16_le()?, number: cursor.array()?, version: cursor.u8()?, medium: cursor.u8()? })
    }

    /// `number maker version medium`, as in the long transport header.
    pub fn read_long(cursor: &mut Cursor<'_>) -> Option<Self> {
        let number = cursor.array()?;
        Some(Self { maker: cursor.u16_le()?, number, version: cursor.u8()?, medium: cursor.u8()? })
    }

    /// Three letters.
    pub fn maker_text(&self) -> String {
        let letter = |shift: u16| {
            let code = u8::try_from(self.maker >> shift & 0x1F).unwrap_or(0);
            char::from(code.saturating_add(64))
        };
        [letter(10), letter(5), letter(0)].iter().collect()
    }

    /// Eight digits.
    pub fn number_text(&self) -> String {
        self.number.iter().rev().map(|byte| format!("{byte:02X}")).collect()
    }

    /// The eight bytes of the link layer.
    pub fn bytes(&self) -> [u8; 8] {
        let [m0, m1] = self.maker.to_le_bytes();
        let [a0, a1, a2, a3] = self.number;
        [m0, m1, a0, a1, a2, a3, self.version, self.medium]
    }

    /// The medium as a word.
    pub fn medium_text(&self) -> String {
        match self.medium {
            0x02 => "electricity".to_string(),
            0x03 => "gas".to_string(),
            0x04 | 0x0C | 0x0D => "heat".to_string(),
            0x06 | 0x15 => "warm water".to_string(),
            0x07 | 0x16 => "water".to_string(),
            other => format!("medium {other:02x}"),
        }
    }
}

/// A wM-Bus frame without its block checksums: length, C, maker, address, then CI and so on.
pub fn without_block_checksums(frame: &[u8]) -> Option<Vec<u8>> {
    let (&length, body) = frame.split_first()?;
    if usize::from(length) == body.len() {
        return Some(frame.to_vec());
    }
    format_a(frame).or_else(|| format_b(frame))
}

/// The same frame with the block checksums of format A, as it goes over the air.
pub fn with_block_checksums(frame: &[u8]) -> Vec<u8> {
    let (first, rest) = frame.split_at(frame.len().min(10));
    let mut out = Vec::with_capacity(frame.len() + frame.len() / 8 + 4);
    for block in core::iter::once(first).chain(rest.chunks(16)) {
        out.extend_from_slice(block);
        out.extend_from_slice(&checksum::en13757(block).to_be_bytes());
    }
    out
}

/// Format A: 10 bytes and a CRC, then 16 bytes and a CRC each.
fn format_a(frame: &[u8]) -> Option<Vec<u8>> {
    let wanted = usize::from(*frame.first()?) + 1;
    let mut cursor = Cursor::new(frame);
    let mut out = Vec::with_capacity(wanted);
    while out.len() < wanted {
        let size = if out.is_empty() { 10 } else { 16.min(wanted - out.len()) };
        let block = cursor.take(size)?;
        (cursor.u16()? == checksum::en13757(block)).then_some(())?;
        out.extend_from_slice(block);
    }
    cursor.is_empty().then_some(out)
}

/// Format B: the length counts the checksums; one behind up to 126 bytes, a second behind the rest.
fn format_b(frame: &[u8]) -> Option<Vec<u8>> {
    let wanted = usize::from(*frame.first()?) + 1;
    (frame.len() == wanted && wanted > 12).then_some(())?;
    let first = wanted.min(128);
    let mut out = Vec::with_capacity(wanted);
    for block in [&frame[..first], &frame[first..]].iter().filter(|block| !block.is_empty()) {
        let (covered, crc) = block.split_at_checked(block.len().checked_sub(2)?)?;
        (crc == checksum::en13757(covered).to_be_bytes()).then_some(())?;
        out.extend_from_slice(covered);
    }
    *out.first_mut()? = u8::try_from(out.len() - 1).ok()?;
    Some(out)
}
