//! ThingsBoard's device and gateway API: `{…}`, `{"ts":…,"values":{…}}`, lists of either; gateways name the device of each list.
//!
//! The device is the credential: the access token, which is the user name (MQTT) or stands in the path (HTTP).

use metering::Timestamp;
use serde_json::{Map, Value};

use super::{decimal, milliseconds};
use crate::{
    Fault, Reading,
    models::{Kind, Models},
};

/// `v1/devices/me/…` and `v1/gateway/…`.
pub fn mqtt(path: &[&str], value: &Value, models: &Models) -> Result<Vec<Reading>, Fault> {
    match path {
        ["devices", "me", "telemetry"] => telemetry(value, "(user name = access token)", models),
        ["gateway", "telemetry"] => {
            let devices = value.as_object().ok_or(Fault::structure("a gateway's telemetry without device names"))?;
            let parts = devices.iter().map(|(device, value)| telemetry(value, device, models));
            Ok(parts.collect::<Result<Vec<_>, _>>()?.concat())
        }
        // Attributes, remote calls, provisioning: no readings.
        _ => Ok(Vec::new()),
    }
}

/// `POST /api/v1/TOKEN/telemetry`.
pub fn http(token: &str, value: &Value, models: &Models) -> Result<Vec<Reading>, Fault> {
    telemetry(value, &format!("(token {token})"), models)
}

fn telemetry(value: &Value, meter: &str, models: &Models) -> Result<Vec<Reading>, Fault> {
    match value {
        Value::Array(items) => {
            let parts = items.iter().filter(|item| item.is_object()).map(|item| telemetry(item, meter, models));
            Ok(parts.collect::<Result<Vec<_>, _>>()?.concat())
        }
        Value::Object(object) => Ok(match (object.get("ts"), object.get("values")) {
            (Some(time), Some(Value::Object(values))) => named(values, milliseconds(time), meter, models),
            _ => named(object, None, meter, models),
        }),
        _ => Err(Fault::structure("telemetry that is neither an object nor a list")),
    }
}

fn named(values: &Map<String, Value>, time: Option<Timestamp>, meter: &str, models: &Models) -> Vec<Reading> {
    let fits = |key: &String| {
        let mut of_topic = models.of(Kind::Json).filter(|model| {
            model.matches.topic.as_deref() == Some("v1/")
                && model.matches.keys.iter().all(|key| values.contains_key(key))
        });
        of_topic.find_map(|model| model.value.get(key))
    };
    let readings = values.iter().filter_map(|(key, value)| {
        let value = decimal(value)?;
        let reading = match fits(key) {
            Some(named) => Reading::new(named.quantity.clone(), value, named.unit.clone()),
            // A name without a description keeps its name and has no unit.
            None => Reading::new(key.clone(), value, ""),
        };
        Some(reading.of(Some(meter.into())).at(time))
    });
    readings.collect()
}
