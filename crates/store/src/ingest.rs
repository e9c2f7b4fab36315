//! Frames in.
use sqlx::SqlitePool;

use crate::{directory::Store, error::StoreError, hot::Memory, reading::{Accepted, Incoming, Quarantined}, seal::Months};

pub(crate) struct Intake;

pub(crate) async fn rebuild(_log: &SqlitePool, _months: &Months) -> Result<(Intake, Memory), StoreError> {
    Ok((Intake, Memory))
}

impl Store {
    /// Stores frames: each is compared with what came before, judged, and written to the durable log. Returns after the commit
    /// (full sync): all of them may then be acknowledged. One outcome a frame, in their order. Meant to be called by one task
    /// with batches of up to a few thousand frames; a dropped future does not stop a batch half-way.
    ///
    /// # Errors
    /// When the log could not be written: nothing of the batch is stored, none of it may be acknowledged.
    pub async fn ingest(&self, _frames: Vec<Incoming>) -> Result<Vec<Accepted>, StoreError> {
        unimplemented!("next commit")
    }

    /// Keeps payloads that are no frames: the newest 10,000, all are counted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn quarantine(&self, _payloads: Vec<Quarantined>) -> Result<(), StoreError> {
        unimplemented!("next commit")
    }
}
