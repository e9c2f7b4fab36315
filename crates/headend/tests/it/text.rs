//! Meters by SMS.

use headend::{Inbox, Outcome, TEXT_BOOT, TextOutcome, TextRefused};
use metering::{
    Body, EventKind, IntervalLength, RecordFlags, Timestamp, WattHours,
    control::ReplyOutcome,
    sms::{Text, TextBody, TextError, TextKey, TextOrder},
};

use crate::support::*;

fn key(n: usize) -> TextKey {
    TextKey::from_secret(&secret(n))
}

fn register(counter: u64) -> Text {
    let body = TextBody::Register {
        end: NOW,
        length: IntervalLength::M15,
        flags: RecordFlags::TAMPER,
        import_wh: WattHours(1_234_567),
        export_wh: WattHours(8),
    };
    Text { meter: meter(1), counter, body }
}

#[tokio::test]
async fn a_register_becomes_a_reading_and_is_taken_once_it_is_stored() {
    let mut server = server().await;
    let line = register(17).write(&key(1));
    let (taken, deliveries) = tokio::join!(server.headend.take_text(&line), async {
        let batch = server.batches.recv().await.expect("a batch");
        batch.done.send(vec![Outcome::Stored]).expect("somebody waits");
        batch.deliveries
    });
    assert_eq!(taken, Ok(TextOutcome::Frame(meter(1), Outcome::Stored)));
    let frame = deliveries[0].frame.as_ref().expect("a frame");
    assert_eq!((frame.meter, frame.boot, frame.seq), (meter(1), TEXT_BOOT, 17));
    let Body::Profile(profile) = &frame.body else { panic!("not a profile") };
    let record = &profile.records[0];
    assert_eq!((record.end, record.import_wh, record.export_wh), (NOW, WattHours(1_234_567), WattHours(8)));
    assert_eq!(metering::Frame::from_cbor(&deliveries[0].payload).as_ref(), Ok(frame), "the log can be read again");
}

#[tokio::test]
async fn what_is_not_genuine_never_reaches_the_pipeline() {
    let mut server = server().await;
    let good = register(1).write(&key(1));
    for (line, why) in [
        (String::from("Your parcel waits"), TextRefused::NotGenuine(TextError::Foreign)),
        (good.replace("1234567", "1234568"), TextRefused::NotGenuine(TextError::Code)),
        (register(1).write(&key(2)), TextRefused::NotGenuine(TextError::Code)),
        (Text { meter: meter(77), ..register(1) }.write(&key(1)), TextRefused::Unknown(meter(77))),
    ] {
        assert_eq!(server.headend.take_text(&line).await, Err(why), "{line}");
    }
    let order = server.headend.write_order(meter(1), 3, NOW.plus(600), TextOrder::Reconnect).expect("enrolled");
    assert_eq!(Text::read(&order, &key(1)).map(|text| text.counter), Ok(3), "the meter takes it");
    assert_eq!(server.headend.take_text(&order).await, Err(TextRefused::Order));
    let answer = TextBody::Answer { to: 3, outcome: ReplyOutcome::Armed };
    let answer = Text { meter: meter(1), counter: 2, body: answer }.write(&key(1));
    let taken = server.headend.take_text(&answer).await;
    assert_eq!(taken, Ok(TextOutcome::Answer(meter(1), 3, ReplyOutcome::Armed)));
    assert!(server.batches.try_recv().is_err(), "nothing was delivered");
}

#[tokio::test]
async fn an_inbox_is_emptied_and_what_is_not_stored_stays() {
    let mut server = server().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut inbox = Inbox::new(folder.path());
    let put = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).expect("writes");
    let alert = TextBody::Alert { at: Timestamp(5), kind: EventKind::CoverOpen, import_wh: WattHours(1) };
    let alert = Text { meter: meter(2), counter: 1, body: alert }.write(&key(2));
    // gammu-smsd writes UTF-16 unless told otherwise
    let wide: Vec<u8> = [0xfe, 0xff].into_iter().chain(alert.encode_utf16().flat_map(u16::to_be_bytes)).collect();
    put("IN20260302_000000_00_+491234_00.txt", register(1).write(&key(1)).as_bytes());
    put("IN20260302_000001_00_+491234_00.txt", b"Win a prize");
    put("IN20260302_000002_00_+491234_00.txt", &wide);
    put("IN20260302_000003_00_+491234_00.txt", register(2).write(&key(1)).as_bytes());
    put("IN20260302_000004_00_+491234_00.bin", b"\x01\x02");
    put("notes.md", b"not a text");
    let (pass, ()) = tokio::join!(server.headend.take_inbox(&mut inbox), async {
        for outcome in [Some(Outcome::Stored), Some(Outcome::Duplicate), None] {
            let batch = server.batches.recv().await.expect("a batch");
            if let Some(outcome) = outcome {
                batch.done.send(vec![outcome]).expect("somebody waits");
            }
        }
    });
    let pass = pass.expect("readable");
    assert_eq!(
        (pass.taken.len(), pass.refused.len(), pass.left),
        (2, 0, 3),
        "not yet refused: it may still be written"
    );
    let (pass, ()) = tokio::join!(server.headend.take_inbox(&mut inbox), async {
        drop(server.batches.recv().await.expect("offered again"));
    });
    let pass = pass.expect("readable");
    assert_eq!((pass.taken.len(), pass.refused.len(), pass.left), (0, 2, 1));
    assert!(pass.refused[0].1.contains("GT1") && pass.refused[1].1.contains(".txt"), "{:?}", pass.refused);
    let count = |place: &str| std::fs::read_dir(folder.path().join(place)).map_or(0, Iterator::count);
    assert_eq!((count("taken"), count("refused")), (2, 2));
    assert_eq!(waiting(folder.path()), ["IN20260302_000003_00_+491234_00.txt"]);
    let counters = server.headend.counters();
    assert_eq!((counters.texts_taken, counters.texts_refused, counters.texts_not_stored), (2, 2, 2));
}

#[tokio::test]
async fn a_text_that_is_still_being_written_is_not_refused() {
    let mut server = server().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut inbox = Inbox::new(folder.path());
    let (name, line) = ("IN20260302_000000_00_+491234_00.txt", register(1).write(&key(1)));
    for length in [0, 10, line.len() - 1] {
        std::fs::write(folder.path().join(name), &line[..length]).expect("writes");
        let pass = server.headend.take_inbox(&mut inbox).await.expect("readable");
        assert_eq!((pass.taken.len(), pass.refused.len(), pass.left), (0, 0, 1), "{length} characters");
    }
    std::fs::write(folder.path().join(name), &line).expect("writes");
    let (pass, ()) = tokio::join!(server.headend.take_inbox(&mut inbox), async {
        let batch = server.batches.recv().await.expect("a batch");
        batch.done.send(vec![Outcome::Stored]).expect("somebody waits");
    });
    assert_eq!(pass.expect("readable").taken, [TextOutcome::Frame(meter(1), Outcome::Stored)]);
}

#[tokio::test]
async fn two_files_of_one_name_are_both_kept() {
    let server = server().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut inbox = Inbox::new(folder.path());
    for text in ["first", "second"] {
        std::fs::write(folder.path().join("a.txt"), text).expect("writes");
        for _ in 0..2 {
            server.headend.take_inbox(&mut inbox).await.expect("readable");
        }
    }
    let read = |name: &str| std::fs::read_to_string(folder.path().join("refused").join(name)).expect("kept");
    assert_eq!((read("a.txt").as_str(), read("a.txt.1").as_str()), ("first", "second"));
    assert!(server.headend.take_inbox(&mut Inbox::new(folder.path().join("nowhere"))).await.is_err());
    assert_eq!(server.headend.counters().inbox_failures, 1);
}

fn waiting(folder: &std::path::Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).expect("readable").filter_map(|e| e.ok()?.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".txt") || name.ends_with(".bin")).collect()
}
