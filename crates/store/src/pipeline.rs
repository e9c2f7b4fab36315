//! What the pipeline decides about one slot, written in one transaction: a crash between two slots loses and doubles nothing.

use std::collections::BTreeMap;

use losses::balance::EnergyBalance;
use metering::{Timestamp, ZoneId};
use sqlx::{Row, SqliteConnection};

use crate::{
    audit, balance,
    basis::{self, NewBasis},
    case::{self, CaseChange},
    change::Change,
    control::{self, ControlChange, NewControl},
    directory::Store,
    error::StoreError,
    finding,
};

/// Key under which the position is kept among the pipeline's documents.
const PROCESSED_THROUGH: &str = "\u{1}processed_through";

/// Where the pipeline stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipelineState {
    /// Everything up to here has been processed.
    pub processed_through: Option<Timestamp>,
    /// Documents of the pipeline, e.g. the state of its monitors.
    pub blobs: BTreeMap<String, Vec<u8>>,
}

/// Everything that was decided about one slot.
#[derive(Clone, Debug, Default)]
pub struct SlotCommit {
    /// When it was decided: the slot's end, or between two slots the time of the event or answer that called for a decision.
    pub at: Timestamp,
    /// The position of detection from now on; only the stage that owns it gives one.
    pub position: Option<Timestamp>,
    /// Balances of its zones; one of the same zone and end replaces the earlier.
    pub balances: Vec<(ZoneId, EnergyBalance)>,
    /// Balances that end after this are removed: they were made up while the clock was wrong.
    pub balances_end: Option<Timestamp>,
    /// Documents to replace; an empty one is removed.
    pub blobs: Vec<(String, Vec<u8>)>,
    /// Cases to open and to change.
    pub cases: Vec<CaseChange>,
    /// Controls to make.
    pub controls: Vec<NewControl>,
    /// Findings seen.
    pub findings: Vec<losses::findings::Finding>,
    /// What evidence of cases was computed from.
    pub bases: Vec<NewBasis>,
    /// Rows of the audit trail for what has no record of its own.
    pub notes: Vec<AuditNote>,
    /// Steps of controls. An illegal one fails the whole commit: it is a defect of the caller.
    pub control_changes: Vec<ControlChange>,
}

/// A row of the audit trail, by the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditNote {
    /// What was done, e.g. `snapshot.ask`.
    pub action: &'static str,
    /// To what, e.g. `zone:T-1`.
    pub subject: String,
    /// Particulars.
    pub detail: String,
}

/// The ids given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// One for each of `cases`, in their order.
    pub case_ids: Vec<u64>,
    /// One for each of `controls`, in their order. A control that the supply rules forbid is there too, as refused; `None` for one
    /// whose meter is not there any more.
    pub control_ids: Vec<Option<u64>>,
}

impl Store {
    /// Where the pipeline stands.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pipeline_state(&self) -> Result<PipelineState, StoreError> {
        let rows = sqlx::query("SELECT key, value FROM pipeline_blob").fetch_all(&self.inner.main_read).await?;
        let mut state = PipelineState::default();
        for row in &rows {
            let (key, value): (String, Vec<u8>) = (row.get(0), row.get(1));
            if key == PROCESSED_THROUGH {
                let bytes = value.try_into().map_err(|_| StoreError::damaged("the pipeline's position"))?;
                state.processed_through = Some(Timestamp(i64::from_le_bytes(bytes)));
            } else {
                state.blobs.insert(key, value);
            }
        }
        Ok(state)
    }

    /// One document of the pipeline.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pipeline_document(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let found = sqlx::query_scalar("SELECT value FROM pipeline_blob WHERE key = $1")
            .bind(key)
            .fetch_optional(&self.inner.main_read)
            .await?;
        Ok(found)
    }

    /// Writes everything decided about a slot in one transaction.
    ///
    /// # Errors
    /// When the database fails, a case or control is not there, or a step of a control is illegal: nothing is written then.
    pub async fn commit_slot(&self, commit: SlotCommit) -> Result<Committed, StoreError> {
        self.commit("slot", commit).await
    }

    /// The same for what is decided between slots, in a transaction that is counted under its own name.
    ///
    /// # Errors
    /// As [`Store::commit_slot`].
    pub async fn commit(&self, name: &'static str, commit: SlotCommit) -> Result<Committed, StoreError> {
        let (committed, announced) = self.transaction(name, async |tx| self.write_slot(tx, commit).await).await?;
        announced.into_iter().for_each(|change| self.announce(change));
        Ok(committed)
    }

    /// Writes a slot within a transaction: the ids given, and what is to be announced.
    async fn write_slot(
        &self,
        tx: &mut SqliteConnection,
        commit: SlotCommit,
    ) -> Result<(Committed, Vec<Change>), StoreError> {
        let at = commit.at;
        let mut committed = Committed::default();
        let mut announced = Vec::new();
        for change in commit.cases {
            let id = case::change(tx, change).await?;
            announced.push(Change::Case { id });
            committed.case_ids.push(id);
        }
        for new in commit.controls {
            let mut request = new.request;
            if let Some(index) = new.opened_case {
                let id = committed.case_ids.get(index).copied();
                request.case = Some(id.ok_or_else(|| StoreError::unknown("opened case with index", index))?);
            }
            let control = self.create_control(tx, &request, at).await?;
            announced.extend(control.map(|id| Change::Control { id }));
            committed.control_ids.push(control);
        }
        let found = !commit.findings.is_empty();
        for finding in commit.findings {
            finding::seen(tx, finding, at).await?;
        }
        for new in &commit.bases {
            let id = new.case_of(&committed.case_ids)?;
            basis::write(tx, id, new).await?;
        }
        for change in &commit.control_changes {
            if control::change(tx, change).await? {
                announced.push(Change::Control { id: change.id });
            }
        }
        for AuditNote { action, subject, detail } in commit.notes {
            let entry = audit::Entry { by: "pipeline", action, subject, detail };
            audit::record(tx, at, entry).await?;
        }
        if let Some(after) = commit.balances_end {
            balance::forget_after(tx, after).await?;
        }
        balance::write(tx, &commit.balances).await?;
        for (key, value) in &commit.blobs {
            write_blob(tx, key, value).await?;
        }
        if let Some(position) = commit.position {
            write_blob(tx, PROCESSED_THROUGH, &position.0.to_le_bytes()).await?;
            announced.push(Change::Slot { processed_through: position });
        }
        if found {
            announced.push(Change::Topology);
        }
        Ok((committed, announced))
    }
}

async fn write_blob(tx: &mut SqliteConnection, key: &str, value: &[u8]) -> Result<(), StoreError> {
    let sql = if value.is_empty() {
        "DELETE FROM pipeline_blob WHERE key = $1"
    } else {
        "INSERT INTO pipeline_blob (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    };
    let mut query = sqlx::query(sql).bind(key);
    if !value.is_empty() {
        query = query.bind(value);
    }
    query.execute(tx).await?;
    Ok(())
}
