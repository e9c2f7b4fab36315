//! All versions of the master data: what is valid from when to when, and since when and until when that was known.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

use metering::{Timestamp, UsagePointId, ZoneId};

use crate::{
    installation::Installation,
    topology::{Topology, TopologyParts},
    zone::{TopologyUsagePoint, TopologyZone},
};

/// From `from` on, until before `to`; `None` = until further notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// First instant.
    pub from: Timestamp,
    /// First instant that is no more in it.
    pub to: Option<Timestamp>,
}

impl Period {
    /// Whether an instant is in it.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from <= at && self.to.is_none_or(|to| at < to)
    }
}

/// What holds for a time, and was known for a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Versioned<T> {
    /// When it holds in the network.
    pub valid: Period,
    /// When the register said so.
    pub known: Period,
    /// What.
    pub what: T,
}

/// The master data with all their versions. Built once when the master data change.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    version: u64,
    zones: Table<ZoneId, TopologyZone>,
    usage_points: Table<UsagePointId, TopologyUsagePoint>,
    /// Instants at which something begins or ends, of what is known until further notice.
    changes: Vec<Timestamp>,
}

/// Versions by name: those known now by the first instant at which they hold, and those that the register said once.
#[derive(Clone, Debug)]
struct Table<K, T> {
    now: HashMap<K, Vec<Versioned<T>>>,
    past: HashMap<K, Vec<Versioned<T>>>,
}

impl<K, T> Default for Table<K, T> {
    fn default() -> Self {
        Self { now: HashMap::new(), past: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash, T: Clone> Table<K, T> {
    fn new(versions: Vec<Versioned<T>>, key: impl Fn(&T) -> K) -> Self {
        let mut table = Self::default();
        for version in versions {
            let kept = if version.known.to.is_none() { &mut table.now } else { &mut table.past };
            kept.entry(key(&version.what)).or_insert_with(Vec::new).push(version);
        }
        table.now.values_mut().for_each(|versions| versions.sort_by_key(|version| version.valid.from));
        table
    }

    fn at(&self, key: K, at: Timestamp) -> Option<&T> {
        let versions = self.now.get(&key)?;
        let after = versions.partition_point(|version| version.valid.from <= at);
        versions.get(after.checked_sub(1)?).filter(|version| version.valid.contains(at)).map(|version| &version.what)
    }

    fn all_at(&self, at: Timestamp) -> Vec<T> {
        self.now.keys().filter_map(|key| self.at(*key, at)).cloned().collect()
    }

    fn all_known_at(&self, at: Timestamp, known_at: Timestamp) -> Vec<T> {
        let all = self.now.values().chain(self.past.values()).flatten();
        all.filter(|v| v.valid.contains(at) && v.known.contains(known_at)).map(|v| v.what.clone()).collect()
    }
}

impl Registry {
    /// Sorts the versions in. `version` grows with every change of the master data.
    pub fn new(
        version: u64,
        zones: Vec<Versioned<TopologyZone>>,
        usage_points: Vec<Versioned<TopologyUsagePoint>>,
    ) -> Self {
        let mut changes = BTreeSet::new();
        let periods = zones.iter().map(|v| (v.valid, v.known)).chain(usage_points.iter().map(|v| (v.valid, v.known)));
        for (valid, _) in periods.filter(|(_, known)| known.to.is_none()) {
            changes.extend([valid.from].into_iter().chain(valid.to));
        }
        Self {
            version,
            zones: Table::new(zones, |zone| zone.zone),
            usage_points: Table::new(usage_points, |point| point.usage_point),
            changes: changes.into_iter().collect(),
        }
    }

    /// The version of the master data.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The time around an instant in which nothing changes.
    pub fn unchanged_around(&self, at: Timestamp) -> Period {
        let next = self.changes.partition_point(|change| *change <= at);
        let from = next.checked_sub(1).map_or(Timestamp(i64::MIN), |last| self.changes[last]);
        Period { from, to: self.changes.get(next).copied() }
    }

    /// The network as it is valid at a time, by what is known now.
    pub fn at(&self, at: Timestamp) -> Topology {
        let (zones, usage_points) = (self.zones.all_at(at), self.usage_points.all_at(at));
        Topology::new(TopologyParts { version: self.version, zones, usage_points })
    }

    /// The network as it was valid at a time, by what was known at `known_at`.
    pub fn at_as_known(&self, at: Timestamp, known_at: Timestamp) -> Topology {
        let zones = self.zones.all_known_at(at, known_at);
        let usage_points = self.usage_points.all_known_at(at, known_at);
        Topology::new(TopologyParts { version: self.version, zones, usage_points })
    }

    /// A usage point as it is valid at a time.
    pub fn usage_point_at(&self, usage_point: UsagePointId, at: Timestamp) -> Option<&TopologyUsagePoint> {
        self.usage_points.at(usage_point, at)
    }

    /// The meter at a usage point at a time.
    pub fn installation_at(&self, usage_point: UsagePointId, at: Timestamp) -> Option<&Installation> {
        self.usage_point_at(usage_point, at)?.installation.as_ref()
    }

    /// The meters at a usage point whose installation holds at some time in (`after`, `to`], oldest first.
    pub fn installations(
        &self,
        usage_point: UsagePointId,
        after: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = &Installation> {
        let versions = self.usage_points.now.get(&usage_point).map_or(&[][..], Vec::as_slice);
        let first = versions.partition_point(|version| version.valid.to.is_some_and(|ends| ends <= after));
        let in_time = versions[first..].iter().take_while(move |version| version.valid.from <= to);
        in_time.filter_map(|version| version.what.installation.as_ref())
    }

    /// The observers of a zone that hold at some time in (`after`, `to`], oldest first.
    pub fn observers(&self, zone: ZoneId, after: Timestamp, to: Timestamp) -> impl Iterator<Item = &Installation> {
        let versions = self.zones.now.get(&zone).map_or(&[][..], Vec::as_slice);
        let first = versions.partition_point(|version| version.valid.to.is_some_and(|ends| ends <= after));
        let in_time = versions[first..].iter().take_while(move |version| version.valid.from <= to);
        in_time.filter_map(|version| version.what.observer.as_ref())
    }
}
