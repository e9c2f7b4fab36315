//! Changes that wait for another operator: limits raised, the abort switch off, a protection lifted, a ratio changed, somebody or
//! something made an operator.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use store::Guarded;

use crate::{
    auth::{Operator, Staff},
    error::WebError,
    state::AppState,
};

/// The answer to a change that may wait: 204 when it was carried out, else 202 with the number under which it waits.
pub fn answer(done: Guarded) -> Response {
    match done {
        Guarded::Done => StatusCode::NO_CONTENT.into_response(),
        Guarded::Waits(id) => {
            let body = json!({ "pending": id, "detail": "another operator must confirm it" });
            (StatusCode::ACCEPTED, Json(body)).into_response()
        }
    }
}

/// Changes that wait, oldest first: `{id, change, words, asked_by, asked_at, expires}`.
#[utoipa::path(get, path = "/api/v1/pending", tag = "policy", responses((status = 200, body = [Object])))]
pub async fn list(State(state): State<AppState>, Staff(_): Staff) -> Result<Json<Value>, WebError> {
    Ok(Json(json!(state.store.pending_changes(state.now()).await?)))
}

/// Confirms a change that another person asked for; it is carried out at once. What a program asked for is taken over by the first
/// person who confirms it, and waits for another one (202).
#[utoipa::path(post, path = "/api/v1/pending/{id}/confirm", tag = "policy", params(("id" = u64, Path)), responses((status = 202, body = Object), (status = 204), (status = 404, body = crate::error::Problem), (status = 409, body = crate::error::Problem)))]
pub async fn confirm(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
) -> Result<Response, WebError> {
    Ok(answer(state.store.confirm_change(id, &caller.name, state.now()).await?))
}

/// Drops a change that waits.
#[utoipa::path(post, path = "/api/v1/pending/{id}/withdraw", tag = "policy", params(("id" = u64, Path)), responses((status = 204), (status = 404, body = crate::error::Problem)))]
pub async fn withdraw(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
) -> Result<StatusCode, WebError> {
    state.store.withdraw_change(id, &caller.name, state.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}
