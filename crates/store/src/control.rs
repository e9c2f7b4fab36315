//! Controls: rows with a history, made and changed under the supply rules in one transaction with the audit.

use std::collections::BTreeMap;

use metering::{
    Approval, ApprovedControl, Approver, Control, ControlKind, ControlState, MeterId, Timestamp, UsagePointId, ZoneId,
    supply::{Moment, Permit},
};
use serde::{Deserialize, Serialize};
use sqlx::{QueryBuilder, Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    audit,
    change::Change,
    directory::{Store, id_in, id_out, time},
    error::StoreError,
    master,
    supply::{self, Place, Question},
};

/// Longest reason or note kept.
const TEXT_BYTES_MAX: usize = 500;
/// Controls whose steps are read in one statement.
const IDS: usize = 500;
/// Most controls of one meter that cut supply, or that do not, and have not ended.
const OPEN_PER_METER_MAX: i64 = 10;
/// Most controls that one person or policy asked for and that have not ended; restores are not bounded so.
const OPEN_PER_PERSON_MAX: i64 = 500;

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
    /// Where it was asked for.
    pub(crate) fn place(&self) -> Place {
        Place { meter: self.meter, usage_point: self.usage_point, feeder: self.feeder }
    }

    /// What is asked about it once it is stored.
    pub(crate) fn question<'a>(&'a self, place: &'a Place) -> Question<'a> {
        Question {
            kind: self.kind,
            expires: self.expires,
            place,
            asked_by: &self.requested_by,
            approved_by: self.approval.as_ref().map_or(&self.requested_by, |approval| &approval.approver),
            approved: self.approval.as_ref().map(|approval| (approval.at, self.id)),
        }
    }

    /// When a state was entered first.
    pub fn entered(&self, word: &str) -> Option<Timestamp> {
        self.history.iter().find(|step| step.state.word() == word).map(|step| step.at)
    }
}

/// Whether a control may be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sending {
    /// It may, as this frame (unsigned); it stands in state Sent.
    Send(Box<ApprovedControl>),
    /// Not before this time.
    Wait(Timestamp),
    /// It must not; the rule. One that was never sent is refused by it, one that was sent is not sent again.
    Stopped(String),
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
    /// Only those with a smaller number.
    pub before: Option<u64>,
    /// Most rows, newest first; 0: all. Nothing is left out that was not asked to be.
    pub limit: u32,
}

impl Store {
    /// Asks for a control, and approves it when the request says so. Rules, limits, abort switch and audit are one transaction.
    /// Where the rules want another person, it is only asked for, and waits in state Requested.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with the rule that forbids it (the refusal is audited), or unknown target.
    pub async fn request_control(&self, request: ControlRequest, now: Timestamp) -> Result<u64, StoreError> {
        if let ControlKind::LoadLimit { limit_w: Some(limit) } = request.kind
            && limit.0 <= 0
        {
            return Err(StoreError::Invalid("a load limit is above 0 W; without one the limit is lifted".to_owned()));
        }
        let made = self
            .transaction("control.request", async |tx| {
                let place = supply::locate(tx, &request.target, now).await?;
                let rule = match too_many_open(tx, &request, &place).await? {
                    Some(rule) => Some(rule),
                    None => match self.decide(tx, &request, &place, now).await? {
                        Permit::Refused(rule) => Some(rule),
                        decided => return Ok(Ok(insert(tx, &request, &place, decided, now).await?)),
                    },
                };
                let rule = rule.unwrap_or_default();
                let detail = format!("{}: {rule}", request.kind.word());
                let (by, subject) = (by_word(&request.by), format!("meter:{}", place.meter));
                audit::record(tx, now, audit::Entry { by: &by, action: "control.refuse", subject, detail }).await?;
                Ok(Err(rule))
            })
            .await?;
        let id = made.map_err(StoreError::Refused)?;
        self.announce(Change::Control { id });
        Ok(id)
    }

    /// What the supply rules say to a request.
    async fn decide(
        &self,
        tx: &mut SqliteConnection,
        request: &ControlRequest,
        place: &Place,
        now: Timestamp,
    ) -> Result<Permit, StoreError> {
        if request.reason.trim().is_empty() {
            return Ok(Permit::Refused("a control needs a reason: say why in a few words".to_owned()));
        }
        let question = Question {
            kind: request.kind,
            expires: request.expires,
            place,
            asked_by: &request.by,
            approved_by: &request.by,
            approved: None,
        };
        let moment = if request.approve { Moment::Approval } else { Moment::Request };
        self.permit(tx, &question, moment, now).await
    }

    /// Gives the permission that a requested control waits for.
    ///
    /// # Errors
    /// When there is no such control, it is not in state Requested, a supply rule forbids it now, or another person must do it.
    pub async fn approve_control(
        &self,
        id: u64,
        by: Approver,
        reason: &str,
        now: Timestamp,
    ) -> Result<StoredControl, StoreError> {
        let approved =
            self.transaction("control.approve", async |tx| self.approve(tx, id, by, reason, now).await).await?;
        self.announce(Change::Control { id });
        Ok(approved)
    }

    async fn approve(
        &self,
        tx: &mut SqliteConnection,
        id: u64,
        by: Approver,
        reason: &str,
        now: Timestamp,
    ) -> Result<StoredControl, StoreError> {
        let control = read_one(tx, id).await?.ok_or_else(|| StoreError::unknown("control", id))?;
        if control.state != ControlState::Requested {
            let word = control.state.word();
            return Err(StoreError::Refused(format!("control {id} is {word}, only a requested one can be approved")));
        }
        let place = control.place();
        let question = Question { approved_by: &by, ..control.question(&place) };
        match self.permit(tx, &question, Moment::Approval, now).await? {
            Permit::Granted | Permit::Wait(..) => {}
            Permit::SecondPerson(rule) | Permit::Refused(rule) => return Err(StoreError::Refused(rule)),
        }
        let approval = Approval { approver: by.clone(), at: now, reason: clip(reason) };
        sqlx::query("UPDATE control SET approval = $2, approved_at = $3 WHERE id = $1")
            .bind(id_in(id))
            .bind(serde_json::to_string(&approval)?)
            .bind(now.0)
            .execute(&mut *tx)
            .await?;
        enter(tx, id, &ControlState::Approved, now, reason).await?;
        let entry = audit::Entry {
            by: &by_word(&by),
            action: "control.approve",
            subject: format!("meter:{}", control.meter),
            detail: format!("control {id}: {reason}"),
        };
        audit::record(tx, now, entry).await?;
        read_one(tx, id).await?.ok_or_else(|| StoreError::unknown("control", id))
    }

    /// Asks once more whether an approved control may be sent, enters Sent if so, and takes the counter of its frame; all in one
    /// transaction. To be asked before every sending, the first and the repeated ones.
    ///
    /// # Errors
    /// When there is no such control or the database fails.
    pub async fn may_send(&self, id: u64, note: &str, now: Timestamp) -> Result<Sending, StoreError> {
        let (sending, changed) =
            self.transaction("control.send", async |tx| self.prepare_sending(tx, id, note, now).await).await?;
        if changed {
            self.announce(Change::Control { id });
        }
        Ok(sending)
    }

    /// The answer, and whether a state was entered.
    async fn prepare_sending(
        &self,
        tx: &mut SqliteConnection,
        id: u64,
        note: &str,
        now: Timestamp,
    ) -> Result<(Sending, bool), StoreError> {
        let control = read_one(tx, id).await?.ok_or_else(|| StoreError::unknown("control", id))?;
        let is_first = control.state == ControlState::Approved;
        let Some(approval) = control.approval.clone().filter(|_| is_first || control.state == ControlState::Sent)
        else {
            return Ok((Sending::Stopped(format!("control {id} is {}", control.state.word())), false));
        };
        let place = control.place();
        let question = control.question(&place);
        match self.permit(tx, &question, Moment::Sending, now).await? {
            Permit::Granted | Permit::SecondPerson(_) => {}
            Permit::Wait(_, until) => return Ok((Sending::Wait(until), false)),
            Permit::Refused(rule) => {
                let action = if is_first { "control.refuse" } else { "control.hold" };
                let (subject, detail) = (format!("meter:{}", control.meter), format!("control {id}: {rule}"));
                audit::record(tx, now, audit::Entry { by: "pipeline", action, subject, detail }).await?;
                if is_first {
                    enter(tx, id, &ControlState::Refused(rule.clone()), now, &rule).await?;
                }
                return Ok((Sending::Stopped(rule), is_first));
            }
        }
        let counter = master::next_counter(tx, control.meter).await?;
        sqlx::query("UPDATE control SET counter = $2 WHERE id = $1")
            .bind(id_in(id))
            .bind(id_in(counter))
            .execute(&mut *tx)
            .await?;
        if is_first {
            enter(tx, id, &ControlState::Sent, now, note).await?;
        }
        let (kind, expires) = (control.kind, control.expires);
        let frame = Control { id, kind, expires, counter, signatures: Vec::new() };
        Ok((Sending::Send(Box::new(ApprovedControl::new(control.meter, frame, approval))), is_first))
    }

    /// An identifier for a question to a meter that nobody can guess: 52 random bits above every control's number, and below 2^53, since
    /// JSON on many small computers keeps no larger number whole.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn unguessable_id(&self) -> Result<u64, StoreError> {
        let [a, b, c, d, e, f, g, h, ..] = crate::sessions::random_bytes()?;
        let bits = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Ok((1 << 52) | (bits & ((1 << 52) - 1)))
    }

    /// Takes a step; `false` when the control is in that state already.
    ///
    /// # Errors
    /// When there is no such control or the step is not legal from where it stands.
    pub async fn change_control(&self, change: ControlChange) -> Result<bool, StoreError> {
        let changed = self.transaction("control.change", async |tx| self::change(tx, &change).await).await?;
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
        let filter = ControlFilter { open_only: true, ..ControlFilter::default() };
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

impl Store {
    /// Makes a control in a slot's transaction; one that a rule forbids is stored as refused. `None`, with a row in the audit, when
    /// no meter hangs where it is meant for any more.
    pub(crate) async fn create_control(
        &self,
        tx: &mut SqliteConnection,
        request: &ControlRequest,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let place = match supply::locate(tx, &request.target, now).await {
            Ok(place) => place,
            Err(why @ (StoreError::Refused(_) | StoreError::Unknown { .. })) => {
                let (by, detail) = (by_word(&request.by), format!("{}: {why}", request.kind.word()));
                let subject = match request.target {
                    ControlTarget::UsagePoint(point) => format!("usage_point:{point}"),
                    ControlTarget::Meter(meter) => format!("meter:{meter}"),
                };
                audit::record(tx, now, audit::Entry { by: &by, action: "control.refuse", subject, detail }).await?;
                return Ok(None);
            }
            Err(other) => return Err(other),
        };
        let decided = self.decide(tx, request, &place, now).await?;
        insert(tx, request, &place, decided, now).await.map(Some)
    }
}

/// Whether as many wait already as one meter or one person may have.
async fn too_many_open(
    tx: &mut SqliteConnection,
    request: &ControlRequest,
    place: &Place,
) -> Result<Option<String>, StoreError> {
    let restores = request.kind.restores_supply();
    let row = sqlx::query(
        "SELECT COALESCE(SUM(meter = $1), 0), COALESCE(SUM(requested_by = $2), 0) FROM control
         WHERE is_final = 0 AND cuts_supply = $3",
    )
    .bind(place.meter.as_str())
    .bind(serde_json::to_string(&request.by)?)
    .bind(i64::from(request.kind.cuts_supply()))
    .fetch_one(tx)
    .await?;
    let (of_meter, of_person): (i64, i64) = (row.get(0), row.get(1));
    if of_meter >= OPEN_PER_METER_MAX {
        return Ok(Some(format!(
            "{of_meter} controls to {} have not ended: wait for them, or let them expire",
            place.meter
        )));
    }
    let too_many = of_person >= OPEN_PER_PERSON_MAX && !restores;
    Ok(too_many
        .then(|| format!("{of_person} controls that {} asked for have not ended: wait for them", by_word(&request.by))))
}

/// Stores a control as it was decided.
async fn insert(
    tx: &mut SqliteConnection,
    request: &ControlRequest,
    place: &Place,
    decided: Permit,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let reason = clip(&request.reason);
    let is_granted = matches!(decided, Permit::Granted | Permit::Wait(..));
    let approval = (request.approve && is_granted).then(|| Approval {
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
    .bind(i64::from(request.kind.cuts_supply()))
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
    let by = by_word(&request.by);
    let (action, why, note) = match &decided {
        Permit::Refused(rule) => ("control.refuse", rule, &reason),
        Permit::SecondPerson(rule) => ("control.request", rule, rule),
        _ if approval.is_some() => ("control.request_approved", &reason, &reason),
        _ => ("control.request", &reason, &reason),
    };
    enter(tx, id, &ControlState::Requested, now, note).await?;
    let detail = format!("control {id}: {}: {why}", request.kind.word());
    let subject = format!("meter:{}", place.meter);
    audit::record(tx, now, audit::Entry { by: &by, action, subject, detail }).await?;
    if let Permit::Refused(rule) = &decided {
        enter(tx, id, &ControlState::Refused(rule.clone()), now, rule).await?;
    } else if approval.is_some() {
        enter(tx, id, &ControlState::Approved, now, &by).await?;
    }
    Ok(id)
}

/// Whether a control may go from one state to another (approval apart).
fn is_legal(from: &ControlState, to: &ControlState) -> bool {
    use ControlState::{Acknowledged, Approved, Expired, Failed, Refused, Requested, Sent, Unseen, Verified};
    match from {
        Requested => matches!(to, Refused(_) | Expired),
        Approved => matches!(to, Sent | Refused(_) | Expired | Failed(_)),
        Sent => matches!(to, Acknowledged | Verified | Refused(_) | Expired | Failed(_)),
        Acknowledged => matches!(to, Verified | Expired | Failed(_) | Unseen(_)),
        Verified | Refused(_) | Expired | Failed(_) | Unseen(_) => false,
    }
}

/// Takes a step within a transaction; `false` when it was taken before.
pub(crate) async fn change(tx: &mut SqliteConnection, change: &ControlChange) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT state, state_reason FROM control WHERE id = $1")
        .bind(id_in(change.id))
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| StoreError::unknown("control", change.id))?;
    let from = state_out(row.get(0), row.get(1))?;
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
    let rows = sqlx::query(
        "SELECT id, meter, usage_point, feeder, case_id, kind, reason, state, state_reason, requested_by, requested_at,
            approval, expires, counter
         FROM control
         WHERE ($1 IS NULL OR id = $1) AND ($2 IS NULL OR meter = $2) AND ($3 IS NULL OR usage_point = $3)
           AND ($4 IS NULL OR case_id = $4) AND is_final <= $5 AND ($7 IS NULL OR id < $7)
         ORDER BY id DESC LIMIT $6",
    )
    .bind(id.map(id_in))
    .bind(filter.meter.as_ref().map(MeterId::as_str))
    .bind(filter.usage_point.as_ref().map(UsagePointId::as_str))
    .bind(filter.case.map(id_in))
    .bind(i64::from(!filter.open_only))
    .bind(if filter.limit == 0 { -1 } else { i64::from(filter.limit) })
    .bind(filter.before.map(id_in))
    .fetch_all(&mut *tx)
    .await?;
    let mut controls = rows.iter().map(control_out).collect::<Result<Vec<_>, _>>()?;
    for some in controls.chunks_mut(IDS) {
        let mut select =
            QueryBuilder::new("SELECT control, at, state, reason, note FROM control_step WHERE control IN (");
        let mut list = select.separated(",");
        some.iter().for_each(|control| {
            list.push_bind(id_in(control.id));
        });
        select.push(") ORDER BY control, step");
        let mut steps: BTreeMap<u64, Vec<ControlStep>> = BTreeMap::new();
        for row in select.build().fetch_all(&mut *tx).await? {
            let step =
                ControlStep { at: time(row.get(1)), state: state_out(row.get(2), row.get(3))?, note: row.get(4) };
            steps.entry(id_out(row.get(0))).or_default().push(step);
        }
        for control in some {
            control.history = steps.remove(&control.id).unwrap_or_default();
        }
    }
    Ok(controls)
}

fn state_out(word: &str, reason: &str) -> Result<ControlState, StoreError> {
    ControlState::from_word(word, reason).ok_or_else(|| StoreError::damaged("a control's state"))
}

/// A control without its steps.
fn control_out(row: &SqliteRow) -> Result<StoredControl, StoreError> {
    let damaged = |e| StoreError::damaged(format!("a control's place: {e}"));
    Ok(StoredControl {
        id: id_out(row.get(0)),
        meter: master::meter_id(row.get(1))?,
        usage_point: row.get::<Option<&str>, _>(2).map(UsagePointId::new).transpose().map_err(damaged)?,
        feeder: row.get::<Option<&str>, _>(3).map(ZoneId::new).transpose().map_err(damaged)?,
        case: row.get::<Option<i64>, _>(4).map(id_out),
        kind: serde_json::from_str(row.get(5))?,
        reason: row.get(6),
        state: state_out(row.get(7), row.get(8))?,
        requested_by: serde_json::from_str(row.get(9))?,
        requested_at: time(row.get(10)),
        approval: row.get::<Option<&str>, _>(11).map(serde_json::from_str).transpose()?,
        expires: time(row.get(12)),
        counter: id_out(row.get(13)),
        history: Vec::new(),
    })
}
