//! `GET /my`: a consumer's own meter, phone first: what is used now, today, the last days, and what happened.

use axum::{
    extract::{Query, State},
    http::HeaderMap,
    response::Response,
};
use maud::{Markup, html};
use metering::{EventKind, MeterId, Timestamp, frame::RelayState};
use store::{EventFilter, MeterPeriod, StoredEvent, StoredRecord};

use super::{meter, zone::PeriodQuery};
use crate::{
    auth::{Caller, Consumer},
    error::WebError,
    format,
    layout::{self, Frame, Page, Section},
    state::AppState,
};

const DAY_SECONDS: i64 = 86_400;
/// Days shown.
const DAYS: i64 = 7;
/// Events shown.
const EVENTS_MAX: u32 = 20;

/// The meter that hangs at a consumer's usage point now, within the contract.
///
/// # Errors
/// When the store fails.
pub async fn meter_of(state: &AppState, caller: &Caller) -> Result<Option<MeterId>, WebError> {
    let now = state.now();
    Ok(seen_by(state, caller).await?.into_iter().find(|seen| seen.after <= now && now < seen.to).map(|seen| seen.meter))
}

/// Which meters a consumer may see, and of which time each.
///
/// # Errors
/// When the store fails.
pub async fn seen_by(state: &AppState, caller: &Caller) -> Result<Vec<MeterPeriod>, WebError> {
    match caller.usage_point {
        Some(point) => Ok(state.store.meter_periods(point, caller.sees).await?),
        None => Ok(Vec::new()),
    }
}

/// Readings of the meters that a consumer may see, each cut to its time.
///
/// # Errors
/// When the store fails.
pub async fn records_of(
    state: &AppState,
    seen: &[MeterPeriod],
    meter: MeterId,
    (after, to): (Timestamp, Timestamp),
) -> Result<Vec<StoredRecord>, WebError> {
    let mut records = Vec::new();
    for part in seen.iter().filter(|part| part.meter == meter).filter_map(|part| part.within(after, to)) {
        records.extend(state.store.profile(meter, part.after, part.to).await?);
    }
    Ok(records)
}

/// The wanted events of a meter that lie in the time in which a consumer may see it, newest first.
///
/// # Errors
/// When the store fails.
pub async fn events_of(
    state: &AppState,
    seen: &[MeterPeriod],
    wanted: EventFilter,
) -> Result<Vec<StoredEvent>, WebError> {
    let (after, to) = (wanted.after.unwrap_or(Timestamp(i64::MIN)), wanted.to.unwrap_or(Timestamp(i64::MAX)));
    let mut events = Vec::new();
    let its = seen.iter().rev().filter(|part| wanted.meter == Some(part.meter));
    for part in its.filter_map(|part| part.within(after, to)) {
        let within = EventFilter { after: Some(part.after), to: Some(part.to), ..wanted.clone() };
        events.extend(state.store.events(within).await?);
    }
    if wanted.limit > 0 {
        events.truncate(usize::try_from(wanted.limit).unwrap_or(usize::MAX));
    }
    Ok(events)
}

/// `GET /my`.
///
/// # Errors
/// When the caller is no consumer or the store fails.
pub async fn page(State(state): State<AppState>, consumer: Consumer, headers: HeaderMap) -> Result<Markup, WebError> {
    let meter = meter_of(&state, &consumer.caller).await?;
    let seen = seen_by(&state, &consumer.caller).await?;
    let frame = Frame::load(&state, consumer.caller, &headers).await?;
    let Some(id) = meter else {
        let body = html! { section.card { (layout::empty("No meter yet", "No meter is installed at your place in our records. Ask your supplier.")) } };
        return Ok(frame.page(Page { title: "My meter", section: Section::Other, topics: "", charts: false, body }));
    };
    let now = frame.now();
    let first_day = now.floor_to(DAY_SECONDS).plus(-(DAYS - 1) * DAY_SECONDS);
    let records = records_of(&state, &seen, id, (first_day.plus(-DAY_SECONDS), now)).await?;
    let events =
        events_of(&state, &seen, EventFilter { meter: Some(id), limit: EVENTS_MAX, ..EventFilter::default() }).await?;
    let values = meter::live_values(&state, id).await?;
    let latest = state.store.latest(id);
    let relay = latest.as_ref().and_then(|latest| latest.relay);
    let today = now.floor_to(DAY_SECONDS);
    let body = html! {
        div.head { div { h1 { "My meter" } div.sub { "Meter " (id) " · usage point " (consumer.usage_point) } } }
        (supply_banner(relay))
        section.card aria-label="Now" {
            div.dim { "Now" }
            div.big { span data-k="power" { (values.of("power")) } " " span.unit { "W" } }
            div.dim.small { span data-k="voltage" { (values.of("voltage")) } " V · " span data-k="current" { (values.of("current")) } " A · values of " span data-k="at" { (values.of("at")) } " UTC" }
        }
        div.kpis {
            div.kpi { div.label { "Today (UTC)" } div.value { (energy_text(used(&records, today, now))) " " span.unit { "kWh" } } }
            div.kpi { div.label { "Yesterday" } div.value { (energy_text(used(&records, today.plus(-DAY_SECONDS), today))) " " span.unit { "kWh" } } }
            div.kpi { div.label { "Meter reading" } div.value { span data-k="import" { (values.of("import")) } " " span.unit { "kWh" } } div.note { "of " span data-k="register-at" { (values.of("register-at")) } " UTC" } }
        }
        section.card aria-labelledby="load" {
            header { h2 #load { "Last 24 hours" } a.more href="/my/profile.csv?hours=744" { "CSV of 31 days" } }
            div.chart data-chart="power" data-height="200" data-url="/api/v1/my/profile?hours=24" data-topic={ "meter:" (id) } { "The chart needs scripts; the table below shows the days." }
        }
        section.card aria-labelledby="days" {
            header { h2 #days { "Last days" } span.small.dim { "UTC days; – is not known" } }
            (days_table(&records, today, now))
        }
        section.card aria-labelledby="events" {
            header { h2 #events { "What the meter reported" } }
            @if events.is_empty() { p.dim { "Nothing." } }
            ul.inbox { @for stored in &events { li { div.row {
                span { (stored.event.kind.word()) @if let EventKind::Other(code) = stored.event.kind { " " (code) } }
                span.dim.small.nowrap { (layout::time(stored.event.at, &format::date_minute(stored.event.at))) }
            } } } }
        }
    };
    let topics = format!("meter:{id}");
    Ok(frame.page(Page { title: "My meter", section: Section::Other, topics: &topics, charts: true, body }))
}

fn supply_banner(relay: Option<RelayState>) -> Markup {
    match relay {
        Some(RelayState::Ready) => {
            html! { div.banner.good role="status" { p { strong { "Your supply may be switched on again: " } "press the button on the meter. Make sure that no stove or heater is on." } } }
        }
        Some(RelayState::Closed) | None => html! {},
        Some(RelayState::OpenLimit) => {
            html! { div.banner.warn role="status" { p { strong { "Your supply is off because the load limit was exceeded. " } "Switch large loads off; the meter tries again by itself." } } }
        }
        Some(_) => {
            html! { div.banner.bad role="status" { p { strong { "Your supply is off. " } "Ask your supplier what to do." } } }
        }
    }
}

/// Energy imported in (from, to], Wh, when a register is known at both ends (to the nearest interval).
fn used(records: &[StoredRecord], from: Timestamp, to: Timestamp) -> Option<u64> {
    let at_or_before = |time: Timestamp| records.iter().rev().find(|r| r.record.end <= time && r.quality.is_trusted());
    let (first, last) = (at_or_before(from)?, at_or_before(to)?);
    let near = from.seconds_since(first.record.end) < i64::from(first.minutes.max(1)) * 60;
    (near && last.record.end > first.record.end)
        .then(|| last.record.import_wh.checked_sub(first.record.import_wh))
        .flatten()
        .map(|wh| wh.0)
}

fn energy_text(wh: Option<u64>) -> String {
    wh.map_or_else(|| format::UNKNOWN.to_owned(), |wh| format!("{}.{}", wh / 1_000, wh % 1_000 / 100))
}

fn days_table(records: &[StoredRecord], today: Timestamp, now: Timestamp) -> Markup {
    html! { table {
        thead { tr { th scope="col" { "Day" } th.num scope="col" { "kWh" } } }
        tbody { @for back in 0..DAYS {
            @let from = today.plus(-back * DAY_SECONDS);
            @let to = from.plus(DAY_SECONDS).min(now);
            tr { th scope="row" { (format::date(from)) @if back == 0 { " so far" } } td.num { (energy_text(used(records, from, to))) } }
        } }
    } }
}

/// `GET /my/profile.csv`.
///
/// # Errors
/// When the caller is no consumer, has no meter or the store fails.
pub async fn csv(
    State(state): State<AppState>,
    consumer: Consumer,
    Query(query): Query<PeriodQuery>,
) -> Result<Response, WebError> {
    let id = meter_of(&state, &consumer.caller).await?.ok_or(WebError::NotFound)?;
    let period = query.period(state.now());
    let seen = seen_by(&state, &consumer.caller).await?;
    Ok(meter::profile_csv(id, &records_of(&state, &seen, id, (period.after, period.to)).await?))
}
