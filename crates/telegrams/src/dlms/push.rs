//! What a meter pushes: DataNotification `0F`, plain or protected, in the layouts that makers and operators invented.
//!
//! Five layouts occur: OBIS code, value, scaler and unit; OBIS code and value; positions without codes; a list of objects
//! first and then their values; attribute descriptors without tags. A value without a scaler needs a [`Layout`] from a
//! description file: what it counts is not in the telegram.

mod items;

use alloc::{borrow::Cow, format, string::String, sync::Arc, vec::Vec};
use metering::Timestamp;

use super::{
    axdr::{Value, length, obis_text},
    security,
    time::DateTime,
    units,
};
use crate::{Decimal, Fault, Reading, bytes::Cursor, cipher::Keys, zone::Zone};

/// A notification after decryption.
#[derive(Debug, PartialEq)]
pub struct Notification<'a> {
    /// The time in its head.
    pub time: Option<DateTime>,
    /// Its body.
    pub items: Vec<Item<'a>>,
    /// The bytes of its body.
    pub body: &'a [u8],
    /// How codes and values stand.
    pub form: Form,
}

/// How values and their codes stand in a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Code and value beside each other, or values alone.
    Plain,
    /// A list of objects first, then their values.
    ObjectList,
    /// Descriptors of attributes without tags.
    Untagged,
    /// The code of the push setup, the meter's number, then values by position.
    PushSetup,
}

/// One value of a notification.
#[derive(Clone, Debug, PartialEq)]
pub struct Item<'a> {
    /// OBIS code, when the telegram gives one.
    pub obis: Option<[u8; 6]>,
    /// The value.
    pub value: Value<'a>,
    /// Power of ten and unit code, when the telegram gives them.
    pub scale: Option<(i8, u8)>,
}

/// What a description file says about a layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Powers of ten of values without a scaler, by kind of unit.
    pub scale: Scale,
    /// OBIS codes by position, for telegrams without codes; `None`: not a value.
    pub positions: Vec<Option<Position>>,
    /// Position of the meter's number.
    pub meter_position: Option<usize>,
    /// OBIS codes of the meter's number, before the usual ones.
    pub meter_obis: Vec<[u8; 6]>,
    /// The clock object in the body counts: `false` where its deviation contradicts its time.
    pub trust_clock: bool,
    /// The zone of the clock, where the operator's is not given.
    pub zone: Option<Zone>,
}

/// Powers of ten by kind of unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    /// Wh, varh, VAh.
    pub energy: i8,
    /// W, var, VA.
    pub power: i8,
    /// A.
    pub current: i8,
    /// V.
    pub voltage: i8,
    /// Pure numbers.
    pub factor: i8,
    /// Hz.
    pub frequency: i8,
}

/// A position and what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// OBIS code.
    pub obis: [u8; 6],
    /// Power of ten.
    pub exponent: i8,
}

impl Scale {
    fn of(&self, unit: &str) -> i8 {
        match unit {
            "Wh" | "varh" | "VAh" => self.energy,
            "W" | "var" | "VA" => self.power,
            "A" => self.current,
            "V" => self.voltage,
            "Hz" => self.frequency,
            _ => self.factor,
        }
    }
}

/// The plain notification of an APDU, decrypted when it is protected.
pub fn plain<'a>(apdu: &'a [u8], keys: Option<&Keys>) -> Result<(Cow<'a, [u8]>, Option<security::Opened>), Fault> {
    match apdu.first() {
        Some(0xDB | 0xDC) => {
            let mut opened = security::open_general_glo(apdu, keys.ok_or(Fault::KeyMissing)?)?;
            Ok((Cow::Owned(core::mem::take(&mut opened.plain)), Some(opened)))
        }
        Some(0x0F) if keys.is_some() => Err(Fault::Unprotected("a push in the clear")),
        Some(0x0F) => Ok((Cow::Borrowed(apdu), None)),
        _ => Err(Fault::structure("neither a DataNotification nor a protected one")),
    }
}

impl<'a> Notification<'a> {
    /// Reads a plain notification; every byte must belong to it.
    pub fn parse(apdu: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(apdu);
        (cursor.u8()? == 0x0F).then_some(())?;
        cursor.take(4)?;
        // Kaifa in Norway puts a tag before the time.
        if cursor.rest().starts_with(&[9, 12]) {
            cursor.u8();
        }
        let count = length(&mut cursor)?;
        let time = match count {
            0 => None,
            12 => DateTime::parse(cursor.take(12)?),
            _ => return None,
        };
        let body = cursor.rest();
        let (items, form) = match items::of(body) {
            Some(plain) => plain,
            None => (untagged_descriptors(body)?, Form::Untagged),
        };
        Some(Self { time, items, body, form })
    }

    /// The texts in the telegram, by which models are told apart.
    pub fn texts(&self) -> Vec<&'a str> {
        self.items.iter().filter_map(|item| item.value.text_value()).collect()
    }

    /// Whether every value comes with scaler and unit, so that no description is needed.
    pub fn is_self_contained(&self) -> bool {
        let mut values = self.items.iter().filter(|item| item.value.decimal().is_some()).peekable();
        values.peek().is_some() && values.all(|item| item.obis.is_some() && item.scale.is_some())
    }

    /// Whether any value comes with an OBIS code.
    pub fn has_codes(&self) -> bool {
        self.items.iter().any(|item| item.obis.is_some())
    }

    /// The values as readings. Values whose unit is not known are left out.
    pub fn readings(&self, layout: &Layout, zone: Option<Zone>) -> Vec<Reading> {
        let zone = zone.or(layout.zone);
        let time = self.time.filter(|_| layout.trust_clock).and_then(|time| time.to_utc(zone));
        let time = time.or_else(|| self.clock_object(layout, zone));
        let meter = self.meter(layout);
        let of = |obis: [u8; 6], item: &Item<'_>, exponent: Option<i8>| {
            let (exponent, unit) = match item.scale {
                Some((exponent, code)) => (exponent, units::name(code)?),
                None => {
                    let unit = units::implied(obis)?;
                    (exponent.unwrap_or_else(|| layout.scale.of(unit)), unit)
                }
            };
            let value = item.value.decimal()?.scaled(exponent)?;
            let unit = Some(unit).filter(|unit| !units::is_duration(unit))?;
            Some(Reading::new(obis_text(&obis), value, unit).of(meter.clone()).at(time))
        };
        let mut out = Vec::with_capacity(self.items.len());
        if self.has_codes() {
            out.extend(self.items.iter().filter_map(|item| of(item.obis?, item, None)));
        } else {
            let placed = layout.positions.iter().zip(&self.items);
            out.extend(placed.filter_map(|(place, item)| {
                let place = (*place)?;
                of(place.obis, item, Some(place.exponent))
            }));
        }
        out
    }

    fn clock_object(&self, layout: &Layout, zone: Option<Zone>) -> Option<Timestamp> {
        layout.trust_clock.then_some(())?;
        let clock = self.items.iter().find(|item| item.obis.is_some_and(|o| o[0] <= 1 && o[2..5] == [1, 0, 0]))?;
        DateTime::parse(clock.value.octets()?)?.to_utc(zone)
    }

    fn meter(&self, layout: &Layout) -> Option<Arc<str>> {
        if let Some(at) = layout.meter_position {
            let item = if at == usize::MAX { self.items.last() } else { self.items.get(at) };
            if let Some(text) = item.and_then(|item| item.value.text_value()) {
                return Some(text.trim().into());
            }
        }
        const USUAL: [[u8; 6]; 4] =
            [[0, 0, 96, 1, 0, 255], [1, 1, 0, 0, 5, 255], [1, 0, 0, 0, 5, 255], [0, 0, 42, 0, 0, 255]];
        let by_code = layout.meter_obis.iter().chain(&USUAL).find_map(|wanted| {
            let item = self.items.iter().find(|item| item.obis.as_ref() == Some(wanted))?;
            item.value.text_value().map(|text| text.trim().into())
        });
        // Several Austrian operators put the number behind all values, without a code.
        by_code.or_else(|| {
            let last = self.items.last().filter(|item| item.obis.is_none() && self.has_codes())?;
            let text = last.value.text_value()?.trim();
            let is_number = text.len() >= 6 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
            is_number.then(|| text.into())
        })
    }

    /// The structure as a person reads it.
    pub fn shown(&self) -> String {
        if let Some(body) = Value::whole(self.body) {
            return body.shown(0);
        }
        let lines = self.items.iter().map(|item| {
            format!("{} {}\n", item.obis.map_or_else(String::new, |obis| obis_text(&obis)), item.value.shown(0))
        });
        lines.collect()
    }
}

/// `{scaler, unit}`.
pub fn scaler_unit(value: &Value<'_>) -> Option<(i8, u8)> {
    match value {
        Value::Structure(items) => match items.as_slice() {
            [Value::Signed(scaler, 1), Value::Enum(unit)] => Some((i8::try_from(*scaler).ok()?, *unit)),
            _ => None,
        },
        _ => None,
    }
}

/// `02 02 type, array of {class code attribute (without tags), value}`: two Czech operators.
fn untagged_descriptors<'a>(body: &'a [u8]) -> Option<Vec<Item<'a>>> {
    let mut cursor = Cursor::new(body);
    (cursor.take(2)? == [2, 2]).then_some(())?;
    Value::read(&mut cursor)?;
    (cursor.u8()? == 1).then_some(())?;
    let count = length(&mut cursor)?;
    (count <= cursor.left()).then_some(())?;
    let mut out = Vec::new();
    for _ in 0..count {
        (cursor.take(2)? == [2, 2]).then_some(())?;
        let _class = cursor.u16()?;
        let obis = cursor.array()?;
        let _attribute = cursor.u8()?;
        out.push(Item { obis: Some(obis), value: Value::read(&mut cursor)?, scale: None });
    }
    cursor.is_empty().then_some(out)
}

/// A decimal of a value with its scaler.
pub fn scaled(value: &Value<'_>, scale: Option<(i8, u8)>) -> Option<Decimal> {
    value.decimal()?.scaled(scale.map_or(0, |(exponent, _)| exponent))
}
