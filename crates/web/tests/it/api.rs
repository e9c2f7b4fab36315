//! REST: every resource is described, the permissions are those of the pages, errors are problem documents.

use std::{collections::BTreeSet, sync::Arc};

use axum::http::StatusCode;
use serde_json::json;
use store::Role;
use tokio::sync::{mpsc, watch};
use web::{AppState, PipelineStatus, WebConfig};

use crate::{app::App, world::NOW};

#[tokio::test]
async fn openapi_lists_every_resource_and_no_other() {
    let app = App::new().await;
    let answer = app.nobody().get("/api/openapi.json").await;
    assert_eq!(answer.status, StatusCode::OK);
    let described: BTreeSet<String> = answer.json()["paths"].as_object().expect("paths").keys().cloned().collect();
    let mut served: BTreeSet<String> = web::routes::api().into_iter().map(|(path, _)| path.to_owned()).collect();
    served.insert("/api/v1/clock".to_owned());
    assert_eq!(described, served);
    let text = answer.body;
    assert!(text.contains("\"/api/v1/controls\"") && text.contains("bearer"));
}

#[tokio::test]
async fn programs_read_what_their_role_permits() {
    let app = App::new().await;
    let engineer = app.program(Role::Engineer).await;
    let zones = engineer.get("/api/v1/zones").await.json();
    assert_eq!(zones.as_array().map(Vec::len), Some(4));
    assert_eq!(zones[0]["zone"], "F1");
    assert!(zones[0]["last"]["supplied_wh"].as_f64().is_some_and(|wh| wh > 100.0));
    let balances = engineer.get("/api/v1/zones/T3/balances?hours=3").await.json();
    assert_eq!(balances["rows"].as_array().map(Vec::len), Some(12));
    let hourly = engineer.get("/api/v1/zones/T3/balances?hours=3&step_minutes=60").await.json();
    assert_eq!(hourly["rows"].as_array().map(Vec::len), Some(3));
    let profile = engineer.get("/api/v1/meters/M-101/profile?hours=1").await.json();
    assert_eq!(profile["rows"].as_array().map(Vec::len), Some(4));
    assert!(profile["rows"][0]["import_w"].as_u64().is_some());
    let meter = engineer.get("/api/v1/meters/M-103").await.json();
    assert_eq!((&meter["zone"], &meter["latest"]["relay"]), (&json!("T1"), &json!("open")));
    assert_eq!(engineer.get("/api/v1/meters/M-103/events").await.json()[0]["code"], 251);
    assert_eq!(engineer.get("/api/v1/cases?open=true").await.json().as_array().map(Vec::len), Some(2));
    assert_eq!(engineer.get("/api/v1/cases/2").await.json()["zone"], "T3");
    assert_eq!(engineer.get("/api/v1/controls").await.json()[0]["state"], "verified");
    assert_eq!(engineer.get("/api/v1/topology").await.json()["usage_points"].as_array().map(Vec::len), Some(15));
    assert!(
        engineer.get("/api/v1/audit?limit=1").await.json()[0]["hash"].as_str().is_some_and(|hash| hash.len() == 64)
    );
    let metrics = engineer.get("/metrics").await.body;
    assert!(metrics.contains("gridtally_frames_total ") && metrics.contains("gridtally_extra 1"), "{metrics}");
    let health = app.nobody().get("/health").await.json();
    assert_eq!((&health["status"], &health["processed_through"]), (&json!("ok"), &json!(NOW.0)));
    for (method, path) in
        [("POST", "/api/v1/meters"), ("POST", "/api/v1/controls"), ("PUT", "/api/v1/clock"), ("PUT", "/api/v1/policy")]
    {
        let answer = engineer.json(method, path, &json!({})).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    let nobody = app.nobody().get("/api/v1/zones").await;
    assert_eq!((nobody.status, nobody.header("content-type")), (StatusCode::UNAUTHORIZED, "application/problem+json"));
    assert!(nobody.json()["detail"].as_str().is_some_and(|text| text.contains("Authorization: Bearer")));
    let wrong = app.nobody().with("authorization", "Bearer nonsense").get("/api/v1/zones").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_operators_program_enrols_and_commands() {
    let app = App::new().await;
    let operator = app.program(Role::Operator).await;
    let made = operator.json("POST", "/api/v1/meters", &json!({ "meters": ["X-1"] })).await.json();
    assert_eq!(made["meters"][0]["secret"].as_str().map(str::len), Some(64));
    assert_eq!(made["meters"][0]["topics"], json!({ "up": "gt/1/X-1/up/", "down": "gt/1/X-1/down/#" }));
    let many: Vec<String> = (0..1_001).map(|i| format!("X-{i}")).collect();
    assert_eq!(
        operator.json("POST", "/api/v1/meters", &json!({ "meters": many })).await.status,
        StatusCode::BAD_REQUEST
    );
    let csv = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\nT8,F1,OBS-T8,,,,,2026-01-01\n";
    let report = operator.send("POST", "/api/v1/topology", Some("text/csv"), csv.to_owned()).await;
    assert_eq!(
        report.json(),
        json!({ "accepted": 1, "unchanged": 0, "rejected": [], "rejected_count": 0 }),
        "{}",
        report.body
    );
    let wish = json!({ "usage_point": "UP-105", "kind": "disconnect", "reason": "test" });
    let control = operator.json("POST", "/api/v1/controls", &wish).await;
    assert_eq!(
        (control.status, &control.json()["state"]),
        (StatusCode::CREATED, &json!("approved")),
        "{}",
        control.body
    );
    let observer = json!({ "meter": "OBS-T1", "kind": "disconnect", "reason": "test" });
    assert_eq!(operator.json("POST", "/api/v1/controls", &observer).await.status, StatusCode::CONFLICT);
    let both = json!({ "meter": "M-101", "usage_point": "UP-105", "kind": "reconnect", "reason": "test" });
    assert_eq!(operator.json("POST", "/api/v1/controls", &both).await.status, StatusCode::BAD_REQUEST);
    let moved = operator.json("POST", "/api/v1/cases/3/actions", &json!({ "action": "move", "to": "visit" })).await;
    assert_eq!(moved.json()["state"], "visit", "{}", moved.body);
    let illegal = operator.json("POST", "/api/v1/cases/1/actions", &json!({ "action": "move", "to": "visit" })).await;
    assert_eq!(illegal.status, StatusCode::CONFLICT);
    let broken = operator.send("POST", "/api/v1/controls", Some("application/json"), "{".to_owned()).await;
    assert_eq!((broken.status, broken.header("content-type")), (StatusCode::BAD_REQUEST, "application/problem+json"));
    assert_eq!(operator.json("PUT", "/api/v1/clock", &json!({ "now": NOW.0 })).await.status, StatusCode::CONFLICT);
    let large = operator.send("POST", "/api/v1/meters", Some("application/json"), " ".repeat(300_000)).await;
    assert_eq!(large.status, StatusCode::BAD_REQUEST, "{}", large.body);
}

#[tokio::test]
async fn a_simulated_clock_goes_forward_only_and_answers_when_the_step_is_taken() {
    let dir = tempfile::tempdir().expect("directory");
    let store = crate::world::open(dir.path()).await;
    let token = store.create_api_token("sim", Role::Operator, "set-up", NOW).await.expect("token");
    let (sender, mut steps) = mpsc::channel::<web::Advance>(1);
    let (_status, receiver) = watch::channel(PipelineStatus::default());
    let config = WebConfig {
        nominal_voltage: Default::default(),
        base_url: "http://127.0.0.1".to_owned(),
        hosts: vec!["127.0.0.1".to_owned()],
        now: Arc::new(|| NOW),
        status: receiver,
        advance: Some(sender),
        metrics: Arc::new(String::new),
        verifying_key: [7; 32],
        mqtt: None,
        enrolled: Arc::new(|_, _| {}),
    };
    let router = web::router(AppState::new(store, config), axum::Router::new());
    tokio::spawn(async move {
        while let Some(step) = steps.recv().await {
            let status = PipelineStatus {
                now: step.to,
                processed_through: Some(step.to),
                idle: true,
                ..PipelineStatus::default()
            };
            let _ = step.done.send(status);
        }
    });
    let put = async |to: i64| {
        let request = axum::http::Request::put("/api/v1/clock")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(axum::body::Body::from(json!({ "now": to }).to_string()))
            .expect("request");
        let response = tower::ServiceExt::oneshot(router.clone(), request).await.expect("infallible");
        let status = response.status();
        let bytes = http_body_util::BodyExt::collect(response.into_body()).await.expect("body").to_bytes();
        (status, serde_json::from_slice::<serde_json::Value>(&bytes).expect("json"))
    };
    let (status, body) = put(NOW.0 + 900).await;
    assert_eq!((status, &body["processed_through"]), (StatusCode::OK, &json!(NOW.0 + 900)));
    assert_eq!(put(NOW.0 - 1).await.0, StatusCode::CONFLICT);
}
