//! Accepts connections: plain TCP from permitted networks only, TLS from everywhere.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    HeadendError, connection,
    counters::Counting,
    room::{MakeWay, Place, Room},
    shared::Shared,
};

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, HeadendError> {
    TcpListener::bind(address).await.map_err(|source| HeadendError::Listen { address, source })
}

/// Accepts until told to stop, then waits until every connection has ended.
pub(crate) async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    room: Arc<Room>,
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
                if let Some((place, make_way)) = admit(peer, tls.is_some(), &room, &shared) {
                    connections.spawn(until_made_way(
                        open(stream, peer, tls.clone(), shared.clone(), place),
                        make_way,
                        shared.clone(),
                    ));
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
    room.clear();
    while connections.join_next().await.is_some() {}
}

fn admit(peer: SocketAddr, is_tls: bool, room: &Arc<Room>, shared: &Shared) -> Option<(Place, MakeWay)> {
    if !is_tls && let Err(why) = shared.admit_plain(peer.ip()) {
        shared.note(peer.ip(), None, "TLS required", || why.to_owned());
        return None;
    }
    room.enter(peer.ip())
        .map_err(|_| {
            Counting::one(&shared.counting.refused_full);
            shared.note(peer.ip(), None, "full", || {
                format!("refused: {} connections are open, the limit is {}", room.taken(), room.max())
            });
        })
        .ok()
}

async fn until_made_way(connection: impl Future<Output = ()>, make_way: MakeWay, shared: Arc<Shared>) {
    tokio::select! {
        () = connection => {}
        () = make_way.wait() => Counting::one(&shared.counting.made_way),
    }
}

async fn open(stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>, shared: Arc<Shared>, place: Place) {
    let log_on_by = Instant::now() + shared.config.connect_timeout;
    // small packets shall not wait for each other; a socket that refuses is gone already
    let _ = stream.set_nodelay(true);
    match tls {
        None => connection::serve(stream, peer, log_on_by, place, shared).await,
        Some(tls) => match timeout_at(log_on_by, tls.accept(stream)).await {
            Ok(Ok(stream)) => connection::serve(stream, peer, log_on_by, place, shared).await,
            Ok(Err(error)) => refuse_tls(&shared, peer, &error),
            Err(_) => refuse_tls(&shared, peer, &io::ErrorKind::TimedOut.into()),
        },
    }
}

fn refuse_tls(shared: &Shared, peer: SocketAddr, error: &io::Error) {
    Counting::one(&shared.counting.refused_tls);
    shared.note(peer.ip(), None, "TLS handshake", || format!("the TLS handshake failed: {error}"));
}
