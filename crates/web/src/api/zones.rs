//! Zones and their balances.

use axum::{
    Json,
    extract::{Path, Query, State},
};
use metering::ZoneId;
use serde::{Deserialize, Serialize};

use crate::{
    auth::Staff,
    error::WebError,
    pages::{overview, zone::PeriodQuery},
    state::AppState,
    totals::{self, Totals},
};

/// A zone with its newest interval and its last 24 hours; `null` where nothing is known.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ZoneOut {
    /// Its name.
    zone: String,
    /// The zone it is inside of.
    parent: Option<String>,
    /// `feeder`, `transformer`, `branch` or `service`.
    kind: &'static str,
    /// The meter at its inflow.
    observer_meter: Option<String>,
    /// The newest interval.
    last: Option<Totals>,
    /// The last 24 hours.
    day: Option<Totals>,
}

/// All zones, parents before their children.
#[utoipa::path(get, path = "/api/v1/zones", tag = "zones", responses((status = 200, body = [ZoneOut]), (status = 401, body = crate::error::Problem)))]
pub async fn list(State(state): State<AppState>, Staff(_): Staff) -> Result<Json<Vec<ZoneOut>>, WebError> {
    let views = overview::zone_views(&state).await?;
    let out = views.into_iter().map(|view| ZoneOut {
        zone: view.zone.zone.to_string(),
        parent: view.zone.parent.map(|parent| parent.to_string()),
        kind: view.zone.kind.word(),
        observer_meter: view.zone.observer.map(|observer| observer.meter.to_string()),
        last: view.last,
        day: view.day,
    });
    Ok(Json(out.collect()))
}

/// Query of balances.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BalancesQuery {
    /// Length back from `to`, hours; 24 when neither this nor `from` is given.
    hours: Option<u32>,
    /// Intervals that end after this, seconds since 1970 UTC.
    from: Option<i64>,
    /// Intervals that end at or before this, seconds since 1970 UTC; now when left out.
    to: Option<i64>,
    /// Sum into steps of this many minutes; as stored when left out.
    step_minutes: Option<u16>,
}

/// Balances of a zone.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct BalancesOut {
    /// The zone.
    zone: String,
    /// Balances in time order; a missing interval is not there.
    rows: Vec<Totals>,
}

/// Balances of a zone over a period.
#[utoipa::path(get, path = "/api/v1/zones/{id}/balances", tag = "zones", params(("id" = String, Path), BalancesQuery), responses((status = 200, body = BalancesOut), (status = 404, body = crate::error::Problem)))]
pub async fn balances(
    State(state): State<AppState>,
    Staff(_): Staff,
    Path(id): Path<String>,
    Query(query): Query<BalancesQuery>,
) -> Result<Json<BalancesOut>, WebError> {
    let id = ZoneId::new(&id).map_err(|_| WebError::NotFound)?;
    let now = state.now();
    state.store.topology(now).await?.zone(id).ok_or(WebError::NotFound)?;
    let period = PeriodQuery { hours: query.hours, from: query.from, to: query.to }.period(now);
    let balances = state.store.balances(id, period.after, period.to).await?;
    let rows = match query.step_minutes {
        Some(minutes) if balances.iter().any(|balance| balance.minutes < minutes) => {
            totals::stepped(&balances, minutes)
        }
        _ => balances.iter().filter_map(|balance| Totals::of([balance])).collect(),
    };
    Ok(Json(BalancesOut { zone: id.to_string(), rows }))
}
