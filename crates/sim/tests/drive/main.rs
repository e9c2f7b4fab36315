//! A neighbourhood driven over real sockets: everything arrives once, orders are answered while time stands still, and a server
//! that dies again and again changes nothing in the outcome.

mod server;

use std::{collections::BTreeMap, time::Duration};

use metering::{
    Body, Control, ControlKind, EventKind, Frame, MeterId, ProfileRecord, Timestamp, control::ReplyOutcome,
};
use server::{Server, State};
use sim::{
    CutOff, Pace, SimConfig, SimEvent, SimReport, Target, TheftKind, TheftPlan, World, config::DEMO_START, drive,
};

const DAY: i64 = 86_400;
const THIEF: &str = "M-1-03";

fn config() -> SimConfig {
    let plan = TheftPlan {
        kind: TheftKind::Shunt { kept: 0.1 },
        transformer: 0,
        home: Some(2),
        start: DEMO_START.plus(DAY + 3_600),
        end: None,
        zone_share: Some(0.3),
    };
    SimConfig {
        transformers: 2,
        homes_per_transformer: 5,
        thefts: vec![plan],
        link_losses_per_month: 20.0,
        ..SimConfig::honest(4, 1)
    }
}

fn order(id: u64, at: Timestamp, kind: ControlKind) -> (Timestamp, MeterId, Control) {
    let control = Control { id, kind, expires: at.plus(7_200), counter: id, signatures: vec![] };
    (at, MeterId::new(THIEF).expect("valid"), control)
}

async fn run(dies_every: Option<u64>, pace: Pace) -> (Server, SimReport, Vec<SimEvent>) {
    let orders = vec![
        order(1, DEMO_START.plus(DAY + 2 * 3_600), ControlKind::Disconnect),
        order(2, DEMO_START.plus(DAY + 4 * 3_600), ControlKind::Reconnect),
    ];
    let server = Server::start(State { dies_every, orders, ..State::default() }).await;
    let target = Target {
        mqtt: format!("mqtt://{}", server.mqtt),
        http: format!("http://{}", server.http),
        admin_token: "token".into(),
        patience: Duration::from_secs(20),
    };
    let mut told = Vec::new();
    let world = World::new(&config()).expect("a world");
    let until = DEMO_START.plus(DAY + 8 * 3_600);
    let report = drive(world, target, pace, until, |event| told.push(event)).await.expect("driven");
    (server, report, told)
}

/// What a server ends up with: every meter's profile in order.
fn profiles(server: &Server) -> BTreeMap<MeterId, Vec<ProfileRecord>> {
    let mut profiles: BTreeMap<MeterId, Vec<ProfileRecord>> = BTreeMap::new();
    for ((meter, ..), bytes) in &server.state().frames {
        if let Body::Profile(profile) = Frame::from_cbor(bytes).expect("a frame").body {
            profiles.entry(*meter).or_default().extend(profile.records);
        }
    }
    profiles
}

fn replies(server: &Server, control: u64) -> Vec<ReplyOutcome> {
    let state = server.state();
    let reply = |bytes| match Frame::from_cbor(bytes).expect("a frame").body {
        Body::Reply(reply) if reply.control == control => Some(reply.outcome),
        _ => None,
    };
    state.frames.values().filter_map(|bytes| reply(bytes)).collect()
}

#[tokio::test]
async fn every_frame_arrives_once_and_profiles_end_at_the_registers() {
    let (server, report, told) = run(None, Pace::Lockstep).await;
    {
        let state = server.state();
        assert_eq!(state.frames.len() as u64, report.frames_sent);
        assert_eq!((state.duplicates, state.conflicts, report.frames_resent), (0, 0, 0));
        assert_eq!(state.topology_rows, 3 + 10);
        assert!(state.clocks.windows(2).all(|w| w[0] <= w[1]));
    }
    let profiles = profiles(&server);
    for truth in report.meters.iter().filter(|m| m.unacknowledged == 0) {
        let records = &profiles[&truth.meter];
        let ends: Vec<i64> = records.iter().map(|r| r.end.0).collect();
        assert_eq!(ends, (1..=128).map(|n| DEMO_START.0 + 900 * n).collect::<Vec<_>>());
        assert_eq!(records.last().map(|r| r.import_wh.0), Some(truth.last_import_wh));
    }
    assert_eq!(replies(&server, 1), [ReplyOutcome::Done]);
    assert_eq!(replies(&server, 2), [ReplyOutcome::Armed]);
    let at = |wanted: fn(&SimEvent) -> Option<Timestamp>| told.iter().find_map(wanted);
    let opened = at(|e| if let SimEvent::RelayOpened { at, .. } = e { Some(*at) } else { None });
    let closed = at(|e| if let SimEvent::RelayClosed { at, .. } = e { Some(*at) } else { None });
    assert_eq!(opened, Some(DEMO_START.plus(DAY + 2 * 3_600)), "cut at the instant of the order");
    assert!(closed.is_some_and(|at| at > DEMO_START.plus(DAY + 4 * 3_600)), "{closed:?}");
    assert!(told.iter().any(|e| matches!(e, SimEvent::LinkLost { .. })), "some links failed");
    // records of the history come by the day and without instantaneous values, then one by one and with them
    assert!(report.frames_sent < 13 * (1 + 32 + 32 + 4) + 100, "{} frames", report.frames_sent);
}

#[tokio::test]
async fn a_server_that_dies_again_and_again_changes_nothing() {
    let (calm, calm_report, _) = run(None, Pace::Lockstep).await;
    let (server, report, told) = run(Some(37), Pace::Lockstep).await;
    let deaths = server.state().deaths;
    assert!(deaths >= 10, "{deaths} deaths");
    assert!(report.connections_lost > 0 && report.frames_resent > 0);
    assert_eq!(server.state().conflicts, 0);
    assert_eq!(profiles(&server), profiles(&calm));
    assert_eq!(
        (report.meters, report.zones, report.thefts),
        (calm_report.meters, calm_report.zones, calm_report.thefts)
    );
    assert!(replies(&server, 1).contains(&ReplyOutcome::Done));
    assert_eq!(told.iter().filter(|e| matches!(e, SimEvent::RelayOpened { .. })).count(), 1);
}

#[tokio::test]
async fn a_paced_run_ends_as_the_lockstep_run_does() {
    let (lockstep, report, _) = run(None, Pace::Lockstep).await;
    let (paced, paced_report, _) = run(None, Pace::Times(1e6)).await;
    assert_eq!(report.thefts, paced_report.thefts);
    assert_eq!(profiles(&lockstep), profiles(&paced));
    let (many, few) = (paced.state().clocks.len(), lockstep.state().clocks.len());
    assert!(many > few * 5, "told {many} and {few} times");
}

#[tokio::test]
async fn what_neighbours_found_reaches_the_server_when_the_link_is_back() {
    let theft = TheftPlan { start: DEMO_START.plus(DAY + 1_800), ..config().thefts[0] };
    let cut_off = CutOff { from: DEMO_START.plus(DAY), to: DEMO_START.plus(DAY + 5_400), lost_permille: 2 };
    let config = SimConfig { thefts: vec![theft], cut_off: Some(cut_off), link_losses_per_month: 0.0, ..config() };
    let server = Server::start(State::default()).await;
    let target = Target {
        mqtt: format!("mqtt://{}", server.mqtt),
        http: format!("http://{}", server.http),
        admin_token: "token".into(),
        patience: Duration::from_secs(20),
    };
    let flagged = |server: &Server| -> Vec<MeterId> {
        let state = server.state();
        let is_flag = |bytes: &Vec<u8>| {
            let body = Frame::from_cbor(bytes).expect("a frame").body;
            matches!(body, Body::Event(event) if event.kind == EventKind::LocalDiscrepancy)
        };
        state.frames.iter().filter(|(_, bytes)| is_flag(bytes)).map(|((meter, ..), _)| *meter).collect()
    };
    let mut before = Vec::new();
    let world = World::new(&config).expect("a world");
    let zone: Vec<MeterId> = [0, 1, 2, 3, 4, 10].map(|place| world.meters()[place]).into();
    let watch = |event| match event {
        SimEvent::LinkRestored { .. } => before.extend(flagged(&server)),
        SimEvent::NeighboursCompared { at, .. } => assert!(at < cut_off.to),
        _ => {}
    };
    let report = drive(world, target, Pace::Lockstep, cut_off.to.plus(3_600), watch).await.expect("driven");
    assert_eq!(before, [], "the server knows nothing before the link is back");
    let mut told = flagged(&server);
    told.sort();
    let mut zone = zone;
    zone.sort();
    assert_eq!(told, zone);
    assert!(report.meters.iter().all(|truth| truth.unacknowledged == 0));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_with_what_to_do() {
    let target = Target {
        mqtt: "127.0.0.1:9".into(),
        http: "127.0.0.1:9".into(),
        admin_token: String::new(),
        patience: Duration::from_millis(100),
    };
    let world = World::new(&config()).expect("a world");
    let error = drive(world, target, Pace::Lockstep, DEMO_START.plus(DAY), |_| {}).await.expect_err("nobody there");
    assert!(error.to_string().contains("is it running"), "{error}");
}
