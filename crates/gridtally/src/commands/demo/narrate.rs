//! Tells in plain words, in time order, what happens: the simulator's truth and the server's findings, side by side.

use std::collections::BTreeMap;

use metering::{MeterId, Timestamp, UsagePointId, ZoneId};
use sim::SimEvent;
use store::{Change, Store};
use tokio::{sync::broadcast, task::JoinHandle};

/// Where the words go.
#[derive(Clone, Debug)]
pub struct Narrator {
    to_stderr: bool,
}

impl Narrator {
    /// With `--json`, standard output is for the one object.
    pub fn new(json: bool) -> Self {
        Self { to_stderr: json }
    }

    /// One line.
    pub fn line(&self, text: &str) {
        if self.to_stderr {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }

    fn at(&self, at: Timestamp, who: &str, text: &str) {
        self.line(&format!("{at}  {who:7} {text}"));
    }

    /// What the simulator tells; the truth, which the server does not know.
    pub fn simulated(&self, event: &SimEvent) {
        match event {
            SimEvent::Enrolled { meters } => self.line(&format!("{meters} meters enrolled")),
            SimEvent::HistoryDone { at } => self.at(*at, "world", "history done; live from here"),
            SimEvent::TheftBegan { at, kind, zone, usage_point } => {
                self.at(*at, "truth", &format!("{} begins {}", words(kind), place(*zone, *usage_point)));
            }
            SimEvent::TheftEnded { at, kind, zone, usage_point } => {
                self.at(*at, "truth", &format!("{} ends {}", words(kind), place(*zone, *usage_point)));
            }
            SimEvent::RelayOpened { at, usage_point, still_supplied } => {
                let seen = if *still_supplied { "but current still flows around it" } else { "the home is dark" };
                self.at(*at, "world", &format!("relay opened at {usage_point}, {seen}"));
            }
            SimEvent::RelayClosed { at, usage_point } => {
                self.at(*at, "world", &format!("relay closed at {usage_point}"))
            }
            SimEvent::ButtonPressed { at, usage_point } => {
                self.at(*at, "world", &format!("button pressed at {usage_point}"))
            }
            SimEvent::ControlAnswered { at, meter, kind, outcome } if *kind != "snapshot_at" => {
                self.at(*at, "meter", &format!("{meter} answers {kind}: {outcome}"));
            }
            SimEvent::NeighboursCompared { at, meter, is_missing } => {
                let found = if *is_missing { "does not match" } else { "matches again" };
                self.at(*at, "meter", &format!("{meter} finds without the server: the neighbourhood's sum {found}"));
            }
            SimEvent::ServerLost { at } => self.at(*at, "world", "the server does not answer; trying again"),
            SimEvent::ServerBack { at } => self.at(*at, "world", "the server answers again"),
            SimEvent::Reached { at } if at.second_of_day() == 0 => self.at(*at, "world", "a new day"),
            SimEvent::ControlAnswered { .. }
            | SimEvent::LinkLost { .. }
            | SimEvent::LinkRestored { .. }
            | SimEvent::Reached { .. } => {}
        }
    }
}

fn words(kind: &str) -> String {
    kind.replace('_', " ")
}

fn place(zone: ZoneId, usage_point: Option<UsagePointId>) -> String {
    usage_point.map_or_else(|| format!("in {zone}"), |point| format!("in {zone} at {point}"))
}

/// Tells what the server finds and does.
pub fn server_changes(store: Store, say: Narrator) -> JoinHandle<()> {
    let mut changes = store.subscribe();
    tokio::spawn(async move {
        let mut told = BTreeMap::new();
        loop {
            match changes.recv().await {
                Ok(Change::Case { id }) => tell_case(&store, &say, id, &mut told).await,
                Ok(Change::Control { id }) => tell_control(&store, &say, id).await,
                Ok(Change::Event { meter, event }) if event.kind.is_tamper() => tell_event(&say, meter, &event),
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    })
}

fn tell_event(say: &Narrator, meter: MeterId, event: &metering::MeterEvent) {
    say.at(event.at, "meter", &format!("{meter} reports: {}", event.kind.word()));
}

/// A case is announced again only when something in its line has changed: its ranking is replaced every few hours.
async fn tell_case(store: &Store, say: &Narrator, id: u64, told: &mut BTreeMap<u64, String>) {
    let Ok(Some(case)) = store.case(id).await else { return };
    let Some(last) = case.history.last() else { return };
    let place = place(case.zone, case.usage_point);
    let text = format!(
        "case {id}, {} {place}: {} ({} pieces of evidence)",
        case.kind.word(),
        case.state.word(),
        case.evidence.len()
    );
    if told.get(&id) != Some(&text) {
        say.at(last.at, "server", &text);
        told.insert(id, text);
    }
}

async fn tell_control(store: &Store, say: &Narrator, id: u64) {
    let Ok(Some(control)) = store.control(id).await else { return };
    let Some(step) = control.history.last() else { return };
    let text =
        format!("control {id}, {} of {}: {} ({})", control.kind.word(), control.meter, control.state.word(), step.note);
    say.at(step.at, "server", &text);
}
