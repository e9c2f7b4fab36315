//! Budgets by day and year.

use privacy::{
    ledger::{Cost, Ledger},
    query::Purpose,
};

use crate::world::{id, policy};

#[test]
fn days_and_years_are_counted_apart() {
    let policy = policy();
    let mut ledger = Ledger::default();
    let cost = |first, last, micro| Cost { purpose: Purpose::Research, meter: id(0), days: (first, last), micro };
    for month in 0..12 {
        let one = cost(month * 30, month * 30 + 29, 1_000_000);
        assert!(ledger.allows(&policy, &one), "month {month}");
        ledger.debit(&one);
    }
    assert!(!ledger.allows(&policy, &cost(5, 5, 1)), "that day is spent");
    assert!(!ledger.allows(&policy, &cost(362, 362, 1)), "that year is spent");
    assert!(ledger.allows(&policy, &cost(500, 500, 1_000_000)), "a year later the first months no longer count");
    let other = Cost { meter: id(1), ..cost(5, 5, 1_000_000) };
    assert!(ledger.allows(&policy, &other), "another home");
    let map = Cost { purpose: Purpose::PublicMap, ..cost(5, 5, 1_000_000) };
    assert!(ledger.allows(&policy, &map), "another purpose has its own budget");
    assert_eq!(ledger.spent(id(0)), 12_000_000);
}
