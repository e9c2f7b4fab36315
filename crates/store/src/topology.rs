//! Zones, usage points and the meters at them, as they were at a time. Reading side; [`crate::import`] writes.

use std::collections::BTreeMap;

use metering::{MeterId, Timestamp, UsagePointId, ZoneId};
use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{directory::Store, error::StoreError};

/// What a zone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZoneKind {
    /// A feeder: a zone without a parent.
    Feeder,
    /// What a transformer supplies.
    Transformer,
    /// A branch behind a transformer.
    Branch,
    /// A single service line: one usage point.
    Service,
}

impl ZoneKind {
    /// The word in files and on pages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Feeder => "feeder",
            Self::Transformer => "transformer",
            Self::Branch => "branch",
            Self::Service => "service",
        }
    }

    /// The kind of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Feeder, Self::Transformer, Self::Branch, Self::Service].into_iter().find(|kind| kind.word() == word)
    }
}

/// The phase a single-phase meter hangs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseConnection {
    /// Not known.
    #[default]
    Unknown,
    /// Phase A (L1, R).
    A,
    /// Phase B (L2, Y).
    B,
    /// Phase C (L3, B of the Indian naming is not accepted: it is ambiguous).
    C,
    /// All three.
    Abc,
}

impl PhaseConnection {
    /// The word in files and on pages; empty when unknown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::Abc => "ABC",
        }
    }

    /// The phase of a word: A, B, C, ABC, also L1, L2, L3, empty = unknown.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word.to_ascii_uppercase().as_str() {
            "" => Self::Unknown,
            "A" | "L1" | "1" => Self::A,
            "B" | "L2" | "2" => Self::B,
            "C" | "L3" | "3" => Self::C,
            "ABC" | "L123" | "3P" => Self::Abc,
            _ => return None,
        })
    }
}

/// A meter at a place, for a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Installation {
    /// The meter.
    pub meter: MeterId,
    /// Primary current per secondary current of the current transformer; 1 without one. Energies and currents of the meter are
    /// multiplied by it.
    pub ct_ratio: f64,
    /// The phase.
    pub phase: PhaseConnection,
    /// First instant at which this holds.
    pub valid_from: Timestamp,
    /// First instant at which it does not hold any more; `None` = until further notice.
    pub valid_to: Option<Timestamp>,
}

/// A zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopologyZone {
    /// Its name.
    pub zone: ZoneId,
    /// The zone it is part of.
    pub parent: Option<ZoneId>,
    /// What it is.
    pub kind: ZoneKind,
    /// Power the line or transformer is built for, W.
    pub rating_w: Option<u64>,
    /// The meter at its inflow.
    pub observer: Option<Installation>,
}

/// A usage point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopologyUsagePoint {
    /// Its name.
    pub usage_point: UsagePointId,
    /// The innermost zone it is in.
    pub zone: ZoneId,
    /// Never to be disconnected (life support, hospital, …).
    pub never_disconnect: bool,
    /// Power the connection is built for, W; `None` = not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating_w: Option<u64>,
    /// The meter there.
    pub installation: Option<Installation>,
}

/// The network at one time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// Grows with every import that changed something.
    pub version: u64,
    /// Parents before their children.
    pub zones: Vec<TopologyZone>,
    /// By name.
    pub usage_points: Vec<TopologyUsagePoint>,
}

impl Topology {
    /// A zone by name.
    pub fn zone(&self, zone: ZoneId) -> Option<&TopologyZone> {
        self.zones.iter().find(|z| z.zone == zone)
    }

    /// The zone without a parent above (or equal to) a zone: its feeder.
    pub fn feeder_of(&self, zone: ZoneId) -> Option<ZoneId> {
        let mut at = self.zone(zone)?;
        for _ in 0..self.zones.len() {
            match at.parent {
                Some(parent) => at = self.zone(parent)?,
                None => return Some(at.zone),
            }
        }
        None
    }

    /// The usage point at which a meter is installed.
    pub fn usage_point_of(&self, meter: MeterId) -> Option<&TopologyUsagePoint> {
        self.usage_points.iter().find(|p| p.installation.as_ref().is_some_and(|i| i.meter == meter))
    }

    /// The zone whose inflow a meter measures.
    pub fn observed_by(&self, meter: MeterId) -> Option<&TopologyZone> {
        self.zones.iter().find(|z| z.observer.as_ref().is_some_and(|i| i.meter == meter))
    }

    /// A usage point by name.
    pub fn usage_point(&self, usage_point: UsagePointId) -> Option<&TopologyUsagePoint> {
        self.usage_points.iter().find(|p| p.usage_point == usage_point)
    }
}

/// A row of an import that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedRow {
    /// Line in the file, the header is line 1.
    pub line: u64,
    /// Why, and what to do.
    pub reason: String,
}

/// What became of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportReport {
    /// Rows that changed something.
    pub accepted: u64,
    /// Rows that said what was known.
    pub unchanged: u64,
    /// Rows not taken; the first thousand and how many more there are.
    pub rejected: Vec<RejectedRow>,
    /// How many rows were not taken.
    #[serde(default)]
    pub rejected_count: u64,
    /// Rows that take a brake off (another ratio for a meter that is there, a protection lifted) and wait for another operator.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waiting: u64,
    /// The number under which they wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<u64>,
}

// By reference, as serde calls it.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Store {
    /// The network as it was (or will be) at a time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn topology(&self, at: Timestamp) -> Result<Topology, StoreError> {
        let mut tx = self.inner.main_read.begin().await?;
        read(&mut tx, at).await
    }
}

/// Reads the topology within a transaction.
pub(crate) async fn read(tx: &mut SqliteConnection, at: Timestamp) -> Result<Topology, StoreError> {
    let version: Option<String> =
        sqlx::query_scalar("SELECT value FROM meta WHERE key = 'topology_version'").fetch_optional(&mut *tx).await?;
    let zones = sqlx::query(
        "SELECT meter, ct_milli, phase, valid_from, valid_to, zone, parent, kind, rating_w FROM zone_version
         WHERE valid_from <= $1 AND valid_to > $1 ORDER BY zone",
    )
    .bind(at.0)
    .fetch_all(&mut *tx)
    .await?;
    let points = sqlx::query(
        "SELECT i.meter, i.ct_milli, i.phase, i.valid_from, i.valid_to, i.usage_point, i.zone, p.never_disconnect,
                i.rating_w
         FROM installation i JOIN usage_point p ON p.id = i.usage_point
         WHERE i.valid_from <= $1 AND i.valid_to > $1 ORDER BY i.usage_point",
    )
    .bind(at.0)
    .fetch_all(&mut *tx)
    .await?;
    Ok(Topology {
        version: version.and_then(|v| v.parse().ok()).unwrap_or(0),
        zones: parents_first(zones.iter().map(zone_out).collect::<Result<_, _>>()?),
        usage_points: points.iter().map(usage_point_out).collect::<Result<_, _>>()?,
    })
}

fn installation_out(row: &SqliteRow) -> Result<Option<Installation>, StoreError> {
    let Some(meter) = row.get::<Option<&str>, _>(0) else { return Ok(None) };
    let milli = u32::try_from(row.get::<i64, _>(1)).map_err(|_| StoreError::damaged("a current transformer ratio"))?;
    let valid_to = row.get::<i64, _>(4);
    Ok(Some(Installation {
        meter: MeterId::new(meter).map_err(|e| StoreError::damaged(format!("a meter's name: {e}")))?,
        ct_ratio: f64::from(milli) / 1000.0,
        phase: PhaseConnection::from_word(row.get(2)).ok_or_else(|| StoreError::damaged("a phase"))?,
        valid_from: Timestamp(row.get(3)),
        valid_to: (valid_to != i64::MAX).then_some(Timestamp(valid_to)),
    }))
}

fn zone_id(text: &str) -> Result<ZoneId, StoreError> {
    ZoneId::new(text).map_err(|e| StoreError::damaged(format!("a zone's name: {e}")))
}

fn zone_out(row: &SqliteRow) -> Result<TopologyZone, StoreError> {
    Ok(TopologyZone {
        zone: zone_id(row.get(5))?,
        parent: row.get::<Option<&str>, _>(6).map(zone_id).transpose()?,
        kind: ZoneKind::from_word(row.get(7)).ok_or_else(|| StoreError::damaged("a zone's kind"))?,
        rating_w: row.get::<Option<i64>, _>(8).map(i64::cast_unsigned),
        observer: installation_out(row)?,
    })
}

fn usage_point_out(row: &SqliteRow) -> Result<TopologyUsagePoint, StoreError> {
    Ok(TopologyUsagePoint {
        usage_point: UsagePointId::new(row.get(5))
            .map_err(|e| StoreError::damaged(format!("a usage point's name: {e}")))?,
        zone: zone_id(row.get(6))?,
        never_disconnect: row.get::<i64, _>(7) != 0,
        rating_w: row.get::<Option<i64>, _>(8).map(i64::cast_unsigned),
        installation: installation_out(row)?,
    })
}

/// Orders zones so that every parent stands before its children; zones of the same depth stay by name.
fn parents_first(zones: Vec<TopologyZone>) -> Vec<TopologyZone> {
    let parents: BTreeMap<ZoneId, Option<ZoneId>> = zones.iter().map(|z| (z.zone, z.parent)).collect();
    let depth = |zone: &TopologyZone| {
        let mut above = zone.parent;
        let mut depth = 0_usize;
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
