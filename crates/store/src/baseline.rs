//! A new baseline of a meter's registers: after a register was legitimately reset or a meter was reprogrammed, its readings step back
//! or jump and are held for suspect; an operator says that they start anew from the newest one. Earlier readings keep their mark.

use metering::{EventKind, MeterId, Quality, Timestamp, validation::LastReading};
use serde::{Deserialize, Serialize};
use sqlx::{Row, SqlitePool};

use crate::{
    audit,
    change::Change,
    directory::{Store, id_in, id_out, time},
    error::StoreError,
    event::EventFilter,
    intake::Intake,
    master::meter_id,
    reading::StoredRecord,
};

/// How far back suspect readings are looked for, seconds.
const LOOK_BACK_SECONDS: i64 = 40 * 86_400;

/// From where a meter's registers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// End of the interval that became the new start.
    pub end: Timestamp,
    /// Import register then, Wh.
    pub import_wh: u64,
    /// Export register then, Wh.
    pub export_wh: u64,
}

/// Readings of a meter that are held for suspect and newer than any that is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuspectReadings {
    /// The newest trusted reading.
    pub trusted: Option<StoredRecord>,
    /// The first of the suspect ones.
    pub first: StoredRecord,
    /// The newest: the proposed baseline.
    pub newest: StoredRecord,
    /// How many.
    pub count: usize,
    /// Why, as events of the meter say.
    pub why: Vec<EventKind>,
}

impl Store {
    /// The suspect readings of a meter since its newest trusted one; `None` when its newest reading is trusted. Readings with a wrong clock
    /// are left out: they cannot be a baseline.
    ///
    /// # Errors
    /// When a database fails.
    pub async fn suspect_readings(
        &self,
        meter: MeterId,
        now: Timestamp,
    ) -> Result<Option<SuspectReadings>, StoreError> {
        let records = self.profile(meter, now.plus(-LOOK_BACK_SECONDS), now).await?;
        let is_trusted = |r: &StoredRecord| r.quality.is_trusted();
        let last = records.iter().rposition(is_trusted);
        // What hides its registers is not suspect, and no baseline.
        let after: Vec<&StoredRecord> =
            records[last.map_or(0, |index| index + 1)..].iter().filter(|r| r.quality == Quality::Suspect).collect();
        let (Some(first), Some(newest)) = (after.first(), after.last()) else { return Ok(None) };
        let wanted = [EventKind::RegisterStepBack, EventKind::ImplausibleEnergy];
        let events = self
            .events(EventFilter {
                meter: Some(meter),
                after: Some(first.record.end.plus(-1)),
                to: Some(now),
                kinds: wanted.to_vec(),
                ..EventFilter::default()
            })
            .await?;
        let why = wanted.into_iter().filter(|kind| events.iter().any(|e| e.event.kind == *kind)).collect();
        Ok(Some(SuspectReadings {
            trusted: last.map(|index| records[index].clone()),
            first: (*first).clone(),
            newest: (*newest).clone(),
            count: after.len(),
            why,
        }))
    }

    /// Takes the newest suspect reading of a meter as its new baseline: the next readings are compared with it. Audited.
    ///
    /// # Errors
    /// When its newest reading is trusted anyway, or no reason is given.
    pub async fn accept_baseline(
        &self,
        meter: MeterId,
        reason: &str,
        by: &str,
        now: Timestamp,
    ) -> Result<Baseline, StoreError> {
        if reason.trim().is_empty() {
            return Err(StoreError::Invalid("give a reason: it is kept in the audit".to_owned()));
        }
        let Some(found) = self.suspect_readings(meter, now).await? else {
            return Err(StoreError::Refused(format!(
                "the newest reading of {meter} is trusted: no new baseline is needed"
            )));
        };
        let record = &found.newest.record;
        let baseline = Baseline { end: record.end, import_wh: record.import_wh.0, export_wh: record.export_wh.0 };
        // Nothing may be judged between the writing and the taking into account.
        let mut intake = self.inner.intake.lock().await;
        let mut tx = self.inner.main.begin("meter.baseline").await?;
        sqlx::query(
            "INSERT INTO baseline (meter, end_at, import_wh, export_wh, accepted_at) VALUES ($1,$2,$3,$4,$5)
             ON CONFLICT (meter) DO UPDATE SET end_at = excluded.end_at, import_wh = excluded.import_wh,
             export_wh = excluded.export_wh, accepted_at = excluded.accepted_at",
        )
        .bind(meter.as_str())
        .bind(baseline.end.0)
        .bind(id_in(baseline.import_wh))
        .bind(id_in(baseline.export_wh))
        .bind(now.0)
        .execute(&mut *tx)
        .await?;
        let before = found.trusted.map_or_else(|| "none".to_owned(), |r| format!("{} Wh", r.record.import_wh.0));
        let detail = format!(
            "import register {} Wh, export {} Wh at {} (trusted before: {before}): {}",
            baseline.import_wh,
            baseline.export_wh,
            baseline.end,
            reason.trim()
        );
        let entry = audit::Entry { by, action: "meter.baseline", subject: format!("meter:{meter}"), detail };
        audit::record(&mut tx, now, entry).await?;
        tx.commit().await?;
        put(&mut intake, meter, baseline);
        drop(intake);
        self.announce(Change::Topology);
        Ok(baseline)
    }
}

/// Puts accepted baselines into a rebuilt intake. A meter that has trusted readings after its baseline has them already.
pub(crate) async fn apply(main: &SqlitePool, intake: &mut Intake) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT meter, end_at, import_wh, export_wh FROM baseline").fetch_all(main).await?;
    for row in &rows {
        let baseline = Baseline { end: time(row.get(1)), import_wh: id_out(row.get(2)), export_wh: id_out(row.get(3)) };
        put(intake, meter_id(row.get(0))?, baseline);
    }
    Ok(())
}

fn put(intake: &mut Intake, meter: MeterId, baseline: Baseline) {
    let Some(known) = intake.index.get(&meter).copied().and_then(|index| intake.meters.get_mut(index)) else { return };
    if known.chain.last().is_none_or(|last| last.end < baseline.end) {
        known.start_from(LastReading {
            end: baseline.end,
            import_wh: metering::WattHours(baseline.import_wh),
            export_wh: metering::WattHours(baseline.export_wh),
        });
    }
}
