//! The product wired together: store, head-end, pipeline and pages on one data directory. `serve` and `demo` start the same thing.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use headend::{Credentials, Headend, HeadendConfig, Networks, TlsListen};
use metering::Timestamp;
use store::{Change, Store};
use tokio::{
    net::TcpListener,
    sync::{
        broadcast::{self, error::RecvError},
        mpsc, watch,
    },
    task::JoinHandle,
};
use web::{Advance, AppState, PipelineStatus, WebConfig};

use crate::{
    clock::Clock,
    commands::CommandError,
    config::Config,
    data_directory::DataDirectory,
    pipeline::{self, Pipeline, ingest::IngestCounters},
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
    /// Plain MQTT.
    pub mqtt: SocketAddr,
    /// The databases.
    pub store: Store,
    /// The clock.
    pub clock: Clock,
    /// Public half of the key that signs controls.
    pub verifying_key: [u8; 32],
    status: watch::Receiver<PipelineStatus>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    headend: Arc<Headend>,
    _directory: DataDirectory,
}

impl Server {
    /// Starts everything; returns when all listeners accept.
    pub async fn start(options: ServerOptions) -> Result<Self, CommandError> {
        let texts = &options.config.texts;
        let inbox = texts.inbox.as_deref().map(text_inbox::open).transpose()?;
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
        credentials.replace_all(store.credentials().await?);

        let (batches, to_commit) = mpsc::channel(BATCHES_WAITING_MAX);
        let mut headend_config = headend_config(&options.config)?;
        if options.any_port {
            headend_config.mqtt = Some(free_port(options.config.mqtt.listen).await);
        }
        let headend = Arc::new(headend::start(headend_config, credentials.clone(), clock.reader(), batches).await?);
        let mqtt = headend.mqtt_addr().ok_or("the MQTT listener has no address")?;

        let listen =
            if options.any_port { free_port(options.config.http.listen).await } else { options.config.http.listen };
        let listener = TcpListener::bind(listen).await.map_err(|e| {
            format!("cannot listen on {listen}: {e}; another program may use the port, choose one with --http or in the configuration")
        })?;
        let http = listener.local_addr()?;

        store.set_ceilings(options.config.ceilings);
        let counters = Arc::new(IngestCounters::default());
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
        })
        .await?;

        let state = AppState::new(
            store.clone(),
            WebConfig {
                base_url: format!("http://{http}"),
                now: clock.reader(),
                status: status.clone(),
                advance: options.simulated_clock.then_some(advance),
                nominal_voltage: options.config.supply.nominal(),
                metrics: metrics(headend.clone(), counters.clone(), store.clone()),
                verifying_key: directory.key.verifying_key().to_bytes(),
                mqtt: Some(mqtt),
                enrolled: {
                    let credentials = credentials.clone();
                    Arc::new(move |meter, secret| credentials.insert(meter, Credentials::hash(secret)))
                },
            },
        );
        let readings = headend::readings_router(&headend);
        let app = web::router(state).merge(readings).into_make_service_with_connect_info::<SocketAddr>();

        let mut tasks = vec![tokio::spawn(follow_enrolments(enrolments, store.clone(), credentials.clone()))];
        tasks.push(tokio::spawn(pipeline::ingest::run(store.clone(), to_commit, counters)));
        tasks.push(tokio::spawn(pipeline.run(advances, stopped.clone())));
        if let Some(inbox) = inbox {
            let every = Duration::from_secs(u64::from(texts.poll_seconds.get()));
            tasks.push(tokio::spawn(text_inbox::run(headend.clone(), inbox, every, stopped.clone())));
        }
        let mut web_stopped = stopped;
        tasks.push(tokio::spawn(async move {
            let until = async move {
                let _ = web_stopped.wait_for(|stop| *stop).await;
            };
            if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(until).await {
                tracing::error!(%error, "the pages are no longer served");
            }
        }));
        let verifying_key = directory.key.verifying_key().to_bytes();
        Ok(Self { http, mqtt, store, clock, verifying_key, status, stop, tasks, headend, _directory: directory })
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

    /// Stops listening, finishes what was accepted, closes the databases.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        for task in &self.tasks {
            // Pages and pipeline end by themselves; what waits for ever is ended here.
            let _ = tokio::time::timeout(STOP_PATIENCE, async {
                while !task.is_finished() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
            task.abort();
        }
        if let Some(headend) = Arc::into_inner(self.headend) {
            headend.shutdown().await;
        }
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "the databases were not closed cleanly; they recover at the next start");
        }
    }
}

/// A simulated clock goes on where the pipeline stood.
async fn resumed_at(store: &Store) -> Result<Timestamp, CommandError> {
    Ok(store.pipeline_state().await?.processed_through.unwrap_or_default())
}

/// Meters enrolled while the server runs may connect at once.
async fn follow_enrolments(mut changes: broadcast::Receiver<Change>, store: Store, credentials: Arc<Credentials>) {
    loop {
        match changes.recv().await {
            Ok(Change::Enrolled) | Err(RecvError::Lagged(_)) => match store.credentials().await {
                Ok(all) => credentials.replace_all(all),
                Err(error) => tracing::error!(%error, "new credentials are not in force yet"),
            },
            Ok(_) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

fn networks(texts: &[String]) -> Result<Networks, CommandError> {
    let parsed: Result<Networks, _> = texts.iter().map(|text| text.parse::<headend::Network>()).collect();
    Ok(parsed?)
}

fn headend_config(config: &Config) -> Result<HeadendConfig, CommandError> {
    Ok(HeadendConfig {
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
async fn free_port(wanted: SocketAddr) -> SocketAddr {
    match TcpListener::bind(wanted).await {
        Ok(_) => wanted,
        Err(_) => SocketAddr::new(wanted.ip(), 0),
    }
}

fn metrics(headend: Arc<Headend>, ingest: Arc<IngestCounters>, store: Store) -> Arc<dyn Fn() -> String + Send + Sync> {
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
        ] {
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n"));
        }
        text.push_str(&store.transactions_prometheus());
        text
    })
}
