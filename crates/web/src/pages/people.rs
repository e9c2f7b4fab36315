//! `GET /people`: who may sign in, as what.

use axum::{
    Form,
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;
use store::{Guarded, Role, User};

use crate::{
    api::people::{PersonIn, give_first_password, make, set_disabled},
    auth::Operator,
    error::{WebError, sentence},
    format,
    layout::{Frame, Page, Section},
    password,
    state::AppState,
};

/// `GET /people`.
///
/// # Errors
/// When the caller is no operator or the store fails.
pub async fn page(
    State(state): State<AppState>,
    Operator(caller): Operator,
    headers: HeaderMap,
) -> Result<Markup, WebError> {
    let frame = Frame::load(&state, caller, &headers).await?;
    render(&state, &frame, None).await
}

async fn render(state: &AppState, frame: &Frame, problem: Option<&str>) -> Result<Markup, WebError> {
    let users = state.store.users().await?;
    let body = html! {
        div.head { div { h1 { "People" } div.sub { "Operators do everything; engineers read everything and work on cases; a consumer sees one usage point. " a href="/tokens" { "Programs and their tokens" } } } }
        @if let Some(problem) = problem { div.banner.bad role="alert" { p { (sentence(problem)) } } }
        div.cols.two {
            section.card aria-label="People" { (table(&users, &frame.caller().name)) }
            section.card { form.form method="post" action="/people" {
                h2 { "Add a person" }
                div.field { label for="name" { "Name" } input #name name="name" maxlength="64" autocomplete="off" required; }
                div.field { label for="role" { "Role" } select #role name="role" { @for role in [Role::Engineer, Role::Operator, Role::Consumer] { option { (role.word()) } } } }
                div.field { label for="point" { "Usage point, of a consumer only" } input #point name="usage_point" maxlength="32"; }
                div.field { label for="password" { "First password, at least " (password::CHARACTERS_MIN) " characters" } input #password name="password" type="password" autocomplete="new-password" minlength=(password::CHARACTERS_MIN) required; }
                button.primary { "Add" }
            } }
        }
    };
    Ok(frame.page(Page { title: "People", section: Section::People, topics: "cases", charts: false, body }))
}

fn table(users: &[User], own_name: &str) -> Markup {
    html! { div.scroll tabindex="0" role="group" aria-label="People" { table.cards {
        thead { tr { th scope="col" { "Name" } th scope="col" { "Role" } th scope="col" { "Usage point" } th scope="col" { "Since" } th scope="col" { "State" } th scope="col" { span.visually-hidden { "Change" } } } }
        tbody data-rows { @for user in users { tr {
            th scope="row" { (user.name) }
            td data-label="Role" { (user.role.word()) }
            td data-label="Usage point" { @match user.usage_point { Some(point) => { (point) }, None => { span.none { "–" } } } }
            td data-label="Since" { (format::date(user.created_at)) }
            td data-label="State" { @if user.disabled { span.badge.bad { "barred" } } @else { span.badge.good { "may sign in" } } }
            td { @if user.name != own_name { form method="post" action={ "/people/" (crate::layout::query_text(&user.name)) } {
                button.plain name="disabled" value=(!user.disabled) { @if user.disabled { "let in again" } @else { "bar" } " " span.visually-hidden { (user.name) } }
            } (first_password(user)) } @else { a href="/password" { "change password" } } }
        } } }
    } } }
}

/// The form that gives somebody a first password again.
fn first_password(user: &User) -> Markup {
    html! { details { summary { "new first password" " " span.visually-hidden { "for " (user.name) } }
        form.form method="post" action={ "/people/" (crate::layout::query_text(&user.name)) "/password" } {
            div.field {
                label for={ "password-" (user.id) } { "First password for " (user.name) }
                input id={ "password-" (user.id) } name="password" type="password" autocomplete="new-password" minlength=(password::CHARACTERS_MIN) required;
                span.hint { "Ends all of their sessions; they choose their own at the next one." }
            }
            button { "Set" }
        }
    } }
}

/// Body of the form that gives a first password again.
#[derive(Deserialize)]
pub struct FirstPasswordForm {
    password: String,
}

/// `POST /people/{name}/password`.
///
/// # Errors
/// When the caller is no operator, there is no such person, or it is the caller; what is not usable is said on the page.
pub async fn reset_password(
    State(state): State<AppState>,
    Operator(caller): Operator,
    headers: HeaderMap,
    Path(name): Path<String>,
    Form(form): Form<FirstPasswordForm>,
) -> Result<Response, WebError> {
    match give_first_password(&state, &name, form.password, &caller.name).await {
        Ok(done) => Ok(back(&done).into_response()),
        Err(WebError::Invalid(why)) => {
            let frame = Frame::load(&state, caller, &headers).await?;
            let page = render(&state, &frame, Some(&why)).await?;
            Ok((axum::http::StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
        Err(error) => Err(error),
    }
}

/// `POST /people`.
///
/// # Errors
/// When the caller is no operator or the store fails; what is not usable is said on the page.
pub async fn create(
    State(state): State<AppState>,
    Operator(caller): Operator,
    headers: HeaderMap,
    Form(person): Form<PersonIn>,
) -> Result<Response, WebError> {
    match make(&state, person, &caller.name).await {
        Ok(done) => Ok(back(&done).into_response()),
        Err(WebError::Invalid(why)) => {
            let frame = Frame::load(&state, caller, &headers).await?;
            let page = render(&state, &frame, Some(&why)).await?;
            Ok((axum::http::StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
        Err(error) => Err(error),
    }
}

/// Body of the bar button.
#[derive(Debug, Deserialize)]
pub struct BarForm {
    disabled: bool,
}

/// `POST /people/{name}`.
///
/// # Errors
/// When the caller is no operator, there is no such person, or it is the caller.
pub async fn bar(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Path(name): Path<String>,
    Form(form): Form<BarForm>,
) -> Result<Redirect, WebError> {
    Ok(back(&set_disabled(&state, &name, form.disabled, &caller.name).await?))
}

/// Where the result is seen: among the people, or among what waits for another operator.
fn back(done: &Guarded) -> Redirect {
    match done {
        Guarded::Done => Redirect::to("/people"),
        Guarded::Waits(_) => Redirect::to("/policy"),
    }
}
