//! Suspects in the order of what a visit is worth: `value = probability × recoverable energy × tariff − cost of the visit`.
//!
//! One [`Listed`] per usage point, made of all open cases that point at it: the named one of a case, and those ranked behind it. What
//! can be recovered is the measured loss per day over the days it can be billed back and the days it would go on (a loss that has
//! ended does not go on). Where nothing was measured, a meter that reported tampering is assumed to miss as much as it counts, which
//! the list says. Sources: expected value by regression of recoverable energy, Coma-Puig & Carmona 2021; a random share of the
//! visits keeps outcomes honest as labels. Not here: storage, pages, and who is sent.

use std::collections::{BTreeMap, BTreeSet};

use metering::{Timestamp, UsagePointId, ZoneId};
use serde::{Deserialize, Serialize};

use crate::{
    case::{Case, CaseKind, CaseState, Verdict},
    evidence::{Direction, Evidence},
    fusion::{self, Calibration, Claim, Fused, Group},
    hotspots::{self, Candidate},
    pattern::canary::Dice,
};

/// Below this probability nobody is listed: several times the prior, or one of some thirty.
pub const LISTED_MIN: f64 = 0.03;
/// Energy that a meter which reported tampering is assumed to miss, relative to what it counts.
const ASSUMED_SHARE: f64 = 1.0;
/// Standard deviations of a 90 % interval.
const NINETY: f64 = 1.645;
const DAY_SECONDS: f64 = 86_400.0;

/// What recovered energy brings and what visits cost; a setting of the operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecoverySettings {
    /// Currency, as printed.
    pub currency: String,
    /// Price of a kWh, hundredths of the currency.
    pub tariff_minor_per_kwh: u32,
    /// Cost of a visit, hundredths of the currency.
    pub visit_cost_minor: u32,
    /// Visits that can be made before the next night.
    pub visits_per_night: u32,
    /// Share of the visits drawn at random (0.02 to 0.05 keeps outcomes honest).
    pub random_share: f64,
    /// Days that can be billed back.
    pub back_billing_days: u32,
    /// Days that a loss would go on without the visit.
    pub horizon_days: u32,
}

impl Default for RecoverySettings {
    fn default() -> Self {
        Self {
            currency: "INR".into(),
            tariff_minor_per_kwh: 800,
            visit_cost_minor: 50_000,
            visits_per_night: 5,
            random_share: 0.04,
            back_billing_days: 180,
            horizon_days: 90,
        }
    }
}

impl RecoverySettings {
    /// Checks the values.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let currency = self.currency.trim();
        if currency.is_empty() || currency.chars().count() > 8 || currency.chars().any(char::is_control) {
            return Err("the currency is 1 to 8 characters, as INR or €".into());
        }
        if !(0.0..=0.5).contains(&self.random_share) {
            return Err("the random share is from 0 to 0.5".into());
        }
        if self.visits_per_night > 10_000 || self.back_billing_days > 3_650 || self.horizon_days > 3_650 {
            return Err("at most 10,000 visits a night, and 3,650 days back and ahead".into());
        }
        Ok(())
    }
}

/// Energy that a visit may recover.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recoverable {
    /// Loss per day if there is theft, kWh.
    pub kwh_per_day: f64,
    /// Over the days back and ahead, kWh.
    pub kwh: f64,
    /// Lower end of its 90 % interval, kWh.
    pub low_kwh: f64,
    /// Upper end, kWh.
    pub high_kwh: f64,
    /// Measured in the zone's balance; otherwise assumed from what the meter counts.
    pub measured: bool,
}

/// A usage point on the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// Which.
    pub usage_point: UsagePointId,
    /// In which zone.
    pub zone: ZoneId,
    /// The case to open; the one that names it, if one does.
    pub case: u64,
    /// Where that case stands.
    pub state: CaseState,
    /// Whether that case names it.
    pub named: bool,
    /// Since when, by estimate.
    pub since: Timestamp,
    /// Everything for and against it, strongest first.
    pub evidence: Vec<Evidence>,
    /// Its probability; those of one case sum to at most one.
    pub fused: Fused,
    /// Why the probability is not higher, in sentences without their ends.
    #[serde(default)]
    pub held_back: Vec<String>,
    /// What may be recovered.
    pub recoverable: Recoverable,
    /// Expected value of a visit, hundredths of the currency.
    pub value_minor: f64,
}

impl Listed {
    /// The strongest reason for the suspicion.
    pub fn main_reason(&self) -> Option<&Evidence> {
        let own = |e: &&Evidence| e.direction == Direction::For && Group::of(e.kind) != Group::Zone;
        self.evidence.iter().find(own).or_else(|| self.evidence.iter().find(|e| e.direction == Direction::For))
    }

    /// The strongest reason against it.
    pub fn main_doubt(&self) -> Option<&Evidence> {
        self.evidence.iter().find(|e| e.direction == Direction::Against)
    }
}

/// What the list must know of the network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// Usage points by zone.
    pub members: BTreeMap<ZoneId, usize>,
    /// Energy that meters count per day, by usage point, Wh.
    pub use_wh_per_day: BTreeMap<UsagePointId, f64>,
}

/// What visits of ended cases taught: log-odds then, and whether theft was found.
pub fn calibration(ended: &[Case], members: &BTreeMap<ZoneId, usize>) -> Calibration {
    let identity = Calibration::default();
    let outcomes: Vec<(f64, bool)> = ended
        .iter()
        .filter(|case| case.kind.names_a_usage_point())
        .filter_map(|case| {
            let found = case.outcome.as_ref()?.verdict == Verdict::Confirmed;
            let n = members.get(&case.zone).copied().unwrap_or(0);
            Some((fusion::fuse(by_itself(&merged(case, case.usage_point?).0), n, &identity).log_odds, found))
        })
        .collect();
    Calibration::fit(&outcomes)
}

/// The list of suspects, highest value first.
pub fn list(
    cases: &[Case],
    settings: &RecoverySettings,
    calibration: &Calibration,
    around: &Surroundings,
    now: Timestamp,
) -> Vec<Listed> {
    let mut by_point: BTreeMap<UsagePointId, Vec<&Case>> = BTreeMap::new();
    for case in cases.iter().filter(|case| !case.state.is_closed() && case.kind != CaseKind::SurplusEnergy) {
        let ranked = case.suspects.iter().filter(|s| !s.evidence.is_empty()).map(|s| s.usage_point);
        let points: BTreeSet<UsagePointId> = case.usage_point.into_iter().chain(ranked).collect();
        points.into_iter().for_each(|point| by_point.entry(point).or_default().push(case));
    }
    let mut listed: Vec<Listed> = by_point
        .into_iter()
        .filter_map(|(point, cases)| one(point, &cases, settings, calibration, around, now))
        .collect();
    divide(&mut listed);
    for one in &mut listed {
        one.value_minor = one.fused.probability * one.recoverable.kwh * f64::from(settings.tariff_minor_per_kwh)
            - f64::from(settings.visit_cost_minor);
    }
    listed.retain(|listed| listed.fused.probability >= LISTED_MIN || listed.named);
    listed.sort_by(|a, b| b.value_minor.total_cmp(&a.value_minor).then(a.usage_point.cmp(&b.usage_point)));
    listed
}

fn one(
    point: UsagePointId,
    cases: &[&Case],
    settings: &RecoverySettings,
    calibration: &Calibration,
    around: &Surroundings,
    now: Timestamp,
) -> Option<Listed> {
    // The case that names it comes first, else the newest.
    let leading = cases.iter().max_by_key(|case| (case.usage_point == Some(point), case.id))?;
    let mut evidence: Vec<Evidence> = Vec::new();
    let mut measured: Option<(f64, f64, f64)> = None;
    for case in cases {
        let (pieces, loss) = merged(case, point);
        add_newer(&mut evidence, pieces);
        measured = match (measured, loss) {
            (Some(a), Some(b)) if a.0 >= b.0 => Some(a),
            (a, b) => b.or(a),
        };
    }
    evidence.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let members = around.members.get(&leading.zone).copied().unwrap_or(0);
    let fused = fusion::fuse(by_itself(&evidence), members, calibration);
    let held_back = held_back(&evidence, calibration);
    let since = cases.iter().map(|case| case.onset.unwrap_or(case.opened_at)).min()?;
    let ended = cases.iter().all(|case| case.imbalance_ended.is_some());
    let until = cases.iter().filter_map(|case| case.imbalance_ended).max().filter(|_| ended).unwrap_or(now);
    let used = around.use_wh_per_day.get(&point).copied().unwrap_or(0.0);
    let recoverable = recoverable(measured, used, until.seconds_since(since), ended, settings);
    Some(Listed {
        usage_point: point,
        zone: leading.zone,
        case: leading.id,
        state: leading.state,
        named: leading.usage_point == Some(point),
        since,
        evidence,
        fused,
        held_back,
        recoverable,
        // Known when its case's chances are divided.
        value_minor: 0.0,
    })
}

/// The evidence of a usage point without what others do to it: rivals are weighed when the chances of one loss are divided.
fn by_itself(evidence: &[Evidence]) -> impl Iterator<Item = &Evidence> {
    evidence.iter().filter(|piece| Group::of(piece.kind) != Group::Rivals)
}

/// Divides the chances of those who may explain the loss of one case.
fn divide(listed: &mut [Listed]) {
    let mut by_case: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (index, one) in listed.iter().enumerate() {
        by_case.entry(one.case).or_default().push(index);
    }
    for indices in by_case.into_values().filter(|indices| indices.len() > 1) {
        let claims: Vec<Claim> = indices
            .iter()
            .map(|&index| Claim {
                fused: listed[index].fused,
                energy_wh: if listed[index].recoverable.measured {
                    listed[index].recoverable.kwh_per_day * 1_000.0
                } else {
                    0.0
                },
            })
            .collect();
        let divided = fusion::divided(&claims);
        let names: Vec<UsagePointId> = indices.iter().map(|&index| listed[index].usage_point).collect();
        for (place, &index) in indices.iter().enumerate() {
            let others = (0..divided.len()).filter(|&other| other != place);
            let rival = others.max_by(|&a, &b| divided[a].probability.total_cmp(&divided[b].probability));
            if divided[place].probability < 0.9 * claims[place].fused.probability
                && let Some(rival) = rival
            {
                let percent = 100.0 * divided[rival].probability;
                let words = format!(
                    "{} may have caused the same missing energy: {percent:.0} % of the chance lies there",
                    names[rival]
                );
                listed[index].held_back.insert(0, words);
            }
            listed[index].fused = divided[place];
        }
    }
}

/// Why the evidence by itself does not give more.
fn held_back(evidence: &[Evidence], calibration: &Calibration) -> Vec<String> {
    let mut words = Vec::new();
    let own = |group: Group| by_itself(evidence).any(|e| e.direction == Direction::For && Group::of(e.kind) == group);
    let bounded = by_itself(evidence)
        .filter(|e| e.direction == Direction::For && Group::of(e.kind) == Group::Load)
        .any(|e| e.weight > fusion::GROUP_NATS_MAX);
    if bounded && !own(Group::Tamper) && !own(Group::ReadBack) {
        words.push(
            "the readings of one zone alone never count for more than 400 to 1: a sign of tampering or a visit would decide".to_owned(),
        );
    }
    if own(Group::Tamper) && !own(Group::Load) && !own(Group::ReadBack) {
        words.push("the meter reported it, but no missing energy has been traced to it yet".to_owned());
    }
    let doubt =
        by_itself(evidence).filter(|e| e.direction == Direction::Against).max_by(|a, b| a.weight.total_cmp(&b.weight));
    if let Some(doubt) = doubt.filter(|doubt| doubt.weight >= 0.3) {
        words.push(format!("against it speaks: {}", doubt.kind.word()));
    }
    if calibration.outcomes == 0 {
        words.push("no visit has shown yet how often such evidence is right here".to_owned());
    }
    words
}

/// Everything a case says of a usage point: one list, and the loss measured (Wh, its standard deviation, hours).
fn merged(case: &Case, point: UsagePointId) -> (Vec<Evidence>, Option<(f64, f64, f64)>) {
    let suspect = case.suspects.iter().find(|s| s.usage_point == point);
    let mut evidence: Vec<Evidence> = suspect.map(|s| s.evidence.clone()).unwrap_or_default();
    let named = case.usage_point == Some(point);
    let of_case = case.evidence.iter().filter(|e| named || Group::of(e.kind) == Group::Zone).cloned();
    add_newer(&mut evidence, of_case.collect());
    let loss = suspect.filter(|s| s.hours > 0.0 && s.estimated_wh > 0.0);
    (evidence, loss.map(|s| (s.estimated_wh, s.sigma_wh, s.hours)))
}

/// Adds pieces; of two of the same kind and direction the one with the newer readings stays.
fn add_newer(evidence: &mut Vec<Evidence>, pieces: Vec<Evidence>) {
    let newest = |e: &Evidence| e.readings.iter().map(|r| r.to).max();
    for piece in pieces {
        match evidence.iter_mut().find(|e| e.kind == piece.kind && e.direction == piece.direction) {
            Some(old) if newest(old) >= newest(&piece) => {}
            Some(old) => *old = piece,
            None => evidence.push(piece),
        }
    }
}

fn recoverable(
    measured: Option<(f64, f64, f64)>,
    used_wh_per_day: f64,
    lasted_seconds: i64,
    ended: bool,
    settings: &RecoverySettings,
) -> Recoverable {
    let (per_day, deviation) = match measured {
        Some((wh, sigma, hours)) => (wh * 24.0 / hours / 1_000.0, sigma * 24.0 / hours / 1_000.0),
        None => (ASSUMED_SHARE * used_wh_per_day / 1_000.0, ASSUMED_SHARE * used_wh_per_day / 2_000.0),
    };
    // Seconds since 1970 fit a float exactly.
    #[allow(clippy::cast_precision_loss)]
    let lasted = (lasted_seconds.max(0) as f64 / DAY_SECONDS).min(f64::from(settings.back_billing_days));
    let days = lasted + if ended { 0.0 } else { f64::from(settings.horizon_days) };
    Recoverable {
        kwh_per_day: per_day,
        kwh: per_day * days,
        low_kwh: (per_day - NINETY * deviation).max(0.0) * days,
        high_kwh: (per_day + NINETY * deviation) * days,
        measured: measured.is_some(),
    }
}

/// A visit of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedVisit {
    /// Where.
    pub usage_point: UsagePointId,
    /// Expected value, hundredths of the currency.
    pub value_minor: f64,
    /// Drawn at random and not for suspicion.
    pub random: bool,
}

/// The visits of one night: those worth more than they cost, highest value first, and the random share, drawn from everybody else.
/// `others`: usage points that are not listed, or some of them; `night` seeds the draw, so that a plan stays the same until the next.
pub fn plan(listed: &[Listed], others: &[UsagePointId], settings: &RecoverySettings, night: i64) -> Vec<PlannedVisit> {
    let visits = usize::try_from(settings.visits_per_night).unwrap_or(0);
    let mut dice = Dice::new(night.unsigned_abs());
    // A share of a visit per night is a whole visit every few nights.
    let wanted = f64::from(settings.visits_per_night) * settings.random_share;
    let random = wanted.floor() + f64::from(u8::from(dice.unit() < wanted.fract()));
    let suspects = listed.iter().map(|l| (l.usage_point, l.fused.probability, l.recoverable.kwh));
    let known: BTreeSet<UsagePointId> = listed.iter().map(|l| l.usage_point).collect();
    let honest = others.iter().filter(|point| !known.contains(point)).map(|point| (*point, fusion::PRIOR, 0.0));
    let all: Vec<(UsagePointId, f64, f64)> = suspects.chain(honest).collect();
    let candidates: Vec<Candidate> = all
        .iter()
        .map(|(point, probability, recoverable_kwh)| Candidate {
            id: point.to_string(),
            probability: *probability,
            recoverable_kwh: *recoverable_kwh,
        })
        .collect();
    let economy = hotspots::Economy {
        visit_cost_minor: i64::from(settings.visit_cost_minor),
        kwh_value_minor: i64::from(settings.tariff_minor_per_kwh),
        visits,
        random_share: if visits > 0 { random / f64::from(settings.visits_per_night) } else { 0.0 },
    };
    hotspots::plan_visits(&candidates, economy, night.unsigned_abs())
        .into_iter()
        .filter_map(|visit| {
            let usage_point = UsagePointId::new(&visit.id).ok()?;
            Some(PlannedVisit { usage_point, value_minor: visit.value_minor, random: visit.random })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use metering::{EventKind, MeterId};

    use super::*;
    use crate::{
        case::RankedSuspect,
        evidence::{EvidenceKind, ReadingRange},
    };

    const DAY: i64 = 86_400;

    fn point(n: usize) -> UsagePointId {
        UsagePointId::new(&format!("U-{n}")).expect("id")
    }

    fn piece(kind: EvidenceKind, direction: Direction, weight: f64, to: i64) -> Evidence {
        let readings =
            vec![ReadingRange { meter: MeterId::new("M-1").expect("id"), from: Timestamp(0), to: Timestamp(to) }];
        let zone = ZoneId::new("T-1").expect("id");
        Evidence::new(kind, direction, weight, format!("{kind:?}"), zone, readings)
    }

    fn suspect(n: usize, weight: f64, wh: f64) -> RankedSuspect {
        RankedSuspect {
            named: true,
            estimated_wh: wh,
            sigma_wh: 500.0,
            hours: 24.0,
            evidence: vec![piece(EvidenceKind::ProportionalLoss, Direction::For, weight, 900)],
            ..RankedSuspect::bare(point(n), weight)
        }
    }

    fn case(id: u64, kind: CaseKind, named: Option<UsagePointId>, suspects: Vec<RankedSuspect>) -> Case {
        let zone = ZoneId::new("T-1").expect("id");
        let evidence = vec![piece(EvidenceKind::ZoneImbalance, Direction::For, 15.0, 900)];
        let mut case = Case::open(kind, zone, named, Timestamp(10 * DAY), "balance", evidence).expect("opens");
        (case.id, case.onset, case.suspects) = (id, Some(Timestamp(9 * DAY)), suspects);
        case
    }

    fn around() -> Surroundings {
        let zone = ZoneId::new("T-1").expect("id");
        Surroundings {
            members: BTreeMap::from([(zone, 40)]),
            use_wh_per_day: (1..=9).map(|n| (point(n), 8_000.0)).collect(),
        }
    }

    fn list_of(cases: &[Case]) -> Vec<Listed> {
        let settings = RecoverySettings::default();
        list(cases, &settings, &Calibration::default(), &around(), Timestamp(11 * DAY))
    }

    #[test]
    fn large_and_probable_comes_before_small_and_certain() {
        let big = case(1, CaseKind::SuspectedTheft, Some(point(1)), vec![suspect(1, 5.0, 12_000.0)]);
        let small = case(2, CaseKind::SuspectedTheft, Some(point(2)), vec![suspect(2, 6.0, 600.0)]);
        let listed = list_of(&[small, big]);
        assert_eq!(listed.iter().map(|l| l.usage_point).collect::<Vec<_>>(), [point(1), point(2)]);
        let first = &listed[0];
        // Two days back and ninety ahead, at 12 kWh a day.
        assert!((first.recoverable.kwh - 92.0 * 12.0).abs() < 1e-6 && first.recoverable.measured, "{first:?}");
        let value = first.fused.probability * first.recoverable.kwh * 800.0 - 50_000.0;
        assert!((first.value_minor - value).abs() < 1e-6);
        assert!(listed[1].value_minor < 0.0, "0.6 kWh a day is not worth the visit");
    }

    #[test]
    fn events_of_one_case_and_load_of_another_are_one_list() {
        let cover = piece(EvidenceKind::Tamper(EventKind::CoverOpen), Direction::For, 3.0, 500);
        let mut tamper = case(1, CaseKind::TamperSuspected, Some(point(1)), vec![]);
        tamper.evidence.push(cover);
        let missing = case(2, CaseKind::MissingEnergy, None, vec![suspect(1, 4.0, 9_000.0), suspect(2, 2.0, 9_000.0)]);
        let alone = list_of(std::slice::from_ref(&tamper));
        assert!(!alone[0].recoverable.measured && (alone[0].recoverable.kwh_per_day - 8.0).abs() < 1e-9);
        let both = list_of(&[tamper, missing]);
        let first = &both[0];
        assert_eq!((first.usage_point, first.case, first.named), (point(1), 1, true));
        assert!(first.fused.probability > alone[0].fused.probability && first.recoverable.measured);
        assert_eq!(first.evidence.len(), 3, "cover, load, zone");
        assert_eq!(first.main_reason().map(|e| e.kind), Some(EvidenceKind::ProportionalLoss));
    }

    #[test]
    fn chances_of_one_case_sum_to_one_at_most_and_say_what_holds_them_back() {
        let suspects = vec![suspect(1, 20.0, 12_000.0), suspect(2, 9.0, 11_000.0), suspect(3, 8.0, 4_000.0)];
        let listed = list_of(&[case(1, CaseKind::SuspectedTheft, Some(point(1)), suspects)]);
        let sum: f64 = listed.iter().map(|l| l.fused.probability).sum();
        assert!(sum <= 1.0, "{sum}");
        let named = listed.iter().find(|l| l.named).expect("listed");
        assert!(named.fused.probability > 0.85, "nothing contradicts it: {:?}", named.fused);
        assert!(named.held_back.iter().any(|words| words.contains("400 to 1")), "{:?}", named.held_back);
        let twins = vec![suspect(1, 9.0, 12_000.0), suspect(2, 9.0, 12_000.0)];
        let listed = list_of(&[case(1, CaseKind::MissingEnergy, None, twins)]);
        assert!(listed.iter().all(|l| l.fused.probability <= 0.5), "one loss, two equal explanations");
        assert!(
            listed[0].held_back[0].contains("may have caused the same missing energy"),
            "{:?}",
            listed[0].held_back
        );
    }

    #[test]
    fn the_plan_keeps_to_its_budget_and_draws_somebody_at_random_in_the_long_run() {
        let cases: Vec<Case> = (1..=9)
            .map(|n| {
                case(
                    n,
                    CaseKind::SuspectedTheft,
                    Some(point(usize::try_from(n).expect("small"))),
                    vec![suspect(usize::try_from(n).expect("small"), 6.0, 10_000.0)],
                )
            })
            .collect();
        let listed = list_of(&cases);
        let others: Vec<UsagePointId> = (100..200).map(point).collect();
        let settings = RecoverySettings::default();
        let nights: Vec<Vec<PlannedVisit>> = (0..200).map(|night| plan(&listed, &others, &settings, night)).collect();
        assert!(nights.iter().all(|visits| visits.len() == 5));
        let random = nights.iter().flatten().filter(|visit| visit.random).count();
        assert_eq!(random, 31, "0.2 a night were asked for; the draw is seeded by the night");
        assert_eq!(plan(&listed, &others, &settings, 7), nights[7], "the same night, the same plan");
    }

    #[test]
    fn settings_are_checked() {
        assert!(RecoverySettings::default().check().is_ok());
        assert!(RecoverySettings { random_share: 0.9, ..RecoverySettings::default() }.check().is_err());
        assert!(RecoverySettings { currency: " ".into(), ..RecoverySettings::default() }.check().is_err());
    }
}
