//! What every handler can reach: the store, the clock, the pipeline's status.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metering::{MeterId, Timestamp};
use serde::Serialize;
use store::{Enrolment, Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{access_log::AccessLog, attempts::Attempts, live::Hub, password::Checks, supply::NominalVoltage};

/// The clock: the real one or a simulation's.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Takes a meter and its new secret.
pub type LetIn = Arc<dyn Fn(MeterId, &[u8; 32]) + Send + Sync>;

/// Where the pipeline stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PipelineStatus {
    /// The server's time, seconds since 1970 UTC.
    #[schema(value_type = i64)]
    pub now: Timestamp,
    /// Everything up to here has been balanced; `null` before the first slot.
    #[schema(value_type = Option<i64>)]
    pub processed_through: Option<Timestamp>,
    /// Whether nothing is left to do at this time.
    pub idle: bool,
    /// A simulated clock must not go past this time without asking again.
    #[schema(value_type = Option<i64>)]
    pub wake_at: Option<Timestamp>,
    /// Connected meters.
    pub meters_connected: usize,
    /// Whether the server's time agrees with that of the readings.
    pub clock: ClockState,
    /// How far readings reach; `null` before the first.
    #[schema(value_type = Option<i64>)]
    pub readings_reach: Option<Timestamp>,
}

/// Whether the server's time agrees with that of the readings. Slots are not balanced beyond either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClockState {
    /// They agree, or nothing was read yet.
    #[default]
    Agrees,
    /// The clock is hours ahead of all readings: it is wrong, or no meter reports.
    AheadOfReadings,
    /// The clock is behind the readings: it is wrong.
    BehindReadings,
}

/// A step of a simulated clock.
#[derive(Debug)]
pub struct Advance {
    /// The new time.
    pub to: Timestamp,
    /// Receives the status after the step.
    pub done: oneshot::Sender<PipelineStatus>,
}

/// What the program that serves the pages decides.
pub struct WebConfig {
    /// The address people open, e.g. `https://gridtally.example`; `https` makes cookies secure and sends HSTS.
    pub base_url: String,
    /// Names in `Host` that are served, lower case, without a port.
    pub hosts: Vec<String>,
    /// The clock.
    pub now: Now,
    /// Where the pipeline stands; streams end when its sender is gone.
    pub status: watch::Receiver<PipelineStatus>,
    /// Takes steps of a simulated clock; `None` when the clock is real.
    pub advance: Option<mpsc::Sender<Advance>>,
    /// The declared voltages of the network.
    pub nominal_voltage: NominalVoltage,
    /// Further lines for `/metrics`, in Prometheus' text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Public half of the key that signs controls (Ed25519); meters are told it when they are enrolled.
    pub verifying_key: [u8; 32],
    /// Where plain MQTT is taken, to be told to who enrols meters; `None` when it is not.
    pub mqtt: Option<SocketAddr>,
    /// Told a meter's new secret before anybody is shown it, so that the meter may connect at once.
    pub enrolled: LetIn,
}

impl WebConfig {
    /// Whether requests for this host (with or without a port) are served.
    pub(crate) fn serves(&self, host: &str) -> bool {
        let name = match host.rfind(']') {
            Some(end) => &host[..=end],
            None => host.split(':').next().unwrap_or_default(),
        };
        self.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

impl fmt::Debug for WebConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebConfig").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// Shared by all handlers; cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// The databases.
    pub store: Store,
    /// What the program decided.
    pub config: Arc<WebConfig>,
    /// Live values.
    pub(crate) hub: Arc<Hub>,
    /// Room for password checks: each takes 19 MiB.
    pub(crate) password_checks: Arc<Checks>,
    /// Tries to sign in.
    attempts: Arc<Mutex<Attempts>>,
    /// Who was written down lately.
    pub(crate) access_log: Arc<AccessLog>,
}

impl AppState {
    /// Makes the state; live values flow as soon as [`crate::router`] was called within a tokio runtime.
    pub fn new(store: Store, config: WebConfig) -> Self {
        Self {
            store,
            config: Arc::new(config),
            hub: Arc::new(Hub::default()),
            password_checks: Arc::default(),
            attempts: Arc::default(),
            access_log: Arc::default(),
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        (self.config.now)()
    }

    /// Tries to sign in; held for moments only.
    pub(crate) fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives meters new secrets and lets them in.
    pub(crate) async fn enrol(&self, meters: &[MeterId], by: &str) -> Result<Vec<Enrolment>, StoreError> {
        let enrolments = self.store.enrol(meters, by, self.now()).await?;
        for enrolment in &enrolments {
            (self.config.enrolled)(enrolment.meter, &enrolment.secret);
        }
        Ok(enrolments)
    }

    /// Where the pipeline stands, at this time.
    pub fn status(&self) -> PipelineStatus {
        let status = *self.config.status.borrow();
        PipelineStatus { now: self.now(), ..status }
    }

    /// Whether people come by TLS.
    pub fn is_https(&self) -> bool {
        self.config.base_url.starts_with("https://")
    }
}

impl fmt::Debug for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppState").field("config", &self.config).finish_non_exhaustive()
    }
}
