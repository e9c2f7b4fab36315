//! Who may connect, and how a connection ends.

use std::time::Duration;

use headend::{HeadendConfig, PresenceState};

use crate::support::*;

#[tokio::test]
async fn both_versions_connect_on_one_listener() {
    let server = server().await;
    for (version, n) in [(4, 1), (5, 2)] {
        let mut client = server.client(version, n).await;
        client.expect_silence().await;
        assert!(server.headend.is_connected(meter(n)));
    }
    assert_eq!(server.headend.counters().accepted, 2);
}

#[tokio::test]
async fn version_5_is_told_the_limits() {
    let server = server().await;
    let mut client = server.raw(5).await;
    let connect = Connect { name: "", keep_alive: 0, ..Connect::of(1) };
    client.write(&connect.packet(5)).await;
    let connack = client.packet().await;
    let properties = &connack.body[3..];
    let holds = |wanted: &[u8]| properties.windows(wanted.len()).any(|window| window == wanted);
    assert!(holds(&[0x21, 0, 64]), "receive maximum is the window: {properties:?}");
    assert!(holds(&[0x24, 1]), "maximum QoS");
    assert!(holds(&[0x25, 0]), "no retained messages");
    assert!(holds(&[0x27]), "maximum packet size");
    assert!(holds(&[0x13, 0x0e, 0x10]), "keep-alive of an hour in place of none");
    assert!(holds(b"\x12\x00\x06auto-0"), "an identifier for a client without one");
}

#[tokio::test]
async fn wrong_secret_unknown_meter_and_missing_credentials_are_refused() {
    let server = server().await;
    for version in [4, 5] {
        for (user, password) in [
            ("M-1".to_owned(), hex(secret(2))),
            ("M-77".to_owned(), hex(secret(1))),
            (String::new(), String::new()),
            ("M-1".to_owned(), String::new()),
            ("../M-1".to_owned(), hex(secret(1))),
        ] {
            let mut client = server.raw(version).await;
            client.write(&Connect { user, password, ..Connect::of(1) }.packet(version)).await;
            let connack = client.packet().await;
            assert_eq!((connack.kind, connack.body[1]), (CONNACK, if version == 5 { 0x86 } else { 4 }));
            client.expect_close(None).await;
        }
    }
    assert_eq!(server.headend.counters().refused_secret, 10);
    assert_eq!(server.headend.counters().accepted, 0);
}

#[tokio::test]
async fn nothing_is_taken_before_the_connection_is_accepted() {
    let mut server = server().await;
    let frame = now_frame(meter(1), 1).to_cbor();
    for version in [4, 5] {
        // before CONNECT
        let mut client = server.raw(version).await;
        client.write(&publish(version, "gt/1/M-1/up/now", &frame, 2, 1)).await;
        client.expect_close(None).await;
        // after a refused CONNECT, in the same write
        let mut client = server.raw(version).await;
        let mut bytes = Connect { password: hex(secret(2)), ..Connect::of(1) }.packet(version);
        bytes.extend(publish(version, "gt/1/M-1/up/now", &frame, 2, 1));
        client.write(&bytes).await;
        assert_eq!(client.packet().await.kind, CONNACK);
        client.expect_close(None).await;
    }
    assert!(server.batches.try_recv().is_err());
}

#[tokio::test]
async fn publishes_sent_together_with_connect_are_taken() {
    let mut server = server().await;
    for version in [4, 5] {
        let mut client = server.raw(version).await;
        let mut bytes = Connect::of(1).packet(version);
        bytes.extend(publish(version, "gt/1/M-1/up/now", &now_frame(meter(1), 1).to_cbor(), 2, 5));
        client.write(&bytes).await;
        assert_eq!(client.packet().await.kind, CONNACK);
        server.store(1, headend::Outcome::Stored).await;
        assert_eq!(client.packet().await.id(), 5);
    }
}

#[tokio::test]
async fn bad_connects_are_refused() {
    let server = server().await;
    // reserved flag; will QoS 3; will retain without a will
    for flags in [0xc3, 0xde, 0xe2] {
        let mut client = server.raw(4).await;
        client.write(&Connect { flags, ..Connect::of(1) }.packet(4)).await;
        client.expect_close(None).await;
    }
    // an unknown protocol level, garbage, a packet of another kind
    let mut unknown = Connect::of(1).packet(4);
    unknown[8] = 9;
    for bytes in [unknown, vec![0; 64], b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0xc0, 0], vec![0x20, 2, 0, 0]] {
        let mut client = server.raw(4).await;
        client.write(&bytes).await;
        client.expect_close(None).await;
    }
    // a second CONNECT
    for version in [4, 5] {
        let mut client = server.client(version, 1).await;
        client.write(&Connect::of(1).packet(version)).await;
        client.expect_close(Some(0x82)).await;
    }
    // no identifier and yet a lasting session
    let mut client = server.raw(4).await;
    client.write(&Connect { name: "", flags: 0xc0, ..Connect::of(1) }.packet(4)).await;
    assert_eq!(client.packet().await.body, [0, 2]);
    // enhanced authentication
    let mut client = server.raw(5).await;
    client.write(&Connect { properties: b"\x15\x00\x01x", ..Connect::of(1) }.packet(5)).await;
    assert_eq!(client.packet().await.body[1], 0x8c);
    client.expect_close(None).await;
}

#[tokio::test]
async fn a_will_is_accepted_and_a_lasting_session_is_not_present() {
    let server = server().await;
    for version in [4, 5] {
        let mut client = server.raw(version).await;
        // a will with QoS 1, no clean session
        client.write(&Connect { flags: 0xcc, ..Connect::of(1) }.packet(version)).await;
        let connack = client.packet().await;
        assert_eq!(connack.body[..2], [0, 0], "accepted, session not present");
        client.expect_silence().await;
    }
}

#[tokio::test]
async fn the_same_client_takes_over_and_others_of_the_meter_stay() {
    let server = server().await;
    for version in [4, 5] {
        let mut first = server.client_named(version, 1, "same").await;
        let mut other = server.client_named(version, 1, "other").await;
        let mut foreign = server.client_named(version, 2, "same").await;
        let mut second = server.client_named(version, 1, "same").await;
        first.expect_close(Some(0x8e)).await;
        for client in [&mut other, &mut foreign, &mut second] {
            client.expect_silence().await;
        }
    }
    assert_eq!(server.headend.meters_connected(), 2);
}

#[tokio::test]
async fn a_meter_holds_a_few_connections_only() {
    let server = server_with(|config| config.connections_per_meter_max = 2).await;
    let mut first = server.client_named(5, 1, "a").await;
    let mut second = server.client_named(5, 1, "b").await;
    let mut third = server.client_named(5, 1, "c").await;
    first.expect_close(Some(0x8e)).await;
    second.expect_silence().await;
    third.expect_silence().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused() {
    let server = server_with(|config| config.connections_max = 2).await;
    let mut first = server.client_named(4, 1, "a").await;
    let _second = server.client_named(4, 2, "b").await;
    assert_eq!(server.headend.connections(), 2);
    let mut third = server.raw(4).await;
    third.expect_close(None).await;
    assert_eq!(server.headend.counters().refused_full, 1);
    first.expect_silence().await;
}

#[tokio::test]
async fn plain_connections_from_other_networks_are_refused() {
    // 127.0.0.1 always belongs to the permitted networks, so another address of this machine is needed
    let Some(own) = own_address() else { return };
    let server = server_with(|config| config.mqtt = Some((std::net::Ipv4Addr::UNSPECIFIED, 0).into())).await;
    let port = server.headend.mqtt_addr().expect("listens").port();
    let stream = tokio::net::TcpStream::connect((own, port)).await.expect("connects");
    let mut client = Client::new(stream, 4);
    client.expect_close(None).await;
    assert_eq!(server.headend.counters().refused_plain, 1);

    let server = server_with(|config: &mut HeadendConfig| {
        config.mqtt = Some((std::net::Ipv4Addr::UNSPECIFIED, 0).into());
        config.plain_networks = ["0.0.0.0/0".parse().expect("a network")].into_iter().collect();
    })
    .await;
    let port = server.headend.mqtt_addr().expect("listens").port();
    let mut client = Client::new(tokio::net::TcpStream::connect((own, port)).await.expect("connects"), 4);
    client.log_on(1, "client").await;
}

/// An address of this machine that is not the loopback. No packet is sent: connecting a UDP socket only looks up the route.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}

#[tokio::test]
async fn who_does_not_log_on_in_time_is_closed() {
    let server = server_with(|config| config.connect_timeout = Duration::from_millis(50)).await;
    let mut silent = server.raw(4).await;
    silent.expect_close(None).await;
    let mut slow = server.raw(4).await;
    slow.write(&Connect::of(1).packet(4)[..9]).await;
    slow.expect_close(None).await;
    assert_eq!(server.headend.counters().connect_timeouts, 2);
}

#[tokio::test]
async fn silence_beyond_the_keep_alive_ends_the_connection() {
    let server = server_with(|config| config.keep_alive_max = Duration::from_millis(100)).await;
    for version in [4, 5] {
        let mut client = server.client(version, 1).await;
        client.expect_silence().await;
        client.expect_close(Some(0x8d)).await;
    }
    assert_eq!(server.headend.counters().keep_alive_timeouts, 2);
    assert_eq!(server.headend.presence(meter(1)), PresenceState::Absent);
}

#[tokio::test]
async fn presence_is_announced() {
    let server = server().await;
    let mut presence = server.headend.subscribe_presence();
    let mut client = server.client(4, 3).await;
    assert_eq!(client.subscribe("gt/1/M-3/down/#", 1).await, 1);
    client.write(&[0xe0, 0]).await;
    client.expect_close(None).await;
    for state in [PresenceState::Connected, PresenceState::Listening, PresenceState::Absent] {
        let announced = presence.recv().await.expect("announced");
        assert_eq!((announced.meter, announced.state), (meter(3), state));
    }
}

#[tokio::test]
async fn shutdown_acknowledges_what_is_committed_and_says_goodbye() {
    let mut server = server().await;
    let mut client = server.client(5, 1).await;
    client.publish(&now_frame(meter(1), 1), 1).await;
    let batch = server.batch().await;
    let headend = server.headend;
    let stopping = tokio::spawn(async move { headend.shutdown().await });
    batch.done.send(vec![headend::Outcome::Stored]).expect("the connection waits");
    let puback = client.packet().await;
    assert_eq!((puback.kind, puback.id()), (PUBACK, 1));
    client.expect_close(Some(0x8b)).await;
    stopping.await.expect("stopped");
}

#[tokio::test]
async fn an_operator_can_end_the_connections_of_a_meter() {
    let server = server().await;
    let mut client = server.client(5, 1).await;
    let mut other = server.client(5, 2).await;
    let kept = (2..10).map(|n| (meter(n), headend::Credentials::hash(&secret(n))));
    assert_eq!(server.credentials.replace_all(kept), [meter(1)]);
    server.headend.disconnect(meter(1));
    client.expect_close(Some(0x98)).await;
    other.expect_silence().await;
}

#[tokio::test]
async fn a_meter_at_two_addresses_is_counted() {
    let server = server_with(|config| config.mqtt = Some(([0, 0, 0, 0], 0).into())).await;
    let port = server.headend.mqtt_addr().expect("plain MQTT").port();
    let from = async |address: [u8; 4]| {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((address, 0).into()).expect("an address of the loopback");
        Client::new(socket.connect(([127, 0, 0, 1], port).into()).await.expect("connects"), 4)
    };
    let mut meter = from([127, 0, 0, 1]).await;
    meter.log_on(1, "a").await;
    let mut again = from([127, 0, 0, 1]).await;
    again.log_on(1, "b").await;
    assert_eq!(server.headend.counters().two_addresses, 0);
    let mut clone = from([127, 0, 0, 9]).await;
    clone.log_on(1, "c").await;
    assert_eq!(server.headend.counters().two_addresses, 1);
}
