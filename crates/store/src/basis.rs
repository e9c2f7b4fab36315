//! What the evidence of a case was computed from, kept so that every number can be computed again: the balances as they were then, which
//! readings were missing then, which events were known. The readings themselves are not copied: they are in the store for good.

use std::collections::BTreeMap;

use losses::{
    alarm::{AlarmKind, Chart},
    balance::EnergyBalance,
};
use metering::{MeterId, Timestamp, ZoneId};
use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection};

use crate::{
    balance::{pack, unpack},
    directory::{Store, id_in},
    error::StoreError,
};

/// Bases kept of a case, the newest: of those that its evidence came from …
const KEPT_EVIDENCE: i64 = 8;
/// … and of those that only its ranking came from.
const KEPT_RANKING: i64 = 1;

/// What an explanation of a zone's imbalance was computed from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseBasis {
    /// When it was computed; nothing later was used.
    pub at: Timestamp,
    /// The zone.
    pub zone: ZoneId,
    /// Which way its balance is off.
    pub kind: AlarmKind,
    /// Estimated begin.
    pub onset: Timestamp,
    /// Which test raised the alarm.
    pub by: Chart,
    /// The newest event that was known.
    pub events_through: u64,
    /// Meters that could not be named, because a finding about them was open.
    #[serde(default)]
    pub withheld: Vec<MeterId>,
    /// Intervals (their index in `balances`) that were not there or not trusted then, by meter.
    pub missing: BTreeMap<MeterId, Vec<u32>>,
    /// The seconds at which all meters were read, where that was done.
    #[serde(default)]
    pub instants: Vec<BasisInstant>,
    /// Version of the program.
    pub program: String,
    /// The balances of the zone, ascending.
    #[serde(skip)]
    pub balances: Vec<EnergyBalance>,
    /// Those of the zone above it, where there is one.
    #[serde(skip)]
    pub parent: Vec<EnergyBalance>,
}

/// A second at which all meters of a zone were read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BasisInstant {
    /// When.
    pub at: Timestamp,
    /// Meters without a usable answer then.
    pub unheard: Vec<MeterId>,
}

/// A basis to be kept with a case.
#[derive(Clone, Debug, PartialEq)]
pub struct NewBasis {
    /// A case that is there …
    pub case: Option<u64>,
    /// … or the index of one that the same commit opens.
    pub opened_case: Option<usize>,
    /// Whether evidence of the case came from it, and not its ranking alone.
    pub carries_evidence: bool,
    /// The basis.
    pub basis: CaseBasis,
}

impl NewBasis {
    pub(crate) fn case_of(&self, opened: &[u64]) -> Result<u64, StoreError> {
        let opened = self.opened_case.and_then(|index| opened.get(index).copied());
        self.case.or(opened).ok_or_else(|| StoreError::unknown("case of a basis", "none"))
    }
}

impl Store {
    /// What the evidence of a case was computed from, newest first.
    ///
    /// # Errors
    /// When the database fails or a row is damaged.
    pub async fn case_bases(&self, case: u64) -> Result<Vec<CaseBasis>, StoreError> {
        let rows = sqlx::query("SELECT head, balances, parent FROM case_basis WHERE case_id = $1 ORDER BY id DESC")
            .bind(id_in(case))
            .fetch_all(&self.inner.main_read)
            .await?;
        rows.iter()
            .map(|row| {
                let mut basis: CaseBasis = serde_json::from_str(row.get(0))?;
                basis.balances = unpack(basis.zone, 0, row.get(1))?;
                basis.parent = unpack(basis.zone, 0, row.get(2))?;
                Ok(basis)
            })
            .collect()
    }
}

/// Adds a basis within a slot's transaction; the oldest go.
pub(crate) async fn write(tx: &mut SqliteConnection, case: u64, new: &NewBasis) -> Result<(), StoreError> {
    let basis = &new.basis;
    let carries = i64::from(new.carries_evidence);
    // Day 0: offsets are seconds since 1970, which 32 bits hold until 2106.
    sqlx::query(
        "INSERT INTO case_basis (case_id, at, carries_evidence, head, balances, parent) VALUES ($1,$2,$3,$4,$5,$6)",
    )
    .bind(id_in(case))
    .bind(basis.at.0)
    .bind(carries)
    .bind(serde_json::to_string(basis)?)
    .bind(pack(0, basis.balances.iter()))
    .bind(pack(0, basis.parent.iter()))
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "DELETE FROM case_basis WHERE case_id = $1 AND carries_evidence = $2 AND id NOT IN
         (SELECT id FROM case_basis WHERE case_id = $1 AND carries_evidence = $2 ORDER BY id DESC LIMIT $3)",
    )
    .bind(id_in(case))
    .bind(carries)
    .bind(if new.carries_evidence { KEPT_EVIDENCE } else { KEPT_RANKING })
    .execute(&mut *tx)
    .await?;
    Ok(())
}
