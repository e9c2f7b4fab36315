//! The data directory: files, connections, migrations, the lock that keeps a second program out.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, atomic::AtomicBool},
    time::Duration,
};

use metering::{Timestamp, supply::SupplyCeilings};
use sqlx::{
    ConnectOptions, Connection, Row, SqlitePool,
    sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{Mutex, broadcast};

use crate::{
    change::Change,
    error::StoreError,
    faults::Faults,
    hot::Memory,
    intake::Intake,
    limits::ConnectionLimits,
    seal::Months,
    setting,
    text_key::Seal,
    topology::RegisterInMemory,
    writer::{BUSY_WAIT, Counts, Writer},
};

/// A simulator fast-forwards whole days between two clock messages; its meters' clocks run ahead of the server's meanwhile.
const SIMULATION_AHEAD_SECONDS_MAX: i64 = 2 * 86_400;
/// Changes a slow receiver may lag behind.
const CHANGES_HELD: usize = 16 * 1024;
const MAIN_SCHEMA: &[&str] = &[
    include_str!("schema/main_1.sql"),
    include_str!("schema/main_2.sql"),
    include_str!("schema/main_3.sql"),
    include_str!("schema/main_4.sql"),
    include_str!("schema/main_5.sql"),
    include_str!("schema/main_6.sql"),
    include_str!("schema/main_7.sql"),
];
const LOG_SCHEMA: &[&str] =
    &[include_str!("schema/log_1.sql"), include_str!("schema/log_2.sql"), include_str!("schema/log_3.sql")];
pub(crate) const BLOCKS_SCHEMA: &[&str] = &[include_str!("schema/blocks_1.sql")];

/// How to open a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Make the directory and its files when they are not there.
    pub create: bool,
    /// For a simulation. Written into a new directory and kept for ever; an existing directory must agree.
    pub simulation: bool,
}

/// The databases of one data directory; a cheap handle, all clones are one store.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) dir: PathBuf,
    simulation: bool,
    _lock: File,
    /// The one writer and the readers of `gridtally.db`.
    pub(crate) main: Writer,
    pub(crate) main_read: SqlitePool,
    /// The one writer and the readers of `log.db`.
    pub(crate) log: Writer,
    pub(crate) log_read: SqlitePool,
    pub(crate) months: Months,
    /// What is not yet in blocks, and the newest of every meter. Lock order: `intake`, `sealing`, `memory`.
    pub(crate) memory: RwLock<Memory>,
    pub(crate) intake: Mutex<Intake>,
    pub(crate) sealing: Mutex<()>,
    /// Packing was started by itself and has not ended.
    pub(crate) packing: AtomicBool,
    /// What each meter's connection can carry.
    pub(crate) limits: RwLock<ConnectionLimits>,
    /// What the keys of texts are sealed with, once it is known.
    pub(crate) text_seal: RwLock<Option<Seal>>,
    pub(crate) changes: broadcast::Sender<Change>,
    pub(crate) counts: Counts,
    pub(crate) faults: Faults,
    /// The abort switch, as it is in force.
    pub(crate) aborted: AtomicBool,
    ceilings: RwLock<SupplyCeilings>,
    /// The register of the network as it was read last.
    pub(crate) register: RegisterInMemory,
    /// Imports of the register, one after the other.
    pub(crate) importing: Mutex<()>,
}

impl Store {
    /// Opens a data directory: applies migrations and rebuilds from the log what was not yet packed.
    ///
    /// # Errors
    /// When there is no such directory (and `create` is not set), another program has it open, it was made for the other kind
    /// of use, or a newer version wrote it.
    pub async fn open(dir: &Path, options: OpenOptions) -> Result<Self, StoreError> {
        let at = |why: std::io::Error| StoreError::Directory { path: dir.to_owned(), why: why.to_string() };
        let main_path = dir.join("gridtally.db");
        let is_new = !main_path.exists();
        if is_new {
            if !options.create {
                return Err(StoreError::NotFound(dir.to_owned()));
            }
            std::fs::create_dir_all(dir).map_err(at)?;
        }
        let lock = lock(dir)?;
        let (counts, faults) = (Counts::default(), Faults::default());
        let main = open_file(&main_path, Access::Write).await?;
        migrate(&main, MAIN_SCHEMA).await?;
        let simulation = simulation_flag(&main, options.simulation).await?;
        if simulation != options.simulation {
            return Err(StoreError::Simulation { path: dir.to_owned(), simulation });
        }
        let aborted = setting::is_abort_kept(&mut *main.acquire().await?, dir).await?;
        let log_path = dir.join("log.db");
        let log = open_file(&log_path, Access::Write).await?;
        migrate(&log, LOG_SCHEMA).await?;
        let months = Months::open(dir, counts.clone())?;
        let (mut intake, memory) = crate::rebuild::rebuild(&log, &months).await?;
        crate::baseline::apply(&main, &mut intake).await?;
        if simulation {
            intake.limits.ahead_seconds_max = SIMULATION_AHEAD_SECONDS_MAX;
        }
        let inner = Inner {
            dir: dir.to_owned(),
            simulation,
            _lock: lock,
            main_read: open_file(&main_path, Access::Read).await?,
            main: Writer::new(main, counts.clone(), faults.clone()),
            log_read: open_file(&log_path, Access::Read).await?,
            log: Writer::new(log, counts.clone(), faults.clone()),
            months,
            memory: RwLock::new(memory),
            intake: Mutex::new(intake),
            sealing: Mutex::new(()),
            packing: AtomicBool::new(false),
            limits: RwLock::default(),
            text_seal: RwLock::new(None),
            changes: broadcast::Sender::new(CHANGES_HELD),
            counts,
            faults,
            aborted: AtomicBool::new(aborted),
            ceilings: RwLock::new(SupplyCeilings::default()),
            register: RegisterInMemory::default(),
            importing: Mutex::new(()),
        };
        let store = Self { inner: Arc::new(inner) };
        store.refresh_limits().await?;
        Ok(store)
    }

    /// For which use a directory was made, without opening it for work.
    ///
    /// # Errors
    /// When it holds no data, or cannot be read.
    pub async fn made_for_simulation(dir: &Path) -> Result<bool, StoreError> {
        let path = dir.join("gridtally.db");
        if !path.exists() {
            return Err(StoreError::NotFound(dir.to_owned()));
        }
        let pool = open_file(&path, Access::Read).await?;
        let found: Option<String> =
            sqlx::query_scalar("SELECT value FROM meta WHERE key = 'use'").fetch_optional(&pool).await?;
        pool.close().await;
        Ok(found.as_deref() == Some("simulation"))
    }

    /// Whether the directory was made for a simulation.
    pub fn is_simulation(&self) -> bool {
        self.inner.simulation
    }

    /// Sets what no policy may go beyond, from the configuration; until then the defaults hold.
    pub fn set_ceilings(&self, ceilings: SupplyCeilings) {
        *self.inner.ceilings.write().unwrap_or_else(PoisonError::into_inner) = ceilings;
    }

    /// What no policy may go beyond.
    pub fn ceilings(&self) -> SupplyCeilings {
        *self.inner.ceilings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every commit from now on. A receiver that lags loses the oldest and is told so.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    /// Packs what is in memory and closes all files. Not needed for durability, only for a quick start next time.
    ///
    /// # Errors
    /// When packing fails; everything is still in the log then.
    pub async fn close(self) -> Result<(), StoreError> {
        let sealed = self.seal().await;
        for pool in [&self.inner.main_read, &self.inner.log_read, self.inner.main.pool(), self.inner.log.pool()] {
            pool.close().await;
        }
        self.inner.months.close().await;
        sealed
    }

    /// The readers' view of what is in memory. Held for moments only, never across an await.
    pub(crate) fn memory(&self) -> RwLockReadGuard<'_, Memory> {
        self.inner.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn announce(&self, change: Change) {
        // Nobody listening is no error.
        let _ = self.inner.changes.send(change);
    }
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("gridtally.lock");
    let refused = |why: String| StoreError::Directory { path: path.clone(), why };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| refused(format!("{e}; check the permissions")))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(refused("another program has it open: stop that program, or use its REST API".to_owned()))
        }
        Err(TryLockError::Error(e)) => Err(refused(format!("it cannot be locked ({e}): use a local file system"))),
    }
}

async fn simulation_flag(main: &SqlitePool, wanted: bool) -> Result<bool, StoreError> {
    let word = if wanted { "simulation" } else { "real" };
    sqlx::query("INSERT INTO meta (key, value) VALUES ('use', $1) ON CONFLICT (key) DO NOTHING")
        .bind(word)
        .execute(main)
        .await?;
    let found: String = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'use'").fetch_one(main).await?;
    Ok(found == "simulation")
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// One connection, which may write.
    Write,
    /// A few connections that only read.
    Read,
    /// A few connections; the caller sees to it that one at a time writes.
    Both,
}

pub(crate) async fn open_file(path: &Path, access: Access) -> Result<SqlitePool, StoreError> {
    let is_new = || std::fs::metadata(path).map_or(true, |file| file.len() == 0);
    if access == Access::Write || (access == Access::Both && is_new()) {
        create_file(path).await?;
    }
    // None of these settings writes to the file: a connection may be opened in the middle of another's transaction.
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_WAIT)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", "4000")
        .pragma("cache_size", "-16384")
        .statement_cache_capacity(128)
        .disable_statement_logging();
    let options = if access == Access::Read { options.pragma("query_only", "1") } else { options };
    let connections = if access == Access::Write { 1 } else { 4 };
    Ok(SqlitePoolOptions::new()
        .max_connections(connections)
        // Those of the month files are opened when they are wanted: there may be many files.
        .min_connections(if access == Access::Both { 1 } else { connections })
        .acquire_timeout(Duration::from_secs(60))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options)
        .await?)
}

/// Makes a file, or opens it before anything else does, with the settings that are kept in it. Each of them writes, so no later
/// connection repeats them.
async fn create_file(path: &Path) -> Result<(), StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .busy_timeout(BUSY_WAIT)
        .page_size(8192)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal)
        .disable_statement_logging();
    options.connect().await?.close().await?;
    Ok(())
}

/// Applies the versions that a file lacks, each in a transaction; `PRAGMA user_version` counts them.
pub(crate) async fn migrate(pool: &SqlitePool, versions: &[&'static str]) -> Result<(), StoreError> {
    let found: i64 = sqlx::query("PRAGMA user_version").fetch_one(pool).await?.get(0);
    let known = i64::try_from(versions.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    let done = usize::try_from(found).unwrap_or(0);
    for (i, version) in versions.iter().enumerate().skip(done) {
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::raw_sql(*version).execute(&mut *tx).await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PRAGMA user_version = {}", i + 1))).execute(&mut *tx).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// A time of a table.
pub(crate) fn time(seconds: i64) -> Timestamp {
    Timestamp(seconds)
}

/// An id of a table as the outside sees it.
pub(crate) fn id_out(id: i64) -> u64 {
    id.cast_unsigned()
}

/// An id from outside as the table holds it.
pub(crate) fn id_in(id: u64) -> i64 {
    id.cast_signed()
}
