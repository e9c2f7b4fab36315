//! The network between two changes, with an index for every question that is asked of it.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Deref,
};

use metering::{MeterId, Timestamp, UsagePointId, ZoneId};
use serde::{Deserialize, Serialize, Serializer};

use crate::{
    class::MeterClass,
    flow::Flow,
    installation::{Installation, UnmeteredSupply},
    zone::{TopologyUsagePoint, TopologyZone},
};

/// Who takes energy out of a zone: a usage point, or a smaller zone through its observer meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberId {
    /// A usage point.
    UsagePoint(UsagePointId),
    /// A child zone.
    Zone(ZoneId),
}

/// A member of a zone's balance, with how its energy is known: it has a meter, or a declared power, or both are absent and it is
/// estimated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member<'a> {
    /// Which.
    pub id: MemberId,
    /// Its meter.
    pub installation: Option<&'a Installation>,
    /// What it takes without a meter.
    pub unmetered: Option<UnmeteredSupply>,
}

impl Member<'_> {
    /// The class of its meter: what the register names, else what is usual there.
    pub fn class(&self) -> MeterClass {
        let usual = match self.id {
            MemberId::UsagePoint(_) => MeterClass::USAGE_POINT,
            MemberId::Zone(_) => MeterClass::OBSERVER,
        };
        self.installation.and_then(|installation| installation.class).unwrap_or(usual)
    }

    /// Ratio of its current transformers; 1 without.
    pub fn ct_ratio(&self) -> f64 {
        self.installation.map_or(1.0, |installation| installation.ct_ratio)
    }

    /// What it took in an interval, when the register alone says so.
    pub fn declared(&self, begin: Timestamp, end: Timestamp) -> Option<Flow> {
        self.unmetered.filter(|_| self.installation.is_none()).map(|supply| supply.flow(begin, end))
    }
}

/// Zones and usage points as lists.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TopologyParts {
    /// Grows with every change of the master data.
    pub version: u64,
    /// Parents before their children; zones of the same depth by name.
    pub zones: Vec<TopologyZone>,
    /// By name.
    pub usage_points: Vec<TopologyUsagePoint>,
}

/// The network at one time. Its lists are read through it; they cannot be changed, so the index always fits.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "TopologyParts")]
pub struct Topology {
    parts: TopologyParts,
    index: Index,
}

/// Places in the lists.
#[derive(Clone, Debug, Default)]
struct Index {
    zones: HashMap<ZoneId, usize>,
    usage_points: HashMap<UsagePointId, usize>,
    at_usage_point: HashMap<MeterId, usize>,
    observing: HashMap<MeterId, usize>,
    /// By zone: the nearest at or above it that has an observer.
    observed: Vec<Option<usize>>,
    /// By zone: the one without a parent at or above it.
    feeder: Vec<Option<usize>>,
    /// By zone: observed zones, and usage points, that are members of its balance.
    member_zones: Vec<Vec<usize>>,
    member_points: Vec<Vec<usize>>,
    /// By zone: usage points in it at any depth.
    points_below: Vec<usize>,
}

impl Deref for Topology {
    type Target = TopologyParts;

    fn deref(&self) -> &TopologyParts {
        &self.parts
    }
}

impl From<TopologyParts> for Topology {
    fn from(parts: TopologyParts) -> Self {
        Self::new(parts)
    }
}

impl Serialize for Topology {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.parts.serialize(serializer)
    }
}

impl PartialEq for Topology {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Topology {
    /// Orders the lists and builds the index.
    pub fn new(parts: TopologyParts) -> Self {
        let TopologyParts { version, zones, mut usage_points } = parts;
        usage_points.sort_by_key(|point| point.usage_point);
        let parts = TopologyParts { version, zones: parents_first(zones), usage_points };
        let index = Index::new(&parts);
        Self { parts, index }
    }

    /// A zone by name.
    pub fn zone(&self, zone: ZoneId) -> Option<&TopologyZone> {
        self.index.zones.get(&zone).map(|&at| &self.parts.zones[at])
    }

    /// A usage point by name.
    pub fn usage_point(&self, usage_point: UsagePointId) -> Option<&TopologyUsagePoint> {
        self.index.usage_points.get(&usage_point).map(|&at| &self.parts.usage_points[at])
    }

    /// The usage point at which a meter is installed.
    pub fn usage_point_of(&self, meter: MeterId) -> Option<&TopologyUsagePoint> {
        self.index.at_usage_point.get(&meter).map(|&at| &self.parts.usage_points[at])
    }

    /// The zone whose inflow a meter measures.
    pub fn observed_by(&self, meter: MeterId) -> Option<&TopologyZone> {
        self.index.observing.get(&meter).map(|&at| &self.parts.zones[at])
    }

    /// The zone without a parent above (or equal to) a zone: its feeder, and the partition in which it is worked on.
    pub fn feeder_of(&self, zone: ZoneId) -> Option<ZoneId> {
        let at = *self.index.zones.get(&zone)?;
        self.index.feeder[at].map(|feeder| self.parts.zones[feeder].zone)
    }

    /// The zones of a feeder's partition, itself among them, parents before their children.
    pub fn partition_of(&self, feeder: ZoneId) -> impl Iterator<Item = &TopologyZone> {
        let feeder = self.index.zones.get(&feeder).copied();
        let zones = self.parts.zones.iter().zip(&self.index.feeder);
        zones.filter(move |(_, of)| of.is_some() && **of == feeder).map(|(zone, _)| zone)
    }

    /// The nearest zone at or above `zone` that has an observer: what is in an unobserved branch belongs to it.
    pub fn observed_at_or_above(&self, zone: ZoneId) -> Option<&TopologyZone> {
        let at = *self.index.zones.get(&zone)?;
        self.index.observed[at].map(|observed| &self.parts.zones[observed])
    }

    /// The observed zone whose balance holds a usage point.
    pub fn observed_zone_of(&self, usage_point: UsagePointId) -> Option<ZoneId> {
        let point = self.usage_point(usage_point)?;
        self.observed_at_or_above(point.zone).map(|zone| zone.zone)
    }

    /// The observed zone whose balance holds an observed zone as a member.
    pub fn observed_above(&self, zone: ZoneId) -> Option<ZoneId> {
        self.zone(zone)?.parent.and_then(|parent| self.observed_at_or_above(parent)).map(|zone| zone.zone)
    }

    /// The zone under which cases of a usage point are filed: the one whose balance holds it, or the innermost where nothing is
    /// observed.
    pub fn filed_under(&self, usage_point: UsagePointId) -> Option<ZoneId> {
        self.observed_zone_of(usage_point).or_else(|| Some(self.usage_point(usage_point)?.zone))
    }

    /// The observer of a zone.
    pub fn observer_of(&self, zone: ZoneId) -> Option<&Installation> {
        self.zone(zone)?.observer.as_ref()
    }

    /// Zones that have an observer, in the order of the list.
    pub fn observed_zones(&self) -> impl Iterator<Item = &TopologyZone> {
        self.parts.zones.iter().filter(|zone| zone.observer.is_some())
    }

    /// The members of a zone's balance: observed zones with no other observed zone in between, then usage points that no smaller
    /// observed zone holds and that have a meter or a declared power. None for a zone without observer.
    pub fn members(&self, zone: ZoneId) -> impl Iterator<Item = Member<'_>> {
        let at = self.index.zones.get(&zone).copied();
        let zones = at.map_or(&[][..], |at| &self.index.member_zones[at]);
        let points = at.map_or(&[][..], |at| &self.index.member_points[at]);
        let zones = zones.iter().map(|&child| &self.parts.zones[child]).map(|child| Member {
            id: MemberId::Zone(child.zone),
            installation: child.observer.as_ref(),
            unmetered: None,
        });
        let points = points.iter().map(|&point| &self.parts.usage_points[point]).map(|point| Member {
            id: MemberId::UsagePoint(point.usage_point),
            installation: point.installation.as_ref(),
            unmetered: point.unmetered,
        });
        zones.chain(points)
    }

    /// How many of a zone's members are zones, and how many are usage points.
    pub fn member_counts(&self, zone: ZoneId) -> (usize, usize) {
        let counts = |at: usize| (self.index.member_zones[at].len(), self.index.member_points[at].len());
        self.index.zones.get(&zone).map_or((0, 0), |&at| counts(at))
    }

    /// Usage points in a zone at any depth.
    pub fn points_below(&self, zone: ZoneId) -> usize {
        self.index.zones.get(&zone).map_or(0, |&at| self.index.points_below[at])
    }
}

impl Index {
    fn new(parts: &TopologyParts) -> Self {
        let mut index = Self::default();
        // The first of a name counts, as in the list.
        for (at, zone) in parts.zones.iter().enumerate() {
            index.zones.entry(zone.zone).or_insert(at);
            zone.observer.iter().for_each(|observer| {
                index.observing.entry(observer.meter).or_insert(at);
            });
        }
        for (at, point) in parts.usage_points.iter().enumerate() {
            index.usage_points.entry(point.usage_point).or_insert(at);
            point.installation.iter().for_each(|installed| {
                index.at_usage_point.entry(installed.meter).or_insert(at);
            });
        }
        index.zones_of(parts);
        index.points_of(parts);
        index
    }

    /// What follows from a zone's parent, which stands before it.
    fn zones_of(&mut self, parts: &TopologyParts) {
        self.member_zones = vec![Vec::new(); parts.zones.len()];
        for (at, zone) in parts.zones.iter().enumerate() {
            let parent = zone.parent.and_then(|parent| self.zones.get(&parent).copied()).filter(|parent| *parent < at);
            let above = parent.and_then(|parent| self.observed[parent]);
            self.observed.push(zone.observer.as_ref().map(|_| at).or(above));
            self.feeder.push(match zone.parent {
                None => Some(at),
                Some(_) => parent.and_then(|parent| self.feeder[parent]),
            });
            if let (Some(above), true) = (above, zone.observer.is_some()) {
                self.member_zones[above].push(at);
            }
        }
    }

    fn points_of(&mut self, parts: &TopologyParts) {
        self.member_points = vec![Vec::new(); parts.zones.len()];
        self.points_below = vec![0; parts.zones.len()];
        for (at, point) in parts.usage_points.iter().enumerate() {
            let Some(&zone) = self.zones.get(&point.zone) else { continue };
            self.points_below[zone] += 1;
            if point.installation.is_none() && point.unmetered.is_none() {
                continue;
            }
            if let Some(observed) = self.observed[zone] {
                self.member_points[observed].push(at);
            }
        }
        // Children stand after their parents: from the back, every zone has its sum when it is added to its parent.
        for (at, zone) in parts.zones.iter().enumerate().rev() {
            let parent = zone.parent.and_then(|parent| self.zones.get(&parent).copied()).filter(|parent| *parent < at);
            if let Some(parent) = parent {
                self.points_below[parent] += self.points_below[at];
            }
        }
    }
}

/// Orders zones so that every parent stands before its children; zones of the same depth by name.
fn parents_first(mut zones: Vec<TopologyZone>) -> Vec<TopologyZone> {
    zones.sort_by_key(|zone| zone.zone);
    let parents: BTreeMap<ZoneId, Option<ZoneId>> = zones.iter().map(|z| (z.zone, z.parent)).collect();
    let depth = |zone: &TopologyZone| {
        let mut above = zone.parent;
        let mut depth = 0_usize;
        // The bound ends a circle, which no import takes.
        while let Some(parent) = above
            && depth <= parents.len()
        {
            depth += 1;
            above = parents.get(&parent).copied().flatten();
        }
        depth
    };
    let mut with_depth: Vec<_> = zones.into_iter().map(|zone| (depth(&zone), zone)).collect();
    with_depth.sort_by_key(|(depth, _)| *depth);
    with_depth.into_iter().map(|(_, zone)| zone).collect()
}
