//! Whole telegrams, wired and wireless: layers taken off one by one down to the records.

use alloc::{collections::BTreeMap, vec::Vec};

use super::{
    header::{Address, without_block_checksums},
    protection::{self, Configuration, Context},
    record,
};
use crate::{Fault, bytes::Cursor, checksum, cipher, framing::mbus};

/// A telegram whose layers are off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telegram {
    /// The meter.
    pub address: Address,
    /// Its status byte, when the header has one: 04 battery, 08 permanent error, 10 temporary error.
    pub status: Option<u8>,
    /// The records, plain.
    pub body: Body,
}

/// Records in either form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Heads and data together.
    Full(Vec<u8>),
    /// Data alone; the heads come from an earlier full frame.
    Compact {
        /// Heads of that frame.
        format: Vec<u8>,
        /// The data.
        data: Vec<u8>,
    },
}

impl Telegram {
    /// Its records.
    pub fn records(&self) -> Result<Vec<record::Record<'_>>, Fault> {
        let records = match &self.body {
            Body::Full(bytes) => record::records(bytes),
            Body::Compact { format, data } => record::records_of_format(format, data),
        };
        records.ok_or(Fault::structure("a record that ends in the middle, or a wrong key"))
    }
}

/// Formats of full frames by their signature, for the compact frames that follow. At most [`Formats::MAX`] are kept.
#[derive(Clone, Debug, Default)]
pub struct Formats {
    known: BTreeMap<u16, Vec<u8>>,
}

/// Formats that Kamstrup's water and heat meters use; the signature proves each.
const KAMSTRUP: [&[u8]; 4] = [
    &[0x02, 0xFF, 0x20, 0x04, 0x13, 0x44, 0x13, 0x61, 0x5B, 0x61, 0x67],
    &[0x02, 0xFF, 0x20, 0x04, 0x13, 0x44, 0x13],
    &[0x02, 0xFF, 0x20, 0x04, 0x13, 0x44, 0x13, 0x61, 0x5B, 0x51, 0x67],
    &[0x02, 0xFF, 0x20, 0x04, 0x13, 0x92, 0x01, 0x3B, 0xA1, 0x01, 0x5B, 0x81, 0x01, 0xE7, 0xFF, 0x0F],
];

impl Formats {
    /// Most formats kept.
    pub const MAX: usize = 256;

    fn learn(&mut self, body: &[u8]) {
        if self.known.len() < Self::MAX
            && let Some(format) = record::format(body)
        {
            self.known.insert(checksum::en13757(&format), format);
        }
    }

    fn of(&self, signature: u16) -> Option<Vec<u8>> {
        let swapped = signature.swap_bytes();
        let known = self.known.get(&signature).or_else(|| self.known.get(&swapped)).map(Vec::as_slice);
        let builtin =
            || KAMSTRUP.into_iter().find(|f| matches!(checksum::en13757(f), s if s == signature || s == swapped));
        known.or_else(builtin).map(<[u8]>::to_vec)
    }
}

/// A wired long frame.
pub fn wired(frame: &[u8], key: Option<&cipher::Key>, formats: &mut Formats) -> Result<Telegram, Fault> {
    let (_, _, data) = mbus::user_data(frame).ok_or(Fault::structure("an M-Bus frame without data"))?;
    let mut cursor = Cursor::new(data);
    layers(&mut cursor, None, key, formats)
}

/// A wireless frame, with or without its block checksums. One that is wired inside is read as such.
pub fn wireless(frame: &[u8], key: Option<&cipher::Key>, formats: &mut Formats) -> Result<Telegram, Fault> {
    if frame.first() == Some(&0x68) && frame.get(3) == Some(&0x68) && frame.get(1) == frame.get(2) {
        let whole =
            mbus::user_data(frame).filter(|_| frame[frame.len() - 2] == checksum::sum8(&frame[4..frame.len() - 2]));
        whole.ok_or(Fault::Checksum("the checksum of the M-Bus frame"))?;
        return wired(frame, key, formats);
    }
    let plain =
        without_block_checksums(frame).ok_or(Fault::Checksum("the length or a block CRC of the wM-Bus frame"))?;
    let mut cursor = Cursor::new(&plain);
    let head = cursor.u8().zip(cursor.u8());
    head.ok_or(Fault::structure("a wM-Bus frame that is too short"))?;
    let address = Address::read(&mut cursor).ok_or(Fault::structure("a wM-Bus frame without an address"))?;
    layers(&mut cursor, Some(address), key, formats)
}

/// Takes layers off until the records are reached.
fn layers(
    cursor: &mut Cursor<'_>,
    link: Option<Address>,
    key: Option<&cipher::Key>,
    formats: &mut Formats,
) -> Result<Telegram, Fault> {
    let bad = || Fault::structure("an M-Bus header that is too short");
    let Some(control) = cursor.u8() else { return Err(bad()) };
    match control {
        0x8C | 0x8E => {
            cursor.take(2).ok_or_else(bad)?;
            let address = if control == 0x8E { Address::read(cursor) } else { link };
            layers(cursor, address, key, formats)
        }
        0x8D | 0x8F => {
            let communication = cursor.u8().ok_or_else(bad)?;
            cursor.u8().ok_or_else(bad)?;
            let address = if control == 0x8F { Address::read(cursor) } else { link };
            let address = address.ok_or_else(bad)?;
            let session = cursor.array().ok_or_else(bad)?;
            let plain = protection::open_extended(address, communication, session, cursor.rest(), key)?;
            layers(&mut Cursor::new(&plain), Some(address), key, formats)
        }
        0x90 => {
            let (counter, rest) = authentication(cursor).ok_or_else(bad)?;
            transport(&mut Cursor::new(rest), link, counter, key, formats)
        }
        _ => {
            let rest = cursor.rest();
            let mut whole = Vec::with_capacity(rest.len() + 1);
            whole.push(control);
            whole.extend_from_slice(rest);
            transport(&mut Cursor::new(&whole), link, None, key, formats)
        }
    }
}

/// Authentication and fragmentation layer: the message counter, and what follows. Fragments are not joined.
fn authentication<'a>(cursor: &mut Cursor<'a>) -> Option<(Option<u32>, &'a [u8])> {
    let length = usize::from(cursor.u8()?);
    let mut layer = Cursor::new(cursor.take(length)?);
    let fields = layer.u16_le()?;
    let has = |bit: u16| fields >> bit & 1 == 1;
    if has(13) {
        layer.u8()?;
    }
    if has(9) {
        layer.u16()?;
    }
    let counter = if has(11) { Some(u32::from_le_bytes(layer.array()?)) } else { None };
    Some((counter, cursor.rest()))
}

fn transport(
    cursor: &mut Cursor<'_>,
    link: Option<Address>,
    message_counter: Option<u32>,
    key: Option<&cipher::Key>,
    formats: &mut Formats,
) -> Result<Telegram, Fault> {
    let bad = || Fault::structure("an M-Bus header that is too short");
    let control = cursor.u8().ok_or_else(bad)?;
    let (long, short, compact) = match control {
        0x72 | 0x6B | 0x73 => (true, true, control == 0x73),
        0x7A | 0x6A | 0x7B => (false, true, control == 0x7B),
        0x78 | 0x69 | 0x79 => (false, false, control == 0x79),
        other => return Err(Fault::Unsupported(alloc::format!("M-Bus telegrams with CI {other:02X}").into())),
    };
    let address = if long { Address::read_long(cursor) } else { link };
    let address = address.ok_or_else(bad)?;
    let (mut status, mut body) = (None, cursor.rest().to_vec());
    if short {
        let access = cursor.u8().ok_or_else(bad)?;
        status = Some(cursor.u8().ok_or_else(bad)?);
        let configuration = Configuration(cursor.u16_le().ok_or_else(bad)?);
        // Wired meters of old leave a signature of their own here.
        let configuration = if link.is_none() && key.is_none() { Configuration(0) } else { configuration };
        body = protection::open(configuration, cursor.rest(), Context { address, access, message_counter }, key)?;
    }
    if compact {
        return Ok(Telegram { address, status, body: compact_body(&body, formats)? });
    }
    formats.learn(&body);
    Ok(Telegram { address, status, body: Body::Full(body) })
}

/// `signature, CRC of the full frame, data`.
fn compact_body(body: &[u8], formats: &Formats) -> Result<Body, Fault> {
    let mut cursor = Cursor::new(body.strip_prefix(&[0x2F, 0x2F]).unwrap_or(body));
    let bad = || Fault::structure("a compact frame that is too short");
    let signature = cursor.u16_le().ok_or_else(bad)?;
    cursor.u16_le().ok_or_else(bad)?;
    let format = formats.of(signature);
    let format = format.ok_or_else(|| {
        Fault::Unsupported(
            "a compact frame before any full frame of this model was heard (they come every few minutes)".into(),
        )
    })?;
    Ok(Body::Compact { format, data: cursor.rest().to_vec() })
}
