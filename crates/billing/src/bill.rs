//! A bill and what passes from one bill to the next.

use std::collections::BTreeMap;

use jiff::civil::Date;

use crate::{
    error::RatingError,
    exact::Exact,
    rounding::Rounding,
    tariff::{LoadUnit, Tariff},
    usage::Quality,
};

/// Largest amount, in minor units either way: sums of all lines of a bill still fit.
pub const AMOUNT_MAX: i64 = 1_000_000_000_000_000;

/// A line of a bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Code of its charge; a carry adds `-IN` or `-OUT`.
    pub code: String,
    /// Period, if its rate has one.
    pub period: Option<String>,
    /// Number of the block, from 1, if the ladder has several.
    pub block: Option<u32>,
    /// Quantity, exact.
    pub quantity: Exact,
    /// Unit of the quantity; currency on percent lines; empty where there is none.
    pub unit: String,
    /// Price of a unit; `None`: by interval.
    pub unit_price: Option<Exact>,
    /// Amount before rounding and before the sign of a credit, currency units.
    pub exact: Exact,
    /// Amount, minor units.
    pub amount: i64,
    /// How the amount was rounded; `None`: not at all.
    pub rounding: Option<Rounding>,
    /// What it says on the bill.
    pub description: String,
    /// Where in the tariff it comes from.
    pub clause: Option<Clause>,
}

impl Line {
    /// A line of money that no rate prices: a correction, the rounding of a total, the rest of a payment, a credit brought forward.
    pub fn of_money(code: impl Into<String>, description: impl Into<String>, amount: i64, digits: u32) -> Line {
        Line {
            code: code.into(),
            period: None,
            block: None,
            quantity: Exact::ONE,
            unit: String::new(),
            unit_price: Some(from_minor(amount, digits)),
            exact: from_minor(amount, digits),
            amount,
            rounding: None,
            description: description.into(),
            clause: None,
        }
    }
}

/// Where in a tariff a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Index of the charge.
    pub charge: usize,
    /// Index of the rate in it.
    pub rate: Option<usize>,
}

/// A part of a bill under one tariff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// First day.
    pub from: Date,
    /// The day after the last.
    pub to: Date,
    /// Identity of the tariff.
    pub tariff: String,
    /// Months of the part.
    pub months: Exact,
    /// Lines, in the order of the charges.
    pub lines: Vec<Line>,
    /// Netting: pot, import, export, credit brought in, kWh.
    pub netting: Vec<Pot>,
    /// Power factor, if the tariff makes one.
    pub power_factor: Option<Exact>,
}

/// One pot of net metering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pot {
    /// `all`, or the name of the period.
    pub name: String,
    /// Rounded import, kWh.
    pub import: Exact,
    /// Rounded export, kWh.
    pub export: Exact,
    /// Carried credit brought in, kWh.
    pub credit_in: Exact,
}

impl Pot {
    /// What is billed, kWh.
    pub fn net(&self) -> Exact {
        self.difference().max(Exact::ZERO)
    }

    /// What is carried on, kWh.
    pub fn carried(&self) -> Exact {
        (-&self.difference()).max(Exact::ZERO)
    }

    fn difference(&self) -> Exact {
        &(&self.import - &self.export) - &self.credit_in
    }
}

/// The correction of an earlier bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// Which bill.
    pub bill: String,
    /// Its total as billed (or as last corrected), minor units.
    pub billed: i64,
    /// Its total with the readings now known.
    pub corrected: i64,
    /// Its parts now, for the comparison line by line.
    pub parts: Vec<Part>,
    /// What `corrected` was rounded by.
    pub round_line: Option<Line>,
}

/// A bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill {
    /// Identity.
    pub id: String,
    /// First day.
    pub from: Date,
    /// The day after the last.
    pub to: Date,
    /// Parts, one unless a tariff changed inside.
    pub parts: Vec<Part>,
    /// Corrections of earlier bills.
    pub corrections: Vec<Correction>,
    /// Lines of corrections and of the rounding of the total.
    pub closing: Vec<Line>,
    /// Total without corrections, rounded: what a later correction compares with.
    pub own_total: i64,
    /// Total, minor units.
    pub total: i64,
    /// What passes to the next bill.
    pub carry: Account,
    /// Maximum demand, where the tariff asks for demand and it can be measured.
    pub demand: DemandOfMonth,
    /// Quality of the readings it rests on.
    pub quality: Quality,
    /// How many bills in a row, this one included, rest on estimates.
    pub estimates_in_a_row: u32,
}

/// Highest demand of a month.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DemandOfMonth {
    /// kW.
    pub kilowatts: Option<Exact>,
    /// kVA.
    pub kilovolt_amperes: Option<Exact>,
}

impl DemandOfMonth {
    /// In one unit.
    pub fn of(&self, unit: LoadUnit) -> Option<&Exact> {
        match unit {
            LoadUnit::KilovoltAmperes => self.kilovolt_amperes.as_ref(),
            _ => self.kilowatts.as_ref(),
        }
    }

    fn raise(&mut self, other: &DemandOfMonth) {
        for (slot, value) in
            [(&mut self.kilowatts, &other.kilowatts), (&mut self.kilovolt_amperes, &other.kilovolt_amperes)]
        {
            if value.as_ref() > slot.as_ref() {
                slot.clone_from(value);
            }
        }
    }
}

/// What passes from bill to bill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Credit of the customer, minor units.
    pub money: i64,
    /// Credit by pot of net metering, kWh.
    pub kwh: BTreeMap<String, Exact>,
    /// Highest demand by year and month.
    pub demand_history: BTreeMap<(i16, u8), DemandOfMonth>,
    /// Energy of the bills so far, kWh, oldest first.
    pub history_kwh: Vec<Exact>,
    /// Bills in a row that rest on estimates.
    pub estimates_in_a_row: u32,
}

impl Account {
    /// Highest demand of the `lookback` calendar months before a month; of the given months of the year only.
    pub fn past_demand(&self, month_of: Date, unit: LoadUnit, lookback: u32, months: Option<&[u8]>) -> Option<&Exact> {
        let number = |year: i16, month: u8| i64::from(year) * 12 + i64::from(month);
        let this = number(month_of.year(), month_of.month().unsigned_abs());
        let counts = |(year, month): &(i16, u8)| {
            let back = this - number(*year, *month);
            (1..=i64::from(lookback)).contains(&back) && months.is_none_or(|months| months.contains(month))
        };
        self.demand_history.iter().filter(|(key, _)| counts(key)).filter_map(|(_, demand)| demand.of(unit)).max()
    }

    /// Remembers the demand of a bill under the month of its first day.
    pub fn remember_demand(&mut self, month_of: Date, demand: &DemandOfMonth) {
        let key = (month_of.year(), month_of.month().unsigned_abs());
        self.demand_history.entry(key).or_default().raise(demand);
    }
}

/// Currency units as whole minor units.
pub fn to_minor(amount: &Exact, digits: u32) -> Result<i64, RatingError> {
    let minor = &amount.clone() * &Exact::power_of_ten(digits);
    minor.to_i64().filter(|minor| minor.unsigned_abs() <= AMOUNT_MAX.unsigned_abs()).ok_or_else(|| {
        RatingError::Tariff(format!(
            "the amount {} is not a whole number of minor units or beyond what a bill can hold; look at prices, quantities and rounding",
            amount.to_decimal(digits + 4)
        ))
    })
}

/// Minor units as currency units.
pub fn from_minor(amount: i64, digits: u32) -> Exact {
    Exact::whole(i128::from(amount)).over(&Exact::power_of_ten(digits)).unwrap_or(Exact::ZERO)
}

/// Minor units as a bill writes them: with all digits of the minor unit, 1260 cents as 12.60.
pub fn written(amount: i64, digits: u32) -> String {
    let whole = amount.unsigned_abs().to_string();
    let places = usize::try_from(digits).unwrap_or(0);
    let padded = format!("{whole:0>width$}", width = places + 1);
    let (units, rest) = padded.split_at(padded.len() - places);
    let sign = if amount < 0 { "-" } else { "" };
    if rest.is_empty() { format!("{sign}{units}") } else { format!("{sign}{units}.{rest}") }
}

/// A sum of lines, rounded as the tariff rounds totals; minor units.
pub fn rounded_total(tariff: &Tariff, sum: i64) -> Result<i64, RatingError> {
    match &tariff.rounding.total {
        None => Ok(sum),
        Some(rule) => to_minor(&rule.apply(&from_minor(sum, tariff.minor_digits)), tariff.minor_digits),
    }
}

/// Sum of amounts; every one is bounded, so only their number could make it fail.
pub fn sum_minor<'a>(lines: impl Iterator<Item = &'a Line>) -> Result<i64, RatingError> {
    let sum = lines.map(|line| i128::from(line.amount)).sum::<i128>();
    i64::try_from(sum).ok().filter(|sum| sum.unsigned_abs() <= AMOUNT_MAX.unsigned_abs()).ok_or_else(|| {
        RatingError::Tariff("the total is beyond what a bill can hold; look at prices and quantities".into())
    })
}

#[cfg(test)]
mod tests {
    use super::written;

    #[test]
    fn money_has_all_digits_of_its_minor_unit() {
        let of = |amounts: [i64; 4], digits| amounts.map(|amount| written(amount, digits));
        assert_eq!(of([1260, -5, 0, 100], 2), ["12.60", "-0.05", "0.00", "1.00"]);
        assert_eq!(of([1260, -5, 0, 100], 0), ["1260", "-5", "0", "100"]);
        assert_eq!(of([1260, -5, 0, i64::MIN], 3), ["1.260", "-0.005", "0.000", "-9223372036854775.808"]);
    }
}
