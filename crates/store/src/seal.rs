//! Packing: days go from memory into block files, one file per month, and the log is trimmed.
//!
//! Order: the days are set aside as a generation with the log position they contain; each file gets its blocks (merged with what
//! is there) in transactions of bounded size, the last of which also records the position; then what ingest knows is written
//! and the log trimmed in one transaction; then the generation is dropped. A crash anywhere repeats work and changes nothing:
//! merging is idempotent, and the log is trimmed last.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, atomic::Ordering},
};

use metering::Timestamp;
use sqlx::{QueryBuilder, Row, SqlitePool};
use tokio::sync::Mutex;

use crate::{
    block::Day,
    directory::{Access, BLOCKS_SCHEMA, Store, id_in, migrate, open_file},
    error::StoreError,
    faults::Faults,
    hot::{DayKey, Days, Generation, MeterIndex},
    intake::{Intake, StoredState},
    write::key_of,
    writer::{Counts, Writer},
};

/// Intervals in memory at which packing begins by itself; at twice as many, ingest waits.
const HOT_INTERVALS: usize = 1_000_000;
/// Bytes in the log at which packing begins by itself.
const LOG_BYTES: usize = 128 << 20;
/// Blocks in a transaction.
const BLOCKS_PER_COMMIT: usize = 400;
/// Rows in one statement.
const ROWS: usize = 50;
/// Meters whose state is written in one transaction.
const STATES_PER_COMMIT: usize = 500;

/// A file of blocks: a month, or the one for days that cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileKey(i64);

impl FileKey {
    const MISPLACED: Self = Self(i64::MAX);

    /// The file of a day.
    pub(crate) fn of(key: DayKey) -> Self {
        if key.misplaced {
            return Self::MISPLACED;
        }
        let (year, month, _) = Timestamp(key.day * 86_400).civil();
        Self(year * 12 + month - 1)
    }

    fn name(self) -> String {
        if self == Self::MISPLACED {
            return "blocks-misplaced.db".to_owned();
        }
        format!("blocks-{:04}-{:02}.db", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }

    fn of_name(name: &str) -> Option<Self> {
        let stem = name.strip_prefix("blocks-")?.strip_suffix(".db")?;
        if stem == "misplaced" {
            return Some(Self::MISPLACED);
        }
        let (year, month) = stem.split_once('-')?;
        let (year, month): (i64, i64) = (year.parse().ok()?, month.parse().ok()?);
        let key = Self(year * 12 + month - 1);
        (key.name() == name).then_some(key)
    }

    /// The days in the file, from and to; of the misplaced file: all.
    pub(crate) fn days(self) -> (i64, i64) {
        if self == Self::MISPLACED {
            return (i64::MIN, i64::MAX);
        }
        let first = |months: i64| {
            let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
            Timestamp::from_civil((year, month, 1), (0, 0, 0)).map_or(i64::MAX, Timestamp::day)
        };
        (first(self.0), first(self.0 + 1) - 1)
    }

    pub(crate) fn is_misplaced(self) -> bool {
        self == Self::MISPLACED
    }
}

/// The block files: those that exist, opened when first used.
pub(crate) struct Months {
    dir: PathBuf,
    counts: Counts,
    files: Mutex<BTreeMap<FileKey, Option<SqlitePool>>>,
}

impl Months {
    /// Lists the files of a directory.
    pub(crate) fn open(dir: &Path, counts: Counts) -> Result<Self, StoreError> {
        let at = |e: std::io::Error| StoreError::Directory { path: dir.to_owned(), why: e.to_string() };
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(dir).map_err(at)? {
            if let Some(key) = entry.map_err(at)?.file_name().to_str().and_then(FileKey::of_name) {
                files.insert(key, None);
            }
        }
        Ok(Self { dir: dir.to_owned(), counts, files: Mutex::new(files) })
    }

    /// The files that may hold days from `from` to `to`, opened, months ascending, the misplaced one last.
    pub(crate) async fn between(&self, from: i64, to: i64) -> Result<Vec<(FileKey, SqlitePool)>, StoreError> {
        let mut files = self.files.lock().await;
        let mut found = Vec::new();
        for (key, pool) in files.iter_mut() {
            let (first, last) = key.days();
            if last >= from && first <= to {
                found.push((*key, self.opened(*key, pool).await?));
            }
        }
        Ok(found)
    }

    async fn opened(&self, key: FileKey, slot: &mut Option<SqlitePool>) -> Result<SqlitePool, StoreError> {
        if let Some(pool) = slot {
            return Ok(pool.clone());
        }
        let pool = open_file(&self.dir.join(key.name()), Access::Both).await?;
        migrate(&pool, BLOCKS_SCHEMA).await?;
        *slot = Some(pool.clone());
        Ok(pool)
    }

    async fn for_writing(&self, key: FileKey) -> Result<Writer, StoreError> {
        let mut files = self.files.lock().await;
        let slot = files.entry(key).or_default();
        Ok(Writer::new(self.opened(key, slot).await?, self.counts.clone(), Faults::default()))
    }

    /// The log position that each file contains.
    pub(crate) async fn positions(&self) -> Result<BTreeMap<FileKey, i64>, StoreError> {
        let mut positions = BTreeMap::new();
        for (key, pool) in self.between(i64::MIN, i64::MAX).await? {
            let position: Option<i64> =
                sqlx::query_scalar("SELECT position FROM applied WHERE one = 1").fetch_optional(&pool).await?;
            positions.insert(key, position.unwrap_or(0));
        }
        Ok(positions)
    }

    /// Closes all files.
    pub(crate) async fn close(&self) {
        for pool in self.files.lock().await.values_mut().filter_map(Option::take) {
            pool.close().await;
        }
    }
}

/// Blocks by file, in the order of their keys.
type ByFile<'a> = BTreeMap<FileKey, BTreeMap<(i64, i64), &'a Day>>;

impl Store {
    /// Packs everything that is in memory into blocks and trims the log. Happens by itself when enough has come together.
    ///
    /// # Errors
    /// When a database fails; everything is still in the log then.
    pub async fn seal(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.inner.sealing.lock().await;
        // A generation left by a failure first.
        let left = self.memory().sealing.clone();
        if let Some(generation) = left {
            self.pack(&generation).await?;
            self.forget_generation();
        }
        let (generation, known) = {
            let mut intake = self.inner.intake.lock().await;
            if intake.stale {
                return Err(StoreError::Task(
                    "the log could not be written; packing waits for the next batch".to_owned(),
                ));
            }
            self.set_aside(&mut intake)
        };
        let done = self.pack_and_trim(&generation, &known).await;
        match done {
            Ok(()) => self.forget_generation(),
            // What was to be written of the meters is not: it must all be written next time.
            Err(_) => self.inner.intake.lock().await.meters.iter_mut().for_each(|meter| meter.changed = true),
        }
        done
    }

    async fn pack_and_trim(&self, generation: &Generation, known: &[KnownMeter]) -> Result<(), StoreError> {
        self.pack(generation).await?;
        self.trim(known, generation.position).await
    }

    /// Makes the hot days a generation; what ingest knows at that moment beside it.
    fn set_aside(&self, intake: &mut Intake) -> (Arc<Generation>, Vec<KnownMeter>) {
        let mut memory = self.inner.memory.write().unwrap_or_else(PoisonError::into_inner);
        let empty: Vec<Days> = memory.hot.iter().map(|_| Days::new()).collect();
        let days = std::mem::replace(&mut memory.hot, empty);
        let generation = Arc::new(Generation { days, position: intake.next_position - 1 });
        (memory.hot_intervals, memory.log_bytes) = (0, 0);
        memory.sealing = Some(Arc::clone(&generation));
        let mut known = Vec::new();
        for (index, meter) in intake.meters.iter_mut().enumerate().filter(|(_, meter)| meter.changed) {
            meter.changed = false;
            let state = StoredState {
                last: None,
                chain: meter.chain.to_stored(),
                reported: meter.reported.clone(),
                latest: memory.latest.get(index).cloned().flatten(),
            };
            let windows = meter.windows.iter().map(|(boot, window)| (*boot, window.encode())).collect();
            known.push(KnownMeter { key: key_of(index), state, windows });
        }
        (generation, known)
    }

    async fn pack(&self, generation: &Generation) -> Result<(), StoreError> {
        let mut files = ByFile::new();
        for (index, days) in generation.days.iter().enumerate() {
            for (key, day) in days {
                files.entry(FileKey::of(*key)).or_default().insert((key.day, key_of(index)), day);
            }
        }
        for (file, blocks) in files {
            let writer = self.inner.months.for_writing(file).await?;
            let blocks: Vec<_> = blocks.into_iter().collect();
            let mut chunks = blocks.chunks(BLOCKS_PER_COMMIT).peekable();
            while let Some(chunk) = chunks.next() {
                let position = chunks.peek().is_none().then_some(generation.position);
                write_blocks(&writer, chunk, position).await?;
            }
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(writer.pool()).await?;
        }
        Ok(())
    }

    /// Writes what ingest knew and trims the log. The knowledge may be newer than the position: repeating the log on it
    /// changes nothing.
    async fn trim(&self, known: &[KnownMeter], position: i64) -> Result<(), StoreError> {
        for chunk in known.chunks(STATES_PER_COMMIT) {
            let mut tx = self.inner.log.begin("log.states").await?;
            for meter in chunk {
                meter.write(&mut tx).await?;
            }
            tx.commit().await?;
        }
        let mut tx = self.inner.log.begin("log.trim").await?;
        sqlx::query("DELETE FROM log WHERE position <= $1").bind(position).execute(&mut *tx).await?;
        tx.commit().await?;
        sqlx::query("PRAGMA incremental_vacuum").execute(self.inner.log.pool()).await?;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(self.inner.log.pool()).await?;
        Ok(())
    }

    fn forget_generation(&self) {
        self.inner.memory.write().unwrap_or_else(PoisonError::into_inner).sealing = None;
    }

    /// Begins packing in the background when enough has come together.
    pub(crate) fn seal_when_full(&self) {
        let full = {
            let memory = self.memory();
            memory.hot_intervals >= HOT_INTERVALS || memory.log_bytes >= LOG_BYTES
        };
        if full && !self.inner.packing.swap(true, Ordering::AcqRel) {
            let store = self.clone();
            tokio::spawn(async move {
                let result = store.seal().await;
                store.inner.packing.store(false, Ordering::Release);
                if let Err(e) = result {
                    tracing::error!("packing readings failed, they stay in the log: {e}");
                }
            });
        }
    }

    /// Waits for packing when memory holds twice as much as it should.
    pub(crate) async fn wait_for_room(&self) -> Result<(), StoreError> {
        let over = {
            let memory = self.memory();
            memory.hot_intervals >= 2 * HOT_INTERVALS || memory.log_bytes >= 2 * LOG_BYTES
        };
        if over { self.seal().await } else { Ok(()) }
    }
}

/// What is written of a meter when the log is trimmed.
struct KnownMeter {
    key: i64,
    state: StoredState,
    windows: Vec<(u64, Vec<u8>)>,
}

impl KnownMeter {
    async fn write(&self, tx: &mut sqlx::SqliteConnection) -> Result<(), StoreError> {
        sqlx::query("UPDATE meter SET state = $2 WHERE id = $1")
            .bind(self.key)
            .bind(serde_json::to_vec(&self.state)?)
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM dedupe WHERE meter = $1").bind(self.key).execute(&mut *tx).await?;
        let mut insert = QueryBuilder::new("INSERT INTO dedupe (meter, boot, ordinal, body) ");
        let numbered = (0_i64..).zip(&self.windows);
        insert.push_values(numbered, |mut row, (ordinal, (boot, body))| {
            row.push_bind(self.key).push_bind(id_in(*boot)).push_bind(ordinal).push_bind(body);
        });
        if !self.windows.is_empty() {
            insert.build().execute(&mut *tx).await?;
        }
        Ok(())
    }
}

/// Merges blocks into a file; with a position, the file then contains the log up to there.
async fn write_blocks(writer: &Writer, blocks: &[((i64, i64), &Day)], position: Option<i64>) -> Result<(), StoreError> {
    let mut tx = writer.begin("blocks.pack").await?;
    for rows in blocks.chunks(ROWS) {
        let mut select = QueryBuilder::new("SELECT day, meter, body FROM block WHERE (day, meter) IN ( ");
        select.push_values(rows, |mut row, ((day, meter), _)| {
            row.push_bind(*day).push_bind(*meter);
        });
        select.push(")");
        let mut held = BTreeMap::new();
        for row in select.build().fetch_all(&mut *tx).await? {
            let (day, meter): (i64, i64) = (row.get(0), row.get(1));
            held.insert((day, meter), decode(row.get(2), day, meter)?);
        }
        let mut upsert = QueryBuilder::new("INSERT INTO block (day, meter, body) ");
        upsert.push_values(rows, |mut row, (key, day)| {
            let body = match held.remove(key) {
                Some(mut merged) => {
                    merged.merge_all(day);
                    merged.encode(key.0)
                }
                None => day.encode(key.0),
            };
            row.push_bind(key.0).push_bind(key.1).push_bind(body);
        });
        upsert.push(" ON CONFLICT (day, meter) DO UPDATE SET body = excluded.body");
        upsert.build().execute(&mut *tx).await?;
    }
    if let Some(position) = position {
        sqlx::query(
            "INSERT INTO applied (one, position) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET position = excluded.position",
        )
        .bind(position)
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await
}

/// A stored block as a day.
pub(crate) fn decode(body: &[u8], day: i64, meter: i64) -> Result<Day, StoreError> {
    Day::decode(body, day).map_err(|e| StoreError::damaged(format!("{e} (day {day}, meter number {meter})")))
}

/// Packed days by meter.
pub(crate) type Packed = std::collections::HashMap<MeterIndex, Days>;

impl Store {
    /// The packed days that are there, of each meter the days asked for.
    pub(crate) async fn packed_days(&self, wanted: &BTreeMap<MeterIndex, Vec<i64>>) -> Result<Packed, StoreError> {
        let mut packed = Packed::new();
        let days = || wanted.values().flatten().copied();
        let (Some(from), Some(to)) = (days().min(), days().max()) else { return Ok(packed) };
        for (file, pool) in self.inner.months.between(from, to).await? {
            let (first, last) = file.days();
            let keys: Vec<(i64, i64)> = wanted
                .iter()
                .flat_map(|(meter, days)| days.iter().map(|day| (*day, key_of(*meter))))
                .filter(|(day, _)| (first..=last).contains(day))
                .collect();
            for rows in keys.chunks(ROWS) {
                let mut select = QueryBuilder::new("SELECT day, meter, body FROM block WHERE (day, meter) IN ( ");
                select.push_values(rows, |mut row, (day, meter)| {
                    row.push_bind(*day).push_bind(*meter);
                });
                select.push(")");
                for row in select.build().fetch_all(&pool).await? {
                    let (day, meter): (i64, i64) = (row.get(0), row.get(1));
                    let index = usize::try_from(meter - 1).map_err(|_| StoreError::damaged("a meter's number"))?;
                    let key = DayKey { day, misplaced: file.is_misplaced() };
                    packed.entry(index).or_default().insert(key, decode(row.get(2), day, meter)?);
                }
            }
        }
        Ok(packed)
    }
}
