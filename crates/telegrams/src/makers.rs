//! What makers' devices publish: MQTT topics and HTTP requests with JSON or protobuf, to readings.
//!
//! A device says its units, names and aliases in other messages than its values, so messages of a connection are fed in order.
//! State is bounded: [`Devices::MAX`] of each kind.

mod emon;
mod homeassistant;
mod shelly;
mod sparkplug;
mod tasmota;
mod thingsboard;
mod zigbee2mqtt;

use std::collections::BTreeMap;

use metering::Timestamp;
use serde_json::Value;

use crate::{Decimal, Fault, Reading, Zone, models::Models};

/// One message of MQTT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// One request of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Path with its query.
    pub path: String,
    /// Body.
    pub body: Vec<u8>,
}

/// What devices of one connection have said so far.
pub struct Devices<'a> {
    models: &'a Models,
    zone: Option<Zone>,
    discovered: homeassistant::Discovered,
    births: sparkplug::Births,
    /// Device ▸ its own clock, for values without a time (Shelly).
    clocks: BTreeMap<String, Timestamp>,
}

impl<'a> Devices<'a> {
    /// Most devices, entities or aliases that are remembered.
    pub const MAX: usize = 4096;

    /// At the beginning of a connection. `zone` is that of clocks without a zone.
    pub fn new(models: &'a Models, zone: Option<Zone>) -> Self {
        Self {
            models,
            zone,
            discovered: homeassistant::Discovered::default(),
            births: sparkplug::Births::default(),
            clocks: BTreeMap::new(),
        }
    }

    /// The readings of one message. A message without a value (availability, configuration) gives none.
    pub fn message(&mut self, message: &Message) -> Result<Vec<Reading>, Fault> {
        let segments: Vec<&str> = message.topic.split('/').collect();
        match segments.as_slice() {
            ["spBv1.0", group, kind, rest @ ..] if !rest.is_empty() => {
                self.births.message([*group, *kind], rest, &message.payload)
            }
            // The prefix is the user's choice; what is behind it is not.
            [_, "sensor" | "device", .., "config"] if segments.len() >= 4 => {
                self.discovered.configure(&segments, &message.payload).map(|()| Vec::new())
            }
            ["homeassistant", .., "config"] => Ok(Vec::new()),
            ["v1", rest @ ..] => thingsboard::mqtt(rest, &json(&message.payload)?, self.models),
            // `%prefix%/%topic%/` by default, `%topic%/%prefix%/` where the user chose so; a topic may have several levels.
            ["tele" | "stat", device @ .., what] | [device @ .., "tele" | "stat", what] if !device.is_empty() => {
                let device = device.join("/");
                let Some(value) = json_or_none(&message.payload) else {
                    return Ok(tasmota::plain(&device, what, &message.payload));
                };
                Ok(tasmota::readings(&message.topic, &device, what, &value, self.models, self.zone))
            }
            ["shellies", device, rest @ ..] => Ok(shelly::gen1(device, rest, &message.payload)),
            [prefix @ .., "status", component] if !prefix.is_empty() && shelly::is_component(component) => {
                let device = prefix.join("/");
                let value = json(&message.payload)?;
                if let Some(clock) = shelly::clock(component, &value) {
                    self.remember_clock(&device, clock);
                }
                Ok(shelly::status(&device, component, &value))
            }
            [.., "events", "rpc"] => {
                let value = json(&message.payload)?;
                let device = value.get("src").and_then(Value::as_str).unwrap_or(segments[0]);
                Ok(shelly::notification(device, &value))
            }
            [.., "rpc"] => {
                let Some(value) = json_or_none(&message.payload) else { return Ok(Vec::new()) };
                Ok(shelly::answer(&value))
            }
            ["zigbee2mqtt", "bridge", ..] | ["zigbee2mqtt", .., "availability" | "set" | "get"] => Ok(Vec::new()),
            ["zigbee2mqtt", device @ ..] => match json_or_none(&message.payload) {
                Some(value) if value.is_object() => Ok(zigbee2mqtt::readings(&device.join("/"), &value)),
                // `output: attribute` publishes each value by itself.
                _ => Ok(zigbee2mqtt::attribute(device, &message.payload)),
            },
            ["emon", node, name] => Ok(emon::value(node, name, &message.payload)),
            ["emon", node] => Ok(json_or_none(&message.payload).map_or(Vec::new(), |value| emon::node(node, &value))),
            _ => self.discovered.state(&message.topic, &message.payload),
        }
    }

    /// The readings of one HTTP request.
    pub fn request(&mut self, request: &Request) -> Result<Vec<Reading>, Fault> {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        match segments.as_slice() {
            ["api", "v1", token, "telemetry"] => thingsboard::http(token, &json(&request.body)?, self.models),
            ["api", "v1", _, "attributes"] => Ok(Vec::new()),
            [.., "input", "post" | "post.json"] => emon::post(None, query, &request.body),
            [.., "input", "post" | "post.json", node] => emon::post(Some(node), query, &request.body),
            [.., "input", "bulk" | "bulk.json"] => emon::bulk(query, &request.body),
            _ => Err(Fault::Unsupported(format!("a request to {}", segments.first().copied().unwrap_or("/")).into())),
        }
    }

    /// Values without a time get the clock of their device, when it has told it since.
    pub fn with_clocks(&self, readings: &mut [Reading]) {
        for reading in readings.iter_mut().filter(|reading| reading.time.is_none()) {
            let device = reading.meter.as_deref().and_then(|meter| meter.split('#').next());
            reading.time = device.and_then(|device| self.clocks.get(device).copied());
        }
    }

    fn remember_clock(&mut self, device: &str, clock: Timestamp) {
        if self.clocks.len() < Self::MAX || self.clocks.contains_key(device) {
            self.clocks.insert(device.into(), clock);
        }
    }
}

/// JSON of a payload.
fn json(payload: &[u8]) -> Result<Value, Fault> {
    serde_json::from_slice(payload).map_err(|why| Fault::structure(format!("not JSON: {why}")))
}

fn json_or_none(payload: &[u8]) -> Option<Value> {
    serde_json::from_slice(payload).ok()
}

/// A number, or text that is one. `nan`, `unavailable`, `null` are none.
fn decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::Number(number) => Decimal::parse(&number.to_string()),
        Value::String(text) => Decimal::parse(text),
        _ => None,
    }
}

/// Text of a plain payload as a number.
fn plain_decimal(payload: &[u8]) -> Option<Decimal> {
    Decimal::parse(core::str::from_utf8(payload).ok()?)
}

/// A switch: on is 1.
fn relay(text: &str) -> Option<Decimal> {
    match text {
        "on" | "ON" | "On" => Some(Decimal::new(1, 0)),
        "off" | "OFF" | "Off" => Some(Decimal::new(0, 0)),
        _ => None,
    }
}

/// Whole seconds of a number of milliseconds.
fn milliseconds(value: &Value) -> Option<Timestamp> {
    let ms = decimal(value)?.scaled(-3)?;
    Some(Timestamp(ms.digits.checked_div_euclid(10_i64.checked_pow(u32::try_from(-i16::from(ms.exponent)).ok()?)?)?))
}

/// Whole seconds of a number of seconds.
fn seconds(value: &Value) -> Option<Timestamp> {
    let s = decimal(value)?;
    if s.exponent >= 0 {
        return s.rounded().map(Timestamp);
    }
    let divisor = 10_i64.checked_pow(u32::from(s.exponent.unsigned_abs()))?;
    Some(Timestamp(s.digits.div_euclid(divisor)))
}

/// RFC 3339, or local time of a zone.
pub(crate) fn instant(text: &str, zone: Option<Zone>) -> Option<Timestamp> {
    crate::files::clock::iso(text, zone)
}

/// Blank and `%20`, `+`, `%7B` of a query, undone.
fn unescaped(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let pair = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(core::str::from_utf8(&pair).ok()?, 16).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests;
