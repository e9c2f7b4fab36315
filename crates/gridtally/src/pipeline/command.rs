//! Sends what was approved, hears the answers, reads back, and enters the states that [`super::flight`] decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use losses::{
    case::CaseAction,
    evidence::{Direction, Evidence, EvidenceKind, ReadingRange},
};
use metering::{Approval, Approver, ControlKind, ControlState, EventKind, MeterId, Timestamp, ZoneId, topic::UpKind};
use registry::Topology;
use store::{CaseChange, CaseStep, Change, ControlChange, Sending, SlotCommit, Store, StoreError, StoredControl};
use tokio::{sync::broadcast, time::Instant};

use super::{
    dispatch::{Dispatch, Waiting},
    flight::{Asked, Flight, Flights, Heard, Step, Timing},
    ingest::IngestCounters,
    round::instant_id,
};

/// A read-back request lives this long.
const SNAPSHOT_EXPIRES_SECONDS: i64 = 900;
/// A meter that answers what it was not asked is reported so often, seconds.
const REPORT_SECONDS: i64 = 3_600;
/// Most steps of all controls in one round; a bound, not a target.
const STEPS_MAX: usize = 10_000;

/// The command stage.
pub struct Commander {
    store: Store,
    dispatch: Dispatch,
    timing: Timing,
    /// How long a round waits, by the machine's clock, for answers to what it sent; zero with a real clock.
    patience: Duration,
    flights: Flights,
    awaited: BTreeSet<u64>,
    counters: Arc<IngestCounters>,
    /// When a meter was last reported for answering what it was not asked.
    reported: BTreeMap<MeterId, Timestamp>,
}

impl Commander {
    /// A stage that goes on from stored flights.
    pub async fn resume(
        store: Store,
        dispatch: Dispatch,
        (timing, patience): (Timing, Duration),
        flights: Flights,
        counters: Arc<IngestCounters>,
    ) -> Result<Self, StoreError> {
        let (awaited, reported) = (BTreeSet::new(), BTreeMap::new());
        let mut commander = Self { store, dispatch, timing, patience, flights, awaited, counters, reported };
        // Whose they are must be known before the first answer comes.
        let open = commander.store.open_controls().await?;
        commander.flights.0.retain(|id, _| open.iter().any(|control| control.id == *id));
        for control in &open {
            let replies = commander.store.replies(control.id).await?;
            let flight = commander.flight(control);
            flight.sent_at = flight.sent_at.or_else(|| control.entered("Sent"));
            if flight.sent_at.is_some() && flight.answer.is_none() {
                // It may have come in the moment of the stop, when nobody heard it.
                let own = replies.into_iter().find(|stored| stored.meter == control.meter);
                flight.answer = own.map(|stored| (stored.received, stored.reply.outcome));
            }
        }
        Ok(commander)
    }

    /// What a restart needs.
    pub fn flights(&self) -> &Flights {
        &self.flights
    }

    /// The memory of a control; it belongs to the control's meter.
    fn flight(&mut self, control: &StoredControl) -> &mut Flight {
        let flight = self.flights.0.entry(control.id).or_default();
        flight.meter = Some(control.meter);
        flight
    }

    /// Whether an announcement may answer something that was asked.
    pub fn concerns(change: &Change) -> bool {
        match change {
            Change::Reply { .. } => true,
            Change::Frame { now: Some(values), kind: UpKind::Now | UpKind::Snapshot, .. } => values.control.is_some(),
            _ => false,
        }
    }

    /// Takes an answer or a snapshot from the store's announcements.
    pub async fn hear(&mut self, change: &Change, topology: &Topology, now: Timestamp) {
        let (meter, id, heard) = match change {
            Change::Reply { meter, reply } => {
                (*meter, reply.control, self.flights.reply(*meter, reply, now, ct_ratio(*meter, topology)))
            }
            Change::Frame { meter, now: Some(values), kind: UpKind::Now | UpKind::Snapshot } => match values.control {
                Some(id) => (*meter, id, self.flights.values(*meter, id, values, ct_ratio(*meter, topology))),
                None => return,
            },
            _ => return,
        };
        match heard {
            Heard::Asked => {
                self.awaited.remove(&id);
            }
            Heard::Foreign => self.foreign(meter, id, now).await,
            Heard::Nothing if is_control(id) => {
                let own = self.store.control(id).await.map(|known| known.is_some_and(|c| c.meter == meter));
                // Of one that has ended already, an answer may come late; of one that cannot be read, nothing is known.
                if let Ok(false) = own {
                    self.foreign(meter, id, now).await;
                }
            }
            Heard::Nothing => {}
        }
    }

    /// Reads what meters answered from the store: announcements were missed.
    pub async fn catch_up(&mut self, topology: &Topology, now: Timestamp) -> Result<(), StoreError> {
        for (control, flight) in self.flights.0.clone() {
            let Some(meter) = flight.meter else { continue };
            let asked: Vec<_> = [flight.asked_before, flight.asked_after].into_iter().flatten().collect();
            let own = asked.iter().filter_map(|asked| Some((meter, asked.id?, asked.at)));
            let observers = asked.iter().filter_map(|asked| asked.observer.map(|(meter, id)| (meter, id, asked.at)));
            let questions: Vec<_> = own.chain(observers).collect();
            for id in [control].into_iter().chain(questions.iter().map(|(_, id, _)| *id)) {
                for stored in self.store.replies(id).await? {
                    let change = Change::Reply { meter: stored.meter, reply: stored.reply };
                    self.hear(&change, topology, now).await;
                }
            }
            for (meter, id, at) in questions {
                let values = self.store.snapshots(meter, at.plus(-1), now.plus(SNAPSHOT_EXPIRES_SECONDS)).await?;
                for values in values.into_iter().filter(|values| values.control == Some(id)) {
                    let change = Change::Frame { meter, kind: UpKind::Snapshot, now: Some(values) };
                    self.hear(&change, topology, now).await;
                }
            }
        }
        Ok(())
    }

    /// A meter spoke about what it was not asked: that changes nothing, is counted, and reported once an hour.
    async fn foreign(&mut self, meter: MeterId, id: u64, now: Timestamp) {
        self.counters.foreign_answers.fetch_add(1, Ordering::Relaxed);
        self.reported.retain(|_, at| now.seconds_since(*at).abs() < REPORT_SECONDS);
        if self.reported.contains_key(&meter) {
            return;
        }
        self.reported.insert(meter, now);
        tracing::warn!(%meter, control = id, "an answer to what this meter was not asked; it changes nothing");
        if let Err(error) = self.store.raise(meter, EventKind::ForeignAnswer, now).await {
            tracing::error!(%meter, %error, "the event about it was not stored");
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
            let mut open = self.store.open_controls().await?;
            // Supply comes back before anybody else loses it; otherwise the oldest first.
            open.sort_by_key(|control| !control.kind.restores_supply());
            let known: BTreeSet<u64> = open.iter().map(|control| control.id).collect();
            self.flights.0.retain(|id, _| known.contains(id));
            let mut moved = false;
            wake = None;
            for control in &open {
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
        if control.kind.cuts_supply() && self.store.is_aborted() {
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
        let gateway = self.dispatch.gateway_of(control.meter);
        if let Some(Step::Enter(state, note)) = gateway.and_then(|name| Flight::behind_gateway(&control.state, name)) {
            self.enter(control, state, note, topology, now).await?;
            return Ok(None);
        }
        let timing = self.timing;
        let hello = self.store.latest(control.meter).and_then(|latest| latest.hello);
        let flight = self.flight(control);
        flight.after.is_blind = hello.is_some_and(|hello| hello.senses_load == Some(false));
        match flight.next(&control.kind, &control.state, control.expires, reachable, now, timing) {
            Step::WaitUntil(at) => return Ok(Some(at)),
            Step::Enter(state, note) => self.enter(control, state, note, topology, now).await?,
            Step::Read(round) => self.read(control, round, topology, now).await?,
            Step::Send => return self.send(control, now).await,
        }
        Ok(None)
    }

    /// Simulated time stands still until meters have answered; real time does not wait for any.
    fn waiting(&self) -> Waiting {
        if self.patience.is_zero() { Waiting::ForNobody } else { Waiting::ForTheMeter }
    }

    fn is_answered(&self, control: u64) -> bool {
        self.flights.0.get(&control).is_some_and(|flight| flight.answer.is_some())
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
        let point = topology.usage_point_of(control.meter);
        let zone = point.and_then(|point| topology.filed_under(point.usage_point));
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
        let commit = SlotCommit { at: now, cases, control_changes, ..SlotCommit::default() };
        self.store.commit("control.step", commit).await?;
        Ok(())
    }

    async fn read(
        &mut self,
        control: &StoredControl,
        round: u8,
        topology: &Topology,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let observer = observer(control.meter, topology);
        let question = self.store.unguessable_id()?;
        let observer = observer.map(|meter| Ok::<_, StoreError>((meter, self.store.unguessable_id()?))).transpose()?;
        // The counters are written before anything is remembered: what fails there was not asked, and is asked at once when it is tried again.
        let mut questions = Vec::new();
        for (meter, id) in [(control.meter, question)].into_iter().chain(observer) {
            if !self.dispatch.is_listening(meter) {
                continue;
            }
            // An instant that has passed is answered at once.
            let kind = ControlKind::SnapshotAt { at: Timestamp(0) };
            let expires = now.plus(SNAPSHOT_EXPIRES_SECONDS);
            let approval = Approval {
                approver: Approver::Policy("read-back".into()),
                at: now,
                reason: format!("control {}", control.id),
            };
            questions.push((id, self.dispatch.prepare(meter, id, kind, expires, approval).await?));
        }
        let asked = Asked { at: now, round, id: Some(question), observer };
        let flight = self.flight(control);
        match control.state {
            ControlState::Acknowledged => flight.asked_after = Some(asked),
            _ => flight.asked_before = Some(asked),
        }
        for (id, approved) in questions {
            if self.dispatch.deliver_approved(approved, self.waiting()).await {
                self.awaited.insert(id);
            }
        }
        Ok(())
    }

    /// Sends a control if it may be sent now; the time to look again when it waits for its turn.
    async fn send(&mut self, control: &StoredControl, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        // Sent is entered before sending: after a crash it is sent again, and the meter takes it once.
        match self.store.may_send(control.id, "handed to the meter's connection", now).await? {
            Sending::Wait(until) => return Ok(Some(until.min(control.expires.plus(1)))),
            Sending::Stopped(rule) => {
                tracing::warn!(control = control.id, rule, "not sent");
                self.flight(control).held = Some(rule);
            }
            Sending::Send(approved) => {
                self.flight(control).sent_at = Some(now);
                if self.dispatch.deliver_approved(*approved, self.waiting()).await {
                    self.awaited.insert(control.id);
                }
            }
        }
        Ok(None)
    }

    /// With a simulated clock, waits for the answers to what this round sent, so that time stands still meanwhile.
    async fn wait(&mut self, changes: &mut broadcast::Receiver<Change>, topology: &Topology, now: Timestamp) {
        let deadline = Instant::now() + self.patience;
        while !self.awaited.is_empty() {
            match tokio::time::timeout_at(deadline, changes.recv()).await {
                Ok(Ok(change)) => self.hear(&change, topology, now).await,
                Ok(Err(broadcast::error::RecvError::Lagged(_))) => {
                    // What is not found again is asked for once more.
                    if let Err(error) = self.catch_up(topology, now).await {
                        tracing::error!(%error, "answers that were missed are not read yet");
                    }
                }
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

/// Whether an identifier is a control's number, and not that of a question of our own.
fn is_control(id: u64) -> bool {
    id < instant_id(Timestamp(0))
}

fn ct_ratio(meter: MeterId, topology: &Topology) -> f64 {
    topology.observed_by(meter).and_then(|zone| topology.observer_of(zone.zone)).map_or(1.0, |o| o.ct_ratio)
}

/// The observer of the zone in whose balance a meter is.
fn observer(meter: MeterId, topology: &Topology) -> Option<MeterId> {
    let point = topology.usage_point_of(meter)?;
    Some(topology.observer_of(topology.observed_zone_of(point.usage_point)?)?.meter)
}
