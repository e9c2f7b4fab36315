//! Findings: honest faults that explain an imbalance, waiting for a person to accept or dismiss the proposed correction.

use losses::findings::{Correction, Finding, Subject};
use metering::{MeterId, Timestamp, ZoneId};
use registry::Topology;
use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    audit,
    change::Change,
    directory::{Store, id_in, id_out},
    error::StoreError,
};

/// An accepted finding that is still seen after so long is open again: the correction did not help, seconds.
const REOPEN_SECONDS: i64 = 3 * 86_400;
/// Longest reason, bytes.
const REASON_BYTES_MAX: usize = 500;

/// Where a finding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingState {
    /// Nobody has decided; its subject is not named meanwhile.
    Open,
    /// The correction was accepted.
    Accepted,
    /// It is not so.
    Dismissed,
}

impl FindingState {
    /// The word in storage and on pages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Accepted => "accepted",
            Self::Dismissed => "dismissed",
        }
    }
}

/// What a person decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingDecision {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// What was changed in the register; what is left to do on the spot.
    pub done: String,
}

/// A finding as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredFinding {
    /// Its number.
    #[serde(default)]
    pub id: u64,
    /// The finding, as last seen.
    pub finding: Finding,
    /// Where it stands.
    pub state: FindingState,
    /// When it was first seen.
    pub opened_at: Timestamp,
    /// When it was last seen.
    pub seen_at: Timestamp,
    /// The decision, once there is one.
    pub decision: Option<FindingDecision>,
}

/// Which findings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FindingFilter {
    /// Seen in the balance of one zone.
    pub zone: Option<ZoneId>,
    /// In one state.
    pub state: Option<FindingState>,
    /// Most rows, newest first; 0: all. Nothing is left out that was not asked to be.
    pub limit: u32,
}

impl Store {
    /// Findings, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn findings(&self, filter: FindingFilter) -> Result<Vec<StoredFinding>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, body FROM finding WHERE ($1 IS NULL OR zone = $1) AND ($2 IS NULL OR state = $2)
             ORDER BY id DESC LIMIT $3",
        )
        .bind(filter.zone.as_ref().map(ZoneId::as_str))
        .bind(filter.state.map(FindingState::word))
        .bind(if filter.limit == 0 { -1 } else { i64::from(filter.limit) })
        .fetch_all(&self.inner.main_read)
        .await?;
        rows.iter().map(out).collect()
    }

    /// One finding.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn finding(&self, id: u64) -> Result<Option<StoredFinding>, StoreError> {
        let row = sqlx::query("SELECT id, body FROM finding WHERE id = $1")
            .bind(id_in(id))
            .fetch_optional(&self.inner.main_read)
            .await?;
        row.as_ref().map(out).transpose()
    }

    /// Accepts or dismisses an open finding. A wrong mapping or ratio is corrected in the register from `now` on, as a new
    /// version; anything else is left to be done on the spot, and the decision says so. Audited.
    ///
    /// # Errors
    /// When there is no such finding, it is not open, no reason is given, or the register refuses the correction.
    pub async fn decide_finding(
        &self,
        id: u64,
        state: FindingState,
        reason: &str,
        by: &str,
        now: Timestamp,
    ) -> Result<StoredFinding, StoreError> {
        let reason = reason.trim();
        if reason.is_empty() || reason.len() > REASON_BYTES_MAX {
            return Err(StoreError::Invalid("give a reason of at most 500 bytes: it is kept in the audit".to_owned()));
        }
        let mut found = self.finding(id).await?.ok_or_else(|| StoreError::unknown("finding", id))?;
        if found.state != FindingState::Open {
            return Err(StoreError::Refused(format!("the finding is {} already", found.state.word())));
        }
        let done =
            if state == FindingState::Accepted { self.correct(&found.finding, by, now).await? } else { String::new() };
        found.state = state;
        let word = state.word();
        let detail = format!("{word}: {reason}. {} {done}", found.finding.words);
        found.decision = Some(FindingDecision { by: by.to_owned(), at: now, reason: reason.to_owned(), done });
        let mut tx = self.inner.main.begin("finding.decide").await?;
        write(&mut tx, id, &found).await?;
        let entry = audit::Entry { by, action: "finding.decide", subject: format!("finding:{id}"), detail };
        audit::record(&mut tx, now, entry).await?;
        tx.commit().await?;
        self.announce(Change::Topology);
        Ok(found)
    }

    /// Carries out a correction that the register can hold; what was done, or what is left to do.
    async fn correct(&self, finding: &Finding, by: &str, now: Timestamp) -> Result<String, StoreError> {
        let topology = self.topology(now).await?;
        let Some((row, words)) = register_row(finding, &topology, now) else {
            return Ok(by_hand(&finding.correction).to_owned());
        };
        let header = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\n";
        let report = self.import_topology(&format!("{header}{row}\n"), by, now).await?;
        match report.rejected.first() {
            Some(refused) => Err(StoreError::Refused(format!("the register refuses it: {}", refused.reason))),
            None if report.pending.is_some() => Ok(format!("{words}; waits for another operator to confirm it")),
            None => Ok(words),
        }
    }
}

/// The row of the register that corrects a mapping or a ratio.
fn register_row(finding: &Finding, topology: &Topology, now: Timestamp) -> Option<(String, String)> {
    let of_point = |zone: ZoneId, ratio: Option<f64>| {
        let Subject::UsagePoint { usage_point, meter } = finding.subject else { return None };
        let installed = topology.usage_point(usage_point)?.installation.as_ref()?;
        let parent = topology.zone(zone)?.parent.map(|parent| parent.to_string()).unwrap_or_default();
        let (ratio, phase) = (ratio.unwrap_or(installed.ct_ratio), installed.phase.word());
        Some(format!("{zone},{parent},,{usage_point},{meter},{ratio:.3},{phase},{now}"))
    };
    match (&finding.subject, &finding.correction) {
        (Subject::UsagePoint { usage_point, .. }, Correction::Remap { to: Some(to), .. }) => {
            Some((of_point(*to, None)?, format!("{usage_point} is mapped to {to} from now on")))
        }
        (Subject::UsagePoint { usage_point, .. }, Correction::SetRatio { to, .. }) => {
            let zone = topology.usage_point(*usage_point)?.zone;
            Some((of_point(zone, Some(*to))?, format!("the ratio of {usage_point} is {to:.3} from now on")))
        }
        (Subject::Observer { zone, meter }, Correction::SetRatio { to, .. }) => {
            let known = topology.zone(*zone)?;
            let phase = known.observer.as_ref()?.phase.word();
            let parent = known.parent.map(|parent| parent.to_string()).unwrap_or_default();
            let row = format!("{zone},{parent},{meter},,,{to:.3},{phase},{now}");
            Some((row, format!("the ratio of {zone}'s observer is {to:.3} from now on")))
        }
        _ => None,
    }
}

/// What is left to do.
const fn by_hand(correction: &Correction) -> &'static str {
    match correction {
        Correction::Remap { .. } => "find out on the spot where it is supplied from, and import that",
        Correction::ExchangeMeters { .. } => "look at both meters on the spot, and import which hangs where",
        Correction::SetRatio { .. } => "import the ratio",
        Correction::ReplaceMeter { .. } => "replace the meter, and import the new one",
        Correction::SetClock { .. } => "set the clock of the meter",
        Correction::RegisterUnmeteredSupply { .. } => "register the supply, or meter it",
        Correction::RegisterGeneration => "register the generator, and read both directions",
        Correction::CheckZone => "check its suspect readings, ratings and ratios, and who is not registered",
    }
}

fn out(row: &SqliteRow) -> Result<StoredFinding, StoreError> {
    let mut finding: StoredFinding = serde_json::from_str(row.get(1))?;
    finding.id = id_out(row.get(0));
    Ok(finding)
}

async fn write(tx: &mut SqliteConnection, id: u64, finding: &StoredFinding) -> Result<(), StoreError> {
    sqlx::query("UPDATE finding SET state = $2, body = $3 WHERE id = $1")
        .bind(id_in(id))
        .bind(finding.state.word())
        .bind(serde_json::to_string(finding)?)
        .execute(tx)
        .await?;
    Ok(())
}

fn meter_of(finding: &Finding) -> Option<MeterId> {
    match finding.subject {
        Subject::UsagePoint { meter, .. } | Subject::Observer { meter, .. } => Some(meter),
        Subject::Zone { .. } => None,
    }
}

/// Opens a finding within a slot's transaction, or takes note that it was seen again. What was dismissed stays dismissed.
pub(crate) async fn seen(tx: &mut SqliteConnection, finding: Finding, at: Timestamp) -> Result<(), StoreError> {
    let subject = serde_json::to_string(&finding.subject)?;
    let key = format!("{} {} {subject}", finding.kind.word(), finding.zone);
    let known = sqlx::query("SELECT id, body FROM finding WHERE key = $1").bind(&key).fetch_optional(&mut *tx).await?;
    if let Some(known) = known.as_ref().map(out).transpose()? {
        let mut again = known;
        let decided = again.decision.as_ref().map(|decision| decision.at);
        if again.state == FindingState::Accepted && decided.is_some_and(|d| at.seconds_since(d) >= REOPEN_SECONDS) {
            again.state = FindingState::Open;
        }
        (again.finding, again.seen_at) = (finding, at);
        return write(tx, again.id, &again).await;
    }
    let (kind, zone, meter) = (finding.kind.word(), finding.zone, meter_of(&finding));
    let new = StoredFinding { id: 0, finding, state: FindingState::Open, opened_at: at, seen_at: at, decision: None };
    sqlx::query("INSERT INTO finding (key, kind, zone, meter, state, opened_at, body) VALUES ($1,$2,$3,$4,$5,$6,$7)")
        .bind(&key)
        .bind(kind)
        .bind(zone.as_str())
        .bind(meter.as_ref().map(MeterId::as_str))
        .bind(new.state.word())
        .bind(at.0)
        .bind(serde_json::to_string(&new)?)
        .execute(tx)
        .await?;
    Ok(())
}
