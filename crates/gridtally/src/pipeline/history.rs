//! A zone's recent past, read from the store for an explanation.

use losses::{
    alarm::{AlarmKind, Chart},
    balance::{MemberId, MeterClass},
    explain::{MemberHistory, ZoneHistory},
};
use metering::{Timestamp, ZoneId};
use store::{EventFilter, Installation, Store, StoreError, Topology};

use super::{
    SLOT,
    balance::{flow, innermost_observed},
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

/// Reads balances, the members' intervals and their events up to `end`. `None` when the zone has no observer.
pub async fn read(
    store: &Store,
    topology: &Topology,
    zone: ZoneId,
    cause: Cause,
    end: Timestamp,
) -> Result<Option<ZoneHistory>, StoreError> {
    let Some((place, observer)) = topology.zone(zone).and_then(|z| Some((z, z.observer.as_ref()?))) else {
        return Ok(None);
    };
    let begin = cause.onset.plus(-BEFORE_SECONDS).max(end.plus(-WHOLE_SECONDS_MAX));
    let balances = store.balances(zone, begin, end).await?;
    let parent = match place.parent.and_then(|parent| innermost_observed(topology, parent)) {
        Some(parent) => store.balances(parent, begin, end).await?,
        None => Vec::new(),
    };
    let children = topology
        .zones
        .iter()
        .filter(|child| child.parent == Some(zone))
        .filter_map(|child| Some((MemberId::Zone(child.zone), child.observer.as_ref()?, MeterClass::Class05S)));
    let points =
        topology.usage_points.iter().filter(|point| innermost_observed(topology, point.zone) == Some(zone)).filter_map(
            |point| Some((MemberId::UsagePoint(point.usage_point), point.installation.as_ref()?, MeterClass::Class1)),
        );
    let ends: Vec<Timestamp> = balances.iter().map(|balance| balance.end).collect();
    let mut members = Vec::new();
    for (id, installation, class) in children.chain(points) {
        members.push(member(store, id, installation, class, &ends, begin, end).await?);
    }
    Ok(Some(ZoneHistory {
        zone,
        observer: observer.meter,
        minutes: SLOT.minutes(),
        onset: cause.onset,
        kind: cause.kind,
        by: cause.by,
        balances,
        members,
        parent,
    }))
}

async fn member(
    store: &Store,
    id: MemberId,
    installation: &Installation,
    class: MeterClass,
    ends: &[Timestamp],
    begin: Timestamp,
    end: Timestamp,
) -> Result<MemberHistory, StoreError> {
    let records = store.profile(installation.meter, begin.plus(-SLOT.seconds() - 1), end).await?;
    let filter = EventFilter {
        meter: Some(installation.meter),
        after: Some(begin),
        to: Some(end),
        limit: EVENTS_MAX,
        ..EventFilter::default()
    };
    let events = store.events(filter).await?;
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
