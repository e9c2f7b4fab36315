//! Frames in: compared with what came before, judged, written to the durable log, applied to the memory, announced.
//!
//! Per batch: packed days near late records are read; everything is decided without touching the readers' view; one transaction
//! writes the log row, events, replies and counters; only then the memory changes and the batch is announced.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use metering::{
    Body, EventKind, MeterEvent, MeterId, ProfileRecord, Quality, Timestamp,
    chain::{Chain, Remark},
    frame::{Encoding, Frame, Profile},
    validation::{LastReading, PlausibilityLimits, judge},
};
use sha2::{Digest, Sha256};

use crate::{
    block::{Interval, day_of},
    change::Change,
    directory::{Store, id_in},
    error::StoreError,
    hot::{DayKey, Memory, MeterIndex},
    intake::{Intake, Neighbourhood},
    limits::ConnectionLimits,
    log::Logged,
    reading::{Accepted, Incoming},
    rebuild::quality_of,
    window::Seen,
    write::key_of,
};

/// Longest interval that is balanced, minutes.
const BALANCED_MINUTES_MAX: u16 = 15;

/// What was decided about a batch, before it is written.
#[derive(Default)]
pub(crate) struct Batch {
    pub accepted: Vec<Accepted>,
    pub new_meters: Vec<MeterId>,
    pub frames: Vec<NewFrame>,
    pub intervals: Vec<(MeterIndex, DayKey, Interval)>,
    /// What records proved about earlier readings.
    pub remarks: Vec<(MeterIndex, Remark)>,
    /// Meter, time of arrival, event; by the meter or raised by us.
    pub events: Vec<(MeterIndex, Timestamp, MeterEvent)>,
}

/// A frame to be stored.
pub(crate) struct NewFrame {
    pub meter: MeterIndex,
    pub logged: Logged,
    pub cbor: Bytes,
}

impl Store {
    /// Stores frames: each is compared with what came before, judged, and written to the durable log. Returns after the commit
    /// (full sync): all of them may then be acknowledged. One outcome a frame, in their order. Meant to be called by one task
    /// with batches of up to a few thousand frames; a dropped future does not stop a batch half-way.
    ///
    /// # Errors
    /// When the log could not be written: nothing of the batch is stored, none of it may be acknowledged.
    pub async fn ingest(&self, frames: Vec<Incoming>) -> Result<Vec<Accepted>, StoreError> {
        if frames.is_empty() {
            return Ok(Vec::new());
        }
        self.wait_for_room().await?;
        let store = self.clone();
        let task = tokio::spawn(async move { store.ingest_batch(frames).await });
        task.await.map_err(|e| StoreError::Task(e.to_string()))?
    }

    async fn ingest_batch(&self, frames: Vec<Incoming>) -> Result<Vec<Accepted>, StoreError> {
        let mut intake = self.inner.intake.lock().await;
        if intake.stale {
            let (mut rebuilt, mut memory) = crate::rebuild::rebuild(self.inner.log.pool(), &self.inner.months).await?;
            crate::baseline::apply(&self.inner.main_read, &mut rebuilt).await?;
            let mut held = self.inner.memory.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            memory.sealing = held.sealing.take();
            (*held, *intake) = (memory, Intake { limits: intake.limits, ..rebuilt });
        }
        let hashes: Vec<u64> = frames.iter().map(|frame| content_hash(&frame.payload)).collect();
        let wanted = days_near_late_records(&intake, &frames, &hashes);
        let mut near = Neighbourhood::default();
        if !wanted.is_empty() {
            near.packed = self.packed_days(&wanted).await?;
        }
        let known = self.known_rows(&intake, &frames, &hashes).await?;
        let batch = {
            let memory = self.memory();
            let limits = self.inner.limits.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut decide =
                Decide { intake: &mut intake, memory: &memory, near, limits: &limits, batch: Batch::default() };
            for (index, (frame, hash)) in frames.into_iter().zip(hashes).enumerate() {
                decide.frame(frame, hash, known.contains(&index));
            }
            decide.batch
        };
        let bytes = match self.write_batch(&batch, &mut intake).await {
            Ok(bytes) => bytes,
            Err(e) => {
                intake.stale = true;
                return Err(e);
            }
        };
        Ok(self.apply(batch, &intake, bytes))
    }

    /// Frames of a batch, by place, whose sequence is too old to be compared and whose event, reply, snapshot or power quality stands in
    /// a row already, byte for byte.
    async fn known_rows(
        &self,
        intake: &Intake,
        frames: &[Incoming],
        hashes: &[u64],
    ) -> Result<HashSet<usize>, StoreError> {
        let mut known = HashSet::new();
        for (index, (incoming, hash)) in frames.iter().zip(hashes).enumerate() {
            let frame = &incoming.frame;
            let Some(&meter) = intake.index.get(&frame.meter) else { continue };
            let seen = intake.meters[meter].existing(frame.boot).map(|window| window.peek(frame.seq, *hash));
            if seen == Some(Seen::Old) && self.is_row(meter, &frame.body).await? {
                known.insert(index);
            }
        }
        Ok(known)
    }

    async fn is_row(&self, meter: MeterIndex, body: &Body) -> Result<bool, StoreError> {
        let (sql, key, cbor) = match body {
            Body::Event(event) => (
                "SELECT 1 FROM event WHERE meter = $1 AND at <= $2 AND body = $3 LIMIT 1",
                event.at.0,
                metering::cbor(event),
            ),
            Body::Reply(reply) => {
                let control = id_in(reply.control);
                ("SELECT 1 FROM reply WHERE meter = $1 AND control = $2 AND body = $3", control, metering::cbor(reply))
            }
            Body::Snapshot(now) => {
                ("SELECT 1 FROM snapshot WHERE meter = $1 AND at = $2 AND body = $3", now.at.0, metering::cbor(now))
            }
            Body::Quality(values) => {
                let body = metering::cbor(values);
                ("SELECT 1 FROM quality WHERE meter = $1 AND end_at = $2 AND body = $3", values.end.0, body)
            }
            Body::Hello(_) | Body::Profile(_) | Body::Now(_) => return Ok(false),
        };
        let row: Option<i64> = sqlx::query_scalar(sql)
            .bind(key_of(meter))
            .bind(key)
            .bind(cbor)
            .fetch_optional(&self.inner.log_read)
            .await?;
        Ok(row.is_some())
    }

    /// Writes an event about a meter that the server found out beside the meter's frames.
    ///
    /// # Errors
    /// When the meter never sent anything, or the database fails.
    pub async fn raise(&self, meter: MeterId, kind: EventKind, now: Timestamp) -> Result<(), StoreError> {
        let index = self.memory().index.get(&meter).copied();
        let key = key_of(index.ok_or_else(|| StoreError::unknown("meter that sent anything", meter))?);
        let event = MeterEvent::bare(kind, now);
        self.inner
            .log
            .transaction("event.raise", async |tx| {
                sqlx::query("INSERT INTO event (meter, at, received, code, tamper, body) VALUES ($1,$2,$2,$3,$4,$5)")
                    .bind(key)
                    .bind(now.0)
                    .bind(i64::from(kind.code()))
                    .bind(i64::from(kind.is_tamper()))
                    .bind(metering::cbor(event))
                    .execute(tx)
                    .await?;
                Ok(())
            })
            .await?;
        self.announce(Change::Event { meter, event });
        Ok(())
    }

    /// Makes a written batch visible and announces it.
    fn apply(&self, batch: Batch, intake: &Intake, log_bytes: usize) -> Vec<Accepted> {
        let mut names = Vec::with_capacity(batch.frames.len());
        {
            let mut memory = self.inner.memory.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            batch.new_meters.iter().for_each(|meter| memory.add_meter(*meter));
            for (meter, key, interval) in batch.intervals {
                memory.add(meter, key, interval);
            }
            batch.remarks.iter().for_each(|(meter, remark)| memory.remark(*meter, *remark));
            for new in &batch.frames {
                memory.note(new.meter, &new.logged.frame, new.logged.received);
            }
            memory.log_bytes += log_bytes;
            memory.counts = intake.counts;
            names.extend(batch.events.iter().map(|(meter, _, event)| (memory.names[*meter], *event)));
        }
        if self.inner.changes.receiver_count() > 0 {
            batch.frames.iter().for_each(|new| self.announce_frame(&new.logged.frame));
            names.into_iter().for_each(|(meter, event)| self.announce(Change::Event { meter, event }));
        }
        self.seal_when_full();
        batch.accepted
    }

    fn announce_frame(&self, frame: &Frame) {
        let now = match &frame.body {
            Body::Now(now) | Body::Snapshot(now) => Some(now.clone()),
            Body::Reply(reply) => Some(reply.now.clone()),
            _ => None,
        };
        self.announce(Change::Frame { meter: frame.meter, kind: frame.body.kind(), now });
        if let Body::Reply(reply) = &frame.body {
            self.announce(Change::Reply { meter: frame.meter, reply: reply.clone() });
        }
    }
}

/// 64 bits of the SHA-256 of a payload, never zero.
fn content_hash(payload: &[u8]) -> u64 {
    let hash: [u8; 32] = Sha256::digest(payload).into();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    u64::from_le_bytes(first).max(1)
}

/// The days around every record that does not follow the newest of its meter, without the frames that are known.
fn days_near_late_records(intake: &Intake, frames: &[Incoming], hashes: &[u64]) -> BTreeMap<MeterIndex, Vec<i64>> {
    let mut wanted: BTreeMap<MeterIndex, Vec<i64>> = BTreeMap::new();
    let mut newest: HashMap<MeterIndex, Timestamp> = HashMap::new();
    let limits = &intake.limits;
    for (incoming, hash) in frames.iter().zip(hashes) {
        let Body::Profile(profile) = &incoming.frame.body else { continue };
        let Some(&meter) = intake.index.get(&incoming.frame.meter) else { continue };
        let known = &intake.meters[meter];
        let seen = known.existing(incoming.frame.boot).map(|w| w.peek(incoming.frame.seq, *hash));
        let Some(last) = known.chain.last().filter(|_| seen != Some(Seen::Same)) else { continue };
        let newest = newest.entry(meter).or_insert(last.end);
        for record in &profile.records {
            if record.end > incoming.received.plus(limits.ahead_seconds_max) || record.end < limits.oldest {
                continue;
            }
            if record.end > *newest {
                *newest = record.end;
            } else {
                let day = day_of(record.end);
                wanted.entry(meter).or_default().extend([day - 1, day, day + 1]);
            }
        }
    }
    for days in wanted.values_mut() {
        days.sort_unstable();
        days.dedup();
    }
    wanted
}

/// What was found about the records of a frame, by their place in it.
#[derive(Default)]
struct Judged {
    /// What is wrong with which.
    wrong: Vec<(usize, Vec<EventKind>)>,
    /// What which of them proved about earlier readings.
    remarks: Vec<(usize, Remark)>,
}

/// A profile frame whose records are judged.
struct FrameAtHand {
    meter: MeterIndex,
    received: Timestamp,
    limits: PlausibilityLimits,
    /// The series of its late records, once there is one.
    late: Option<Chain>,
    judged: Judged,
}

/// Decides about frames one by one. Changes the intake, and collects what is to be written.
struct Decide<'a> {
    intake: &'a mut Intake,
    memory: &'a Memory,
    near: Neighbourhood,
    limits: &'a ConnectionLimits,
    batch: Batch,
}

impl Decide<'_> {
    /// `is_known`: what it says stands in a row already.
    fn frame(&mut self, incoming: Incoming, hash: u64, is_known: bool) {
        let Incoming { frame, payload, received } = incoming;
        let meter = self.meter(frame.meter);
        let seen = self.intake.meters[meter].window(frame.boot).note(frame.seq, hash);
        let accepted = match seen {
            Seen::New => Accepted::Stored,
            Seen::Same => Accepted::Duplicate,
            Seen::Other => Accepted::Conflict,
            Seen::Old if is_known || self.holds(meter, &frame.body, received) => Accepted::Duplicate,
            Seen::Old => Accepted::Conflict,
        };
        self.batch.accepted.push(accepted);
        if accepted == Accepted::Duplicate {
            self.intake.counts.duplicates += 1;
            return;
        }
        self.intake.counts.frames += 1;
        if accepted == Accepted::Conflict {
            self.intake.counts.conflicts += 1;
            self.raise(meter, received, MeterEvent::bare(EventKind::SequenceConflict, received));
        }
        let mut judged = Judged::default();
        match &frame.body {
            // Better said at every start than found out by nobody: such a meter is estimated in every balance.
            Body::Hello(hello) if hello.profile_minutes > BALANCED_MINUTES_MAX => {
                self.raise(meter, received, MeterEvent::bare(EventKind::IntervalTooLong, received));
            }
            Body::Profile(profile) => judged = self.profile(meter, profile, received),
            Body::Event(event) => {
                self.batch.events.push((meter, received, *event));
                if event.at > received.plus(self.intake.limits.ahead_seconds_max) {
                    self.raise(meter, received, MeterEvent::bare(EventKind::ClockWrong, received));
                }
            }
            _ => {}
        }
        let cbor = match Encoding::of(&payload) {
            Encoding::Cbor => payload,
            Encoding::Json => frame.to_cbor().into(),
        };
        let conflict = accepted == Accepted::Conflict;
        let Judged { wrong, remarks } = judged;
        let logged = Logged { frame, hash, received, conflict, wrong, remarks };
        self.batch.frames.push(NewFrame { meter, logged, cbor });
    }

    fn meter(&mut self, meter: MeterId) -> MeterIndex {
        if let Some(index) = self.intake.index.get(&meter) {
            return *index;
        }
        let index = self.intake.meters.len();
        self.intake.index.insert(meter, index);
        self.intake.meters.push(crate::intake::Known::default());
        self.batch.new_meters.push(meter);
        index
    }

    /// Judges and stages the records of a frame.
    fn profile(&mut self, meter: MeterIndex, profile: &Profile, received: Timestamp) -> Judged {
        let mut limits = self.intake.limits;
        limits.power_w_max = self.limits.power_w_max(self.batch_name(meter));
        let mut frame = FrameAtHand { meter, received, limits, late: None, judged: Judged::default() };
        for (index, record) in profile.records.iter().enumerate() {
            self.record(&mut frame, (index, record), profile.minutes);
        }
        frame.judged
    }

    /// Judges and stages one record, and what it proves about earlier ones.
    fn record(&mut self, frame: &mut FrameAtHand, (index, record): (usize, &ProfileRecord), minutes: u16) {
        let FrameAtHand { meter, received, limits, .. } = *frame;
        let last = self.intake.meters[meter].chain.last();
        let late = last.is_some_and(|last| record.end <= last.end);
        let (before, after) = if late { self.near.around(self.memory, meter, record.end) } else { (last, None) };
        // Nothing packed or hot lies within a day: the newest reading still bounds it from above.
        let after = after.or(last.filter(|last| last.end > record.end));
        let (_, kinds) = judge(record, before.as_ref(), after.as_ref(), received, &limits);
        let quality = quality_of(record, &kinds);
        let interval = Interval::new(record, minutes, quality, received);
        let reading = interval.reading();
        self.intake.counts.readings += 1;
        self.batch.intervals.push((meter, DayKey::of(interval.end, received), interval));
        if quality == Quality::Missing {
            return;
        }
        for kind in self.intake.meters[meter].judged(reading, &kinds) {
            let at = if kind == EventKind::ClockWrong { received } else { record.end };
            let event = MeterEvent { import_wh: Some(record.import_wh), ..MeterEvent::bare(kind, at) };
            self.raise(meter, received, event);
        }
        if kinds.is_empty() {
            self.near.batch.insert((meter, reading.end), reading);
        }
        let remarks = if late {
            let chain = frame.late.get_or_insert_with(|| self.chain_before(meter, before));
            chain.note(reading, &kinds);
            let remarks = chain.remarks(&limits);
            chain.apply(&remarks);
            remarks
        } else {
            self.intake.meters[meter].chain.remarks(&limits)
        };
        if !kinds.is_empty() {
            self.intake.counts.suspect += 1;
            frame.judged.wrong.push((index, kinds));
        }
        self.prove(frame, index, &remarks);
    }

    /// The end of the series before late readings: the two that are trusted.
    fn chain_before(&self, meter: MeterIndex, before: Option<LastReading>) -> Chain {
        let earlier = before.and_then(|before| self.near.around(self.memory, meter, before.end).0);
        Chain::new(earlier.into_iter().chain(before), true)
    }

    /// Takes what a record proved about earlier readings into account.
    fn prove(&mut self, frame: &mut FrameAtHand, index: usize, remarks: &[Remark]) {
        if remarks.is_empty() {
            return;
        }
        let meter = frame.meter;
        self.intake.meters[meter].remarked(remarks);
        self.near.remarked(meter, remarks);
        for remark in remarks {
            let counts = &mut self.intake.counts;
            if remark.quality.is_trusted() {
                counts.suspect = counts.suspect.saturating_sub(1);
            } else {
                counts.suspect += 1;
                let LastReading { end, import_wh, .. } = remark.reading;
                let event = MeterEvent { import_wh: Some(import_wh), ..MeterEvent::bare(EventKind::WrongReading, end) };
                self.raise(meter, frame.received, event);
            }
            self.batch.remarks.push((meter, *remark));
            frame.judged.remarks.push((index, *remark));
        }
    }

    /// Whether every record of a profile is stored as it is here.
    fn holds(&self, meter: MeterIndex, body: &Body, received: Timestamp) -> bool {
        let Body::Profile(profile) = body else { return false };
        profile.records.iter().all(|record| {
            let wanted = Interval::new(record, profile.minutes, Quality::Measured, received);
            self.near.holds(self.memory, meter, &wanted)
        })
    }

    fn batch_name(&self, meter: MeterIndex) -> Option<MeterId> {
        let known = self.memory.names.len();
        self.memory.names.get(meter).or_else(|| self.batch.new_meters.get(meter.checked_sub(known)?)).copied()
    }

    fn raise(&mut self, meter: MeterIndex, received: Timestamp, event: MeterEvent) {
        self.batch.events.push((meter, received, event));
    }
}
