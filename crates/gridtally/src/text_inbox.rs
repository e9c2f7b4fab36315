//! The inbox of texts, looked into again and again while the server runs: `headend` takes what a modem's daemon has put there.

use std::{path::Path, sync::Arc, time::Duration};

use headend::{Headend, Inbox, InboxPass, TextOutcome};
use tokio::{sync::watch, time::MissedTickBehavior};

/// An inbox that can be used: a folder that is there.
pub fn open(folder: &Path) -> Result<Inbox, String> {
    match std::fs::read_dir(folder) {
        Ok(_) => Ok(Inbox::new(folder)),
        Err(error) => Err(format!(
            "cannot read the inbox of texts {}: {error}; create it and let this user read and write it, or leave `inbox` out of [texts]",
            folder.display()
        )),
    }
}

/// Runs until stopped. A pass takes at most [`headend::FILES_PER_PASS_MAX`] files; the next one follows after `every`.
pub async fn run(headend: Arc<Headend>, mut inbox: Inbox, every: Duration, mut stopped: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {}
        }
        match headend.take_inbox(&mut inbox).await {
            Ok(pass) => tell(&pass),
            Err(error) => {
                tracing::error!(folder = %inbox.folder().display(), %error, "the inbox of texts was not emptied; it will be tried again");
            }
        }
    }
}

fn tell(pass: &InboxPass) {
    for (file, why) in &pass.refused {
        tracing::warn!(file, why, "a text was refused; it lies in the subfolder refused");
    }
    for outcome in &pass.taken {
        match outcome {
            TextOutcome::Frame(meter, outcome) => {
                tracing::info!(%meter, outcome = outcome.word(), "a text was taken");
            }
            TextOutcome::Answer(meter, to, outcome) => {
                tracing::info!(%meter, order = to, outcome = outcome.word(), "a meter answered an order by text");
            }
        }
    }
}
