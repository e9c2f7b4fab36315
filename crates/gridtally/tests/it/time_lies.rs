//! Time is an input that lies, and failures stop one thing only: versions of the future, late readings, a position that no reading bears
//! out, documents that do not parse, slots that cannot be written.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use ed25519_dalek::SigningKey;
use gridtally::{
    clock::Clock,
    config::Config,
    pipeline::{control_loop::ControlLoop, dispatch::Dispatch},
    server::{Server, ServerOptions},
};
use headend::{Credentials, HeadendConfig};
use losses::balance::EnergyBalance;
use metering::{
    Approver, Body, ControlKind, ControlState, Frame, MeterId, ProfileRecord, RecordFlags, Timestamp, WattHours,
    ZoneId,
    control::ReplyOutcome,
    frame::{Now, Profile, Reply},
};
use sim::rest::RestClient;
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use store::{ControlRequest, ControlTarget, Incoming, Role, SlotCommit, Store};
use tokio::sync::mpsc;

const DAY: i64 = 86_400;
/// 2026-03-02.
const START: Timestamp = Timestamp(1_772_409_600);
const HEADER: &str = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\n";
const ZONE: &str = "F,,,,,1,ABC,2025-01-01\n\
    T,F,OT,,,1,ABC,2025-01-01\n\
    T,,,U1,M1,1,A,2025-01-01\n\
    T,,,U2,M2,1,A,2025-01-01\n";

fn id(name: &str) -> MeterId {
    MeterId::new(name).expect("id")
}

fn zone(name: &str) -> ZoneId {
    ZoneId::new(name).expect("id")
}

fn options(folder: &Path, simulated_clock: bool) -> ServerOptions {
    ServerOptions { data: folder.join("data"), config: Config::default(), simulated_clock, any_port: true }
}

/// Registers of a meter at the ends of slots, counted from `start`; they arrive at `received`.
async fn feed(store: &Store, meter: &str, registers: &[(i64, u64)], start: Timestamp, received: Timestamp) {
    for (n, some) in registers.chunks(96).enumerate() {
        let records = some.iter().map(|(slot, wh)| ProfileRecord {
            end: start.plus(slot * 900),
            flags: RecordFlags::default(),
            import_wh: WattHours(*wh),
            export_wh: WattHours(0),
            voltage_mv: None,
            current_ma: None,
            extra: vec![],
            masked: None,
        });
        let body = Body::Profile(Profile { minutes: 15, records: records.collect() });
        let sequence = some[0].0.unsigned_abs() * 10 + n as u64;
        let frame = Frame::new(id(meter), 1, sequence, body);
        let incoming = Incoming { payload: frame.to_cbor().into(), frame, received };
        store.ingest(vec![incoming]).await.expect("stored");
    }
}

/// A server whose clock the test moves, with one zone of two homes.
async fn simulated(folder: &Path, csv: &str) -> (Server, RestClient) {
    let server = Server::start(options(folder, true)).await.expect("starts");
    let token = server.store.create_api_token("clock", Role::Operator, "test", START).await.expect("token");
    let mut clock = RestClient::new(&server.http.to_string(), &token, Duration::from_secs(60)).expect("client");
    clock.put_clock(START).await.expect("clock");
    let report = server.store.import_topology(&format!("{HEADER}{csv}"), "test", START).await.expect("imported");
    assert!(report.rejected.is_empty(), "{:?}", report.rejected);
    clock.put_clock(START).await.expect("clock");
    (server, clock)
}

async fn balances(store: &Store, from: i64, to: i64) -> Vec<EnergyBalance> {
    store.balances(zone("T"), START.plus(from), START.plus(to)).await.expect("read")
}

async fn other(folder: &Path) -> SqliteConnection {
    let path = folder.join("data").join("gridtally.db");
    SqliteConnectOptions::new().filename(path).connect().await.expect("connects")
}

async fn run(connection: &mut SqliteConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.expect("done");
}

/// From slot 8 on, the observer hangs behind transformers of 20:1 and home 1 has a new meter, as the register said beforehand.
async fn planned_change(step_slots: i64) {
    let folder = tempfile::tempdir().expect("a directory");
    let planned = format!("{ZONE}T,F,OT,,,20,ABC,2026-03-02T02:00:00Z\nT,,,U1,NEW1,1,A,2026-03-02T02:00:00Z\n");
    let (server, mut clock) = simulated(folder.path(), &planned).await;
    let slots = |from: i64, to: i64| (from..=to).map(|n| (n, n.unsigned_abs()));
    let observed = slots(0, 32).map(|(n, k)| (n, 1_000_000 + 1_040 * k.min(8) + 52 * k.saturating_sub(8)));
    feed(&server.store, "OT", &observed.collect::<Vec<_>>(), START, START).await;
    feed(&server.store, "M2", &slots(0, 32).map(|(n, k)| (n, 500 * k)).collect::<Vec<_>>(), START, START).await;
    feed(&server.store, "M1", &slots(0, 8).map(|(n, k)| (n, 500 * k)).collect::<Vec<_>>(), START, START).await;
    let new: Vec<_> = slots(8, 32).map(|(n, k)| (n, 500 * (k - 8))).collect();
    feed(&server.store, "NEW1", &new, START, START).await;
    for slot in (step_slots..=32).step_by(usize::try_from(step_slots).expect("steps")) {
        clock.put_clock(START.plus(slot * 900)).await.expect("clock");
    }
    for (from, to, supplied) in [(0, 8, 8.0 * 1_040.0), (8, 32, 24.0 * 1_040.0)] {
        let found = balances(&server.store, from * 900, to * 900).await;
        assert_eq!(found.len() as i64, to - from);
        assert!(found.iter().all(|b| b.coverage >= 0.999_999), "{found:#?}");
        assert_eq!(found.iter().map(|b| b.supplied_wh).sum::<f64>(), supplied);
        assert_eq!(found.iter().map(|b| b.metered_wh).sum::<f64>(), (to - from) as f64 * 1_000.0);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planned_ahead_holds_from_its_time_on() {
    planned_change(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_in_arrears_are_balanced_with_what_held_in_them() {
    planned_change(32).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_that_come_four_days_late_complete_their_balances() {
    let folder = tempfile::tempdir().expect("a directory");
    let (server, mut clock) = simulated(folder.path(), ZONE).await;
    let store = server.store.clone();
    let registers = |from: i64, to: i64, step: u64| {
        (from..=to).map(|n| (n, 1_000_000 + step * n.unsigned_abs())).collect::<Vec<_>>()
    };
    for day in 0..4 {
        let (from, to) = (if day == 0 { 0 } else { day * 96 + 1 }, day * 96 + 96);
        feed(&store, "M2", &registers(from, to, 500), START, START.plus((day + 1) * DAY)).await;
        clock.put_clock(START.plus((day + 1) * DAY)).await.expect("clock");
    }
    assert!(balances(&store, 0, DAY).await.iter().all(|balance| balance.coverage == 0.0));
    let received = START.plus(4 * DAY + 60);
    for (meter, step) in [("OT", 1_840), ("M1", 1_200)] {
        feed(&store, meter, &registers(0, 384, step), START, received).await;
    }
    clock.put_clock(START.plus(4 * DAY + 3_600)).await.expect("clock");
    for day in 0..4 {
        let found = balances(&store, day * DAY, (day + 1) * DAY).await;
        assert_eq!(found.len(), 96, "day {day}");
        assert!(found.iter().all(|b| b.coverage >= 0.999_999), "day {day}: {:?}", found[0]);
        assert_eq!(found.iter().map(|b| b.supplied_wh).sum::<f64>(), 96.0 * 1_840.0, "day {day}");
        assert_eq!(found.iter().map(|b| b.metered_wh).sum::<f64>(), 96.0 * 1_700.0, "day {day}");
    }
    assert!(store.late_days(10).await.expect("read").is_empty(), "all are struck off");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_the_self_measurement_that_does_not_parse_stops_no_slot() {
    let folder = tempfile::tempdir().expect("a directory");
    let (server, mut clock) = simulated(folder.path(), ZONE).await;
    let mut connection = other(folder.path()).await;
    run(&mut connection, "INSERT INTO pipeline_blob (key, value) VALUES ('canaries', x'7b21')").await;
    connection.close().await.expect("closes");
    let status = clock.put_clock(START.plus(3 * 3_600)).await.expect("clock");
    assert!(status.idle, "{status:?}");
    assert_eq!(status.processed_through, Some(START.plus(3 * 3_600)));
    let kept = server.store.pipeline_document("canaries").await.expect("read");
    assert_eq!(kept.as_deref(), Some(&b"{!"[..]), "nothing is written over what is not understood");
    server.stop().await;
}

/// Waits for what the server does by itself.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(300), waiting).await.expect("it never comes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_in_the_future_is_taken_back_and_what_was_made_up_goes() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = Server::start(options(folder.path(), false)).await.expect("starts");
    let (store, now) = (server.store.clone(), server.clock.now().floor_to(900));
    store.import_topology(&format!("{HEADER}{ZONE}"), "test", now).await.expect("imported");
    let start = now.plus(-8 * 900);
    let slots = |last: i64, step: u64| (0..=last).map(|n| (n, step * n.unsigned_abs())).collect::<Vec<_>>();
    for (meter, step) in [("OT", 1_040), ("M1", 500), ("M2", 500)] {
        feed(&store, meter, &slots(4, step), start, start.plus(4 * 900)).await;
    }
    let made_up = |slot: i64| EnergyBalance {
        zone: zone("T"),
        end: now.plus(slot * 900),
        minutes: 15,
        supplied_wh: 1.0,
        metered_wh: 1.0,
        technical_wh: 0.0,
        unaccounted_wh: 0.0,
        sigma_random_wh: 1.0,
        sigma_systematic_wh: 1.0,
        coverage: 0.0,
    };
    let lost = now.plus(700 * DAY);
    let balances = [1, 2, 90, 7_000].map(|slot| (zone("T"), made_up(slot))).to_vec();
    drop(store);
    server.stop().await;
    let data = folder.path().join("data");
    let reopened = Store::open(&data, store::OpenOptions { create: false, simulation: false });
    let store = reopened.await.expect("opens");
    let commit = SlotCommit { at: lost, position: Some(lost), balances, ..SlotCommit::default() };
    store.commit_slot(commit).await.expect("written");
    store.close().await.expect("closes");

    let server = Server::start(options(folder.path(), false)).await.expect("starts");
    let store = server.store.clone();
    until(async || server.status().processed_through == Some(start.plus(4 * 900))).await;
    assert!(store.balances(zone("T"), now, lost).await.expect("read").is_empty(), "what was made up is gone");
    for (meter, step) in [("OT", 1_040), ("M1", 500), ("M2", 500)] {
        let later: Vec<_> = (5..=6).map(|n: i64| (n, step * n.unsigned_abs())).collect();
        feed(&store, meter, &later, start, start.plus(6 * 900 + 5)).await;
    }
    until(async || server.status().processed_through == Some(start.plus(6 * 900))).await;
    let found = store.balances(zone("T"), start.plus(4 * 900), now).await.expect("read");
    assert_eq!(found.iter().map(|b| (b.supplied_wh, b.coverage)).collect::<Vec<_>>(), [(1_040.0, 1.0); 2]);
    server.stop().await;
}

fn cut(meter: &str, expires: Timestamp) -> ControlRequest {
    ControlRequest {
        target: ControlTarget::Meter(id(meter)),
        kind: ControlKind::Disconnect,
        reason: "test".into(),
        by: Approver::Person("test".into()),
        approve: true,
        expires,
        case: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn controls_go_on_while_no_slot_can_be_written() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = Server::start(options(folder.path(), false)).await.expect("starts");
    let (store, now) = (server.store.clone(), server.clock.now());
    store.import_topology(&format!("{HEADER}{ZONE}"), "test", now).await.expect("imported");
    let begin = now.plus(-3_600).floor_to(900);
    store.commit_slot(SlotCommit { at: begin, position: Some(begin), ..SlotCommit::default() }).await.expect("written");
    drop(store);
    server.stop().await;
    let mut connection = other(folder.path()).await;
    run(
        &mut connection,
        "CREATE TRIGGER full BEFORE INSERT ON balance_day BEGIN SELECT RAISE(ABORT, 'disk full'); END",
    )
    .await;
    connection.close().await.expect("closes");

    let server = Server::start(options(folder.path(), false)).await.expect("starts");
    let store = server.store.clone();
    for meter in ["OT", "M1", "M2"] {
        feed(&store, meter, &[(0, 0), (1, 100), (2, 200)], begin, begin.plus(2_000)).await;
    }
    let fails = || store.transactions().iter().any(|(name, counts)| *name == "slot" && counts.rolled_back > 2);
    until(async || fails()).await;
    let now = server.clock.now();
    let control = store.request_control(cut("M1", now.plus(1)), now).await.expect("approved");
    until(async || store.control(control).await.expect("read").expect("there").state.is_final()).await;
    let ended = store.control(control).await.expect("read").expect("there");
    assert_eq!(ended.state, ControlState::Expired, "its time came though no slot was decided");
    assert_eq!(server.status().processed_through, Some(begin));
    server.stop().await;
}

/// A control loop that nobody runs but the test.
async fn control_loop(store: &Store, now: Timestamp) -> ControlLoop {
    let (batches, _nobody) = mpsc::channel(1);
    let config = HeadendConfig { mqtt: Some(SocketAddr::from(([127, 0, 0, 1], 0))), ..HeadendConfig::default() };
    let clock = Clock::simulated(now);
    let headend = headend::start(config, Arc::new(Credentials::new()), clock.reader(), batches).await.expect("listens");
    let dispatch = Dispatch::new(store.clone(), Arc::new(headend), SigningKey::from_bytes(&[7; 32]));
    let settings = Config::default().pipeline;
    ControlLoop::open(store.clone(), clock, &settings, dispatch, Default::default()).await.expect("opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_among_more_announcements_than_are_held_is_heard() {
    let folder = tempfile::tempdir().expect("a directory");
    let opened = Store::open(folder.path(), store::OpenOptions { create: true, simulation: true });
    let (store, now) = (opened.await.expect("opens"), START);
    store.import_topology(&format!("{HEADER}{ZONE}"), "test", now).await.expect("imported");
    let control = store.request_control(cut("M1", now.plus(3_600)), now).await.expect("approved");
    store.may_send(control, "test", now).await.expect("sent");
    let mut controls = control_loop(&store, now).await;
    let frame = |meter: &str, seq: u64, body: Body| {
        let frame = Frame::new(id(meter), 1, seq, body);
        Incoming { payload: frame.to_cbor().into(), frame, received: now }
    };
    let reply = Reply { control, outcome: ReplyOutcome::Done, now: Now::default() };
    let mut frames = vec![frame("M1", 1, Body::Reply(reply))];
    // One commit announces them all, more than a receiver can lag behind.
    frames.extend((1..=20_000).map(|seq| frame("M2", seq, Body::Now(Now::default()))));
    store.ingest(frames).await.expect("stored");
    controls.tick(now.plus(1)).await.expect("done");
    let state = store.control(control).await.expect("read").expect("there").state;
    assert_eq!(state, ControlState::Acknowledged);
}
