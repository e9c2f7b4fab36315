//! Home Assistant's MQTT discovery: configurations say topic, unit and class of the values that follow.
//!
//! Abbreviated and full keys; `~` stands for the base topic. Of templates only `value_json` paths with `float` and `round` are understood,
//! every other one is refused: guessing at a program would make numbers up.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{decimal, json};
use crate::{Decimal, Fault, Reading};

/// What is known of an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entity {
    meter: String,
    quantity: String,
    unit: String,
    template: Template,
}

/// How a value is taken from a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Template {
    /// The payload is the value.
    Payload,
    /// A path in JSON, and the places to round to.
    Path(Vec<String>, Option<u8>),
}

/// Entities by the topic of their state.
#[derive(Debug, Default)]
pub struct Discovered {
    entities: BTreeMap<String, Vec<Entity>>,
    count: usize,
}

impl Discovered {
    /// A configuration `PREFIX/sensor/[NODE/]OBJECT/config`, or `PREFIX/device/[NODE/]OBJECT/config` with all entities of a device. An
    /// empty one removes nothing here: no value can follow it.
    pub fn configure(&mut self, topic: &[&str], payload: &[u8]) -> Result<(), Fault> {
        if payload.is_empty() {
            return Ok(());
        }
        let value = json(payload)?;
        if topic.get(1) != Some(&"device") {
            return self.entity(topic, &value, &value);
        }
        let components = value.get("cmps").or_else(|| value.get("components")).and_then(Value::as_object);
        let sensors = components.into_iter().flatten().filter(|(_, component)| {
            let platform = component.get("p").or_else(|| component.get("platform")).and_then(Value::as_str);
            platform == Some("sensor")
        });
        // One that is not understood does not hide the others.
        let outcomes: Vec<Result<(), Fault>> =
            sensors.map(|(_, component)| self.entity(topic, component, &value)).collect();
        outcomes.into_iter().collect()
    }

    /// One entity; what it does not say itself stands in the configuration of its device.
    fn entity(&mut self, topic: &[&str], value: &Value, shared: &Value) -> Result<(), Fault> {
        let get = |short: &str, long: &str| {
            let of =
                |value: &Value| value.get(short).or_else(|| value.get(long)).and_then(Value::as_str).map(String::from);
            of(value).or_else(|| matches!(short, "stat_t" | "~").then(|| of(shared)).flatten())
        };
        let Some(state) = get("stat_t", "state_topic") else { return Ok(()) };
        let base = get("~", "~").unwrap_or_default();
        let state = match (state.strip_prefix('~'), state.strip_suffix('~')) {
            (Some(rest), _) => format!("{base}{rest}"),
            (_, Some(rest)) => format!("{rest}{base}"),
            _ => state,
        };
        let unit = get("unit_of_meas", "unit_of_measurement").unwrap_or_default();
        let class = get("dev_cla", "device_class").or_else(|| class_of_unit(&unit).map(String::from));
        let Some(class) = class else { return Ok(()) };
        let name = get("name", "name").unwrap_or_default();
        let id = get("obj_id", "object_id").or_else(|| get("uniq_id", "unique_id")).unwrap_or_default();
        let Some(quantity) = quantity(&class, &format!("{name} {id}"), topic) else { return Ok(()) };
        let template = match get("val_tpl", "value_template") {
            None => Template::Payload,
            Some(text) => Template::parse(&text).ok_or_else(|| {
                Fault::Unsupported(format!("the template {text:?} of {name:?}: only paths with float and round").into())
            })?,
        };
        if self.count >= super::Devices::MAX {
            return Err(Fault::TooLong("the list of discovered entities"));
        }
        let entity = Entity { meter: meter(topic, shared), quantity, unit, template };
        let known = self.entities.entry(state).or_default();
        // A retained configuration comes again with every connection.
        if !known.contains(&entity) {
            known.push(entity);
            self.count += 1;
        }
        Ok(())
    }

    /// A state. Topics that no configuration named give nothing.
    pub fn state(&self, topic: &str, payload: &[u8]) -> Result<Vec<Reading>, Fault> {
        let Some(entities) = self.entities.get(topic) else { return Ok(Vec::new()) };
        let readings = entities.iter().filter_map(|entity| {
            let value = entity.template.value(payload)?;
            Some(
                Reading::new(entity.quantity.clone(), value, entity.unit.clone())
                    .of(Some(entity.meter.as_str().into())),
            )
        });
        Ok(readings.collect())
    }
}

/// The node of the topic, else the name or the first identifier of the device.
fn meter(topic: &[&str], value: &Value) -> String {
    if let [_, _, node, _, "config"] = topic {
        return (*node).into();
    }
    let device = value.get("dev").or_else(|| value.get("device"));
    let ids = device.and_then(|device| device.get("ids").or_else(|| device.get("identifiers")));
    let id = ids.and_then(|ids| ids.as_str().or_else(|| ids.get(0).and_then(Value::as_str)));
    let name = device.and_then(|device| device.get("name")).and_then(Value::as_str);
    id.or(name).or(topic.get(2).copied()).unwrap_or_default().into()
}

/// What a unit can only be.
fn class_of_unit(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "Wh" | "kWh" | "MWh" => "energy",
        "W" | "kW" => "power",
        "V" => "voltage",
        "A" => "current",
        "Hz" => "frequency",
        "VA" => "apparent_power",
        "var" => "reactive_power",
        "varh" | "kvarh" => "reactive_energy",
        _ => return None,
    })
}

/// Counters that begin anew with a day, a month or a year are no registers.
const BEGIN_ANEW: [&str; 9] =
    ["today", "yesterday", "daily", "this month", "last month", "monthly", "this year", "hourly", "energy_month"];

fn quantity(class: &str, name: &str, topic: &[&str]) -> Option<String> {
    let words =
        format!("{} {}", name.to_lowercase(), topic.get(topic.len().saturating_sub(2)).unwrap_or(&"").to_lowercase());
    if class == "energy" && BEGIN_ANEW.iter().any(|word| words.contains(word)) {
        return None;
    }
    let export = ["export", "return", "sent", "feed", "produced", "production", "delivered to grid", "e_out"]
        .iter()
        .any(|word| words.contains(word));
    let base = match class {
        "energy" if export => "export register",
        "energy" => "import register",
        "power" if export => "power export",
        "power" => "power",
        "voltage" => "voltage",
        "current" => "current",
        "frequency" => "frequency",
        "power_factor" => "power factor",
        "apparent_power" => "apparent power",
        "reactive_power" => "reactive power",
        "reactive_energy" => "reactive register",
        "gas" => "gas register",
        "water" => "water register",
        _ => return None,
    };
    let phase =
        [("l1", " L1"), ("l2", " L2"), ("l3", " L3"), ("phase 1", " L1"), ("phase 2", " L2"), ("phase 3", " L3")];
    let phase = phase.iter().find(|(word, _)| {
        words
            .split(|c: char| !c.is_alphanumeric() && c != ' ')
            .any(|part| part == *word || part.contains(&format!(" {word}")))
            || words.split_whitespace().any(|part| part == *word)
    });
    Some(format!("{base}{}", phase.map_or("", |(_, text)| text)))
}

impl Template {
    /// `{{ value_json.a.b }}`, `{{ value_json['a'] | float(0) | round(2) }}`, `{{ value }}`, `{{ value | float }}`.
    fn parse(text: &str) -> Option<Self> {
        let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
        let mut parts = inner.split('|').map(str::trim);
        let expression = parts.next()?;
        let mut places = None;
        for filter in parts {
            match filter.split_once('(') {
                Some(("float" | "int", _)) => {}
                Some(("round", arguments)) => {
                    places = Some(arguments.trim_end_matches(')').split(',').next()?.trim().parse().unwrap_or(0));
                }
                None if matches!(filter, "float" | "int" | "is_defined") => {}
                None if filter == "round" => places = Some(0),
                _ => return None,
            }
        }
        if expression == "value" {
            return Some(Self::Payload);
        }
        let mut rest = expression.strip_prefix("value_json")?;
        let mut path = Vec::new();
        while !rest.is_empty() {
            let end;
            if let Some(after) = rest.strip_prefix('.') {
                end = after.find(['.', '[']).unwrap_or(after.len());
                path.push(after[..end].to_string());
                rest = &after[end..];
            } else {
                let after = rest.strip_prefix('[')?;
                end = after.find(']')?;
                path.push(after[..end].trim_matches(['\'', '"']).to_string());
                rest = &after[end + 1..];
            }
            let key = path.last()?;
            if key.is_empty() || !key.chars().all(|c| c.is_alphanumeric() || "_-: ".contains(c)) {
                return None;
            }
        }
        (!path.is_empty()).then_some(Self::Path(path, places))
    }

    fn value(&self, payload: &[u8]) -> Option<Decimal> {
        match self {
            Self::Payload => super::plain_decimal(payload),
            Self::Path(path, places) => {
                let value: Value = serde_json::from_slice(payload).ok()?;
                let found = path.iter().try_fold(&value, |value, key| match value {
                    Value::Array(items) => items.get(key.parse::<usize>().ok()?),
                    other => other.get(key),
                })?;
                let value = decimal(found)?;
                Some(places.map_or(value, |places| value.at_places(places)))
            }
        }
    }
}
