//! A zone's recent past, read from the store for an explanation; and read again later as it was known then, from the basis that was
//! kept with the case ([`store::CaseBasis`]).

use std::collections::{BTreeMap, BTreeSet};

use losses::{
    alarm::{AlarmKind, Chart},
    balance::{MemberId, MeterClass},
    explain::{MemberHistory, ZoneHistory},
};
use metering::{MeterId, Timestamp, ZoneId};
use store::{CaseBasis, EventFilter, Installation, Store, StoreError, Topology};

use super::{
    SLOT,
    balance::{flow, innermost_observed},
    instants::members,
};

/// Days before the onset that are looked at.
const BEFORE_SECONDS: i64 = 14 * 86_400;
/// Most that is looked at in all.
const WHOLE_SECONDS_MAX: i64 = 42 * 86_400;
/// Most events of one meter that are looked at.
const EVENTS_MAX: u32 = 200;

/// What a standing alarm says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cause {
    /// Missing or surplus.
    pub kind: AlarmKind,
    /// Estimated begin.
    pub onset: Timestamp,
    /// Which test raised it.
    pub by: Chart,
}

/// The newest event that is stored.
async fn newest_event(store: &Store) -> Result<u64, StoreError> {
    let newest = store.events(EventFilter { limit: 1, ..EventFilter::default() }).await?;
    Ok(newest.first().map_or(0, |event| event.id))
}

/// Reads balances, the members' intervals and their events up to `end`, and what of it must be kept to read the same again. `None`
/// when the zone has no observer.
pub async fn read(
    store: &Store,
    topology: &Topology,
    zone: ZoneId,
    cause: Cause,
    end: Timestamp,
) -> Result<Option<(ZoneHistory, CaseBasis)>, StoreError> {
    let Some(place) = topology.zone(zone) else { return Ok(None) };
    let begin = begin(cause, end);
    let balances = store.balances(zone, begin, end).await?;
    let parent = match place.parent.and_then(|parent| innermost_observed(topology, parent)) {
        Some(parent) => store.balances(parent, begin, end).await?,
        None => Vec::new(),
    };
    let mut basis = CaseBasis {
        at: end,
        zone,
        kind: cause.kind,
        onset: cause.onset,
        by: cause.by,
        events_through: newest_event(store).await?,
        withheld: Vec::new(),
        missing: BTreeMap::new(),
        instants: Vec::new(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        balances,
        parent,
    };
    let Some(history) = assemble(store, topology, &basis).await? else { return Ok(None) };
    basis.missing = missing(&history);
    Ok(Some((history, basis)))
}

/// The same history once more, from the basis kept with a case: readings and events as they are stored now, without those that were
/// not there then.
pub async fn again(store: &Store, topology: &Topology, basis: &CaseBasis) -> Result<Option<ZoneHistory>, StoreError> {
    let Some(mut history) = assemble(store, topology, basis).await? else { return Ok(None) };
    for member in &mut history.members {
        let then: BTreeSet<u32> = basis.missing.get(&member.meter).into_iter().flatten().copied().collect();
        for index in then {
            if let Some(slot) = usize::try_from(index).ok().and_then(|index| member.slots.get_mut(index)) {
                *slot = None;
            }
        }
    }
    Ok(Some(history))
}

fn begin(cause: Cause, end: Timestamp) -> Timestamp {
    cause.onset.plus(-BEFORE_SECONDS).max(end.plus(-WHOLE_SECONDS_MAX))
}

fn missing(history: &ZoneHistory) -> BTreeMap<MeterId, Vec<u32>> {
    let gaps = |slots: &[Option<losses::balance::Flow>]| -> Vec<u32> {
        slots.iter().zip(0u32..).filter_map(|(slot, index)| slot.is_none().then_some(index)).collect()
    };
    history.members.iter().map(|m| (m.meter, gaps(&m.slots))).filter(|(_, gaps)| !gaps.is_empty()).collect()
}

async fn assemble(store: &Store, topology: &Topology, basis: &CaseBasis) -> Result<Option<ZoneHistory>, StoreError> {
    let zone = basis.zone;
    let Some(observer) = topology.zone(zone).and_then(|z| z.observer.as_ref()) else { return Ok(None) };
    let ends: Vec<Timestamp> = basis.balances.iter().map(|balance| balance.end).collect();
    let mut histories = Vec::new();
    for (id, installation, class) in members(topology, zone) {
        histories.push(member(store, id, installation, class, &ends, basis).await?);
    }
    Ok(Some(ZoneHistory {
        zone,
        observer: observer.meter,
        minutes: SLOT.minutes(),
        onset: basis.onset,
        kind: basis.kind,
        by: basis.by,
        balances: basis.balances.clone(),
        members: histories,
        parent: basis.parent.clone(),
    }))
}

async fn member(
    store: &Store,
    id: MemberId,
    installation: &Installation,
    class: MeterClass,
    ends: &[Timestamp],
    basis: &CaseBasis,
) -> Result<MemberHistory, StoreError> {
    let end = basis.at;
    let begin = begin(Cause { kind: basis.kind, onset: basis.onset, by: basis.by }, end);
    let records = store.profile(installation.meter, begin.plus(-SLOT.seconds() - 1), end).await?;
    let filter = EventFilter {
        meter: Some(installation.meter),
        after: Some(begin),
        to: Some(end),
        limit: EVENTS_MAX,
        ..EventFilter::default()
    };
    let mut events = store.events(filter).await?;
    events.retain(|event| event.id <= basis.events_through);
    let slots = ends
        .iter()
        .map(|&slot| {
            let before = slot.plus(-SLOT.seconds());
            let from = records.partition_point(|r| r.record.end < before);
            let to = records.partition_point(|r| r.record.end <= slot);
            flow(&records[from..to], before, slot)
        })
        .collect();
    Ok(MemberHistory {
        id,
        meter: installation.meter,
        ct_ratio: installation.ct_ratio,
        class,
        installed: Some(installation.valid_from),
        slots,
        events: events.into_iter().map(|stored| stored.event).collect(),
    })
}
