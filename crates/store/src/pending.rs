//! Changes that take a brake off, and wait for another operator to confirm them. One mechanism for all of them: what is asked for is
//! kept as a document with who asked and in words; confirmed by somebody else it is carried out in the same transaction.
//!
//! With a single operator there is nobody to ask: then a change is carried out at once, and the audit says that nobody confirmed it.

use metering::{Timestamp, UsagePointId, supply::SupplyPolicy};
use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    audit,
    change::Change,
    directory::{Store, id_in, id_out, time},
    error::StoreError,
    import, master,
    people::{self, Role},
    programs, setting,
    supply::{PROGRAM, operators},
};

/// Changes that may wait at the same time.
const WAITING_MAX: i64 = 100;
/// A change that nobody confirms is forgotten after this.
const WAITS_SECONDS: i64 = 7 * 86_400;
/// Longest words of a change that are kept.
const WORDS_BYTES_MAX: usize = 1_000;

/// A change that takes a brake off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardedChange {
    /// The rules for cutting supply let through more than before.
    Policy(SupplyPolicy),
    /// The abort switch is switched off.
    AbortSwitchOff,
    /// A usage point may be disconnected again.
    LiftProtection(UsagePointId),
    /// Rows of the register (with their header) that change a ratio or lift a protection.
    Register {
        /// The rows, as a file that can be imported.
        csv: String,
    },
    /// Another operator, with a first password.
    Operator {
        /// Unique name.
        name: String,
        /// PHC string of argon2; left out of [`Store::pending_changes`].
        #[serde(default, skip_serializing_if = "String::is_empty")]
        password_hash: String,
    },
    /// An operator's password is replaced by one that somebody else chose.
    OperatorPassword {
        /// Whose.
        name: String,
        /// PHC string of argon2; left out of [`Store::pending_changes`].
        #[serde(default, skip_serializing_if = "String::is_empty")]
        password_hash: String,
    },
    /// An operator who was barred may sign in again.
    OperatorEnabled {
        /// Who.
        name: String,
    },
    /// A program may do what an operator may; its token opens nothing before.
    OperatorToken {
        /// Name of the program.
        name: String,
        /// SHA-256 of the token; left out of [`Store::pending_changes`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        token_sha256: Vec<u8>,
        /// When it ends; `None` when it does not.
        expires: Option<Timestamp>,
    },
}

/// A change that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingChange {
    /// Identifier.
    pub id: u64,
    /// What.
    pub change: GuardedChange,
    /// What, in words.
    pub words: String,
    /// Who asked.
    pub asked_by: String,
    /// When.
    pub asked_at: Timestamp,
    /// After this it is forgotten.
    pub expires: Timestamp,
}

/// What became of a change that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guarded {
    /// Carried out.
    Done,
    /// Waits under this number for another operator.
    Waits(u64),
}

impl GuardedChange {
    fn words(&self) -> String {
        let mut words = match self {
            Self::Policy(policy) => format!(
                "rules for cutting supply: {}",
                serde_json::to_string(policy).unwrap_or_else(|why| format!("not readable ({why})"))
            ),
            Self::AbortSwitchOff => "abort switch off: disconnections are sent again".to_owned(),
            Self::LiftProtection(point) => format!("{point} may be disconnected again"),
            Self::Register { csv } => {
                format!("rows of the register: {}", csv.lines().skip(1).collect::<Vec<_>>().join(" | "))
            }
            Self::Operator { name, .. } => format!("{name} becomes an operator"),
            Self::OperatorPassword { name, .. } => {
                format!("{name}, an operator, gets a first password that somebody else chose")
            }
            Self::OperatorEnabled { name } => format!("{name}, an operator who was barred, may sign in again"),
            Self::OperatorToken { name, expires, .. } => {
                let until = expires.map_or_else(String::new, |end| format!(" until {end}"));
                format!("the program {name} may do what an operator may{until}")
            }
        };
        words.truncate(words.floor_char_boundary(WORDS_BYTES_MAX));
        words
    }

    /// Without what opens anything, for those who look at what waits.
    fn without_secrets(mut self) -> Self {
        match &mut self {
            Self::Operator { password_hash, .. } | Self::OperatorPassword { password_hash, .. } => {
                password_hash.clear()
            }
            Self::OperatorToken { token_sha256, .. } => token_sha256.clear(),
            Self::Policy(_)
            | Self::AbortSwitchOff
            | Self::LiftProtection(_)
            | Self::Register { .. }
            | Self::OperatorEnabled { .. } => {}
        }
        self
    }
}

impl Store {
    /// Carries a guarded change out when nobody else needs to confirm it, else keeps it until another operator does.
    ///
    /// # Errors
    /// When too many wait already, the change is not possible, or the database fails.
    pub async fn ask_change(&self, change: GuardedChange, by: &str, now: Timestamp) -> Result<Guarded, StoreError> {
        let _one_at_a_time = self.inner.importing.lock().await;
        let done = self
            .transaction("pending.ask", async |tx| {
                possible(tx, &change, now).await?;
                if self.is_free(tx, &change, now).await? {
                    self.carry_out(tx, &change, by, now).await?;
                    return Ok(Guarded::Done);
                }
                Ok(Guarded::Waits(keep(tx, &change, by, now).await?))
            })
            .await?;
        self.changed(&change, &done).await?;
        Ok(done)
    }

    /// Whether a change needs nobody else: it takes no brake off, or there is no second operator.
    async fn is_free(
        &self,
        tx: &mut SqliteConnection,
        change: &GuardedChange,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if let GuardedChange::Policy(policy) = change {
            let held: SupplyPolicy = setting::read(tx, "policy").await?.unwrap_or_default();
            if !held.is_loosened_by(policy) {
                return Ok(true);
            }
        }
        Ok(operators(tx, now).await? <= 1)
    }

    /// Changes that wait, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pending_changes(&self, now: Timestamp) -> Result<Vec<PendingChange>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, body, words, asked_by, asked_at, expires FROM pending_change WHERE expires > $1 ORDER BY id",
        )
        .bind(now.0)
        .fetch_all(&self.inner.main_read)
        .await?;
        rows.iter()
            .map(|row| out(row).map(|waiting| PendingChange { change: waiting.change.without_secrets(), ..waiting }))
            .collect()
    }

    /// Carries out a change that waits, confirmed by a person who did not ask for it. What a program asked for anybody may stand
    /// behind: the first person who confirms it takes it over, and another one carries it out.
    ///
    /// # Errors
    /// When there is no such change, the confirmer asked for it or is a program, or the change is not possible any more.
    pub async fn confirm_change(&self, id: u64, by: &str, now: Timestamp) -> Result<Guarded, StoreError> {
        let _one_at_a_time = self.inner.importing.lock().await;
        let (change, done) = self
            .transaction("pending.confirm", async |tx| {
                let waiting = read(tx, id, now).await?;
                if waiting.asked_by == by || by.starts_with(PROGRAM) {
                    return Err(StoreError::Refused(format!(
                        "{} asked for this: another person who is an operator confirms it",
                        waiting.asked_by
                    )));
                }
                let detail = format!("asked for by {}: {}", waiting.asked_by, waiting.words);
                let subject = format!("pending:{id}");
                if waiting.asked_by.starts_with(PROGRAM) && operators(tx, now).await? > 1 {
                    sqlx::query("UPDATE pending_change SET asked_by = $2 WHERE id = $1")
                        .bind(id_in(id))
                        .bind(by)
                        .execute(&mut *tx)
                        .await?;
                    audit::record(tx, now, audit::Entry { by, action: "pending.take_over", subject, detail }).await?;
                    return Ok((waiting.change, Guarded::Waits(id)));
                }
                sqlx::query("DELETE FROM pending_change WHERE id = $1").bind(id_in(id)).execute(&mut *tx).await?;
                audit::record(tx, now, audit::Entry { by, action: "pending.confirm", subject, detail }).await?;
                self.carry_out(tx, &waiting.change, by, now).await?;
                Ok((waiting.change, Guarded::Done))
            })
            .await?;
        self.changed(&change, &done).await?;
        Ok(done)
    }

    /// Drops a change that waits; its author may, and everybody who could confirm it.
    ///
    /// # Errors
    /// When there is no such change or the database fails.
    pub async fn withdraw_change(&self, id: u64, by: &str, now: Timestamp) -> Result<(), StoreError> {
        self.transaction("pending.withdraw", async |tx| {
            let waiting = read(tx, id, now).await?;
            sqlx::query("DELETE FROM pending_change WHERE id = $1").bind(id_in(id)).execute(&mut *tx).await?;
            let detail = format!("asked for by {}: {}", waiting.asked_by, waiting.words);
            let entry = audit::Entry { by, action: "pending.withdraw", subject: format!("pending:{id}"), detail };
            audit::record(tx, now, entry).await
        })
        .await?;
        self.announce(Change::Setting("pending".to_owned()));
        Ok(())
    }

    async fn carry_out(
        &self,
        tx: &mut SqliteConnection,
        change: &GuardedChange,
        by: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match change {
            GuardedChange::Policy(policy) => {
                if let Some(why) = policy.above(&self.ceilings()) {
                    return Err(StoreError::Invalid(why));
                }
                setting::write(tx, "policy", &serde_json::to_string(policy)?, by, now).await.map(drop)
            }
            GuardedChange::AbortSwitchOff => setting::write(tx, "abort_switch", "false", by, now).await.map(drop),
            GuardedChange::LiftProtection(point) => master::write_never_disconnect(tx, *point, false, by, now).await,
            GuardedChange::Register { csv } => import::take_confirmed(tx, csv, by, now).await,
            GuardedChange::Operator { name, password_hash } => {
                people::insert_operator(tx, name, password_hash, (by, now)).await
            }
            GuardedChange::OperatorPassword { name, password_hash } => {
                people::write_first_password(tx, name, password_hash, (by, now)).await
            }
            GuardedChange::OperatorEnabled { name } => people::write_enabled(tx, name, (by, now)).await,
            GuardedChange::OperatorToken { name, token_sha256, expires } => {
                let new = programs::NewToken { name: name.clone(), role: Role::Operator, expires: *expires };
                programs::insert_token(tx, &new, token_sha256, (by, now)).await
            }
        }
    }

    /// Tells, after the commit, what changed.
    async fn changed(&self, change: &GuardedChange, done: &Guarded) -> Result<(), StoreError> {
        if matches!(done, Guarded::Waits(_)) {
            self.announce(Change::Setting("pending".to_owned()));
            return Ok(());
        }
        match change {
            GuardedChange::Policy(_) => self.announce(Change::Setting("policy".to_owned())),
            GuardedChange::AbortSwitchOff => {
                self.end_abort()?;
                self.announce(Change::Setting("abort_switch".to_owned()));
            }
            GuardedChange::LiftProtection(_) => self.announce(Change::Topology),
            GuardedChange::Register { .. } => {
                self.refresh_limits().await?;
                self.announce(Change::Topology);
            }
            GuardedChange::Operator { .. }
            | GuardedChange::OperatorPassword { .. }
            | GuardedChange::OperatorEnabled { .. }
            | GuardedChange::OperatorToken { .. } => {}
        }
        self.announce(Change::Setting("pending".to_owned()));
        Ok(())
    }
}

/// Refuses at once what could never be carried out: the person who asks can mend it, the one who confirms cannot.
async fn possible(tx: &mut SqliteConnection, change: &GuardedChange, now: Timestamp) -> Result<(), StoreError> {
    match change {
        GuardedChange::Operator { name, .. } => people::is_free_name(tx, name).await,
        GuardedChange::OperatorToken { name, expires, .. } => programs::is_usable(
            &programs::NewToken { name: name.clone(), role: Role::Operator, expires: *expires },
            now,
        ),
        GuardedChange::OperatorPassword { name, .. } | GuardedChange::OperatorEnabled { name } => {
            people::is_there(tx, name).await
        }
        GuardedChange::Policy(_)
        | GuardedChange::AbortSwitchOff
        | GuardedChange::LiftProtection(_)
        | GuardedChange::Register { .. } => Ok(()),
    }
}

/// Keeps a change until somebody confirms it; its number. Those that expired are dropped.
pub(crate) async fn keep(
    tx: &mut SqliteConnection,
    change: &GuardedChange,
    by: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    sqlx::query("DELETE FROM pending_change WHERE expires <= $1").bind(now.0).execute(&mut *tx).await?;
    let waiting: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM pending_change").fetch_one(&mut *tx).await?;
    if waiting >= WAITING_MAX {
        return Err(StoreError::Refused(format!(
            "{waiting} changes wait for another operator: confirm or withdraw some first"
        )));
    }
    let words = change.words();
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO pending_change (body, words, asked_by, asked_at, expires) VALUES ($1,$2,$3,$4,$5) RETURNING id",
    )
    .bind(serde_json::to_string(change)?)
    .bind(&words)
    .bind(by)
    .bind(now.0)
    .bind(now.plus(WAITS_SECONDS).0)
    .fetch_one(&mut *tx)
    .await?;
    let id = id_out(id);
    let entry = audit::Entry { by, action: "pending.ask", subject: format!("pending:{id}"), detail: words };
    audit::record(tx, now, entry).await?;
    Ok(id)
}

async fn read(tx: &mut SqliteConnection, id: u64, now: Timestamp) -> Result<PendingChange, StoreError> {
    let row = sqlx::query(
        "SELECT id, body, words, asked_by, asked_at, expires FROM pending_change WHERE id = $1 AND expires > $2",
    )
    .bind(id_in(id))
    .bind(now.0)
    .fetch_optional(tx)
    .await?
    .ok_or_else(|| StoreError::unknown("waiting change", id))?;
    out(&row)
}

fn out(row: &SqliteRow) -> Result<PendingChange, StoreError> {
    Ok(PendingChange {
        id: id_out(row.get(0)),
        change: serde_json::from_str(row.get(1))?,
        words: row.get(2),
        asked_by: row.get(3),
        asked_at: time(row.get(4)),
        expires: time(row.get(5)),
    })
}
