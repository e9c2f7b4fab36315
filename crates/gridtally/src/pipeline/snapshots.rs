//! When energy is missing in a zone, asks all its meters for the same second, three times, and keeps at which seconds. What follows from
//! the answers is said where the zone is explained ([`super::instants`], `losses::explain`).
//!
//! These are reads: no relay moves, and the limits on switching are not touched. They have limits of their own: one round for an alarm, a pause
//! between two of a zone, a few zones at once, and the seconds of a round ([`super::round`]).

use std::collections::{BTreeMap, BTreeSet};

use metering::{Approval, Approver, ControlKind, MeterId, Timestamp, ZoneId};
use registry::Topology;
use store::{AuditNote, SlotCommit, Store, StoreError};
use tokio::task::JoinSet;

use super::{
    dispatch::{Dispatch, Waiting},
    instants,
    round::{CLOCK_SECONDS_MAX, Round, Step, Timing, WANTED, instant_id},
};
use crate::config::SnapshotConfig;

/// Key of the rounds among the pipeline's documents.
const KEY: &str = "snapshots";
/// Meters that are sent to at the same time.
const SENT_AT_ONCE: usize = 64;
/// After the second, before answers are looked for; in a simulation they are there at once.
const SETTLE_SECONDS: i64 = 15;
/// Steps of one round at one time; a bound, not a target.
const STEPS_MAX: usize = 8;

/// The snapshot stage. A round changes in memory after the change was written.
#[derive(Clone)]
pub struct Snapshots {
    store: Store,
    dispatch: Dispatch,
    timing: Timing,
    waiting: Waiting,
    settings: SnapshotConfig,
    rounds: BTreeMap<ZoneId, Round>,
    written: Vec<u8>,
    /// Seconds that were asked for since the start.
    asked: BTreeSet<(ZoneId, Timestamp)>,
}

impl Snapshots {
    /// Goes on from stored documents.
    pub fn resume(
        store: Store,
        dispatch: Dispatch,
        settings: SnapshotConfig,
        simulated: bool,
        blobs: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, StoreError> {
        let written = blobs.get(KEY).cloned().unwrap_or_default();
        let rounds = if written.is_empty() {
            BTreeMap::new()
        } else {
            serde_json::from_slice(&written)
                .map_err(|e| StoreError::Damaged(format!("the rounds of snapshots do not parse ({e})")))?
        };
        let timing = Timing {
            lead_seconds: i64::from(settings.lead_seconds.get()),
            apart_seconds: i64::from(settings.apart_seconds.get()),
            settle_seconds: if simulated { 0 } else { SETTLE_SECONDS },
            answers_seconds: i64::from(settings.answers_seconds),
        };
        let waiting = if simulated { Waiting::ForTheMeter } else { Waiting::ForNobody };
        Ok(Self { store, dispatch, timing, waiting, settings, rounds, written, asked: BTreeSet::new() })
    }

    /// Follows the alarms that stand at `end`, each with when it was raised: a new one gets a round, and one that is over loses it.
    pub fn follow(&mut self, alarms: &[(ZoneId, Timestamp)], end: Timestamp) {
        let pause = i64::from(self.settings.zone_pause_hours) * 3_600;
        self.rounds.retain(|zone, round| {
            let stands = alarms.contains(&(*zone, round.alarm));
            if !stands && round.is_under_way() {
                round.ended = Some(end);
            }
            stands || round.begun.is_some_and(|begun| end.seconds_since(begun) < pause)
        });
        if self.settings.enabled {
            for (zone, alarm) in alarms {
                self.rounds.entry(*zone).or_insert_with(|| Round::waiting(*alarm));
            }
        }
    }

    /// The seconds at which the zone was read because of the alarm raised at `alarm`, once its round has ended, by `end`.
    pub fn read(&self, zone: ZoneId, alarm: Timestamp, end: Timestamp) -> Option<Vec<Timestamp>> {
        let round = self.rounds.get(&zone).filter(|round| round.alarm == alarm)?;
        round.ended.filter(|ended| *ended <= end).and_then(|_| round.read())
    }

    /// The rounds as a document, when they are not as they were written.
    pub fn changed(&self) -> Result<Option<(String, Vec<u8>)>, StoreError> {
        Ok(Some(self.document()?).filter(|(_, bytes)| *bytes != self.written))
    }

    fn document(&self) -> Result<(String, Vec<u8>), StoreError> {
        Ok((KEY.to_owned(), serde_json::to_vec(&self.rounds)?))
    }

    /// Takes every round as far as it goes now. Returns when it wants to look again.
    pub async fn round(&mut self, topology: &Topology, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        if !self.settings.enabled {
            return Ok(None);
        }
        self.give_turns(now);
        let mut wake: Option<Timestamp> = None;
        let zones: Vec<ZoneId> =
            self.rounds.iter().filter(|(_, round)| round.is_under_way()).map(|(zone, _)| *zone).collect();
        for zone in zones {
            for _ in 0..STEPS_MAX {
                match self.step(zone, topology, now).await? {
                    Some(at) => {
                        wake = Some(wake.map_or(at, |wake| wake.min(at)));
                        break;
                    }
                    None if self.rounds.get(&zone).is_some_and(Round::is_under_way) => {}
                    None => break,
                }
            }
        }
        self.keep(self.rounds.clone(), now, Vec::new()).await?;
        Ok(wake)
    }

    /// Lets the longest waiting rounds begin, as many as there may be at once.
    fn give_turns(&mut self, now: Timestamp) {
        let most = usize::try_from(self.settings.zones_at_once.get()).unwrap_or(usize::MAX);
        let under_way = self.rounds.values().filter(|round| round.is_under_way()).count();
        let mut waiting: Vec<&mut Round> =
            self.rounds.values_mut().filter(|round| round.begun.is_none() && round.ended.is_none()).collect();
        waiting.sort_by_key(|round| round.alarm);
        for round in waiting.into_iter().take(most.saturating_sub(under_way)) {
            round.begun = Some(now);
        }
    }

    /// One step of one round; `None` when something moved, else the time to look again.
    async fn step(
        &mut self,
        zone: ZoneId,
        topology: &Topology,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let Some(round) = self.rounds.get(&zone) else { return Ok(None) };
        let is_asked = round.instants.last().is_some_and(|last| self.asked.contains(&(zone, last.at)));
        match round.next(is_asked, now, self.timing) {
            Step::WaitUntil(at) => return Ok(Some(at)),
            Step::Ask(at) => {
                let meters = meters(topology, zone);
                let (rounds, round) = self.changed_round(zone, |round| round.ask(at));
                let note = round.map(|round| {
                    let number = round.instants.len();
                    let detail = format!(
                        "{} meters asked to read themselves at {at} (instant {number} of a round, {WANTED} are wanted), because of the \
                         alarm at {}",
                        meters.len(),
                        round.alarm
                    );
                    AuditNote { action: "snapshot.ask", subject: format!("zone:{zone}"), detail }
                });
                // Written before it is sent: after a crash the same second is asked for again, and a meter takes it once.
                self.keep(rounds, now, note.into_iter().collect()).await?;
                self.send(zone, meters, at, now).await?;
            }
            Step::AskAgain(at) => self.send(zone, meters(topology, zone), at, now).await?,
            Step::Look(at) => self.look(zone, topology, at, now).await?,
            Step::End => {
                let (rounds, round) = self.changed_round(zone, |round| round.ended = Some(now));
                let note = round.map(|round| {
                    let each =
                        round.instants.iter().map(|i| format!("{} of {} at {}", i.answered.0, i.answered.1, i.at));
                    let detail = format!("meters that answered: {}", each.collect::<Vec<_>>().join(", "));
                    AuditNote { action: "snapshot.end", subject: format!("zone:{zone}"), detail }
                });
                self.keep(rounds, now, note.into_iter().collect()).await?;
            }
        }
        Ok(None)
    }

    /// All rounds with a change of one, and that one.
    fn changed_round(&self, zone: ZoneId, change: impl FnOnce(&mut Round)) -> (BTreeMap<ZoneId, Round>, Option<Round>) {
        let mut rounds = self.rounds.clone();
        let round = rounds.get_mut(&zone).map(|round| {
            change(round);
            round.clone()
        });
        (rounds, round)
    }

    async fn look(
        &mut self,
        zone: ZoneId,
        topology: &Topology,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let heard = instants::heard(&self.store, &meters(topology, zone), at).await?;
        let observer = topology.observer_of(zone).map(|o| o.meter);
        let observed = observer.is_some_and(|observer| heard.contains_key(&observer));
        let (answered, asked, timing) = (heard.len(), meters(topology, zone).len(), self.timing);
        // What was heard is stored with the meters' answers: after a failure the same is seen again.
        self.rounds = self.changed_round(zone, |round| round.looked(observed, answered, asked, now, timing)).0;
        Ok(())
    }

    async fn send(
        &mut self,
        zone: ZoneId,
        meters: Vec<MeterId>,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let listening: Vec<MeterId> = meters.into_iter().filter(|meter| self.dispatch.is_listening(*meter)).collect();
        for some in listening.chunks(SENT_AT_ONCE) {
            let mut sending = JoinSet::new();
            for meter in some.iter().copied() {
                let (dispatch, approval, waiting) = (self.dispatch.clone(), approval(zone, now), self.waiting);
                let (id, kind) = (instant_id(at), ControlKind::SnapshotAt { at });
                // A meter that hears of it too late for the same second shall not answer.
                let expires = at.plus(CLOCK_SECONDS_MAX);
                sending.spawn(async move {
                    let approved = dispatch.prepare(meter, id, kind, expires, approval).await?;
                    dispatch.deliver_approved(approved, waiting).await;
                    Ok::<_, StoreError>(())
                });
            }
            // Who was not reached is missing among the answers.
            while let Some(sent) = sending.join_next().await {
                sent.map_err(|e| StoreError::Task(e.to_string()))??;
            }
        }
        // What failed half-way is asked for once more; a meter answers a second once.
        self.asked.retain(|(other, _)| *other != zone);
        self.asked.insert((zone, at));
        Ok(())
    }

    /// Writes the rounds as they shall be, where they are not written so; then they are.
    async fn keep(
        &mut self,
        rounds: BTreeMap<ZoneId, Round>,
        now: Timestamp,
        notes: Vec<AuditNote>,
    ) -> Result<(), StoreError> {
        let written = serde_json::to_vec(&rounds)?;
        if written != self.written || !notes.is_empty() {
            let blobs = vec![(KEY.to_owned(), written.clone())];
            self.store.commit("snapshots", SlotCommit { at: now, blobs, notes, ..SlotCommit::default() }).await?;
        }
        (self.rounds, self.written) = (rounds, written);
        Ok(())
    }

    /// Forgets that time went beyond `to`: the clock was wrong.
    pub fn take_back(&mut self, to: Timestamp) {
        self.rounds.retain(|_, round| round.alarm <= to);
    }

    /// Notes that the rounds were written as they are, with a slot.
    pub fn was_written(&mut self) -> Result<(), StoreError> {
        self.written = self.document()?.1;
        Ok(())
    }
}

/// The observer and every member of a zone's balance.
fn meters(topology: &Topology, zone: ZoneId) -> Vec<MeterId> {
    let observer = topology.observer_of(zone).map(|o| o.meter);
    let members =
        topology.members(zone).filter_map(|member| member.installation).map(|installation| installation.meter);
    let meters: BTreeSet<MeterId> = observer.into_iter().chain(members).collect();
    meters.into_iter().collect()
}

fn approval(zone: ZoneId, at: Timestamp) -> Approval {
    let approver = Approver::Policy("snapshot".into());
    Approval { approver, at, reason: format!("energy is missing in {zone}: all its meters at one second") }
}
