//! All routes, and what lies around them. To add a page: a file in `pages`, a line here, a case in the tests
//! (`docs/howto/add-a-page.md`).

use std::time::Duration;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::StatusCode,
    middleware,
    routing::{MethodRouter, delete, get, post, put},
};
use tower_http::timeout::TimeoutLayer;

use crate::{
    api::{
        cases as api_cases, controls as api_controls, master, meters as api_meters, openapi, pending,
        people as api_people, policy as api_policy, suspects as api_suspects, system, tokens as api_tokens, zones,
    },
    assets, compress,
    error::{self, WebError},
    live,
    pages::{
        audit, case, case_files, cases, controls, enrolment, find, findings, meter, meters, overview, own_meter,
        own_password, people, policy, quality, suspects, tokens, zone,
    },
    security, sign_in,
    state::AppState,
};

/// Largest body unless a route says otherwise, bytes.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Longest time for an answer; a stream of live values and a step of the simulated clock may take longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

type Routes = Vec<(&'static str, MethodRouter<AppState>)>;

/// The pages.
pub fn pages() -> Routes {
    vec![
        ("/", get(overview::page)),
        ("/zones/{id}", get(zone::page)),
        ("/zones/{id}/balances.csv", get(zone::csv)),
        ("/meters", get(meters::page)),
        ("/meters/{id}", get(meter::page)),
        ("/meters/{id}/quality", get(quality::page)),
        ("/meters/{id}/profile.csv", get(meter::csv)),
        ("/meters/{id}/control", get(controls::form).post(controls::send)),
        ("/meters/{id}/baseline", post(meter::accept_baseline)),
        ("/suspects", get(suspects::page)),
        ("/suspects/settings", post(suspects::settings)),
        ("/findings", get(findings::page)),
        ("/findings/{id}", post(findings::decide)),
        ("/cases", get(cases::page)),
        ("/cases.csv", get(cases::csv)),
        ("/cases/{id}", get(case::page).post(case::act)),
        ("/cases/{id}/files", post(case_files::attach).layer(case_files::body_limit())),
        ("/cases/{id}/files/{file}", get(case_files::download)),
        ("/cases/{id}/evidence.json", get(case_files::json)),
        ("/cases/{id}/evidence.pdf", get(case_files::pdf)),
        ("/controls", get(controls::page)),
        ("/controls/{id}", get(controls::detail)),
        ("/controls/{id}/approve", post(controls::approve)),
        ("/enrolment", get(enrolment::page)),
        ("/enrolment/topology", post(enrolment::import).layer(enrolment::body_limit())),
        ("/enrolment/meters", post(enrolment::enrol)),
        ("/enrolment/withdraw", post(enrolment::withdraw)),
        ("/policy", get(policy::page).post(policy::save)),
        ("/policy/abort", post(policy::abort)),
        ("/policy/pending/{id}", post(policy::pending)),
        ("/policy/never-disconnect", post(policy::never_disconnect)),
        ("/people", get(people::page).post(people::create)),
        ("/people/{name}", post(people::bar)),
        ("/people/{name}/password", post(people::reset_password)),
        ("/tokens", get(tokens::page).post(tokens::create)),
        ("/tokens/{name}", post(tokens::revoke)),
        ("/password", get(own_password::page).post(own_password::change)),
        ("/audit", get(audit::page)),
        ("/find", get(find::page)),
        ("/my", get(own_meter::page)),
        ("/my/profile.csv", get(own_meter::csv)),
        ("/sign-in", get(sign_in::page).post(sign_in::sign_in)),
        ("/sign-out", post(sign_in::sign_out)),
        ("/setup", get(sign_in::set_up_page).post(sign_in::set_up)),
        ("/assets/{hash}/{name}", get(assets::serve)),
    ]
}

/// The resources for programs; all of them are in the OpenAPI description.
pub fn api() -> Routes {
    vec![
        ("/api/v1/zones", get(zones::list)),
        ("/api/v1/zones/{id}/balances", get(zones::balances)),
        ("/api/v1/meters", get(api_meters::list).post(api_meters::enrol)),
        ("/api/v1/meters/{id}", get(api_meters::one)),
        ("/api/v1/meters/{id}/secret", delete(api_meters::withdraw)),
        ("/api/v1/meters/{id}/profile", get(api_meters::profile)),
        ("/api/v1/meters/{id}/events", get(api_meters::events)),
        ("/api/v1/my", get(api_meters::my)),
        ("/api/v1/my/profile", get(api_meters::my_profile)),
        ("/api/v1/my/events", get(api_meters::my_events)),
        ("/api/v1/cases", get(api_cases::list)),
        ("/api/v1/cases/{id}", get(api_cases::one)),
        ("/api/v1/cases/{id}/actions", post(api_cases::act)),
        ("/api/v1/suspects", get(api_suspects::list)),
        ("/api/v1/findings", get(api_suspects::findings)),
        ("/api/v1/findings/{id}", put(api_suspects::decide)),
        ("/api/v1/controls", get(api_controls::list).post(api_controls::request)),
        ("/api/v1/controls/{id}", get(api_controls::one)),
        ("/api/v1/controls/{id}/approve", post(api_controls::approve)),
        (
            "/api/v1/topology",
            get(master::read).post(master::import).layer(DefaultBodyLimit::max(enrolment::TOPOLOGY_BYTES_MAX)),
        ),
        ("/api/v1/people", get(api_people::list).post(api_people::create)),
        ("/api/v1/people/{name}/disabled", put(api_people::disable)),
        ("/api/v1/people/{name}/password", put(api_people::reset_password)),
        ("/api/v1/people/{name}/contract", put(api_people::contract)),
        ("/api/v1/my/password", put(api_people::change_own_password)),
        ("/api/v1/tokens", get(api_tokens::list).post(api_tokens::create)),
        ("/api/v1/tokens/{name}", delete(api_tokens::revoke)),
        ("/api/v1/policy", get(api_policy::read).put(api_policy::write)),
        ("/api/v1/abort-switch", put(api_policy::abort)),
        ("/api/v1/pending", get(pending::list)),
        ("/api/v1/pending/{id}/confirm", post(pending::confirm)),
        ("/api/v1/pending/{id}/withdraw", post(pending::withdraw)),
        ("/api/v1/audit", get(system::audit)),
        ("/health", get(system::health)),
        ("/metrics", get(system::metrics)),
    ]
}

/// The router with everything around it: errors rendered, headers set, foreign requests refused, unknown addresses answered.
pub fn router(state: AppState, beside: Router) -> Router {
    let mut quick = Router::new().route("/api/openapi.json", get(openapi::serve));
    for (path, methods) in pages().into_iter().chain(api()) {
        quick = quick.route(path, methods);
    }
    let quick = quick.layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, ANSWER_TIMEOUT));
    let slow = Router::new().route("/live", get(live::stream)).route("/api/v1/clock", put(system::clock));
    quick
        .merge(slow)
        .fallback(async || WebError::NotFound)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(state.clone(), security::note_refusals))
        .layer(middleware::from_fn(security::refuse_foreign))
        .layer(middleware::from_fn_with_state(state.clone(), security::refuse_other_hosts))
        .layer(middleware::from_fn(compress::gzip))
        .layer(middleware::from_fn(error::render))
        .with_state(state.clone())
        // Their own words for what went wrong, but the headers of every answer.
        .merge(beside)
        .layer(middleware::from_fn_with_state(state, security::set_headers))
}
