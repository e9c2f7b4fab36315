//! Compares measured quantities with what a vector file expects.
//!
//! Tolerances stand in the file; where it names none: power factors ±0.001, energies 0.1 %. Quantities without either
//! are informative and not judged. A vector with disturbances is judged by its events alone.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::host::vectors::Vector;

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Item {
    /// Vector or test.
    pub id: String,
    /// Quantity.
    pub quantity: String,
    /// What the file expects.
    pub expected: Value,
    /// What was measured.
    pub got: Value,
    /// Admissible difference.
    pub tolerance: f64,
    /// Verdict.
    pub pass: bool,
}

impl Item {
    fn number(id: &str, quantity: &str, expected: f64, got: &Value, tolerance: f64) -> Self {
        let pass = got.as_f64().is_some_and(|g| (g - expected).abs() <= tolerance);
        Self {
            id: id.to_owned(),
            quantity: quantity.to_owned(),
            expected: json!(expected),
            got: got.clone(),
            tolerance,
            pass,
        }
    }
}

/// Verdict over files.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// Comparisons that passed.
    pub passed: usize,
    /// Comparisons that failed.
    pub failed: usize,
    /// All comparisons.
    pub items: Vec<Item>,
}

impl Verdict {
    /// Adds comparisons.
    pub fn extend(&mut self, items: Vec<Item>) {
        for item in items {
            if item.pass {
                self.passed += 1;
            } else {
                self.failed += 1;
            }
            self.items.push(item);
        }
    }
}

fn number(map: &Map<String, Value>, key: &str) -> Option<f64> {
    map.get(key).and_then(Value::as_f64)
}

/// Tolerance of a scalar quantity, if it is judged.
fn tolerance(quantity: &str, expected: f64, vector: &Vector) -> Option<f64> {
    let tol = |key| number(&vector.tol, key);
    let apparent = number(&vector.expected, "s_va").unwrap_or(0.0).abs();
    match quantity {
        "vrms" => tol("vrms_rel").map(|t| t * expected.abs()),
        "irms" => tol("irms_rel").map(|t| t * expected.abs()),
        "p_w" | "p1_w" => tol("p_rel_of_s").map(|t| t * apparent),
        "billed_p_w" => tol("p_rel_of_s").map(|t| t * expected.abs().max(apparent)),
        "q1_var" => tol("q_rel_of_s").map(|t| t * apparent),
        "freq_hz" => tol("freq_abs_hz"),
        "pf" | "dpf" => Some(0.001),
        "energy_wh_import" | "energy_wh_export" => Some(0.001 * expected.abs()),
        name if name.starts_with("thd_") => tol("thd_abs_pct"),
        _ => None,
    }
}

fn harmonic_items(vector: &Vector, quantity: &str, expected: &Map<String, Value>, got: Option<&Value>) -> Vec<Item> {
    let (Some(percent), Some(fundamental)) = (number(&vector.tol, "harm_abs_pct_of_1"), number(expected, "1")) else {
        return Vec::new();
    };
    let item = |(order, value): (&String, &Value)| {
        let measured = got.and_then(|g| g.get(order)).cloned().unwrap_or(Value::Null);
        let name = format!("{quantity}.{order}");
        Item::number(&vector.id, &name, value.as_f64().unwrap_or(f64::NAN), &measured, percent / 100.0 * fundamental)
    };
    expected.iter().map(item).collect()
}

fn event_items(vector: &Vector, expected: &[Value], got: &[Value]) -> Vec<Item> {
    let id = &vector.id;
    let count = got.len() as f64;
    let mut items = vec![Item::number(id, "pq_events.count", expected.len() as f64, &json!(count), 0.0)];
    for (k, want) in expected.iter().enumerate() {
        let have = got.get(k).cloned().unwrap_or(Value::Null);
        let field = |key: &str| have.get(key).cloned().unwrap_or(Value::Null);
        let kind = want.get("kind").cloned().unwrap_or(Value::Null);
        items.push(Item {
            id: id.clone(),
            quantity: format!("pq_events.{k}.kind"),
            pass: field("kind") == kind,
            expected: kind,
            got: field("kind"),
            tolerance: 0.0,
        });
        for (key, tol_key, default) in [
            ("residual_pct", "residual_tol_pct_udin", 1.0),
            ("max_pct", "residual_tol_pct_udin", 1.0),
            ("duration_s", "duration_tol_s", 0.02),
        ] {
            if let Some(value) = want.get(key).and_then(Value::as_f64) {
                let tolerance = want.get(tol_key).and_then(Value::as_f64).unwrap_or(default);
                items.push(Item::number(id, &format!("pq_events.{k}.{key}"), value, &field(key), tolerance));
            }
        }
    }
    items
}

/// Judges one vector's measured quantities.
pub fn judge(vector: &Vector, measured: &Map<String, Value>) -> Vec<Item> {
    let mut items = Vec::new();
    if let Some(Value::Array(expected)) = vector.expected.get("pq_events") {
        let got = measured.get("pq_events").and_then(Value::as_array).cloned().unwrap_or_default();
        return event_items(vector, expected, &got);
    }
    for (quantity, expected) in &vector.expected {
        let got = measured.get(quantity).cloned().unwrap_or(Value::Null);
        match expected {
            Value::Number(_) => {
                let value = expected.as_f64().unwrap_or(f64::NAN);
                if let Some(tolerance) = tolerance(quantity, value, vector) {
                    items.push(Item::number(&vector.id, quantity, value, &got, tolerance));
                }
            }
            Value::Object(orders) => items.extend(harmonic_items(vector, quantity, orders, measured.get(quantity))),
            Value::Array(_) if quantity == "tamper" => items.push(Item {
                id: vector.id.clone(),
                quantity: quantity.clone(),
                pass: *expected == got,
                expected: expected.clone(),
                got,
                tolerance: 0.0,
            }),
            _ => {}
        }
    }
    if vector.expected.get("energy_must_be_zero") == Some(&Value::Bool(true)) {
        for quantity in ["energy_wh_import", "energy_wh_export"] {
            let got = measured.get(quantity).cloned().unwrap_or(Value::Null);
            items.push(Item::number(&vector.id, &format!("{quantity}.must_be_zero"), 0.0, &got, 0.0));
        }
    }
    if vector.expected.get("must_register") == Some(&Value::Bool(true)) {
        let got = measured.get("energy_wh_import").cloned().unwrap_or(Value::Null);
        let pass = got.as_f64().is_some_and(|g| g > 0.0);
        items.push(Item {
            id: vector.id.clone(),
            quantity: "must_register".to_owned(),
            expected: Value::Bool(true),
            got,
            tolerance: 0.0,
            pass,
        });
    }
    items
}
