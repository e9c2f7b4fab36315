//! `POST /api/v1/readings`: the same frames by HTTP, for makers whose device speaks no MQTT. Basic authentication with the meter's
//! identifier and secret; one frame in CBOR or JSON, or a JSON array of frames; answered after the durable commit.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, FromRequest, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use metering::{
    DecodeError, MeterId,
    frame::{Encoding, FRAME_BYTES_MAX},
};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

use crate::{
    Headend,
    counters::Counting,
    delivery::{Batch, Delivery, FrameError, Outcome, read_frame},
    shared::Shared,
};

/// Most frames in one request.
pub const FRAMES_PER_POST_MAX: usize = 64;
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Requests that may wait for their commit.
const REQUESTS_MAX: usize = 256;
/// Requests of one meter at the same time, those that are still being read included.
const REQUESTS_PER_METER_MAX: usize = 8;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Marks a request that came by https, here or at the proxy before the server: the web server puts it into the extensions.
#[derive(Clone, Copy, Debug)]
pub struct Encrypted;

struct Posts {
    shared: Arc<Shared>,
    free: Semaphore,
    by_meter: Mutex<HashMap<MeterId, usize>>,
}

/// The route `POST /api/v1/readings`, to be merged into the web server's router. The web server must name the peer, by
/// `ConnectInfo<SocketAddr>` in the extensions, and mark with [`Encrypted`] what came by https: plain requests are taken from
/// the same networks as plain MQTT.
pub fn readings_router(headend: &Headend) -> Router {
    let posts =
        Posts { shared: headend.shared.clone(), free: Semaphore::new(REQUESTS_MAX), by_meter: Mutex::default() };
    Router::new()
        .route("/api/v1/readings", post(readings).fallback(other_method))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::new(posts))
}

async fn other_method() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")], "readings are sent by POST\n").into_response()
}

/// One of a meter's requests; counts until it is dropped.
struct MeterPlace<'a>(&'a Posts, MeterId);

impl Posts {
    fn place_of(&self, meter: MeterId) -> Option<MeterPlace<'_>> {
        let mut by_meter = self.by_meter.lock().unwrap_or_else(PoisonError::into_inner);
        let own = by_meter.entry(meter).or_insert(0);
        if *own >= REQUESTS_PER_METER_MAX {
            return None;
        }
        *own += 1;
        Some(MeterPlace(self, meter))
    }
}

impl Drop for MeterPlace<'_> {
    fn drop(&mut self) {
        let mut by_meter = self.0.by_meter.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = by_meter.get_mut(&self.1) {
            *own -= 1;
            if *own == 0 {
                by_meter.remove(&self.1);
            }
        }
    }
}

/// What became of each frame, in the order of the request.
#[derive(Serialize)]
struct Answer {
    results: Vec<FrameAnswer>,
}

#[derive(Serialize)]
struct FrameAnswer {
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

async fn readings(State(posts): State<Arc<Posts>>, request: Request) -> Response {
    let shared = &posts.shared;
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    if let Err(why) = admit(shared, peer, &request) {
        return (StatusCode::FORBIDDEN, format!("{why}\n")).into_response();
    }
    let Some(meter) = authenticate(request.headers(), shared) else {
        return unknown(shared, peer);
    };
    let Some(_own) = posts.place_of(meter) else {
        return busy("too many requests of this meter at once");
    };
    let body = match read_body(shared, request).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    // Only now: a body that never ends must not keep other meters out.
    let Ok(_place) = posts.free.try_acquire() else {
        return busy("too many requests at once");
    };
    let payloads = match split(&body) {
        Ok(payloads) => payloads,
        Err((status, reason)) => return (status, reason).into_response(),
    };
    store(shared, meter, payloads, peer).await
}

/// The same rule as for MQTT: https from everywhere, plain HTTP from loopback and the permitted networks.
fn admit(shared: &Shared, peer: Option<SocketAddr>, request: &Request) -> Result<(), &'static str> {
    if request.extensions().get::<Encrypted>().is_some() {
        return Ok(());
    }
    match peer {
        Some(peer) => shared.admit_plain(peer.ip()).inspect_err(|why| {
            shared.note(peer.ip(), None, "https required", || (*why).to_owned());
        }),
        None => Err("the address of the sender is not known"),
    }
}

fn unknown(shared: &Shared, peer: Option<SocketAddr>) -> Response {
    Counting::one(&shared.counting.refused_secret);
    if let Some(peer) = peer {
        let text = || "POST /api/v1/readings with unknown meter or wrong secret".into();
        shared.note(peer.ip(), None, "wrong secret", text);
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"meter\"")];
    (StatusCode::UNAUTHORIZED, challenge, "user: the meter; password: its secret, 64 digits\n").into_response()
}

/// The whole body, within its time.
async fn read_body(shared: &Shared, request: Request) -> Result<Bytes, Response> {
    if let Some(coding) = request.headers().get(header::CONTENT_ENCODING)
        && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        let why = "Content-Encoding is not taken here: send the frame as it is, uncompressed\n";
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, why).into_response());
    }
    let body = match timeout(shared.config.body_timeout, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => body,
        Ok(Err(rejection)) => return Err(rejection.into_response()),
        Err(_) => {
            let why = "the body did not come in time: send it at once\n";
            return Err((StatusCode::REQUEST_TIMEOUT, [(header::CONNECTION, "close")], why).into_response());
        }
    };
    if body.starts_with(BYTE_ORDER_MARK) {
        let why = "the body begins with a UTF-8 byte order mark (EF BB BF): send the JSON without it\n";
        return Err((StatusCode::BAD_REQUEST, why).into_response());
    }
    Ok(body)
}

/// Hands the payloads to the pipeline and answers after the commit.
async fn store(shared: &Shared, meter: MeterId, payloads: Vec<Bytes>, peer: Option<SocketAddr>) -> Response {
    let deliveries: Vec<Delivery> = payloads.into_iter().map(|payload| deliver(shared, meter, payload, peer)).collect();
    let mut answers: Vec<FrameAnswer> = deliveries.iter().map(unanswered).collect();
    let (done, committed) = oneshot::channel();
    if shared.sink.send(Batch { deliveries, done }).await.is_err() {
        return busy("the server stops");
    }
    let outcomes = match committed.await {
        Ok(outcomes) if outcomes.len() == answers.len() => outcomes,
        _ => {
            Counting::one(&shared.counting.not_stored);
            return busy("not stored: send again");
        }
    };
    Counting::add(&shared.counting.acknowledged, outcomes.len());
    for (answer, outcome) in answers.iter_mut().zip(&outcomes) {
        answer.outcome = outcome.word();
    }
    let is_any_quarantined = outcomes.contains(&Outcome::Quarantined);
    let status = if is_any_quarantined { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    (status, Json(Answer { results: answers })).into_response()
}

fn busy(reason: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], reason).into_response()
}

fn deliver(shared: &Shared, meter: MeterId, payload: Bytes, peer: Option<SocketAddr>) -> Delivery {
    let frame = read_frame(meter, None, &payload);
    Counting::one(&shared.counting.posts);
    match &frame {
        Ok(_) => shared.registry.speaks(meter, Encoding::of(&payload)),
        Err(error) => {
            Counting::one(&shared.counting.malformed);
            if let Some(peer) = peer {
                shared.note(peer.ip(), Some(meter), "not a frame", || format!("meter {meter}, by HTTP: {error}"));
            }
        }
    }
    let kind = frame.as_ref().ok().map(|frame| frame.body.kind());
    Delivery { meter, kind, payload, frame, received: (shared.now)(), peer }
}

fn unanswered(delivery: &Delivery) -> FrameAnswer {
    FrameAnswer {
        seq: delivery.frame.as_ref().ok().map(|frame| frame.seq),
        outcome: "",
        reason: delivery.frame.as_ref().err().map(FrameError::to_string),
    }
}

/// One payload for each frame: the body, or the elements of its JSON array, each in its own bytes.
fn split(body: &Bytes) -> Result<Vec<Bytes>, (StatusCode, String)> {
    let is_array = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    if !is_array {
        return if body.len() > FRAME_BYTES_MAX {
            Err((StatusCode::PAYLOAD_TOO_LARGE, DecodeError::TooLarge.to_string()))
        } else {
            Ok(vec![body.clone()])
        };
    }
    // a body that is no JSON array is one malformed payload, and kept as such
    let Ok(elements) = serde_json::from_slice::<Vec<&RawValue>>(body) else {
        return Ok(vec![body.slice(..body.len().min(FRAME_BYTES_MAX))]);
    };
    if elements.is_empty() {
        return Err((StatusCode::BAD_REQUEST, "the array is empty: send at least one frame".to_owned()));
    }
    if elements.len() > FRAMES_PER_POST_MAX {
        let why = format!("an array holds 1 to {FRAMES_PER_POST_MAX} frames, this one {}", elements.len());
        return Err((StatusCode::PAYLOAD_TOO_LARGE, why));
    }
    Ok(elements.iter().map(|element| body.slice_ref(element.get().as_bytes())).collect())
}

fn authenticate(headers: &HeaderMap, shared: &Shared) -> Option<MeterId> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64(encoded.trim())?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = std::str::from_utf8(&decoded[..colon]).ok()?;
    shared.credentials.verify(user, &decoded[colon + 1..])
}

/// Decodes base64 (RFC 4648 §4, padding optional) of at most the length of a user name and a secret.
fn base64(text: &str) -> Option<Vec<u8>> {
    const LENGTH_MAX: usize = 256;
    let text = text.trim_end_matches('=');
    if text.len() > LENGTH_MAX || text.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0u32);
    for digit in text.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count).to_le_bytes()[0]);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text).as_deref(), Some(plain.as_bytes()), "{text}");
        }
        assert_eq!(base64("Zg=a"), None);
        assert_eq!(base64("Z"), None);
    }

    #[test]
    fn an_array_is_split_into_the_bytes_of_its_elements() {
        let one = Bytes::from_static(b" {\"v\":1}");
        assert_eq!(split(&one), Ok(vec![one.clone()]));
        let two = Bytes::from_static(b"\n[ {\"a\": 1}, {\"b\":[2]} ]");
        assert_eq!(split(&two), Ok(vec![Bytes::from_static(b"{\"a\": 1}"), Bytes::from_static(b"{\"b\":[2]}")]));
        let broken = Bytes::from_static(b"[{\"a\":1}");
        assert_eq!(split(&broken), Ok(vec![broken.clone()]));
        assert!(split(&Bytes::from_static(b"[]")).is_err());
        assert!(split(&Bytes::from(format!("[{}]", vec!["1"; 65].join(",")))).is_err());
        assert!(split(&Bytes::from(vec![0xa5; FRAME_BYTES_MAX + 1])).is_err());
    }
}
