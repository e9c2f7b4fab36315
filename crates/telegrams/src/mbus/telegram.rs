//! Whole telegrams, wired and wireless: layers taken off one by one down to the records.

use alloc::{collections::BTreeMap, vec::Vec};

use super::{
    apator,
    header::{Address, without_block_checksums},
    protection::{self, Authentication, Configuration, Context},
    record,
    vif::{self, Meaning},
};
use crate::{Decimal, Fault, bytes::Cursor, checksum, cipher, framing::mbus};

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
    /// Two counters of the fixed structure that EN 1434-3 knew before records.
    Fixed([Counter; 2]),
    /// Data alone; the heads come from an earlier full frame.
    Compact {
        /// Heads of that frame.
        format: Vec<u8>,
        /// The data.
        data: Vec<u8>,
    },
}

/// A counter of the fixed structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Low byte first, BCD or binary.
    bytes: [u8; 4],
    is_binary: bool,
    meaning: Meaning,
    /// It is the value of the last fixed date.
    is_past: bool,
}

impl Counter {
    /// A binary counter; `is_past`: of the last stored value.
    pub(super) fn binary(count: u32, meaning: Meaning, is_past: bool) -> Self {
        Self { bytes: count.to_le_bytes(), is_binary: true, meaning, is_past }
    }

    fn record(&self) -> record::Record<'_> {
        let number = if self.is_binary {
            Some(Decimal::new(i64::from(i32::from_le_bytes(self.bytes)), 0))
        } else {
            record::bcd(&self.bytes)
        };
        record::Record {
            function: record::Function::Instantaneous,
            storage: u64::from(self.is_past),
            tariff: 0,
            subunit: 0,
            vif: &[],
            meaning: self.meaning,
            data: number.map_or(record::Data::Nothing, record::Data::Number),
            bytes: &self.bytes,
        }
    }
}

impl Telegram {
    /// Its records.
    pub fn records(&self) -> Result<Vec<record::Record<'_>>, Fault> {
        let records = match &self.body {
            Body::Full(bytes) => record::records(bytes),
            Body::Fixed(counters) => Some(counters.iter().map(Counter::record).collect()),
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
    let mut lock = Lock { key, is_opened: false };
    // CI 73 and 77 with just these 16 bytes: low byte first, high byte first.
    if let [control @ (0x73 | 0x77), rest @ ..] = data
        && let Ok(rest) = <[u8; 16]>::try_from(rest)
    {
        lock.believe()?;
        return Ok(fixed(rest, *control == 0x77));
    }
    layers(&mut Cursor::new(data), None, &mut lock, formats)
}

/// The fixed structure: number, access, status, medium and units, two counters.
fn fixed(bytes: [u8; 16], high_first: bool) -> Telegram {
    let four = |at: usize| {
        let mut four = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        if high_first {
            four.reverse();
        }
        four
    };
    let (status, low, high) = (bytes[5], bytes[6], bytes[7]);
    let address = Address { maker: 0, number: four(0), version: 0, medium: (high >> 6) << 2 | low >> 6 };
    let first = vif::fixed_unit(low & 0x3F);
    let is_past = status & 2 != 0;
    // 3E: as the first, at the fixed date.
    let second = if high & 0x3F == 0x3E { first } else { vif::fixed_unit(high & 0x3F) };
    let counter = |at: usize, meaning, is_past| {
        let bytes = four(at);
        let is_binary = status & 1 != 0 || record::bcd(&bytes).is_none();
        Counter { bytes, is_binary, meaning, is_past }
    };
    let body = Body::Fixed([counter(8, first, is_past), counter(12, second, is_past || high & 0x3F == 0x3E)]);
    Telegram { address, status: Some(status), body }
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
    layers(&mut cursor, Some(address), &mut Lock { key, is_opened: false }, formats)
}

/// A key that is given, and whether something was opened with it.
struct Lock<'k> {
    key: Option<&'k cipher::Key>,
    is_opened: bool,
}

impl Lock<'_> {
    /// With a key given, what nothing has sealed is not believed: on the air anyone can send.
    fn believe(&self) -> Result<(), Fault> {
        if self.key.is_some() && !self.is_opened { Err(Fault::Unprotected("a telegram in the clear")) } else { Ok(()) }
    }
}

/// Takes layers off until the records are reached.
fn layers(
    cursor: &mut Cursor<'_>,
    link: Option<Address>,
    lock: &mut Lock<'_>,
    formats: &mut Formats,
) -> Result<Telegram, Fault> {
    let bad = || Fault::structure("an M-Bus header that is too short");
    let Some(control) = cursor.u8() else { return Err(bad()) };
    match control {
        0x8C | 0x8E => {
            cursor.take(2).ok_or_else(bad)?;
            let address = if control == 0x8E { Address::read(cursor) } else { link };
            layers(cursor, address, lock, formats)
        }
        0x8D | 0x8F => {
            let communication = cursor.u8().ok_or_else(bad)?;
            cursor.u8().ok_or_else(bad)?;
            let address = if control == 0x8F { Address::read(cursor) } else { link };
            let address = address.ok_or_else(bad)?;
            let session = cursor.array().ok_or_else(bad)?;
            let plain = protection::open_extended(address, communication, session, cursor.rest(), lock.key)?;
            lock.is_opened |= protection::is_extended_sealed(session) && lock.key.is_some();
            layers(&mut Cursor::new(&plain), Some(address), lock, formats)
        }
        0x90 => {
            let (authentication, rest) = protection::authentication(cursor).ok_or_else(bad)?;
            if authentication.is_fragment {
                return Err(Fault::Unsupported(
                    "a message in fragments (authentication and fragmentation layer)".into(),
                ));
            }
            transport(rest, link, &authentication, lock, formats)
        }
        apator::CONTROL if link.as_ref().is_some_and(apator::is_na1) => {
            lock.is_opened = true;
            apator::na1(link.ok_or_else(bad)?, cursor.rest(), lock.key)
        }
        _ => {
            let rest = cursor.rest();
            let mut whole = Vec::with_capacity(rest.len() + 1);
            whole.push(control);
            whole.extend_from_slice(rest);
            transport(&whole, link, &Authentication::default(), lock, formats)
        }
    }
}

fn transport(
    message: &[u8],
    link: Option<Address>,
    authentication: &Authentication,
    lock: &mut Lock<'_>,
    formats: &mut Formats,
) -> Result<Telegram, Fault> {
    let bad = || Fault::structure("an M-Bus header that is too short");
    let key = lock.key;
    let cursor = &mut Cursor::new(message);
    let control = cursor.u8().ok_or_else(bad)?;
    let (long, short, compact) = match control {
        // 5A and 5B stand for a command to a meter; AMIS meters of Austria push with them.
        0x72 | 0x6B | 0x73 | 0x5B => (true, true, control == 0x73),
        0x7A | 0x6A | 0x7B | 0x5A => (false, true, control == 0x7B),
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
        let is_signature = link.is_none() && key.is_none() && record::records(cursor.rest()).is_some();
        let configuration = if is_signature { Configuration(0) } else { configuration };
        let context = Context { address, access, message_counter: authentication.counter };
        if let Some(key) = key {
            authentication.check(message, key, &context)?;
        }
        body = protection::open(configuration, cursor.rest(), context, key)?;
        lock.is_opened |= key.is_some() && configuration.mode() != 0 && configuration.encrypted_bytes() > 0;
    }
    lock.believe()?;
    if compact {
        return Ok(Telegram { address, status, body: compact_body(&body, formats)? });
    }
    formats.learn(&body);
    Ok(Telegram { address, status, body: Body::Full(body) })
}

/// `signature, CRC of the full frame, data`: put together with the heads the data must have that CRC.
fn compact_body(body: &[u8], formats: &Formats) -> Result<Body, Fault> {
    let mut cursor = Cursor::new(body.strip_prefix(&[0x2F, 0x2F]).unwrap_or(body));
    let bad = || Fault::structure("a compact frame that is too short");
    let signature = cursor.u16_le().ok_or_else(bad)?;
    let crc = cursor.u16_le().ok_or_else(bad)?;
    let format = formats.of(signature);
    let format = format.ok_or_else(|| {
        Fault::Unsupported(
            "a compact frame before any full frame of this model was heard (they come every few minutes)".into(),
        )
    })?;
    let data = cursor.rest().to_vec();
    let full = record::full_of_format(&format, &data).ok_or_else(bad)?;
    if checksum::en13757(&full) != crc {
        return Err(Fault::Checksum("the CRC of the compact frame"));
    }
    Ok(Body::Compact { format, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bytes::from_hex, mbus::quantity};
    use alloc::{format, string::String};

    fn shown(telegram: &Telegram) -> Vec<String> {
        let readings = quantity::wired(telegram).expect("records");
        readings.iter().map(|r| format!("{} {} {}", r.quantity, r.value, r.unit)).collect()
    }

    /// The example of "The M-Bus: A Documentation", 6.2: water, 1 l now and 135 l at the fixed date.
    #[test]
    fn the_fixed_structure() {
        let frame =
            from_hex("68 13 13 68 08 05 73 78 56 34 12 0A 00 E9 7E 01 00 00 00 35 01 00 00 3C 16").expect("hex");
        let telegram = wired(&frame, None, &mut Formats::default()).expect("a telegram");
        assert_eq!((telegram.address.number_text(), telegram.address.medium), ("12345678".into(), 7));
        assert_eq!(
            shown(&telegram),
            ["volume storage 0 tariff 0 unit 0 0.001 m3", "volume storage 1 tariff 0 unit 0 0.135 m3"]
        );
    }

    const FULL: &str = "02FF207100041308190000441308190000615B7F616713";

    fn kamstrup(ci: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = from_hex("00442D2C998734761B16").expect("hex");
        frame.push(ci);
        frame.extend_from_slice(body);
        frame[0] = u8::try_from(frame.len() - 1).expect("short");
        frame
    }

    /// A Multical 21 sends its heads now and then, and otherwise a signature of them with the data.
    #[test]
    fn a_compact_frame_takes_the_heads_of_a_full_one() {
        let mut formats = Formats::default();
        let full = wireless(&kamstrup(0x78, &from_hex(FULL).expect("hex")), None, &mut formats).expect("a full frame");
        let compact = from_hex("EDA86AB6710008190000081900007F13").expect("hex");
        let short = wireless(&kamstrup(0x79, &compact), None, &mut formats).expect("a compact frame");
        assert_eq!(shown(&full), shown(&short));
        let mut damaged = compact.clone();
        damaged[7] ^= 1;
        let why = wireless(&kamstrup(0x79, &damaged), None, &mut formats);
        assert_eq!(why, Err(Fault::Checksum("the CRC of the compact frame")));
        let unknown = wireless(&kamstrup(0x79, &[0; 16]), None, &mut Formats::default());
        assert!(matches!(unknown, Err(Fault::Unsupported(_))), "{unknown:?}");
    }

    /// Security mode 7 with profile B of OMS 4: a key derived from the message counter, and the MAC over the sealed message.
    #[test]
    fn mode_7_opens_with_the_derived_key_and_the_mac_counts() {
        let key = [0x31; 16];
        let mut records = from_hex("2F2F0C04271048850C2B510100002F2F").expect("hex");
        records.resize(32, 0x2F);
        let address = Address { maker: 0x3265, number: [0x78, 0x56, 0x34, 0x12], version: 1, medium: 2 };
        let context = Context { address, access: 9, message_counter: Some(0xB4) };
        let sealed =
            cipher::cbc_encrypt(&protection::encryption_key(&key, &context).expect("a key"), [0; 16], &records);
        // CI, access, status, configuration (mode 7, two blocks), its extension (key derivation by CMAC).
        let mut message = alloc::vec![0x7A, 9, 0, 0x20, 0x07, 0x10];
        message.extend_from_slice(&sealed);
        let mac_key = protection::authentication_key(&key, &context).expect("a key");
        let covered = [&[0x25, 0xB4, 0, 0, 0][..], &message].concat();
        let mac = &cipher::cmac(&mac_key, &covered)[..8];
        // Length, fields (message control, counter, MAC), message control, counter, MAC.
        let layer = [&[0x0F, 0x00, 0x2C, 0x25, 0xB4, 0, 0, 0][..], mac].concat();
        let body = [&layer[..], &message].concat();
        let frame = |body: &[u8]| {
            let mut frame = alloc::vec![0, 0x44];
            frame.extend_from_slice(&address.bytes());
            frame.push(0x90);
            frame.extend_from_slice(body);
            frame[0] = u8::try_from(frame.len() - 1).expect("short");
            frame
        };
        let telegram = wireless(&frame(&body), Some(&key), &mut Formats::default()).expect("it opens");
        assert_eq!(
            shown(&telegram),
            ["energy storage 0 tariff 0 unit 0 854810270 Wh", "power storage 0 tariff 0 unit 0 151 W"]
        );
        for at in [8, body.len() - 1] {
            let mut damaged = body.clone();
            damaged[at] ^= 1;
            let why = wireless(&frame(&damaged), Some(&key), &mut Formats::default());
            assert_eq!(why, Err(Fault::WrongKey), "byte {at}");
        }
        let other = wireless(&frame(&body), Some(&[0x32; 16]), &mut Formats::default());
        assert_eq!(other, Err(Fault::WrongKey));
        assert_eq!(wireless(&frame(&body), None, &mut Formats::default()), Err(Fault::KeyMissing));
    }

    /// Siemens AMIS TD-3511 (Netz Oberösterreich): mode 5 on wired M-Bus, the vector from its own long header.
    #[test]
    fn a_wired_push_in_mode_5() {
        let key = [0x42; 16];
        let mut records = from_hex("2F2F 0403 E8030000 04833C 0A000000 042B 5E010000 04FB943C 05000000").expect("hex");
        records.resize(48, 0x2F);
        let header = from_hex("00000000 2D4C 01 0E 07 00 3005").expect("hex");
        let mut vector = [7; 16];
        vector[..8].copy_from_slice(&from_hex("2D4C 00000000 01 0E").expect("hex"));
        let data = [&[0x5B], header.as_slice(), &cipher::cbc_encrypt(&key, vector, &records)].concat();
        let frame = mbus::encode(0x53, 0xF0, &data).expect("short");
        let telegram = wired(&frame, Some(&key), &mut Formats::default()).expect("it opens");
        let values: Vec<String> =
            shown(&telegram).iter().map(|line| line.replace(" storage 0 tariff 0 unit 0", "")).collect();
        assert_eq!(values, ["energy 1000 Wh", "energy backward 10 Wh", "power 350 W", "reactive power backward 5 var"]);
        assert_eq!(wired(&frame, Some(&[1; 16]), &mut Formats::default()), Err(Fault::WrongKey));
    }

    /// Who knows only a meter's number must not be able to speak for it.
    #[test]
    fn with_a_key_what_is_in_the_clear_is_not_believed_and_teaches_no_format() {
        let key = [7; 16];
        let mut formats = Formats::default();
        let full = kamstrup(0x78, &from_hex(FULL).expect("hex"));
        let short_header = kamstrup(0x7A, &from_hex("01000000 0C0427104885").expect("hex"));
        // Mode 5 with no encrypted block, and the extended link layer without encryption.
        let empty = kamstrup(0x7A, &from_hex("01000005 0C0427104885").expect("hex"));
        let inner = from_hex("78 0C0427104885").expect("hex");
        let crc = checksum::en13757(&inner).to_le_bytes();
        let extended = kamstrup(0x8D, &[&[0x20, 1, 0, 0, 0, 0][..], &crc, &inner].concat());
        for frame in [&full, &short_header, &empty, &extended] {
            assert!(wireless(frame, None, &mut Formats::default()).is_ok());
            let why = wireless(frame, Some(&key), &mut formats);
            assert_eq!(why, Err(Fault::Unprotected("a telegram in the clear")));
        }
        assert!(formats.known.is_empty());
        let fixed =
            from_hex("68 13 13 68 08 05 73 78 56 34 12 0A 00 E9 7E 01 00 00 00 35 01 00 00 3C 16").expect("hex");
        assert!(matches!(wired(&fixed, Some(&key), &mut formats), Err(Fault::Unprotected(_))));
    }

    #[test]
    fn an_encrypted_wired_meter_asks_for_its_key() {
        let mut data = from_hex("72785634126532010209000020").expect("hex");
        data[11..].copy_from_slice(&[0x20, 0x05]);
        data.extend_from_slice(&[0xC7; 32]);
        let frame = mbus::encode(8, 1, &data).expect("short");
        assert_eq!(wired(&frame, None, &mut Formats::default()), Err(Fault::KeyMissing));
    }
}
