//! The console of the utility, the consumer's pages, REST with OpenAPI, and live streams: rendered on the server (maud, htmx,
//! uPlot, server-sent events), everything embedded, no request to anybody else, a strict content security policy.
//!
//! `routes.rs` lists every address; `pages` and `api` hold one file a use case; what a caller may do stands in the arguments of the
//! handlers (`auth.rs`). All pages work without scripts for reading and for commands; scripts move the values and draw the charts.
//!
//! It is not: a head-end (it never speaks to meters: it writes controls into the store), or a place for decisions (the cores and the
//! store's rules decide). It binds no socket: the program does.

mod access_log;
mod account;
pub mod api;
pub mod assets;
mod attempts;
pub mod auth;
pub mod bundle;
mod compress;
mod csv;
mod drawing;
mod error;
pub mod format;
mod layout;
mod live;
mod multipart;
pub mod pages;
pub mod password;
pub mod programme;
pub mod ranking;
pub mod routes;
mod security;
mod sign_in;
mod state;
pub mod supply;
mod totals;

pub use auth::CommandLine;
pub use error::{Problem, WebError};
pub use security::CONTENT_SECURITY_POLICY;
pub use state::{Advance, AppState, ClockState, LetIn, Now, PipelineStatus, WebConfig};

/// The router; must be called within a tokio runtime, because the task that makes live values is started here. It ends when the
/// sender of [`WebConfig::status`] is gone and the last stream has ended. `beside` are routes of others (the readings of meters):
/// they get the headers of every answer, and what nobody has an address for is answered here.
pub fn router(state: AppState, beside: axum::Router) -> axum::Router {
    tokio::spawn(live::run(state.clone()));
    routes::router(state, beside)
}
