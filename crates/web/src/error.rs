//! One mapping of errors to HTTP: problem documents (RFC 9457) for programs, a page for people. What went wrong inside is logged
//! and never shown.

use axum::{
    Json,
    extract::Request,
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use maud::html;
use serde::Serialize;
use store::StoreError;

use crate::layout;

/// Why a request was not answered with what it asked for. The texts tell what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebError {
    /// Nobody is signed in.
    #[error("sign in first, or send an API token as `Authorization: Bearer …`")]
    SignIn,
    /// Signed in, and not permitted.
    #[error("{0}")]
    Forbidden(&'static str),
    /// Not there, or not for this caller: the two look the same on purpose.
    #[error("there is nothing at this address")]
    NotFound,
    /// Not for this caller, who is told the same as when it is not there; the audit knows.
    #[error("there is nothing at this address")]
    Hidden,
    /// The person has a password that somebody else gave them.
    #[error("change your first password first, at /password")]
    ChangePassword,
    /// The request names another host than those that are served.
    #[error("this server is not known by that name: open {0}")]
    Misdirected(String),
    /// The input is not usable.
    #[error("{0}")]
    Invalid(String),
    /// A rule forbids it now.
    #[error("{0}")]
    Conflict(String),
    /// Too many tries.
    #[error("{0}")]
    TooMany(String),
    /// The server failed; the cause is in its log.
    #[error("the server could not do this; the cause is in its log")]
    Internal,
    /// The server is busy or stopping.
    #[error("the server is busy or stopping; try again in a moment")]
    Unavailable,
}

impl WebError {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::SignIn => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::ChangePassword => StatusCode::FORBIDDEN,
            Self::NotFound | Self::Hidden => StatusCode::NOT_FOUND,
            Self::Misdirected(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<StoreError> for WebError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unknown { .. } => Self::NotFound,
            StoreError::Refused(why) => Self::Conflict(why),
            StoreError::Invalid(why) => Self::Invalid(why),
            other => {
                tracing::error!(error = %other, "a request failed in the store");
                Self::Internal
            }
        }
    }
}

/// A problem document, RFC 9457.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened and what to do.
    pub detail: String,
}

impl IntoResponse for WebError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives every failed answer its body: a problem document under `/api` and for callers that ask for JSON, else a page; people
/// who are not signed in are sent to the sign-in page and back.
pub async fn render(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let target = request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let is_get = request.method() == axum::http::Method::GET;
    let wants_json = path.starts_with("/api/")
        || path == "/live"
        || path == "/metrics"
        || request.headers().get(header::ACCEPT).is_some_and(|v| v.as_bytes().starts_with(b"application/json"));
    let response = next.run(request).await;
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let error = response.extensions().get::<WebError>().cloned();
    let detail = match &error {
        Some(error) => error.to_string(),
        None if is_page(&response) => return response,
        None if status == StatusCode::NOT_FOUND => WebError::NotFound.to_string(),
        None if status == StatusCode::METHOD_NOT_ALLOWED => "this address does not take this method".to_owned(),
        None if status == StatusCode::PAYLOAD_TOO_LARGE => "the body is too large: send it in smaller parts".to_owned(),
        None if status == StatusCode::REQUEST_TIMEOUT => "the answer took too long; ask for less".to_owned(),
        None => "the request is not usable as it stands: check its fields".to_owned(),
    };
    if !wants_json && is_get && error == Some(WebError::SignIn) {
        return Redirect::to(&format!("/sign-in?next={}", layout::query_text(&target))).into_response();
    }
    if !wants_json && is_get && error == Some(WebError::ChangePassword) {
        return Redirect::to("/password").into_response();
    }
    with_pause(status, explain(status, &detail, wants_json))
}

/// When to come again, where waiting helps.
fn with_pause(status: StatusCode, mut response: Response) -> Response {
    let seconds = match status {
        StatusCode::TOO_MANY_REQUESTS => "300",
        StatusCode::SERVICE_UNAVAILABLE => "5",
        _ => return response,
    };
    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(seconds));
    response
}

fn explain(status: StatusCode, detail: &str, wants_json: bool) -> Response {
    let title = status.canonical_reason().unwrap_or("Error").to_owned();
    if wants_json {
        let problem = Problem { title, status: status.as_u16(), detail: detail.to_owned() };
        return (
            status,
            [(header::CONTENT_TYPE, "application/problem+json")],
            Json(problem).into_response().into_body(),
        )
            .into_response();
    }
    let page = layout::bare(
        &title,
        html! {
            div.gate { section.card.stack {
                h1 { (title) }
                p { (sentence(detail)) }
                p { a href="/" { "To the start page" } }
            } }
        },
    );
    (status, page).into_response()
}

/// A page made by the handler itself, e.g. a form with what was wrong in it.
fn is_page(response: &Response) -> bool {
    response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/html"))
}

/// The text with a capital first letter and a full stop.
pub fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}
