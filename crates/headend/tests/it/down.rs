//! Frames to meters: subscriptions, encodings, acknowledgements.

use std::time::Duration;

use headend::{Outcome, SendError};
use metering::{
    Down,
    frame::{Config, Encoding, TimeFrame},
    topic::DownKind,
};

use crate::support::*;

/// Topic, packet identifier (QoS 1) and payload of a PUBLISH.
fn parts(version: u8, packet: &Packet) -> (String, Option<u16>, Vec<u8>) {
    assert_eq!(packet.kind, PUBLISH);
    assert_eq!(packet.flags & 9, 0, "neither DUP nor RETAIN");
    let (length, rest) = packet.body.split_at(2);
    let (topic, mut rest) = rest.split_at(usize::from(u16::from_be_bytes([length[0], length[1]])));
    let mut id = None;
    if packet.flags & 6 != 0 {
        id = Some(u16::from_be_bytes([rest[0], rest[1]]));
        rest = &rest[2..];
    }
    if version == 5 {
        assert_eq!(rest[0], 0, "no properties");
        rest = &rest[1..];
    }
    (String::from_utf8(topic.to_vec()).expect("UTF-8"), id, rest.to_vec())
}

#[tokio::test]
async fn a_control_arrives_and_is_acknowledged() {
    for version in [4, 5] {
        let server = server().await;
        let mut client = server.client(version, 1).await;
        assert_eq!(client.subscribe("gt/1/M-1/down/#", 1).await, 1);
        let down = control();
        let (sent, ()) = tokio::join!(server.headend.send(meter(1), &down), async {
            let (topic, id, payload) = parts(version, &client.packet().await);
            assert_eq!(topic, "gt/1/M-1/down/control");
            assert_eq!(Down::from_cbor(DownKind::Control, &payload), Ok(control()));
            client.write(&packet(0x40, &id.expect("QoS 1").to_be_bytes())).await;
        });
        assert_eq!(sent, Ok(()));
        let counters = server.headend.counters();
        assert_eq!((counters.down_sent, counters.down_acknowledged), (1, 1));
    }
}

#[tokio::test]
async fn a_meter_that_speaks_json_is_spoken_to_in_json() {
    let mut server = server().await;
    // one client listens, another reports, as the command line tools do
    let mut listener = server.client_named(4, 1, "sub").await;
    assert_eq!(listener.subscribe("gt/1/M-1/down/+", 0).await, 0);
    let mut reporter = server.client_named(4, 1, "pub").await;
    let json = serde_json::to_vec(&now_frame(meter(1), 1)).expect("json");
    reporter.write(&publish(4, "gt/1/M-1/up/now", &json, 2, 1)).await;
    server.store(1, Outcome::Stored).await;
    assert_eq!(reporter.packet().await.kind, PUBACK);
    drop(reporter);
    let downs =
        [control(), Down::Config(Config { version: 3, ..Config::default() }), Down::Time(TimeFrame::unsigned(NOW))];
    for down in downs {
        assert_eq!(server.headend.send(meter(1), &down).await, Ok(()), "QoS 0 is not acknowledged");
        let (topic, id, payload) = parts(4, &listener.packet().await);
        assert_eq!((topic, id), (format!("gt/1/M-1/down/{}", down.kind().level()), None));
        let body = serde_json::to_value(&down).expect("json");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&payload).ok().as_ref(), body.get(down.kind().level()));
    }
    // a server that was started anew is told what the meter spoke before
    let restarted = self::server().await;
    restarted.headend.assume_encoding(meter(1), Encoding::Json);
    let mut again = restarted.client_named(4, 1, "sub").await;
    again.subscribe("gt/1/M-1/down/#", 0).await;
    restarted.headend.send(meter(1), &Down::Time(TimeFrame::unsigned(NOW))).await.expect("sent");
    assert!(parts(4, &again.packet().await).2.starts_with(b"{"));
    // from the first CBOR frame on it is CBOR again
    let mut reporter = server.client_named(4, 1, "pub").await;
    reporter.publish(&now_frame(meter(1), 2), 2).await;
    server.store(1, Outcome::Stored).await;
    server.headend.send(meter(1), &control()).await.expect("sent");
    let (_, _, payload) = parts(4, &listener.packet().await);
    assert_eq!(Down::from_cbor(DownKind::Control, &payload), Ok(control()));
}

#[tokio::test]
async fn only_the_own_down_topics_can_be_subscribed_to() {
    for version in [4, 5] {
        let server = server().await;
        let mut client = server.client(version, 1).await;
        for filter in [
            "#",
            "+/+/+/+/+",
            "gt/1/+/down/#",
            "gt/1/M-2/down/#",
            "gt/1/M-1/#",
            "gt/1/M-1/up/now",
            "gt/1/M-1/down",
            "gt/1/M-1/down/control/x",
            "gt/1/M-12/down/#",
            "$SYS/#",
        ] {
            let code = client.subscribe(filter, 1).await;
            assert_eq!(code, if version == 5 { 0x87 } else { 0x80 }, "{filter}");
        }
        if version == 5 {
            assert_eq!(client.subscribe("$share/g/gt/1/M-1/down/#", 1).await, 0x9e);
        }
        assert_eq!(server.headend.send(meter(1), &control()).await, Err(SendError::NotListening));
        assert_eq!(client.subscribe("gt/1/M-1/down/config", 2).await, 1, "QoS 2 is granted as 1");
        assert_eq!(server.headend.send(meter(1), &control()).await, Err(SendError::NotListening));
        client.expect_silence().await;
    }
}

#[tokio::test]
async fn unsubscribing_ends_the_listening() {
    for version in [4, 5] {
        let server = server().await;
        let mut client = server.client(version, 1).await;
        client.subscribe("gt/1/M-1/down/#", 0).await;
        server.headend.send(meter(1), &control()).await.expect("sent");
        assert_eq!(client.packet().await.kind, PUBLISH);
        let mut body = vec![0, 4];
        if version == 5 {
            body.push(0);
        }
        body.extend(text("gt/1/M-1/down/#"));
        client.write(&packet(0xa2, &body)).await;
        assert_eq!(client.packet().await.kind, UNSUBACK);
        // the answer to the ping comes after the registry knows
        client.expect_silence().await;
        assert_eq!(server.headend.send(meter(1), &control()).await, Err(SendError::NotListening));
    }
}

#[tokio::test]
async fn what_cannot_be_delivered_is_said() {
    let server = server_with(|config| {
        config.down_timeout = Duration::from_millis(50);
        config.down_window = 2;
    })
    .await;
    assert_eq!(server.headend.send(meter(1), &control()).await, Err(SendError::NotConnected));
    let mut client = server.client(5, 1).await;
    assert_eq!(server.headend.send(meter(1), &control()).await, Err(SendError::NotListening));
    client.subscribe("gt/1/M-1/down/#", 1).await;
    // two are in flight and unacknowledged, two wait in the queue, the fifth finds no room
    let down = control();
    let send = || server.headend.send(meter(1), &down);
    let (a, b, c, d, e) = tokio::join!(send(), send(), send(), send(), send());
    let mut results = [a, b, c, d, e];
    results.sort_by_key(|result| *result == Err(SendError::Busy));
    assert!(results[..2].iter().all(|result| *result == Err(SendError::TimedOut)), "{results:?}");
    assert_eq!(results[4], Err(SendError::Busy), "{results:?}");
    // acknowledged late: the connection lives and has room again
    for _ in 0..2 {
        let (_, id, _) = parts(5, &client.packet().await);
        client.write(&packet(0x40, &id.expect("QoS 1").to_be_bytes())).await;
    }
    client.stream.set_nodelay(true).expect("a socket");
}

#[tokio::test]
async fn a_refusal_and_a_lost_connection_are_told_apart() {
    let server = server().await;
    let mut client = server.client(5, 1).await;
    client.subscribe("gt/1/M-1/down/control", 1).await;
    let down = control();
    let (sent, ()) = tokio::join!(server.headend.send(meter(1), &down), async {
        let (_, id, _) = parts(5, &client.packet().await);
        let [high, low] = id.expect("QoS 1").to_be_bytes();
        client.write(&packet(0x40, &[high, low, 0x83])).await;
    });
    assert_eq!(sent, Err(SendError::Refused));
    let (sent, ()) = tokio::join!(server.headend.send(meter(1), &down), async {
        assert_eq!(client.packet().await.kind, PUBLISH);
        client.write(&[0xe0, 0]).await;
    });
    assert_eq!(sent, Err(SendError::Disconnected));
}

#[tokio::test]
async fn a_meter_that_takes_small_packets_only_is_not_sent_larger_ones() {
    let server = server().await;
    let mut client = server.raw(5).await;
    // maximum packet size 40, receive maximum 1
    let properties = [0x27, 0, 0, 0, 60, 0x21, 0, 1];
    client.write(&Connect { properties: &properties, ..Connect::of(1) }.packet(5)).await;
    let connack = client.next().await;
    // a CONNACK that does not fit either cannot be sent: then the connection is closed
    if connack.is_some() {
        client.subscribe("gt/1/M-1/down/#", 1).await;
        let mut large = control();
        if let Down::Control(control) = &mut large {
            control.signatures = vec![metering::control::SignatureBytes([1; 64]); 2];
        }
        assert_eq!(server.headend.send(meter(1), &large).await, Err(SendError::Refused));
        client.expect_silence().await;
    }
}
