//! The seconds at which all meters of a zone were read: answers as they are stored, made into what `losses` localises from.

use std::collections::{BTreeMap, BTreeSet};

use grid::network::{BusKind, Network};
use losses::{
    explain::{InstantMember, MemberHistory, ZoneHistory, ZoneInstants},
    localise::{
        snapshot::{Snapshot, SnapshotReading, SnapshotSetting},
        trial,
    },
};
use metering::{MeterId, Timestamp, frame::Now};
use registry::{MemberId, PhaseConnection, Topology};
use store::{BasisInstant, Store, StoreError, StoredReply};

use super::round::{CLOCK_SECONDS_MAX, answer, earlier_instant_id, instant_id, is_enough};

/// Class 1 meters, with steps of 1 W; voltages to 0.1 % …
const METERS: trial::MeterClass =
    trial::MeterClass { gain_sd: 0.005, random_sd: 0.005, quantum_wh: 1.0, voltage_random_sd: 0.001 };
/// … and an observer of class 0.5 S.
const OBSERVER: trial::MeterClass =
    trial::MeterClass { gain_sd: 0.0025, random_sd: 0.001, quantum_wh: 1.0, voltage_random_sd: 0.0003 };
/// Phase voltage that voltages are referred to when no network says one; it cancels out.
const NOMINAL_VOLTS: f64 = 230.0;
/// Expected power of a meter without an answer and without history, and its standard deviation, W.
const UNKNOWN_W: (f64, f64) = (300.0, 500.0);

/// The usable answers of these meters to the asking for a second.
pub async fn heard(store: &Store, meters: &[MeterId], at: Timestamp) -> Result<BTreeMap<MeterId, Now>, StoreError> {
    let mut replies = store.replies(earlier_instant_id(at)).await?;
    replies.extend(store.replies(instant_id(at)).await?);
    let mut heard = BTreeMap::new();
    for meter in meters {
        let snapshots = store.snapshots(*meter, at.plus(-1), at.plus(CLOCK_SECONDS_MAX)).await?;
        let own: Vec<&StoredReply> = replies.iter().filter(|reply| reply.meter == *meter).collect();
        if let Some(now) = answer(at, &snapshots, &own) {
            heard.insert(*meter, now.clone());
        }
    }
    Ok(heard)
}

/// Reads what the meters of a zone said at these seconds, and who said nothing.
pub async fn read(
    store: &Store,
    topology: &Topology,
    history: &ZoneHistory,
    times: &[Timestamp],
) -> Result<(Option<ZoneInstants>, Vec<BasisInstant>), StoreError> {
    let asked: Vec<BasisInstant> = times.iter().map(|at| BasisInstant { at: *at, unheard: Vec::new() }).collect();
    let (read, heard) = gather(store, topology, history, &asked).await?;
    let meters: Vec<MeterId> = all_meters(history).collect();
    let unheard = |heard: &BTreeMap<MeterId, Now>| meters.iter().filter(|m| !heard.contains_key(m)).copied().collect();
    let kept = heard.iter().map(|(at, heard)| BasisInstant { at: *at, unheard: unheard(heard) }).collect();
    Ok((read, kept))
}

/// The same once more, from what was kept: answers that came later than that are left out.
pub async fn again(
    store: &Store,
    topology: &Topology,
    history: &ZoneHistory,
    kept: &[BasisInstant],
) -> Result<Option<ZoneInstants>, StoreError> {
    Ok(gather(store, topology, history, kept).await?.0)
}

fn all_meters(history: &ZoneHistory) -> impl Iterator<Item = MeterId> + '_ {
    std::iter::once(history.observer).chain(history.members.iter().map(|member| member.meter))
}

type Heard = Vec<(Timestamp, BTreeMap<MeterId, Now>)>;

async fn gather(
    store: &Store,
    topology: &Topology,
    history: &ZoneHistory,
    asked: &[BasisInstant],
) -> Result<(Option<ZoneInstants>, Heard), StoreError> {
    let meters: Vec<MeterId> = all_meters(history).collect();
    let mut all = Heard::new();
    for instant in asked {
        let mut heard = heard(store, &meters, instant.at).await?;
        let unheard: BTreeSet<MeterId> = instant.unheard.iter().copied().collect();
        heard.retain(|meter, _| !unheard.contains(meter));
        all.push((instant.at, heard));
    }
    let Some(last) = asked.last() else { return Ok((None, all)) };
    let network = store.network_at(history.zone.as_str(), last.at).await?;
    let place = Place::of(topology, history, network);
    let (mut times, mut snapshots) = (Vec::new(), Vec::new());
    for (at, heard) in &all {
        if let Some(snapshot) = place.snapshot(history, heard) {
            times.push(*at);
            snapshots.push(snapshot);
        }
    }
    let Place { numbers, setting, network, .. } = place;
    let members = history
        .members
        .iter()
        .zip(numbers)
        .map(|(member, number)| InstantMember { number, id: member.id, meter: member.meter })
        .collect();
    let read = (!times.is_empty()).then_some(ZoneInstants { times, snapshots, members, setting, network });
    Ok((read, all))
}

/// A zone's wires, as far as they are known.
struct Place {
    /// Ratio of the observer's transformers.
    observer_ratio: f64,
    /// What members without meter take, W.
    unmetered_w: f64,
    /// Number of each member in the snapshots.
    numbers: Vec<u32>,
    /// Whether each member is three-phase.
    three_phase: Vec<bool>,
    setting: SnapshotSetting,
    network: Option<Network>,
}

impl Place {
    /// A network bears the name of its zone, its slack bus is where the observer measures, and it says where every member hangs;
    /// otherwise it is not used.
    fn of(topology: &Topology, history: &ZoneHistory, network: Option<Network>) -> Self {
        let observer = topology.observer_of(history.zone);
        let placed = network.and_then(|network| {
            let numbers = load_numbers(&network, history)?;
            let slack = network.buses.iter().find(|bus| matches!(bus.kind, BusKind::Slack { .. }))?;
            let (bus, volts) = (slack.id, slack.vn_kv * 1_000.0 / 3.0_f64.sqrt());
            Some((network, numbers, bus, volts))
        });
        let (network, numbers, observer_bus, nominal_volts) = match placed {
            Some((network, numbers, bus, volts)) => (Some(network), numbers, bus, volts),
            None => (None, (1u32..).take(history.members.len()).collect(), 0, NOMINAL_VOLTS),
        };
        let phase = |member: &MemberHistory| {
            topology.usage_point_of(member.meter)?.installation.as_ref().map(|installation| installation.phase)
        };
        Self {
            observer_ratio: observer.map_or(1.0, |o| o.ct_ratio),
            unmetered_w: topology
                .members(history.zone)
                .filter(|member| member.installation.is_none())
                .filter_map(|member| member.unmetered)
                .map(|supply| f64::from(supply.watts))
                .sum(),
            three_phase: history
                .members
                .iter()
                .map(|m| matches!(m.id, MemberId::Zone(_)) || phase(m) == Some(PhaseConnection::Abc))
                .collect(),
            numbers,
            setting: SnapshotSetting { observer_bus, nominal_volts, class: METERS, observer_class: OBSERVER },
            network,
        }
    }

    /// One instant; `None` when the observer or too many members are missing.
    fn snapshot(&self, history: &ZoneHistory, heard: &BTreeMap<MeterId, Now>) -> Option<Snapshot> {
        let observer = heard.get(&history.observer)?;
        let meters: BTreeSet<MeterId> = all_meters(history).collect();
        if !is_enough(true, meters.iter().filter(|m| heard.contains_key(m)).count(), meters.len()) {
            return None;
        }
        let (mut unheard_w, mut unheard_variance) = (0.0, 0.0);
        let mut readings = Vec::new();
        for (place, member) in history.members.iter().enumerate() {
            match heard.get(&member.meter) {
                Some(now) => readings.push(self.reading(place, member.ct_ratio, now)),
                None => {
                    let (mean, sd) = usual(history, member);
                    unheard_w += mean;
                    unheard_variance += sd * sd;
                }
            }
        }
        Some(Snapshot {
            delivered_w: f64::from(observer.power_w?.0) * self.observer_ratio - unheard_w - self.unmetered_w,
            unheard_sd_w: unheard_variance.sqrt(),
            observer_pu: self.pu(observer),
            readings,
        })
    }

    fn pu(&self, now: &Now) -> f64 {
        now.voltage_mv.map_or(f64::NAN, |v| f64::from(v.0) / 1_000.0 / self.setting.nominal_volts)
    }

    fn reading(&self, place: usize, ratio: f64, now: &Now) -> SnapshotReading {
        let amperes = |ma: metering::Milliamps| f64::from(ma.0) / 1_000.0 * ratio;
        let phase = now.current_ma.map(amperes);
        // What is led around the phase's sensor returns through the neutral's. With three phases the neutral carries their difference only.
        let amperes = match self.three_phase[place] {
            true => phase.map(|phase| 3.0 * phase),
            false => phase.map(|phase| now.neutral_ma.map_or(phase, |neutral| phase.max(amperes(neutral)))),
        };
        SnapshotReading {
            usage_point: self.numbers[place],
            watts: f64::from(now.power_w.map_or(0, |w| w.0)) * ratio,
            voltage_pu: self.pu(now),
            amperes,
            vars: now.reactive_var.map_or(0.0, |v| f64::from(v.0)) * ratio,
            offset_pu: None,
        }
    }
}

/// The load of every member in the network; `None` when one has no place in it, or two share one.
fn load_numbers(network: &Network, history: &ZoneHistory) -> Option<Vec<u32>> {
    let numbers: Option<Vec<u32>> = history
        .members
        .iter()
        .map(|member| match member.id {
            MemberId::UsagePoint(point) => {
                network.usage_points.iter().rev().find(|p| p.usage_point == point.as_str()).and_then(|p| p.load)
            }
            MemberId::Zone(_) => None,
        })
        .collect();
    numbers.filter(|numbers| numbers.iter().collect::<BTreeSet<_>>().len() == numbers.len())
}

/// Mean power of a member in its history, and the standard deviation of its intervals, W.
fn usual(history: &ZoneHistory, member: &MemberHistory) -> (f64, f64) {
    let hours = f64::from(history.minutes) / 60.0;
    let powers: Vec<f64> = member.slots.iter().flatten().map(|flow| flow.net_wh(member.ct_ratio) / hours).collect();
    if powers.is_empty() {
        return UNKNOWN_W;
    }
    let count = powers.len() as f64;
    let mean = powers.iter().sum::<f64>() / count;
    let variance = powers.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}
