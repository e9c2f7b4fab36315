//! Health, metrics, the audit, and the simulated clock.

use std::{fmt::Write as _, time::Duration};

use axum::{
    Json,
    extract::{Query, State},
    http::{Uri, header},
    response::{IntoResponse, Response},
};
use metering::Timestamp;
use serde::{Deserialize, Serialize};
use store::AuditRow;
use tokio::sync::oneshot;

use super::{Body, part::Part};
use crate::{
    auth::{Operator, Staff},
    error::WebError,
    state::{Advance, AppState, ClockState, PipelineStatus},
};

/// How long a step of the simulated clock may take.
const ADVANCE_TIMEOUT: Duration = Duration::from_secs(120);
/// Most rows of the audit in one answer.
const AUDIT_MAX: u32 = 5_000;

/// Whether the server serves.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Health {
    /// `ok`, or `clock_doubted` when the server's time and that of the readings contradict each other.
    status: &'static str,
    /// Where the pipeline stands.
    #[serde(flatten)]
    pipeline: PipelineStatus,
    /// Ed25519 public key that verifies controls, 64 hexadecimal digits.
    server_key: String,
}

/// Whether the server serves, and where the pipeline stands. Public.
#[utoipa::path(get, path = "/health", tag = "system", responses((status = 200, body = Health)))]
pub async fn health(State(state): State<AppState>) -> Json<Health> {
    let pipeline = state.status();
    let status = if pipeline.clock == ClockState::Agrees { "ok" } else { "clock_doubted" };
    Json(Health { status, pipeline, server_key: crate::assets::hex(&state.config.verifying_key) })
}

/// Counters in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "system", responses((status = 200, content_type = "text/plain", body = String)))]
pub async fn metrics(State(state): State<AppState>, Staff(_): Staff) -> Result<Response, WebError> {
    let (counts, status) = (state.store.counts().await?, state.status());
    let open_cases = crate::pages::cases::open_count(&state).await?;
    let open_controls = state.store.open_controls().await?.len();
    let mut out = String::new();
    let mut put = |name: &str, kind: &str, help: &str, value: String| {
        let _ =
            writeln!(out, "# HELP gridtally_{name} {help}\n# TYPE gridtally_{name} {kind}\ngridtally_{name} {value}");
    };
    put("frames_total", "counter", "Frames stored.", counts.frames.to_string());
    put("readings_total", "counter", "Profile records stored.", counts.readings.to_string());
    put("duplicates_total", "counter", "Frames received again with the same bytes.", counts.duplicates.to_string());
    put(
        "conflicts_total",
        "counter",
        "Frames with the sequence of another and other bytes.",
        counts.conflicts.to_string(),
    );
    put("quarantined_total", "counter", "Payloads that were no frames.", counts.quarantined.to_string());
    put("suspect_total", "counter", "Records marked suspect.", counts.suspect.to_string());
    put("disk_bytes", "gauge", "Size of the data directory.", counts.bytes_on_disk.to_string());
    put("meters_connected", "gauge", "Connected meters.", status.meters_connected.to_string());
    put("cases_open", "gauge", "Cases that have not ended.", open_cases.to_string());
    put("controls_open", "gauge", "Commands that have not ended.", open_controls.to_string());
    put("live_streams", "gauge", "Open streams of live values.", state.hub.streams().to_string());
    put("clock_seconds", "gauge", "The server's time, seconds since 1970 UTC.", status.now.0.to_string());
    put(
        "clock_doubted",
        "gauge",
        "1 when the server's time and that of the readings contradict each other.",
        u8::from(status.clock != ClockState::Agrees).to_string(),
    );
    if let Some(reached) = status.readings_reach {
        put(
            "readings_reach_seconds",
            "gauge",
            "How far readings reach, seconds since 1970 UTC.",
            reached.0.to_string(),
        );
    }
    if let Some(through) = status.processed_through {
        put(
            "processed_through_seconds",
            "gauge",
            "End of the last balanced slot, seconds since 1970 UTC.",
            through.0.to_string(),
        );
    }
    out.push_str(&(state.config.metrics)());
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], out).into_response())
}

/// A step of the simulated clock.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct ClockIn {
    /// The new time, seconds since 1970 UTC.
    #[schema(value_type = i64)]
    now: Timestamp,
}

/// Moves a simulated clock forward; answers when the step is taken. 409 when the clock is real or would go back.
#[utoipa::path(put, path = "/api/v1/clock", tag = "system", request_body = ClockIn, responses((status = 200, body = PipelineStatus), (status = 409, body = crate::error::Problem)))]
pub async fn clock(
    State(state): State<AppState>,
    Operator(_): Operator,
    Body(body): Body<ClockIn>,
) -> Result<Json<PipelineStatus>, WebError> {
    let Some(advance) = &state.config.advance else {
        return Err(WebError::Conflict(
            "the clock of this server is real: start it with --clock sim to set it".to_owned(),
        ));
    };
    if body.now < state.now() {
        return Err(WebError::Conflict(format!("the clock stands at {} and does not go back", state.now())));
    }
    let (done, answer) = oneshot::channel();
    advance.send(Advance { to: body.now, done }).await.map_err(|_| WebError::Unavailable)?;
    match tokio::time::timeout(ADVANCE_TIMEOUT, answer).await {
        Ok(Ok(status)) => Ok(Json(status)),
        _ => Err(WebError::Unavailable),
    }
}

/// Query of the audit.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Most rows, at most 5,000; 200 when left out.
    limit: Option<u32>,
    /// Only those with a smaller number: the rest of a list, as its `Link` header says.
    before: Option<u64>,
}

/// The audit, newest first. When there is more, the `Link` header has its address.
#[utoipa::path(get, path = "/api/v1/audit", tag = "system", params(AuditQuery), responses((status = 200, description = "id, at, by, action, subject, detail, hash", body = [Object])))]
pub async fn audit(
    State(state): State<AppState>,
    Staff(_): Staff,
    Query(query): Query<AuditQuery>,
    asked: Uri,
) -> Result<Part<AuditRow>, WebError> {
    let limit = query.limit.unwrap_or(200).clamp(1, AUDIT_MAX);
    let rows = state.store.audit_before(query.before, limit + 1).await?;
    Ok(Part::new(rows, limit, &asked, |row| vec![("before", row.id.to_string())]))
}
