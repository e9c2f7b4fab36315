//! A zone's recent past, read from the store for an explanation; and read again later as it was known then, from the basis that was
//! kept with the case ([`store::CaseBasis`]).

use std::collections::{BTreeMap, BTreeSet};

use losses::{
    alarm::{AlarmKind, Chart},
    explain::{MemberHistory, ZoneHistory},
};
use metering::{MeterId, Timestamp, ZoneId};
use registry::{Flow, Installation, MemberId, MeterClass, Registry, Topology};
use store::{CaseBasis, EventFilter, Store, StoreError};

use super::{SLOT, balance::valid_in, series::series};

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
    if topology.zone(zone).is_none() {
        return Ok(None);
    }
    let begin = begin(cause, end);
    let balances = store.balances(zone, begin, end).await?;
    let parent = match topology.observed_above(zone) {
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
    let gaps = |slots: &[Option<Flow>]| -> Vec<u32> {
        slots.iter().zip(0u32..).filter_map(|(slot, index)| slot.is_none().then_some(index)).collect()
    };
    history.members.iter().map(|m| (m.meter, gaps(&m.slots))).filter(|(_, gaps)| !gaps.is_empty()).collect()
}

async fn assemble(store: &Store, topology: &Topology, basis: &CaseBasis) -> Result<Option<ZoneHistory>, StoreError> {
    let zone = basis.zone;
    let Some(observer) = topology.observer_of(zone) else { return Ok(None) };
    let ends: Vec<Timestamp> = basis.balances.iter().map(|balance| balance.end).collect();
    let registry = store.registry().await?;
    let mut histories = Vec::new();
    for member in topology.members(zone) {
        // What has no meter has no readings that could be wrong: its declared power is in the balances.
        let Some(installation) = member.installation else { continue };
        histories
            .push(member_history(store, &registry, (member.id, installation, member.class()), &ends, basis).await?);
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

async fn member_history(
    store: &Store,
    registry: &Registry,
    (id, installation, class): (MemberId, &Installation, MeterClass),
    ends: &[Timestamp],
    basis: &CaseBasis,
) -> Result<MemberHistory, StoreError> {
    let end = basis.at;
    let begin = begin(Cause { kind: basis.kind, onset: basis.onset, by: basis.by }, end);
    let filter = EventFilter {
        meter: Some(installation.meter),
        after: Some(begin),
        to: Some(end),
        limit: EVENTS_MAX,
        ..EventFilter::default()
    };
    let mut events = store.events(filter).await?;
    events.retain(|event| event.id <= basis.events_through);
    Ok(MemberHistory {
        id,
        meter: installation.meter,
        ct_ratio: installation.ct_ratio,
        class,
        installed: Some(installation.valid_from),
        slots: series(store, &hung_there(registry, id, ends), ends).await?,
        events: events.into_iter().map(|stored| stored.event).collect(),
    })
}

/// The meters that hung at a member in these slots, oldest first: the last is the one of the last slot.
pub fn hung_there(registry: &Registry, id: MemberId, ends: &[Timestamp]) -> Vec<Installation> {
    let (Some(first), Some(last)) = (ends.first(), ends.last()) else { return Vec::new() };
    let (after, to) = (valid_in(*first), valid_in(*last));
    match id {
        MemberId::UsagePoint(point) => registry.installations(point, after, to).cloned().collect(),
        MemberId::Zone(zone) => registry.observers(zone, after, to).cloned().collect(),
    }
}
