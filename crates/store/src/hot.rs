//! What is acknowledged and not yet packed, and the newest of every meter. Everything here can be made again from the log.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use metering::{
    Body, EventKind, Frame, MeterId, Timestamp,
    chain::Remark,
    frame::{Now, RelayState},
};

use crate::{
    block::{Day, Interval, day_of},
    reading::{Counts, Latest},
};

/// Meters are numbered in the order of their first frame; the number is also their key in the files (plus one).
pub(crate) type MeterIndex = usize;

/// Where a day is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DayKey {
    /// UTC day since 1970.
    pub day: i64,
    /// Its intervals lay far ahead of their arrival, or before 2015: kept apart, so that a wrong clock cannot make month files.
    pub misplaced: bool,
}

/// Nothing before this day is believed (2015-01-01).
const OLDEST_DAY: i64 = 16_436;

impl DayKey {
    /// Where an interval belongs. Depends on nothing but the interval and its arrival.
    pub(crate) fn of(end: i64, received: Timestamp) -> Self {
        let day = day_of(Timestamp(end));
        Self { day, misplaced: day < OLDEST_DAY || day > received.day() + 1 }
    }

    /// Where the reading of a remark lies: one with a wrong clock is never the subject of one.
    pub(crate) fn of_remark(remark: &Remark) -> Self {
        Self { day: day_of(remark.reading.end), misplaced: false }
    }
}

/// Days of one meter.
pub(crate) type Days = BTreeMap<DayKey, Day>;

/// A generation of days that is being packed.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    /// By meter index.
    pub days: Vec<Days>,
    /// Everything in the log up to here is in the days or in blocks.
    pub position: i64,
}

/// The readers' view of what is not in files.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub index: HashMap<MeterId, MeterIndex>,
    pub names: Vec<MeterId>,
    pub hot: Vec<Days>,
    /// Intervals in `hot`.
    pub hot_intervals: usize,
    /// Bytes in the log since the last packing.
    pub log_bytes: usize,
    pub sealing: Option<Arc<Generation>>,
    pub latest: Vec<Option<Latest>>,
    pub counts: Counts,
}

impl Memory {
    /// Adds meters that were seen for the first time.
    pub(crate) fn add_meter(&mut self, meter: MeterId) {
        self.index.insert(meter, self.names.len());
        self.names.push(meter);
        self.hot.push(Days::new());
        self.latest.push(None);
    }

    /// Adds an interval.
    pub(crate) fn add(&mut self, meter: MeterIndex, key: DayKey, interval: Interval) {
        if self.hot[meter].entry(key).or_default().merge(interval) != crate::block::Merged::Known {
            self.hot_intervals += 1;
        }
    }

    /// Gives a reading another quality, wherever it is.
    pub(crate) fn remark(&mut self, meter: MeterIndex, remark: Remark) {
        self.hot[meter].entry(DayKey::of_remark(&remark)).or_default().remark(remark);
    }

    /// Notes what a frame says about now.
    pub(crate) fn note(&mut self, meter: MeterIndex, frame: &Frame, received: Timestamp) {
        note(self.latest[meter].get_or_insert_default(), frame, received);
    }

    /// What is not in files of a meter's intervals that end in (`after`, `to`], by day, older generation first.
    pub(crate) fn days(&self, meter: MeterIndex, after: Timestamp, to: Timestamp) -> Vec<(DayKey, Day)> {
        let (first, last) = (day_of(after.plus(1)), day_of(to));
        let generations = self.sealing.iter().filter_map(|g| g.days.get(meter)).chain(self.hot.get(meter));
        generations
            .flat_map(|days| days_between(days, first, last))
            .map(|(key, day)| (key, day.between(after, to)))
            .collect()
    }
}

/// The days from `from` to `to`.
pub(crate) fn days_between(days: &Days, from: i64, to: i64) -> impl Iterator<Item = (DayKey, &Day)> {
    let low = DayKey { day: from, misplaced: false };
    let high = DayKey { day: to.max(from), misplaced: true };
    days.range(low..=high).map(|(key, day)| (*key, day)).filter(move |_| from <= to)
}

fn note(latest: &mut Latest, frame: &Frame, received: Timestamp) {
    latest.received = latest.received.max(received);
    match &frame.body {
        Body::Hello(hello) => {
            latest.relay = hello.relay.or(latest.relay);
            latest.hello = Some(hello.clone());
        }
        Body::Profile(profile) => {
            let newest = profile.records.iter().map(|r| r.end).filter(|end| *end <= received.plus(86_400)).max();
            latest.profile_end = latest.profile_end.max(newest);
        }
        Body::Now(now) | Body::Snapshot(now) => note_now(latest, now, received),
        Body::Reply(reply) => note_now(latest, &reply.now, received),
        Body::Event(event) => {
            let relay = match event.kind {
                EventKind::LoadDisconnected => Some(RelayState::Open),
                EventKind::LoadConnected => Some(RelayState::Closed),
                EventKind::ReadyToReconnect => Some(RelayState::Ready),
                EventKind::LoadLimitTrip => Some(RelayState::OpenLimit),
                EventKind::LoadLimitLockout => Some(RelayState::Locked),
                EventKind::WeldedContact => Some(RelayState::Fault),
                _ => None,
            };
            let newest = latest.now.as_ref().is_none_or(|now| now.at <= event.at);
            if relay.is_some() && newest {
                latest.relay = relay;
            }
        }
        Body::Quality(_) => {}
    }
}

/// Values older than those held come late and change nothing; a clock far ahead is taken as the time of arrival.
fn note_now(latest: &mut Latest, now: &Now, received: Timestamp) {
    let mut now = now.clone();
    now.at = now.at.min(received.plus(300));
    if latest.now.as_ref().is_none_or(|held| held.at <= now.at) {
        latest.relay = now.relay.or(latest.relay);
        latest.now = Some(now);
    }
}
