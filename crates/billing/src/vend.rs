//! A token sale: the largest energy, on the unit grid, whose full bill the payment covers.
//!
//! Cost rises with energy between the places where a block or a condition changes, but may fall at such a place. So the stretches
//! between them are searched from the highest down, each by halving.

use jiff::civil::Date;

use crate::{
    bill::{Account, Line, sum_minor, to_minor},
    customer::Customer,
    cycle::Listed,
    error::RatingError,
    exact::Exact,
    plan::Plan,
    rate::{self, Inputs, Sale},
    tariff::{Basis, Condition, Fact, Tariff, Test},
    usage::{Energy, Interval, Usage},
};

/// Most token units of one sale.
const UNITS_MAX: i64 = 1_000_000_000_000;
/// Most units beyond the first that a payment does not cover, that are tried.
const LOOK_ON_MAX: usize = 1_000;
/// Amounts of a sale are counted in 10⁻⁹ Wh, so that every token unit is whole.
const SCALE: i128 = 1_000_000_000;

/// A sale that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Local date of the sale.
    pub day: Date,
    /// What the customer pays, currency units.
    pub pay: Exact,
    /// Position on the ladder and what is due.
    pub sale: Sale,
    /// Old debt kept from the payment, currency units.
    pub arrears: Exact,
}

/// A token sold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Energy, kWh.
    pub kwh: Exact,
    /// Lines; the last may be the rest that is too small for one more unit.
    pub lines: Vec<Line>,
    /// What was paid, minor units.
    pub total: i64,
}

/// Sells.
pub fn sell(listed: &Listed, customer: &Customer, payment: &Payment) -> Result<Token, RatingError> {
    let tariff = &listed.tariff;
    let step = tariff.rounding.energy.as_ref().map(|rule| rule.to.clone()).ok_or_else(|| {
        RatingError::Tariff(
            "a token sale needs the token's unit: give \"rounding\": {\"energy\": {\"to\": \"0.1\"}}".into(),
        )
    })?;
    let plan = Plan::of_one_month(tariff, payment.day)?;
    let till = Till { listed, customer, plan: &plan, payment, step };
    let paid = to_minor(&payment.pay, tariff.minor_digits)?;
    let due = till.lines(0)?;
    if sum_minor(due.iter())? > paid {
        return Err(RatingError::Case(format!(
            "the payment of {} does not cover what is due without any energy; ask for more, or for less debt at once",
            payment.pay
        )));
    }
    till.lines(1)?;
    let units = till.most(paid)?;
    if units >= UNITS_MAX {
        return Err(RatingError::Tariff("energy costs nothing here: the payment would buy without end".into()));
    }
    let mut lines = till.lines(units)?;
    let rest = paid - sum_minor(lines.iter())?;
    if rest != 0 {
        lines.push(Line::of_money("ROUND", "Remainder too small for one more token unit", rest, tariff.minor_digits));
    }
    Ok(Token { kwh: till.energy(units), lines, total: paid })
}

struct Till<'a> {
    listed: &'a Listed,
    customer: &'a Customer,
    plan: &'a Plan<'a>,
    payment: &'a Payment,
    step: Exact,
}

impl Till<'_> {
    fn energy(&self, units: i64) -> Exact {
        &Exact::whole(i128::from(units)) * &self.step
    }

    /// All lines of a number of token units, with the instalment of old debt.
    fn lines(&self, units: i64) -> Result<Vec<Line>, RatingError> {
        let amount = &(&self.energy(units) * &Exact::whole(1000)) * &Exact::whole(SCALE);
        let amount = amount.to_i128().ok_or_else(|| {
            RatingError::Tariff(format!("the token's unit {} is too fine; twelve decimals are the most", self.step))
        })?;
        let (start_s, end_s) = (self.plan.from_s, self.plan.to_s);
        let sold = Interval { start_s, end_s, amount, period: None };
        let usage = Usage::of_import(SCALE, Energy::Intervals(vec![sold]));
        let inputs = Inputs {
            sale: Some(&self.payment.sale),
            ..Inputs::new(self.plan, &self.listed.files, &usage, self.customer)
        };
        let mut lines = rate::rate(&inputs, &mut Account::default())?.lines;
        if !self.payment.arrears.is_zero() {
            let tariff = &self.listed.tariff;
            let arrears = to_minor(&tariff.rounding.line.apply(&self.payment.arrears), tariff.minor_digits)?;
            let line = Line::of_money("ARREARS", "Instalment of old debt", arrears, tariff.minor_digits);
            lines.push(Line { rounding: Some(tariff.rounding.line.clone()), ..line });
        }
        Ok(lines)
    }

    /// Whether a payment covers a number of units. What cannot be billed cannot be sold.
    fn covered(&self, units: i64, paid: i64) -> bool {
        self.lines(units).and_then(|lines| sum_minor(lines.iter())).is_ok_and(|cost| cost <= paid)
    }

    fn most(&self, paid: i64) -> Result<i64, RatingError> {
        let mut starts = self.breaks()?;
        while let Some(start) = starts.pop() {
            if !self.covered(start.0, paid) {
                continue;
            }
            // Covered at `low`, not at `high` (which lies one behind the stretch).
            let (mut low, mut high) = (start.0, start.1);
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                if self.covered(middle, paid) { low = middle } else { high = middle }
            }
            return self.look_on(low, start.1, paid);
        }
        Ok(0)
    }

    /// Lines are rounded one by one and some are credits, so the sum of a few more units may fall back below the payment by what rounding
    /// can move: looks on as long as that is possible.
    fn look_on(&self, covered: i64, behind: i64, paid: i64) -> Result<i64, RatingError> {
        let tariff = &self.listed.tariff;
        let own = tariff.charges.iter().flat_map(|c| c.rates.iter().map(|r| &r.round).chain([&c.round])).flatten();
        let widest = own.chain([&tariff.rounding.line]).map(|rule| &rule.to).max().unwrap_or(&Exact::ONE);
        let step = (widest * &Exact::power_of_ten(tariff.minor_digits)).to_i64().unwrap_or(1);
        let mut best = covered;
        for units in (covered + 1..behind).take(LOOK_ON_MAX) {
            let lines = self.lines(units)?;
            let cost = sum_minor(lines.iter())?;
            let rounding = i64::try_from(lines.len()).unwrap_or(1).saturating_mul(step);
            if cost <= paid {
                best = units;
            } else if cost.saturating_sub(paid) > rounding {
                break;
            }
        }
        Ok(best)
    }

    /// Stretches of units in which no block and no condition changes: first unit, one behind the last.
    fn breaks(&self) -> Result<Vec<(i64, i64)>, RatingError> {
        let mut edges = vec![0, 1, UNITS_MAX + 1];
        for limit in limits(&self.listed.tariff) {
            let units = (&limit - &self.payment.sale.bought).over(&self.step).map(|units| units.floor());
            let Some(units) = units.and_then(|units| units.to_i64()) else { continue };
            edges.extend([units, units.saturating_add(1)].into_iter().filter(|edge| (0..=UNITS_MAX).contains(edge)));
        }
        edges.sort_unstable();
        edges.dedup();
        Ok(edges.windows(2).map(|pair| (pair[0], pair[1])).collect())
    }
}

/// Energies at which a block ends or a condition changes, kWh.
fn limits(tariff: &Tariff) -> Vec<Exact> {
    let mut found = Vec::new();
    let mut conditions: Vec<&Condition> = Vec::new();
    for charge in &tariff.charges {
        conditions.extend(&charge.conditions);
        for rate in &charge.rates {
            conditions.extend(&rate.conditions);
            if matches!(charge.basis, Basis::Energy(_)) {
                found.extend(rate.max.clone());
            }
        }
    }
    for condition in conditions.into_iter().filter(|c| matches!(c.what, Fact::ImportKwh | Fact::ImportGrossKwh)) {
        for test in &condition.test {
            match test {
                Test::Over(limit) | Test::From(limit) | Test::Upto(limit) | Test::Below(limit) => {
                    found.push(limit.clone());
                }
                Test::Is(word) => found.extend(Exact::decimal(word).ok()),
            }
        }
    }
    found
}
