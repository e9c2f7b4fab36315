//! Smart Message Language (BSI TR-03109-1, part IV b; SML 1.04): the list of values of German meters.
//!
//! Parsing borrows from the telegram and allocates nothing. `valTime` is mostly a counter of seconds since the meter was
//! switched on, which is no time.

use alloc::{format, string::String, sync::Arc, vec::Vec};
use metering::Timestamp;

use crate::{
    Decimal, Fault, Quality, Reading,
    bytes::{hex, signed_be, unsigned_be},
    checksum,
};

/// One value of the type-length encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A list of so many items, which follow.
    List(usize),
    /// Bytes; empty also means "left out".
    Octets(&'a [u8]),
    /// Truth.
    Boolean(bool),
    /// A signed integer, as many bytes as were sent.
    Signed(&'a [u8]),
    /// An unsigned integer, as many bytes as were sent.
    Unsigned(&'a [u8]),
    /// End of a message.
    End,
}

/// Most nested lists that are followed.
const DEPTH_MAX: usize = 12;

/// Reads items one by one.
#[derive(Clone, Copy, Debug)]
pub struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    /// Over the contents of a frame.
    pub fn new(contents: &'a [u8]) -> Self {
        Self { rest: contents }
    }

    /// The next item; `None` when the bytes end or make no sense.
    #[inline]
    pub fn next_item(&mut self) -> Option<Item<'a>> {
        let (&first, mut tail) = self.rest.split_first()?;
        if first == 0 {
            self.rest = tail;
            return Some(Item::End);
        }
        let (mut length, mut head, mut more) = (usize::from(first & 0x0F), 1, first & 0x80 != 0);
        while more {
            let (&next, after) = tail.split_first()?;
            length = length << 4 | usize::from(next & 0x0F);
            (tail, head, more) = (after, head + 1, next & 0x80 != 0);
            if head > 4 {
                return None;
            }
        }
        let kind = first & 0x70;
        if kind == 0x70 {
            self.rest = tail;
            return Some(Item::List(length));
        }
        let (bytes, tail) = tail.split_at_checked(length.checked_sub(head)?)?;
        self.rest = tail;
        Some(match kind {
            0x00 => Item::Octets(bytes),
            0x40 => Item::Boolean(*bytes.first()? != 0),
            0x50 if (1..=8).contains(&bytes.len()) => Item::Signed(bytes),
            0x60 if (1..=8).contains(&bytes.len()) => Item::Unsigned(bytes),
            _ => return None,
        })
    }

    /// Passes over one item with everything in it.
    pub fn skip(&mut self) -> Option<()> {
        let mut left = 1_usize;
        // Each step consumes a byte, so the loop ends with the bytes.
        while left > 0 {
            left -= 1;
            if let Item::List(count) = self.next_item()? {
                left = left.checked_add(count)?;
            }
        }
        Some(())
    }

    fn list(&mut self, count: usize) -> Option<()> {
        (self.next_item()? == Item::List(count)).then_some(())
    }

    fn octets(&mut self) -> Option<&'a [u8]> {
        match self.next_item()? {
            Item::Octets(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// An unsigned integer, or `None` inside when it was left out.
    fn unsigned(&mut self) -> Option<Option<u64>> {
        match self.next_item()? {
            Item::Unsigned(bytes) => Some(unsigned_be(bytes)),
            Item::Octets([]) => Some(None),
            _ => None,
        }
    }
}

/// One value of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// OBIS code, six bytes for values.
    pub name: &'a [u8],
    /// Status word, when sent.
    pub status: Option<u64>,
    /// Seconds since 1970 when the meter sends a real time.
    pub time: Option<Timestamp>,
    /// DLMS code of the unit.
    pub unit: Option<u8>,
    /// Power of ten.
    pub scaler: i8,
    /// The value.
    pub value: Item<'a>,
}

/// The answer to "get list": who, and its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<'a> {
    /// Number of the meter.
    pub server: &'a [u8],
    /// Its values, those without one left out.
    pub entries: Vec<Entry<'a>>,
}

/// A message that carries no list.
const GET_LIST_RESPONSE: u64 = 0x0701;

/// All lists of a telegram's contents. Every message's own CRC must be right.
pub fn lists(contents: &[u8]) -> Result<Vec<List<'_>>, Fault> {
    let mut items = Items::new(contents);
    let mut out = Vec::new();
    while !items.rest.is_empty() {
        // Padding of old meters stands inside the contents.
        if items.rest.iter().all(|byte| *byte == 0) {
            break;
        }
        if let Some(list) = message(&mut items)? {
            out.push(list);
        }
    }
    Ok(out)
}

fn message<'a>(items: &mut Items<'a>) -> Result<Option<List<'a>>, Fault> {
    let bad = || Fault::structure("not a message of SML");
    let start = items.rest;
    let mut fields = || {
        items.list(6)?;
        items.octets()?;
        items.unsigned()?;
        items.unsigned()?;
        items.list(2)?;
        items.unsigned()?
    };
    let kind = fields().ok_or_else(bad)?;
    let mut body = *items;
    items.skip().ok_or_else(bad)?;
    let covered = &start[..start.len() - items.rest.len()];
    let crc = items.unsigned().flatten().ok_or_else(bad)?;
    let sent = u16::try_from(crc).map_err(|_| bad())?.swap_bytes();
    // One byte of it is left out when it is zero; Holley computes it without the inversions.
    if sent != checksum::x25(covered) && sent != checksum::kermit(covered) {
        return Err(Fault::Checksum("the CRC of the SML message"));
    }
    (items.next_item() == Some(Item::End)).then_some(()).ok_or_else(bad)?;
    if kind != GET_LIST_RESPONSE {
        return Ok(None);
    }
    list(&mut body).map(Some).ok_or_else(|| Fault::structure("not a list of SML values"))
}

fn list<'a>(items: &mut Items<'a>) -> Option<List<'a>> {
    items.list(7)?;
    items.octets()?;
    let server = items.octets()?;
    items.octets()?;
    items.skip()?;
    let Item::List(count) = items.next_item()? else { return None };
    let mut entries = Vec::with_capacity(count.min(items.rest.len() / 8));
    for _ in 0..count {
        if let Some(entry) = entry(items)? {
            entries.push(entry);
        }
    }
    Some(List { server, entries })
}

/// One entry; `None` inside when it carries no value.
fn entry<'a>(items: &mut Items<'a>) -> Option<Option<Entry<'a>>> {
    items.list(7)?;
    let name = items.octets()?;
    let status = items.unsigned()?;
    let time = time(items)?;
    let unit = items.unsigned()?.and_then(|unit| u8::try_from(unit).ok());
    let scaler = match items.next_item()? {
        Item::Signed([scaler]) => i8::from_be_bytes([*scaler]),
        Item::Octets([]) => 0,
        _ => return None,
    };
    let mut whole = *items;
    let value = items.next_item()?;
    if let Item::List(_) = value {
        whole.skip()?;
        *items = whole;
    }
    items.skip()?;
    let left_out = matches!(value, Item::Octets([]) | Item::List(_));
    Some((!left_out).then_some(Entry { name, status, time, unit, scaler, value }))
}

/// `SML_Time`: a counter (no time), a timestamp, or a timestamp with offsets. Some meters leave the choice out.
fn time(items: &mut Items<'_>) -> Option<Option<Timestamp>> {
    match items.next_item()? {
        Item::Octets([]) | Item::Unsigned(_) => Some(None),
        Item::List(2) => {
            let choice = items.unsigned()?;
            let mut inner = *items;
            items.skip()?;
            Some(match (choice?, inner.next_item()?) {
                (2, Item::Unsigned(seconds)) => instant(seconds),
                // Timestamp in UTC, then two offsets in minutes.
                (3, Item::List(3)) => inner.unsigned()?.and_then(|seconds| instant(&seconds.to_be_bytes())),
                _ => None,
            })
        }
        _ => None,
    }
}

/// Seconds since 1970, from 2005 on: smaller numbers count from somewhere else.
fn instant(seconds: &[u8]) -> Option<Timestamp> {
    let seconds = i64::try_from(unsigned_be(seconds)?).ok()?;
    (seconds > 1_104_537_600).then_some(Timestamp(seconds))
}

/// What one model sends otherwise than it means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirk {
    /// This OBIS code (C, D, E) is sent signed and meant unsigned.
    pub unsigned: Option<[u8; 3]>,
    /// Only where the value has at most so many bytes; 0: any.
    pub unsigned_bytes: usize,
}

/// The readings of one list. `quirk` comes from the description that fits the server id.
pub fn readings(list: &List<'_>, quirk: Quirk) -> Vec<Reading> {
    let meter: Arc<str> = hex(list.server).into();
    list.entries.iter().filter_map(|entry| reading(entry, quirk)).map(|r| r.of(Some(meter.clone()))).collect()
}

fn reading(entry: &Entry<'_>, quirk: Quirk) -> Option<Reading> {
    let &[_, _, c, d, e, _] = entry.name else { return None };
    let unit = crate::dlms::units::name(entry.unit?)?;
    let unsigned = quirk.unsigned == Some([c, d, e]);
    let digits = match entry.value {
        Item::Signed(bytes) if unsigned && (quirk.unsigned_bytes == 0 || bytes.len() <= quirk.unsigned_bytes) => {
            i64::try_from(unsigned_be(bytes)?).ok()?
        }
        Item::Signed(bytes) => signed_be(bytes)?,
        Item::Unsigned(bytes) => i64::try_from(unsigned_be(bytes)?).ok()?,
        _ => return None,
    };
    let mut reading = Reading::new(crate::dlms::axdr::obis_text(entry.name), Decimal::new(digits, entry.scaler), unit);
    reading.time = entry.time;
    // A locked meter (no PIN entered) counts in whole kWh.
    if d == 8 && entry.scaler >= 3 {
        reading.quality = Quality::Reduced;
    }
    Some(reading)
}

/// The tree of a telegram as indented lines, for a person.
pub fn tree(contents: &[u8]) -> String {
    let mut items = Items::new(contents);
    let mut out = String::new();
    let mut open = Vec::new();
    while let Some(item) = items.next_item() {
        let indent = open.len().min(DEPTH_MAX) * 2;
        let text = match item {
            Item::List(count) => format!("list of {count}"),
            Item::Octets([]) => String::from("left out"),
            Item::Octets(bytes) => format!("bytes {}", hex(bytes)),
            Item::Boolean(value) => format!("boolean {value}"),
            Item::Signed(bytes) => format!("signed {}", signed_be(bytes).unwrap_or_default()),
            Item::Unsigned(bytes) => format!("unsigned {}", unsigned_be(bytes).unwrap_or_default()),
            Item::End => String::from("end of message"),
        };
        out.push_str(&format!("{:indent$}{text}\n", ""));
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        if let Item::List(count) = item
            && count > 0
        {
            open.push(count);
        }
        while open.last() == Some(&0_usize) {
            open.pop();
        }
    }
    out
}
