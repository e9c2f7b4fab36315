//! The product wired together: store, head-end, pipeline and pages on one data directory. `serve` and `demo` start the same thing.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use headend::{Credentials, Gateway, Headend, HeadendConfig, Networks, TlsListen};
use metering::{MeterId, Timestamp};
use store::{Change, Store, StoreError};
use tokio::{
    net::TcpListener,
    sync::{
        broadcast::{self, error::RecvError},
        mpsc, watch,
    },
    task::{JoinHandle, JoinSet},
};
use web::{Advance, AppState, PipelineStatus, WebConfig};

use crate::{
    audit_head, certificate_watch,
    clock::Clock,
    commands::CommandError,
    config::Config,
    data_directory::DataDirectory,
    doors::Doors,
    encodings,
    file_budget::FileBudget,
    local_door,
    pipeline::{self, Pipeline, detection::StageCounters, ingest::IngestCounters},
    public_address::PublicAddress,
    text_inbox,
};

/// Batches that may wait for the committer; then sockets are not read.
const BATCHES_WAITING_MAX: usize = 4_096;
/// How long a part may take to end by itself.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// What to start.
pub struct ServerOptions {
    /// The data directory; made when it is not there.
    pub data: std::path::PathBuf,
    /// Settings.
    pub config: Config,
    /// Time from a simulator; only on a directory made for simulation.
    pub simulated_clock: bool,
    /// When the wanted port is busy, take a free one instead of failing.
    pub any_port: bool,
}

/// A running server.
pub struct Server {
    /// Pages and REST.
    pub http: SocketAddr,
    /// The same as a browser opens it.
    pub url: String,
    /// Readings by plain HTTP, when they have an address of their own.
    pub readings: Option<SocketAddr>,
    /// Plain MQTT.
    pub mqtt: SocketAddr,
    /// MQTT over TLS.
    pub mqtts: Option<SocketAddr>,
    /// The databases.
    pub store: Store,
    /// The clock.
    pub clock: Clock,
    /// Public half of the key that signs controls.
    pub verifying_key: [u8; 32],
    status: watch::Receiver<PipelineStatus>,
    stop: watch::Sender<bool>,
    /// End by themselves when told to stop, with the name of each.
    tasks: Vec<(&'static str, JoinHandle<()>)>,
    /// Ends when nobody can hand it anything any more.
    ingest: JoinHandle<()>,
    headend: Arc<Headend>,
    _directory: DataDirectory,
}

impl Server {
    /// Starts everything; returns when all listeners accept.
    pub async fn start(options: ServerOptions) -> Result<Self, CommandError> {
        let texts = &options.config.texts;
        let inbox = texts.inbox.as_deref().map(text_inbox::open).transpose()?;
        // Before anything is opened: what must not be listened on is refused while nothing has happened.
        PublicAddress::of(&options.config.http, options.config.http.listen)?;
        let directory = DataDirectory::open(&options.data, options.simulated_clock).await?;
        let store = directory.store.clone();
        store.set_connection_power(options.config.readings.connection_watts.get().into()).await?;
        let clock = match options.simulated_clock {
            true => Clock::simulated(resumed_at(&store).await?),
            false => Clock::Real,
        };
        // Followed before they are read, so that none falls between.
        let enrolments = store.subscribe();
        let credentials = Arc::new(Credentials::new());
        let _none_connected_yet = credentials.replace_all(store.credentials().await?);
        credentials.replace_text_keys(store.text_keys().await?);
        credentials.replace_gateways(gateways(&options.config));

        let budget = FileBudget::claim(options.config.http.connections_max.get());
        let (batches, to_commit) = mpsc::channel(BATCHES_WAITING_MAX);
        let mut headend_config = headend_config(&options.config, budget)?;
        if options.any_port {
            headend_config.mqtt = Some(free_port(options.config.mqtt.listen).await);
        }
        let headend = Arc::new(headend::start(headend_config, credentials.clone(), clock.reader(), batches).await?);
        encodings::recall(&options.data, &headend)?;
        let mqtt = headend.mqtt_addr().ok_or("the MQTT listener has no address")?;
        let doors = Doors::open(&options.config.http, options.any_port, budget).await?;
        let (http, public) = (doors.http, doors.public.clone());

        store.set_ceilings(options.config.ceilings);
        let counters = Arc::new(IngestCounters::default());
        let stages = Arc::new(StageCounters::default());
        let (stop, stopped) = watch::channel(false);
        let (advance, advances) = mpsc::channel::<Advance>(16);
        let (status_sender, status) = watch::channel(PipelineStatus::default());
        let pipeline = Pipeline::open(pipeline::Parts {
            store: store.clone(),
            headend: headend.clone(),
            clock: clock.clone(),
            key: directory.key.clone(),
            settings: options.config.pipeline.clone(),
            status: status_sender,
            counters: counters.clone(),
            stages: stages.clone(),
        })
        .await?;

        let verifying_key = directory.key.verifying_key().to_bytes();
        let state = AppState::new(
            store.clone(),
            WebConfig {
                base_url: public.url.clone(),
                hosts: public.hosts,
                now: clock.reader(),
                status: status.clone(),
                advance: options.simulated_clock.then_some(advance),
                nominal_voltage: options.config.supply.nominal(),
                metrics: metrics(headend.clone(), counters.clone(), stages, store.clone()),
                verifying_key,
                mqtt: Some(mqtt),
                enrolled: replace_secret(credentials.clone(), headend.clone()),
            },
        );
        let readings = headend::readings_router(&headend);
        let certificates = doors.certificates.iter().chain(headend.certificates()).cloned().collect();

        let mut tasks = vec![("certificates", tokio::spawn(certificate_watch::run(certificates, stopped.clone())))];
        let ingest = tokio::spawn(pipeline::ingest::run(store.clone(), to_commit, counters));
        let follow = follow_enrolments(enrolments, store.clone(), credentials, headend.clone(), stopped.clone());
        tasks.push(("enrolments", tokio::spawn(follow)));
        tasks.push(("pipeline", tokio::spawn(pipeline.run(advances, stopped.clone()))));
        let signing =
            audit_head::run(options.data.clone(), store.clone(), directory.key.clone(), clock.clone(), stopped.clone());
        tasks.push(("head of the audit", tokio::spawn(signing)));
        if let Some(inbox) = inbox {
            let every = Duration::from_secs(u64::from(texts.poll_seconds.get()));
            let watching = text_inbox::run(headend.clone(), inbox, every, stopped.clone());
            tasks.push(("inbox of texts", tokio::spawn(watching)));
        }
        let readings_address = doors.readings_address();
        let pages = web::router(state, readings.clone());
        tasks.push(("command line", local_door::serve(&options.data, pages.clone(), stopped.clone())));
        tasks.extend(doors.serve(pages, readings, &stopped).into_iter().map(|task| ("pages", task)));
        let mqtts = headend.mqtts_addr();
        Ok(Self {
            http,
            url: public.url,
            readings: readings_address,
            mqtt,
            mqtts,
            store,
            clock,
            verifying_key,
            status,
            stop,
            tasks,
            ingest,
            headend,
            _directory: directory,
        })
    }

    /// Where the pipeline stands.
    pub fn status(&self) -> PipelineStatus {
        *self.status.borrow()
    }

    /// Meters connected now.
    pub fn connections(&self) -> usize {
        self.headend.connections()
    }

    /// What the head-end has counted since the start.
    pub fn counters(&self) -> headend::Counters {
        self.headend.counters()
    }

    /// Stops listening, finishes what was accepted, closes the databases. Names the parts that did not stop by themselves.
    pub async fn stop(self) -> Vec<&'static str> {
        let _ = self.stop.send(true);
        let mut ending = JoinSet::new();
        for (name, task) in self.tasks {
            ending.spawn(end(name, task));
        }
        let parts = async {
            let mut stubborn = Vec::new();
            while let Some(ended) = ending.join_next().await {
                stubborn.extend(ended.ok().flatten());
            }
            stubborn
        };
        let (mut stubborn, ()) = tokio::join!(parts, self.headend.shutdown());
        // With the last holder of the head-end nobody can hand over a reading, and the committer has committed all there were.
        drop(self.headend);
        stubborn.extend(end("committer", self.ingest).await);
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "the databases were not closed cleanly; they recover at the next start");
        }
        stubborn
    }
}

/// Waits until a part has ended by itself; what does not is ended, and named.
async fn end(name: &'static str, mut task: JoinHandle<()>) -> Option<&'static str> {
    if tokio::time::timeout(STOP_PATIENCE, &mut task).await.is_ok() {
        return None;
    }
    tracing::warn!(name, "did not stop by itself and was ended");
    task.abort();
    Some(name)
}

/// Lets a meter in with its new secret, and ends what was opened with the former one.
fn replace_secret(credentials: Arc<Credentials>, headend: Arc<Headend>) -> web::LetIn {
    Arc::new(move |meter, secret| {
        if credentials.let_in(meter, secret) {
            headend.disconnect(meter);
        }
    })
}

/// A simulated clock goes on where the pipeline stood.
async fn resumed_at(store: &Store) -> Result<Timestamp, CommandError> {
    Ok(store.pipeline_state().await?.processed_through.unwrap_or_default())
}

/// Meters enrolled while the server runs may connect at once; connections opened with a secret that is gone end.
async fn follow_enrolments(
    mut changes: broadcast::Receiver<Change>,
    store: Store,
    credentials: Arc<Credentials>,
    headend: Arc<Headend>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let change = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            change = changes.recv() => change,
        };
        match change {
            Ok(Change::Enrolled) | Err(RecvError::Lagged(_)) => {
                if let Err(error) = renew(&store, &credentials, &headend).await {
                    tracing::error!(%error, "new credentials are not in force yet");
                }
            }
            Ok(_) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Reads all credentials again, and ends what was opened with those that are gone.
async fn renew(store: &Store, credentials: &Credentials, headend: &Headend) -> Result<(), StoreError> {
    let (all, text_keys) = (store.credentials().await?, store.text_keys().await?);
    credentials.replace_text_keys(text_keys);
    credentials.replace_all(all).into_iter().for_each(|meter| headend.disconnect(meter));
    Ok(())
}

/// The networks of a list in the configuration.
///
/// # Errors
/// When one is not understood.
pub(crate) fn networks(texts: &[String]) -> Result<Networks, CommandError> {
    let parsed: Result<Networks, _> = texts.iter().map(|text| text.parse::<headend::Network>()).collect();
    Ok(parsed?)
}

/// Those whose hash is one: the configuration was checked when it was read.
fn gateways(config: &Config) -> impl Iterator<Item = (MeterId, Gateway)> + '_ {
    config.mqtt.gateways.iter().filter_map(|gateway| {
        let meters = Arc::new(gateway.meters.iter().copied().collect());
        Some((gateway.name, Gateway { hash: gateway.hash()?, meters }))
    })
}

fn headend_config(config: &Config, budget: FileBudget) -> Result<HeadendConfig, CommandError> {
    Ok(HeadendConfig {
        connections_max: budget.meters,
        mqtt: Some(config.mqtt.listen),
        mqtts: config.mqtt.tls.as_ref().map(|tls| TlsListen {
            listen: tls.listen,
            certificates: tls.certificate.clone(),
            key: tls.key.clone(),
        }),
        plain_networks: networks(&config.mqtt.plain_networks)?,
        ..HeadendConfig::default()
    })
}

/// The wanted address when its port is free, else the same address with any port.
pub(crate) async fn free_port(wanted: SocketAddr) -> SocketAddr {
    match TcpListener::bind(wanted).await {
        Ok(_) => wanted,
        Err(_) => SocketAddr::new(wanted.ip(), 0),
    }
}

fn metrics(
    headend: Arc<Headend>,
    ingest: Arc<IngestCounters>,
    stages: Arc<StageCounters>,
    store: Store,
) -> Arc<dyn Fn() -> String + Send + Sync> {
    use std::sync::atomic::Ordering::Relaxed;
    Arc::new(move || {
        let mut text = headend.counters().prometheus();
        for (name, help, value) in [
            ("gridtally_ingest_commits_total", "Durable commits", ingest.commits.load(Relaxed)),
            ("gridtally_ingest_deliveries_total", "Deliveries committed", ingest.deliveries.load(Relaxed)),
            ("gridtally_ingest_failures_total", "Commits that failed", ingest.failures.load(Relaxed)),
            (
                "gridtally_over_budget_total",
                "Reads turned away from meters that sent too much",
                ingest.over_budget.load(Relaxed),
            ),
            (
                "gridtally_foreign_answers_total",
                "Answers to what a meter was not asked",
                ingest.foreign_answers.load(Relaxed),
            ),
            (
                "gridtally_detection_failures_total",
                "Passes of detection that failed and were tried again",
                stages.detection_failures.load(Relaxed),
            ),
            (
                "gridtally_control_failures_total",
                "Passes of the control loop that failed and were tried again",
                stages.control_failures.load(Relaxed),
            ),
            (
                "gridtally_self_measurement_failures_total",
                "Nights without self-measurement",
                stages.night_failures.load(Relaxed),
            ),
            (
                "gridtally_late_failures_total",
                "Passes over late readings that failed and were tried again",
                stages.late_failures.load(Relaxed),
            ),
        ] {
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n"));
        }
        text.push_str(&store.transactions_prometheus());
        text
    })
}
