//! People: who may sign in, as what.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use metering::UsagePointId;
use serde::{Deserialize, Serialize};
use store::{NewUser, Role, User};

use super::Body;
use crate::{auth::Operator, error::WebError, password, state::AppState};

/// A person.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct PersonOut {
    /// Unique name.
    name: String,
    /// `operator`, `engineer` or `consumer`.
    role: &'static str,
    /// A consumer's usage point.
    usage_point: Option<String>,
    /// May not sign in any more.
    disabled: bool,
}

impl From<User> for PersonOut {
    fn from(user: User) -> Self {
        let usage_point = user.usage_point.map(|point| point.to_string());
        Self { name: user.name, role: user.role.word(), usage_point, disabled: user.disabled }
    }
}

/// Everybody.
#[utoipa::path(get, path = "/api/v1/people", tag = "people", responses((status = 200, body = [PersonOut])))]
pub async fn list(State(state): State<AppState>, Operator(_): Operator) -> Result<Json<Vec<PersonOut>>, WebError> {
    Ok(Json(state.store.users().await?.into_iter().map(PersonOut::from).collect()))
}

/// A person to be made.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PersonIn {
    /// Unique name, at most 64 bytes.
    pub name: String,
    /// `operator`, `engineer` or `consumer`.
    pub role: String,
    /// A consumer's usage point.
    pub usage_point: Option<String>,
    /// At least 10 characters.
    pub password: String,
}

/// Makes a person.
#[utoipa::path(post, path = "/api/v1/people", tag = "people", request_body = PersonIn, responses((status = 201, body = PersonOut), (status = 400, body = crate::error::Problem)))]
pub async fn create(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Body(body): Body<PersonIn>,
) -> Result<(StatusCode, Json<PersonOut>), WebError> {
    Ok((StatusCode::CREATED, Json(make(&state, body, &caller.name).await?.into())))
}

/// Makes a person; used by the page as well.
///
/// # Errors
/// When the role, usage point, name or password is not usable.
pub async fn make(state: &AppState, person: PersonIn, by: &str) -> Result<User, WebError> {
    let role = Role::from_word(&person.role)
        .ok_or_else(|| WebError::Invalid("a role is operator, engineer or consumer".to_owned()))?;
    let now = state.now();
    let wanted = person.usage_point.filter(|point| !point.trim().is_empty());
    let usage_point = match wanted {
        None => None,
        Some(text) => {
            let unknown = || WebError::Invalid(format!("there is no usage point {}", text.escape_debug()));
            let point = UsagePointId::new(text.trim()).map_err(|_| unknown())?;
            state.store.topology(now).await?.usage_point(point).ok_or_else(unknown)?;
            Some(point)
        }
    };
    let password_hash = password::hash(person.password, &state.password_checks).await?;
    Ok(state.store.create_user(NewUser { name: person.name, role, usage_point, password_hash }, by, now).await?)
}

/// Whether a person may sign in.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct DisabledIn {
    /// `true` ends all sessions and bars the person.
    disabled: bool,
}

/// Bars a person or lets one sign in again.
#[utoipa::path(put, path = "/api/v1/people/{name}/disabled", tag = "people", params(("name" = String, Path)), request_body = DisabledIn, responses((status = 204), (status = 404, body = crate::error::Problem)))]
pub async fn disable(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Path(name): Path<String>,
    Body(body): Body<DisabledIn>,
) -> Result<StatusCode, WebError> {
    set_disabled(&state, &name, body.disabled, &caller.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Bars or unbars; nobody bars oneself.
///
/// # Errors
/// When there is no such person, or it is the caller.
pub async fn set_disabled(state: &AppState, name: &str, disabled: bool, by: &str) -> Result<(), WebError> {
    if name == by {
        return Err(WebError::Conflict("nobody bars oneself: ask another operator".to_owned()));
    }
    let now = state.now();
    if disabled {
        state.store.disable_user(name, by, now).await?;
    } else {
        state.store.enable_user(name, by, now).await?;
    }
    Ok(())
}
