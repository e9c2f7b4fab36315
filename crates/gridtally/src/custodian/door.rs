//! The custodian's door: REST over mutual TLS. Only certificates of the given authority are let in; what they may ask is the policy's
//! matter, because requests, changes of groups and erasures are signed by the operator's key besides, and enrolments by a manufacturer
//! and an installer.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use privacy::{
    custodian::Enrolment,
    orders::{ErasureOrder, GroupOrder},
    query::Request,
};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig, crypto,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
        version::TLS13,
    },
    server::TlsStream,
};

use super::service::{Service, ServiceError};
use crate::{clock::Clock, commands::CommandError};

/// Largest request: 4,096 rows of a month of quarter-hours as JSON.
const BODY_BYTES_MAX: usize = 8 << 20;
/// Handshakes under way and connections that wait to be served.
const WAITING_MAX: usize = 64;
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// Certificate files.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The custodian's certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The authority of the certificates that are let in, PEM.
    pub client_authority: PathBuf,
}

/// TLS 1.3 only, and only for clients with a certificate of the authority.
///
/// # Errors
/// The file that cannot be used, and why.
pub fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, CommandError> {
    let said = |path: &Path, why: String| format!("{}: {why}", path.display());
    let chain = |path: &Path| -> Result<Vec<CertificateDer<'static>>, CommandError> {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        Ok(read.map_err(|e| said(path, e.to_string()))?)
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| said(&files.key, e.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in chain(&files.client_authority)? {
        roots.add(certificate).map_err(|e| said(&files.client_authority, e.to_string()))?;
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| said(&files.client_authority, e.to_string()))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| e.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(&files.certificate)?, key)
        .map_err(|e| said(&files.certificate, e.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Connections after their handshake.
struct Accepted {
    streams: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl axum::serve::Listener for Accepted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.streams.recv().await {
            Some(accepted) => accepted,
            // the listener has ended: nothing more will come
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Shakes hands apart from the serving, so that a client that dawdles holds up nobody.
async fn shake_hands(listener: TcpListener, tls: TlsAcceptor, ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>) {
    let places = Arc::new(tokio::sync::Semaphore::new(WAITING_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        tokio::spawn(async move {
            match timeout(HANDSHAKE_PATIENCE, tls.accept(stream)).await {
                Ok(Ok(stream)) => drop(ready.send((stream, peer)).await),
                Ok(Err(error)) => tracing::warn!(%peer, %error, "a TLS handshake failed"),
                Err(_) => tracing::warn!(%peer, "a TLS handshake took too long"),
            }
            drop(place);
        });
    }
}

type Shared = Arc<Mutex<Service>>;

/// Serves until the process ends.
///
/// # Errors
/// The listener.
pub async fn serve(service: Service, listener: TcpListener, tls: TlsAcceptor) -> Result<(), CommandError> {
    let address = listener.local_addr()?;
    let (sender, streams) = mpsc::channel(WAITING_MAX);
    tokio::spawn(shake_hands(listener, tls, sender));
    let shared: Shared = Arc::new(Mutex::new(service));
    tokio::spawn(publish_each_minute(shared.clone()));
    let stopped = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(Accepted { streams, address }, routes(shared)).with_graceful_shutdown(stopped).await?;
    Ok(())
}

/// A head each minute, when there is something new.
async fn publish_each_minute(service: Shared) {
    loop {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let shared = service.clone();
        let published = tokio::task::spawn_blocking(move || lock(&shared).publish().map_err(|e| e.to_string())).await;
        if let Ok(Err(error)) = published {
            tracing::error!(error, "the log could not be published");
        }
    }
}

fn lock(service: &Shared) -> MutexGuard<'_, Service> {
    // a panic while it was held left the journal as the truth: the service marks itself broken while it writes
    service.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// All routes.
fn routes(service: Shared) -> Router {
    Router::new()
        .route("/v1/requests", post(ask))
        .route("/v1/meters", post(enrol))
        .route("/v1/groups", post(regroup))
        .route("/v1/erasures", post(erase))
        .route("/v1/status", get(status))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(service)
}

impl IntoResponse for ServiceError {
    fn into_response(self) -> Response {
        let (status, key) = match &self {
            Self::Refused(_) => (StatusCode::FORBIDDEN, "refused"),
            Self::Failed(_) => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
        };
        (status, Json(json!({key: self.to_string()}))).into_response()
    }
}

/// Runs on a thread for blocking work: the journal is synchronised within.
async fn within<T: Send + 'static>(
    service: Shared,
    work: impl FnOnce(&mut Service, i64) -> Result<T, ServiceError> + Send + 'static,
) -> Result<T, ServiceError> {
    let done = tokio::task::spawn_blocking(move || work(&mut lock(&service), Clock::Real.now().0)).await;
    done.unwrap_or_else(|_| Err(ServiceError::Failed("the custodian failed; see its output".into())))
}

async fn ask(State(service): State<Shared>, Json(request): Json<Request>) -> Result<Response, ServiceError> {
    let answer = within(service, move |service, now| service.ask(&request, now)).await?;
    Ok(Json(json!({"answer": answer})).into_response())
}

async fn enrol(State(service): State<Shared>, Json(enrolment): Json<Enrolment>) -> Result<Response, ServiceError> {
    let public_key = within(service, move |service, now| service.enrol(&enrolment, now)).await?;
    Ok(Json(json!({"public_key": public_key})).into_response())
}

async fn regroup(State(service): State<Shared>, Json(order): Json<GroupOrder>) -> Result<Response, ServiceError> {
    within(service, move |service, now| service.regroup(&order, now)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn erase(State(service): State<Shared>, Json(order): Json<ErasureOrder>) -> Result<Response, ServiceError> {
    within(service, move |service, now| service.erase(&order, now)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn status(State(service): State<Shared>) -> Response {
    let service = lock(&service);
    let state = service.custodian().state();
    Json(json!({
        "trust": service.custodian().policy().trust, "released": state.released(), "refused": state.refused(),
        "log_key": service.log_public_key(),
    }))
    .into_response()
}
