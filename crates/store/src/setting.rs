//! Settings: one JSON document a key, changes audited.

use std::{
    fs::File,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};

use metering::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::SqliteConnection;

use crate::{audit, change::Change, directory::Store, error::StoreError};

/// Longest audited text of a setting.
const AUDITED_BYTES_MAX: usize = 2_000;
/// Key of the abort switch.
const ABORT_SWITCH: &str = "abort_switch";
/// A file of this name in the data directory: the abort switch is on, whatever the database says.
const ABORT_FILE: &str = "abort-switch-on";
/// The answer to the abort switch waits so long for the database.
const ABORT_ANSWER: Duration = Duration::from_secs(1);

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
        if key == ABORT_SWITCH && text == "true" {
            return self.abort(by, now).await;
        }
        let changed = self.transaction("setting.change", async |tx| write(tx, key, &text, by, now).await).await?;
        if key == ABORT_SWITCH {
            self.end_abort()?;
        }
        if changed {
            self.announce(Change::Setting(key.to_owned()));
        }
        Ok(())
    }

    /// Switches the abort switch on: in force at once, kept in a file of its own before the answer, and written into the database as
    /// soon as that is free. A long import must not make somebody in a hurry wait.
    async fn abort(&self, by: &str, now: Timestamp) -> Result<(), StoreError> {
        self.inner.aborted.store(true, Ordering::Release);
        let path = self.abort_file();
        let kept = tokio::task::spawn_blocking(move || File::create(path).and_then(|file| file.sync_all())).await;
        if let Err(why) = kept.map_err(|e| StoreError::Task(e.to_string()))? {
            // Then the database alone can keep it, and the answer waits for that.
            tracing::error!(%why, "the abort switch is on; its file cannot be written");
            self.transaction("setting.abort", async |tx| write(tx, ABORT_SWITCH, "true", by, now).await).await?;
            self.announce(Change::Setting(ABORT_SWITCH.to_owned()));
            return Ok(());
        }
        let (store, by) = (self.clone(), by.to_owned());
        let writing = tokio::spawn(async move {
            let written =
                store.transaction("setting.abort", async |tx| write(tx, ABORT_SWITCH, "true", &by, now).await).await;
            match written {
                Ok(true) => store.announce(Change::Setting(ABORT_SWITCH.to_owned())),
                Ok(false) => {}
                // The file stays: the switch is on after a restart too, and written then.
                Err(error) => tracing::error!(%error, "the abort switch is on, and not yet in the database"),
            }
        });
        // Usually the database is free, and what is read next says so.
        if tokio::time::timeout(ABORT_ANSWER, writing).await.is_err() {
            tracing::warn!("the abort switch is on; the database is busy and will hold it later");
        }
        Ok(())
    }

    /// The switch is off, in the database: it is not in force any more.
    pub(crate) fn end_abort(&self) -> Result<(), StoreError> {
        match std::fs::remove_file(self.abort_file()) {
            Err(why) if why.kind() != ErrorKind::NotFound => {
                let path = self.abort_file();
                return Err(StoreError::Directory { path, why: format!("the abort switch stays on: {why}") });
            }
            _ => {}
        }
        self.inner.aborted.store(false, Ordering::Release);
        Ok(())
    }

    fn abort_file(&self) -> PathBuf {
        self.inner.dir.join(ABORT_FILE)
    }

    /// Whether the abort switch is on: only supply is restored. Known without asking the database.
    pub fn is_aborted(&self) -> bool {
        self.inner.aborted.load(Ordering::Acquire)
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

/// Whether the abort switch is on in a directory that is being opened: by the database, or by the file of a switch that the database
/// did not take any more.
pub(crate) async fn is_abort_kept(tx: &mut SqliteConnection, dir: &Path) -> Result<bool, StoreError> {
    Ok(read(tx, ABORT_SWITCH).await?.unwrap_or(false) || dir.join(ABORT_FILE).exists())
}

/// Reads a setting within a transaction.
pub(crate) async fn read<T: DeserializeOwned>(tx: &mut SqliteConnection, key: &str) -> Result<Option<T>, StoreError> {
    let text: Option<String> =
        sqlx::query_scalar("SELECT value FROM setting WHERE key = $1").bind(key).fetch_optional(tx).await?;
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
}
