//! Apator NA-1, a water meter whose wM-Bus frames carry a layout of its maker behind CI A0 and no records.
//!
//! Access number, status, then 16 bytes under AES-CBC with the vector of security mode 5 (often with a key of zeros). Inside: `2F`; four
//! bytes of counter (low nibble and bits 8 to 31 the number, bits 4 and 5 the power of ten in litres); four bytes of seconds since 2000 by
//! the meter's clock; ten bits of age in hours of the last stored value, and 26 bits of what was counted since, low bits first; two
//! status bytes. Source: the description of this driver that wmbusmeters publishes (`drivers/src/apatorna1.xmq`).

use super::{
    header::Address,
    protection,
    telegram::{Body, Counter, Telegram},
    vif,
};
use crate::{Fault, bytes::Cursor, cipher};

/// Model of these frames: APA, version 14, water.
const NA1: (u16, u8, u8) = (0x0601, 0x14, 0x07);
/// The control information of the frames.
pub const CONTROL: u8 = 0xA0;
/// Litres, in the units of the fixed structure.
const LITRE: u8 = 0x29;

/// Whether the maker's layout is the one that is read here.
pub fn is_na1(address: &Address) -> bool {
    (address.maker, address.version, address.medium) == NA1
}

/// What stands behind CI A0: the counter, and where it stood at the last stored value.
pub fn na1(address: Address, body: &[u8], key: Option<&cipher::Key>) -> Result<Telegram, Fault> {
    let mut cursor = Cursor::new(body);
    let short = || Fault::structure("a frame of Apator NA-1 that is not 18 bytes long");
    let (access, status) = cursor.u8().zip(cursor.u8()).ok_or_else(short)?;
    let sealed: [u8; 16] = cursor.array().filter(|_| cursor.is_empty()).ok_or_else(short)?;
    let vector = protection::mode_5_vector(&address, access);
    let plain = cipher::cbc_decrypt(key.ok_or(Fault::KeyMissing)?, vector, &sealed).ok_or_else(short)?;
    let plain: [u8; 16] = plain.try_into().map_err(|_| short())?;
    let [0x2F, low, c1, c2, c3, _, _, _, _, _, meta, d0, d1, d2, _, _] = plain else { return Err(Fault::WrongKey) };
    let power = low >> 4 & 3;
    let total = u32::from_le_bytes([c1, c2, c3, 0]) << 4 | u32::from(low & 0x0F);
    let since = u32::from_le_bytes([d0, d1, d2, 0]) << 2 | u32::from(meta & 3);
    // One filler byte proves little; a counter that is less than what it counted, or bits that are none, prove a wrong key.
    let stored = total.checked_sub(since).filter(|_| low & 0xC0 == 0).ok_or(Fault::WrongKey)?;
    let meaning = vif::fixed_unit(LITRE + power);
    let counters = [Counter::binary(total, meaning, false), Counter::binary(stored, meaning, true)];
    Ok(Telegram { address, status: Some(status), body: Body::Fixed(counters) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mbus::{Formats, quantity, telegram};
    use alloc::{string::ToString, vec::Vec};

    const KEY: cipher::Key = [7; 16];

    fn frame(plain: [u8; 16]) -> Vec<u8> {
        let address = Address { maker: NA1.0, number: [0x78, 0x56, 0x34, 0x12], version: NA1.1, medium: NA1.2 };
        let mut frame = alloc::vec![0x1C, 0x44];
        frame.extend_from_slice(&address.bytes());
        frame.extend_from_slice(&[CONTROL, 0xB7, 0x00]);
        frame.extend_from_slice(&cipher::cbc_encrypt(&KEY, protection::mode_5_vector(&address, 0xB7), &plain));
        frame
    }

    fn shown(plain: [u8; 16], key: Option<&cipher::Key>) -> Result<Vec<alloc::string::String>, Fault> {
        let telegram = telegram::wireless(&frame(plain), key, &mut Formats::default())?;
        let readings = quantity::wireless(&telegram, |_| None)?;
        Ok(readings.iter().map(|r| alloc::format!("{:?} {} {} {}", r.meter, r.quantity, r.value, r.unit)).collect())
    }

    /// 0x12345 litres with the power of ten in `low`, 0x101 of them since the last stored value.
    fn plain(low: u8) -> [u8; 16] {
        [0x2F, low | 5, 0x34, 0x12, 0, 1, 2, 3, 4, 0x21, 0x08 | 1, 0x40, 0, 0, 0, 0]
    }

    #[test]
    fn the_counter_and_its_last_stored_value() {
        let of = |low| shown(plain(low), Some(&KEY)).expect("it opens");
        assert_eq!(of(0)[0], "Some(\"12345678\") total 74.565 m3");
        assert_eq!(of(0)[1], "Some(\"12345678\") total storage 1 74.308 m3");
        assert_eq!(of(0x10)[0].rsplit(' ').nth(1).map(ToString::to_string).as_deref(), Some("745.65"));
    }

    #[test]
    fn another_key_another_layout_or_a_cut_is_refused() {
        assert_eq!(shown(plain(0), None), Err(Fault::KeyMissing));
        assert_eq!(shown(plain(0), Some(&[8; 16])), Err(Fault::WrongKey));
        assert_eq!(shown(plain(0x40), Some(&KEY)), Err(Fault::WrongKey), "a bit that is none");
        let mut less = plain(0);
        less[13] = 1;
        assert_eq!(shown(less, Some(&KEY)), Err(Fault::WrongKey), "more since than in all");
        let mut cut = frame(plain(0));
        cut.pop();
        cut[0] -= 1;
        let why = telegram::wireless(&cut, Some(&KEY), &mut Formats::default());
        assert!(matches!(why, Err(Fault::Structure(_))), "{why:?}");
        let mut other = frame(plain(0));
        other[8] = 0x15;
        let why = telegram::wireless(&other, Some(&KEY), &mut Formats::default());
        assert!(matches!(why, Err(Fault::Unsupported(_))), "{why:?}");
    }
}
