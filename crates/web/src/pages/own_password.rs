//! `GET /password`: one's own password. The only page for somebody who still has the one that an operator chose.

use axum::{
    Form,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use maud::{Markup, html};
use serde::Deserialize;

use crate::{
    api::people::{OwnPasswordIn, change_own},
    auth::{AnySignedIn, Caller},
    error::{WebError, sentence},
    layout, password,
    sign_in::{Peer, address_of, begin_session},
    state::AppState,
};

/// `GET /password`.
///
/// # Errors
/// When nobody is signed in.
pub async fn page(AnySignedIn(caller): AnySignedIn) -> Result<Markup, WebError> {
    Ok(form(&caller, None))
}

/// Body of the form.
#[derive(Deserialize)]
pub struct PasswordForm {
    old: String,
    new: String,
    again: String,
}

/// `POST /password`: changes it; every other session of the person ends.
///
/// # Errors
/// When nobody is signed in or the store fails; what is not usable is said on the page.
pub async fn change(
    State(state): State<AppState>,
    AnySignedIn(caller): AnySignedIn,
    peer: Peer,
    Form(form_in): Form<PasswordForm>,
) -> Result<Response, WebError> {
    let changed = if form_in.new == form_in.again {
        let passwords = OwnPasswordIn { old: form_in.old, new: form_in.new };
        change_own(&state, &caller, address_of(&peer), passwords).await
    } else {
        Err(WebError::Invalid("the new password was written in two ways".to_owned()))
    };
    match changed {
        Ok(()) => begin_session(&state, &caller.name, "/").await,
        Err(WebError::Invalid(why)) => {
            Ok((StatusCode::UNPROCESSABLE_ENTITY, form(&caller, Some(&why))).into_response())
        }
        Err(error) => Err(error),
    }
}

fn form(caller: &Caller, problem: Option<&str>) -> Markup {
    layout::bare(
        "Password",
        html! {
            div.gate { section.card.stack {
                h1 { "Your password" }
                @if caller.first_password {
                    p { "The password you signed in with was chosen by somebody else. Choose one that only you know." }
                }
                @if let Some(problem) = problem { div.banner.bad role="alert" { p { (sentence(problem)) } } }
                form.form method="post" action="/password" {
                    input type="hidden" name="username" value=(caller.name) autocomplete="username";
                    div.field { label for="old" { "Password as it is" } input #old name="old" type="password" autocomplete="current-password" required autofocus; }
                    div.field {
                        label for="new" { "New password" }
                        input #new name="new" type="password" autocomplete="new-password" minlength=(password::CHARACTERS_MIN) aria-describedby="hint" required;
                        span.hint #hint { "At least " (password::CHARACTERS_MIN) " characters; four words are good." }
                    }
                    div.field { label for="again" { "New password, again" } input #again name="again" type="password" autocomplete="new-password" minlength=(password::CHARACTERS_MIN) required; }
                    button.primary { "Change" }
                }
                @if !caller.first_password { p { a href="/" { "To the start page" } } }
            } }
        },
    )
}
