//! `GET /zones/{id}`: the stacked balance with its hatched gap, the residual with its band, the same as a table, what is inside.

use axum::{
    extract::{Path, Query, State},
    http::HeaderMap,
    response::Response,
};
use losses::{balance::EnergyBalance, case::Case};
use maud::{Markup, html};
use metering::{ControlKind, Timestamp, ZoneId};
use registry::{Topology, TopologyUsagePoint, TopologyZone};
use serde::Deserialize;
use store::{CaseFilter, StoredControl};

use super::{cases, overview};
use crate::{
    auth::Staff,
    csv::Csv,
    error::WebError,
    format,
    layout::{self, Frame, Page, Section},
    state::AppState,
    totals::{self, Totals},
};

/// Most intervals on a chart; beyond, the server sums into longer ones.
pub const POINTS_MAX: i64 = 1_500;
/// Rows of the table fallback.
const TABLE_ROWS: usize = 200;

/// The period of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Intervals that end after this …
    pub after: Timestamp,
    /// … up to this.
    pub to: Timestamp,
    /// Minutes of a step on the chart.
    pub step_minutes: u16,
}

/// Query of a page with a period.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct PeriodQuery {
    /// Length back from now, hours.
    pub hours: Option<u32>,
    /// Begin, seconds since 1970 UTC.
    pub from: Option<i64>,
    /// End, seconds since 1970 UTC.
    pub to: Option<i64>,
}

/// The offered lengths: hours and name.
const LENGTHS: [(u32, &str); 4] = [(24, "1 day"), (72, "3 days"), (168, "7 days"), (720, "30 days")];

impl PeriodQuery {
    /// The period asked for: 24 hours back from `now` unless said otherwise, at most two years.
    pub fn period(&self, now: Timestamp) -> Period {
        const LONGEST: i64 = 2 * 366 * 86_400;
        let to = self.to.map_or(now, Timestamp);
        let hours = i64::from(self.hours.unwrap_or(24).clamp(1, 17_520));
        let after = self.from.map_or_else(|| to.plus(-hours * 3_600), Timestamp);
        let after = if after >= to { to.plus(-86_400) } else { after.max(to.plus(-LONGEST)) };
        let length = to.seconds_since(after);
        let step_minutes = [15_u16, 30, 60, 360, 1_440]
            .into_iter()
            .find(|minutes| length / (i64::from(*minutes) * 60) <= POINTS_MAX)
            .unwrap_or(1_440);
        Period { after, to, step_minutes }
    }

    /// The buttons that choose a length, for the page at `path`.
    pub fn picker(&self, path: &str) -> Markup {
        let current = if self.from.is_some() { None } else { Some(self.hours.unwrap_or(24)) };
        html! {
            div.segmented role="group" aria-label="Period" {
                @for (hours, name) in LENGTHS {
                    a href=(format!("{path}?hours={hours}")) aria-current=[(current == Some(hours)).then_some("true")] { (name) }
                }
            }
        }
    }

    /// As the end of an address, without `to` when the period ends now, so that a chart goes on.
    pub fn query(&self, period: &Period) -> String {
        match (self.to, self.from) {
            (None, None) => format!("hours={}", self.hours.unwrap_or(24)),
            _ => format!("from={}&to={}", period.after.0, period.to.0),
        }
    }
}

/// `GET /zones/{id}`.
///
/// # Errors
/// When the caller is not staff, there is no such zone or the store fails.
pub async fn page(
    State(state): State<AppState>,
    Staff(caller): Staff,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<PeriodQuery>,
) -> Result<Markup, WebError> {
    let id = ZoneId::new(&id).map_err(|_| WebError::NotFound)?;
    let frame = Frame::load(&state, caller, &headers).await?;
    let now = frame.now();
    let topology = state.store.topology(now).await?;
    let zone = topology.zone(id).ok_or(WebError::NotFound)?;
    let period = query.period(now);
    let balances = state.store.balances(id, period.after, period.to).await?;
    let open = state.store.cases(CaseFilter { zone: Some(id), open_only: true, ..CaseFilter::default() }).await?;
    let marks = marks(&open, &[]);
    let (path, total) = (format!("/zones/{id}"), Totals::of(&balances));
    let url = format!("/api/v1/zones/{id}/balances?step_minutes={}&{}", period.step_minutes, query.query(&period));
    let refresh_path = format!("{path}?{}", query.query(&period));
    let body = html! {
        (crumbs(&topology, zone))
        div.head {
            div {
                h1 { "Zone " (id) " " span.dim { (zone.kind.word()) } }
                div.sub { (period_words(&period)) " ± is two standard deviations." }
            }
            div.actions { (query.picker(&path)) a.button href={ (path) "/balances.csv?" (query.query(&period)) } { "CSV" } }
        }
        (layout::refreshed("zone-cases", "cases", &refresh_path, html! { @for case in &open {
            div.banner.warn { p { strong { a href={ "/cases/" (case.id) } { (cases::title(case)) } } " · opened " (format::date_minute(case.opened_at)) " · " (case.state.word()) } }
        } }))
        (layout::refreshed("zone-now", &format!("zone:{id}"), &refresh_path, figures(total.as_ref())))
        section.card aria-labelledby="balance-title" {
            header { h2 #balance-title { "Balance" } (chart_legend()) }
            div.chart data-chart="balance" data-marks=[&marks] data-height="280" data-url=(url) data-topic={ "zone:" (id) } { "The chart needs scripts; the table below shows the same." }
        }
        section.card aria-labelledby="residual-title" {
            header { h2 #residual-title { "Unaccounted, with ± two standard deviations" } span.small.dim { "above zero: energy is missing; below: meters report more than was supplied" } }
            div.chart data-chart="residual" data-marks=[&marks] data-height="200" data-url=(url) data-topic={ "zone:" (id) } { "The chart needs scripts; the table below shows the same." }
        }
        section.card {
            details { summary { "The same as a table" } (table(&balances, period.step_minutes)) }
        }
        (layout::refreshed("zone-inside", &format!("zone:{id}"), &refresh_path, inside(&state, &topology, id, now)))
    };
    let (title, topics) = (format!("Zone {id}"), format!("zone:{id},cases"));
    Ok(frame.page(Page { title: &title, section: Section::Overview, topics: &topics, charts: true, body }))
}

/// Times for the charts of a page, as `[[seconds, "word"], …]`: when open cases began and were opened, and what was switched.
pub fn marks(cases: &[Case], controls: &[StoredControl]) -> Option<String> {
    let of_case = |case: &Case| {
        let began = case.onset.map(|at| (at.0, format!("C-{} began", case.id)));
        began.into_iter().chain([(case.opened_at.0, format!("C-{} opened", case.id))])
    };
    let switched = |control: &StoredControl| {
        let at = control.entered("Verified")?;
        match control.kind {
            ControlKind::Disconnect => Some((at.0, "switched off".to_owned())),
            ControlKind::Reconnect => Some((at.0, "switched on".to_owned())),
            ControlKind::LoadLimit { .. } | ControlKind::SnapshotAt { .. } => None,
        }
    };
    let mut marks: Vec<(i64, String)> =
        cases.iter().flat_map(of_case).chain(controls.iter().filter_map(switched)).collect();
    marks.sort();
    if marks.is_empty() { None } else { serde_json::to_string(&marks).ok() }
}

fn crumbs(topology: &Topology, zone: &TopologyZone) -> Markup {
    let mut above = Vec::new();
    let mut at = zone.parent;
    while let Some(parent) = at.and_then(|parent| topology.zone(parent)) {
        if above.len() > topology.zones.len() {
            break;
        }
        above.push(parent.zone);
        at = parent.parent;
    }
    html! {
        div.crumbs {
            a href="/" { "Overview" }
            @for zone in above.iter().rev() { " › " a href={ "/zones/" (zone) } { (zone) } }
            " › " (zone.zone)
            @if let Some(observer) = &zone.observer { " · observer meter " a href={ "/meters/" (observer.meter) } { (observer.meter) } }
        }
    }
}

fn period_words(period: &Period) -> String {
    format!("{} to {} UTC.", format::date_minute(period.after), format::date_minute(period.to))
}

fn chart_legend() -> Markup {
    html! { span.legend {
        span { span.key.supplied aria-hidden="true" {} "supplied" }
        span { span.key.metered aria-hidden="true" {} "metered" }
        span { span.key.technical aria-hidden="true" {} "technical loss" }
        span { span.key.gap aria-hidden="true" {} "unaccounted" }
    } }
}

fn figures(total: Option<&Totals>) -> Markup {
    let Some(total) = total else {
        return html! { div.banner { p { "No balance in this period. The first one appears one interval after the first readings of the observer meter." } } };
    };
    let figure = |class: &str, label: &str, wh: f64| {
        html! { div.kpi {
            div.label { span class={ "key " (class) } aria-hidden="true" {} (label) }
            div.value { (format::kwh(wh)) " " span.unit { "kWh" } }
            div.note { (format::number(total.kw(wh), 2)) " kW on average" }
        } }
    };
    html! { div.kpis {
        (figure("supplied", "Supplied", total.supplied_wh))
        (figure("metered", "Metered", total.metered_wh))
        (figure("technical", "Technical loss", total.technical_wh))
        div class=(if total.stands_out() { "kpi alert" } else { "kpi" }) {
            div.label { span.key.gap aria-hidden="true" {} "Unaccounted" }
            div.value { (format::kwh(total.unaccounted_wh)) span.unit { " ± " (format::kwh(total.plus_minus_wh())) " kWh" } }
            div.note { @if total.stands_out() { "beyond its uncertainty" } @else { "within its uncertainty" }
                @if let Some(share) = total.share() { " · " (format::number(share * 100.0, 1)) " % of supplied" } }
        }
        div.kpi {
            div.label { "Measured" }
            div.value { (format::number(total.coverage * 100.0, 1)) " " span.unit { "%" } }
            div.note { @if total.is_partial() { "partial: the rest was estimated" } @else if total.coverage < 1.0 { "the rest was estimated" } @else { "nothing was estimated" } }
        }
    } }
}

fn table(balances: &[EnergyBalance], step_minutes: u16) -> Markup {
    let steps = totals::stepped(balances, step_minutes);
    html! {
        div.scroll tabindex="0" role="group" aria-label="Balance by interval" { table {
            caption { "kWh by interval of " (step_minutes) " minutes, newest first" @if steps.len() > TABLE_ROWS { "; the CSV has all " (steps.len()) " rows" } }
            thead { tr {
                th scope="col" { "Interval end (UTC)" } th.num scope="col" { "Supplied" } th.num scope="col" { "Metered" } th.num scope="col" { "Technical" }
                th.num scope="col" { "Unaccounted" } th.num scope="col" { "±" } th.num scope="col" { "Measured %" }
            } }
            tbody { @for step in steps.iter().rev().take(TABLE_ROWS) { tr {
                th scope="row" { (layout::time(step.end, &format::date_minute(step.end))) }
                td.num { (format::number(step.supplied_wh / 1e3, 2)) } td.num { (format::number(step.metered_wh / 1e3, 2)) }
                td.num { (format::number(step.technical_wh / 1e3, 2)) }
                td class=(if step.stands_out() { "num gap" } else { "num" }) { (format::number(step.unaccounted_wh / 1e3, 2)) }
                td.num { (format::number(step.plus_minus_wh() / 1e3, 2)) } td.num { (format::number(step.coverage * 100.0, 0)) }
            } } }
        } }
    }
}

fn inside(state: &AppState, topology: &Topology, id: ZoneId, now: Timestamp) -> Markup {
    let children: Vec<&TopologyZone> = topology.zones.iter().filter(|zone| zone.parent == Some(id)).collect();
    let points: Vec<&TopologyUsagePoint> = topology.usage_points.iter().filter(|point| point.zone == id).collect();
    html! {
        section.card aria-labelledby="inside" {
            header { h2 #inside { "Inside" } span.small.dim { (children.len()) " zones, " (points.len()) " usage points" } }
            @if !children.is_empty() { p { @for (i, child) in children.iter().enumerate() { @if i > 0 { " · " } a href={ "/zones/" (child.zone) } { (child.zone) } } } }
            @if !points.is_empty() { div.scroll tabindex="0" role="group" aria-labelledby="inside" { table.cards {
                thead { tr { th scope="col" { "Usage point" } th scope="col" { "Meter" } th scope="col" { "Phase" } th.num scope="col" { "Power W" } th scope="col" { "Supply" } th scope="col" { "Last heard" } } }
                tbody data-rows { @for point in points { (point_row(state, point, now)) } }
            } } }
        }
    }
}

fn point_row(state: &AppState, point: &TopologyUsagePoint, now: Timestamp) -> Markup {
    let installation = point.installation.as_ref();
    let latest = installation.and_then(|installation| state.store.latest(installation.meter));
    let power = latest.as_ref().and_then(|l| l.now.as_ref()).and_then(|now| now.power_w);
    html! { tr {
        th scope="row" { (point.usage_point) @if point.never_disconnect { " " span.badge.plain { "never disconnect" } } }
        td data-label="Meter" { @match installation { Some(i) => { a href={ "/meters/" (i.meter) } { (i.meter) } }, None => { span.none { "none" } } } }
        td data-label="Phase" { (installation.map_or("", |i| i.phase.word())) }
        td.num data-label="Power W" { (format::maybe(power.map(|p| f64::from(p.0)), 0)) }
        td data-label="Supply" { (super::meter::relay_badge(latest.as_ref().and_then(|l| l.relay))) }
        td.nowrap data-label="Last heard" { @match &latest {
            Some(l) if now.seconds_since(l.received) > overview::SILENT_SECONDS => { span.badge.warn { (layout::age(l.received, now)) } },
            Some(l) => { (layout::age(l.received, now)) },
            None => { span.none { "never" } },
        } }
    } }
}

/// `GET /zones/{id}/balances.csv`.
///
/// # Errors
/// When the caller is not staff, there is no such zone or the store fails.
pub async fn csv(
    State(state): State<AppState>,
    Staff(_): Staff,
    Path(id): Path<String>,
    Query(query): Query<PeriodQuery>,
) -> Result<Response, WebError> {
    let id = ZoneId::new(&id).map_err(|_| WebError::NotFound)?;
    let now = state.now();
    state.store.topology(now).await?.zone(id).ok_or(WebError::NotFound)?;
    let period = query.period(now);
    let mut csv = Csv::new(&[
        "zone",
        "end",
        "minutes",
        "supplied_wh",
        "metered_wh",
        "technical_wh",
        "unaccounted_wh",
        "sigma_random_wh",
        "sigma_systematic_wh",
        "coverage",
    ]);
    for balance in state.store.balances(id, period.after, period.to).await? {
        let mut row = vec![id.to_string(), balance.end.to_string(), balance.minutes.to_string()];
        row.extend(
            [
                balance.supplied_wh,
                balance.metered_wh,
                balance.technical_wh,
                balance.unaccounted_wh,
                balance.sigma_random_wh,
                balance.sigma_systematic_wh,
                balance.coverage,
            ]
            .map(|value| format!("{value:.3}")),
        );
        csv.row(&row);
    }
    Ok(csv.download(&format!("zone-{id}.csv")))
}
