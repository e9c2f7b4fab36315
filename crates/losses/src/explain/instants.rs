//! What is added to an explanation when all meters of the zone were read at the same seconds: how much was missing then, whose current
//! says more than is counted, and, with a network model, where the voltages put the missing power. For and against.
//!
//! A usage point whose current is not counted may be named by it, if nobody is named yet: alone, at two instants at least, and for about as much as
//! was missing. A current that two homes share (a common neutral) looks alike; therefore a finding or a visit comes before an accusation.

use grid::network::Network;
use metering::{MeterId, Timestamp, UsagePointId};

use super::{Explanation, Localisation, Suspect, ZoneHistory};
use crate::{
    balance::MemberId,
    case::CaseKind,
    evidence::{Direction, Evidence, EvidenceKind, ReadingRange},
    localise::snapshot::{
        Snapshot, SnapshotSetting, SnapshotSuspect, SnapshotVerdict, localise_snapshots, right_counters,
    },
};

/// Weight of a current that is not counted, at one instant and at several, nats. Judgement: one honest installation in some hundreds has a
/// shared neutral or a wiring fault, and about one theft in three is done so that the meter's own current shows it.
const UNCOUNTED_ONCE: f64 = 3.0;
const UNCOUNTED_AGAIN: f64 = 5.0;
/// Weight of a current that is counted, nats: that theft leaves two in three unseen this way, ln(1 / 0.65).
const COUNTED: f64 = 0.43;
/// Most that an instant's missing power, and that the voltages, may weigh, nats.
const MISSING_MAX: f64 = 8.0;
const VOLTAGE_MAX: f64 = 4.0;
/// Weight of nothing missing at any instant, nats: a theft by night only looks alike.
const NOTHING_MISSING: f64 = 1.0;
/// Instants at which it must show before it names.
const NAMING_INSTANTS: usize = 2;
/// Share of the missing power that it must explain, between these, before it names.
const NAMING_SHARE: (f64, f64) = (0.5, 2.0);
/// Evidence names the readings this long around the instants, seconds.
const AROUND_SECONDS: i64 = 900;
/// Most suspects of an explanation.
const SUSPECTS_MAX: usize = 10;

/// Who stands behind a number in a [`Snapshot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstantMember {
    /// The number.
    pub number: u32,
    /// The member.
    pub id: MemberId,
    /// Its meter.
    pub meter: MeterId,
}

/// All meters of a zone, read at the same seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneInstants {
    /// When.
    pub times: Vec<Timestamp>,
    /// What was read, one for each time.
    pub snapshots: Vec<Snapshot>,
    /// Who is who in them.
    pub members: Vec<InstantMember>,
    /// What is known of the meters.
    pub setting: SnapshotSetting,
    /// The zone's network model, its slack bus where the observer measures; `None`: currents only.
    pub network: Option<Network>,
}

impl ZoneInstants {
    fn usage_point(&self, number: u32) -> Option<(UsagePointId, MeterId)> {
        let member = self.members.iter().find(|member| member.number == number)?;
        match member.id {
            MemberId::UsagePoint(point) => Some((point, member.meter)),
            MemberId::Zone(_) => None,
        }
    }

    fn readings(&self, meter: MeterId) -> Vec<ReadingRange> {
        let (Some(first), Some(last)) = (self.times.first(), self.times.last()) else { return Vec::new() };
        vec![ReadingRange { meter, from: first.plus(-AROUND_SECONDS), to: last.plus(AROUND_SECONDS) }]
    }
}

/// Adds what the instants say; instants of which nothing can be computed add nothing. A network that does not fit is said, and not used.
pub(super) fn take_in(explanation: &mut Explanation, history: &ZoneHistory, read: &ZoneInstants) {
    let (verdict, misfit) = match localise_snapshots(read.network.as_ref(), &read.setting, &read.snapshots) {
        Ok(verdict) => (Ok(verdict), None),
        Err(why) => (localise_snapshots(None, &read.setting, &read.snapshots), Some(why.to_string())),
    };
    let Ok(verdict) = verdict else { return };
    explanation.zone_evidence.push(missing_at_instants(history, read, &verdict, misfit.as_deref()));
    for found in &verdict.count_wrongly {
        if let Some((usage_point, meter)) = read.usage_point(found.usage_point) {
            let piece = uncounted(history, read, found, meter);
            suspect(explanation, history, usage_point, meter, found.watts).add(piece);
        }
    }
    counted(explanation, history, read);
    if verdict.alarm {
        voltages(explanation, history, read, &verdict);
    }
    name(explanation, read, &verdict);
    let named = explanation.named_usage_point();
    explanation.suspects.sort_by(|a, b| {
        (named == Some(b.usage_point)).cmp(&(named == Some(a.usage_point))).then(b.weight.total_cmp(&a.weight))
    });
    explanation.suspects.truncate(SUSPECTS_MAX);
}

impl Suspect {
    fn add(&mut self, piece: Evidence) {
        self.weight += piece.signed_weight();
        self.evidence.push(piece);
        self.evidence.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    }
}

/// The suspect of a usage point, a new one when there was nothing about it yet.
fn suspect<'a>(
    explanation: &'a mut Explanation,
    history: &ZoneHistory,
    usage_point: UsagePointId,
    meter: MeterId,
    watts: f64,
) -> &'a mut Suspect {
    let known = explanation.suspects.iter().position(|s| s.usage_point == usage_point);
    let place = known.unwrap_or_else(|| {
        let after = history.balances.iter().filter(|b| b.end > history.onset);
        let hours: f64 = after.map(|b| f64::from(b.minutes) / 60.0).sum();
        explanation.suspects.push(Suspect {
            usage_point,
            meter,
            kind: CaseKind::SuspectedTheft,
            named: false,
            weight: 0.0,
            estimated_wh: (watts * hours).min(explanation.missing_wh.max(0.0)),
            evidence: Vec::new(),
        });
        explanation.suspects.len() - 1
    });
    &mut explanation.suspects[place]
}

/// `misfit`: why the stored network could not be used.
fn missing_at_instants(
    history: &ZoneHistory,
    read: &ZoneInstants,
    verdict: &SnapshotVerdict,
    misfit: Option<&str>,
) -> Evidence {
    let pairs = || verdict.missing_w.iter().zip(&verdict.missing_sd_w);
    let z = pairs().map(|(missing, sd)| missing / sd.max(1.0)).fold(f64::NEG_INFINITY, f64::max);
    let each: Vec<String> =
        read.times.iter().zip(pairs()).map(|(at, (missing, sd))| format!("{missing:.0} ± {sd:.0} W at {at}")).collect();
    let without = misfit.map_or(String::new(), |why| format!("; voltages not used: {why}"));
    let (direction, weight, what) = match z >= 1.0 {
        true => {
            (Direction::For, (z * z / 2.0).min(MISSING_MAX), "missing where all meters were read at the same second")
        }
        false => {
            (Direction::Against, NOTHING_MISSING, "nothing is missing where all meters were read at the same second")
        }
    };
    Evidence::new(
        EvidenceKind::MissingAtInstants,
        direction,
        weight,
        format!("{what}: {}{without}", each.join(", ")),
        history.zone,
        read.readings(history.observer),
    )
}

fn uncounted(history: &ZoneHistory, read: &ZoneInstants, found: &SnapshotSuspect, meter: MeterId) -> Evidence {
    let weight = if found.instants >= NAMING_INSTANTS { UNCOUNTED_AGAIN } else { UNCOUNTED_ONCE };
    Evidence::new(
        EvidenceKind::CurrentUncounted,
        Direction::For,
        weight,
        found.reason.clone(),
        history.zone,
        read.readings(meter),
    )
}

/// Against those whose current was large enough to be compared and is counted.
fn counted(explanation: &mut Explanation, history: &ZoneHistory, read: &ZoneInstants) {
    for number in right_counters(&read.setting, &read.snapshots) {
        let Some((usage_point, meter)) = read.usage_point(number) else { continue };
        let Some(suspect) = explanation.suspects.iter_mut().find(|s| s.usage_point == usage_point) else { continue };
        let words = "it counts what its current and voltage say".to_owned();
        let (kind, readings) = (EvidenceKind::CurrentUncounted, read.readings(meter));
        suspect.add(Evidence::new(kind, Direction::Against, COUNTED, words, history.zone, readings));
    }
}

/// Probability of a place against that of any place: for above one, against below. Says nothing without a network.
fn voltages(explanation: &mut Explanation, history: &ZoneHistory, read: &ZoneInstants, verdict: &SnapshotVerdict) {
    let places = read.members.len().max(1) as f64;
    for found in &verdict.suspects {
        let Some((usage_point, meter)) = read.usage_point(found.usage_point) else { continue };
        let ratio = (found.probability * places).max(f64::MIN_POSITIVE).ln();
        let (direction, weight) = match ratio >= 0.0 {
            true => (Direction::For, ratio.min(VOLTAGE_MAX)),
            false => (Direction::Against, (-ratio).min(VOLTAGE_MAX)),
        };
        let is_known = explanation.suspects.iter().any(|s| s.usage_point == usage_point);
        if weight < 0.1 || (direction == Direction::Against && !is_known) {
            continue;
        }
        let words = format!("probability {:.2} of {places:.0} places: {}", found.probability, found.reason);
        let kind = EvidenceKind::VoltageAtInstants;
        let piece = Evidence::new(kind, direction, weight, words, history.zone, read.readings(meter));
        suspect(explanation, history, usage_point, meter, found.watts).add(piece);
    }
}

/// Names the only one whose current is not counted, if nobody is named yet and it explains about what was missing.
fn name(explanation: &mut Explanation, read: &ZoneInstants, verdict: &SnapshotVerdict) {
    let [only] = verdict.count_wrongly.as_slice() else { return };
    let Some((usage_point, _)) = read.usage_point(only.usage_point) else { return };
    let is_open = matches!(explanation.localisation, Localisation::NotLocalised { .. });
    let missing_w = verdict.missing_w.iter().sum::<f64>() / verdict.missing_w.len().max(1) as f64;
    let explains = (NAMING_SHARE.0 * missing_w..=NAMING_SHARE.1 * missing_w).contains(&only.watts);
    if is_open && verdict.alarm && explains && only.instants >= NAMING_INSTANTS {
        let Some(suspect) = explanation.suspects.iter_mut().find(|s| s.usage_point == usage_point) else { return };
        if suspect.weight <= 0.0 {
            return;
        }
        suspect.named = true;
        explanation.kind = suspect.kind;
        explanation.localisation = Localisation::UsagePoint { usage_point };
    }
}

#[cfg(test)]
mod tests {
    use metering::ZoneId;

    use super::*;
    use crate::{
        alarm::{AlarmKind, Chart},
        balance::{EnergyBalance, MeterClass},
        explain::{MemberHistory, explain_at_instants},
        localise::{snapshot::SnapshotReading, trial},
    };

    const HOMES: u32 = 10;

    fn point(number: u32) -> UsagePointId {
        UsagePointId::new(&format!("U-{number}")).expect("id")
    }

    fn meter(number: u32) -> MeterId {
        MeterId::new(&format!("M-{number}")).expect("id")
    }

    fn balance(end: i64) -> EnergyBalance {
        EnergyBalance {
            zone: ZoneId::new("T-1").expect("id"),
            end: Timestamp(end),
            minutes: 15,
            supplied_wh: 1_500.0,
            metered_wh: 1_000.0,
            technical_wh: 20.0,
            unaccounted_wh: 480.0,
            sigma_random_wh: 10.0,
            sigma_systematic_wh: 5.0,
            coverage: 1.0,
        }
    }

    /// A zone of ten homes that misses some two kilowatts, from which nothing can be told yet.
    fn history() -> ZoneHistory {
        let balances: Vec<EnergyBalance> = (1..=4).map(|slot| balance(slot * 900)).collect();
        let member = |number: u32| MemberHistory {
            id: MemberId::UsagePoint(point(number)),
            meter: meter(number),
            ct_ratio: 1.0,
            class: MeterClass::Class1,
            installed: None,
            slots: vec![None; balances.len()],
            events: Vec::new(),
        };
        ZoneHistory {
            zone: ZoneId::new("T-1").expect("id"),
            observer: MeterId::new("OBS").expect("id"),
            minutes: 15,
            onset: Timestamp(0),
            kind: AlarmKind::Missing,
            by: Chart::Fast,
            members: (1..=HOMES).map(member).collect(),
            balances,
            parent: Vec::new(),
        }
    }

    /// Each home draws 400 W; of what the homes in `around` draw, 2 kW more do not pass the power's sensor, but the neutral's. `missing_w` is
    /// what the observer sees more.
    fn instants(around: &[u32], missing_w: f64, count: usize) -> ZoneInstants {
        let reading = |number: u32| {
            let extra = if around.contains(&number) { 2_000.0 } else { 0.0 };
            SnapshotReading {
                usage_point: number,
                watts: 400.0,
                voltage_pu: 1.0,
                amperes: Some((400.0 + extra) / 230.0),
                vars: 0.0,
                offset_pu: None,
            }
        };
        let class = trial::MeterClass { gain_sd: 0.005, random_sd: 0.005, quantum_wh: 1.0, voltage_random_sd: 0.001 };
        let snapshot = Snapshot {
            delivered_w: (f64::from(HOMES) * 400.0 + missing_w) / 0.97,
            unheard_sd_w: 0.0,
            observer_pu: 1.01,
            readings: (1..=HOMES).map(reading).collect(),
        };
        ZoneInstants {
            times: (0..count).map(|n| Timestamp(4_000 + 1_800 * n as i64)).collect(),
            snapshots: vec![snapshot; count],
            members: (1..=HOMES)
                .map(|number| InstantMember { number, id: MemberId::UsagePoint(point(number)), meter: meter(number) })
                .collect(),
            setting: SnapshotSetting { observer_bus: 0, nominal_volts: 230.0, class, observer_class: class },
            network: None,
        }
    }

    fn named(around: &[u32], missing_w: f64, count: usize) -> Option<UsagePointId> {
        explain_at_instants(&history(), Some(&instants(around, missing_w, count))).named_usage_point()
    }

    #[test]
    fn a_current_that_is_not_counted_and_explains_what_is_missing_names_its_usage_point() {
        let explanation = explain_at_instants(&history(), Some(&instants(&[4], 2_000.0, 3)));
        assert_eq!(explanation.named_usage_point(), Some(point(4)));
        let first = &explanation.suspects[0];
        assert!(first.named && first.meter == meter(4), "{first:?}");
        let piece = first.evidence.iter().find(|e| e.kind == EvidenceKind::CurrentUncounted).expect("a piece");
        assert_eq!(piece.direction, Direction::For);
        assert!(piece.words.contains("2400 VA and it counts 400 W (mean of 3 instants)"), "{}", piece.words);
        assert_eq!(piece.readings, [ReadingRange { meter: meter(4), from: Timestamp(3_100), to: Timestamp(8_500) }]);
        let zone = explanation.case_evidence().into_iter().find(|e| e.kind == EvidenceKind::MissingAtInstants);
        assert!(zone.is_some_and(|e| e.direction == Direction::For && e.words.contains("2000 ± ")), "{explanation:?}");
    }

    #[test]
    fn nobody_is_named_by_one_instant_by_one_of_two_or_for_another_amount() {
        assert_eq!(named(&[4], 2_000.0, 1), None, "once may be chance");
        assert_eq!(named(&[4, 7], 4_000.0, 3), None, "two may share a neutral");
        assert_eq!(named(&[4], 6_000.0, 3), None, "it explains a third");
        assert_eq!(named(&[4], 0.0, 3), None, "nothing is missing: a wiring fault");
        assert_eq!(named(&[], 2_000.0, 3), None);
        let ranked = explain_at_instants(&history(), Some(&instants(&[4, 7], 4_000.0, 3)));
        assert_eq!(ranked.suspects.iter().map(|s| s.usage_point).collect::<Vec<_>>(), [point(4), point(7)]);
    }

    #[test]
    fn instants_speak_against_as_well() {
        let mut explanation = explain_at_instants(&history(), None);
        assert!(explanation.suspects.is_empty());
        // Somebody was suspected for another reason.
        suspect(&mut explanation, &history(), point(2), meter(2), 100.0);
        take_in(&mut explanation, &history(), &instants(&[], 0.0, 3));
        let kinds: Vec<_> = explanation.suspects[0].evidence.iter().map(|e| (e.kind, e.direction)).collect();
        assert_eq!(kinds, [(EvidenceKind::CurrentUncounted, Direction::Against)]);
        let zone = explanation.zone_evidence.iter().find(|e| e.kind == EvidenceKind::MissingAtInstants);
        assert!(zone.is_some_and(|e| e.direction == Direction::Against), "{explanation:?}");
    }

    #[test]
    fn a_network_that_does_not_fit_is_said_and_the_rest_stands() {
        let nothing = Network {
            name: "empty".to_owned(),
            base_mva: 1.0,
            frequency_hz: 50.0,
            buses: Vec::new(),
            branches: Vec::new(),
            loads: Vec::new(),
            usage_points: Vec::new(),
        };
        let read = ZoneInstants { network: Some(nothing), ..instants(&[4], 2_000.0, 3) };
        let explanation = explain_at_instants(&history(), Some(&read));
        assert_eq!(explanation.named_usage_point(), Some(point(4)));
        let zone = explanation.zone_evidence.iter().find(|e| e.kind == EvidenceKind::MissingAtInstants);
        assert!(zone.is_some_and(|e| e.words.contains("; voltages not used: ")), "{explanation:?}");
    }

    #[test]
    fn a_surplus_is_not_explained_by_currents() {
        let surplus = ZoneHistory { kind: AlarmKind::Surplus, ..history() };
        let read = instants(&[4], 2_000.0, 3);
        assert_eq!(explain_at_instants(&surplus, Some(&read)), explain_at_instants(&surplus, None));
    }
}
