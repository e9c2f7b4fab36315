//! `GET /suspects`: usage points in the order of what a visit is worth, with reasons for and against, the visits of this night, and how
//! well the detection works at present.

use axum::{Form, extract::State, http::HeaderMap, response::Redirect};
use losses::{
    case::CaseState,
    evidence::Evidence,
    ranking::{Listed, PlannedVisit, RecoverySettings},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::cases;
use crate::{
    auth::{Operator, Staff},
    error::WebError,
    format,
    layout::{self, Frame, Page, Section},
    ranking::{self, Ranking},
    state::AppState,
};

/// Rows on the page.
const ROWS_MAX: usize = 200;
/// Days of a month, for figures per month.
const MONTH_DAYS: f64 = 30.0;
/// Longest reason in the table, characters.
const REASON_CHARS: usize = 150;

/// `GET /suspects`.
///
/// # Errors
/// When the caller is not staff or the store fails.
pub async fn page(State(state): State<AppState>, Staff(caller): Staff, headers: HeaderMap) -> Result<Markup, WebError> {
    let frame = Frame::load(&state, caller, &headers).await?;
    let ranking = ranking::read(&state.store, frame.now()).await?;
    let operator = frame.caller().is_operator();
    let body = html! {
        div.head {
            div {
                h1 { "Suspects" }
                div.sub { "In the order of what a visit is worth: chance × recoverable energy × tariff − cost of the visit. A reason to look, never an accusation." }
            }
            div.actions { a.button href="/findings" { "Findings" @if ranking.findings_open > 0 { " · " (ranking.findings_open) " to decide" } } }
        }
        (layout::refreshed("suspects", "cases", "/suspects", html! {
            (figures(&ranking))
            section.card aria-labelledby="list" {
                header { h2 #list { "Whom to check" } span.small.dim { "chance and energy with their 90 % interval; energy if nothing is done" } }
                (table(&ranking))
            }
            (plan_card(&ranking))
        }))
        (settings_card(&ranking.settings, operator))
    };
    Ok(frame.page(Page { title: "Suspects", section: Section::Suspects, topics: "cases", charts: false, body }))
}

fn figures(ranking: &Ranking) -> Markup {
    let (hits, visits) = ranking.hits;
    let planned: f64 = ranking.plan.iter().map(|visit| visit.value_minor).sum();
    let learnt = ranking.calibration.outcomes;
    html! {
        div.kpis {
            div.kpi { div.label { "On the list" } div.value { (ranking.listed.len()) } div.note { (ranking.listed.iter().filter(|l| l.value_minor > 0.0).count()) " worth a visit" } }
            div.kpi { div.label { "Visits planned" } div.value { (ranking.plan.len()) span.unit { " of " (ranking.settings.visits_per_night) } } div.note { "worth " (money(planned, &ranking.settings)) " together" } }
            div.kpi {
                div.label { @if visits == 0 { "Last visits" } @else { "Last " (visits) " visits" } }
                div.value { @if visits == 0 { (format::UNKNOWN) } @else { (hits) span.unit { " confirmed" } } }
                div.note { @if visits == 0 { "no outcome recorded yet" } @else { (visits - hits) " cleared" } }
            }
            (canary_figure(ranking))
            div.kpi { div.label { "Chances learnt from" } div.value { (learnt) span.unit { " outcomes" } } div.note { @if learnt < 20 { "few: chances rest on assumptions that no visit has tested" } @else { "corrected by what visits found" } } }
        }
    }
}

/// Known thefts are written into copies of real zones each night: the share that the live detection sees.
fn canary_figure(ranking: &Ranking) -> Markup {
    let percent = |p: f64| format::number(100.0 * p, 0);
    html! {
        div.kpi title="Each night known thefts are written into copies of real readings, and the detection in use looks at them" {
            div.label { "Test thefts found (canaries)" }
            @match &ranking.canaries {
                Some(found) => {
                    div.value { (percent(found.rate)) span.unit { " % (" (percent(found.interval[0])) "–" (percent(found.interval[1])) ")" } }
                    div.note { (found.detected) " of " (found.canaries) " seen, " (found.named) " named, after " (format::maybe(found.delay_days, 1)) " days; " (found.false_visits) " false visits" }
                }
                None => { div.value { (format::UNKNOWN) } div.note { "no night watched yet" } }
            }
        }
    }
}

fn table(ranking: &Ranking) -> Markup {
    if ranking.listed.is_empty() {
        return layout::empty(
            "Nobody to check",
            "When energy goes missing or a meter reports tampering, usage points appear here.",
        );
    }
    html! {
        div.scroll tabindex="0" role="group" aria-label="Suspects" { table.cards {
            thead { tr {
                th.num scope="col" { "Rank" } th scope="col" { "Usage point" } th scope="col" { "Main reason, and main doubt" }
                th.num scope="col" { "Chance %" } th.num scope="col" { "kWh a month" } th.num scope="col" { "Value of a visit" } th scope="col" { "Case" }
            } }
            tbody data-rows {
                @for (index, listed) in ranking.listed.iter().take(ROWS_MAX).enumerate() { (row(index + 1, listed, &ranking.settings)) }
            }
        } }
        @if ranking.listed.len() > ROWS_MAX { p.small.dim { "The first " (ROWS_MAX) " of " (ranking.listed.len()) "." } }
    }
}

fn row(rank: usize, listed: &Listed, settings: &RecoverySettings) -> Markup {
    let percent = |p: f64| format::number(100.0 * p, 0);
    let (fused, energy) = (&listed.fused, &listed.recoverable);
    // The interval of a month has the shape of the interval of the whole time.
    let month = |kwh: f64| if energy.kwh > 0.0 { kwh / energy.kwh * energy.kwh_per_day * MONTH_DAYS } else { f64::NAN };
    let class = if listed.value_minor > 0.0 { "num" } else { "num dim" };
    html! { tr {
        td.num data-label="Rank" { (rank) }
        th scope="row" {
            a href={ "/cases/" (listed.case) } { (listed.usage_point) }
            div.small { a href={ "/zones/" (listed.zone) } { "zone " (listed.zone) } @if !listed.named { span.dim { " · not sure enough to name" } } }
        }
        td data-label="Why" {
            @match listed.main_reason() { Some(piece) => { (reason("for", piece)) }, None => { span.none { "–" } } }
            @if let Some(piece) = listed.main_doubt() { (reason("against", piece)) }
            @if let Some(words) = listed.held_back.first() { div.small.dim { "why not more: " (words) } }
        }
        td.num data-label="Chance %" { (percent(fused.probability)) div.small.dim { (percent(fused.low)) " – " (percent(fused.high)) } }
        td.num data-label="kWh a month" {
            @if energy.kwh > 0.0 { (format::number(month(energy.kwh), 0)) div.small.dim { @if energy.measured { (format::number(month(energy.low_kwh), 0)) " – " (format::number(month(energy.high_kwh), 0)) } @else { "assumed" } } }
            @else { span.none { "–" } }
        }
        td class=(class) data-label="Value of a visit" { (money(listed.value_minor, settings)) }
        td.nowrap data-label="Case" { a href={ "/cases/" (listed.case) } { "C-" (listed.case) } " " (cases::state_badge(listed.state)) @if listed.state == CaseState::Visit { div.small.dim { "visit asked for" } } }
    } }
}

fn reason(direction: &str, piece: &Evidence) -> Markup {
    let whole = crate::account::plain(&piece.words);
    let mut words: String = whole.chars().take(REASON_CHARS).collect();
    if words.len() < whole.len() {
        words.push('…');
    }
    html! { div.small { strong { (direction) ": " (piece.kind.word()) } " – " (words) } }
}

fn plan_card(ranking: &Ranking) -> Markup {
    html! {
        section.card aria-labelledby="plan" {
            header { h2 #plan { "Visits before the next night" } span.small.dim { "highest value first, only what is worth its cost; a small share is drawn at random, so that outcomes stay honest" } }
            @if ranking.plan.is_empty() { (layout::empty("No visit is worth its cost", "Lower cost or higher tariff would change that; so would more evidence.")) }
            @else { ol { @for visit in &ranking.plan { li { (planned(visit, ranking)) } } } }
        }
    }
}

fn planned(visit: &PlannedVisit, ranking: &Ranking) -> Markup {
    let listed = ranking.listed.iter().find(|l| l.usage_point == visit.usage_point);
    html! {
        strong { @match listed { Some(l) => { a href={ "/cases/" (l.case) } { (visit.usage_point) } }, None => { a href={ "/find?q=" (visit.usage_point) } { (visit.usage_point) } } } }
        @if visit.random { " " span.badge { "drawn at random" } } @else { " · worth " (money(visit.value_minor, &ranking.settings)) }
    }
}

/// Hundredths of the currency, as an amount.
fn money(minor: f64, settings: &RecoverySettings) -> String {
    format!("{} {}", settings.currency, format::number(minor / 100.0, 0))
}

fn settings_card(settings: &RecoverySettings, operator: bool) -> Markup {
    let number = |name: &str, text: &str, value: String, step: &str| {
        html! { div.field { label for=(name) { (text) } input id=(name) name=(name) type="number" min="0" step=(step) value=(value) required; } }
    };
    let minor = |value: u32| format!("{}.{:02}", value / 100, value % 100);
    html! {
        section.card aria-labelledby="terms" {
            h2 #terms { "What a visit is worth" }
            @if operator {
                form.fields method="post" action="/suspects/settings" {
                    div.field { label for="currency" { "Currency" } input #currency name="currency" maxlength="8" value=(settings.currency) required; }
                    (number("tariff", "Price of a kWh", minor(settings.tariff_minor_per_kwh), "0.01"))
                    (number("visit_cost", "Cost of a visit", minor(settings.visit_cost_minor), "0.01"))
                    (number("visits", "Visits a night", settings.visits_per_night.to_string(), "1"))
                    (number("random_percent", "Drawn at random, %", format!("{}", settings.random_share * 100.0), "any"))
                    (number("back_days", "Days billed back", settings.back_billing_days.to_string(), "1"))
                    (number("ahead_days", "Days it would go on", settings.horizon_days.to_string(), "1"))
                    button.primary { "Save" }
                }
            } @else {
                p { "A kWh brings " (settings.currency) " " (minor(settings.tariff_minor_per_kwh)) ", a visit costs " (settings.currency) " " (minor(settings.visit_cost_minor)) "; an operator can change it." }
            }
        }
    }
}

/// Body of the settings form.
#[derive(Debug, Deserialize)]
pub struct SettingsForm {
    currency: String,
    tariff: String,
    visit_cost: String,
    visits: u32,
    random_percent: f64,
    back_days: u32,
    ahead_days: u32,
}

/// `POST /suspects/settings`; audited.
///
/// # Errors
/// When the caller is no operator or a value is not usable.
pub async fn settings(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Form(form): Form<SettingsForm>,
) -> Result<Redirect, WebError> {
    let settings = RecoverySettings {
        currency: form.currency.trim().to_owned(),
        tariff_minor_per_kwh: minor(&form.tariff)?,
        visit_cost_minor: minor(&form.visit_cost)?,
        visits_per_night: form.visits,
        random_share: form.random_percent / 100.0,
        back_billing_days: form.back_days,
        horizon_days: form.ahead_days,
    };
    settings.check().map_err(WebError::Invalid)?;
    state.store.set_setting(ranking::SETTING, &settings, &caller.name, state.now()).await?;
    Ok(Redirect::to("/suspects"))
}

/// An amount with at most two decimals, in hundredths; no float touches money.
fn minor(text: &str) -> Result<u32, WebError> {
    let wrong = || WebError::Invalid("an amount is a number with at most two decimals, as 7.50".to_owned());
    let (whole, cents) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(cents) || cents.len() > 2 || (whole.is_empty() && cents.is_empty()) {
        return Err(wrong());
    }
    let whole: u32 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
    let cents: u32 = format!("{cents:0<2}").parse().map_err(|_| wrong())?;
    whole.checked_mul(100).and_then(|minor| minor.checked_add(cents)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly() {
        assert_eq!(minor("7.5").ok(), Some(750));
        assert_eq!(minor("8").ok(), Some(800));
        assert_eq!(minor(".05").ok(), Some(5));
        for wrong in ["", ".", "-1", "1.234", "1e3", "99999999999"] {
            assert!(minor(wrong).is_err(), "{wrong}");
        }
    }
}
