//! Readings that came long after their time: the balances of their days are computed again, however old they are, with bounded work in
//! one pass. Alarms already decided stay.

use std::collections::BTreeMap;

use losses::balance::EnergyBalance;
use metering::{Timestamp, ZoneId};
use store::{SlotCommit, Store, StoreError};

use super::balance::{Balancer, balanced_with, is_complete, valid_in};

/// Days of one meter that one pass looks at.
const DAYS_PER_PASS: u32 = 64;
const DAY_SECONDS: i64 = 86_400;

/// Computes balances of some late days again; whether more days may wait.
pub async fn pass(store: &Store, balancer: &Balancer, now: Timestamp) -> Result<bool, StoreError> {
    let days = store.late_days(DAYS_PER_PASS).await?;
    if days.is_empty() {
        return Ok(false);
    }
    let mut wanted: BTreeMap<Timestamp, BTreeMap<ZoneId, EnergyBalance>> = BTreeMap::new();
    for day in &days {
        // The register at the day's end closes its last slot and opens the first of the next day.
        let (from, to) = (day.begin, day.begin.plus(DAY_SECONDS + super::SLOT.seconds()));
        let mut zones: Vec<ZoneId> = Vec::new();
        for at in [from, valid_in(to)] {
            zones.extend(balanced_with(&*store.topology(at).await?, day.meter));
        }
        zones.sort();
        zones.dedup();
        for zone in zones {
            for balance in store.balances(zone, from, to).await?.into_iter().filter(|balance| !is_complete(balance)) {
                wanted.entry(balance.end).or_default().insert(zone, balance);
            }
        }
    }
    let mut balances = Vec::new();
    for (slot, before) in wanted {
        balances.extend(balancer.computed_again(store, slot, before.into_values().collect()).await?);
    }
    if !balances.is_empty() {
        let again = balances.into_iter().filter(|(before, again)| again.coverage > before.coverage);
        let balances = again.map(|(_, again)| (again.zone, again)).collect();
        store.commit("late", SlotCommit { at: now, balances, ..SlotCommit::default() }).await?;
    }
    store.strike_off_late(&days).await?;
    Ok(u32::try_from(days.len()).is_ok_and(|seen| seen >= DAYS_PER_PASS))
}
