//! What a meter may publish, and what becomes of payloads that are no frames.

use headend::{FrameError, Outcome};
use metering::{
    DecodeError, Frame,
    topic::{Topic, UpKind},
};

use crate::support::*;

#[tokio::test]
async fn cbor_and_json_frames_are_delivered_with_their_bytes() {
    let mut server = server().await;
    let mut client = server.client(4, 1).await;
    let frame = now_frame(meter(1), 1);
    let json = serde_json::to_vec(&frame).expect("json");
    for payload in [frame.to_cbor(), json] {
        // QoS 0
        client.write(&publish(4, "gt/1/M-1/up/now", &payload, 0, 0)).await;
        let stored = server.store(1, Outcome::Stored).await;
        assert_eq!(stored[0].frame.as_ref(), Ok(&frame));
        assert_eq!(stored[0].payload, payload);
        assert_eq!((stored[0].meter, stored[0].kind, stored[0].received), (meter(1), Some(UpKind::Now), NOW));
        assert!(stored[0].peer.is_some_and(|peer| peer.ip().is_loopback()));
    }
    client.expect_silence().await;
}

#[tokio::test]
async fn what_is_no_frame_is_delivered_as_such_and_acknowledged_after_its_quarantine() {
    let mut server = server().await;
    let frame = now_frame(meter(1), 1);
    let mut later = frame.clone();
    later.v = 9;
    let mut longer = frame.to_cbor();
    longer.push(0);
    let cases: [(&str, Vec<u8>, FrameError); 8] = [
        ("now", vec![0xff; 40], FrameError::Decode(DecodeError::Malformed(String::new()))),
        ("now", frame.to_cbor()[..9].to_vec(), FrameError::Decode(DecodeError::Malformed(String::new()))),
        ("now", b"{\"v\":1,".to_vec(), FrameError::Decode(DecodeError::Malformed(String::new()))),
        ("now", vec![], FrameError::Decode(DecodeError::Empty)),
        ("now", later.to_cbor(), FrameError::Decode(DecodeError::Version(9))),
        ("now", longer, FrameError::Decode(DecodeError::TrailingBytes)),
        ("now", now_frame(meter(2), 1).to_cbor(), FrameError::OtherMeter(meter(2))),
        ("event", frame.to_cbor(), FrameError::OtherKind(UpKind::Now)),
    ];
    for version in [4, 5] {
        let mut client = server.client(version, 1).await;
        for (level, payload, expected) in &cases {
            client.write(&publish(version, &format!("gt/1/M-1/up/{level}"), payload, 2, 77)).await;
            let stored = server.store(1, Outcome::Quarantined).await;
            match (stored[0].frame.as_ref().expect_err("no frame"), expected) {
                (FrameError::Decode(DecodeError::Malformed(why)), FrameError::Decode(DecodeError::Malformed(_))) => {
                    assert!(!why.is_empty());
                }
                (found, expected) => assert_eq!(found, expected),
            }
            let puback = client.packet().await;
            assert_eq!((puback.kind, puback.id()), (PUBACK, 77));
            assert_eq!(puback.body.get(2), if version == 5 { Some(&0x99) } else { None });
        }
        // nothing else was disturbed
        client.publish(&frame, 78).await;
        server.store(1, Outcome::Stored).await;
        assert_eq!(client.packet().await.id(), 78);
    }
    assert_eq!(server.headend.counters().malformed, 16);
}

#[tokio::test]
async fn a_topic_that_is_not_the_meters_own_ends_the_connection() {
    let mut server = server().await;
    let frame = now_frame(meter(1), 1).to_cbor();
    let cases = [
        ("gt/1/M-2/up/now", 0x87),
        ("gt/1/M-1/down/control", 0x87),
        ("gt/1/M-1/up/other", 0x87),
        ("gt/1/M-1/up/now/x", 0x87),
        ("gt/2/M-1/up/now", 0x87),
        ("homeassistant/status", 0x87),
        ("gt/1/+/up/now", 0x90),
        ("gt/1/M-1/up/#", 0x90),
    ];
    for version in [4, 5] {
        for (topic, reason) in cases {
            let mut client = server.client(version, 1).await;
            let mut other = server.client(version, 2).await;
            client.write(&publish(version, topic, &frame, 2, 1)).await;
            client.expect_close(Some(reason)).await;
            other.expect_silence().await;
        }
    }
    assert_eq!(server.headend.counters().foreign_topics, 16);
    assert!(server.batches.try_recv().is_err());
}

#[tokio::test]
async fn an_empty_topic_or_one_with_nul_is_refused() {
    let server = server().await;
    for topic in ["", "gt/1/M-1/up/now\0"] {
        let mut client = server.client(4, 1).await;
        client.write(&publish(4, topic, b"x", 2, 1)).await;
        client.expect_close(None).await;
    }
}

#[tokio::test]
async fn breaches_of_mqtt_end_the_connection() {
    let mut server = server().await;
    let frame = now_frame(meter(1), 1).to_cbor();
    let topic = Topic::Up(meter(1), UpKind::Now).name();
    for version in [4, 5] {
        let breaches: [Vec<u8>; 6] = [
            publish(version, &topic, &frame, 2, 0),
            publish(version, &topic, &frame, 8, 0),
            publish(version, &topic, &frame, 6, 1),
            packet(0x82, &[0, 0]),
            packet(0x40, &[0, 99]),
            packet(0x00, &[]),
        ];
        for (n, breach) in breaches.iter().enumerate() {
            let mut client = server.client(version, 1).await;
            client.write(breach).await;
            let last = client.next().await;
            if version == 5 && last.is_some() {
                assert_eq!(last.map(|packet| packet.kind), Some(DISCONNECT), "{n}");
                assert_eq!(client.next().await, None, "{n}");
            } else {
                assert_eq!(last, None, "{version} {n}");
            }
        }
    }
    assert!(server.batches.try_recv().is_err());
    assert_eq!(server.headend.counters().protocol_errors, 12);
}

#[tokio::test]
async fn retained_is_ignored_on_version_4_and_refused_on_version_5_which_was_told() {
    let mut server = server().await;
    let frame = now_frame(meter(1), 1).to_cbor();
    let mut client = server.client(4, 1).await;
    client.write(&publish(4, "gt/1/M-1/up/now", &frame, 3, 1)).await;
    server.store(1, Outcome::Stored).await;
    assert_eq!(client.packet().await.kind, PUBACK);
    let mut client = server.client(5, 1).await;
    client.write(&publish(5, "gt/1/M-1/up/now", &frame, 3, 1)).await;
    client.expect_close(Some(0x9a)).await;
}

#[tokio::test]
async fn topic_aliases_are_not_offered() {
    let server = server().await;
    let mut client = server.client(5, 1).await;
    let mut body = text("");
    body.extend([0, 1, 3, 0x23, 0, 1]);
    client.write(&packet(0x32, &body)).await;
    client.expect_close(Some(0x94)).await;
}

#[tokio::test]
async fn the_largest_profile_frame_fits() {
    let mut server = server().await;
    let mut client = server.client(4, 1).await;
    let record = metering::ProfileRecord {
        end: NOW,
        flags: metering::RecordFlags(u16::MAX),
        import_wh: metering::WattHours(u64::from(u32::MAX)),
        export_wh: metering::WattHours(u64::from(u32::MAX)),
        voltage_mv: Some(metering::Millivolts(u32::MAX)),
        current_ma: Some(metering::Milliamps(u32::MAX)),
        extra: vec![],
        masked: None,
    };
    let profile = metering::frame::Profile { minutes: 15, records: vec![record; metering::frame::RECORDS_MAX] };
    let frame = Frame::new(meter(1), u64::MAX, u64::MAX, metering::Body::Profile(profile));
    client.publish(&frame, 1).await;
    assert_eq!(server.store(1, Outcome::Stored).await[0].frame.as_ref(), Ok(&frame));
}
