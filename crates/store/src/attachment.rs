//! Files attached to cases: photos, reports. Kept in the database with their hash; what they may be is checked here, by their
//! first bytes and not by what the sender says.

use metering::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    audit::{self, hex},
    case,
    change::Change,
    directory::{Store, id_in, id_out, time},
    error::StoreError,
};

/// Largest file, bytes.
pub const ATTACHMENT_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Most files of one case.
const FILES_MAX: i64 = 50;
/// Longest name, bytes.
const NAME_BYTES_MAX: usize = 100;

/// A file to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAttachment {
    /// Its name, as the sender calls it; directories and odd characters are taken out.
    pub name: String,
    /// Its content.
    pub body: Vec<u8>,
}

/// A file as stored, without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its number.
    pub id: u64,
    /// The case it belongs to.
    pub case: u64,
    /// Its name.
    pub name: String,
    /// Its type, found from its content.
    pub content_type: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, hexadecimal.
    pub sha256: String,
    /// Who attached it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// A file with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedFile {
    /// What is known of it.
    pub attachment: Attachment,
    /// Its content.
    pub body: Vec<u8>,
}

impl Store {
    /// Attaches a file to a case; in its history and the audit.
    ///
    /// # Errors
    /// When there is no such case, or the file is too large, empty, or of a type that is not taken.
    pub async fn attach(
        &self,
        case: u64,
        new: NewAttachment,
        by: &str,
        now: Timestamp,
    ) -> Result<Attachment, StoreError> {
        let (name, content_type) = (clean_name(&new.name), check(&new.body)?);
        let sha256 = hex(&Sha256::digest(&new.body));
        let mut tx = self.inner.main.begin("case.attach").await?;
        let mut file = case::read(&mut tx, case).await?;
        let held: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM attachment WHERE case_id = $1")
            .bind(id_in(case))
            .fetch_one(&mut *tx)
            .await?;
        if held >= FILES_MAX {
            return Err(StoreError::Refused(format!("the case has {FILES_MAX} files: put more into one PDF")));
        }
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO attachment (case_id, name, content_type, bytes, sha256, by_whom, at, body)
             VALUES ($1,$2,$3,$4,$5,$6,$7,$8) RETURNING id",
        )
        .bind(id_in(case))
        .bind(&name)
        .bind(content_type)
        .bind(i64::try_from(new.body.len()).unwrap_or(i64::MAX))
        .bind(&sha256)
        .bind(by)
        .bind(now.0)
        .bind(&new.body)
        .fetch_one(&mut *tx)
        .await?;
        file.attached(id_out(id), &name, &sha256, by, now).map_err(|e| StoreError::Refused(e.to_string()))?;
        case::write(&mut tx, &file).await?;
        let detail = format!("attachment {id}: {name}, {content_type}, {} bytes, SHA-256 {sha256}", new.body.len());
        audit::record(
            &mut tx,
            now,
            audit::Entry { by, action: "case.attach", subject: format!("case:{case}"), detail },
        )
        .await?;
        tx.commit().await?;
        self.announce(Change::Case { id: case });
        Ok(Attachment {
            id: id_out(id),
            case,
            name,
            content_type: content_type.to_owned(),
            bytes: u64::try_from(new.body.len()).unwrap_or(u64::MAX),
            sha256,
            by: by.to_owned(),
            at: now,
        })
    }

    /// The files of a case, in the order they came.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn attachments(&self, case: u64) -> Result<Vec<Attachment>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, case_id, name, content_type, bytes, sha256, by_whom, at FROM attachment
             WHERE case_id = $1 ORDER BY id",
        )
        .bind(id_in(case))
        .fetch_all(&self.inner.main_read)
        .await?;
        Ok(rows.iter().map(out).collect())
    }

    /// One file of a case with its content.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn attachment(&self, case: u64, id: u64) -> Result<Option<AttachedFile>, StoreError> {
        let row = sqlx::query(
            "SELECT id, case_id, name, content_type, bytes, sha256, by_whom, at, body FROM attachment
             WHERE case_id = $1 AND id = $2",
        )
        .bind(id_in(case))
        .bind(id_in(id))
        .fetch_optional(&self.inner.main_read)
        .await?;
        Ok(row.map(|row| AttachedFile { attachment: out(&row), body: row.get(8) }))
    }
}

fn out(row: &SqliteRow) -> Attachment {
    Attachment {
        id: id_out(row.get(0)),
        case: id_out(row.get(1)),
        name: row.get(2),
        content_type: row.get(3),
        bytes: id_out(row.get(4)),
        sha256: row.get(5),
        by: row.get(6),
        at: time(row.get(7)),
    }
}

/// The type of a file that is taken.
fn check(body: &[u8]) -> Result<&'static str, StoreError> {
    let refused = |why: &str| Err(StoreError::Invalid(why.to_owned()));
    if body.is_empty() {
        return refused("the file is empty: choose one with content");
    }
    if body.len() > ATTACHMENT_BYTES_MAX {
        return refused("the file is larger than 5 MB: make the picture smaller or split the report");
    }
    let is_text = |body: &[u8]| {
        std::str::from_utf8(body)
            .is_ok_and(|text| text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t')))
    };
    match body {
        [0xFF, 0xD8, 0xFF, ..] => Ok("image/jpeg"),
        [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => Ok("image/png"),
        [b'%', b'P', b'D', b'F', b'-', ..] => Ok("application/pdf"),
        text if is_text(text) => Ok("text/plain; charset=utf-8"),
        _ => refused("files are taken as JPEG, PNG, PDF or plain text; this is none of them"),
    }
}

/// A name that is safe in a header and on every file system.
fn clean_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String =
        last.chars().map(|c| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ') { c } else { '_' }).collect();
    let clean = clean.trim_matches(['.', ' ']);
    let clean = &clean[..clean.floor_char_boundary(NAME_BYTES_MAX)];
    if clean.is_empty() { "file".to_owned() } else { clean.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides_the_type_and_names_are_harmless() {
        assert_eq!(check(&[0xFF, 0xD8, 0xFF, 0xE0]).expect("taken"), "image/jpeg");
        assert_eq!(check(b"%PDF-1.7 ...").expect("taken"), "application/pdf");
        assert_eq!(check("Plombe gebrochen, ₹ 400\n".as_bytes()).expect("taken"), "text/plain; charset=utf-8");
        assert!(check(b"MZ\x90\x00").is_err() && check(b"").is_err());
        assert!(check(&vec![b'a'; ATTACHMENT_BYTES_MAX + 1]).is_err());
        assert_eq!(clean_name("../../etc/pass\"wd\r\n.jpg"), "pass_wd__.jpg");
        assert_eq!(clean_name("C:\\photos\\seal.png"), "seal.png");
        assert_eq!(clean_name("..."), "file");
    }
}
