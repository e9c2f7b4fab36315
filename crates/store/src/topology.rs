//! The register of the network, read from its tables into [`registry`]; [`crate::import`] writes it.
//!
//! It is read once per version of the master data and kept in memory; a question costs one look at the version's number.

use std::sync::{Arc, Mutex, PoisonError};

use metering::{MeterId, Timestamp, UsagePointId, ZoneId};
use registry::{
    Installation, MeterClass, Period, PhaseConnection, Registry, Topology, TopologyUsagePoint, TopologyZone,
    UnmeteredSupply, Versioned, ZoneKind,
};
use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{directory::Store, error::StoreError};

/// Networks of different times kept at once: of the newest slot, of pages, of a late slot and of a case that is looked at.
const TOPOLOGIES_MAX: usize = 4;

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

/// The register in memory, and the networks made of it last.
#[derive(Default)]
pub(crate) struct RegisterInMemory(Mutex<Held>);

#[derive(Default)]
struct Held {
    registry: Option<Arc<Registry>>,
    /// The one asked for last stands last.
    topologies: Vec<(Period, Arc<Topology>)>,
}

impl RegisterInMemory {
    fn registry(&self, version: u64) -> Option<Arc<Registry>> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.registry.clone().filter(|registry| registry.version() == version)
    }

    fn keep(&self, registry: &Arc<Registry>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Two may have read it at once: the newer stays.
        if held.registry.as_ref().is_none_or(|known| known.version() < registry.version()) {
            *held = Held { registry: Some(registry.clone()), topologies: Vec::new() };
        }
    }

    fn topology(&self, version: u64, at: Timestamp) -> Option<Arc<Topology>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = held.topologies.iter().position(|(time, t)| t.version == version && time.contains(at))?;
        let asked = held.topologies.remove(found);
        held.topologies.push(asked.clone());
        Some(asked.1)
    }

    fn keep_topology(&self, time: Period, topology: Arc<Topology>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.topologies.retain(|(_, known)| known.version == topology.version);
        if held.topologies.len() >= TOPOLOGIES_MAX {
            held.topologies.remove(0);
        }
        held.topologies.push((time, topology));
    }
}

impl Store {
    /// The register with all its versions.
    ///
    /// # Errors
    /// When the database fails or a row is damaged.
    pub async fn registry(&self) -> Result<Arc<Registry>, StoreError> {
        let mut connection = self.inner.main_read.acquire().await?;
        let version = version(&mut connection).await?;
        drop(connection);
        if let Some(registry) = self.inner.register.registry(version) {
            return Ok(registry);
        }
        let mut tx = self.inner.main_read.begin().await?;
        let registry = Arc::new(read(&mut tx).await?);
        self.inner.register.keep(&registry);
        Ok(registry)
    }

    /// The network as it was (or will be) at a time.
    ///
    /// # Errors
    /// When the database fails or a row is damaged.
    pub async fn topology(&self, at: Timestamp) -> Result<Arc<Topology>, StoreError> {
        let registry = self.registry().await?;
        if let Some(topology) = self.inner.register.topology(registry.version(), at) {
            return Ok(topology);
        }
        let topology = Arc::new(registry.at(at));
        self.inner.register.keep_topology(registry.unchanged_around(at), topology.clone());
        Ok(topology)
    }
}

/// The number of the newest version of the master data.
async fn version(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let version: Option<String> =
        sqlx::query_scalar("SELECT value FROM meta WHERE key = 'topology_version'").fetch_optional(connection).await?;
    version.map_or(Ok(0), |text| text.parse().map_err(|_| StoreError::damaged("the version of the register")))
}

/// Counts a change of the master data, in the transaction that makes it.
pub(crate) async fn bump_version(tx: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO meta (key, value) VALUES ('topology_version', '1')
         ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(meta.value AS INTEGER) + 1 AS TEXT)",
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Reads the register within a transaction.
async fn read(tx: &mut SqliteConnection) -> Result<Registry, StoreError> {
    let version = version(tx).await?;
    let zones = sqlx::query(
        "SELECT meter, ct_milli, phase, meter_class, valid_from, valid_to, known_from, $1, zone, parent, kind, rating_w
         FROM zone_version
         UNION ALL SELECT meter, ct_milli, phase, meter_class, valid_from, valid_to, known_from, known_to, zone, parent,
            kind, rating_w FROM zone_version_past",
    )
    .bind(i64::MAX)
    .fetch_all(&mut *tx)
    .await?;
    let points = sqlx::query(
        "SELECT i.meter, i.ct_milli, i.phase, i.meter_class, i.valid_from, i.valid_to, i.known_from, i.known_to,
            i.usage_point, i.zone, p.never_disconnect, i.rating_w, i.unmetered_w
         FROM (SELECT meter, ct_milli, phase, meter_class, valid_from, valid_to, known_from, $1 AS known_to, usage_point,
                zone, rating_w, unmetered_w FROM installation
            UNION ALL SELECT meter, ct_milli, phase, meter_class, valid_from, valid_to, known_from, known_to,
                usage_point, zone, rating_w, unmetered_w FROM installation_past) i
         JOIN usage_point p ON p.id = i.usage_point",
    )
    .bind(i64::MAX)
    .fetch_all(&mut *tx)
    .await?;
    let zones = zones.iter().map(|row| Ok(versioned(row, zone_out(row)?))).collect::<Result<_, StoreError>>()?;
    let points = points.iter().map(|row| Ok(versioned(row, usage_point_out(row)?)));
    Ok(Registry::new(version, zones, points.collect::<Result<_, StoreError>>()?))
}

fn period(from: i64, to: i64) -> Period {
    Period { from: Timestamp(from), to: (to != i64::MAX).then_some(Timestamp(to)) }
}

fn versioned<T>(row: &SqliteRow, what: T) -> Versioned<T> {
    Versioned { valid: period(row.get(4), row.get(5)), known: period(row.get(6), row.get(7)), what }
}

fn installation_out(row: &SqliteRow) -> Result<Option<Installation>, StoreError> {
    let Some(meter) = row.get::<Option<&str>, _>(0) else { return Ok(None) };
    let milli = u32::try_from(row.get::<i64, _>(1)).map_err(|_| StoreError::damaged("a current transformer ratio"))?;
    let class = row.get::<Option<&str>, _>(3).map(class_out).transpose()?;
    let valid = period(row.get(4), row.get(5));
    Ok(Some(Installation {
        meter: MeterId::new(meter).map_err(|e| StoreError::damaged(format!("a meter's name: {e}")))?,
        ct_ratio: f64::from(milli) / 1000.0,
        phase: PhaseConnection::from_word(row.get(2)).ok_or_else(|| StoreError::damaged("a phase"))?,
        class,
        valid_from: valid.from,
        valid_to: valid.to,
    }))
}

/// A class of a table.
pub(crate) fn class_out(word: &str) -> Result<MeterClass, StoreError> {
    MeterClass::from_word(word).ok_or_else(|| StoreError::damaged("a meter's class"))
}

fn zone_id(text: &str) -> Result<ZoneId, StoreError> {
    ZoneId::new(text).map_err(|e| StoreError::damaged(format!("a zone's name: {e}")))
}

fn zone_out(row: &SqliteRow) -> Result<TopologyZone, StoreError> {
    Ok(TopologyZone {
        zone: zone_id(row.get(8))?,
        parent: row.get::<Option<&str>, _>(9).map(zone_id).transpose()?,
        kind: ZoneKind::from_word(row.get(10)).ok_or_else(|| StoreError::damaged("a zone's kind"))?,
        rating_w: row.get::<Option<i64>, _>(11).map(i64::cast_unsigned),
        observer: installation_out(row)?,
    })
}

fn usage_point_out(row: &SqliteRow) -> Result<TopologyUsagePoint, StoreError> {
    let watts = row.get::<Option<i64>, _>(12).map(u32::try_from).transpose();
    let unmetered = watts.map_err(|_| StoreError::damaged("a power without meter"))?;
    Ok(TopologyUsagePoint {
        usage_point: UsagePointId::new(row.get(8))
            .map_err(|e| StoreError::damaged(format!("a usage point's name: {e}")))?,
        zone: zone_id(row.get(9))?,
        never_disconnect: row.get::<i64, _>(10) != 0,
        rating_w: row.get::<Option<i64>, _>(11).map(i64::cast_unsigned),
        installation: installation_out(row)?,
        unmetered: unmetered.map(|watts| UnmeteredSupply { watts }),
    })
}
