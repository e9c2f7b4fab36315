//! The written rules for cutting supply and the abort switch.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use metering::{EventKind, supply::SupplyPolicy};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Guarded, GuardedChange};

use super::{Body, pending};
use crate::{
    auth::{Operator, Staff},
    error::WebError,
    state::AppState,
};

/// The rules and the abort switch.
#[utoipa::path(get, path = "/api/v1/policy", tag = "policy", responses((status = 200, description = "policy {automatic_kinds, per_hour_max, per_feeder_hour_max, per_day_per_mille, per_day_min, two_persons, alone_per_day_max, restores_per_feeder_minute}, abort_switch", body = Object)))]
pub async fn read(State(state): State<AppState>, Staff(_): Staff) -> Result<Json<Value>, WebError> {
    let policy = state.store.setting::<SupplyPolicy>("policy").await?.unwrap_or_default();
    let aborted = state.store.is_aborted();
    Ok(Json(json!({ "policy": policy, "abort_switch": aborted })))
}

/// The rules. The last three are left as they are when they are left out; all others must be given.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyIn {
    /// Codes of tamper events on which a disconnect may be approved without a person.
    #[schema(value_type = Vec<u16>)]
    automatic_kinds: Vec<EventKind>,
    /// Most cuts approved within any hour.
    per_hour_max: u32,
    /// Most of them on one feeder.
    per_feeder_hour_max: u32,
    /// Most cuts within any 24 hours, in thousandths of all usage points …
    per_day_per_mille: u32,
    /// … but at least this many.
    per_day_min: u32,
    /// Whether who asks for a cut may not approve it.
    two_persons: Option<bool>,
    /// Most cuts that one person may ask for and approve within 24 hours.
    alone_per_day_max: Option<u32>,
    /// Most restores sent within a minute on one feeder.
    restores_per_feeder_minute: Option<u32>,
}

/// Sets the rules. Where they let through more than before and there is another operator, they wait for that operator: 202.
#[utoipa::path(put, path = "/api/v1/policy", tag = "policy", request_body = PolicyIn, responses((status = 204), (status = 202, description = "pending: the number under which it waits", body = Object), (status = 400, body = crate::error::Problem)))]
pub async fn write(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Body(body): Body<PolicyIn>,
) -> Result<Response, WebError> {
    let held = state.store.setting::<SupplyPolicy>("policy").await?.unwrap_or_default();
    let policy = SupplyPolicy {
        automatic_kinds: body.automatic_kinds,
        per_hour_max: body.per_hour_max,
        per_feeder_hour_max: body.per_feeder_hour_max,
        per_day_per_mille: body.per_day_per_mille,
        per_day_min: body.per_day_min,
        two_persons: body.two_persons.unwrap_or(held.two_persons),
        alone_per_day_max: body.alone_per_day_max.unwrap_or(held.alone_per_day_max),
        restores_per_feeder_minute: body.restores_per_feeder_minute.unwrap_or(held.restores_per_feeder_minute),
    };
    Ok(pending::answer(save(&state, policy, &caller.name).await?))
}

/// Sets the rules, or keeps them for another operator; used by the page as well.
///
/// # Errors
/// When an event is no sign of tampering, a limit is above its ceiling, or the store fails.
pub async fn save(state: &AppState, policy: SupplyPolicy, by: &str) -> Result<Guarded, WebError> {
    if let Some(kind) = policy.automatic_kinds.iter().find(|kind| !kind.is_tamper()) {
        return Err(WebError::Invalid(format!("event {} ({}) is no sign of tampering", kind.code(), kind.word())));
    }
    if let Some(why) = policy.above(&state.store.ceilings()) {
        return Err(WebError::Invalid(why));
    }
    Ok(state.store.ask_change(GuardedChange::Policy(policy), by, state.now()).await?)
}

/// The abort switch.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct AbortIn {
    /// `true`: only reconnections are sent.
    on: bool,
}

/// Sets the abort switch. On is in force at once; off waits for another operator where there is one: 202.
#[utoipa::path(put, path = "/api/v1/abort-switch", tag = "policy", request_body = AbortIn, responses((status = 204), (status = 202, description = "pending: the number under which it waits", body = Object)))]
pub async fn abort(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Body(body): Body<AbortIn>,
) -> Result<Response, WebError> {
    if body.on {
        state.store.set_setting("abort_switch", &true, &caller.name, state.now()).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let change = GuardedChange::AbortSwitchOff;
    Ok(pending::answer(state.store.ask_change(change, &caller.name, state.now()).await?))
}
