//! Evidence of one usage point fused to a probability, with an interval.
//!
//! Bayes in log-odds: `logit p = logit PRIOR + Σ groups`. Every piece of [`Evidence`] carries the logarithm of a likelihood ratio;
//! pieces that rest on the same readings are not independent, so they are put into groups: within a group the strongest piece
//! counts whole and each further one a share of the one before (see [`Group::dependence`]). What remains of both directions
//! moves the odds by no more than [`GROUP_NATS_MAX`] a group (about 400 to 1), because no likelihood ratio is better than the model behind it. That the zone misses energy
//! raises each of its `n` usage points from the prior to `1/n` at most: it says that somebody steals, not who.
//!
//! The interval comes from how little the ratios themselves are known: a third of each group's weight, and a factor of two for the
//! prior, as standard deviations in nats (judgement). Outcomes of visits correct both by [`Calibration`], a logistic regression of
//! the outcome on the log-odds (Platt) that is held near the identity until there are outcomes to learn from.
//!
//! Not an accusation: a probability ranks visits.

use serde::{Deserialize, Serialize};

use crate::{
    case::RankedSuspect,
    evidence::{Direction, Evidence, EvidenceKind, ReadingRange},
    explain::Explanation,
};

/// Share of usage points where energy is stolen, before anything is known of them: one in a hundred.
pub const PRIOR: f64 = 0.01;
/// Most that one group may weigh, nats.
pub const GROUP_NATS_MAX: f64 = 6.0;
/// Standard deviation of the prior's logarithm, nats: a factor of two.
const PRIOR_DEVIATION: f64 = 0.7;
/// Standard deviation of a group's weight, relative.
const WEIGHT_DEVIATION: f64 = 0.33;
/// Standard deviations of a 90 % interval.
const NINETY: f64 = 1.645;
/// Share of a difference of evidence that tells the explanations of one loss apart: all of it rests on the readings of one zone, so
/// the ratios are less sure than they look (judgement).
const TELLING_APART: f64 = 0.5;
/// Least share of a loss that is told apart by: an estimate of energy may be wrong by a factor of ten.
const ENERGY_SHARE_MIN: f64 = 0.1;
/// Rivals named in the words.
const RIVALS_SHOWN: usize = 3;

/// Pieces of evidence that share what they rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// The zone's balance.
    Zone,
    /// The behaviour of the load against what is missing.
    Load,
    /// What the meter's sensors reported.
    Tamper,
    /// How the voltages of the zone lie.
    Voltage,
    /// What was seen after a disconnection.
    ReadBack,
    /// What was seen when the load ended.
    Ended,
    /// Honest reasons for a change of use.
    Habit,
    /// Doubts about the readings or the mapping.
    Records,
    /// Others that explain it as well.
    Rivals,
}

impl Group {
    /// The group of a kind.
    pub const fn of(kind: EvidenceKind) -> Self {
        match kind {
            EvidenceKind::ZoneImbalance
            | EvidenceKind::TechnicalLoss
            | EvidenceKind::ObserverDisagrees
            | EvidenceKind::MissingAtInstants => Self::Zone,
            EvidenceKind::ProportionalLoss
            | EvidenceKind::NightLoss
            | EvidenceKind::MissingLoad
            | EvidenceKind::ChangeAtOnset => Self::Load,
            // The same sensors as those that report a bypass.
            EvidenceKind::Tamper(_) | EvidenceKind::CurrentUncounted => Self::Tamper,
            EvidenceKind::VoltageAtInstants => Self::Voltage,
            EvidenceKind::SupplyStillPresent => Self::ReadBack,
            EvidenceKind::EndedWithLoad => Self::Ended,
            EvidenceKind::Vacancy | EvidenceKind::Generation | EvidenceKind::SharedChange => Self::Habit,
            EvidenceKind::MissingReadings | EvidenceKind::MappingChange => Self::Records,
            EvidenceKind::Ambiguous => Self::Rivals,
        }
    }

    /// What each further piece counts, as a share of the one before: sensors of a meter are rather independent of each other,
    /// statistics of the same readings are not.
    pub const fn dependence(self) -> f64 {
        match self {
            Self::Tamper => 0.75,
            Self::Rivals => 0.0,
            _ => 0.5,
        }
    }
}

/// How log-odds are corrected by outcomes: `corrected = intercept + slope × log-odds`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Added, nats.
    pub intercept: f64,
    /// Multiplied.
    pub slope: f64,
    /// Outcomes it was learnt from.
    pub outcomes: usize,
}

impl Default for Calibration {
    fn default() -> Self {
        Self { intercept: 0.0, slope: 1.0, outcomes: 0 }
    }
}

impl Calibration {
    /// Learns from outcomes: log-odds at the time of the visit, and whether theft was found. Penalised likelihood (Newton):
    /// intercept ~ N(0, 0.5²), slope ~ N(1, 0.25²), so that a handful of visits does not swing it.
    pub fn fit(outcomes: &[(f64, bool)]) -> Self {
        let (mut a, mut b) = (0.0_f64, 1.0_f64);
        for _ in 0..25 {
            let (mut ga, mut gb) = (a / 0.25, (b - 1.0) / 0.0625);
            let (mut haa, mut hab, mut hbb) = (4.0, 0.0, 16.0);
            for (x, found) in outcomes {
                let p = logistic(a + b * x);
                let error = p - f64::from(u8::from(*found));
                let w = (p * (1.0 - p)).max(1e-9);
                ga += error;
                gb += error * x;
                haa += w;
                hab += w * x;
                hbb += w * x * x;
            }
            let det = haa * hbb - hab * hab;
            let (da, db) = ((hbb * ga - hab * gb) / det, (haa * gb - hab * ga) / det);
            a -= da.clamp(-1.0, 1.0);
            b -= db.clamp(-0.5, 0.5);
            if da.abs() < 1e-9 && db.abs() < 1e-9 {
                break;
            }
        }
        Self { intercept: a, slope: b.max(0.05), outcomes: outcomes.len() }
    }
}

/// The probability that energy is stolen at a usage point, given its evidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fused {
    /// Logarithm of the odds before calibration, nats.
    pub log_odds: f64,
    /// Its standard deviation, nats.
    pub deviation: f64,
    /// The probability.
    pub probability: f64,
    /// Lower end of its 90 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Logarithm of the odds without the bound on each group, nats: tells the explanations of one loss apart, and nothing else.
    #[serde(default)]
    pub unbounded: f64,
}

impl Fused {
    /// With its probability and both ends reduced to a share, 0 to 1.
    fn times(self, share: f64) -> Self {
        Self { probability: self.probability * share, low: self.low * share, high: self.high * share, ..self }
    }
}

/// One explanation of a loss that several usage points may explain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claim {
    /// The chance of the usage point by itself, fused without [`Group::Rivals`].
    pub fused: Fused,
    /// Energy it may have caused to be missing, Wh; zero when not known.
    pub energy_wh: f64,
}

/// The chances of usage points that explain one and the same loss: together they have no more than the strongest has by itself, so
/// they sum to at most one. It is divided by the evidence of each and by how much of the loss each explains, energy first: a
/// point that explains a tenth of it needs ten times the odds. The order is kept.
pub fn divided(claims: &[Claim]) -> Vec<Fused> {
    let most_wh = claims.iter().map(|claim| claim.energy_wh).fold(0.0, f64::max);
    let whole = claims.iter().map(|claim| claim.fused.probability).fold(0.0, f64::max);
    let strongest = claims.iter().map(|claim| claim.fused.unbounded).fold(f64::NEG_INFINITY, f64::max);
    let parts: Vec<f64> = claims
        .iter()
        .map(|claim| {
            let energy = if most_wh > 0.0 { (claim.energy_wh / most_wh).max(ENERGY_SHARE_MIN) } else { 1.0 };
            energy * (TELLING_APART * (claim.fused.unbounded - strongest)).exp()
        })
        .collect();
    let sum: f64 = parts.iter().sum();
    claims
        .iter()
        .zip(parts)
        .map(|(claim, part)| {
            let alone = claim.fused.probability;
            let share = if alone > 0.0 && sum > 0.0 { (whole * part / sum / alone).min(1.0) } else { 1.0 };
            claim.fused.times(share)
        })
        .collect()
}

/// Fuses the evidence of one usage point in a zone of `members` usage points (zero when not known).
pub fn fuse<'a>(evidence: impl IntoIterator<Item = &'a Evidence>, members: usize, calibration: &Calibration) -> Fused {
    let mut groups: std::collections::BTreeMap<Group, [Vec<f64>; 2]> = std::collections::BTreeMap::new();
    for piece in evidence {
        let side = usize::from(piece.direction == Direction::Against);
        groups.entry(Group::of(piece.kind)).or_default()[side].push(piece.weight);
    }
    let zone_most = (logit(1.0 / members.max(2) as f64) - logit(PRIOR)).max(0.0);
    let (mut log_odds, mut variance) = (logit(PRIOR), PRIOR_DEVIATION * PRIOR_DEVIATION);
    let mut unbounded = log_odds;
    for (group, sides) in groups {
        let [favour, against] = sides.map(|weights| together(weights, group.dependence()));
        let most = if group == Group::Zone { zone_most } else { GROUP_NATS_MAX };
        log_odds += match group {
            // Whether energy is missing at all is another question than who took it: a doubt about the one always counts.
            Group::Zone => favour.min(most) - against.min(GROUP_NATS_MAX),
            // Pieces from the same readings are weighed against each other before the bound: it must not leave of an
            // overwhelming piece as little as of a slight one against it.
            _ => (favour - against).clamp(-GROUP_NATS_MAX, most),
        };
        unbounded += favour - against;
        variance += WEIGHT_DEVIATION.powi(2) * (favour.min(most).powi(2) + against.min(GROUP_NATS_MAX).powi(2));
    }
    let deviation = variance.sqrt();
    let at = |x: f64| logistic(calibration.intercept + calibration.slope * x);
    Fused {
        log_odds,
        deviation,
        probability: at(log_odds),
        low: at(log_odds - NINETY * deviation),
        high: at(log_odds + NINETY * deviation),
        unbounded,
    }
}

/// The weight of pieces that rest on the same readings, nats: the strongest whole, each further one a share of the one before.
fn together(mut weights: Vec<f64>, dependence: f64) -> f64 {
    weights.sort_by(|a, b| b.total_cmp(a));
    let (mut sum, mut share) = (0.0, 1.0);
    for weight in weights {
        sum += share * weight;
        share *= dependence;
    }
    sum
}

/// The suspects of an explanation with one list of evidence each: events of the meter, behaviour of the load, and, as evidence
/// against, that others explain the same loss: one loss has one cause unless several are named. `sigma_wh` and `hours`: uncertainty
/// of what is missing in the zone, and the time since the onset.
pub fn ranked(explanation: &Explanation, members: usize, sigma_wh: f64, hours: f64) -> Vec<RankedSuspect> {
    let identity = Calibration::default();
    let odds: Vec<f64> = explanation
        .suspects
        .iter()
        .map(|s| fuse(s.evidence.iter().chain(&explanation.zone_evidence), members, &identity).log_odds.exp())
        .collect();
    let mut out = Vec::with_capacity(explanation.suspects.len());
    for (index, suspect) in explanation.suspects.iter().enumerate() {
        let mut evidence = suspect.evidence.clone();
        let rivals: Vec<usize> = (0..odds.len())
            .filter(|&other| other != index && !(suspect.named && explanation.suspects[other].named))
            .collect();
        let weight = (1.0 + rivals.iter().map(|&other| odds[other]).sum::<f64>()).ln();
        if weight >= 0.1 {
            let mut strongest = rivals;
            strongest.sort_by(|a, b| odds[*b].total_cmp(&odds[*a]));
            strongest.truncate(RIVALS_SHOWN);
            let names: Vec<String> =
                strongest.iter().map(|&other| explanation.suspects[other].usage_point.to_string()).collect();
            let readings: Vec<ReadingRange> = strongest
                .iter()
                .filter_map(|&other| explanation.suspects[other].evidence.first()?.readings.first().copied())
                .collect();
            let words = format!("the same missing energy may be explained by {}", names.join(", "));
            let zone = evidence.first().or(explanation.zone_evidence.first()).map(|piece| piece.zone);
            if let Some(zone) = zone {
                let piece = Evidence::new(EvidenceKind::Ambiguous, Direction::Against, weight, words, zone, readings);
                evidence.push(piece);
            }
        }
        evidence.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        out.push(RankedSuspect {
            usage_point: suspect.usage_point,
            score: suspect.weight,
            named: suspect.named,
            estimated_wh: suspect.estimated_wh,
            sigma_wh,
            hours,
            evidence,
        });
    }
    out
}

/// Logarithm of the odds of a probability, nats.
pub fn logit(p: f64) -> f64 {
    (p / (1.0 - p)).ln()
}

/// The probability of a logarithm of odds.
pub fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use metering::{EventKind, MeterId, Timestamp, UsagePointId, ZoneId};

    use super::*;
    use crate::{
        case::CaseKind,
        explain::{Localisation, Suspect},
    };

    fn piece(kind: EvidenceKind, direction: Direction, weight: f64) -> Evidence {
        let zone = ZoneId::new("T-1").expect("id");
        let readings =
            vec![ReadingRange { meter: MeterId::new("M-1").expect("id"), from: Timestamp(0), to: Timestamp(900) }];
        Evidence::new(kind, direction, weight, "because", zone, readings)
    }

    fn probability(evidence: &[Evidence]) -> f64 {
        fuse(evidence, 40, &Calibration::default()).probability
    }

    #[test]
    fn nothing_known_is_the_prior_and_the_zone_says_that_somebody_steals_not_who() {
        assert!((probability(&[]) - PRIOR).abs() < 1e-12);
        let zone = [piece(EvidenceKind::ZoneImbalance, Direction::For, 20.0)];
        assert!((probability(&zone) - 1.0 / 40.0).abs() < 1e-9);
    }

    #[test]
    fn kinds_of_one_group_count_less_than_kinds_of_two() {
        let load = piece(EvidenceKind::ProportionalLoss, Direction::For, 3.0);
        let fall = piece(EvidenceKind::MissingLoad, Direction::For, 3.0);
        let cover = piece(EvidenceKind::Tamper(EventKind::CoverOpen), Direction::For, 3.0);
        let same = fuse([&load, &fall], 40, &Calibration::default()).log_odds;
        let two = fuse([&load, &cover], 40, &Calibration::default()).log_odds;
        assert!((same - (logit(PRIOR) + 4.5)).abs() < 1e-9, "{same}");
        assert!((two - (logit(PRIOR) + 6.0)).abs() < 1e-9, "{two}");
        let huge = [piece(EvidenceKind::ProportionalLoss, Direction::For, 50.0)];
        assert!(probability(&huge) < 0.9, "no statistic alone makes it certain");
        let against = [load, piece(EvidenceKind::Vacancy, Direction::Against, 2.5)];
        assert!(probability(&against) < 0.02);
    }

    #[test]
    fn a_slight_piece_does_not_outweigh_an_overwhelming_one_from_the_same_readings() {
        let zone = piece(EvidenceKind::ZoneImbalance, Direction::For, 20.0);
        let load = piece(EvidenceKind::ProportionalLoss, Direction::For, 20.0);
        let onset = piece(EvidenceKind::ChangeAtOnset, Direction::Against, 3.0);
        let alone = probability(&[zone.clone(), load.clone()]);
        assert!((probability(&[zone.clone(), load, onset.clone()]) - alone).abs() < 1e-9 && alone > 0.8);
        // Beside a piece of its own size it counts whole, and so does a doubt about the zone.
        let slight = piece(EvidenceKind::ProportionalLoss, Direction::For, 3.0);
        assert!((probability(&[zone.clone(), slight, onset]) - probability(std::slice::from_ref(&zone))).abs() < 1e-9);
        let observer = piece(EvidenceKind::ObserverDisagrees, Direction::Against, 3.0);
        assert!(probability(&[zone.clone(), observer]) < probability(&[zone]));
    }

    #[test]
    fn the_interval_holds_the_probability_and_grows_with_the_weights() {
        let few = fuse(&[], 0, &Calibration::default());
        assert!(few.low < few.probability && few.probability < few.high);
        let many = [
            piece(EvidenceKind::ProportionalLoss, Direction::For, 6.0),
            piece(EvidenceKind::Tamper(EventKind::Bypass), Direction::For, 5.0),
        ];
        assert!(fuse(&many, 40, &Calibration::default()).deviation > few.deviation);
    }

    #[test]
    fn outcomes_correct_odds_that_promise_too_much() {
        assert_eq!(Calibration::fit(&[]).slope, 1.0);
        // Log-odds of 3 promise 95 %; half is found.
        let outcomes: Vec<(f64, bool)> = (0..60).map(|i| (3.0, i % 2 == 0)).collect();
        let learnt = Calibration::fit(&outcomes);
        let sure = [
            piece(EvidenceKind::ProportionalLoss, Direction::For, 6.0),
            piece(EvidenceKind::Tamper(EventKind::CoverOpen), Direction::For, 1.6),
        ];
        let (before, after) = (probability(&sure), fuse(&sure, 40, &learnt).probability);
        assert!(before > 0.94 && (0.4..0.65).contains(&after), "{before} {after} {learnt:?}");
        let one = Calibration::fit(&[(3.0, false)]);
        assert!(one.slope > 0.7, "one visit swings little: {one:?}");
    }

    fn claim(weight: f64, energy_wh: f64) -> Claim {
        let load = [piece(EvidenceKind::ProportionalLoss, Direction::For, weight)];
        Claim { fused: fuse(&load, 40, &Calibration::default()), energy_wh }
    }

    fn chances(claims: &[Claim]) -> Vec<f64> {
        divided(claims).iter().map(|fused| fused.probability).collect()
    }

    #[test]
    fn chances_that_share_one_loss_sum_to_at_most_one() {
        for claims in [
            vec![claim(20.0, 9_000.0), claim(9.0, 9_000.0)],
            vec![claim(9.0, 9_000.0); 10],
            vec![claim(0.0, 0.0); 3],
            vec![claim(50.0, 0.0), claim(50.0, 0.0)],
        ] {
            let sum: f64 = chances(&claims).iter().sum();
            assert!(sum <= 1.0 && sum.is_finite(), "{sum} of {claims:?}");
            assert!(divided(&claims).iter().all(|f| f.low <= f.probability && f.probability <= f.high));
        }
    }

    #[test]
    fn overwhelming_evidence_is_not_halved_by_a_rival_and_energy_counts() {
        let alone = chances(&[claim(20.0, 9_000.0)])[0];
        let beside = chances(&[claim(20.0, 9_000.0), claim(9.0, 9_000.0)]);
        assert!(beside[0] > 0.95 * alone && beside[1] < 0.05, "{alone} {beside:?}");
        let equal = chances(&[claim(9.0, 9_000.0), claim(9.0, 900.0)]);
        assert!((equal[0] / equal[1] - 10.0).abs() < 1e-9, "a tenth of the loss, a tenth of the chance: {equal:?}");
    }

    #[test]
    fn rivals_share_what_one_loss_can_give() {
        let suspect = |name: &str, named| Suspect {
            usage_point: UsagePointId::new(name).expect("id"),
            meter: MeterId::new(name).expect("id"),
            kind: CaseKind::SuspectedTheft,
            named,
            weight: 5.0,
            estimated_wh: 1_000.0,
            evidence: vec![piece(EvidenceKind::ProportionalLoss, Direction::For, 5.5)],
        };
        let explanation = |named| Explanation {
            kind: CaseKind::MissingEnergy,
            localisation: Localisation::NotLocalised { reason: "several".into() },
            suspects: ["U-1", "U-2", "U-3"].map(|name| suspect(name, named)).to_vec(),
            zone_evidence: vec![piece(EvidenceKind::ZoneImbalance, Direction::For, 20.0)],
            missing_wh: 3_000.0,
        };
        let unnamed = ranked(&explanation(false), 40, 100.0, 10.0);
        let sum: f64 = unnamed.iter().map(|s| probability(&s.evidence)).sum();
        assert!(sum < 1.1, "{sum}");
        assert!(unnamed[0].evidence.iter().any(|e| e.kind == EvidenceKind::Ambiguous && e.words.contains("U-2")));
        let named = ranked(&explanation(true), 40, 100.0, 10.0);
        assert!(named[0].evidence.iter().all(|e| e.kind != EvidenceKind::Ambiguous), "several thieves are no rivals");
    }
}
