//! People (their sessions: `sessions.rs`; programs: `programs.rs`). Passwords come in already hashed (argon2) from the web layer.

use metering::{Timestamp, UsagePointId};
use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    audit,
    directory::{Store, id_out, time},
    error::StoreError,
    sessions::{OneTime, sha256},
};

/// Names in the audit that are nobody's.
const RESERVED: [&str; 8] = ["system", "policy", "token", "set-up", "setup", "command line", "nobody", "server"];
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
    /// The password was given by somebody else and must be changed first.
    pub first_password: bool,
    /// Of a consumer: sees what was measured after this,
    pub sees_after: Timestamp,
    /// and up to this.
    pub sees_to: Timestamp,
    /// When made.
    pub created_at: Timestamp,
}

/// Whether a person has a password of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Password {
    Own,
    First,
}

/// What became of making the first operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstOperator {
    /// Made; the token is spent.
    Made(Box<User>),
    /// The token is none, or no more.
    TokenSpent,
    /// There are people already: the first operator is made by one of them.
    SomebodyIsThere,
}

/// The columns of a person, in the order of `user_out`.
const COLUMNS: &str =
    "id, name, role, usage_point, password_hash, disabled, first_password, sees_after, sees_to, created_at";

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

impl Store {
    /// Makes a person whose password is their own.
    ///
    /// # Errors
    /// When the name is taken or not usable, or the usage point does not go with the role.
    pub async fn create_user(&self, new: NewUser, by: &str, now: Timestamp) -> Result<User, StoreError> {
        let mut tx = self.inner.main.begin("person.create").await?;
        let user = insert_person(&mut tx, &new, Password::Own, (by, now)).await?;
        tx.commit().await?;
        Ok(user)
    }

    /// Makes a person with a password that the maker knows: it opens nothing but the page where it is changed.
    ///
    /// # Errors
    /// As [`Store::create_user`].
    pub async fn create_user_with_first_password(
        &self,
        new: NewUser,
        by: &str,
        now: Timestamp,
    ) -> Result<User, StoreError> {
        let mut tx = self.inner.main.begin("person.create").await?;
        let user = insert_person(&mut tx, &new, Password::First, (by, now)).await?;
        tx.commit().await?;
        Ok(user)
    }

    /// Spends a set-up token and makes the first operator, in one step and only while there is nobody.
    ///
    /// # Errors
    /// When the name is not usable; then the token still works.
    pub async fn create_first_operator(
        &self,
        token: &str,
        new: NewUser,
        now: Timestamp,
    ) -> Result<FirstOperator, StoreError> {
        let mut tx = self.inner.main.begin("person.first").await?;
        let purpose: Option<String> =
            sqlx::query_scalar("DELETE FROM one_time WHERE token_sha256 = $1 AND expires > $2 RETURNING purpose")
                .bind(&sha256(token)[..])
                .bind(now.0)
                .fetch_optional(&mut *tx)
                .await?;
        if purpose.as_deref() != Some(&serde_json::to_string(&OneTime::SetUp)?) {
            return Ok(FirstOperator::TokenSpent);
        }
        let people: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM person").fetch_one(&mut *tx).await?;
        if people > 0 {
            return Ok(FirstOperator::SomebodyIsThere);
        }
        let user = insert_person(&mut tx, &new, Password::Own, ("set-up", now)).await?;
        tx.commit().await?;
        Ok(FirstOperator::Made(Box::new(user)))
    }

    /// A person by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user_by_name(&self, name: &str) -> Result<Option<User>, StoreError> {
        sqlx::query(sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM person WHERE name = $1")))
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
        sqlx::query(sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM person ORDER BY name")))
            .fetch_all(&self.inner.main_read)
            .await?
            .iter()
            .map(user_out)
            .collect()
    }

    /// Gives a person the password they chose (already hashed) and ends all of the person's sessions.
    ///
    /// # Errors
    /// When there is no such person.
    pub async fn set_password(&self, name: &str, hash: &str, by: &str, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE person SET password_hash = $2, first_password = 0 WHERE name = $1 RETURNING id";
        self.change_person(sql, name, hash, ("person.password", by, now)).await
    }

    /// Gives a person a password that somebody else chose (already hashed), to be changed first, and ends all of their sessions.
    ///
    /// # Errors
    /// When there is no such person.
    pub async fn set_first_password(&self, name: &str, hash: &str, by: &str, now: Timestamp) -> Result<(), StoreError> {
        self.change_person(FIRST_PASSWORD, name, hash, ("person.first_password", by, now)).await
    }

    /// Bars a person from signing in and ends all of the person's sessions.
    ///
    /// # Errors
    /// When there is no such person, or no operator could sign in any more.
    pub async fn disable_user(&self, name: &str, by: &str, now: Timestamp) -> Result<(), StoreError> {
        self.change_person(DISABLED, name, "1", ("person.disable", by, now)).await
    }

    /// Lets a barred person sign in again.
    ///
    /// # Errors
    /// When there is no such person.
    pub async fn enable_user(&self, name: &str, by: &str, now: Timestamp) -> Result<(), StoreError> {
        self.change_person(DISABLED, name, "0", ("person.enable", by, now)).await
    }

    /// Sets the time of a consumer's contract: what was measured after `after` and up to `to` is theirs to see.
    ///
    /// # Errors
    /// When there is no such consumer, or the time ends before it begins.
    pub async fn set_contract(
        &self,
        name: &str,
        (after, to): (Timestamp, Timestamp),
        by: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if after >= to {
            return Err(StoreError::Invalid("a contract ends after it begins".to_owned()));
        }
        let mut tx = self.inner.main.begin("person.contract").await?;
        let changed = sqlx::query("UPDATE person SET sees_after = $2, sees_to = $3 WHERE name = $1 AND role = $4")
            .bind(name)
            .bind(after.0)
            .bind(to.0)
            .bind(Role::Consumer.word())
            .execute(&mut *tx)
            .await?;
        if changed.rows_affected() == 0 {
            return Err(StoreError::unknown("consumer", name));
        }
        let detail = format!("after {after}, up to {to}");
        let entry = audit::Entry { by, action: "person.contract", subject: format!("person:{name}"), detail };
        audit::record(&mut tx, now, entry).await?;
        tx.commit().await
    }

    async fn change_person(
        &self,
        sql: &'static str,
        name: &str,
        value: &str,
        (action, by, now): (&str, &str, Timestamp),
    ) -> Result<(), StoreError> {
        let mut tx = self.inner.main.begin("person.change").await?;
        write_change(&mut tx, sql, name, value, (action, by, now)).await?;
        tx.commit().await
    }
}

/// Writes a person, and that set-up links work no more: there is somebody now.
async fn insert_person(
    tx: &mut SqliteConnection,
    new: &NewUser,
    password: Password,
    (by, now): (&str, Timestamp),
) -> Result<User, StoreError> {
    check_name(&new.name)?;
    if (new.role == Role::Consumer) != new.usage_point.is_some() {
        return Err(StoreError::Invalid("a consumer has a usage point, and nobody else has".to_owned()));
    }
    let point = new.usage_point.as_ref().map(UsagePointId::as_str);
    // Whoever comes after somebody else at a place does not see what that one used.
    let before: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM person WHERE usage_point = $1")
        .bind(point)
        .fetch_one(&mut *tx)
        .await?;
    let sees_after = (before > 0).then_some(now.0);
    let insert = format!(
        "INSERT INTO person (name, role, usage_point, password_hash, first_password, sees_after, created_at)
         VALUES ($1,$2,$3,$4,$5,$6,$7) ON CONFLICT (name) DO NOTHING RETURNING {COLUMNS}"
    );
    let made = sqlx::query(sqlx::AssertSqlSafe(insert))
        .bind(&new.name)
        .bind(new.role.word())
        .bind(point)
        .bind(&new.password_hash)
        .bind(i64::from(password == Password::First))
        .bind(sees_after)
        .bind(now.0)
        .fetch_optional(&mut *tx)
        .await?;
    let user = user_out(&made.ok_or_else(|| taken(&new.name))?)?;
    sqlx::query("DELETE FROM one_time WHERE purpose = $1")
        .bind(serde_json::to_string(&OneTime::SetUp)?)
        .execute(&mut *tx)
        .await?;
    let detail = format!("role {}", new.role.word());
    let entry = audit::Entry { by, action: "person.create", subject: format!("person:{}", new.name), detail };
    audit::record(tx, now, entry).await?;
    Ok(user)
}

/// Writes an operator that another one confirmed, with a first password.
pub(crate) async fn insert_operator(
    tx: &mut SqliteConnection,
    name: &str,
    password_hash: &str,
    (by, now): (&str, Timestamp),
) -> Result<(), StoreError> {
    let (name, password_hash) = (name.to_owned(), password_hash.to_owned());
    let new = NewUser { name, role: Role::Operator, usage_point: None, password_hash };
    insert_person(tx, &new, Password::First, (by, now)).await.map(drop)
}

/// Writes a first password that another operator confirmed.
pub(crate) async fn write_first_password(
    tx: &mut SqliteConnection,
    name: &str,
    password_hash: &str,
    (by, now): (&str, Timestamp),
) -> Result<(), StoreError> {
    write_change(tx, FIRST_PASSWORD, name, password_hash, ("person.first_password", by, now)).await
}

/// Writes that a barred person may sign in again.
pub(crate) async fn write_enabled(
    tx: &mut SqliteConnection,
    name: &str,
    (by, now): (&str, Timestamp),
) -> Result<(), StoreError> {
    write_change(tx, DISABLED, name, "0", ("person.enable", by, now)).await
}

/// Refuses a name that is not usable or taken.
pub(crate) async fn is_free_name(tx: &mut SqliteConnection, name: &str) -> Result<(), StoreError> {
    check_name(name)?;
    if is_there(tx, name).await.is_ok() { Err(taken(name)) } else { Ok(()) }
}

/// Refuses a name that nobody has.
pub(crate) async fn is_there(tx: &mut SqliteConnection, name: &str) -> Result<(), StoreError> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT id FROM person WHERE name = $1").bind(name).fetch_optional(tx).await?;
    found.map(drop).ok_or_else(|| StoreError::unknown("person", name))
}

fn taken(name: &str) -> StoreError {
    StoreError::Invalid(format!("there is already a person named {name}: choose another name"))
}

const FIRST_PASSWORD: &str = "UPDATE person SET password_hash = $2, first_password = 1 WHERE name = $1 RETURNING id";
const DISABLED: &str = "UPDATE person SET disabled = CAST($2 AS INTEGER) WHERE name = $1 RETURNING id";

/// Changes a person by one statement, and ends all of the person's sessions.
async fn write_change(
    tx: &mut SqliteConnection,
    sql: &'static str,
    name: &str,
    value: &str,
    (action, by, now): (&str, &str, Timestamp),
) -> Result<(), StoreError> {
    let id: i64 = sqlx::query_scalar(sql)
        .bind(name)
        .bind(value)
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| StoreError::unknown("person", name))?;
    let operators: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM person WHERE role = $1 AND disabled = 0")
        .bind(Role::Operator.word())
        .fetch_one(&mut *tx)
        .await?;
    if operators == 0 && action == "person.disable" {
        let why = format!("{name} is the last operator who can sign in: make or let in another one first");
        return Err(StoreError::Refused(why));
    }
    sqlx::query("DELETE FROM session WHERE person = $1").bind(id).execute(&mut *tx).await?;
    let entry = audit::Entry { by, action, subject: format!("person:{name}"), detail: String::new() };
    audit::record(tx, now, entry).await
}

/// A name that is read the same by everybody, and is not what the audit calls the server itself.
pub(crate) fn check_name(name: &str) -> Result<(), StoreError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '_' | '-' | '@' | '+');
    let usable = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(is_plain);
    if !usable || name.trim() != name || name.contains("  ") {
        return Err(StoreError::Invalid(format!(
            "a name has 1 to {NAME_BYTES_MAX} letters a to z, digits, single spaces and . _ - @ +, and begins and ends with none of the spaces"
        )));
    }
    if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return Err(StoreError::Invalid(format!(
            "{name} is what the audit calls the server itself: choose another name"
        )));
    }
    Ok(())
}

pub(crate) fn role_out(word: &str) -> Result<Role, StoreError> {
    Role::from_word(word).ok_or_else(|| StoreError::damaged(format!("unknown role {word}")))
}

pub(crate) fn user_out(row: &SqliteRow) -> Result<User, StoreError> {
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
        first_password: row.get::<i64, _>(6) != 0,
        sees_after: time(row.get::<Option<i64>, _>(7).unwrap_or(i64::MIN)),
        sees_to: time(row.get::<Option<i64>, _>(8).unwrap_or(i64::MAX)),
        created_at: time(row.get(9)),
    })
}
