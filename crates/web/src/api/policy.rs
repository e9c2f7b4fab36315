//! The written rules for cutting supply and the abort switch.

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use store::SupplyPolicy;

use super::Body;
use crate::{
    auth::{Operator, Staff},
    error::WebError,
    state::AppState,
};

/// The rules and the abort switch.
#[utoipa::path(get, path = "/api/v1/policy", tag = "policy", responses((status = 200, description = "policy {automatic_kinds, per_hour_max, per_feeder_hour_max, per_day_per_mille, per_day_min}, abort_switch", body = Object)))]
pub async fn read(State(state): State<AppState>, Staff(_): Staff) -> Result<Json<Value>, WebError> {
    let policy = state.store.setting::<SupplyPolicy>("policy").await?.unwrap_or_default();
    let aborted = state.store.setting::<bool>("abort_switch").await?.unwrap_or(false);
    Ok(Json(json!({ "policy": policy, "abort_switch": aborted })))
}

/// Sets the rules; a field left out takes its default.
#[utoipa::path(put, path = "/api/v1/policy", tag = "policy", request_body = Object, responses((status = 204), (status = 400, body = crate::error::Problem)))]
pub async fn write(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Body(policy): Body<SupplyPolicy>,
) -> Result<StatusCode, WebError> {
    state.store.set_setting("policy", &policy, &caller.name, state.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The abort switch.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct AbortIn {
    /// `true`: only reconnections are sent.
    on: bool,
}

/// Sets the abort switch.
#[utoipa::path(put, path = "/api/v1/abort-switch", tag = "policy", request_body = AbortIn, responses((status = 204)))]
pub async fn abort(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Body(body): Body<AbortIn>,
) -> Result<StatusCode, WebError> {
    state.store.set_setting("abort_switch", &body.on, &caller.name, state.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}
