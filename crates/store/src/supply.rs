//! The facts that [`metering::supply::permit`] decides on, gathered in the transaction in which its answer takes effect.

use metering::{
    Approver, ControlKind, MeterId, Timestamp, UsagePointId, ZoneId,
    supply::{CutsBefore, Moment, Permit, SupplyFacts, SupplyPolicy, permit},
};
use sqlx::{Row, SqliteConnection};

use crate::{
    control::ControlTarget,
    directory::{Store, id_in, id_out},
    error::StoreError,
    master::meter_id,
    setting,
};

/// Deepest nesting of zones.
const DEPTH_MAX: usize = 32;
/// Names of programs begin so; nobody knows which person stands behind one.
pub(crate) const PROGRAM: &str = "token:";

/// Where a meter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub meter: MeterId,
    pub usage_point: Option<UsagePointId>,
    pub feeder: Option<ZoneId>,
}

/// A control about which something is to be decided.
pub(crate) struct Question<'a> {
    pub kind: ControlKind,
    pub expires: Timestamp,
    /// Where it was asked for.
    pub place: &'a Place,
    pub asked_by: &'a Approver,
    pub approved_by: &'a Approver,
    /// When it was approved and its number, once it was: cuts approved later do not count against it.
    pub approved: Option<(Timestamp, u64)>,
}

impl Store {
    /// Whether the control may do now what `moment` says. Called within the transaction that carries it out.
    pub(crate) async fn permit(
        &self,
        tx: &mut SqliteConnection,
        question: &Question<'_>,
        moment: Moment,
        now: Timestamp,
    ) -> Result<Permit, StoreError> {
        let policy: SupplyPolicy = setting::read(tx, "policy").await?.unwrap_or_default();
        let facts = SupplyFacts {
            kind: question.kind,
            expires: question.expires,
            aborted: self.is_aborted() || setting::read(tx, "abort_switch").await?.unwrap_or(false),
            protected: protected(tx, question.place.usage_point).await?,
            observes: observes(tx, question.place.meter, now).await?,
            moved: moved(tx, question.place, now).await?,
            feeder: question.place.feeder,
            cuts: cuts_before(tx, question, now).await?,
            usage_points: count(sqlx::query_scalar("SELECT COUNT(*) FROM usage_point").fetch_one(&mut *tx).await?),
            restores_minute: restores_minute(tx, question.place.feeder, now).await?,
            operators: operators(tx, now).await?,
            is_alone: is_alone(question.asked_by, question.approved_by),
        };
        Ok(permit(&facts, &policy.within(&self.ceilings()), moment, now))
    }
}

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}

/// Whether one person may stand behind both. A written policy was made by persons before; a program may be anybody's.
fn is_alone(asked_by: &Approver, approved_by: &Approver) -> bool {
    let Approver::Person(approver) = approved_by else { return false };
    match asked_by {
        Approver::Person(asker) => asker == approver || asker.starts_with(PROGRAM) || approver.starts_with(PROGRAM),
        Approver::Policy(_) => approver.starts_with(PROGRAM),
    }
}

/// Who is barred still counts as an operator for so long, seconds: nobody becomes the only one by barring the others.
const BARRED_COUNTS_SECONDS: i64 = 7 * 86_400;

/// Operators that may sign in, or could until a short time ago.
pub(crate) async fn operators(tx: &mut SqliteConnection, now: Timestamp) -> Result<u64, StoreError> {
    let rows: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM person WHERE role = 'operator' AND (disabled = 0 OR EXISTS (
             SELECT 1 FROM audit
             WHERE subject = 'person:' || person.name AND action = 'person.disable' AND at > $1))",
    )
    .bind(now.0.saturating_sub(BARRED_COUNTS_SECONDS))
    .fetch_one(tx)
    .await?;
    Ok(count(rows))
}

/// Where a target is at `now`.
pub(crate) async fn locate(
    tx: &mut SqliteConnection,
    target: &ControlTarget,
    now: Timestamp,
) -> Result<Place, StoreError> {
    match *target {
        ControlTarget::Meter(meter) => place_of(tx, meter, now).await,
        ControlTarget::UsagePoint(usage_point) => {
            let row = sqlx::query(
                "SELECT i.meter, i.zone FROM installation i
                 WHERE i.usage_point = $1 AND i.valid_from <= $2 AND i.valid_to > $2",
            )
            .bind(usage_point.as_str())
            .bind(now.0)
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| StoreError::unknown("usage point", usage_point))?;
            let meter = row.get::<Option<&str>, _>(0).map(meter_id).transpose()?.ok_or_else(|| {
                StoreError::Refused(format!(
                    "no meter is installed at {usage_point} now: import its installation first"
                ))
            })?;
            let feeder = feeder_of(tx, zone_id(row.get(1))?, now).await?;
            Ok(Place { meter, usage_point: Some(usage_point), feeder })
        }
    }
}

async fn is_enrolled(tx: &mut SqliteConnection, meter: MeterId) -> Result<bool, StoreError> {
    let found: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM meter WHERE id = $1 AND secret_sha256 IS NOT NULL")
        .bind(meter.as_str())
        .fetch_one(tx)
        .await?;
    Ok(found > 0)
}

async fn place_of(tx: &mut SqliteConnection, meter: MeterId, now: Timestamp) -> Result<Place, StoreError> {
    let installed = sqlx::query(
        "SELECT usage_point, zone FROM installation WHERE meter = $1 AND valid_from <= $2 AND valid_to > $2",
    )
    .bind(meter.as_str())
    .bind(now.0)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = installed else {
        let feeder = match observes(tx, meter, now).await? {
            Some(zone) => feeder_of(tx, zone, now).await?,
            // Nowhere installed, but enrolled: it can be spoken to.
            None if is_enrolled(tx, meter).await? => None,
            None => return Err(StoreError::unknown("meter", meter)),
        };
        return Ok(Place { meter, usage_point: None, feeder });
    };
    let usage_point =
        UsagePointId::new(row.get(0)).map_err(|e| StoreError::damaged(format!("a usage point's name: {e}")))?;
    let feeder = feeder_of(tx, zone_id(row.get(1))?, now).await?;
    Ok(Place { meter, usage_point: Some(usage_point), feeder })
}

fn zone_id(text: &str) -> Result<ZoneId, StoreError> {
    ZoneId::new(text).map_err(|e| StoreError::damaged(format!("a zone's name: {e}")))
}

/// The zone without a parent above (or equal to) a zone.
async fn feeder_of(tx: &mut SqliteConnection, zone: ZoneId, now: Timestamp) -> Result<Option<ZoneId>, StoreError> {
    let mut at = zone;
    for _ in 0..DEPTH_MAX {
        let parent: Option<Option<String>> = sqlx::query_scalar(
            "SELECT parent FROM zone_version WHERE zone = $1 AND valid_from <= $2 AND valid_to > $2",
        )
        .bind(at.as_str())
        .bind(now.0)
        .fetch_optional(&mut *tx)
        .await?;
        match parent {
            Some(Some(parent)) => at = zone_id(&parent)?,
            Some(None) => return Ok(Some(at)),
            None => return Ok(None),
        }
    }
    Ok(None)
}

async fn protected(
    tx: &mut SqliteConnection,
    usage_point: Option<UsagePointId>,
) -> Result<Option<UsagePointId>, StoreError> {
    let Some(usage_point) = usage_point else { return Ok(None) };
    let never: Option<i64> = sqlx::query_scalar("SELECT never_disconnect FROM usage_point WHERE id = $1")
        .bind(usage_point.as_str())
        .fetch_optional(tx)
        .await?;
    Ok(never.filter(|flag| *flag != 0).map(|_| usage_point))
}

async fn observes(tx: &mut SqliteConnection, meter: MeterId, now: Timestamp) -> Result<Option<ZoneId>, StoreError> {
    let zone: Option<String> =
        sqlx::query_scalar("SELECT zone FROM zone_version WHERE meter = $1 AND valid_from <= $2 AND valid_to > $2")
            .bind(meter.as_str())
            .bind(now.0)
            .fetch_optional(tx)
            .await?;
    zone.map(|zone| zone_id(&zone)).transpose()
}

/// Whether the meter hangs somewhere else than where the control was asked for.
async fn moved(tx: &mut SqliteConnection, place: &Place, now: Timestamp) -> Result<Option<String>, StoreError> {
    let at = place_of(tx, place.meter, now).await?.usage_point;
    if at == place.usage_point {
        return Ok(None);
    }
    let words = |point: Option<UsagePointId>| point.map_or_else(|| "no usage point".to_owned(), |p| p.to_string());
    Ok(Some(format!("{} is at {} now and was at {} then", place.meter, words(at), words(place.usage_point))))
}

/// Cuts approved before. As one person's own count those that this person both asked for and approved, and whatever a program took part
/// in: it may be that person's.
async fn cuts_before(
    tx: &mut SqliteConnection,
    question: &Question<'_>,
    now: Timestamp,
) -> Result<CutsBefore, StoreError> {
    if !question.kind.cuts_supply() {
        return Ok(CutsBefore::default());
    }
    let (until, number) = question.approved.map_or((i64::MAX, i64::MAX), |(at, id)| (at.0, id_in(id)));
    let from = question.approved.map_or(now, |(at, _)| at);
    let person = |by: &Approver| match by {
        Approver::Person(name) => Some(name.clone()),
        Approver::Policy(_) => None,
    };
    let row = sqlx::query(
        "SELECT COUNT(*),
            COALESCE(SUM(approved_at > $2), 0),
            COALESCE(SUM(approved_at > $2 AND feeder = $3), 0),
            COALESCE(SUM(json_extract(approval, '$.approver.person') LIKE 'token:%'
                OR json_extract(requested_by, '$.person') LIKE 'token:%'
                OR (json_extract(approval, '$.approver.person') = json_extract(requested_by, '$.person')
                    AND json_extract(requested_by, '$.person') IN ($4, $7))), 0)
         FROM control
         WHERE cuts_supply = 1 AND approved_at > $1 AND (approved_at < $5 OR (approved_at = $5 AND id < $6))",
    )
    .bind(from.plus(-86_400).0)
    .bind(from.plus(-3_600).0)
    .bind(question.place.feeder.as_ref().map(ZoneId::as_str))
    .bind(person(question.approved_by))
    .bind(until)
    .bind(number)
    .bind(person(question.asked_by))
    .fetch_one(tx)
    .await?;
    Ok(CutsBefore {
        hour: id_out(row.get(1)),
        feeder_hour: id_out(row.get(2)),
        day: id_out(row.get(0)),
        alone_day: id_out(row.get(3)),
    })
}

async fn restores_minute(tx: &mut SqliteConnection, feeder: Option<ZoneId>, now: Timestamp) -> Result<u64, StoreError> {
    let rows: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM control_step s JOIN control c ON c.id = s.control
         WHERE s.state = 'Sent' AND s.at > $1 AND c.cuts_supply = 0 AND c.kind NOT LIKE '%snapshot%' AND c.feeder IS $2",
    )
    .bind(now.plus(-60).0)
    .bind(feeder.as_ref().map(ZoneId::as_str))
    .fetch_one(tx)
    .await?;
    Ok(count(rows))
}
