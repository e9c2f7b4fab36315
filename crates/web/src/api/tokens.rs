//! Tokens of programs: made, listed with their last use, taken back.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use store::{Guarded, NewToken, Role, Token};

use super::Body;
use crate::{auth::Operator, error::WebError, state::AppState};

/// Longest time until a token ends, days.
const DAYS_MAX: u32 = 3_650;

/// A token, without what opens.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TokenOut {
    /// Name of the program.
    name: String,
    /// `operator` or `engineer`.
    role: &'static str,
    /// When made, seconds since 1970 UTC.
    created_at: i64,
    /// When it ends; `null` when it does not.
    expires: Option<i64>,
    /// When it was last used, to the minute; `null` when never.
    last_used: Option<i64>,
}

impl From<Token> for TokenOut {
    fn from(token: Token) -> Self {
        Self {
            name: token.name,
            role: token.role.word(),
            created_at: token.created_at.0,
            expires: token.expires.map(|at| at.0),
            last_used: token.last_used.map(|at| at.0),
        }
    }
}

/// Every token.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", responses((status = 200, body = [TokenOut])))]
pub async fn list(State(state): State<AppState>, Operator(_): Operator) -> Result<Json<Vec<TokenOut>>, WebError> {
    Ok(Json(state.store.api_tokens(state.now()).await?.into_iter().map(TokenOut::from).collect()))
}

/// A token to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenIn {
    /// Name of the program; its token of the same name is replaced.
    pub name: String,
    /// `operator` or `engineer`.
    pub role: String,
    /// Days until it ends; it does not when left out.
    pub days: Option<u32>,
}

/// A new token.
#[derive(Serialize, utoipa::ToSchema)]
pub struct NewTokenOut {
    /// Name of the program.
    name: String,
    /// 64 hexadecimal digits, shown this once; sent as `Authorization: Bearer …`.
    token: String,
    /// The number under which it waits for another operator, before whose confirmation it opens nothing; left out when it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<u64>,
}

impl std::fmt::Debug for NewTokenOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewTokenOut").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Makes a token; an operator's works when another operator has confirmed it (202).
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = TokenIn, responses((status = 201, body = NewTokenOut), (status = 202, body = NewTokenOut), (status = 400, body = crate::error::Problem)))]
pub async fn create(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Body(body): Body<TokenIn>,
) -> Result<(StatusCode, Json<NewTokenOut>), WebError> {
    let name = body.name.clone();
    let (token, done) = make(&state, body, &caller.name).await?;
    let (status, pending) = match done {
        Guarded::Done => (StatusCode::CREATED, None),
        Guarded::Waits(id) => (StatusCode::ACCEPTED, Some(id)),
    };
    Ok((status, Json(NewTokenOut { name, token, pending })))
}

/// Makes a token, or keeps it until another operator confirms it; used by the page as well.
///
/// # Errors
/// When the name, role or time is not usable.
pub async fn make(state: &AppState, wanted: TokenIn, by: &str) -> Result<(String, Guarded), WebError> {
    let role = Role::from_word(&wanted.role)
        .ok_or_else(|| WebError::Invalid("a token is an operator's or an engineer's".to_owned()))?;
    if wanted.days.is_some_and(|days| days == 0 || days > DAYS_MAX) {
        return Err(WebError::Invalid(format!("a token ends after 1 to {DAYS_MAX} days, or not at all")));
    }
    let now = state.now();
    let expires = wanted.days.map(|days| now.plus(i64::from(days) * 86_400));
    Ok(state.store.ask_api_token(NewToken { name: wanted.name, role, expires }, by, now).await?)
}

/// Takes a token back: from now on it opens nothing.
#[utoipa::path(delete, path = "/api/v1/tokens/{name}", tag = "tokens", params(("name" = String, Path)), responses((status = 204), (status = 404, body = crate::error::Problem)))]
pub async fn revoke(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Path(name): Path<String>,
) -> Result<StatusCode, WebError> {
    state.store.revoke_api_token(&name, &caller.name, state.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}
