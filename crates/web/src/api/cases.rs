//! Cases and what people do with them.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::Uri,
};
use losses::case::{Case, CaseAction};
use metering::{UsagePointId, ZoneId};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{CaseFilter, Role};

use super::{Body, part::Part};
use crate::{auth::Staff, error::WebError, state::AppState};

/// A case is due so far from now at most, seconds: ten years.
const DUE_SECONDS_MAX: u64 = 10 * 366 * 86_400;
/// Most cases in one answer.
const LIMIT_MAX: u32 = 1_000;

/// Which cases.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CasesQuery {
    /// In this zone.
    zone: Option<String>,
    /// About this usage point.
    usage_point: Option<String>,
    /// Only those that have not ended.
    #[serde(default)]
    open: bool,
    /// Most rows, at most 1,000.
    limit: Option<u32>,
    /// Only those with a smaller number: the rest of a list, as its `Link` header says.
    before: Option<u64>,
}

/// Cases, newest first. When there are more, the `Link` header has their address.
#[utoipa::path(get, path = "/api/v1/cases", tag = "cases", params(CasesQuery), responses((status = 200, description = "cases with evidence for and against, history and outcome", body = [Object])))]
pub async fn list(
    State(state): State<AppState>,
    Staff(_): Staff,
    Query(query): Query<CasesQuery>,
    asked: Uri,
) -> Result<Part<Case>, WebError> {
    let limit = query.limit.unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX);
    let unusable = |why: metering::id::IdError| WebError::Invalid(why.to_string());
    let filter = CaseFilter {
        zone: query.zone.map(|zone| ZoneId::new(&zone)).transpose().map_err(unusable)?,
        usage_point: query.usage_point.map(|point| UsagePointId::new(&point)).transpose().map_err(unusable)?,
        open_only: query.open,
        before: query.before,
        limit: limit + 1,
        ..CaseFilter::default()
    };
    let cases = state.store.cases(filter).await?;
    Ok(Part::new(cases, limit, &asked, |case| vec![("before", case.id.to_string())]))
}

/// One case.
#[utoipa::path(get, path = "/api/v1/cases/{id}", tag = "cases", params(("id" = u64, Path)), responses((status = 200, body = Object), (status = 404, body = crate::error::Problem)))]
pub async fn one(State(state): State<AppState>, Staff(_): Staff, Path(id): Path<u64>) -> Result<Json<Value>, WebError> {
    Ok(Json(json!(state.store.case(id).await?.ok_or(WebError::NotFound)?)))
}

/// Does something with a case: `{"action": "assign" | "move" | "comment" | "ask_visit" | "conclude", …}`; answers with the case.
#[utoipa::path(post, path = "/api/v1/cases/{id}/actions", tag = "cases", params(("id" = u64, Path)), request_body(content = Object, description = "assign {owner, due}, move {to}, comment {text}, ask_visit {reason}, conclude {verdict, reason, kwh, recovered_kwh}"), responses((status = 200, body = Object), (status = 400, body = crate::error::Problem), (status = 409, body = crate::error::Problem)))]
pub async fn act(
    State(state): State<AppState>,
    Staff(caller): Staff,
    Path(id): Path<u64>,
    Body(action): Body<CaseAction>,
) -> Result<Json<Value>, WebError> {
    Ok(Json(json!(apply(&state, id, action, &caller.name).await?)))
}

/// Does something with a case; used by the page as well.
///
/// # Errors
/// When the owner is nobody who works on cases, the date is none, or the case refuses it.
pub async fn apply(state: &AppState, id: u64, action: CaseAction, by: &str) -> Result<Case, WebError> {
    let now = state.now();
    if let CaseAction::Assign { owner, due } = &action {
        if let Some(owner) = owner {
            let user = state.store.user_by_name(owner).await?;
            if !user.is_some_and(|user| !user.disabled && user.role != Role::Consumer) {
                return Err(WebError::Invalid("a case is assigned to an operator or an engineer".to_owned()));
            }
        }
        if due.is_some_and(|due| due.seconds_since(now).unsigned_abs() > DUE_SECONDS_MAX) {
            return Err(WebError::Invalid("a case is due within ten years".to_owned()));
        }
    }
    Ok(state.store.case_action(id, action, by, now).await?)
}
