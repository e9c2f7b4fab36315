//! A case folder: who, which tariffs, which readings, which bills (`gridtally-case/1`).
//!
//! Files come from the caller by name, so nothing here touches a disk; no other file than those that the case names is ever asked for.

use jiff::civil::Date;
use serde::Deserialize;

use crate::{
    bill::{Account, DemandOfMonth, to_minor},
    calendar::{local_date, parse_instant},
    customer::Customer,
    cycle::{Listed, Made, Order, Supply},
    error::{Fault, RatingError},
    exact::Exact,
    prepaid::{self, PrepaidOrder},
    rate::{Sale, SideFiles},
    readings::{Meter, Readings},
    report::{self, Expected},
    series::{Series, read_times},
    tariff::{Basis, DemandUse, Tariff},
    vend::{self, Payment},
};

/// Name of the file that orders the bills.
pub const CASE_FILE: &str = "case.json";
/// Most bills of a case.
const BILLS_MAX: usize = 10_000;

/// Whether a name is that of a file in the same folder.
pub fn is_plain_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: String,
    id: String,
    #[serde(rename = "title")]
    _title: String,
    #[serde(rename = "kind")]
    _kind: Option<String>,
    #[serde(rename = "shows")]
    _shows: Option<serde_json::Value>,
    #[serde(default)]
    customer: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    meters: std::collections::BTreeMap<String, MeterDocument>,
    tariffs: Vec<String>,
    readings: String,
    #[serde(default)]
    opening: Opening,
    bills: Vec<BillDocument>,
    #[serde(rename = "notes")]
    _notes: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MeterDocument {
    multiplier: Option<String>,
    rollover_wh: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Opening {
    money: Option<String>,
    #[serde(default)]
    kwh: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    demand_history: std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BillDocument {
    id: String,
    kind: Option<String>,
    from: Option<String>,
    to: Option<String>,
    issued: Option<String>,
    #[serde(default)]
    rerate: Vec<String>,
    at: Option<String>,
    pay: Option<String>,
    bought_kwh: Option<String>,
    months_due: Option<String>,
    arrears: Option<String>,
    opening_balance: Option<String>,
    #[serde(default)]
    topups: Vec<TopUp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopUp {
    time: String,
    amount: String,
}

/// What is to be made.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A bill.
    Bill(Order),
    /// A token sale: identity, instant, payment; the day follows from the tariff's zone.
    Token(String, i64, Box<Payment>),
    /// Days under prepayment.
    Prepaid(PrepaidOrder),
}

/// A case, parsed.
#[derive(Clone, Debug)]
pub struct Case {
    /// Identity.
    pub id: String,
    /// Facts of the customer.
    pub customer: Customer,
    /// Tariffs with the files they name.
    pub tariffs: Vec<Listed>,
    /// Readings.
    pub readings: Readings,
    /// Name of their file.
    pub readings_file: String,
    /// State before the first bill.
    pub opening: Account,
    /// In order.
    pub wanted: Vec<Wanted>,
}

/// Gives the bytes of a file of the case by its name.
pub type Files<'a> = dyn Fn(&str) -> Result<Vec<u8>, String> + 'a;

fn open(files: &Files<'_>, named_in: &str, field: &str, name: &str) -> Result<Vec<u8>, Fault> {
    if !is_plain_file_name(name) || name == "expected.json" {
        let message = format!("\"{name}\" is no file of the case; name one beside {CASE_FILE}");
        return Err(Fault::new(named_in, field, message));
    }
    files(name).map_err(|why| Fault::new(name, "", why))
}

/// Reads a tariff with the files it names.
pub fn read_tariff(files: &Files<'_>, named_in: &str, field: &str, name: &str) -> Result<Listed, Fault> {
    let bytes = open(files, named_in, field, name)?;
    let text = String::from_utf8(bytes).map_err(|_| Fault::new(name, "", "is not UTF-8 text; save it as such"))?;
    let tariff = Tariff::read(name, &text).map_err(|findings| {
        let first = findings.iter().max_by_key(|finding| finding.weight);
        first.map_or_else(
            || Fault::new(name, "", "cannot be read"),
            |first| {
                let line = first.line.map(|line| format!("line {line}: ")).unwrap_or_default();
                Fault::new(name, format!("{line}{}", first.field), format!("{}; {}", first.problem, first.remedy))
            },
        )
    })?;
    let mut side = SideFiles::default();
    for (index, rule) in tariff.series.iter().enumerate() {
        let field = format!("series[{index}].file");
        side.series.push(Series::read(rule, &open(files, name, &field, &rule.file)?)?);
    }
    for charge in &tariff.charges {
        if let Basis::Demand(basis) = &charge.basis
            && let DemandUse::Coincident(file) = &basis.usage
            && !side.times.contains_key(file)
        {
            side.times.insert(file.clone(), read_times(file, &open(files, name, "times", file)?)?);
        }
    }
    Ok(Listed { file: name.to_owned(), tariff, files: side })
}

impl Case {
    /// Reads a case by its files.
    pub fn read(files: &Files<'_>) -> Result<Case, Fault> {
        let bytes = files(CASE_FILE).map_err(|why| Fault::new(CASE_FILE, "", why))?;
        let document: Document = serde_json::from_slice(&bytes)
            .map_err(|why| Fault::new(CASE_FILE, format!("line {}", why.line()), format!("{why}; mend the field")))?;
        let fault = |place: &str, message: String| Fault::new(CASE_FILE, place, message);
        if document.schema != "gridtally-case/1" {
            return Err(fault("schema", format!("\"{}\" is not known; write \"gridtally-case/1\"", document.schema)));
        }
        if document.bills.len() > BILLS_MAX {
            return Err(fault("bills", format!("more than {BILLS_MAX}; divide the case")));
        }
        let tariffs: Vec<Listed> = document
            .tariffs
            .iter()
            .enumerate()
            .map(|(index, name)| read_tariff(files, CASE_FILE, &format!("tariffs[{index}]"), name))
            .collect::<Result<_, _>>()?;
        let Some(first) = tariffs.first() else {
            return Err(fault("tariffs", "lists no tariff; add one".into()));
        };
        let customer = Customer::from_json(&document.customer).map_err(|why| fault("customer", why.to_string()))?;
        let meters = document.meters.into_iter().map(meter).collect::<Result<_, _>>()?;
        let bytes = open(files, CASE_FILE, "readings", &document.readings)?;
        let readings = Readings::read(&document.readings, &bytes, meters)?;
        let mut opening = opening(&document.opening, first.tariff.minor_digits)?;
        opening.history_kwh.clone_from(&customer.history_kwh);
        let digits = first.tariff.minor_digits;
        let wanted = document.bills.iter().enumerate();
        let wanted = wanted.map(|(index, bill)| parse_bill(index, bill, digits)).collect::<Result<_, _>>()?;
        let readings_file = document.readings;
        Ok(Case { id: document.id, customer, tariffs, readings, readings_file, opening, wanted })
    }

    /// The supply of the case.
    pub fn supply(&self) -> Supply<'_> {
        Supply {
            tariffs: &self.tariffs,
            readings: &self.readings,
            customer: &self.customer,
            readings_file: &self.readings_file,
            case_file: CASE_FILE,
        }
    }

    /// Makes all that is wanted, in order.
    pub fn run(&self) -> Result<Expected, Fault> {
        let supply = self.supply();
        let mut account = self.opening.clone();
        let mut made: Vec<Made> = Vec::new();
        let last = self.tariffs.last().map(|listed| &listed.tariff);
        let mut results = Vec::new();
        for wanted in &self.wanted {
            results.push(match wanted {
                Wanted::Bill(order) => {
                    let before = account.clone();
                    let bill = supply.bill(order, &mut account, &mut made)?;
                    made.push(Made {
                        order: order.clone(),
                        before,
                        stands_at: bill.own_total,
                        parts: bill.parts.clone(),
                    });
                    report::bill(&bill)
                }
                Wanted::Token(id, at_s, payment) => report::token(id, &self.sell(&supply, id, *at_s, payment)?),
                Wanted::Prepaid(order) => report::prepaid(&prepaid::run(&supply, order, &mut account)?),
            });
        }
        Ok(Expected {
            schema: report::SCHEMA,
            currency: last.map(|tariff| tariff.currency.clone()).unwrap_or_default(),
            minor_digits: last.map_or(0, |tariff| tariff.minor_digits),
            bills: results,
        })
    }

    /// Makes the bills (no token sales, no prepaid days) with the account before each.
    pub fn bills(&self) -> Result<Vec<(Made, crate::bill::Bill)>, Fault> {
        let supply = self.supply();
        let mut account = self.opening.clone();
        let mut made: Vec<Made> = Vec::new();
        let mut bills = Vec::new();
        for wanted in &self.wanted {
            let Wanted::Bill(order) = wanted else { continue };
            let before = account.clone();
            let bill = supply.bill(order, &mut account, &mut made)?;
            let parts = bill.parts.clone();
            made.push(Made { order: order.clone(), before, stands_at: bill.own_total, parts });
            bills.push(bill);
        }
        Ok(made.into_iter().zip(bills).collect())
    }

    fn sell(&self, supply: &Supply<'_>, id: &str, at_s: i64, payment: &Payment) -> Result<vend::Token, Fault> {
        let place = format!("bill {id}");
        let zone = &self.tariffs[0].tariff.zone;
        let day = local_date(zone, at_s).unwrap_or(payment.day);
        let in_case = |why: RatingError| why.in_files("tariff", &self.readings_file, CASE_FILE, &place);
        let listed = supply.tariff_on(day).map_err(in_case)?;
        let band = self.customer.number("band_kwh").map_err(in_case)?.cloned();
        let payment = Payment { day, sale: Sale { band, ..payment.sale.clone() }, ..payment.clone() };
        let sold = vend::sell(listed, &self.customer, &payment);
        sold.map_err(|why| why.in_files(&listed.file, &self.readings_file, CASE_FILE, &place))
    }
}

fn meter((name, document): (String, MeterDocument)) -> Result<Meter, Fault> {
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

fn opening(document: &Opening, digits: u32) -> Result<Account, Fault> {
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

fn parse_bill(index: usize, bill: &BillDocument, digits: u32) -> Result<Wanted, Fault> {
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
