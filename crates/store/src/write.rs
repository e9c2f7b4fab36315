//! The one transaction of a batch: log row, new meters, events, replies, snapshots, power quality, counters.

use metering::{
    Body, MeterId, Timestamp,
    frame::{Now, PowerQuality},
};
use sqlx::{QueryBuilder, SqliteConnection};

use crate::{
    directory::{Store, id_in},
    error::StoreError,
    hot::MeterIndex,
    ingest::{Batch, NewFrame},
    intake::Intake,
    late, log,
    reading::Quarantined,
};

/// Rows in one statement.
const ROWS: usize = 50;
/// An event by a clock further ahead than this is ordered by its arrival, seconds. Simulated meters run ahead by days.
const EVENT_AHEAD_SECONDS_MAX: i64 = 2 * 86_400;
/// Payloads kept in quarantine.
const QUARANTINE_ROWS: i64 = 10_000;
/// Bytes kept of a payload in quarantine, and of the reason.
const QUARANTINE_BYTES: usize = 4_096;
const QUARANTINE_TEXT: usize = 300;

/// The key of a meter in the files.
pub(crate) fn key_of(meter: MeterIndex) -> i64 {
    i64::try_from(meter).unwrap_or(i64::MAX - 1) + 1
}

impl Store {
    /// Writes a batch; the size of its log row.
    pub(crate) async fn write_batch(&self, batch: &Batch, intake: &mut Intake) -> Result<usize, StoreError> {
        let mut tx = self.inner.log.begin("ingest").await?;
        let first = intake.meters.len() - batch.new_meters.len();
        write_meters(&mut tx, &batch.new_meters, first).await?;
        let mut bytes = 0;
        if !batch.frames.is_empty() {
            let body = log::encode(batch.frames.iter().map(|new| (&new.logged, &new.cbor[..])));
            bytes = body.len();
            let received = batch.frames.iter().map(|new| new.logged.received.0).max().unwrap_or(0);
            sqlx::query("INSERT INTO log (position, received, body) VALUES ($1,$2,$3)")
                .bind(intake.next_position)
                .bind(received)
                .bind(body)
                .execute(&mut *tx)
                .await?;
            intake.next_position += 1;
            write_events(&mut tx, batch).await?;
            write_others(&mut tx, &batch.frames).await?;
            late::note(&mut tx, batch).await?;
        }
        let counts = &intake.counts;
        sqlx::query(
            "UPDATE counter SET next_position = $1, frames = $2, readings = $3, duplicates = $4, conflicts = $5, suspect = $6",
        )
        .bind(intake.next_position)
        .bind(id_in(counts.frames))
        .bind(id_in(counts.readings))
        .bind(id_in(counts.duplicates))
        .bind(id_in(counts.conflicts))
        .bind(id_in(counts.suspect))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(bytes)
    }

    /// Keeps payloads that are no frames: the newest 10,000, all are counted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn quarantine(&self, payloads: Vec<Quarantined>) -> Result<(), StoreError> {
        let count = i64::try_from(payloads.len()).unwrap_or(i64::MAX);
        let mut tx = self.inner.log.begin("quarantine").await?;
        for mut q in payloads {
            q.why.truncate(q.why.floor_char_boundary(QUARANTINE_TEXT));
            q.topic.truncate(q.topic.floor_char_boundary(QUARANTINE_TEXT));
            sqlx::query("INSERT INTO quarantine (meter, topic, why, payload, received) VALUES ($1,$2,$3,$4,$5)")
                .bind(q.meter.as_str())
                .bind(q.topic)
                .bind(q.why)
                .bind(&q.payload[..q.payload.len().min(QUARANTINE_BYTES)])
                .bind(q.received.0)
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query("DELETE FROM quarantine WHERE id <= (SELECT MAX(id) FROM quarantine) - $1")
            .bind(QUARANTINE_ROWS)
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE counter SET quarantined = quarantined + $1").bind(count).execute(&mut *tx).await?;
        tx.commit().await
    }
}

async fn write_meters(tx: &mut SqliteConnection, meters: &[MeterId], first: MeterIndex) -> Result<(), StoreError> {
    let numbered: Vec<(MeterIndex, &MeterId)> = meters.iter().enumerate().map(|(i, m)| (first + i, m)).collect();
    for rows in numbered.chunks(ROWS) {
        let mut insert = QueryBuilder::new("INSERT INTO meter (id, name) ");
        insert.push_values(rows, |mut row, (index, meter)| {
            row.push_bind(key_of(*index)).push_bind(meter.as_str().to_owned());
        });
        insert.build().execute(&mut *tx).await?;
    }
    Ok(())
}

async fn write_events(tx: &mut SqliteConnection, batch: &Batch) -> Result<(), StoreError> {
    for rows in batch.events.chunks(ROWS) {
        let mut insert = QueryBuilder::new("INSERT INTO event (meter, at, received, code, tamper, body) ");
        insert.push_values(rows, |mut row, (meter, received, event)| {
            row.push_bind(key_of(*meter))
                // By this it is ordered and looked for; a clock far ahead must not hold it above all others for years. The event
                // itself keeps what the meter said.
                .push_bind(event.at.min(received.plus(EVENT_AHEAD_SECONDS_MAX)).0)
                .push_bind(received.0)
                .push_bind(i64::from(event.kind.code()))
                .push_bind(i64::from(event.kind.is_tamper()))
                .push_bind(metering::cbor(event));
        });
        insert.build().execute(&mut *tx).await?;
    }
    Ok(())
}

async fn write_others(tx: &mut SqliteConnection, frames: &[NewFrame]) -> Result<(), StoreError> {
    for new in frames {
        let (meter, received) = (key_of(new.meter), new.logged.received);
        match &new.logged.frame.body {
            Body::Reply(reply) => {
                sqlx::query("INSERT INTO reply (meter, control, received, body) VALUES ($1,$2,$3,$4)")
                    .bind(meter)
                    .bind(id_in(reply.control))
                    .bind(received.0)
                    .bind(metering::cbor(reply))
                    .execute(&mut *tx)
                    .await?;
            }
            Body::Snapshot(now) => write_snapshot(tx, meter, received, now).await?,
            Body::Quality(values) => write_quality(tx, meter, received, values).await?,
            Body::Hello(_) | Body::Profile(_) | Body::Now(_) | Body::Event(_) => {}
        }
    }
    Ok(())
}

async fn write_snapshot(
    tx: &mut SqliteConnection,
    meter: i64,
    received: Timestamp,
    now: &Now,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO snapshot (meter, at, received, body) VALUES ($1,$2,$3,$4)
         ON CONFLICT (meter, at) DO UPDATE SET received = excluded.received, body = excluded.body",
    )
    .bind(meter)
    .bind(now.at.0)
    .bind(received.0)
    .bind(metering::cbor(now))
    .execute(tx)
    .await?;
    Ok(())
}

/// Keeps ten-minute values, one row an interval; later ones of the same end replace the earlier.
async fn write_quality(
    tx: &mut SqliteConnection,
    meter: i64,
    received: Timestamp,
    values: &PowerQuality,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO quality (meter, end_at, received, body) VALUES ($1,$2,$3,$4)
         ON CONFLICT (meter, end_at) DO UPDATE SET received = excluded.received, body = excluded.body",
    )
    .bind(meter)
    .bind(values.end.0)
    .bind(received.0)
    .bind(metering::cbor(values))
    .execute(tx)
    .await?;
    Ok(())
}

/// A day's ten-minute values with their arrival, as they were kept until every interval had a row of its own.
pub(crate) fn quality_out(body: &[u8]) -> Result<Vec<(Timestamp, PowerQuality)>, StoreError> {
    minicbor::decode(body).map_err(|e| StoreError::damaged(format!("power-quality values: {e}")))
}
