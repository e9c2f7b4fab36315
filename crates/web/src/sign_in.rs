//! Signing in and out, and making the first operator. The one-time tokens in the addresses that `serve` and `demo` print work
//! once and are gone.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Instant,
};

use axum::{
    Extension, Form,
    extract::{ConnectInfo, Query, State},
    http::{HeaderMap, Method, header},
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use metering::Timestamp;
use serde::Deserialize;
use store::{FirstOperator, NewUser, OneTime, Role};

use crate::{
    attempts::Name,
    auth,
    error::{WebError, sentence},
    layout, password,
    state::AppState,
};

/// A session's length, seconds.
const SESSION_SECONDS: i64 = 12 * 3_600;
/// End of a session on a simulated clock, the year 9999: the clock may run a thousand times faster than the person, and it jumps to the
/// begin of the simulation when somebody has signed in already. The cookie ends as always.
const SIMULATED_SESSION_END: Timestamp = Timestamp(253_402_300_799);
/// Longest name looked up, bytes; nobody has a longer one.
const NAME_BYTES_MAX: usize = 64;

/// The address of whoever asks, as the listener tells it.
pub type Peer = Option<Extension<ConnectInfo<SocketAddr>>>;

/// The address that counts for limits: of IPv6 the /64. Without a listener (in tests) there is one caller only.
pub fn address_of(peer: &Peer) -> IpAddr {
    let address = peer.as_ref().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |Extension(ConnectInfo(peer))| peer.ip());
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 => v4,
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
pub async fn sign_in(
    State(state): State<AppState>,
    peer: Peer,
    Form(form_in): Form<SignInForm>,
) -> Result<Response, WebError> {
    check_lengths(&form_in)?;
    let address = address_of(&peer);
    let user = state.store.user_by_name(&form_in.name).await?;
    let name = if user.is_some() { Name::Known(&form_in.name) } else { Name::Unknown(&form_in.name) };
    // Counted before it is looked at: tries at the same time are as many tries.
    let ticket = state
        .attempts()
        .begin(name, address, Instant::now())
        .ok_or_else(|| WebError::TooMany("too many failed tries: wait five minutes and try again".to_owned()))?;
    let hash = user.filter(|user| !user.disabled).map(|user| user.password_hash);
    match password::verify(form_in.password, hash, &state.password_checks).await {
        Ok(true) => {
            state.attempts().succeeded(ticket);
            let next = form_in.next.as_deref().and_then(local_target).unwrap_or("/");
            begin_session(&state, &form_in.name, next).await
        }
        Ok(false) => {
            let subject = format!("person:{}", form_in.name.escape_debug());
            tracing::warn!(name = %form_in.name.escape_debug(), %address, "a sign-in failed");
            let by = format!("address:{address}");
            state.store.audit_note(&by, "sign_in.failed", &subject, "", state.now()).await?;
            let body = form(form_in.next.as_deref(), Some("name and password do not fit: try again"));
            Ok((axum::http::StatusCode::UNPROCESSABLE_ENTITY, body).into_response())
        }
        Err(error) => {
            state.attempts().not_checked(ticket);
            Err(error)
        }
    }
}

/// What nobody's name or password can be is refused before it is counted, looked up or written anywhere.
fn check_lengths(form: &SignInForm) -> Result<(), WebError> {
    if form.name.is_empty() || form.name.len() > NAME_BYTES_MAX || form.name.chars().any(char::is_control) {
        return Err(WebError::Invalid(format!("a name has 1 to {NAME_BYTES_MAX} bytes and no control characters")));
    }
    if form.password.len() > password::BYTES_MAX {
        return Err(WebError::Invalid(format!("a password has at most {} bytes", password::BYTES_MAX)));
    }
    Ok(())
}

/// `POST /sign-out`.
pub async fn sign_out(State(state): State<AppState>, headers: HeaderMap) -> Result<Response, WebError> {
    if let Some(token) = auth::cookie(&headers, auth::cookie_name(&state)) {
        state.store.end_session(token, state.now()).await?;
    }
    let gone = format!("{}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax{}", auth::cookie_name(&state), secure(&state));
    Ok(([(header::SET_COOKIE, gone)], Redirect::to("/sign-in")).into_response())
}

pub(crate) async fn begin_session(state: &AppState, name: &str, next: &str) -> Result<Response, WebError> {
    let now = state.now();
    let end = if state.store.is_simulation() { SIMULATED_SESSION_END } else { now.plus(SESSION_SECONDS) };
    let token = state.store.create_session(name, end, now).await?;
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

/// The target, when it is an address of this server: a path, and nothing that a browser reads as something else. Browsers drop tabs
/// and line breaks and take a backslash for a slash, so `/<TAB>/elsewhere` is another server to them.
pub(crate) fn local_target(target: &str) -> Option<&str> {
    let is_plain = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let is_path = target.starts_with('/') && !target.starts_with("//");
    let stays_here = || {
        let uri = format!("http://own.invalid{target}").parse::<axum::http::Uri>();
        uri.is_ok_and(|uri| uri.authority().is_some_and(|own| own == "own.invalid"))
    };
    (is_plain && is_path && stays_here()).then_some(target)
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

/// `POST /setup`: makes the first operator and signs in. The token is spent and the person made in one step, and only while there is
/// nobody: of several who come at the same time one is the operator.
pub async fn set_up(State(state): State<AppState>, Form(form_in): Form<SetUpForm>) -> Result<Response, WebError> {
    let now = state.now();
    let spent =
        WebError::Forbidden("this set-up address has been used or has expired: restart the server for a new one");
    if state.store.one_time(&form_in.token, now).await? != Some(OneTime::SetUp) {
        return Err(spent);
    }
    let made = match password::hash(&form_in.name, form_in.password, &state.password_checks).await {
        Ok(password_hash) => {
            let new = NewUser { name: form_in.name.clone(), role: Role::Operator, usage_point: None, password_hash };
            state.store.create_first_operator(&form_in.token, new, now).await.map_err(WebError::from)
        }
        Err(error) => Err(error),
    };
    match made {
        Ok(FirstOperator::Made(user)) => begin_session(&state, &user.name, "/").await,
        Ok(FirstOperator::TokenSpent) => Err(spent),
        Ok(FirstOperator::SomebodyIsThere) => {
            Err(WebError::Forbidden("there is an operator already: sign in, or ask that operator for a name"))
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
        for good in ["/", "/cases?state=new", "/sign-in?next=%2Fa%09", "/a//b"] {
            assert_eq!(local_target(good), Some(good));
        }
        for bad in [
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "",
            "a",
            "/a\r\nb",
            "/\t/evil.example",
            "/\n/evil.example",
            "/\0",
            "/a\u{7f}",
            "/ü",
            "/a b",
            "\t//evil.example",
            "@evil.example/",
        ] {
            assert_eq!(local_target(bad), None, "{bad:?}");
        }
    }
}
