//! The abort switch stops a disconnection that was approved and not yet sent.

use std::time::Duration;

use gridtally::{
    config::Config,
    server::{Server, ServerOptions},
};
use metering::{Approver, ControlKind, ControlState, UsagePointId};
use store::{Change, ControlRequest, ControlTarget};

const TOPOLOGY: &str = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\n\
    F-1,,M-FEEDER,,,1,ABC,2026-01-01\n\
    F-1,,,U-1,M-1,1,A,2026-01-01\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_disconnection_is_refused_once_the_switch_is_on() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let options = ServerOptions {
        data: folder.path().join("data"),
        config: Config::default(),
        simulated_clock: false,
        any_port: true,
    };
    let server = Server::start(options).await.expect("starts");
    let (store, now) = (server.store.clone(), server.clock.now());
    let report = store.import_topology(TOPOLOGY, "test", now).await.expect("imported");
    assert!(report.rejected.is_empty(), "{:?}", report.rejected);
    let request = ControlRequest {
        target: ControlTarget::UsagePoint(UsagePointId::new("U-1").expect("id")),
        kind: ControlKind::Disconnect,
        reason: "test".into(),
        by: Approver::Person("test".into()),
        approve: true,
        expires: now.plus(3_600),
        case: None,
    };
    let mut changes = store.subscribe();
    // The meter is not connected, so the control waits.
    let id = store.request_control(request, now).await.expect("approved");
    store.set_setting("abort_switch", &true, "test", now).await.expect("set");
    let refused = async {
        loop {
            let control = store.control(id).await.expect("read").expect("there");
            match control.state {
                ControlState::Refused(why) => return why,
                ControlState::Approved => {}
                other => panic!("the control went on to {other:?}"),
            }
            while !matches!(changes.recv().await, Ok(Change::Control { .. })) {}
        }
    };
    let why = tokio::time::timeout(Duration::from_secs(30), refused).await.expect("refused within 30 s");
    assert!(why.contains("abort switch"), "{why}");
    server.stop().await;
}
