//! Commands to meters.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{StatusCode, Uri},
};
use metering::{Approver, ControlKind, MeterId, UsagePointId};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{ControlFilter, ControlRequest, ControlTarget, StoredControl};

use super::{Body, part::Part};
use crate::{
    auth::{Operator, Staff},
    error::WebError,
    state::AppState,
};

/// Most commands in one answer.
const LIMIT_MAX: u32 = 1_000;
/// Longest time a command may wait, seconds.
const EXPIRY_SECONDS_MAX: i64 = 24 * 3_600;

/// Which commands.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ControlsQuery {
    /// To this meter.
    meter: Option<String>,
    /// Only those that have not ended.
    #[serde(default)]
    open: bool,
    /// Most rows, at most 1,000.
    limit: Option<u32>,
    /// Only those with a smaller number: the rest of a list, as its `Link` header says.
    before: Option<u64>,
}

/// Commands, newest first, each with every state and its time. When there are more, the `Link` header has their address.
#[utoipa::path(get, path = "/api/v1/controls", tag = "controls", params(ControlsQuery), responses((status = 200, body = [Object])))]
pub async fn list(
    State(state): State<AppState>,
    Staff(_): Staff,
    Query(query): Query<ControlsQuery>,
    asked: Uri,
) -> Result<Part<StoredControl>, WebError> {
    let meter =
        query.meter.map(|meter| MeterId::new(&meter)).transpose().map_err(|why| WebError::Invalid(why.to_string()))?;
    let limit = query.limit.unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX);
    let filter = ControlFilter {
        meter,
        open_only: query.open,
        before: query.before,
        limit: limit + 1,
        ..ControlFilter::default()
    };
    let controls = state.store.controls(filter).await?;
    Ok(Part::new(controls, limit, &asked, |control| vec![("before", control.id.to_string())]))
}

/// One command.
#[utoipa::path(get, path = "/api/v1/controls/{id}", tag = "controls", params(("id" = u64, Path)), responses((status = 200, body = Object), (status = 404, body = crate::error::Problem)))]
pub async fn one(State(state): State<AppState>, Staff(_): Staff, Path(id): Path<u64>) -> Result<Json<Value>, WebError> {
    Ok(Json(json!(state.store.control(id).await?.ok_or(WebError::NotFound)?)))
}

/// A command to send: to a meter, or to the meter at a usage point.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ControlIn {
    /// The meter; give this or `usage_point`.
    #[schema(value_type = Option<String>)]
    meter: Option<MeterId>,
    /// The usage point; give this or `meter`.
    #[schema(value_type = Option<String>)]
    usage_point: Option<UsagePointId>,
    /// `"disconnect"`, `"reconnect"`, `{"load_limit": {"limit_w": 2000}}` or `{"snapshot_at": {"at": 1767225600}}`.
    #[schema(value_type = Object)]
    kind: ControlKind,
    /// Why, in words; kept in the audit.
    reason: String,
    /// Whether the caller also approves it; `true` when left out. Otherwise another operator approves.
    approve: Option<bool>,
    /// Seconds until the meter refuses it; 3,600 when left out, at most a day.
    expires_seconds: Option<i64>,
    /// The case it belongs to.
    case: Option<u64>,
}

/// Asks for a command. 201 with the command; 409 when a rule forbids it.
#[utoipa::path(post, path = "/api/v1/controls", tag = "controls", request_body = ControlIn, responses((status = 201, body = Object), (status = 400, body = crate::error::Problem), (status = 409, body = crate::error::Problem)))]
pub async fn request(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Body(body): Body<ControlIn>,
) -> Result<(StatusCode, Json<Value>), WebError> {
    let target = match (body.meter, body.usage_point) {
        (Some(meter), None) => ControlTarget::Meter(meter),
        (None, Some(point)) => ControlTarget::UsagePoint(point),
        _ => return Err(WebError::Invalid("give either meter or usage_point".to_owned())),
    };
    if body.reason.trim().is_empty() {
        return Err(WebError::Invalid("give a reason: it is kept in the audit".to_owned()));
    }
    let seconds = body.expires_seconds.unwrap_or(3_600);
    if !(1..=EXPIRY_SECONDS_MAX).contains(&seconds) {
        return Err(WebError::Invalid(format!("expires_seconds is 1 to {EXPIRY_SECONDS_MAX}")));
    }
    let now = state.now();
    let request = ControlRequest {
        target,
        kind: body.kind,
        reason: body.reason,
        by: Approver::Person(caller.name),
        approve: body.approve.unwrap_or(true),
        expires: now.plus(seconds),
        case: body.case,
    };
    let id = state.store.request_control(request, now).await?;
    Ok((StatusCode::CREATED, Json(json!(state.store.control(id).await?))))
}

/// Why a command is approved.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct ApproveIn {
    /// In words; kept in the audit.
    reason: String,
}

/// Approves what another asked for.
#[utoipa::path(post, path = "/api/v1/controls/{id}/approve", tag = "controls", params(("id" = u64, Path)), request_body = ApproveIn, responses((status = 200, body = Object), (status = 409, body = crate::error::Problem)))]
pub async fn approve(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
    Body(body): Body<ApproveIn>,
) -> Result<Json<Value>, WebError> {
    let by = Approver::Person(caller.name);
    Ok(Json(json!(state.store.approve_control(id, by, &body.reason, state.now()).await?)))
}
