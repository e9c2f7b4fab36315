//! `GET /audit`: who did what to what, when; each row's hash covers the row before.

use axum::{
    extract::{Query, State},
    http::HeaderMap,
};
use maud::{Markup, html};
use serde::Deserialize;

use crate::{
    auth::Staff,
    error::WebError,
    format,
    layout::{self, Frame, Page, Section},
    state::AppState,
};

/// Rows shown unless asked for more.
const ROWS: u32 = 50;
/// Most rows shown.
const ROWS_MAX: u32 = 5_000;

/// Query of the audit page.
#[derive(Debug, Default, Deserialize)]
pub struct AuditQuery {
    rows: Option<u32>,
    verify: Option<u8>,
}

/// `GET /audit`.
///
/// # Errors
/// When the caller is not staff or the store fails.
pub async fn page(
    State(state): State<AppState>,
    Staff(caller): Staff,
    headers: HeaderMap,
    Query(query): Query<AuditQuery>,
) -> Result<Markup, WebError> {
    let frame = Frame::load(&state, caller, &headers).await?;
    let rows = state.store.audit(query.rows.unwrap_or(ROWS).clamp(1, ROWS_MAX)).await?;
    let verified = match query.verify {
        Some(_) => Some(state.store.verify_audit().await.map_err(|error| error.to_string())),
        None => None,
    };
    let body = html! {
        div.head {
            div { h1 { "Audit" } div.sub { "Who did what to what, when. Each row's hash covers the row before: a changed or removed row shows." } }
            div.actions { a.button href="/audit?verify=1" { "Verify the chain" } a.button href="/audit?rows=500" { "500 rows" } }
        }
        @match &verified {
            Some(Ok(n)) => { div.banner.good role="status" { p { "The chain is whole: " (format::count(*n)) " rows. To notice a removed end, keep the newest hash elsewhere from time to time." } } },
            Some(Err(why)) => { div.banner.bad role="alert" { p { strong { (why) } } } },
            None => {},
        }
        section.card aria-label="Audit" {
            @if rows.is_empty() { (layout::empty("Nothing yet", "The first change will be the first row.")) }
            @else { div.scroll tabindex="0" role="group" aria-label="Audit" { table.cards {
                thead { tr { th.num scope="col" { "Row" } th scope="col" { "When (UTC)" } th scope="col" { "Who" } th scope="col" { "What" } th scope="col" { "To what" } th scope="col" { "Particulars" } th scope="col" { "Hash" } } }
                tbody { @for row in &rows { tr {
                    td.num data-label="Row" { (format::count(row.id)) }
                    td.nowrap data-label="When" { (layout::time(row.at, &format::date_time(row.at))) }
                    td data-label="Who" { (row.by) } td data-label="What" { (row.action) } td data-label="To what" { (row.subject) } td data-label="Particulars" { (row.detail) }
                    td data-label="Hash" { code title=(row.hash) { (row.hash.get(..12).unwrap_or(&row.hash)) } }
                } } }
            } } }
        }
    };
    Ok(frame.page(Page { title: "Audit", section: Section::Audit, topics: "cases", charts: false, body }))
}
