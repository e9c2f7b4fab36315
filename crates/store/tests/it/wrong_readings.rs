//! Readings that are wrong: single ones, first ones, too many for their connection; live and after a start alike.

use crate::world::{DAY, T0, incoming, meter, open, profile, record, runtime};
use metering::{EventKind, Quality, RecordFlags, Timestamp, WattHours, reading::Masked};
use proptest::prelude::*;
use store::{EventFilter, RegisterSource, Store};

const HEAD: &str = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from,kind,rating_w\n";

/// Registers by slot, 200 Wh apart, some of them wrong.
fn registers(count: u64, wrong: &[(u64, i64)]) -> Vec<u64> {
    let off = |slot: u64| wrong.iter().find(|(at, _)| *at == slot).map_or(0, |(_, off)| *off);
    (0..count).map(|slot| (1_000_000 + 200 * slot).checked_add_signed(off(slot)).expect("positive")).collect()
}

async fn qualities(store: &Store, number: usize) -> Vec<Quality> {
    let held = store.profile(meter(number), T0.plus(-1), T0.plus(3 * DAY)).await.expect("read");
    held.iter().map(|record| record.quality).collect()
}

async fn suspects(store: &Store, number: usize) -> Vec<usize> {
    let all = qualities(store, number).await;
    all.iter().enumerate().filter(|(_, quality)| **quality == Quality::Suspect).map(|(slot, _)| slot).collect()
}

/// Sends registers of consecutive slots in frames of so many records.
async fn send(store: &Store, number: usize, first: i64, registers: &[u64], together: usize) {
    for (at, part) in registers.chunks(together).enumerate() {
        let slot = first + (at * together) as i64;
        let records = part.iter().zip(slot..).map(|(import, slot)| record(slot, *import)).collect();
        let seq = slot.unsigned_abs();
        let frame = profile(meter(number), 1, seq, records);
        store.ingest(vec![incoming(&frame, (slot + together as i64) * 900)]).await.expect("stored");
    }
}

#[test]
fn one_reading_too_high_is_the_only_suspect_however_it_comes_and_whatever_was_packed() {
    runtime().block_on(async {
        for together in [1, 7, 96] {
            for packed_after in [0_usize, 20, 21, 22, 60] {
                let dir = tempfile::tempdir().expect("directory");
                let store = open(dir.path()).await;
                let all = registers(96, &[(20, 15_000)]);
                let cut = packed_after.min(96).next_multiple_of(together).min(96);
                send(&store, 1, 0, &all[..cut], together).await;
                store.seal().await.expect("packed");
                send(&store, 1, cut as i64, &all[cut..], together).await;
                let context = format!("{together} together, packed after {cut}");
                assert_eq!(suspects(&store, 1).await, [20], "{context}");
                assert_eq!(store.counts().await.expect("counts").suspect, 1, "{context}");
                let filter = EventFilter { kinds: vec![EventKind::WrongReading], ..EventFilter::default() };
                let events = store.events(filter).await.expect("read");
                assert_eq!(events.iter().map(|e| e.event.at).collect::<Vec<_>>(), [T0.plus(20 * 900)], "{context}");
                let at = store.registers_at(meter(1), T0.plus(20 * 900)).await.expect("read").expect("one");
                assert_eq!(at.end, T0.plus(19 * 900), "{context}: not the wrong one");
                let at = store.registers_at(meter(1), T0.plus(21 * 900)).await.expect("read").expect("one");
                assert_eq!(at.end, T0.plus(21 * 900), "{context}: the first that was freed");
                drop(store);
                let store = open(dir.path()).await;
                assert_eq!(suspects(&store, 1).await, [20], "{context}, after a start");
                store.seal().await.expect("packed");
                assert_eq!(suspects(&store, 1).await, [20], "{context}, all packed");
            }
        }
    });
}

#[test]
fn a_wrong_reading_among_late_ones_is_the_only_suspect() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let all = registers(96, &[(20, 5_000)]);
        send(&store, 1, 60, &all[60..], 36).await;
        send(&store, 1, 0, &all[..60], 60).await;
        assert_eq!(suspects(&store, 1).await, [20]);
        drop(store);
        let store = open(dir.path()).await;
        assert_eq!(suspects(&store, 1).await, [20], "after a start");
    });
}

#[test]
fn a_first_reading_of_two_to_the_63_poisons_nothing() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        for (number, first) in [(1, 1_u64 << 63), (2, u64::MAX), (3, 7_000_000)] {
            let mut all = registers(30, &[]);
            all[0] = first;
            send(&store, number, 0, &all, 1).await;
            assert_eq!(suspects(&store, number).await, [0], "{first}");
            let newest = store.newest_register(meter(number), T0.plus(DAY)).await.expect("read").expect("one");
            assert_eq!((newest.import_wh.0, newest.source), (all[29], RegisterSource::Profile));
        }
    });
}

#[test]
fn what_a_connection_carries_follows_its_rating() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let csv = format!(
            "{HEAD}F,,,,,,,2025-01-01,,\nT,F,M-9,,,20,,2025-01-01,,100000\nT,,,U1,M-1,1,A,2025-01-01,,\nT,,,U2,M-2,1,A,2025-01-01,,120000\n"
        );
        let report = store.import_topology(&csv, "test", T0).await.expect("imported");
        assert_eq!((report.accepted, report.rejected_count), (4, 0), "{report:?}");
        let topology = store.topology(T0).await.expect("read");
        assert_eq!(topology.usage_points.iter().map(|p| p.rating_w).collect::<Vec<_>>(), [None, Some(120_000)]);
        // 120 kW: 30 kWh a quarter; the observer, on the secondary side of 20:1, half of what its transformer is built for.
        let drawn: Vec<u64> = (0..40).map(|slot| 1_000_000 + 30_000 * slot).collect();
        for number in [1, 2] {
            send(&store, number, 0, &drawn, 8).await;
        }
        let mut observed: Vec<u64> = (0..40).map(|slot| 5_000 + 600 * slot).collect();
        observed[20] += 10_000_000;
        send(&store, 9, 0, &observed, 1).await;
        assert_eq!(suspects(&store, 2).await, Vec::<usize>::new());
        assert_eq!(suspects(&store, 9).await, [20], "its transformer cannot carry that");
        assert_eq!(suspects(&store, 1).await, (1..40).collect::<Vec<_>>(), "more than the setting allows");
        // The way out: the operator says what the connection is built for. The next reading frees those before it.
        let csv = format!("{HEAD}T,,,U1,M-1,1,A,2025-01-01,,120000\n");
        assert_eq!(store.import_topology(&csv, "test", T0).await.expect("imported").accepted, 1);
        send(&store, 1, 40, &[1_000_000 + 30_000 * 40], 1).await;
        assert_eq!(suspects(&store, 1).await, Vec::<usize>::new());
        drop(store);
        let store = open(dir.path()).await;
        assert_eq!(suspects(&store, 1).await, Vec::<usize>::new(), "after a start");
        store.set_connection_power(250_000).await.expect("set");
        send(&store, 3, 0, &drawn, 8).await;
        assert_eq!(suspects(&store, 3).await, Vec::<usize>::new(), "by the setting");
    });
}

#[test]
fn a_record_that_hides_its_registers_is_not_readable_and_contradicts_nothing() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let mut records: Vec<_> = (0..6).map(|slot| record(slot, 1_000 + 100 * slot.unsigned_abs())).collect();
        records[3].import_wh = WattHours(0);
        records[3].masked = Some(Masked { epoch: 1, import: 7, export: 9 });
        let frame = profile(meter(1), 1, 1, records);
        store.ingest(vec![incoming(&frame, 9_000)]).await.expect("stored");
        let expected = [0, 1, 2, 3, 4, 5].map(|slot| if slot == 3 { Quality::Missing } else { Quality::Measured });
        assert_eq!(qualities(&store, 1).await, expected);
        drop(store);
        let store = open(dir.path()).await;
        assert_eq!(qualities(&store, 1).await, expected);
        assert!(!Quality::Missing.is_trusted());
        assert_eq!(store.registers_at(meter(1), T0.plus(2_700)).await.expect("read").expect("one").end, T0.plus(1_800));
    });
}

#[test]
fn rows_that_contradict_each_other_are_refused_both_and_all_refusals_are_counted() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let head = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\n";
        let csv =
            format!("{head}F,,,,,,,2026-01-01\nT,F,OA,,,1,,2026-01-01\nT,F,OB,,,20,,2026-01-01\nF,,,,,,,2026-01-01\n");
        let report = store.import_topology(&csv, "test", T0).await.expect("imported");
        assert_eq!((report.accepted, report.unchanged), (1, 1), "{report:?}");
        assert_eq!(report.rejected.iter().map(|row| row.line).collect::<Vec<_>>(), [3, 4]);
        assert!(report.rejected[0].reason.contains("zone T stands in line 4 too"), "{report:?}");
        let rows: String = (0..2_000).map(|n| format!("Z{n},F,O{n},,,1:5,,2026-01-01\n")).collect();
        let report = store.import_topology(&format!("{head}{rows}"), "test", T0).await.expect("imported");
        assert_eq!(report.rejected_count, 2_000);
        assert!(
            report.rejected.last().expect("some").reason.contains("1000 further rows"),
            "{:?}",
            report.rejected.last()
        );
    });
}

#[test]
fn a_meter_that_reports_too_rarely_to_be_balanced_is_said_at_its_start() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        for (number, profile_minutes) in [(1, 15), (2, 30), (3, 60), (4, 5)] {
            let hello = metering::frame::Hello {
                at: Some(T0),
                firmware: String::new(),
                model: String::new(),
                profile_minutes,
                import_wh: WattHours(1),
                export_wh: WattHours(0),
                relay: None,
                waiting: 0,
                senses_load: None,
            };
            let frame = metering::Frame::new(meter(number), 1, 1, metering::Body::Hello(hello));
            store.ingest(vec![incoming(&frame, 10)]).await.expect("stored");
        }
        let filter = EventFilter { kinds: vec![EventKind::IntervalTooLong], ..EventFilter::default() };
        let mut said: Vec<_> = store.events(filter).await.expect("read").iter().map(|e| e.meter).collect();
        said.sort_unstable();
        assert_eq!(said, [meter(2), meter(3)]);
    });
}

#[test]
fn a_file_in_another_encoding_is_refused_with_its_name() {
    let latin = store::csv_text(b"zone\nA\nStra\xdfe\n").expect_err("Latin-1").to_string();
    assert!(latin.contains("not encoded in UTF-8 (line 3") && latin.contains("Latin-1"), "{latin}");
    assert!(store::csv_text(b"\xff\xfez\0").expect_err("UTF-16").to_string().contains("UTF-16"));
    assert_eq!(store::csv_text("Straße".as_bytes()).expect("UTF-8"), "Straße");
}

#[test]
fn an_event_by_a_clock_in_2036_is_not_above_all_others_for_ten_years() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let event = |seq: u64, at: Timestamp, received: i64| {
            let event = metering::MeterEvent::bare(EventKind::Boot, at);
            incoming(&metering::Frame::new(meter(1), 1, seq, metering::Body::Event(event)), received)
        };
        let far = Timestamp(2_100_000_000);
        store.ingest(vec![event(1, far, 100), event(2, T0.plus(10 * DAY), 10 * DAY)]).await.expect("stored");
        let filter = EventFilter { kinds: vec![EventKind::Boot], ..EventFilter::default() };
        let found = store.events(filter).await.expect("read");
        assert_eq!(found.iter().map(|e| e.event.at).collect::<Vec<_>>(), [T0.plus(10 * DAY), far]);

        // Page by page each comes once, also those of one second and those by a wrong clock.
        let many = (3..10).map(|seq| event(seq, if seq == 5 { far } else { T0.plus(9 * DAY) }, 9 * DAY)).collect();
        store.ingest(many).await.expect("stored");
        let wanted =
            |before, limit| EventFilter { kinds: vec![EventKind::Boot], before, limit, ..EventFilter::default() };
        let all: Vec<u64> = store.events(wanted(None, 0)).await.expect("read").iter().map(|e| e.id).collect();
        let (mut paged, mut before) = (Vec::new(), None);
        loop {
            let page = store.events(wanted(before, 2)).await.expect("read");
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            paged.extend(page.iter().map(|e| e.id));
        }
        assert_eq!(paged, all);
        assert_eq!(all.len(), 9);
    });
}

#[test]
fn flags_of_a_record_change_nothing_of_its_trust() {
    // What a flag means for the balance is decided there; only a clock that was never set makes a reading suspect.
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let records = (0..9).map(|bit| {
            let mut record = record(bit, 1_000 + 100 * bit.unsigned_abs());
            record.flags = RecordFlags(1 << bit);
            record
        });
        let frame = profile(meter(1), 1, 1, records.collect());
        store.ingest(vec![incoming(&frame, 9_000)]).await.expect("stored");
        assert_eq!(suspects(&store, 1).await, [2]);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is wrong with the readings: a store that was started and packed in between says the same as one that never was.
    #[test]
    fn live_and_after_a_start_are_the_same(
        wrong in prop::collection::vec((0_u64..60, -20_000_i64..20_000), 0..6),
        cuts in prop::collection::vec((1_usize..12, 0_u8..3), 6..20),
    ) {
        runtime().block_on(async {
            let all = registers(60, &wrong);
            let (dir, other) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
            let live = open(dir.path()).await;
            let mut started = open(other.path()).await;
            let mut at = 0;
            for (many, what) in cuts {
                let part = &all[at..(at + many).min(60)];
                if part.is_empty() {
                    break;
                }
                for store in [&live, &started] {
                    send(store, 1, at as i64, part, part.len()).await;
                }
                at += part.len();
                match what {
                    0 => started.seal().await.expect("packed"),
                    1 => {
                        drop(started);
                        started = open(other.path()).await;
                    }
                    _ => {}
                }
                assert_eq!(qualities(&live, 1).await, qualities(&started, 1).await, "{wrong:?} until {at}");
                assert_eq!(live.counts().await.expect("counts").suspect, started.counts().await.expect("counts").suspect);
            }
        });
    }
}
