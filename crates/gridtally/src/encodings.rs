//! Which meters speak JSON, kept over a restart. The head-end speaks to a meter as the meter spoke last; after a start it does not know,
//! and a maker's meter that listens and has said nothing yet would get CBOR.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use headend::Headend;
use metering::{MeterId, frame::Encoding};
use tokio::{sync::watch, time::MissedTickBehavior};

const WRITE_EVERY: Duration = Duration::from_secs(60);

fn path(data: &Path) -> PathBuf {
    data.join("json-meters.txt")
}

/// Tells the head-end what was known at the last stop; nothing on a new directory.
///
/// # Errors
/// When the file is there and cannot be read or understood.
pub fn recall(data: &Path, headend: &Headend) -> io::Result<()> {
    let text = match std::fs::read_to_string(path(data)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for line in text.lines() {
        let meter = MeterId::new(line).map_err(|why| {
            let path = path(data);
            io::Error::other(format!("{}: {line:?}: {why}; delete the file, it is made again", path.display()))
        })?;
        headend.assume_encoding(meter, Encoding::Json);
    }
    Ok(())
}

/// Keeps the file as it should be, every minute and at the stop.
pub async fn run(data: PathBuf, headend: Arc<Headend>, mut stopped: watch::Receiver<bool>) {
    let mut written: BTreeSet<MeterId> = headend.json_meters();
    let mut ticks = tokio::time::interval(WRITE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_last = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => true,
            _ = ticks.tick() => false,
        };
        let now = headend.json_meters();
        if now != written {
            match write(&data, &now) {
                Ok(()) => written = now,
                Err(error) => tracing::warn!(%error, "which meters speak JSON is not kept over a restart"),
            }
        }
        if is_last {
            return;
        }
    }
}

fn write(data: &Path, meters: &BTreeSet<MeterId>) -> io::Result<()> {
    let path = path(data);
    let new = path.with_extension("new");
    std::fs::write(&new, meters.iter().map(|meter| format!("{meter}\n")).collect::<String>())?;
    std::fs::rename(&new, &path)
}
