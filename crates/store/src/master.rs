//! Meters and their secrets.

use metering::{MeterId, Timestamp, UsagePointId, ZoneId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::Row;

use crate::{
    audit,
    change::Change,
    directory::{Store, id_out, time},
    error::StoreError,
    sessions::random_bytes,
    topology,
};

/// Most meters enrolled in one call.
const ENROL_MAX: usize = 10_000;

/// A meter's new secret: shown once, stored only as a hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The meter; also its MQTT user name.
    pub meter: MeterId,
    /// 256 random bits; the MQTT password is their 64 hexadecimal digits.
    pub secret: [u8; 32],
}

impl std::fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrolment").field("meter", &self.meter).finish_non_exhaustive()
    }
}

/// A meter that was enrolled or is installed somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterRow {
    /// The meter.
    pub meter: MeterId,
    /// When its present secret was made; `None` when it cannot sign in.
    pub enrolled_at: Option<Timestamp>,
    /// The usage point it is installed at.
    pub usage_point: Option<UsagePointId>,
    /// The zone of that usage point, or the zone whose inflow it measures.
    pub zone: Option<ZoneId>,
    /// Whether it measures the inflow of that zone.
    pub is_observer: bool,
}

impl Store {
    /// Gives meters new secrets; a meter enrolled before loses its old one.
    ///
    /// # Errors
    /// When too many are named at once, or the database or the source of randomness fails.
    pub async fn enrol(&self, meters: &[MeterId], by: &str, now: Timestamp) -> Result<Vec<Enrolment>, StoreError> {
        if meters.len() > ENROL_MAX {
            return Err(StoreError::Invalid(format!("at most {ENROL_MAX} meters are enrolled at once: send fewer")));
        }
        let mut tx = self.inner.main.begin("meter.enrol").await?;
        let mut enrolments = Vec::with_capacity(meters.len());
        for &meter in meters {
            let secret = random_bytes()?;
            let hash: [u8; 32] = Sha256::digest(secret).into();
            let again: bool = sqlx::query_scalar("SELECT 1 FROM meter WHERE id = $1 AND secret_sha256 IS NOT NULL")
                .bind(meter.as_str())
                .fetch_optional(&mut *tx)
                .await?
                .is_some_and(|one: i64| one == 1);
            sqlx::query(
                "INSERT INTO meter (id, secret_sha256, enrolled_at, text_key) VALUES ($1,$2,$3,$4)
                 ON CONFLICT (id) DO UPDATE SET secret_sha256 = excluded.secret_sha256,
                    enrolled_at = excluded.enrolled_at, text_key = excluded.text_key",
            )
            .bind(meter.as_str())
            .bind(&hash[..])
            .bind(now.0)
            .bind(self.sealed_text_key(meter, &secret)?)
            .execute(&mut *tx)
            .await?;
            let action = if again { "meter.re_enrol" } else { "meter.enrol" };
            let entry = audit::Entry { by, action, subject: format!("meter:{meter}"), detail: String::new() };
            audit::record(&mut tx, now, entry).await?;
            enrolments.push(Enrolment { meter, secret });
        }
        tx.commit().await?;
        self.announce(Change::Enrolled);
        Ok(enrolments)
    }

    /// Takes a meter's secret away: it cannot sign in any more.
    ///
    /// # Errors
    /// When the meter is not enrolled.
    pub async fn withdraw(&self, meter: MeterId, by: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.inner.main.begin("meter.withdraw").await?;
        let done = sqlx::query(
            "UPDATE meter SET secret_sha256 = NULL, enrolled_at = NULL, text_key = NULL WHERE id = $1 AND secret_sha256 IS NOT NULL",
        )
        .bind(meter.as_str())
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::unknown("enrolled meter", meter));
        }
        let entry =
            audit::Entry { by, action: "meter.withdraw", subject: format!("meter:{meter}"), detail: String::new() };
        audit::record(&mut tx, now, entry).await?;
        tx.commit().await?;
        self.announce(Change::Enrolled);
        Ok(())
    }

    /// SHA-256 of the secret's 32 bytes, of every enrolled meter.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn credentials(&self) -> Result<Vec<(MeterId, [u8; 32])>, StoreError> {
        let rows = sqlx::query("SELECT id, secret_sha256 FROM meter WHERE secret_sha256 IS NOT NULL ORDER BY id")
            .fetch_all(&self.inner.main_read)
            .await?;
        rows.iter()
            .map(|row| {
                let hash = <[u8; 32]>::try_from(row.get::<&[u8], _>(1));
                Ok((meter_id(row.get(0))?, hash.map_err(|_| StoreError::damaged("the hash of a meter's secret"))?))
            })
            .collect()
    }

    /// Every meter that is enrolled, or installed at `at`, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn meters(&self, at: Timestamp) -> Result<Vec<MeterRow>, StoreError> {
        let topology = self.topology(at).await?;
        let rows =
            sqlx::query("SELECT id, enrolled_at FROM meter ORDER BY id").fetch_all(&self.inner.main_read).await?;
        let mut meters = std::collections::BTreeMap::new();
        let row = |meter| MeterRow { meter, enrolled_at: None, usage_point: None, zone: None, is_observer: false };
        for found in &rows {
            let meter = meter_id(found.get(0))?;
            let enrolled_at = found.get::<Option<i64>, _>(1).map(time);
            meters.insert(meter, MeterRow { enrolled_at, ..row(meter) });
        }
        for point in &topology.usage_points {
            if let Some(installed) = &point.installation {
                let entry = meters.entry(installed.meter).or_insert_with(|| row(installed.meter));
                (entry.usage_point, entry.zone) = (Some(point.usage_point), Some(point.zone));
            }
        }
        for zone in &topology.zones {
            if let Some(observer) = &zone.observer {
                let entry = meters.entry(observer.meter).or_insert_with(|| row(observer.meter));
                (entry.zone, entry.is_observer) = (Some(zone.zone), true);
            }
        }
        Ok(meters.into_values().collect())
    }

    /// The next counter for a control to a meter; each is given once. Controls made by the store already have theirs.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next_counter(&self, meter: MeterId) -> Result<u64, StoreError> {
        self.transaction("meter.counter", async |tx| next_counter(tx, meter).await).await
    }

    /// Sets or lifts the mark that a usage point must never be disconnected. Audited.
    ///
    /// # Errors
    /// When there is no such usage point.
    pub async fn set_never_disconnect(
        &self,
        usage_point: UsagePointId,
        never: bool,
        by: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.transaction("usage_point.never_disconnect", async |tx| {
            write_never_disconnect(tx, usage_point, never, by, now).await
        })
        .await?;
        self.announce(Change::Topology);
        Ok(())
    }
}

/// Sets or lifts the mark within a transaction, audited.
pub(crate) async fn write_never_disconnect(
    tx: &mut sqlx::SqliteConnection,
    usage_point: UsagePointId,
    never: bool,
    by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let done = sqlx::query("UPDATE usage_point SET never_disconnect = $2 WHERE id = $1")
        .bind(usage_point.as_str())
        .bind(i64::from(never))
        .execute(&mut *tx)
        .await?;
    if done.rows_affected() == 0 {
        return Err(StoreError::unknown("usage point", usage_point));
    }
    let detail = if never { "set" } else { "lifted" }.to_owned();
    let subject = format!("usage_point:{usage_point}");
    let entry = audit::Entry { by, action: "usage_point.never_disconnect", subject, detail };
    audit::record(tx, now, entry).await?;
    topology::bump_version(tx).await
}

/// The next counter of a meter, within a transaction.
pub(crate) async fn next_counter(tx: &mut sqlx::SqliteConnection, meter: MeterId) -> Result<u64, StoreError> {
    let counter: i64 = sqlx::query_scalar(
        "INSERT INTO meter (id, control_counter) VALUES ($1, 1)
         ON CONFLICT (id) DO UPDATE SET control_counter = meter.control_counter + 1 RETURNING control_counter",
    )
    .bind(meter.as_str())
    .fetch_one(tx)
    .await?;
    Ok(id_out(counter))
}

/// A meter's name out of a table.
pub(crate) fn meter_id(text: &str) -> Result<MeterId, StoreError> {
    MeterId::new(text).map_err(|e| StoreError::damaged(format!("a meter's name: {e}")))
}
