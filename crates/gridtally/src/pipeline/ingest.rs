//! Validate, deduplicate, append durably, then acknowledge.
//!
//! One committer gathers what the listeners hand over and gives it to the store in groups; the outcome goes back to the listener,
//! which acknowledges only then. If the store fails, `done` is dropped: nothing is acknowledged and the meters send again.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use headend::{Batch, Delivery, Outcome};
use metering::{EventKind, MeterId, Timestamp};
use store::{Accepted, Incoming, Quarantined, Store, StoreError};
use tokio::sync::mpsc;

/// Most deliveries in one commit.
const DELIVERIES_PER_COMMIT: usize = 8_192;

/// Most frames of one meter within an hour: almost three a second.
const FRAMES_PER_HOUR: usize = 10_000;
/// Most bytes of one meter within an hour.
const BYTES_PER_HOUR: usize = 32 << 20;

/// Counts for `/metrics`.
#[derive(Debug, Default)]
pub struct IngestCounters {
    /// Transactions.
    pub commits: AtomicU64,
    /// Deliveries committed.
    pub deliveries: AtomicU64,
    /// Commits that failed; their deliveries were not acknowledged.
    pub failures: AtomicU64,
    /// Answers of meters to what they were not asked.
    pub foreign_answers: AtomicU64,
    /// Reads of a connection that were turned away because their meter had sent too much within the hour.
    pub over_budget: AtomicU64,
}

/// What each meter has sent within the hour. A meter beyond its budget is not acknowledged and its connection is closed; what it keeps it
/// may send in the next hour. An honest one stays far below, also after weeks without a connection.
#[derive(Debug, Default)]
struct Budgets {
    hour: i64,
    spent: HashMap<MeterId, Spent>,
}

/// What one meter has sent within the hour.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    frames: usize,
    bytes: usize,
    is_reported: bool,
}

/// Whether a meter may send on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allowance {
    Within,
    /// It goes beyond now, for the first time this hour.
    Spent,
    Beyond,
}

impl Budgets {
    fn take(&mut self, meter: MeterId, frames: usize, bytes: usize, at: Timestamp) -> Allowance {
        let hour = at.0.div_euclid(3_600);
        if hour > self.hour {
            self.hour = hour;
            self.spent.clear();
        }
        let spent = self.spent.entry(meter).or_default();
        if spent.frames + frames <= FRAMES_PER_HOUR && spent.bytes + bytes <= BYTES_PER_HOUR {
            spent.frames += frames;
            spent.bytes += bytes;
            return Allowance::Within;
        }
        if std::mem::replace(&mut spent.is_reported, true) { Allowance::Beyond } else { Allowance::Spent }
    }
}

/// Runs until the listeners are gone.
pub async fn run(store: Store, mut batches: mpsc::Receiver<Batch>, counters: Arc<IngestCounters>) {
    let mut group: Vec<Batch> = Vec::new();
    let mut budgets = Budgets::default();
    while let Some(first) = batches.recv().await {
        let mut size = first.deliveries.len();
        group.push(first);
        while size < DELIVERIES_PER_COMMIT
            && let Ok(more) = batches.try_recv()
        {
            size += more.deliveries.len();
            group.push(more);
        }
        // A simulation runs through days in seconds; there is nobody to hold back.
        if !store.is_simulation() {
            hold_back(&store, &mut group, &mut budgets, &counters).await;
        }
        match commit(&store, &mut group).await {
            Ok(()) => {
                counters.commits.fetch_add(1, Ordering::Relaxed);
                counters.deliveries.fetch_add(size as u64, Ordering::Relaxed);
            }
            Err(error) => {
                counters.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, deliveries = size, "not stored, not acknowledged; the meters will send again");
            }
        }
        group.clear();
    }
}

/// Turns away what meters send beyond their budgets: it is dropped unacknowledged, which closes the connection.
async fn hold_back(store: &Store, group: &mut Vec<Batch>, budgets: &mut Budgets, counters: &IngestCounters) {
    let mut spent = Vec::new();
    group.retain(|batch| {
        let Some(first) = batch.deliveries.first() else { return true };
        let bytes = batch.deliveries.iter().map(|delivery| delivery.payload.len()).sum();
        let allowance = budgets.take(first.meter, batch.deliveries.len(), bytes, first.received);
        if allowance == Allowance::Spent {
            spent.push((first.meter, first.received));
        }
        if allowance != Allowance::Within {
            counters.over_budget.fetch_add(1, Ordering::Relaxed);
        }
        allowance == Allowance::Within
    });
    for (meter, at) in spent {
        tracing::warn!(%meter, "sent more within the hour than a meter may; not listened to for the rest of it");
        if let Err(error) = store.raise(meter, EventKind::BudgetSpent, at).await {
            tracing::error!(%meter, %error, "the event about it was not stored");
        }
    }
}

async fn commit(store: &Store, group: &mut Vec<Batch>) -> Result<(), StoreError> {
    let mut frames = Vec::new();
    let mut quarantined = Vec::new();
    for delivery in group.iter().flat_map(|batch| &batch.deliveries) {
        match &delivery.frame {
            Ok(frame) => {
                frames.push(Incoming {
                    frame: frame.clone(),
                    payload: delivery.payload.clone(),
                    received: delivery.received,
                });
            }
            Err(reason) => quarantined.push(quarantine(delivery, reason.to_string())),
        }
    }
    let expected = frames.len();
    let accepted = if frames.is_empty() { Vec::new() } else { store.ingest(frames).await? };
    if accepted.len() != expected {
        return Err(StoreError::Task(format!("{} outcomes for {expected} frames", accepted.len())));
    }
    if !quarantined.is_empty() {
        store.quarantine(quarantined).await?;
    }
    let mut results = accepted.iter();
    for batch in group.drain(..) {
        let outcomes = batch.deliveries.iter().map(|delivery| match &delivery.frame {
            Err(_) => Outcome::Quarantined,
            Ok(_) => results.next().map_or(Outcome::Stored, outcome),
        });
        // A listener that is gone no longer waits for its answer.
        let _ = batch.done.send(outcomes.collect());
    }
    Ok(())
}

fn quarantine(delivery: &Delivery, why: String) -> Quarantined {
    Quarantined {
        meter: delivery.meter,
        topic: delivery.kind.map_or("readings by HTTP", |kind| kind.level()).into(),
        why,
        payload: delivery.payload.clone(),
        received: delivery.received,
    }
}

fn outcome(accepted: &Accepted) -> Outcome {
    match accepted {
        Accepted::Stored => Outcome::Stored,
        Accepted::Duplicate => Outcome::Duplicate,
        Accepted::Conflict => Outcome::Conflict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_has_its_budget_each_hour_and_no_other_pays_for_it() {
        let (loud, calm) = (MeterId::new("M-1").expect("id"), MeterId::new("M-2").expect("id"));
        let mut budgets = Budgets::default();
        for _ in 0..FRAMES_PER_HOUR / 100 {
            assert_eq!(budgets.take(loud, 100, 1_000, Timestamp(10)), Allowance::Within);
        }
        assert_eq!(budgets.take(loud, 1, 1, Timestamp(11)), Allowance::Spent);
        assert_eq!(budgets.take(loud, 1, 1, Timestamp(12)), Allowance::Beyond, "reported once");
        assert_eq!(budgets.take(calm, 100, 1_000, Timestamp(12)), Allowance::Within);
        assert_eq!(budgets.take(calm, 1, BYTES_PER_HOUR, Timestamp(12)), Allowance::Spent);
        assert_eq!(budgets.take(loud, 1, 1, Timestamp(3_600)), Allowance::Within);
    }
}
