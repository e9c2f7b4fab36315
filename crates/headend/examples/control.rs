//! A head-end whose pipeline stores nothing and answers at once: the control run for `gridtally bench ingest` (what the listener
//! costs without storage), and something for a device under development to talk to.
//!
//! `cargo run --release -p headend --example control -- 127.0.0.1:1883 10000 [--show]` lets the meters M-00000 to M-09999 connect;
//! the secret of each is the SHA-256 of its identifier, so nobody must type ten thousand of them. Never use it in production.
//! With `--show` every delivery is written to stderr, and every meter that begins to listen is sent the time and a command to
//! disconnect.

use std::{sync::Arc, time::Duration};

use headend::{Batch, Credentials, HeadendConfig, Outcome, PresenceState};
use metering::{Control, ControlKind, Down, MeterId, Timestamp, frame::TimeFrame};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:1883".to_owned()).parse()?;
    let meters: u32 = arguments.next().unwrap_or_else(|| "100".to_owned()).parse()?;
    let is_shown = arguments.next().as_deref() == Some("--show");
    let credentials = Arc::new(Credentials::new());
    for n in 0..meters {
        let name = format!("M-{n:05}");
        let secret: [u8; 32] = Sha256::digest(name.as_bytes()).into();
        let _ = credentials.insert(MeterId::new(&name)?, Credentials::hash(&secret));
    }
    let (sink, mut batches) = mpsc::channel::<Batch>(4_096);
    let config = HeadendConfig { mqtt: Some(listen), ..HeadendConfig::default() };
    let headend = headend::start(config, credentials, Arc::new(wall_clock), sink).await?;
    eprintln!("listening on {:?} for {meters} meters", headend.mqtt_addr());
    let mut presence = headend.subscribe_presence();
    let mut report = tokio::time::interval(Duration::from_secs(10));
    loop {
        tokio::select! {
            Some(batch) = batches.recv() => {
                if is_shown {
                    batch.deliveries.iter().for_each(|delivery| eprintln!("{} {:?}", delivery.meter, delivery.frame));
                }
                let outcome = |delivery: &headend::Delivery| match delivery.frame {
                    Ok(_) => Outcome::Stored,
                    Err(_) => Outcome::Quarantined,
                };
                // a connection that has ended needs no answer
                let _ = batch.done.send(batch.deliveries.iter().map(outcome).collect());
            }
            Ok(change) = presence.recv(), if is_shown => {
                eprintln!("{} {:?}", change.meter, change.state);
                if change.state == PresenceState::Listening {
                    for down in [Down::Time(TimeFrame::unsigned(wall_clock())), disconnect()] {
                        let sent = headend.send(change.meter, &down).await;
                        eprintln!("{} to {}: {sent:?}", down.kind().level(), change.meter);
                    }
                }
            }
            _ = report.tick() => eprintln!("{:?}", headend.counters()),
        }
    }
}

/// Valid for ten minutes; the time serves as the counter, which must grow.
fn disconnect() -> Down {
    let now = wall_clock();
    let counter = u64::try_from(now.0).unwrap_or(0);
    let expires = now.plus(600);
    Down::Control(Control { id: counter, kind: ControlKind::Disconnect, expires, counter, signatures: Vec::new() })
}

fn wall_clock() -> Timestamp {
    let elapsed = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp(i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX))
}
