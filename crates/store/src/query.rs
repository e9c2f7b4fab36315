//! Questions about readings.

use metering::{MeterId, Timestamp, frame::Now, validation::LastReading};

use crate::{
    directory::Store,
    error::StoreError,
    event::{EventFilter, StoredEvent, StoredReply},
    reading::{Counts, Latest, Quarantined, StoredQuality, StoredRecord},
};

impl Store {
    /// The intervals of a meter that end in (`after`, `to`], ascending, late data in place, one version of each: the newest
    /// plausible one. Everything acknowledged is there, packed or not.
    ///
    /// # Errors
    /// When a database fails or a block is damaged.
    pub async fn profile(
        &self,
        _meter: MeterId,
        _after: Timestamp,
        _to: Timestamp,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        unimplemented!("next commit")
    }

    /// [`Store::profile`] of many meters, in the order of `meters`.
    ///
    /// # Errors
    /// When a database fails or a block is damaged.
    pub async fn profiles(
        &self,
        _meters: &[MeterId],
        _after: Timestamp,
        _to: Timestamp,
    ) -> Result<Vec<Vec<StoredRecord>>, StoreError> {
        unimplemented!("next commit")
    }

    /// Every version kept of the interval that ends at `end`, in the order of arrival.
    ///
    /// # Errors
    /// When a database fails or a block is damaged.
    pub async fn versions(&self, _meter: MeterId, _end: Timestamp) -> Result<Vec<StoredRecord>, StoreError> {
        unimplemented!("next commit")
    }

    /// The newest plausible reading of a meter that ends at or before `at`.
    ///
    /// # Errors
    /// When a database fails or a block is damaged.
    pub async fn registers_at(&self, _meter: MeterId, _at: Timestamp) -> Result<Option<LastReading>, StoreError> {
        unimplemented!("next commit")
    }

    /// Events, newest first (with `after_id`: in the order of storing).
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events(&self, _filter: EventFilter) -> Result<Vec<StoredEvent>, StoreError> {
        unimplemented!("next commit")
    }

    /// Answers to a control, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn replies(&self, _control: u64) -> Result<Vec<StoredReply>, StoreError> {
        unimplemented!("next commit")
    }

    /// Snapshots of a meter taken in (`after`, `to`], ascending.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn snapshots(&self, _meter: MeterId, _after: Timestamp, _to: Timestamp) -> Result<Vec<Now>, StoreError> {
        unimplemented!("next commit")
    }

    /// Ten-minute power-quality values of a meter that end in (`after`, `to`], ascending.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn quality(
        &self,
        _meter: MeterId,
        _after: Timestamp,
        _to: Timestamp,
    ) -> Result<Vec<StoredQuality>, StoreError> {
        unimplemented!("next commit")
    }

    /// The newest payloads that were no frames, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn quarantined(&self, _limit: u32) -> Result<Vec<Quarantined>, StoreError> {
        unimplemented!("next commit")
    }

    /// The newest that is known of a meter, from memory; `None` when it never sent anything.
    pub fn latest(&self, _meter: MeterId) -> Option<Latest> {
        unimplemented!("next commit")
    }

    /// How much there is.
    ///
    /// # Errors
    /// When a database fails.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        unimplemented!("next commit")
    }
}
