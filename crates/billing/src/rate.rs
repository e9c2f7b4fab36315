//! Rating: the charges of a tariff, in order, over what was used in a part of a bill.

mod energy;
mod fixed;
mod lines;
mod load;

use std::{cell::OnceCell, collections::BTreeMap};

use crate::{
    bill::{Account, Clause, DemandOfMonth, Line, Part, Pot, to_minor},
    customer::Customer,
    demand::{self, DemandSource},
    error::RatingError,
    exact::Exact,
    plan::Plan,
    rounding::{self, Rounding},
    series::Series,
    tariff::{Basis, Charge, Condition, Fact, LoadUnit, Rate, Test},
    usage::Usage,
};

/// Files beside a tariff, parsed.
#[derive(Clone, Debug, Default)]
pub struct SideFiles {
    /// For every series of the tariff.
    pub series: Vec<Series>,
    /// Times of coincident demand, by file name.
    pub times: BTreeMap<String, Vec<i64>>,
}

/// All that a part of a bill is rated from.
pub struct Inputs<'a> {
    /// Tariff and days.
    pub plan: &'a Plan<'a>,
    /// Files beside the tariff.
    pub files: &'a SideFiles,
    /// What was used in the part.
    pub usage: &'a Usage<'a>,
    /// The whole bill, in which demand is sought.
    pub demand: DemandSource<'a>,
    /// Whose bill it is.
    pub customer: &'a Customer,
    /// If energy is sold in advance instead of billed.
    pub sale: Option<&'a Sale>,
}

impl<'a> Inputs<'a> {
    /// A bill that is one part.
    pub fn new(plan: &'a Plan<'a>, files: &'a SideFiles, usage: &'a Usage<'a>, customer: &'a Customer) -> Inputs<'a> {
        Inputs { plan, files, usage, demand: DemandSource::new(plan, usage), customer, sale: None }
    }
}

/// Energy sold in advance, as the charges see it: block limits are those of one month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sale {
    /// Already bought this month, kWh: the position on the ladder.
    pub bought: Exact,
    /// Energy by which the band of a ladder for all units (`mode: whole`) is chosen, instead of what is bought, kWh: the customer's
    /// `band_kwh`.
    pub band: Option<Exact>,
    /// Monthly charges due.
    pub months_due: Exact,
}

/// Rates a part. What passes on (credits) is changed in `account`; demand and energy of the bill are remembered by the caller.
pub fn rate(inputs: &Inputs<'_>, account: &mut Account) -> Result<Part, RatingError> {
    let pots = energy::net(inputs, account)?;
    let mut rater = Rater { inputs, pots, lines: Vec::new(), facts: Facts::default() };
    for pot in &rater.pots {
        account.kwh.insert(pot.name.clone(), pot.carried());
    }
    for (index, charge) in inputs.plan.tariff.charges.iter().enumerate() {
        if rater.all_hold(&charge.conditions, account)? {
            rater.charge(index, charge, account)?;
        }
    }
    let power_factor = match &inputs.plan.tariff.power_factor {
        Some(_) => rater.power_factor()?,
        None => None,
    };
    let plan = inputs.plan;
    Ok(Part {
        from: plan.from,
        to: plan.to,
        tariff: plan.tariff.id.clone(),
        months: plan.months.clone(),
        lines: rater.lines,
        netting: rater.pots,
        power_factor,
    })
}

/// Maximum demand of a bill, rounded as the tariff says: what ratchets of later months look back at.
///
/// Only for tariffs that ask for demand; what cannot be measured stays unknown.
pub fn demand_of_bill(source: &DemandSource<'_>) -> DemandOfMonth {
    let tariff = source.plan.tariff;
    let asks = tariff.demand_window_min.is_some() || tariff.charges.iter().any(|c| matches!(c.basis, Basis::Demand(_)));
    let measure = |unit| {
        let value = asks.then(|| source.maximum(unit, None).ok().flatten()).flatten();
        value.map(|value| rounding::apply(tariff.rounding.demand.as_ref(), &value))
    };
    DemandOfMonth { kilowatts: measure(LoadUnit::Kilowatts), kilovolt_amperes: measure(LoadUnit::KilovoltAmperes) }
}

/// Energy of a bill as later conditions on history see it, kWh.
pub fn energy_of_part(inputs: &Inputs<'_>, pots: &[Pot]) -> Result<Exact, RatingError> {
    energy::import_after_netting(inputs, pots)
}

/// Facts that cost something to find, found once.
#[derive(Default)]
struct Facts {
    import: OnceCell<Exact>,
    power_factor: OnceCell<Option<Exact>>,
    kilowatts: OnceCell<Exact>,
}

struct Rater<'a> {
    inputs: &'a Inputs<'a>,
    pots: Vec<Pot>,
    lines: Vec<Line>,
    facts: Facts,
}

/// A fact, as a number or as a word.
enum Value {
    Number(Exact),
    Word(String),
    /// Not there to compare: the power factor of a bill without energy. No condition holds.
    Undefined,
}

impl<'a> Rater<'a> {
    fn plan(&self) -> &'a Plan<'a> {
        self.inputs.plan
    }

    fn charge(&mut self, index: usize, charge: &'a Charge, account: &mut Account) -> Result<(), RatingError> {
        match &charge.basis {
            Basis::Energy(basis) => self.energy(index, charge, basis, account),
            Basis::Demand(basis) => self.demand(index, charge, basis, account),
            Basis::Contract { unit, per_year } => self.contract(index, charge, *unit, *per_year, account),
            Basis::Month { per_year } => self.month(index, charge, *per_year, account),
            Basis::Day { per_year } => self.day(index, charge, *per_year, account),
            Basis::Amount { of, gross_up } => self.amount(index, charge, of, *gross_up, account),
            Basis::Minimum { of, per } => self.minimum(index, charge, of, per, account),
            Basis::Carry { of, settle_month } => self.carry(index, charge, of, *settle_month, account),
            Basis::Settle { months } => self.settle(index, charge, months, account),
        }
    }

    /// Months for which charges are due.
    fn months_due(&self) -> &'a Exact {
        self.inputs.sale.map_or(&self.plan().months, |sale| &sale.months_due)
    }

    /// Imported energy after netting, kWh.
    fn import(&self) -> Result<Exact, RatingError> {
        if let Some(known) = self.facts.import.get() {
            return Ok(known.clone());
        }
        let found = energy::import_after_netting(self.inputs, &self.pots)?;
        Ok(self.facts.import.get_or_init(|| found).clone())
    }

    fn power_factor(&self) -> Result<Option<Exact>, RatingError> {
        if let Some(known) = self.facts.power_factor.get() {
            return Ok(known.clone());
        }
        let found = demand::power_factor(self.inputs.demand.plan, self.inputs.demand.usage)?;
        Ok(self.facts.power_factor.get_or_init(|| found).clone())
    }

    /// Maximum demand of the bill, rounded.
    fn maximum(&self, unit: LoadUnit) -> Result<Exact, RatingError> {
        if let (LoadUnit::Kilowatts, Some(known)) = (unit, self.facts.kilowatts.get()) {
            return Ok(known.clone());
        }
        let found = self.inputs.demand.maximum(unit, None)?.unwrap_or(Exact::ZERO);
        let found = rounding::apply(self.plan().tariff.rounding.demand.as_ref(), &found);
        if unit == LoadUnit::Kilowatts {
            return Ok(self.facts.kilowatts.get_or_init(|| found).clone());
        }
        Ok(found)
    }

    fn all_hold(&self, conditions: &[Condition], account: &Account) -> Result<bool, RatingError> {
        for condition in conditions {
            if !self.holds(condition, account)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn holds(&self, condition: &Condition, account: &Account) -> Result<bool, RatingError> {
        let mut value = self.value(&condition.what, account)?;
        if condition.per_month {
            value = match value {
                Value::Number(number) => Value::Number(number.over(&self.plan().months).ok_or_else(|| {
                    RatingError::Tariff("a condition is per month, but the bill has no months".into())
                })?),
                other => other,
            };
        }
        condition.test.iter().try_fold(true, |so_far, test| Ok(so_far && passes(&value, test)?))
    }

    fn value(&self, what: &Fact, account: &Account) -> Result<Value, RatingError> {
        let plan = self.plan();
        Ok(match what {
            Fact::ImportKwh => Value::Number(match self.inputs.sale {
                None => self.import()?,
                Some(sale) => &sale.bought + &self.import()?,
            }),
            Fact::ImportGrossKwh => Value::Number(energy::import_gross(self.inputs)?),
            Fact::Demand(unit) => Value::Number(self.maximum(*unit)?),
            Fact::PowerFactor => self.power_factor()?.map_or(Value::Undefined, Value::Number),
            Fact::Days => Value::Number(plan.days.clone()),
            Fact::Months => Value::Number(plan.months.clone()),
            Fact::HistoryMaxKwh(count) => {
                let history = &account.history_kwh;
                let last = &history[history.len().saturating_sub(*count)..];
                Value::Number(last.iter().max().cloned().unwrap_or(Exact::ZERO))
            }
            Fact::Customer(name) => match self.inputs.customer.fact(name)? {
                (_, Some(number)) => Value::Number(number.clone()),
                (word, None) => Value::Word(word.to_owned()),
            },
        })
    }

    /// Rates whose conditions hold, with their index.
    fn live_rates(
        &self,
        charge: &'a Charge,
        period: Option<&str>,
        account: &Account,
    ) -> Result<Vec<(usize, &'a Rate)>, RatingError> {
        let mut live = Vec::new();
        for (index, rate) in charge.rates.iter().enumerate() {
            if rate.period.as_deref() == period && self.all_hold(&rate.conditions, account)? {
                live.push((index, rate));
            }
        }
        Ok(live)
    }

    /// The first rate whose conditions hold.
    fn first_rate(&self, charge: &'a Charge, account: &Account) -> Result<Option<(usize, &'a Rate)>, RatingError> {
        for (index, rate) in charge.rates.iter().enumerate() {
            if self.all_hold(&rate.conditions, account)? {
                return Ok(Some((index, rate)));
            }
        }
        Ok(None)
    }

    /// The rule of a line: of its rate, of its charge, of the tariff.
    fn line_rule(&self, charge: &'a Charge, rate: Option<&'a Rate>) -> &'a Rounding {
        let own = rate.and_then(|rate| rate.round.as_ref()).or(charge.round.as_ref());
        own.unwrap_or(&self.plan().tariff.rounding.line)
    }

    /// Adds a line; its amount is rounded by the rule, then turned around for a credit.
    fn add(&mut self, charge: &'a Charge, clause: Clause, amount: &Exact, line: NewLine) -> Result<(), RatingError> {
        let rule = self.line_rule(charge, clause.rate.map(|rate| &charge.rates[rate]));
        let rounded = to_minor(&rule.apply(amount), self.plan().tariff.minor_digits)?;
        self.lines.push(Line {
            code: charge.code.clone(),
            period: line.period,
            block: line.block,
            quantity: line.quantity,
            unit: line.unit,
            unit_price: line.unit_price,
            exact: amount.clone(),
            amount: if charge.credit { -rounded } else { rounded },
            rounding: Some(rule.clone()),
            description: line.description,
            clause: Some(clause),
        });
        Ok(())
    }
}

/// What a basis knows of its line.
struct NewLine {
    period: Option<String>,
    block: Option<u32>,
    quantity: Exact,
    unit: String,
    unit_price: Option<Exact>,
    description: String,
}

fn passes(value: &Value, test: &Test) -> Result<bool, RatingError> {
    let not_a_number = |word: &str| {
        RatingError::Case(format!(
            "the tariff compares the customer's fact \"{word}\" with a number; write a number there"
        ))
    };
    Ok(match (value, test) {
        (Value::Undefined, _) => false,
        (Value::Word(word), Test::Is(wanted)) => word == wanted,
        (Value::Number(number), Test::Is(wanted)) => Exact::decimal(wanted).is_ok_and(|wanted| wanted == *number),
        (Value::Number(number), Test::Over(limit)) => number > limit,
        (Value::Number(number), Test::From(limit)) => number >= limit,
        (Value::Number(number), Test::Upto(limit)) => number <= limit,
        (Value::Number(number), Test::Below(limit)) => number < limit,
        (Value::Word(word), _) => return Err(not_a_number(word)),
    })
}

/// A rung of a ladder: the share of a quantity that its row prices.
struct Rung {
    /// Position in the ladder.
    index: usize,
    /// Quantity in it.
    quantity: Exact,
}

/// Divides a quantity into the blocks of a ladder; limits are multiplied by `factor`.
fn climb(rows: &[(usize, &Rate)], quantity: &Exact, factor: &Exact) -> Result<Vec<Rung>, RatingError> {
    let mut rungs = Vec::new();
    let mut low = Exact::ZERO;
    for (index, (_, rate)) in rows.iter().enumerate() {
        let up = rate.max.as_ref().map(|max| max * factor);
        let top = up.map_or_else(|| quantity.clone(), |up| up.min(quantity.clone()));
        if top > low {
            rungs.push(Rung { index, quantity: &top - &low });
            low = top;
        }
    }
    if low < *quantity {
        return Err(beyond(&low, quantity));
    }
    Ok(rungs)
}

/// The row of a ladder whose limit a quantity does not exceed.
fn reached(rows: &[(usize, &Rate)], quantity: &Exact, factor: &Exact) -> Result<usize, RatingError> {
    let within = |(_, rate): &(usize, &Rate)| rate.max.as_ref().is_none_or(|max| *quantity <= max * factor);
    let last = rows.last().and_then(|(_, rate)| rate.max.as_ref()).map_or(Exact::ZERO, |max| max * factor);
    rows.iter().position(within).ok_or_else(|| beyond(&last, quantity))
}

fn beyond(limit: &Exact, quantity: &Exact) -> RatingError {
    RatingError::Tariff(format!(
        "the quantity {} lies above the last block, which ends at {}; add a block without `max`, or a condition",
        quantity.to_decimal(6),
        limit.to_decimal(6)
    ))
}

/// The part of a ladder between two quantities.
fn climb_between(
    rows: &[(usize, &Rate)],
    (low, high): (&Exact, &Exact),
    factor: &Exact,
) -> Result<Vec<Rung>, RatingError> {
    let below = climb(rows, low, factor)?;
    let mut rungs = climb(rows, high, factor)?;
    for rung in &mut rungs {
        if let Some(below) = below.iter().find(|below| below.index == rung.index) {
            rung.quantity = &rung.quantity - &below.quantity;
        }
    }
    rungs.retain(|rung| !rung.quantity.is_zero());
    Ok(rungs)
}

/// Number of a block, if the ladder has several.
fn block_number(rows: &[(usize, &Rate)], index: usize) -> Option<u32> {
    (rows.len() > 1).then(|| u32::try_from(index + 1).unwrap_or(u32::MAX))
}

/// The words of a line: name, period, block with its limit.
fn describe(charge: &Charge, period: Option<&str>, block: Option<u32>, rate: &Rate) -> String {
    let mut words = charge.name.clone();
    if let Some(period) = period {
        words.push_str(", ");
        words.push_str(period);
    }
    if let Some(block) = block {
        words.push_str(&format!(", block {block}"));
        if let Some(max) = &rate.max {
            words.push_str(&format!(" (up to {})", max.to_decimal(6)));
        }
    }
    words
}
