//! Where detection stands in time, and how far it may go. Pure: the clock and how far readings reach are arguments, and either may lie.
//!
//! The clock alone decides nothing: a slot is due when the clock has passed it and readings have reached it. A clock that runs ahead then
//! moves nothing, one that stands in 1970 waits, and a position that neither the clock nor readings bear out is taken back. A simulated
//! clock is the simulation itself and is believed.

use metering::Timestamp;

use super::SLOT;

/// Further ahead of all readings than this, seconds, a clock is doubted: it is wrong, or no meter reports any more.
const BEHIND_SECONDS: i64 = 6 * 3_600;
/// Further behind the readings than this, seconds, a clock is wrong: more than one meter in a hundred is not an hour ahead.
const AHEAD_SECONDS: i64 = 3_600;
/// Readings may come so long after the begin, seconds; a clock that was set from 1970 jumps further.
const BEGIN_SECONDS: i64 = 31 * 86_400;
/// A position so far beyond readings, seconds, was not reached by them.
const POSITION_SECONDS: i64 = 86_400;

/// What is known of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The clock.
    pub now: Timestamp,
    /// How far readings reach ([`store::Store::readings_reach`]).
    pub readings: Option<Timestamp>,
    /// The clock is given by a simulator.
    pub is_given: bool,
    /// How long after its end a slot waits for readings, seconds.
    pub grace_seconds: i64,
}

/// Why the clock is doubted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It is far ahead of all readings: wrong, or no meter reports.
    Ahead,
    /// It is behind the readings: wrong.
    Behind,
}

impl Known {
    /// Where detection begins when it has never stood anywhere; `None` as long as that cannot be said.
    pub fn begin(&self) -> Option<Timestamp> {
        match self.doubt() {
            Some(Doubt::Behind) => None,
            Some(Doubt::Ahead) => self.readings.map(|readings| readings.floor_to(SLOT.seconds())),
            None => Some(self.now.floor_to(SLOT.seconds())),
        }
    }

    /// Whether a begin at which nothing was decided yet is given up: the clock that said it has been set since.
    pub fn is_begin_forgotten(&self, begin: Timestamp) -> bool {
        !self.is_given && self.now.seconds_since(begin) > BEGIN_SECONDS
    }

    /// The end of the slot after `through`, when it is due.
    pub fn next_slot(&self, through: Timestamp) -> Option<Timestamp> {
        let end = through.plus(SLOT.seconds());
        if self.is_given {
            return (end <= self.now).then_some(end);
        }
        let is_read = self.readings.is_some_and(|readings| end <= readings);
        (is_read && end.plus(self.grace_seconds) <= self.now).then_some(end)
    }

    /// Where a position is taken back to that lies in the future of the clock and far beyond all readings.
    pub fn taken_back(&self, through: Timestamp) -> Option<Timestamp> {
        if self.is_given || through <= self.now.plus(SLOT.seconds()) {
            return None;
        }
        let reached = self.readings?.floor_to(SLOT.seconds());
        (through > reached.plus(POSITION_SECONDS)).then_some(reached)
    }

    /// Whether clock and readings contradict each other.
    pub fn doubt(&self) -> Option<Doubt> {
        let readings = self.readings.filter(|_| !self.is_given)?;
        let ahead = self.now.seconds_since(readings);
        if ahead > BEHIND_SECONDS {
            Some(Doubt::Ahead)
        } else if -ahead > AHEAD_SECONDS {
            Some(Doubt::Behind)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T: Timestamp = Timestamp(1_767_225_600);

    fn known(now: Timestamp, readings: Option<i64>) -> Known {
        Known { now, readings: readings.map(slot), is_given: false, grace_seconds: 300 }
    }

    fn slot(n: i64) -> Timestamp {
        T.plus(n * 900)
    }

    #[test]
    fn a_clock_that_jumps_two_years_ahead_decides_nothing() {
        let ahead = known(T.plus(2 * 365 * 86_400), Some(1));
        assert_eq!(ahead.next_slot(slot(0)), Some(slot(1)), "what readings reach is decided");
        assert_eq!(ahead.next_slot(slot(1)), None);
        assert_eq!(ahead.doubt(), Some(Doubt::Ahead));
        assert_eq!(known(slot(2).plus(310), Some(2)).next_slot(slot(1)), Some(slot(2)), "right again");
    }

    #[test]
    fn a_clock_of_1970_or_of_yesterday_waits_and_keeps_the_position() {
        for now in [Timestamp(30), slot(-96)] {
            let behind = known(now, Some(8));
            assert_eq!((behind.next_slot(slot(7)), behind.taken_back(slot(7))), (None, None));
            assert_eq!((behind.doubt(), behind.begin()), (Some(Doubt::Behind), None));
        }
        assert_eq!(known(slot(8).plus(310), Some(8)).next_slot(slot(7)), Some(slot(8)));
    }

    #[test]
    fn a_position_that_nothing_bears_out_is_taken_back_to_the_readings() {
        let lost = slot(96 * 700);
        assert_eq!(known(slot(3), Some(2)).taken_back(lost), Some(slot(2)));
        assert_eq!(known(slot(3), None).taken_back(lost), None, "without readings nothing tells");
        assert_eq!(known(slot(3), Some(2)).taken_back(slot(2)), None);
        let given = Known { is_given: true, ..known(slot(3), Some(2)) };
        assert_eq!(given.taken_back(lost), None);
    }

    #[test]
    fn detection_begins_with_the_clock_before_the_first_reading_and_not_in_1970() {
        let fresh = known(slot(3).plus(40), None);
        assert_eq!((fresh.begin(), fresh.next_slot(slot(3))), (Some(slot(3)), None));
        let read = known(slot(5).plus(310), Some(5));
        assert!(!read.is_begin_forgotten(slot(3)));
        assert_eq!(read.next_slot(slot(3)), Some(slot(4)), "what came since the begin is balanced");
        assert!(read.is_begin_forgotten(Timestamp(0)));
        assert_eq!(
            known(T.plus(2 * 365 * 86_400), Some(1)).begin(),
            Some(slot(1)),
            "a clock far ahead begins with the readings"
        );
    }

    #[test]
    fn a_suspended_machine_goes_on_slot_by_slot() {
        let woken = known(slot(300), Some(290));
        let decided = std::iter::successors(woken.next_slot(slot(10)), |through| woken.next_slot(*through));
        assert_eq!(decided.last(), Some(slot(290)));
    }

    proptest! {
        #[test]
        fn no_slot_is_decided_beyond_clock_or_readings(now in 0..4_000_000_000i64, readings in prop::option::of(0..4_000_000_000i64), through in 0..4_000_000i64) {
            let readings = readings.map(Timestamp);
            let known = Known { now: Timestamp(now), readings, is_given: false, grace_seconds: 300 };
            if let Some(end) = known.next_slot(Timestamp(through * 900)) {
                prop_assert!(end.0 + 300 <= now && end <= readings.expect("read"));
            }
            if let Some(begin) = known.begin() {
                prop_assert!(begin.0 % 900 == 0 && begin.0 <= now);
            }
            if let Some(back) = known.taken_back(Timestamp(through * 900)) {
                prop_assert!(back.0 < through * 900 && back.0 % 900 == 0);
            }
        }
    }
}
