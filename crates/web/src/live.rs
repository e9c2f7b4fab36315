//! Live values by server-sent events: one stream a page, carrying the topics that the page names. What is sent is made once a
//! topic, however many look; topics that nobody watches cost nothing. A slow client skips to the newest.
//!
//! `event: values` carries texts and attributes by key (`data-k` in the pages), `event: changed` the topics whose parts of a page
//! shall be read again, `event: beat` says that the stream lives.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fmt,
    str::FromStr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use metering::{MeterId, ZoneId};
use serde::{Deserialize, Serialize};
use store::Change;
use tokio::{
    sync::{broadcast, mpsc},
    time::MissedTickBehavior,
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    auth::{self, Caller, SignedIn},
    error::WebError,
    format, pages,
    state::AppState,
};

/// How often changed topics are sent.
const FLUSH: Duration = Duration::from_millis(500);
/// How often a silent stream says that it lives.
const BEAT: Duration = Duration::from_secs(5);
/// How often a stream asks again whether its reader may still read.
const RECHECK: Duration = Duration::from_secs(30);
/// Most topics of one stream.
const TOPICS_MAX: usize = 8;
/// Most streams at the same time.
const STREAMS_PER_CALLER_MAX: usize = 32;
/// Streams altogether.
const STREAMS_MAX: usize = 5_000;
/// Messages kept for a slow stream; it skips the oldest.
const KEPT: usize = 16;

/// What a page can watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// The server's time and progress; part of every stream.
    Status,
    /// All zones and the key figures.
    Overview,
    /// One zone.
    Zone(ZoneId),
    /// One meter.
    Meter(MeterId),
    /// The list of cases and every case.
    Cases,
    /// The list of controls.
    Controls,
    /// Zones, usage points, meters.
    Topology,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status => f.write_str("status"),
            Self::Overview => f.write_str("overview"),
            Self::Zone(zone) => write!(f, "zone:{zone}"),
            Self::Meter(meter) => write!(f, "meter:{meter}"),
            Self::Cases => f.write_str("cases"),
            Self::Controls => f.write_str("controls"),
            Self::Topology => f.write_str("topology"),
        }
    }
}

impl FromStr for Topic {
    type Err = WebError;

    fn from_str(text: &str) -> Result<Self, WebError> {
        let unknown = || WebError::Invalid(format!("there is no live topic {}", text.escape_debug()));
        Ok(match text.split_once(':') {
            None => match text {
                "status" => Self::Status,
                "overview" => Self::Overview,
                "cases" => Self::Cases,
                "controls" => Self::Controls,
                "topology" => Self::Topology,
                _ => return Err(unknown()),
            },
            Some(("zone", id)) => Self::Zone(ZoneId::new(id).map_err(|_| unknown())?),
            Some(("meter", id)) => Self::Meter(MeterId::new(id).map_err(|_| unknown())?),
            Some(_) => return Err(unknown()),
        })
    }
}

/// Texts and attributes by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Values {
    text: BTreeMap<String, String>,
    attr: BTreeMap<String, BTreeMap<&'static str, String>>,
}

impl Values {
    /// The text of the elements with this key.
    pub fn text(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.text.insert(key.into(), text.into());
    }

    /// An attribute of the elements with this key.
    pub fn attr(&mut self, key: impl Into<String>, name: &'static str, value: impl Into<String>) {
        self.attr.entry(key.into()).or_default().insert(name, value.into());
    }

    /// The text of a key; a dash when there is none. Pages are first rendered from the same values that are sent later.
    pub fn of(&self, key: &str) -> &str {
        self.text.get(key).map_or(format::UNKNOWN, String::as_str)
    }

    /// The text of a key, if there is one.
    pub fn known(&self, key: &str) -> Option<&str> {
        self.text.get(key).map(String::as_str)
    }

    /// An attribute of a key; `0` when there is none.
    pub fn attr_of(&self, key: &str, name: &str) -> &str {
        self.attr.get(key).and_then(|attributes| attributes.get(name)).map_or("0", String::as_str)
    }
}

/// Who watches what.
#[derive(Default)]
pub struct Hub {
    topics: Mutex<BTreeMap<Topic, broadcast::Sender<Bytes>>>,
    fresh: Mutex<BTreeSet<Topic>>,
    streams: AtomicUsize,
    /// Open streams by person or program.
    by_caller: Mutex<BTreeMap<String, usize>>,
    sequence: AtomicU64,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("streams", &self.streams).finish_non_exhaustive()
    }
}

impl Hub {
    /// Streams open now.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    fn watch(&self, topic: Topic) -> broadcast::Receiver<Bytes> {
        let mut topics = self.topics.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let receiver = topics.entry(topic).or_insert_with(|| broadcast::channel(KEPT).0).subscribe();
        drop(topics);
        self.fresh.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(topic);
        receiver
    }

    /// The topics that somebody watches; the others are forgotten.
    fn watched(&self) -> BTreeMap<Topic, broadcast::Sender<Bytes>> {
        let mut topics = self.topics.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        topics.retain(|_, sender| sender.receiver_count() > 0);
        topics.clone()
    }

    fn event(&self, name: &str, data: &impl Serialize) -> Bytes {
        let id = self.sequence.fetch_add(1, Ordering::Relaxed);
        let data = serde_json::to_string(data).unwrap_or_default();
        Bytes::from(format!("id: {id}\nevent: {name}\ndata: {data}\n\n"))
    }
}

/// Topics touched by a change.
fn touched(change: &Change, into: &mut BTreeSet<Topic>) {
    match change {
        Change::Frame { meter, .. } | Change::Event { meter, .. } | Change::Reply { meter, .. } => {
            into.insert(Topic::Meter(*meter));
        }
        Change::Slot { .. } => {
            into.insert(Topic::Overview);
        }
        Change::Case { .. } => {
            into.insert(Topic::Cases);
        }
        Change::Control { .. } => {
            into.insert(Topic::Controls);
        }
        Change::Topology | Change::Enrolled => {
            into.insert(Topic::Topology);
        }
        Change::Setting(_) => {
            into.insert(Topic::Controls);
        }
    }
}

/// Collects changes and sends them on, until the store is closed. Ends by itself when the state is dropped elsewhere.
pub(crate) async fn run(state: AppState) {
    let mut changes = state.store.subscribe();
    let mut dirty = BTreeSet::new();
    let mut tick = tokio::time::interval(FLUSH);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Ok(change) => {
                    let all_zones = matches!(change, Change::Slot { .. });
                    touched(&change, &mut dirty);
                    if all_zones {
                        dirty.extend(state.hub.watched().into_keys().filter(|topic| matches!(topic, Topic::Zone(_))));
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => dirty.extend(state.hub.watched().into_keys()),
                Err(broadcast::error::RecvError::Closed) => return,
            },
            _ = tick.tick() => {
                flush(&state, std::mem::take(&mut dirty)).await;
                if state.config.status.has_changed().is_err() && state.hub.streams() == 0 {
                    return;
                }
            }
        }
    }
}

async fn flush(state: &AppState, dirty: BTreeSet<Topic>) {
    let fresh = std::mem::take(&mut *state.hub.fresh.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let watched = state.hub.watched();
    for (topic, sender) in &watched {
        let is_fresh = fresh.contains(topic);
        if !dirty.contains(topic) && !is_fresh && *topic != Topic::Status {
            continue;
        }
        match values(state, *topic).await {
            Ok(Some(values)) => drop(sender.send(state.hub.event("values", &values))),
            Ok(None) => {}
            Err(error) => tracing::warn!(%topic, %error, "live values could not be read"),
        }
        // A page that has just opened its stream may have been drawn before the last change: it reads its parts once more.
        if dirty.contains(topic) || is_fresh {
            drop(sender.send(state.hub.event("changed", &[topic.to_string()])));
        }
    }
}

async fn values(state: &AppState, topic: Topic) -> Result<Option<Values>, WebError> {
    Ok(match topic {
        Topic::Status => Some(pages::overview::status_values(state)),
        Topic::Overview => Some(pages::overview::live_values(state).await?),
        Topic::Meter(meter) => Some(pages::meter::live_values(state, meter).await?),
        Topic::Cases => {
            let mut values = Values::default();
            values.text("open-cases", pages::cases::open_count(state).await?.to_string());
            Some(values)
        }
        Topic::Zone(_) | Topic::Controls | Topic::Topology => None,
    })
}

/// Query of `/live`.
#[derive(Debug, Deserialize)]
pub struct LiveQuery {
    topics: String,
}

/// `GET /live?topics=overview,cases,…`.
pub async fn stream(
    State(state): State<AppState>,
    SignedIn(caller): SignedIn,
    headers: HeaderMap,
    Query(query): Query<LiveQuery>,
) -> Result<Response, WebError> {
    let mut topics = BTreeSet::from([Topic::Status]);
    for text in query.topics.split(',').filter(|text| !text.is_empty()) {
        topics.insert(text.parse()?);
    }
    if topics.len() > TOPICS_MAX {
        return Err(WebError::Invalid(format!("at most {TOPICS_MAX} live topics in one stream")));
    }
    may_watch(&state, &caller, &topics).await?;
    if state.hub.streams() >= STREAMS_MAX {
        return Err(WebError::Unavailable);
    }
    let guard = StreamGuard::new(Arc::clone(&state.hub), &caller.name).ok_or_else(|| {
        WebError::TooMany(format!("at most {STREAMS_PER_CALLER_MAX} live pages of one person at a time: close some"))
    })?;
    let receivers: Vec<_> = topics.iter().map(|topic| state.hub.watch(*topic)).collect();
    let (sender, receiver) = mpsc::channel(KEPT);
    tokio::spawn(forward(state, caller, headers, receivers, sender, guard));
    let body = Body::from_stream(ReceiverStream::new(receiver));
    Ok(([(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")], body).into_response())
}

/// Staff watch everything, a consumer the meter of the own usage point.
async fn may_watch(state: &AppState, caller: &Caller, topics: &BTreeSet<Topic>) -> Result<(), WebError> {
    if caller.is_staff() {
        return Ok(());
    }
    let own = pages::own_meter::meter_of(state, caller).await?;
    let permitted = topics.iter().all(|topic| match topic {
        Topic::Status => true,
        Topic::Meter(meter) => Some(*meter) == own,
        _ => false,
    });
    if permitted { Ok(()) } else { Err(WebError::NotFound) }
}

/// Counts a stream as long as it is open.
struct StreamGuard {
    hub: Arc<Hub>,
    caller: String,
}

impl StreamGuard {
    /// `None` when this caller has as many open as may be.
    fn new(hub: Arc<Hub>, caller: &str) -> Option<Self> {
        let mut by_caller = hub.by_caller.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let own = by_caller.entry(caller.to_owned()).or_insert(0);
        if *own >= STREAMS_PER_CALLER_MAX {
            return None;
        }
        *own += 1;
        drop(by_caller);
        hub.streams.fetch_add(1, Ordering::Relaxed);
        Some(Self { hub, caller: caller.to_owned() })
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.hub.streams.fetch_sub(1, Ordering::Relaxed);
        let mut by_caller = self.hub.by_caller.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(own) = by_caller.get_mut(&self.caller) {
            *own -= 1;
            if *own == 0 {
                by_caller.remove(&self.caller);
            }
        }
    }
}

/// Passes messages on until the client goes, signs out or the server stops.
async fn forward(
    state: AppState,
    caller: Caller,
    headers: HeaderMap,
    receivers: Vec<broadcast::Receiver<Bytes>>,
    sender: mpsc::Sender<Result<Bytes, Infallible>>,
    _guard: StreamGuard,
) {
    let (inner, mut messages) = mpsc::channel::<Bytes>(KEPT);
    let mut pumps = tokio::task::JoinSet::new();
    for mut receiver in receivers {
        let inner = inner.clone();
        pumps.spawn(async move {
            loop {
                match receiver.recv().await {
                    Ok(message) => {
                        if inner.send(message).await.is_err() {
                            return;
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        });
    }
    drop(inner);
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut recheck = tokio::time::interval(RECHECK);
    recheck.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut status = state.config.status.clone();
    loop {
        let message = tokio::select! {
            message = messages.recv() => match message { Some(message) => message, None => return },
            _ = beat.tick() => state.hub.event("beat", &()),
            _ = recheck.tick() => {
                if auth::caller(&headers, &state).await.ok().flatten().as_ref() != Some(&caller) {
                    return;
                }
                continue;
            }
            gone = status.changed() => if gone.is_err() { return } else { continue },
            () = sender.closed() => return,
        };
        if sender.send(Ok(message)).await.is_err() {
            return;
        }
    }
}
