//! The one door to a write: every transaction has a name, begins as a writer, waits its turn within bounds, and is counted.
//!
//! A transaction that begins as a reader and writes later fails at once when another connection writes in between ("database is
//! locked"): SQLite does not wait there, since waiting could never end. `BEGIN IMMEDIATE` takes the writer's place first, and there
//! SQLite waits; whoever has it cannot be turned away afterwards. So only the beginning is tried again.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};

use crate::{directory::Store, error::StoreError, faults::Faults};

/// How long SQLite itself waits for the writer's place, each time.
pub(crate) const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Most beginnings of one transaction.
const TRIES_MAX: u32 = 6;
/// Pause after the first refused beginning; doubled after each further one.
const PAUSE: Duration = Duration::from_millis(50);

/// What happened to the transactions of one name since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TransactionCounts {
    /// Committed.
    pub committed: u64,
    /// Rolled back: refused by a rule, or failed.
    pub rolled_back: u64,
    /// Beginnings that found another writer for longer than SQLite waits, and were tried again.
    pub busy: u64,
    /// Seconds from the beginning to the commit, all together.
    pub seconds: f64,
    /// The longest of them, seconds.
    pub seconds_max: f64,
}

/// Counts by name of transaction; shared by all files of a directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts(Arc<Mutex<BTreeMap<&'static str, TransactionCounts>>>);

impl Counts {
    fn change(&self, name: &'static str, change: impl FnOnce(&mut TransactionCounts)) {
        change(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default());
    }

    fn all(&self) -> Vec<(&'static str, TransactionCounts)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(name, counts)| (*name, *counts)).collect()
    }
}

/// The writing connections of one file.
#[derive(Clone)]
pub(crate) struct Writer {
    pool: SqlitePool,
    counts: Counts,
    faults: Faults,
}

/// A transaction that has the writer's place. Dropped without a commit, it is rolled back.
pub(crate) struct WriteTx {
    tx: Option<Transaction<'static, Sqlite>>,
    name: &'static str,
    begun: Instant,
    counts: Counts,
    faults: Faults,
    /// It was made to fail on purpose, and has not failed yet.
    shall_fail: bool,
}

impl Writer {
    pub(crate) fn new(pool: SqlitePool, counts: Counts, faults: Faults) -> Self {
        Self { pool, counts, faults }
    }

    /// The connections, for what is no transaction: reading at the start, checkpoints, closing.
    pub(crate) fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Begins a transaction as a writer.
    pub(crate) async fn begin(&self, name: &'static str) -> Result<WriteTx, StoreError> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            let why = match self.pool.begin_with("BEGIN IMMEDIATE").await {
                Ok(mut tx) => {
                    let armed = self.faults.arm(name, &mut tx).await;
                    return Ok(WriteTx {
                        shall_fail: armed.map_err(|why| StoreError::Transaction { name, why })?,
                        tx: Some(tx),
                        name,
                        begun: Instant::now(),
                        counts: self.counts.clone(),
                        faults: self.faults.clone(),
                    });
                }
                Err(why) => why,
            };
            if !is_busy(&why) || attempt >= TRIES_MAX {
                return Err(StoreError::Transaction { name, why });
            }
            self.counts.change(name, |counts| counts.busy += 1);
            tracing::warn!(transaction = name, attempt, "another program or connection is writing; it is tried again");
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        unreachable!("the loop ends by returning")
    }

    /// Carries out `work` in one transaction: all of it is written, or nothing.
    pub(crate) async fn transaction<T>(
        &self,
        name: &'static str,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut tx = self.begin(name).await?;
        let done = work(&mut tx).await.map_err(|error| error.within(name))?;
        tx.commit().await?;
        Ok(done)
    }
}

impl WriteTx {
    /// Makes it durable.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        let name = self.name;
        if std::mem::take(&mut self.shall_fail) && self.faults.fails_at_end(name) {
            self.faults.failed(name, true);
            let why = sqlx::Error::Io(std::io::Error::other("an end that fails on purpose"));
            return Err(StoreError::Transaction { name, why });
        }
        if let Some(tx) = self.tx.take() {
            if let Err(why) = tx.commit().await {
                self.counts.change(name, |counts| counts.rolled_back += 1);
                return Err(StoreError::Transaction { name, why });
            }
            let seconds = self.begun.elapsed().as_secs_f64();
            self.counts.change(name, |counts| {
                counts.committed += 1;
                counts.seconds += seconds;
                counts.seconds_max = counts.seconds_max.max(seconds);
            });
        }
        Ok(())
    }
}

impl Drop for WriteTx {
    fn drop(&mut self) {
        if self.shall_fail {
            self.faults.failed(self.name, false);
        }
        if self.tx.is_some() {
            self.counts.change(self.name, |counts| counts.rolled_back += 1);
        }
    }
}

impl Deref for WriteTx {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        self.tx.as_deref().expect("it is taken by the commit alone, which consumes it")
    }
}

impl DerefMut for WriteTx {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.tx.as_deref_mut().expect("it is taken by the commit alone, which consumes it")
    }
}

/// Whether somebody else has the place, in any of SQLite's forms (`SQLITE_BUSY`, `SQLITE_LOCKED` and their extended codes).
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, 5 | 6))
}

impl Store {
    /// Carries out `work` in one transaction of the relational database, which begins as a writer and is counted under its name.
    pub(crate) async fn transaction<T>(
        &self,
        name: &'static str,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.inner.main.transaction(name, work).await
    }

    /// What happened to every kind of transaction since the start, by name.
    pub fn transactions(&self) -> Vec<(&'static str, TransactionCounts)> {
        self.inner.counts.all()
    }

    /// [`Store::transactions`] in the text format of Prometheus.
    pub fn transactions_prometheus(&self) -> String {
        type Value = fn(&TransactionCounts) -> f64;
        let metrics: [(&str, &str, &str, Value); 5] = [
            ("committed_total", "counter", "Transactions committed", |c| c.committed as f64),
            ("rolled_back_total", "counter", "Transactions refused or failed", |c| c.rolled_back as f64),
            ("busy_total", "counter", "Beginnings that found another writer and were tried again", |c| c.busy as f64),
            ("seconds_total", "counter", "Seconds from beginning to commit", |c| c.seconds),
            ("seconds_max", "gauge", "Longest of them since the start", |c| c.seconds_max),
        ];
        let all = self.transactions();
        let mut text = String::new();
        for (metric, kind, help, value) in metrics {
            let metric = format!("gridtally_transaction_{metric}");
            text.push_str(&format!("# HELP {metric} {help}\n# TYPE {metric} {kind}\n"));
            for (name, counts) in &all {
                text.push_str(&format!("{metric}{{transaction=\"{name}\"}} {}\n", value(counts)));
            }
        }
        text
    }
}
