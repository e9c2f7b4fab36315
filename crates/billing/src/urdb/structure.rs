//! The database's price structures: periods of tiers, each with a rate, an adjustment, an upper limit and what export earns.

use serde_json::{Map, Value, json};

use super::{UrdbError, wrong};

/// Rows of a structure, as rates of a tariff.
pub struct Structure {
    /// Rates, each with its period.
    pub rows: Vec<Value>,
    /// What export earns, by period.
    pub sells: Vec<Value>,
    /// Most tiers of a period.
    pub tiers: usize,
    /// Units of the tiers, each once.
    pub units: Vec<String>,
    /// How many periods there are.
    pub periods: usize,
}

impl Structure {
    /// Reads a structure; period names are `prefix` and index. What is odd about it is added to `open`.
    pub fn read(field: &str, structure: &Value, prefix: &str, open: &mut Vec<String>) -> Result<Structure, UrdbError> {
        let periods = structure.as_array().ok_or_else(|| wrong(field, "is no list of periods"))?;
        let mut found =
            Structure { rows: Vec::new(), sells: Vec::new(), tiers: 0, units: Vec::new(), periods: periods.len() };
        for (index, tiers) in periods.iter().enumerate() {
            let place = format!("{field}[{index}]");
            let tiers = tiers.as_array().ok_or_else(|| wrong(place.clone(), "is no list of tiers"))?;
            found.period(&place, &format!("{prefix}{index}"), tiers, open)?;
        }
        found.units.sort_unstable();
        found.units.dedup();
        Ok(found)
    }

    fn period(&mut self, place: &str, name: &str, tiers: &[Value], open: &mut Vec<String>) -> Result<(), UrdbError> {
        let mut sells: Vec<String> = Vec::new();
        let mut count = 0;
        for (number, tier) in tiers.iter().enumerate() {
            let place = format!("{place}[{number}]");
            let get = |key: &str| match tier.get(key) {
                None | Some(Value::Null) => Ok(None),
                Some(value) => decimal(value).map(Some).ok_or_else(|| wrong(format!("{place}.{key}"), "is no number")),
            };
            let mut row = Map::new();
            row.insert("period".into(), name.into());
            let max = tier.get("max").and_then(limit);
            if let Some(max) = &max {
                row.insert("max".into(), max.clone().into());
            }
            let (rate, adj) = (get("rate")?, get("adj")?.filter(|adj| adj != "0"));
            if rate.is_none() && adj.is_none() {
                open.push(format!("{place}: has no rate; 0 was written"));
            }
            row.insert("rate".into(), rate.unwrap_or_else(|| "0".into()).into());
            if let Some(adj) = adj {
                row.insert("adj".into(), adj.into());
            }
            sells.extend(get("sell")?);
            self.units.extend(tier.get("unit").and_then(Value::as_str).map(str::to_owned));
            self.rows.push(Value::Object(row));
            count += 1;
            let rest = tiers.len() - number - 1;
            match (max, rest) {
                (None, 1..) => {
                    open.push(format!("{place}: has no limit; the {rest} tiers above it are never reached, left out"));
                    break;
                }
                (Some(max), 0) => open.push(format!(
                    "{place}: the last tier ends at {max}; what lies above has no price, and a bill that gets there is refused"
                )),
                _ => {}
            }
        }
        self.tiers = self.tiers.max(count);
        sells.dedup();
        if sells.len() > 1 {
            open.push(format!("{place}: export earns {} by tier; the first was written", sells.join(", ")));
        }
        self.sells.extend(sells.first().map(|sell| json!({ "period": name, "rate": sell })));
        Ok(())
    }

    /// Whether every price is zero: the database writes such rows where there is no charge.
    pub fn is_free(&self) -> bool {
        self.rows.iter().all(|row| row["rate"] == "0" && row.get("adj").is_none())
    }

    /// Leaves out the rows of periods that no schedule runs.
    pub fn keep_running(&mut self, calendar: &Value) {
        let runs =
            |row: &Value| calendar.as_array().is_some_and(|list| list.iter().any(|p| p["name"] == row["period"]));
        self.rows.retain(runs);
        self.sells.retain(runs);
    }
}

/// An upper limit of a tier. One beyond any use is none: the database writes 1e38.
fn limit(value: &Value) -> Option<String> {
    const NO_LIMIT_DIGITS: usize = 15;
    let written = decimal(value)?;
    let whole = written.split_once('.').map_or(written.as_str(), |(whole, _)| whole);
    (whole.len() <= NO_LIMIT_DIGITS).then_some(written)
}

/// A JSON number as a decimal string, without a binary number between. `None` beyond any price: URDB writes 1e38 for "no limit".
pub fn decimal(number: &Value) -> Option<String> {
    let text = match number {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        None => (text.as_str(), 0),
        Some((mantissa, exponent)) => (mantissa, exponent.trim_start_matches('+').parse::<i32>().ok()?),
    };
    let (negative, digits) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    if !(-20..=25).contains(&point) {
        return None;
    }
    let all = format!("{whole}{rest}");
    let at = usize::try_from(point).unwrap_or(0);
    let padded = match point {
        ..=0 => format!("{}{all}", "0".repeat(usize::try_from(-point).unwrap_or(0))),
        _ => format!("{all:0<at$}"),
    };
    let (before, after) = padded.split_at(at);
    let (before, after) = (before.trim_start_matches('0'), after.trim_end_matches('0'));
    let before = if before.is_empty() { "0" } else { before };
    let sign = if negative && (before != "0" || !after.is_empty()) { "-" } else { "" };
    let written = if after.is_empty() { format!("{sign}{before}") } else { format!("{sign}{before}.{after}") };
    crate::exact::Exact::decimal(&written).is_ok().then_some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_as_written() {
        for (text, written) in [
            ("0.07531", Some("0.07531")),
            ("1e-5", Some("0.00001")),
            ("1.5e2", Some("150")),
            ("300.0", Some("300")),
            ("-0.0", Some("0")),
            ("-2", Some("-2")),
            ("1e38", None),
            ("1e999999999999", None),
        ] {
            let value = serde_json::from_str::<Value>(text).unwrap_or(Value::String(text.into()));
            assert_eq!(decimal(&value).as_deref(), written, "{text}");
        }
    }
}
