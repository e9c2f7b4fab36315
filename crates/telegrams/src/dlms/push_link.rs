//! From frames of a line to whole APDUs: segments of HDLC, the two long frames of M-Bus, general block transfer.

use alloc::vec::Vec;

use super::axdr::length;
use crate::{Fault, bytes::Cursor, framing::hdlc};

/// Longest APDU that is put together.
pub const APDU_MAX: usize = 8 * 1024;

const LLC: [u8; 3] = [0xE6, 0xE7, 0x00];
const GENERAL_BLOCK_TRANSFER: u8 = 0xE0;
/// Kaifa in Norway sends information frames where others send unnumbered ones.
const KAIFA_CONTROL: u8 = 0x10;

/// Puts frames together. One that is lost or damaged drops what was begun.
#[derive(Debug, Default)]
pub struct Assembler {
    segments: Vec<u8>,
    begun: bool,
    next_mbus: u8,
    blocks: Vec<u8>,
    next_block: u16,
}

impl Assembler {
    /// With nothing begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what was begun, after a damaged frame.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// One HDLC frame as its framing finds it: from the opening flag to the FCS, which was right. `Ok(None)`: more is needed.
    pub fn hdlc(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let frame = hdlc::Frame::found(bytes)?;
        // UI frames only; the poll bit may be set or not.
        if frame.control & 0xEF != 0x03 && frame.control != KAIFA_CONTROL {
            return Ok(None);
        }
        if frame.information.starts_with(&LLC) {
            self.segments.clear();
            self.begun = true;
        }
        if !self.begun && self.next_block == 0 {
            return Err(Fault::structure("a segment whose beginning was lost"));
        }
        let part = frame.information.strip_prefix(&LLC).unwrap_or(frame.information);
        self.add(part)?;
        if frame.segmented {
            return Ok(None);
        }
        self.begun = false;
        let apdu = core::mem::take(&mut self.segments);
        self.apdu(apdu)
    }

    /// The user data of one M-Bus long frame, from the CI field on: low nibble counts the frames, bit 4 marks the last.
    pub fn mbus(&mut self, data: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let [control, _source, _destination, part @ ..] = data else {
            return Err(Fault::structure("an M-Bus frame without transport header"));
        };
        if control & 0xE0 != 0 {
            return Err(Fault::structure("not the transport layer of DLMS over M-Bus"));
        }
        if control & 0x0F == 0 {
            self.reset();
        } else if control & 0x0F != self.next_mbus {
            self.reset();
            return Err(Fault::structure("an M-Bus segment is missing"));
        }
        self.add(part)?;
        self.next_mbus = (control & 0x0F) + 1;
        if control & 0x10 == 0 {
            return Ok(None);
        }
        self.next_mbus = 0xFF;
        let apdu = core::mem::take(&mut self.segments);
        self.apdu(apdu)
    }

    /// An APDU that came whole: LLC header taken off, blocks put together.
    pub fn apdu(&mut self, apdu: Vec<u8>) -> Result<Option<Vec<u8>>, Fault> {
        let apdu = if apdu.starts_with(&LLC) { apdu[LLC.len()..].to_vec() } else { apdu };
        if apdu.first() != Some(&GENERAL_BLOCK_TRANSFER) {
            self.blocks.clear();
            self.next_block = 0;
            return Ok(Some(apdu));
        }
        let block = Block::parse(&apdu).ok_or(Fault::structure("not a block of general block transfer"))?;
        if block.number == 1 {
            self.blocks.clear();
        } else if block.number != self.next_block {
            self.reset();
            return Err(Fault::structure("a block of general block transfer is missing"));
        }
        if self.blocks.len() + block.bytes.len() > APDU_MAX {
            self.reset();
            return Err(Fault::TooLong("the APDU"));
        }
        self.blocks.extend_from_slice(block.bytes);
        self.next_block = block.number.wrapping_add(1);
        if !block.last {
            return Ok(None);
        }
        self.next_block = 0;
        Ok(Some(core::mem::take(&mut self.blocks)))
    }

    fn add(&mut self, part: &[u8]) -> Result<(), Fault> {
        if self.segments.len() + part.len() > APDU_MAX {
            self.reset();
            return Err(Fault::TooLong("the APDU"));
        }
        self.segments.extend_from_slice(part);
        Ok(())
    }
}

/// One block: `E0 control number acknowledged length bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// No block follows.
    pub last: bool,
    /// The sender goes on without waiting.
    pub streaming: bool,
    /// How many blocks the sender takes at once, 0 to 63.
    pub window: u8,
    /// Number, from 1.
    pub number: u16,
    /// Highest number received without a gap.
    pub acknowledged: u16,
    /// Its part of the APDU.
    pub bytes: &'a [u8],
}

impl<'a> Block<'a> {
    /// Reads a block; nothing may stand behind it.
    pub fn parse(apdu: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(apdu);
        (cursor.u8()? == GENERAL_BLOCK_TRANSFER).then_some(())?;
        let control = cursor.u8()?;
        let (number, acknowledged) = (cursor.u16()?, cursor.u16()?);
        let count = length(&mut cursor)?;
        let bytes = cursor.take(count)?;
        cursor.is_empty().then_some(Self {
            last: control & 0x80 != 0,
            streaming: control & 0x40 != 0,
            window: control & 0x3F,
            number,
            acknowledged,
            bytes,
        })
    }

    /// Writes it.
    pub fn encode(&self) -> Vec<u8> {
        let control = u8::from(self.last) << 7 | u8::from(self.streaming) << 6 | self.window & 0x3F;
        let mut out = alloc::vec![GENERAL_BLOCK_TRANSFER, control];
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&self.acknowledged.to_be_bytes());
        super::axdr::put_length(&mut out, self.bytes.len());
        out.extend_from_slice(self.bytes);
        out
    }
}
