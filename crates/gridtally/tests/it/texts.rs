//! Texts (SMS) reach the running server as files of its inbox: registers and alerts are stored once, what is damaged or forged is
//! counted and kept aside.

use std::{fs, path::Path, time::Duration};

use gridtally::{
    config::{Config, TextsConfig},
    server::{Server, ServerOptions},
};
use headend::Counters;
use metering::{
    EventKind, IntervalLength, MeterId, RecordFlags, Timestamp, WattHours,
    sms::{Text, TextBody, TextKey},
};
use store::EventFilter;

const PATIENCE: Duration = Duration::from_secs(60);

fn options(folder: &Path, inbox: &Path) -> ServerOptions {
    let texts = TextsConfig { inbox: Some(inbox.into()), ..TextsConfig::default() };
    ServerOptions {
        data: folder.join("data"),
        config: Config { texts: TextsConfig { poll_seconds: std::num::NonZeroU32::MIN, ..texts }, ..Config::default() },
        simulated_clock: false,
        any_port: true,
    }
}

/// Waits for the head-end's counts.
async fn counted(server: &Server, wanted: impl Fn(&Counters) -> bool) -> Counters {
    let reached = async {
        while !wanted(&server.counters()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, reached).await.is_err() {
        panic!("the inbox did not come so far: {:?}", server.counters());
    }
    server.counters()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_stored_once_and_forged_ones_kept_aside() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let inbox = folder.path().join("inbox");
    fs::create_dir(&inbox).expect("an inbox");
    let server = Server::start(options(folder.path(), &inbox)).await.expect("starts");
    let (store, now) = (server.store.clone(), server.clock.now());
    let meter = MeterId::new("M-1").expect("id");
    let enrolled = store.enrol(&[meter], "test", now).await.expect("enrolled");
    let key = TextKey::from_secret(&enrolled[0].secret);

    let end = now.floor_to(900);
    let register = TextBody::Register {
        end,
        length: IntervalLength::M15,
        flags: RecordFlags::default(),
        import_wh: WattHours(4_711),
        export_wh: WattHours(8),
    };
    let register = Text { meter, counter: 1, body: register }.write(&key);
    let alert = TextBody::Alert { at: end, kind: EventKind::CoverOpen, import_wh: WattHours(4_712) };
    let alert = Text { meter, counter: 2, body: alert }.write(&key);
    let put = |name: &str, text: &str| fs::write(inbox.join(name), text).expect("writes");
    put("IN20260302_000000_00_+491234_00.txt", &register);
    put("IN20260302_000001_00_+491234_00.txt", &alert);
    put("IN20260302_000002_00_+491234_00.txt", &register.replace("4711", "9711"));
    put("IN20260302_000003_00_+491234_00.txt", "Win a prize");
    // the network delivers the alert a second time
    put("IN20260302_000004_00_+491234_00.txt", &alert);
    counted(&server, |counters| (counters.texts_taken, counters.texts_refused) == (3, 2)).await;

    let records = store.profile(meter, Timestamp(end.0 - 1), end).await.expect("read");
    let registers: Vec<_> = records.iter().map(|r| (r.record.end, r.record.import_wh, r.record.export_wh)).collect();
    assert_eq!(registers, [(end, WattHours(4_711), WattHours(8))]);
    let filter = EventFilter { meter: Some(meter), kinds: vec![EventKind::CoverOpen], ..EventFilter::default() };
    let events = store.events(filter).await.expect("read");
    assert_eq!(events.iter().map(|e| (e.event.kind, e.event.at)).collect::<Vec<_>>(), [(EventKind::CoverOpen, end)]);
    assert_eq!(names(&inbox.join("taken")).len(), 3);
    let refused = ["IN20260302_000002_00_+491234_00.txt", "IN20260302_000003_00_+491234_00.txt"];
    assert_eq!(names(&inbox.join("refused")), refused);
    assert_eq!(names(&inbox), ["refused", "taken"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_inbox_is_not_there_does_not_start() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let missing = folder.path().join("inbox");
    let Err(why) = Server::start(options(folder.path(), &missing)).await else { panic!("it started") };
    assert!(why.to_string().contains("inbox of texts"), "{why}");
}
