//! Random networks that change over time: every answer of the index equals what a search of the versions finds.

use std::collections::BTreeMap;

use metering::{MeterId, Timestamp, UsagePointId, ZoneId};
use proptest::prelude::*;
use registry::{
    Installation, Member, MemberId, MeterClass, Period, PhaseConnection, Registry, Topology, TopologyUsagePoint,
    TopologyZone, UnmeteredSupply, Versioned, ZoneKind,
};

const ZONES: usize = 9;
const POINTS: usize = 14;

fn zone_id(n: usize) -> ZoneId {
    ZoneId::new(&format!("Z{n}")).expect("id")
}

fn point_id(n: usize) -> UsagePointId {
    UsagePointId::new(&format!("U{n}")).expect("id")
}

fn installation(meter: Option<u8>, valid: Period) -> Option<Installation> {
    let meter = MeterId::new(&format!("M{}", meter?)).expect("id");
    Some(Installation {
        meter,
        ct_ratio: 1.0,
        phase: PhaseConnection::A,
        class: None,
        valid_from: valid.from,
        valid_to: valid.to,
    })
}

/// What one version of a thing says: where it is (of a zone, below which it hangs), and its meter.
type Said = (usize, Option<u8>);

/// Successive versions of one thing: (first instant, what; `None` = it is not there).
fn versions(places: usize) -> impl Strategy<Value = Vec<(i64, Option<Said>)>> {
    let said = prop::option::weighted(0.9, (0..places, prop::option::weighted(0.6, 0u8..40)));
    prop::collection::vec((0..100i64, said), 1..4).prop_map(|mut versions| {
        versions.sort_by_key(|(from, _)| *from);
        versions.dedup_by_key(|(from, _)| *from);
        versions
    })
}

fn spread<T>(
    versions: &[(i64, Option<Said>)],
    known: impl Fn(usize) -> Period,
    make: impl Fn(Said, Period) -> T,
) -> Vec<Versioned<T>> {
    let ends = versions.iter().skip(1).map(|(from, _)| Some(Timestamp(*from))).chain([None]);
    versions
        .iter()
        .zip(ends)
        .enumerate()
        .filter_map(|(n, ((from, said), to))| {
            let valid = Period { from: Timestamp(*from), to };
            Some(Versioned { valid, known: known(n), what: make((*said)?, valid) })
        })
        .collect()
}

#[derive(Clone, Debug)]
struct World {
    zones: Vec<Versioned<TopologyZone>>,
    points: Vec<Versioned<TopologyUsagePoint>>,
}

impl World {
    fn registry(&self) -> Registry {
        Registry::new(7, self.zones.clone(), self.points.clone())
    }
}

fn world() -> impl Strategy<Value = World> {
    let zones = prop::collection::vec(versions(ZONES), ZONES);
    let points = prop::collection::vec((versions(ZONES), any::<bool>()), POINTS);
    let past = prop::collection::vec((0..ZONES, 0..60i64, 1..40i64, 0u8..40), 0..4);
    (zones, points, past).prop_map(|(zones, points, past)| {
        let ever = |_| Period { from: Timestamp(0), to: None };
        let zone = |n: usize, (place, meter): Said, valid| TopologyZone {
            zone: zone_id(n),
            // A zone hangs below one with a smaller number: no circle.
            parent: (n > 0 && place < n).then(|| zone_id(place)),
            kind: ZoneKind::Branch,
            rating_w: None,
            observer: installation(meter, valid),
        };
        let mut all: Vec<Versioned<TopologyZone>> = Vec::new();
        for (n, versions) in zones.iter().enumerate() {
            all.extend(spread(versions, ever, |said, valid| zone(n, said, valid)));
        }
        for (n, from, length, meter) in past {
            // What the register said until somebody corrected it.
            let valid = Period { from: Timestamp(from), to: Some(Timestamp(from + length)) };
            let known = Period { from: Timestamp(0), to: Some(Timestamp(500)) };
            all.push(Versioned { valid, known, what: zone(n, (0, Some(meter)), valid) });
        }
        let mut usage_points = Vec::new();
        for (n, (versions, lamp)) in points.iter().enumerate() {
            usage_points.extend(spread(versions, ever, |(place, meter), valid| TopologyUsagePoint {
                usage_point: point_id(n),
                zone: zone_id(place),
                never_disconnect: false,
                rating_w: None,
                installation: installation(meter, valid),
                unmetered: (*lamp && meter.is_none()).then_some(UnmeteredSupply { watts: 80 }),
            }));
        }
        World { zones: all, points: usage_points }
    })
}

/// What is valid at a time, searched for.
fn valid<T: Clone>(versions: &[Versioned<T>], at: Timestamp, known_at: Option<Timestamp>) -> Vec<T> {
    let known = |v: &Versioned<T>| known_at.map_or(v.known.to.is_none(), |at| v.known.contains(at));
    versions.iter().filter(|v| v.valid.contains(at) && known(v)).map(|v| v.what.clone()).collect()
}

fn find(zones: &[TopologyZone], zone: ZoneId) -> Option<&TopologyZone> {
    zones.iter().find(|z| z.zone == zone)
}

fn nearest_observed(zones: &[TopologyZone], zone: ZoneId) -> Option<ZoneId> {
    let here = find(zones, zone)?;
    if here.observer.is_some() { Some(here.zone) } else { nearest_observed(zones, here.parent?) }
}

fn feeder(zones: &[TopologyZone], zone: ZoneId) -> Option<ZoneId> {
    let here = find(zones, zone)?;
    here.parent.map_or(Some(here.zone), |parent| feeder(zones, parent))
}

fn is_below(zones: &[TopologyZone], zone: ZoneId, above: ZoneId) -> bool {
    zone == above || find(zones, zone).and_then(|z| z.parent).is_some_and(|parent| is_below(zones, parent, above))
}

fn expected_members(zones: &[TopologyZone], points: &[TopologyUsagePoint], zone: ZoneId) -> Vec<MemberId> {
    let above = |z: &&TopologyZone| z.parent.and_then(|parent| nearest_observed(zones, parent)) == Some(zone);
    let children = zones.iter().filter(|z| z.observer.is_some()).filter(above).map(|z| MemberId::Zone(z.zone));
    let known = |p: &&TopologyUsagePoint| p.installation.is_some() || p.unmetered.is_some();
    let inside =
        points.iter().filter(|p| find(zones, p.zone).is_some() && nearest_observed(zones, p.zone) == Some(zone));
    let mut members: Vec<MemberId> =
        children.chain(inside.filter(known).map(|p| MemberId::UsagePoint(p.usage_point))).collect();
    members.sort();
    members
}

fn check(topology: &Topology, zones: &[TopologyZone], points: &[TopologyUsagePoint]) {
    assert_eq!((topology.zones.len(), topology.usage_points.len()), (zones.len(), points.len()));
    for zone in (0..ZONES).map(zone_id) {
        assert_eq!(topology.zone(zone), find(zones, zone));
        assert_eq!(topology.feeder_of(zone), feeder(zones, zone));
        let observed = topology.observed_at_or_above(zone).map(|z| z.zone);
        assert_eq!(observed, find(zones, zone).and_then(|_| nearest_observed(zones, zone)));
        let above = find(zones, zone).and_then(|z| z.parent).and_then(|parent| nearest_observed(zones, parent));
        assert_eq!(topology.observed_above(zone), above);
        assert_eq!(topology.observer_of(zone), find(zones, zone).and_then(|z| z.observer.as_ref()));
        let mut members: Vec<MemberId> = topology.members(zone).map(|member| member.id).collect();
        let (sub, homes) = topology.member_counts(zone);
        assert_eq!(sub + homes, members.len());
        members.sort();
        assert_eq!(members, expected_members(zones, points, zone));
        let below = points.iter().filter(|p| find(zones, p.zone).is_some() && is_below(zones, p.zone, zone)).count();
        assert_eq!(topology.points_below(zone), if find(zones, zone).is_some() { below } else { 0 });
        let mut partition: Vec<ZoneId> = topology.partition_of(zone).map(|z| z.zone).collect();
        partition.sort();
        let is_feeder = feeder(zones, zone) == Some(zone);
        let mut of_feeder: Vec<ZoneId> =
            zones.iter().map(|z| z.zone).filter(|z| is_feeder && feeder(zones, *z) == Some(zone)).collect();
        of_feeder.sort();
        assert_eq!(partition, of_feeder);
    }
    for point in points {
        assert_eq!(topology.usage_point(point.usage_point), Some(point));
        let observed = nearest_observed(zones, point.zone);
        assert_eq!(topology.observed_zone_of(point.usage_point), observed);
        assert_eq!(topology.filed_under(point.usage_point), observed.or(Some(point.zone)));
    }
    let mut at: BTreeMap<MeterId, UsagePointId> = BTreeMap::new();
    let mut sorted: Vec<&TopologyUsagePoint> = points.iter().collect();
    sorted.sort_by_key(|point| point.usage_point);
    for point in sorted {
        if let Some(installed) = &point.installation {
            at.entry(installed.meter).or_insert(point.usage_point);
        }
    }
    for meter in (0..40u8).map(|n| MeterId::new(&format!("M{n}")).expect("id")) {
        assert_eq!(topology.usage_point_of(meter).map(|point| point.usage_point), at.get(&meter).copied());
        let observes = zones.iter().any(|z| z.observer.as_ref().is_some_and(|o| o.meter == meter));
        assert_eq!(topology.observed_by(meter).is_some(), observes);
    }
}

proptest! {
    #[test]
    fn the_index_answers_as_a_search_does(world in world(), at in 0..110i64) {
        let (registry, at) = (world.registry(), Timestamp(at));
        let (zones, points) = (valid(&world.zones, at, None), valid(&world.points, at, None));
        let topology = registry.at(at);
        check(&topology, &zones, &points);
        for point in (0..POINTS).map(point_id) {
            let found = points.iter().find(|p| p.usage_point == point);
            prop_assert_eq!(registry.usage_point_at(point, at), found);
            prop_assert_eq!(registry.installation_at(point, at), found.and_then(|p| p.installation.as_ref()));
        }
        // Nothing changes within the time that is said to be unchanged, and something does at its end.
        let around = registry.unchanged_around(at);
        prop_assert!(around.contains(at));
        for other in (around.from.0.max(0)..around.to.map_or(120, |to| to.0)).step_by(7) {
            prop_assert!(registry.at(Timestamp(other)) == topology);
        }
        let once = |v: &Versioned<TopologyZone>| v.known.to.is_none() && around.to.is_some_and(|to| v.valid.from == to || v.valid.to == Some(to));
        let point_once = |v: &Versioned<TopologyUsagePoint>| around.to.is_some_and(|to| v.valid.from == to || v.valid.to == Some(to));
        prop_assert!(around.to.is_none() || world.zones.iter().any(once) || world.points.iter().any(point_once));
        // A copy that went through JSON answers the same.
        let copy: Topology = serde_json::from_str(&serde_json::to_string(&topology).expect("json")).expect("read");
        check(&copy, &zones, &points);
    }

    #[test]
    fn installations_over_a_time_are_those_that_hold_in_it(world in world(), after in 0..100i64, length in 1..60i64) {
        let registry = world.registry();
        let (after, to) = (Timestamp(after), Timestamp(after + length));
        for point in (0..POINTS).map(point_id) {
            let own = world.points.iter().filter(|v| v.what.usage_point == point);
            let holds = |v: &&Versioned<TopologyUsagePoint>| v.valid.from <= to && v.valid.to.is_none_or(|end| end > after);
            let expected: Vec<&Installation> = own.filter(holds).filter_map(|v| v.what.installation.as_ref()).collect();
            let found: Vec<&Installation> = registry.installations(point, after, to).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_was_corrected_is_known_as_it_was_said_then(world in world(), at in 0..110i64) {
        let (registry, at) = (world.registry(), Timestamp(at));
        let before: Vec<ZoneId> = valid(&world.zones, at, Some(Timestamp(100))).iter().map(|z| z.zone).collect();
        let told = registry.at_as_known(at, Timestamp(100));
        prop_assert_eq!(told.zones.len(), before.len());
        let corrected = registry.at_as_known(at, Timestamp(500));
        prop_assert!(corrected == registry.at(at));
    }
}

#[test]
fn an_unobserved_branch_belongs_to_the_observed_zone_above_it() {
    let ever = Period { from: Timestamp(0), to: None };
    let zone = |n: usize, parent: Option<usize>, observer: Option<u8>| Versioned {
        valid: ever,
        known: ever,
        what: TopologyZone {
            zone: zone_id(n),
            parent: parent.map(zone_id),
            kind: if parent.is_none() { ZoneKind::Feeder } else { ZoneKind::Branch },
            rating_w: None,
            observer: installation(observer, ever),
        },
    };
    let point = |n: usize, at: usize, meter: Option<u8>| Versioned {
        valid: ever,
        known: ever,
        what: TopologyUsagePoint {
            usage_point: point_id(n),
            zone: zone_id(at),
            never_disconnect: false,
            rating_w: None,
            installation: installation(meter, ever),
            unmetered: meter.is_none().then_some(UnmeteredSupply { watts: 90 }),
        },
    };
    // Z1 transformer (observed) > Z2 branch (not observed) > Z3 cabinet (observed).
    let zones =
        vec![zone(0, None, Some(1)), zone(1, Some(0), Some(2)), zone(2, Some(1), None), zone(3, Some(2), Some(3))];
    let points = vec![point(0, 1, Some(10)), point(1, 2, Some(11)), point(2, 3, Some(12)), point(3, 2, None)];
    let topology = Registry::new(1, zones, points).at(Timestamp(0));
    let ids = |zone: usize| topology.members(zone_id(zone)).map(|member| member.id).collect::<Vec<_>>();
    assert_eq!(ids(0), [MemberId::Zone(zone_id(1))]);
    let (home, branch, lamp) = (point_id(0), point_id(1), point_id(3));
    let expected = [MemberId::Zone(zone_id(3)), MemberId::UsagePoint(home), MemberId::UsagePoint(branch)];
    assert_eq!(ids(1)[..3], expected);
    assert_eq!(ids(1)[3], MemberId::UsagePoint(lamp));
    assert_eq!(ids(2), [], "nobody measures what flows into it");
    assert_eq!(topology.filed_under(branch), Some(zone_id(1)));
    let members: Vec<Member<'_>> = topology.members(zone_id(1)).collect();
    assert_eq!((members[0].class(), members[1].class()), (MeterClass::OBSERVER, MeterClass::USAGE_POINT));
    let slots = (0..8i64)
        .map(|slot| members[3].declared(Timestamp(slot * 900), Timestamp(slot * 900 + 900)).expect("declared"));
    assert_eq!(slots.map(|flow| flow.import_wh.0).sum::<u64>(), 180, "90 W for two hours");
}
