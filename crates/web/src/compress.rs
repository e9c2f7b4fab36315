//! Pages, styles, scripts, JSON and CSV gzipped for callers that take it. Streams and small answers are left alone, and so are answers
//! to forms: they may show a secret beside what the caller sent.

use std::io::Write;

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, header},
    middleware::Next,
    response::Response,
};
use flate2::{Compression, write::GzEncoder};

use crate::error::WebError;

/// Smaller answers gain nothing, bytes.
const WORTH_BYTES: u64 = 1_024;
/// Larger answers are sent as they are, bytes.
const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Compresses an answer when that is possible and worth it.
pub async fn gzip(request: Request, next: Next) -> Response {
    let wanted = request.method() == Method::GET && takes_gzip(request.headers());
    let response = next.run(request).await;
    if !wanted || !is_text(response.headers()) || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let size = axum::body::HttpBody::size_hint(response.body()).exact();
    let Some(size) = size.filter(|size| (WORTH_BYTES..BODY_BYTES_MAX).contains(size)) else { return response };
    let (mut parts, body) = response.into_parts();
    let Ok(plain) = to_bytes(body, usize::try_from(size).unwrap_or(usize::MAX)).await else {
        return axum::response::IntoResponse::into_response(WebError::Internal);
    };
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    let packed = encoder.write_all(&plain).and_then(|()| encoder.finish());
    parts.headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    match packed {
        Ok(packed) => {
            parts.headers.remove(header::CONTENT_LENGTH);
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            Response::from_parts(parts, Body::from(packed))
        }
        Err(_) => Response::from_parts(parts, Body::from(plain)),
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let refused = |part: &str| matches!(part.replace(' ', "").as_str(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
        parts.next() == Some("gzip") && !parts.any(refused)
    })
}

fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    matches!(
        kind,
        "text/html" | "text/css" | "text/javascript" | "text/csv" | "application/json" | "image/svg+xml" | "text/plain"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_takes_gzip_gets_it() {
        let with = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(text).expect("header"));
            takes_gzip(&headers)
        };
        assert!(with("gzip, deflate, br") && with("br;q=1.0, gzip;q=0.5"));
        assert!(!with("br") && !with("gzip;q=0") && !takes_gzip(&HeaderMap::new()));
    }
}
