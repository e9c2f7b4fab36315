//! What each meter's connection can carry, from the network: the bound of what is a plausible reading.
//!
//! A meter behind current transformers counts secondary energy, so every bound is divided by their ratio. Of all versions of a
//! connection the largest bound holds: late readings are judged by it too. What no row says is bounded by the setting.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use metering::{MeterId, validation::PlausibilityLimits};
use sqlx::{Row, SqlitePool};

use crate::{directory::Store, error::StoreError, master::meter_id};

/// A connection, line or transformer that carries so many times its rating over a quarter-hour would not stand.
const OVERLOAD: u64 = 2;
/// Least bound of a rated connection, W: ratings are rounded, and contracts are smaller than fuses.
const RATED_W_LEAST: u64 = 20_000;
/// Least bound of an observer without a rating, W: consumers may not be registered yet.
const OBSERVER_W_LEAST: u64 = 1_000_000;
/// Bound of an observer without a rating and without any usage point below, W.
const OBSERVER_W_MAX: u64 = 50_000_000;

/// Largest plausible power by meter.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionLimits {
    /// Where the network says nothing, W.
    pub default_w: u64,
    by_meter: HashMap<MeterId, u64>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { default_w: PlausibilityLimits::default().power_w_max, by_meter: HashMap::new() }
    }
}

impl ConnectionLimits {
    /// The bound of a meter, W on the side that it counts.
    pub(crate) fn power_w_max(&self, meter: Option<MeterId>) -> u64 {
        meter.and_then(|meter| self.by_meter.get(&meter)).copied().unwrap_or(self.default_w)
    }

    fn allow(&mut self, meter: MeterId, primary_w: u64, ct_milli: u64) {
        let counted_w = u64::try_from(u128::from(primary_w) * 1_000 / u128::from(ct_milli.max(1))).unwrap_or(u64::MAX);
        let bound = self.by_meter.entry(meter).or_insert(0);
        *bound = (*bound).max(counted_w.max(1));
    }
}

/// What a rated connection carries at most, W.
fn rated_w(rating_w: u64) -> u64 {
    rating_w.saturating_mul(OVERLOAD).max(RATED_W_LEAST)
}

impl Store {
    /// Sets the largest plausible power of a connection about which the network says nothing, W.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_connection_power(&self, default_w: u64) -> Result<(), StoreError> {
        self.read_limits(default_w).await
    }

    /// Reads the bounds again: the network has changed.
    pub(crate) async fn refresh_limits(&self) -> Result<(), StoreError> {
        let default_w = self.inner.limits.read().unwrap_or_else(std::sync::PoisonError::into_inner).default_w;
        self.read_limits(default_w).await
    }

    async fn read_limits(&self, default_w: u64) -> Result<(), StoreError> {
        let limits = read(&self.inner.main_read, default_w).await?;
        *self.inner.limits.write().unwrap_or_else(std::sync::PoisonError::into_inner) = limits;
        Ok(())
    }
}

async fn read(main: &SqlitePool, default_w: u64) -> Result<ConnectionLimits, StoreError> {
    let mut limits = ConnectionLimits { default_w, ..ConnectionLimits::default() };
    let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
    let points =
        sqlx::query("SELECT usage_point, zone, meter, ct_milli, rating_w FROM installation").fetch_all(main).await?;
    // What may be drawn within each zone, W; each usage point once, with its largest bound.
    let mut within: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for row in &points {
        let (rating, ct_milli) = (row.get::<Option<i64>, _>(4).map(unsigned), unsigned(row.get(3)));
        let primary_w = rating.map_or_else(|| default_w.saturating_mul(ct_milli.max(1_000)) / 1_000, rated_w);
        let held = within.entry(row.get(1)).or_default().entry(row.get(0)).or_insert(0);
        *held = (*held).max(primary_w);
        if let (Some(meter), Some(_)) = (row.get::<Option<&str>, _>(2), rating) {
            limits.allow(meter_id(meter)?, primary_w, ct_milli);
        }
    }
    let zones = sqlx::query("SELECT zone, parent, meter, ct_milli, rating_w FROM zone_version").fetch_all(main).await?;
    let mut children: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in &zones {
        if let Some(parent) = row.get::<Option<String>, _>(1) {
            children.entry(parent).or_default().insert(row.get(0));
        }
    }
    for row in &zones {
        let Some(meter) = row.get::<Option<&str>, _>(2) else { continue };
        let primary_w = match row.get::<Option<i64>, _>(4) {
            Some(rating) => rated_w(unsigned(rating)),
            None => match drawn_below(row.get(0), &children, &within) {
                0 => OBSERVER_W_MAX,
                drawn => drawn.clamp(OBSERVER_W_LEAST, OBSERVER_W_MAX),
            },
        };
        limits.allow(meter_id(meter)?, primary_w, unsigned(row.get(3)));
    }
    Ok(limits)
}

/// What all usage points in a zone and in the zones within it may draw together, W.
fn drawn_below(
    zone: String,
    children: &BTreeMap<String, BTreeSet<String>>,
    within: &BTreeMap<String, BTreeMap<String, u64>>,
) -> u64 {
    let (mut sum, mut seen, mut open) = (0_u64, BTreeSet::new(), vec![zone]);
    while let Some(zone) = open.pop() {
        // Versions of different times may form a circle: each zone counts once.
        if !seen.insert(zone.clone()) {
            continue;
        }
        sum = within.get(&zone).into_iter().flat_map(BTreeMap::values).fold(sum, |sum, w| sum.saturating_add(*w));
        open.extend(children.get(&zone).into_iter().flatten().cloned());
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_drawn_below_counts_every_zone_once() {
        let name = str::to_owned;
        let children = BTreeMap::from([
            (name("F"), BTreeSet::from([name("T"), name("S")])),
            (name("T"), BTreeSet::from([name("F")])),
        ]);
        let points = |watts: &[u64]| watts.iter().enumerate().map(|(n, w)| (n.to_string(), *w)).collect();
        let within = BTreeMap::from([(name("T"), points(&[10, 20])), (name("S"), points(&[5]))]);
        assert_eq!(drawn_below(name("F"), &children, &within), 35);
        assert_eq!(drawn_below(name("S"), &children, &within), 5);
        assert_eq!(drawn_below(name("X"), &children, &within), 0);
    }

    #[test]
    fn a_bound_is_divided_by_the_ratio_and_the_largest_version_holds() {
        let meter = MeterId::new("M").expect("id");
        let mut limits = ConnectionLimits::default();
        assert_eq!(limits.power_w_max(Some(meter)), 86_400);
        limits.allow(meter, rated_w(100_000), 20_000);
        assert_eq!(limits.power_w_max(Some(meter)), 10_000);
        limits.allow(meter, rated_w(100_000), 1_000);
        assert_eq!(limits.power_w_max(Some(meter)), 200_000);
        limits.allow(meter, rated_w(3_000), 1_000);
        assert_eq!(limits.power_w_max(Some(meter)), 200_000);
    }
}
