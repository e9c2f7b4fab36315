//! Cases as stored: the whole case as one document, with the columns that lists are made from. The rules are
//! `losses::case`'s.

use losses::{
    case::{Case, CaseAction, CaseKind, CaseState, RankedSuspect},
    evidence::Evidence,
};
use metering::{Timestamp, UsagePointId, ZoneId};
use sqlx::{Row, SqliteConnection};

use crate::{
    audit,
    change::Change,
    directory::{Store, id_in, id_out},
    error::StoreError,
};

/// Which cases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaseFilter {
    /// In one zone.
    pub zone: Option<ZoneId>,
    /// About one usage point.
    pub usage_point: Option<UsagePointId>,
    /// In one state.
    pub state: Option<CaseState>,
    /// Of one kind.
    pub kind: Option<CaseKind>,
    /// Looked at by one person.
    pub owner: Option<String>,
    /// Only those that have not ended.
    pub open_only: bool,
    /// Only those that have ended.
    pub ended_only: bool,
    /// Only those with a smaller number.
    pub before: Option<u64>,
    /// Most rows, newest first; 0: all. Nothing is left out that was not asked to be.
    pub limit: u32,
}

/// What the pipeline does with cases in a slot.
#[derive(Clone, Debug, PartialEq)]
pub enum CaseChange {
    /// Opens a case; its `id` is given by the store.
    Open(Box<Case>),
    /// Changes a case as it stands at the time of the commit. A step that the case refuses by then (somebody concluded it
    /// meanwhile) is left out.
    Edit {
        /// Which.
        id: u64,
        /// The name of the pipeline or policy.
        by: String,
        /// When.
        at: Timestamp,
        /// What, in order.
        steps: Vec<CaseStep>,
    },
}

/// One step of [`CaseChange::Edit`].
#[derive(Clone, Debug, PartialEq)]
pub enum CaseStep {
    /// An action as a person could take it.
    Act(CaseAction),
    /// See [`Case::add_evidence`].
    AddEvidence(Vec<Evidence>),
    /// See [`Case::refresh_evidence`].
    RefreshEvidence(Vec<Evidence>),
    /// See [`Case::reclassify`].
    Reclassify(CaseKind, Option<UsagePointId>),
    /// Sets the estimated onset.
    Onset(Option<Timestamp>),
    /// Replaces the ranking.
    Suspects(Vec<RankedSuspect>),
    /// See [`Case::imbalance_ended`].
    ImbalanceEnded,
    /// See [`Case::imbalance_returned`].
    ImbalanceReturned,
    /// See [`Case::review_by_rule`].
    ReviewByRule(String),
}

impl Store {
    /// Cases, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn cases(&self, filter: CaseFilter) -> Result<Vec<Case>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, body FROM case_file
             WHERE ($1 IS NULL OR zone = $1) AND ($2 IS NULL OR usage_point = $2)
               AND ($3 IS NULL OR state = $3) AND is_open >= $4 AND is_open <= $6
               AND ($7 IS NULL OR kind = $7) AND ($8 IS NULL OR owner = $8) AND ($9 IS NULL OR id < $9)
             ORDER BY id DESC LIMIT $5",
        )
        .bind(filter.zone.as_ref().map(ZoneId::as_str))
        .bind(filter.usage_point.as_ref().map(UsagePointId::as_str))
        .bind(filter.state.map(CaseState::word))
        .bind(i64::from(filter.open_only))
        .bind(if filter.limit == 0 { -1 } else { i64::from(filter.limit) })
        .bind(i64::from(!filter.ended_only))
        .bind(filter.kind.map(CaseKind::word))
        .bind(&filter.owner)
        .bind(filter.before.map(id_in))
        .fetch_all(&self.inner.main_read)
        .await?;
        rows.iter().map(|row| case_out(row.get(0), row.get(1))).collect()
    }

    /// How many cases pass a filter, whatever its limit.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_cases(&self, filter: &CaseFilter) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM case_file
             WHERE ($1 IS NULL OR zone = $1) AND ($2 IS NULL OR usage_point = $2)
               AND ($3 IS NULL OR state = $3) AND is_open >= $4 AND is_open <= $5
               AND ($6 IS NULL OR kind = $6) AND ($7 IS NULL OR owner = $7)",
        )
        .bind(filter.zone.as_ref().map(ZoneId::as_str))
        .bind(filter.usage_point.as_ref().map(UsagePointId::as_str))
        .bind(filter.state.map(CaseState::word))
        .bind(i64::from(filter.open_only))
        .bind(i64::from(!filter.ended_only))
        .bind(filter.kind.map(CaseKind::word))
        .bind(&filter.owner)
        .fetch_one(&self.inner.main_read)
        .await?;
        Ok(id_out(count))
    }

    /// One case.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn case(&self, id: u64) -> Result<Option<Case>, StoreError> {
        let body: Option<String> = sqlx::query_scalar("SELECT body FROM case_file WHERE id = $1")
            .bind(id_in(id))
            .fetch_optional(&self.inner.main_read)
            .await?;
        body.map(|body| case_out(id_in(id), &body)).transpose()
    }

    /// What a person does with a case; audited in the same transaction.
    ///
    /// # Errors
    /// When there is no such case, or the case refuses the action (the text says why).
    pub async fn case_action(&self, id: u64, action: CaseAction, by: &str, now: Timestamp) -> Result<Case, StoreError> {
        let mut tx = self.inner.main.begin("case.action").await?;
        let mut case = read(&mut tx, id).await?;
        let detail = serde_json::to_string(&action)?;
        case.apply(action, by, now).map_err(|e| StoreError::Refused(e.to_string()))?;
        write(&mut tx, &case).await?;
        let entry = audit::Entry { by, action: "case.action", subject: format!("case:{id}"), detail };
        audit::record(&mut tx, now, entry).await?;
        tx.commit().await?;
        self.announce(Change::Case { id });
        Ok(case)
    }
}

fn case_out(id: i64, body: &str) -> Result<Case, StoreError> {
    let mut case: Case = serde_json::from_str(body)?;
    case.id = id_out(id);
    Ok(case)
}

pub(crate) async fn read(tx: &mut SqliteConnection, id: u64) -> Result<Case, StoreError> {
    let body: String = sqlx::query_scalar("SELECT body FROM case_file WHERE id = $1")
        .bind(id_in(id))
        .fetch_optional(tx)
        .await?
        .ok_or_else(|| StoreError::unknown("case", id))?;
    case_out(id_in(id), &body)
}

pub(crate) async fn write(tx: &mut SqliteConnection, case: &Case) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE case_file SET kind = $2, zone = $3, usage_point = $4, state = $5, is_open = $6, owner = $7, body = $8
         WHERE id = $1",
    )
    .bind(id_in(case.id))
    .bind(case.kind.word())
    .bind(case.zone.as_str())
    .bind(case.usage_point.as_ref().map(UsagePointId::as_str))
    .bind(case.state.word())
    .bind(i64::from(!case.state.is_closed()))
    .bind(&case.owner)
    .bind(serde_json::to_string(case)?)
    .execute(tx)
    .await?;
    Ok(())
}

/// Carries out a change within a slot's transaction; the case's id.
pub(crate) async fn change(tx: &mut SqliteConnection, change: CaseChange) -> Result<u64, StoreError> {
    match change {
        CaseChange::Open(mut case) => {
            let id: i64 = sqlx::query_scalar(
                "INSERT INTO case_file (kind, zone, state, is_open, opened_at, body) VALUES ('','','',1,$1,'') RETURNING id",
            )
            .bind(case.opened_at.0)
            .fetch_one(&mut *tx)
            .await?;
            case.id = id_out(id);
            write(tx, &case).await?;
            let by = case.history.first().map_or("pipeline", |entry| entry.by.as_str());
            let detail = format!("{} in {}", case.kind.word(), case.zone);
            let entry = audit::Entry { by, action: "case.open", subject: format!("case:{}", case.id), detail };
            audit::record(tx, case.opened_at, entry).await?;
            Ok(case.id)
        }
        CaseChange::Edit { id, by, at, steps } => {
            let mut case = read(tx, id).await?;
            for step in steps {
                if let Err(e) = take(&mut case, step, &by, at) {
                    tracing::debug!(case = id, "a step was left out: {e}");
                }
            }
            write(tx, &case).await?;
            Ok(id)
        }
    }
}

fn take(case: &mut Case, step: CaseStep, by: &str, at: Timestamp) -> Result<(), losses::case::CaseError> {
    match step {
        CaseStep::Act(action) => case.apply(action, by, at)?,
        CaseStep::AddEvidence(evidence) => case.add_evidence(evidence, by, at)?,
        CaseStep::RefreshEvidence(evidence) => case.refresh_evidence(evidence, by, at)?,
        CaseStep::Reclassify(kind, usage_point) => case.reclassify(kind, usage_point, by, at)?,
        CaseStep::Onset(onset) => case.onset = onset,
        CaseStep::Suspects(ranking) => case.suspects = ranking,
        CaseStep::ImbalanceEnded => case.imbalance_ended(by, at),
        CaseStep::ImbalanceReturned => case.imbalance_returned(by, at),
        CaseStep::ReviewByRule(rule) => case.review_by_rule(&rule, by, at),
    }
    Ok(())
}
