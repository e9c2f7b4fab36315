//! The audit trail: who did what to what, when. Each row's hash covers the row before, so that a changed or removed row shows.

use metering::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::{QueryBuilder, Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    directory::{Store, id_in, id_out, time},
    error::StoreError,
};

/// Rows in one statement.
const ROWS: usize = 50;
/// Rows read at a time when verifying.
const VERIFY_ROWS: i64 = 1_000;

/// One row of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Grows by one.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// Who: a person's name, `policy:<name>` or `system`.
    pub by: String,
    /// What was done, e.g. `control.request`.
    pub action: String,
    /// To what, e.g. `meter:M-1`.
    pub subject: String,
    /// Particulars.
    pub detail: String,
    /// SHA-256 over the previous row's hash and this row's fields, hexadecimal.
    pub hash: String,
}

/// What is to be written.
pub(crate) struct Entry<'a> {
    pub by: &'a str,
    pub action: &'a str,
    pub subject: String,
    pub detail: String,
}

fn chain(previous: &[u8], id: i64, at: i64, entry: &Entry<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"gridtally audit 1");
    hash.update(previous);
    hash.update(id.to_le_bytes());
    hash.update(at.to_le_bytes());
    for field in [entry.by, entry.action, &entry.subject, &entry.detail] {
        hash.update((field.len() as u64).to_le_bytes());
        hash.update(field.as_bytes());
    }
    hash.finalize().into()
}

/// Appends a row within the transaction of what it tells about.
pub(crate) async fn record(tx: &mut SqliteConnection, at: Timestamp, entry: Entry<'_>) -> Result<(), StoreError> {
    record_all(tx, at, [entry]).await
}

/// Appends rows, in their order, within the transaction of what they tell about.
pub(crate) async fn record_all<'a>(
    tx: &mut SqliteConnection,
    at: Timestamp,
    entries: impl IntoIterator<Item = Entry<'a>>,
) -> Result<(), StoreError> {
    let last = sqlx::query("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1").fetch_optional(&mut *tx).await?;
    let (mut id, mut previous) = match last {
        Some(row) => (row.get::<i64, _>(0), row.get::<Vec<u8>, _>(1)),
        None => (0, vec![0; 32]),
    };
    let mut rows = Vec::new();
    for entry in entries {
        id += 1;
        let hash = chain(&previous, id, at.0, &entry).to_vec();
        rows.push((id, entry, std::mem::replace(&mut previous, hash.clone()), hash));
    }
    for rows in rows.chunks(ROWS) {
        let mut insert =
            QueryBuilder::new("INSERT INTO audit (id, at, by_whom, action, subject, detail, previous, hash) ");
        insert.push_values(rows, |mut row, (id, entry, previous, hash)| {
            row.push_bind(*id)
                .push_bind(at.0)
                .push_bind(entry.by.to_owned())
                .push_bind(entry.action.to_owned())
                .push_bind(entry.subject.clone())
                .push_bind(entry.detail.clone())
                .push_bind(previous.clone())
                .push_bind(hash.clone());
        });
        insert.build().execute(&mut *tx).await?;
    }
    Ok(())
}

impl Store {
    /// The newest rows first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        self.audit_before(None, limit).await
    }

    /// Rows with a smaller number than `before` (all when it is left out), newest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_before(&self, before: Option<u64>, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, at, by_whom, action, subject, detail, hash FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(before.map_or(i64::MAX, id_in))
        .bind(i64::from(limit))
        .fetch_all(&self.inner.main_read)
        .await?;
        Ok(rows.iter().map(row_out).collect())
    }

    /// The rows about one subject (e.g. `usage_point:UP-7`), newest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_of(&self, subject: &str, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, at, by_whom, action, subject, detail, hash FROM audit WHERE subject = $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(subject)
        .bind(i64::from(limit))
        .fetch_all(&self.inner.main_read)
        .await?;
        Ok(rows.iter().map(row_out).collect())
    }

    /// The hash of a row, hexadecimal; `None` when there is no such row.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_hash(&self, id: u64) -> Result<Option<String>, StoreError> {
        let hash: Option<Vec<u8>> = sqlx::query_scalar("SELECT hash FROM audit WHERE id = $1")
            .bind(id_in(id))
            .fetch_optional(&self.inner.main_read)
            .await?;
        Ok(hash.map(|hash| hex(&hash)))
    }

    /// Writes a row about something that happened outside the store, e.g. a sign-in or an export.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_note(
        &self,
        by: &str,
        action: &str,
        subject: &str,
        detail: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.inner.main.begin("audit.note").await?;
        let entry = Entry { by, action, subject: subject.to_owned(), detail: detail.to_owned() };
        record(&mut tx, now, entry).await?;
        tx.commit().await
    }

    /// Walks the whole chain; the number of rows when it is whole. A removed tail and a chain computed anew show only against a
    /// hash kept elsewhere ([`Store::audit_hash`]): the server signs the newest one every minute.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] naming the first row that does not fit.
    pub async fn verify_audit(&self) -> Result<u64, StoreError> {
        let (mut expected_id, mut previous) = (1_i64, vec![0; 32]);
        loop {
            let rows = sqlx::query(
                "SELECT id, at, by_whom, action, subject, detail, previous, hash FROM audit WHERE id >= $1 ORDER BY id LIMIT $2",
            )
            .bind(expected_id)
            .bind(VERIFY_ROWS)
            .fetch_all(&self.inner.main_read)
            .await?;
            if rows.is_empty() {
                return Ok(id_out(expected_id - 1));
            }
            for row in &rows {
                let (id, at): (i64, i64) = (row.get(0), row.get(1));
                let entry = Entry { by: row.get(2), action: row.get(3), subject: row.get(4), detail: row.get(5) };
                let hash = chain(&previous, id, at, &entry);
                let fits = id == expected_id && row.get::<&[u8], _>(6) == previous && row.get::<&[u8], _>(7) == hash;
                if !fits {
                    return Err(StoreError::damaged(format!("the audit trail was altered at row {expected_id}")));
                }
                (expected_id, previous) = (id + 1, hash.to_vec());
            }
        }
    }
}

fn row_out(row: &SqliteRow) -> AuditRow {
    AuditRow {
        id: id_out(row.get(0)),
        at: time(row.get(1)),
        by: row.get(2),
        action: row.get(3),
        subject: row.get(4),
        detail: row.get(5),
        hash: hex(row.get::<&[u8], _>(6)),
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).map(char::from).collect()
}
