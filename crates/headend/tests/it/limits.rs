//! Sizes, windows and slow peers: nothing a peer does grows memory or holds up another.

use std::time::Duration;

use headend::{Outcome, PresenceState, SendError};
use metering::{Control, ControlKind, Down, control::SignatureBytes};
use tokio::io::AsyncWriteExt;

use crate::support::*;

#[tokio::test]
async fn a_packet_of_ten_megabytes_is_refused_when_its_length_is_read() {
    let mut server = server().await;
    for version in [4, 5] {
        let mut other = server.client(version, 2).await;
        let mut client = server.client(version, 1).await;
        // fixed header only: remaining length 10,485,760
        client.write(&[0x32, 0x80, 0x80, 0x80, 0x05]).await;
        client.expect_close(Some(0x95)).await;
        other.expect_silence().await;
    }
    // before the log-on too
    let mut client = server.raw(4).await;
    client.write(&[0x10, 0x80, 0x80, 0x80, 0x05]).await;
    client.expect_close(None).await;
    // a length of more than four bytes
    let mut client = server.client(4, 1).await;
    client.write(&[0x32, 0x80, 0x80, 0x80, 0x80, 0x01]).await;
    client.expect_close(None).await;
    assert_eq!(server.headend.counters().packets_too_large, 3);
    assert!(server.batches.try_recv().is_err());
}

#[tokio::test]
async fn a_whole_large_packet_does_not_disturb_the_others() {
    let mut server = server().await;
    let mut other = server.client_named(4, 2, "other").await;
    let mut client = server.client(4, 1).await;
    let large = publish(4, "gt/1/M-1/up/now", &vec![0; 10 << 20], 2, 1);
    // the server closes while we write: writing may fail
    let _ = client.stream.write_all(&large).await;
    client.expect_close(None).await;
    other.publish(&now_frame(meter(2), 1), 1).await;
    server.store(1, Outcome::Stored).await;
    assert_eq!(other.packet().await.id(), 1);
}

#[tokio::test]
async fn packets_in_single_bytes_are_put_together() {
    let mut server = server().await;
    let mut client = server.raw(5).await;
    let mut bytes = Connect::of(1).packet(5);
    bytes.extend(publish(5, "gt/1/M-1/up/now", &now_frame(meter(1), 1).to_cbor(), 2, 1));
    client.stream.set_nodelay(true).expect("a socket");
    for byte in bytes {
        client.write(&[byte]).await;
    }
    assert_eq!(client.packet().await.kind, CONNACK);
    server.store(1, Outcome::Stored).await;
    assert_eq!(client.packet().await.kind, PUBACK);
}

#[tokio::test]
async fn a_full_pipeline_holds_the_meters_back_and_loses_nothing() {
    let mut server = server_with(|config| config.keep_alive_max = Duration::from_millis(200)).await;
    let mut clients = Vec::new();
    for n in 1..10 {
        for name in ["a", "b", "c"] {
            let mut client = server.client_named(4, n, name).await;
            // each in its own batch at most: 27 × 4 frames against a channel of 16 batches
            for id in 1..=4u16 {
                client.publish(&now_frame(meter(n), id.into()), id).await;
            }
            clients.push(client);
        }
    }
    // who waits for us is not silent: they outlast one that says nothing and waits for nothing, and came before it
    let mut silent = server.client_named(4, 9, "silent").await;
    silent.expect_close(None).await;
    server.store(27 * 4, Outcome::Stored).await;
    for client in &mut clients {
        for id in 1..=4 {
            assert_eq!(client.packet().await.id(), id);
        }
    }
    assert_eq!(server.headend.counters().keep_alive_timeouts, 1, "the silent one alone");
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_closed_and_disturbs_nobody() {
    let mut server = server_with(|config| {
        config.write_timeout = Duration::from_millis(200);
        config.keep_alive_max = Duration::from_secs(3_600);
    })
    .await;
    // a small receive buffer fills soon
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a size");
    let stream = socket.connect(server.headend.mqtt_addr().expect("listens")).await.expect("connects");
    let mut slow = Client::new(stream, 4);
    slow.log_on(1, "slow").await;
    let mut quick = server.client_named(4, 2, "quick").await;
    // subscribed with QoS 0 and never read: the buffers on the way fill, then nothing more is taken, then the server gives up
    slow.subscribe("gt/1/M-1/down/#", 0).await;
    let signatures = vec![SignatureBytes([1; 64]); 2];
    let control = Control { id: 1, kind: ControlKind::Disconnect, expires: NOW, counter: 1, signatures };
    let down = Down::Control(control);
    let mut presence = server.headend.subscribe_presence();
    let stalled = loop {
        if let Err(error) = server.headend.send(meter(1), &down).await {
            break error;
        }
    };
    assert_eq!(stalled, SendError::Disconnected);
    quick.publish(&now_frame(meter(2), 1), 1).await;
    server.store(1, Outcome::Stored).await;
    assert_eq!(quick.packet().await.id(), 1);
    let left = tokio::time::timeout(PATIENCE, presence.recv()).await.expect("closed in time").expect("announced");
    assert_eq!((left.meter, left.state), (meter(1), PresenceState::Absent));
    quick.expect_silence().await;
    assert_eq!(server.headend.counters().write_timeouts, 1);
}

#[tokio::test]
async fn too_many_subscriptions_end_the_connection() {
    let server = server().await;
    let mut client = server.client(5, 1).await;
    for filter in ["#", "+", "control", "config", "time"] {
        assert_eq!(client.subscribe(&format!("gt/1/M-1/down/{filter}"), 1).await, 1);
        // the same again replaces it
        assert_eq!(client.subscribe(&format!("gt/1/M-1/down/{filter}"), 0).await, 0);
    }
    client.expect_silence().await;
}

#[tokio::test]
async fn a_byte_now_and_then_is_no_log_on() {
    let server = server_with(|config| config.connect_timeout = Duration::from_millis(400)).await;
    let mut client = server.raw(4).await;
    let bytes = Connect::of(1).packet(4);
    let dribble = async {
        for byte in &bytes {
            if client.stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // an error or the end, never an acceptance
        client.next().await
    };
    let answer = tokio::time::timeout(PATIENCE, dribble).await.expect("the end in time");
    assert_eq!(answer, None);
    let counters = server.headend.counters();
    assert_eq!((counters.connect_timeouts, counters.accepted), (1, 0));
}

#[tokio::test]
async fn who_never_logs_on_makes_way_for_who_does() {
    let server = server_with(|config| config.waiting_per_address_max = 4).await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(server.raw(4).await);
        let mut meter = server.client(4, 1).await;
        meter.expect_silence().await;
    }
    assert_eq!(idle[0].next().await, None, "the oldest made way");
    assert!(server.headend.counters().made_way >= 4);
}
