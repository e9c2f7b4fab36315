//! Meters, their readings and events. A consumer reads the own meter under the same addresses and under `/api/v1/my`; any other
//! meter is not there for them.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{StatusCode, Uri},
};
use metering::{MeterId, Timestamp, Topic};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{EventFilter, MeterPeriod, StoredEvent, StoredRecord};

use super::{Body, part::Part};
use crate::{
    assets::hex,
    auth::{Caller, Operator, SignedIn, Staff},
    error::WebError,
    pages::{
        meter, own_meter,
        zone::{Period, PeriodQuery},
    },
    state::AppState,
};

/// Most meters enrolled in one call.
pub const ENROL_MAX: usize = 1_000;
/// Events given unless asked for fewer.
const EVENTS_MAX: u32 = 1_000;

/// All meters.
#[utoipa::path(get, path = "/api/v1/meters", tag = "meters", responses((status = 200, description = "meter, enrolled_at, usage_point, zone, is_observer", body = [Object])))]
pub async fn list(State(state): State<AppState>, Staff(_): Staff) -> Result<Json<Value>, WebError> {
    Ok(Json(json!(state.store.meters(state.now()).await?)))
}

/// Meters to enrol.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct EnrolIn {
    /// Names, at most 1,000.
    #[schema(value_type = Vec<String>)]
    meters: Vec<MeterId>,
}

/// New secrets.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EnrolOut {
    /// One for each meter, in the order asked.
    meters: Vec<EnrolledOut>,
}

/// A meter's new secret, shown this once.
#[derive(Serialize, utoipa::ToSchema)]
pub struct EnrolledOut {
    /// The meter; its MQTT user name.
    meter: String,
    /// 64 hexadecimal digits; the MQTT password.
    secret: String,
    /// Ed25519 public key that verifies controls, 64 hexadecimal digits.
    server_key: String,
    /// Where it may publish and subscribe.
    topics: TopicsOut,
}

impl std::fmt::Debug for EnrolledOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrolledOut").field("meter", &self.meter).finish_non_exhaustive()
    }
}

/// Topics of a meter.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TopicsOut {
    /// Publishes under this, with the kind of the frame as last level.
    up: String,
    /// Subscribes to this.
    down: String,
}

/// Enrols meters: each gets a new secret, shown once.
#[utoipa::path(post, path = "/api/v1/meters", tag = "meters", request_body = EnrolIn, responses((status = 200, body = EnrolOut), (status = 400, body = crate::error::Problem)))]
pub async fn enrol(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Body(body): Body<EnrolIn>,
) -> Result<Json<EnrolOut>, WebError> {
    if body.meters.is_empty() || body.meters.len() > ENROL_MAX {
        return Err(WebError::Invalid(format!("enrol 1 to {ENROL_MAX} meters in one call")));
    }
    let mut names = body.meters.clone();
    names.sort_unstable();
    names.dedup();
    if names.len() < body.meters.len() {
        let why = "a meter is named twice: it would get two secrets, and the first would not work";
        return Err(WebError::Invalid(why.to_owned()));
    }
    let made = state.enrol(&body.meters, &caller.name).await?;
    let meters = made.iter().map(|enrolment| EnrolledOut {
        meter: enrolment.meter.to_string(),
        secret: hex(&enrolment.secret),
        server_key: hex(&state.config.verifying_key),
        topics: TopicsOut { up: format!("gt/1/{}/up/", enrolment.meter), down: Topic::down_filter(enrolment.meter) },
    });
    Ok(Json(EnrolOut { meters: meters.collect() }))
}

/// Takes a meter's secret back: its connections end and it is let in no more.
#[utoipa::path(delete, path = "/api/v1/meters/{id}/secret", tag = "meters", params(("id" = String, Path)), responses((status = 204), (status = 404, body = crate::error::Problem)))]
pub async fn withdraw(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Path(id): Path<String>,
) -> Result<StatusCode, WebError> {
    let id = MeterId::new(&id).map_err(|_| WebError::NotFound)?;
    state.store.withdraw(id, &caller.name, state.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a caller may see of a meter.
enum View {
    /// Everything.
    Whole,
    /// What was measured while it hung at the consumer's place.
    Parts(Vec<MeterPeriod>),
}

impl View {
    async fn records(
        &self,
        state: &AppState,
        id: MeterId,
        time: (Timestamp, Timestamp),
    ) -> Result<Vec<StoredRecord>, WebError> {
        match self {
            Self::Whole => Ok(state.store.profile(id, time.0, time.1).await?),
            Self::Parts(parts) => own_meter::records_of(state, parts, id, time).await,
        }
    }

    async fn events(
        &self,
        state: &AppState,
        id: MeterId,
        (after, to): (Timestamp, Timestamp),
        before: Option<u64>,
    ) -> Result<Vec<StoredEvent>, WebError> {
        let filter = EventFilter {
            meter: Some(id),
            after: Some(after),
            to: Some(to),
            before,
            limit: EVENTS_MAX + 1,
            ..EventFilter::default()
        };
        match self {
            Self::Whole => Ok(state.store.events(filter).await?),
            Self::Parts(parts) => own_meter::events_of(state, parts, filter).await,
        }
    }
}

/// The meter, when this caller may see something of it, and how much.
async fn visible(state: &AppState, caller: &Caller, id: &str, what: &str) -> Result<(MeterId, View), WebError> {
    let id = MeterId::new(id).map_err(|_| WebError::NotFound)?;
    if caller.is_staff() {
        let topology = state.store.topology(state.now()).await?;
        if !meter::is_known(state, &topology, id).await? {
            return Err(WebError::NotFound);
        }
        state.note_read(caller, what, &format!("meter:{id}")).await;
        return Ok((id, View::Whole));
    }
    let parts = own_meter::seen_by(state, caller).await?;
    if parts.iter().any(|part| part.meter == id) { Ok((id, View::Parts(parts))) } else { Err(WebError::Hidden) }
}

async fn own(state: &AppState, caller: &Caller) -> Result<(MeterId, View), WebError> {
    let id = own_meter::meter_of(state, caller).await?.ok_or(WebError::NotFound)?;
    Ok((id, View::Parts(own_meter::seen_by(state, caller).await?)))
}

/// A meter: where it is and the newest that is known of it.
#[utoipa::path(get, path = "/api/v1/meters/{id}", tag = "meters", params(("id" = String, Path)), responses((status = 200, description = "meter, usage_point, zone, observes, latest", body = Object), (status = 404, body = crate::error::Problem)))]
pub async fn one(
    State(state): State<AppState>,
    SignedIn(caller): SignedIn,
    Path(id): Path<String>,
) -> Result<Json<Value>, WebError> {
    let (id, view) = visible(&state, &caller, &id, "meter.read").await?;
    if matches!(view, View::Parts(_)) && own_meter::meter_of(&state, &caller).await? != Some(id) {
        // It hangs elsewhere now: where, and what it shows there, is another customer's.
        return Err(WebError::NotFound);
    }
    describe(&state, id).await
}

async fn describe(state: &AppState, id: MeterId) -> Result<Json<Value>, WebError> {
    let topology = state.store.topology(state.now()).await?;
    let point = topology.usage_point_of(id);
    Ok(Json(json!({
        "meter": id,
        "usage_point": point.map(|point| point.usage_point),
        "zone": point.map(|point| point.zone),
        "never_disconnect": point.map(|point| point.never_disconnect),
        "installation": point.and_then(|point| point.installation.as_ref()),
        "observes": topology.observed_by(id).map(|zone| zone.zone),
        "latest": state.store.latest(id),
    })))
}

/// Query of readings and events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RangeQuery {
    /// Length back from `to`, hours; 24 when neither this nor `from` is given.
    hours: Option<u32>,
    /// After this, seconds since 1970 UTC.
    from: Option<i64>,
    /// At or before this, seconds since 1970 UTC; now when left out.
    to: Option<i64>,
}

/// Period of events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Length back from `to`, hours; 31 days when neither this nor `from` is given.
    hours: Option<u32>,
    /// After this, seconds since 1970 UTC.
    from: Option<i64>,
    /// At or before this, seconds since 1970 UTC; now when left out.
    to: Option<i64>,
    /// Only those after the event with this number: the rest of a list, as its `Link` header says.
    before: Option<u64>,
}

impl RangeQuery {
    /// The period asked for, `hours` long unless it says otherwise. What would be cut or turned round is refused.
    fn period(&self, hours: u32, now: Timestamp) -> Result<Period, WebError> {
        const HOURS_MAX: i64 = 2 * 366 * 24;
        let to = self.to.map_or(now, Timestamp);
        let after = self.from.map(Timestamp);
        if after.is_some_and(|after| after >= to) {
            return Err(WebError::Invalid("`from` is before `to`, which is now when it is left out".to_owned()));
        }
        let asked = after.map_or(i64::from(self.hours.unwrap_or(hours)) * 3_600, |after| to.seconds_since(after));
        if asked <= 0 || asked > HOURS_MAX * 3_600 {
            return Err(WebError::Invalid("a period is an hour to two years long: ask for it in parts".to_owned()));
        }
        Ok(PeriodQuery { hours: self.hours.or(Some(hours)), from: self.from, to: self.to }.period(now))
    }
}

/// An interval as read.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ReadingOut {
    /// End of the interval, seconds since 1970 UTC.
    end: i64,
    /// Its length, minutes.
    minutes: u16,
    /// Import register at the end, Wh.
    import_wh: u64,
    /// Export register at the end, Wh.
    export_wh: u64,
    /// Mean power imported over the interval, W; `null` when the interval before is missing.
    import_w: Option<u64>,
    /// Mean power exported over the interval, W; `null` when the interval before is missing.
    export_w: Option<u64>,
    /// Mean voltage, mV.
    voltage_mv: Option<u32>,
    /// Mean current, mA.
    current_ma: Option<u32>,
    /// The meter's flags, a set of bits.
    flags: u16,
    /// `measured`, `estimated`, `edited`, `suspect` or `missing`.
    quality: &'static str,
}

/// Readings of a meter.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ProfileOut {
    /// The meter.
    meter: String,
    /// Its intervals in time order; a missing one is not there.
    rows: Vec<ReadingOut>,
}

/// The load profile of a meter over a period.
#[utoipa::path(get, path = "/api/v1/meters/{id}/profile", tag = "meters", params(("id" = String, Path), RangeQuery), responses((status = 200, body = ProfileOut), (status = 404, body = crate::error::Problem)))]
pub async fn profile(
    State(state): State<AppState>,
    SignedIn(caller): SignedIn,
    Path(id): Path<String>,
    Query(query): Query<RangeQuery>,
) -> Result<Json<ProfileOut>, WebError> {
    let (id, view) = visible(&state, &caller, &id, "profile.read").await?;
    read_profile(&state, id, &view, &query).await
}

async fn read_profile(
    state: &AppState,
    id: MeterId,
    view: &View,
    query: &RangeQuery,
) -> Result<Json<ProfileOut>, WebError> {
    let period = query.period(24, state.now())?;
    // one hour more, so that the first interval has a register before it
    let records = view.records(state, id, (period.after.plus(-3_600), period.to)).await?;
    let mut before: Option<&StoredRecord> = None;
    let mut rows = Vec::with_capacity(records.len());
    for stored in &records {
        // A mean power is made of readings that are trusted; of a wrong one it would be any number.
        let adjoins = before.filter(|b| {
            let is_next = stored.record.end.seconds_since(b.record.end) == i64::from(stored.minutes) * 60;
            is_next && b.quality.is_trusted() && stored.quality.is_trusted()
        });
        let mean = |now: metering::WattHours, then: Option<metering::WattHours>| {
            let wh = then.and_then(|then| now.checked_sub(then))?;
            u64::try_from(u128::from(wh.0) * 60 / u128::from(stored.minutes.max(1))).ok()
        };
        let record = &stored.record;
        if record.end > period.after {
            rows.push(ReadingOut {
                end: record.end.0,
                minutes: stored.minutes,
                import_wh: record.import_wh.0,
                export_wh: record.export_wh.0,
                import_w: mean(record.import_wh, adjoins.map(|b| b.record.import_wh)),
                export_w: mean(record.export_wh, adjoins.map(|b| b.record.export_wh)),
                voltage_mv: record.voltage_mv.map(|v| v.0),
                current_ma: record.current_ma.map(|c| c.0),
                flags: record.flags.0,
                quality: stored.quality.word(),
            });
        }
        before = Some(stored);
    }
    Ok(Json(ProfileOut { meter: id.to_string(), rows }))
}

/// Events of a meter over a period (31 days back from now unless said otherwise), newest first. When there are more than 1,000, the
/// `Link` header has the address of the rest.
#[utoipa::path(get, path = "/api/v1/meters/{id}/events", tag = "meters", params(("id" = String, Path), EventsQuery), responses((status = 200, description = "id, meter, received, at, code and the quantities at that time", body = [Object]), (status = 404, body = crate::error::Problem)))]
pub async fn events(
    State(state): State<AppState>,
    SignedIn(caller): SignedIn,
    Path(id): Path<String>,
    Query(query): Query<EventsQuery>,
    asked: Uri,
) -> Result<Part<StoredEvent>, WebError> {
    let (id, view) = visible(&state, &caller, &id, "events.read").await?;
    read_events(&state, id, &view, (&query, &asked)).await
}

async fn read_events(
    state: &AppState,
    id: MeterId,
    view: &View,
    (query, asked): (&EventsQuery, &Uri),
) -> Result<Part<StoredEvent>, WebError> {
    let range = RangeQuery { hours: query.hours, from: query.from, to: query.to };
    let period = range.period(24 * 31, state.now())?;
    let events = view.events(state, id, (period.after, period.to), query.before).await?;
    // The period as it was: now is later when the rest is asked for.
    let rest = |last: &StoredEvent| {
        let second = |at: Timestamp| at.0.to_string();
        vec![("from", second(period.after)), ("to", second(period.to)), ("before", last.id.to_string())]
    };
    Ok(Part::new(events, EVENTS_MAX, asked, rest))
}

/// A consumer's own meter.
#[utoipa::path(get, path = "/api/v1/my", tag = "consumer", responses((status = 200, body = Object), (status = 404, body = crate::error::Problem)))]
pub async fn my(State(state): State<AppState>, SignedIn(caller): SignedIn) -> Result<Json<Value>, WebError> {
    let (id, _) = own(&state, &caller).await?;
    describe(&state, id).await
}

/// The load profile of a consumer's own meter.
#[utoipa::path(get, path = "/api/v1/my/profile", tag = "consumer", params(RangeQuery), responses((status = 200, body = ProfileOut), (status = 404, body = crate::error::Problem)))]
pub async fn my_profile(
    State(state): State<AppState>,
    SignedIn(caller): SignedIn,
    Query(query): Query<RangeQuery>,
) -> Result<Json<ProfileOut>, WebError> {
    let (id, view) = own(&state, &caller).await?;
    read_profile(&state, id, &view, &query).await
}

/// Events of a consumer's own meter.
#[utoipa::path(get, path = "/api/v1/my/events", tag = "consumer", params(EventsQuery), responses((status = 200, body = [Object]), (status = 404, body = crate::error::Problem)))]
pub async fn my_events(
    State(state): State<AppState>,
    SignedIn(caller): SignedIn,
    Query(query): Query<EventsQuery>,
    asked: Uri,
) -> Result<Part<StoredEvent>, WebError> {
    let (id, view) = own(&state, &caller).await?;
    read_events(&state, id, &view, (&query, &asked)).await
}
