//! Who calls: a person by the session cookie, or a program by `Authorization: Bearer`. Handlers name the role they need in their
//! arguments; a handler without one of these extractors is public.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use metering::{Timestamp, UsagePointId};
use store::Role;

use crate::{error::WebError, state::AppState};

/// Somebody known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// A person's name, or `token:<name>` of a program.
    pub name: String,
    /// What the caller may do.
    pub role: Role,
    /// A consumer's usage point.
    pub usage_point: Option<UsagePointId>,
    /// Still has the password that somebody else chose: may do nothing but choose another.
    pub first_password: bool,
    /// A consumer sees what was measured in this time (after, up to).
    pub sees: (Timestamp, Timestamp),
}

/// Anybody signed in, also with a password that somebody else chose.
#[derive(Clone, Debug)]
pub struct AnySignedIn(pub Caller);

/// Anybody signed in.
#[derive(Clone, Debug)]
pub struct SignedIn(pub Caller);

/// An engineer or an operator: reads everything, works on cases.
#[derive(Clone, Debug)]
pub struct Staff(pub Caller);

/// An operator: everything.
#[derive(Clone, Debug)]
pub struct Operator(pub Caller);

/// A consumer, with the one usage point that is shown to them.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Who.
    pub caller: Caller,
    /// Whose place.
    pub usage_point: UsagePointId,
}

impl Caller {
    /// Whether the caller works for the utility.
    pub fn is_staff(&self) -> bool {
        matches!(self.role, Role::Operator | Role::Engineer)
    }

    /// Whether the caller may do everything.
    pub fn is_operator(&self) -> bool {
        self.role == Role::Operator
    }
}

/// Marks a request that came by the socket in the data directory: whoever may open it owns the data.
#[derive(Clone, Copy, Debug)]
pub struct CommandLine;

/// The name of the session cookie. Over TLS its prefix makes browsers refuse a weaker one of the same name.
pub fn cookie_name(state: &AppState) -> &'static str {
    if state.is_https() { "__Host-gridtally" } else { "gridtally" }
}

/// A cookie of a request; `None` also when there are several of that name, since then another server of the same domain, or somebody
/// on the way, may have set one.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut found = values
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter_map(|(key, value)| (key == name).then_some(value));
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

/// Finds out who calls; `None` for nobody.
pub async fn caller(headers: &HeaderMap, state: &AppState) -> Result<Option<Caller>, WebError> {
    let always = (Timestamp(i64::MIN), Timestamp(i64::MAX));
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).ok_or(WebError::SignIn)?;
        let known = state.store.api_token(token.trim(), state.now()).await?.ok_or(WebError::SignIn)?;
        let name = format!("token:{}", known.name);
        return Ok(Some(Caller { name, role: known.role, usage_point: None, first_password: false, sees: always }));
    }
    let Some(token) = cookie(headers, cookie_name(state)) else { return Ok(None) };
    let user = state.store.session(token, state.now()).await?;
    Ok(user.map(|user| Caller {
        name: user.name,
        role: user.role,
        usage_point: user.usage_point,
        first_password: user.first_password,
        sees: (user.sees_after, user.sees_to),
    }))
}

impl FromRequestParts<AppState> for AnySignedIn {
    type Rejection = WebError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, WebError> {
        if parts.extensions.get::<CommandLine>().is_some() {
            let (name, sees) = ("command line".to_owned(), (Timestamp(i64::MIN), Timestamp(i64::MAX)));
            let role = Role::Operator;
            return Ok(Self(Caller { name, role, usage_point: None, first_password: false, sees }));
        }
        caller(&parts.headers, state).await?.map(Self).ok_or(WebError::SignIn)
    }
}

impl FromRequestParts<AppState> for SignedIn {
    type Rejection = WebError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, WebError> {
        let AnySignedIn(caller) = AnySignedIn::from_request_parts(parts, state).await?;
        if caller.first_password { Err(WebError::ChangePassword) } else { Ok(Self(caller)) }
    }
}

impl FromRequestParts<AppState> for Staff {
    type Rejection = WebError;

    /// A consumer is told that there is nothing, not that there is something forbidden.
    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, WebError> {
        let SignedIn(caller) = SignedIn::from_request_parts(parts, state).await?;
        if caller.is_staff() { Ok(Self(caller)) } else { Err(WebError::Hidden) }
    }
}

impl FromRequestParts<AppState> for Operator {
    type Rejection = WebError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, WebError> {
        let Staff(caller) = Staff::from_request_parts(parts, state).await?;
        if caller.is_operator() {
            Ok(Self(caller))
        } else {
            Err(WebError::Forbidden("this needs an operator; ask one to do it or to change your role"))
        }
    }
}

impl FromRequestParts<AppState> for Consumer {
    type Rejection = WebError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, WebError> {
        let SignedIn(caller) = SignedIn::from_request_parts(parts, state).await?;
        let usage_point = caller.usage_point.ok_or(WebError::NotFound)?;
        Ok(Self { caller, usage_point })
    }
}
