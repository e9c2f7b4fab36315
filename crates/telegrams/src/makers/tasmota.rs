//! Tasmota: `tele/DEVICE/SENSOR`, `…/STATE`, `stat/DEVICE/STATUS8` and `STATUS10`. Time is local, without a zone.
//!
//! `Total` is the lifetime import in kWh, `ExportActive` the export; powers have no sign on many chips. Arrays are channels or phases.
//! Objects other than `ENERGY` come from the user's script: a description names their values.

use serde_json::{Map, Value};

use super::{decimal, instant, relay};
use crate::{
    Reading, Zone,
    models::{Kind, Models},
};

const ENERGY: &[(&str, &str, &str)] = &[
    ("Total", "import register", "kWh"),
    ("ExportActive", "export register", "kWh"),
    ("Power", "power", "W"),
    ("ApparentPower", "apparent power", "VA"),
    ("ReactivePower", "reactive power", "var"),
    ("Factor", "power factor", ""),
    ("Voltage", "voltage", "V"),
    ("Current", "current", "A"),
    ("Frequency", "frequency", "Hz"),
    ("ImportReactive", "reactive import register", "kvarh"),
    ("ExportReactive", "reactive export register", "kvarh"),
];

/// `stat/DEVICE/POWER` without JSON: the state of the relay.
pub fn plain(device: &str, what: &str, payload: &[u8]) -> Vec<Reading> {
    let state = core::str::from_utf8(payload).ok().and_then(relay);
    let reading = channel(what).zip(state).map(|(channel, on)| Reading::new(format!("relay closed{channel}"), on, ""));
    reading.map(|reading| reading.of(Some(device.into()))).into_iter().collect()
}

/// ` 2` of `POWER2`, nothing of `POWER`; `None`: no relay.
fn channel(key: &str) -> Option<String> {
    match key.strip_prefix("POWER")? {
        "" => Some(String::new()),
        number => is_number(number).then(|| format!(" {number}")),
    }
}

/// The readings of one message.
pub fn readings(
    topic: &str,
    device: &str,
    what: &str,
    value: &Value,
    models: &Models,
    zone: Option<Zone>,
) -> Vec<Reading> {
    let value = value.get("StatusSNS").or_else(|| value.get("StatusSTS")).unwrap_or(value);
    let Some(object) = value.as_object() else { return Vec::new() };
    let time = object.get("Time").and_then(Value::as_str).and_then(|text| instant(text, zone));
    let mut out = Vec::new();
    for (key, value) in object {
        match (key.as_str(), value) {
            ("ENERGY", Value::Object(energy)) => out.extend(chip(energy)),
            (key, Value::String(state)) if key.starts_with("POWER") => {
                let closed = channel(key).zip(relay(state));
                out.extend(closed.map(|(channel, on)| Reading::new(format!("relay closed{channel}"), on, "")));
            }
            (_, Value::Object(script)) if what != "STATE" => out.extend(from_script(topic, script, models)),
            _ => {}
        }
    }
    for reading in &mut out {
        reading.time = time;
        reading.meter = reading.meter.take().or_else(|| Some(device.into()));
    }
    out
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn chip(energy: &Map<String, Value>) -> Vec<Reading> {
    let mut out = Vec::new();
    for (key, quantity, unit) in ENERGY {
        match energy.get(*key) {
            Some(Value::Array(channels)) => {
                let values = channels.iter().enumerate().filter_map(|(at, value)| Some((at + 1, decimal(value)?)));
                out.extend(values.map(|(phase, value)| Reading::new(format!("{quantity} L{phase}"), value, *unit)));
            }
            Some(value) => out.extend(decimal(value).map(|value| Reading::new(*quantity, value, *unit))),
            None => {}
        }
    }
    // Meters on a serial line have a register a tariff, and one by phase beside the total.
    for (key, quantity, part) in [
        ("ImportActive", "import register", "L"),
        ("TotalTariff", "import register", "tariff "),
        ("ExportTariff", "export register", "tariff "),
    ] {
        let Some(Value::Array(parts)) = energy.get(key) else { continue };
        let values = parts.iter().enumerate().filter_map(|(at, value)| Some((at + 1, decimal(value)?)));
        let named = values.map(|(number, value)| Reading::new(format!("{quantity} {part}{number}"), value, "kWh"));
        let known: Vec<String> = out.iter().map(|reading| reading.quantity.clone()).collect();
        out.extend(named.filter(|reading| !known.contains(&reading.quantity)));
    }
    out
}

fn from_script(topic: &str, script: &Map<String, Value>, models: &Models) -> Vec<Reading> {
    let model = models.of(Kind::Json).find(|model| {
        let m = &model.matches;
        m.topic.as_deref().is_some_and(|begin| topic.starts_with(begin))
            && m.keys.iter().all(|key| script.contains_key(key))
            && script.keys().any(|key| model.value.contains_key(key))
    });
    let Some(model) = model else { return Vec::new() };
    let number = model.meter.as_ref().and_then(|key| script.get(key)).and_then(Value::as_str);
    let values = script.iter().filter_map(|(key, value)| {
        let named = model.value.get(key)?;
        Some(Reading::new(named.quantity.clone(), decimal(value)?, named.unit.clone()).of(number.map(Into::into)))
    });
    values.collect()
}
