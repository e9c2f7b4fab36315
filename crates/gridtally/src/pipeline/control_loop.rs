//! Controls as a loop of their own, which waits neither for detection nor for a meter that does not answer: an approval, the abort switch and
//! a read-back have their time also while a thousand slots are in arrears.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use metering::Timestamp;
use store::{Change, SlotCommit, Store, StoreError};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        watch,
    },
    time::MissedTickBehavior,
};

use super::{
    command::Commander,
    detection::StageCounters,
    dispatch::Dispatch,
    flight::{Flights, Timing},
    ingest::IngestCounters,
};
use crate::{clock::Clock, config::PipelineConfig};

/// How long a simulated round waits for the answers of meters, by the machine's clock.
const SIMULATED_PATIENCE: Duration = Duration::from_secs(5);
/// Read-back delay of a simulation, seconds: one step of its physics.
const SIMULATED_READ_BACK_SECONDS: i64 = 60;
/// Key of the flights among the pipeline's documents.
const FLIGHTS: &str = "flights";

/// The loop.
pub struct ControlLoop {
    store: Store,
    clock: Clock,
    commander: Commander,
    changes: broadcast::Receiver<Change>,
    counters: Arc<StageCounters>,
    flights_written: Vec<u8>,
}

impl ControlLoop {
    /// Goes on from stored flights.
    pub async fn open(
        store: Store,
        clock: Clock,
        settings: &PipelineConfig,
        dispatch: Dispatch,
        (ingest, counters): (Arc<IngestCounters>, Arc<StageCounters>),
    ) -> Result<Self, StoreError> {
        // Followed before they are read, so that none falls between.
        let changes = store.subscribe();
        let simulated = clock.is_simulated();
        let read_back = if simulated { SIMULATED_READ_BACK_SECONDS } else { i64::from(settings.read_back_seconds) };
        let timing =
            Timing { read_back_seconds: read_back, verify_within_seconds: i64::from(settings.verify_within_seconds) };
        let patience = if simulated { SIMULATED_PATIENCE } else { Duration::ZERO };
        let flights_written = store.pipeline_document(FLIGHTS).await?.unwrap_or_default();
        let flights = if flights_written.is_empty() {
            Flights::default()
        } else {
            serde_json::from_slice(&flights_written)
                .map_err(|e| StoreError::Damaged(format!("the memory of controls under way does not parse ({e})")))?
        };
        let commander = Commander::resume(store.clone(), dispatch, (timing, patience), flights, ingest).await?;
        Ok(Self { store, clock, commander, changes, counters, flights_written })
    }

    /// Runs in real time until stopped: every second, and whenever something arrives.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let received = tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                received = self.changes.recv() => Some(received),
                _ = seconds.tick() => None,
            };
            let done = match received {
                Some(Err(RecvError::Closed)) => return,
                // Approved, or refused by the switch: at once.
                None | Some(Ok(Change::Control { .. })) => self.tick(self.clock.now()).await.map(|_| ()),
                Some(received) => self.hear(received).await,
            };
            if let Err(error) = done {
                self.failed(&error);
            }
        }
    }

    /// Notes that a pass failed.
    pub fn failed(&self, error: &StoreError) {
        self.counters.control_failures.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%error, "controls could not go on; they will be tried again");
    }

    /// Takes in one announcement; what was missed is read from the store.
    pub async fn hear(&mut self, received: Result<Change, RecvError>) -> Result<(), StoreError> {
        if received.as_ref().is_ok_and(|change| !Commander::concerns(change)) {
            return Ok(());
        }
        let now = self.clock.now();
        let topology = self.store.topology(now).await?;
        match received {
            Ok(change) => self.commander.hear(&change, &topology, now).await,
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "announcements were missed; the answers of meters are read from the store");
                self.commander.catch_up(&topology, now).await?;
            }
            Err(RecvError::Closed) => {}
        }
        Ok(())
    }

    /// The next announcement.
    pub async fn recv(&mut self) -> Result<Change, RecvError> {
        self.changes.recv().await
    }

    /// Takes every open control as far as it goes now. Returns when it wants to look again.
    pub async fn tick(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        loop {
            match self.changes.try_recv() {
                Ok(change) => self.hear(Ok(change)).await?,
                Err(broadcast::error::TryRecvError::Lagged(n)) => self.hear(Err(RecvError::Lagged(n))).await?,
                Err(_) => break,
            }
        }
        let topology = self.store.topology(now).await?;
        let wake = self.commander.round(&mut self.changes, &topology, now).await?;
        self.keep_flights(now).await?;
        Ok(wake)
    }

    async fn keep_flights(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let flights = serde_json::to_vec(self.commander.flights())?;
        if flights != self.flights_written {
            let blobs = vec![(FLIGHTS.to_owned(), flights.clone())];
            self.store.commit("flights", SlotCommit { at: now, blobs, ..SlotCommit::default() }).await?;
            self.flights_written = flights;
        }
        Ok(())
    }
}
