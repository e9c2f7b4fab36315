//! Files of a case: attached photos and reports, and the evidence to hand over as JSON and PDF.

use axum::{
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use store::{ATTACHMENT_BYTES_MAX, Attachment, NewAttachment};

use crate::{auth::Staff, bundle, error::WebError, format, layout, multipart, state::AppState};

/// Room for the form around a file, bytes.
const FORM_BYTES: usize = 16 * 1024;

/// Limit of the body of an upload.
pub fn body_limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(ATTACHMENT_BYTES_MAX + FORM_BYTES)
}

/// The files of a case, and the form to add one.
pub fn card(case: u64, files: &[Attachment]) -> Markup {
    html! {
        section.card aria-labelledby="files" {
            header { h2 #files { "Files" } span.small.dim { (files.len()) } }
            @if files.is_empty() { p.dim { "Photos and reports of the visit: JPEG, PNG, PDF or text, up to 5 MB." } }
            @else { ul.inbox { @for file in files { li { a href={ "/cases/" (case) "/files/" (file.id) } {
                span.row { span.what { (file.name) } span.small.dim { (size(file.bytes)) } }
                span.row.small.dim { span { (file.by) " · " (layout::time(file.at, &format::date_minute(file.at))) } span.mono { (file.sha256.get(..8).unwrap_or_default()) } }
            } } } } }
            form.form method="post" action={ "/cases/" (case) "/files" } enctype="multipart/form-data" {
                div.field { label for="file" { "Attach a file" } input #file type="file" name="file" accept=".jpg,.jpeg,.png,.pdf,.txt" required; }
                button { "Attach" }
            }
        }
    }
}

fn size(bytes: u64) -> String {
    if bytes < 10_240 { format!("{} B", format::count(bytes)) } else { format!("{} kB", format::count(bytes / 1_024)) }
}

/// `POST /cases/{id}/files`.
///
/// # Errors
/// When the caller is not staff, there is no such case, or the file is not taken.
pub async fn attach(
    State(state): State<AppState>,
    Staff(caller): Staff,
    Path(id): Path<u64>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Redirect, WebError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let file = multipart::file(kind, &body, "file").map_err(|why| WebError::Invalid(why.to_owned()))?;
    let new = NewAttachment { name: file.name, body: file.body };
    state.store.attach(id, new, &caller.name, state.now()).await?;
    Ok(Redirect::to(&format!("/cases/{id}")))
}

/// `GET /cases/{id}/files/{file}`: always a download, never shown within the console.
///
/// # Errors
/// When the caller is not staff or there is no such file.
pub async fn download(
    State(state): State<AppState>,
    Staff(caller): Staff,
    Path((id, file)): Path<(u64, u64)>,
) -> Result<Response, WebError> {
    state.note_read(&caller, "attachment.read", &format!("case:{id}")).await;
    let found = state.store.attachment(id, file).await?.ok_or(WebError::NotFound)?;
    Ok(as_download(&found.attachment.content_type, &found.attachment.name, found.body))
}

/// `GET /cases/{id}/evidence.json`.
///
/// # Errors
/// When the caller is not staff or there is no such case.
pub async fn json(
    State(state): State<AppState>,
    Staff(caller): Staff,
    Path(id): Path<u64>,
) -> Result<Response, WebError> {
    state.note_read(&caller, "evidence.read", &format!("case:{id}")).await;
    let made = bundle::gather(&state.store, id).await?.ok_or(WebError::NotFound)?;
    Ok(as_download("application/json", &format!("case-{id}-evidence.json"), made.json))
}

/// `GET /cases/{id}/evidence.pdf`.
///
/// # Errors
/// When the caller is not staff or there is no such case.
pub async fn pdf(
    State(state): State<AppState>,
    Staff(caller): Staff,
    Path(id): Path<u64>,
) -> Result<Response, WebError> {
    state.note_read(&caller, "evidence.read", &format!("case:{id}")).await;
    let made = bundle::gather(&state.store, id).await?.ok_or(WebError::NotFound)?;
    Ok(as_download("application/pdf", &format!("case-{id}-evidence.pdf"), bundle::pdf(&made)))
}

/// A download; the name in ASCII for old readers and in UTF-8 for others (RFC 6266).
fn as_download(content_type: &str, name: &str, body: Vec<u8>) -> Response {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._- ".contains(c) { c } else { '_' }).collect();
    let disposition = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", layout::query_text(name));
    ([(header::CONTENT_TYPE, content_type.to_owned()), (header::CONTENT_DISPOSITION, disposition)], body)
        .into_response()
}
