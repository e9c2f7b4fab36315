//! `GET /cases/{id}`: who, how sure, how much, since when, in plain words and as a curve; evidence for and against, what may be done
//! next, history.

use axum::{
    Form,
    extract::{Path, State},
    http::HeaderMap,
    response::Redirect,
};
use losses::{
    case::{Case, CaseAction, CaseState, HistoryEntry, HistoryWhat, Outcome, Verdict},
    evidence::{Direction, Evidence},
};
use maud::{Markup, html};
use metering::{ControlKind, MeterId, Timestamp, frame::RelayState};
use registry::Topology;
use serde::Deserialize;
use store::{ControlFilter, StoredControl};

use super::{case_chart::CaseCurve, case_files, cases, controls, meter};
use crate::{
    account::{self, Account, Sources},
    api::cases::apply,
    auth::Staff,
    drawing,
    error::WebError,
    format,
    layout::{self, Frame, Page, Section},
    state::AppState,
};

/// `GET /cases/{id}`.
///
/// # Errors
/// When the caller is not staff, there is no such case or the store fails.
pub async fn page(
    State(state): State<AppState>,
    Staff(caller): Staff,
    headers: HeaderMap,
    Path(id): Path<u64>,
) -> Result<Markup, WebError> {
    let case = state.store.case(id).await?.ok_or(WebError::NotFound)?;
    let frame = Frame::load(&state, caller, &headers).await?;
    let now = frame.now();
    let topology = state.store.topology(now).await?;
    let controls = state.store.controls(ControlFilter { case: Some(id), ..ControlFilter::default() }).await?;
    let users = state.store.users().await?;
    let staff: Vec<_> =
        users.iter().filter(|u| !u.disabled && u.usage_point.is_none()).map(|u| u.name.as_str()).collect();
    let title = cases::title(&case);
    let path = format!("/cases/{id}");
    let files = state.store.attachments(id).await?;
    let operator = frame.caller().is_operator();
    let meter = meter_of(&case, &topology);
    let relay = meter.and_then(|meter| state.store.latest(meter)).and_then(|latest| latest.relay);
    let supply_topics = meter.map_or_else(|| "controls".to_owned(), |meter| format!("controls cases meter:{meter}"));
    let topics = meter.map_or_else(|| "cases,controls".to_owned(), |meter| format!("cases,controls,meter:{meter}"));
    let account = Account::read(&Sources { store: &state.store, topology: &topology, now }, &case).await?;
    let curve = CaseCurve::read(&state.store, &case, &account, now).await?;
    let topics = format!("{topics},zone:{}", case.zone);
    let body = html! {
        div.crumbs { a href="/cases" { "Cases" } " › C-" (id) }
        div.head {
            (layout::refreshed("case-title", "cases", &path, html! { div { h1 { (title) } div.sub { "A score is a reason to look, never an accusation." } } }))
            div.actions {
                a.button href={ (path) "/evidence.pdf" } { "Evidence as PDF" }
                a.button href={ (path) "/evidence.json" } { "JSON" }
            }
        }
        div.cols.two {
            div.stack {
                (layout::refreshed("case-short", &format!("cases controls zone:{}", case.zone), &path, html! {
                    (in_short(&case, &account))
                    section.card aria-labelledby="curve" {
                        header { h2 #curve { "The curve" } span.small.dim { "a hole is a missing reading; both axes begin at zero" } }
                        (curve.draw())
                    }
                }))
                (layout::refreshed("case-facts", "cases controls", &path, html! {
                    @if let Some(outcome) = &case.outcome { (outcome_card(outcome)) }
                    (evidence_card(&case, Direction::For))
                    (evidence_card(&case, Direction::Against))
                    (controls_card(&controls, now))
                    (timeline(&case))
                }))
            }
            div.stack {
                (layout::refreshed("case-actions", "cases", &path, action_bar(&case)))
                (layout::refreshed("case-supply", &supply_topics, &path, html! {
                    (supply_card(&case, &topology, relay, operator))
                    (facts(&case, now))
                }))
                @if case.state.is_closed() {
                    section.card { h2 { "Closed" } p.dim { "Nothing more can be done with this case. A new reason opens a new one." } }
                } @else {
                    (comment_form(&case))
                    (assign_form(&case, &staff))
                    (conclude_form(&case))
                }
                (case_files::card(id, &files))
            }
        }
    };
    Ok(frame.page(Page { title: &title, section: Section::Cases, topics: &topics, charts: false, body }))
}

/// Who, how sure, how much, since when, and what was done: the first screen of the page.
fn in_short(case: &Case, account: &Account) -> Markup {
    let figure = |label: &str, value: Markup, note: Markup| {
        html! { div.kpi { div.label { (label) } div.value { (value) } div.note { (note) } } }
    };
    let kwh = account.kwh.map_or_else(
        || html! { (format::UNKNOWN) },
        |kwh| html! { (format::number(kwh, kwh_decimals(kwh))) " " span.unit { "kWh" } },
    );
    html! {
        section.card.short aria-labelledby="short" {
            h2.visually-hidden #short { "In short" }
            p.lead { (account.sentence) }
            div.kpis {
                (who(case, account))
                (chance(account))
                (figure("Since", html! { (format::day_minute(account.since)) }, html! {
                    @match account.until { Some(until) => { "until " (format::day_minute(until)) }, None => { "about; it goes on" } }
                }))
                (figure("Energy to date", kwh, html! {
                    @match account.kwh_per_day { Some(per_day) => { (format::number(per_day, 1)) " kWh a day" }, None => { "not measured yet" } }
                }))
                @if let Some(money) = &account.money { (figure("Worth", html! { (money) }, html! { "at the price on " a href="/suspects" { "Suspects" } })) }
            }
            @if !account.held_back.is_empty() {
                p.small { strong { "Why not more: " } @for (i, words) in account.held_back.iter().enumerate() { @if i > 0 { "; " } (words) } "." }
            }
            @if let Some((pair, _)) = &account.observer {
                div.banner { p { strong { "One cause, two cases: " }
                    a href={ "/cases/" (pair.missing) } { "C-" (pair.missing) ", missing in " (pair.parent) } " and "
                    a href={ "/cases/" (pair.surplus) } { "C-" (pair.surplus) ", too much in " (pair.zone) } ". "
                    a href="/findings" { "Correct or dismiss it among the findings." }
                } }
            }
            @if let Some(done) = &account.done {
                div class=(done_class(&done.control)) { p { strong { "What was done: " } (done.words) " " a href={ "/controls/" (done.control.id) } { "Command " (done.control.id) } } }
            }
        }
    }
}

fn kwh_decimals(kwh: f64) -> usize {
    usize::from(kwh < 100.0)
}

fn done_class(control: &StoredControl) -> &'static str {
    match control.state.word() {
        "Verified" => "banner good",
        "Failed" | "Refused" => "banner bad",
        "Expired" => "banner warn",
        _ => "banner",
    }
}

fn who(case: &Case, account: &Account) -> Markup {
    html! { div.kpi {
        div.label { "Who" }
        @match (&account.point, case.usage_point) {
            (Some(point), _) => {
                div.value { (point.usage_point) }
                div.note {
                    "in " a href={ "/zones/" (point.zone) } { (point.zone) }
                    @if let Some(installed) = &point.installation { " · meter " a href={ "/meters/" (installed.meter) } { (installed.meter) } " · phase " (installed.phase.word()) }
                }
            },
            (None, Some(point)) => { div.value { (point) } div.note { "no longer in the topology" } },
            (None, None) => {
                div.value { "nobody named" }
                div.note { "somewhere in " a href={ "/zones/" (case.zone) } { (case.zone) }
                    @if let Some(one) = &account.foremost { " · nearest " (one.usage_point) ", " (account::percent(one.fused.probability)) " %" }
                }
            },
        }
    } }
}

fn chance(account: &Account) -> Markup {
    html! { div.kpi {
        div.label { "Chance" }
        @match &account.chance {
            Some(fused) => {
                div.value { (account::percent(fused.probability)) " " span.unit { "%" } }
                div.note { "between " (account::percent(fused.low)) " and " (account::percent(fused.high)) ", nine times in ten" }
            },
            None => { div.value { (format::UNKNOWN) } div.note { "a chance belongs to a home" } },
        }
    } }
}

/// What may be done now, with its keys; nothing here cuts supply.
fn action_bar(case: &Case) -> Markup {
    let may = |state: CaseState| case.state.next().contains(&state);
    html! {
        @if !case.state.is_closed() { section.card.bar aria-label="What to do" {
            h2 { "What to do" }
            form.fields method="post" action={ "/cases/" (case.id) } {
                input type="hidden" name="action" value="move";
                button name="to" value="review" data-key="r" disabled[!may(CaseState::Review)] { "Review" kbd aria-hidden="true" { "r" } }
                button.primary name="to" value="visit" data-key="v" disabled[!may(CaseState::Visit)] { "Send a visit" kbd aria-hidden="true" { "v" } }
            }
            details #dismiss {
                summary data-key="d" { "Dismiss… " kbd aria-hidden="true" { "d" } }
                form.form method="post" action={ "/cases/" (case.id) } {
                    input type="hidden" name="action" value="dismiss";
                    div.field { label for="dismiss-reason" { "What explains it honestly, kept in the history" } textarea #dismiss-reason name="reason" maxlength="4000" required {} }
                    button { "Dismiss the case" }
                }
            }
        } }
    }
}

fn meter_of(case: &Case, topology: &Topology) -> Option<MeterId> {
    let point = case.usage_point.and_then(|point| topology.usage_point(point))?;
    point.installation.as_ref().map(|installation| installation.meter)
}

fn facts(case: &Case, now: Timestamp) -> Markup {
    let reached = |state: CaseState| match state {
        CaseState::New => true,
        CaseState::Review | CaseState::Visit => case.history.iter().any(|entry| {
            matches!(&entry.what,
            HistoryWhat::Acted(CaseAction::Move { to }) if *to == state)
                || state == CaseState::Visit && matches!(&entry.what, HistoryWhat::Acted(CaseAction::AskVisit { .. }))
                || matches!(&entry.what, HistoryWhat::MovedByRule { to, .. } if *to == state)
        }),
        CaseState::Confirmed | CaseState::Cleared => case.state == state,
    };
    let step = |state: CaseState| {
        let class = if case.state == state {
            "now"
        } else if reached(state) {
            "done"
        } else {
            ""
        };
        html! { li class=(class) aria-current=[(case.state == state).then_some("step")] { (state.word()) } }
    };
    html! {
        section.card aria-label="Facts" {
            ol.steps {
                (step(CaseState::New)) (step(CaseState::Review)) (step(CaseState::Visit))
                @match case.state {
                    CaseState::Confirmed | CaseState::Cleared => { (step(case.state)) },
                    _ => { li { "confirmed or cleared" } },
                }
            }
            dl.facts {
                dt { "Kind" } dd { (case.kind.word()) }
                dt { "Zone" } dd { a href={ "/zones/" (case.zone) } { (case.zone) } }
                dt { "Opened" } dd { (layout::time(case.opened_at, &format::date_minute(case.opened_at))) " · " (layout::age(case.opened_at, now)) }
                dt { "Began" } dd { @match case.onset { Some(at) => { "about " (layout::time(at, &format::date_minute(at))) }, None => { span.none { "not known" } } } }
                @if let Some(at) = case.imbalance_ended { dt { "Imbalance ended" } dd { (layout::time(at, &format::date_minute(at))) } }
                dt { "Owner" } dd { @match &case.owner { Some(owner) => { (owner) }, None => { span.none { "nobody" } } } }
                dt { "Due" } dd { @match case.due { Some(due) => { (format::date(due)) @if case.is_overdue(now) { " " span.badge.warn { "overdue" } } }, None => { span.none { "–" } } } }
            }
        }
    }
}

fn outcome_card(outcome: &Outcome) -> Markup {
    let (class, word) = match outcome.verdict {
        Verdict::Confirmed => ("banner bad", "Confirmed"),
        Verdict::Cleared => ("banner good", "Cleared"),
    };
    html! { div class=(class) { h2 { (word) " · " (format::number(outcome.kwh, 1)) " kWh" } p { (outcome.reason) } p { (format::number(outcome.recovered_kwh, 1)) " kWh recovered" } } }
}

fn evidence_card(case: &Case, direction: Direction) -> Markup {
    let mut pieces: Vec<&Evidence> = case.evidence.iter().filter(|e| e.direction == direction).collect();
    pieces.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let full = case.evidence.iter().map(|e| e.weight).fold(5.0, f64::max);
    let (class, title, none) = match direction {
        Direction::For => ("for", "Evidence for", "Nothing speaks for the suspicion any more."),
        Direction::Against => (
            "against",
            "Evidence against",
            "Nothing was found that speaks against it. That is not proof: look for an honest explanation before the visit.",
        ),
    };
    html! {
        section.card aria-label=(title) {
            header { h2 { (title) } span.small.dim { (pieces.len()) } }
            @if pieces.is_empty() { p.dim { (none) } }
            ul.evidence {
                @for piece in pieces { li class=(class) {
                    div.row {
                        h3 { (piece.kind.word()) }
                        span.small.dim.nowrap { (piece.strength()) " " (drawing::weigh_bar(piece.weight, full, direction == Direction::For)) }
                    }
                    p { (account::plain(&piece.words)) }
                    @if !piece.readings.is_empty() { p.small { "Rests on "
                        @for (i, range) in piece.readings.iter().take(6).enumerate() {
                            @if i > 0 { ", " }
                            a href={ "/meters/" (range.meter) "?from=" (range.from.0) "&to=" (range.to.0) } { (range.meter) }
                            span.dim { " " (format::date_minute(range.from)) " – " (format::date_minute(range.to)) }
                        }
                        @if piece.readings.len() > 6 { " and " (piece.readings.len() - 6) " more meters" }
                    } }
                } }
            }
        }
    }
}

fn controls_card(list: &[StoredControl], now: Timestamp) -> Markup {
    html! {
        @if !list.is_empty() { section.card aria-label="Commands of this case" {
            header { h2 { "Commands" } a.more href="/controls" { "All commands" } }
            (controls::table(list, now))
        } }
    }
}

fn timeline(case: &Case) -> Markup {
    html! {
        section.card aria-label="History" {
            header { h2 { "History" } }
            ol.timeline {
                @for (i, entry) in case.history.iter().enumerate().rev() {
                    li class=[(i + 1 == case.history.len()).then_some("now")] {
                        (layout::time(entry.at, &format::date_minute(entry.at))) " · " strong { (entry.by) }
                        div { (history_words(entry)) }
                    }
                }
            }
        }
    }
}

/// What an entry of the history says, in words.
pub fn history_words(entry: &HistoryEntry) -> String {
    match &entry.what {
        HistoryWhat::Opened => "opened the case".to_owned(),
        HistoryWhat::EvidenceAdded { pieces } => format!("evidence added or replaced: {pieces} pieces"),
        HistoryWhat::Reclassified { from, usage_point } => {
            let before = usage_point.map_or_else(|| "the zone only".to_owned(), |point| point.to_string());
            format!("the evidence changed the case; it was '{}' about {before}", from.word())
        }
        HistoryWhat::ImbalanceEnded => "the imbalance ended".to_owned(),
        HistoryWhat::ImbalanceReturned => "the imbalance came back".to_owned(),
        HistoryWhat::Attached { name, sha256, .. } => {
            format!("attached {name} (SHA-256 {}…)", sha256.get(..12).unwrap_or_default())
        }
        HistoryWhat::MovedByRule { to, rule } => format!("moved to {}: {rule}", to.word()),
        HistoryWhat::Acted(action) => match action {
            CaseAction::Assign { owner, due } => {
                let owner = owner.as_deref().unwrap_or("nobody");
                let due = due.map(|due| format!(", due {}", format::date(due))).unwrap_or_default();
                format!("assigned to {owner}{due}")
            }
            CaseAction::Move { to } => format!("moved to {}", to.word()),
            CaseAction::Comment { text } => format!("“{text}”"),
            CaseAction::AskVisit { reason } => format!("asks for a visit: {reason}"),
            CaseAction::Conclude { verdict, reason, kwh, recovered_kwh } => {
                let word = if *verdict == Verdict::Confirmed { "confirmed" } else { "cleared" };
                let (found, recovered) = (format::number(*kwh, 1), format::number(*recovered_kwh, 1));
                format!("{word} with {found} kWh, {recovered} kWh recovered: {reason}")
            }
        },
    }
}

fn supply_card(case: &Case, topology: &Topology, relay: Option<RelayState>, operator: bool) -> Markup {
    let point = case.usage_point.and_then(|point| topology.usage_point(point));
    let meter = meter_of(case, topology);
    let is_off = relay.is_some_and(|relay| relay != RelayState::Closed && relay != RelayState::Fault);
    let command = |meter: MeterId, kind: ControlKind, words: &str| {
        html! { p { a.button href={ "/meters/" (meter) "/control?kind=" (kind.word()) "&case=" (case.id) } { (words) } } }
    };
    html! {
        @if let (Some(point), Some(meter)) = (point, meter) {
            section.card aria-label="Supply" {
                header { h2 { "Supply" } }
                dl.facts {
                    dt { "Meter" } dd { a href={ "/meters/" (meter) } { (meter) } }
                    dt { "Supply" } dd { (meter::relay_badge(relay)) }
                }
                @if operator && is_off { (command(meter, ControlKind::Reconnect, "Reconnect…")) }
                @else if point.never_disconnect { div.banner.warn { p { "Never to be disconnected: see the policy." } } }
                @else if operator { (command(meter, ControlKind::Disconnect, "Disconnect…")) }
            }
        }
    }
}

fn assign_form(case: &Case, staff: &[&str]) -> Markup {
    html! {
        section.card { form.form method="post" action={ "/cases/" (case.id) } {
            h2 { "Assign" }
            input type="hidden" name="action" value="assign";
            div.fields {
                div.field { label for="owner" { "Owner" } select #owner name="owner" {
                    option value="" { "nobody" }
                    @for name in staff { option selected[case.owner.as_deref() == Some(name)] { (name) } }
                } }
                div.field { label for="due" { "Due" } input #due type="date" name="due" value=[case.due.map(format::date)]; }
            }
            button { "Assign" }
        } }
    }
}

fn conclude_form(case: &Case) -> Markup {
    html! {
        section.card { form.form method="post" action={ "/cases/" (case.id) } {
            h2 { "Conclude" }
            @if case.state == CaseState::New { p.dim { "A case that nobody has looked at cannot be concluded: move it to review first." } }
            @else {
                input type="hidden" name="action" value="conclude";
                fieldset {
                    legend { "Outcome" }
                    label.check { input type="radio" name="verdict" value="confirmed" required; "Confirmed: the suspicion was right" }
                    label.check { input type="radio" name="verdict" value="cleared" required; "Cleared: there was an honest explanation" }
                }
                div.field { label for="reason" { "What was found" } textarea #reason name="reason" maxlength="4000" required {} }
                div.field { label for="kwh" { "Energy found missing or explained, kWh" } input #kwh name="kwh" type="number" min="0" step="0.001" value="0" required; }
                div.field { label for="recovered" { "Of it recovered, kWh" } input #recovered name="recovered_kwh" type="number" min="0" step="0.001" value="0" required; }
                button.primary { "Conclude the case" }
            }
        } }
    }
}

fn comment_form(case: &Case) -> Markup {
    html! {
        section.card { form.form method="post" action={ "/cases/" (case.id) } {
            h2 { "Comment" }
            input type="hidden" name="action" value="comment";
            div.field { label for="text" { "Remark, kept in the history" } textarea #text name="text" maxlength="4000" required {} }
            button { "Add" }
        } }
    }
}

/// Body of the forms of the case page.
#[derive(Debug, Deserialize)]
pub struct CaseForm {
    action: String,
    #[serde(default)]
    owner: String,
    #[serde(default)]
    due: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    verdict: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    kwh: String,
    #[serde(default)]
    recovered_kwh: String,
}

impl CaseForm {
    fn action(self) -> Result<CaseAction, WebError> {
        let invalid = |what: &str| WebError::Invalid(what.to_owned());
        Ok(match self.action.as_str() {
            "assign" => CaseAction::Assign {
                owner: (!self.owner.is_empty()).then_some(self.owner),
                due: match self.due.as_str() {
                    "" => None,
                    text => Some(text.parse::<Timestamp>().map_err(|error| WebError::Invalid(error.to_string()))?),
                },
            },
            "move" => CaseAction::Move {
                to: [CaseState::Review, CaseState::Visit]
                    .into_iter()
                    .find(|state| state.word() == self.to)
                    .ok_or_else(|| invalid("a case is moved to review or visit"))?,
            },
            "comment" => CaseAction::Comment { text: self.text },
            // Checked here, because the case is moved to review before it is concluded.
            "dismiss" if self.reason.trim().is_empty() => {
                return Err(invalid("say what explains the case honestly: it is kept in the history"));
            }
            "dismiss" => {
                CaseAction::Conclude { verdict: Verdict::Cleared, reason: self.reason, kwh: 0.0, recovered_kwh: 0.0 }
            }
            "conclude" => CaseAction::Conclude {
                verdict: match self.verdict.as_str() {
                    "confirmed" => Verdict::Confirmed,
                    "cleared" => Verdict::Cleared,
                    _ => return Err(invalid("say whether the case is confirmed or cleared")),
                },
                reason: self.reason,
                kwh: self.kwh.trim().parse().map_err(|_| invalid("the energy is a number of kWh"))?,
                recovered_kwh: match self.recovered_kwh.trim() {
                    "" => 0.0,
                    text => text.parse().map_err(|_| invalid("the recovered energy is a number of kWh"))?,
                },
            },
            _ => return Err(invalid("an action is assign, move, comment, dismiss or conclude")),
        })
    }
}

/// `POST /cases/{id}`: one action, then back to the case.
///
/// # Errors
/// When the caller is not staff, the action is not usable, or the case refuses it.
pub async fn act(
    State(state): State<AppState>,
    Staff(caller): Staff,
    Path(id): Path<u64>,
    Form(form): Form<CaseForm>,
) -> Result<Redirect, WebError> {
    let looks_first = form.action == "dismiss";
    let action = form.action()?;
    if looks_first && state.store.case(id).await?.is_some_and(|case| case.state == CaseState::New) {
        // Who dismisses a case has looked at it: its history says so before it says the end.
        state.store.case_action(id, CaseAction::Move { to: CaseState::Review }, &caller.name, state.now()).await?;
    }
    apply(&state, id, action, &caller.name).await?;
    Ok(Redirect::to(&format!("/cases/{id}")))
}
