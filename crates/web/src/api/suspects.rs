//! Suspects by value with the plan of visits, and the findings that wait for a decision.

use axum::{
    Json,
    extract::{Path, State},
};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{FindingFilter, FindingState};

use super::Body;
use crate::{
    auth::{Operator, Staff},
    error::WebError,
    ranking,
    state::AppState,
};

/// Usage points in the order of what a visit is worth, with evidence for and against, the visits of this night, and how well the
/// detection works.
#[utoipa::path(get, path = "/api/v1/suspects", tag = "cases", responses((status = 200, description = "listed, plan, settings, calibration, hits (confirmed, all), canaries, findings_open", body = Object)))]
pub async fn list(State(state): State<AppState>, Staff(_): Staff) -> Result<Json<Value>, WebError> {
    let found = ranking::read(&state.store, state.now()).await?;
    Ok(Json(json!({
        "listed": found.listed,
        "plan": found.plan,
        "settings": found.settings,
        "calibration": found.calibration,
        "hits": found.hits,
        "canaries": found.canaries,
        "findings_open": found.findings_open,
    })))
}

/// Findings, newest first: honest faults that explain an imbalance, each with a proposed correction.
#[utoipa::path(get, path = "/api/v1/findings", tag = "cases", responses((status = 200, body = [Object])))]
pub async fn findings(State(state): State<AppState>, Staff(_): Staff) -> Result<Json<Value>, WebError> {
    Ok(Json(json!(state.store.findings(FindingFilter::default()).await?)))
}

/// What a person decides about a finding.
#[derive(Debug, Deserialize)]
pub struct Decision {
    state: FindingState,
    reason: String,
}

/// Accepts or dismisses a finding: `{"state": "accepted" | "dismissed", "reason": …}`; answers with the finding.
#[utoipa::path(put, path = "/api/v1/findings/{id}", tag = "cases", params(("id" = u64, Path)), request_body(content = Object), responses((status = 200, body = Object), (status = 400, body = crate::error::Problem), (status = 409, body = crate::error::Problem)))]
pub async fn decide(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
    Body(decision): Body<Decision>,
) -> Result<Json<Value>, WebError> {
    if decision.state == FindingState::Open {
        return Err(WebError::Invalid("a finding is accepted or dismissed".to_owned()));
    }
    let by = &caller.name;
    Ok(Json(json!(state.store.decide_finding(id, decision.state, &decision.reason, by, state.now()).await?)))
}
