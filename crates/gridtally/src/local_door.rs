//! The door in the data directory: a socket on which the server answers `gridtally admin … --data` on the same machine. Only the
//! directory's owner can open it, and could change the files themselves; so whoever asks there is an operator, named "command line".

use std::path::{Path, PathBuf};

use axum::Router;
use tokio::{sync::watch, task::JoinHandle};

/// Where it is.
pub fn path(data: &Path) -> PathBuf {
    data.join("server.sock")
}

/// Listens until stopped. What cannot be listened on is said in the log: then `admin` needs a token.
#[cfg(unix)]
pub fn serve(data: &Path, router: Router, mut stopped: watch::Receiver<bool>) -> JoinHandle<()> {
    let path = path(data);
    // Left by a server that was killed; ours is the only one, the store holds the lock.
    let _ = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).and_then(|listener| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    });
    tokio::spawn(async move {
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "`gridtally admin --data` cannot reach this server while it runs");
                return;
            }
        };
        let router = router.layer(axum::Extension(web::CommandLine));
        let stop = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
            tracing::warn!(%error, "`gridtally admin --data` is answered no more");
        }
        let _ = std::fs::remove_file(&path);
    })
}

/// There is no such socket on this system.
#[cfg(not(unix))]
pub fn serve(_data: &Path, _router: Router, _stopped: watch::Receiver<bool>) -> JoinHandle<()> {
    tokio::spawn(async {})
}
