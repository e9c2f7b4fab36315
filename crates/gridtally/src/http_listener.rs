//! Serves a router by HTTP or https with limits on everything a peer can hold: connections altogether and of one address, the time for
//! a handshake, for the head of a request and between two requests. What lies behind says how long a body and an answer may take.
//!
//! It also says who asks: the peer, or, when that is a configured proxy, whom the proxy names.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::{ConnectInfo, Request},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use headend::{Busy, Certificates, Encrypted, HeadendError, Networks, Place, Room};
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// A TLS handshake takes no longer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The head of a request takes no longer, nor does the pause before it on a connection that is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// What is read ahead of a connection at most, the head of a request included, bytes.
const READ_AHEAD_BYTES_MAX: usize = 64 * 1024;
/// Header lines of a request.
const HEADER_LINES_MAX: usize = 64;
/// After the stop, answers under way get so long.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who may ask, and how it is known who asks.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    /// Proxies whose word is taken for whom they ask, empty without one.
    pub proxies: Option<Networks>,
    /// Only loopback and the proxies are answered.
    pub proxies_only: bool,
}

/// A listener and what it serves.
pub struct HttpListener {
    /// Where connections come from.
    pub listener: TcpListener,
    /// For https.
    pub certificates: Option<Arc<Certificates>>,
    /// What is served.
    pub router: Router,
    /// Connections.
    pub room: Arc<Room>,
    /// Who may ask.
    pub callers: Callers,
}

/// What every connection of a listener shares.
struct Shared {
    router: Router,
    callers: Callers,
    is_tls: bool,
}

impl HttpListener {
    /// Serves until told to stop, then until the answers under way are given, but not for long.
    ///
    /// # Errors
    /// When TLS cannot be offered; every later trouble concerns one connection and is its own.
    pub async fn serve(self, mut stop: watch::Receiver<bool>) -> Result<(), HeadendError> {
        let tls = self.certificates.as_ref().map(|files| files.acceptor(&[b"http/1.1"])).transpose()?;
        let shared = Arc::new(Shared { router: self.router, callers: self.callers, is_tls: tls.is_some() });
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                // A connection that was gone before it was accepted, or no file left for it: go on with the next.
                Err(error) => {
                    tracing::warn!(%error, "a connection to the pages could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let is_proxy = shared.callers.is_proxy(peer.ip());
            let entered = if is_proxy { self.room.enter_uncounted(peer.ip()) } else { self.room.enter(peer.ip()) };
            let Ok((place, make_way)) = entered else { continue };
            let serving = connection(stream, peer, tls.clone(), shared.clone(), Arc::new(place), stop.clone());
            connections.spawn(async move {
                tokio::select! {
                    () = serving => {}
                    () = make_way.wait() => {}
                }
            });
        }
        drop(self.listener);
        let _ = timeout(STOP_PATIENCE, async { while connections.join_next().await.is_some() {} }).await;
        Ok(())
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    place: Arc<Place>,
    stop: watch::Receiver<bool>,
) {
    // Small answers shall not wait for each other; a socket that refuses is gone already.
    let _ = stream.set_nodelay(true);
    match tls {
        None => requests(stream, peer, shared, place, stop).await,
        Some(tls) => match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => requests(stream, peer, shared, place, stop).await,
            Ok(Err(_)) | Err(_) => tracing::debug!(%peer, "a TLS handshake with the pages failed"),
        },
    }
}

/// The requests of one connection, one after the other.
async fn requests<S>(
    stream: S,
    peer: SocketAddr,
    shared: Arc<Shared>,
    place: Arc<Place>,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let at_work = place.work();
        let shared = shared.clone();
        async move {
            let response = shared.answer(request.map(Body::new), peer).await;
            Ok::<_, Infallible>(response.map(|body| Body::new(Held { body, _at_work: at_work })))
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(READ_AHEAD_BYTES_MAX)
        .max_headers(HEADER_LINES_MAX);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), answer));
    let mut is_stopping = false;
    loop {
        tokio::select! {
            // What went wrong with one connection concerns only its peer.
            _ = connection.as_mut() => return,
            _ = stop.wait_for(|stop| *stop), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

impl Shared {
    async fn answer(&self, mut request: Request, peer: SocketAddr) -> Response {
        if self.callers.proxies_only && !self.is_tls && !self.callers.is_near(peer.ip()) {
            let why = "this server is reached through its proxy, by https\n";
            return (StatusCode::FORBIDDEN, [(header::CONNECTION, "close")], why).into_response();
        }
        let (caller, is_encrypted) = self.callers.caller(peer, request.headers(), self.is_tls);
        request.extensions_mut().insert(ConnectInfo(caller));
        if is_encrypted {
            request.extensions_mut().insert(Encrypted);
        }
        let Ok(response) = self.router.clone().oneshot(request).await;
        response
    }
}

impl Callers {
    fn is_proxy(&self, peer: IpAddr) -> bool {
        self.proxies.as_ref().is_some_and(|proxies| proxies.contains_beyond_loopback(peer))
    }

    /// Loopback or a proxy.
    fn is_near(&self, peer: IpAddr) -> bool {
        peer.to_canonical().is_loopback() || self.is_proxy(peer)
    }

    /// Whom a request comes from, and whether it came by https all the way. Only a proxy is believed: its own entry is the last one
    /// of `X-Forwarded-For`; everything before it was written by somebody else.
    fn caller(&self, peer: SocketAddr, headers: &HeaderMap, is_tls: bool) -> (SocketAddr, bool) {
        if !self.is_proxy(peer.ip()) {
            return (peer, is_tls);
        }
        let last = |name: &str| {
            let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
            value.rsplit(',').next().map(str::trim)
        };
        let named = last("x-forwarded-for").and_then(|text| text.parse::<IpAddr>().ok());
        let is_encrypted = is_tls || last("x-forwarded-proto").is_none_or(|proto| proto.eq_ignore_ascii_case("https"));
        match named {
            Some(ip) => (SocketAddr::new(ip, 0), is_encrypted),
            // The proxy's own look at the server's health, for instance.
            None => (peer, is_tls),
        }
    }
}

/// A body that keeps its connection at work until it has gone out: a live stream does not make way for a newcomer.
struct Held {
    body: Body,
    _at_work: Busy,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Binds an address, with what to do when it is taken.
///
/// # Errors
/// When it cannot be listened on.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, io::Error> {
    TcpListener::bind(address).await.map_err(|error| {
        let why = format!(
            "cannot listen on {address}: {error}; another program may use the port, choose one with --http or in the configuration"
        );
        io::Error::new(error.kind(), why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn only_a_proxy_is_believed() {
        let proxies = ["10.0.0.2", "127.0.0.1"].iter().map(|text| text.parse().expect("a network")).collect();
        let callers = Callers { proxies: Some(proxies), proxies_only: true };
        let forged = headers(&[("x-forwarded-for", "127.0.0.1, 192.0.2.9"), ("x-forwarded-proto", "https")]);
        let (proxy, other) = (SocketAddr::from(([10, 0, 0, 2], 1)), SocketAddr::from(([192, 0, 2, 1], 1)));
        assert_eq!(callers.caller(proxy, &forged, false), (SocketAddr::from(([192, 0, 2, 9], 0)), true));
        assert_eq!(callers.caller(other, &forged, false), (other, false));
        let plain = headers(&[("x-forwarded-for", "192.0.2.9"), ("x-forwarded-proto", "http")]);
        assert_eq!(callers.caller(proxy, &plain, false), (SocketAddr::from(([192, 0, 2, 9], 0)), false));
        assert!(callers.is_proxy([127, 0, 0, 1].into()), "loopback is a proxy when it is named");
        let callers = Callers { proxies: Some(Networks::default()), proxies_only: true };
        assert!(!callers.is_proxy([127, 0, 0, 1].into()), "and only then");
        assert!(callers.is_near([127, 0, 0, 1].into()) && !callers.is_near([10, 0, 0, 2].into()));
    }
}
