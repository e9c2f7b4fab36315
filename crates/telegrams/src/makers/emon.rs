//! OpenEnergyMonitor: emonHub's `emon/NODE/NAME`, emonCMS' `input/post` and `input/bulk`.
//!
//! Units follow the usual names: `power1` W, `vrms` V, `E1` and `pulse` Wh, `temp` °C. A list without names is not usable.

use metering::Timestamp;
use serde_json::Value;

use super::{decimal, json, plain_decimal, seconds, unescaped};
use crate::{Fault, Reading};

/// One value of emonHub.
pub fn value(node: &str, name: &str, payload: &[u8]) -> Vec<Reading> {
    let reading = plain_decimal(payload).and_then(|value| named(name, value));
    reading.map(|reading| reading.of(Some(node.into()))).into_iter().collect()
}

/// All values of a node at once: `emon/NODE` with JSON.
pub fn node(node: &str, value: &Value) -> Vec<Reading> {
    let Some(object) = value.as_object() else { return Vec::new() };
    object_readings(object, node, object.get("time").and_then(seconds))
}

fn named(name: &str, value: crate::Decimal) -> Option<Reading> {
    let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    let number = if digits.bytes().all(|b| b.is_ascii_digit()) { digits } else { "" };
    let base = name[..name.len() - number.len()].trim_end_matches(['_', ' ']).to_ascii_lowercase();
    let (quantity, unit) = match base.as_str() {
        "power" | "p" | "ct" | "realpower" => ("power", "W"),
        "vrms" | "v" | "voltage" => ("voltage", "V"),
        "irms" | "i" | "current" => ("current", "A"),
        "e" | "wh" | "energy" => ("import register", "Wh"),
        "kwh" => ("import register", "kWh"),
        "f" | "freq" | "frequency" => ("frequency", "Hz"),
        "pf" => ("power factor", ""),
        _ => return None,
    };
    let quantity = if number.is_empty() { quantity.to_string() } else { format!("{quantity} {number}") };
    Some(Reading::new(quantity, value, unit))
}

fn parameter<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
}

/// `input/post?node=…&fulljson={…}` (or `json`, or `csv`, which has no names), in the query or in the body; the node may stand in
/// the path, and JSON may be the whole body.
pub fn post(in_path: Option<&str>, query: &str, body: &[u8]) -> Result<Vec<Reading>, Fault> {
    let body = core::str::from_utf8(body).unwrap_or_default();
    let find = |name| parameter(query, name).or_else(|| parameter(body, name)).and_then(unescaped);
    let node = in_path.map(String::from).or_else(|| find("node")).unwrap_or_else(|| "0".into());
    let text = find("fulljson").or_else(|| find("json")).or_else(|| find("data"));
    let text = text.or_else(|| Some(body.trim().to_string()).filter(|body| body.starts_with('{')));
    let text = text.ok_or(Fault::structure("input/post without fulljson, json or data"))?;
    let value = json(text.as_bytes()).or_else(|_| json(loose(&text).as_bytes()))?;
    let object = value.as_object().ok_or(Fault::structure("input/post without names"))?;
    let time = object.get("time").and_then(seconds).or_else(|| seconds(&Value::String(find("time")?)));
    let time = time.or_else(|| object.get("time").and_then(Value::as_str).and_then(|text| super::instant(text, None)));
    Ok(object_readings(object, &node, time))
}

fn object_readings(object: &serde_json::Map<String, Value>, node: &str, time: Option<Timestamp>) -> Vec<Reading> {
    let values = object.iter().filter_map(|(name, value)| named(name, decimal(value)?));
    values.map(|reading| reading.of(Some(node.into())).at(time)).collect()
}

/// `{power1:100,power2:200}`: names without quotes.
fn loose(text: &str) -> String {
    let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
    let pairs = inner.split(',').map(|pair| match pair.split_once(':') {
        Some((name, value)) => format!("{:?}:{}", name.trim().trim_matches('"'), value.trim()),
        None => pair.into(),
    });
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

/// `input/bulk`: `data=[[offset,"node",{"name":value}…]…]`, offsets in seconds to `time`, `sentat` or receipt. Values without names are
/// left out.
pub fn bulk(query: &str, body: &[u8]) -> Result<Vec<Reading>, Fault> {
    let body = core::str::from_utf8(body).unwrap_or_default();
    let find = |name| parameter(query, name).or_else(|| parameter(body, name)).and_then(unescaped);
    let text = find("data").ok_or(Fault::structure("input/bulk without data"))?;
    let rows = json(text.as_bytes())?;
    let rows = rows.as_array().ok_or(Fault::structure("input/bulk without a list"))?;
    let base = find("time").or_else(|| find("offset").map(|_| String::new())).and_then(|text| text.parse::<i64>().ok());
    let mut out = Vec::new();
    for row in rows {
        let Some([offset, node, values @ ..]) = row.as_array().map(Vec::as_slice) else {
            return Err(Fault::structure("a row of input/bulk without offset and node"));
        };
        let offset = seconds(offset).ok_or(Fault::structure("a row of input/bulk without an offset"))?;
        // Without a base an offset that is a date is one; others count from the time of receipt.
        let time = match base {
            Some(base) => Some(offset.plus(base)),
            None => Some(offset).filter(|at| at.0 > 1_000_000_000),
        };
        let node = node.as_str().map_or_else(|| node.to_string(), String::from);
        for value in values.iter().filter_map(Value::as_object) {
            out.extend(object_readings(value, &node, time));
        }
    }
    Ok(out)
}
