//! Zigbee2MQTT: `zigbee2mqtt/NAME` with one JSON object; energy in kWh; `last_seen` only when it is switched on.

use serde_json::Value;

use super::{decimal, instant, milliseconds, relay};
use crate::Reading;

const NAMES: &[(&str, &str, &str)] = &[
    ("energy", "import register", "kWh"),
    ("consumed_energy", "import register", "kWh"),
    ("produced_energy", "export register", "kWh"),
    ("power", "power", "W"),
    ("power_apparent", "apparent power", "VA"),
    ("power_reactive", "reactive power", "var"),
    ("power_factor", "power factor", ""),
    ("voltage", "voltage", "V"),
    ("current", "current", "A"),
    ("ac_frequency", "frequency", "Hz"),
    ("current_neutral", "current neutral", "A"),
];

/// Names with a phase behind them.
const PHASES: [(&str, &str); 8] = [
    ("_phase_a", " L1"),
    ("_phase_b", " L2"),
    ("_phase_c", " L3"),
    ("_l1", " L1"),
    ("_l2", " L2"),
    ("_l3", " L3"),
    ("_a", " L1"),
    ("_b", " L2"),
];

/// The readings of one message.
pub fn readings(device: &str, value: &Value) -> Vec<Reading> {
    let Some(object) = value.as_object() else { return Vec::new() };
    let time = match object.get("last_seen") {
        Some(Value::String(text)) => instant(text, None),
        Some(number @ Value::Number(_)) => milliseconds(number),
        _ => None,
    };
    let mut out = Vec::new();
    for (key, value) in object {
        let (base, phase) = PHASES
            .iter()
            .find_map(|(suffix, phase)| Some((key.strip_suffix(suffix)?, *phase)))
            .unwrap_or((key.as_str(), ""));
        if let Some((_, quantity, unit)) = NAMES.iter().find(|(name, ..)| *name == base) {
            out.extend(decimal(value).map(|value| Reading::new(format!("{quantity}{phase}"), value, *unit)));
        } else if key == "state" {
            out.extend(value.as_str().and_then(relay).map(|on| Reading::new("relay closed", on, "")));
        }
    }
    out.into_iter().map(|reading| reading.of(Some(device.into())).at(time)).collect()
}
