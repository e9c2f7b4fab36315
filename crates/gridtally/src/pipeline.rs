//! What happens to a reading, in order. Each stage has one file:
//!
//! | stage | file | decides or does |
//! |---|---|---|
//! | ingest | `ingest.rs` | validate, deduplicate, append durably, then acknowledge |
//! | balance | `balance.rs` | zone × slot ▶ energy balance |
//! | investigate | `investigate.rs` | balances, events, history ▶ evidence ▶ case; written policy ▶ control |
//! | snapshots | `snapshots.rs` | missing energy ▶ all meters of the zone at one second, three times (`round.rs` decides, `instants.rs` reads) |
//! | canary | `canary.rs` | each night, known thefts in copies of real zones ▶ live detection rate; a job of its own |
//! | late | `late.rs` | readings long after their time ▶ balances computed again, however old |
//! | command | `command.rs` | approved control ▶ meter ▶ verified by reading back (`flight.rs`, `verify.rs` decide; `dispatch.rs` sends) |
//!
//! Ingest runs by itself, and so do the two loops of the others: `detection.rs` (balance to late; `position.rs` says how far) and
//! `control_loop.rs`, which waits for nobody. Each decides on a copy or from the store, writes in one transaction, and changes its memory
//! after that (ADR 1, ADR 4). In simulated time they take turns, at a time that is an argument, so that equal seeds give equal runs.

pub mod alarm_log;
pub mod balance;
pub mod canary;
pub mod command;
pub mod control_loop;
pub mod detection;
pub mod dispatch;
pub mod doubts;
pub mod flight;
pub mod history;
pub mod ingest;
pub mod instants;
pub mod investigate;
pub mod late;
pub mod position;
pub mod recompute;
pub mod round;
pub mod series;
pub mod snapshots;
pub mod tamper;
pub mod verify;

use std::{sync::Arc, time::Duration};

use ed25519_dalek::SigningKey;
use headend::Headend;
use metering::{IntervalLength, Timestamp};
use store::{Store, StoreError};
use tokio::{
    sync::{broadcast::error::RecvError, mpsc, watch},
    task::JoinSet,
};
use web::{Advance, PipelineStatus};

use self::{
    control_loop::ControlLoop,
    detection::{Detection, StageCounters},
    dispatch::Dispatch,
    ingest::IngestCounters,
};
use crate::{clock::Clock, config::PipelineConfig};

/// Length of a slot.
pub const SLOT: IntervalLength = IntervalLength::M15;
/// Tries of a failed tick in simulated time, and the pause between them.
const TICKS_MAX: u32 = 10;
const TICK_PAUSE: Duration = Duration::from_millis(300);
/// What the log says when a loop ends though nobody stopped it.
const ENDED: &str = "a loop of the pipeline ended: restart the program";

/// What a pipeline is made of.
pub struct Parts {
    /// The databases.
    pub store: Store,
    /// The meters' connections.
    pub headend: Arc<Headend>,
    /// The time.
    pub clock: Clock,
    /// Signs controls.
    pub key: SigningKey,
    /// Settings.
    pub settings: PipelineConfig,
    /// Told after every tick.
    pub status: watch::Sender<PipelineStatus>,
    /// Counts for `/metrics`.
    pub counters: Arc<IngestCounters>,
    /// Failures of the stages, for `/metrics`.
    pub stages: Arc<StageCounters>,
}

/// The stages after ingest.
pub struct Pipeline {
    headend: Arc<Headend>,
    clock: Clock,
    status: watch::Sender<PipelineStatus>,
    detection: Detection,
    control: ControlLoop,
}

impl Pipeline {
    /// Goes on where the store says the pipeline stood.
    pub async fn open(parts: Parts) -> Result<Self, StoreError> {
        let Parts { store, headend, clock, key, settings, status, counters, stages } = parts;
        let dispatch = Dispatch::new(store.clone(), headend.clone(), key);
        let both = (counters, stages.clone());
        let control = ControlLoop::open(store.clone(), clock.clone(), &settings, dispatch.clone(), both).await?;
        let detection = Detection::open(store, clock.clone(), settings, dispatch, stages).await?;
        Ok(Self { headend, clock, status, detection, control })
    }

    /// Runs until stopped: at every step of a simulated clock, or in real time as two loops that do not wait for each other.
    pub async fn run(self, advances: mpsc::Receiver<Advance>, stopped: watch::Receiver<bool>) {
        if self.clock.is_simulated() {
            return self.run_given(advances, stopped).await;
        }
        let (status, headend) = (self.status.clone(), self.headend);
        let mut loops = JoinSet::new();
        loops.spawn(self.detection.run(self.status, stopped.clone()));
        loops.spawn(self.control.run(stopped.clone()));
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        while !loops.is_empty() {
            tokio::select! {
                ended = loops.join_next() => {
                    if let Some(Err(error)) = ended {
                        tracing::error!(%error, "{ENDED}");
                    }
                }
                _ = seconds.tick() => {
                    status.send_modify(|status| status.meters_connected = headend.meters_connected());
                }
            }
        }
    }

    async fn run_given(mut self, mut advances: mpsc::Receiver<Advance>, mut stopped: watch::Receiver<bool>) {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        let stop = async move { stopped.wait_for(|stop| *stop).await.map(drop) };
        tokio::pin!(stop);
        let mut failed = false;
        loop {
            tokio::select! {
                _ = &mut stop => return,
                Some(advance) = advances.recv() => {
                    self.clock.advance(advance.to);
                    let mut status = self.tick_and_tell().await;
                    // Simulated time stands still until the tick is done: nobody else would try it again.
                    for _ in 1..TICKS_MAX {
                        if status.idle {
                            break;
                        }
                        tokio::time::sleep(TICK_PAUSE).await;
                        status = self.tick_and_tell().await;
                    }
                    failed = !status.idle;
                    // The simulator may have gone; it will ask again.
                    let _ = advance.done.send(status);
                }
                received = self.control.recv() => {
                    if matches!(received, Err(RecvError::Closed)) {
                        return;
                    }
                    if let Err(error) = self.control.hear(received).await {
                        self.control.failed(&error);
                    }
                }
                _ = seconds.tick(), if failed => failed = !self.tick_and_tell().await.idle,
            }
        }
    }

    async fn tick_and_tell(&mut self) -> PipelineStatus {
        let now = self.clock.now();
        let (wake_at, idle) = match self.tick(now).await {
            Ok(wake_at) => (wake_at, true),
            Err(()) => (Some(now), false),
        };
        let mut status =
            PipelineStatus { wake_at, meters_connected: self.headend.meters_connected(), ..Default::default() };
        self.detection.tell(&mut status, idle);
        self.status.send_replace(status);
        status
    }

    /// Everything due at `now`, in an order that is always the same. Returns when it wants to be called again at the latest.
    async fn tick(&mut self, now: Timestamp) -> Result<Option<Timestamp>, ()> {
        let decided = self.detection.decide(usize::MAX).await;
        decided.map_err(|error| self.detection.failed(&error))?;
        // Controls need no network: a meter that hangs nowhere yet has its own steps and its own expiry.
        let control = self.control.tick(now).await.map_err(|error| self.control.failed(&error))?;
        let snapshots = self.detection.follow_up().await.map_err(|error| self.detection.failed(&error))?;
        self.detection.late().await.map_err(|error| self.detection.failed(&error))?;
        Ok(control.into_iter().chain(snapshots).min())
    }
}
