//! Sessions of people, and tokens that work once. Of every token only the SHA-256 is stored: tokens are 256 random bits, so a slow
//! hash would add nothing.

use metering::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::Row;

use crate::{
    audit::{self, hex},
    directory::Store,
    error::StoreError,
    people::{User, user_out},
};

/// What a one-time token is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OneTime {
    /// Making the first operator.
    SetUp,
    /// Signing in as this person.
    SignIn(String),
}

impl Store {
    /// Begins a session; the token goes into the cookie and is not stored.
    ///
    /// # Errors
    /// When there is no such person, or the person is barred.
    pub async fn create_session(&self, name: &str, expires: Timestamp, now: Timestamp) -> Result<String, StoreError> {
        let (token, hash) = new_token()?;
        let mut tx = self.inner.main.begin("session.begin").await?;
        let id: i64 = sqlx::query_scalar("SELECT id FROM person WHERE name = $1 AND disabled = 0")
            .bind(name)
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| StoreError::unknown("person", name))?;
        sqlx::query("DELETE FROM session WHERE expires <= $1").bind(now.0).execute(&mut *tx).await?;
        sqlx::query("INSERT INTO session (token_sha256, person, expires) VALUES ($1,$2,$3)")
            .bind(&hash[..])
            .bind(id)
            .bind(expires.0)
            .execute(&mut *tx)
            .await?;
        let entry = audit::Entry {
            by: name,
            action: "session.begin",
            subject: format!("person:{name}"),
            detail: format!("until {expires}"),
        };
        audit::record(&mut tx, now, entry).await?;
        tx.commit().await?;
        Ok(token)
    }

    /// The person of a session token, when the session has not ended.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn session(&self, token: &str, now: Timestamp) -> Result<Option<User>, StoreError> {
        sqlx::query(
            "SELECT p.id, p.name, p.role, p.usage_point, p.password_hash, p.disabled, p.first_password, p.sees_after,
                    p.sees_to, p.created_at
             FROM session s JOIN person p ON p.id = s.person
             WHERE s.token_sha256 = $1 AND s.expires > $2 AND p.disabled = 0",
        )
        .bind(&sha256(token)[..])
        .bind(now.0)
        .fetch_optional(&self.inner.main_read)
        .await?
        .as_ref()
        .map(user_out)
        .transpose()
    }

    /// Ends a session.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_session(&self, token: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.inner.main.begin("session.end").await?;
        let name: Option<String> = sqlx::query_scalar(
            "DELETE FROM session WHERE token_sha256 = $1 RETURNING (SELECT name FROM person WHERE id = session.person)",
        )
        .bind(&sha256(token)[..])
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(name) = name {
            let (subject, detail) = (format!("person:{name}"), String::new());
            let entry = audit::Entry { by: &name, action: "session.end", subject, detail };
            audit::record(&mut tx, now, entry).await?;
        }
        tx.commit().await
    }

    /// Makes a token that works once, until `expires`. A new set-up token replaces the old one.
    ///
    /// # Errors
    /// When the database or the source of randomness fails.
    pub async fn create_one_time(&self, purpose: &OneTime, expires: Timestamp) -> Result<String, StoreError> {
        let (token, hash) = new_token()?;
        let text = serde_json::to_string(purpose)?;
        let mut tx = self.inner.main.begin("one_time.create").await?;
        if *purpose == OneTime::SetUp {
            sqlx::query("DELETE FROM one_time WHERE purpose = $1").bind(&text).execute(&mut *tx).await?;
        }
        sqlx::query("INSERT INTO one_time (token_sha256, purpose, expires) VALUES ($1,$2,$3)")
            .bind(&hash[..])
            .bind(&text)
            .bind(expires.0)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(token)
    }

    /// What a one-time token is for, without spending it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn one_time(&self, token: &str, now: Timestamp) -> Result<Option<OneTime>, StoreError> {
        let text: Option<String> =
            sqlx::query_scalar("SELECT purpose FROM one_time WHERE token_sha256 = $1 AND expires > $2")
                .bind(&sha256(token)[..])
                .bind(now.0)
                .fetch_optional(&self.inner.main_read)
                .await?;
        Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// Spends a one-time token: its purpose the first time, `None` ever after.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn spend_one_time(&self, token: &str, now: Timestamp) -> Result<Option<OneTime>, StoreError> {
        let mut tx = self.inner.main.begin("one_time.spend").await?;
        let row = sqlx::query("DELETE FROM one_time WHERE token_sha256 = $1 RETURNING purpose, expires")
            .bind(&sha256(token)[..])
            .fetch_optional(&mut *tx)
            .await?;
        tx.commit().await?;
        match row {
            Some(row) if row.get::<i64, _>(1) > now.0 => Ok(Some(serde_json::from_str(row.get(0))?)),
            _ => Ok(None),
        }
    }
}

/// A new token as 64 hexadecimal digits, and its hash.
pub(crate) fn new_token() -> Result<(String, [u8; 32]), StoreError> {
    let token = hex(&random_bytes()?);
    let hash = sha256(&token);
    Ok((token, hash))
}

/// 256 random bits.
pub(crate) fn random_bytes() -> Result<[u8; 32], StoreError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| StoreError::Random(e.to_string()))?;
    Ok(bytes)
}

pub(crate) fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
