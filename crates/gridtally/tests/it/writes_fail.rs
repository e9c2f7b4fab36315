//! Every named transaction fails once at every row that it writes, and once at its end, in a simulated neighbourhood with a theft and a
//! tampered meter: at the end there are the same cases, controls and balances as in an undisturbed run.

use std::{net::SocketAddr, path::Path, time::Duration};

use gridtally::{
    config::{Config, HttpConfig, MqttConfig},
    server::{Server, ServerOptions},
};
use losses::{balance::EnergyBalance, case::Case};
use metering::{Body, EventKind, Frame, MeterEvent, MeterId, Timestamp, supply::SupplyPolicy};
use sim::{Pace, SimEvent, Target, World, config::DEMO_START};
use store::{CaseFilter, ControlFilter, Incoming, Role, Store};

use crate::neighbourhood::{DAY, HISTORY_DAYS, with_a_wire_around};

const PATIENCE: Duration = Duration::from_secs(60);
const TAMPERED: &str = "M-2-03";

/// A cover that was opened and a shunt, at once: the written policy switches off.
fn tampering(at: Timestamp) -> Vec<Incoming> {
    let meter = MeterId::new(TAMPERED).expect("id");
    let frame = |(seq, kind): (u64, EventKind)| {
        let event = MeterEvent::bare(kind, at);
        // A boot that the simulated meter does not have.
        let frame = Frame::new(meter, 9_999, seq, Body::Event(event));
        Incoming { payload: frame.to_cbor().into(), frame, received: at }
    };
    [(1, EventKind::CoverOpen), (2, EventKind::Bypass)].into_iter().map(frame).collect()
}

/// Sent again until it is stored, as a meter does.
async fn store_it(store: Store, frames: Vec<Incoming>) {
    while store.ingest(frames.clone()).await.is_err() {
        tokio::task::yield_now().await;
    }
}

/// What must be the same: cases, controls with their steps, balances to the bit.
#[derive(Debug, PartialEq)]
struct Outcome {
    cases: Vec<Case>,
    controls: Vec<String>,
    balances: Vec<EnergyBalance>,
}

async fn outcome(store: &Store, until: Timestamp) -> Outcome {
    let cases = store.cases(CaseFilter { limit: 1_000, ..CaseFilter::default() }).await.expect("cases");
    let controls = store.controls(ControlFilter::default()).await.expect("controls");
    let words = |c: &store::StoredControl| {
        let steps: Vec<_> = c.history.iter().map(|step| (step.at, step.state.word())).collect();
        format!("{} {} {} {:?} {steps:?}", c.id, c.meter, c.kind.word(), c.case)
    };
    let mut balances = Vec::new();
    for zone in &store.topology(until).await.expect("topology").zones {
        balances.extend(store.balances(zone.zone, Timestamp(0), until).await.expect("balances"));
    }
    Outcome { cases, controls: controls.iter().map(words).collect(), balances }
}

/// Runs the neighbourhood until a day after the theft began.
async fn run(folder: &Path, fails: bool) -> Outcome {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        http: HttpConfig { listen: any, ..HttpConfig::default() },
        mqtt: MqttConfig { listen: any, ..MqttConfig::default() },
        ..Config::default()
    };
    let options = ServerOptions { data: folder.join("data"), config, simulated_clock: true, any_port: false };
    let server = Server::start(options).await.expect("starts");
    let store = server.store.clone();
    let token = store.create_api_token("simulator", Role::Operator, "test", DEMO_START).await.expect("token");
    let policy = SupplyPolicy { automatic_kinds: vec![EventKind::CoverOpen], ..SupplyPolicy::default() };
    store.set_setting("policy", &policy, "test", DEMO_START).await.expect("policy");
    let target =
        Target { mqtt: server.mqtt.to_string(), http: server.http.to_string(), admin_token: token, patience: PATIENCE };
    let world = World::new(&with_a_wire_around(server.verifying_key)).expect("a world");
    let until = DEMO_START.plus(i64::from(HISTORY_DAYS + 1) * DAY + 6 * 3_600);
    let tampered_at = DEMO_START.plus(i64::from(HISTORY_DAYS) * DAY + 2 * 3_600);
    let (runtime, in_told) = (tokio::runtime::Handle::current(), store.clone());
    let (mut is_armed, mut is_tampered) = (!fails, false);
    let told = move |event: SimEvent| {
        let SimEvent::Reached { at } = event else { return };
        let (store, runtime) = (in_told.clone(), runtime.clone());
        if !std::mem::replace(&mut is_armed, true) {
            // The neighbourhood is set up: what fails from here on, nobody but the server can try again.
            tokio::task::block_in_place(|| runtime.block_on(store.fail_each_write_once())).expect("prepared");
        }
        if at >= tampered_at && !std::mem::replace(&mut is_tampered, true) {
            tokio::task::block_in_place(|| runtime.block_on(store_it(store, tampering(at))));
        }
    };
    let drive = tokio::spawn(sim::drive(world, target, Pace::Lockstep, until, told));
    drive.await.expect("no panic").expect("driven");
    let failed = store.faults();
    if fails {
        for name in ["slot", "tampering", "snapshots", "control.send", "control.step", "flights", "ingest"] {
            let counts = failed.iter().find(|(known, _)| *known == name).map(|(_, counts)| *counts);
            assert!(counts.is_some_and(|counts| counts.rows > 0 && counts.ends == 1), "{name}: {counts:?}");
        }
    }
    let outcome = outcome(&store, until).await;
    server.stop().await;
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_write_fails_once_the_end_is_the_same() {
    let (calm, rough) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let undisturbed = run(calm.path(), false).await;
    assert!(undisturbed.cases.len() >= 2, "the theft and the tampering: {:#?}", undisturbed.cases);
    assert!(!undisturbed.controls.is_empty());
    let disturbed = run(rough.path(), true).await;
    assert_eq!(disturbed.controls, undisturbed.controls);
    assert_eq!(disturbed.cases, undisturbed.cases);
    let same = disturbed.balances == undisturbed.balances;
    assert!(same, "{} balances and {}", disturbed.balances.len(), undisturbed.balances.len());
}
