//! Honest meters beside 2,000 connections that are good for nothing. Loads are compared with the quiet minute of the same run.

use std::{
    io::Write,
    net::TcpStream,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::json;

use super::{
    mqtt::Meter,
    must,
    server::{self, TestServer, now},
};

const HONEST: usize = 20;
const REPORTS: usize = 60;
const CROWD: usize = 2_000;
/// Acknowledgements may take so many times as long.
const FACTOR: f64 = 2.0;
/// Below this a factor says more about the machine than about the server, seconds.
const FLOOR: f64 = 0.02;

/// Measures quiet, then each kind of crowd.
pub fn run(folder: &Path) -> Result<String, String> {
    let server = TestServer::start(folder)?;
    let names: Vec<String> = (0..HONEST).map(|n| format!("M-{n}")).collect();
    let secrets = server.enrol(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut meters = Vec::new();
    for (name, secret) in names.iter().zip(&secrets) {
        meters.push(Meter::log_on(&server.mqtt, name, secret)?);
    }
    // The first time warms up.
    measure(&mut meters)?;
    let quiet = measure(&mut meters)?;
    let mut said = format!("p99 quiet {:.1} ms", quiet * 1e3);
    for (kind, crowd) in [("idle", idle as Crowd), ("dribbling", dribbling), ("malformed", malformed)] {
        let under = beside(&server, crowd, &mut meters)?;
        said.push_str(&format!(", {kind} {:.1} ms", under * 1e3));
        must(under <= (FACTOR * quiet).max(FLOOR), || format!("{said}: more than {FACTOR} times as long"))?;
        // A newcomer too.
        meters.pop();
        let n = meters.len();
        meters.push(Meter::log_on(&server.mqtt, &names[n], &secrets[n])?);
    }
    Ok(said)
}

type Crowd = fn(&TestServer, &AtomicBool) -> Result<(), String>;

fn beside(server: &TestServer, crowd: Crowd, meters: &mut [Meter]) -> Result<f64, String> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let crowd = threads.spawn(|| crowd(server, &is_over));
        std::thread::sleep(Duration::from_secs(2));
        let measured = measure(meters);
        is_over.store(true, Ordering::Relaxed);
        crowd.join().map_err(|_| "the crowd broke off")??;
        measured
    })
}

/// The 99th percentile of the time to an acknowledgement, seconds; all meters at the same time.
fn measure(meters: &mut [Meter]) -> Result<f64, String> {
    let mut all: Vec<f64> = std::thread::scope(|threads| {
        let reporting: Vec<_> = meters
            .iter_mut()
            .map(|meter| {
                threads.spawn(|| -> Result<Vec<f64>, String> {
                    (0..REPORTS)
                        .map(|_| {
                            std::thread::sleep(Duration::from_millis(50));
                            meter.report("now", &json!({ "at": now() })).map(|took| took.as_secs_f64())
                        })
                        .collect()
                })
            })
            .collect();
        reporting
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a meter broke off".to_owned())?)
            .collect::<Result<Vec<_>, _>>()
    })?
    .concat();
    all.sort_by(f64::total_cmp);
    Ok(all[(all.len() * 99 / 100).min(all.len() - 1)])
}

/// Half of them by MQTT, half by HTTP.
fn address(server: &TestServer, n: usize) -> &str {
    if n.is_multiple_of(2) { &server.mqtt } else { &server.http }
}

fn idle(server: &TestServer, is_over: &AtomicBool) -> Result<(), String> {
    let held: Vec<TcpStream> = (0..CROWD).map(|n| server::connect(address(server, n))).collect::<Result<_, _>>()?;
    while !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(held);
    Ok(())
}

fn dribbling(server: &TestServer, is_over: &AtomicBool) -> Result<(), String> {
    let mut held: Vec<TcpStream> = (0..CROWD).map(|n| server::connect(address(server, n))).collect::<Result<_, _>>()?;
    let words = [&b"\x10\x7f\x00\x04MQTT\x04\xc2\x00\x3c"[..], &b"GET / HTTP/1.1\r\nX-A: aaaaaaaaaaaaaaaa"[..]];
    let mut at = 0;
    while !is_over.load(Ordering::Relaxed) {
        for (n, stream) in held.iter_mut().enumerate() {
            let word = words[n % 2];
            // Those that were ended are gone; the others go on.
            let _ = stream.write_all(&word[at % word.len()..=at % word.len()]);
        }
        at += 1;
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Connections that say something wrong, are ended, and come again: 2,000 in every two seconds.
fn malformed(server: &TestServer, is_over: &AtomicBool) -> Result<(), String> {
    let mut n = 0_usize;
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..20 {
            n += 1;
            let Ok(mut stream) = server::connect(address(server, n)) else { continue };
            let _ = stream.write_all(&[0x32, 0xff, 0xff, 0xff, 0x7f, 0, 255, 254, b'\r', b'\n', b'\r', b'\n']);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
