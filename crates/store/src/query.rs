//! Questions about readings, events and counts. Readings come from memory and blocks together: memory is looked at first, so
//! that a day packed meanwhile is seen twice rather than not at all; merging takes care of that.

use std::collections::BTreeMap;

use metering::{
    EventKind, MeterEvent, MeterId, Timestamp,
    frame::{Now, PowerQuality},
    validation::LastReading,
};
use sqlx::{QueryBuilder, Row, Sqlite, SqlitePool};

use crate::{
    block::{Day, Interval, day_of},
    directory::{Store, id_in, id_out, time},
    error::StoreError,
    event::{EventFilter, FoldedEvent, StoredEvent, StoredReply},
    hot::{DayKey, Days, MeterIndex},
    master::meter_id,
    reading::{Counts, Latest, NewestRegister, Quarantined, RegisterSource, StoredQuality, StoredRecord},
    seal::{self, Packed},
    write::{key_of, quality_out},
};

/// Meters in one statement.
const METERS: usize = 200;
/// Events that are looked at for tampering at a time.
const EVENTS_LOOKED_AT: i64 = 100_000;
/// Kinds and days of tamper events given of one meter at a time.
const FOLDED_PER_METER: i64 = 16;

impl Store {
    /// The intervals of a meter that end in (`after`, `to`], ascending, late data in place, one version of each: the newest
    /// plausible one. Everything acknowledged is there, packed or not.
    ///
    /// # Errors
    /// When a database fails or a block is damaged.
    pub async fn profile(
        &self,
        meter: MeterId,
        after: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        Ok(self.profiles(&[meter], after, to).await?.pop().unwrap_or_default())
    }

    /// [`Store::profile`] of many meters, in the order of `meters`.
    ///
    /// # Errors
    /// When a database fails or a block is damaged.
    pub async fn profiles(
        &self,
        meters: &[MeterId],
        after: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<Vec<StoredRecord>>, StoreError> {
        let days = self.days_of(meters, after, to).await?;
        let in_range = |interval: &Interval| interval.end > after.0 && interval.end <= to.0;
        Ok(days
            .iter()
            .map(|days| {
                let winners = days.values().flat_map(Day::winners).filter(|(interval, _)| in_range(interval));
                winners.map(|(interval, others)| interval.to_stored(others)).collect()
            })
            .collect())
    }

    /// Every version kept of the interval that ends at `end`, in the order of arrival.
    ///
    /// # Errors
    /// When a database fails or a block is damaged.
    pub async fn versions(&self, meter: MeterId, end: Timestamp) -> Result<Vec<StoredRecord>, StoreError> {
        let days = self.days_of(&[meter], end.plus(-1), end).await?;
        let versions = days.iter().flat_map(BTreeMap::values).flat_map(Day::by_end).find(|v| v[0].end == end.0);
        Ok(versions.unwrap_or_default().iter().map(|v| v.to_stored(versions.map_or(0, <[_]>::len) - 1)).collect())
    }

    /// The days of meters that hold (`after`, `to`], every version, in the order of `meters`. May hold more than was asked for.
    async fn days_of(
        &self,
        meters: &[MeterId],
        after: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<BTreeMap<i64, Day>>, StoreError> {
        if to <= after {
            return Ok(meters.iter().map(|_| BTreeMap::new()).collect());
        }
        let (from, last) = (day_of(after.plus(1)), day_of(to));
        let (indices, held) = {
            let memory = self.memory();
            let indices: Vec<Option<MeterIndex>> = meters.iter().map(|m| memory.index.get(m).copied()).collect();
            let days = |index: &Option<MeterIndex>| index.map(|i| memory.days(i, after, to)).unwrap_or_default();
            (indices.clone(), indices.iter().map(days).collect::<Vec<_>>())
        };
        let known: Vec<MeterIndex> = indices.iter().copied().flatten().collect();
        let packed = self.packed_between(&known, from, last).await?;
        let merged = |(index, held): (Option<MeterIndex>, Vec<(DayKey, Day)>)| {
            let mut days: BTreeMap<i64, Day> = BTreeMap::new();
            let packed = index.and_then(|index| packed.get(&index));
            for (key, day) in packed.into_iter().flatten() {
                days.entry(key.day).or_default().merge_all(day);
            }
            for (key, day) in held {
                match days.entry(key.day) {
                    std::collections::btree_map::Entry::Vacant(place) => {
                        place.insert(day);
                    }
                    std::collections::btree_map::Entry::Occupied(mut place) => place.get_mut().merge_all(&day),
                }
            }
            days
        };
        Ok(indices.into_iter().zip(held).map(merged).collect())
    }

    /// All packed days of some meters from `from` to `to`.
    async fn packed_between(&self, meters: &[MeterIndex], from: i64, to: i64) -> Result<Packed, StoreError> {
        let mut packed = Packed::new();
        if meters.is_empty() {
            return Ok(packed);
        }
        for (file, pool) in self.inner.months.between(from, to).await? {
            let (first, last) = file.days();
            let (from, to) = (from.max(first), to.min(last));
            for meters in meters.chunks(METERS) {
                let mut select = QueryBuilder::new("SELECT day, meter, body FROM block WHERE ");
                in_days(&mut select, from, to);
                select.push(" AND meter IN (");
                let mut list = select.separated(",");
                meters.iter().for_each(|meter| {
                    list.push(key_of(*meter));
                });
                select.push(")");
                for row in select.build().fetch_all(&pool).await? {
                    let (day, meter): (i64, i64) = (row.get(0), row.get(1));
                    let index = usize::try_from(meter - 1).map_err(|_| StoreError::damaged("a meter's number"))?;
                    let key = DayKey { day, misplaced: file.is_misplaced() };
                    packed.entry(index).or_default().insert(key, seal::decode(row.get(2), day, meter)?);
                }
            }
        }
        Ok(packed)
    }

    /// The newest plausible reading of a meter that ends at or before `at`; the same version as [`Store::profile`] gives.
    ///
    /// # Errors
    /// When a database fails or a block is damaged.
    pub async fn registers_at(&self, meter: MeterId, at: Timestamp) -> Result<Option<LastReading>, StoreError> {
        let mut at = at;
        while let Some(end) = self.newest_end(meter, at).await? {
            // Versions of this end, and what was proved about it later, may lie in memory and in a block: only together do they tell.
            let valid = self.profile(meter, end.plus(-1), end).await?;
            if let Some(valid) = valid.first().filter(|valid| valid.quality.is_trusted()) {
                return Ok(Some(valid.registers()));
            }
            at = end.plus(-1);
        }
        Ok(None)
    }

    /// The newest reading of a meter's registers at `now`: of its instantaneous values, its load profile (trusted readings only) and
    /// what it said at its last start, that with the latest time.
    ///
    /// # Errors
    /// When a database fails or a block is damaged.
    pub async fn newest_register(&self, meter: MeterId, now: Timestamp) -> Result<Option<NewestRegister>, StoreError> {
        let latest = self.latest(meter);
        let values = latest.as_ref().and_then(|latest| latest.now.as_ref()).and_then(|values| {
            let (at, export_wh) = (values.at, values.export_wh);
            values.import_wh.map(|import_wh| NewestRegister { at, import_wh, export_wh, source: RegisterSource::Now })
        });
        let profile = self.registers_at(meter, now).await?.map(|registers| NewestRegister {
            at: registers.end,
            import_wh: registers.import_wh,
            export_wh: Some(registers.export_wh),
            source: RegisterSource::Profile,
        });
        let hello = latest.as_ref().and_then(|latest| latest.hello.as_ref()).and_then(|hello| {
            Some(NewestRegister {
                at: hello.at?,
                import_wh: hello.import_wh,
                export_wh: Some(hello.export_wh),
                source: RegisterSource::Hello,
            })
        });
        Ok([values, profile, hello].into_iter().flatten().max_by_key(|register| register.at))
    }

    /// End of the newest interval with a plausible version at or before `at`.
    async fn newest_end(&self, meter: MeterId, at: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let last = day_of(at);
        let (index, mut best) = {
            let memory = self.memory();
            let Some(&index) = memory.index.get(&meter) else { return Ok(None) };
            let generations = memory.sealing.iter().filter_map(|g| g.days.get(index)).chain(memory.hot.get(index));
            (index, generations.filter_map(|days| newest(days, at)).max())
        };
        for (file, pool) in self.inner.months.between(i64::MIN, last).await?.into_iter().rev() {
            if file.is_misplaced() {
                continue; // nothing there is plausible
            }
            let (first, end) = file.days();
            let (mut to, mut span) = (end.min(last), 1);
            // Backwards in growing steps until a day with a plausible reading turns up.
            while to >= first && best.is_none_or(|best| day_of(best) <= to) {
                let from = first.max(to - span + 1);
                let found = self.newest_packed(&pool, index, (from, to), at).await?;
                best = best.max(found);
                if found.is_some() {
                    return Ok(best);
                }
                (to, span) = (from - 1, span * 2);
            }
        }
        Ok(best)
    }

    /// End of the newest plausible interval at or before `at` in some days of a file.
    async fn newest_packed(
        &self,
        pool: &SqlitePool,
        meter: MeterIndex,
        (from, to): (i64, i64),
        at: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut select = QueryBuilder::new("SELECT day, body FROM block WHERE ");
        in_days(&mut select, from, to);
        select.push(" AND meter = ").push_bind(key_of(meter)).push(" ORDER BY day DESC");
        for row in select.build().fetch_all(pool).await? {
            let day: i64 = row.get(0);
            let packed = seal::decode(row.get(1), day, key_of(meter))?;
            let found = newest(&Days::from([(DayKey { day, misplaced: false }, packed)]), at);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Events, newest first (with `after_id`: in the order of storing).
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events(&self, filter: EventFilter) -> Result<Vec<StoredEvent>, StoreError> {
        let mut select = QueryBuilder::new(
            "SELECT e.id, m.name, e.received, e.body FROM event e JOIN meter m ON m.id = e.meter WHERE TRUE",
        );
        if let Some(meter) = filter.meter {
            let Some(index) = self.memory().index.get(&meter).copied() else { return Ok(Vec::new()) };
            select.push(" AND e.meter = ").push_bind(key_of(index));
        }
        if let Some(after) = filter.after {
            select.push(" AND e.at > ").push_bind(after.0);
        }
        if let Some(to) = filter.to {
            select.push(" AND e.at <= ").push_bind(to.0);
        }
        if let Some(id) = filter.before {
            // By the column: an event by a wrong clock stands where it was received.
            select.push(" AND (e.at, e.id) < (SELECT at, id FROM event WHERE id = ").push_bind(id_in(id)).push(")");
        }
        if !filter.kinds.is_empty() {
            select.push(" AND e.code IN (");
            let mut list = select.separated(",");
            filter.kinds.iter().for_each(|kind: &EventKind| {
                list.push_bind(i64::from(kind.code()));
            });
            select.push(")");
        }
        if filter.tamper_only {
            select.push(" AND e.tamper = 1");
        }
        match filter.after_id {
            Some(id) => select.push(" AND e.id > ").push_bind(id_in(id)).push(" ORDER BY e.id"),
            None => select.push(" ORDER BY e.at DESC, e.id DESC"),
        };
        if filter.limit > 0 {
            select.push(" LIMIT ").push_bind(i64::from(filter.limit));
        }
        let rows = select.build().fetch_all(&self.inner.log_read).await?;
        rows.iter()
            .map(|row| {
                let event: MeterEvent = from_cbor(row.get(3), "an event")?;
                let (id, meter, received) = (id_out(row.get(0)), meter_id(row.get(1))?, time(row.get(2)));
                Ok(StoredEvent { id, meter, received, event })
            })
            .collect()
    }

    /// Tamper events stored after the event with this id, folded, and the id up to which they were looked at; `None` when no event of
    /// any kind came. However much one meter sends, it fills no more than its own share: a few events of each meter are given, the
    /// earliest of each kind and day.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tampering_since(&self, after: u64) -> Result<Option<(Vec<FoldedEvent>, u64)>, StoreError> {
        let mut tx = self.inner.log_read.begin().await?;
        let newest: Option<i64> = sqlx::query_scalar("SELECT MAX(id) FROM event").fetch_one(&mut *tx).await?;
        let Some(newest) = newest.filter(|newest| *newest > id_in(after)) else { return Ok(None) };
        let through = newest.min(id_in(after).saturating_add(EVENTS_LOOKED_AT));
        let rows = sqlx::query(
            "SELECT e.id, m.name, e.received, e.body, f.n FROM (
                 SELECT MIN(id) AS first, COUNT(*) AS n, ROW_NUMBER() OVER (PARTITION BY meter ORDER BY MIN(id)) AS place
                 FROM event WHERE id > $1 AND id <= $2 AND tamper = 1 GROUP BY meter, code, at / 86400
             ) f JOIN event e ON e.id = f.first JOIN meter m ON m.id = e.meter
             WHERE f.place <= $3 ORDER BY e.id",
        )
        .bind(id_in(after))
        .bind(through)
        .bind(FOLDED_PER_METER)
        .fetch_all(&mut *tx)
        .await?;
        let folded = rows
            .iter()
            .map(|row| {
                let event = from_cbor(row.get(3), "an event")?;
                let (id, meter, received) = (id_out(row.get(0)), meter_id(row.get(1))?, time(row.get(2)));
                Ok(FoldedEvent { event: StoredEvent { id, meter, received, event }, count: id_out(row.get(4)) })
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(Some((folded, id_out(through))))
    }

    /// Answers to a control, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn replies(&self, control: u64) -> Result<Vec<StoredReply>, StoreError> {
        let rows = sqlx::query(
            "SELECT r.id, m.name, r.received, r.body FROM reply r JOIN meter m ON m.id = r.meter
             WHERE r.control = $1 ORDER BY r.id",
        )
        .bind(id_in(control))
        .fetch_all(&self.inner.log_read)
        .await?;
        rows.iter()
            .map(|row| {
                let reply = from_cbor(row.get(3), "a reply")?;
                let (id, meter, received) = (id_out(row.get(0)), meter_id(row.get(1))?, time(row.get(2)));
                Ok(StoredReply { id, meter, received, reply })
            })
            .collect()
    }

    /// Snapshots of a meter taken in (`after`, `to`], ascending.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn snapshots(&self, meter: MeterId, after: Timestamp, to: Timestamp) -> Result<Vec<Now>, StoreError> {
        let rows = sqlx::query(
            "SELECT s.body FROM snapshot s JOIN meter m ON m.id = s.meter
             WHERE m.name = $1 AND s.at > $2 AND s.at <= $3 ORDER BY s.at",
        )
        .bind(meter.as_str())
        .bind(after.0)
        .bind(to.0)
        .fetch_all(&self.inner.log_read)
        .await?;
        rows.iter().map(|row| from_cbor(row.get(0), "a snapshot")).collect()
    }

    /// Ten-minute power-quality values of a meter that end in (`after`, `to`], ascending.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn quality(
        &self,
        meter: MeterId,
        after: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<StoredQuality>, StoreError> {
        let days = sqlx::query(
            "SELECT q.body FROM quality_day q JOIN meter m ON m.id = q.meter
             WHERE m.name = $1 AND q.day BETWEEN $2 AND $3 ORDER BY q.day",
        )
        .bind(meter.as_str())
        .bind(day_of(after.plus(1)))
        .bind(day_of(to))
        .fetch_all(&self.inner.log_read)
        .await?;
        let mut found = BTreeMap::new();
        for row in &days {
            let day = quality_out(row.get(0))?.into_iter().filter(|(_, values)| values.end > after && values.end <= to);
            found.extend(day.map(|(received, values)| (values.end, StoredQuality { received, values })));
        }
        let rows = sqlx::query(
            "SELECT q.received, q.body FROM quality q JOIN meter m ON m.id = q.meter
             WHERE m.name = $1 AND q.end_at > $2 AND q.end_at <= $3",
        )
        .bind(meter.as_str())
        .bind(after.0)
        .bind(to.0)
        .fetch_all(&self.inner.log_read)
        .await?;
        for row in &rows {
            let values: PowerQuality = from_cbor(row.get(1), "power-quality values")?;
            found.insert(values.end, StoredQuality { received: time(row.get(0)), values });
        }
        Ok(found.into_values().collect())
    }

    /// The newest payloads that were no frames, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn quarantined(&self, limit: u32) -> Result<Vec<Quarantined>, StoreError> {
        let rows = sqlx::query("SELECT meter, topic, why, payload, received FROM quarantine ORDER BY id DESC LIMIT $1")
            .bind(i64::from(limit))
            .fetch_all(&self.inner.log_read)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Quarantined {
                    meter: meter_id(row.get(0))?,
                    topic: row.get(1),
                    why: row.get(2),
                    payload: row.get::<Vec<u8>, _>(3).into(),
                    received: time(row.get(4)),
                })
            })
            .collect()
    }

    /// The newest that is known of a meter, from memory; `None` when it never sent anything.
    pub fn latest(&self, meter: MeterId) -> Option<Latest> {
        let memory = self.memory();
        memory.latest.get(*memory.index.get(&meter)?)?.clone()
    }

    /// How much there is.
    ///
    /// # Errors
    /// When a database fails.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        let mut counts = self.memory().counts;
        let quarantined: i64 =
            sqlx::query_scalar("SELECT quarantined FROM counter WHERE one = 1").fetch_one(&self.inner.log_read).await?;
        counts.quarantined = id_out(quarantined);
        let at = |e: std::io::Error| StoreError::Directory { path: self.inner.dir.clone(), why: e.to_string() };
        for entry in std::fs::read_dir(&self.inner.dir).map_err(at)? {
            let entry = entry.map_err(at)?;
            // A file may go away while we look (a journal after a checkpoint).
            let Ok(bytes) = entry.metadata().map(|m| m.len()) else { continue };
            counts.bytes_on_disk += bytes;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with("blocks-")) {
                counts.block_bytes += bytes;
            }
        }
        Ok(counts)
    }
}

/// Restricts a statement to days. A short span is listed, so that the key (day, meter) is sought and not walked.
fn in_days(select: &mut QueryBuilder<Sqlite>, from: i64, to: i64) {
    if to.saturating_sub(from) > 62 {
        select.push("day BETWEEN ").push_bind(from).push(" AND ").push_bind(to);
        return;
    }
    select.push("day IN (");
    let mut list = select.separated(",");
    for day in from..=to {
        list.push(day);
    }
    select.push(")");
}

/// End of the newest plausible interval in some days that ends at or before `at`.
fn newest(days: &Days, at: Timestamp) -> Option<Timestamp> {
    let high = DayKey { day: day_of(at), misplaced: true };
    days.range(..=high).rev().find_map(|(_, day)| {
        let all = day.all();
        let known = &all[..all.partition_point(|i| i.end <= at.0)];
        let own = known.iter().rev().find(|interval| interval.is_plausible()).map(|interval| Timestamp(interval.end));
        // A reading in a block that was proved right since.
        let proved = day.remarks().iter().filter(|remark| remark.quality.is_trusted()).map(|remark| remark.reading.end);
        own.into_iter().chain(proved.filter(|end| *end <= at)).max()
    })
}

fn from_cbor<'b, T: minicbor::Decode<'b, ()>>(body: &'b [u8], what: &str) -> Result<T, StoreError> {
    minicbor::decode(body).map_err(|e| StoreError::damaged(format!("{what}: {e}")))
}
