//! Charges that look back at lines above them: percentages, minimum, money account; and the settlement of carried energy.

use super::{NewLine, Rater, climb, load::fixed_price, load::twelfth};
use crate::{
    bill::{Account, Clause, Line, from_minor, sum_minor},
    error::RatingError,
    exact::Exact,
    tariff::{Charge, MinimumPer, Of},
};

impl<'a> Rater<'a> {
    /// Sum of the rounded lines above that are named, minor units.
    fn base(&self, of: &Of) -> Result<i64, RatingError> {
        sum_minor(self.lines.iter().filter(|line| of.names(&line.code)))
    }

    fn digits(&self) -> u32 {
        self.plan().tariff.minor_digits
    }

    pub(super) fn amount(
        &mut self,
        index: usize,
        charge: &'a Charge,
        of: &'a Of,
        gross_up: bool,
        account: &Account,
    ) -> Result<(), RatingError> {
        let Some((rate_index, rate)) = self.first_rate(charge, account)? else { return Ok(()) };
        let percent = fixed_price(rate);
        let base = from_minor(self.base(of)?, self.digits());
        if percent.is_zero() || base.is_zero() {
            return Ok(());
        }
        let hundred = Exact::whole(100);
        let fraction = percent.over(&hundred).unwrap_or(Exact::ZERO);
        let amount = if gross_up {
            let rest = &hundred - &percent;
            (&base * &percent).over(&rest).ok_or_else(|| {
                RatingError::Tariff(format!("charge {}: a tax of 100 percent of the price", charge.code))
            })?
        } else {
            &base * &fraction
        };
        let inside = if gross_up { " inside the price" } else { "" };
        let line = NewLine {
            period: None,
            block: None,
            quantity: base,
            unit: self.plan().tariff.currency.clone(),
            unit_price: Some(fraction),
            description: format!("{} {} %{inside}", charge.name, percent.to_decimal(6)),
        };
        self.add(charge, Clause { charge: index, rate: Some(rate_index) }, &amount, line)
    }

    pub(super) fn minimum(
        &mut self,
        index: usize,
        charge: &'a Charge,
        of: &'a Of,
        per: &'a MinimumPer,
        account: &Account,
    ) -> Result<(), RatingError> {
        let Some((rate_index, least)) = self.least(charge, per, account)? else { return Ok(()) };
        let reached = from_minor(self.base(of)?, self.digits());
        if least <= reached {
            return Ok(());
        }
        let missing = &least - &reached;
        let line = NewLine {
            period: None,
            block: None,
            quantity: Exact::ONE,
            unit: "top-up".to_owned(),
            unit_price: Some(missing.clone()),
            description: format!(
                "{}: minimum {} less {}",
                charge.name,
                least.to_decimal(self.digits()),
                reached.to_decimal(self.digits())
            ),
        };
        self.add(charge, Clause { charge: index, rate: Some(rate_index) }, &missing, line)
    }

    /// What the named lines must reach, and the first rate it rests on.
    fn least(
        &self,
        charge: &'a Charge,
        per: &MinimumPer,
        account: &Account,
    ) -> Result<Option<(usize, Exact)>, RatingError> {
        let plan = self.plan();
        if let MinimumPer::Contract(unit) = per {
            let rows = self.live_rates(charge, None, account)?;
            let Some((first, _)) = rows.first().copied() else { return Ok(None) };
            let rungs = climb(&rows, &self.contracted(*unit)?, &Exact::ONE)?;
            let sum: Exact = rungs.iter().map(|rung| &rung.quantity * &fixed_price(rows[rung.index].1)).sum();
            return Ok(Some((first, &sum * self.months_due())));
        }
        let Some((rate_index, rate)) = self.first_rate(charge, account)? else { return Ok(None) };
        let quantity = match per {
            MinimumPer::Month | MinimumPer::Contract(_) => self.months_due().clone(),
            MinimumPer::Year => twelfth(self.months_due()),
            MinimumPer::Day if self.inputs.sale.is_some() => Exact::ZERO,
            MinimumPer::Day => plan.days.clone(),
            MinimumPer::PastDemand { unit, lookback, at_least } => {
                let past = account.past_demand(self.inputs.demand.plan.from, *unit, *lookback, None);
                let demand = past.cloned().unwrap_or(Exact::ZERO).max(at_least.clone().unwrap_or(Exact::ZERO));
                &demand * self.months_due()
            }
        };
        Ok(Some((rate_index, &fixed_price(rate) * &quantity)))
    }

    pub(super) fn carry(
        &mut self,
        index: usize,
        charge: &'a Charge,
        of: &'a Of,
        settle_month: Option<u8>,
        account: &mut Account,
    ) -> Result<(), RatingError> {
        let rest = self.base(of)?.saturating_sub(account.money);
        if account.money != 0 {
            self.money_line(index, charge, ("-IN", "brought forward"), -account.money);
        }
        account.money = 0;
        if rest < 0 && settle_month != Some(self.plan().month()) {
            account.money = -rest;
            self.money_line(index, charge, ("-OUT", "carried to the next bill"), -rest);
        }
        Ok(())
    }

    fn money_line(&mut self, index: usize, charge: &Charge, (suffix, words): (&str, &str), amount: i64) {
        let (code, description) = (format!("{}{suffix}", charge.code), format!("{} {words}", charge.name));
        let line = Line::of_money(code, description, amount, self.digits());
        self.lines.push(Line { clause: Some(Clause { charge: index, rate: None }), ..line });
    }

    /// Pays for carried kWh, to the customer, and clears them.
    pub(super) fn settle(
        &mut self,
        index: usize,
        charge: &'a Charge,
        months: &[u8],
        account: &mut Account,
    ) -> Result<(), RatingError> {
        if !months.contains(&self.plan().month()) {
            return Ok(());
        }
        let carried: Exact = account.kwh.values().sum();
        let Some((rate_index, rate)) = self.first_rate(charge, account)? else { return Ok(()) };
        if carried.is_zero() {
            return Ok(());
        }
        for pot in account.kwh.values_mut() {
            *pot = Exact::ZERO;
        }
        let price = fixed_price(rate);
        let paid = &carried * &price;
        let paid = if charge.credit { paid } else { -&paid };
        let line = NewLine {
            period: None,
            block: None,
            quantity: carried,
            unit: "kWh".to_owned(),
            unit_price: Some(price),
            description: charge.name.clone(),
        };
        self.add(charge, Clause { charge: index, rate: Some(rate_index) }, &paid, line)
    }
}
