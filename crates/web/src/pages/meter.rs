//! `GET /meters/{id}`: what the meter shows and measures now, its load, its events, its supply.

use axum::{
    Form,
    extract::{Path, Query, State},
    http::HeaderMap,
    response::{Redirect, Response},
};
use losses::case::Case;
use maud::{Markup, html};
use metering::{EventKind, MeterId, Quality, Timestamp, frame::RelayState};
use registry::Topology;
use serde::Deserialize;
use store::{
    CaseFilter, ControlFilter, EventFilter, Latest, NewestRegister, StoredEvent, StoredRecord, SuspectReadings,
};

use super::{controls, zone::PeriodQuery};
use crate::{
    auth::{Operator, Staff},
    csv::Csv,
    drawing::Lcd,
    error::WebError,
    format,
    layout::{self, Frame, Page, Section},
    live::Values,
    state::AppState,
};

/// Events on the page.
const EVENTS_MAX: u32 = 50;
/// Controls on the page.
const CONTROLS_MAX: u32 = 10;
/// A meter that sent power-quality values in this time has a page for them, seconds.
const QUALITY_SECONDS: i64 = 7 * 86_400;
/// Rows of the table fallback.
const TABLE_ROWS: usize = 200;

/// What the state of a relay means for the home; an engineer's "closed" is everybody's "on".
pub const fn supply_word(relay: RelayState) -> &'static str {
    match relay {
        RelayState::Closed => "on",
        RelayState::Open => "off",
        RelayState::OpenLimit => "off: load limit",
        RelayState::OpenTamper => "off: tampering",
        RelayState::Locked => "off: locked",
        RelayState::Ready => "off: button arms it",
        RelayState::Fault => "contact does not follow",
    }
}

/// The state of a supply as shape, word and colour; a dash when it is not known.
pub fn relay_badge(relay: Option<RelayState>) -> Markup {
    let Some(relay) = relay else { return html! { span.none { "not known" } } };
    let class = match relay {
        RelayState::Closed => "badge good",
        RelayState::Ready => "badge info",
        RelayState::Fault => "badge warn",
        RelayState::Open | RelayState::OpenLimit | RelayState::OpenTamper | RelayState::Locked => "badge bad",
    };
    html! { span class=(class) title={ "relay " (relay.word()) } { (supply_word(relay)) } }
}

/// What changes on a meter's page with every frame.
///
/// # Errors
/// When the store fails.
pub async fn live_values(state: &AppState, meter: MeterId) -> Result<Values, WebError> {
    let mut values = Values::default();
    let Some(latest) = state.store.latest(meter) else { return Ok(values) };
    if let Some(register) = state.store.newest_register(meter, state.now()).await? {
        values.text("import", format::register_kwh(register.import_wh.0));
        values.text(
            "export",
            register.export_wh.map_or_else(|| format::UNKNOWN.to_owned(), |e| format::register_kwh(e.0)),
        );
        values.text("register-at", format::date_minute(register.at));
    }
    values.text("heard", format::date_time(latest.received));
    values.text("relay", latest.relay.map_or(format::UNKNOWN, supply_word));
    if let Some(end) = latest.profile_end {
        values.text("profile-end", format::date_minute(end));
    }
    let Some(now) = &latest.now else { return Ok(values) };
    values.text("at", format::clock(now.at));
    let mut put = |key: &str, text: Option<String>| {
        values.text(key, text.unwrap_or_else(|| format::UNKNOWN.to_owned()));
    };
    put("voltage", now.voltage_mv.map(|v| format::milli(v.0, 1)));
    put("current", now.current_ma.map(|c| format::milli(c.0, 2)));
    put("power", now.power_w.map(|p| format::number(f64::from(p.0), 0)));
    put("reactive", now.reactive_var.map(|q| format::number(f64::from(q.0), 0)));
    put("factor", now.power_factor.map(|f| format::milli(f.0, 2)));
    put("frequency", now.frequency_mhz.map(|f| format::milli(f.0, 2)));
    put("neutral", now.neutral_ma.map(|c| format::milli(c.0, 2)));
    put("load-voltage", now.load_voltage_mv.map(|v| format::milli(v.0, 1)));
    Ok(values)
}

/// `GET /meters/{id}`.
///
/// # Errors
/// When the caller is not staff, there is no such meter or the store fails.
pub async fn page(
    State(state): State<AppState>,
    Staff(caller): Staff,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<PeriodQuery>,
) -> Result<Markup, WebError> {
    let id = MeterId::new(&id).map_err(|_| WebError::NotFound)?;
    state.note_read(&caller, "meter.read", &format!("meter:{id}")).await;
    let frame = Frame::load(&state, caller, &headers).await?;
    let now = frame.now();
    let topology = state.store.topology(now).await?;
    let latest = state.store.latest(id);
    if !is_known(&state, &topology, id).await? {
        return Err(WebError::NotFound);
    }
    let period = query.period(now);
    let records = state.store.profile(id, period.after, period.to).await?;
    let events =
        state.store.events(EventFilter { meter: Some(id), limit: EVENTS_MAX, ..EventFilter::default() }).await?;
    let controls = state
        .store
        .controls(ControlFilter { meter: Some(id), limit: CONTROLS_MAX, ..ControlFilter::default() })
        .await?;
    let values = live_values(&state, id).await?;
    let register = state.store.newest_register(id, now).await?;
    let cases = match topology.usage_point_of(id) {
        Some(point) => {
            let filter = CaseFilter { usage_point: Some(point.usage_point), open_only: true, ..CaseFilter::default() };
            state.store.cases(filter).await?
        }
        None => Vec::new(),
    };
    let marks = super::zone::marks(&cases, &controls);
    let has_quality = !state.store.quality(id, now.plus(-QUALITY_SECONDS), now).await?.is_empty();
    let path = format!("/meters/{id}");
    let refresh_path = format!("{path}?{}", query.query(&period));
    let url = format!("/api/v1/meters/{id}/profile?{}", query.query(&period));
    let operator = frame.caller().is_operator();
    let suspect = state.store.suspect_readings(id, now).await?;
    let body = html! {
        (head(&topology, id, &query, &period, &values, has_quality))
        (layout::refreshed("meter-cases", "cases controls", &refresh_path, case_banners(&cases)))
        @if let Some(suspect) = &suspect { (baseline_banner(id, suspect, operator)) }
        (figures(&values))
        div.cols.wide-right {
            div.stack {
                section.card aria-labelledby="display" {
                    header { h2 #display { "Display" } span.small.dim { "as on the front of the meter, at " span data-k="register-at" { (values.of("register-at")) } " UTC" } }
                    (layout::refreshed("lcd", &format!("meter:{id}"), &refresh_path, lcd(id, latest.as_ref(), register.as_ref())))
                }
                (layout::refreshed("supply-state", &format!("controls meter:{id}"), &refresh_path, supply_card(&topology, id, latest.as_ref(), operator)))
                (about(latest.as_ref(), &values))
            }
            div.stack {
                section.card aria-labelledby="load" {
                    @if let Some(words) = first_words(&records, latest.as_ref()) { p { (words) } }
                    header { h2 #load { "Mean power by interval" } span.small.dim { "from the registers; a hole is a missing reading" } }
                    div.chart data-chart="power" data-marks=[&marks] data-height="240" data-url=(url) data-topic={ "meter:" (id) } { "The chart needs scripts; the table below shows the same." }
                    header { h2 { "Mean voltage" } }
                    div.chart data-chart="voltage" data-marks=[&marks] data-height="160" data-url=(url) data-topic={ "meter:" (id) } {}
                    details { summary { "The same as a table" } (table(&records)) }
                }
                section.card aria-labelledby="commands" {
                    header { h2 #commands { "Commands" } a.more href="/controls" { "All commands" } }
                    (layout::refreshed("meter-controls", "controls", &refresh_path, controls::table(&controls, now)))
                }
                section.card aria-labelledby="events" {
                    header { h2 #events { "Events" } span.small.dim { "newest first" } }
                    (layout::refreshed("meter-events", &format!("meter:{id}"), &refresh_path, events_table(&events)))
                }
            }
        }
    };
    let (title, topics) = (format!("Meter {id}"), format!("meter:{id},controls,cases"));
    Ok(frame.page(Page { title: &title, section: Section::Meters, topics: &topics, charts: true, body }))
}

/// Whether a meter is enrolled, installed, or was heard.
///
/// # Errors
/// When the store fails.
pub async fn is_known(state: &AppState, topology: &Topology, id: MeterId) -> Result<bool, WebError> {
    if topology.usage_point_of(id).is_some() || topology.observed_by(id).is_some() || state.store.latest(id).is_some() {
        return Ok(true);
    }
    Ok(state.store.meters(state.now()).await?.iter().any(|row| row.meter == id))
}

fn head(
    topology: &Topology,
    id: MeterId,
    query: &PeriodQuery,
    period: &super::zone::Period,
    values: &Values,
    has_quality: bool,
) -> Markup {
    let path = format!("/meters/{id}");
    let point = topology.usage_point_of(id);
    let observed = topology.observed_by(id);
    html! {
        div.crumbs {
            a href="/meters" { "Meters" } " › " (id)
            @if let Some(point) = point { " · usage point " (point.usage_point) " in zone " a href={ "/zones/" (point.zone) } { (point.zone) } }
            @if let Some(zone) = observed { " · observer of zone " a href={ "/zones/" (zone.zone) } { (zone.zone) } }
        }
        div.head {
            div {
                h1 { "Meter " (id) }
                div.sub { @match values.known("heard") { Some(heard) => { "Last heard " span data-k="heard" { (heard) } " UTC" }, None => { "Not heard yet" span.visually-hidden data-k="heard" {} } } " · period " (format::date_minute(period.after)) " to " (format::date_minute(period.to)) " UTC" }
            }
            div.actions { (query.picker(&path)) @if has_quality { a.button href={ (path) "/quality" } { "Power quality" } } a.button href={ (path) "/profile.csv?" (query.query(period)) } { "CSV" } }
        }
    }
}

/// What is said while there is no curve yet: that the meter is heard, and when the curve begins.
fn first_words(records: &[StoredRecord], latest: Option<&Latest>) -> Option<String> {
    let latest = latest.filter(|_| records.len() < 2)?;
    let heard = format::clock(latest.received);
    let minutes = latest.hello.as_ref().map_or(15, |hello| hello.profile_minutes.max(1));
    let next = latest.received.floor_to(i64::from(minutes) * 60).plus(i64::from(minutes) * 60);
    Some(match records.first() {
        Some(record) => format!(
            "One interval is there, up to {}; the curve begins with the next one.",
            format::clock(record.record.end)
        ),
        None => format!(
            "The meter was heard at {heard} UTC; its curve begins after the interval that ends at {} UTC.",
            format::clock(next)
        ),
    })
}

/// Open cases that name the home of this meter.
fn case_banners(cases: &[Case]) -> Markup {
    html! { @for case in cases {
        div.banner.warn { p { strong { a href={ "/cases/" (case.id) } { (super::cases::title(case)) } } " · " (crate::account::state_words(case.state)) } }
    } }
}

fn baseline_banner(id: MeterId, suspect: &SuspectReadings, operator: bool) -> Markup {
    let (first, newest) = (&suspect.first.record, &suspect.newest.record);
    let why: Vec<&str> = suspect.why.iter().map(|kind| kind.word()).collect();
    html! {
        section.banner.warn aria-labelledby="baseline" {
            h2 #baseline { "Its readings are held for suspect since " (format::date_minute(first.end)) }
            p {
                (format::count(u64::try_from(suspect.count).unwrap_or(u64::MAX))) " readings"
                @if !why.is_empty() { ": " (why.join(", ")) }
                ". Import register "
                @match &suspect.trusted { Some(trusted) => { (format::register_kwh(trusted.record.import_wh.0)) " kWh at " (format::date_minute(trusted.record.end)) }, None => { "unknown before" } }
                ", then " (format::register_kwh(first.import_wh.0)) " kWh, now " (format::register_kwh(newest.import_wh.0)) " kWh. They are not billed and not balanced."
            }
            @if operator {
                p { "Was the register reset or the meter reprogrammed by us? Then accept the newest reading as its new baseline; earlier ones keep their mark." }
                form.fields method="post" action={ "/meters/" (id) "/baseline" } {
                    div.field { label for="baseline-reason" { "Reason, kept in the audit" } input #baseline-reason name="reason" maxlength="500" size="40" required; }
                    div.field { label for="baseline-confirm" { "Type the meter's name to confirm: " strong { (id) } } input #baseline-confirm name="confirm" autocomplete="off" data-expect=(id) required; }
                    button data-guarded { "Accept the new baseline" }
                }
            } @else { p { "An operator can accept a new baseline after a legitimate reset." } }
        }
    }
}

/// Body of the baseline form.
#[derive(Debug, Deserialize)]
pub struct BaselineForm {
    reason: String,
    confirm: String,
}

/// `POST /meters/{id}/baseline`: the newest suspect reading becomes the start of the register.
///
/// # Errors
/// When the caller is no operator, the typed name differs, or the newest reading is trusted.
pub async fn accept_baseline(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Path(id): Path<String>,
    Form(form): Form<BaselineForm>,
) -> Result<Redirect, WebError> {
    let meter = MeterId::new(&id).map_err(|_| WebError::NotFound)?;
    controls::confirm(&form.confirm, meter)?;
    state.store.accept_baseline(meter, &form.reason, &caller.name, state.now()).await?;
    Ok(Redirect::to(&format!("/meters/{meter}")))
}

fn figures(values: &Values) -> Markup {
    let figure = |key: &str, label: &str, unit: &str| {
        html! { div.kpi {
            div.label { (label) }
            div.value { span data-k=(key) { (values.of(key)) } " " span.unit { (unit) } }
        } }
    };
    html! {
        div.kpis {
            (figure("power", "Power", "W")) (figure("voltage", "Voltage", "V")) (figure("current", "Current", "A"))
            (figure("factor", "Power factor", "")) (figure("frequency", "Frequency", "Hz"))
            div.kpi { div.label { "Values of" } div.value { span data-k="at" { (values.of("at")) } } div.note { "UTC" } }
        }
    }
}

fn lcd(id: MeterId, latest: Option<&Latest>, register: Option<&NewestRegister>) -> Markup {
    let import = register.map(|register| register.import_wh);
    let text = import.map(|wh| format!("{:06}.{:02}", wh.0 / 1_000 % 1_000_000, wh.0 % 1_000 / 10));
    let mut signs = Vec::new();
    if register.and_then(|register| register.export_wh).is_some_and(|wh| wh.0 > 0) {
        signs.push("−A".to_owned());
    }
    if let Some(latest) = latest {
        match latest.relay {
            Some(RelayState::Closed) => signs.push("ON".to_owned()),
            Some(RelayState::Ready) => signs.push("PRESS".to_owned()),
            Some(_) => signs.push("OFF".to_owned()),
            None => {}
        }
    }
    Lcd { value: text.as_deref(), unit: "kWh", obis: "1.8.0", name: &format!("Gridtally · {id}"), signs: &signs }.draw()
}

fn supply_card(topology: &Topology, id: MeterId, latest: Option<&Latest>, operator: bool) -> Markup {
    let point = topology.usage_point_of(id);
    let never = point.is_some_and(|point| point.never_disconnect);
    let may_cut = !never && topology.observed_by(id).is_none();
    let relay = latest.and_then(|l| l.relay);
    let is_off = relay.is_some_and(|relay| !matches!(relay, RelayState::Closed | RelayState::Fault));
    html! {
        section.card aria-labelledby="supply" {
            header { h2 #supply { "Supply" } }
            dl.facts {
                dt { "Supply" } dd { (relay_badge(relay)) }
                dt { "Load side" } dd { span data-k="load-voltage" { (format::maybe(latest.and_then(|l| l.now.as_ref()).and_then(|n| n.load_voltage_mv).map(|v| f64::from(v.0) / 1e3), 1)) } " V" }
                dt { "Neutral current" } dd { span data-k="neutral" { (format::maybe(latest.and_then(|l| l.now.as_ref()).and_then(|n| n.neutral_ma).map(|c| f64::from(c.0) / 1e3), 2)) } " A" }
            }
            @if never { div.banner.warn { p { "Never to be disconnected: see the policy." } } }
            @if operator { p.fields {
                @if may_cut && !is_off { a.button href={ "/meters/" (id) "/control?kind=disconnect" } { "Disconnect…" } }
                @if is_off || relay.is_none() { a.button href={ "/meters/" (id) "/control?kind=reconnect" } { "Reconnect…" } }
                @if may_cut { a.button href={ "/meters/" (id) "/control?kind=load_limit" } { "Load limit…" } }
                a.button href={ "/meters/" (id) "/control?kind=snapshot_at" } { "Read now…" }
            } }
        }
    }
}

fn about(latest: Option<&Latest>, values: &Values) -> Markup {
    let hello = latest.and_then(|latest| latest.hello.as_ref());
    html! {
        section.card aria-labelledby="about" {
            header { h2 #about { "Registers and device" } }
            dl.facts {
                dt { "Import" } dd { span data-k="import" { (values.of("import")) } " kWh" }
                dt { "Export" } dd { span data-k="export" { (values.of("export")) } " kWh" }
                dt { "Registers at" } dd { span data-k="register-at" { (values.of("register-at")) } " UTC" }
                dt { "Newest interval" } dd { span data-k="profile-end" { (values.of("profile-end")) } }
                @if let Some(hello) = hello {
                    dt { "Model" } dd { (or_dash(&hello.model)) }
                    dt { "Firmware" } dd { (or_dash(&hello.firmware)) }
                    dt { "Profile" } dd { "every " (hello.profile_minutes) " minutes" }
                }
            }
        }
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { format::UNKNOWN } else { text }
}

/// The energy of an interval from the register before it, Wh; `None` when the interval before is missing or a register stepped back.
pub fn interval_import_wh(before: &StoredRecord, record: &StoredRecord) -> Option<u64> {
    let adjoins = record.record.end.seconds_since(before.record.end) == i64::from(record.minutes) * 60;
    adjoins.then(|| record.record.import_wh.checked_sub(before.record.import_wh)).flatten().map(|wh| wh.0)
}

fn table(records: &[StoredRecord]) -> Markup {
    let rows: Vec<(&StoredRecord, Option<u64>)> =
        records.windows(2).map(|w| (&w[1], interval_import_wh(&w[0], &w[1]))).collect();
    html! {
        div.scroll tabindex="0" role="group" aria-label="Readings by interval" { table {
            caption { "Newest first" @if rows.len() > TABLE_ROWS { "; the CSV has all rows" } }
            thead { tr { th scope="col" { "Interval end (UTC)" } th.num scope="col" { "Energy Wh" } th.num scope="col" { "Import register kWh" } th.num scope="col" { "Voltage V" } th.num scope="col" { "Current A" } th scope="col" { "Quality" } } }
            tbody { @for (record, energy) in rows.iter().rev().take(TABLE_ROWS) { tr {
                th scope="row" { (format::date_minute(record.record.end)) }
                td.num { @match energy { Some(wh) => { (format::count(*wh)) }, None => { span.none { "–" } } } }
                td.num { (format::register_kwh(record.record.import_wh.0)) }
                td.num { (record.record.voltage_mv.map_or_else(|| "–".to_owned(), |v| format::milli(v.0, 1))) }
                td.num { (record.record.current_ma.map_or_else(|| "–".to_owned(), |c| format::milli(c.0, 2))) }
                td { @if record.quality == Quality::Measured { "measured" } @else { span.badge.warn { (record.quality.word()) } } }
            } } }
        } }
    }
}

fn events_table(events: &[StoredEvent]) -> Markup {
    if events.is_empty() {
        return layout::empty("No events", "Nothing has happened at this meter.");
    }
    html! {
        div.scroll tabindex="0" role="group" aria-labelledby="events" { table {
            thead { tr { th scope="col" { "When (UTC)" } th scope="col" { "What" } th.num scope="col" { "Voltage V" } th.num scope="col" { "Current A" } th.num scope="col" { "Power W" } } }
            tbody { @for stored in events { @let event = &stored.event; tr {
                th.nowrap scope="row" { (layout::time(event.at, &format::date_time(event.at))) }
                td { (event_badge(event.kind)) }
                td.num { (event.voltage_mv.map_or_else(|| "–".to_owned(), |v| format::milli(v.0, 1))) }
                td.num { (event.current_ma.map_or_else(|| "–".to_owned(), |c| format::milli(c.0, 2))) }
                td.num { (format::maybe(event.power_w.map(|p| f64::from(p.0)), 0)) }
            } } }
        } }
    }
}

fn event_badge(kind: EventKind) -> Markup {
    let class = if kind.is_tamper() { "badge warn" } else { "badge plain" };
    html! { span class=(class) { (kind.word()) @if let EventKind::Other(code) = kind { " " (code) } } }
}

/// `GET /meters/{id}/profile.csv`.
///
/// # Errors
/// When the caller is not staff or the store fails.
pub async fn csv(
    State(state): State<AppState>,
    Staff(caller): Staff,
    Path(id): Path<String>,
    Query(query): Query<PeriodQuery>,
) -> Result<Response, WebError> {
    let id = MeterId::new(&id).map_err(|_| WebError::NotFound)?;
    state.note_read(&caller, "profile.read", &format!("meter:{id}")).await;
    let period = query.period(state.now());
    let records = state.store.profile(id, period.after, period.to).await?;
    Ok(profile_csv(id, &records))
}

/// A meter's readings as CSV.
pub fn profile_csv(id: MeterId, records: &[StoredRecord]) -> Response {
    let mut csv = Csv::new(&[
        "meter",
        "end",
        "minutes",
        "import_wh",
        "export_wh",
        "voltage_mv",
        "current_ma",
        "flags",
        "quality",
    ]);
    for stored in records {
        let record = &stored.record;
        csv.row(&[
            id.to_string(),
            record.end.to_string(),
            stored.minutes.to_string(),
            record.import_wh.0.to_string(),
            record.export_wh.0.to_string(),
            record.voltage_mv.map(|v| v.0.to_string()).unwrap_or_default(),
            record.current_ma.map(|c| c.0.to_string()).unwrap_or_default(),
            record.flags.0.to_string(),
            stored.quality.word().to_owned(),
        ]);
    }
    csv.download(&format!("meter-{id}.csv"))
}

/// The age of a time, for people; it goes on by itself.
pub fn age(at: Option<Timestamp>, now: Timestamp) -> Markup {
    at.map_or_else(|| html! { "never" }, |at| layout::age(at, now))
}
