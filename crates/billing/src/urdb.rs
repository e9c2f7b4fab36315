//! Converts a record of the public Utility Rate Database (OpenEI URDB, version 3 to 8) into a tariff file, and says what it could not carry.
//!
//! The result is a draft: the database often hides riders, ratchets and taxes in its comments. Numbers are taken as they are written.

mod demand;
mod schedule;
mod structure;

use serde_json::{Map, Value, json};

use schedule::calendar;
use structure::{Structure, decimal};

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

/// Fields that are carried, told by themselves, or say nothing about the price. Small letters: records differ.
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
    "demandunits",
    "demandratchetpercentage",
    "latest_update",
    "_source",
];

/// The database is one of rates in the United States.
const CURRENCY: &str = "USD";

/// Reads a record and converts it. `timezone` is not in the record; without one the Eastern zone is written and said to be a guess.
pub fn import(text: &str, timezone: Option<&str>) -> Result<Imported, UrdbError> {
    let file: Value = serde_json::from_str(text)?;
    let record = file.get("urdb").or_else(|| file.get("items").and_then(|items| items.get(0))).unwrap_or(&file);
    let record = record.as_object().ok_or(UrdbError::NoRecord)?;
    let record: Map<String, Value> =
        record.iter().map(|(field, value)| (field.to_ascii_lowercase(), value.clone())).collect();
    if !record.keys().any(|key| key.contains("structure") || key.contains("charge")) {
        return Err(UrdbError::NoRecord);
    }
    let mut import = Import { record: &record, charges: Vec::new(), periods: Map::new(), open: Vec::new() };
    if let Some(more) = file.get("items").and_then(Value::as_array).filter(|items| items.len() > 1) {
        import.open.push(format!("items: the file holds {} records; the first was converted", more.len()));
    }
    import.identity();
    import.fixed()?;
    import.energy()?;
    import.demand()?;
    let export = import.export();
    import.minimum()?;
    import.rest();
    let mut tariff = json!({
        "schema": "gridtally-tariff/1",
        "id": import.text("label").unwrap_or_else(|| "urdb".into()),
        "name": import.text("name").unwrap_or_else(|| "Rate".into()),
        "country": "US",
        "currency": CURRENCY,
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

impl<'a> Import<'a> {
    fn text(&self, field: &str) -> Option<String> {
        self.record.get(field).and_then(Value::as_str).map(str::to_owned)
    }

    fn number(&self, field: &str) -> Result<Option<String>, UrdbError> {
        match self.record.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => decimal(value).map(Some).ok_or_else(|| wrong(field, "is no number; mend the record")),
        }
    }

    /// What says for whom and when the rate holds: told, not written, because a draft must first be looked at.
    fn identity(&mut self) {
        for (field, words) in [("startdate", "the first day"), ("enddate", "the last day")] {
            let second = self.record.get(field).and_then(decimal);
            let second = second.and_then(|text| text.split('.').next().and_then(|whole| whole.parse::<i64>().ok()));
            let Some(second) = second else { continue };
            let day = crate::calendar::local_date(&jiff::tz::TimeZone::UTC, second);
            let day = day.map_or_else(|| second.to_string(), |day| day.to_string());
            self.open.push(format!(
                "{field}: {words} is {day} by UTC; write it to `valid` when the rate has been looked at"
            ));
        }
        if let Some(country) = self.text("country").filter(|country| !["USA", "US"].contains(&country.as_str())) {
            self.open
                .push(format!("country: \"{country}\"; US and {CURRENCY} were written, mend `country` and `currency`"));
        }
    }

    /// A structure that is there and holds a row.
    fn structure(&mut self, field: &str, prefix: &str) -> Result<Option<Structure>, UrdbError> {
        let Some(value) = self.record.get(field).filter(|value| !value.is_null()) else { return Ok(None) };
        let found = Structure::read(field, value, prefix, &mut self.open)?;
        Ok((!found.rows.is_empty()).then_some(found))
    }

    /// The schedules of a structure; that one is missing is told.
    fn schedules(&mut self, kind: &str, periods: usize) -> [Option<&'a Value>; 2] {
        let record = self.record;
        let names = [format!("{kind}weekdayschedule"), format!("{kind}weekendschedule")];
        let found = names.each_ref().map(|name| record.get(name.as_str()).filter(|value| !value.is_null()));
        if periods > 1 && found[0].is_none() {
            self.open.push(format!("{}: is missing; period 0 was written for every hour", names[0]));
        }
        if found[0].is_some() && found[1].is_none() {
            self.open.push(format!("{}: is missing; weekends were written as weekdays", names[1]));
        }
        found
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

    fn energy(&mut self) -> Result<(), UrdbError> {
        let Some(mut structure) = self.structure("energyratestructure", "e")? else { return Ok(()) };
        let [weekday, weekend] = self.schedules("energy", structure.periods);
        let periods = calendar("energy", "e", weekday, weekend, structure.periods)?;
        structure.keep_running(&periods);
        self.periods.insert("energy".into(), periods);
        let mut charge = json!({
            "code": "ENERGY", "name": "Energy charge", "basis": "energy", "calendar": "energy", "rates": structure.rows,
        });
        if structure.tiers > 1 {
            charge["tier_over"] = "all".into();
        }
        let units: Vec<&str> = structure.units.iter().map(String::as_str).collect();
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
        let sells = structure.sells;
        if !sells.is_empty() {
            self.charges.push(json!({
                "code": "EXPORT", "name": "Credit for energy sent to the grid", "basis": "energy", "flow": "export",
                "calendar": "energy", "credit": true, "rates": sells,
            }));
        }
        Ok(())
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
        let sells = self.charges.iter().any(|charge| charge["code"] == "EXPORT");
        let old_flag = self.record.get("usenetmetering").and_then(Value::as_bool) == Some(true);
        let rules = self.text("dgrules").or_else(|| old_flag.then(|| "Net Metering".to_owned()));
        match rules.as_deref() {
            Some("Net Metering") => {
                self.open.push("dgrules: net metering; the price of a surplus at the year's end is not in the record: add a `settle` charge".into());
                if sells {
                    self.open.push("energyratestructure: what export earns by kWh (`sell`) was left out: net metering carries it in kWh".into());
                    self.charges.retain(|charge| charge["code"] != "EXPORT");
                }
                let several = self.periods.get("energy").and_then(Value::as_array).is_some_and(|list| list.len() > 1);
                Some(match self.periods.contains_key("energy") {
                    true => json!({ "rule": "net-metering", "calendar": "energy", "by_period": several }),
                    false => json!({ "rule": "net-metering" }),
                })
            }
            Some("Net Billing Hourly") => Some(json!({ "rule": "net-billing", "net_window_min": 60 })),
            Some("Net Billing Instantaneous" | "Buy All Sell All") => Some(json!({ "rule": "net-billing" })),
            Some(other) => {
                self.open.push(format!("dgrules: \"{other}\" is not known; export was left out"));
                self.charges.retain(|charge| charge["code"] != "EXPORT");
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
