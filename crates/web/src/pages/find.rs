//! `GET /find?q=`: to the meter, usage point, zone or case that was named, or a short list of those that begin like it.

use axum::{
    extract::{Query, State},
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use maud::html;
use serde::Deserialize;

use crate::{
    auth::Staff,
    error::WebError,
    layout::{self, Frame, Page, Section},
    state::AppState,
};

/// Most hits shown.
const HITS_MAX: usize = 50;

/// Query of the search.
#[derive(Debug, Deserialize)]
pub struct FindQuery {
    #[serde(default)]
    q: String,
}

/// `GET /find`.
///
/// # Errors
/// When the caller is not staff or the store fails.
pub async fn page(
    State(state): State<AppState>,
    Staff(caller): Staff,
    headers: HeaderMap,
    Query(query): Query<FindQuery>,
) -> Result<Response, WebError> {
    let wanted = query.q.trim();
    let lower = wanted.to_ascii_lowercase();
    let number = lower.strip_prefix("c-").unwrap_or(&lower).parse::<u64>();
    if let Ok(id) = number
        && state.store.case(id).await?.is_some()
    {
        return Ok(Redirect::to(&format!("/cases/{id}")).into_response());
    }
    let topology = state.store.topology(state.now()).await?;
    let mut hits: Vec<(String, String)> = Vec::new();
    let fits = |name: &str| !lower.is_empty() && name.to_ascii_lowercase().contains(&lower);
    for zone in topology.zones.iter().filter(|zone| fits(zone.zone.as_str())) {
        hits.push((format!("/zones/{}", zone.zone), format!("zone {}", zone.zone)));
    }
    for point in topology.usage_points.iter().filter(|point| fits(point.usage_point.as_str())) {
        let href = point
            .installation
            .as_ref()
            .map_or_else(|| format!("/zones/{}", point.zone), |i| format!("/meters/{}", i.meter));
        hits.push((href, format!("usage point {} in zone {}", point.usage_point, point.zone)));
    }
    for row in state.store.meters(state.now()).await?.iter().filter(|row| fits(row.meter.as_str())) {
        hits.push((format!("/meters/{}", row.meter), format!("meter {}", row.meter)));
    }
    let exact = hits.iter().find(|(_, text)| text.split(' ').any(|word| word.eq_ignore_ascii_case(wanted)));
    if let (Some((href, _)), false) = (exact.or_else(|| hits.first().filter(|_| hits.len() == 1)), wanted.is_empty()) {
        return Ok(Redirect::to(href).into_response());
    }
    let frame = Frame::load(&state, caller, &headers).await?;
    let body = html! {
        div.head { div { h1 { "Find" } div.sub { (hits.len()) " hits for “" (wanted) "”" } } }
        section.card {
            @if hits.is_empty() { (layout::empty("Nothing found", "Type part of the name of a meter, usage point or zone, or the number of a case.")) }
            ul.inbox data-rows { @for (href, text) in hits.iter().take(HITS_MAX) { li { a href=(href) { (text) } } } }
            @if hits.len() > HITS_MAX { p.dim { "The first " (HITS_MAX) " are shown: type more of the name." } }
        }
    };
    Ok(frame
        .page(Page { title: "Find", section: Section::Other, topics: "cases", charts: false, body })
        .into_response())
}
