//! After a start or a failed write: what ingest and readers keep in memory, made from the files. Decisions that depended on the
//! moment stand in the log and are repeated, not taken again.

use metering::{Body, EventKind, ProfileRecord, Quality, WattHours, chain::Chain, validation::LastReading};
use sqlx::{Row, SqlitePool};

use crate::{
    block::{Interval, bits::BitsError},
    directory::id_out,
    error::StoreError,
    hot::{DayKey, Memory, MeterIndex},
    intake::{Intake, Known, StoredState},
    log::{self, Logged},
    master::meter_id,
    seal::{FileKey, Months},
    window::Window,
};

/// Log rows read at a time.
const ROWS: i64 = 8;

/// Makes intake and memory from the files.
pub(crate) async fn rebuild(log: &SqlitePool, months: &Months) -> Result<(Intake, Memory), StoreError> {
    let (mut intake, mut memory) = known_meters(log).await?;
    let counter = sqlx::query(
        "SELECT next_position, frames, readings, duplicates, conflicts, suspect, quarantined FROM counter WHERE one = 1",
    )
    .fetch_one(log)
    .await?;
    intake.next_position = counter.get(0);
    let counts = &mut intake.counts;
    for (at, count) in [
        &mut counts.frames,
        &mut counts.readings,
        &mut counts.duplicates,
        &mut counts.conflicts,
        &mut counts.suspect,
        &mut counts.quarantined,
    ]
    .into_iter()
    .enumerate()
    {
        *count = id_out(counter.get(at + 1));
    }
    memory.counts = intake.counts;
    let applied = months.positions().await?;
    let mut after = -1_i64;
    loop {
        let rows = sqlx::query("SELECT position, body FROM log WHERE position > $1 ORDER BY position LIMIT $2")
            .bind(after)
            .bind(ROWS)
            .fetch_all(log)
            .await?;
        if rows.is_empty() {
            return Ok((intake, memory));
        }
        for row in &rows {
            let position: i64 = row.get(0);
            let body: &[u8] = row.get(1);
            memory.log_bytes += body.len();
            for logged in log::decode(body)? {
                let packed = |key: DayKey| applied.get(&FileKey::of(key)).is_some_and(|held| *held >= position);
                repeat(&mut intake, &mut memory, &logged, packed)?;
            }
            after = position;
        }
    }
}

async fn known_meters(log: &SqlitePool) -> Result<(Intake, Memory), StoreError> {
    let (mut intake, mut memory) = (Intake::default(), Memory::default());
    for row in sqlx::query("SELECT id, name, state FROM meter ORDER BY id").fetch_all(log).await? {
        let meter = meter_id(row.get(1))?;
        let index = intake.meters.len();
        if row.get::<i64, _>(0) != crate::write::key_of(index) {
            return Err(StoreError::damaged("the meters' numbers have a gap"));
        }
        let mut known = Known::default();
        memory.add_meter(meter);
        if let Some(state) = row.get::<Option<&[u8]>, _>(2) {
            let state: StoredState = serde_json::from_slice(state)?;
            known.chain = match state.last {
                // An earlier version knew the newest reading only.
                Some((end, import, export)) => {
                    let last = LastReading { end, import_wh: WattHours(import), export_wh: WattHours(export) };
                    Chain::new([last], true)
                }
                None => Chain::from_stored(&state.chain),
            };
            known.reported = state.reported;
            memory.latest[index] = state.latest;
        }
        intake.index.insert(meter, index);
        intake.meters.push(known);
    }
    for row in sqlx::query("SELECT meter, boot, body FROM dedupe ORDER BY meter, ordinal").fetch_all(log).await? {
        let index = usize::try_from(row.get::<i64, _>(0) - 1).ok();
        let known = index.and_then(|index| intake.meters.get_mut(index));
        let known = known.ok_or_else(|| StoreError::damaged("sequences of an unknown meter"))?;
        let window =
            Window::decode(row.get(2)).map_err(|BitsError| StoreError::damaged("the sequences seen of a meter"))?;
        known.windows.push((id_out(row.get(1)), window));
    }
    Ok((intake, memory))
}

/// The quality of a record: of one that hides its registers no energy can be read, whatever is right about it.
pub(crate) fn quality_of(record: &ProfileRecord, wrong: &[EventKind]) -> Quality {
    match (record.masked, wrong) {
        (Some(_), _) => Quality::Missing,
        (None, []) => Quality::Measured,
        (None, _) => Quality::Suspect,
    }
}

/// Applies a logged frame once more.
fn repeat(
    intake: &mut Intake,
    memory: &mut Memory,
    logged: &Logged,
    packed: impl Fn(DayKey) -> bool,
) -> Result<(), StoreError> {
    let frame = &logged.frame;
    let meter: MeterIndex = *intake
        .index
        .get(&frame.meter)
        .ok_or_else(|| StoreError::damaged(format!("the log holds a frame of {}, which has no number", frame.meter)))?;
    let known = &mut intake.meters[meter];
    known.window(frame.boot).repeat(frame.seq, logged.hash, logged.conflict);
    memory.note(meter, frame, logged.received);
    let Body::Profile(profile) = &frame.body else { return Ok(()) };
    for (index, record) in profile.records.iter().enumerate() {
        let wrong = logged.wrong_with(index);
        let quality = quality_of(record, wrong);
        let interval = Interval::new(record, profile.minutes, quality, logged.received);
        if quality != Quality::Missing {
            known.judged(interval.reading(), wrong);
        }
        let key = DayKey::of(interval.end, logged.received);
        if !packed(key) {
            memory.add(meter, key, interval);
        }
        let remarks = logged.proved_by(index);
        if !remarks.is_empty() {
            known.remarked(&remarks);
        }
        for remark in remarks.into_iter().filter(|remark| !packed(DayKey::of_remark(remark))) {
            memory.remark(meter, remark);
        }
    }
    Ok(())
}
