//! Controls: rows with a history, made and changed under the supply rules in one transaction with the audit.

use metering::{
    Approval, ApprovedControl, Approver, Control, ControlKind, ControlState, EventKind, MeterId, Timestamp,
    UsagePointId, ZoneId,
};
use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    audit,
    change::Change,
    directory::{Store, id_in, id_out, time},
    error::StoreError,
    master, setting, topology,
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

impl Store {
    /// Asks for a control, and approves it when the request says so. Rules, limits, abort switch and audit are one transaction.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with the rule that forbids it (the refusal is audited), or unknown target.
    pub async fn request_control(&self, request: ControlRequest, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.inner.main.begin().await?;
        let place = locate(&mut tx, &request.target, now).await?;
        let (by, subject) = (by_word(&request.by), format!("meter:{}", place.meter));
        if let Some(rule) = forbidden(&mut tx, &request, &place, now).await? {
            let detail = format!("{}: {rule}", request.kind.word());
            audit::record(&mut tx, now, audit::Entry { by: &by, action: "control.refuse", subject, detail }).await?;
            tx.commit().await?;
            return Err(StoreError::Refused(rule));
        }
        let id = insert(&mut tx, &request, &place, None, now).await?;
        tx.commit().await?;
        self.announce(Change::Control { id });
        Ok(id)
    }

    /// Gives the permission that a requested control waits for.
    ///
    /// # Errors
    /// When there is no such control, it is not in state Requested, or a supply rule forbids it now.
    pub async fn approve_control(
        &self,
        id: u64,
        by: Approver,
        reason: &str,
        now: Timestamp,
    ) -> Result<StoredControl, StoreError> {
        let mut tx = self.inner.main.begin().await?;
        let control = read_one(&mut tx, id).await?.ok_or_else(|| StoreError::unknown("control", id))?;
        if control.state != ControlState::Requested {
            let word = control.state.word();
            return Err(StoreError::Refused(format!("control {id} is {word}, only a requested one can be approved")));
        }
        let request = ControlRequest {
            target: ControlTarget::Meter(control.meter),
            kind: control.kind,
            reason: control.reason.clone(),
            by: by.clone(),
            approve: true,
            expires: control.expires,
            case: control.case,
        };
        let place = Place { meter: control.meter, usage_point: control.usage_point, feeder: control.feeder };
        if let Some(rule) = forbidden(&mut tx, &request, &place, now).await? {
            return Err(StoreError::Refused(rule));
        }
        let approval = Approval { approver: by.clone(), at: now, reason: clip(reason) };
        sqlx::query("UPDATE control SET approval = $2, approved_at = $3 WHERE id = $1")
            .bind(id_in(id))
            .bind(serde_json::to_string(&approval)?)
            .bind(now.0)
            .execute(&mut *tx)
            .await?;
        enter(&mut tx, id, &ControlState::Approved, now, reason).await?;
        let entry = audit::Entry {
            by: &by_word(&by),
            action: "control.approve",
            subject: format!("meter:{}", control.meter),
            detail: format!("control {id}: {reason}"),
        };
        audit::record(&mut tx, now, entry).await?;
        let approved = read_one(&mut tx, id).await?.ok_or_else(|| StoreError::unknown("control", id))?;
        tx.commit().await?;
        self.announce(Change::Control { id });
        Ok(approved)
    }

    /// Takes a step; `false` when the control is in that state already.
    ///
    /// # Errors
    /// When there is no such control or the step is not legal from where it stands.
    pub async fn change_control(&self, change: ControlChange) -> Result<bool, StoreError> {
        let mut tx = self.inner.main.begin().await?;
        let changed = self::change(&mut tx, &change).await?;
        tx.commit().await?;
        if changed {
            self.announce(Change::Control { id: change.id });
        }
        Ok(changed)
    }

    /// Controls, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn controls(&self, filter: ControlFilter) -> Result<Vec<StoredControl>, StoreError> {
        let mut tx = self.inner.main_read.begin().await?;
        read(&mut tx, None, &filter).await
    }

    /// Controls that have not ended, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_controls(&self) -> Result<Vec<StoredControl>, StoreError> {
        let filter = ControlFilter { open_only: true, limit: u32::MAX, ..ControlFilter::default() };
        let mut open = self.controls(filter).await?;
        open.reverse();
        Ok(open)
    }

    /// One control.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn control(&self, id: u64) -> Result<Option<StoredControl>, StoreError> {
        let mut tx = self.inner.main_read.begin().await?;
        read_one(&mut tx, id).await
    }
}

/// Whether a control can take supply away.
fn cuts_supply(kind: &ControlKind) -> bool {
    matches!(kind, ControlKind::Disconnect | ControlKind::LoadLimit { limit_w: Some(_) })
}

/// Whether a control only gives supply back.
fn restores_supply(kind: &ControlKind) -> bool {
    matches!(kind, ControlKind::Reconnect | ControlKind::LoadLimit { limit_w: None })
}

/// `person` or `policy:person`.
fn by_word(by: &Approver) -> String {
    match by {
        Approver::Person(name) => name.clone(),
        Approver::Policy(name) => format!("policy:{name}"),
    }
}

fn clip(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

struct Place {
    meter: MeterId,
    usage_point: Option<UsagePointId>,
    feeder: Option<ZoneId>,
}

async fn locate(tx: &mut SqliteConnection, target: &ControlTarget, now: Timestamp) -> Result<Place, StoreError> {
    let topology = topology::read(tx, now).await?;
    match *target {
        ControlTarget::Meter(meter) => {
            let point = topology.usage_point_of(meter);
            let zone = point.map(|p| p.zone).or_else(|| topology.observed_by(meter).map(|z| z.zone));
            let feeder = zone.and_then(|zone| topology.feeder_of(zone));
            Ok(Place { meter, usage_point: point.map(|p| p.usage_point), feeder })
        }
        ControlTarget::UsagePoint(usage_point) => {
            let point =
                topology.usage_point(usage_point).ok_or_else(|| StoreError::unknown("usage point", usage_point))?;
            let installed = point.installation.as_ref().ok_or_else(|| {
                StoreError::Refused(format!(
                    "no meter is installed at {usage_point} now: import its installation first"
                ))
            })?;
            Ok(Place { meter: installed.meter, usage_point: Some(usage_point), feeder: topology.feeder_of(point.zone) })
        }
    }
}

/// The rule that forbids a control, if any. Counts within the caller's transaction, so two requests cannot slip through.
async fn forbidden(
    tx: &mut SqliteConnection,
    request: &ControlRequest,
    place: &Place,
    now: Timestamp,
) -> Result<Option<String>, StoreError> {
    if request.expires <= now {
        return Ok(Some(format!("it would expire at {}, which is not after now ({now})", request.expires)));
    }
    if request.reason.trim().is_empty() {
        return Ok(Some("a control needs a reason: say why in a few words".to_owned()));
    }
    let aborted: bool = setting::read(tx, "abort_switch").await?.unwrap_or(false);
    if aborted && !restores_supply(&request.kind) {
        return Ok(Some("the abort switch is on: only restores are sent until it is switched off".to_owned()));
    }
    if !cuts_supply(&request.kind) {
        return Ok(None);
    }
    if let Some(usage_point) = place.usage_point {
        let never: Option<i64> = sqlx::query_scalar("SELECT never_disconnect FROM usage_point WHERE id = $1")
            .bind(usage_point.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        if never.is_some_and(|flag| flag != 0) {
            return Ok(Some(format!("{usage_point} is marked never to be disconnected")));
        }
    }
    let observes: Option<String> =
        sqlx::query_scalar("SELECT zone FROM zone_version WHERE meter = $1 AND valid_from <= $2 AND valid_to > $2")
            .bind(place.meter.as_str())
            .bind(now.0)
            .fetch_optional(&mut *tx)
            .await?;
    if let Some(zone) = observes {
        return Ok(Some(format!("{} is the observer of zone {zone}: it would cut the whole zone", place.meter)));
    }
    if !request.approve {
        return Ok(None);
    }
    over_limit(tx, place, now).await
}

async fn over_limit(tx: &mut SqliteConnection, place: &Place, now: Timestamp) -> Result<Option<String>, StoreError> {
    let policy: SupplyPolicy = setting::read(tx, "policy").await?.unwrap_or_default();
    let cuts = async |tx: &mut SqliteConnection, seconds: i64, feeder: Option<ZoneId>| -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT COUNT(*) FROM control
             WHERE cuts_supply = 1 AND approved_at > $1 AND ($2 IS NULL OR feeder = $2)",
        )
        .bind(now.plus(-seconds).0)
        .bind(feeder.as_ref().map(ZoneId::as_str))
        .fetch_one(tx)
        .await?)
    };
    if cuts(&mut *tx, 3_600, None).await? >= i64::from(policy.per_hour_max) {
        return Ok(Some(format!("{} disconnections within the hour is the limit: wait", policy.per_hour_max)));
    }
    if let Some(feeder) = place.feeder
        && cuts(&mut *tx, 3_600, Some(feeder)).await? >= i64::from(policy.per_feeder_hour_max)
    {
        let most = policy.per_feeder_hour_max;
        return Ok(Some(format!("{most} disconnections on feeder {feeder} within the hour is the limit: wait")));
    }
    let points: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM usage_point").fetch_one(&mut *tx).await?;
    let share = points.saturating_mul(i64::from(policy.per_day_per_mille)) / 1_000;
    let most = share.max(i64::from(policy.per_day_min));
    if cuts(&mut *tx, 86_400, None).await? >= most {
        return Ok(Some(format!("{most} disconnections within 24 hours is the limit: wait")));
    }
    Ok(None)
}

/// Makes a control in a slot's transaction; one that a rule forbids is stored as refused.
pub(crate) async fn create(
    tx: &mut SqliteConnection,
    request: &ControlRequest,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let place = locate(tx, &request.target, now).await?;
    let rule = forbidden(tx, request, &place, now).await?;
    insert(tx, request, &place, rule, now).await
}

async fn insert(
    tx: &mut SqliteConnection,
    request: &ControlRequest,
    place: &Place,
    refused: Option<String>,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let reason = clip(&request.reason);
    let approval = (request.approve && refused.is_none()).then(|| Approval {
        approver: request.by.clone(),
        at: now,
        reason: reason.clone(),
    });
    let counter = master::next_counter(tx, place.meter).await?;
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO control (meter, usage_point, feeder, case_id, kind, cuts_supply, state, is_final, reason, state_reason,
            requested_by, requested_at, approval, approved_at, expires, counter)
         VALUES ($1,$2,$3,$4,$5,$6,'Requested',0,$7,'',$8,$9,$10,$11,$12,$13) RETURNING id",
    )
    .bind(place.meter.as_str())
    .bind(place.usage_point.as_ref().map(UsagePointId::as_str))
    .bind(place.feeder.as_ref().map(ZoneId::as_str))
    .bind(request.case.map(id_in))
    .bind(serde_json::to_string(&request.kind)?)
    .bind(i64::from(cuts_supply(&request.kind)))
    .bind(&reason)
    .bind(serde_json::to_string(&request.by)?)
    .bind(now.0)
    .bind(approval.as_ref().map(serde_json::to_string).transpose()?)
    .bind(approval.as_ref().map(|a| a.at.0))
    .bind(request.expires.0)
    .bind(id_in(counter))
    .fetch_one(&mut *tx)
    .await?;
    let id = id_out(id);
    enter(tx, id, &ControlState::Requested, now, &reason).await?;
    let by = by_word(&request.by);
    let action = match (&approval, &refused) {
        (Some(_), _) => "control.request_approved",
        (None, Some(_)) => "control.refuse",
        (None, None) => "control.request",
    };
    let why = refused.as_deref().unwrap_or(&reason);
    let detail = format!("control {id}: {}: {why}", request.kind.word());
    let subject = format!("meter:{}", place.meter);
    audit::record(tx, now, audit::Entry { by: &by, action, subject, detail }).await?;
    if let Some(rule) = refused {
        enter(tx, id, &ControlState::Refused(rule.clone()), now, &rule).await?;
    } else if approval.is_some() {
        enter(tx, id, &ControlState::Approved, now, &by).await?;
    }
    Ok(id)
}

/// Whether a control may go from one state to another (approval apart).
fn is_legal(from: &ControlState, to: &ControlState) -> bool {
    use ControlState::{Acknowledged, Approved, Expired, Failed, Refused, Requested, Sent, Verified};
    match from {
        Requested => matches!(to, Refused(_) | Expired),
        Approved => matches!(to, Sent | Refused(_) | Expired | Failed(_)),
        Sent => matches!(to, Acknowledged | Verified | Refused(_) | Expired | Failed(_)),
        Acknowledged => matches!(to, Verified | Expired | Failed(_)),
        Verified | Refused(_) | Expired | Failed(_) => false,
    }
}

/// Takes a step within a transaction; `false` when it was taken before.
pub(crate) async fn change(tx: &mut SqliteConnection, change: &ControlChange) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT state, state_reason FROM control WHERE id = $1")
        .bind(id_in(change.id))
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| StoreError::unknown("control", change.id))?;
    let from =
        ControlState::from_word(row.get(0), row.get(1)).ok_or_else(|| StoreError::damaged("a control's state"))?;
    if from.word() == change.to.word() {
        return Ok(false);
    }
    if !is_legal(&from, &change.to) {
        let (from, to) = (from.word(), change.to.word());
        return Err(StoreError::Refused(format!("control {} is {from} and cannot become {to}", change.id)));
    }
    enter(tx, change.id, &change.to, change.at, &change.note).await?;
    Ok(true)
}

async fn enter(
    tx: &mut SqliteConnection,
    id: u64,
    state: &ControlState,
    at: Timestamp,
    note: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE control SET state = $2, state_reason = $3, is_final = $4 WHERE id = $1")
        .bind(id_in(id))
        .bind(state.word())
        .bind(clip(state.reason()))
        .bind(i64::from(state.is_final()))
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "INSERT INTO control_step (control, step, at, state, reason, note)
         VALUES ($1, (SELECT COUNT(*) FROM control_step WHERE control = $1), $2, $3, $4, $5)",
    )
    .bind(id_in(id))
    .bind(at.0)
    .bind(state.word())
    .bind(clip(state.reason()))
    .bind(clip(note))
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn read_one(tx: &mut SqliteConnection, id: u64) -> Result<Option<StoredControl>, StoreError> {
    Ok(read(tx, Some(id), &ControlFilter::default()).await?.pop())
}

async fn read(
    tx: &mut SqliteConnection,
    id: Option<u64>,
    filter: &ControlFilter,
) -> Result<Vec<StoredControl>, StoreError> {
    let limit = if filter.limit == 0 { 1_000 } else { filter.limit };
    let rows = sqlx::query(
        "SELECT id, meter, usage_point, feeder, case_id, kind, reason, state, state_reason, requested_by, requested_at,
            approval, expires, counter
         FROM control
         WHERE ($1 IS NULL OR id = $1) AND ($2 IS NULL OR meter = $2) AND ($3 IS NULL OR usage_point = $3)
           AND ($4 IS NULL OR case_id = $4) AND is_final <= $5
         ORDER BY id DESC LIMIT $6",
    )
    .bind(id.map(id_in))
    .bind(filter.meter.as_ref().map(MeterId::as_str))
    .bind(filter.usage_point.as_ref().map(UsagePointId::as_str))
    .bind(filter.case.map(id_in))
    .bind(i64::from(!filter.open_only))
    .bind(i64::from(limit))
    .fetch_all(&mut *tx)
    .await?;
    let mut controls = Vec::with_capacity(rows.len());
    for row in &rows {
        let steps = sqlx::query("SELECT at, state, reason, note FROM control_step WHERE control = $1 ORDER BY step")
            .bind(row.get::<i64, _>(0))
            .fetch_all(&mut *tx)
            .await?;
        controls.push(control_out(row, &steps)?);
    }
    Ok(controls)
}

fn control_out(row: &SqliteRow, steps: &[SqliteRow]) -> Result<StoredControl, StoreError> {
    let state = |word: &str, reason: &str| {
        ControlState::from_word(word, reason).ok_or_else(|| StoreError::damaged("a control's state"))
    };
    let damaged = |e| StoreError::damaged(format!("a control's place: {e}"));
    Ok(StoredControl {
        id: id_out(row.get(0)),
        meter: master::meter_id(row.get(1))?,
        usage_point: row.get::<Option<&str>, _>(2).map(UsagePointId::new).transpose().map_err(damaged)?,
        feeder: row.get::<Option<&str>, _>(3).map(ZoneId::new).transpose().map_err(damaged)?,
        case: row.get::<Option<i64>, _>(4).map(id_out),
        kind: serde_json::from_str(row.get(5))?,
        reason: row.get(6),
        state: state(row.get(7), row.get(8))?,
        requested_by: serde_json::from_str(row.get(9))?,
        requested_at: time(row.get(10)),
        approval: row.get::<Option<&str>, _>(11).map(serde_json::from_str).transpose()?,
        expires: time(row.get(12)),
        counter: id_out(row.get(13)),
        history: steps
            .iter()
            .map(|step| {
                Ok(ControlStep { at: time(step.get(0)), state: state(step.get(1), step.get(2))?, note: step.get(3) })
            })
            .collect::<Result<_, StoreError>>()?,
    })
}
