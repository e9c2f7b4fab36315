//! Wired M-Bus (EN 13757-2): long frames `68 L L 68` … `checksum 16`, short frames `10` … `16`, the acknowledgement `E5`.

use super::{Framing, Step, next_start};
use crate::{Fault, checksum};

/// Wired M-Bus.
pub struct MBusFraming;

const LONG: u8 = 0x68;
const SHORT: u8 = 0x10;
const STOP: u8 = 0x16;

impl Framing for MBusFraming {
    const LIMIT: usize = 261;

    fn step(&self, bytes: &[u8], ended: bool) -> Step {
        if bytes[0] != LONG {
            return Step::Skip(next_start(bytes, |byte| byte == LONG));
        }
        let wait = if ended { Step::Skip(1) } else { Step::NeedMore };
        let Some(head) = bytes.get(..4) else { return wait };
        if head[1] != head[2] || head[3] != LONG || head[1] < 3 {
            return Step::Skip(1);
        }
        let end = usize::from(head[1]) + 4;
        let Some(tail) = bytes.get(end..end + 2) else { return wait };
        if tail[1] != STOP {
            return Step::Fault(1, Fault::structure("no stop byte where the M-Bus frame should end"));
        }
        if tail[0] != checksum::sum8(&bytes[4..end]) {
            return Step::Fault(1, Fault::Checksum("the checksum of the M-Bus frame"));
        }
        Step::Frame(end + 2)
    }
}

/// What a long frame carries: C field, address, and from the CI field on the user data.
pub fn user_data(frame: &[u8]) -> Option<(u8, u8, &[u8])> {
    let inner = frame.get(4..frame.len().checked_sub(2)?)?;
    Some((*inner.first()?, *inner.get(1)?, inner.get(2..)?))
}

/// A long frame around user data; `None` above 253 bytes.
pub fn encode(c_field: u8, address: u8, data: &[u8]) -> Option<alloc::vec::Vec<u8>> {
    let length = u8::try_from(data.len() + 2).ok()?;
    let mut out = alloc::vec![LONG, length, length, LONG, c_field, address];
    out.extend_from_slice(data);
    out.push(checksum::sum8(&out[4..]));
    out.push(STOP);
    Some(out)
}

/// A short frame: a request to a meter, such as REQ_UD2 (C field 5B or 7B).
pub fn encode_short(c_field: u8, address: u8) -> [u8; 5] {
    [SHORT, c_field, address, c_field.wrapping_add(address), STOP]
}
