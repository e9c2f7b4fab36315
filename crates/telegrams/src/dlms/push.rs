//! What a meter pushes: DataNotification `0F`, plain or protected, in the layouts that makers and operators invented.
//!
//! Five layouts occur: OBIS code, value, scaler and unit; OBIS code and value; positions without codes; a list of objects
//! first and then their values; attribute descriptors without tags. A value without a scaler needs a [`Layout`] from a
//! description file: what it counts is not in the telegram.

use alloc::{format, string::String, sync::Arc, vec::Vec};
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
    /// Elements of the outermost structure.
    pub body: Value<'a>,
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
pub fn plain(apdu: &[u8], keys: Option<&Keys>) -> Result<(Vec<u8>, Option<security::Opened>), Fault> {
    match apdu.first() {
        Some(0xDB | 0xDC) => {
            let opened = security::open_general_glo(apdu, keys.ok_or(Fault::KeyMissing)?)?;
            Ok((opened.plain.clone(), Some(opened)))
        }
        Some(0x0F) => Ok((apdu.to_vec(), None)),
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
        let (body, items, form) = match Value::whole(cursor.rest()) {
            Some(body) => {
                let mut items = Vec::new();
                collect(&body, &mut items);
                let elements = body.items().unwrap_or_default();
                let form = match elements.first().and_then(Value::obis) {
                    _ if object_list(elements).is_some() => Form::ObjectList,
                    Some(obis) if is_push_setup(&obis) => Form::PushSetup,
                    _ => Form::Plain,
                };
                (body, items, form)
            }
            None => (Value::Null, untagged_descriptors(cursor.rest())?, Form::Untagged),
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
        let values: Vec<_> = if self.has_codes() {
            self.items.iter().map(|item| (item.obis, item, None)).collect()
        } else {
            let placed = layout.positions.iter().zip(&self.items);
            placed.map(|(p, item)| (p.map(|p| p.obis), item, p.map(|p| p.exponent))).collect()
        };
        let readings = values.into_iter().filter_map(|(obis, item, exponent)| {
            let obis = obis?;
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
        });
        readings.collect()
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
        if self.body != Value::Null {
            return self.body.shown(0);
        }
        let lines = self.items.iter().map(|item| {
            format!("{} {}\n", item.obis.map_or_else(String::new, |obis| obis_text(&obis)), item.value.shown(0))
        });
        lines.collect()
    }
}

/// Gathers leaves: an octet string of six that is an OBIS code names the value behind it.
fn collect<'a>(value: &Value<'a>, out: &mut Vec<Item<'a>>) {
    let Some(items) = value.items() else {
        out.push(Item { obis: None, value: value.clone(), scale: None });
        return;
    };
    if let Some(paired) = object_list(items) {
        out.extend(paired);
        return;
    }
    let mut at = 0;
    while let Some(item) = items.get(at) {
        let next = items.get(at + 1);
        match (item.obis().filter(is_code), next) {
            (Some(obis), Some(next)) if next.items().is_none() => {
                let scale = items.get(at + 2).and_then(scaler_unit);
                at += if scale.is_some() { 3 } else { 2 };
                out.push(Item { obis: Some(obis), value: next.clone(), scale });
            }
            _ => {
                collect(item, out);
                at += 1;
            }
        }
    }
}

/// Six bytes that are the code of an object and not a text: media 0 to 15, no billing period or 255.
fn is_code(obis: &[u8; 6]) -> bool {
    !is_push_setup(obis)
        && obis[0] <= 15
        && (obis[5] == 255 || obis[5] <= 99)
        && !obis.iter().all(|byte| (b'0'..=b'z').contains(byte))
}

/// The code of a push setup says who pushes and names no value behind it.
fn is_push_setup(obis: &[u8; 6]) -> bool {
    obis[0] == 0 && obis[2..4] == [25, 9]
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

/// A push that begins with its own object list `{class, code, attribute, index}…`, then one value for each.
fn object_list<'a>(items: &[Value<'a>]) -> Option<Vec<Item<'a>>> {
    let list = items.first()?.items()?;
    let codes = list.iter().map(|entry| match entry.items()? {
        [Value::Unsigned(_, 2), code, Value::Signed(..), Value::Unsigned(..)] => code.obis(),
        _ => None,
    });
    let codes: Vec<[u8; 6]> = codes.collect::<Option<_>>()?;
    // The list itself may be its own first entry.
    let values = match codes.len() {
        0 => return None,
        n if n == items.len() => items,
        n if n + 1 == items.len() => &items[1..],
        _ => return None,
    };
    Some(
        codes
            .into_iter()
            .zip(values)
            .map(|(obis, v)| Item { obis: Some(obis), value: v.clone(), scale: None })
            .collect(),
    )
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
