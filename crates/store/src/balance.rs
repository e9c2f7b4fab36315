//! Energy balances, packed: one row per zone and UTC day, not one per interval. Values are kept to the bit.

use std::collections::BTreeMap;

use losses::balance::EnergyBalance;
use metering::{Timestamp, ZoneId};
use sqlx::{Row, SqliteConnection};

use crate::{block::day_of, directory::Store, error::StoreError};

const VERSION: u8 = 1;
/// Offset in the day (4), minutes (2), seven 8-byte floats.
const RECORD_BYTES: usize = 4 + 2 + 7 * 8;

impl Store {
    /// Balances of a zone whose intervals end in (`after`, `to`], ascending.
    ///
    /// # Errors
    /// When the database fails or a row is damaged.
    pub async fn balances(
        &self,
        zone: ZoneId,
        after: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<EnergyBalance>, StoreError> {
        if to <= after {
            return Ok(Vec::new());
        }
        let rows =
            sqlx::query("SELECT day, body FROM balance_day WHERE zone = $1 AND day BETWEEN $2 AND $3 ORDER BY day")
                .bind(zone.as_str())
                .bind(day_of(after.plus(1)))
                .bind(day_of(to))
                .fetch_all(&self.inner.main_read)
                .await?;
        let mut found = Vec::new();
        for row in &rows {
            found.extend(unpack(zone, row.get(0), row.get(1))?);
        }
        found.retain(|balance| balance.end > after && balance.end <= to);
        Ok(found)
    }

    /// The newest balance of every zone that has one ending in (`after`, `to`].
    ///
    /// # Errors
    /// When the database fails or a row is damaged.
    pub async fn newest_balances(&self, after: Timestamp, to: Timestamp) -> Result<Vec<EnergyBalance>, StoreError> {
        let rows =
            sqlx::query("SELECT zone, day, body FROM balance_day WHERE day BETWEEN $1 AND $2 ORDER BY zone, day")
                .bind(day_of(after.plus(1)))
                .bind(day_of(to))
                .fetch_all(&self.inner.main_read)
                .await?;
        let mut newest = BTreeMap::new();
        for row in &rows {
            let zone = ZoneId::new(row.get(0)).map_err(|e| StoreError::damaged(format!("a zone's name: {e}")))?;
            let in_range = |b: &EnergyBalance| b.end > after && b.end <= to;
            if let Some(balance) = unpack(zone, row.get(1), row.get(2))?.into_iter().rfind(in_range) {
                newest.insert(zone, balance);
            }
        }
        Ok(newest.into_values().collect())
    }
}

/// Removes what ends after a time, within a transaction.
pub(crate) async fn forget_after(tx: &mut SqliteConnection, after: Timestamp) -> Result<(), StoreError> {
    let last = day_of(after);
    let rows = sqlx::query("SELECT zone, body FROM balance_day WHERE day = $1").bind(last).fetch_all(&mut *tx).await?;
    for row in &rows {
        let name: &str = row.get(0);
        let zone = ZoneId::new(name).map_err(|e| StoreError::damaged(format!("a zone's name: {e}")))?;
        let mut kept = unpack(zone, last, row.get(1))?;
        kept.retain(|balance| balance.end <= after);
        sqlx::query("UPDATE balance_day SET body = $3 WHERE zone = $1 AND day = $2")
            .bind(name)
            .bind(last)
            .bind(pack(last, kept.iter()))
            .execute(&mut *tx)
            .await?;
    }
    sqlx::query("DELETE FROM balance_day WHERE day > $1").bind(last).execute(&mut *tx).await?;
    Ok(())
}

/// Writes balances within a slot's transaction.
pub(crate) async fn write(tx: &mut SqliteConnection, balances: &[(ZoneId, EnergyBalance)]) -> Result<(), StoreError> {
    let mut days: BTreeMap<(ZoneId, i64), Vec<&EnergyBalance>> = BTreeMap::new();
    for (zone, balance) in balances {
        days.entry((*zone, day_of(balance.end))).or_default().push(balance);
    }
    for ((zone, day), new) in days {
        let old: Option<Vec<u8>> = sqlx::query_scalar("SELECT body FROM balance_day WHERE zone = $1 AND day = $2")
            .bind(zone.as_str())
            .bind(day)
            .fetch_optional(&mut *tx)
            .await?;
        let old = old.map(|body| unpack(zone, day, &body)).transpose()?.unwrap_or_default();
        let mut by_end: BTreeMap<Timestamp, EnergyBalance> = old.into_iter().map(|b| (b.end, b)).collect();
        by_end.extend(new.into_iter().map(|b| (b.end, *b)));
        sqlx::query(
            "INSERT INTO balance_day (zone, day, body) VALUES ($1,$2,$3)
             ON CONFLICT (zone, day) DO UPDATE SET body = excluded.body",
        )
        .bind(zone.as_str())
        .bind(day)
        .bind(pack(day, by_end.values()))
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

pub(crate) fn pack<'a>(day: i64, balances: impl Iterator<Item = &'a EnergyBalance>) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    for b in balances {
        let offset = u32::try_from(b.end.0 - day * 86_400).unwrap_or_default();
        bytes.extend(offset.to_le_bytes());
        bytes.extend(b.minutes.to_le_bytes());
        for value in [
            b.supplied_wh,
            b.metered_wh,
            b.technical_wh,
            b.unaccounted_wh,
            b.sigma_random_wh,
            b.sigma_systematic_wh,
            b.coverage,
        ] {
            bytes.extend(value.to_bits().to_le_bytes());
        }
    }
    bytes
}

pub(crate) fn unpack(zone: ZoneId, day: i64, body: &[u8]) -> Result<Vec<EnergyBalance>, StoreError> {
    let damaged = || StoreError::damaged(format!("the balances of zone {zone}, day {day}"));
    let Some((&VERSION, records)) = body.split_first() else { return Err(damaged()) };
    if records.len() % RECORD_BYTES != 0 {
        return Err(damaged());
    }
    records
        .chunks_exact(RECORD_BYTES)
        .map(|record| {
            let offset = u32::from_le_bytes(record[..4].try_into().map_err(|_| damaged())?);
            let minutes = u16::from_le_bytes(record[4..6].try_into().map_err(|_| damaged())?);
            let value = |i: usize| {
                let start = 6 + 8 * i;
                let mut bits = [0; 8];
                bits.copy_from_slice(&record[start..start + 8]);
                f64::from_bits(u64::from_le_bytes(bits))
            };
            Ok(EnergyBalance {
                zone,
                end: Timestamp(day * 86_400 + i64::from(offset)),
                minutes,
                supplied_wh: value(0),
                metered_wh: value(1),
                technical_wh: value(2),
                unaccounted_wh: value(3),
                sigma_random_wh: value(4),
                sigma_systematic_wh: value(5),
                coverage: value(6),
            })
        })
        .collect()
}
