//! Who speaks for others: a bridge of mosquitto as it is by default, gateways with credentials of their own, an SDK of ThingsBoard.

use std::{collections::HashSet, sync::Arc};

use headend::{Credentials, FrameError, Gateway, Outcome};
use metering::{MeterId, topic::UpKind};

use crate::support::*;

fn site() -> MeterId {
    MeterId::new("site-1").expect("valid")
}

/// A head-end that knows a gateway for M-1 and M-2.
async fn server_with_gateway() -> Server {
    let server = server().await;
    let meters = Arc::new(HashSet::from([meter(1), meter(2)]));
    server.credentials.replace_gateways([(site(), Gateway { hash: Credentials::hash(&secret(77)), meters })]);
    server
}

fn as_site() -> Connect<'static> {
    Connect { user: site().to_string(), password: hex(secret(77)), ..Connect::of(1) }
}

async fn gateway(server: &Server, version: u8) -> Client<tokio::net::TcpStream> {
    let mut client = server.raw(version).await;
    client.write(&as_site().packet(version)).await;
    let connack = client.packet().await;
    assert_eq!((connack.kind, connack.body[1]), (CONNACK, 0));
    client
}

#[tokio::test]
async fn a_default_bridge_of_mosquitto_connects_and_stays() {
    let mut server = server_with_gateway().await;
    let mut connect = as_site().packet(4);
    let level = connect.windows(4).position(|four| four == b"MQTT").expect("the name") + 4;
    connect[level] |= 0x80;
    for is_byte_by_byte in [false, true] {
        let mut client = server.raw(4).await;
        if is_byte_by_byte {
            for byte in &connect {
                client.write(&[*byte]).await;
            }
        } else {
            client.write(&connect).await;
        }
        assert_eq!(client.packet().await.body, [0, 0], "accepted");
        // It says that it is there, retained, and goes on.
        client.write(&publish(4, "$SYS/broker/connection/site/state", b"1", 3, 1)).await;
        assert_eq!(client.packet().await.id(), 1);
        client.publish(&now_frame(meter(1), 1), 2).await;
        server.store(1, Outcome::Stored).await;
        assert_eq!(client.packet().await.id(), 2);
        client.write(&[0xE0, 0]).await;
        client.expect_close(None).await;
    }
    let mut client = gateway(&server, 5).await;
    client.write(&publish(5, "$SYS/broker/connection/site/state", b"1", 2, 1)).await;
    assert_eq!(client.packet().await.id(), 1);
    client.expect_silence().await;
}

#[tokio::test]
async fn a_gateway_speaks_for_its_meters_and_no_others() {
    let mut server = server_with_gateway().await;
    for version in [4, 5] {
        let mut client = gateway(&server, version).await;
        for n in [1, 2] {
            client.publish(&now_frame(meter(n), 7), 5).await;
            let stored = server.store(1, Outcome::Stored).await;
            assert_eq!((stored[0].meter, stored[0].kind), (meter(n), Some(UpKind::Now)));
            assert!(stored[0].frame.is_ok());
            assert_eq!(client.packet().await.id(), 5);
        }
        // The number inside is checked against the topic.
        client.write(&publish(version, "gt/1/M-1/up/now", &now_frame(meter(2), 8).to_cbor(), 2, 6)).await;
        let stored = server.store(1, Outcome::Quarantined).await;
        assert_eq!((stored[0].meter, stored[0].frame.clone()), (meter(1), Err(FrameError::OtherMeter(meter(2)))));
        assert_eq!(client.packet().await.id(), 6);
        // It hears nothing for them: controls go to a meter's own connection.
        assert_ne!(client.subscribe("gt/1/M-1/down/#", 1).await, 1);
        assert!(!server.headend.is_connected(meter(1)));
        client.publish(&now_frame(meter(3), 1), 7).await;
        client.expect_close(Some(0x87)).await;
    }
    assert!(server.batches.try_recv().is_err(), "nothing of a foreign meter was taken");
}

#[tokio::test]
async fn a_gateway_needs_its_secret() {
    let server = server_with_gateway().await;
    for (user, password) in
        [("site-1", hex(secret(1))), ("site-1", String::new()), ("site-2", hex(secret(77))), ("M-1", hex(secret(77)))]
    {
        let mut client = server.raw(4).await;
        client.write(&Connect { user: user.into(), password, ..Connect::of(1) }.packet(4)).await;
        assert_eq!(client.packet().await.body, [0, 4], "{user}");
        client.expect_close(None).await;
    }
}

#[tokio::test]
async fn an_sdk_of_thingsboard_stays_connected_and_its_telemetry_is_kept() {
    let mut server = server().await;
    for version in [4, 5] {
        let mut client = server.client(version, 1).await;
        for filter in ["v1/devices/me/attributes", "v1/devices/me/attributes/response/+", "v1/devices/me/rpc/request/+"]
        {
            assert_eq!(client.subscribe(filter, 1).await, 1, "{filter}");
        }
        let session = publish(version, "v1/devices/me/rpc/request/1", br#"{"method":"getSessionLimits"}"#, 2, 3);
        client.write(&session).await;
        assert_eq!(client.packet().await.id(), 3);
        let telemetry = br#"{"ts":1767225600000,"values":{"energy":1.5}}"#;
        client.write(&publish(version, "v1/devices/me/telemetry", telemetry, 2, 4)).await;
        let kept = server.store(1, Outcome::Quarantined).await;
        assert_eq!((kept[0].meter, kept[0].kind, kept[0].payload.as_ref()), (meter(1), None, &telemetry[..]));
        assert!(kept[0].frame.is_err());
        assert_eq!(client.packet().await.id(), 4);
        client.expect_silence().await;
    }
}
