//! People, their sessions, one-time tokens and tokens of programs. Of every token only the SHA-256 is stored: tokens are 256
//! random bits, so a slow hash would add nothing; passwords come in already hashed (argon2) from the web layer.

use metering::{Timestamp, UsagePointId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    audit::{self, hex},
    directory::{Store, id_out, time},
    error::StoreError,
};

/// Longest name of a person or program.
const NAME_BYTES_MAX: usize = 64;

/// What a person may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Operator,
    /// Reads everything, works on cases.
    Engineer,
    /// Sees one usage point.
    Consumer,
}

impl Role {
    /// The word in storage and on pages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Engineer => "engineer",
            Self::Consumer => "consumer",
        }
    }

    /// The role of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Operator, Self::Engineer, Self::Consumer].into_iter().find(|role| role.word() == word)
    }
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Identifier.
    pub id: u64,
    /// Unique name.
    pub name: String,
    /// What the person may do.
    pub role: Role,
    /// Of a consumer: the usage point.
    pub usage_point: Option<UsagePointId>,
    /// PHC string of argon2.
    pub password_hash: String,
    /// May not sign in any more.
    pub disabled: bool,
    /// When made.
    pub created_at: Timestamp,
}

/// A person to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    /// Unique name, 1 to 64 bytes.
    pub name: String,
    /// What the person may do.
    pub role: Role,
    /// A consumer's usage point; must be given for a consumer and for nobody else.
    pub usage_point: Option<UsagePointId>,
    /// PHC string of argon2.
    pub password_hash: String,
}

/// A program's permission, as found by its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Name given when it was made.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When made.
    pub created_at: Timestamp,
}

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
    /// Makes a person.
    ///
    /// # Errors
    /// When the name is taken or not usable, or the usage point does not go with the role.
    pub async fn create_user(&self, new: NewUser, by: &str, now: Timestamp) -> Result<User, StoreError> {
        check_name(&new.name)?;
        if (new.role == Role::Consumer) != new.usage_point.is_some() {
            return Err(StoreError::Invalid("a consumer has a usage point, and nobody else has".to_owned()));
        }
        let mut tx = self.inner.main.begin("person.create").await?;
        let made = sqlx::query(
            "INSERT INTO person (name, role, usage_point, password_hash, created_at) VALUES ($1,$2,$3,$4,$5)
             ON CONFLICT (name) DO NOTHING RETURNING id, name, role, usage_point, password_hash, disabled, created_at",
        )
        .bind(&new.name)
        .bind(new.role.word())
        .bind(new.usage_point.as_ref().map(UsagePointId::as_str))
        .bind(&new.password_hash)
        .bind(now.0)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = made else {
            return Err(StoreError::Invalid(format!(
                "there is already a person named {}: choose another name",
                new.name
            )));
        };
        let user = user_out(&row)?;
        let detail = format!("role {}", new.role.word());
        let entry = audit::Entry { by, action: "person.create", subject: format!("person:{}", new.name), detail };
        audit::record(&mut tx, now, entry).await?;
        tx.commit().await?;
        Ok(user)
    }

    /// A person by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user_by_name(&self, name: &str) -> Result<Option<User>, StoreError> {
        sqlx::query(
            "SELECT id, name, role, usage_point, password_hash, disabled, created_at FROM person WHERE name = $1",
        )
        .bind(name)
        .fetch_optional(&self.inner.main_read)
        .await?
        .as_ref()
        .map(user_out)
        .transpose()
    }

    /// Everybody, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        sqlx::query("SELECT id, name, role, usage_point, password_hash, disabled, created_at FROM person ORDER BY name")
            .fetch_all(&self.inner.main_read)
            .await?
            .iter()
            .map(user_out)
            .collect()
    }

    /// Gives a person another password (already hashed) and ends all of the person's sessions.
    ///
    /// # Errors
    /// When there is no such person.
    pub async fn set_password(&self, name: &str, hash: &str, by: &str, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE person SET password_hash = $2 WHERE name = $1 RETURNING id";
        self.change_person(sql, name, hash, ("person.password", by, now)).await
    }

    /// Bars a person from signing in and ends all of the person's sessions.
    ///
    /// # Errors
    /// When there is no such person.
    pub async fn disable_user(&self, name: &str, by: &str, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE person SET disabled = CAST($2 AS INTEGER) WHERE name = $1 RETURNING id";
        self.change_person(sql, name, "1", ("person.disable", by, now)).await
    }

    /// Lets a barred person sign in again.
    ///
    /// # Errors
    /// When there is no such person.
    pub async fn enable_user(&self, name: &str, by: &str, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE person SET disabled = CAST($2 AS INTEGER) WHERE name = $1 RETURNING id";
        self.change_person(sql, name, "0", ("person.enable", by, now)).await
    }

    async fn change_person(
        &self,
        sql: &'static str,
        name: &str,
        value: &str,
        (action, by, now): (&str, &str, Timestamp),
    ) -> Result<(), StoreError> {
        let mut tx = self.inner.main.begin("person.change").await?;
        let id: i64 = sqlx::query_scalar(sql)
            .bind(name)
            .bind(value)
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| StoreError::unknown("person", name))?;
        sqlx::query("DELETE FROM session WHERE person = $1").bind(id).execute(&mut *tx).await?;
        let entry = audit::Entry { by, action, subject: format!("person:{name}"), detail: String::new() };
        audit::record(&mut tx, now, entry).await?;
        tx.commit().await
    }

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
            "SELECT p.id, p.name, p.role, p.usage_point, p.password_hash, p.disabled, p.created_at
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
    pub async fn end_session(&self, token: &str) -> Result<(), StoreError> {
        let hash = sha256(token);
        let mut tx = self.inner.main.begin("session.end").await?;
        sqlx::query("DELETE FROM session WHERE token_sha256 = $1").bind(&hash[..]).execute(&mut *tx).await?;
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

    /// Makes a token for a program. The same name again replaces its token.
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
        check_name(name)?;
        if role == Role::Consumer {
            return Err(StoreError::Invalid("a program's token is an operator's or an engineer's".to_owned()));
        }
        let (token, hash) = new_token()?;
        let mut tx = self.inner.main.begin("api_token.create").await?;
        sqlx::query("DELETE FROM api_token WHERE name = $1").bind(name).execute(&mut *tx).await?;
        sqlx::query("INSERT INTO api_token (token_sha256, name, role, created_at) VALUES ($1,$2,$3,$4)")
            .bind(&hash[..])
            .bind(name)
            .bind(role.word())
            .bind(now.0)
            .execute(&mut *tx)
            .await?;
        let detail = format!("role {}", role.word());
        let entry = audit::Entry { by, action: "api_token.create", subject: format!("api_token:{name}"), detail };
        audit::record(&mut tx, now, entry).await?;
        tx.commit().await?;
        Ok(token)
    }

    /// What a program's token permits.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn api_token(&self, token: &str) -> Result<Option<Token>, StoreError> {
        let row = sqlx::query("SELECT name, role, created_at FROM api_token WHERE token_sha256 = $1")
            .bind(&sha256(token)[..])
            .fetch_optional(&self.inner.main_read)
            .await?;
        row.map(|row| Ok(Token { name: row.get(0), role: role_out(row.get(1))?, created_at: time(row.get(2)) }))
            .transpose()
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

fn check_name(name: &str) -> Result<(), StoreError> {
    let usable = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    if usable && name.trim() == name {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "a name has 1 to {NAME_BYTES_MAX} bytes, no control characters and no space at its ends"
    )))
}

/// A new token as 64 hexadecimal digits, and its hash.
fn new_token() -> Result<(String, [u8; 32]), StoreError> {
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

fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn role_out(word: &str) -> Result<Role, StoreError> {
    Role::from_word(word).ok_or_else(|| StoreError::damaged(format!("unknown role {word}")))
}

fn user_out(row: &SqliteRow) -> Result<User, StoreError> {
    let usage_point: Option<&str> = row.get(3);
    Ok(User {
        id: id_out(row.get(0)),
        name: row.get(1),
        role: role_out(row.get(2))?,
        usage_point: usage_point
            .map(UsagePointId::new)
            .transpose()
            .map_err(|e| StoreError::damaged(format!("usage point of a person: {e}")))?,
        password_hash: row.get(4),
        disabled: row.get::<i64, _>(5) != 0,
        created_at: time(row.get(6)),
    })
}
