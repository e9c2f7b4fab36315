//! Detection as a loop of its own: every slot that is due, tamper events, snapshots, late readings. It decides on a copy of its state; what
//! it decided is written in one transaction, and only then the copy takes the state's place. After any failure it goes on from what is
//! stored.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metering::Timestamp;
use store::{AuditNote, SlotCommit, Store, StoreError};
use tokio::{sync::watch, time::MissedTickBehavior};
use web::{ClockState, PipelineStatus};

use super::{
    balance::{Balancer, valid_in},
    canary,
    dispatch::Dispatch,
    investigate::Investigator,
    late,
    position::{Doubt, Known},
    snapshots::Snapshots,
};
use crate::{clock::Clock, config::PipelineConfig};

/// Slots decided in one pass of real time; then events and snapshots have their turn, and a stop is noticed.
const SLOTS_PER_PASS: usize = 8;
/// Tries of a night's self-measurement that failed, and the pause between them.
const NIGHT_TRIES: u32 = 5;
const NIGHT_PAUSE: Duration = Duration::from_millis(300);

/// What failed, for `/metrics`.
#[derive(Debug, Default)]
pub struct StageCounters {
    /// Passes of detection.
    pub detection_failures: AtomicU64,
    /// Passes of the control loop.
    pub control_failures: AtomicU64,
    /// Nights without self-measurement.
    pub night_failures: AtomicU64,
    /// Passes over late readings.
    pub late_failures: AtomicU64,
}

/// All that detection remembers.
#[derive(Clone)]
struct State {
    balancer: Balancer,
    investigator: Investigator,
    snapshots: Snapshots,
}

/// The loop.
pub struct Detection {
    store: Store,
    clock: Clock,
    settings: PipelineConfig,
    dispatch: Dispatch,
    counters: Arc<StageCounters>,
    state: State,
    processed_through: Option<Timestamp>,
    /// A position is stored: slots were decided.
    has_decided: bool,
    doubt: Option<Doubt>,
    /// A pass failed: what is in memory may not be what is stored.
    must_reload: bool,
}

impl Detection {
    /// Goes on from stored documents.
    pub async fn open(
        store: Store,
        clock: Clock,
        settings: PipelineConfig,
        dispatch: Dispatch,
        counters: Arc<StageCounters>,
    ) -> Result<Self, StoreError> {
        let stored = store.pipeline_state().await?;
        let state = State::resume(&store, &clock, &settings, &dispatch, &stored.blobs).await?;
        let processed_through = stored.processed_through;
        let (has_decided, doubt, must_reload) = (processed_through.is_some(), None, false);
        Ok(Self {
            store,
            clock,
            settings,
            dispatch,
            counters,
            state,
            processed_through,
            has_decided,
            doubt,
            must_reload,
        })
    }

    /// Everything up to here has been decided.
    pub fn processed_through(&self) -> Option<Timestamp> {
        self.processed_through
    }

    /// Runs in real time until stopped, every second. What there is to do is found in the store, so no announcement can be missed.
    pub async fn run(mut self, status: watch::Sender<PipelineStatus>, mut stopped: watch::Receiver<bool>) {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let more = match self.pass().await {
                Ok(more) => more,
                Err(error) => {
                    self.failed(&error);
                    false
                }
            };
            status.send_modify(|status| self.tell(status, !more && !self.must_reload));
            if *stopped.borrow() {
                return;
            }
            if more {
                continue;
            }
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                _ = seconds.tick() => {}
            }
        }
    }

    /// One pass of real time; whether more is to be done at once.
    async fn pass(&mut self) -> Result<bool, StoreError> {
        let more_slots = self.decide(SLOTS_PER_PASS).await?;
        self.follow_up().await?;
        Ok(self.late_days().await || more_slots)
    }

    /// Balances of some late days. A day that cannot be read holds up no slot: it stays noted, is counted, and is tried again.
    async fn late_days(&self) -> bool {
        late::pass(&self.store, &self.state.balancer, self.clock.now()).await.unwrap_or_else(|error| {
            self.counters.late_failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "balances of late readings could not be computed again; they will be tried again");
            false
        })
    }

    /// Notes that a pass failed.
    pub fn failed(&mut self, error: &StoreError) {
        self.counters.detection_failures.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%error, "detection could not go on; it will try again");
        self.must_reload = true;
    }

    /// Enters where detection stands.
    pub fn tell(&self, status: &mut PipelineStatus, idle: bool) {
        let known = self.known();
        status.now = known.now;
        status.processed_through = self.processed_through;
        status.idle = idle;
        status.readings_reach = known.readings;
        status.clock = match self.doubt {
            None => ClockState::Agrees,
            Some(Doubt::Ahead) => ClockState::AheadOfReadings,
            Some(Doubt::Behind) => ClockState::BehindReadings,
        };
    }

    fn known(&self) -> Known {
        Known {
            now: self.clock.now(),
            readings: self.store.readings_reach(),
            is_given: self.clock.is_simulated(),
            grace_seconds: i64::from(self.settings.slot_grace_seconds),
        }
    }

    /// Decides slots that are due, at most `most`, and then what tamper events say; whether more slots are due. The clock is looked at
    /// before every slot.
    pub async fn decide(&mut self, most: usize) -> Result<bool, StoreError> {
        if self.must_reload {
            self.reload().await?;
        }
        self.check_time().await?;
        let mut more = true;
        for _ in 0..most {
            let known = self.known();
            let Some(end) = self.processed_through.and_then(|through| known.next_slot(through)) else {
                more = false;
                break;
            };
            self.slot(end).await?;
        }
        if self.processed_through.is_some() {
            self.tampering().await?;
        }
        Ok(more)
    }

    /// Takes snapshots as far as they go. Returns when it wants to look again.
    pub async fn follow_up(&mut self) -> Result<Option<Timestamp>, StoreError> {
        if self.processed_through.is_none() {
            return Ok(None);
        }
        let now = self.clock.now();
        let topology = self.store.topology(now).await?;
        self.state.snapshots.round(&topology, now).await
    }

    /// All balances of late days, in simulated time.
    pub async fn late(&mut self) -> Result<(), StoreError> {
        while late::pass(&self.store, &self.state.balancer, self.clock.now()).await? {}
        Ok(())
    }

    /// Forgets what is in memory, and goes on from what is stored.
    async fn reload(&mut self) -> Result<(), StoreError> {
        let stored = self.store.pipeline_state().await?;
        self.state = State::resume(&self.store, &self.clock, &self.settings, &self.dispatch, &stored.blobs).await?;
        self.processed_through = stored.processed_through.or(self.processed_through);
        self.must_reload = false;
        Ok(())
    }

    /// Compares clock, readings and position: begins where nothing was decided yet, takes back what the clock made up, and tells.
    async fn check_time(&mut self) -> Result<(), StoreError> {
        let known = self.known();
        let doubt = known.doubt();
        if doubt != self.doubt {
            let (clock, readings) = (known.now, known.readings.unwrap_or_default());
            match doubt {
                Some(Doubt::Ahead) => tracing::error!(
                    %clock, %readings,
                    "the clock is hours ahead of all readings: it is wrong, or no meter reports; no slot is decided beyond the readings"
                ),
                Some(Doubt::Behind) => tracing::error!(
                    %clock, %readings,
                    "the clock is behind the readings: set it; no slot is decided before it is right"
                ),
                None => tracing::info!(%clock, "clock and readings agree again"),
            }
            self.doubt = doubt;
        }
        match self.processed_through {
            None if !self.store.topology(known.now).await?.zones.is_empty() => self.processed_through = known.begin(),
            None => {}
            Some(begin) if !self.has_decided && known.is_begin_forgotten(begin) => {
                self.processed_through = known.begin()
            }
            Some(through) => {
                if let Some(to) = known.taken_back(through) {
                    self.take_back(through, to).await?;
                }
            }
        }
        Ok(())
    }

    /// Goes back to `to`: the position was reached by a wrong clock.
    async fn take_back(&mut self, from: Timestamp, to: Timestamp) -> Result<(), StoreError> {
        tracing::error!(%from, %to, "the position of detection lies in the future and was not reached by readings; it is taken back");
        let mut next = self.state.clone();
        next.balancer.take_back(to);
        next.investigator.take_back(to);
        next.snapshots.take_back(to);
        let detail = format!("from {from} to {to}: the clock was wrong");
        let notes = vec![AuditNote { action: "detection.take_back", subject: "detection".to_owned(), detail }];
        let blobs = next.documents()?;
        let (position, balances_end) = (Some(to), Some(to));
        let commit = SlotCommit { at: to, position, balances_end, blobs, notes, ..SlotCommit::default() };
        self.store.commit("detection.take_back", commit).await?;
        self.accept(next)?;
        self.processed_through = position;
        Ok(())
    }

    async fn slot(&mut self, end: Timestamp) -> Result<(), StoreError> {
        // What holds in the slot, however late it is decided: not what holds now.
        let topology = self.store.topology(valid_in(end)).await?;
        let mut next = self.state.clone();
        let results = next.balancer.slot(&self.store, &topology, end).await?;
        let mut decided = next.investigator.slot(&topology, &results, &next.snapshots, end).await?;
        decided.findings.extend(results.findings);
        next.snapshots.follow(&next.investigator.missing(), end);
        let mut blobs = next.balancer.documents()?;
        blobs.extend(decided.documents);
        blobs.extend(next.snapshots.changed()?);
        let commit = SlotCommit {
            at: end,
            position: Some(end),
            balances: results.balances,
            blobs,
            cases: decided.cases,
            controls: decided.controls,
            bases: decided.bases,
            findings: decided.findings,
            ..SlotCommit::default()
        };
        self.store.commit_slot(commit).await?;
        self.accept(next)?;
        (self.processed_through, self.has_decided) = (Some(end), true);
        self.state.investigator.committed().await?;
        if canary::is_due(end) {
            self.night(end).await?;
        }
        Ok(())
    }

    /// The next state takes the place of the former: it is written.
    fn accept(&mut self, next: State) -> Result<(), StoreError> {
        self.state = next;
        self.state.snapshots.was_written()
    }

    /// The night's self-measurement: a job of its own, which nothing waits for in real time. Its failure is counted and stops nothing.
    async fn night(&self, end: Timestamp) -> Result<(), StoreError> {
        let topology = self.store.topology(valid_in(end)).await?;
        let (store, counters) = (self.store.clone(), self.counters.clone());
        let (alarmed, alarms) = (self.state.balancer.raised(), self.state.balancer.alarms());
        let job = async move {
            for attempt in 1..=NIGHT_TRIES {
                match canary::night(store.clone(), topology.clone(), alarmed.clone(), alarms, end).await {
                    Ok(()) => return,
                    Err(error) => tracing::error!(%error, attempt, "the canaries of this night were not watched"),
                }
                tokio::time::sleep(NIGHT_PAUSE).await;
            }
            counters.night_failures.fetch_add(1, Ordering::Relaxed);
        };
        if self.clock.is_simulated() {
            job.await;
        } else {
            tokio::spawn(job);
        }
        Ok(())
    }

    /// Tamper events since the last look: evidence, case and, if the written policy says so, a control; in one transaction.
    async fn tampering(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let topology = self.store.topology(now).await?;
        let mut next = self.state.clone();
        let raised = next.balancer.raised();
        let Some(decided) = next.investigator.events(&topology, &raised, now).await? else { return Ok(()) };
        let commit = SlotCommit {
            at: now,
            blobs: decided.documents,
            cases: decided.cases,
            controls: decided.controls,
            bases: decided.bases,
            ..SlotCommit::default()
        };
        self.store.commit("tampering", commit).await?;
        self.state = next;
        self.state.investigator.committed().await
    }
}

impl State {
    async fn resume(
        store: &Store,
        clock: &Clock,
        settings: &PipelineConfig,
        dispatch: &Dispatch,
        blobs: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, StoreError> {
        let simulated = clock.is_simulated();
        Ok(Self {
            balancer: Balancer::resume(blobs, settings.false_alarms_per_zone_month)?,
            investigator: Investigator::resume(store.clone(), blobs).await?,
            snapshots: Snapshots::resume(
                store.clone(),
                dispatch.clone(),
                settings.snapshots.clone(),
                simulated,
                blobs,
            )?,
        })
    }

    fn documents(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut documents = self.balancer.documents()?;
        documents.extend(self.investigator.documents()?);
        documents.extend(self.snapshots.changed()?);
        Ok(documents)
    }
}
