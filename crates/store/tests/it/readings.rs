//! Frames in, readings out: duplicates, conflicts, late data, implausible data, packing and starting again, against a naive
//! model.

use std::collections::BTreeMap;

use crate::world::{DAY, T0, incoming, meter, open, profile, record, runtime};
use metering::{
    Body, EventKind, Frame, MeterEvent, MeterId, Quality, Timestamp,
    control::ReplyOutcome,
    frame::{Now, RelayState, Reply},
};
use proptest::prelude::*;
use store::{Accepted, Change, EventFilter, Store};

#[test]
fn each_frame_is_taken_once_and_a_conflict_keeps_both() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let mut changes = store.subscribe();
        let m = meter(1);
        let first = profile(m, 7, 0, vec![record(1, 250), record(2, 500)]);
        let other = profile(m, 7, 0, vec![record(1, 250), record(2, 501)]);
        let frames = vec![incoming(&first, 1_900), incoming(&first, 1_900), incoming(&other, 1_901)];
        assert_eq!(
            store.ingest(frames).await.expect("stored"),
            [Accepted::Stored, Accepted::Duplicate, Accepted::Conflict]
        );
        for again in [&first, &other] {
            assert_eq!(store.ingest(vec![incoming(again, 2_000)]).await.expect("stored"), [Accepted::Duplicate]);
        }
        let held = store.profile(m, T0, T0.plus(DAY)).await.expect("read");
        let registers: Vec<_> = held.iter().map(|r| (r.record.import_wh.0, r.other_versions)).collect();
        assert_eq!(registers, [(250, 0), (501, 1)]);
        let versions = store.versions(m, T0.plus(1_800)).await.expect("read");
        assert_eq!(versions.iter().map(|v| v.record.import_wh.0).collect::<Vec<_>>(), [500, 501]);
        let events = store.events(EventFilter { meter: Some(m), ..EventFilter::default() }).await.expect("read");
        assert_eq!(events.iter().map(|e| e.event.kind).collect::<Vec<_>>(), [EventKind::SequenceConflict]);
        let counts = store.counts().await.expect("counts");
        assert_eq!((counts.frames, counts.duplicates, counts.conflicts, counts.readings), (2, 3, 1, 4));
        assert!(matches!(changes.try_recv(), Ok(Change::Frame { meter, .. }) if meter == m));
    });
}

#[test]
fn implausible_records_are_kept_marked_and_told_once() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let m = meter(1);
        let mut ahead = record(5, 1_300);
        ahead.end = Timestamp(2_095_000_000);
        for (seq, record) in
            [record(1, 1_000), record(2, 900), record(3, 901), record(4, 1_250), ahead].into_iter().enumerate()
        {
            let frame = profile(m, 1, seq as u64, vec![record]);
            store.ingest(vec![incoming(&frame, 3_700)]).await.expect("stored");
        }
        let held = store.profile(m, T0, T0.plus(DAY)).await.expect("read");
        let (measured, suspect) = (Quality::Measured, Quality::Suspect);
        assert_eq!(held.iter().map(|r| r.quality).collect::<Vec<_>>(), [measured, suspect, suspect, measured]);
        let far = store.profile(m, Timestamp(2_094_999_999), Timestamp(2_095_000_000)).await.expect("read");
        assert_eq!(far.iter().map(|r| r.quality).collect::<Vec<_>>(), [suspect]);
        let events = store.events(EventFilter { after_id: Some(0), ..EventFilter::default() }).await.expect("read");
        let kinds: Vec<_> = events.iter().map(|e| e.event.kind).collect();
        assert_eq!(kinds, [EventKind::RegisterStepBack, EventKind::ClockWrong]);
        let reading = store.registers_at(m, T0.plus(DAY)).await.expect("read").expect("there is one");
        assert_eq!((reading.end, reading.import_wh.0), (T0.plus(3_600), 1_250));
        // The wrong clock makes no month file of its own.
        store.seal().await.expect("packed");
        let names: Vec<_> = std::fs::read_dir(dir.path())
            .expect("directory")
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with("blocks-") && name.ends_with(".db"))
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names.contains(&"blocks-misplaced.db".to_owned()));
        let far = store.profile(m, Timestamp(2_094_999_999), Timestamp(2_095_000_000)).await.expect("read");
        assert_eq!(far.len(), 1);
        assert_eq!(store.counts().await.expect("counts").suspect, 3);
    });
}

#[test]
fn the_newest_events_replies_and_states_survive_a_start_without_closing() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let m = meter(3);
        let now = |at: i64, relay| Now { at: T0.plus(at), relay: Some(relay), ..Now::default() };
        let tamper = MeterEvent::bare(EventKind::CoverOpen, T0.plus(50));
        let reply = Reply { control: 9, outcome: ReplyOutcome::Done, now: now(70, RelayState::Open) };
        let bodies = [
            Body::Now(now(60, RelayState::Closed)),
            Body::Event(tamper),
            Body::Reply(reply.clone()),
            Body::Snapshot(now(65, RelayState::Closed)),
        ];
        {
            let store = open(dir.path()).await;
            for (seq, body) in bodies.into_iter().enumerate() {
                let frame = Frame::new(m, 1, seq as u64, body);
                store.ingest(vec![incoming(&frame, 100)]).await.expect("stored");
                if seq == 1 {
                    store.seal().await.expect("packed");
                }
            }
        }
        let store = open(dir.path()).await;
        let latest = store.latest(m).expect("known");
        assert_eq!((latest.now.map(|n| n.at), latest.relay), (Some(T0.plus(70)), Some(RelayState::Open)));
        assert_eq!(store.replies(9).await.expect("read").iter().map(|r| &r.reply).collect::<Vec<_>>(), [&reply]);
        let tampers = store.events(EventFilter { tamper_only: true, ..EventFilter::default() }).await.expect("read");
        assert_eq!(tampers.iter().map(|e| e.event).collect::<Vec<_>>(), [tamper]);
        assert_eq!(store.snapshots(m, T0, T0.plus(100)).await.expect("read").len(), 1);
        assert_eq!(store.latest(meter(4)), None);
        store.close().await.expect("closed");
    });
}

#[test]
fn a_directory_keeps_to_its_use_and_to_one_program() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let none = store::OpenOptions::default();
        assert!(matches!(Store::open(dir.path(), none).await, Err(store::StoreError::NotFound(_))));
        let store = open(dir.path()).await;
        let second = Store::open(dir.path(), none).await.map(|_| ()).expect_err("locked");
        assert!(second.to_string().contains("another program"), "{second}");
        store.close().await.expect("closed");
        let simulation = store::OpenOptions { simulation: true, ..none };
        let refused = Store::open(dir.path(), simulation).await.map(|_| ()).expect_err("made for real meters");
        assert!(refused.to_string().contains("real meters"), "{refused}");
    });
}

#[test]
fn one_version_is_valid_wherever_the_versions_lie() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let m = meter(1);
        let send = async |seq: u64, wh: u64| {
            store.ingest(vec![incoming(&profile(m, 1, seq, vec![record(1, wh)]), 1_000)]).await.expect("stored");
        };
        let registers = async || store.registers_at(m, T0.plus(DAY)).await.expect("read").map(|r| r.import_wh.0);
        send(0, 100).await;
        store.seal().await.expect("packed");
        send(1, 101).await;
        assert_eq!(registers().await, Some(101), "the newer one is in memory");
        store.seal().await.expect("packed");
        send(2, 100).await;
        assert_eq!(registers().await, Some(101), "said again in another frame, the older one is still the older one");
        let held = store.profile(m, T0, T0.plus(DAY)).await.expect("read");
        assert_eq!(held.iter().map(|r| r.record.import_wh.0).collect::<Vec<_>>(), [101]);
    });
}

/// One step of the random run.
#[derive(Clone, Debug)]
enum Step {
    /// Meter, first slot, records in the frame, variant of the contents.
    Send(usize, i64, i64, u64),
    /// An earlier frame again.
    Repeat(prop::sample::Index),
    Seal,
    /// Drop without closing and open again.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0_usize..3, 1_i64..300, 1_i64..5, 0_u64..2).prop_map(|(m, s, n, v)| Step::Send(m, s, n, v)),
        // Close together: many versions of few intervals, in memory and packed.
        5 => (0_usize..3, 290_i64..296, 1_i64..5, 0_u64..3).prop_map(|(m, s, n, v)| Step::Send(m, s, n, v)),
        3 => any::<prop::sample::Index>().prop_map(Step::Repeat),
        1 => Just(Step::Seal),
        1 => Just(Step::Restart),
    ]
}

/// By meter and end: the import registers of all versions in the order of arrival.
type Model = BTreeMap<(MeterId, Timestamp), Vec<u64>>;

async fn check(store: &Store, model: &Model) {
    let meters: Vec<_> = (0..3).map(meter).collect();
    let all = store.profiles(&meters, T0, T0.plus(10 * DAY)).await.expect("read");
    for (m, held) in meters.iter().zip(&all) {
        let expected: Vec<_> = model.iter().filter(|((of, _), _)| of == m).collect();
        assert_eq!(held.len(), expected.len());
        for (stored, ((_, end), versions)) in held.iter().zip(expected) {
            assert_eq!(stored.record.end, *end);
            assert_eq!(usize::from(stored.other_versions) + 1, versions.len());
            let kept = store.versions(*m, *end).await.expect("read");
            assert_eq!(&kept.iter().map(|v| v.record.import_wh.0).collect::<Vec<_>>(), versions);
            let plausible = kept.iter().rev().find(|v| v.quality == Quality::Measured).or(kept.last());
            assert_eq!(plausible.map(|v| &v.record), Some(&stored.record));
        }
        let newest = held.iter().rev().find(|r| r.quality == Quality::Measured).map(|r| r.registers());
        assert_eq!(store.registers_at(*m, T0.plus(10 * DAY)).await.expect("read"), newest);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn late_repeated_and_conflicting_data_agree_with_a_naive_model(steps in prop::collection::vec(step(), 1..60)) {
        runtime().block_on(async {
            let dir = tempfile::tempdir().expect("directory");
            let mut store = open(dir.path()).await;
            let mut model = Model::new();
            let mut sent: Vec<Frame> = Vec::new();
            let mut duplicates = 0;
            for step in steps {
                match step {
                    Step::Send(m, slot, count, variant) => {
                        let records = (slot..slot + count).map(|s| record(s, s.unsigned_abs() * 100 + variant));
                        let frame = profile(meter(m), 1, sent.len() as u64, records.collect());
                        if let Body::Profile(profile) = &frame.body {
                            for r in &profile.records {
                                let versions = model.entry((frame.meter, r.end)).or_default();
                                if !versions.contains(&r.import_wh.0) {
                                    versions.push(r.import_wh.0);
                                }
                            }
                        }
                        let accepted = store.ingest(vec![incoming(&frame, 4 * DAY)]).await.expect("stored");
                        assert_eq!(accepted, [Accepted::Stored]);
                        sent.push(frame);
                    }
                    Step::Repeat(which) if !sent.is_empty() => {
                        let frame = which.get(&sent);
                        let accepted = store.ingest(vec![incoming(frame, 5 * DAY)]).await.expect("stored");
                        assert_eq!(accepted, [Accepted::Duplicate]);
                        duplicates += 1;
                    }
                    Step::Repeat(_) => {}
                    Step::Seal => store.seal().await.expect("packed"),
                    Step::Restart => {
                        drop(store);
                        store = open(dir.path()).await;
                    }
                }
            }
            check(&store, &model).await;
            store.close().await.expect("closed");
            let store = open(dir.path()).await;
            check(&store, &model).await;
            let counts = store.counts().await.expect("counts");
            assert_eq!((counts.frames, counts.duplicates, counts.conflicts), (sent.len() as u64, duplicates, 0));
        });
    }
}

#[test]
fn an_accepted_baseline_makes_later_readings_plausible_also_after_a_restart() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let m = meter(1);
        for (seq, record) in [record(1, 900_000), record(2, 0), record(3, 250)].into_iter().enumerate() {
            store.ingest(vec![incoming(&profile(m, 1, seq as u64, vec![record]), 3_700)]).await.expect("stored");
        }
        let now = T0.plus(3_700);
        let found = store.suspect_readings(m, now).await.expect("read").expect("suspect");
        assert_eq!((found.count, found.newest.record.import_wh.0), (2, 250));
        assert_eq!(found.why, [EventKind::RegisterStepBack]);
        assert!(store.accept_baseline(m, " ", "ada", now).await.is_err(), "no reason");
        let baseline = store.accept_baseline(m, "meter reprogrammed", "ada", now).await.expect("accepted");
        assert_eq!(baseline.import_wh, 250);
        store.close().await.expect("closed");
        let store = open(dir.path()).await;
        store.ingest(vec![incoming(&profile(m, 1, 7, vec![record(4, 500)]), 3_700)]).await.expect("stored");
        let held = store.profile(m, T0, T0.plus(DAY)).await.expect("read");
        let marks: Vec<Quality> = held.iter().map(|r| r.quality).collect();
        assert_eq!(marks, [Quality::Measured, Quality::Suspect, Quality::Suspect, Quality::Measured]);
        assert_eq!(store.suspect_readings(m, T0.plus(3_700)).await.expect("read"), None);
        assert!(store.accept_baseline(m, "again", "ada", T0.plus(3_700)).await.is_err(), "nothing to accept");
    });
}
