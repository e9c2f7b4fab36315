//! Commands: the list with its states, the form with its confirmation, approval of what another asked for.

use axum::{
    Form,
    extract::{Path, Query, State},
    http::HeaderMap,
    response::Redirect,
};
use maud::{Markup, html};
use metering::{Approver, ControlKind, ControlState, MeterId, Timestamp, Watts};
use serde::Deserialize;
use store::{ControlFilter, ControlRequest, ControlTarget, StoredControl};

use crate::{
    auth::{Operator, Staff},
    error::WebError,
    format,
    layout::{self, Frame, Page, Section},
    state::AppState,
};

/// Rows of the list.
const ROWS_MAX: u32 = 200;
/// Longest time a command may wait, minutes.
const EXPIRY_MINUTES_MAX: i64 = 24 * 60;

/// The state as shape, word and colour.
pub fn state_badge(state: &ControlState) -> Markup {
    let class = match state {
        ControlState::Requested => "badge warn",
        ControlState::Approved | ControlState::Sent | ControlState::Acknowledged => "badge info",
        ControlState::Verified => "badge good",
        ControlState::Refused(_) | ControlState::Failed(_) => "badge bad",
        ControlState::Unseen(_) => "badge warn",
        ControlState::Expired => "badge",
    };
    html! { span class=(class) { (state.word()) } }
}

/// A kind with its particulars.
pub fn kind_words(kind: &ControlKind) -> String {
    match kind {
        ControlKind::Disconnect => "Disconnect".to_owned(),
        ControlKind::Reconnect => "Reconnect".to_owned(),
        ControlKind::LoadLimit { limit_w: Some(limit) } => {
            format!("Load limit {} W", format::number(f64::from(limit.0), 0))
        }
        ControlKind::LoadLimit { limit_w: None } => "Lift the load limit".to_owned(),
        ControlKind::SnapshotAt { at } => format!("Read at {}", format::date_time(*at)),
    }
}

fn by_words(by: &Approver) -> String {
    match by {
        Approver::Person(name) => name.clone(),
        Approver::Policy(name) => format!("policy {name}"),
    }
}

/// Commands as a table, as given.
pub fn table(list: &[StoredControl], now: Timestamp) -> Markup {
    if list.is_empty() {
        return layout::empty(
            "No commands",
            "A command that cuts or restores supply appears here with every step it takes.",
        );
    }
    html! {
        div.scroll tabindex="0" role="group" aria-label="Commands" { table.cards {
            thead { tr { th scope="col" { "Command" } th scope="col" { "Meter" } th scope="col" { "State" } th scope="col" { "Why" } th scope="col" { "By" } th scope="col" { "Steps" } } }
            tbody data-rows { @for control in list { (row(control, now)) } }
        } }
    }
}

fn row(control: &StoredControl, now: Timestamp) -> Markup {
    let begun = control.requested_at;
    html! { tr {
        th scope="row" { a href={ "/controls/" (control.id) } { (kind_words(&control.kind)) } span.dim { " #" (control.id) } }
        td.nowrap data-label="Meter" { a href={ "/meters/" (control.meter) } { (control.meter) } @if let Some(point) = control.usage_point { div.small.dim { (point) } } }
        td data-label="State" { (state_badge(&control.state)) @if !control.state.reason().is_empty() { div.small { (control.state.reason()) } } }
        td data-label="Why" { (control.reason) @if let Some(case) = control.case { " · " a href={ "/cases/" (case) } { "C-" (case) } } }
        td data-label="By" { (by_words(&control.requested_by)) div.small.dim { (layout::age(begun, now)) } }
        td.small data-label="Steps" { @for step in &control.history { div.nowrap { (step.state.word()) span.dim { " +" (format::duration(step.at.seconds_since(begun))) } } } }
    } }
}

/// `GET /controls`.
///
/// # Errors
/// When the caller is not staff or the store fails.
pub async fn page(State(state): State<AppState>, Staff(caller): Staff, headers: HeaderMap) -> Result<Markup, WebError> {
    let frame = Frame::load(&state, caller, &headers).await?;
    let list = state.store.controls(ControlFilter { limit: ROWS_MAX, ..ControlFilter::default() }).await?;
    let aborted = state.store.is_aborted();
    let count = |wanted: fn(&ControlState) -> bool| list.iter().filter(|control| wanted(&control.state)).count();
    let body = html! {
        div.head { div { h1 { "Commands" } div.sub { "Every command ends Verified, Unseen, Refused, Expired or Failed. Verified means: seen by reading back. Unseen: the meter says that it did it, and has no sense to show it." } } }
        @if aborted { div.banner.bad role="status" { p { strong { "The abort switch is on." } " Only reconnections are sent. " a href="/policy" { "To the policy" } } } }
        (layout::refreshed("control-list", "controls", "/controls", html! {
            div.kpis {
                div.kpi { div.label { "To approve" } div.value { (count(|s| matches!(s, ControlState::Requested))) } }
                div.kpi { div.label { "Under way" } div.value { (count(|s| !s.is_final() && !matches!(s, ControlState::Requested))) } }
                div.kpi { div.label { "Verified" } div.value { (count(|s| matches!(s, ControlState::Verified))) } div.note { "of the newest " (list.len()) } }
                div.kpi { div.label { "Refused, failed, expired" } div.value { (count(|s| s.is_final() && !matches!(s, ControlState::Verified))) } div.note { "of the newest " (list.len()) } }
            }
            section.card aria-label="Commands" { (table(&list, frame.now())) }
        }))
    };
    Ok(frame.page(Page {
        title: "Commands",
        section: Section::Controls,
        topics: "controls,cases",
        charts: false,
        body,
    }))
}

/// `GET /controls/{id}`.
///
/// # Errors
/// When the caller is not staff, there is no such control or the store fails.
pub async fn detail(
    State(state): State<AppState>,
    Staff(caller): Staff,
    headers: HeaderMap,
    Path(id): Path<u64>,
) -> Result<Markup, WebError> {
    let control = state.store.control(id).await?.ok_or(WebError::NotFound)?;
    let frame = Frame::load(&state, caller, &headers).await?;
    let (path, title) = (format!("/controls/{id}"), format!("{} {}", kind_words(&control.kind), control.meter));
    let waits = control.state == ControlState::Requested;
    let body = html! {
        div.crumbs { a href="/controls" { "Commands" } " › #" (id) }
        div.head { div { h1 { (title) } } }
        (layout::refreshed("control", "controls", &path, html! {
            section.card {
                p { (state_badge(&control.state)) " " (control.state.reason()) }
                dl.facts {
                    dt { "Meter" } dd { a href={ "/meters/" (control.meter) } { (control.meter) } }
                    @if let Some(point) = control.usage_point { dt { "Usage point" } dd { (point) } }
                    @if let Some(case) = control.case { dt { "Case" } dd { a href={ "/cases/" (case) } { "C-" (case) } } }
                    dt { "Why" } dd { (control.reason) }
                    dt { "Asked by" } dd { (by_words(&control.requested_by)) " · " (format::date_time(control.requested_at)) " UTC" }
                    dt { "Approved by" } dd { @match &control.approval { Some(a) => { (by_words(&a.approver)) " · " (format::date_time(a.at)) " UTC" }, None => { span.none { "nobody yet" } } } }
                    dt { "Expires" } dd { (format::date_time(control.expires)) " UTC" }
                }
            }
            section.card { h2 { "Steps" } ol.timeline { @for (i, step) in control.history.iter().enumerate() {
                li class=[(i + 1 == control.history.len()).then_some("now")] { (layout::time(step.at, &format::date_time(step.at))) " · " strong { (step.state.word()) } div { (step.note) } }
            } } }
        }))
        @if waits && frame.caller().is_operator() {
            section.card { form.form method="post" action={ (path) "/approve" } {
                h2 { "Approve" }
                div.field { label for="confirm" { "Type the meter's name to confirm: " strong { (control.meter) } } input #confirm name="confirm" autocomplete="off" data-expect=(control.meter) required; }
                div.field { label for="reason" { "Reason" } input #reason name="reason" maxlength="500" required; }
                button.danger data-guarded { "Approve" }
            } }
        }
    };
    Ok(frame.page(Page { title: &title, section: Section::Controls, topics: "controls,cases", charts: false, body }))
}

/// Body of the approval form.
#[derive(Debug, Deserialize)]
pub struct ApproveForm {
    confirm: String,
    reason: String,
}

/// `POST /controls/{id}/approve`.
///
/// # Errors
/// When the caller is no operator, the typed name differs or a rule forbids it.
pub async fn approve(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
    Form(form): Form<ApproveForm>,
) -> Result<Redirect, WebError> {
    let control = state.store.control(id).await?.ok_or(WebError::NotFound)?;
    confirm(&form.confirm, control.meter)?;
    state.store.approve_control(id, Approver::Person(caller.name), &reason(&form.reason)?, state.now()).await?;
    Ok(Redirect::to(&format!("/controls/{id}")))
}

/// Query of the command form.
#[derive(Debug, Deserialize)]
pub struct ControlQuery {
    kind: Option<String>,
    case: Option<u64>,
}

/// `GET /meters/{id}/control`: the form.
///
/// # Errors
/// When the caller is no operator or there is no such meter.
pub async fn form(
    State(state): State<AppState>,
    Operator(caller): Operator,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<ControlQuery>,
) -> Result<Markup, WebError> {
    let id = MeterId::new(&id).map_err(|_| WebError::NotFound)?;
    let topology = state.store.topology(state.now()).await?;
    if !super::meter::is_known(&state, &topology, id).await? {
        return Err(WebError::NotFound);
    }
    let frame = Frame::load(&state, caller, &headers).await?;
    let point = topology.usage_point_of(id);
    let latest = state.store.latest(id);
    let wanted = query.kind.as_deref().unwrap_or("disconnect");
    let kinds = [
        ("disconnect", "Disconnect: open the relay"),
        ("reconnect", "Reconnect: arm the relay, the consumer's button closes it"),
        ("load_limit", "Load limit: open the relay above a power"),
        ("snapshot_at", "Read registers and power now"),
    ];
    let body = html! {
        div.crumbs { a href={ "/meters/" (id) } { "Meter " (id) } " › command" }
        div.head { div { h1 { "Command to meter " (id) } div.sub { "It is sent at once and verified by reading back." } } }
        div.cols.two {
            section.card { form.form method="post" action={ "/meters/" (id) "/control" } {
                @if let Some(case) = query.case { input type="hidden" name="case" value=(case); }
                fieldset {
                    legend { "What" }
                    @for (kind, words) in kinds { label.check { input type="radio" name="kind" value=(kind) checked[kind == wanted] required; (words) } }
                }
                div.fields {
                    div.field { label for="limit" { "Load limit, W (empty lifts it)" } input #limit name="limit_w" type="number" min="1" max="1000000"; }
                    div.field { label for="minutes" { "Expires after, minutes" } input #minutes name="minutes" type="number" min="1" max=(EXPIRY_MINUTES_MAX) value="60" required; }
                }
                div.field { label for="reason" { "Reason, kept in the audit" } textarea #reason name="reason" maxlength="500" required {} }
                div.field { label for="confirm" { "Type the meter's name to confirm: " strong { (id) } } input #confirm name="confirm" autocomplete="off" data-expect=(id) required; }
                button.danger data-guarded { "Send the command" }
            } }
            section.card { h2 { "Whom it concerns" } dl.facts {
                dt { "Usage point" } dd { @match point { Some(point) => { (point.usage_point) }, None => { span.none { "none" } } } }
                dt { "Zone" } dd { @match point { Some(point) => { a href={ "/zones/" (point.zone) } { (point.zone) } }, None => { span.none { "–" } } } }
                dt { "Supply" } dd { (super::meter::relay_badge(latest.as_ref().and_then(|l| l.relay))) }
                dt { "Last heard" } dd { (super::meter::age(latest.as_ref().map(|l| l.received), frame.now())) }
            }
            @if point.is_some_and(|point| point.never_disconnect) { div.banner.warn { p { "Never to be disconnected: a command that cuts supply will be refused." } } }
            @if point.is_none() { div.banner.warn { p { "No usage point hangs on this meter: check the topology before you switch." } } }
            }
        }
    };
    Ok(frame.page(Page { title: "Command", section: Section::Controls, topics: "cases", charts: false, body }))
}

/// Body of the command form.
#[derive(Debug, Deserialize)]
pub struct ControlForm {
    kind: String,
    #[serde(default)]
    limit_w: String,
    minutes: i64,
    reason: String,
    confirm: String,
    case: Option<u64>,
}

/// `POST /meters/{id}/control`: asks for, and approves, a command.
///
/// # Errors
/// When the caller is no operator, the typed name differs or a rule forbids it.
pub async fn send(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Path(id): Path<String>,
    Form(form): Form<ControlForm>,
) -> Result<Redirect, WebError> {
    let meter = MeterId::new(&id).map_err(|_| WebError::NotFound)?;
    confirm(&form.confirm, meter)?;
    let now = state.now();
    let kind = match form.kind.as_str() {
        "disconnect" => ControlKind::Disconnect,
        "reconnect" => ControlKind::Reconnect,
        "load_limit" => ControlKind::LoadLimit { limit_w: limit(&form.limit_w)? },
        "snapshot_at" => ControlKind::SnapshotAt { at: now },
        _ => return Err(WebError::Invalid("a command is disconnect, reconnect, load_limit or snapshot_at".to_owned())),
    };
    if !(1..=EXPIRY_MINUTES_MAX).contains(&form.minutes) {
        return Err(WebError::Invalid(format!("a command expires after 1 to {EXPIRY_MINUTES_MAX} minutes")));
    }
    let request = ControlRequest {
        target: ControlTarget::Meter(meter),
        kind,
        reason: reason(&form.reason)?,
        by: Approver::Person(caller.name),
        approve: true,
        expires: now.plus(form.minutes * 60),
        case: form.case,
    };
    let control = state.store.request_control(request, now).await?;
    Ok(Redirect::to(&format!("/controls/{control}")))
}

/// Whether the meter's name was typed.
///
/// # Errors
/// When it was not.
pub fn confirm(typed: &str, meter: MeterId) -> Result<(), WebError> {
    if typed.trim() == meter.as_str() {
        Ok(())
    } else {
        Err(WebError::Invalid(format!("the typed name is not {meter}: nothing was done, nothing was sent")))
    }
}

fn reason(text: &str) -> Result<String, WebError> {
    let text = text.trim();
    if text.is_empty() {
        Err(WebError::Invalid("give a reason: it is kept in the audit".to_owned()))
    } else {
        Ok(text.to_owned())
    }
}

fn limit(text: &str) -> Result<Option<Watts>, WebError> {
    match text.trim() {
        "" => Ok(None),
        text => match text.parse::<i32>() {
            Ok(watts) if watts > 0 => Ok(Some(Watts(watts))),
            _ => Err(WebError::Invalid(
                "a load limit is a number of watts above zero; leave it empty to lift it".to_owned(),
            )),
        },
    }
}
