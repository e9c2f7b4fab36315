//! Settings: one JSON document a key, changes audited.

use std::sync::atomic::Ordering;

use metering::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::SqliteConnection;

use crate::{audit, change::Change, directory::Store, error::StoreError};

/// Longest audited text of a setting.
const AUDITED_BYTES_MAX: usize = 2_000;
/// Key of the abort switch.
const ABORT_SWITCH: &str = "abort_switch";

impl Store {
    /// A setting, or `None` when it was never set.
    ///
    /// # Errors
    /// When the database fails or the stored document is not a `T`.
    pub async fn setting<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let mut connection = self.inner.main_read.acquire().await?;
        read(&mut connection, key).await
    }

    /// Sets a setting; audited in the same transaction. `policy` is a [`metering::supply::SupplyPolicy`], `abort_switch` a boolean.
    ///
    /// # Errors
    /// When the database fails or the value cannot be written as JSON.
    pub async fn set_setting<T: Serialize + Sync>(
        &self,
        key: &str,
        value: &T,
        by: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let text = serde_json::to_string(value)
            .map_err(|e| StoreError::Invalid(format!("the setting {key} cannot be written as JSON: {e}")))?;
        // What stops disconnections is in force before it is durable: the database may be busy with something long.
        let aborts = key == ABORT_SWITCH && text == "true";
        if aborts {
            self.set_aborted(true);
        }
        let changed = self.transaction("setting.change", async |tx| write(tx, key, &text, by, now).await).await?;
        if key == ABORT_SWITCH && !aborts {
            self.set_aborted(false);
        }
        if changed {
            self.announce(Change::Setting(key.to_owned()));
        }
        Ok(())
    }

    /// Whether the abort switch is on: only supply is restored. Known without asking the database.
    pub fn is_aborted(&self) -> bool {
        self.inner.aborted.load(Ordering::Acquire)
    }

    pub(crate) fn set_aborted(&self, on: bool) {
        self.inner.aborted.store(on, Ordering::Release);
    }
}

/// Writes a setting within a transaction, audited; `false` when it was so before.
pub(crate) async fn write(
    tx: &mut SqliteConnection,
    key: &str,
    text: &str,
    by: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let old: Option<String> =
        sqlx::query_scalar("SELECT value FROM setting WHERE key = $1").bind(key).fetch_optional(&mut *tx).await?;
    if old.as_deref() == Some(text) {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO setting (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    .bind(key)
    .bind(text)
    .execute(&mut *tx)
    .await?;
    let was = old.as_deref().unwrap_or("not set");
    let mut detail = format!("{was} -> {text}");
    detail.truncate(detail.floor_char_boundary(AUDITED_BYTES_MAX));
    let entry = audit::Entry { by, action: "setting.change", subject: format!("setting:{key}"), detail };
    audit::record(tx, now, entry).await?;
    Ok(true)
}

/// Reads a setting within a transaction.
pub(crate) async fn read<T: DeserializeOwned>(tx: &mut SqliteConnection, key: &str) -> Result<Option<T>, StoreError> {
    let text: Option<String> =
        sqlx::query_scalar("SELECT value FROM setting WHERE key = $1").bind(key).fetch_optional(tx).await?;
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
}
