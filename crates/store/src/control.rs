//! Controls: rows with a history, made and changed under the supply rules in one transaction with the audit.

use metering::{
    Approval, ApprovedControl, Approver, Control, ControlKind, ControlState, EventKind, MeterId, Timestamp, UsagePointId,
    ZoneId,
};
use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    audit,
    change::Change,
    directory::{Store, id_in, id_out, time},
    error::StoreError,
    setting, topology,
};

/// Longest reason or note kept.
const TEXT_BYTES_MAX: usize = 500;

/// The rules for cutting supply; setting `policy`. What cuts supply is a disconnect and a load limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupplyPolicy {
    /// Event kinds (by code) on which a disconnect may be approved without a person. Default: none.
    pub automatic_kinds: Vec<EventKind>,
    /// Most cuts approved within any hour, all together.
    pub per_hour_max: u32,
    /// Most cuts approved within any hour on one feeder.
    pub per_feeder_hour_max: u32,
    /// Most cuts approved within any 24 hours, in thousandths of all usage points …
    pub per_day_per_mille: u32,
    /// … but at least this many, so that a small fleet is not barred.
    pub per_day_min: u32,
}

impl Default for SupplyPolicy {
    /// No automatic trips; 5 an hour, 3 an hour on a feeder, 0.1 % or 10 a day.
    fn default() -> Self {
        Self {
            automatic_kinds: Vec::new(),
            per_hour_max: 5,
            per_feeder_hour_max: 3,
            per_day_per_mille: 1,
            per_day_min: 10,
        }
    }
}

/// What a control is aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlTarget {
    /// The meter installed at a usage point now.
    UsagePoint(UsagePointId),
    /// A meter.
    Meter(MeterId),
}

/// A wish for a control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRequest {
    /// Where.
    pub target: ControlTarget,
    /// What.
    pub kind: ControlKind,
    /// Why, in words.
    pub reason: String,
    /// Who asks.
    pub by: Approver,
    /// Whether the one who asks also approves.
    pub approve: bool,
    /// After this the meter refuses it.
    pub expires: Timestamp,
    /// The case it belongs to.
    pub case: Option<u64>,
}

/// A control decided by the pipeline in a slot. One that the supply rules forbid is stored as refused, with the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewControl {
    /// What is asked.
    pub request: ControlRequest,
    /// The case opened in the same slot that it belongs to, by index in `SlotCommit::cases`; overrides `request.case`.
    pub opened_case: Option<usize>,
}

/// A step of a control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlChange {
    /// Which.
    pub id: u64,
    /// Its next state. Approval goes by [`Store::approve_control`].
    pub to: ControlState,
    /// When.
    pub at: Timestamp,
    /// What was seen, in words.
    pub note: String,
}

/// A step that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlStep {
    /// When.
    pub at: Timestamp,
    /// The state entered.
    #[serde(flatten)]
    pub state: ControlState,
    /// What was seen, in words.
    pub note: String,
}

/// A control as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredControl {
    /// Identifier; the same in the frame to the meter.
    pub id: u64,
    /// The meter.
    pub meter: MeterId,
    /// The usage point it was installed at.
    pub usage_point: Option<UsagePointId>,
    /// The feeder that supplied it.
    pub feeder: Option<ZoneId>,
    /// The case it belongs to.
    pub case: Option<u64>,
    /// What.
    pub kind: ControlKind,
    /// Why.
    pub reason: String,
    /// Where it stands.
    #[serde(flatten)]
    pub state: ControlState,
    /// Who asked.
    pub requested_by: Approver,
    /// When.
    pub requested_at: Timestamp,
    /// The permission, once given.
    pub approval: Option<Approval>,
    /// After this the meter refuses it.
    pub expires: Timestamp,
    /// Counter of the frame to the meter.
    pub counter: u64,
    /// Every state with its time, oldest first.
    pub history: Vec<ControlStep>,
}

impl StoredControl {
    /// The control to send (unsigned), once approved and until it ends.
    pub fn approved(&self) -> Option<ApprovedControl> {
        let approval = self.approval.clone().filter(|_| !self.state.is_final())?;
        let (id, kind, expires, counter) = (self.id, self.kind, self.expires, self.counter);
        let control = Control { id, kind, expires, counter, signatures: Vec::new() };
        Some(ApprovedControl::new(self.meter, control, approval))
    }

    /// When a state was entered first.
    pub fn entered(&self, word: &str) -> Option<Timestamp> {
        self.history.iter().find(|step| step.state.word() == word).map(|step| step.at)
    }
}

/// Which controls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlFilter {
    /// Of one meter.
    pub meter: Option<MeterId>,
    /// Of one usage point.
    pub usage_point: Option<UsagePointId>,
    /// Of one case.
    pub case: Option<u64>,
    /// Only those that have not ended.
    pub open_only: bool,
    /// Most rows, newest first; 0 = 1000.
    pub limit: u32,
}
