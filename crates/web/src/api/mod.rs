//! REST under `/api/v1`: the same data as the pages under the same permissions, described at `/api/openapi.json`. One file a noun.

pub mod cases;
pub mod controls;
pub mod master;
pub mod meters;
pub mod openapi;
pub mod part;
pub mod pending;
pub mod people;
pub mod policy;
pub mod suspects;
pub mod system;
pub mod tokens;
pub mod zones;

use axum::{
    Json,
    extract::{FromRequest, Request, rejection::JsonRejection},
};
use serde::de::DeserializeOwned;

use crate::{error::WebError, state::AppState};

/// A JSON body; what does not parse is answered with where and why.
#[derive(Clone, Copy, Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<AppState> for Body<T> {
    type Rejection = WebError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, WebError> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(JsonRejection::MissingJsonContentType(_)) => {
                Err(WebError::Invalid("send JSON with `content-type: application/json`".to_owned()))
            }
            Err(rejection) => Err(WebError::Invalid(rejection.body_text())),
        }
    }
}
