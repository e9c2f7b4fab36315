//! Zigbee2MQTT: `zigbee2mqtt/NAME` with one JSON object; energy in kWh; `last_seen` only when it is switched on.

use serde_json::Value;

use super::{decimal, instant, milliseconds, relay};
use crate::Reading;

const NAMES: &[(&str, &str, &str)] = &[
    ("energy", "import register", "kWh"),
    ("consumed_energy", "import register", "kWh"),
    ("produced_energy", "export register", "kWh"),
    ("power", "power", "W"),
    ("energy_produced", "export register", "kWh"),
    ("energy_consumed", "import register", "kWh"),
    ("power_apparent", "apparent power", "VA"),
    ("apparent_power", "apparent power", "VA"),
    ("reactive_power", "reactive power", "var"),
    ("power_reactive", "reactive power", "var"),
    ("power_factor", "power factor", ""),
    ("voltage", "voltage", "V"),
    ("current", "current", "A"),
    ("ac_frequency", "frequency", "Hz"),
    ("current_neutral", "current neutral", "A"),
];

/// Names with a phase behind them.
const PHASES: [(&str, &str); 9] = [
    ("_phase_a", " L1"),
    ("_phase_b", " L2"),
    ("_phase_c", " L3"),
    ("_l1", " L1"),
    ("_l2", " L2"),
    ("_l3", " L3"),
    ("_a", " L1"),
    ("_b", " L2"),
    ("_c", " L3"),
];

/// The readings of one message.
pub fn readings(device: &str, value: &Value) -> Vec<Reading> {
    let Some(object) = value.as_object() else { return Vec::new() };
    let time = match object.get("last_seen") {
        Some(Value::String(text)) => instant(text, None),
        Some(number @ Value::Number(_)) => milliseconds(number),
        _ => None,
    };
    let readings = object.iter().filter_map(|(key, value)| named(key, value));
    readings.map(|reading| reading.of(Some(device.into())).at(time)).collect()
}

/// A topic a value: `zigbee2mqtt/NAME/power`.
pub fn attribute(path: &[&str], payload: &[u8]) -> Vec<Reading> {
    let Some((key, device)) = path.split_last().filter(|(_, device)| !device.is_empty()) else { return Vec::new() };
    let text = Value::String(String::from_utf8_lossy(payload).into_owned());
    named(key, &text).map(|reading| reading.of(Some(device.join("/").into()))).into_iter().collect()
}

fn named(key: &str, value: &Value) -> Option<Reading> {
    let of_phase = PHASES.iter().find_map(|(suffix, phase)| Some((key.strip_suffix(suffix)?, *phase)));
    let (base, phase) = of_phase.unwrap_or((key, ""));
    if base == "state" {
        return Some(Reading::new(format!("relay closed{phase}"), relay(value.as_str()?)?, ""));
    }
    let (_, quantity, unit) = NAMES.iter().find(|(name, ..)| *name == base)?;
    Some(Reading::new(format!("{quantity}{phase}"), decimal(value)?, *unit))
}
