//! One connection: a task that moves bytes between a socket and its [`Session`], payloads to the pipeline, outcomes back, and
//! frames to the meter. It decides nothing about the protocol.
//!
//! Back-pressure: the socket is read only while the window is open, the pipeline has taken the last batch and the peer takes what
//! waits for it. Acknowledgements leave in the order of the publishes, each after its commit.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    io,
    mem::MaybeUninit,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use metering::{MeterId, frame::Encoding};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf},
    sync::{mpsc, oneshot},
    time::{Instant, Sleep, sleep_until, timeout},
};

use crate::{
    counters::Counting,
    delivery::{Batch, Delivery, Outcome},
    mqtt::session::{DownError, End, Session, SessionEvent},
    registry::{DownItem, Entered, SendError},
    room::{Place, household},
    shared::Shared,
};

const READ_BYTES: usize = 8 * 1024;
/// With more than this waiting to be written nothing further is read, and no frame to the meter is taken.
const OUT_BYTES_MAX: usize = 64 * 1024;
const LAST_WORDS: Duration = Duration::from_secs(2);
const DRAIN: Duration = Duration::from_secs(5);

/// Serves one connection until it ends.
pub(crate) async fn serve<S>(stream: S, peer: SocketAddr, log_on_by: Instant, place: Place, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (reader, writer) = tokio::io::split(stream);
    let now = Instant::now();
    let mut task = Task {
        session: Session::new(&shared.config, place.id()),
        meter: None,
        entered: None,
        inbox: Vec::new(),
        outgoing: None,
        commits: VecDeque::new(),
        down_waiting: HashMap::new(),
        down_count: 0,
        events: Vec::new(),
        end: None,
        silence_max: shared.config.connect_timeout,
        log_on_by,
        last_heard: now,
        last_written: now,
        connection: place.id(),
        place,
        peer,
        shared,
    };
    let why = task.run(reader, writer).await;
    task.leave(&why);
}

struct Task {
    session: Session,
    meter: Option<MeterId>,
    entered: Option<Entered>,
    /// Bytes read and not yet processed.
    inbox: Vec<u8>,
    /// A batch the pipeline has not taken yet.
    outgoing: Option<Batch>,
    /// Batches that wait for their commit, oldest first.
    commits: VecDeque<(usize, oneshot::Receiver<Vec<Outcome>>)>,
    down_waiting: HashMap<u64, oneshot::Sender<Result<(), SendError>>>,
    down_count: u64,
    events: Vec<SessionEvent>,
    end: Option<End>,
    silence_max: Duration,
    log_on_by: Instant,
    last_heard: Instant,
    last_written: Instant,
    connection: u64,
    place: Place,
    peer: SocketAddr,
    shared: Arc<Shared>,
}

enum Wake {
    Ended(End),
    Committed(Option<Vec<Outcome>>),
    Written(io::Result<usize>),
    Read(io::Result<usize>),
    Handed(bool),
    Down(Option<DownItem>),
    Timer,
}

impl Task {
    async fn run<S>(&mut self, mut reader: ReadHalf<S>, mut writer: WriteHalf<S>) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut timer = pin!(sleep_until(self.next_check()));
        let mut is_flushed = true;
        while self.end.is_none() {
            let wake = self.wake(&mut reader, &mut writer, timer.as_mut(), is_flushed).await;
            match wake {
                Wake::Ended(End::ShuttingDown) => self.drain().await,
                Wake::Ended(why) => self.session.end(why, &mut self.events),
                Wake::Committed(outcomes) => self.committed(outcomes),
                Wake::Written(Ok(0)) => is_flushed = true,
                Wake::Written(Ok(n)) => {
                    self.session.out().drain(..n);
                    self.last_written = Instant::now();
                    is_flushed = false;
                }
                Wake::Read(Ok(0)) | Wake::Read(Err(_)) | Wake::Written(Err(_)) => {
                    self.session.end(End::Left, &mut self.events);
                }
                Wake::Read(Ok(_)) => self.last_heard = Instant::now(),
                Wake::Handed(true) => self.outgoing = None,
                Wake::Handed(false) => self.session.end(End::ShuttingDown, &mut self.events),
                Wake::Down(Some(item)) => self.send_down(item),
                Wake::Down(None) => self.session.end(End::TakenOver, &mut self.events),
                Wake::Timer => self.expire(timer.as_mut()),
            }
            let silence_max = self.silence_max;
            self.process();
            if self.silence_max != silence_max {
                timer.as_mut().reset(self.next_check());
            }
        }
        let why = self.end.take().unwrap_or(End::Left);
        if why == End::WriteTimeout {
            return why;
        }
        // a peer that does not take the last words does without them
        let _ = timeout(LAST_WORDS, async {
            writer.write_all(self.session.out()).await?;
            writer.shutdown().await
        })
        .await;
        why
    }

    /// Waits for the next thing to happen.
    async fn wake<S>(
        &mut self,
        reader: &mut ReadHalf<S>,
        writer: &mut WriteHalf<S>,
        timer: Pin<&mut Sleep>,
        is_flushed: bool,
    ) -> Wake
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let is_reading = self.is_reading();
        let takes_down = self.session.takes_down() && self.session.out().len() < OUT_BYTES_MAX;
        let out = self.session.out();
        let (ended, down) = match &mut self.entered {
            Some(entered) => (Some(&mut entered.end), takes_down.then_some(&mut entered.down)),
            None => (None, None),
        };
        tokio::select! {
            biased;
            why = some(ended) => Wake::Ended(why.unwrap_or(End::TakenOver)),
            outcomes = some(self.commits.front_mut().map(|(_, done)| done)) => Wake::Committed(outcomes.ok()),
            written = write_some(writer, out), if !out.is_empty() || !is_flushed => Wake::Written(written),
            handed = hand(&self.shared.sink, &mut self.outgoing), if self.outgoing.is_some() => Wake::Handed(handed),
            item = receive(down) => Wake::Down(item),
            read = read_some(reader, &mut self.inbox), if is_reading => Wake::Read(read),
            () = timer => Wake::Timer,
        }
    }

    /// The socket is read only when everything behind it has room.
    fn is_reading(&mut self) -> bool {
        self.session.takes_input()
            && self.outgoing.is_none()
            && self.inbox.is_empty()
            && self.session.out().len() < OUT_BYTES_MAX
    }

    /// Feeds what was read to the session and carries out what it asks for.
    fn process(&mut self) {
        if self.outgoing.is_none() && !self.inbox.is_empty() && self.session.out().len() < OUT_BYTES_MAX {
            let taken = self.session.receive(&self.inbox, &self.shared.credentials, &mut self.events);
            self.inbox.drain(..taken);
            if self.inbox.is_empty() && self.inbox.capacity() > READ_BYTES {
                self.inbox = Vec::new();
            }
        }
        if self.events.is_empty() {
            return;
        }
        let mut deliveries = Vec::new();
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            self.carry_out(event, &mut deliveries);
        }
        self.events = events;
        if !deliveries.is_empty() {
            let (done, commit) = oneshot::channel();
            self.commits.push_back((deliveries.len(), commit));
            let batch = Batch { deliveries, done };
            // the usual case costs no turn of the loop
            if let Err(mpsc::error::TrySendError::Full(batch)) = self.shared.sink.try_send(batch) {
                self.outgoing = Some(batch);
            }
        }
    }

    fn carry_out(&mut self, event: SessionEvent, deliveries: &mut Vec<Delivery>) {
        let counting = &self.shared.counting;
        match event {
            SessionEvent::Accepted { meter, client, silence_max } => {
                Counting::one(&counting.accepted);
                self.meter = Some(meter);
                self.place.settle();
                self.silence_max = silence_max;
                self.entered = self.shared.registry.enter(meter, client, self.connection, household(self.peer.ip()));
                match &self.entered {
                    None => self.end = Some(End::ShuttingDown),
                    Some(Entered { elsewhere: Some(other), .. }) => {
                        Counting::one(&counting.two_addresses);
                        self.shared.note(self.peer.ip(), Some(meter), "two addresses", || {
                            format!("meter {meter} is connected from {other} too: unless it has just moved, its secret was copied; enrol it again")
                        });
                    }
                    Some(_) => {}
                }
            }
            SessionEvent::Publish { meter, kind, payload, frame } => {
                Counting::one(&counting.publishes);
                Counting::add(&counting.publish_bytes, payload.len());
                match &frame {
                    Ok(_) => self.shared.registry.speaks(meter, Encoding::of(&payload)),
                    Err(error) => {
                        Counting::one(&counting.malformed);
                        self.shared
                            .note(self.peer.ip(), Some(meter), "not a frame", || format!("meter {meter}: {error}"));
                    }
                }
                if let Some(gateway) = self.meter.filter(|gateway| *gateway != meter) {
                    self.shared.registry.behind(meter, gateway, self.connection, true);
                }
                let received = (self.shared.now)();
                let peer = Some(self.peer);
                deliveries.push(Delivery { meter, kind, payload, frame, received, peer });
            }
            SessionEvent::Behind { meter, is_there } => {
                if let Some(gateway) = self.meter {
                    self.shared.registry.behind(meter, gateway, self.connection, is_there);
                }
            }
            SessionEvent::Listening(listening) => {
                if let Some(meter) = self.meter {
                    self.shared.registry.listen(meter, self.connection, listening);
                }
            }
            SessionEvent::DownDone { token, taken } => {
                if taken {
                    Counting::one(&counting.down_acknowledged);
                }
                if let Some(done) = self.down_waiting.remove(&token) {
                    // the sender may have stopped waiting
                    let _ = done.send(if taken { Ok(()) } else { Err(SendError::Refused) });
                }
            }
            SessionEvent::ForeignFilter(filter) => {
                Counting::one(&counting.foreign_topics);
                self.shared.note(self.peer.ip(), self.meter, "foreign subscription", || {
                    format!("{}: may not subscribe to {filter:?}", self.name())
                });
            }
            SessionEvent::End(why) => self.end = Some(why),
        }
    }

    fn committed(&mut self, outcomes: Option<Vec<Outcome>>) {
        let Some((count, _)) = self.commits.pop_front() else { return };
        match outcomes {
            Some(outcomes) if outcomes.len() == count => {
                Counting::add(&self.shared.counting.acknowledged, count);
                self.session.acknowledge(&outcomes, &mut self.events);
            }
            _ => {
                Counting::one(&self.shared.counting.not_stored);
                self.session.end(End::NotStored, &mut self.events);
            }
        }
    }

    fn send_down(&mut self, item: DownItem) {
        self.down_count += 1;
        let token = self.down_count;
        match self.session.send(item.kind, &item.payload, token) {
            Ok(is_acknowledged_later) => {
                Counting::one(&self.shared.counting.down_sent);
                if is_acknowledged_later {
                    self.down_waiting.insert(token, item.done);
                } else {
                    let _ = item.done.send(Ok(()));
                }
            }
            Err(DownError::NotListening) => drop(item.done.send(Err(SendError::NotListening))),
            Err(DownError::Refused) => drop(item.done.send(Err(SendError::Refused))),
        }
    }

    /// At shutdown: acknowledges what is committed soon, takes nothing new.
    async fn drain(&mut self) {
        let until = Instant::now() + DRAIN;
        if let Some(batch) = self.outgoing.take() {
            let _ = tokio::time::timeout_at(until, self.shared.sink.send(batch)).await;
        }
        while let Some((_, done)) = self.commits.front_mut() {
            let Ok(outcomes) = tokio::time::timeout_at(until, done).await else { break };
            self.committed(outcomes.ok());
        }
        self.session.end(End::ShuttingDown, &mut self.events);
    }

    /// When to look again whether something has expired; a stalled write is noticed within twice its limit.
    fn next_check(&self) -> Instant {
        let silent = match self.meter {
            Some(_) => self.last_heard + self.silence_max,
            None => self.log_on_by,
        };
        silent.min(Instant::now() + self.shared.config.write_timeout)
    }

    fn expire(&mut self, timer: Pin<&mut Sleep>) {
        let now = Instant::now();
        if self.session.out().is_empty() {
            self.last_written = now;
        } else if now >= self.last_written + self.shared.config.write_timeout {
            return self.session.end(End::WriteTimeout, &mut self.events);
        }
        if self.meter.is_none() {
            // a byte now and then is not a log-on
            if now >= self.log_on_by {
                return self.session.end(End::ConnectTimeout, &mut self.events);
            }
        } else if !self.is_reading() {
            // it is we who do not listen
            self.last_heard = now;
        } else if now >= self.last_heard + self.silence_max {
            return self.session.end(End::KeepAlive, &mut self.events);
        }
        timer.reset(self.next_check());
    }

    fn name(&self) -> String {
        self.meter.map_or_else(|| "a peer without credentials".to_owned(), |meter| format!("meter {meter}"))
    }

    /// Counts and logs the end, and leaves the registry.
    fn leave(&mut self, why: &End) {
        if let Some(meter) = self.meter {
            self.shared.registry.leave(meter, self.connection);
        }
        for (_, done) in self.down_waiting.drain() {
            let _ = done.send(Err(SendError::Disconnected));
        }
        let counting = &self.shared.counting;
        let (counter, reason, text) = match why {
            End::Left | End::Administrative | End::ShuttingDown => return,
            End::Secret(user) => {
                (&counting.refused_secret, "wrong secret", format!("user {user:?}: unknown meter or wrong secret"))
            }
            End::ForeignTopic(topic) => {
                (&counting.foreign_topics, "foreign topic", format!("{} may not publish to {topic:?}", self.name()))
            }
            End::TooLarge => (
                &counting.packets_too_large,
                "packet too large",
                format!("{}: a packet above {} bytes", self.name(), self.shared.config.packet_bytes_max),
            ),
            End::Protocol(what) => (&counting.protocol_errors, "breach of MQTT", format!("{}: {what}", self.name())),
            End::TakenOver => (&counting.taken_over, "taken over", format!("{} connected again", self.name())),
            End::ConnectTimeout => (&counting.connect_timeouts, "no log-on", "it did not log on in time".to_owned()),
            End::KeepAlive => (&counting.keep_alive_timeouts, "silent", format!("{} fell silent", self.name())),
            End::WriteTimeout => {
                (&counting.write_timeouts, "not reading", format!("{} does not read what is sent to it", self.name()))
            }
            // counted where it happened
            End::NotStored => {
                let text = || format!("{}: frames were not stored and not acknowledged", self.name());
                return self.shared.note(self.peer.ip(), self.meter, "not stored", text);
            }
        };
        Counting::one(counter);
        self.shared.note(self.peer.ip(), self.meter, reason, || text);
    }
}

/// The future, or for ever.
async fn some<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn receive(queue: Option<&mut mpsc::Receiver<DownItem>>) -> Option<DownItem> {
    match queue {
        Some(queue) => queue.recv().await,
        None => std::future::pending().await,
    }
}

/// Hands the batch over when the pipeline has room; `false` when the pipeline is gone.
async fn hand(sink: &mpsc::Sender<Batch>, outgoing: &mut Option<Batch>) -> bool {
    match sink.reserve().await {
        Ok(place) => {
            if let Some(batch) = outgoing.take() {
                place.send(batch);
            }
            true
        }
        Err(_) => false,
    }
}

/// Reads what is there, without holding a buffer while nothing is.
async fn read_some<R: AsyncRead + Unpin>(reader: &mut R, inbox: &mut Vec<u8>) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *reader).poll_read(cx, &mut buffer))?;
        inbox.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    })
    .await
}

/// Writes some of `out`; with nothing left flushes and returns 0.
async fn write_some<W: AsyncWrite + Unpin>(writer: &mut W, out: &[u8]) -> io::Result<usize> {
    if out.is_empty() {
        writer.flush().await?;
        return Ok(0);
    }
    match writer.write(out).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        n => Ok(n),
    }
}
