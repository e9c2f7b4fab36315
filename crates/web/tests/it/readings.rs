//! What pages and REST make of readings: the newest register with its time, nothing of what is wrong.

use metering::{
    Body, Frame, ProfileRecord, RecordFlags, Timestamp, WattHours,
    frame::{Hello, Now, Profile},
};
use store::{Incoming, Role};

use crate::{
    app::App,
    world::{NOW, SLOT, meter},
};

async fn send(app: &App, seq: u64, body: Body, received: Timestamp) {
    let frame = Frame::new(meter(1, 1), 77, seq, body);
    let incoming = Incoming { payload: frame.to_cbor().into(), frame, received };
    app.store.ingest(vec![incoming]).await.expect("stored");
}

fn record(end: Timestamp, import_wh: u64) -> ProfileRecord {
    ProfileRecord {
        end,
        flags: RecordFlags::default(),
        import_wh: WattHours(import_wh),
        export_wh: WattHours(0),
        voltage_mv: None,
        current_ma: None,
        extra: vec![],
        masked: None,
    }
}

#[tokio::test]
async fn the_display_shows_the_newest_register_with_its_time_whatever_said_it() {
    let app = App::new().await;
    let held = app.store.newest_register(meter(1, 1), NOW).await.expect("read").expect("one").import_wh.0;
    let (newest, at) = (held + 300, NOW.plus(SLOT));
    // An old hello and instantaneous values of hours ago, then a profile.
    let hello = Hello {
        at: Some(NOW.plus(-90 * 86_400)),
        firmware: String::new(),
        model: String::new(),
        profile_minutes: 15,
        import_wh: WattHours(5),
        export_wh: WattHours(0),
        relay: None,
        waiting: 0,
        senses_load: None,
    };
    send(&app, 1, Body::Hello(hello), at).await;
    send(&app, 2, Body::Profile(Profile { minutes: 15, records: vec![record(at, newest)] }), at).await;
    let register = app.store.newest_register(meter(1, 1), at).await.expect("read").expect("one");
    assert_eq!((register.at, register.import_wh.0), (at, newest));
    let shown = format!("{}.{:03}", newest / 1_000, newest % 1_000);
    // The pages' clock stands a slot earlier: up to then the register of before is the newest, with its time.
    let page = app.person("anna").await.get("/meters/M-101").await.body;
    assert!(page.contains("data-k=\"register-at\""), "{page}");
    let own = app.person("carla").await.get("/my").await.body;
    assert!(own.contains("data-k=\"register-at\"") && !own.contains("5.000"), "{own}");
    // Newer instantaneous values are newer than the profile.
    let now = Now { at: at.plus(60), import_wh: Some(WattHours(newest + 10)), ..Now::default() };
    send(&app, 3, Body::Now(now), at.plus(60)).await;
    let register = app.store.newest_register(meter(1, 1), at.plus(60)).await.expect("read").expect("one");
    assert_eq!((register.at, register.import_wh.0), (at.plus(60), newest + 10), "after {shown}");
}

#[tokio::test]
async fn a_mean_power_is_made_of_trusted_readings_only() {
    let app = App::new().await;
    let end = NOW.plus(-SLOT * 2);
    let wrong = record(end, u64::MAX);
    send(&app, 1, Body::Profile(Profile { minutes: 15, records: vec![wrong] }), NOW).await;
    let first = app.store.profile(meter(2, 5), NOW.plus(-3_600), NOW).await.expect("read");
    assert!(!first.is_empty());
    let engineer = app.program(Role::Engineer).await;
    let rows = engineer.get("/api/v1/meters/M-101/profile?hours=2").await.json();
    for row in rows["rows"].as_array().expect("rows") {
        let is_sound = row["import_w"].as_u64().is_none_or(|watts| watts < 100_000);
        assert!(is_sound, "{row}");
        assert!(row["quality"] == "measured" || row["import_w"].is_null(), "{row}");
    }
}
