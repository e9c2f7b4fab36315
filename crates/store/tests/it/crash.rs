//! kill -9 in the middle of ingest and packing: whatever was acknowledged is there, once.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use crate::world::{DAY, T0, incoming, meter, open, profile, record, runtime};
use store::Accepted;

const DIRECTORY: &str = "GRIDTALLY_CRASH_TEST_DIRECTORY";
const METERS: usize = 20;
const BATCHES_MAX: i64 = 20_000;

/// What the killed process does: batches of one frame a meter, packing now and then, a line after each acknowledgement.
/// As a test of its own it has nothing to do.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIRECTORY) else { return };
    runtime().block_on(async {
        let store = open(dir.as_ref()).await;
        let begun = store.counts().await.expect("counts").frames / METERS as u64;
        let begun = i64::try_from(begun).expect("small");
        for batch in begun..BATCHES_MAX {
            let frames = (0..METERS).map(|m| {
                let slot = batch + 1;
                let frame = profile(meter(m), 1, batch.unsigned_abs(), vec![record(slot, slot.unsigned_abs() * 10)]);
                incoming(&frame, slot * 900 + 5)
            });
            let accepted = store.ingest(frames.collect()).await.expect("stored");
            assert!(accepted.iter().all(|a| *a == Accepted::Stored));
            let mut out = std::io::stdout().lock();
            writeln!(out, "acked {batch}").and_then(|()| out.flush()).expect("the parent listens");
            if batch % 37 == 36 {
                let store = store.clone();
                tokio::spawn(async move { store.seal().await });
            }
        }
    });
}

#[test]
fn what_was_acknowledged_survives_kill_9_once() {
    let dir = tempfile::tempdir().expect("directory");
    let mut acked = -1_i64;
    for round in 0_i64..6 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "crash::child", "--nocapture"])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        // A different number of batches each round, so that packing is cut at different places.
        let until = acked + 31 + 13 * round;
        let mut hear = |line: &str| {
            if let Some(batch) = line.trim().strip_prefix("acked ").and_then(|n| n.parse::<i64>().ok()) {
                assert!(batch <= acked + 2, "batch {batch} came after {acked}: a batch was lost or doubled");
                acked = acked.max(batch);
            }
            acked
        };
        while lines.next().is_some_and(|line| hear(&line) < until) {}
        child.kill().expect("killed");
        child.wait().expect("ended");
        // It may have gone on between the last line that was read and its end.
        lines.for_each(|line| {
            hear(&line);
        });
        assert!(acked >= until, "the child ended early at batch {acked}");
    }
    runtime().block_on(async {
        let store = open(dir.path()).await;
        let counts = store.counts().await.expect("counts");
        assert_eq!((counts.duplicates, counts.conflicts, counts.suspect), (0, 0, 0));
        let batches = counts.frames / METERS as u64;
        assert!(i64::try_from(batches).expect("small") > acked, "{batches} batches, {acked} acknowledged");
        for m in 0..METERS {
            let held = store.profile(meter(m), T0, T0.plus(400 * DAY)).await.expect("read");
            let registers: Vec<_> =
                held.iter().map(|r| (r.record.end, r.record.import_wh.0, r.other_versions)).collect();
            let expected: Vec<_> =
                (1..=batches.cast_signed()).map(|s| (T0.plus(s * 900), s.unsigned_abs() * 10, 0)).collect();
            assert_eq!(registers, expected, "meter {m}");
        }
    });
}
