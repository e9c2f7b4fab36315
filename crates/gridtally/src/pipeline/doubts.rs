//! Rule ourselves out first: before an alarmed zone's usage points are weighed, look for faults of mapping, ratio, meter and clock that explain
//! the imbalance. What is found goes into the queue of findings; its subject is not named while a person has not decided.

use losses::{
    balance::MemberId,
    explain::{MemberHistory, ZoneHistory},
    findings::{self, Finding, NeighbourZone, ZoneSeries},
    technical::TechnicalPrior,
};
use metering::{MeterId, Timestamp};
use registry::{Topology, TopologyZone};
use store::{FindingFilter, FindingState, Store, StoreError};

use super::investigate::Decided;

/// Zones nearby whose residuals are looked at.
const NEIGHBOURS_MAX: usize = 12;
/// A sign of tampering within this time of the onset or later: no honest fault, seconds.
const TAMPER_BEFORE_SECONDS: i64 = 7 * 86_400;

/// Searches, adds what is found to what is decided, and returns the meters that must not be named: those with an open finding that is sure
/// enough. A meter that reported hard tampering is no honest fault.
pub async fn first(
    store: &Store,
    topology: &Topology,
    history: &ZoneHistory,
    decided: &mut Decided,
) -> Result<Vec<MeterId>, StoreError> {
    let found = search(store, topology, history).await?;
    let known = store.findings(FindingFilter { zone: Some(history.zone), ..FindingFilter::default() }).await?;
    let is_decided = |finding: &Finding| {
        known.iter().any(|k| {
            k.state != FindingState::Open && k.finding.kind == finding.kind && k.finding.subject == finding.subject
        })
    };
    let open: Vec<Finding> = known
        .iter()
        .filter(|k| k.state == FindingState::Open)
        .map(|k| k.finding.clone())
        .chain(found.iter().filter(|finding| !is_decided(finding)).cloned())
        .collect();
    decided.findings.extend(found);
    let withheld = history.members.iter().filter(|member| match member.id {
        MemberId::UsagePoint(point) => findings::rules_out(&open, point) && !tampered(member, history.onset),
        MemberId::Zone(_) => false,
    });
    Ok(withheld.map(|member| member.meter).collect())
}

fn tampered(member: &MemberHistory, onset: Timestamp) -> bool {
    let from = onset.plus(-TAMPER_BEFORE_SECONDS);
    member.events.iter().any(|event| event.at >= from && event.kind.tamper().is_some_and(|t| t.excludes_fault))
}

async fn search(store: &Store, topology: &Topology, history: &ZoneHistory) -> Result<Vec<Finding>, StoreError> {
    let points = history.members.iter().filter(|m| matches!(m.id, MemberId::UsagePoint(_))).count();
    if points == 0 {
        return Ok(Vec::new());
    }
    let Some(mut series) = ZoneSeries::of_history(history, TechnicalPrior::low_voltage(points)) else {
        return Ok(Vec::new());
    };
    let above = topology.observed_above(history.zone);
    let is_beside = |z: &&TopologyZone| z.zone != history.zone && topology.observed_above(z.zone) == above;
    let beside = topology.observed_zones().filter(is_beside);
    let (Some(first), Some(last)) = (history.balances.first(), history.balances.last()) else { return Ok(Vec::new()) };
    let step = i64::from(history.minutes) * 60;
    let slots = usize::try_from(last.end.seconds_since(first.end) / step.max(1)).unwrap_or(0) + 1;
    for zone in beside.take(NEIGHBOURS_MAX) {
        let mut residual_wh = vec![None; slots];
        for balance in store.balances(zone.zone, first.end.plus(-1), last.end).await? {
            let at = usize::try_from(balance.end.seconds_since(first.end) / step.max(1)).ok();
            if let Some(place) = at.and_then(|at| residual_wh.get_mut(at)).filter(|_| balance.coverage > 0.0) {
                *place = Some(balance.unaccounted_wh);
            }
        }
        series.neighbours.push(NeighbourZone { zone: zone.zone, residual_wh, members: Vec::new() });
    }
    match tokio::task::spawn_blocking(move || findings::findings(&series)).await {
        Ok(found) => Ok(found),
        Err(error) => {
            tracing::error!(%error, zone = %history.zone, "no findings were looked for");
            Ok(Vec::new())
        }
    }
}
