//! Charges by month and by day.

use super::{NewLine, Rater, load::fixed_price, load::twelfth};
use crate::{
    bill::{Account, Clause},
    error::RatingError,
    exact::Exact,
    tariff::Charge,
};

impl<'a> Rater<'a> {
    pub(super) fn month(
        &mut self,
        index: usize,
        charge: &'a Charge,
        per_year: bool,
        account: &Account,
    ) -> Result<(), RatingError> {
        let months = self.months_due().clone();
        let (quantity, unit) = if per_year { (twelfth(&months), "year") } else { (months, "month") };
        self.fixed(index, charge, (quantity, unit), account)
    }

    pub(super) fn day(
        &mut self,
        index: usize,
        charge: &'a Charge,
        per_year: bool,
        account: &Account,
    ) -> Result<(), RatingError> {
        let plan = self.plan();
        // A token sale is no stretch of time: no days are due.
        if self.inputs.sale.is_some() {
            return Ok(());
        }
        let (quantity, unit) = if per_year { (plan.years_by_day.clone(), "year") } else { (plan.days.clone(), "day") };
        self.fixed(index, charge, (quantity, unit), account)
    }

    /// The first rate whose conditions hold; none if its price is zero.
    fn fixed(
        &mut self,
        index: usize,
        charge: &'a Charge,
        (quantity, unit): (Exact, &str),
        account: &Account,
    ) -> Result<(), RatingError> {
        let Some((rate_index, rate)) = self.first_rate(charge, account)? else { return Ok(()) };
        let price = fixed_price(rate);
        if price.is_zero() || quantity.is_zero() {
            return Ok(());
        }
        let amount = &quantity * &price;
        let line = NewLine {
            period: None,
            block: None,
            quantity,
            unit: unit.to_owned(),
            unit_price: Some(price),
            description: charge.name.clone(),
        };
        self.add(charge, Clause { charge: index, rate: Some(rate_index) }, &amount, line)
    }
}
