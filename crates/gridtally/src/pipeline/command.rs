//! Sends what was approved, hears the answers, reads back, and enters the states that [`super::flight`] decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use losses::{
    case::CaseAction,
    evidence::{Direction, Evidence, EvidenceKind, ReadingRange},
};
use metering::{
    Approval, Approver, ControlKind, ControlState, MeterId, Timestamp, ZoneId,
    frame::{Now, Reply},
};
use store::{
    CaseChange, CaseStep, Change, ControlChange, ControlFilter, SlotCommit, Store, StoreError, StoredControl, Topology,
};
use tokio::{sync::broadcast, time::Instant};

use super::{
    dispatch::Dispatch,
    flight::{Asked, Flight, Readers, Step, Timing, snapshot_id},
};

/// A read-back request lives this long.
const SNAPSHOT_EXPIRES_SECONDS: i64 = 900;
/// Most steps of all controls in one round; a bound, not a target.
const STEPS_MAX: usize = 10_000;

/// The command stage.
pub struct Commander {
    store: Store,
    dispatch: Dispatch,
    timing: Timing,
    /// How long a round waits, by the machine's clock, for answers to what it sent; zero with a real clock.
    patience: Duration,
    flights: BTreeMap<u64, Flight>,
    awaited: BTreeSet<u64>,
}

impl Commander {
    /// A stage that goes on from stored flights.
    pub fn new(
        store: Store,
        dispatch: Dispatch,
        timing: Timing,
        patience: Duration,
        flights: BTreeMap<u64, Flight>,
    ) -> Self {
        Self { store, dispatch, timing, patience, flights, awaited: BTreeSet::new() }
    }

    /// What a restart needs.
    pub fn flights(&self) -> &BTreeMap<u64, Flight> {
        &self.flights
    }

    /// Takes an answer or a snapshot from the store's announcements.
    pub async fn hear(&mut self, change: &Change, topology: &Topology, now: Timestamp) {
        match change {
            Change::Reply { meter, reply } => self.hear_reply(*meter, reply, topology, now),
            Change::Frame { meter, now: Some(values), .. } => {
                if let Some(id) = values.control {
                    self.hear_snapshot(*meter, id, values, topology);
                }
            }
            _ => {}
        }
    }

    fn hear_reply(&mut self, meter: MeterId, reply: &Reply, topology: &Topology, now: Timestamp) {
        self.awaited.remove(&reply.control);
        if let Some(flight) = self.flights.get_mut(&reply.control) {
            flight.answer.get_or_insert((now, reply.outcome));
        } else if reply.outcome.accepted() {
            self.hear_snapshot(meter, reply.control, &reply.now, topology);
        }
    }

    fn hear_snapshot(&mut self, meter: MeterId, id: u64, values: &Now, topology: &Topology) {
        let ct_ratio = topology.observed_by(meter).and_then(|zone| zone.observer.as_ref()).map_or(1.0, |o| o.ct_ratio);
        for (control, flight) in &mut self.flights {
            if flight.hear_snapshot(*control, id, values, ct_ratio) {
                self.awaited.remove(&id);
                return;
            }
        }
    }

    /// Takes every open control as far as it goes now. Returns when it wants to look again.
    pub async fn round(
        &mut self,
        changes: &mut broadcast::Receiver<Change>,
        topology: &Topology,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut wake = None;
        for _ in 0..STEPS_MAX {
            let open = self.store.controls(ControlFilter { open_only: true, ..ControlFilter::default() }).await?;
            let known: BTreeSet<u64> = open.iter().map(|control| control.id).collect();
            self.flights.retain(|id, _| known.contains(id));
            let mut moved = false;
            wake = None;
            for control in open.iter().rev() {
                match self.step(control, topology, now).await? {
                    Some(at) => wake = Some(wake.map_or(at, |w: Timestamp| w.min(at))),
                    None => moved = true,
                }
            }
            self.wait(changes, topology, now).await;
            if !moved {
                break;
            }
        }
        Ok(wake)
    }

    /// One step of one control; `None` when something moved, else the time to look again.
    async fn step(
        &mut self,
        control: &StoredControl,
        topology: &Topology,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let reachable = self.dispatch.is_listening(control.meter);
        if cuts_supply(&control.kind) && self.store.setting::<bool>("abort_switch").await?.unwrap_or(false) {
            match control.state {
                ControlState::Requested | ControlState::Approved => {
                    let why = "the abort switch is on: only supply is restored".to_owned();
                    self.enter(control, ControlState::Refused(why.clone()), why, topology, now).await?;
                    return Ok(None);
                }
                // On its way already; it is not sent again. An answer that still comes is heard, and its expiry ends it.
                ControlState::Sent if !self.is_answered(control.id) && now <= control.expires => {
                    return Ok(Some(control.expires.plus(1)));
                }
                _ => {}
            }
        }
        let flight = self.flights.entry(control.id).or_default();
        match flight.next(&control.kind, &control.state, control.expires, reachable, now, self.timing) {
            Step::WaitUntil(at) => return Ok(Some(at)),
            Step::Enter(state, note) => self.enter(control, state, note, topology, now).await?,
            Step::Read(asked) => self.read(control, asked, topology, now).await?,
            Step::Send => self.send(control, now).await?,
        }
        Ok(None)
    }

    fn is_answered(&self, control: u64) -> bool {
        self.flights.get(&control).is_some_and(|flight| flight.answer.is_some())
    }

    /// Enters a state; a disconnection that failed asks for a visit in its case, in the same transaction.
    async fn enter(
        &self,
        control: &StoredControl,
        to: ControlState,
        note: String,
        topology: &Topology,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let zone = topology.usage_point_of(control.meter).map(|point| point.zone);
        let cases = match (control.case, zone, &to) {
            _ if control.kind != ControlKind::Disconnect => Vec::new(),
            (Some(id), Some(zone), ControlState::Failed(_)) => {
                let steps = vec![
                    CaseStep::AddEvidence(vec![still_present(control.meter, zone, control.requested_at, now, &note)]),
                    CaseStep::Act(CaseAction::AskVisit { reason: format!("disconnection failed: {note}") }),
                ];
                vec![CaseChange::Edit { id, by: "pipeline".into(), at: now, steps }]
            }
            (Some(id), _, ControlState::Verified) => {
                // Somebody is without supply: a person looks at it, whether or not a policy decided.
                let steps = vec![CaseStep::ReviewByRule("the supply was switched off and verified".into())];
                vec![CaseChange::Edit { id, by: "pipeline".into(), at: now, steps }]
            }
            _ => Vec::new(),
        };
        let control_changes = vec![ControlChange { id: control.id, to, at: now, note }];
        let processed_through = self.store.pipeline_state().await?.processed_through.unwrap_or(now);
        self.store
            .commit_slot(SlotCommit { processed_through, cases, control_changes, ..SlotCommit::default() })
            .await?;
        Ok(())
    }

    async fn read(
        &mut self,
        control: &StoredControl,
        asked: Asked,
        topology: &Topology,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let readers = readers(control.meter, topology);
        if let Some(flight) = self.flights.get_mut(&control.id) {
            match control.state {
                ControlState::Acknowledged => flight.asked_after = Some(asked),
                _ => flight.asked_before = Some(asked),
            }
        }
        let targets = [(Some(readers.meter), false), (readers.observer.map(|(meter, _)| meter), true)];
        for (meter, is_observer) in targets {
            let Some(meter) = meter.filter(|meter| self.dispatch.is_listening(*meter)) else {
                continue;
            };
            let id = snapshot_id(control.id, asked, is_observer);
            // An instant that has passed is answered at once.
            let kind = ControlKind::SnapshotAt { at: Timestamp(0) };
            let expires = now.plus(SNAPSHOT_EXPIRES_SECONDS);
            let approval = Approval {
                approver: Approver::Policy("read-back".into()),
                at: now,
                reason: format!("control {}", control.id),
            };
            if self.dispatch.deliver(meter, id, kind, expires, approval).await? {
                self.awaited.insert(id);
            }
        }
        Ok(())
    }

    async fn send(&mut self, control: &StoredControl, now: Timestamp) -> Result<(), StoreError> {
        let Some(approved) = control.approved() else { return Ok(()) };
        if control.state == ControlState::Approved {
            // Entered before sending: after a crash it is sent again, and the meter takes it once.
            let note = "handed to the meter's connection".into();
            self.store.change_control(ControlChange { id: control.id, to: ControlState::Sent, at: now, note }).await?;
        }
        if let Some(flight) = self.flights.get_mut(&control.id) {
            flight.sent_at = Some(now);
        }
        if self
            .dispatch
            .deliver(control.meter, control.id, control.kind, control.expires, approved.approval().clone())
            .await?
        {
            self.awaited.insert(control.id);
        }
        Ok(())
    }

    /// With a simulated clock, waits for the answers to what this round sent, so that time stands still meanwhile.
    async fn wait(&mut self, changes: &mut broadcast::Receiver<Change>, topology: &Topology, now: Timestamp) {
        let deadline = Instant::now() + self.patience;
        while !self.awaited.is_empty() {
            match tokio::time::timeout_at(deadline, changes.recv()).await {
                Ok(Ok(change)) => self.hear(&change, topology, now).await,
                Ok(Err(broadcast::error::RecvError::Lagged(_))) => {}
                Ok(Err(broadcast::error::RecvError::Closed)) | Err(_) => break,
            }
        }
        self.awaited.clear();
    }
}

/// Evidence that a disconnection did not take: requested at `from`, judged at `to` with these words.
pub fn still_present(meter: MeterId, zone: ZoneId, from: Timestamp, to: Timestamp, note: &str) -> Evidence {
    let readings = vec![ReadingRange { meter, from, to }];
    let words = format!("{meter} was told to disconnect, and then: {note}");
    Evidence::new(EvidenceKind::SupplyStillPresent, Direction::For, 5.0, words, zone, readings)
}

/// What the abort switch stops.
fn cuts_supply(kind: &ControlKind) -> bool {
    matches!(kind, ControlKind::Disconnect | ControlKind::LoadLimit { limit_w: Some(_) })
}

fn readers(meter: MeterId, topology: &Topology) -> Readers {
    let observer = topology
        .usage_point_of(meter)
        .and_then(|point| topology.zone(point.zone))
        .and_then(|zone| zone.observer.as_ref())
        .map(|installation| (installation.meter, installation.ct_ratio));
    Readers { meter, observer }
}
