//! What ingest must know of every meter to judge the next frame: sequences seen, the newest plausible reading, what was wrong.

use std::collections::{BTreeMap, HashMap};

use metering::{
    EventKind, MeterId, Timestamp,
    chain::{Chain, Remark, StoredChain},
    validation::{LastReading, PlausibilityLimits},
};
use serde::{Deserialize, Serialize};

use crate::{
    block::{Day, Interval, day_of},
    hot::{DayKey, Memory, MeterIndex, days_between},
    reading::{Counts, Latest},
    window::Window,
};

/// Boots of a meter whose sequences are remembered.
pub(crate) const BOOTS_MAX: usize = 16;

/// One meter.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Sequences by boot, the newest boot last.
    pub windows: Vec<(u64, Window)>,
    /// The newest plausible readings, and those that contradict them.
    pub chain: Chain,
    /// What is wrong at present and was reported: reported again only after a plausible record.
    pub reported: Vec<EventKind>,
    /// Something changed since it was last written.
    pub changed: bool,
}

impl Known {
    /// The window of a boot, made when it is new. The oldest boots are forgotten.
    pub(crate) fn window(&mut self, boot: u64) -> &mut Window {
        self.changed = true;
        let at = self.windows.iter().position(|(b, _)| *b == boot).unwrap_or_else(|| {
            if self.windows.len() >= BOOTS_MAX {
                self.windows.remove(0);
            }
            self.windows.push((boot, Window::default()));
            self.windows.len() - 1
        });
        &mut self.windows[at].1
    }

    /// The window of a boot, if there is one.
    pub(crate) fn existing(&self, boot: u64) -> Option<&Window> {
        self.windows.iter().find(|(b, _)| *b == boot).map(|(_, window)| window)
    }

    /// Takes a judgement into account; the kinds not reported yet.
    pub(crate) fn judged(&mut self, reading: LastReading, wrong: &[EventKind]) -> Vec<EventKind> {
        self.changed = true;
        self.chain.note(reading, wrong);
        if wrong.is_empty() {
            self.reported.clear();
            return Vec::new();
        }
        let fresh: Vec<EventKind> = wrong.iter().copied().filter(|kind| !self.reported.contains(kind)).collect();
        self.reported.extend(&fresh);
        fresh
    }

    /// Takes into account what was proved about earlier readings.
    pub(crate) fn remarked(&mut self, remarks: &[Remark]) {
        self.changed = true;
        self.chain.apply(remarks);
        if remarks.iter().any(|remark| remark.quality.is_trusted()) {
            self.reported.clear();
        }
    }

    /// Starts anew from one reading.
    pub(crate) fn start_from(&mut self, reading: LastReading) {
        self.chain = Chain::new([reading], true);
        self.reported.clear();
        self.changed = true;
    }
}

/// What is written of a meter at each packing.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct StoredState {
    /// Written by versions before the chain was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<(Timestamp, u64, u64)>,
    #[serde(default)]
    pub chain: StoredChain,
    pub reported: Vec<EventKind>,
    pub latest: Option<Latest>,
}

/// Everything the committer keeps. Owned by one task at a time.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    /// By meter index, as in [`Memory`].
    pub meters: Vec<Known>,
    /// The same as [`Memory::index`], plus meters of the batch at hand.
    pub index: HashMap<MeterId, MeterIndex>,
    /// Position of the next row of the log.
    pub next_position: i64,
    pub counts: Counts,
    /// What a plausible reading keeps to.
    pub limits: PlausibilityLimits,
    /// A write failed: what is here must be made again from the files before the next batch.
    pub stale: bool,
}

/// Readings near a late record: packed days that were read for it, and records of the batch at hand.
#[derive(Debug, Default)]
pub(crate) struct Neighbourhood {
    /// Packed days, read before the batch is judged.
    pub packed: HashMap<MeterIndex, BTreeMap<DayKey, Day>>,
    /// Plausible records of this batch, by meter and end.
    pub batch: BTreeMap<(MeterIndex, Timestamp), LastReading>,
    /// What this batch proved about earlier readings.
    pub remarks: HashMap<MeterIndex, Vec<Remark>>,
}

impl Neighbourhood {
    /// Whether a version of an interval that says the same is stored, packed or not.
    pub(crate) fn holds(&self, memory: &Memory, meter: MeterIndex, wanted: &Interval) -> bool {
        let day = day_of(Timestamp(wanted.end));
        let generations =
            [self.packed.get(&meter), memory.sealing.as_ref().and_then(|g| g.days.get(meter)), memory.hot.get(meter)];
        generations
            .into_iter()
            .flatten()
            .flat_map(|days| days_between(days, day, day))
            .any(|(_, day)| day.holds(wanted))
    }

    /// The plausible readings just before and just after `end`, within a day on either side.
    pub(crate) fn around(
        &self,
        memory: &Memory,
        meter: MeterIndex,
        end: Timestamp,
    ) -> (Option<LastReading>, Option<LastReading>) {
        let (mut before, mut after): (Option<LastReading>, Option<LastReading>) = (None, None);
        let mut look = |reading: LastReading| {
            if reading.end < end && before.is_none_or(|b| b.end < reading.end) {
                before = Some(reading);
            }
            if reading.end > end && after.is_none_or(|a| a.end > reading.end) {
                after = Some(reading);
            }
        };
        let day = day_of(end);
        let generations =
            [self.packed.get(&meter), memory.sealing.as_ref().and_then(|g| g.days.get(meter)), memory.hot.get(meter)];
        let near = || generations.into_iter().flatten().flat_map(|days| days_between(days, day - 1, day + 1));
        // The newest word about a reading counts, in whatever generation it lies itself.
        let batch = self.remarks.get(&meter).into_iter().flatten();
        let remarks: Vec<&Remark> = near().flat_map(|(_, held)| held.remarks()).chain(batch).collect();
        let is_plausible = |interval: &&Interval| {
            let remark = remarks.iter().rev().find(|remark| interval.is_meant_by(remark));
            remark.map_or(interval.is_plausible(), |remark| remark.quality.is_trusted())
        };
        for (_, held) in near() {
            let all = held.all();
            let at = all.partition_point(|i| i.end < end.0);
            let past = all.partition_point(|i| i.end <= end.0);
            let earlier = all[..at].iter().rev().find(is_plausible);
            let later = all[past..].iter().find(is_plausible);
            earlier.into_iter().chain(later).for_each(|i| look(i.reading()));
        }
        let mine = (meter, Timestamp(i64::MIN))..=(meter, Timestamp(i64::MAX));
        let batch = self.batch.range(mine).map(|(_, reading)| *reading);
        batch.for_each(look);
        (before, after)
    }

    /// Takes into account what was proved about earlier readings.
    pub(crate) fn remarked(&mut self, meter: MeterIndex, remarks: &[Remark]) {
        for remark in remarks {
            let key = (meter, remark.reading.end);
            if remark.quality.is_trusted() {
                self.batch.insert(key, remark.reading);
            } else if self.batch.get(&key) == Some(&remark.reading) {
                self.batch.remove(&key);
            }
        }
        self.remarks.entry(meter).or_default().extend(remarks);
    }
}
