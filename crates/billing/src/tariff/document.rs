//! The tariff file as it is written: field by field what `schema/tariff.schema.json` says. Unknown fields are refused.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    pub schema: String,
    pub id: String,
    pub name: String,
    #[serde(rename = "utility")]
    pub _utility: Option<String>,
    pub country: Option<String>,
    pub currency: String,
    pub minor_digits: u32,
    pub timezone: String,
    pub valid: Option<Valid>,
    #[serde(rename = "source")]
    pub _source: Option<serde_json::Value>,
    pub month_count: Option<MonthCount>,
    #[serde(default)]
    pub seasons: BTreeMap<String, Vec<Season>>,
    pub holidays: Option<Holidays>,
    #[serde(default)]
    pub periods: BTreeMap<String, Vec<Period>>,
    pub demand: Option<Demand>,
    pub pf: Option<PowerFactor>,
    #[serde(default)]
    pub series: BTreeMap<String, Series>,
    pub export: Option<Export>,
    pub prepaid: Option<Prepaid>,
    /// Allows prices below zero outside of price series: a discount per kWh, a feed-in bonus. Not in the shared schema.
    #[serde(default)]
    pub negative_prices: bool,
    pub charges: Vec<Charge>,
    pub rounding: Roundings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Valid {
    pub from: Option<String>,
    pub to: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonthCount {
    pub by: String,
    pub days: Option<String>,
    pub round: Option<Rounding>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rounding {
    pub to: String,
    pub mode: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Season {
    pub from: String,
    pub to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holidays {
    pub dates: Vec<String>,
    #[serde(rename = "as")]
    pub treated_as: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Period {
    pub name: String,
    pub when: Vec<When>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    pub months: Option<Vec<u8>>,
    pub season: Option<String>,
    pub days: Option<Vec<String>>,
    pub from: Option<String>,
    pub to: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    pub window_min: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerFactor {
    pub from: String,
    pub round: Option<Rounding>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    pub file: String,
    pub column: String,
    pub scale: Option<String>,
    #[serde(rename = "note")]
    pub _note: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    pub rule: String,
    #[serde(default)]
    pub by_period: bool,
    pub calendar: Option<String>,
    pub net_window_min: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepaid {
    #[serde(rename = "debit")]
    pub _debit: Option<String>,
    pub disconnect_at: Option<String>,
    #[serde(default)]
    pub friendly: Vec<When>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Roundings {
    pub energy: Option<Rounding>,
    pub demand: Option<Rounding>,
    pub contract: Option<Rounding>,
    pub line: Option<Rounding>,
    pub total: Option<Rounding>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charge {
    pub code: String,
    pub name: String,
    pub basis: String,
    pub flow: Option<String>,
    pub unit: Option<String>,
    pub calendar: Option<String>,
    #[serde(default, rename = "if")]
    pub conditions: Vec<Condition>,
    #[serde(default)]
    pub rates: Vec<Rate>,
    pub mode: Option<String>,
    pub tier_over: Option<String>,
    pub max_per: Option<String>,
    pub less: Option<Less>,
    pub ratchet: Option<Ratchet>,
    pub floor: Option<Floor>,
    #[serde(rename = "use")]
    pub usage: Option<String>,
    pub times: Option<String>,
    pub per: Option<String>,
    pub past_demand: Option<PastDemand>,
    pub of: Option<Vec<String>>,
    #[serde(default)]
    pub gross_up: bool,
    #[serde(default)]
    pub credit: bool,
    pub settle: Option<Settle>,
    pub months: Option<Vec<u8>>,
    pub round: Option<Rounding>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Less {
    pub percent: String,
    pub of: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratchet {
    pub percent: String,
    pub lookback: u32,
    pub months: Option<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    pub percent: Option<String>,
    pub at_least: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PastDemand {
    pub unit: String,
    pub lookback: u32,
    pub at_least: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    pub month: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub period: Option<String>,
    pub max: Option<String>,
    pub rate: Option<String>,
    pub adj: Option<String>,
    pub percent: Option<String>,
    pub series: Option<String>,
    pub mul: Option<String>,
    pub cap: Option<String>,
    #[serde(default, rename = "if")]
    pub conditions: Vec<Condition>,
    pub round: Option<Rounding>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    pub what: String,
    pub per: Option<String>,
    pub is: Option<serde_json::Value>,
    pub over: Option<String>,
    pub from: Option<String>,
    pub upto: Option<String>,
    pub below: Option<String>,
}
