//! Readings that come long after their time: their days are noted with them, until the balances of these days were computed again.

use std::collections::BTreeSet;

use metering::{MeterId, Timestamp};
use sqlx::{Row, SqliteConnection};

use crate::{
    block::day_of,
    directory::{Store, id_in, id_out},
    error::StoreError,
    hot::MeterIndex,
    ingest::Batch,
    write::key_of,
};

/// Later than this after the end of its interval, a reading is looked at by its day, seconds. Balances younger than two days are computed
/// again every hour anyway.
const LATE_SECONDS: u32 = 36 * 3_600;

/// A day of a meter that readings came for long after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateDay {
    id: u64,
    /// The meter.
    pub meter: MeterId,
    /// Begin of the UTC day.
    pub begin: Timestamp,
}

/// Notes the days of late readings in the transaction that stores them.
pub(crate) async fn note(tx: &mut SqliteConnection, batch: &Batch) -> Result<(), StoreError> {
    let late = batch.intervals.iter().filter(|(_, _, interval)| interval.late_s >= LATE_SECONDS);
    let days: BTreeSet<(MeterIndex, i64)> =
        late.map(|(meter, _, interval)| (*meter, day_of(Timestamp(interval.end)))).collect();
    for (meter, day) in days {
        // Another number: whoever looks at the day now does not strike off what came meanwhile.
        sqlx::query(
            "INSERT INTO late_day (meter, day) VALUES ($1, $2)
             ON CONFLICT (meter, day) DO UPDATE SET id = (SELECT MAX(id) + 1 FROM late_day)",
        )
        .bind(key_of(meter))
        .bind(day)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

impl Store {
    /// Days for which readings came late and that nobody has struck off, the oldest note first; at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn late_days(&self, limit: u32) -> Result<Vec<LateDay>, StoreError> {
        let rows = sqlx::query(
            "SELECT l.id, m.name, l.day FROM late_day l JOIN meter m ON m.id = l.meter ORDER BY l.id LIMIT $1",
        )
        .bind(limit)
        .fetch_all(&self.inner.log_read)
        .await?;
        let one = |row: &sqlx::sqlite::SqliteRow| {
            let meter = crate::master::meter_id(row.get(1))?;
            Ok(LateDay { id: id_out(row.get(0)), meter, begin: Timestamp(row.get::<i64, _>(2) * 86_400) })
        };
        rows.iter().map(one).collect()
    }

    /// Strikes off days whose balances were computed again and written. Readings that came since they were read stay noted.
    ///
    /// # Errors
    /// When the database fails: they are looked at once more then.
    pub async fn strike_off_late(&self, days: &[LateDay]) -> Result<(), StoreError> {
        self.inner
            .log
            .transaction("late.strike_off", async |tx| {
                for day in days {
                    sqlx::query("DELETE FROM late_day WHERE id = $1").bind(id_in(day.id)).execute(&mut *tx).await?;
                }
                Ok(())
            })
            .await
    }

    /// How far readings reach: the end that one meter in a hundred (and at least one) has reached. One meter whose clock is ahead does not
    /// move it where there are many. `None` before the first reading.
    pub fn readings_reach(&self) -> Option<Timestamp> {
        let memory = self.memory();
        let mut ends: Vec<Timestamp> = memory.latest.iter().flatten().filter_map(|latest| latest.profile_end).collect();
        let place = ends.len().checked_sub(1 + ends.len() / 100)?;
        Some(*ends.select_nth_unstable(place).1)
    }
}
