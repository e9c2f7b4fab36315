//! Lists that may be longer than one answer: what is left is said, with the address of the rest.

use axum::{
    Json,
    http::{HeaderValue, Uri, header::LINK},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// Rows of a list; when there are further ones, a `Link: <…>; rel="next"` header (RFC 8288) has their address.
#[derive(Debug)]
pub struct Part<T> {
    rows: Vec<T>,
    next: Option<String>,
}

impl<T> Part<T> {
    /// The first `limit` of `rows`, which were asked for with one more. `rest` names parameters of `asked` and their values
    /// for the rows after a given one.
    pub fn new(mut rows: Vec<T>, limit: u32, asked: &Uri, rest: impl Fn(&T) -> Vec<(&'static str, String)>) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if rows.len() <= limit {
            return Self { rows, next: None };
        }
        rows.truncate(limit);
        let next = rows.last().map(|last| address_with(asked, &rest(last)));
        Self { rows, next }
    }
}

/// The address asked for, with some parameters set.
fn address_with(asked: &Uri, set: &[(&str, String)]) -> String {
    let others = asked.query().into_iter().flat_map(|query| query.split('&'));
    let is_set = |pair: &str| set.iter().any(|(name, _)| pair.split('=').next() == Some(name));
    let kept = others.filter(|pair| !pair.is_empty() && !is_set(pair)).map(str::to_owned);
    let pairs: Vec<String> = kept.chain(set.iter().map(|(name, value)| format!("{name}={value}"))).collect();
    format!("{}?{}", asked.path(), pairs.join("&"))
}

impl<T: Serialize> IntoResponse for Part<T> {
    fn into_response(self) -> Response {
        let link = self.next.and_then(|next| HeaderValue::from_str(&format!("<{next}>; rel=\"next\"")).ok());
        let mut response = Json(self.rows).into_response();
        if let Some(link) = link {
            response.headers_mut().insert(LINK, link);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_has_an_address() {
        let asked: Uri = "/api/v1/cases?open=true&before=9&limit=2".parse().expect("address");
        let part = Part::new(vec![8, 7, 6], 2, &asked, |id| vec![("before", id.to_string())]);
        assert_eq!(part.rows, [8, 7]);
        assert_eq!(part.next.as_deref(), Some("/api/v1/cases?open=true&limit=2&before=7"));
        assert_eq!(Part::new(vec![8, 7], 2, &asked, |id| vec![("before", id.to_string())]).next, None);
        let bare: Uri = "/api/v1/audit".parse().expect("address");
        let part = Part::new(vec![2, 1], 1, &bare, |id| vec![("before", id.to_string())]);
        assert_eq!(part.next.as_deref(), Some("/api/v1/audit?before=2"));
    }
}
