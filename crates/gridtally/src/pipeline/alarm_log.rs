//! When which zone was alarmed, and when that ended: kept with the pipeline's state.

use losses::alarm::AlarmKind;
use metering::{Timestamp, ZoneId};
use serde::{Deserialize, Serialize};
use store::{Store, StoreError};

/// Key among the pipeline's documents.
pub const KEY: &str = "alarms";
/// Entries kept; the oldest go first.
const ENTRIES_MAX: usize = 10_000;

/// One alarm of one zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmEntry {
    /// The zone.
    pub zone: ZoneId,
    /// Missing or surplus energy.
    pub kind: AlarmKind,
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
pub fn raise(log: &mut Vec<AlarmEntry>, zone: ZoneId, kind: AlarmKind, at: Timestamp) {
    if log.len() >= ENTRIES_MAX {
        log.remove(0);
    }
    log.push(AlarmEntry { zone, kind, raised: at, resolved: None });
}

/// Ends the zone's open alarm.
pub fn resolve(log: &mut [AlarmEntry], zone: ZoneId, at: Timestamp) {
    if let Some(entry) = log.iter_mut().rev().find(|entry| entry.zone == zone && entry.resolved.is_none()) {
        entry.resolved = Some(at);
    }
}
