//! What tamper events of a meter mean together, and whether the written policy lets them switch the power off. Pure.
//!
//! One soft flag is common and harmless; it waits for a second sign. A cover or a magnet is a reason to look by itself. Power is
//! switched off only for kinds that the operator named, and only when a second, independent sign agrees.

use std::collections::BTreeMap;

use losses::evidence::{Direction, Evidence, EvidenceKind, ReadingRange};
use metering::{EventKind, MeterEvent, MeterId, Timestamp, UsagePointId, ZoneId};
use serde::{Deserialize, Serialize};

/// Signs within this time belong together, seconds.
const TOGETHER_SECONDS: i64 = 24 * 3_600;
/// Signs kept for one usage point.
const SIGNS_MAX: usize = 32;

/// A tamper event at a usage point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sign {
    /// What the meter said.
    pub kind: EventKind,
    /// When.
    pub at: Timestamp,
}

/// Recent signs of all usage points.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signs(BTreeMap<UsagePointId, Vec<Sign>>);

/// What follows from a new sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// Worth a case by itself.
    pub opens_case: bool,
    /// The policy switches the power off, for this reason.
    pub trip: Option<String>,
}

impl Signs {
    /// Takes a sign in. `automatic`: kinds that the policy lets trip; `zone_alarmed`: energy is missing in the zone right now.
    pub fn take(
        &mut self,
        usage_point: UsagePointId,
        event: &MeterEvent,
        automatic: &[EventKind],
        zone_alarmed: bool,
    ) -> Meaning {
        let signs = self.0.entry(usage_point).or_default();
        signs.retain(|sign| event.at.seconds_since(sign.at) <= TOGETHER_SECONDS);
        if signs.len() >= SIGNS_MAX {
            signs.remove(0);
        }
        let sensor = |kind: EventKind| kind.tamper().map(|tamper| tamper.sensor);
        let earlier = signs.iter().rev().find(|sign| sensor(sign.kind) != sensor(event.kind)).copied();
        signs.push(Sign { kind: event.kind, at: event.at });
        let second = match (earlier, zone_alarmed) {
            (Some(sign), _) => Some(sign.kind.word()),
            (None, true) => Some("energy missing in the zone"),
            (None, false) => None,
        };
        let named = automatic.contains(&event.kind) || earlier.is_some_and(|sign| automatic.contains(&sign.kind));
        let trip = second.filter(|_| named).map(|second| format!("{} and {second}", event.kind.word()));
        Meaning { opens_case: event.kind.tamper().is_some_and(|tamper| tamper.opens_case) || second.is_some(), trip }
    }

    /// Forgets signs that can no longer belong to anything.
    pub fn forget(&mut self, now: Timestamp) {
        for signs in self.0.values_mut() {
            signs.retain(|sign| now.seconds_since(sign.at) <= TOGETHER_SECONDS);
        }
        self.0.retain(|_, signs| !signs.is_empty());
    }
}

/// The event as evidence, with the hour of readings before it.
pub fn evidence(meter: MeterId, zone: ZoneId, event: &MeterEvent) -> Evidence {
    let weight = event.kind.tamper().map_or(0.0, |tamper| f64::from(tamper.decinats) / 10.0);
    let words = format!("{meter} reported '{}' at {}", event.kind.word(), event.at);
    let readings = vec![ReadingRange { meter, from: event.at.plus(-3_600), to: event.at.plus(3_600) }];
    Evidence::new(EvidenceKind::Tamper(event.kind), Direction::For, weight, words, zone, readings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, at: i64) -> MeterEvent {
        MeterEvent::bare(kind, Timestamp(at))
    }

    #[test]
    fn power_is_switched_off_only_for_named_kinds_that_a_second_sign_confirms() {
        let home = UsagePointId::new("U-1").expect("id");
        let automatic = [EventKind::CoverOpen, EventKind::Bypass];
        let mut signs = Signs::default();
        let soft = signs.take(home, &event(EventKind::Bypass, 0), &automatic, false);
        assert_eq!(soft, Meaning { opens_case: false, trip: None });
        let again = signs.take(home, &event(EventKind::Bypass, 60), &automatic, false);
        assert_eq!(again.trip, None, "the same sign twice is one sign");
        let both = signs.take(home, &event(EventKind::CoverOpen, 120), &automatic, false);
        assert_eq!(both, Meaning { opens_case: true, trip: Some("cover opened and current bypass".into()) });
        let mut signs = Signs::default();
        signs.take(home, &event(EventKind::Bypass, 0), &automatic, false);
        let shared = signs.take(home, &event(EventKind::EarthLoad, 60), &automatic, false);
        assert_eq!(shared, Meaning { opens_case: false, trip: None }, "one comparison, both signs of it");
        let mut signs = Signs::default();
        assert_eq!(signs.take(home, &event(EventKind::CoverOpen, 0), &[], true).trip, None, "no policy, no trip");
        let late = signs.take(home, &event(EventKind::Bypass, 100_000), &automatic, false);
        assert_eq!(late.trip, None, "signs a day apart are not together");
        let alarmed = signs.take(home, &event(EventKind::Bypass, 100_060), &automatic, true);
        assert_eq!(alarmed.trip.as_deref(), Some("current bypass and energy missing in the zone"));
    }
}
