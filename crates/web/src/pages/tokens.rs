//! `GET /tokens`: which programs may call the server, and when they last did.

use axum::{
    Form,
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use metering::Timestamp;
use serde::Deserialize;
use store::{Guarded, Token};

use crate::{
    api::tokens::{TokenIn, make},
    auth::Operator,
    error::{WebError, sentence},
    format,
    layout::{Frame, Page, Section},
    state::AppState,
};

/// `GET /tokens`.
///
/// # Errors
/// When the caller is no operator or the store fails.
pub async fn page(
    State(state): State<AppState>,
    Operator(caller): Operator,
    headers: HeaderMap,
) -> Result<Markup, WebError> {
    let frame = Frame::load(&state, caller, &headers).await?;
    render(&state, &frame, html! {}).await
}

async fn render(state: &AppState, frame: &Frame, result: Markup) -> Result<Markup, WebError> {
    let tokens = state.store.api_tokens(state.now()).await?;
    let body = html! {
        div.head { div { h1 { "Programs" } div.sub { "Each program has a token of its own, so that one can be taken back without the others. " a href="/people" { "People" } } } }
        (result)
        div.cols.two {
            section.card { (table(&tokens)) }
            section.card { form.form method="post" action="/tokens" {
                h2 { "Make a token" }
                div.field { label for="name" { "Name of the program" } input #name name="name" maxlength="64" autocomplete="off" required; span.hint { "The token of a program with the same name is replaced." } }
                div.field { label for="role" { "What it may do" } select #role name="role" { option value="engineer" { "read, and work on cases" } option value="operator" { "everything" } } }
                div.field { label for="days" { "Days until it ends; empty: it does not" } input #days name="days" type="number" min="1" max="3650" value="365"; }
                button.primary { "Make" }
            } }
        }
    };
    Ok(frame.page(Page { title: "Programs", section: Section::People, topics: "cases", charts: false, body }))
}

fn date(at: Option<Timestamp>, none: &str) -> String {
    at.map_or_else(|| none.to_owned(), format::date_minute)
}

fn table(tokens: &[Token]) -> Markup {
    html! { div.scroll tabindex="0" role="group" aria-label="Programs" { table {
        thead { tr { th scope="col" { "Program" } th scope="col" { "Role" } th scope="col" { "Made" } th scope="col" { "Last used" } th scope="col" { "Ends" } th scope="col" { span.visually-hidden { "Change" } } } }
        tbody data-rows { @for token in tokens { tr {
            th scope="row" { (token.name) }
            td data-label="Role" { (token.role.word()) }
            td data-label="Made" { (date(Some(token.created_at), "–")) }
            td data-label="Last used" { (date(token.last_used, "never")) }
            td data-label="Ends" { (date(token.expires, "does not")) }
            td { form method="post" action={ "/tokens/" (crate::layout::query_text(&token.name)) } {
                button.plain { "revoke" " " span.visually-hidden { (token.name) } }
            } }
        } } }
    } } }
}

/// Body of the form.
#[derive(Debug, Deserialize)]
pub struct TokenForm {
    name: String,
    role: String,
    days: String,
}

/// `POST /tokens`: the token is in this answer and nowhere else.
///
/// # Errors
/// When the caller is no operator or the store fails; what is not usable is said on the page.
pub async fn create(
    State(state): State<AppState>,
    Operator(caller): Operator,
    headers: HeaderMap,
    Form(form): Form<TokenForm>,
) -> Result<Response, WebError> {
    let days = match form.days.trim() {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| WebError::Invalid(format!("{} is no number of days", text.escape_debug()))),
    };
    let made = match days {
        Ok(days) => make(&state, TokenIn { name: form.name.clone(), role: form.role, days }, &caller.name).await,
        Err(error) => Err(error),
    };
    let result = match made {
        Ok((token, done)) => html! { div.banner.good role="status" {
            p { strong { "The token of " (form.name) ", shown this once:" } }
            p { code { (token) } }
            @if let Guarded::Waits(_) = done { p { "It opens nothing until another operator has confirmed it on " a href="/policy" { "the policy page" } "." } }
            p.dim { "Send it as " code { "Authorization: Bearer …" } "; keep it in a file that only the program can read." }
        } },
        Err(WebError::Invalid(why) | WebError::Conflict(why)) => {
            html! { div.banner.bad role="alert" { p { (sentence(&why)) } } }
        }
        Err(error) => return Err(error),
    };
    let frame = Frame::load(&state, caller, &headers).await?;
    Ok(render(&state, &frame, result).await?.into_response())
}

/// `POST /tokens/{name}`: takes it back.
///
/// # Errors
/// When the caller is no operator or there is no such token.
pub async fn revoke(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Path(name): Path<String>,
) -> Result<Redirect, WebError> {
    state.store.revoke_api_token(&name, &caller.name, state.now()).await?;
    Ok(Redirect::to("/tokens"))
}
