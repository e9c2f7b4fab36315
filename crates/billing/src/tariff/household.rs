//! What a household of 250 kWh a month pays under a tariff, and what had to be assumed of it.

use jiff::civil::Date;

use super::{Basis, DemandUse, EnergyUnit, Fact, LoadUnit, MinimumPer, Tariff, Test};
use crate::{
    bill::{Account, Part, rounded_total, sum_minor},
    customer::Customer,
    cycle::Listed,
    error::RatingError,
    plan::Plan,
    rate::{self, Inputs},
    usage::{Energy, Interval, Usage},
};

/// Length of the steps in which the household's use is spread, minutes; shorter where demand is measured in less.
const STEP_MIN: u32 = 15;
/// Energy of the household, kWh.
pub const HOUSEHOLD_KWH: i128 = 250;

/// What a household pays for a month.
#[derive(Clone, Debug)]
pub struct Household {
    /// First day of the month.
    pub month: Date,
    /// What was assumed of the customer, because the tariff asks.
    pub assumed: Vec<String>,
    /// Its bill.
    pub part: Part,
    /// Its total, minor units.
    pub total: i64,
}

/// The bill of a household that uses 250 kWh in a month, the same at all times.
pub fn of(listed: &Listed) -> Result<Household, RatingError> {
    let tariff = &listed.tariff;
    let month = example_month(tariff);
    let next = month.checked_add(jiff::Span::new().months(1)).map_err(|_| outside())?;
    let plan = Plan::new(tariff, month, next, (month, next))?;
    let (customer, mut assumed) = assumed_customer(tariff);
    let step_s = i64::from(tariff.demand_window_min.unwrap_or(STEP_MIN).min(STEP_MIN)) * 60;
    let steps = i128::from((plan.to_s - plan.from_s) / step_s).max(1);
    // Amounts of each step are whole if Wh are counted in parts of the number of steps.
    let step = |number: i128| {
        let start_s = plan.from_s + i64::try_from(number).unwrap_or(0) * step_s;
        Interval { start_s, end_s: start_s + step_s, amount: HOUSEHOLD_KWH * 1000, period: None }
    };
    let energy = Energy::Intervals((0..steps).map(step).collect());
    let mut usage = Usage::of_import(steps, energy.clone());
    if asks_for_power_factor(tariff) {
        assumed.push("power factor 1".to_owned());
        usage.apparent = Some(energy);
        usage.reactive = Some(Energy::Intervals(Vec::new()));
    }
    let inputs = Inputs::new(&plan, &listed.files, &usage, &customer);
    let part = rate::rate(&inputs, &mut Account::default())?;
    let total = rounded_total(tariff, sum_minor(part.lines.iter())?)?;
    Ok(Household { month, assumed, part, total })
}

/// Whether anything is priced or decided by apparent or reactive energy.
fn asks_for_power_factor(tariff: &Tariff) -> bool {
    tariff.power_factor.is_some()
        || tariff.charges.iter().any(|charge| match &charge.basis {
            Basis::Energy(basis) => basis.unit != EnergyUnit::KilowattHours,
            Basis::Demand(basis) => basis.unit == LoadUnit::KilovoltAmperes,
            _ => false,
        })
}

fn outside() -> RatingError {
    RatingError::Case("the month lies outside of the time that can be computed".into())
}

/// The first whole month in which the tariff holds, or the last, or any.
fn example_month(tariff: &Tariff) -> Date {
    let month = jiff::Span::new().months(1);
    match (tariff.valid_from, tariff.valid_to) {
        (Some(from), _) if from.day() == 1 => from,
        (Some(from), _) => from.first_of_month().checked_add(month).unwrap_or(from),
        (None, Some(to)) if to.tomorrow().is_ok_and(|next| next.day() == 1) => to.first_of_month(),
        (None, Some(to)) => to.first_of_month().checked_sub(month).unwrap_or(to),
        (None, None) => Date::constant(2025, 1, 1),
    }
}

/// What the tariff asks of the customer, with the first value it knows: of a house with 5 kW, 5 kVA or 30 A.
fn assumed_customer(tariff: &Tariff) -> (Customer, Vec<String>) {
    let mut customer = Customer::default();
    let mut assumed = Vec::new();
    let mut assume = |customer: &mut Customer, name: &str, word: &str| {
        if customer.fact(name).is_err() {
            customer.set(name, word);
            assumed.push(format!("{name} {word}"));
        }
    };
    for charge in &tariff.charges {
        let needed = match &charge.basis {
            Basis::Contract { unit, .. } | Basis::Minimum { per: MinimumPer::Contract(unit), .. } => Some(*unit),
            Basis::Demand(basis) if basis.usage == DemandUse::Excess || basis.floor_percent.is_some() => {
                Some(basis.unit)
            }
            _ => None,
        };
        if let Some(unit) = needed {
            assume(&mut customer, unit.fact(), if unit == LoadUnit::Amperes { "30" } else { "5" });
        }
        for condition in charge.conditions.iter().chain(charge.rates.iter().flat_map(|rate| &rate.conditions)) {
            let Fact::Customer(name) = &condition.what else { continue };
            let word = condition.test.iter().find_map(|test| match test {
                Test::Is(word) => Some(word.clone()),
                Test::From(limit) | Test::Upto(limit) => Some(limit.to_decimal(6)),
                Test::Over(_) | Test::Below(_) => None,
            });
            assume(&mut customer, name, &word.unwrap_or_else(|| "5".to_owned()));
        }
    }
    (customer, assumed)
}
