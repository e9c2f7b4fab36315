//! Failures on purpose, for tests: every write of every transaction fails once, for real, in the database itself.
//!
//! Triggers that exist in the writers' connections only count rows; the n-th row that a transaction of a name writes aborts its statement.
//! The next transaction of that name fails one row later, until one has no such row: it fails at its end, once. From then on only longer ones
//! fail. So whoever tries again succeeds after as many tries as there are rows. Nothing of this is there in a store of which [`Store::fail_each_write_once`] was not called.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use sqlx::{Row, SqliteConnection};

use crate::{directory::Store, error::StoreError};

/// Where the failures of the transactions of one name stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Transactions that were made to fail at a row.
    pub rows: u64,
    /// Transactions that were made to fail at their end.
    pub ends: u64,
}

/// The plan of all failures, shared by the writers of a store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<OnceLock<Mutex<BTreeMap<&'static str, FaultCounts>>>>);

impl Faults {
    fn change<T>(&self, name: &'static str, change: impl FnOnce(&mut FaultCounts) -> T) -> Option<T> {
        let counts = self.0.get()?;
        Some(change(counts.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default()))
    }

    /// Sets the row at which a transaction that begins now fails; whether it is one that is made to fail.
    pub(crate) async fn arm(&self, name: &'static str, tx: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        let Some(row) = self.change(name, |counts| counts.rows + 1) else { return Ok(false) };
        sqlx::query("UPDATE temp.fault SET left = $1").bind(i64::try_from(row).unwrap_or(i64::MAX)).execute(tx).await?;
        Ok(true)
    }

    /// Whether a transaction that got to its end is made to fail there: the first that has fewer rows than were to fail.
    pub(crate) fn fails_at_end(&self, name: &'static str) -> bool {
        self.change(name, |counts| counts.ends == 0).unwrap_or(false)
    }

    /// Notes a failure.
    pub(crate) fn failed(&self, name: &'static str, at_end: bool) {
        self.change(name, |counts| if at_end { counts.ends += 1 } else { counts.rows += 1 });
    }
}

impl Store {
    /// From now on every named transaction fails once at every row that it writes, and once at its end.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn fail_each_write_once(&self) -> Result<(), StoreError> {
        for pool in [self.inner.main.pool(), self.inner.log.pool()] {
            prepare(&mut *pool.acquire().await?).await?;
        }
        self.inner.faults.0.get_or_init(Mutex::default);
        Ok(())
    }

    /// What was made to fail, by name of transaction.
    pub fn faults(&self) -> Vec<(&'static str, FaultCounts)> {
        let Some(counts) = self.inner.faults.0.get() else { return Vec::new() };
        counts.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(name, counts)| (*name, *counts)).collect()
    }
}

/// Makes a connection count the rows that it writes.
async fn prepare(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::raw_sql("CREATE TEMP TABLE fault (left INTEGER NOT NULL); INSERT INTO fault VALUES (-1)")
        .execute(&mut *connection)
        .await?;
    let tables = sqlx::query("SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        .fetch_all(&mut *connection)
        .await?;
    for row in &tables {
        let table: &str = row.get(0);
        for change in ["INSERT", "UPDATE", "DELETE"] {
            let sql = format!(
                "CREATE TEMP TRIGGER fault_{table}_{change} AFTER {change} ON main.{table} BEGIN
                    UPDATE fault SET left = left - 1;
                    SELECT RAISE(ABORT, 'a write that fails on purpose') FROM fault WHERE left = 0;
                 END"
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *connection).await?;
        }
    }
    Ok(())
}
