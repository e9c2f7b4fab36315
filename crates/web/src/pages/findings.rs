//! `GET /findings`: honest faults of our own that explain an imbalance, each with its proposed correction, to be accepted or dismissed
//! before anybody is suspected.

use axum::{
    Form,
    extract::{Path, State},
    http::HeaderMap,
    response::Redirect,
};
use losses::findings::{Correction, Finding, Subject};
use maud::{Markup, html};
use metering::Timestamp;
use serde::Deserialize;
use store::{FindingFilter, FindingState, StoredFinding};

use crate::{
    auth::{Operator, Staff},
    error::WebError,
    format,
    layout::{self, Frame, Page, Section},
    state::AppState,
};

/// Rows of each list.
const ROWS_MAX: u32 = 100;

/// `GET /findings`.
///
/// # Errors
/// When the caller is not staff or the store fails.
pub async fn page(State(state): State<AppState>, Staff(caller): Staff, headers: HeaderMap) -> Result<Markup, WebError> {
    let frame = Frame::load(&state, caller, &headers).await?;
    let all = state.store.findings(FindingFilter { limit: ROWS_MAX, ..FindingFilter::default() }).await?;
    let (open, decided): (Vec<_>, Vec<_>) = all.into_iter().partition(|f| f.state == FindingState::Open);
    let (operator, now) = (frame.caller().is_operator(), frame.now());
    let body = html! {
        div.crumbs { a href="/suspects" { "Suspects" } " › findings" }
        div.head { div { h1 { "Findings" } div.sub { "What we may have got wrong ourselves. While a finding is open, nobody it is about is named." } } }
        section.card aria-labelledby="open" {
            header { h2 #open { "To decide" } span.small.dim { (open.len()) } }
            @if open.is_empty() { (layout::empty("Nothing to decide", "When a fault of mapping, ratio, meter or clock explains an imbalance, it appears here.")) }
            ul.evidence { @for finding in &open { (item(finding, operator, now)) } }
        }
        @if !decided.is_empty() { section.card aria-labelledby="decided" {
            header { h2 #decided { "Decided" } }
            ul.evidence { @for finding in &decided { (item(finding, false, now)) } }
        } }
    };
    Ok(frame.page(Page { title: "Findings", section: Section::Suspects, topics: "topology", charts: false, body }))
}

fn item(stored: &StoredFinding, operator: bool, now: Timestamp) -> Markup {
    let finding = &stored.finding;
    html! {
        li.against {
            div.row {
                h3 { (finding.kind.word()) " · " (subject(&finding.subject)) }
                span.small.dim.nowrap { "confidence " (format::number(100.0 * finding.confidence, 0)) " % · zone " a href={ "/zones/" (finding.zone) } { (finding.zone) } " · " (layout::time(stored.opened_at, &format::ago(stored.opened_at, now))) }
            }
            p { (finding.words) }
            p { strong { "Proposed: " } (correction(finding)) }
            @if !finding.numbers.is_empty() { p.small.dim {
                @for (i, number) in finding.numbers.iter().enumerate() { @if i > 0 { " · " } (number.name) " " (format::number(number.value, 2)) @if !number.unit.is_empty() { " " (number.unit) } }
            } }
            @if let Some(decision) = &stored.decision {
                p.small { span.badge { (stored.state.word()) } " by " strong { (decision.by) } " " (format::date_minute(decision.at)) ": " (decision.reason) @if !decision.done.is_empty() { " – " (decision.done) } }
            }
            @if operator && stored.state == FindingState::Open {
                form.fields method="post" action={ "/findings/" (stored.id) } {
                    div.field { label for={ "reason-" (stored.id) } { "Reason, kept in the audit" } input id={ "reason-" (stored.id) } name="reason" maxlength="500" size="40" required; }
                    button.primary name="state" value="accepted" { "Accept the correction" }
                    button name="state" value="dismissed" { "Dismiss" }
                }
            }
        }
    }
}

fn subject(subject: &Subject) -> Markup {
    html! { @match subject {
        Subject::UsagePoint { usage_point, meter } => { (usage_point) ", meter " a href={ "/meters/" (meter) } { (meter) } },
        Subject::Observer { zone, meter } => { "observer " a href={ "/meters/" (meter) } { (meter) } " of " (zone) },
        Subject::Zone { zone } => { "zone " (zone) },
    } }
}

/// The proposed correction in words.
fn correction(finding: &Finding) -> String {
    match &finding.correction {
        Correction::Remap { from, to: Some(to) } => format!("map it to {to} instead of {from}, from now on"),
        Correction::Remap { from, to: None } => format!("it is not supplied from {from}: find out where it hangs"),
        Correction::ExchangeMeters { with, .. } => {
            format!("its meter and {with} are exchanged: look at both, then import")
        }
        Correction::SetRatio { from, to } => format!("ratio {to:.3} instead of {from:.3}, from now on"),
        Correction::ReplaceMeter { uncounted_w } => {
            format!("replace the meter; about {} W are not counted", format::number(*uncounted_w, 0))
        }
        Correction::SetClock { add_seconds } => {
            format!("set its clock: its times are off by {}", format::duration(add_seconds.abs()))
        }
        Correction::RegisterUnmeteredSupply { watts } => {
            format!("register an unmetered supply of {} W from dusk to dawn, or meter it", format::number(*watts, 0))
        }
        Correction::RegisterGeneration => "register the generator and read both directions".to_owned(),
        Correction::CheckZone => {
            "check suspect readings, ratings and ratios in the zone, and who is not registered".to_owned()
        }
    }
}

/// Body of the decision form.
#[derive(Debug, Deserialize)]
pub struct DecisionForm {
    state: String,
    reason: String,
}

/// `POST /findings/{id}`: accepts or dismisses.
///
/// # Errors
/// When the caller is no operator, no reason is given, or the register refuses the correction.
pub async fn decide(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
    Form(form): Form<DecisionForm>,
) -> Result<Redirect, WebError> {
    let wanted = match form.state.as_str() {
        "accepted" => FindingState::Accepted,
        "dismissed" => FindingState::Dismissed,
        _ => return Err(WebError::Invalid("a finding is accepted or dismissed".to_owned())),
    };
    state.store.decide_finding(id, wanted, &form.reason, &caller.name, state.now()).await?;
    Ok(Redirect::to("/findings"))
}
