//! The transport of SML version 1: `1b1b1b1b 01010101` … `1b1b1b1b 1a padding CRC`, with four escape bytes doubled inside.

use alloc::{borrow::Cow, vec::Vec};

use super::{Framing, Step, next_start};
use crate::{Fault, checksum};

/// SML over a serial line or a socket.
pub struct SmlTransport;

const ESCAPE: [u8; 4] = [0x1B; 4];
const START: [u8; 8] = [0x1B, 0x1B, 0x1B, 0x1B, 1, 1, 1, 1];
const END: u8 = 0x1A;

impl Framing for SmlTransport {
    const LIMIT: usize = 16 * 1024;

    fn step(&self, bytes: &[u8], ended: bool) -> Step {
        let head = &bytes[..bytes.len().min(START.len())];
        if head != &START[..head.len()] {
            return Step::Skip(next_start(bytes, |byte| byte == START[0]));
        }
        let mut at = START.len();
        while let Some(found) = find_escape(bytes, at) {
            let Some(next) = bytes.get(found + 4..found + 8) else { break };
            match next {
                [END, ..] => return Step::Frame(found + 8),
                [0x1B, 0x1B, 0x1B, 0x1B] => at = found + 8,
                [1, 1, 1, 1] => {
                    return Step::Fault(found, Fault::structure("the telegram breaks off and another begins"));
                }
                // The four bytes may have begun with a last byte of the contents.
                _ => at = found + 1,
            }
        }
        if ended { Step::Fault(1, Fault::TooLong("the telegram")) } else { Step::NeedMore }
    }
}

fn find_escape(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == 0x1B)?;
        if bytes.get(at..at + 4)? == ESCAPE {
            return Some(at);
        }
        at += 1;
    }
}

/// The contents of a frame whose CRC is right, without escapes and padding.
pub fn contents(frame: &[u8]) -> Result<Cow<'_, [u8]>, Fault> {
    let (covered, crc) = frame.split_at_checked(frame.len().wrapping_sub(2)).ok_or(Fault::TooLong("the telegram"))?;
    let given = u16::from_le_bytes([crc[0], crc[1]]);
    // Some meters of Holley compute it without the inversions.
    if given != checksum::x25(covered) && given != checksum::kermit(covered) {
        return Err(Fault::Checksum("the CRC of the SML telegram"));
    }
    let padding = usize::from(covered[covered.len() - 1]);
    let inner = covered.get(START.len()..covered.len().saturating_sub(6)).unwrap_or_default();
    let inner = if padding <= 3 { inner.get(..inner.len().saturating_sub(padding)) } else { None };
    let inner = inner.ok_or(Fault::structure("padding of more than three bytes"))?;
    if find_escape(inner, 0).is_none() {
        return Ok(Cow::Borrowed(inner));
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut at = 0;
    while let Some(found) = find_escape(inner, at) {
        out.extend_from_slice(&inner[at..found + 4]);
        at = (found + 8).min(inner.len());
    }
    out.extend_from_slice(&inner[at..]);
    Ok(Cow::Owned(out))
}
