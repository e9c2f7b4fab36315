//! The application under test and its typed callers.

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode, header},
};
use http_body_util::BodyExt;
use store::{Role, Store};
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt;
use web::PipelineStatus;

use crate::world::{self, NOW};

/// The router over a seeded store; two transformers or three with a few homes each.
pub struct App {
    pub router: Router,
    pub store: Store,
    pub base: &'static str,
    _dir: TempDir,
    _status: watch::Sender<PipelineStatus>,
}

/// Who calls.
#[derive(Clone)]
pub struct Caller<'a> {
    app: &'a App,
    headers: Vec<(&'static str, String)>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    async fn of(response: axum::response::Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.into_body().collect().await.expect("body").to_bytes();
        Self { status, headers, body: String::from_utf8_lossy(&bytes).into_owned() }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

impl App {
    pub async fn new() -> Self {
        Self::at("http://127.0.0.1:8090").await
    }

    /// A house with nobody and nothing in it.
    pub async fn empty() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let (base, store) = ("http://127.0.0.1:8090", world::open(dir.path()).await);
        let (state, status) = world::state_over(store.clone(), base);
        Self { router: web::router(state, Router::new()), store, base, _dir: dir, _status: status }
    }

    pub async fn at(base: &'static str) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let store = world::open(dir.path()).await;
        world::user(&store, "anna", Role::Operator, None).await;
        world::user(&store, "ben", Role::Engineer, None).await;
        world::seed(&store, &world::Size { transformers: 3, homes: 5, days: 2 }).await;
        world::user(&store, "carla", Role::Consumer, Some(world::point(1, 1))).await;
        world::user(&store, "dora", Role::Consumer, Some(world::point(1, 2))).await;
        let (state, status) = world::state_over(store.clone(), base);
        Self { router: web::router(state, Router::new()), store, base, _dir: dir, _status: status }
    }

    /// A page under another name.
    pub async fn at_host(&self, host: &str, path: &str) -> Answer {
        let request = Request::builder().uri(path).header(header::HOST, host).body(Body::empty()).expect("request");
        Answer::of(self.router.clone().oneshot(request).await.expect("infallible")).await
    }

    pub fn nobody(&self) -> Caller<'_> {
        Caller { app: self, headers: Vec::new() }
    }

    /// A person with a session.
    pub async fn person(&self, name: &str) -> Caller<'_> {
        let token = self.store.create_session(name, NOW.plus(3_600), NOW).await.expect("session");
        let name = if self.base.starts_with("https") { "__Host-gridtally" } else { "gridtally" };
        Caller { app: self, headers: vec![("cookie", format!("theme=x; {name}={token}"))] }
    }

    /// A program with a token.
    pub async fn program(&self, role: Role) -> Caller<'_> {
        let token = self.store.create_api_token("test", role, "anna", NOW).await.expect("token");
        Caller { app: self, headers: vec![("authorization", format!("Bearer {token}"))] }
    }
}

impl Caller<'_> {
    /// The same caller with one more header.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None, String::new()).await
    }

    pub async fn form(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, Some("application/x-www-form-urlencoded"), body.to_owned()).await
    }

    pub async fn json(&self, method: &str, path: &str, body: &serde_json::Value) -> Answer {
        self.send(method, path, Some("application/json"), body.to_string()).await
    }

    pub async fn send(&self, method: &str, path: &str, content_type: Option<&str>, body: String) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:8090");
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Body::from(body)).expect("request");
        Answer::of(self.app.router.clone().oneshot(request).await.expect("infallible")).await
    }

    /// The body's frames one by one, for streams.
    pub async fn stream(&self, path: &str) -> (StatusCode, Body) {
        let mut request = Request::builder().uri(path);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Body::empty()).expect("request");
        let response = self.app.router.clone().oneshot(request).await.expect("infallible");
        (response.status(), response.into_body())
    }
}
