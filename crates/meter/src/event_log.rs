//! The meter's own log of events: bounded; cover openings are kept for ever.

use alloc::{collections::VecDeque, vec::Vec};

use metering::{EventKind, MeterEvent};

/// Events kept.
pub const EVENTS_MAX: usize = 200;
/// Cover openings kept beside them; the first ones stay.
pub const COVER_OPENINGS_MAX: usize = 20;

/// The log.
#[derive(Clone, Debug, Default)]
pub struct EventLog {
    events: VecDeque<MeterEvent>,
    cover_openings: Vec<MeterEvent>,
    total: u64,
}

impl EventLog {
    /// Adds an event; the oldest goes when the log is full.
    pub fn add(&mut self, event: MeterEvent) {
        if event.kind == EventKind::CoverOpen && self.cover_openings.len() < COVER_OPENINGS_MAX {
            self.cover_openings.push(event);
        }
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
        self.total += 1;
    }

    /// The newest events, oldest first.
    pub fn events(&self) -> impl Iterator<Item = &MeterEvent> {
        self.events.iter()
    }

    /// The first cover openings.
    pub fn cover_openings(&self) -> &[MeterEvent] {
        &self.cover_openings
    }

    /// Events ever logged.
    pub fn total(&self) -> u64 {
        self.total
    }
}
