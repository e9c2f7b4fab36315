//! When energy goes missing in a zone, all its meters are read at the same second, three times; what they say becomes evidence. The real server
//! against simulated meters, over sockets; and once more with a server that is stopped and started between the instants.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::mpsc, time::Duration};

use gridtally::{
    config::{Config, HttpConfig, MqttConfig},
    pipeline::{
        alarm_log::{self, AlarmReason},
        recompute::recompute,
        round::instant_id,
    },
    server::{Server, ServerOptions},
};
use losses::{
    case::Case,
    evidence::{Direction, Evidence, EvidenceKind},
};
use metering::{MeterId, Timestamp, UsagePointId, ZoneId, frame::Now};
use sim::{Pace, SimEvent, Target, World, config::DEMO_START};
use store::{CaseFilter, ControlFilter, Role, Store};

use crate::neighbourhood::{DAY, HISTORY_DAYS, HOMES, with_a_wire_around};

const THIEF: &str = "UP-1-04";
const PATIENCE: Duration = Duration::from_secs(60);

fn options(folder: &Path, http: SocketAddr, mqtt: SocketAddr, enabled: bool) -> ServerOptions {
    let mut config = Config {
        http: HttpConfig { listen: http, ..HttpConfig::default() },
        mqtt: MqttConfig { listen: mqtt, ..MqttConfig::default() },
        ..Config::default()
    };
    config.pipeline.snapshots.enabled = enabled;
    ServerOptions { data: folder.join("data"), config, simulated_clock: true, any_port: false }
}

/// Drives the neighbourhood until a day after the theft began; at each of `stops` the server is stopped and started again.
async fn run(folder: &Path, stops: &[Timestamp], enabled: bool) -> Server {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut server = Server::start(options(folder, any, any, enabled)).await.expect("starts");
    let token = server.store.create_api_token("simulator", Role::Operator, "test", DEMO_START).await.expect("token");
    let target =
        Target { mqtt: server.mqtt.to_string(), http: server.http.to_string(), admin_token: token, patience: PATIENCE };
    let world = World::new(&with_a_wire_around(server.verifying_key)).expect("a world");
    let (http, mqtt) = (server.http, server.mqtt);
    let (reached, mut stopping) = tokio::sync::mpsc::unbounded_channel::<mpsc::Sender<()>>();
    let mut waiting = stops.to_vec();
    // Time stands still while the server is away, so that it is stopped exactly there.
    let told = move |event: SimEvent| {
        if let SimEvent::Reached { at } = event
            && waiting.first().is_some_and(|stop| *stop <= at)
        {
            waiting.remove(0);
            let (started, away) = mpsc::channel();
            reached.send(started).expect("the test goes on");
            tokio::task::block_in_place(|| away.recv()).expect("started again");
        }
    };
    let until = DEMO_START.plus(i64::from(HISTORY_DAYS + 1) * DAY + 6 * 3_600);
    let drive = tokio::spawn(sim::drive(world, target, Pace::Lockstep, until, told));
    while let Some(started) = stopping.recv().await {
        server.stop().await;
        server = Server::start(options(folder, http, mqtt, enabled)).await.expect("starts again");
        started.send(()).expect("the simulation goes on");
    }
    let report = drive.await.expect("no panic").expect("driven");
    assert!(report.thefts[0].stolen_wh > 0.0);
    server
}

/// The seconds at which every meter of the zone was read in a round, with what each said.
async fn instants(store: &Store, zone: u16) -> BTreeMap<Timestamp, BTreeMap<MeterId, Vec<Now>>> {
    let homes = (1..=HOMES).map(|home| format!("M-{zone}-{home:02}"));
    let mut all: BTreeMap<Timestamp, BTreeMap<MeterId, Vec<Now>>> = BTreeMap::new();
    for name in homes.chain([format!("OBS-F1-T{zone}")]) {
        let Ok(meter) = MeterId::new(&name) else { continue };
        for now in store.snapshots(meter, Timestamp(0), Timestamp(i64::MAX)).await.expect("read") {
            let at = now.at.floor_to(60);
            if now.control == Some(instant_id(at)) {
                all.entry(at).or_default().entry(meter).or_default().push(now);
            }
        }
    }
    all
}

async fn case_of(store: &Store, zone: &str) -> Case {
    let zone = Some(ZoneId::new(zone).expect("id"));
    let cases = store.cases(CaseFilter { zone, ..CaseFilter::default() }).await.expect("read");
    assert_eq!(cases.len(), 1, "{cases:#?}");
    cases.into_iter().next().expect("one")
}

/// What must not depend on a server that goes away: when was read, and what the case says.
async fn outcome(store: &Store) -> (Vec<Timestamp>, Case) {
    let times = instants(store, 1).await.into_keys().collect();
    let mut case = case_of(store, "F1-T1").await;
    case.history.clear();
    (times, case)
}

async fn asked(store: &Store) -> usize {
    let rows = store.audit_of("zone:F1-T1", 100).await.expect("read");
    rows.iter().filter(|row| row.action == "snapshot.ask" && row.by == "pipeline").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_reads_every_meter_of_its_zone_at_three_seconds_and_a_bypass_stands_out() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let server = run(folder.path(), &[], true).await;
    let store = &server.store;
    let alarms = alarm_log::read(store).await.expect("read");
    let zone = ZoneId::new("F1-T1").expect("id");
    let raised = alarms.iter().find(|a| a.zone == zone && a.kind == AlarmReason::Missing).expect("an alarm").raised;

    let read = instants(store, 1).await;
    assert_eq!(read.len(), 3, "{:?}", read.keys());
    assert_eq!(asked(store).await, 3);
    for (at, meters) in &read {
        assert!(*at > raised);
        assert_eq!(meters.len(), usize::from(HOMES) + 1, "the observer and every home at {at}");
        for (meter, answers) in meters {
            assert_eq!(answers.len(), 1, "{meter} at {at}");
            assert!(answers[0].at.seconds_since(*at) <= 30);
        }
    }
    let times: Vec<Timestamp> = read.into_keys().collect();
    assert!(times.windows(2).all(|pair| pair[1].seconds_since(pair[0]) >= 1_800), "{times:?}");
    assert!(instants(store, 2).await.is_empty(), "a zone without an alarm is left alone");

    let case = case_of(store, "F1-T1").await;
    let thief = UsagePointId::new(THIEF).expect("id");
    assert_eq!(case.usage_point, Some(thief));
    let of = |piece: &&Evidence| piece.kind == EvidenceKind::CurrentUncounted && piece.direction == Direction::For;
    let uncounted: Vec<UsagePointId> =
        case.suspects.iter().filter(|s| s.evidence.iter().any(|e| of(&e))).map(|s| s.usage_point).collect();
    assert_eq!(uncounted, [thief], "{:#?}", case.suspects);
    assert!(case.evidence.iter().find(of).is_some_and(|e| e.words.contains("mean of 3 instants")), "{case:#?}");
    let missing = case.evidence.iter().find(|e| e.kind == EvidenceKind::MissingAtInstants).expect("evidence");
    assert_eq!(missing.direction, Direction::For);

    let report = recompute(store, case.id).await.expect("read").expect("there");
    let different: Vec<_> = report.rows.iter().filter(|row| !row.equal).collect();
    assert!(report.equal && report.rows.iter().any(|r| r.what.contains("one second")), "{different:#?}");
    assert!(store.controls(ControlFilter::default()).await.expect("read").is_empty(), "reads, no orders");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_between_the_seconds_reads_the_same_ones_and_none_twice() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let server = run(folder.path(), &[], true).await;
    let calm = outcome(&server.store).await;
    server.stop().await;
    // Between the asking and the second, at the second, and between two.
    let stops = [calm.0[0].plus(-60), calm.0[0], calm.0[1].plus(-900), calm.0[2].plus(-120)];
    let folder = tempfile::tempdir().expect("a temporary directory");
    let server = run(folder.path(), &stops, true).await;
    assert_eq!(outcome(&server.store).await, calm);
    assert_eq!(asked(&server.store).await, 3);
    let read = instants(&server.store, 1).await;
    assert!(read.values().all(|meters| meters.values().all(|answers| answers.len() == 1)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_when_it_is_switched_off() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let server = run(folder.path(), &[], false).await;
    assert_eq!((instants(&server.store, 1).await.len(), asked(&server.store).await), (0, 0));
    let case = case_of(&server.store, "F1-T1").await;
    assert!(case.evidence.iter().all(|e| e.kind != EvidenceKind::MissingAtInstants));
    server.stop().await;
}
