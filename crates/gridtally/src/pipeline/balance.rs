//! Zone × slot ▶ energy balance, and the zone's monitor that learns its technical loss and raises its alarm.
//!
//! Energies are differences of registers at the two ends of the slot. A balance that had to estimate a meter is computed again
//! every hour for two days, as late readings come in, and later when readings come for its day ([`super::late`]); alarms already decided
//! stay.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use losses::{
    alarm::{AlarmConfig, AlarmState},
    balance::{EnergyBalance, MemberSlot, MeterSlot, ZoneConfig, ZoneMonitor, ZoneSlot, ZoneVerdict},
    findings::{Finding, implausible_loss},
};
use metering::{EventKind, MeterId, RecordFlags, Timestamp, ZoneId};
use registry::{Flow, Installation, Member, MeterClass, Topology, TopologyZone, ZoneKind};
use store::{EventFilter, Store, StoreError, StoredRecord, flow};

use super::SLOT;

/// Prefix of the monitors among the pipeline's documents.
const MONITOR: &str = "monitor/";
/// How far back incomplete balances are computed again, seconds.
const RECOMPUTE_SECONDS: i64 = 48 * 3_600;
/// How often, seconds.
const RECOMPUTE_EVERY_SECONDS: i64 = 3_600;
const DAY_SECONDS: i64 = 86_400;
/// A balance below this coverage is incomplete.
const COMPLETE: f64 = 0.999_999;

/// What a slot gave.
pub struct SlotResults {
    /// New balances, and earlier ones computed again.
    pub balances: Vec<(ZoneId, EnergyBalance)>,
    /// What each zone's monitor said.
    pub verdicts: Vec<ZoneVerdict>,
    /// Zones whose technical loss over the day that ended is none.
    pub findings: Vec<Finding>,
}

/// The monitors of all zones. A copy shares those that it does not change.
#[derive(Clone)]
pub struct Balancer {
    monitors: BTreeMap<ZoneId, Arc<ZoneMonitor>>,
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
            let mut monitor: ZoneMonitor = serde_json::from_slice(bytes)
                .map_err(|e| StoreError::Damaged(format!("the monitor of zone {zone} does not parse ({e})")))?;
            monitor.set_alarm(AlarmConfig { false_alarms_per_zone_month });
            monitors.insert(zone, Arc::new(monitor));
        }
        let alarms = AlarmConfig { false_alarms_per_zone_month };
        Ok(Self { monitors, alarms })
    }

    /// Balances a slot in every zone that has an observer.
    pub async fn slot(
        &mut self,
        store: &Store,
        topology: &Topology,
        end: Timestamp,
    ) -> Result<SlotResults, StoreError> {
        let counted = counted(store, topology, end).await?;
        let mut results = SlotResults { balances: Vec::new(), verdicts: Vec::new(), findings: Vec::new() };
        for zone in topology.observed_zones() {
            let input = zone_slot(topology, zone, &counted, end);
            let verdict = self.monitor(topology, zone).observe(&input);
            results.balances.push((zone.zone, verdict.balance));
            results.verdicts.push(verdict);
        }
        if end.0 % RECOMPUTE_EVERY_SECONDS == 0 {
            self.recompute(store, topology, end, &mut results).await?;
        }
        if end.second_of_day() == 0 {
            results.findings = implausible_losses(store, topology, end).await?;
        }
        Ok(results)
    }

    fn monitor(&mut self, topology: &Topology, zone: &TopologyZone) -> &mut ZoneMonitor {
        let alarms = self.alarms;
        let new = || Arc::new(ZoneMonitor::new(zone_config(topology, zone, alarms)));
        Arc::make_mut(self.monitors.entry(zone.zone).or_insert_with(new))
    }

    /// Forgets that time went beyond `to`: the clock was wrong.
    pub fn take_back(&mut self, to: Timestamp) {
        self.monitors.values_mut().for_each(|monitor| Arc::make_mut(monitor).take_back(to));
    }

    async fn recompute(
        &self,
        store: &Store,
        topology: &Topology,
        end: Timestamp,
        results: &mut SlotResults,
    ) -> Result<(), StoreError> {
        let since = end.plus(-RECOMPUTE_SECONDS);
        let proved_wrong = proved_wrong(store, since, end).await?;
        let mut wanted: BTreeMap<Timestamp, Vec<EnergyBalance>> = BTreeMap::new();
        for zone in topology.observed_zones() {
            let stored = store.balances(zone.zone, since, end.plus(-SLOT.seconds())).await?;
            let is_wanted = |b: &EnergyBalance| !is_complete(b) || proved_wrong.contains(&(zone.zone, b.end));
            for balance in stored.into_iter().filter(is_wanted) {
                wanted.entry(balance.end).or_default().push(balance);
            }
        }
        for (slot, balances) in wanted {
            for (before, again) in self.computed_again(store, slot, balances).await? {
                let was_wrong = proved_wrong.contains(&(again.zone, slot)) && again != before;
                if again.coverage > before.coverage || was_wrong {
                    results.balances.push((again.zone, again));
                }
            }
        }
        Ok(())
    }

    /// Balances of one slot as they are stored, each with what its readings make of it now.
    pub async fn computed_again(
        &self,
        store: &Store,
        slot: Timestamp,
        balances: Vec<EnergyBalance>,
    ) -> Result<Vec<(EnergyBalance, EnergyBalance)>, StoreError> {
        let topology = store.topology(valid_in(slot)).await?;
        let zones = balances.iter().filter_map(|before| topology.zone(before.zone));
        let observers = zones.clone().filter_map(|zone| zone.observer.as_ref());
        let members = zones.flat_map(|zone| topology.members(zone.zone)).filter_map(|member| member.installation);
        let meters = observers.chain(members).map(|installation| installation.meter).collect();
        let counted = counted_by(store, meters, slot).await?;
        let mut again = Vec::with_capacity(balances.len());
        for before in balances {
            let Some(zone) = topology.zone(before.zone).filter(|zone| zone.observer.is_some()) else { continue };
            let input = zone_slot(&topology, zone, &counted, slot);
            let now = match self.monitors.get(&zone.zone) {
                Some(monitor) => monitor.revise(&input),
                None => ZoneMonitor::new(zone_config(&topology, zone, self.alarms)).revise(&input),
            };
            again.push((before, now));
        }
        Ok(again)
    }

    /// The budget of the alarms.
    pub fn alarms(&self) -> AlarmConfig {
        self.alarms
    }

    /// The monitors as documents.
    pub fn documents(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.monitors
            .iter()
            .map(|(zone, monitor)| Ok((format!("{MONITOR}{zone}"), serde_json::to_vec(&**monitor)?)))
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

/// Zones and slots whose balance rests on a reading that later ones proved wrong.
async fn proved_wrong(
    store: &Store,
    since: Timestamp,
    end: Timestamp,
) -> Result<BTreeSet<(ZoneId, Timestamp)>, StoreError> {
    let kinds = vec![EventKind::WrongReading];
    let filter = EventFilter { after: Some(since), to: Some(end), kinds, ..EventFilter::default() };
    let mut found = BTreeSet::new();
    for stored in store.events(filter).await? {
        let slot = stored.event.at.plus(SLOT.seconds() - 1).floor_to(SLOT.seconds());
        let topology = store.topology(valid_in(slot)).await?;
        found.extend(balanced_with(&topology, stored.meter).map(|zone| (zone, slot)));
    }
    Ok(found)
}

/// Whether nothing of a balance was estimated.
pub fn is_complete(balance: &EnergyBalance) -> bool {
    balance.coverage >= COMPLETE
}

/// Zones whose balance a meter is part of: the one that it observes, and the one of which that, or the home, is a member.
pub fn balanced_with(topology: &Topology, meter: MeterId) -> impl Iterator<Item = ZoneId> + use<> {
    let observed = topology.observed_by(meter).map(|zone| zone.zone);
    let above = observed.and_then(|zone| topology.observed_above(zone));
    let around = topology.usage_point_of(meter).and_then(|point| topology.observed_zone_of(point.usage_point));
    [observed, above, around].into_iter().flatten()
}

/// Zones that are said to lose more than any network does, over the day that ends at `end`.
async fn implausible_losses(store: &Store, topology: &Topology, end: Timestamp) -> Result<Vec<Finding>, StoreError> {
    let mut found = Vec::new();
    for zone in topology.observed_zones() {
        let day = store.balances(zone.zone, end.plus(-DAY_SECONDS), end).await?;
        found.extend(implausible_loss(&day));
    }
    Ok(found)
}

/// The instant whose network a slot is balanced with: its begin. What begins or ends within it is balanced from the next slot on.
pub fn valid_in(slot_end: Timestamp) -> Timestamp {
    slot_end.plus(-SLOT.seconds())
}

/// What a zone's monitor starts with.
pub fn zone_config(topology: &Topology, zone: &TopologyZone, alarms: AlarmConfig) -> ZoneConfig {
    let (zones, usage_points) = topology.member_counts(zone.zone);
    match zone.kind {
        ZoneKind::Feeder if zones > 0 => ZoneConfig::feeder(zone.zone, zones, topology.points_below(zone.zone), alarms),
        _ => ZoneConfig::usage_points(zone.zone, usage_points, alarms),
    }
}

/// What meters counted in one slot, and what they say about it.
type Counted = HashMap<MeterId, (Flow, RecordFlags)>;

/// What every meter of the topology counted in the slot that ends at `end`; absent when either register is.
async fn counted(store: &Store, topology: &Topology, end: Timestamp) -> Result<Counted, StoreError> {
    let observers = topology.zones.iter().filter_map(|zone| zone.observer.as_ref());
    let homes = topology.usage_points.iter().filter_map(|point| point.installation.as_ref());
    counted_by(store, observers.chain(homes).map(|installation| installation.meter).collect(), end).await
}

/// The same of some meters.
async fn counted_by(store: &Store, meters: Vec<MeterId>, end: Timestamp) -> Result<Counted, StoreError> {
    let begin = end.plus(-SLOT.seconds());
    let rows = store.profiles(&meters, begin.plus(-1), end).await?;
    let said = |records: &[StoredRecord]| {
        let within = records.iter().filter(|r| r.record.end > begin && r.record.end <= end);
        within.fold(RecordFlags::default(), |flags, r| flags.with(r.record.flags))
    };
    let one =
        |(meter, records): (MeterId, Vec<StoredRecord>)| Some((meter, (flow(&records, begin, end)?, said(&records))));
    Ok(meters.into_iter().zip(rows).filter_map(one).collect())
}

fn zone_slot(topology: &Topology, zone: &TopologyZone, counted: &Counted, end: Timestamp) -> ZoneSlot {
    let begin = end.plus(-SLOT.seconds());
    let meter = |installation: Option<&Installation>, class: MeterClass| {
        let counted = installation.filter(|i| i.covers(begin, end)).and_then(|i| counted.get(&i.meter));
        MeterSlot {
            flow: counted.map(|(flow, _)| *flow),
            ct_ratio: installation.map_or(1.0, |i| i.ct_ratio),
            class: counted.map_or(class, |(_, flags)| class.under(*flags)),
        }
    };
    let member = |member: Member<'_>| MemberSlot {
        id: member.id,
        meter: match member.declared(begin, end) {
            // A declared power is as sure as a meter without calibration.
            Some(flow) => MeterSlot { flow: Some(flow), ct_ratio: 1.0, class: MeterClass::Uncalibrated },
            None => meter(member.installation, member.class()),
        },
    };
    let observer = zone.observer.as_ref();
    ZoneSlot {
        zone: zone.zone,
        end,
        minutes: SLOT.minutes(),
        observer: meter(observer, observer.and_then(|o| o.class).unwrap_or(MeterClass::OBSERVER)),
        members: topology.members(zone.zone).map(member).collect(),
    }
}

#[cfg(test)]
mod tests {
    use metering::{Frame, ProfileRecord, WattHours, frame::Body, frame::Profile};
    use store::{Incoming, OpenOptions, SlotCommit};

    use super::*;

    const T0: Timestamp = Timestamp(1_767_225_600);

    fn record(slot: i64, import_wh: u64, flags: RecordFlags) -> ProfileRecord {
        ProfileRecord {
            end: T0.plus(slot * SLOT.seconds()),
            flags,
            import_wh: WattHours(import_wh),
            export_wh: WattHours(0),
            voltage_mv: None,
            current_ma: None,
            extra: vec![],
            masked: None,
        }
    }

    async fn send(store: &Store, meter: &str, slot: i64, import_wh: u64, flags: RecordFlags) {
        let meter = MeterId::new(meter).expect("id");
        let body = Body::Profile(Profile { minutes: 15, records: vec![record(slot, import_wh, flags)] });
        let frame = Frame::new(meter, 1, slot.unsigned_abs(), body);
        let received = T0.plus(slot * SLOT.seconds());
        let incoming = Incoming { payload: frame.to_cbor().into(), frame, received };
        store.ingest(vec![incoming]).await.expect("stored");
    }

    /// Two homes that take 200 Wh a slot behind an observer; the first reads `wrong` Wh more in slot 20, and says `flags`.
    async fn run(wrong: u64, flags: RecordFlags) -> Vec<EnergyBalance> {
        let dir = tempfile::tempdir().expect("directory");
        let store = Store::open(dir.path(), OpenOptions { create: true, simulation: false }).await.expect("opens");
        let csv = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\n\
                   F,,,,,,,2025-01-01\nT,F,O,,,1,,2025-01-01\nT,,,U1,M1,1,A,2025-01-01\nT,,,U2,M2,1,A,2025-01-01\n";
        store.import_topology(csv, "test", T0).await.expect("imported");
        let topology = store.topology(T0).await.expect("read");
        let mut balancer = Balancer::resume(&BTreeMap::new(), 0.01).expect("empty");
        for slot in 0..=24_i64 {
            let n = slot.unsigned_abs();
            send(&store, "O", slot, 50_000 + 408 * n, RecordFlags::default()).await;
            send(&store, "M1", slot, 10_000 + 200 * n + if slot == 20 { wrong } else { 0 }, flags).await;
            send(&store, "M2", slot, 10_000 + 200 * n, RecordFlags::default()).await;
            if slot == 0 {
                continue;
            }
            let end = T0.plus(slot * SLOT.seconds());
            let results = balancer.slot(&store, &topology, end).await.expect("balanced");
            let commit =
                SlotCommit { at: end, position: Some(end), balances: results.balances, ..SlotCommit::default() };
            store.commit_slot(commit).await.expect("stored");
        }
        let zone = ZoneId::new("T").expect("id");
        store.balances(zone, T0, T0.plus(86_400)).await.expect("read")
    }

    #[tokio::test]
    async fn a_slot_that_rested_on_a_wrong_reading_is_computed_again() {
        let balances = run(15_000, RecordFlags::default()).await;
        assert_eq!(balances.len(), 24);
        let metered: f64 = balances.iter().map(|b| b.metered_wh).sum();
        assert!((metered - 9_600.0).abs() < 1_000.0, "{metered} Wh instead of 9,600");
        for balance in &balances {
            assert!(balance.technical_wh <= balance.supplied_wh && balance.metered_wh < 1_200.0, "{balance:?}");
        }
        assert!(balances[19].coverage < 1.0, "the slot of the wrong reading is estimated: {:?}", balances[19]);
        assert!(balances[22].coverage > 0.999, "what was freed is measured: {:?}", balances[22]);
    }

    #[tokio::test]
    async fn what_a_meter_says_about_itself_widens_the_balance() {
        let plain = run(0, RecordFlags::default()).await;
        let wide = run(0, RecordFlags::UNCALIBRATED).await;
        let (plain, wide) = (plain[23], wide[23]);
        assert_eq!(plain.metered_wh, wide.metered_wh);
        // Gains of 5 % in place of class 1's 0.5 %, of 200 Wh, in quadrature; the part that all meters share takes a little off.
        let expected = (10.0_f64.powi(2) - 1.0_f64.powi(2)).sqrt();
        let added = (wide.sigma_systematic_wh.powi(2) - plain.sigma_systematic_wh.powi(2)).sqrt();
        assert!((added / expected - 1.0).abs() < 0.05, "{added} {expected} {wide:?} {plain:?}");
        let partial = run(0, RecordFlags::INCOMPLETE).await[23];
        assert!(partial.sigma_random_wh > plain.sigma_random_wh, "{partial:?} {plain:?}");
    }
}
