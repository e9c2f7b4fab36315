//! `GET /policy`: the written rules for cutting supply, the abort switch, who is never to be disconnected.

use axum::{
    Form,
    extract::{Path, State},
    http::HeaderMap,
    response::Redirect,
};
use maud::{Markup, html};
use metering::{EventKind, UsagePointId, supply::SupplyPolicy};
use serde::Deserialize;
use store::{GuardedChange, PendingChange};

use crate::{
    api,
    auth::Operator,
    error::WebError,
    format,
    layout::{self, Frame, Page, Section},
    state::AppState,
};

/// `GET /policy`.
///
/// # Errors
/// When the caller is no operator or the store fails.
pub async fn page(
    State(state): State<AppState>,
    Operator(caller): Operator,
    headers: HeaderMap,
) -> Result<Markup, WebError> {
    let by = caller.name.clone();
    let frame = Frame::load(&state, caller, &headers).await?;
    let waiting = state.store.pending_changes(frame.now()).await?;
    let policy = state.store.setting::<SupplyPolicy>("policy").await?.unwrap_or_default();
    let aborted = state.store.is_aborted();
    let topology = state.store.topology(frame.now()).await?;
    let protected: Vec<UsagePointId> =
        topology.usage_points.iter().filter(|point| point.never_disconnect).map(|point| point.usage_point).collect();
    let body = html! {
        div.head { div { h1 { "Policy" } div.sub { "Who may be disconnected, by whom, how many. Every change is audited." } } }
        (abort_card(aborted))
        (waiting_card(&waiting, &by))
        div.cols.even {
            (limits_form(&policy))
            (protected_card(&protected))
        }
    };
    Ok(frame.page(Page { title: "Policy", section: Section::Policy, topics: "cases", charts: false, body }))
}

fn abort_card(aborted: bool) -> Markup {
    html! {
        section class=(if aborted { "banner bad" } else { "card" }) aria-labelledby="abort" {
            h2 #abort { "Abort switch: " @if aborted { "on, only reconnections are sent" } @else { "off" } }
            p { "Switched on, nothing that cuts supply is sent any more, whoever asked; what waits is refused. Reconnections go on." }
            form method="post" action="/policy/abort" {
                @if aborted { button name="on" value="false" { "Switch off: allow disconnections again" } }
                @else { button.danger name="on" value="true" { "Switch on: stop all disconnections" } }
            }
        }
    }
}

/// Changes that another operator confirms; nothing when none wait.
fn waiting_card(waiting: &[PendingChange], by: &str) -> Markup {
    html! { @if !waiting.is_empty() {
        section.card aria-labelledby="waiting" {
            h2 #waiting { "Waiting for another operator" }
            p.small.dim { "What takes a brake off is confirmed by somebody who did not ask for it." }
            table { tbody { @for change in waiting { tr {
                td { (change.words) div.small.dim { (change.asked_by) " · " (format::date_time(change.asked_at)) " UTC" } }
                td.num { form method="post" action={ "/policy/pending/" (change.id) } {
                    @if change.asked_by != by { button.danger name="confirm" value="true" aria-label={ "confirm change " (change.id) } { "Confirm" } " " }
                    button.plain name="confirm" value="false" aria-label={ "withdraw change " (change.id) } { "Withdraw" }
                } }
            } } } }
        }
    } }
}

fn limits_form(policy: &SupplyPolicy) -> Markup {
    let number = |name: &str, text: &str, value: u32| {
        html! { div.field { label for=(name) { (text) } input id=(name) name=(name) type="number" min="0" max="100000" value=(value) required; } }
    };
    html! {
        section.card { form.form method="post" action="/policy" {
            h2 { "Rules" }
            fieldset {
                legend { "Tamper events that may disconnect without a person" }
                p.hint { "A false alarm cuts a home. Leave all unticked unless that is accepted in writing." }
                @for kind in EventKind::ALL.iter().filter(|kind| kind.is_tamper()) {
                    label.check { input type="checkbox" name=(format!("kind-{}", kind.code())) value="on" checked[policy.automatic_kinds.contains(kind)]; (kind.word()) }
                }
            }
            (number("per_hour_max", "Most disconnections within an hour", policy.per_hour_max))
            (number("per_feeder_hour_max", "Most within an hour on one feeder", policy.per_feeder_hour_max))
            (number("per_day_per_mille", "Most within 24 hours, ‰ of all usage points …", policy.per_day_per_mille))
            (number("per_day_min", "… but at least", policy.per_day_min))
            label.check { input type="checkbox" name="two_persons" value="on" checked[policy.two_persons]; "Who asks for a disconnection does not approve it" }
            (number("alone_per_day_max", "Most disconnections a day that one person asks for and approves", policy.alone_per_day_max))
            (number("restores_per_feeder_minute", "Most reconnections sent within a minute on one feeder", policy.restores_per_feeder_minute))
            p.hint { "The two rules about persons hold as soon as there are two operators; with one, nobody else could approve." }
            button.primary { "Save the rules" }
        } }
    }
}

fn protected_card(protected: &[UsagePointId]) -> Markup {
    html! {
        section.card aria-labelledby="never" {
            header { h2 #never { "Never disconnect" } span.small.dim { (protected.len()) " usage points" } }
            form.fields method="post" action="/policy/never-disconnect" {
                div.field { label for="point" { "Usage point" } input #point name="usage_point" maxlength="32" required; }
                button name="never" value="true" { "Protect" }
            }
            @if protected.is_empty() { (layout::empty("Nobody is protected", "Add life-support, hospitals and the like.")) }
            table { tbody { @for point in protected { tr {
                th scope="row" { (point) }
                td.num { form method="post" action="/policy/never-disconnect" {
                    input type="hidden" name="usage_point" value=(point);
                    button.plain name="never" value="false" aria-label={ "lift the protection of " (point) } { "lift" }
                } }
            } } } }
        }
    }
}

/// `POST /policy`: the form's fields by name; a ticked kind is `kind-<code>`.
///
/// # Errors
/// When the caller is no operator or a number is not usable.
pub async fn save(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Redirect, WebError> {
    let number = |name: &str| {
        let value = fields.iter().find_map(|(key, value)| (key == name).then_some(value.trim()));
        value
            .and_then(|value| value.parse::<u32>().ok())
            .ok_or_else(|| WebError::Invalid(format!("{name} is a whole number")))
    };
    let held = state.store.setting::<SupplyPolicy>("policy").await?.unwrap_or_default();
    let given = |name: &str| fields.iter().any(|(key, _)| key == name);
    let or_held = |name: &str, held: u32| if given(name) { number(name) } else { Ok(held) };
    let ticked = |kind: &&EventKind| fields.iter().any(|(key, _)| *key == format!("kind-{}", kind.code()));
    let policy = SupplyPolicy {
        automatic_kinds: EventKind::ALL.iter().filter(|kind| kind.is_tamper()).filter(ticked).copied().collect(),
        per_hour_max: number("per_hour_max")?,
        per_feeder_hour_max: number("per_feeder_hour_max")?,
        per_day_per_mille: number("per_day_per_mille")?,
        per_day_min: number("per_day_min")?,
        two_persons: given("two_persons"),
        alone_per_day_max: or_held("alone_per_day_max", held.alone_per_day_max)?,
        restores_per_feeder_minute: or_held("restores_per_feeder_minute", held.restores_per_feeder_minute)?,
    };
    api::policy::save(&state, policy, &caller.name).await?;
    Ok(Redirect::to("/policy"))
}

/// Body of the abort switch.
#[derive(Debug, Deserialize)]
pub struct AbortForm {
    on: bool,
}

/// `POST /policy/abort`.
///
/// # Errors
/// When the caller is no operator or the store fails.
pub async fn abort(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Form(form): Form<AbortForm>,
) -> Result<Redirect, WebError> {
    if form.on {
        state.store.set_setting("abort_switch", &true, &caller.name, state.now()).await?;
    } else {
        state.store.ask_change(GuardedChange::AbortSwitchOff, &caller.name, state.now()).await?;
    }
    Ok(Redirect::to("/policy"))
}

/// Body of the buttons of a change that waits.
#[derive(Debug, Deserialize)]
pub struct PendingForm {
    confirm: bool,
}

/// `POST /policy/pending/{id}`: confirms or withdraws a change that waits.
///
/// # Errors
/// When the caller is no operator, asked for it, there is no such change, or it is not possible any more.
pub async fn pending(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
    Form(form): Form<PendingForm>,
) -> Result<Redirect, WebError> {
    if form.confirm {
        state.store.confirm_change(id, &caller.name, state.now()).await?;
    } else {
        state.store.withdraw_change(id, &caller.name, state.now()).await?;
    }
    Ok(Redirect::to("/policy"))
}

/// Body of the protection form.
#[derive(Debug, Deserialize)]
pub struct NeverForm {
    usage_point: String,
    never: bool,
}

/// `POST /policy/never-disconnect`.
///
/// # Errors
/// When the caller is no operator or there is no such usage point.
pub async fn never_disconnect(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Form(form): Form<NeverForm>,
) -> Result<Redirect, WebError> {
    let unknown = || WebError::Invalid(format!("there is no usage point {}", form.usage_point.escape_debug()));
    let point = UsagePointId::new(form.usage_point.trim()).map_err(|_| unknown())?;
    let (by, now) = (&caller.name, state.now());
    let done = if form.never {
        state.store.set_never_disconnect(point, true, by, now).await
    } else {
        state.store.ask_change(GuardedChange::LiftProtection(point), by, now).await.map(drop)
    };
    done.map_err(|error| if let store::StoreError::Unknown { .. } = error { unknown() } else { error.into() })?;
    Ok(Redirect::to("/policy"))
}
