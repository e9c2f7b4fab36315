//! What a consumer may see: not a meter, but a meter in the times in which it hung at the consumer's place, within the consumer's
//! contract. A meter that comes from elsewhere brings no history along, and one that goes leaves its own behind.

use metering::{MeterId, Timestamp, UsagePointId};
use sqlx::Row;

use crate::{
    directory::{Store, time},
    error::StoreError,
    master::meter_id,
};

/// A meter, and the time in which it may be seen: after `after`, up to and including `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeterPeriod {
    /// The meter.
    pub meter: MeterId,
    /// Intervals that end after this.
    pub after: Timestamp,
    /// Intervals that end at or before this.
    pub to: Timestamp,
}

impl MeterPeriod {
    /// The part of it that lies in a wanted time; `None` when there is none.
    pub fn within(self, after: Timestamp, to: Timestamp) -> Option<Self> {
        let cut = Self { meter: self.meter, after: self.after.max(after), to: self.to.min(to) };
        (cut.after < cut.to).then_some(cut)
    }
}

impl Store {
    /// The meters of a usage point in the time after `after` and up to `to`, in the order of time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn meter_periods(
        &self,
        usage_point: UsagePointId,
        (after, to): (Timestamp, Timestamp),
    ) -> Result<Vec<MeterPeriod>, StoreError> {
        let rows = sqlx::query(
            "SELECT meter, valid_from, valid_to FROM installation
             WHERE usage_point = $1 AND meter IS NOT NULL AND valid_from < $3 AND valid_to > $2 ORDER BY valid_from",
        )
        .bind(usage_point.as_str())
        .bind(after.0)
        .bind(to.0)
        .fetch_all(&self.inner.main_read)
        .await?;
        let mut periods: Vec<MeterPeriod> = Vec::with_capacity(rows.len());
        for row in &rows {
            let hung = MeterPeriod { meter: meter_id(row.get(0))?, after: time(row.get(1)), to: time(row.get(2)) };
            let Some(seen) = hung.within(after, to) else { continue };
            match periods.last_mut() {
                // A new version of the same installation: another phase, for instance.
                Some(last) if last.meter == seen.meter && last.to == seen.after => last.to = seen.to,
                _ => periods.push(seen),
            }
        }
        Ok(periods)
    }
}
