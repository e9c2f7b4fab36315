//! What protects every answer and every change: headers, and the refusal of requests that another site made.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{auth, error::WebError, state::AppState};

/// No inline script or style, nothing from elsewhere, no framing.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=(), interest-cohort=()"),
];

/// Refuses requests for another host: a page elsewhere whose name is made to point here gets nothing. Programs that bring their own
/// permission, and the look at the server's health, may call it by any name.
pub async fn refuse_other_hosts(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let brings_permission = request.headers().contains_key(header::AUTHORIZATION);
    let hosts = request.headers().get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let is_ours = hosts.chain(request.uri().host()).all(|host| state.config.serves(host));
    if is_ours || brings_permission || request.uri().path() == "/health" {
        return next.run(request).await;
    }
    WebError::Misdirected(state.config.base_url.clone()).into_response()
}

/// Refuses unsafe requests that another site made.
pub async fn refuse_foreign(request: Request, next: Next) -> Response {
    let unsafe_method = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if unsafe_method && !comes_from_here(request.headers()) {
        return WebError::Forbidden("this request came from another site and was refused; use the console itself")
            .into_response();
    }
    next.run(request).await
}

/// Sets the headers of every answer.
pub async fn set_headers(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if state.is_https() {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Writes down who was refused what, once an hour for each caller and place: somebody who tries doors shows.
pub async fn note_refusals(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let place = request.uri().path().split('/').nth(1).unwrap_or_default().to_owned();
    let credentials = credentials(request.headers());
    let response = next.run(request).await;
    let is_refused = matches!(response.extensions().get(), Some(WebError::Forbidden(_) | WebError::Hidden));
    if is_refused && let Ok(Some(caller)) = auth::caller(&credentials, &state).await {
        let subject = format!("place:/{}", place.escape_debug());
        state.note_access(&caller.name, "access.refused", &subject).await;
    }
    response
}

/// The headers that say who calls.
fn credentials(headers: &HeaderMap) -> HeaderMap {
    let wanted = headers.iter().filter(|(name, _)| *name == header::AUTHORIZATION || *name == header::COOKIE);
    wanted.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Browsers say where a request comes from: by `Sec-Fetch-Site`, or, on plain HTTP away from loopback, by `Origin`.
/// A caller that sends neither is no browser, and holds no cookie it was not given on purpose.
fn comes_from_here(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let origin_host = origin.to_str().ok().and_then(|o| o.split_once("://")).map(|(_, host)| host);
    host.is_some() && host == origin_host
}
