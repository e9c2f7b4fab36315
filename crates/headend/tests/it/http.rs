//! `POST /api/v1/readings`.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Extension, Router,
    extract::{ConnectInfo, Request},
    middleware::{Next, from_fn},
};
use headend::{Encrypted, FRAMES_PER_POST_MAX, Outcome, readings_router};
use metering::topic::UpKind;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::*;

async fn web(server: &Server) -> SocketAddr {
    web_of(readings_router(&server.headend)).await
}

async fn web_of(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    address
}

/// Status code and body of a POST.
async fn post(address: SocketAddr, authorization: Option<String>, body: &[u8]) -> (u16, String) {
    let mut request = format!(
        "POST /api/v1/readings HTTP/1.1\r\nHost: meter\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    if let Some(authorization) = authorization {
        request.push_str(&format!("Authorization: {authorization}\r\n"));
    }
    request.push_str("\r\n");
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(request.as_bytes()).await.expect("writes");
    // a body that is refused unread may break the connection
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer in time");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, body.to_owned())
}

fn basic(user: &str, password: &str) -> Option<String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let plain = format!("{user}:{password}");
    let mut text = String::from("Basic ");
    for group in plain.as_bytes().chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let value = usize::try_from(bits >> (18 - 6 * digit) & 63).expect("small");
            text.push(if digit > group.len() { '=' } else { char::from(DIGITS[value]) });
        }
    }
    Some(text)
}

fn own() -> Option<String> {
    basic("M-1", &hex(secret(1)))
}

fn results(body: &str) -> Value {
    serde_json::from_str::<Value>(body).expect("JSON")["results"].clone()
}

#[tokio::test]
async fn one_frame_is_answered_after_its_commit() {
    let mut server = server().await;
    let address = web(&server).await;
    let frame = now_frame(meter(1), 12);
    for body in [frame.to_cbor(), serde_json::to_vec(&frame).expect("json")] {
        let asked = tokio::spawn(async move { post(address, own(), &body).await });
        let batch = server.batch().await;
        assert!(!asked.is_finished());
        let delivery = &batch.deliveries[0];
        assert_eq!((delivery.meter, delivery.kind), (meter(1), Some(UpKind::Now)));
        assert_eq!(delivery.frame.as_ref(), Ok(&frame));
        assert!(delivery.peer.is_some());
        batch.done.send(vec![Outcome::Stored]).expect("the request waits");
        let (status, body) = asked.await.expect("answered");
        assert_eq!((status, results(&body)), (200, json!([{"seq": 12, "outcome": "stored"}])));
    }
    assert_eq!(server.headend.counters().posts, 2);
}

#[tokio::test]
async fn an_array_is_taken_together_and_answered_frame_by_frame() {
    let mut server = server().await;
    let address = web(&server).await;
    let frames = json!([now_frame(meter(1), 1), {"v": 1}, now_frame(meter(2), 3), now_frame(meter(1), 4)]);
    let body = serde_json::to_vec(&frames).expect("json");
    let asked = tokio::spawn(async move { post(address, own(), &body).await });
    let batch = server.batch().await;
    assert_eq!(batch.deliveries.len(), 4);
    assert_eq!(batch.deliveries[1].payload, "{\"v\":1}");
    assert_eq!(batch.deliveries[1].kind, None);
    let outcomes = vec![Outcome::Stored, Outcome::Quarantined, Outcome::Quarantined, Outcome::Duplicate];
    batch.done.send(outcomes).expect("the request waits");
    let (status, body) = asked.await.expect("answered");
    let results = results(&body);
    assert_eq!(status, 422);
    assert_eq!(results[0], json!({"seq": 1, "outcome": "stored"}));
    assert_eq!(results[1]["outcome"], "quarantined");
    assert!(results[1]["reason"].as_str().is_some_and(|reason| reason.contains("meter")), "{results}");
    assert!(results[2]["reason"].as_str().is_some_and(|reason| reason.contains("M-2")), "{results}");
    assert_eq!(results[3], json!({"seq": 4, "outcome": "duplicate"}));
}

#[tokio::test]
async fn wrong_credentials_and_large_bodies_are_refused_unread() {
    let mut server = server().await;
    let address = web(&server).await;
    let frame = now_frame(meter(1), 1).to_cbor();
    for authorization in [
        None,
        basic("M-1", &hex(secret(2))),
        basic("M-77", &hex(secret(1))),
        Some("Bearer x".to_owned()),
        Some("Basic *".to_owned()),
    ] {
        assert_eq!(post(address, authorization, &frame).await.0, 401);
    }
    assert_eq!(server.headend.counters().refused_secret, 5);
    assert_eq!(post(address, own(), &vec![0xa5; 17 * 1024]).await.0, 413);
    assert_eq!(post(address, own(), &vec![b'['; 1 << 20]).await.0, 413);
    let many = vec!["{}"; FRAMES_PER_POST_MAX + 1].join(",");
    assert_eq!(post(address, own(), format!("[{many}]").as_bytes()).await.0, 413);
    assert!(server.batches.try_recv().is_err());
}

#[tokio::test]
async fn what_is_not_stored_is_to_be_sent_again() {
    let mut server = server().await;
    let address = web(&server).await;
    let asked = tokio::spawn(async move { post(address, own(), b"garbage").await });
    drop(server.batch().await);
    assert_eq!(asked.await.expect("answered").0, 503);
    drop(server.batches);
    assert_eq!(post(address, own(), b"garbage").await.0, 503);
}

/// The router as seen by a meter far away: the peer's address is replaced by one that is neither loopback nor permitted.
fn from_afar(router: Router) -> Router {
    router.layer(from_fn(|mut request: Request, next: Next| async move {
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 4_000))));
        next.run(request).await
    }))
}

#[tokio::test]
async fn plain_http_is_taken_from_where_plain_mqtt_is() {
    let mut server = server().await;
    let frame = now_frame(meter(1), 1).to_cbor();
    let far = web_of(from_afar(readings_router(&server.headend))).await;
    let (status, why) = post(far, own(), &frame).await;
    assert_eq!(status, 403);
    assert!(why.contains("plain_networks") && why.contains("https"), "{why}");
    assert_eq!(server.headend.counters().refused_plain, 1);
    assert!(server.batches.try_recv().is_err());

    let by_https = from_afar(readings_router(&server.headend)).layer(Extension(Encrypted));
    let address = web_of(by_https).await;
    let body = frame.clone();
    let asked = tokio::spawn(async move { post(address, own(), &body).await.0 });
    server.store(1, Outcome::Stored).await;
    assert_eq!(asked.await.expect("answered"), 200);

    let mut server = server_with(|config| {
        config.plain_networks = ["192.0.2.0/24".parse().expect("a network")].into_iter().collect();
    })
    .await;
    let address = web_of(from_afar(readings_router(&server.headend))).await;
    let asked = tokio::spawn(async move { post(address, own(), &frame).await.0 });
    server.store(1, Outcome::Stored).await;
    assert_eq!(asked.await.expect("answered"), 200);
}

/// Opens a request whose body never comes.
async fn half_a_body(address: SocketAddr, n: usize) -> TcpStream {
    let authorization = basic(&format!("M-{n}"), &hex(secret(n))).expect("credentials");
    let head = format!(
        "POST /api/v1/readings HTTP/1.1\r\nHost: meter\r\nAuthorization: {authorization}\r\nContent-Length: 100\r\n\r\nhalf"
    );
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(head.as_bytes()).await.expect("writes");
    stream
}

#[tokio::test]
async fn bodies_that_never_end_keep_no_other_meter_out() {
    let mut server = server_with(|config| config.body_timeout = Duration::from_secs(2)).await;
    let address = web(&server).await;
    let mut halves = Vec::new();
    for _ in 0..300 {
        halves.push(half_a_body(address, 2).await);
    }
    let asked = tokio::spawn(async move { post(address, own(), &now_frame(meter(1), 1).to_cbor()).await.0 });
    server.store(1, Outcome::Stored).await;
    assert_eq!(asked.await.expect("answered"), 200);
    // the first of them is told that its time is over, and closed
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, halves[0].read_to_end(&mut answer)).await;
    read.expect("an answer in time").expect("readable");
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn what_cannot_be_read_is_told_in_the_senders_words() {
    let server = server().await;
    let address = web(&server).await;
    let frame = serde_json::to_vec(&now_frame(meter(1), 1)).expect("json");
    let (status, why) = post(address, own(), &[b"\xef\xbb\xbf", &frame[..]].concat()).await;
    assert_eq!(status, 400);
    assert!(why.contains("byte order mark"), "{why}");
    let (status, why) = post(address, own(), b"[]").await;
    assert_eq!(status, 400);
    assert!(why.contains("empty"), "{why}");
    let authorization = own().map(|own| format!("{own}\r\nContent-Encoding: gzip"));
    let (status, why) = post(address, authorization, &frame).await;
    assert_eq!(status, 415);
    assert!(why.contains("uncompressed"), "{why}");
}
