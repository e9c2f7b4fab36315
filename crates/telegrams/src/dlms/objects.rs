//! The objects of a meter as a server shows them: encoded attributes, profiles with rows, a disconnect control.

use alloc::{vec, vec::Vec};

use super::{
    apdu::{Selection, Target},
    axdr::Value,
    time::DateTime,
};
use metering::Timestamp;

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Class.
    pub class: u16,
    /// Its version.
    pub version: u8,
    /// OBIS code.
    pub obis: [u8; 6],
    /// Encoded attributes from 2 on; empty: not readable. Of a profile the first is empty.
    pub attributes: Vec<Vec<u8>>,
    /// Rows of a profile: encoded structures, and their times.
    pub rows: Vec<(Timestamp, Vec<u8>)>,
}

/// Data access results.
pub const UNDEFINED: u8 = 4;
const DENIED: u8 = 3;
const TYPE_UNMATCHED: u8 = 12;
const OTHER: u8 = 250;

/// A contact and what it may do (class 70).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// The contact is closed.
    pub output: bool,
    /// 0 disconnected, 1 connected, 2 ready for reconnection.
    pub control: u8,
    /// Control mode, 0 to 6.
    pub mode: u8,
    /// Somebody has approved switching over this interface.
    pub is_approved: bool,
}

/// A meter's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objects {
    all: Vec<Object>,
    /// Its contact.
    pub disconnect: Disconnect,
}

/// OBIS code of the contact.
pub const DISCONNECT: [u8; 6] = [0, 0, 96, 3, 10, 255];
/// OBIS code of the current association.
pub const ASSOCIATION: [u8; 6] = [0, 0, 40, 0, 0, 255];

impl Objects {
    /// With a closed contact.
    pub fn new(all: Vec<Object>, disconnect: Disconnect) -> Self {
        Self { all, disconnect }
    }

    /// Puts an object, in place of one of the same class and code.
    pub fn put(&mut self, object: Object) {
        self.all.retain(|known| (known.class, known.obis) != (object.class, object.obis));
        self.all.push(object);
    }

    /// Class and code of each object, the contact included.
    pub fn codes(&self) -> impl Iterator<Item = (u16, [u8; 6])> {
        self.all.iter().map(|object| (object.class, object.obis)).chain([(70, DISCONNECT)])
    }

    /// The version of an object's class.
    pub fn version(&self, class: u16, obis: [u8; 6]) -> u8 {
        self.all.iter().find(|object| (object.class, object.obis) == (class, obis)).map_or(0, |object| object.version)
    }

    /// The encoded value of an attribute, or the data access result.
    pub fn get(&self, target: &Target, selection: Option<&Selection<'_>>) -> Result<Vec<u8>, u8> {
        if target.index == 1 {
            return Ok(Value::Octets(&target.obis).encoded());
        }
        match (target.class, target.obis) {
            (70, DISCONNECT) => match target.index {
                2 => Ok(Value::Boolean(self.disconnect.output).encoded()),
                3 => Ok(Value::Enum(self.disconnect.control).encoded()),
                4 => Ok(Value::Enum(self.disconnect.mode).encoded()),
                _ => Err(UNDEFINED),
            },
            (15, ASSOCIATION) if target.index == 2 => Ok(self.list()),
            _ => {
                let object = self.all.iter().find(|object| (object.class, object.obis) == (target.class, target.obis));
                let object = object.ok_or(UNDEFINED)?;
                if object.class == 7 && target.index == 2 {
                    return rows(object, selection);
                }
                let value = object.attributes.get(usize::from(target.index) - 2).ok_or(UNDEFINED)?;
                if value.is_empty() { Err(DENIED) } else { Ok(value.clone()) }
            }
        }
    }

    /// Sets an attribute: only one that is there, with the same type.
    pub fn set(&mut self, target: &Target, value: &[u8]) -> u8 {
        let object = self.all.iter_mut().find(|object| (object.class, object.obis) == (target.class, target.obis));
        let attribute = object.and_then(|object| object.attributes.get_mut(usize::from(target.index).checked_sub(2)?));
        match attribute {
            None => UNDEFINED,
            // Clock and data of the meter's own; registers are not written from outside.
            Some(_) if !matches!(target.class, 1 | 8) => DENIED,
            Some(known) if known.first() != value.first() => TYPE_UNMATCHED,
            Some(known) => {
                *known = value.to_vec();
                0
            }
        }
    }

    /// Calls a method: remote_disconnect (1) and remote_reconnect (2) of the contact.
    pub fn action(&mut self, target: &Target) -> u8 {
        if (target.class, target.obis) != (70, DISCONNECT) {
            return UNDEFINED;
        }
        let contact = &mut self.disconnect;
        if !contact.is_approved || contact.mode == 0 {
            return DENIED;
        }
        match target.index {
            1 => (contact.output, contact.control) = (false, 0),
            // It closes by itself only in modes 2 and 4; in others a person presses the button.
            2 if matches!(contact.mode, 2 | 4) => (contact.output, contact.control) = (true, 1),
            2 if contact.control == 0 => contact.control = 2,
            2 => {}
            _ => return UNDEFINED,
        }
        0
    }

    /// Attribute 2 of the association: class, version, name and no rights of access.
    fn list(&self) -> Vec<u8> {
        let entry = |class: u16, version: u8, obis: &[u8; 6]| {
            let rights = Value::Structure(vec![Value::Array(Vec::new()), Value::Array(Vec::new())]);
            let fields = vec![
                Value::Unsigned(u64::from(class), 2),
                Value::Unsigned(u64::from(version), 1),
                Value::Octets(obis),
                rights,
            ];
            Value::Structure(fields).encoded()
        };
        let mut entries: Vec<Vec<u8>> = self.all.iter().map(|o| entry(o.class, o.version, &o.obis)).collect();
        entries.push(entry(70, 0, &DISCONNECT));
        entries.push(entry(15, 1, &ASSOCIATION));
        array(&entries)
    }
}

fn array(encoded: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![1];
    super::axdr::put_length(&mut out, encoded.len());
    encoded.iter().for_each(|item| out.extend_from_slice(item));
    out
}

/// The buffer of a profile, whole, by range (1) or by entry (2).
fn rows(object: &Object, selection: Option<&Selection<'_>>) -> Result<Vec<u8>, u8> {
    let Some(selection) = selection else {
        return Ok(array(&object.rows.iter().map(|(_, row)| row.clone()).collect::<Vec<_>>()));
    };
    let parameters = Value::whole(selection.parameters).ok_or(OTHER)?;
    let fields = parameters.items().ok_or(OTHER)?;
    let chosen: Vec<Vec<u8>> = match selection.selector {
        1 => {
            let [_column, from, to, ..] = fields else { return Err(OTHER) };
            let time = |value: &Value<'_>| DateTime::parse(value.octets()?)?.to_utc(Some(crate::Zone::UTC));
            let (from, to) = (time(from).ok_or(OTHER)?, time(to).ok_or(OTHER)?);
            object.rows.iter().filter(|(at, _)| from <= *at && *at <= to).map(|(_, row)| row.clone()).collect()
        }
        2 => {
            let number =
                |at: usize| fields.get(at).and_then(Value::decimal).and_then(|d| usize::try_from(d.digits).ok());
            let (from, to) = (number(0).ok_or(OTHER)?, number(1).ok_or(OTHER)?);
            let (first, last) = (number(2).unwrap_or(1), number(3).unwrap_or(0));
            let to = if to == 0 { object.rows.len() } else { to.min(object.rows.len()) };
            let rows = object.rows.get(from.saturating_sub(1)..to).unwrap_or_default();
            rows.iter().map(|(_, row)| columns(row, first, last)).collect::<Option<_>>().ok_or(OTHER)?
        }
        _ => return Err(OTHER),
    };
    Ok(array(&chosen))
}

/// Columns `first` to `last` of a row, counted from 1; 0 is the last.
fn columns(row: &[u8], first: usize, last: usize) -> Option<Vec<u8>> {
    if first <= 1 && last == 0 {
        return Some(row.to_vec());
    }
    let value = Value::whole(row)?;
    let items = value.items()?;
    let last = if last == 0 { items.len() } else { last.min(items.len()) };
    Some(Value::Structure(items.get(first.saturating_sub(1)..last)?.to_vec()).encoded())
}

/// A register: value and `{scaler, unit}`.
pub fn register(obis: [u8; 6], value: u64, scaler: i8, unit: u8) -> Object {
    let scale = Value::Structure(vec![Value::Signed(i64::from(scaler), 1), Value::Enum(unit)]).encoded();
    Object {
        class: 3,
        version: 0,
        obis,
        attributes: vec![Value::Unsigned(value, 4).encoded(), scale],
        rows: Vec::new(),
    }
}

/// A data object.
pub fn data(obis: [u8; 6], value: &Value<'_>) -> Object {
    Object { class: 1, version: 0, obis, attributes: vec![value.encoded()], rows: Vec::new() }
}

/// A clock in UTC.
pub fn clock(at: Timestamp) -> Object {
    let time = DateTime::encode_utc(at);
    let none = |value: Value<'_>| value.encoded();
    let attributes = vec![
        none(Value::Octets(&time)),
        none(Value::Signed(0, 2)),
        none(Value::Unsigned(0, 1)),
        none(Value::Octets(&[0xFF; 12])),
        none(Value::Octets(&[0xFF; 12])),
        none(Value::Signed(0, 1)),
        none(Value::Boolean(false)),
        none(Value::Enum(1)),
    ];
    Object { class: 8, version: 0, obis: [0, 0, 1, 0, 0, 255], attributes, rows: Vec::new() }
}

/// A load profile: columns (clock first) and rows.
pub fn profile(obis: [u8; 6], period_s: u32, columns: &[Target], rows: Vec<(Timestamp, Vec<u8>)>) -> Object {
    let column = |target: &Target| {
        Value::Structure(vec![
            Value::Unsigned(u64::from(target.class), 2),
            Value::Octets(&target.obis),
            Value::Signed(i64::from(target.index), 1),
            Value::Unsigned(0, 2),
        ])
        .encoded()
    };
    let captured = array(&columns.iter().map(column).collect::<Vec<_>>());
    let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    let period = Value::Unsigned(u64::from(period_s), 4).encoded();
    let sort = Value::Enum(1).encoded();
    let object = columns.first().map_or_else(Vec::new, column);
    let entries = Value::Unsigned(count, 4).encoded();
    let attributes = vec![Vec::new(), captured, period, sort, object, entries.clone(), entries];
    Object { class: 7, version: 1, obis, attributes, rows }
}
