//! When which zone was alarmed, and when that ended: kept with the pipeline's state.

use losses::alarm::AlarmKind;
use metering::{Timestamp, ZoneId};
use serde::{Deserialize, Serialize};
use store::{Store, StoreError};

/// Key among the pipeline's documents.
pub const KEY: &str = "alarms";
/// Entries kept; the oldest go first.
const ENTRIES_MAX: usize = 10_000;

/// What a zone was alarmed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmReason {
    /// Energy is missing.
    Missing,
    /// Meters report more than was supplied.
    Surplus,
    /// A meter in it reported tampering that is worth a case.
    Tamper,
}

impl From<AlarmKind> for AlarmReason {
    fn from(kind: AlarmKind) -> Self {
        match kind {
            AlarmKind::Missing => Self::Missing,
            AlarmKind::Surplus => Self::Surplus,
        }
    }
}

/// One alarm of one zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmEntry {
    /// The zone.
    pub zone: ZoneId,
    /// What was alarmed.
    pub kind: AlarmReason,
    /// When the test crossed its limit.
    pub raised: Timestamp,
    /// When the imbalance was gone.
    pub resolved: Option<Timestamp>,
}

/// Reads the log, oldest first.
pub async fn read(store: &Store) -> Result<Vec<AlarmEntry>, StoreError> {
    let state = store.pipeline_state().await?;
    Ok(match state.blobs.get(KEY) {
        Some(bytes) => serde_json::from_slice(bytes)?,
        None => Vec::new(),
    })
}

/// Adds an alarm.
pub fn raise(log: &mut Vec<AlarmEntry>, zone: ZoneId, kind: impl Into<AlarmReason>, at: Timestamp) {
    if log.len() >= ENTRIES_MAX {
        log.remove(0);
    }
    log.push(AlarmEntry { zone, kind: kind.into(), raised: at, resolved: None });
}

/// Ends the zone's open alarm about its balance; a tamper alarm stays with its case.
pub fn resolve(log: &mut [AlarmEntry], zone: ZoneId, at: Timestamp) {
    if let Some(entry) =
        log.iter_mut().rev().find(|e| e.zone == zone && e.kind != AlarmReason::Tamper && e.resolved.is_none())
    {
        entry.resolved = Some(at);
    }
}
