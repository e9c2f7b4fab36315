//! Each night, known thefts in copies of real zones' readings, seen through the detector in use: the zone's monitor with its alarm, and the
//! explanation that names. What it sees, and when, is kept in [`CanaryLog`] and shown beside the ranking.
//!
//! The copy's monitor starts afresh with the copied days, while the zone's own has learnt for longer: what is measured here is the lower end
//! of what the live detection does.

use std::sync::Arc;

use losses::{
    alarm::{AlarmChange, AlarmConfig, AlarmKind},
    balance::{EnergyBalance, MemberSlot, MeterSlot, ZoneConfig, ZoneMonitor, ZoneSlot},
    canary_log::{self, CanaryLog},
    explain::{MemberHistory, ZoneHistory},
    pattern::canary_watch::{self, Alarm, Feeder, Member, Options, Target},
};
use metering::{MeterId, Timestamp, UsagePointId, WattHours, ZoneId};
use registry::{Flow, Installation, MemberId, MeterClass, Topology, TopologyZone};
use store::{SlotCommit, Store, StoreError};

use super::{SLOT, balance::zone_config, investigate::explained, series::series};

/// When, seconds of the day UTC.
const AT_SECONDS: i64 = 2 * 3_600;
/// Days copied.
const DAYS: i64 = 14;
/// Zones looked at in one night; each has its turn.
const ZONES_PER_NIGHT: usize = 4;
/// After an alarm the copy is explained again after so many slots: a day.
const EXPLAIN_EVERY: usize = 96;
const OPTIONS: Options = Options { seed: 0, per_feeder: 1, settled_days: 9, observed_days: 4 };

/// A zone's copied readings with what the detector must know of it.
struct Copied {
    feeder: Feeder,
    config: ZoneConfig,
    observer: MeterId,
    members: Vec<(UsagePointId, MeterId)>,
    first_end: Timestamp,
}

/// The canary's feeder is none of the copied zones: nothing can be said of what the detector would have seen there.
#[derive(Debug, thiserror::Error)]
#[error("no readings were copied for the canary's feeder {0}")]
struct NoCopy(String);

/// Whether the night's canaries are due at the end of a slot.
pub fn is_due(end: Timestamp) -> bool {
    end.0.rem_euclid(86_400) == AT_SECONDS
}

/// The night's canaries, in a transaction of their own. Zones in `alarmed` are left out: something happens there already.
///
/// # Errors
/// When the store fails, what is kept of earlier nights is not readable, or a canary found no copy: that night is not measured then.
pub async fn night(
    store: Store,
    topology: Arc<Topology>,
    alarmed: Vec<ZoneId>,
    alarms: AlarmConfig,
    end: Timestamp,
) -> Result<(), StoreError> {
    let holds_homes = |zone: &&TopologyZone| !alarmed.contains(&zone.zone) && topology.member_counts(zone.zone).1 > 0;
    let zones: Vec<&TopologyZone> = topology.observed_zones().filter(holds_homes).collect();
    if zones.is_empty() {
        return Ok(());
    }
    let day = end.day();
    let turn = usize::try_from(day.unsigned_abs()).unwrap_or(0) * ZONES_PER_NIGHT;
    let mut copies = Vec::new();
    for index in 0..ZONES_PER_NIGHT.min(zones.len()) {
        copies.extend(copy(&store, &topology, zones[(turn + index) % zones.len()], alarms, end).await?);
    }
    let watched = tokio::task::spawn_blocking(move || {
        let feeders: Vec<Feeder> = copies.iter().map(|copy| copy.feeder.clone()).collect();
        let options = Options { seed: day.unsigned_abs(), ..OPTIONS };
        canary_watch::watch(&feeders, options, |feeder| {
            let copy = copies.iter().find(|copy| copy.feeder.name == feeder.name);
            copy.map(|copy| detect(copy, feeder)).ok_or_else(|| NoCopy(feeder.name.clone()))
        })
    });
    let watched = watched.await.map_err(|e| StoreError::Task(e.to_string()))?;
    let report = watched.map_err(|e| StoreError::Task(e.to_string()))?;
    let kept = store.pipeline_document(canary_log::KEY).await?;
    let kept = kept.map(|bytes| serde_json::from_slice(&bytes)).transpose();
    let mut log: CanaryLog = kept
        .map_err(|e| StoreError::Damaged(format!("what is kept of earlier nights' canaries does not parse ({e})")))?
        .unwrap_or_default();
    log.add(day, report);
    let blobs = vec![(canary_log::KEY.to_owned(), serde_json::to_vec(&log)?)];
    store.commit("self_measurement", SlotCommit { at: end, blobs, ..SlotCommit::default() }).await?;
    Ok(())
}

/// The last days of a zone; `None` when they are not all there.
async fn copy(
    store: &Store,
    topology: &Topology,
    zone: &TopologyZone,
    alarms: AlarmConfig,
    end: Timestamp,
) -> Result<Option<Copied>, StoreError> {
    let Some(observer) = zone.observer.as_ref() else { return Ok(None) };
    // Whole days, so that the hours of a night are where the canary looks for them.
    let last = end.floor_to(86_400);
    let first = last.plus(-DAYS * 86_400);
    let days = Days { first, last };
    let mut supplied = days.net_kwh(store, std::slice::from_ref(observer)).await?;
    if supplied.first().is_none_or(|first| first.is_nan()) {
        return Ok(None);
    }
    let (mut members, mut ids) = (Vec::new(), Vec::new());
    for member in topology.members(zone.zone) {
        match (member.id, member.installation) {
            (MemberId::UsagePoint(usage_point), Some(installation)) => {
                let kwh = days.net_kwh(store, std::slice::from_ref(installation)).await?;
                members.push(Member { usage_point: usage_point.to_string(), kwh });
                ids.push((usage_point, installation.meter));
            }
            // What goes on to a smaller zone, or is declared without meter, is no home's to be stolen from.
            (MemberId::Zone(_), Some(installation)) => {
                take_off(&mut supplied, &days.net_kwh(store, std::slice::from_ref(installation)).await?);
            }
            (_, None) => {
                let declared = |end: Timestamp| member.declared(end.plus(-SLOT.seconds()), end);
                let kwh = days.ends().map(|end| declared(end).map_or(0.0, |flow| flow.net_wh(1.0) / 1_000.0));
                take_off(&mut supplied, &kwh.collect::<Vec<_>>());
            }
        }
    }
    let feeder = Feeder {
        name: zone.zone.to_string(),
        slots_per_day: usize::try_from(86_400 / SLOT.seconds()).unwrap_or(96),
        members,
        supplied_kwh: supplied,
    };
    let config = zone_config(topology, zone, alarms);
    let first_end = first.plus(SLOT.seconds());
    Ok(Some(Copied { feeder, config, observer: observer.meter, members: ids, first_end }))
}

/// Whole days.
struct Days {
    first: Timestamp,
    last: Timestamp,
}

impl Days {
    /// Ends of the slots in them.
    fn ends(&self) -> impl Iterator<Item = Timestamp> {
        let slots = self.last.seconds_since(self.first) / SLOT.seconds();
        (1..=slots).map(|slot| self.first.plus(slot * SLOT.seconds()))
    }

    /// Net energy of every slot at the primary side, kWh; NaN where a reading is missing.
    async fn net_kwh(&self, store: &Store, installations: &[Installation]) -> Result<Vec<f64>, StoreError> {
        let ratio = installations.last().map_or(1.0, |installation| installation.ct_ratio);
        let ends: Vec<Timestamp> = self.ends().collect();
        let slots = series(store, installations, &ends).await?;
        Ok(slots.into_iter().map(|flow| flow.map_or(f64::NAN, |flow| flow.net_wh(ratio) / 1_000.0)).collect())
    }
}

fn take_off(supplied: &mut [f64], part: &[f64]) {
    supplied.iter_mut().zip(part).for_each(|(supplied, part)| *supplied -= part);
}

/// The energy as a meter would have counted it; `None` where it is missing.
fn counted(kwh: f64) -> Option<Flow> {
    if !kwh.is_finite() {
        return None;
    }
    // `as` saturates; a slot's energy is far below the limit.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let wh = (kwh.abs() * 1_000.0).round() as u64;
    let (import_wh, export_wh) = if kwh >= 0.0 { (wh, 0) } else { (0, wh) };
    Some(Flow { import_wh: WattHours(import_wh), export_wh: WattHours(export_wh) })
}

/// What the detector in use raises on a copy, and when.
fn detect(copy: &Copied, feeder: &Feeder) -> Vec<Alarm> {
    let mut monitor = ZoneMonitor::new(copy.config);
    let mut balances: Vec<EnergyBalance> = Vec::with_capacity(feeder.slots());
    let mut alarms: Vec<Alarm> = Vec::new();
    let mut standing = None;
    let mut explained_at = 0;
    for slot in 0..feeder.slots() {
        let verdict = monitor.observe(&zone_slot(copy, feeder, slot));
        balances.push(verdict.balance);
        match verdict.change {
            Some(AlarmChange::Raised { kind: AlarmKind::Missing, onset, by, .. }) => {
                alarms.push(Alarm { slot, target: Target::Zone });
                standing = Some((onset, by));
                explained_at = slot.saturating_sub(EXPLAIN_EVERY);
            }
            Some(AlarmChange::Resolved { .. }) => standing = None,
            _ => {}
        }
        let Some((onset, by)) = standing.filter(|_| slot - explained_at >= EXPLAIN_EVERY) else { continue };
        explained_at = slot;
        let history = ZoneHistory {
            zone: copy.config.zone,
            observer: copy.observer,
            minutes: SLOT.minutes(),
            onset,
            kind: AlarmKind::Missing,
            by,
            balances: balances.clone(),
            members: members(copy, feeder, slot),
            parent: Vec::new(),
        };
        let named =
            explained(&history, None, &[]).0.named_usage_point().map(|point| Target::UsagePoint(point.to_string()));
        if let Some(target) = named.filter(|target| alarms.iter().all(|alarm| alarm.target != *target)) {
            alarms.push(Alarm { slot, target });
        }
    }
    alarms
}

fn zone_slot(copy: &Copied, feeder: &Feeder, slot: usize) -> ZoneSlot {
    let meter = |kwh: f64, class| MeterSlot { flow: counted(kwh), ct_ratio: 1.0, class };
    let members = copy.members.iter().zip(&feeder.members).map(|((point, _), member)| MemberSlot {
        id: MemberId::UsagePoint(*point),
        meter: meter(member.kwh[slot], MeterClass::USAGE_POINT),
    });
    ZoneSlot {
        zone: copy.config.zone,
        end: end_of(copy, slot),
        minutes: SLOT.minutes(),
        observer: meter(feeder.supplied_kwh[slot], MeterClass::OBSERVER),
        members: members.collect(),
    }
}

fn members(copy: &Copied, feeder: &Feeder, slot: usize) -> Vec<MemberHistory> {
    let one = |((point, meter), member): (&(UsagePointId, MeterId), &Member)| MemberHistory {
        id: MemberId::UsagePoint(*point),
        meter: *meter,
        ct_ratio: 1.0,
        class: MeterClass::USAGE_POINT,
        installed: None,
        slots: member.kwh[..=slot].iter().map(|kwh| counted(*kwh)).collect(),
        events: Vec::new(),
    };
    copy.members.iter().zip(&feeder.members).map(one).collect()
}

fn end_of(copy: &Copied, slot: usize) -> Timestamp {
    copy.first_end.plus(i64::try_from(slot).unwrap_or(0) * SLOT.seconds())
}
