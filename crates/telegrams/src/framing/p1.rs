//! P1 and IEC 62056-21: `/` … `!` with or without a checksum, and the encrypted envelope of Luxembourg and Austria.
//!
//! A `/` begins anew wherever it stands. After `!` come up to four hexadecimal digits (leading zeros may be missing), nothing
//! (DSMR 2.2, EasyMeter), or in a data block that began with STX the ETX and its BCC.

use super::{Framing, Step, next_start};
use crate::{Fault, bytes::Cursor, dlms::axdr::length};

/// P1 of all versions.
pub struct P1;

const STX: u8 = 0x02;
const ETX: u8 = 0x03;
/// Tag of general-glo-ciphering, with which an encrypted telegram begins.
pub const CIPHERED: u8 = 0xDB;

impl Framing for P1 {
    const LIMIT: usize = 8 * 1024;

    fn step(&self, bytes: &[u8], ended: bool) -> Step {
        match bytes[0] {
            b'/' => plain(bytes, ended),
            CIPHERED => ciphered(bytes, ended),
            _ => Step::Skip(next_start(bytes, is_start)),
        }
    }
}

fn is_start(byte: u8) -> bool {
    byte == b'/' || byte == CIPHERED
}

fn plain(bytes: &[u8], ended: bool) -> Step {
    let (mut block, mut at) = (false, 0);
    // Nearly every byte is text of no meaning here.
    while let Some(further) =
        bytes.get(at + 1..).and_then(|rest| rest.iter().position(|byte| !PLAIN[usize::from(*byte)]))
    {
        at += 1 + further;
        match bytes[at] {
            b'!' => return end(bytes, at, block, ended),
            b'/' => return Step::Fault(at, Fault::structure("the telegram breaks off and another begins")),
            STX => block = true,
            _ => {
                return Step::Fault(
                    at,
                    Fault::structure("a byte that is no text (parity: DSMR 2.2 needs 9600 7E1, later ones 115200 8N1)"),
                );
            }
        }
    }
    if ended { Step::Fault(next_start(bytes, is_start), Fault::TooLong("the telegram")) } else { Step::NeedMore }
}

/// Bytes of text that end nothing.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7F {
        plain[byte] = byte != b'!' as usize && byte != b'/' as usize;
        byte += 1;
    }
    plain[b'\r' as usize] = true;
    plain[b'\n' as usize] = true;
    plain[b'\t' as usize] = true;
    plain
};

/// The end of a telegram whose `!` stands at `at`.
fn end(bytes: &[u8], at: usize, block: bool, ended: bool) -> Step {
    let tail = &bytes[at + 1..];
    if block {
        // `!` CR LF ETX BCC
        return match tail.iter().take(4).position(|byte| *byte == ETX) {
            Some(etx) if tail.len() > etx + 1 => Step::Frame(at + etx + 3),
            Some(_) if !ended => Step::NeedMore,
            None if !ended && tail.len() < 4 => Step::NeedMore,
            _ => Step::Fault(at + 1, Fault::structure("a data block without its BCC")),
        };
    }
    let digits = tail.iter().take(4).take_while(|byte| byte.is_ascii_hexdigit()).count();
    match tail.get(digits) {
        _ if digits == 4 => Step::Frame(at + 5),
        None if !ended => Step::NeedMore,
        None | Some(b'\r' | b'\n' | b'/') => Step::Frame(at + 1 + digits),
        Some(_) => Step::Fault(at + 1, Fault::Checksum("the CRC behind the exclamation mark")),
    }
}

/// `DB 08 title length SC counter ciphertext tag`.
fn ciphered(bytes: &[u8], ended: bool) -> Step {
    let mut cursor = Cursor::new(bytes);
    cursor.u8();
    let wait = if ended { Step::Skip(next_start(bytes, is_start)) } else { Step::NeedMore };
    match cursor.u8() {
        Some(8) => {}
        None => return wait,
        Some(_) => return Step::Skip(next_start(bytes, is_start)),
    }
    if cursor.take(8).is_none() {
        return wait;
    }
    let left = cursor.left();
    let Some(count) = length(&mut cursor) else {
        return if left >= 3 { Step::Skip(next_start(bytes, is_start)) } else { wait };
    };
    let head = bytes.len() - cursor.left();
    // Before the sum: a sender may claim any length.
    if !(17..=P1::LIMIT).contains(&count) || head + count > P1::LIMIT {
        return Step::Skip(next_start(bytes, is_start));
    }
    let total = head + count;
    if bytes.len() < total { wait } else { Step::Frame(total) }
}
