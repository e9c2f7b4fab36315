//! Data records: DIF, DIFE, VIF, VIFE and the value.

use alloc::{string::String, vec::Vec};
use metering::Timestamp;

use super::vif::{self, Meaning};
use crate::{
    Decimal,
    bytes::{Cursor, hex, printable},
};

/// Most extension bytes behind a DIF or a VIF (EN 13757-3, 6.3).
const EXTENSIONS_MAX: usize = 10;

/// What a value is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    /// Now.
    Instantaneous,
    /// The highest.
    Maximum,
    /// The lowest.
    Minimum,
    /// The value when the meter was in error.
    Error,
}

/// A value as sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data<'a> {
    /// None was sent, or it is marked as invalid.
    Nothing,
    /// A number.
    Number(Decimal),
    /// Raw little-endian bytes of an integer, for dates.
    Raw(&'a [u8]),
    /// Text, reversed to reading order.
    Text(String),
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Instantaneous, maximum, minimum.
    pub function: Function,
    /// 0 now, others history.
    pub storage: u64,
    /// 0 all tariffs together.
    pub tariff: u32,
    /// Part of the device.
    pub subunit: u16,
    /// VIF and VIFE as sent.
    pub vif: &'a [u8],
    /// What they mean.
    pub meaning: Meaning,
    /// The value, before scaling.
    pub data: Data<'a>,
    /// The bytes of a number, for dates and flags.
    pub bytes: &'a [u8],
}

impl Record<'_> {
    /// The number in its unit.
    pub fn value(&self) -> Option<Decimal> {
        match self.data {
            Data::Number(number) => number.scaled(self.meaning.exponent),
            _ => None,
        }
    }

    /// The local time of a date record.
    pub fn time(&self) -> Option<Timestamp> {
        match self.meaning.quantity {
            "date and time" | "date" => date(self.bytes),
            _ => None,
        }
    }
}

/// The heads of all records, without data: what a compact frame leaves out.
pub fn heads<'a>(records: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    records.flat_map(|(dif, vif)| dif.iter().chain(vif)).copied().collect()
}

/// Reads records until the data end or the maker's own part begins. `None` at the first that makes no sense.
pub fn records(bytes: &[u8]) -> Option<Vec<Record<'_>>> {
    let mut cursor = Cursor::new(bytes);
    let mut out = Vec::new();
    while !cursor.is_empty() {
        if let Some(head) = Head::read(&mut cursor)? {
            out.push(head.record(&mut cursor)?);
        }
    }
    Some(out)
}

/// As [`records`], with heads and data in different places (compact frames).
pub fn records_of_format<'a>(format: &'a [u8], data: &'a [u8]) -> Option<Vec<Record<'a>>> {
    let (mut heads, mut data) = (Cursor::new(format), Cursor::new(data));
    let mut out = Vec::new();
    while !heads.is_empty() {
        if let Some(head) = Head::read(&mut heads)? {
            out.push(head.record(&mut data)?);
        }
    }
    Some(out)
}

/// The full frame that a compact one stands for: each head with its data behind it. Nothing may be left of the data.
pub fn full_of_format(format: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let (mut heads, mut data) = (Cursor::new(format), Cursor::new(data));
    let mut out = Vec::with_capacity(format.len() + data.left());
    while !heads.is_empty() {
        let before = heads.rest();
        let head = Head::read(&mut heads)?;
        out.extend_from_slice(&before[..before.len() - heads.left()]);
        if let Some(head) = head {
            let before = data.rest();
            head.record(&mut data)?;
            out.extend_from_slice(&before[..before.len() - data.left()]);
        }
    }
    // Behind the last record may stand fillers.
    data.rest().iter().all(|byte| *byte == 0x2F).then_some(out)
}

/// The format of a full frame: all DIF, DIFE, VIF and VIFE.
pub fn format(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut cursor = Cursor::new(bytes);
    let mut out = Vec::new();
    while !cursor.is_empty() {
        let before = cursor.rest();
        if let Some(head) = Head::read(&mut cursor)? {
            out.extend_from_slice(&before[..before.len() - cursor.left()]);
            head.record(&mut cursor)?;
        }
    }
    Some(out)
}

struct Head<'a> {
    data_field: u8,
    function: Function,
    storage: u64,
    tariff: u32,
    subunit: u16,
    vif: &'a [u8],
    plain_text: &'a [u8],
}

impl<'a> Head<'a> {
    /// `None` inside: a filler, or the maker's own data, which end the records.
    fn read(cursor: &mut Cursor<'a>) -> Option<Option<Self>> {
        let dif = cursor.u8()?;
        match dif {
            0x2F => return Some(None),
            0x0F | 0x1F | 0x7F => {
                cursor.take(cursor.left());
                return Some(None);
            }
            _ => {}
        }
        let function = match dif >> 4 & 3 {
            0 => Function::Instantaneous,
            1 => Function::Maximum,
            2 => Function::Minimum,
            _ => Function::Error,
        };
        let mut head = Self {
            data_field: dif & 0x0F,
            function,
            storage: u64::from(dif >> 6 & 1),
            tariff: 0,
            subunit: 0,
            vif: &[],
            plain_text: &[],
        };
        let mut more = dif & 0x80 != 0;
        let mut count = 0;
        while more {
            let dife = cursor.u8()?;
            head.storage |= u64::from(dife & 0x0F) << (1 + 4 * count);
            head.tariff |= u32::from(dife >> 4 & 3) << (2 * count);
            head.subunit |= u16::from(dife >> 6 & 1) << count;
            (more, count) = (dife & 0x80 != 0, count + 1);
            (count <= EXTENSIONS_MAX).then_some(())?;
        }
        head.read_vif(cursor)?;
        Some(Some(head))
    }

    fn read_vif(&mut self, cursor: &mut Cursor<'a>) -> Option<()> {
        let rest = cursor.rest();
        let count = rest.iter().take(EXTENSIONS_MAX + 1).position(|byte| byte & 0x80 == 0)? + 1;
        let first = *rest.first()?;
        if first & 0x7F == 0x7C {
            // The unit as text: its length behind the VIF, then the text, then the extensions.
            cursor.u8()?;
            let length = usize::from(cursor.u8()?);
            self.plain_text = cursor.take(length)?;
            if first & 0x80 != 0 {
                let rest = cursor.rest();
                let extensions = rest.iter().take(EXTENSIONS_MAX).position(|byte| byte & 0x80 == 0)? + 1;
                cursor.take(extensions)?;
            }
            self.vif = &rest[..1];
            return Some(());
        }
        self.vif = cursor.take(count)?;
        Some(())
    }

    fn record(self, cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
        let meaning =
            if self.plain_text.is_empty() { vif::meaning(self.vif) } else { vif::plain_text(self.plain_text) };
        let (data, bytes) = data(self.data_field, cursor)?;
        Some(Record {
            function: self.function,
            storage: self.storage,
            tariff: self.tariff,
            subunit: self.subunit,
            vif: self.vif,
            meaning,
            data,
            bytes,
        })
    }
}

fn data<'a>(field: u8, cursor: &mut Cursor<'a>) -> Option<(Data<'a>, &'a [u8])> {
    let width = match field {
        0 | 8 => 0,
        5 => {
            let bytes = cursor.take(4)?;
            let bits = u32::from_le_bytes(bytes.try_into().ok()?);
            return Some((Decimal::from_f32_bits(bits).map_or(Data::Nothing, Data::Number), bytes));
        }
        1..=4 => usize::from(field),
        6 => 6,
        7 => 8,
        9..=12 => {
            let bytes = cursor.take(usize::from(field - 8))?;
            return Some((bcd(bytes).map_or(Data::Nothing, Data::Number), bytes));
        }
        14 => {
            let bytes = cursor.take(6)?;
            return Some((bcd(bytes).map_or(Data::Nothing, Data::Number), bytes));
        }
        13 => return variable(cursor),
        _ => return None,
    };
    if width == 0 {
        return Some((Data::Nothing, &[]));
    }
    let bytes = cursor.take(width)?;
    Some((Data::Number(Decimal::new(signed_le(bytes)?, 0)), bytes))
}

/// Variable length: text, BCD of either sign, binary.
fn variable<'a>(cursor: &mut Cursor<'a>) -> Option<(Data<'a>, &'a [u8])> {
    let kind = cursor.u8()?;
    let count = match kind {
        0..=0xBF => usize::from(kind),
        0xC0..=0xC9 => usize::from(kind - 0xC0),
        0xD0..=0xD9 => usize::from(kind - 0xD0),
        0xE0..=0xEF => usize::from(kind - 0xE0),
        0xF0..=0xF4 => 4 * usize::from(kind - 0xEC),
        0xF5 => 48,
        0xF6 => 64,
        _ => return None,
    };
    let bytes = cursor.take(count)?;
    let data = match kind {
        0..=0xBF => {
            let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
            Data::Text(printable(&reversed).map_or_else(|| hex(&reversed), String::from))
        }
        0xC0..=0xC9 => bcd(bytes).map_or(Data::Nothing, Data::Number),
        0xD0..=0xD9 => bcd(bytes).and_then(Decimal::negated).map_or(Data::Nothing, Data::Number),
        0xE1..=0xE8 => Data::Number(Decimal::new(signed_le(bytes)?, 0)),
        _ => Data::Raw(bytes),
    };
    Some((data, bytes))
}

fn signed_le(bytes: &[u8]) -> Option<i64> {
    let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
    crate::bytes::signed_be(&reversed)
}

/// Digits from the low end. A highest nibble of F is a minus; any other letter marks an error.
pub fn bcd(bytes: &[u8]) -> Option<Decimal> {
    let (mut digits, mut negative) = (0_i64, false);
    for (at, byte) in bytes.iter().rev().enumerate() {
        let (mut high, low) = (byte >> 4, byte & 0x0F);
        if at == 0 && high == 0x0F {
            (high, negative) = (0, true);
        }
        if high > 9 || low > 9 {
            return None;
        }
        digits = digits.checked_mul(100)?.checked_add(i64::from(high) * 10 + i64::from(low))?;
    }
    Some(Decimal::new(if negative { -digits } else { digits }, 0))
}

/// Types F (date and time, 4 bytes), G (date, 2 bytes) and I (6 bytes); `None` when marked invalid.
pub fn date(bytes: &[u8]) -> Option<Timestamp> {
    let year = |low: u8, high: u8| 2000 + i64::from(low >> 5 & 7 | high >> 1 & 0x78);
    match *bytes {
        [low, high] => {
            Timestamp::from_civil((year(low, high), i64::from(high & 0x0F), i64::from(low & 0x1F)), (0, 0, 0))
        }
        [minute, hour, low, high] if minute & 0x80 == 0 => Timestamp::from_civil(
            (year(low, high), i64::from(high & 0x0F), i64::from(low & 0x1F)),
            (i64::from(hour & 0x1F), i64::from(minute & 0x3F), 0),
        ),
        [second, minute, hour, low, high, _] if minute & 0x80 == 0 => Timestamp::from_civil(
            (year(low, high), i64::from(high & 0x0F), i64::from(low & 0x1F)),
            (i64::from(hour & 0x1F), i64::from(minute & 0x3F), i64::from(second & 0x3F)),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn one(text: &str) -> (u64, u32, u16, String, &'static str) {
        let bytes = crate::bytes::from_hex(text).expect("hex");
        let records = records(&bytes).expect("records");
        let record = records.first().expect("one");
        let value = record.value().map_or_else(String::new, |value| value.to_string());
        (record.storage, record.tariff, record.subunit, value, record.meaning.unit)
    }

    #[test]
    fn storage_tariff_unit_and_scale() {
        assert_eq!(one("8c1004 68281700"), (0, 1, 0, "1728680".into(), "Wh"));
        assert_eq!(one("8c1104 68281700"), (2, 1, 0, "1728680".into(), "Wh"));
        assert_eq!(one("8240acff01fdff"), (0, 0, 1, "-30".into(), "W"));
        assert_eq!(one("0bfd47563412"), (0, 0, 0, "1234.56".into(), "V"));
        assert_eq!(one("0C04FFFFFFFF"), (0, 0, 0, String::new(), "Wh"), "an error is no number");
        assert_eq!(one("0C04230100F0"), (0, 0, 0, "-1230".into(), "Wh"), "F is a minus");
        assert_eq!(one("0D03C2 3412"), (0, 0, 0, "1234".into(), "Wh"), "BCD of variable length");
    }

    #[test]
    fn dates() {
        let shown = |text: &str| date(&crate::bytes::from_hex(text).expect("hex")).map(|t| t.to_string());
        assert_eq!(shown("0708AC2A").as_deref(), Some("2021-10-12T08:07:00Z"));
        assert_eq!(shown("FFFF"), None);
    }
}
