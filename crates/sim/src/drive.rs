//! Drives a neighbourhood against a server: enrols, connects, steps, and keeps the server's clock and the world's in step.
//!
//! At every synchronisation all frames are acknowledged first; then the server is told the time, and while it works at that
//! time, what it sends is handed to the meters and their answers go back at once: virtual time stands still meanwhile. Thus the
//! outcome depends on the seed only, not on how fast anything runs, nor on a server that was killed and started again.

use std::{collections::VecDeque, future::Future, time::Duration};

use meter::FrameId;
use metering::{Down, Timestamp};
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};

use crate::{
    error::SimError,
    mqtt_client::{Link, LinkConfig, LinkEvent, WINDOW},
    report::{SimEvent, SimReport},
    rest::{PipelineStatus, RestClient},
    world::{STEP_SECONDS, World},
};

/// Length of a slot: in lockstep the server is told the time at least at its end.
const SLOT_SECONDS: i64 = 900;
/// Slots that the history gathers between two synchronisations; also profile records in one frame.
const HISTORY_SLOTS: u16 = 96;
/// Times that server and meters may answer each other at one instant.
const ROUNDS_MAX: usize = 200;
/// How often a server that is not idle is asked again.
const IDLE_POLL: Duration = Duration::from_millis(5);
/// Speed up to which the server is told every step of the physics, times real time.
const FASTEST_STEPS: f64 = 600.0;
/// Events of connections waiting to be taken.
const EVENTS_MAX: usize = 8_192;

/// The server to drive against.
#[derive(Clone, Debug)]
pub struct Target {
    /// `mqtt://host:port` or `host:port`.
    pub mqtt: String,
    /// `http://host:port` or `host:port`.
    pub http: String,
    /// An administrator's API token.
    pub admin_token: String,
    /// How long the server may stay away before the simulation gives up.
    pub patience: Duration,
}

/// How fast virtual time goes after the history.
#[derive(Clone, Debug, PartialEq)]
pub enum Pace {
    /// As fast as the server follows: a slot ends only when every frame is acknowledged and the server has come to rest.
    Lockstep,
    /// This many times faster than real time; the server is told the time at every step.
    Times(f64),
    /// Every stretch at its own speed, in order of time; before the first one as in the first one.
    Scenes(Vec<Scene>),
}

/// A stretch of virtual time that is played at its own speed, until the next one begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scene {
    /// Virtual time at which it begins.
    pub from: Timestamp,
    /// Times real time.
    pub times: f64,
    /// Real time that a control needs to its meter; virtual time stands still meanwhile, so that the outcome stays the same.
    pub on_the_way: Duration,
}

impl Pace {
    /// Virtual seconds between two times that the server is told. At one speed throughout it is a step of the physics; a scene faster
    /// than [`FASTEST_STEPS`] takes longer ones, up to a slot, so that the server keeps up.
    fn step_seconds(&self, times: f64) -> i64 {
        if !matches!(self, Self::Scenes(_)) {
            return STEP_SECONDS;
        }
        let keeps_up = |steps: &i64| times <= FASTEST_STEPS * i32::try_from(*steps).map_or(f64::INFINITY, f64::from);
        (1..SLOT_SECONDS / STEP_SECONDS).find(keeps_up).map_or(SLOT_SECONDS, |steps| steps * STEP_SECONDS)
    }

    /// When the next scene begins; the end of time when none does.
    fn next_after(&self, now: Timestamp) -> Timestamp {
        let Self::Scenes(scenes) = self else { return Timestamp(i64::MAX) };
        scenes.iter().map(|scene| scene.from).find(|from| *from > now).unwrap_or(Timestamp(i64::MAX))
    }

    /// The scene at a virtual time; `None` in lockstep.
    fn scene(&self, now: Timestamp) -> Option<Scene> {
        match self {
            Self::Lockstep => None,
            Self::Times(times) => Some(Scene { from: now, times: *times, on_the_way: Duration::ZERO }),
            Self::Scenes(scenes) => scenes.iter().rfind(|scene| scene.from <= now).or(scenes.first()).copied(),
        }
    }
}

/// Enrols the neighbourhood's meters, imports its topology and drives it until `until`.
///
/// The history is fast-forwarded: it is synchronised once a virtual day (or when the server wants to be woken). A server that
/// does not answer is waited for, up to [`Target::patience`]; then everything unacknowledged is sent again.
pub async fn drive(
    world: World,
    target: Target,
    pace: Pace,
    until: Timestamp,
    progress: impl FnMut(SimEvent) + Send,
) -> Result<SimReport, SimError> {
    let mut rest = RestClient::new(&target.http, &target.admin_token, target.patience)?;
    let address = crate::rest::host_and_port(&target.mqtt, "mqtt://")?;
    rest.put_clock(world.now()).await?;
    rest.import_topology(world.topology_csv()).await?;
    let enrolled = rest.enrol(world.meters()).await?;
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let ports = enrolled
        .into_iter()
        .enumerate()
        .map(|(place, enrolled)| {
            let seed = world.config().seed;
            let config =
                LinkConfig { address: address.clone(), meter: enrolled.meter, secret: enrolled.secret, place, seed };
            Port { link: Link::start(config, sender.clone()), generation: None, on_the_way: 0, held: false }
        })
        .collect::<Vec<_>>();
    let mut field = Field {
        told: Told { progress, reached: None },
        ports,
        events,
        world,
        delivered: 0,
        on_the_way: Duration::ZERO,
        under_way: VecDeque::new(),
        resent: 0,
        broken: 0,
        last_reason: String::new(),
        patience: target.patience,
    };
    let meters = field.ports.len();
    field.told.tell(SimEvent::Enrolled { meters });
    field.run(&mut rest, pace, until).await?;
    Ok(SimReport {
        frames_resent: field.resent,
        connections_lost: field.broken,
        server_losses: rest.losses(),
        ..field.world.report()
    })
}

/// A meter's connection as the driver sees it.
struct Port {
    link: Link,
    /// Number of the connection while it is up.
    generation: Option<u64>,
    on_the_way: usize,
    held: bool,
}

struct Told<P> {
    progress: P,
    reached: Option<Timestamp>,
}

impl<P: FnMut(SimEvent) + Send> Told<P> {
    fn tell(&mut self, event: SimEvent) {
        (self.progress)(event);
    }
}

/// The world and its connections.
struct Field<P> {
    world: World,
    ports: Vec<Port>,
    events: mpsc::Receiver<(usize, LinkEvent)>,
    told: Told<P>,
    delivered: u64,
    /// Real time that a control needs to its meter.
    on_the_way: Duration,
    /// Controls on their way: when they arrive, and where. As many as the server has sent and not got answered.
    under_way: VecDeque<(Instant, usize, Down)>,
    resent: u64,
    broken: u64,
    last_reason: String,
    patience: Duration,
}

impl<P: FnMut(SimEvent) + Send> Field<P> {
    async fn run(&mut self, rest: &mut RestClient, pace: Pace, until: Timestamp) -> Result<(), SimError> {
        let history_end = self.world.config().history_end().min(until);
        self.world.gather_records(HISTORY_SLOTS);
        let mut status = self.synchronise(rest).await?;
        while self.world.now() < history_end {
            let day = self.world.now().floor_to(SLOT_SECONDS).plus(i64::from(HISTORY_SLOTS) * SLOT_SECONDS);
            self.step_until(wake(status, day.min(history_end), self.world.now())).await;
            if self.world.now() >= history_end {
                self.world.gather_records(1);
            }
            status = self.synchronise(rest).await?;
        }
        self.world.gather_records(1);
        self.told.tell(SimEvent::HistoryDone { at: self.world.now() });
        let mut clock = WallClock::start();
        while self.world.now() < until {
            let now = self.world.now();
            let scene = pace.scene(now);
            let next = match scene {
                None => now.floor_to(SLOT_SECONDS).plus(SLOT_SECONDS),
                Some(scene) => now.plus(pace.step_seconds(scene.times)).min(pace.next_after(now)),
            };
            self.on_the_way = scene.map_or(Duration::ZERO, |scene| scene.on_the_way);
            self.step_until(wake(status, next.min(until), now)).await;
            if let Some(scene) = scene {
                clock.wait(self.world.now().seconds_since(now), scene.times).await;
            }
            status = self.synchronise(rest).await?;
        }
        self.restore_links().await;
        self.synchronise(rest).await?;
        Ok(())
    }

    /// Brings up every connection at the end, so that what a meter still holds is delivered and whatever the server lacks is lost.
    async fn restore_links(&mut self) {
        for port in self.ports.iter_mut().filter(|port| port.held) {
            port.held = false;
            port.link.hold(false).await;
        }
    }

    /// Lets the physics run to `to`; connections that fail or come back are told so.
    async fn step_until(&mut self, to: Timestamp) {
        while self.world.now() < to {
            self.world.step();
            for event in self.world.take_events() {
                self.told.tell(event);
            }
            self.hold_links().await;
            // frames leave at synchronisations only, so that none is on the way when a link fails; the connections' tasks may share this thread
            tokio::task::yield_now().await;
        }
    }

    /// Breaks and restores the connections of meters whose link fails in the world.
    async fn hold_links(&mut self) {
        for (place, port) in self.ports.iter_mut().enumerate() {
            let down = self.world.is_link_down(place);
            if down != port.held {
                port.held = down;
                port.link.hold(down).await;
            }
        }
        self.take_waiting();
        while self.ports.iter().any(|port| port.held && port.generation.is_some()) {
            let Some((place, event)) = self.events.recv().await else { return };
            self.take(place, event);
        }
    }

    /// Brings server and world to rest at the world's time.
    async fn synchronise(&mut self, rest: &mut RestClient) -> Result<PipelineStatus, SimError> {
        let at = self.world.now();
        for _ in 0..ROUNDS_MAX {
            self.flush().await?;
            let before = self.delivered;
            let Some(mut status) = self.meanwhile(rest.put_clock_once(at)).await? else {
                self.told.tell(SimEvent::ServerLost { at });
                self.meanwhile(rest.health()).await?;
                self.told.tell(SimEvent::ServerBack { at });
                // the meters come back first, so that the server finds at this time what it would have found
                continue;
            };
            while !status.idle {
                time::sleep(IDLE_POLL).await;
                status = self.meanwhile(rest.health()).await?;
            }
            self.take_waiting();
            if let Some((due, ..)) = self.under_way.front() {
                let due = *due;
                self.meanwhile(async {
                    time::sleep_until(due).await;
                    Ok(())
                })
                .await?;
                self.arrive();
                continue;
            }
            let quiet = before == self.delivered && self.is_flushed();
            if quiet {
                if self.told.reached != Some(at) {
                    self.told.reached = Some(at);
                    self.told.tell(SimEvent::Reached { at });
                }
                return Ok(status);
            }
        }
        Err(SimError::Restless { at, what: "controls and answers".into() })
    }

    /// Waits for the server while frames and controls go on.
    async fn meanwhile<T>(&mut self, request: impl Future<Output = Result<T, SimError>>) -> Result<T, SimError> {
        tokio::pin!(request);
        loop {
            self.offer();
            tokio::select! {
                biased;
                event = self.events.recv() => if let Some((place, event)) = event {
                    self.take(place, event);
                },
                answer = &mut request => return answer,
            }
        }
    }

    /// Waits until every meter that can be connected is, and has nothing left to send.
    async fn flush(&mut self) -> Result<(), SimError> {
        let mut progress = Instant::now();
        loop {
            self.offer();
            self.take_waiting();
            if self.is_flushed() {
                return Ok(());
            }
            let event = time::timeout(Duration::from_secs(1), self.events.recv()).await;
            if let Ok(Some((place, event))) = event {
                if !matches!(event, LinkEvent::Lost { .. }) {
                    progress = Instant::now();
                }
                self.take(place, event);
            }
            if progress.elapsed() > self.patience {
                return Err(SimError::Unreachable {
                    seconds: progress.elapsed().as_secs(),
                    doing: "waiting for acknowledgements over MQTT".into(),
                    last: self.last_reason.clone(),
                });
            }
        }
    }

    fn is_flushed(&self) -> bool {
        self.ports
            .iter()
            .enumerate()
            .all(|(place, port)| port.held || (port.generation.is_some() && self.world.meter(place).ring().is_empty()))
    }

    /// Gives the connections what meters want to send, within their windows.
    fn offer(&mut self) {
        for (place, port) in self.ports.iter_mut().enumerate() {
            let Some(generation) = port.generation.filter(|_| !port.held) else { continue };
            while port.on_the_way < WINDOW && port.link.has_room() {
                let Some(out) = self.world.next_to_send(place) else { break };
                let (id, kind, payload) = (out.id, out.kind, out.payload.to_vec());
                port.link.publish(generation, id.0, kind, payload);
                port.on_the_way += 1;
            }
        }
    }

    fn take_waiting(&mut self) {
        while let Ok((place, event)) = self.events.try_recv() {
            self.take(place, event);
        }
    }

    fn take(&mut self, place: usize, event: LinkEvent) {
        let port = &mut self.ports[place];
        match event {
            LinkEvent::Up { generation } => {
                port.generation = Some(generation);
                port.on_the_way = 0;
            }
            LinkEvent::Lost { generation, was_up, reason } => {
                tracing::debug!(place, generation, %reason, "connection lost");
                if was_up && !port.held {
                    self.broken += 1;
                    self.resent += u64::try_from(port.on_the_way).unwrap_or(0);
                }
                port.generation = None;
                port.on_the_way = 0;
                self.last_reason = reason;
                self.world.link_lost(place);
            }
            LinkEvent::Acknowledged { generation, tag } => {
                if port.generation == Some(generation) {
                    port.on_the_way = port.on_the_way.saturating_sub(1);
                    self.world.acknowledge(place, FrameId(tag));
                }
            }
            LinkEvent::Received(Ok(down)) if self.on_the_way.is_zero() || !matches!(down, Down::Control(_)) => {
                self.delivered += 1;
                self.deliver(place, &down);
            }
            LinkEvent::Received(Ok(down)) => {
                self.under_way.push_back((Instant::now() + self.on_the_way, place, down));
            }
            LinkEvent::Received(Err(error)) => tracing::warn!(place, %error, "the server sent what is not a frame"),
        }
    }

    /// Hands over the controls that have reached their meters.
    fn arrive(&mut self) {
        while self.under_way.front().is_some_and(|(due, ..)| *due <= Instant::now()) {
            let Some((_, place, down)) = self.under_way.pop_front() else { return };
            self.delivered += 1;
            self.deliver(place, &down);
        }
    }

    fn deliver(&mut self, place: usize, down: &Down) {
        self.world.deliver(place, down);
        let (at, meter) = (self.world.now(), self.world.meters()[place]);
        if let Down::Control(control) = down {
            let outcome = self.world.answer_to(place, control.id);
            let kind = control.kind.word();
            self.told.tell(SimEvent::ControlAnswered { at, meter, kind, outcome });
        }
        for event in self.world.take_events() {
            self.told.tell(event);
        }
    }
}

/// The next time to stop: `planned`, or earlier when the server wants to be woken, on the grid of the physics.
fn wake(status: PipelineStatus, planned: Timestamp, now: Timestamp) -> Timestamp {
    match status.wake_at {
        Some(at) if at < planned => at.plus(STEP_SECONDS - 1).floor_to(STEP_SECONDS).max(now.plus(STEP_SECONDS)),
        _ => planned,
    }
}

/// Keeps virtual time from running ahead of real time.
struct WallClock {
    due: Instant,
}

impl WallClock {
    fn start() -> Self {
        Self { due: Instant::now() }
    }

    async fn wait(&mut self, virtual_seconds: i64, times: f64) {
        let seconds = i32::try_from(virtual_seconds).map_or(0.0, f64::from) / times.clamp(0.001, 1e9);
        self.due += Duration::from_secs_f64(seconds);
        let now = Instant::now();
        if self.due < now {
            // a server that is slower than asked for: no rush to catch up
            self.due = now;
        } else {
            time::sleep_until(self.due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_holds_until_the_next_one_begins() {
        let scene = |from, times| Scene { from: Timestamp(from), times, on_the_way: Duration::ZERO };
        let pace = Pace::Scenes(vec![scene(100, 600.0), scene(200, 20.0)]);
        let times = |at| pace.scene(Timestamp(at)).map(|scene| scene.times);
        assert_eq!([0, 100, 199, 200, 9_999].map(times), [600.0, 600.0, 600.0, 20.0, 20.0].map(Some));
        assert_eq!(pace.next_after(Timestamp(100)), Timestamp(200));
        assert_eq!(pace.next_after(Timestamp(200)), Timestamp(i64::MAX));
        assert_eq!(Pace::Lockstep.scene(Timestamp(0)), None);
    }

    #[test]
    fn steps_grow_with_the_speed_up_to_a_slot() {
        let scenes = Pace::Scenes(vec![]);
        let steps = [1.0, 600.0, 601.0, 1_200.0, 1e9].map(|times| scenes.step_seconds(times));
        assert_eq!(steps, [60, 60, 120, 120, 900]);
        assert_eq!(Pace::Times(1e9).step_seconds(1e9), 60);
    }
}
