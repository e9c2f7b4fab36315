//! Balances, events and history ▶ evidence ▶ case; and, where the written policy says so, an approved control.
//!
//! Decisions rest on stored readings, stored state and the time only, so that a restart decides the same (ADR 1). What is decided
//! here is written by the caller in one transaction.

use std::{collections::BTreeMap, sync::Arc};

use losses::{
    alarm::{AlarmChange, AlarmKind, Chart},
    balance::{EnergyBalance, MemberId},
    case::{Case, CaseKind, RankedSuspect},
    evidence::Evidence,
    explain::{self, Explanation, Localisation, ZoneHistory, ZoneInstants},
    findings::Finding,
    fusion, observer_fault,
};
use metering::{Approver, ControlKind, EventKind, MeterId, Timestamp, UsagePointId, ZoneId, supply::SupplyPolicy};
use registry::Topology;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use store::{
    CaseChange, CaseFilter, CaseStep, ControlFilter, ControlRequest, ControlTarget, FoldedEvent, NewBasis, NewControl,
    Store, StoreError,
};

use super::{
    alarm_log::{self, AlarmEntry, AlarmReason},
    balance::SlotResults,
    doubts,
    history::{self, Cause},
    instants,
    snapshots::Snapshots,
    tamper::{self, Signs},
};

/// Key of the memory among the pipeline's documents.
const MEMORY: &str = "investigator";
/// Who the case's history names.
const BY: &str = "pipeline";
/// A control by policy is given this long to reach its meter, seconds.
const POLICY_CONTROL_SECONDS: i64 = 3_600;
/// A standing alarm is explained again this often, seconds …
const EXPLAIN_AGAIN_SECONDS: i64 = 6 * 3_600;
/// … and so many times to name somebody; later only to keep the evidence of its case up to date.
const EXPLAIN_AGAIN_MAX: u32 = 40;
/// The evidence of an open case is computed again this often, seconds.
const REFRESH_SECONDS: i64 = 86_400;

/// What was decided; to be written in one transaction.
#[derive(Default)]
pub struct Decided {
    /// Cases to open and change.
    pub cases: Vec<CaseChange>,
    /// Controls to make.
    pub controls: Vec<NewControl>,
    /// What evidence was computed from.
    pub bases: Vec<NewBasis>,
    /// Honest faults that explain an imbalance.
    pub findings: Vec<Finding>,
    /// Documents to replace.
    pub documents: Vec<(String, Vec<u8>)>,
}

/// A standing alarm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Standing {
    kind: AlarmKind,
    raised: Timestamp,
    onset: Timestamp,
    by: Chart,
    explained_at: Timestamp,
    explained: u32,
    /// What the meters said at the same seconds has been taken in.
    #[serde(default)]
    heard: bool,
    /// When the evidence of its case was computed last.
    #[serde(default)]
    refreshed: Option<Timestamp>,
}

impl Standing {
    /// Whether the evidence of its case is a day old.
    fn is_stale(&self, end: Timestamp) -> bool {
        end.seconds_since(self.refreshed.unwrap_or(self.raised)) >= REFRESH_SECONDS
    }
}

/// Why a zone is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// Its alarm was raised or grew: worth a case.
    Alarm,
    /// All its meters were read at the same seconds: worth evidence in a case that is there.
    Instants,
    /// Time has passed.
    Time,
    /// A day has passed since it was last looked at to name somebody: worth up-to-date numbers.
    Upkeep,
}

/// Everything remembered between slots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Memory {
    /// The last event looked at.
    event: u64,
    signs: Signs,
    standing: BTreeMap<ZoneId, Standing>,
}

/// The investigating stage. What it decides changes this value, so it is asked on a copy, which takes its place after the commit.
#[derive(Clone)]
pub struct Investigator {
    store: Store,
    memory: Memory,
    alarms: Arc<Vec<AlarmEntry>>,
    /// Open cases, by number.
    open: Arc<BTreeMap<u64, Case>>,
}

fn document<T: DeserializeOwned + Default>(blobs: &BTreeMap<String, Vec<u8>>, key: &str) -> Result<T, StoreError> {
    Ok(match blobs.get(key) {
        Some(bytes) => serde_json::from_slice(bytes)
            .map_err(|e| StoreError::Damaged(format!("the document {key} of detection does not parse ({e})")))?,
        None => T::default(),
    })
}

impl Investigator {
    /// Goes on from stored documents.
    pub async fn resume(store: Store, blobs: &BTreeMap<String, Vec<u8>>) -> Result<Self, StoreError> {
        let (memory, alarms) = (document(blobs, MEMORY)?, Arc::new(document(blobs, alarm_log::KEY)?));
        let mut investigator = Self { store, memory, alarms, open: Arc::default() };
        investigator.committed().await?;
        Ok(investigator)
    }

    /// Reads the open cases again: what was decided has been written, and people work on cases too.
    pub async fn committed(&mut self) -> Result<(), StoreError> {
        let open = self.store.cases(CaseFilter { open_only: true, limit: 100_000, ..CaseFilter::default() }).await?;
        self.open = Arc::new(open.into_iter().map(|case| (case.id, case)).collect());
        Ok(())
    }

    /// The end of a slot: alarms that were raised, grew or ended, and standing ones that are due again.
    pub async fn slot(
        &mut self,
        topology: &Topology,
        results: &SlotResults,
        snapshots: &Snapshots,
        end: Timestamp,
    ) -> Result<Decided, StoreError> {
        let mut decided = Decided::default();
        for verdict in &results.verdicts {
            let zone = verdict.balance.zone;
            match verdict.change {
                Some(AlarmChange::Raised { kind, onset, by, .. }) => {
                    alarm_log::raise(Arc::make_mut(&mut self.alarms), zone, kind, end);
                    let standing = Standing {
                        kind,
                        raised: end,
                        onset,
                        by,
                        explained_at: end,
                        explained: 1,
                        heard: false,
                        refreshed: None,
                    };
                    self.memory.standing.insert(zone, standing);
                    self.explain(topology, zone, snapshots, end, Reason::Alarm, &mut decided).await?;
                }
                Some(AlarmChange::Escalated { onset, .. }) => {
                    if let Some(standing) = self.memory.standing.get_mut(&zone) {
                        *standing = Standing { onset, explained_at: end, explained: 1, ..*standing };
                    }
                    self.explain(topology, zone, snapshots, end, Reason::Alarm, &mut decided).await?;
                }
                Some(AlarmChange::Resolved { .. }) => self.resolved(zone, end, &mut decided),
                None => self.again(topology, verdict.balance.zone, snapshots, end, &mut decided).await?,
            }
        }
        self.memory.signs.forget(end);
        decided.documents = self.documents()?;
        Ok(decided)
    }

    /// Zones in which energy is missing, with when their alarm was raised.
    pub fn missing(&self) -> Vec<(ZoneId, Timestamp)> {
        let standing = self.memory.standing.iter();
        standing.filter(|(_, s)| s.kind == AlarmKind::Missing).map(|(zone, s)| (*zone, s.raised)).collect()
    }

    /// Forgets that time went beyond `to`: the clock was wrong, and what stood then was made up.
    pub fn take_back(&mut self, to: Timestamp) {
        self.memory.standing.retain(|_, standing| standing.raised <= to);
        for standing in self.memory.standing.values_mut() {
            standing.explained_at = standing.explained_at.min(to);
            standing.refreshed = standing.refreshed.map(|at| at.min(to));
        }
        let alarms = Arc::make_mut(&mut self.alarms);
        alarms.retain(|entry| entry.raised <= to);
        alarms.iter_mut().for_each(|entry| entry.resolved = entry.resolved.filter(|at| *at <= to));
    }

    /// The stage as documents.
    pub fn documents(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        Ok(vec![
            (MEMORY.to_owned(), serde_json::to_vec(&self.memory)?),
            (alarm_log::KEY.to_owned(), serde_json::to_vec(&*self.alarms)?),
        ])
    }

    fn resolved(&mut self, zone: ZoneId, end: Timestamp, decided: &mut Decided) {
        let alarms: &mut Vec<AlarmEntry> = Arc::make_mut(&mut self.alarms);
        alarm_log::resolve(alarms, zone, end);
        self.memory.standing.remove(&zone);
        for case in self.open.values().filter(|case| case.zone == zone && case.imbalance_ended.is_none()) {
            decided.cases.push(edit(case.id, end, vec![CaseStep::ImbalanceEnded]));
        }
    }

    /// More readings may name who the first look could not.
    async fn again(
        &mut self,
        topology: &Topology,
        zone: ZoneId,
        snapshots: &Snapshots,
        end: Timestamp,
        decided: &mut Decided,
    ) -> Result<(), StoreError> {
        let Some(standing) = self.memory.standing.get_mut(&zone) else { return Ok(()) };
        if !standing.heard && snapshots.read(zone, standing.raised, end).is_some() {
            return self.explain(topology, zone, snapshots, end, Reason::Instants, decided).await;
        }
        let since = end.seconds_since(standing.explained_at);
        if standing.explained >= EXPLAIN_AGAIN_MAX {
            if since < REFRESH_SECONDS {
                return Ok(());
            }
            standing.explained_at = end;
            return self.explain(topology, zone, snapshots, end, Reason::Upkeep, decided).await;
        }
        if since < EXPLAIN_AGAIN_SECONDS {
            return Ok(());
        }
        standing.explained += 1;
        standing.explained_at = end;
        self.explain(topology, zone, snapshots, end, Reason::Time, decided).await
    }

    /// Asks which usage point explains the residual, and opens or changes the zone's case.
    async fn explain(
        &mut self,
        topology: &Topology,
        zone: ZoneId,
        snapshots: &Snapshots,
        end: Timestamp,
        reason: Reason,
        decided: &mut Decided,
    ) -> Result<(), StoreError> {
        let Some(standing) = self.memory.standing.get_mut(&zone) else { return Ok(()) };
        let times = snapshots.read(zone, standing.raised, end).unwrap_or_default();
        standing.heard = !times.is_empty();
        let is_stale = standing.is_stale(end);
        if reason != Reason::Time || is_stale {
            standing.refreshed = Some(end);
        }
        let standing = *standing;
        let cause = Cause { kind: standing.kind, onset: standing.onset, by: standing.by };
        let Some((history, mut basis)) = history::read(&self.store, topology, zone, cause, end).await? else {
            return Ok(());
        };
        basis.withheld = doubts::first(&self.store, topology, &history, decided).await?;
        let (read, instants) = instants::read(&self.store, topology, &history, &times).await?;
        basis.instants = instants;
        let (history, explanation, suspects) = explained_aside(history, read, basis.withheld.clone()).await?;
        let ratio = topology.observer_of(zone).map_or(1.0, |o| o.ct_ratio);
        decided.findings.extend(observer_fault::finding(&history, &explanation, ratio));
        let kind = explanation.kind;
        let usage_point = explanation.named_usage_point();
        let same = self.open.values().find(|case| case.zone == zone && belongs(case, kind, usage_point, standing));
        match same {
            Some(case) => {
                let mut steps = Vec::new();
                let better = case.kind == CaseKind::MissingEnergy && usage_point.is_some() && reason != Reason::Upkeep;
                if better {
                    steps.push(CaseStep::Reclassify(kind, usage_point));
                }
                if case.imbalance_ended.is_some() {
                    steps.push(CaseStep::ImbalanceReturned);
                }
                let is_upkeep = matches!(reason, Reason::Time | Reason::Upkeep) && !better;
                // The same pieces with newer numbers, only where they are about what the case is about.
                let refreshes = is_upkeep && is_stale && case.usage_point == usage_point;
                let carries_evidence = !is_upkeep || refreshes;
                if refreshes {
                    steps.push(CaseStep::RefreshEvidence(explanation.case_evidence()));
                } else if carries_evidence {
                    steps.push(CaseStep::AddEvidence(explanation.case_evidence()));
                }
                steps.push(CaseStep::Suspects(suspects));
                decided.cases.push(edit(case.id, end, steps));
                decided.bases.push(NewBasis { case: Some(case.id), opened_case: None, carries_evidence, basis });
            }
            None if reason == Reason::Alarm || (usage_point.is_some() && reason != Reason::Upkeep) => {
                let mut case = open_case(kind, zone, usage_point, end, explanation.case_evidence())?;
                case.onset = Some(standing.onset);
                case.suspects = suspects;
                let opened_case = Some(decided.cases.len());
                decided.bases.push(NewBasis { case: None, opened_case, carries_evidence: true, basis });
                decided.cases.push(CaseChange::Open(Box::new(case)));
            }
            None => {}
        }
        Ok(())
    }

    /// Tamper events since the last look. `None` when there were none.
    pub async fn events(
        &mut self,
        topology: &Topology,
        raised: &[ZoneId],
        now: Timestamp,
    ) -> Result<Option<Decided>, StoreError> {
        let Some((events, through)) = self.store.tampering_since(self.memory.event).await? else { return Ok(None) };
        self.memory.event = through;
        let policy: SupplyPolicy = self.store.setting("policy").await?.unwrap_or_default();
        let mut decided = Decided::default();
        for event in &events {
            self.sign(topology, raised, &policy.automatic_kinds, event, now, &mut decided).await?;
        }
        decided.documents = self.documents()?;
        Ok(Some(decided))
    }

    async fn sign(
        &mut self,
        topology: &Topology,
        raised: &[ZoneId],
        automatic: &[EventKind],
        folded: &FoldedEvent,
        now: Timestamp,
        decided: &mut Decided,
    ) -> Result<(), StoreError> {
        let event = &folded.event;
        let Some(point) = topology.usage_point_of(event.meter) else { return Ok(()) };
        let zone = topology.filed_under(point.usage_point).unwrap_or(point.zone);
        let meaning = self.memory.signs.take(point.usage_point, &event.event, automatic, raised.contains(&zone));
        let found = vec![tamper::evidence(event.meter, zone, &event.event)];
        let case = self.tamper_case(zone, point.usage_point, meaning.opens_case, found, now, decided)?;
        let Some(reason) = meaning.trip else { return Ok(()) };
        if self.is_being_disconnected(point.usage_point, decided).await? {
            return Ok(());
        }
        let (case, opened_case) = match case {
            Some(Filed::Known(id)) => (Some(id), None),
            Some(Filed::Opened(index)) => (None, Some(index)),
            None => (None, None),
        };
        let request = ControlRequest {
            target: ControlTarget::UsagePoint(point.usage_point),
            kind: ControlKind::Disconnect,
            reason: format!("tampering: {reason}"),
            by: Approver::Policy(format!("tamper: {reason}")),
            approve: true,
            expires: now.plus(POLICY_CONTROL_SECONDS),
            case,
        };
        decided.controls.push(NewControl { request, opened_case });
        Ok(())
    }

    /// Files tamper evidence in the usage point's open case, or opens one.
    fn tamper_case(
        &mut self,
        zone: ZoneId,
        usage_point: UsagePointId,
        opens: bool,
        found: Vec<Evidence>,
        now: Timestamp,
        decided: &mut Decided,
    ) -> Result<Option<Filed>, StoreError> {
        if let Some(case) = self.open.values().find(|case| case.usage_point == Some(usage_point)) {
            decided.cases.push(edit(case.id, now, vec![CaseStep::AddEvidence(found)]));
            return Ok(Some(Filed::Known(case.id)));
        }
        let opened = decided.cases.iter_mut().enumerate().find_map(|(index, change)| match change {
            CaseChange::Open(case) if case.usage_point == Some(usage_point) => Some((index, case)),
            _ => None,
        });
        if let Some((index, case)) = opened {
            case.evidence.extend(found);
            return Ok(Some(Filed::Opened(index)));
        }
        if !opens {
            return Ok(None);
        }
        alarm_log::raise(Arc::make_mut(&mut self.alarms), zone, AlarmReason::Tamper, now);
        decided.cases.push(CaseChange::Open(Box::new(open_case(
            CaseKind::TamperSuspected,
            zone,
            Some(usage_point),
            now,
            found,
        )?)));
        Ok(Some(Filed::Opened(decided.cases.len() - 1)))
    }

    /// Whether the usage point is off already, or about to be: one disconnection is enough.
    async fn is_being_disconnected(&self, usage_point: UsagePointId, decided: &Decided) -> Result<bool, StoreError> {
        let target = ControlTarget::UsagePoint(usage_point);
        if decided.controls.iter().any(|new| new.request.target == target) {
            return Ok(true);
        }
        let filter = ControlFilter { usage_point: Some(usage_point), limit: 10, ..ControlFilter::default() };
        let last = self
            .store
            .controls(filter)
            .await?
            .into_iter()
            .find(|c| matches!(c.kind, ControlKind::Disconnect | ControlKind::Reconnect));
        Ok(last.is_some_and(|c| {
            c.kind == ControlKind::Disconnect
                && (!c.state.is_final() || matches!(c.state.word(), "Verified" | "Failed" | "Unseen"))
        }))
    }
}

/// Where evidence was filed.
enum Filed {
    Known(u64),
    Opened(usize),
}

/// Whether an open case of the zone is about the same imbalance: the same usage point, or one of the two sides names none.
fn belongs(case: &Case, kind: CaseKind, usage_point: Option<UsagePointId>, standing: Standing) -> bool {
    let same_side = (case.kind == CaseKind::SurplusEnergy) == (kind == CaseKind::SurplusEnergy);
    if !same_side {
        return false;
    }
    match (case.usage_point, usage_point) {
        (Some(case_point), Some(named)) => case_point == named,
        // A tamper case from the time of the onset accounts for an imbalance that names nobody.
        (Some(_), None) => case.opened_at >= standing.onset.plus(-86_400),
        (None, _) => true,
    }
}

/// Explains a history, and ranks its suspects with one list of evidence each. Everything that a case says of a zone's imbalance comes
/// from here, when it is written and when it is computed again. `withheld`: meters with an open finding, which are not named.
/// `read`: all its meters at the same seconds, where that was done.
pub fn explained(
    history: &ZoneHistory,
    read: Option<&ZoneInstants>,
    withheld: &[MeterId],
) -> (Explanation, Vec<RankedSuspect>) {
    let mut explanation = explain::explain_at_instants(history, read);
    withhold(&mut explanation, withheld);
    let after: Vec<EnergyBalance> = history.balances.iter().filter(|b| b.end > history.onset).copied().collect();
    let sigma_wh = EnergyBalance::total(&after).map_or(0.0, |total| total.sigma_wh());
    let hours = after.iter().map(|b| f64::from(b.minutes) / 60.0).sum();
    let members = history.members.iter().filter(|m| matches!(m.id, MemberId::UsagePoint(_))).count();
    let suspects = fusion::ranked(&explanation, members, sigma_wh, hours);
    (explanation, suspects)
}

/// [`explained`] beside the tasks that must answer at once: it takes a processor for a while.
async fn explained_aside(
    history: ZoneHistory,
    read: Option<ZoneInstants>,
    withheld: Vec<MeterId>,
) -> Result<(ZoneHistory, Explanation, Vec<RankedSuspect>), StoreError> {
    let work = tokio::task::spawn_blocking(move || {
        let (explanation, suspects) = explained(&history, read.as_ref(), &withheld);
        (history, explanation, suspects)
    });
    work.await.map_err(|e| StoreError::Task(e.to_string()))
}

/// Rules ourselves out first: a meter whose readings or mapping are in doubt is not named until that is settled.
fn withhold(explanation: &mut Explanation, withheld: &[MeterId]) {
    let mut doubted = false;
    for suspect in explanation.suspects.iter_mut().filter(|s| withheld.contains(&s.meter)) {
        doubted |= explanation.localisation == Localisation::UsagePoint { usage_point: suspect.usage_point };
        suspect.named = false;
    }
    if doubted {
        let reason = "a finding about the meter that explains it is open: settle that first".to_owned();
        explanation.localisation = Localisation::NotLocalised { reason };
        explanation.kind = CaseKind::MissingEnergy;
    }
}

fn edit(id: u64, at: Timestamp, steps: Vec<CaseStep>) -> CaseChange {
    CaseChange::Edit { id, by: BY.into(), at, steps }
}

fn open_case(
    kind: CaseKind,
    zone: ZoneId,
    usage_point: Option<UsagePointId>,
    at: Timestamp,
    evidence: Vec<Evidence>,
) -> Result<Case, StoreError> {
    Case::open(kind, zone, usage_point, at, BY, evidence).map_err(|e| StoreError::Refused(e.to_string()))
}
