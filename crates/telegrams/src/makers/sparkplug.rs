//! Sparkplug B (Eclipse, 3.0): protobuf payloads; names and types come from the BIRTH, data carries aliases.
//!
//! An alias without a BIRTH is an error that asks for a rebirth: its value could be anything. The wire form of protobuf is read by hand,
//! six field kinds are all that occurs.

use std::collections::BTreeMap;

use metering::Timestamp;

use crate::{Decimal, Fault, Reading, bytes::Cursor};

/// What BIRTH messages have said: (edge node, device, alias) ▸ name, type and unit.
#[derive(Debug, Default)]
pub struct Births {
    aliases: BTreeMap<(String, u64), Identity>,
    /// Units of metrics without an alias, by their name.
    units: BTreeMap<(String, String), String>,
}

/// What a metric is.
#[derive(Clone, Debug, Default)]
struct Identity {
    name: String,
    datatype: u32,
    unit: String,
}

/// One metric.
#[derive(Clone, Debug, Default)]
struct Metric {
    name: Option<String>,
    alias: Option<u64>,
    timestamp: Option<u64>,
    datatype: u32,
    is_null: bool,
    value: Option<Raw>,
    /// Property `engUnit`.
    unit: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Raw {
    Int(u32),
    Long(u64),
    Float(u32),
    Double(u64),
    Other,
}

impl Births {
    /// The readings of one message; `place` is the edge node and perhaps the device.
    pub fn message(
        &mut self,
        [_group, kind]: [&str; 2],
        place: &[&str],
        payload: &[u8],
    ) -> Result<Vec<Reading>, Fault> {
        let birth = matches!(kind, "NBIRTH" | "DBIRTH");
        if !birth && !matches!(kind, "NDATA" | "DDATA") {
            return Ok(Vec::new());
        }
        let meter = place.join("/");
        let (timestamp, metrics) = payload_metrics(payload).ok_or(Fault::structure("not a payload of Sparkplug B"))?;
        if birth {
            self.aliases.retain(|(of, _), _| *of != meter);
            self.units.retain(|(of, _), _| *of != meter);
        }
        let mut out = Vec::new();
        for metric in metrics {
            let Identity { name, datatype, unit } = self.identity(&meter, &metric, birth)?;
            let Some(value) = metric.value.filter(|_| !metric.is_null) else { continue };
            let Some(value) = number(value, datatype).filter(|_| name != "bdSeq") else { continue };
            let ms = metric.timestamp.or(timestamp);
            let time = ms.and_then(|ms| i64::try_from(ms / 1000).ok()).map(Timestamp);
            out.push(Reading::new(name, value, unit).of(Some(meter.as_str().into())).at(time));
        }
        Ok(out)
    }

    fn identity(&mut self, meter: &str, metric: &Metric, birth: bool) -> Result<Identity, Fault> {
        let full = self.aliases.len() + self.units.len() >= super::Devices::MAX;
        if let (Some(name), true) = (&metric.name, birth) {
            let unit = metric.unit.clone().unwrap_or_default();
            let identity = Identity { name: name.clone(), datatype: metric.datatype, unit };
            match metric.alias {
                Some(alias) if !full => drop(self.aliases.insert((meter.into(), alias), identity.clone())),
                None if !full && !identity.unit.is_empty() => {
                    self.units.insert((meter.into(), name.clone()), identity.unit.clone());
                }
                _ => {}
            }
            return Ok(identity);
        }
        let known = metric.alias.and_then(|alias| self.aliases.get(&(meter.into(), alias)));
        match (known, &metric.name) {
            (Some(identity), _) => Ok(identity.clone()),
            (None, Some(name)) => {
                let unit = metric.unit.clone().or_else(|| self.units.get(&(meter.into(), name.clone())).cloned());
                Ok(Identity { name: name.clone(), datatype: metric.datatype, unit: unit.unwrap_or_default() })
            }
            (None, None) => Err(Fault::structure(
                "an alias that no BIRTH named: ask the node for a rebirth (NCMD Node Control/Rebirth)",
            )),
        }
    }
}

/// Number of a metric; truth values and texts measure nothing.
fn number(raw: Raw, datatype: u32) -> Option<Decimal> {
    let small = |value: u32, bits: u32| {
        let shift = 32 - bits;
        i64::from((value << shift).cast_signed() >> shift)
    };
    match (raw, datatype) {
        (Raw::Int(value), 1) => Some(Decimal::new(small(value, 8), 0)),
        (Raw::Int(value), 2) => Some(Decimal::new(small(value, 16), 0)),
        (Raw::Int(value), 3) => Some(Decimal::new(small(value, 32), 0)),
        (Raw::Int(value), _) => Some(Decimal::new(i64::from(value), 0)),
        (Raw::Long(value), 1..=4) => Some(Decimal::new(value.cast_signed(), 0)),
        // 13 is a time.
        (Raw::Long(_), 13) => None,
        (Raw::Long(value), _) => Decimal::from_u64(value),
        (Raw::Float(bits), _) => Decimal::from_f32_bits(bits),
        (Raw::Double(bits), _) => Decimal::from_f64_bits(bits),
        (Raw::Other, _) => None,
    }
}

/// A field of protobuf.
enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

fn varint(cursor: &mut Cursor<'_>) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = cursor.u8()?;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn field<'a>(cursor: &mut Cursor<'a>) -> Option<(u64, Field<'a>)> {
    let key = varint(cursor)?;
    let value = match key & 7 {
        0 => Field::Varint(varint(cursor)?),
        1 => Field::Fixed64(u64::from_le_bytes(cursor.array()?)),
        2 => {
            let count = usize::try_from(varint(cursor)?).ok()?;
            Field::Bytes(cursor.take(count)?)
        }
        5 => Field::Fixed32(u32::from_le_bytes(cursor.array()?)),
        _ => return None,
    };
    Some((key >> 3, value))
}

fn payload_metrics(payload: &[u8]) -> Option<(Option<u64>, Vec<Metric>)> {
    let mut cursor = Cursor::new(payload);
    let (mut timestamp, mut metrics) = (None, Vec::new());
    while !cursor.is_empty() {
        match field(&mut cursor)? {
            (1, Field::Varint(ms)) => timestamp = Some(ms),
            (2, Field::Bytes(bytes)) => metrics.push(metric(bytes)?),
            _ => {}
        }
    }
    Some((timestamp, metrics))
}

fn metric(bytes: &[u8]) -> Option<Metric> {
    let mut cursor = Cursor::new(bytes);
    let mut out = Metric::default();
    while !cursor.is_empty() {
        match field(&mut cursor)? {
            (1, Field::Bytes(name)) => out.name = Some(core::str::from_utf8(name).ok()?.into()),
            (2, Field::Varint(alias)) => out.alias = Some(alias),
            (3, Field::Varint(ms)) => out.timestamp = Some(ms),
            (4, Field::Varint(kind)) => out.datatype = u32::try_from(kind).ok()?,
            (7, Field::Varint(null)) => out.is_null = null != 0,
            (9, Field::Bytes(properties)) => out.unit = unit(properties)?,
            (10, Field::Varint(value)) => out.value = Some(Raw::Int(u32::try_from(value & 0xFFFF_FFFF).ok()?)),
            (11, Field::Varint(value)) => out.value = Some(Raw::Long(value)),
            (12, Field::Fixed32(bits)) => out.value = Some(Raw::Float(bits)),
            (13, Field::Fixed64(bits)) => out.value = Some(Raw::Double(bits)),
            (14..=19, _) => out.value = Some(Raw::Other),
            _ => {}
        }
    }
    Some(out)
}

/// The text of the property `engUnit` in a set of properties: keys (1), values (2) in the same order.
fn unit(properties: &[u8]) -> Option<Option<String>> {
    let mut cursor = Cursor::new(properties);
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    while !cursor.is_empty() {
        match field(&mut cursor)? {
            (1, Field::Bytes(key)) => keys.push(key),
            (2, Field::Bytes(value)) => values.push(value),
            _ => {}
        }
    }
    let at = keys.iter().position(|key| key.eq_ignore_ascii_case(b"engUnit"));
    let Some(value) = at.and_then(|at| values.get(at)) else { return Some(None) };
    let mut cursor = Cursor::new(value);
    while !cursor.is_empty() {
        if let (8, Field::Bytes(text)) = field(&mut cursor)? {
            return Some(core::str::from_utf8(text).ok().map(String::from));
        }
    }
    Some(None)
}
