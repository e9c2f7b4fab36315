//! Who speaks for others: a bridge of mosquitto as it is by default, gateways with credentials of their own, an SDK of ThingsBoard.

use std::{collections::HashSet, sync::Arc};

use headend::{Credentials, FrameError, Gateway, Outcome, Presence, PresenceState, SendError};
use metering::{MeterId, topic::UpKind};
use tokio::time::timeout;

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

/// A publish with QoS 1 on one of ThingsBoard's topics.
async fn tell(client: &mut Client<tokio::net::TcpStream>, topic: &str, payload: &str, id: u16) {
    client.write(&publish(client.version, topic, payload.as_bytes(), 2, id)).await;
}

#[tokio::test]
async fn a_gateway_of_thingsboard_reports_for_many_devices_at_once() {
    let mut server = server_with_gateway().await;
    for version in [4, 5] {
        let mut client = gateway(&server, version).await;
        for filter in ["v1/gateway/attributes", "v1/gateway/attributes/response", "v1/gateway/rpc"] {
            assert_eq!(client.subscribe(filter, 1).await, 1, "{filter}");
        }
        tell(&mut client, "v1/gateway/connect", r#"{"device":"M-1","type":"meter"}"#, 1).await;
        assert_eq!(client.packet().await.id(), 1);
        let message = r#"{"M-1":[{"ts":1767225600000,"values":{"energy":1.50}}],"M-2":{"energy":7}}"#;
        tell(&mut client, "v1/gateway/telemetry", message, 2).await;
        let kept = server.store(2, Outcome::Quarantined).await;
        let kept: Vec<_> = kept.iter().map(|d| (d.meter, d.kind, d.payload.as_ref(), d.frame.is_ok())).collect();
        let first = &br#"{"M-1":[{"ts":1767225600000,"values":{"energy":1.50}}]}"#[..];
        assert_eq!(kept, [(meter(1), None, first, false), (meter(2), None, &br#"{"M-2":{"energy":7}}"#[..], false)]);
        // One message, one acknowledgement, when both parts are stored.
        assert_eq!(client.packet().await.id(), 2);
        client.expect_silence().await;
        tell(&mut client, "v1/gateway/telemetry", "{}", 3).await;
        assert_eq!(client.packet().await.id(), 3);
        client.write(&[0xE0, 0]).await;
        client.expect_close(None).await;
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_before_the_last_device_is_stored() {
    let mut server = server_with_gateway().await;
    let mut client = gateway(&server, 4).await;
    tell(&mut client, "v1/gateway/attributes", r#"{"M-1":{"a":1},"M-2":{"a":2}}"#, 5).await;
    let batch = server.batches.recv().await.expect("a batch");
    assert_eq!(batch.deliveries.len(), 2);
    client.expect_silence().await;
    drop(batch);
    // Not stored: the gateway must send it again.
    client.expect_close(None).await;
}

#[tokio::test]
async fn a_device_that_is_not_the_gateway_s_ends_the_session_and_nothing_of_the_message_is_taken() {
    let mut server = server_with_gateway().await;
    for (topic, message) in [
        ("v1/gateway/telemetry", r#"{"M-1":{"energy":1},"M-3":{"energy":1}}"#),
        ("v1/gateway/attributes", r#"{"M-3":{"a":1}}"#),
        ("v1/gateway/connect", r#"{"device":"M-3"}"#),
        ("v1/gateway/attributes/request", r#"{"id":1,"device":"M-3","client":true,"key":"a"}"#),
    ] {
        let mut client = gateway(&server, 5).await;
        tell(&mut client, topic, message, 1).await;
        client.expect_close(Some(0x87)).await;
    }
    assert!(server.batches.try_recv().is_err());
    assert_eq!(server.headend.counters().foreign_topics, 4);
    // And a meter is no gateway, for itself neither.
    let mut client = server.client(5, 1).await;
    assert_eq!(client.subscribe("v1/gateway/rpc", 1).await, 0x87);
    tell(&mut client, "v1/gateway/telemetry", r#"{"M-1":{"energy":1}}"#, 1).await;
    client.expect_close(Some(0x87)).await;
}

#[tokio::test]
async fn a_question_for_attributes_is_answered_that_there_are_none() {
    let server = server_with_gateway().await;
    for version in [4, 5] {
        let mut client = gateway(&server, version).await;
        let question = r#"{"id":7,"device":"M-1","client":true,"keys":["a","b"]}"#;
        // Who does not listen gets no answer, only the acknowledgement.
        tell(&mut client, "v1/gateway/attributes/request", question, 1).await;
        assert_eq!(client.packet().await.id(), 1);
        client.subscribe("v1/gateway/attributes/response", 1).await;
        tell(&mut client, "v1/gateway/attributes/request", question, 2).await;
        let answer = client.packet().await;
        assert!(answer.body.ends_with(br#"{"device":"M-1","id":7,"values":{}}"#), "{answer:?}");
        assert_eq!(client.packet().await.id(), 2);

        let mut device = server.client(version, 1).await;
        device.subscribe("v1/devices/me/attributes/response/+", 1).await;
        tell(&mut device, "v1/devices/me/attributes/request/12", r#"{"clientKeys":"a"}"#, 3).await;
        let answer = device.packet().await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(text.contains("v1/devices/me/attributes/response/12") && text.ends_with("{}"), "{answer:?}");
        assert_eq!(device.packet().await.id(), 3);
    }
}

#[tokio::test]
async fn a_control_for_a_meter_behind_a_gateway_is_refused_and_says_why() {
    let mut server = server_with_gateway().await;
    assert_eq!(server.headend.send(meter(1), &control()).await, Err(SendError::NotConnected));
    let behind = Err(SendError::BehindGateway(site()));
    // By a frame of the project's own, by ThingsBoard's connect, by a report.
    for step in 0..3_u16 {
        let mut client = gateway(&server, 5).await;
        match step {
            0 => client.publish(&now_frame(meter(1), 1), 1).await,
            1 => tell(&mut client, "v1/gateway/connect", r#"{"device":"M-1"}"#, 1).await,
            _ => tell(&mut client, "v1/gateway/telemetry", r#"{"M-1":{"e":1}}"#, 1).await,
        }
        if step != 1 {
            server.store(1, Outcome::Quarantined).await;
        }
        assert_eq!(client.packet().await.id(), 1);
        assert_eq!(server.headend.send(meter(1), &control()).await, behind);
        assert_eq!(server.headend.gateway_of(meter(1)), Some(site()));
        assert_eq!(server.headend.send(meter(2), &control()).await, Err(SendError::NotConnected), "never named");
        let told = SendError::BehindGateway(site()).to_string();
        assert!(told.contains("site-1") && told.contains("connection of its own"), "{told}");
        if step == 1 {
            tell(&mut client, "v1/gateway/disconnect", r#"{"device":"M-1"}"#, 2).await;
            assert_eq!(client.packet().await.id(), 2);
        } else {
            let mut presence = server.headend.subscribe_presence();
            client.write(&[0xE0, 0]).await;
            client.expect_close(None).await;
            let left = Presence { meter: site(), state: PresenceState::Absent };
            while timeout(PATIENCE, presence.recv()).await.expect("in time").expect("not lagging") != left {}
        }
        assert_eq!(server.headend.send(meter(1), &control()).await, Err(SendError::NotConnected));
    }
    // Its own connection comes first.
    let mut client = gateway(&server, 5).await;
    tell(&mut client, "v1/gateway/connect", r#"{"device":"M-1"}"#, 1).await;
    assert_eq!(client.packet().await.id(), 1);
    let _own = server.client(5, 1).await;
    assert_eq!(server.headend.gateway_of(meter(1)), None);
    assert_eq!(server.headend.send(meter(1), &control()).await, Err(SendError::NotListening));
}
