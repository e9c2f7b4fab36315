//! A case folder: who, which tariffs, which readings, which bills (`gridtally-case/1`).
//!
//! Files come from the caller by name, so nothing here touches a disk; no other file than those that the case names is ever asked for.

mod document;

use crate::{
    bill::{Account, Bill},
    calendar::local_date,
    customer::Customer,
    cycle::{Listed, Made, Order, Supply},
    error::{Fault, RatingError},
    prepaid::{self, PrepaidOrder},
    rate::{Sale, SideFiles},
    readings::Readings,
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
        let document: document::Document = serde_json::from_slice(&bytes)
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
        let meters = document.meters.into_iter().map(document::meter).collect::<Result<_, _>>()?;
        let bytes = open(files, CASE_FILE, "readings", &document.readings)?;
        let readings = Readings::read(&document.readings, &bytes, meters)?;
        let mut opening = document::opening(&document.opening, first.tariff.minor_digits)?;
        opening.history_kwh.clone_from(&customer.history_kwh);
        let digits = first.tariff.minor_digits;
        let wanted = document.bills.iter().enumerate();
        let wanted = wanted.map(|(index, bill)| document::wanted(index, bill, digits)).collect::<Result<_, _>>()?;
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
                Wanted::Bill(order) => report::bill(&make(&supply, order, &mut account, &mut made)?),
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
    pub fn bills(&self) -> Result<Vec<(Made, Bill)>, Fault> {
        let supply = self.supply();
        let mut account = self.opening.clone();
        let mut made: Vec<Made> = Vec::new();
        let mut bills = Vec::new();
        for wanted in &self.wanted {
            let Wanted::Bill(order) = wanted else { continue };
            bills.push(make(&supply, order, &mut account, &mut made)?);
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

/// Makes a bill and remembers what a correction of it starts from.
fn make(supply: &Supply<'_>, order: &Order, account: &mut Account, made: &mut Vec<Made>) -> Result<Bill, Fault> {
    let before = account.clone();
    let bill = supply.bill(order, account, made)?;
    made.push(Made { order: order.clone(), before, stands_at: bill.own_total, parts: bill.parts.clone() });
    Ok(bill)
}
