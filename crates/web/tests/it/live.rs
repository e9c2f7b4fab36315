//! Live streams: who may watch what, and that a change arrives.

use std::time::Duration;

use axum::{body::Body, http::StatusCode};
use http_body_util::BodyExt;
use metering::{Frame, frame, unit::Watts};
use store::Incoming;

use crate::{
    app::App,
    world::{NOW, meter},
};

/// Reads the stream until a text has come.
async fn until(body: &mut Body, wanted: &str) -> String {
    let mut seen = String::new();
    let reading = async {
        while let Some(frame) = body.frame().await {
            let bytes = frame.expect("frame").into_data().unwrap_or_default();
            seen.push_str(&String::from_utf8_lossy(&bytes));
            if seen.contains(wanted) {
                return;
            }
        }
    };
    let came = tokio::time::timeout(Duration::from_secs(20), reading).await;
    assert!(came.is_ok() && seen.contains(wanted), "{wanted:?} did not come: {seen}");
    seen
}

#[tokio::test]
async fn values_come_at_once_and_again_when_they_change() {
    let app = App::new().await;
    let anna = app.person("anna").await;
    let (status, mut body) = anna.stream("/live?topics=overview,meter:M-101,cases").await;
    assert_eq!(status, StatusCode::OK);
    let first = until(&mut body, "\"open-cases\":\"2\"").await;
    assert!(first.contains("event: values") && first.contains("id: "), "{first}");
    let now = frame::Now { at: NOW, power_w: Some(Watts(4_321)), ..frame::Now::default() };
    let frame = Frame::new(meter(1, 1), 1, 9_000, frame::Body::Now(now));
    let payload = frame.to_cbor().into();
    app.store.ingest(vec![Incoming { frame, payload, received: NOW }]).await.expect("stored");
    let seen = until(&mut body, "\"power\":\"4,321\"").await;
    assert!(!seen.contains("M-102"), "nobody asked for another meter: {seen}");
    until(&mut body, "event: changed\ndata: [\"meter:M-101\"]").await;
}

#[tokio::test]
async fn a_consumer_watches_the_own_meter_only() {
    let app = App::new().await;
    let carla = app.person("carla").await;
    assert_eq!(carla.stream("/live?topics=meter:M-101").await.0, StatusCode::OK);
    for topics in ["meter:M-102", "overview", "cases", "zone:T1", "meter:M-101,controls"] {
        assert_eq!(carla.stream(&format!("/live?topics={topics}")).await.0, StatusCode::NOT_FOUND, "{topics}");
    }
    assert_eq!(app.nobody().stream("/live?topics=overview").await.0, StatusCode::UNAUTHORIZED);
    let anna = app.person("anna").await;
    for topics in ["everything", "meter:a/b", "meter:a,meter:b,meter:c,meter:d,meter:e,meter:f,meter:g,meter:h"] {
        assert_eq!(anna.stream(&format!("/live?topics={topics}")).await.0, StatusCode::BAD_REQUEST, "{topics}");
    }
}
