//! A-XDR: the data types of DLMS/COSEM, read and written.
//!
//! Depth and memory are bounded by the bytes: an element costs at least one, and nothing is reserved on a sender's word.

pub mod flat;

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    Decimal,
    bytes::{Cursor, hex, printable},
};

/// Most nested structures that are followed.
pub const DEPTH_MAX: usize = 16;

/// One value; texts and bytes are borrowed from the APDU.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Nothing; in a profile: as the row before.
    Null,
    /// Elements of one type.
    Array(Vec<Value<'a>>),
    /// Elements of any type.
    Structure(Vec<Value<'a>>),
    /// An array sent compactly.
    CompactArray(Vec<Value<'a>>),
    /// Truth.
    Boolean(bool),
    /// So many bits, first bit highest.
    Bits(usize, &'a [u8]),
    /// A signed integer and its width in bytes.
    Signed(i64, u8),
    /// An unsigned integer and its width in bytes.
    Unsigned(u64, u8),
    /// Bytes.
    Octets(&'a [u8]),
    /// ASCII text.
    Visible(&'a [u8]),
    /// UTF-8 text.
    Utf8(&'a [u8]),
    /// Two decimal digits.
    Bcd(u8),
    /// A choice of a list.
    Enum(u8),
    /// A 32-bit float's bits.
    Float32(u32),
    /// A 64-bit float's bits.
    Float64(u64),
    /// Date and time, 12 bytes.
    DateTime(&'a [u8]),
    /// Date, 5 bytes.
    Date(&'a [u8]),
    /// Time, 4 bytes.
    Time(&'a [u8]),
    /// Anything.
    DontCare,
}

/// A length: one byte, or `81 xx`, `82 xxxx`, `83 xxxxxx`, `84 xxxxxxxx`.
pub fn length(cursor: &mut Cursor<'_>) -> Option<usize> {
    let first = cursor.u8()?;
    if first < 0x80 {
        return Some(usize::from(first));
    }
    let bytes = cursor.take(usize::from(first & 0x7F)).filter(|bytes| (1..=4).contains(&bytes.len()))?;
    bytes.iter().try_fold(0_usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))
}

/// Writes a length as short as it goes.
pub fn put_length(out: &mut Vec<u8>, length: usize) {
    let wide = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    match length {
        0..=0x7F => out.push(wide[3]),
        0x80..=0xFF => out.extend_from_slice(&[0x81, wide[3]]),
        0x100..=0xFFFF => out.extend_from_slice(&[0x82, wide[2], wide[3]]),
        _ => {
            out.push(0x84);
            out.extend_from_slice(&wide);
        }
    }
}

impl<'a> Value<'a> {
    /// Reads one value with its tag.
    pub fn read(cursor: &mut Cursor<'a>) -> Option<Self> {
        let tag = cursor.u8()?;
        Self::untagged(tag, cursor, DEPTH_MAX)
    }

    /// A whole value with nothing behind it.
    pub fn whole(bytes: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let value = Self::read(&mut cursor)?;
        cursor.is_empty().then_some(value)
    }

    fn untagged(tag: u8, cursor: &mut Cursor<'a>, depth: usize) -> Option<Self> {
        let depth = depth.checked_sub(1)?;
        Some(match tag {
            1 => Self::Array(Self::elements(cursor, depth)?),
            2 => Self::Structure(Self::elements(cursor, depth)?),
            19 => Self::compact(cursor, depth)?,
            _ => return Self::leaf(tag, cursor),
        })
    }

    /// A value that holds no others.
    #[inline(always)]
    pub(super) fn leaf(tag: u8, cursor: &mut Cursor<'a>) -> Option<Self> {
        Some(match tag {
            0 => Self::Null,
            3 => Self::Boolean(cursor.u8()? != 0),
            4 => {
                let bits = length(cursor)?;
                Self::Bits(bits, cursor.take(bits.div_ceil(8))?)
            }
            5 => Self::Signed(i64::from(i32::from_be_bytes(cursor.array()?)), 4),
            6 => Self::Unsigned(u64::from(cursor.u32()?), 4),
            9 => Self::Octets(Self::text(cursor)?),
            10 => Self::Visible(Self::text(cursor)?),
            12 => Self::Utf8(Self::text(cursor)?),
            13 => Self::Bcd(cursor.u8()?),
            15 => Self::Signed(i64::from(i8::from_be_bytes(cursor.array()?)), 1),
            16 => Self::Signed(i64::from(i16::from_be_bytes(cursor.array()?)), 2),
            17 => Self::Unsigned(u64::from(cursor.u8()?), 1),
            18 => Self::Unsigned(u64::from(cursor.u16()?), 2),
            20 => Self::Signed(i64::from_be_bytes(cursor.array()?), 8),
            21 => Self::Unsigned(u64::from_be_bytes(cursor.array()?), 8),
            22 => Self::Enum(cursor.u8()?),
            23 => Self::Float32(cursor.u32()?),
            24 => Self::Float64(u64::from_be_bytes(cursor.array()?)),
            25 => Self::DateTime(cursor.take(12)?),
            26 => Self::Date(cursor.take(5)?),
            27 => Self::Time(cursor.take(4)?),
            255 => Self::DontCare,
            _ => return None,
        })
    }

    fn text(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
        let count = length(cursor)?;
        cursor.take(count)
    }

    fn elements(cursor: &mut Cursor<'a>, depth: usize) -> Option<Vec<Self>> {
        let count = length(cursor)?;
        (count <= cursor.left()).then_some(())?;
        let mut out = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            let tag = cursor.u8()?;
            out.push(Self::untagged(tag, cursor, depth)?);
        }
        Some(out)
    }

    /// A type description once, then the values without tags.
    fn compact(cursor: &mut Cursor<'a>, depth: usize) -> Option<Self> {
        let kind = Kind::read(cursor, depth)?;
        let count = length(cursor)?;
        let mut inner = Cursor::new(cursor.take(count)?);
        let mut out = Vec::new();
        while !inner.is_empty() {
            let before = inner.left();
            out.push(kind.value(&mut inner, depth)?);
            // A type without bytes would never end.
            (inner.left() < before).then_some(())?;
        }
        Some(Self::CompactArray(out))
    }

    /// The elements of an array or a structure.
    pub fn items(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) | Self::Structure(items) | Self::CompactArray(items) => Some(items),
            _ => None,
        }
    }

    /// The number in it.
    pub fn decimal(&self) -> Option<Decimal> {
        match self {
            Self::Signed(value, _) => Some(Decimal::new(*value, 0)),
            Self::Unsigned(value, _) => Decimal::from_u64(*value),
            Self::Boolean(value) => Some(Decimal::new(i64::from(*value), 0)),
            Self::Enum(value) => Some(Decimal::new(i64::from(*value), 0)),
            Self::Bcd(value) => Some(Decimal::new(i64::from(value >> 4) * 10 + i64::from(value & 15), 0)),
            Self::Float32(bits) => Decimal::from_f32_bits(*bits),
            Self::Float64(bits) => Decimal::from_f64_bits(*bits),
            _ => None,
        }
    }

    /// The bytes of an octet string or a text.
    pub fn octets(&self) -> Option<&'a [u8]> {
        match self {
            Self::Octets(bytes) | Self::Visible(bytes) | Self::Utf8(bytes) => Some(bytes),
            Self::DateTime(bytes) | Self::Date(bytes) | Self::Time(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The text of a string that is printable.
    pub fn text_value(&self) -> Option<&'a str> {
        printable(self.octets()?)
    }

    /// An OBIS code: an octet string of six.
    pub fn obis(&self) -> Option<[u8; 6]> {
        match self {
            Self::Octets(bytes) => (*bytes).try_into().ok(),
            _ => None,
        }
    }

    /// Writes the value with its tag.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(0),
            Self::Array(items) | Self::CompactArray(items) => Self::put_items(out, 1, items),
            Self::Structure(items) => Self::put_items(out, 2, items),
            Self::Boolean(value) => out.extend_from_slice(&[3, u8::from(*value)]),
            Self::Bits(bits, bytes) => {
                out.push(4);
                put_length(out, *bits);
                out.extend_from_slice(bytes);
            }
            Self::Signed(value, width) => {
                let tag = match width {
                    1 => 15,
                    2 => 16,
                    4 => 5,
                    _ => 20,
                };
                Self::put_tail(out, tag, value.to_be_bytes(), *width);
            }
            Self::Unsigned(value, width) => {
                let tag = match width {
                    1 => 17,
                    2 => 18,
                    4 => 6,
                    _ => 21,
                };
                Self::put_tail(out, tag, value.to_be_bytes(), *width);
            }
            Self::Octets(bytes) => Self::put_text(out, 9, bytes),
            Self::Visible(bytes) => Self::put_text(out, 10, bytes),
            Self::Utf8(bytes) => Self::put_text(out, 12, bytes),
            Self::Bcd(value) => out.extend_from_slice(&[13, *value]),
            Self::Enum(value) => out.extend_from_slice(&[22, *value]),
            Self::Float32(bits) => Self::put_tail(out, 23, (u64::from(*bits)).to_be_bytes(), 4),
            Self::Float64(bits) => Self::put_tail(out, 24, bits.to_be_bytes(), 8),
            Self::DateTime(bytes) => Self::put_fixed(out, 25, bytes),
            Self::Date(bytes) => Self::put_fixed(out, 26, bytes),
            Self::Time(bytes) => Self::put_fixed(out, 27, bytes),
            Self::DontCare => out.push(255),
        }
    }

    /// The bytes of the value with its tag.
    pub fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn put_items(out: &mut Vec<u8>, tag: u8, items: &[Self]) {
        out.push(tag);
        put_length(out, items.len());
        items.iter().for_each(|item| item.write(out));
    }

    fn put_tail(out: &mut Vec<u8>, tag: u8, wide: [u8; 8], width: u8) {
        out.push(tag);
        out.extend_from_slice(&wide[8 - usize::from(width.clamp(1, 8))..]);
    }

    fn put_text(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
        out.push(tag);
        put_length(out, bytes.len());
        out.extend_from_slice(bytes);
    }

    fn put_fixed(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
        out.push(tag);
        out.extend_from_slice(bytes);
    }

    /// The value as a person reads it, nested values indented.
    pub fn shown(&self, depth: usize) -> String {
        let nested = |name: &str, items: &[Self]| {
            let inner: Vec<String> = items
                .iter()
                .map(|item| format!("\n{:width$}{}", "", item.shown(depth + 1), width = 2 * depth + 2))
                .collect();
            format!("{name} of {}{}", items.len(), inner.concat())
        };
        match self {
            Self::Null => String::from("null"),
            Self::Array(items) => nested("array", items),
            Self::CompactArray(items) => nested("compact array", items),
            Self::Structure(items) => nested("structure", items),
            Self::Bits(count, bytes) => format!("{count} bits {}", hex(bytes)),
            Self::Octets(bytes) if bytes.len() == 6 => format!("octets {} ({})", hex(bytes), obis_text(bytes)),
            Self::Octets(_) | Self::Visible(_) | Self::Utf8(_) => match self.text_value() {
                Some(text) => format!("text {text:?}"),
                None => format!("octets {}", hex(self.octets().unwrap_or_default())),
            },
            Self::DateTime(bytes) => format!("date and time {}", hex(bytes)),
            Self::Date(bytes) => format!("date {}", hex(bytes)),
            Self::Time(bytes) => format!("time {}", hex(bytes)),
            Self::DontCare => String::from("anything"),
            Self::Enum(value) => format!("enum {value}"),
            Self::Signed(value, width) => format!("int{} {value}", width * 8),
            Self::Unsigned(value, width) => format!("uint{} {value}", width * 8),
            number => number.decimal().map_or_else(|| String::from("not a number"), |d| d.to_string()),
        }
    }
}

/// `A-B:C.D.E*F` of six bytes.
pub fn obis_text(bytes: &[u8]) -> String {
    let [_, _, _, _, _, _] = bytes else { return hex(bytes) };
    let mut out = String::with_capacity(24);
    for (byte, mark) in bytes.iter().zip(["-", ":", ".", ".", "*", ""]) {
        // By hand: this runs once a value, and formatting takes longer than decoding.
        let (hundreds, tens) = (byte / 100, byte / 10 % 10);
        if hundreds > 0 {
            out.push(char::from(b'0' + hundreds));
        }
        if hundreds > 0 || tens > 0 {
            out.push(char::from(b'0' + tens));
        }
        out.push(char::from(b'0' + byte % 10));
        out.push_str(mark);
    }
    out
}

/// The type of a compact array's elements.
enum Kind {
    Plain(u8),
    Array(usize, alloc::boxed::Box<Kind>),
    Structure(Vec<Kind>),
}

impl Kind {
    fn read(cursor: &mut Cursor<'_>, depth: usize) -> Option<Self> {
        let depth = depth.checked_sub(1)?;
        Some(match cursor.u8()? {
            1 => Self::Array(usize::from(cursor.u16()?), alloc::boxed::Box::new(Self::read(cursor, depth)?)),
            2 => {
                let count = length(cursor)?;
                (count <= cursor.left()).then_some(())?;
                Self::Structure((0..count).map(|_| Self::read(cursor, depth)).collect::<Option<_>>()?)
            }
            19 => return None,
            plain => Self::Plain(plain),
        })
    }

    fn value<'a>(&self, cursor: &mut Cursor<'a>, depth: usize) -> Option<Value<'a>> {
        let depth = depth.checked_sub(1)?;
        match self {
            Self::Plain(tag) => Value::untagged(*tag, cursor, depth),
            Self::Array(count, kind) => {
                (*count <= cursor.left()).then_some(())?;
                Some(Value::Array((0..*count).map(|_| kind.value(cursor, depth)).collect::<Option<_>>()?))
            }
            Self::Structure(kinds) => {
                Some(Value::Structure(kinds.iter().map(|kind| kind.value(cursor, depth)).collect::<Option<_>>()?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn every_type_survives_writing_and_reading() {
        let value = Value::Structure(vec![
            Value::Null,
            Value::Boolean(true),
            Value::Bits(10, &[0xFF, 0xC0]),
            Value::Signed(-5, 4),
            Value::Unsigned(7, 4),
            Value::Octets(&[1, 0, 1, 8, 0, 255]),
            Value::Visible(b"A-4711"),
            Value::Utf8(b"A"),
            Value::Bcd(0x42),
            Value::Signed(-1, 1),
            Value::Signed(-300, 2),
            Value::Unsigned(200, 1),
            Value::Unsigned(60_000, 2),
            Value::Signed(i64::MIN, 8),
            Value::Unsigned(u64::MAX, 8),
            Value::Enum(30),
            Value::Float32(0x4365_E666),
            Value::Float64(0),
            Value::DateTime(&[0; 12]),
            Value::Date(&[0; 5]),
            Value::Time(&[0; 4]),
            Value::DontCare,
            Value::Array(vec![Value::Unsigned(1, 1), Value::Unsigned(2, 1)]),
        ]);
        let bytes = value.encoded();
        assert_eq!(Value::whole(&bytes), Some(value));
        for cut in 0..bytes.len() {
            assert_eq!(Value::whole(&bytes[..cut]), None);
        }
    }

    #[test]
    fn a_compact_array_carries_its_type_once() {
        let bytes = [19, 2, 2, 18, 17, 6, 0, 1, 9, 0, 2, 8];
        let rows = vec![
            Value::Structure(vec![Value::Unsigned(1, 2), Value::Unsigned(9, 1)]),
            Value::Structure(vec![Value::Unsigned(2, 2), Value::Unsigned(8, 1)]),
        ];
        assert_eq!(Value::whole(&bytes), Some(Value::CompactArray(rows)));
        assert_eq!(Value::whole(&[19, 0, 2, 0, 0]), None, "a type without bytes");
    }

    #[test]
    fn codes_are_written_in_decimal() {
        assert_eq!(obis_text(&[1, 0, 21, 7, 105, 255]), "1-0:21.7.105*255");
        assert_eq!(obis_text(&[0, 10, 100, 200, 9, 0]), "0-10:100.200.9*0");
    }

    #[test]
    fn a_lie_about_the_length_reserves_nothing() {
        assert_eq!(Value::whole(&[1, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 0]), None);
        let deep = [2, 1].repeat(40);
        assert_eq!(Value::whole(&deep), None);
    }
}
