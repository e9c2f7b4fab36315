//! Shelly: Gen1 (one value per topic) and Gen2+ (`status/COMPONENT`, `events/rpc`).
//!
//! Energies are Wh; `relay/N/energy` of Gen1 counts watt-minutes since power-up and is no register. Three-phase devices show either one
//! meter of three phases (`em`) or three meters (`em1`, named `DEVICE#N`).

use serde_json::{Map, Value};

use super::{decimal, plain_decimal, relay, seconds};
use crate::{Decimal, Reading};
use metering::Timestamp;

/// Gen1: `shellies/DEVICE/…`.
pub fn gen1(device: &str, path: &[&str], payload: &[u8]) -> Vec<Reading> {
    let phases = device.starts_with("shellyem3");
    let (meter, reading) = match path {
        ["emeter", channel, name] => {
            let Some((quantity, unit)) = gen1_name(name) else { return Vec::new() };
            let Some(value) = plain_decimal(payload) else { return Vec::new() };
            match channel.parse::<u8>() {
                Ok(channel) if phases => (
                    device.to_string(),
                    Some(Reading::new(format!("{quantity} L{}", u16::from(channel) + 1), value, unit)),
                ),
                _ => (format!("{device}#{channel}"), Some(Reading::new(quantity, value, unit))),
            }
        }
        ["relay", channel] => {
            let state = core::str::from_utf8(payload).ok().and_then(relay);
            (channel_name(device, channel), state.map(|on| Reading::new("relay closed", on, "")))
        }
        ["relay" | "roller" | "light", channel, "power"] => {
            (channel_name(device, channel), plain_decimal(payload).map(|value| Reading::new("power", value, "W")))
        }
        ["voltage"] => (device.to_string(), plain_decimal(payload).map(|value| Reading::new("voltage", value, "V"))),
        _ => return Vec::new(),
    };
    reading.map(|reading| reading.of(Some(meter.into()))).into_iter().collect()
}

fn channel_name(device: &str, channel: &str) -> String {
    if channel == "0" { device.into() } else { format!("{device}#{channel}") }
}

fn gen1_name(name: &str) -> Option<(&'static str, &'static str)> {
    Some(match name {
        "power" => ("power", "W"),
        "reactive_power" => ("reactive power", "var"),
        "pf" => ("power factor", ""),
        "current" => ("current", "A"),
        "voltage" => ("voltage", "V"),
        "total" => ("import register", "Wh"),
        "total_returned" => ("export register", "Wh"),
        _ => return None,
    })
}

/// Whether the last part of a topic names a component of Gen2+.
pub fn is_component(name: &str) -> bool {
    name == "sys" || name.split_once(':').is_some_and(|(_, id)| id.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The device's own clock in the status of `sys`.
pub fn clock(component: &str, value: &Value) -> Option<Timestamp> {
    (component == "sys").then(|| value.get("unixtime").and_then(seconds)).flatten()
}

/// The status of one component.
pub fn status(device: &str, component: &str, value: &Value) -> Vec<Reading> {
    let (Some((kind, id)), Some(status)) = (component.split_once(':'), value.as_object()) else { return Vec::new() };
    let (meter, readings) = match kind {
        "em" | "emdata" => (device.to_string(), three_phase(status)),
        "em1" | "em1data" => (format!("{device}#{id}"), single(status)),
        "switch" | "pm1" | "cover" | "light" | "rgb" | "rgbw" | "cct" => (channel_name(device, id), single(status)),
        _ => return Vec::new(),
    };
    let time = status.get("aenergy").and_then(|energy| energy.get("minute_ts")).and_then(seconds);
    readings.into_iter().map(|reading| reading.of(Some(meter.as_str().into())).at(time)).collect()
}

/// `NotifyStatus` (only what changed) and `NotifyFullStatus`.
pub fn notification(device: &str, value: &Value) -> Vec<Reading> {
    let method = value.get("method").and_then(Value::as_str).unwrap_or_default();
    let Some(parameters) = value.get("params").and_then(Value::as_object) else { return Vec::new() };
    if !matches!(method, "NotifyStatus" | "NotifyFullStatus") {
        return Vec::new();
    }
    let time = parameters.get("ts").and_then(seconds);
    let readings = parameters.iter().flat_map(|(component, value)| status(device, component, value));
    readings.map(|reading| if reading.time.is_none() { reading.at(time) } else { reading }).collect()
}

/// The answer to a call over MQTT (`Shelly.GetStatus`, or the status of one component), which names its device.
pub fn answer(value: &Value) -> Vec<Reading> {
    let (Some(device), Some(Value::Object(result))) = (value.get("src").and_then(Value::as_str), value.get("result"))
    else {
        return Vec::new();
    };
    let time = result.get("sys").and_then(|sys| sys.get("unixtime")).and_then(seconds);
    if result.keys().any(|key| is_component(key)) {
        let readings = result.iter().flat_map(|(component, value)| status(device, component, value));
        return readings.map(|reading| if reading.time.is_none() { reading.at(time) } else { reading }).collect();
    }
    // One component says its number and shows its kind by its keys.
    let has = |key: &str| result.contains_key(key);
    let kind = match () {
        () if has("a_act_power") => "em",
        () if has("total_act") => "emdata",
        () if has("act_power") => "em1",
        () if has("total_act_energy") => "em1data",
        () if has("apower") => "switch",
        () => return Vec::new(),
    };
    let id = result.get("id").and_then(Value::as_u64).unwrap_or(0);
    status(device, &format!("{kind}:{id}"), &Value::Object(result.clone()))
}

const PHASE: &[(&str, &str, &str)] = &[
    ("act_power", "power", "W"),
    ("aprt_power", "apparent power", "VA"),
    ("current", "current", "A"),
    ("freq", "frequency", "Hz"),
    ("pf", "power factor", ""),
    ("voltage", "voltage", "V"),
    ("total_act_energy", "import register", "Wh"),
    ("total_act_ret_energy", "export register", "Wh"),
];

fn three_phase(status: &Map<String, Value>) -> Vec<Reading> {
    let mut out = Vec::new();
    for (phase, letter) in [(1, 'a'), (2, 'b'), (3, 'c')] {
        let values = PHASE.iter().filter_map(|(key, quantity, unit)| {
            let value = decimal(status.get(&format!("{letter}_{key}"))?)?;
            Some(Reading::new(format!("{quantity} L{phase}"), value, *unit))
        });
        out.extend(values);
    }
    let totals = [
        ("n_current", "current neutral", "A"),
        ("total_act_power", "power", "W"),
        ("total_act", "import register", "Wh"),
        ("total_act_ret", "export register", "Wh"),
    ];
    out.extend(named(status, &totals));
    out
}

const SINGLE: &[(&str, &str, &str)] = &[
    ("act_power", "power", "W"),
    ("apower", "power", "W"),
    ("aprt_power", "apparent power", "VA"),
    ("current", "current", "A"),
    ("voltage", "voltage", "V"),
    ("freq", "frequency", "Hz"),
    ("pf", "power factor", ""),
    ("total_act_energy", "import register", "Wh"),
    ("total_act_ret_energy", "export register", "Wh"),
];

fn single(status: &Map<String, Value>) -> Vec<Reading> {
    let mut out = named(status, SINGLE);
    let total = |key: &str| decimal(status.get(key)?.get("total")?);
    out.extend(total("aenergy").map(|value| Reading::new("import register", value, "Wh")));
    out.extend(total("ret_aenergy").map(|value| Reading::new("export register", value, "Wh")));
    if let Some(on) = status.get("output").and_then(Value::as_bool) {
        out.push(Reading::new("relay closed", Decimal::new(i64::from(on), 0), ""));
    }
    out
}

fn named(status: &Map<String, Value>, names: &[(&str, &'static str, &'static str)]) -> Vec<Reading> {
    let value = |(key, quantity, unit): &(&str, &'static str, &'static str)| {
        Some(Reading::new(*quantity, decimal(status.get(*key)?)?, *unit))
    };
    names.iter().filter_map(value).collect()
}
