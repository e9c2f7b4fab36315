//! Every control has an end, whoever speaks about it and however many there are; and nobody answers for another meter.

use std::{path::Path, time::Duration};

use gridtally::{
    config::Config,
    server::{Server, ServerOptions},
};
use metering::{
    Approver, Body, ControlKind, ControlState, EventKind, Frame, MeterId, Timestamp,
    control::ReplyOutcome,
    frame::{Now, Reply},
};
use store::{Change, ControlRequest, ControlTarget, EventFilter, Incoming, Store};
use tokio::sync::broadcast::error::RecvError;

const TOPOLOGY: &str = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\n\
    F-1,,M-FEEDER,,,1,ABC,2026-01-01\n\
    F-1,,,U-1,M-1,1,A,2026-01-01\n\
    F-1,,,U-2,M-2,1,A,2026-01-01\n";

fn id(name: &str) -> MeterId {
    MeterId::new(name).expect("id")
}

async fn started(folder: &Path) -> Server {
    let data = folder.join("data");
    let options = ServerOptions { data, config: Config::default(), simulated_clock: false, any_port: true };
    Server::start(options).await.expect("starts")
}

fn request(meter: MeterId, kind: ControlKind, by: String, expires: Timestamp) -> ControlRequest {
    ControlRequest {
        target: ControlTarget::Meter(meter),
        kind,
        reason: "test".into(),
        by: Approver::Person(by),
        approve: kind == ControlKind::Reconnect || meter == id("M-1"),
        expires,
        case: None,
    }
}

/// Waits until a control has ended; how.
async fn end_of(store: &Store, control: u64) -> ControlState {
    let mut changes = store.subscribe();
    let ended = async {
        loop {
            let state = store.control(control).await.expect("read").expect("there").state;
            if state.is_final() {
                return state;
            }
            match changes.recv().await {
                Ok(Change::Control { .. }) | Err(RecvError::Lagged(_)) => {}
                Ok(_) => continue,
                Err(RecvError::Closed) => panic!("the store was closed"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), ended).await.expect("it ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_another_meter_changes_nothing_and_is_told() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let server = started(folder.path()).await;
    let (store, now) = (server.store.clone(), server.clock.now());
    store.import_topology(TOPOLOGY, "test", now).await.expect("imported");
    let cut = request(id("M-1"), ControlKind::Disconnect, "test".into(), now.plus(4));
    let control = store.request_control(cut, now).await.expect("approved");
    let said = [
        Body::Reply(Reply { control, outcome: ReplyOutcome::Signature, now: Now::default() }),
        Body::Reply(Reply {
            control,
            outcome: ReplyOutcome::Done,
            now: Now { control: Some(control), ..Now::default() },
        }),
        Body::Snapshot(Now { control: Some(control), ..Now::default() }),
    ];
    for (body, seq) in said.into_iter().zip(1..) {
        let frame = Frame::new(id("M-2"), 1, seq, body);
        let payload = frame.to_cbor().into();
        store.ingest(vec![Incoming { frame, payload, received: now }]).await.expect("stored");
    }
    assert_eq!(end_of(&store, control).await, ControlState::Expired, "by time, whatever was said");
    let told = EventFilter { kinds: vec![EventKind::ForeignAnswer], ..EventFilter::default() };
    let events = store.events(told).await.expect("read");
    assert_eq!(events.iter().map(|event| event.meter).collect::<Vec<_>>(), [id("M-2")], "once");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_of_many_controls_ends_without_any_network() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let server = started(folder.path()).await;
    let (store, now) = (server.store.clone(), server.clock.now());
    store.enrol(&[id("M-9")], "test", now).await.expect("enrolled");
    let others: Vec<MeterId> = (0..1_002).map(|n| id(&format!("X-{n}"))).collect();
    for some in others.chunks(500) {
        store.enrol(some, "test", now).await.expect("enrolled");
    }
    let restore = request(id("M-9"), ControlKind::Reconnect, "test".into(), now.plus(5));
    let control = store.request_control(restore, now).await.expect("approved");
    for (n, meter) in others.into_iter().enumerate() {
        let later = request(meter, ControlKind::Disconnect, format!("person-{}", n % 4), now.plus(3_600));
        store.request_control(later, now).await.expect("asked");
    }
    assert_eq!(end_of(&store, control).await, ControlState::Expired);
    server.stop().await;
}
