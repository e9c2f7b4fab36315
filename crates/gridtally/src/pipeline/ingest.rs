//! Validate, deduplicate, append durably, then acknowledge.
//!
//! One committer gathers what the listeners hand over and gives it to the store in groups; the outcome goes back to the listener,
//! which acknowledges only then. If the store fails, `done` is dropped: nothing is acknowledged and the meters send again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use headend::{Batch, Delivery, Outcome};
use store::{Accepted, Incoming, Quarantined, Store, StoreError};
use tokio::sync::mpsc;

/// Most deliveries in one commit.
const DELIVERIES_PER_COMMIT: usize = 8_192;

/// Counts for `/metrics`.
#[derive(Debug, Default)]
pub struct IngestCounters {
    /// Transactions.
    pub commits: AtomicU64,
    /// Deliveries committed.
    pub deliveries: AtomicU64,
    /// Commits that failed; their deliveries were not acknowledged.
    pub failures: AtomicU64,
}

/// Runs until the listeners are gone.
pub async fn run(store: Store, mut batches: mpsc::Receiver<Batch>, counters: Arc<IngestCounters>) {
    let mut group: Vec<Batch> = Vec::new();
    while let Some(first) = batches.recv().await {
        let mut size = first.deliveries.len();
        group.push(first);
        while size < DELIVERIES_PER_COMMIT
            && let Ok(more) = batches.try_recv()
        {
            size += more.deliveries.len();
            group.push(more);
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
