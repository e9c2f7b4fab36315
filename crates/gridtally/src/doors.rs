//! The doors by HTTP: pages, REST and readings behind one of them, and, when configured, readings by plain HTTP behind another.

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use headend::{Certificates, Room};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{
    commands::CommandError,
    config::HttpConfig,
    file_budget::FileBudget,
    http_listener::{self, Callers, HttpListener},
    public_address::PublicAddress,
    server::{free_port, networks},
};

/// What is listened on, before anything is served.
pub(crate) struct Doors {
    /// Where pages and REST are.
    pub(crate) http: SocketAddr,
    /// How people reach them.
    pub(crate) public: PublicAddress,
    /// The certificate of https.
    pub(crate) certificates: Option<Arc<Certificates>>,
    listener: TcpListener,
    readings: Option<TcpListener>,
    callers: Callers,
    room: Arc<Room>,
}

impl Doors {
    /// Binds the addresses and reads the certificate.
    ///
    /// # Errors
    /// When an address is taken, a file cannot be used, or people would be served without https from elsewhere.
    pub(crate) async fn open(config: &HttpConfig, any_port: bool, budget: FileBudget) -> Result<Self, CommandError> {
        let listen = if any_port { free_port(config.listen).await } else { config.listen };
        let listener = http_listener::bind(listen).await?;
        let http = listener.local_addr()?;
        let readings = match config.readings_listen {
            Some(address) => Some(http_listener::bind(address).await?),
            None => None,
        };
        let files = config.tls.as_ref();
        let certificates = files.map(|files| Certificates::load(&files.certificate, &files.key)).transpose()?;
        let callers = Callers {
            proxies: (!config.proxies.is_empty()).then(|| networks(&config.proxies)).transpose()?,
            proxies_only: certificates.is_none(),
        };
        let per_address = usize::try_from(config.connections_per_address_max.get()).unwrap_or(usize::MAX);
        Ok(Self {
            http,
            public: PublicAddress::of(config, http)?,
            certificates,
            listener,
            readings,
            callers,
            room: Room::new(budget.pages, per_address),
        })
    }

    /// Where readings by plain HTTP are.
    pub(crate) fn readings_address(&self) -> Option<SocketAddr> {
        self.readings.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until stopped.
    pub(crate) fn serve(self, pages: Router, readings: Router, stopped: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
        let mut doors = vec![HttpListener {
            listener: self.listener,
            certificates: self.certificates,
            router: pages,
            room: self.room.clone(),
            callers: self.callers,
        }];
        if let Some(listener) = self.readings {
            let (room, callers) = (self.room, Callers::default());
            doors.push(HttpListener { listener, certificates: None, router: readings, room, callers });
        }
        let serve = |door: HttpListener| {
            let stopped = stopped.clone();
            tokio::spawn(async move {
                if let Err(error) = door.serve(stopped).await {
                    tracing::error!(%error, "the pages are not served");
                }
            })
        };
        doors.into_iter().map(serve).collect()
    }
}
