//! `GET /meters`: all meters with what they do.

use axum::{
    extract::{Query, State},
    http::HeaderMap,
};
use maud::{Markup, html};
use serde::Deserialize;
use store::MeterRow;

use super::{meter, overview};
use crate::{
    auth::Staff,
    error::WebError,
    format,
    layout::{self, Frame, Page, Section},
    state::AppState,
};

/// Rows of a page of the list.
const ROWS: usize = 200;

/// Query of the list.
#[derive(Debug, Default, Deserialize)]
pub struct MetersQuery {
    #[serde(default)]
    show: String,
    #[serde(default)]
    zone: String,
    #[serde(default)]
    after: usize,
}

/// `GET /meters`.
///
/// # Errors
/// When the caller is not staff or the store fails.
pub async fn page(
    State(state): State<AppState>,
    Staff(caller): Staff,
    headers: HeaderMap,
    Query(query): Query<MetersQuery>,
) -> Result<Markup, WebError> {
    let frame = Frame::load(&state, caller, &headers).await?;
    let now = frame.now();
    let mut rows = state.store.meters(now).await?;
    let silent = |row: &MeterRow| {
        state.store.latest(row.meter).is_none_or(|latest| now.seconds_since(latest.received) > overview::SILENT_SECONDS)
    };
    rows.retain(|row| match query.show.as_str() {
        "silent" => silent(row),
        "observers" => row.is_observer,
        "unplaced" => row.zone.is_none(),
        _ => true,
    });
    rows.retain(|row| query.zone.is_empty() || row.zone.is_some_and(|zone| zone.as_str() == query.zone));
    let total = rows.len();
    let shown: Vec<&MeterRow> = rows.iter().skip(query.after).take(ROWS).collect();
    let page_from = |after: usize| {
        format!(
            "/meters?show={}&zone={}&after={after}",
            layout::query_text(&query.show),
            layout::query_text(&query.zone)
        )
    };
    let path = page_from(query.after);
    let choice = |value: &str, text: &str| {
        html! { a href={ "/meters?show=" (value) } aria-current=[(query.show == value).then_some("true")] { (text) } }
    };
    let body = html! {
        div.head {
            div { h1 { "Meters" } div.sub { (format::count(u64::try_from(total).unwrap_or(u64::MAX))) " meters · " span data-k="connected" { "–" } " connected now" } }
            div.actions { div.segmented role="group" aria-label="Show" {
                (choice("", "all")) (choice("silent", "silent")) (choice("observers", "observers")) (choice("unplaced", "not installed"))
            } }
        }
        section.card aria-label="Meters" {
            @if shown.is_empty() { (layout::empty("No meter matches this filter", "Choose another list, or enrol meters first.")) }
            @else { (layout::refreshed("meter-list", "overview", &path, html! { div.scroll tabindex="0" role="group" aria-label="Meters" { table.cards {
                thead { tr {
                    th scope="col" { "Meter" } th scope="col" { "Usage point" } th scope="col" { "Zone" } th scope="col" { "Enrolled" }
                    th.num scope="col" { "Power W" } th.num scope="col" { "Voltage V" } th.num scope="col" { "Import kWh" } th scope="col" { "Supply" } th scope="col" { "Last heard" }
                } }
                tbody data-rows { @for row in &shown { (meter_row(&state, row, &frame)) } }
            } } })) }
            p.fields {
                @if query.after > 0 { a.button href=(page_from(query.after.saturating_sub(ROWS))) { "Previous " (ROWS) } }
                @if query.after + ROWS < total { a.button href=(page_from(query.after + ROWS)) { "Next " (ROWS) } }
            }
        }
    };
    Ok(frame.page(Page { title: "Meters", section: Section::Meters, topics: "cases,overview", charts: false, body }))
}

fn meter_row(state: &AppState, row: &MeterRow, frame: &Frame) -> Markup {
    let latest = state.store.latest(row.meter);
    let now = latest.as_ref().and_then(|latest| latest.now.as_ref());
    let heard = latest.as_ref().map(|latest| latest.received);
    let silent = heard.is_none_or(|at| frame.now().seconds_since(at) > overview::SILENT_SECONDS);
    html! { tr {
        th scope="row" { a href={ "/meters/" (row.meter) } { (row.meter) } @if row.is_observer { " " span.badge.plain { "observer" } } }
        td data-label="Usage point" { @match row.usage_point { Some(point) => { (point) }, None => { span.none { "–" } } } }
        td data-label="Zone" { @match row.zone { Some(zone) => { a href={ "/zones/" (zone) } { (zone) } }, None => { span.none { "not installed" } } } }
        td data-label="Enrolled" { @match row.enrolled_at { Some(at) => { (format::date(at)) }, None => { span.badge.warn { "no secret" } } } }
        td.num data-label="Power W" { (format::maybe(now.and_then(|now| now.power_w).map(|p| f64::from(p.0)), 0)) }
        td.num data-label="Voltage V" { (now.and_then(|now| now.voltage_mv).map_or_else(|| "–".to_owned(), |v| format::milli(v.0, 1))) }
        td.num data-label="Import kWh" { (now.and_then(|now| now.import_wh).map_or_else(|| "–".to_owned(), |wh| format::register_kwh(wh.0))) }
        td data-label="Supply" { (meter::relay_badge(latest.as_ref().and_then(|latest| latest.relay))) }
        td.nowrap data-label="Last heard" { @if silent { span.badge.warn { (meter::age(heard, frame.now())) } } @else { (meter::age(heard, frame.now())) } }
    } }
}
