//! HDLC of DLMS/COSEM (IEC 62056-46): `7E` format addresses control HCS information FCS `7E`.
//!
//! The length in the format field rules, there is no escaping: a `7E` may stand inside. One flag may end a frame and begin the
//! next.

use alloc::vec::Vec;

use super::{Framing, Step, next_start};
use crate::{Fault, bytes::Cursor, checksum};

/// HDLC of DLMS/COSEM.
pub struct HdlcFraming;

const FLAG: u8 = 0x7E;

impl Framing for HdlcFraming {
    // 11 bits of length, and the flags.
    const LIMIT: usize = 2 * 1024 + 2;

    /// A frame is everything from the opening flag to the FCS; the closing flag stays, it may open the next.
    fn step(&self, bytes: &[u8], ended: bool) -> Step {
        if bytes[0] != FLAG {
            return Step::Skip(next_start(bytes, |byte| byte == FLAG));
        }
        let wait = if ended { Step::Skip(1) } else { Step::NeedMore };
        let (Some(high), Some(low)) = (bytes.get(1), bytes.get(2)) else { return wait };
        if high & 0xF0 != 0xA0 {
            return Step::Skip(1);
        }
        let length = usize::from(u16::from_be_bytes([high & 7, *low]));
        if length < 7 {
            return Step::Skip(1);
        }
        match bytes.get(length + 1) {
            None => wait,
            Some(&FLAG) => match Frame::parse(&bytes[1..=length]) {
                Ok(_) => Step::Frame(length + 1),
                Err(fault) => Step::Fault(1, fault),
            },
            Some(_) => Step::Fault(1, Fault::structure("no flag where the HDLC frame should end")),
        }
    }
}

/// One HDLC frame without its flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// More segments follow.
    pub segmented: bool,
    /// Destination address as sent: 1, 2 or 4 bytes.
    pub destination: &'a [u8],
    /// Source address as sent.
    pub source: &'a [u8],
    /// The control byte.
    pub control: u8,
    /// The information field, perhaps empty.
    pub information: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads the bytes between the flags; both checksums must be right.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let short = || Fault::structure("an HDLC frame that is too short");
        let (covered, fcs) = bytes.split_at_checked(bytes.len().wrapping_sub(2)).ok_or_else(short)?;
        if u16::from_le_bytes([fcs[0], fcs[1]]) != checksum::x25(covered) {
            return Err(Fault::Checksum("the FCS of the HDLC frame"));
        }
        Self::fields(covered)
    }

    /// The fields of a frame that [`HdlcFraming`] has found, its opening flag included: the FCS was right.
    pub fn found(bytes: &'a [u8]) -> Result<Self, Fault> {
        Self::fields(bytes.get(1..bytes.len().saturating_sub(2)).unwrap_or_default())
    }

    fn fields(covered: &'a [u8]) -> Result<Self, Fault> {
        let short = || Fault::structure("an HDLC frame that is too short");
        let mut cursor = Cursor::new(covered);
        let format = cursor.u16().ok_or_else(short)?;
        let destination = address(&mut cursor).ok_or_else(short)?;
        let source = address(&mut cursor).ok_or_else(short)?;
        let control = cursor.u8().ok_or_else(short)?;
        if !cursor.is_empty() {
            let header = &covered[..covered.len() - cursor.left()];
            let hcs = cursor.u16_le().ok_or_else(short)?;
            if hcs != checksum::x25(header) {
                return Err(Fault::Checksum("the HCS of the HDLC frame"));
            }
        }
        Ok(Self { segmented: format & 0x0800 != 0, destination, source, control, information: cursor.rest() })
    }

    /// The bytes with both flags. `None` when the information field is too long for the length field.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let header = 3 + self.destination.len() + self.source.len();
        let information = if self.information.is_empty() { 0 } else { self.information.len() + 2 };
        let length = u16::try_from(header + information + 2).ok().filter(|length| *length < 0x800)?;
        let format = 0xA000 | u16::from(self.segmented) << 11 | length;
        let mut out = Vec::with_capacity(usize::from(length) + 2);
        out.push(FLAG);
        out.extend_from_slice(&format.to_be_bytes());
        out.extend_from_slice(self.destination);
        out.extend_from_slice(self.source);
        out.push(self.control);
        if !self.information.is_empty() {
            let hcs = checksum::x25(&out[1..]);
            out.extend_from_slice(&hcs.to_le_bytes());
            out.extend_from_slice(self.information);
        }
        let fcs = checksum::x25(&out[1..]);
        out.extend_from_slice(&fcs.to_le_bytes());
        out.push(FLAG);
        Some(out)
    }
}

/// An address: the lowest bit of its last byte is set.
fn address<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let count = cursor.rest().iter().take(4).position(|byte| byte & 1 == 1)? + 1;
    if count == 3 {
        return None;
    }
    cursor.take(count)
}
