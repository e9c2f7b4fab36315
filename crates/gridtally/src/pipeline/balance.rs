//! Zone × slot ▶ energy balance, and the zone's monitor that learns its technical loss and raises its alarm.
//!
//! Energies are differences of registers at the two ends of the slot. A balance that had to estimate a meter is computed again
//! every hour for two days, as late readings come in; alarms already decided stay.

use std::collections::BTreeMap;

use losses::{
    alarm::{AlarmConfig, AlarmState},
    balance::{
        EnergyBalance, Flow, MemberId, MemberSlot, MeterClass, MeterSlot, ZoneConfig, ZoneMonitor, ZoneSlot,
        ZoneVerdict,
    },
};
use metering::{MeterId, Quality, Timestamp, ZoneId, reading::energy_between};
use store::{Installation, Store, StoreError, StoredRecord, Topology, TopologyZone, ZoneKind};

use super::SLOT;

/// Prefix of the monitors among the pipeline's documents.
const MONITOR: &str = "monitor/";
/// How far back incomplete balances are computed again, seconds.
const RECOMPUTE_SECONDS: i64 = 48 * 3_600;
/// How often, seconds.
const RECOMPUTE_EVERY_SECONDS: i64 = 3_600;
/// A balance below this coverage is incomplete.
const COMPLETE: f64 = 0.999_999;

/// What a slot gave.
pub struct SlotResults {
    /// New balances, and earlier ones computed again.
    pub balances: Vec<(ZoneId, EnergyBalance)>,
    /// What each zone's monitor said.
    pub verdicts: Vec<ZoneVerdict>,
}

/// The monitors of all zones.
pub struct Balancer {
    monitors: BTreeMap<ZoneId, ZoneMonitor>,
    alarms: AlarmConfig,
}

impl Balancer {
    /// Monitors as stored.
    pub fn resume(blobs: &BTreeMap<String, Vec<u8>>, false_alarms_per_zone_month: f64) -> Result<Self, StoreError> {
        let mut monitors = BTreeMap::new();
        for (key, bytes) in blobs.range(MONITOR.to_owned()..).take_while(|(key, _)| key.starts_with(MONITOR)) {
            let name = key.trim_start_matches(MONITOR);
            let zone =
                ZoneId::new(name).map_err(|e| StoreError::Damaged(format!("the monitor of zone {name:?}: {e}")))?;
            monitors.insert(zone, serde_json::from_slice(bytes)?);
        }
        let alarms = AlarmConfig { false_alarms_per_zone_month };
        monitors.values_mut().for_each(|monitor: &mut ZoneMonitor| monitor.set_alarm(alarms));
        Ok(Self { monitors, alarms })
    }

    /// Balances a slot in every zone that has an observer.
    pub async fn slot(
        &mut self,
        store: &Store,
        topology: &Topology,
        end: Timestamp,
    ) -> Result<SlotResults, StoreError> {
        let flows = flows(store, topology, end).await?;
        let mut results = SlotResults { balances: Vec::new(), verdicts: Vec::new() };
        for zone in topology.zones.iter().filter(|zone| zone.observer.is_some()) {
            let input = zone_slot(topology, zone, &flows, end);
            let verdict = self.monitor(topology, zone).observe(&input);
            results.balances.push((zone.zone, verdict.balance));
            results.verdicts.push(verdict);
        }
        if end.0 % RECOMPUTE_EVERY_SECONDS == 0 {
            self.recompute(store, topology, end, &mut results).await?;
        }
        Ok(results)
    }

    fn monitor(&mut self, topology: &Topology, zone: &TopologyZone) -> &mut ZoneMonitor {
        let alarms = self.alarms;
        self.monitors.entry(zone.zone).or_insert_with(|| ZoneMonitor::new(zone_config(topology, zone, alarms)))
    }

    async fn recompute(
        &mut self,
        store: &Store,
        topology: &Topology,
        end: Timestamp,
        results: &mut SlotResults,
    ) -> Result<(), StoreError> {
        let since = end.plus(-RECOMPUTE_SECONDS);
        let mut wanted: BTreeMap<Timestamp, Vec<(&TopologyZone, EnergyBalance)>> = BTreeMap::new();
        for zone in topology.zones.iter().filter(|zone| zone.observer.is_some()) {
            let stored = store.balances(zone.zone, since, end.plus(-SLOT.seconds())).await?;
            for balance in stored.into_iter().filter(|balance| balance.coverage < COMPLETE) {
                wanted.entry(balance.end).or_default().push((zone, balance));
            }
        }
        for (slot, zones) in wanted {
            let flows = flows(store, topology, slot).await?;
            for (zone, before) in zones {
                let input = zone_slot(topology, zone, &flows, slot);
                let again = self.monitor(topology, zone).revise(&input);
                if again.coverage > before.coverage {
                    results.balances.push((zone.zone, again));
                }
            }
        }
        Ok(())
    }

    /// The budget of the alarms.
    pub fn alarms(&self) -> AlarmConfig {
        self.alarms
    }

    /// The monitors as documents.
    pub fn documents(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.monitors
            .iter()
            .map(|(zone, monitor)| Ok((format!("{MONITOR}{zone}"), serde_json::to_vec(monitor)?)))
            .collect()
    }

    /// Zones whose alarm stands.
    pub fn raised(&self) -> Vec<ZoneId> {
        self.monitors
            .iter()
            .filter(|(_, monitor)| matches!(monitor.alarm(), AlarmState::Raised { .. }))
            .map(|(zone, _)| *zone)
            .collect()
    }
}

/// What a zone's monitor starts with.
pub fn zone_config(topology: &Topology, zone: &TopologyZone, alarms: AlarmConfig) -> ZoneConfig {
    let children = topology.zones.iter().filter(|child| child.parent == Some(zone.zone)).count();
    let below = |point: ZoneId| topology.feeder_of(point) == Some(zone.zone) || point == zone.zone;
    let usage_points = topology.usage_points.iter().filter(|point| below(point.zone)).count();
    match zone.kind {
        ZoneKind::Feeder if children > 0 => ZoneConfig::feeder(zone.zone, children, usage_points, alarms),
        _ => ZoneConfig::usage_points(zone.zone, usage_points, alarms),
    }
}

/// What every meter of the topology counted in the slot that ends at `end`; absent when either register is.
async fn flows(store: &Store, topology: &Topology, end: Timestamp) -> Result<BTreeMap<MeterId, Flow>, StoreError> {
    let observers = topology.zones.iter().filter_map(|zone| zone.observer.as_ref());
    let homes = topology.usage_points.iter().filter_map(|point| point.installation.as_ref());
    let meters: Vec<MeterId> = observers.chain(homes).map(|installation| installation.meter).collect();
    let begin = end.plus(-SLOT.seconds());
    let rows = store.profiles(&meters, begin.plus(-1), end).await?;
    Ok(meters.into_iter().zip(rows).filter_map(|(meter, records)| Some((meter, flow(&records, begin, end)?))).collect())
}

/// Energy between two registers, when both are there and trusted.
pub fn flow(records: &[StoredRecord], begin: Timestamp, end: Timestamp) -> Option<Flow> {
    let trusted = |at: Timestamp| {
        records
            .iter()
            .find(|r| r.record.end == at && !matches!(r.quality, Quality::Suspect | Quality::Missing))
            .map(|r| &r.record)
    };
    let (first, last) = (trusted(begin)?, trusted(end)?);
    Some(Flow {
        import_wh: energy_between(first.import_wh, last.import_wh)?,
        export_wh: energy_between(first.export_wh, last.export_wh)?,
    })
}

fn zone_slot(topology: &Topology, zone: &TopologyZone, flows: &BTreeMap<MeterId, Flow>, end: Timestamp) -> ZoneSlot {
    let meter = |installation: Option<&Installation>, class| MeterSlot {
        flow: installation.and_then(|i| flows.get(&i.meter)).copied(),
        ct_ratio: installation.map_or(1.0, |i| i.ct_ratio),
        class,
    };
    let children = topology.zones.iter().filter(|child| child.parent == Some(zone.zone) && child.observer.is_some());
    let points =
        topology.usage_points.iter().filter(|point| innermost_observed(topology, point.zone) == Some(zone.zone));
    let members = children
        .map(|child| MemberSlot {
            id: MemberId::Zone(child.zone),
            meter: meter(child.observer.as_ref(), MeterClass::Class05S),
        })
        .chain(points.filter(|point| point.installation.is_some()).map(|point| MemberSlot {
            id: MemberId::UsagePoint(point.usage_point),
            meter: meter(point.installation.as_ref(), MeterClass::Class1),
        }))
        .collect();
    ZoneSlot {
        zone: zone.zone,
        end,
        minutes: SLOT.minutes(),
        observer: meter(zone.observer.as_ref(), MeterClass::Class05S),
        members,
    }
}

/// The nearest zone at or above `zone` that has an observer: usage points of an unobserved branch belong to it.
pub fn innermost_observed(topology: &Topology, zone: ZoneId) -> Option<ZoneId> {
    let mut at = topology.zone(zone);
    for _ in 0..topology.zones.len() {
        let here = at?;
        if here.observer.is_some() {
            return Some(here.zone);
        }
        at = topology.zone(here.parent?);
    }
    None
}
