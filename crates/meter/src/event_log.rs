//! The meter's own log of events, in compartments: each class has a ring of its own, so that a chattering sensor of one class
//! pushes out nothing of another; cover openings are kept for ever.

use alloc::{collections::VecDeque, vec::Vec};

use metering::{Compartment, MeterEvent};
use minicbor::{Decode, Encode};

/// Events kept in each compartment.
pub const EVENTS_MAX: usize = 100;
/// Events that are never overwritten (cover openings): the first ones stay.
pub const NON_ROLLOVER_MAX: usize = 20;

/// An event with its place in the whole log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LoggedEvent {
    /// Counts every event the meter ever logged, from 0.
    #[n(0)]
    pub serial: u64,
    /// The event.
    #[n(1)]
    pub event: MeterEvent,
}

/// The log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventLog {
    compartments: [VecDeque<LoggedEvent>; Compartment::ALL.len()],
    counts: [u32; Compartment::ALL.len()],
    total: u64,
}

impl EventLog {
    /// Adds an event; the oldest of its compartment goes when that is full, except where nothing is overwritten.
    pub fn add(&mut self, event: MeterEvent) {
        let logged = LoggedEvent { serial: self.total, event };
        self.total = self.total.saturating_add(1);
        let place = usize::from(event.kind.compartment().number());
        self.counts[place] = self.counts[place].saturating_add(1);
        self.keep(logged);
    }

    fn keep(&mut self, logged: LoggedEvent) {
        let compartment = logged.event.kind.compartment();
        let ring = &mut self.compartments[usize::from(compartment.number())];
        match compartment {
            Compartment::NonRollover if ring.len() >= NON_ROLLOVER_MAX => return,
            Compartment::NonRollover => {}
            _ if ring.len() >= EVENTS_MAX => {
                ring.pop_front();
            }
            _ => {}
        }
        ring.push_back(logged);
    }

    /// The log as it was: what was read back from non-volatile memory, and how many events each compartment has seen.
    pub(crate) fn restore(mut events: Vec<LoggedEvent>, total: u64, counts: [u32; Compartment::ALL.len()]) -> Self {
        events.sort_unstable_by_key(|logged| logged.serial);
        events.dedup_by_key(|logged| logged.serial);
        let mut log = Self { counts, total, ..Self::default() };
        events.into_iter().filter(|logged| logged.serial < total).for_each(|logged| log.keep(logged));
        log
    }

    /// Everything that is kept, oldest first.
    pub fn events(&self) -> impl Iterator<Item = &MeterEvent> {
        let mut all: Vec<&LoggedEvent> = self.compartments.iter().flatten().collect();
        all.sort_unstable_by_key(|logged| logged.serial);
        all.into_iter().map(|logged| &logged.event)
    }

    /// What is kept from this serial on, oldest first.
    pub(crate) fn since(&self, serial: u64) -> Vec<LoggedEvent> {
        let mut new: Vec<LoggedEvent> =
            self.compartments.iter().flatten().filter(|logged| logged.serial >= serial).copied().collect();
        new.sort_unstable_by_key(|logged| logged.serial);
        new
    }

    /// What one compartment keeps, oldest first.
    pub fn compartment(&self, compartment: Compartment) -> impl Iterator<Item = &LoggedEvent> {
        self.compartments[usize::from(compartment.number())].iter()
    }

    /// Events each compartment has ever seen, in the order of [`Compartment::ALL`].
    pub fn counts(&self) -> [u32; Compartment::ALL.len()] {
        self.counts
    }

    /// Events ever logged.
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use metering::{EventKind, Timestamp};

    use super::*;

    fn event(at: i64, kind: EventKind) -> MeterEvent {
        MeterEvent::bare(kind, Timestamp(at))
    }

    #[test]
    fn a_flood_of_one_class_pushes_out_nothing_of_another_and_cover_openings_stay() {
        let mut log = EventLog::default();
        for n in 0..30 {
            log.add(event(n, EventKind::CoverOpen));
        }
        log.add(event(30, EventKind::PowerFail));
        for n in 31..1_000 {
            log.add(event(n, EventKind::Magnet));
        }
        let times = |c| log.compartment(c).map(|l| l.event.at.0).collect::<Vec<_>>();
        assert_eq!(times(Compartment::NonRollover), (0..20).collect::<Vec<_>>());
        assert_eq!(times(Compartment::Power), [30]);
        assert_eq!(times(Compartment::Other), (900..1_000).collect::<Vec<_>>());
        assert_eq!((log.total(), log.counts()), (1_000, [0, 0, 1, 0, 969, 30, 0]));
        let kept: Vec<_> = log.since(0);
        assert_eq!(EventLog::restore(kept, log.total(), log.counts()), log);
        assert!(log.events().map(|e| e.at).is_sorted());
    }
}
