//! The topology: what hangs where.

use axum::{Json, body::Bytes, extract::State};
use serde_json::{Value, json};

use crate::{
    auth::{Operator, Staff},
    error::WebError,
    state::AppState,
};

/// Zones, usage points and installations as they are now.
#[utoipa::path(get, path = "/api/v1/topology", tag = "topology", responses((status = 200, description = "version, zones, usage_points", body = Object)))]
pub async fn read(State(state): State<AppState>, Staff(caller): Staff) -> Result<Json<Value>, WebError> {
    state.note_read(&caller, "topology.read", "topology").await;
    Ok(Json(json!(*state.store.topology(state.now()).await?)))
}

/// Imports a topology; rows not taken are listed with their reason.
#[utoipa::path(post, path = "/api/v1/topology", tag = "topology", request_body(content = String, content_type = "text/csv", description = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from"), responses((status = 200, description = "accepted, unchanged, rejected [{line, reason}]", body = Object), (status = 400, body = crate::error::Problem)))]
pub async fn import(
    State(state): State<AppState>,
    Operator(caller): Operator,
    csv: Bytes,
) -> Result<Json<Value>, WebError> {
    let csv = store::csv_text(&csv)?;
    Ok(Json(json!(state.store.import_topology(csv, &caller.name, state.now()).await?)))
}
