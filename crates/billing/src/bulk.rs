//! Many bills at once: packed steps of equal length in, parts of bills out.
//!
//! The tariff is parsed once, its calendars are compiled once for the period; a customer is then a slice of integers that is summed
//! along the runs of the calendar, and the few charges over the sums. Customers are divided among threads.

use std::num::NonZero;

use jiff::civil::Date;

use crate::{
    bill::{Account, Part, rounded_total, sum_minor},
    customer::Customer,
    cycle::Listed,
    error::RatingError,
    plan::Plan,
    rate::{self, Inputs},
    usage::{Energy, Usage},
};

/// One tariff and period, ready for any number of customers.
pub struct Batch<'a> {
    listed: &'a Listed,
    plan: Plan<'a>,
    step_s: i64,
}

/// A bill of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkBill {
    /// Its lines.
    pub part: Part,
    /// Total, minor units.
    pub total: i64,
}

impl<'a> Batch<'a> {
    /// Compiles a tariff for [from, to) and steps of a length in seconds.
    pub fn new(listed: &'a Listed, from: Date, to: Date, step_s: u32) -> Result<Batch<'a>, RatingError> {
        let plan = Plan::new(&listed.tariff, from, to, (from, to))?;
        let step_s = i64::from(step_s);
        if step_s == 0 || (plan.to_s - plan.from_s) % step_s != 0 {
            return Err(RatingError::Readings(format!("steps of {step_s} s do not fill the days {from} to {to}")));
        }
        Ok(Batch { listed, plan, step_s })
    }

    /// The tariff and days.
    pub fn plan(&self) -> &Plan<'a> {
        &self.plan
    }

    /// How many steps a customer has.
    pub fn steps(&self) -> usize {
        usize::try_from((self.plan.to_s - self.plan.from_s) / self.step_s).unwrap_or(0)
    }

    /// The bill of a customer with the imported energy of every step, Wh.
    pub fn bill(&self, import_wh: &[u32], customer: &Customer, account: &mut Account) -> Result<BulkBill, RatingError> {
        if import_wh.len() != self.steps() {
            let message =
                format!("{} steps instead of {}; estimate what is missing first", import_wh.len(), self.steps());
            return Err(RatingError::Readings(message));
        }
        let steps = Energy::Steps { start_s: self.plan.from_s, step_s: self.step_s, values: import_wh };
        let usage = Usage::of_import(1, steps);
        let inputs = Inputs::new(&self.plan, &self.listed.files, &usage, customer);
        let part = rate::rate(&inputs, account)?;
        let total = rounded_total(&self.listed.tariff, sum_minor(part.lines.iter())?)?;
        Ok(BulkBill { part, total })
    }

    /// Bills of many customers, in their order, on several threads.
    pub fn bills(
        &self,
        customers: &[(&[u32], &Customer)],
        threads: NonZero<usize>,
    ) -> Vec<Result<BulkBill, RatingError>> {
        let share = customers.len().div_ceil(threads.get()).max(1);
        let work = |own: &[(&[u32], &Customer)]| -> Vec<_> {
            own.iter().map(|(steps, customer)| self.bill(steps, customer, &mut Account::default())).collect()
        };
        std::thread::scope(|scope| {
            let running: Vec<_> = customers.chunks(share).map(|own| scope.spawn(move || work(own))).collect();
            let ended = running
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            ended.flatten().collect()
        })
    }
}
