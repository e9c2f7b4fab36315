//! Converts a record of the public Utility Rate Database (OpenEI URDB, version 3 to 8) into a tariff file, and says what it could not carry.
//!
//! The result is a draft: the database often hides riders, ratchets and taxes in its comments. Numbers are taken as they are written.

mod schedule;

use serde_json::{Map, Value, json};

use schedule::{calendar, months_calendar};

/// A tariff file, and what a person must still look at.
#[derive(Debug)]
pub struct Imported {
    /// As `gridtally-tariff/1`.
    pub tariff: Value,
    /// What was assumed or not carried, with the field of the record.
    pub open: Vec<String>,
}

/// Why a record cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum UrdbError {
    /// Not JSON.
    #[error("{0}; give the record as JSON")]
    Json(#[from] serde_json::Error),
    /// No record inside.
    #[error("holds no record; give one record, {{\"urdb\": {{…}}}} or {{\"items\": [{{…}}]}}")]
    NoRecord,
    /// A field that is not as the database writes it.
    #[error("{field}: {problem}")]
    Field {
        /// Which.
        field: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

fn wrong(field: impl Into<String>, problem: impl Into<String>) -> UrdbError {
    UrdbError::Field { field: field.into(), problem: problem.into() }
}

/// Fields that are carried or say nothing about the price.
const KNOWN: &[&str] = &[
    "energyratestructure",
    "energyweekdayschedule",
    "energyweekendschedule",
    "demandratestructure",
    "demandweekdayschedule",
    "demandweekendschedule",
    "flatdemandstructure",
    "flatdemandmonths",
    "demandwindow",
    "demandrateunit",
    "flatdemandunit",
    "lookbackpercent",
    "lookbackrange",
    "lookbackmonths",
    "fixedchargefirstmeter",
    "fixedchargeunits",
    "fixedmonthlycharge",
    "mincharge",
    "minchargeunits",
    "minmonthlycharge",
    "dgrules",
    "name",
    "utility",
    "label",
    "uri",
    "revisions",
    "approved",
    "is_default",
    "eiaid",
    "startdate",
    "enddate",
    "supersedes",
    "sector",
    "source",
    "sourceparent",
    "servicetype",
    "rate",
    "country",
    "usenetmetering",
    "coincidentrateunit",
    "demandreactivepowercharge",
];

/// Reads a record and converts it. `timezone` is not in the record; without one the Eastern zone is written and said to be a guess.
pub fn import(text: &str, timezone: Option<&str>) -> Result<Imported, UrdbError> {
    let file: Value = serde_json::from_str(text)?;
    let record = file
        .get("urdb")
        .or_else(|| file.get("items").and_then(|items| items.get(0)))
        .unwrap_or(&file)
        .as_object()
        .filter(|record| {
            record
                .keys()
                .any(|key| KNOWN.contains(&key.as_str()) && key.contains("structure") || key.contains("charge"))
        })
        .ok_or(UrdbError::NoRecord)?;
    let mut import = Import { record, charges: Vec::new(), periods: Map::new(), open: Vec::new() };
    import.fixed()?;
    import.energy()?;
    import.demand()?;
    import.minimum()?;
    let export = import.export();
    import.rest();
    let mut tariff = json!({
        "schema": "gridtally-tariff/1",
        "id": import.text("label").unwrap_or_else(|| "urdb".into()),
        "name": import.text("name").unwrap_or_else(|| "Rate".into()),
        "country": "US",
        "currency": "USD",
        "minor_digits": 2,
        "timezone": timezone.unwrap_or("America/New_York"),
        "source": { "title": "OpenEI Utility Rate Database", "address": import.text("uri"), "found_in": import.text("source") },
        "month_count": { "by": "bill" },
        "rounding": { "line": { "to": "0.01", "mode": "half-up" } },
        "charges": import.charges,
    });
    if timezone.is_none() {
        import.open.push(
            "the record has no time zone: America/New_York was written; mend `timezone` or give --timezone".into(),
        );
    }
    let mut set = |key: &str, value: Option<Value>| {
        if let (Some(value), Some(object)) = (value, tariff.as_object_mut()) {
            object.insert(key.into(), value);
        }
    };
    set("utility", import.text("utility").map(Value::String));
    set("periods", (!import.periods.is_empty()).then(|| Value::Object(import.periods.clone())));
    set("demand", import.window()?);
    set("export", export);
    if import.charges.is_empty() {
        return Err(wrong("record", "holds no price that can be carried"));
    }
    Ok(Imported { tariff, open: import.open })
}

struct Import<'a> {
    record: &'a Map<String, Value>,
    charges: Vec<Value>,
    periods: Map<String, Value>,
    open: Vec<String>,
}

/// A JSON number as a decimal string, without a binary number between. `None` beyond any price: URDB writes 1e38 for "no limit".
pub(crate) fn decimal(number: &Value) -> Option<String> {
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

impl Import<'_> {
    fn text(&self, field: &str) -> Option<String> {
        self.record.get(field).and_then(Value::as_str).map(str::to_owned)
    }

    fn number(&self, field: &str) -> Result<Option<String>, UrdbError> {
        match self.record.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => decimal(value).map(Some).ok_or_else(|| wrong(field, "is no number; mend the record")),
        }
    }

    fn fixed(&mut self) -> Result<(), UrdbError> {
        let new = self.number("fixedchargefirstmeter")?;
        let Some(rate) = new.clone().or(self.number("fixedmonthlycharge")?) else { return Ok(()) };
        let unit = if new.is_some() { self.text("fixedchargeunits") } else { None };
        let mut charge =
            json!({ "code": "FIXED", "name": "Customer charge", "basis": "month", "rates": [{ "rate": rate }] });
        match unit.as_deref() {
            None | Some("$/month") => {}
            Some("$/day") => charge["basis"] = "day".into(),
            Some("$/year") => charge["per"] = "year".into(),
            Some(other) => self.open.push(format!("fixedchargeunits: \"{other}\" is not known; read as per month")),
        }
        self.charges.push(charge);
        Ok(())
    }

    /// Rows of a structure: period names are `prefix` and index.
    fn rows(&mut self, field: &str, prefix: &str) -> Result<Option<Structure>, UrdbError> {
        let Some(structure) = self.record.get(field) else { return Ok(None) };
        let periods = structure.as_array().ok_or_else(|| wrong(field, "is no list of periods"))?;
        let mut found =
            Structure { rows: Vec::new(), sells: Vec::new(), tiers: 0, units: Vec::new(), periods: periods.len() };
        for (index, tiers) in periods.iter().enumerate() {
            let tiers = tiers.as_array().ok_or_else(|| wrong(format!("{field}[{index}]"), "is no list of tiers"))?;
            found.tiers = found.tiers.max(tiers.len());
            for (number, tier) in tiers.iter().enumerate() {
                let place = format!("{field}[{index}][{number}]");
                let get = |key: &str| match tier.get(key) {
                    None | Some(Value::Null) => Ok(None),
                    Some(value) => {
                        decimal(value).map(Some).ok_or_else(|| wrong(format!("{place}.{key}"), "is no number"))
                    }
                };
                let mut row = Map::new();
                row.insert("period".into(), format!("{prefix}{index}").into());
                // A limit beyond any use is no limit.
                if let Some(max) = tier.get("max").and_then(decimal).filter(|_| number + 1 < tiers.len()) {
                    row.insert("max".into(), max.into());
                }
                row.insert("rate".into(), get("rate")?.unwrap_or_else(|| "0".into()).into());
                if let Some(adj) = get("adj")?.filter(|adj| adj != "0") {
                    row.insert("adj".into(), adj.into());
                }
                found
                    .sells
                    .extend(get("sell")?.map(|sell| json!({ "period": format!("{prefix}{index}"), "rate": sell })));
                found.units.extend(tier.get("unit").and_then(Value::as_str).map(str::to_owned));
                found.rows.push(Value::Object(row));
            }
        }
        Ok((!found.rows.is_empty()).then_some(found))
    }

    fn energy(&mut self) -> Result<(), UrdbError> {
        let Some(mut structure) = self.rows("energyratestructure", "e")? else { return Ok(()) };
        let weekday = self.record.get("energyweekdayschedule");
        let weekend = self.record.get("energyweekendschedule");
        let periods = calendar("energy", "e", weekday, weekend, structure.periods)?;
        structure.keep_running(&periods);
        self.periods.insert("energy".into(), periods);
        let mut charge = json!({
            "code": "ENERGY", "name": "Energy charge", "basis": "energy", "calendar": "energy", "rates": structure.rows,
        });
        if structure.tiers > 1 {
            charge["tier_over"] = "all".into();
        }
        let mut units: Vec<&str> = structure.units.iter().map(String::as_str).collect();
        units.sort_unstable();
        units.dedup();
        match units.as_slice() {
            [] | ["kWh"] => {}
            ["kWh daily"] => charge["max_per"] = "day".into(),
            ["kWh/kW"] => charge["max_per"] = "kW".into(),
            other => {
                return Err(wrong(
                    "energyratestructure",
                    format!("tiers in {} cannot be carried together", other.join(" and ")),
                ));
            }
        }
        self.charges.push(charge);
        let mut sells = structure.sells;
        sells.dedup_by(|a, b| a["period"] == b["period"]);
        if !sells.is_empty() {
            self.charges.push(json!({
                "code": "EXPORT", "name": "Credit for energy sent to the grid", "basis": "energy", "flow": "export",
                "calendar": "energy", "credit": true, "rates": sells,
            }));
        }
        Ok(())
    }

    fn ratchet(&mut self) -> Result<Option<Value>, UrdbError> {
        let Some(percent) = self.number("lookbackpercent")?.filter(|percent| percent != "0") else { return Ok(None) };
        let exact = crate::exact::Exact::decimal(&percent).map_err(|why| wrong("lookbackpercent", why.to_string()))?;
        // The field is a fraction in some records: 0.8 is 80 percent.
        let exact = if exact <= crate::exact::Exact::ONE { &exact * &crate::exact::Exact::whole(100) } else { exact };
        let months: Vec<usize> = match self.record.get("lookbackmonths").and_then(Value::as_array) {
            None => Vec::new(),
            Some(flags) => {
                (1..=12).filter(|month| flags.get(month - 1).is_some_and(|f| f.as_i64() == Some(1))).collect()
            }
        };
        let range = self.record.get("lookbackrange").and_then(Value::as_u64).filter(|range| *range > 0);
        let mut ratchet = json!({ "percent": exact.to_decimal(6), "lookback": range.unwrap_or(11) });
        if range.is_none() {
            self.open.push("lookbackrange: not given; the preceding 11 months were written".into());
        }
        if !months.is_empty() && months.len() < 12 {
            ratchet["months"] = json!(months);
        }
        Ok(Some(ratchet))
    }

    fn demand(&mut self) -> Result<(), UrdbError> {
        let ratchet = self.ratchet()?;
        let push = |charges: &mut Vec<Value>, mut charge: Value, unit: Option<String>| {
            charge["unit"] = if unit.as_deref() == Some("kVA") { "kVA".into() } else { "kW".into() };
            if let Some(ratchet) = &ratchet {
                charge["ratchet"] = ratchet.clone();
            }
            charges.push(charge);
        };
        if let Some(mut structure) = self.rows("flatdemandstructure", "f")?.filter(|structure| !structure.is_free()) {
            let mut charge = json!({ "code": "DEMAND", "name": "Demand charge", "basis": "demand" });
            if structure.periods > 1 {
                let months = months_calendar(self.record.get("flatdemandmonths"), structure.periods)?;
                structure.keep_running(&months);
                self.periods.insert("demand_months".into(), months);
                charge["calendar"] = "demand_months".into();
            } else {
                for row in &mut structure.rows {
                    row.as_object_mut().map(|row| row.remove("period"));
                }
            }
            charge["rates"] = structure.rows.into();
            let unit = self.text("flatdemandunit");
            push(&mut self.charges, charge, unit);
        }
        if let Some(mut structure) = self.rows("demandratestructure", "d")?.filter(|structure| !structure.is_free()) {
            let weekday = self.record.get("demandweekdayschedule");
            let weekend = self.record.get("demandweekendschedule");
            let periods = calendar("demand", "d", weekday, weekend, structure.periods)?;
            structure.keep_running(&periods);
            self.periods.insert("demand".into(), periods);
            let charge = json!({
                "code": "TOU-DEMAND", "name": "Time-of-use demand charge", "basis": "demand", "calendar": "demand",
                "rates": structure.rows,
            });
            let unit = self.text("demandrateunit");
            push(&mut self.charges, charge, unit);
        }
        Ok(())
    }

    /// The demand window, if demand is priced.
    fn window(&mut self) -> Result<Option<Value>, UrdbError> {
        let needed = self.charges.iter().any(|c| c["basis"] == "demand" || c["max_per"] == "kW");
        if !needed {
            return Ok(None);
        }
        let minutes = self.number("demandwindow")?.and_then(|minutes| minutes.parse::<u32>().ok());
        if minutes.is_none() {
            self.open.push("demandwindow: not given; 15 minutes were written".into());
        }
        Ok(Some(json!({ "window_min": minutes.unwrap_or(15) })))
    }

    fn minimum(&mut self) -> Result<(), UrdbError> {
        let new = self.number("mincharge")?;
        let Some(rate) = new.clone().or(self.number("minmonthlycharge")?).filter(|rate| rate != "0") else {
            return Ok(());
        };
        let unit = if new.is_some() { self.text("minchargeunits") } else { None };
        let codes: Vec<Value> = self.charges.iter().map(|charge| charge["code"].clone()).collect();
        let mut charge = json!({
            "code": "MINIMUM", "name": "Minimum bill", "basis": "minimum", "of": codes, "rates": [{ "rate": rate }],
        });
        match unit.as_deref() {
            None | Some("$/month") => {}
            Some("$/day") => charge["per"] = "day".into(),
            Some("$/year") => charge["per"] = "year".into(),
            Some(other) => self.open.push(format!("minchargeunits: \"{other}\" is not known; read as per month")),
        }
        self.charges.push(charge);
        Ok(())
    }

    fn export(&mut self) -> Option<Value> {
        let rules = self.text("dgrules");
        let sells = self.charges.iter().any(|charge| charge["code"] == "EXPORT");
        match rules.as_deref() {
            Some("Net Metering") => {
                self.open.push("dgrules: net metering; the price of a surplus at the year's end is not in the record: add a `settle` charge".into());
                self.charges.retain(|charge| charge["code"] != "EXPORT");
                let several = self.periods.get("energy").and_then(Value::as_array).is_some_and(|list| list.len() > 1);
                Some(json!({ "rule": "net-metering", "calendar": "energy", "by_period": several }))
            }
            Some("Net Billing Hourly") => Some(json!({ "rule": "net-billing", "net_window_min": 60 })),
            Some("Net Billing Instantaneous" | "Buy All Sell All") => Some(json!({ "rule": "net-billing" })),
            Some(other) => {
                self.open.push(format!("dgrules: \"{other}\" is not known; export was left out"));
                None
            }
            None => sells.then(|| json!({ "rule": "net-billing" })),
        }
    }

    /// What the record says beside, for a person to read.
    fn rest(&mut self) {
        for (field, value) in self.record {
            let empty = value.is_null() || value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty);
            if KNOWN.contains(&field.as_str()) || empty {
                continue;
            }
            let mut words = value.to_string();
            if words.chars().count() > 200 {
                words = words.chars().take(200).chain("…".chars()).collect();
            }
            self.open.push(format!("{field}: not carried: {words}"));
        }
    }
}

struct Structure {
    rows: Vec<Value>,
    sells: Vec<Value>,
    tiers: usize,
    units: Vec<String>,
    periods: usize,
}

impl Structure {
    /// Whether every price is zero: the database writes such rows where there is no charge.
    fn is_free(&self) -> bool {
        self.rows.iter().all(|row| row["rate"] == "0" && row.get("adj").is_none())
    }

    /// Leaves out the rows of periods that no schedule runs.
    fn keep_running(&mut self, calendar: &Value) {
        let runs =
            |row: &Value| calendar.as_array().is_some_and(|list| list.iter().any(|p| p["name"] == row["period"]));
        self.rows.retain(runs);
        self.sells.retain(runs);
    }
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
