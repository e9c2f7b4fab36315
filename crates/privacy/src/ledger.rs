//! The ε ledger: what private releases have cost each home, and whether another is still affordable.
//!
//! A release over several days with the adjacency *home-day* costs each of its days ε (another home-day is another set of
//! readings), and the home's year ε once. Rows rest on counters, not on dates that an operator states. Debits are written before
//! noise is drawn; what was debited is never given back.

use std::collections::BTreeMap;

use metering::MeterId;

use crate::{policy::Policy, query::Purpose};

/// One debit of one home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Debit {
    first_day: u64,
    last_day: u64,
    micro: u64,
}

/// All debits. Days count from counter 0 in slots of a day.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    debits: BTreeMap<(Purpose, MeterId), Vec<Debit>>,
}

/// What a release costs a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// For whom.
    pub purpose: Purpose,
    /// Whose budget.
    pub meter: MeterId,
    /// First and last counter day.
    pub days: (u64, u64),
    /// Millionths of ε.
    pub micro: u64,
}

impl Ledger {
    /// What is left for a release over these days, millionths of ε.
    pub fn remaining(&self, policy: &Policy, purpose: Purpose, meter: MeterId, (first, last): (u64, u64)) -> u64 {
        let budget = policy.budget(purpose);
        let debits = self.debits.get(&(purpose, meter)).map(Vec::as_slice).unwrap_or_default();
        let of_day = |day: u64| -> u64 {
            debits.iter().filter(|d| d.first_day <= day && day <= d.last_day).map(|d| d.micro).sum()
        };
        // days between the ends of debits cost the same: the ends are enough
        let ends = debits.iter().flat_map(|d| [d.first_day, d.last_day]).filter(|day| (first..=last).contains(day));
        let dearest = ends.chain([first, last]).map(of_day).max().unwrap_or(0);
        let within_year = |d: &&Debit| d.first_day < last.saturating_add(365) && d.last_day.saturating_add(365) > last;
        let of_year: u64 = debits.iter().filter(within_year).map(|d| d.micro).sum();
        let left = |budget: u64, spent: u64| budget.saturating_sub(spent);
        left(budget.home_day_micro, dearest).min(left(budget.home_year_micro, of_year))
    }

    /// Whether a cost can be borne.
    pub fn allows(&self, policy: &Policy, cost: &Cost) -> bool {
        cost.micro <= self.remaining(policy, cost.purpose, cost.meter, cost.days)
    }

    /// Writes a cost down.
    pub fn debit(&mut self, cost: &Cost) {
        let debit = Debit { first_day: cost.days.0, last_day: cost.days.1, micro: cost.micro };
        self.debits.entry((cost.purpose, cost.meter)).or_default().push(debit);
    }

    /// Everything that was ever spent on a home, millionths of ε: reported, not promised.
    pub fn spent(&self, meter: MeterId) -> u64 {
        self.debits.iter().filter(|((_, m), _)| *m == meter).flat_map(|(_, d)| d).map(|d| d.micro).sum()
    }

    /// The most that was spent on any home.
    pub fn spent_most(&self) -> u64 {
        let mut by_meter: BTreeMap<MeterId, u64> = BTreeMap::new();
        for ((_, meter), debits) in &self.debits {
            *by_meter.entry(*meter).or_default() += debits.iter().map(|d| d.micro).sum::<u64>();
        }
        by_meter.into_values().max().unwrap_or(0)
    }
}
