//! What happens to a reading, in order. Each stage has one file:
//!
//! | stage | file | decides or does |
//! |---|---|---|
//! | ingest | `ingest.rs` | validate, deduplicate, append durably, then acknowledge |
//! | balance | `balance.rs` | zone × slot ▶ energy balance |
//! | investigate | `investigate.rs` | balances, events, history ▶ evidence ▶ case; written policy ▶ control |
//! | snapshots | `snapshots.rs` | missing energy ▶ all meters of the zone at one second, three times (`round.rs` decides, `instants.rs` reads) |
//! | canary | `canary.rs` | each night, known thefts in copies of real zones ▶ live detection rate |
//! | command | `command.rs` | approved control ▶ meter ▶ verified by reading back (`flight.rs`, `verify.rs` decide; `dispatch.rs` sends) |
//!
//! Ingest runs by itself. The others run one after the other in `Pipeline::tick`, at a time that is an argument; what a slot
//! decided is one transaction (ADR 1).

pub mod alarm_log;
pub mod balance;
pub mod canary;
pub mod command;
pub mod dispatch;
pub mod doubts;
pub mod flight;
pub mod history;
pub mod ingest;
pub mod instants;
pub mod investigate;
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
use registry::Topology;
use store::{Change, SlotCommit, Store, StoreError};
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::MissedTickBehavior,
};
use web::{Advance, PipelineStatus};

use self::{
    balance::{Balancer, valid_in},
    command::Commander,
    dispatch::Dispatch,
    flight::{Flights, Timing},
    ingest::IngestCounters,
    investigate::Investigator,
    snapshots::Snapshots,
};
use crate::{clock::Clock, config::PipelineConfig};

/// Length of a slot.
pub const SLOT: IntervalLength = IntervalLength::M15;
/// How long a simulated round waits for the answers of meters, by the machine's clock.
const SIMULATED_PATIENCE: Duration = Duration::from_secs(5);
/// Read-back delay of a simulation, seconds: one step of its physics.
const SIMULATED_READ_BACK_SECONDS: i64 = 60;
/// Tries of a failed tick in simulated time, and the pause between them.
const TICKS_MAX: u32 = 10;
const TICK_PAUSE: Duration = Duration::from_millis(300);
/// Key of the flights among the pipeline's documents.
const FLIGHTS: &str = "flights";

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
}

/// The stages after ingest.
pub struct Pipeline {
    store: Store,
    headend: Arc<Headend>,
    clock: Clock,
    settings: PipelineConfig,
    status: watch::Sender<PipelineStatus>,
    changes: broadcast::Receiver<Change>,
    topology: Arc<Topology>,
    processed_through: Option<Timestamp>,
    balancer: Balancer,
    investigator: Investigator,
    commander: Commander,
    snapshots: Snapshots,
    flights_written: Vec<u8>,
    /// A tick failed: what it had decided in memory and not written is dropped before the next.
    must_reload: bool,
}

impl Pipeline {
    /// Goes on where the store says the pipeline stood.
    pub async fn open(parts: Parts) -> Result<Self, StoreError> {
        let changes = parts.store.subscribe();
        let state = parts.store.pipeline_state().await?;
        let now = parts.clock.now();
        let topology = parts.store.topology(now).await?;
        let simulated = parts.clock.is_simulated();
        let timing = Timing {
            read_back_seconds: if simulated {
                SIMULATED_READ_BACK_SECONDS
            } else {
                i64::from(parts.settings.read_back_seconds)
            },
            verify_within_seconds: i64::from(parts.settings.verify_within_seconds),
        };
        let patience = if simulated { SIMULATED_PATIENCE } else { Duration::ZERO };
        let flights_written = state.blobs.get(FLIGHTS).cloned().unwrap_or_default();
        let flights =
            if flights_written.is_empty() { Flights::default() } else { serde_json::from_slice(&flights_written)? };
        let dispatch = Dispatch::new(parts.store.clone(), parts.headend.clone(), parts.key);
        let (store, waits) = (parts.store.clone(), (timing, patience));
        let commander = Commander::resume(store, dispatch.clone(), waits, flights, parts.counters).await?;
        let settings = parts.settings.snapshots.clone();
        let snapshots = Snapshots::resume(parts.store.clone(), dispatch, settings, simulated, &state.blobs)?;
        Ok(Self {
            balancer: Balancer::resume(&state.blobs, parts.settings.false_alarms_per_zone_month)?,
            investigator: Investigator::resume(parts.store.clone(), &state.blobs).await?,
            commander,
            snapshots,
            store: parts.store,
            headend: parts.headend,
            clock: parts.clock,
            settings: parts.settings,
            status: parts.status,
            changes,
            topology,
            processed_through: state.processed_through,
            flights_written,
            must_reload: false,
        })
    }

    /// Forgets what was decided and not written, and goes on from what is stored.
    async fn reload(&mut self) -> Result<(), StoreError> {
        let state = self.store.pipeline_state().await?;
        self.balancer = Balancer::resume(&state.blobs, self.settings.false_alarms_per_zone_month)?;
        self.investigator = Investigator::resume(self.store.clone(), &state.blobs).await?;
        self.processed_through = state.processed_through.or(self.processed_through);
        self.must_reload = false;
        Ok(())
    }

    /// Runs until stopped: at every step of a simulated clock, or every second and whenever something arrives.
    pub async fn run(mut self, mut advances: mpsc::Receiver<Advance>, mut stopped: watch::Receiver<bool>) {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let simulated = self.clock.is_simulated();
        let stop = async move { stopped.wait_for(|stop| *stop).await.map(drop) };
        tokio::pin!(stop);
        loop {
            tokio::select! {
                _ = &mut stop => return,
                Some(advance) = advances.recv(), if simulated => {
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
                    // The simulator may have gone; it will ask again.
                    let _ = advance.done.send(status);
                }
                change = self.changes.recv() => {
                    if let Ok(change) = change {
                        self.hear(&change).await;
                    }
                }
                _ = seconds.tick(), if !simulated || self.must_reload => {
                    self.tick_and_tell().await;
                }
            }
        }
    }

    async fn tick_and_tell(&mut self) -> PipelineStatus {
        let now = self.clock.now();
        let (wake_at, idle) = match self.tick(now).await {
            Ok(wake_at) => (wake_at, true),
            Err(error) => {
                tracing::error!(%error, "the pipeline could not go on; it will try again");
                self.must_reload = true;
                (Some(now), false)
            }
        };
        let status = PipelineStatus {
            now,
            processed_through: self.processed_through,
            idle,
            wake_at,
            meters_connected: self.headend.meters_connected(),
        };
        self.status.send_replace(status);
        status
    }

    /// Everything due at `now`. Returns when it wants to be called again at the latest.
    async fn tick(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        if self.must_reload {
            self.reload().await?;
        }
        while let Ok(change) = self.changes.try_recv() {
            self.hear(&change).await;
        }
        // Asked for at every tick: what begins now, and what was imported, holds at once.
        self.topology = self.store.topology(now).await?;
        // Controls need no network: a meter that hangs nowhere yet has its own steps and its own expiry.
        let through = if self.topology.zones.is_empty() { None } else { Some(self.due_slots(now).await?) };
        if through.is_some() {
            self.tampering(now).await?;
        }
        let commander = self.commander.round(&mut self.changes, &self.topology, now).await?;
        self.keep_flights(now).await?;
        let snapshots = match through {
            Some(through) => self.snapshots.round(&self.topology, through, now).await?,
            None => None,
        };
        Ok(commander.into_iter().chain(snapshots).min())
    }

    /// Decides every slot that is due; the end of the last one decided.
    async fn due_slots(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let mut through = match self.processed_through {
            Some(through) => through,
            None => now.floor_to(SLOT.seconds()),
        };
        self.processed_through = Some(through);
        loop {
            let end = through.plus(SLOT.seconds());
            if !self.is_due(end, now) {
                return Ok(through);
            }
            self.slot(end).await?;
            through = end;
        }
    }

    /// A slot is due at its end (simulated: everything of it has been acknowledged by then) or after the grace for late meters.
    fn is_due(&self, end: Timestamp, now: Timestamp) -> bool {
        let grace = if self.clock.is_simulated() { 0 } else { i64::from(self.settings.slot_grace_seconds) };
        end.plus(grace) <= now
    }

    async fn slot(&mut self, end: Timestamp) -> Result<(), StoreError> {
        // What holds in the slot, however late it is decided: not what holds now.
        let topology = self.store.topology(valid_in(end)).await?;
        let results = self.balancer.slot(&self.store, &topology, end).await?;
        let mut decided = self.investigator.slot(&topology, &results, &self.snapshots, end).await?;
        decided.findings.extend(results.findings);
        self.snapshots.follow(&self.investigator.missing(), end);
        let mut blobs = self.balancer.documents()?;
        blobs.extend(decided.documents);
        blobs.extend(self.snapshots.changed()?);
        let alarmed = self.balancer.raised();
        blobs.extend(canary::night(&self.store, &topology, &alarmed, self.balancer.alarms(), end).await?);
        self.store
            .commit_slot(SlotCommit {
                processed_through: end,
                decided_at: None,
                balances: results.balances,
                blobs,
                cases: decided.cases,
                controls: decided.controls,
                bases: decided.bases,
                findings: decided.findings,
                ..SlotCommit::default()
            })
            .await?;
        self.investigator.committed().await?;
        self.processed_through = Some(end);
        Ok(())
    }

    /// Tamper events since the last look: evidence, case and, if the written policy says so, a control; in one transaction.
    async fn tampering(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let Some(decided) = self.investigator.events(&self.topology, &self.balancer.raised(), now).await? else {
            return Ok(());
        };
        self.store
            .commit_slot(SlotCommit {
                processed_through: now,
                keeps_position: true,
                decided_at: Some(now),
                blobs: decided.documents,
                cases: decided.cases,
                controls: decided.controls,
                bases: decided.bases,
                ..SlotCommit::default()
            })
            .await?;
        self.investigator.committed().await
    }

    async fn keep_flights(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let flights = serde_json::to_vec(self.commander.flights())?;
        if flights != self.flights_written {
            let blobs = vec![(FLIGHTS.to_owned(), flights.clone())];
            let commit = SlotCommit { processed_through: now, keeps_position: true, blobs, ..SlotCommit::default() };
            self.store.commit_slot(commit).await?;
            self.flights_written = flights;
        }
        Ok(())
    }

    async fn hear(&mut self, change: &Change) {
        self.commander.hear(change, &self.topology, self.clock.now()).await;
    }
}
