//! `GET /api/openapi.json`: the description of every resource, made from the handlers.

use axum::Json;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use super::{cases, controls, master, meters, pending, people, policy, suspects, system, tokens, zones};

#[derive(OpenApi)]
#[openapi(
    info(title = "Gridtally", description = "Energies in Wh, times in seconds since 1970 UTC. Send an API token as `Authorization: Bearer …`, or use the session of the console. Errors are problem documents (RFC 9457).", license(name = "Apache-2.0 OR MIT")),
    paths(
        zones::list, zones::balances,
        meters::list, meters::enrol, meters::withdraw, meters::one, meters::profile, meters::events, meters::my, meters::my_profile, meters::my_events,
        cases::list, cases::one, cases::act,
        suspects::list, suspects::findings, suspects::decide,
        controls::list, controls::request, controls::one, controls::approve,
        master::read, master::import,
        people::list, people::create, people::disable, people::reset_password, people::contract, people::change_own_password,
        tokens::list, tokens::create, tokens::revoke,
        policy::read, policy::write, policy::abort,
        pending::list, pending::confirm, pending::withdraw,
        system::health, system::metrics, system::clock, system::audit,
    ),
    modifiers(&Security),
    security(("token" = []))
)]
struct Description;

struct Security;

impl Modify for Security {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        openapi.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

/// The description.
pub fn description() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// `GET /api/openapi.json`. Public: it says what exists, not what it holds.
pub async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(description())
}
