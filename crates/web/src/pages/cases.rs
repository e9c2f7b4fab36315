//! `GET /cases`: the list, sorted and filtered by its address, and the same as CSV.

use axum::{
    extract::{Query, State},
    http::HeaderMap,
    response::Response,
};
use losses::{
    case::{Case, CaseKind, CaseState},
    evidence::{Direction, Evidence},
};
use maud::{Markup, html};
use metering::{Timestamp, ZoneId};
use serde::Deserialize;
use store::CaseFilter;

use crate::{
    auth::Staff,
    csv::Csv,
    error::WebError,
    format,
    layout::{self, Frame, Page, Section},
    state::AppState,
};

/// Most rows on the page; the CSV has more.
const ROWS_MAX: u32 = 500;
/// Most rows of the CSV.
const CSV_ROWS_MAX: u32 = 100_000;

/// How many cases have not ended.
///
/// # Errors
/// When the store fails.
pub async fn open_count(state: &AppState) -> Result<usize, WebError> {
    let open = state.store.count_cases(&CaseFilter { open_only: true, ..CaseFilter::default() }).await?;
    Ok(usize::try_from(open).unwrap_or(usize::MAX))
}

/// What a case is called in lists.
pub fn title(case: &Case) -> String {
    let place = case.usage_point.map_or_else(|| format!("zone {}", case.zone), |point| point.to_string());
    let mut kind = case.kind.word().to_owned();
    if let Some(first) = kind.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    format!("C-{} · {kind} · {place}", case.id)
}

/// The state as shape, word and colour.
pub fn state_badge(state: CaseState) -> Markup {
    let class = match state {
        CaseState::New => "badge warn",
        CaseState::Review | CaseState::Visit => "badge info",
        CaseState::Confirmed => "badge bad",
        CaseState::Cleared => "badge good",
    };
    html! { span class=(class) { (state.word()) } }
}

/// The strongest piece of evidence for the suspicion.
pub fn top_reason(case: &Case) -> Option<&Evidence> {
    case.evidence.iter().filter(|e| e.direction == Direction::For).max_by(|a, b| a.weight.total_cmp(&b.weight))
}

/// The order of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Newest first.
    #[default]
    Opened,
    /// Strongest evidence first.
    Weight,
    /// By state.
    State,
    /// By zone.
    Zone,
    /// Nearest due date first.
    Due,
}

impl Sort {
    const fn word(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Weight => "weight",
            Self::State => "state",
            Self::Zone => "zone",
            Self::Due => "due",
        }
    }
}

/// Query of the list: what a form leaves empty does not filter.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CasesQuery {
    #[serde(default)]
    state: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    zone: String,
    #[serde(default)]
    owner: String,
    #[serde(default)]
    sort: Sort,
}

const STATES: [CaseState; 5] =
    [CaseState::New, CaseState::Review, CaseState::Visit, CaseState::Confirmed, CaseState::Cleared];
const KINDS: [CaseKind; 4] =
    [CaseKind::SuspectedTheft, CaseKind::TamperSuspected, CaseKind::MissingEnergy, CaseKind::SurplusEnergy];

impl CasesQuery {
    fn with(&self, sort: Sort) -> String {
        let mut out = format!("sort={}", sort.word());
        for (name, value) in
            [("state", &self.state), ("kind", &self.kind), ("zone", &self.zone), ("owner", &self.owner)]
        {
            if !value.is_empty() {
                out.push_str(&format!("&{name}={}", layout::query_text(value)));
            }
        }
        out
    }

    fn path(&self) -> String {
        format!("/cases?{}", self.with(self.sort))
    }

    /// What the database filters by; `None` when a word of the address is no state, kind or zone, so that nothing can fit.
    fn filter(&self) -> Option<CaseFilter> {
        let mut filter = CaseFilter::default();
        match self.state.as_str() {
            "" | "open" => filter.open_only = true,
            "all" => {}
            word => filter.state = Some(STATES.into_iter().find(|state| state.word() == word)?),
        }
        if !self.kind.is_empty() {
            filter.kind = Some(KINDS.into_iter().find(|kind| kind.word() == self.kind)?);
        }
        if !self.zone.is_empty() {
            filter.zone = Some(ZoneId::new(&self.zone).ok()?);
        }
        filter.owner = (!self.owner.is_empty()).then(|| self.owner.clone());
        Some(filter)
    }

    /// The newest `limit` cases that fit, in the order asked for, and how many fit in all.
    async fn read(&self, state: &AppState, limit: u32) -> Result<(Vec<Case>, u64), WebError> {
        let Some(filter) = self.filter() else { return Ok((Vec::new(), 0)) };
        let fitting = state.store.count_cases(&filter).await?;
        let mut cases = state.store.cases(CaseFilter { limit, ..filter }).await?;
        match self.sort {
            Sort::Opened => {}
            Sort::Weight => cases.sort_by(|a, b| b.weight().total_cmp(&a.weight())),
            Sort::State => cases.sort_by_key(|case| case.state),
            Sort::Zone => cases.sort_by_key(|case| case.zone),
            Sort::Due => cases.sort_by_key(|case| case.due.unwrap_or(Timestamp(i64::MAX))),
        }
        Ok((cases, fitting))
    }
}

/// `GET /cases`.
///
/// # Errors
/// When the caller is not staff or the store fails.
pub async fn page(
    State(state): State<AppState>,
    Staff(caller): Staff,
    headers: HeaderMap,
    Query(query): Query<CasesQuery>,
) -> Result<Markup, WebError> {
    let frame = Frame::load(&state, caller, &headers).await?;
    let (cases, fitting) = query.read(&state, ROWS_MAX).await?;
    let body = html! {
        div.head {
            div { h1 { "Cases" } div.sub { "A case is a reason to look, never an accusation." } }
            div.actions { a.button href={ "/cases.csv?" (query.with(query.sort)) } { "Export CSV" } }
        }
        section.card {
            (filter_form(&query))
        }
        section.card aria-label="Cases" {
            (layout::refreshed("case-list", "cases", &query.path(), html! {
                (table(&cases, &query, frame.now()))
                @if fitting > u64::from(ROWS_MAX) { p.small.dim { "The newest " (ROWS_MAX) " of " (format::count(fitting)) " that fit; the CSV has more." } }
            }))
        }
    };
    Ok(frame.page(Page { title: "Cases", section: Section::Cases, topics: "cases", charts: false, body }))
}

fn filter_form(query: &CasesQuery) -> Markup {
    html! {
        form.fields action="/cases" role="search" aria-label="Filter the cases" {
            div.field { label for="state" { "State" } select #state name="state" {
                option value="open" selected[query.state.is_empty() || query.state == "open"] { "open" }
                option value="all" selected[query.state == "all"] { "all" }
                @for state in STATES { option value=(state.word()) selected[query.state == state.word()] { (state.word()) } }
            } }
            div.field { label for="kind" { "Kind" } select #kind name="kind" {
                option value="" { "any" }
                @for kind in KINDS { option value=(kind.word()) selected[query.kind == kind.word()] { (kind.word()) } }
            } }
            div.field { label for="zone" { "Zone" } input #zone name="zone" value=(query.zone) maxlength="32"; }
            div.field { label for="owner" { "Owner" } input #owner name="owner" value=(query.owner) maxlength="64"; }
            input type="hidden" name="sort" value=(query.sort.word());
            button { "Filter" }
        }
    }
}

fn table(cases: &[Case], query: &CasesQuery, now: Timestamp) -> Markup {
    if cases.is_empty() {
        return layout::empty("No case matches this filter", "Change the filter to see others.");
    }
    let strongest = cases.iter().map(|case| case.weight()).fold(5.0, f64::max);
    let head = |sort: Sort, text: &str, class: &str| {
        let sorted = (query.sort == sort).then_some(if sort == Sort::Opened || sort == Sort::Weight {
            "descending"
        } else {
            "ascending"
        });
        html! { th class=(class) scope="col" aria-sort=[sorted] { a href={ "/cases?" (query.with(sort)) } { (text) } } }
    };
    html! {
        div.scroll tabindex="0" role="group" aria-label="Cases" { table.cards {
            thead { tr {
                th scope="col" { "Case" } (head(Sort::State, "State", "")) (head(Sort::Zone, "Zone", ""))
                th scope="col" { "Strongest reason" } (head(Sort::Weight, "Weight", "")) th scope="col" { "Owner" }
                (head(Sort::Due, "Due", "")) (head(Sort::Opened, "Opened", ""))
            } }
            tbody data-rows { @for case in cases { (row(case, strongest, now)) } }
        } }
    }
}

fn row(case: &Case, strongest: f64, now: Timestamp) -> Markup {
    let weight = case.weight();
    html! {
        tr {
            th scope="row" { a href={ "/cases/" (case.id) } { (title(case)) } }
            td data-label="State" { (state_badge(case.state)) }
            td data-label="Zone" { a href={ "/zones/" (case.zone) } { (case.zone) } }
            td data-label="Reason" { @match top_reason(case) { Some(reason) => { (reason.kind.word()) span.dim { " · " (reason.strength()) } }, None => { span.none { "–" } } } }
            td data-label="Weight" { span.visually-hidden { (format::number(weight, 1)) } (crate::drawing::weigh_bar(weight.abs(), strongest, weight >= 0.0)) }
            td data-label="Owner" { @match &case.owner { Some(owner) => { (owner) }, None => { span.none { "nobody" } } } }
            td.nowrap data-label="Due" { @match case.due {
                Some(due) if due < now && !case.state.is_closed() => { span.badge.warn { (format::date(due)) } },
                Some(due) => { (format::date(due)) },
                None => { span.none { "–" } },
            } }
            td.nowrap data-label="Opened" { (layout::time(case.opened_at, &format::date_minute(case.opened_at))) }
        }
    }
}

/// `GET /cases.csv`, with the filter of the page.
///
/// # Errors
/// When the caller is not staff or the store fails.
pub async fn csv(
    State(state): State<AppState>,
    Staff(caller): Staff,
    Query(query): Query<CasesQuery>,
) -> Result<Response, WebError> {
    let (cases, fitting) = query.read(&state, CSV_ROWS_MAX).await?;
    if fitting > u64::from(CSV_ROWS_MAX) {
        let words = format!(
            "{fitting} cases fit, more than the {CSV_ROWS_MAX} that one file holds: filter by zone, kind or owner"
        );
        return Err(WebError::Invalid(words));
    }
    state
        .store
        .audit_note(&caller.name, "cases.export", "cases", &format!("{} rows", cases.len()), state.now())
        .await?;
    let mut csv = Csv::new(&[
        "case",
        "kind",
        "state",
        "zone",
        "usage_point",
        "opened_at",
        "onset",
        "owner",
        "due",
        "weight_nats",
        "strongest_reason",
        "verdict",
        "outcome_reason",
        "outcome_kwh",
        "recovered_kwh",
    ]);
    let or_empty = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    for case in &cases {
        let outcome = case.outcome.as_ref();
        csv.row(&[
            case.id.to_string(),
            case.kind.word().to_owned(),
            case.state.word().to_owned(),
            case.zone.to_string(),
            case.usage_point.map(|point| point.to_string()).unwrap_or_default(),
            case.opened_at.to_string(),
            or_empty(case.onset),
            case.owner.clone().unwrap_or_default(),
            or_empty(case.due),
            format!("{:.2}", case.weight()),
            top_reason(case).map(|reason| reason.words.clone()).unwrap_or_default(),
            if outcome.is_some() { case.state.word().to_owned() } else { String::new() },
            outcome.map(|outcome| outcome.reason.clone()).unwrap_or_default(),
            outcome.map(|outcome| format!("{:.3}", outcome.kwh)).unwrap_or_default(),
            outcome.map(|outcome| format!("{:.3}", outcome.recovered_kwh)).unwrap_or_default(),
        ]);
    }
    Ok(csv.download("cases.csv"))
}
