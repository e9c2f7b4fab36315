//! Certificates renewed while the server runs: looked at every few seconds, and at once on SIGHUP.

use std::{sync::Arc, time::Duration};

use headend::Certificates;
use tokio::{sync::watch, time::MissedTickBehavior};

const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Runs until stopped. Also without certificates: SIGHUP must not end the server.
pub async fn run(certificates: Vec<Arc<Certificates>>, mut stopped: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut hang_up = HangUp::new();
    loop {
        let is_told = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => false,
            () = hang_up.came() => true,
        };
        for files in certificates.iter().filter(|files| is_told || files.have_changed()) {
            let path = files.path().display();
            match files.reload() {
                Ok(()) => tracing::info!(%path, "the certificate was read again"),
                Err(error) => {
                    tracing::error!(%path, %error, "the renewed certificate cannot be used; the former stays in force")
                }
            }
        }
    }
}

/// SIGHUP, where there is such a thing.
struct HangUp {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl HangUp {
    #[cfg(unix)]
    fn new() -> Self {
        let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
            .inspect_err(|error| tracing::error!(%error, "SIGHUP cannot be taken"))
            .ok();
        Self { signal }
    }

    #[cfg(not(unix))]
    fn new() -> Self {
        Self {}
    }

    #[cfg(unix)]
    async fn came(&mut self) {
        let came = match &mut self.signal {
            Some(signal) => signal.recv().await.is_some(),
            None => false,
        };
        if !came {
            std::future::pending().await
        }
    }

    #[cfg(not(unix))]
    async fn came(&mut self) {
        std::future::pending().await
    }
}
