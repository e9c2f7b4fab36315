//! Programs and their tokens: made, listed with their last use, expiring, taken back. Of a token only the SHA-256 is stored.

use metering::Timestamp;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    audit,
    directory::{Store, time},
    error::StoreError,
    pending::{Guarded, GuardedChange},
    people::{Role, check_name, role_out},
    sessions::{new_token, sha256},
};

/// Last uses are written down so often, seconds: reading by a program must not become a write each time.
const LAST_USE_SECONDS: i64 = 60;
/// Most tokens.
const TOKENS_MAX: i64 = 1_000;

/// A program's permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Name given when it was made.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When made.
    pub created_at: Timestamp,
    /// When it ends; `None` when it does not.
    pub expires: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used: Option<Timestamp>,
}

/// A token to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Name of the program; a token of the same name is replaced.
    pub name: String,
    /// What it may do: an operator's or an engineer's.
    pub role: Role,
    /// When it ends; `None` when it does not.
    pub expires: Option<Timestamp>,
}

impl Store {
    /// Makes a token for a program that does not end by itself. The same name again replaces its token.
    ///
    /// # Errors
    /// When the name is not usable.
    pub async fn create_api_token(
        &self,
        name: &str,
        role: Role,
        by: &str,
        now: Timestamp,
    ) -> Result<String, StoreError> {
        self.issue_api_token(NewToken { name: name.to_owned(), role, expires: None }, by, now).await
    }

    /// Makes a token for a program.
    ///
    /// # Errors
    /// When the name is not usable, the token would have ended already, or there are too many.
    pub async fn issue_api_token(&self, new: NewToken, by: &str, now: Timestamp) -> Result<String, StoreError> {
        is_usable(&new, now)?;
        let (token, hash) = new_token()?;
        let mut tx = self.inner.main.begin("api_token.create").await?;
        insert_token(&mut tx, &new, &hash, (by, now)).await?;
        tx.commit().await?;
        Ok(token)
    }

    /// Makes a token that a person asked for: an engineer's works at once, an operator's when another operator has confirmed it.
    ///
    /// # Errors
    /// As [`Store::issue_api_token`].
    pub async fn ask_api_token(
        &self,
        new: NewToken,
        by: &str,
        now: Timestamp,
    ) -> Result<(String, Guarded), StoreError> {
        if new.role != Role::Operator {
            return Ok((self.issue_api_token(new, by, now).await?, Guarded::Done));
        }
        let (token, hash) = new_token()?;
        let change = GuardedChange::OperatorToken { name: new.name, token_sha256: hash.to_vec(), expires: new.expires };
        Ok((token, self.ask_change(change, by, now).await?))
    }

    /// What a program's token permits now; notes the use.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn api_token(&self, token: &str, now: Timestamp) -> Result<Option<Token>, StoreError> {
        let found = sqlx::query(
            "SELECT name, role, created_at, expires, last_used FROM api_token
             WHERE token_sha256 = $1 AND (expires IS NULL OR expires > $2)",
        )
        .bind(&sha256(token)[..])
        .bind(now.0)
        .fetch_optional(&self.inner.main_read)
        .await?;
        let Some(token) = found.as_ref().map(token_out).transpose()? else { return Ok(None) };
        if token.last_used.is_none_or(|last| now.seconds_since(last) >= LAST_USE_SECONDS) {
            self.note_use(token.name.clone(), now);
        }
        Ok(Some(token))
    }

    /// Writes the last use beside the request, which must not wait for the writer.
    fn note_use(&self, name: String, now: Timestamp) {
        let store = self.clone();
        tokio::spawn(async move {
            let noted = async {
                let mut tx = store.inner.main.begin("api_token.use").await?;
                sqlx::query(
                    "UPDATE api_token SET last_used = $2 WHERE name = $1 AND (last_used IS NULL OR last_used < $2)",
                )
                .bind(&name)
                .bind(now.0)
                .execute(&mut *tx)
                .await?;
                tx.commit().await?;
                Ok::<_, StoreError>(())
            };
            if let Err(error) = noted.await {
                tracing::warn!(%error, token = name, "the last use of a token is not written down");
            }
        });
    }

    /// Every program's token, by name; those that have ended are not among them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn api_tokens(&self, now: Timestamp) -> Result<Vec<Token>, StoreError> {
        sqlx::query(
            "SELECT name, role, created_at, expires, last_used FROM api_token
             WHERE expires IS NULL OR expires > $1 ORDER BY name",
        )
        .bind(now.0)
        .fetch_all(&self.inner.main_read)
        .await?
        .iter()
        .map(token_out)
        .collect()
    }

    /// Takes a program's token back.
    ///
    /// # Errors
    /// When there is none of that name.
    pub async fn revoke_api_token(&self, name: &str, by: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.inner.main.begin("api_token.revoke").await?;
        let gone = sqlx::query("DELETE FROM api_token WHERE name = $1").bind(name).execute(&mut *tx).await?;
        if gone.rows_affected() == 0 {
            return Err(StoreError::unknown("API token", name));
        }
        let subject = format!("api_token:{name}");
        let entry = audit::Entry { by, action: "api_token.revoke", subject, detail: String::new() };
        audit::record(&mut tx, now, entry).await?;
        tx.commit().await
    }
}

/// Refuses a token that cannot be made.
pub(crate) fn is_usable(new: &NewToken, now: Timestamp) -> Result<(), StoreError> {
    check_name(&new.name)?;
    if new.role == Role::Consumer {
        return Err(StoreError::Invalid("a program's token is an operator's or an engineer's".to_owned()));
    }
    if new.expires.is_some_and(|end| end <= now) {
        return Err(StoreError::Invalid("a token ends in the future, or not at all".to_owned()));
    }
    Ok(())
}

/// Writes a token; one of the same name is replaced.
pub(crate) async fn insert_token(
    tx: &mut SqliteConnection,
    new: &NewToken,
    hash: &[u8],
    (by, now): (&str, Timestamp),
) -> Result<(), StoreError> {
    is_usable(new, now)?;
    sqlx::query("DELETE FROM api_token WHERE name = $1 OR expires <= $2")
        .bind(&new.name)
        .bind(now.0)
        .execute(&mut *tx)
        .await?;
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM api_token").fetch_one(&mut *tx).await?;
    if count >= TOKENS_MAX {
        return Err(StoreError::Refused(format!("there are {TOKENS_MAX} tokens already: revoke some")));
    }
    sqlx::query("INSERT INTO api_token (token_sha256, name, role, created_at, expires) VALUES ($1,$2,$3,$4,$5)")
        .bind(hash)
        .bind(&new.name)
        .bind(new.role.word())
        .bind(now.0)
        .bind(new.expires.map(|end| end.0))
        .execute(&mut *tx)
        .await?;
    let until = new.expires.map_or_else(String::new, |end| format!(", until {end}"));
    let detail = format!("role {}{until}", new.role.word());
    let subject = format!("api_token:{}", new.name);
    audit::record(tx, now, audit::Entry { by, action: "api_token.create", subject, detail }).await
}

fn token_out(row: &SqliteRow) -> Result<Token, StoreError> {
    Ok(Token {
        name: row.get(0),
        role: role_out(row.get(1))?,
        created_at: time(row.get(2)),
        expires: row.get::<Option<i64>, _>(3).map(time),
        last_used: row.get::<Option<i64>, _>(4).map(time),
    })
}
