//! The few requests a neighbourhood makes of a server's REST interface: import the topology, enrol meters, set the clock, ask
//! how it is. HTTP/1.1 over one kept-alive connection; anything that is not an answer is tried again until a deadline.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use metering::{MeterId, Timestamp};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{net::TcpStream, time};

use crate::error::SimError;

/// Largest answer taken.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Meters enrolled in one request.
const ENROL_CHUNK: usize = 500;
/// Longest wait for one answer before the connection is given up.
const ANSWER_SECONDS_MAX: u64 = 60;

/// How the server's pipeline stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct PipelineStatus {
    /// The server's time.
    #[serde(default)]
    pub now: Option<Timestamp>,
    /// Every slot up to here is balanced.
    #[serde(default)]
    pub processed_through: Option<Timestamp>,
    /// Whether nothing is left to do at this time.
    pub idle: bool,
    /// When the server wants to be told the time again at the latest.
    #[serde(default)]
    pub wake_at: Option<Timestamp>,
}

/// An enrolled meter's credentials.
#[derive(Clone, Debug, Deserialize)]
pub struct Enrolled {
    /// The meter.
    pub meter: MeterId,
    /// Its secret, 64 hexadecimal digits.
    pub secret: String,
}

#[derive(Deserialize)]
struct EnrolAnswer {
    meters: Vec<Enrolled>,
}

#[derive(Deserialize)]
struct ImportAnswer {
    #[serde(default)]
    rejected: Vec<serde_json::Value>,
}

/// A client of the REST interface.
pub struct RestClient {
    address: String,
    token: String,
    patience: Duration,
    connection: Option<http1::SendRequest<Full<Bytes>>>,
    losses: u64,
    lost_now: bool,
}

enum Attempt {
    Answer(StatusCode, Bytes),
    Again(String),
}

impl RestClient {
    /// A client of the server at `http` (`http://host:port` or `host:port`), with an administrator's token. A request is
    /// repeated for at most `patience` before it is given up.
    pub fn new(http: &str, token: &str, patience: Duration) -> Result<Self, SimError> {
        let address = host_and_port(http, "http://")?;
        Ok(Self { address, token: token.into(), patience, connection: None, losses: 0, lost_now: false })
    }

    /// Times the server was found not answering.
    pub fn losses(&self) -> u64 {
        self.losses
    }

    /// Imports the topology; rejected rows are an error.
    pub async fn import_topology(&mut self, csv: &str) -> Result<(), SimError> {
        let request = "POST /api/v1/topology";
        let answer: ImportAnswer = self.ask("POST", "/api/v1/topology", "text/csv", csv.to_owned().into()).await?;
        match answer.rejected.first() {
            None => Ok(()),
            Some(first) => Err(SimError::Answer {
                request: request.into(),
                reason: format!("{} rows were rejected, the first: {first}", answer.rejected.len()),
            }),
        }
    }

    /// Enrols meters and returns their secrets in the same order.
    pub async fn enrol(&mut self, meters: &[MeterId]) -> Result<Vec<Enrolled>, SimError> {
        let mut enrolled = Vec::with_capacity(meters.len());
        for chunk in meters.chunks(ENROL_CHUNK) {
            let body = serde_json::json!({ "meters": chunk }).to_string();
            let answer: EnrolAnswer = self.ask("POST", "/api/v1/meters", "application/json", body.into()).await?;
            for &meter in chunk {
                let found = answer.meters.iter().find(|e| e.meter == meter).cloned();
                enrolled.push(found.ok_or_else(|| SimError::Answer {
                    request: "POST /api/v1/meters".into(),
                    reason: format!("no secret for meter {meter}"),
                })?);
            }
        }
        Ok(enrolled)
    }

    /// The server's key that signs controls, if it tells one.
    pub async fn server_key(&mut self) -> Result<Option<[u8; 32]>, SimError> {
        let health: serde_json::Value = self.ask("GET", "/health", "application/json", Bytes::new()).await?;
        let digits = health["server_key"].as_str().unwrap_or_default();
        let byte = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
        Ok(bytes.and_then(|bytes| bytes.try_into().ok()))
    }

    /// Posts a text to any path of the interface and returns the answer.
    pub async fn post_text(
        &mut self,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> Result<serde_json::Value, SimError> {
        self.ask("POST", path, content_type, Bytes::copy_from_slice(body.as_bytes())).await
    }

    /// Tells the server the time.
    pub async fn put_clock(&mut self, now: Timestamp) -> Result<PipelineStatus, SimError> {
        let body = serde_json::json!({ "now": now }).to_string();
        self.ask("PUT", "/api/v1/clock", "application/json", body.into()).await
    }

    /// Tells the server the time, once; `None` when it does not answer.
    pub async fn put_clock_once(&mut self, now: Timestamp) -> Result<Option<PipelineStatus>, SimError> {
        let body: Bytes = serde_json::json!({ "now": now }).to_string().into();
        self.ask_once("PUT", "/api/v1/clock", "application/json", body).await.map(Result::ok)
    }

    /// Asks how the server is.
    pub async fn health(&mut self) -> Result<PipelineStatus, SimError> {
        self.ask("GET", "/health", "application/json", Bytes::new()).await
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<T, SimError> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            let last = match self.ask_once(method, path, content_type, body.clone()).await? {
                Ok(answer) => return Ok(answer),
                Err(reason) => reason,
            };
            if begun.elapsed() >= self.patience {
                let seconds = begun.elapsed().as_secs();
                return Err(SimError::Unreachable { seconds, doing: format!("{method} {path}"), last });
            }
            time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// One attempt; the inner error is worth another one.
    async fn ask_once<T: DeserializeOwned>(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Result<T, String>, SimError> {
        let request = || format!("{method} {path}");
        let last = match self.attempt(method, path, content_type, body).await {
            Attempt::Answer(status, bytes) if status.is_success() => {
                self.lost_now = false;
                let answer = serde_json::from_slice(&bytes);
                return answer.map(Ok).map_err(|e| SimError::Answer { request: request(), reason: e.to_string() });
            }
            Attempt::Answer(status, bytes) if !may_pass(status) => {
                let text = String::from_utf8_lossy(&bytes);
                let answer = text.chars().take(400).collect();
                return Err(SimError::Refused { request: request(), status: status.as_u16(), answer });
            }
            Attempt::Answer(status, _) => format!("HTTP {status}"),
            Attempt::Again(reason) => reason,
        };
        self.connection = None;
        if !self.lost_now {
            self.lost_now = true;
            self.losses += 1;
            tracing::debug!(%last, path, "the server does not answer, trying again");
        }
        Ok(Err(last))
    }

    async fn attempt(&mut self, method: &str, path: &str, content_type: &str, body: Bytes) -> Attempt {
        let exchange = async {
            if self.connection.as_ref().is_none_or(http1::SendRequest::is_closed) {
                let stream = TcpStream::connect(&self.address).await.map_err(|e| e.to_string())?;
                stream.set_nodelay(true).map_err(|e| e.to_string())?;
                let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
                tokio::spawn(driver);
                self.connection = Some(sender);
            }
            let sender = self.connection.as_mut().ok_or("no connection")?;
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(header::HOST, &self.address)
                .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
                .header(header::CONTENT_TYPE, content_type)
                .body(Full::new(body))
                .map_err(|e| e.to_string())?;
            sender.ready().await.map_err(|e| e.to_string())?;
            let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
            let status = answer.status();
            let bytes =
                Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|e| e.to_string())?;
            Ok::<_, String>((status, bytes.to_bytes()))
        };
        match time::timeout(Duration::from_secs(ANSWER_SECONDS_MAX), exchange).await {
            Ok(Ok((status, bytes))) => Attempt::Answer(status, bytes),
            Ok(Err(reason)) => Attempt::Again(reason),
            Err(_) => Attempt::Again("no answer in time".into()),
        }
    }
}

/// Whether trying again later may help.
fn may_pass(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// `host:port` of an address with or without this scheme.
pub(crate) fn host_and_port(text: &str, scheme: &str) -> Result<String, SimError> {
    let rest = text.strip_prefix(scheme).unwrap_or(text).trim_end_matches('/');
    let valid = rest.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !valid || rest.contains('/') {
        return Err(SimError::Address(text.into()));
    }
    Ok(rest.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_scheme() {
        assert_eq!(host_and_port("http://127.0.0.1:8080/", "http://").ok().as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(host_and_port("localhost:1883", "mqtt://").ok().as_deref(), Some("localhost:1883"));
        for bad in ["", "http://", "127.0.0.1", "mqtts://a:1", "http://a:1/x"] {
            assert!(host_and_port(bad, "http://").is_err(), "{bad}");
        }
    }
}
