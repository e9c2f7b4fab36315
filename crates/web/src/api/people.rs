//! People: who may sign in, as what.

use std::{net::IpAddr, time::Instant};

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use metering::{Timestamp, UsagePointId};
use serde::{Deserialize, Serialize};
use store::{Guarded, GuardedChange, NewUser, Role, User};

use super::{Body, pending};
use crate::{
    attempts::Name,
    auth::{AnySignedIn, Caller, Operator},
    error::WebError,
    password,
    sign_in::{Peer, address_of},
    state::AppState,
};

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
    /// Has the password that somebody else chose, and must change it first.
    first_password: bool,
    /// A consumer sees what was measured after this, seconds since 1970 UTC; `null`: from the beginning.
    sees_after: Option<i64>,
    /// A consumer sees what was measured up to this; `null`: without end.
    sees_to: Option<i64>,
}

impl From<User> for PersonOut {
    fn from(user: User) -> Self {
        let usage_point = user.usage_point.map(|point| point.to_string());
        Self {
            name: user.name,
            role: user.role.word(),
            usage_point,
            disabled: user.disabled,
            first_password: user.first_password,
            sees_after: (user.sees_after.0 > i64::MIN).then_some(user.sees_after.0),
            sees_to: (user.sees_to.0 < i64::MAX).then_some(user.sees_to.0),
        }
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
    /// A first password of at least 10 characters; the person must change it before anything else.
    pub password: String,
}

/// Makes a person; an operator when another operator has confirmed it (202).
#[utoipa::path(post, path = "/api/v1/people", tag = "people", request_body = PersonIn, responses((status = 201, body = PersonOut), (status = 202, body = Object), (status = 400, body = crate::error::Problem)))]
pub async fn create(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Body(body): Body<PersonIn>,
) -> Result<Response, WebError> {
    let name = body.name.clone();
    match make(&state, body, &caller.name).await? {
        Guarded::Done => {
            let made = state.store.user_by_name(&name).await?.ok_or(WebError::NotFound)?;
            Ok((StatusCode::CREATED, Json(PersonOut::from(made))).into_response())
        }
        waits @ Guarded::Waits(_) => Ok(pending::answer(waits)),
    }
}

/// Makes a person, or keeps an operator until another one confirms; used by the page as well.
///
/// # Errors
/// When the role, usage point, name or password is not usable.
pub async fn make(state: &AppState, person: PersonIn, by: &str) -> Result<Guarded, WebError> {
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
    let password_hash = password::hash(&person.name, person.password, &state.password_checks).await?;
    if role == Role::Operator && usage_point.is_none() {
        let change = GuardedChange::Operator { name: person.name, password_hash };
        return Ok(state.store.ask_change(change, by, now).await?);
    }
    let new = NewUser { name: person.name, role, usage_point, password_hash };
    state.store.create_user_with_first_password(new, by, now).await?;
    Ok(Guarded::Done)
}

/// Whether a person may sign in.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct DisabledIn {
    /// `true` ends all sessions and bars the person.
    disabled: bool,
}

/// Bars a person at once, or lets one sign in again: an operator when another operator has confirmed it (202).
#[utoipa::path(put, path = "/api/v1/people/{name}/disabled", tag = "people", params(("name" = String, Path)), request_body = DisabledIn, responses((status = 202, body = Object), (status = 204), (status = 404, body = crate::error::Problem)))]
pub async fn disable(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Path(name): Path<String>,
    Body(body): Body<DisabledIn>,
) -> Result<Response, WebError> {
    Ok(pending::answer(set_disabled(&state, &name, body.disabled, &caller.name).await?))
}

/// Bars or unbars (an operator when another one confirms); nobody bars oneself.
///
/// # Errors
/// When there is no such person, or it is the caller.
pub async fn set_disabled(state: &AppState, name: &str, disabled: bool, by: &str) -> Result<Guarded, WebError> {
    if name == by {
        return Err(WebError::Conflict("nobody bars oneself: ask another operator".to_owned()));
    }
    let now = state.now();
    let user = state.store.user_by_name(name).await?.ok_or(WebError::NotFound)?;
    if disabled {
        state.store.disable_user(name, by, now).await?;
    } else if user.role == Role::Operator && user.disabled {
        return Ok(state.store.ask_change(GuardedChange::OperatorEnabled { name: user.name }, by, now).await?);
    } else {
        state.store.enable_user(name, by, now).await?;
    }
    Ok(Guarded::Done)
}

/// A first password for somebody else.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FirstPasswordIn {
    /// At least 10 characters; the person must change it before anything else.
    pub password: String,
}

/// Gives a person a first password again and ends their sessions; an operator when another operator has confirmed it (202).
#[utoipa::path(put, path = "/api/v1/people/{name}/password", tag = "people", params(("name" = String, Path)), request_body = FirstPasswordIn, responses((status = 202, body = Object), (status = 204), (status = 400, body = crate::error::Problem), (status = 404, body = crate::error::Problem)))]
pub async fn reset_password(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Path(name): Path<String>,
    Body(body): Body<FirstPasswordIn>,
) -> Result<Response, WebError> {
    Ok(pending::answer(give_first_password(&state, &name, body.password, &caller.name).await?))
}

/// Gives a person a first password, or keeps an operator's until another one confirms; used by the page as well.
///
/// # Errors
/// When there is no such person, it is the caller, or the password is not usable.
pub async fn give_first_password(
    state: &AppState,
    name: &str,
    password: String,
    by: &str,
) -> Result<Guarded, WebError> {
    if name == by {
        return Err(WebError::Conflict("one's own password is changed at /password".to_owned()));
    }
    let user = state.store.user_by_name(name).await?.ok_or(WebError::NotFound)?;
    let password_hash = password::hash(name, password, &state.password_checks).await?;
    if user.role == Role::Operator {
        let change = GuardedChange::OperatorPassword { name: user.name, password_hash };
        return Ok(state.store.ask_change(change, by, state.now()).await?);
    }
    state.store.set_first_password(name, &password_hash, by, state.now()).await?;
    Ok(Guarded::Done)
}

/// One's own password and the next one.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnPasswordIn {
    /// The password as it is.
    pub old: String,
    /// The password as it shall be, at least 10 characters.
    pub new: String,
}

/// Changes one's own password; all of one's sessions end.
#[utoipa::path(put, path = "/api/v1/my/password", tag = "people", request_body = OwnPasswordIn, responses((status = 204), (status = 400, body = crate::error::Problem), (status = 429, body = crate::error::Problem)))]
pub async fn change_own_password(
    State(state): State<AppState>,
    AnySignedIn(caller): AnySignedIn,
    peer: Peer,
    Body(body): Body<OwnPasswordIn>,
) -> Result<StatusCode, WebError> {
    change_own(&state, &caller, address_of(&peer), body).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes the password of the person who asks; used by the page as well. Tries count as tries to sign in: an open browser is not
/// a place to guess.
///
/// # Errors
/// When a program asks, the old password is wrong, or the new one is not usable.
pub async fn change_own(
    state: &AppState,
    caller: &Caller,
    address: IpAddr,
    passwords: OwnPasswordIn,
) -> Result<(), WebError> {
    let user = state.store.user_by_name(&caller.name).await?.ok_or(WebError::NotFound)?;
    if passwords.old.len() > password::BYTES_MAX {
        return Err(WebError::Invalid("the old password is not right".to_owned()));
    }
    let ticket = state
        .attempts()
        .begin(Name::Known(&caller.name), address, Instant::now())
        .ok_or_else(|| WebError::TooMany("too many failed tries: wait five minutes and try again".to_owned()))?;
    match password::verify(passwords.old.clone(), Some(user.password_hash), &state.password_checks).await {
        Ok(true) => state.attempts().succeeded(ticket),
        Ok(false) => return Err(WebError::Invalid("the old password is not right".to_owned())),
        Err(error) => {
            state.attempts().not_checked(ticket);
            return Err(error);
        }
    }
    if passwords.old == passwords.new {
        return Err(WebError::Invalid("the new password is the old one: choose another".to_owned()));
    }
    let hash = password::hash(&caller.name, passwords.new, &state.password_checks).await?;
    Ok(state.store.set_password(&caller.name, &hash, &caller.name, state.now()).await?)
}

/// The time of a consumer's contract.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContractIn {
    /// Sees what was measured after this, seconds since 1970 UTC; from the beginning when left out.
    after: Option<i64>,
    /// Sees what was measured up to this; without end when left out.
    to: Option<i64>,
}

/// Sets the time of a consumer's contract: only what was measured in it, at the consumer's usage point, is shown.
#[utoipa::path(put, path = "/api/v1/people/{name}/contract", tag = "people", params(("name" = String, Path)), request_body = ContractIn, responses((status = 204), (status = 400, body = crate::error::Problem), (status = 404, body = crate::error::Problem)))]
pub async fn contract(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Path(name): Path<String>,
    Body(body): Body<ContractIn>,
) -> Result<StatusCode, WebError> {
    let time = (Timestamp(body.after.unwrap_or(i64::MIN)), Timestamp(body.to.unwrap_or(i64::MAX)));
    state.store.set_contract(&name, time, &caller.name, state.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}
