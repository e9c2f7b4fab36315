//! A file of packed months and the bills made of them: what a billing run reads and writes, without the rest of a data directory.
//!
//! Blocks are those of the month files (one per meter and UTC day, same codec); a portion of meters is read day by day in the order of the
//! key. Bills are rows written in one transaction per portion. It is not yet the ledger: payments and reminders are not here.

use std::path::Path;

use metering::{Quality, Timestamp};
use sqlx::{QueryBuilder, Row, SqlitePool};

use crate::{
    block::{Day, Interval, day_of},
    directory::{Access, migrate, open_file},
    error::StoreError,
    seal::decode,
};

/// Rows of one statement.
const ROWS: usize = 500;
/// Longest month, in steps: one a minute for five weeks.
const STEPS_MAX: i64 = 50_400;

/// An open file.
#[derive(Clone, Debug)]
pub struct BillFile {
    pool: SqlitePool,
}

/// A stretch of equal steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Beginning, Unix seconds.
    pub from_s: i64,
    /// End.
    pub to_s: i64,
    /// Length of a step, seconds; above zero.
    pub step_s: i64,
}

impl Steps {
    fn count(self) -> Result<usize, StoreError> {
        let count = if self.step_s > 0 { (self.to_s - self.from_s) / self.step_s } else { 0 };
        let fits = (1..=STEPS_MAX).contains(&count) && count * self.step_s == self.to_s - self.from_s;
        let wrong =
            || StoreError::Invalid("the steps do not fill the stretch, or are more than five weeks of minutes".into());
        usize::try_from(count).ok().filter(|_| fits).ok_or_else(wrong)
    }
}

/// A bill as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillRow {
    /// Number of the meter.
    pub meter: i64,
    /// Total, minor units.
    pub total: i64,
    /// The bill, as JSON.
    pub body: Vec<u8>,
}

/// Packs the import registers at the ends of the steps of one UTC day.
#[must_use]
pub fn pack_day(day: i64, registers: &[(i64, u64)], step_s: i64) -> Vec<u8> {
    let minutes = u16::try_from(step_s / 60).unwrap_or(u16::MAX);
    let interval = |(end, register): &(i64, u64)| Interval {
        end: *end,
        import: *register,
        minutes,
        quality: Quality::Measured,
        ..Interval::default()
    };
    Day::from_ordered(registers.iter().map(interval).collect()).encode(day)
}

/// The UTC day that an interval ending at `end` belongs to.
#[must_use]
pub fn block_day(end_s: i64) -> i64 {
    day_of(Timestamp(end_s))
}

impl BillFile {
    /// Opens or creates a file.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let pool = open_file(path, Access::Both).await?;
        migrate(&pool, &[include_str!("schema/bills_1.sql")]).await?;
        Ok(Self { pool })
    }

    /// Closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Writes packed days: day, meter, block. One transaction.
    ///
    /// # Errors
    /// When the database fails; nothing is written then.
    pub async fn write_days(&self, blocks: &[(i64, i64, &[u8])]) -> Result<(), StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for rows in blocks.chunks(ROWS) {
            let mut insert = QueryBuilder::new("INSERT INTO block (day, meter, body) ");
            insert.push_values(rows, |mut row, (day, meter, body)| {
                row.push_bind(*day).push_bind(*meter).push_bind(*body);
            });
            insert.build().execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Packed days of the meters `first..=last` that hold ends in (from, to] and the register at `from`: day, meter, block.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn read_days(&self, steps: Steps, first: i64, last: i64) -> Result<Vec<(i64, i64, Vec<u8>)>, StoreError> {
        let mut blocks = Vec::new();
        for day in block_day(steps.from_s)..=block_day(steps.to_s) {
            let query = sqlx::query("SELECT meter, body FROM block WHERE day = $1 AND meter BETWEEN $2 AND $3");
            for row in query.bind(day).bind(first).bind(last).fetch_all(&self.pool).await? {
                blocks.push((day, row.get(0), row.get(1)));
            }
        }
        Ok(blocks)
    }

    /// Writes bills of a period. One transaction, safe on the disk when it returns.
    ///
    /// # Errors
    /// When the database fails; nothing is written then.
    pub async fn write_bills(&self, period: Steps, bills: &[BillRow]) -> Result<(), StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for rows in bills.chunks(ROWS) {
            let mut insert = QueryBuilder::new("INSERT INTO bill (from_s, meter, to_s, total, body) ");
            insert.push_values(rows, |mut row, bill| {
                row.push_bind(period.from_s).push_bind(bill.meter).push_bind(period.to_s);
                row.push_bind(bill.total).push_bind(bill.body.as_slice());
            });
            insert.build().execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    /// How many bills there are and their sum in minor units.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn bills(&self) -> Result<(i64, i64), StoreError> {
        let row = sqlx::query("SELECT count(*), coalesce(sum(total), 0) FROM bill").fetch_one(&self.pool).await?;
        Ok((row.get(0), row.get(1)))
    }
}

/// Imported energy of every step of a meter from its packed days, Wh, into `into`. Blocks may come in any order.
///
/// # Errors
/// When a block is damaged, a register is missing at an end of a step, falls, or rises by more than 32 bits: such a month is not billed
/// without an estimate.
pub fn unpack_month<'a>(
    blocks: impl Iterator<Item = (i64, &'a [u8])>,
    steps: Steps,
    meter: i64,
    into: &mut Vec<u32>,
) -> Result<(), StoreError> {
    let count = steps.count()?;
    let mut registers: Vec<Option<u64>> = vec![None; count + 1];
    for (day, body) in blocks {
        let day = decode(body, day, meter)?;
        for (interval, _) in day.winners() {
            let offset = interval.end - steps.from_s;
            let index =
                usize::try_from(offset / steps.step_s).ok().filter(|_| offset >= 0 && offset % steps.step_s == 0);
            if let Some(slot) = index.and_then(|index| registers.get_mut(index)) {
                *slot = Some(interval.import);
            }
        }
    }
    into.clear();
    for pair in registers.windows(2) {
        let used = pair[0].zip(pair[1]).and_then(|(before, after)| after.checked_sub(before));
        let used = used.and_then(|used| u32::try_from(used).ok());
        into.push(used.ok_or_else(|| {
            StoreError::Invalid(format!(
                "meter number {meter} lacks a register of the period; estimate it before billing"
            ))
        })?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_month_comes_back_from_blocks_and_a_bill_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = BillFile::open(&folder.path().join("bills.db")).await.unwrap();
        let steps = Steps { from_s: 86_400 * 100 + 18 * 3600, to_s: 86_400 * 102 + 18 * 3600, step_s: 900 };
        let mut days: std::collections::BTreeMap<i64, Vec<(i64, u64)>> = std::collections::BTreeMap::new();
        let mut register = 7_000u64;
        for step in 0..=192i64 {
            let end = steps.from_s + step * 900;
            days.entry(block_day(end)).or_default().push((end, register));
            register += u64::try_from(step % 5).unwrap();
        }
        let packed: Vec<_> = days.iter().map(|(day, list)| (*day, pack_day(*day, list, 900))).collect();
        let rows: Vec<_> = packed.iter().map(|(day, body)| (*day, 4, body.as_slice())).collect();
        file.write_days(&rows).await.unwrap();
        let read = file.read_days(steps, 4, 4).await.unwrap();
        let mut used = Vec::new();
        unpack_month(read.iter().map(|(day, _, body)| (*day, body.as_slice())), steps, 4, &mut used).unwrap();
        assert_eq!(used, (0..192).map(|step| step % 5).collect::<Vec<u32>>());
        let missing =
            unpack_month(read.iter().skip(1).map(|(day, _, body)| (*day, body.as_slice())), steps, 4, &mut used);
        assert!(missing.unwrap_err().to_string().contains("estimate"));
        file.write_bills(steps, &[BillRow { meter: 4, total: 1234, body: b"{}".to_vec() }]).await.unwrap();
        assert_eq!(file.bills().await.unwrap(), (1, 1234));
        assert!(
            file.write_bills(steps, &[BillRow { meter: 4, total: 1, body: Vec::new() }]).await.is_err(),
            "billed once"
        );
        file.close().await;
    }
}
