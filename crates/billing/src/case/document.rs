//! `case.json` as it is written, and what it means. Unknown fields are refused.

use jiff::civil::Date;
use serde::Deserialize;

use super::{CASE_FILE, Wanted};
use crate::{
    bill::{Account, DemandOfMonth, to_minor},
    calendar::parse_instant,
    cycle::Order,
    error::Fault,
    exact::Exact,
    prepaid::PrepaidOrder,
    rate::Sale,
    readings::Meter,
    vend::Payment,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    pub schema: String,
    pub id: String,
    #[serde(rename = "title")]
    pub _title: String,
    #[serde(rename = "kind")]
    pub _kind: Option<String>,
    #[serde(rename = "shows")]
    pub _shows: Option<serde_json::Value>,
    #[serde(default)]
    pub customer: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    pub meters: std::collections::BTreeMap<String, MeterDocument>,
    pub tariffs: Vec<String>,
    pub readings: String,
    #[serde(default)]
    pub opening: Opening,
    pub bills: Vec<BillDocument>,
    #[serde(rename = "notes")]
    pub _notes: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeterDocument {
    pub multiplier: Option<String>,
    pub rollover_wh: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    pub money: Option<String>,
    #[serde(default)]
    pub kwh: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    pub demand_history: std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BillDocument {
    pub id: String,
    pub kind: Option<String>,
    pub from: Option<String>,
    pub to: Option<String>,
    pub issued: Option<String>,
    #[serde(default)]
    pub rerate: Vec<String>,
    pub at: Option<String>,
    pub pay: Option<String>,
    pub bought_kwh: Option<String>,
    pub months_due: Option<String>,
    pub arrears: Option<String>,
    pub opening_balance: Option<String>,
    #[serde(default)]
    pub topups: Vec<TopUp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopUp {
    pub time: String,
    pub amount: String,
}

/// What is fixed about a meter.
pub fn meter((name, document): (String, MeterDocument)) -> Result<Meter, Fault> {
    let field = |field: &str| format!("meters.{name}.{field}");
    let number = |place: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => Exact::decimal(text)
            .map(Some)
            .map_err(|why| Fault::new(CASE_FILE, field(place), format!("\"{text}\" {why}"))),
    };
    let multiplier = number("multiplier", &document.multiplier)?.unwrap_or(Exact::ONE);
    if !multiplier.is_positive() || multiplier > Exact::whole(1_000_000_000) {
        let message = "must lie above zero and at most a thousand million; write the transformers' ratio";
        return Err(Fault::new(CASE_FILE, field("multiplier"), message));
    }
    let rollover = number("rollover_wh", &document.rollover_wh)?;
    let rollover_wh = match rollover {
        None => None,
        Some(modulus) => Some(modulus.to_i64().filter(|modulus| *modulus > 0).ok_or_else(|| {
            let message = "must be a whole number above zero; write the modulus of the register in Wh";
            Fault::new(CASE_FILE, field("rollover_wh"), message)
        })?),
    };
    Ok(Meter { name, multiplier, rollover_wh })
}

fn decimal(place: &str, text: &str) -> Result<Exact, Fault> {
    Exact::decimal(text).map_err(|why| Fault::new(CASE_FILE, place, format!("\"{text}\" {why}")))
}

/// Not below zero.
fn amount(place: &str, text: Option<&str>) -> Result<Exact, Fault> {
    let number = text.map_or(Ok(Exact::ZERO), |text| decimal(place, text))?;
    if number.is_negative() {
        return Err(Fault::new(CASE_FILE, place, "is below zero; write zero or more"));
    }
    Ok(number)
}

fn money(place: &str, text: &str, digits: u32) -> Result<i64, Fault> {
    to_minor(&decimal(place, text)?, digits).map_err(|why| Fault::new(CASE_FILE, place, why.to_string()))
}

/// The account before the first bill.
pub fn opening(document: &Opening, digits: u32) -> Result<Account, Fault> {
    let mut account = Account::default();
    if let Some(text) = &document.money {
        account.money = money("opening.money", text, digits)?;
    }
    for (name, text) in &document.kwh {
        account.kwh.insert(name.clone(), amount(&format!("opening.kwh.{name}"), Some(text))?);
    }
    for (month, demands) in &document.demand_history {
        let place = format!("opening.demand_history.{month}");
        let first = format!("{month}-01").parse::<Date>();
        let first = first.map_err(|_| Fault::new(CASE_FILE, &*place, "is no month; write it as 2017-08"))?;
        let mut demand = DemandOfMonth::default();
        for (unit, text) in demands {
            let value = Some(amount(&format!("{place}.{unit}"), Some(text))?);
            match unit.as_str() {
                "kW" => demand.kilowatts = value,
                "kVA" => demand.kilovolt_amperes = value,
                _ => return Err(Fault::new(CASE_FILE, place, format!("\"{unit}\" is no demand; write kW or kVA"))),
            }
        }
        account.remember_demand(first, &demand);
    }
    Ok(account)
}

/// What a bill of the case wants.
pub fn wanted(index: usize, bill: &BillDocument, digits: u32) -> Result<Wanted, Fault> {
    let place = |field: &str| format!("bills[{index}].{field}");
    let fault = |field: &str, message: String| Fault::new(CASE_FILE, place(field), message);
    let date = |field: &str, text: &Option<String>| {
        let text = text.as_ref().ok_or_else(|| fault(field, "is missing; write it as 2025-02-28".into()))?;
        let parsed = (text.len() == 10).then(|| text.parse::<Date>().ok()).flatten();
        parsed.ok_or_else(|| fault(field, format!("\"{text}\" is no date; write it as 2025-02-28")))
    };
    let instant = |field: &str, text: &str| {
        let message = || format!("\"{text}\" is no instant; write it as 2024-02-02T06:00Z");
        parse_instant(text).ok_or_else(|| fault(field, message()))
    };
    let issued_s = bill.issued.as_ref().map(|text| instant("issued", text)).transpose()?;
    match bill.kind.as_deref() {
        None | Some("bill") => Ok(Wanted::Bill(Order {
            id: bill.id.clone(),
            from: date("from", &bill.from)?,
            to: date("to", &bill.to)?,
            issued_s,
            rerate: bill.rerate.clone(),
        })),
        Some("vend") => {
            let at = bill.at.as_ref().ok_or_else(|| fault("at", "is missing; write the instant of the sale".into()))?;
            let pay = bill.pay.as_ref().ok_or_else(|| fault("pay", "is missing; write what is paid".into()))?;
            let payment = Payment {
                day: Date::constant(1970, 1, 1),
                pay: amount(&place("pay"), Some(pay))?,
                sale: Sale {
                    bought: amount(&place("bought_kwh"), bill.bought_kwh.as_deref())?,
                    band: None,
                    months_due: amount(&place("months_due"), bill.months_due.as_deref())?,
                },
                arrears: amount(&place("arrears"), bill.arrears.as_deref())?,
            };
            Ok(Wanted::Token(bill.id.clone(), instant("at", at)?, Box::new(payment)))
        }
        Some("prepaid") => {
            let mut topups = Vec::new();
            for (number, topup) in bill.topups.iter().enumerate() {
                let field = format!("topups[{number}]");
                let at_s = instant(&format!("{field}.time"), &topup.time)?;
                topups.push((at_s, money(&place(&format!("{field}.amount")), &topup.amount, digits)?));
            }
            topups.sort_by_key(|(at_s, _)| *at_s);
            let balance = bill.opening_balance.as_deref().unwrap_or("0");
            Ok(Wanted::Prepaid(PrepaidOrder {
                id: bill.id.clone(),
                from: date("from", &bill.from)?,
                to: date("to", &bill.to)?,
                opening_balance: money(&place("opening_balance"), balance, digits)?,
                topups,
                issued_s,
            }))
        }
        Some(other) => Err(fault("kind", format!("\"{other}\" is not known; write bill, vend or prepaid"))),
    }
}
