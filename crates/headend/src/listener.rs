//! Accepts connections: plain TCP from permitted networks only, TLS from everywhere.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig, crypto,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::{HeadendError, TlsListen, connection, counters::Counting, shared::Shared};

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What both listeners count together.
#[derive(Clone)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    max: usize,
    next: Arc<AtomicU64>,
}

impl Places {
    pub(crate) fn new(connections_max: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(connections_max)), max: connections_max, next: Arc::default() }
    }

    /// Connections now.
    pub(crate) fn taken(&self) -> usize {
        self.max.saturating_sub(self.free.available_permits())
    }
}

pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, HeadendError> {
    TcpListener::bind(address).await.map_err(|source| HeadendError::Listen { address, source })
}

/// Reads certificate and key.
pub(crate) fn tls(files: &TlsListen) -> Result<TlsAcceptor, HeadendError> {
    let read = |path: &Path, source: String| HeadendError::Tls { path: path.to_owned(), reason: source };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificates)
        .and_then(Iterator::collect)
        .map_err(|error| read(&files.certificates, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| read(&files.key, error.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| read(&files.certificates, error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts until told to stop, then waits until every connection has ended.
pub(crate) async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    places: Places,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                Counting::one(&shared.counting.connections);
                if let Some(place) = admit(peer, tls.is_some(), &places, &shared) {
                    let connection = places.next.fetch_add(1, Relaxed);
                    connections.spawn(open(stream, peer, connection, tls.clone(), shared.clone(), place));
                }
            }
            // a connection that was gone before it was accepted, or no file left for it: go on with the next
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted (with \"too many open files\": raise `ulimit -n`)");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn admit(peer: SocketAddr, is_tls: bool, places: &Places, shared: &Shared) -> Option<OwnedSemaphorePermit> {
    if !is_tls && !shared.config.plain_networks.contains(peer.ip()) {
        Counting::one(&shared.counting.refused_plain);
        shared.note(peer.ip(), "TLS required", || {
            "a connection without TLS was refused: let the meter use the TLS port, or add its network to plain_networks".into()
        });
        return None;
    }
    let place = places.free.clone().try_acquire_owned().ok();
    if place.is_none() {
        Counting::one(&shared.counting.refused_full);
        shared.note(peer.ip(), "full", || {
            format!("refused: {} connections are open, the limit is connections_max", places.max)
        });
    }
    place
}

async fn open(
    stream: TcpStream,
    peer: SocketAddr,
    connection: u64,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    place: OwnedSemaphorePermit,
) {
    // small packets shall not wait for each other; a socket that refuses is gone already
    let _ = stream.set_nodelay(true);
    match tls {
        None => connection::serve(stream, peer, connection, shared).await,
        Some(tls) => match timeout(shared.config.connect_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => connection::serve(stream, peer, connection, shared).await,
            Ok(Err(error)) => refuse_tls(&shared, peer, &error),
            Err(_) => refuse_tls(&shared, peer, &io::ErrorKind::TimedOut.into()),
        },
    }
    drop(place);
}

fn refuse_tls(shared: &Shared, peer: SocketAddr, error: &io::Error) {
    Counting::one(&shared.counting.refused_tls);
    shared.note(peer.ip(), "TLS handshake", || format!("the TLS handshake failed: {error}"));
}
