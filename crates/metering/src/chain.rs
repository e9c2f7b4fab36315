//! Which of two contradicting readings is the wrong one? What follows tells.
//!
//! A reading that is too high but below the bound of the connection is taken for right when it comes, and every right one after it
//! then seems to step back. So the newest trusted readings are kept with those that contradict them: as soon as more readings go
//! on from an earlier trusted one than were trusted after it, the latter are the wrong ones. They become suspect, the others free.
//!
//! A register that was really set back goes on from none of the trusted readings, so it stays suspect until an operator accepts it
//! as a new baseline; only where hardly anything had been trusted before (a meter's first readings) the majority decides. Pure: what
//! it decides is written down by the caller and repeated after a restart with [`Chain::apply`], with whatever limits then hold.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{
    event::EventKind,
    reading::Quality,
    time::Timestamp,
    unit::WattHours,
    validation::{LastReading, PlausibilityLimits, step},
};

/// Most readings in a row that what follows may prove wrong.
pub const WRONG_MAX: usize = 3;
/// Most contradicting readings kept: a week of quarter-hours. The oldest go first, and stay suspect.
pub const DOUBTS_MAX: usize = 672;

/// A reading whose quality is another than was said at its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Which.
    pub reading: LastReading,
    /// What it is now.
    pub quality: Quality,
}

/// The end of a meter's series of readings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The newest trusted readings, oldest first, at most one more than [`WRONG_MAX`].
    trusted: Vec<LastReading>,
    /// Readings after the newest trusted one that contradict it, by their ends.
    doubts: Vec<LastReading>,
    /// There was more trusted than is kept in `trusted`.
    is_longer: bool,
    /// The newest trusted reading came after the `doubts`: whether they fit between it and the one before is still to be said.
    is_answered: bool,
}

/// The stored form of a [`Chain`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredChain {
    trusted: Vec<(Timestamp, u64, u64)>,
    doubts: Vec<(Timestamp, u64, u64)>,
    is_longer: bool,
    is_answered: bool,
}

impl Chain {
    /// A chain whose first readings are known: `is_longer` when there was more before them.
    pub fn new(trusted: impl IntoIterator<Item = LastReading>, is_longer: bool) -> Self {
        let mut chain = Self { is_longer, ..Self::default() };
        trusted.into_iter().for_each(|reading| chain.push_trusted(reading));
        chain
    }

    /// The newest trusted reading.
    pub fn last(&self) -> Option<LastReading> {
        self.trusted.last().copied()
    }

    /// Whether something contradicts the newest trusted reading.
    pub fn is_in_doubt(&self) -> bool {
        !self.doubts.is_empty()
    }

    /// Takes a reading with what was found wrong with it. One that is older than the newest trusted changes nothing.
    pub fn note(&mut self, reading: LastReading, wrong: &[EventKind]) {
        if self.last().is_some_and(|last| reading.end <= last.end) {
            return;
        }
        if core::mem::take(&mut self.is_answered) {
            self.doubts.clear();
        }
        if wrong.is_empty() {
            self.is_answered = !self.doubts.is_empty();
            self.push_trusted(reading);
        } else if wrong.iter().any(|kind| matches!(kind, EventKind::RegisterStepBack | EventKind::ImplausibleEnergy)) {
            let at = self.doubts.partition_point(|doubt| doubt.end < reading.end);
            if self.doubts.get(at).is_none_or(|doubt| doubt.end != reading.end) {
                self.doubts.insert(at, reading);
            }
            if self.doubts.len() > DOUBTS_MAX {
                self.doubts.remove(0);
            }
        }
    }

    /// What the readings so far prove about earlier ones; nothing most of the time. Changes nothing: see [`Chain::apply`].
    pub fn remarks(&self, limits: &PlausibilityLimits) -> Vec<Remark> {
        if self.is_answered {
            return self.fitting(limits);
        }
        let run = self.run(limits);
        let Some(first) = run.first() else { return Vec::new() };
        let Some(wrong) = self.wrong_behind(first, run.len(), limits) else { return Vec::new() };
        let suspect = wrong.iter().map(|reading| Remark { reading: *reading, quality: Quality::Suspect });
        let free = run.iter().map(|reading| Remark { reading: *reading, quality: Quality::Measured });
        suspect.chain(free).collect()
    }

    /// Doubts that lie between the two newest trusted readings and lead from the one to the other: free. They do when the connection
    /// was found to carry more than was known at their arrival.
    fn fitting(&self, limits: &PlausibilityLimits) -> Vec<Remark> {
        let [.., before, after] = &self.trusted[..] else { return Vec::new() };
        let mut from = before;
        for to in self.doubts.iter().chain([after]) {
            if step(from, to.end, to.import_wh, to.export_wh, limits).is_some() {
                return Vec::new();
            }
            from = to;
        }
        self.doubts.iter().map(|doubt| Remark { reading: *doubt, quality: Quality::Measured }).collect()
    }

    /// The newest contradicting readings that go on from each other.
    fn run(&self, limits: &PlausibilityLimits) -> &[LastReading] {
        let goes_on = |pair: &[LastReading]| step(&pair[0], pair[1].end, pair[1].import_wh, pair[1].export_wh, limits);
        let broken = self.doubts.windows(2).rposition(|pair| goes_on(pair).is_some());
        &self.doubts[broken.map_or(0, |at| at + 1)..]
    }

    /// The trusted readings that are wrong if the `many` from `first` on are right.
    fn wrong_behind(&self, first: &LastReading, many: usize, limits: &PlausibilityLimits) -> Option<&[LastReading]> {
        let leads = |from: &LastReading| step(from, first.end, first.import_wh, first.export_wh, limits).is_none();
        let last = self.trusted.last()?;
        let steps_back = first.import_wh < last.import_wh || first.export_wh < last.export_wh;
        if steps_back && let Some(anchor) = self.trusted.iter().rposition(leads) {
            let wrong = &self.trusted[anchor + 1..];
            return (!wrong.is_empty() && many > wrong.len()).then_some(wrong);
        }
        // Nothing trusted leads here. Only against a meter's very first readings a clear majority decides.
        let few = !self.is_longer && self.trusted.len() <= WRONG_MAX;
        (few && many > WRONG_MAX).then_some(&self.trusted[..])
    }

    /// Takes remarks into account, those found now or written down earlier. Doing it again changes nothing.
    pub fn apply(&mut self, remarks: &[Remark]) {
        for remark in remarks {
            if remark.quality.is_trusted() {
                self.doubts.retain(|doubt| *doubt != remark.reading);
                if self.last().is_none_or(|last| last.end < remark.reading.end) {
                    self.push_trusted(remark.reading);
                }
            } else {
                self.trusted.retain(|trusted| *trusted != remark.reading);
            }
        }
    }

    fn push_trusted(&mut self, reading: LastReading) {
        self.trusted.push(reading);
        if self.trusted.len() > WRONG_MAX + 1 {
            self.trusted.remove(0);
            self.is_longer = true;
        }
    }

    /// The form to be stored.
    pub fn to_stored(&self) -> StoredChain {
        let row = |r: &LastReading| (r.end, r.import_wh.0, r.export_wh.0);
        StoredChain {
            trusted: self.trusted.iter().map(row).collect(),
            doubts: self.doubts.iter().map(row).collect(),
            is_longer: self.is_longer,
            is_answered: self.is_answered,
        }
    }

    /// Reads the stored form.
    pub fn from_stored(stored: &StoredChain) -> Self {
        let reading = |&(end, import, export): &(Timestamp, u64, u64)| LastReading {
            end,
            import_wh: WattHours(import),
            export_wh: WattHours(export),
        };
        Self {
            trusted: stored.trusted.iter().map(reading).collect(),
            doubts: stored.doubts.iter().map(reading).collect(),
            is_longer: stored.is_longer,
            is_answered: stored.is_answered,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::{reading::ProfileRecord, reading::RecordFlags, validation::judge};

    const NOW: Timestamp = Timestamp(1_800_000_000);

    /// Feeds import registers, a quarter of an hour apart, through judge and chain; the quality of each at the end.
    fn judged(registers: &[u64]) -> Vec<Quality> {
        let limits = PlausibilityLimits::default();
        let mut chain = Chain::default();
        let mut qualities = vec![];
        for (n, import) in (0_i64..).zip(registers) {
            let end = Timestamp(NOW.0 - 90_000 + n * 900);
            let record = ProfileRecord {
                end,
                flags: RecordFlags::default(),
                import_wh: WattHours(*import),
                export_wh: WattHours(0),
                voltage_mv: None,
                current_ma: None,
                extra: vec![],
                masked: None,
            };
            let (quality, wrong) = judge(&record, chain.last().as_ref(), None, NOW, &limits);
            qualities.push(quality);
            chain.note(LastReading { end, import_wh: WattHours(*import), export_wh: WattHours(0) }, &wrong);
            let remarks = chain.remarks(&limits);
            for remark in &remarks {
                let place = usize::try_from(remark.reading.end.seconds_since(NOW) + 90_000).expect("positive") / 900;
                qualities[place] = remark.quality;
            }
            chain.apply(&remarks);
            let mut again = chain.clone();
            again.apply(&remarks);
            assert_eq!(again, chain, "applied twice");
            assert_eq!(Chain::from_stored(&chain.to_stored()), chain);
        }
        qualities
    }

    fn suspects(registers: &[u64]) -> Vec<usize> {
        let suspect = |(n, quality): (usize, Quality)| (quality == Quality::Suspect).then_some(n);
        judged(registers).into_iter().enumerate().filter_map(suspect).collect()
    }

    #[test]
    fn one_reading_too_high_is_the_only_suspect() {
        let mut registers: Vec<u64> = (0..30).map(|n| 1_000_000 + 200 * n).collect();
        registers[12] += 15_000;
        assert_eq!(suspects(&registers), [12]);
        registers[13] += 15_100;
        assert_eq!(suspects(&registers), [12, 13], "two in a row");
        registers[20] -= 300;
        assert_eq!(suspects(&registers), [12, 13, 20], "and one too low");
    }

    #[test]
    fn a_first_reading_that_cannot_be_poisons_nothing() {
        for first in [1 << 63, u64::MAX, 60_000_000, 5_000_000, 0] {
            let mut registers: Vec<u64> = (0..12).map(|n| 1_000_000 + 200 * n).collect();
            registers[0] = first;
            assert_eq!(suspects(&registers), [0], "{first}");
        }
    }

    #[test]
    fn a_register_that_was_set_back_waits_for_an_operator() {
        let mut registers: Vec<u64> = (0..10).map(|n| 1_000_000 + 200 * n).collect();
        registers.extend((0..10).map(|n| 100 * n));
        assert_eq!(suspects(&registers), (10..20).collect::<Vec<_>>());
    }

    #[test]
    fn a_single_dip_changes_nothing_before_it() {
        let mut registers: Vec<u64> = (0..20).map(|n| 1_000_000 + 200 * n).collect();
        registers[9] = registers[8] - 1;
        assert_eq!(suspects(&registers), [9]);
        registers[15] = 0;
        assert_eq!(suspects(&registers), [9, 15]);
    }

    #[test]
    fn more_energy_than_the_connection_carries_is_not_taken_for_a_spike_before_it() {
        let registers: Vec<u64> =
            (0..12).map(|n| if n < 6 { 1_000_000 + 200 * n } else { 1_500_000 + 200 * n }).collect();
        assert_eq!(judged(&registers)[..6], [Quality::Measured; 6]);
        assert!(judged(&registers)[6..8].iter().all(|q| *q == Quality::Suspect));
    }

    #[test]
    fn what_was_too_much_is_free_when_the_connection_turns_out_to_carry_it() {
        let mut limits = PlausibilityLimits::default();
        let reading = |n: i64, import| LastReading {
            end: NOW.plus(n * 900),
            import_wh: WattHours(import),
            export_wh: WattHours(0),
        };
        let mut chain = Chain::new([reading(0, 1_000)], true);
        for n in 1..4 {
            chain.note(reading(n, 1_000 + 30_000 * n.unsigned_abs()), &[EventKind::ImplausibleEnergy]);
            assert!(chain.remarks(&limits).is_empty());
        }
        limits.power_w_max = 240_000;
        chain.note(reading(4, 121_000), &[]);
        let freed = chain.remarks(&limits);
        assert_eq!(freed.len(), 3);
        assert!(freed.iter().all(|remark| remark.quality == Quality::Measured));
        chain.apply(&freed);
        assert!(!chain.is_in_doubt() && chain.remarks(&limits).is_empty());
    }

    #[test]
    fn doubts_are_bounded() {
        let mut chain =
            Chain::new([LastReading { end: NOW, import_wh: WattHours(1_000), export_wh: WattHours(0) }], true);
        for n in 1..2_000 {
            let reading = LastReading { end: NOW.plus(n), import_wh: WattHours(0), export_wh: WattHours(0) };
            chain.note(reading, &[EventKind::RegisterStepBack]);
        }
        assert_eq!(chain.doubts.len(), DOUBTS_MAX);
    }
}
