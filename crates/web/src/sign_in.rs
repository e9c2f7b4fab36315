//! Signing in and out, and making the first operator. The one-time tokens in the addresses that `serve` and `demo` print work
//! once and are gone.

use std::collections::BTreeMap;

use axum::{
    Form,
    extract::{Query, State},
    http::{HeaderMap, Method, header},
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use metering::Timestamp;
use serde::Deserialize;
use store::{NewUser, OneTime, Role};

use crate::{
    auth,
    error::{WebError, sentence},
    layout, password,
    state::AppState,
};

/// A session's length, seconds.
const SESSION_SECONDS: i64 = 12 * 3_600;
/// The same on a simulated clock, which may run a thousand times faster than the person.
const SIMULATED_SESSION_SECONDS: i64 = 10 * 365 * 86_400;
/// Failed tries with one name before it has to wait.
const FAILURES_MAX: u32 = 5;
/// How long it waits, seconds of the server's clock.
const WAIT_SECONDS: i64 = 300;
/// Names remembered; beyond, the oldest are forgotten.
const NAMES_MAX: usize = 1_000;

/// Failed sign-ins by name.
#[derive(Debug, Default)]
pub struct Failures(BTreeMap<String, (u32, Timestamp)>);

impl Failures {
    fn must_wait(&self, name: &str, now: Timestamp) -> bool {
        self.0.get(name).is_some_and(|(n, last)| *n >= FAILURES_MAX && now.seconds_since(*last) < WAIT_SECONDS)
    }

    fn failed(&mut self, name: &str, now: Timestamp) {
        if self.0.len() >= NAMES_MAX && !self.0.contains_key(name) {
            let oldest = self.0.iter().min_by_key(|(_, (_, at))| *at).map(|(name, _)| name.clone());
            oldest.map(|name| self.0.remove(&name));
        }
        let entry = self.0.entry(name.to_owned()).or_insert((0, now));
        let forgotten = now.seconds_since(entry.1) >= WAIT_SECONDS;
        *entry = (if forgotten { 1 } else { entry.0 + 1 }, now);
    }
}

/// Query of the sign-in page.
#[derive(Debug, Default, Deserialize)]
pub struct SignInQuery {
    next: Option<String>,
    token: Option<String>,
}

/// `GET /sign-in`: the form; with `?token=` signs in at once, once.
pub async fn page(
    State(state): State<AppState>,
    method: Method,
    Query(query): Query<SignInQuery>,
) -> Result<Response, WebError> {
    if let (Some(token), &Method::GET) = (&query.token, &method) {
        return match state.store.spend_one_time(token, state.now()).await? {
            Some(OneTime::SignIn(name)) => begin_session(&state, &name, "/").await,
            _ => Ok(form(
                None,
                Some(
                    "this address has been used or has expired: sign in by name, or restart the program for a new one",
                ),
            )
            .into_response()),
        };
    }
    Ok(form(query.next.as_deref(), None).into_response())
}

/// Body of the sign-in form.
#[derive(Deserialize)]
pub struct SignInForm {
    name: String,
    password: String,
    next: Option<String>,
}

/// `POST /sign-in`.
pub async fn sign_in(State(state): State<AppState>, Form(form_in): Form<SignInForm>) -> Result<Response, WebError> {
    let now = state.now();
    let waits = state.failures.lock().is_ok_and(|failures| failures.must_wait(&form_in.name, now));
    if waits {
        return Err(WebError::TooMany("too many failed tries with this name: wait five minutes".to_owned()));
    }
    let user = state.store.user_by_name(&form_in.name).await?.filter(|user| !user.disabled);
    let hash = user.as_ref().map(|user| user.password_hash.clone());
    if password::verify(form_in.password, hash, &state.password_checks).await? {
        let next = form_in.next.as_deref().filter(|next| is_local(next)).unwrap_or("/");
        return begin_session(&state, &form_in.name, next).await;
    }
    if let Ok(mut failures) = state.failures.lock() {
        failures.failed(&form_in.name, now);
    }
    tracing::warn!(name = %form_in.name.escape_debug(), "a sign-in failed");
    let body = form(form_in.next.as_deref(), Some("name and password do not fit: try again"));
    Ok((axum::http::StatusCode::UNPROCESSABLE_ENTITY, body).into_response())
}

/// `POST /sign-out`.
pub async fn sign_out(State(state): State<AppState>, headers: HeaderMap) -> Result<Response, WebError> {
    if let Some(token) = auth::cookie(&headers, auth::cookie_name(&state)) {
        state.store.end_session(token).await?;
    }
    let gone = format!("{}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax{}", auth::cookie_name(&state), secure(&state));
    Ok(([(header::SET_COOKIE, gone)], Redirect::to("/sign-in")).into_response())
}

async fn begin_session(state: &AppState, name: &str, next: &str) -> Result<Response, WebError> {
    let seconds = if state.store.is_simulation() { SIMULATED_SESSION_SECONDS } else { SESSION_SECONDS };
    let now = state.now();
    let token = state.store.create_session(name, now.plus(seconds), now).await?;
    let cookie = format!(
        "{}={token}; Path=/; Max-Age={SESSION_SECONDS}; HttpOnly; SameSite=Lax{}",
        auth::cookie_name(state),
        secure(state)
    );
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(next)).into_response())
}

fn secure(state: &AppState) -> &'static str {
    if state.is_https() { "; Secure" } else { "" }
}

/// Only addresses of this server, never `//elsewhere` or `/\elsewhere`.
fn is_local(next: &str) -> bool {
    let mut bytes = next.bytes();
    bytes.next() == Some(b'/') && !matches!(bytes.next(), Some(b'/' | b'\\')) && !next.contains(['\r', '\n'])
}

fn form(next: Option<&str>, problem: Option<&str>) -> Markup {
    layout::bare(
        "Sign in",
        html! {
            div.gate { section.card.stack {
                h1 { "Sign in" }
                @if let Some(problem) = problem { div.banner.bad role="alert" { p { (sentence(problem)) } } }
                form.form method="post" action="/sign-in" {
                    @if let Some(next) = next { input type="hidden" name="next" value=(next); }
                    div.field { label for="name" { "Name" } input #name name="name" autocomplete="username" required autofocus; }
                    div.field { label for="password" { "Password" } input #password name="password" type="password" autocomplete="current-password" required; }
                    button.primary { "Sign in" }
                }
                p.hint { "An operator gives you a name. The very first operator is made with the address that the server prints when it starts." }
            } }
        },
    )
}

/// Query of the set-up page.
#[derive(Debug, Deserialize)]
pub struct SetUpQuery {
    token: Option<String>,
}

/// `GET /setup?token=…`: the form for the first operator.
pub async fn set_up_page(State(state): State<AppState>, Query(query): Query<SetUpQuery>) -> Result<Markup, WebError> {
    let token = query.token.ok_or(WebError::NotFound)?;
    match state.store.one_time(&token, state.now()).await? {
        Some(OneTime::SetUp) => Ok(set_up_form(&token, None)),
        _ => Err(WebError::Forbidden(
            "this set-up address has been used or has expired: restart the server for a new one",
        )),
    }
}

/// Body of the set-up form.
#[derive(Deserialize)]
pub struct SetUpForm {
    token: String,
    name: String,
    password: String,
}

/// `POST /setup`: makes the first operator and signs in.
pub async fn set_up(State(state): State<AppState>, Form(form_in): Form<SetUpForm>) -> Result<Response, WebError> {
    let now = state.now();
    if state.store.one_time(&form_in.token, now).await? != Some(OneTime::SetUp) {
        return Err(WebError::Forbidden(
            "this set-up address has been used or has expired: restart the server for a new one",
        ));
    }
    let made = match password::hash(form_in.password, &state.password_checks).await {
        Ok(password_hash) => {
            let new = NewUser { name: form_in.name.clone(), role: Role::Operator, usage_point: None, password_hash };
            state.store.create_user(new, "set-up", now).await.map_err(WebError::from)
        }
        Err(error) => Err(error),
    };
    match made {
        Ok(user) => {
            state.store.spend_one_time(&form_in.token, now).await?;
            begin_session(&state, &user.name, "/").await
        }
        Err(WebError::Invalid(why)) => {
            let body = set_up_form(&form_in.token, Some(&why));
            Ok((axum::http::StatusCode::UNPROCESSABLE_ENTITY, body).into_response())
        }
        Err(error) => Err(error),
    }
}

fn set_up_form(token: &str, problem: Option<&str>) -> Markup {
    layout::bare(
        "Set up",
        html! {
            div.gate { section.card.stack {
                h1 { "The first operator" }
                p.dim { "This address works once. The operator you make here may do everything: give others their own names." }
                @if let Some(problem) = problem { div.banner.bad role="alert" { p { (sentence(problem)) } } }
                form.form method="post" action="/setup" {
                    input type="hidden" name="token" value=(token);
                    div.field { label for="name" { "Your name" } input #name name="name" autocomplete="username" maxlength="64" required autofocus; }
                    div.field {
                        label for="password" { "Password" }
                        input #password name="password" type="password" autocomplete="new-password" minlength=(password::CHARACTERS_MIN) aria-describedby="hint" required;
                        span.hint #hint { "At least " (password::CHARACTERS_MIN) " characters." }
                    }
                    button.primary { "Make the operator and sign in" }
                }
            } }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_addresses_are_followed() {
        assert!(is_local("/cases?state=new"));
        for bad in ["//evil.example", "/\\evil.example", "https://evil.example", "", "/a\r\nb"] {
            assert!(!is_local(bad), "{bad}");
        }
    }

    #[test]
    fn a_name_waits_after_too_many_failures() {
        let mut failures = Failures::default();
        for _ in 0..FAILURES_MAX {
            assert!(!failures.must_wait("a", Timestamp(0)));
            failures.failed("a", Timestamp(0));
        }
        assert!(failures.must_wait("a", Timestamp(10)));
        assert!(!failures.must_wait("b", Timestamp(10)));
        assert!(!failures.must_wait("a", Timestamp(WAIT_SECONDS)));
    }
}
