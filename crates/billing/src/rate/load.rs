//! Charges on demand and on contracted load.

use super::{NewLine, Rater, block_number, climb, describe};
use crate::{
    bill::{Account, Clause},
    error::RatingError,
    exact::Exact,
    rounding,
    tariff::{Charge, DemandBasis, DemandUse, LoadUnit, Price, Rate},
};

/// Months of a year.
pub(super) fn twelfth(months: &Exact) -> Exact {
    months.over(&Exact::whole(12)).unwrap_or(Exact::ZERO)
}

/// A share in percent.
fn percent_of(percent: &Exact, value: &Exact) -> Exact {
    (percent * value).over(&Exact::whole(100)).unwrap_or(Exact::ZERO)
}

/// The fixed price of a rate; parsing allows no other here.
pub(super) fn fixed_price(rate: &Rate) -> Exact {
    match &rate.price {
        Price::Fixed(price) | Price::Percent(price) => price.clone(),
        Price::Series { adj, .. } => adj.clone(),
    }
}

impl<'a> Rater<'a> {
    pub(super) fn demand(
        &mut self,
        index: usize,
        charge: &'a Charge,
        basis: &'a DemandBasis,
        account: &Account,
    ) -> Result<(), RatingError> {
        let mut periods: Vec<Option<&'a str>> = Vec::new();
        for rate in &charge.rates {
            if !periods.contains(&rate.period.as_deref()) {
                periods.push(rate.period.as_deref());
            }
        }
        let months = &self.plan().months;
        let (factor, suffix) = if basis.per_year { (twelfth(months), "-year") } else { (months.clone(), "") };
        for period in periods {
            let Some(demand) = self.billed_demand(basis, period, account)? else { continue };
            let rows = self.live_rates(charge, period, account)?;
            if rows.is_empty() || demand.is_zero() {
                continue;
            }
            for rung in climb(&rows, &demand, &Exact::ONE)? {
                let (rate_index, rate) = rows[rung.index];
                let block = block_number(&rows, rung.index);
                let price = fixed_price(rate);
                let quantity = &rung.quantity * &factor;
                let amount = &quantity * &price;
                let line = NewLine {
                    period: rate.period.clone(),
                    block,
                    quantity,
                    unit: format!("{}{suffix}", basis.unit.word()),
                    unit_price: Some(price),
                    description: describe(charge, period, block, rate),
                };
                self.add(charge, Clause { charge: index, rate: Some(rate_index) }, &amount, line)?;
            }
        }
        Ok(())
    }

    /// The demand that is billed in a period; `None` of a period that does not occur.
    fn billed_demand(
        &self,
        basis: &DemandBasis,
        period: Option<&str>,
        account: &Account,
    ) -> Result<Option<Exact>, RatingError> {
        let source = &self.inputs.demand;
        let period = period.map(|name| (basis.calendar, name));
        let measured = match &basis.usage {
            DemandUse::Coincident(file) => {
                let times =
                    self.inputs.files.times.get(file).ok_or_else(|| {
                        RatingError::Tariff(format!("the file \"{file}\" with the times was not given"))
                    })?;
                source.coincident(basis.unit, times, period)?
            }
            DemandUse::Billing | DemandUse::Excess => source.maximum(basis.unit, period)?,
        };
        let rule = self.plan().tariff.rounding.demand.as_ref();
        let Some(measured) = measured.map(|demand| rounding::apply(rule, &demand)) else { return Ok(None) };
        if basis.usage == DemandUse::Excess {
            let contract = self.inputs.customer.contract(basis.unit)?;
            return Ok(Some((&measured - contract).max(Exact::ZERO)));
        }
        let mut billed = measured;
        if let Some(percent) = &basis.floor_percent {
            billed = billed.max(percent_of(percent, self.inputs.customer.contract(basis.unit)?));
        }
        if let Some(least) = &basis.at_least {
            billed = billed.max(least.clone());
        }
        if let Some(ratchet) = &basis.ratchet {
            let month_of = source.plan.from;
            let past = account.past_demand(month_of, basis.unit, ratchet.lookback, ratchet.months.as_deref());
            if let Some(past) = past {
                billed = billed.max(rounding::apply(rule, &percent_of(&ratchet.percent, past)));
            }
        }
        Ok(Some(billed))
    }

    /// The contracted load, rounded by its rule.
    pub(super) fn contracted(&self, unit: LoadUnit) -> Result<Exact, RatingError> {
        let contract = self.inputs.customer.contract(unit)?;
        Ok(rounding::apply(self.plan().tariff.rounding.contract.as_ref(), contract))
    }

    pub(super) fn contract(
        &mut self,
        index: usize,
        charge: &'a Charge,
        unit: LoadUnit,
        per_year: bool,
        account: &Account,
    ) -> Result<(), RatingError> {
        let load = self.contracted(unit)?;
        let months = self.months_due();
        let (factor, word) = if per_year { (twelfth(months), "year") } else { (months.clone(), "month") };
        let rows = self.live_rates(charge, None, account)?;
        if rows.is_empty() || load.is_zero() || factor.is_zero() {
            return Ok(());
        }
        for rung in climb(&rows, &load, &Exact::ONE)? {
            let (rate_index, rate) = rows[rung.index];
            let price = fixed_price(rate);
            if price.is_zero() {
                continue;
            }
            let block = block_number(&rows, rung.index);
            let quantity = &rung.quantity * &factor;
            let amount = &quantity * &price;
            let line = NewLine {
                period: None,
                block,
                quantity,
                unit: format!("{}-{word}", unit.word()),
                unit_price: Some(price),
                description: describe(charge, None, block, rate),
            };
            self.add(charge, Clause { charge: index, rate: Some(rate_index) }, &amount, line)?;
        }
        Ok(())
    }
}
