//! The TCP and UDP wrapper of DLMS/COSEM (IEC 62056-47): version 1, source, destination, length, all 16 bits.

use alloc::vec::Vec;

use super::{Framing, Step};
use crate::{Fault, bytes::Cursor};

/// DLMS over TCP, port 4059.
pub struct WrapperFraming;

impl Framing for WrapperFraming {
    const LIMIT: usize = 0xFFFF + 8;

    fn step(&self, bytes: &[u8], ended: bool) -> Step {
        let mut cursor = Cursor::new(bytes);
        let wait = if ended { Step::Skip(1) } else { Step::NeedMore };
        let (Some(version), Some(_), Some(_), Some(length)) = (cursor.u16(), cursor.u16(), cursor.u16(), cursor.u16())
        else {
            return if bytes[0] != 0 || bytes.get(1).is_some_and(|b| *b != 1) { Step::Skip(1) } else { wait };
        };
        if version != 1 {
            return Step::Fault(1, Fault::structure("not the wrapper of DLMS: its version is 1"));
        }
        let total = usize::from(length) + 8;
        if bytes.len() < total { wait } else { Step::Frame(total) }
    }
}

/// One APDU and its two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrapped<'a> {
    /// Who sends: a client's SAP, or the logical device.
    pub source: u16,
    /// Who is meant.
    pub destination: u16,
    /// The APDU.
    pub apdu: &'a [u8],
}

impl<'a> Wrapped<'a> {
    /// Reads a whole frame.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        (cursor.u16()? == 1).then_some(())?;
        let (source, destination, length) = (cursor.u16()?, cursor.u16()?, cursor.u16()?);
        let apdu = cursor.take(usize::from(length))?;
        cursor.is_empty().then_some(Self { source, destination, apdu })
    }

    /// The bytes; `None` when the APDU is longer than 65,535.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let length = u16::try_from(self.apdu.len()).ok()?;
        let mut out = Vec::with_capacity(self.apdu.len() + 8);
        for field in [1, self.source, self.destination, length] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        out.extend_from_slice(self.apdu);
        Some(out)
    }
}
