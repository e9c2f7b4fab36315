//! One tampered or faulty observer shows twice: its zone has more metered than supplied, and the zone above misses the same energy.
//! Both are one fault, said once: "the observer of T3 reads 15 % low".
//!
//! [`finding`] makes it a proposal for the ratio of the observer when the surplus is explained; [`pairs`] finds the two cases that
//! are about it. Not here: when to look, and storage.

use metering::ZoneId;

use crate::{
    alarm::AlarmKind,
    balance::EnergyBalance,
    case::{Case, CaseKind},
    evidence::{Direction, EvidenceKind},
    explain::{Explanation, Localisation, ZoneHistory},
    findings::{Correction, Finding, FindingKind, Number, Subject},
};

/// Two cases began together when no more lies between their onsets, seconds.
const TOGETHER_SECONDS: i64 = 86_400;
/// Probability given to it: the zone above agrees, but a meter may also be read through two faults.
const CONFIDENCE: f64 = 0.9;
/// A smaller error is within what observers have, share of what flowed.
const SHARE_MIN: f64 = 0.01;

/// A surplus and a missing energy with one cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Whose observer reads low.
    pub zone: ZoneId,
    /// The zone above it.
    pub parent: ZoneId,
    /// The case about the surplus in `zone`.
    pub surplus: u64,
    /// The case about the missing energy in `parent`.
    pub missing: u64,
}

/// The pairs among open cases. `parent_of`: the zone above a zone.
pub fn pairs(cases: &[Case], parent_of: impl Fn(ZoneId) -> Option<ZoneId>) -> Vec<Pair> {
    let open = || cases.iter().filter(|case| !case.state.is_closed());
    let began = |case: &Case| case.onset.unwrap_or(case.opened_at);
    open()
        .filter(|case| case.kind == CaseKind::SurplusEnergy)
        .filter_map(|surplus| {
            let parent = parent_of(surplus.zone)?;
            let disagrees = surplus
                .evidence
                .iter()
                .any(|e| e.kind == EvidenceKind::ObserverDisagrees && e.direction == Direction::For);
            let missing = open().find(|case| {
                let together = began(case).seconds_since(began(surplus)).abs() <= TOGETHER_SECONDS;
                case.zone == parent && case.kind == CaseKind::MissingEnergy && together && disagrees
            })?;
            Some(Pair { zone: surplus.zone, parent, surplus: surplus.id, missing: missing.id })
        })
        .collect()
}

/// How much less than the truth an observer registers, as a share of the truth; `None` when nothing flowed or it is within errors.
/// `balances`: those of its zone since it began.
pub fn reads_low_by(balances: &[EnergyBalance]) -> Option<f64> {
    let supplied: f64 = balances.iter().map(|b| b.supplied_wh).sum();
    let surplus: f64 = -balances.iter().map(|b| b.unaccounted_wh).sum::<f64>();
    let share = surplus / (supplied + surplus);
    (supplied > 0.0 && share >= SHARE_MIN).then_some(share)
}

/// The finding about the observer of a zone in surplus whose explanation says that it reads low. `ct_ratio`: its ratio in the register.
pub fn finding(history: &ZoneHistory, explanation: &Explanation, ct_ratio: f64) -> Option<Finding> {
    let own = Localisation::Observer { zone: history.zone };
    if history.kind != AlarmKind::Surplus || explanation.localisation != own {
        return None;
    }
    let after: Vec<EnergyBalance> =
        history.balances.iter().filter(|b| b.end > history.onset && b.coverage > 0.0).copied().collect();
    let share = reads_low_by(&after)?;
    let number = |name: &str, value: f64, unit: &str| Number { name: name.to_owned(), value, unit: unit.to_owned() };
    Some(Finding {
        kind: FindingKind::WrongRatio,
        zone: history.zone,
        subject: Subject::Observer { zone: history.zone, meter: history.observer },
        correction: Correction::SetRatio { from: ct_ratio, to: ct_ratio / (1.0 - share) },
        confidence: CONFIDENCE,
        words: format!(
            "the observer of {} reads {:.0} % low since {}: its zone has that much too little, the zone above it misses the same. \
             If nobody changed its ratio, look at the meter before correcting it: it may have been tampered with",
            history.zone,
            100.0 * share,
            history.onset
        ),
        numbers: vec![
            number("reads low by", 100.0 * share, "%"),
            number("surplus since then", explanation.missing_wh.abs() / 1_000.0, "kWh"),
        ],
    })
}

#[cfg(test)]
mod tests {
    use metering::Timestamp;

    use super::*;
    use crate::evidence::Evidence;

    fn zone(name: &str) -> ZoneId {
        ZoneId::new(name).expect("id")
    }

    fn case(id: u64, kind: CaseKind, at: &str, onset: i64, evidence: Vec<Evidence>) -> Case {
        let mut case = Case::open(kind, zone(at), None, Timestamp(onset), "pipeline", evidence).expect("opens");
        (case.id, case.onset) = (id, Some(Timestamp(onset)));
        case
    }

    #[test]
    fn a_surplus_and_a_missing_energy_above_it_are_one_fault() {
        let disagrees =
            Evidence::new(EvidenceKind::ObserverDisagrees, Direction::For, 7.0, "the zone above", zone("T3"), vec![]);
        let parent_of = |z: ZoneId| (z == zone("T3")).then(|| zone("F1"));
        let surplus = case(7, CaseKind::SurplusEnergy, "T3", 1_000, vec![disagrees]);
        let missing = case(6, CaseKind::MissingEnergy, "F1", 2_000, vec![]);
        let pair = Pair { zone: zone("T3"), parent: zone("F1"), surplus: 7, missing: 6 };
        assert_eq!(pairs(&[missing.clone(), surplus.clone()], parent_of), [pair]);
        let earlier = case(5, CaseKind::MissingEnergy, "F1", -200_000, vec![]);
        assert_eq!(pairs(&[earlier, surplus], parent_of), []);
        let unexplained = case(8, CaseKind::SurplusEnergy, "T3", 1_000, vec![]);
        assert_eq!(pairs(&[missing, unexplained], parent_of), [], "nothing says that it is the observer");
    }

    #[test]
    fn an_observer_that_registers_85_percent_reads_15_percent_low() {
        let balance = EnergyBalance {
            zone: zone("T3"),
            end: Timestamp(900),
            minutes: 15,
            supplied_wh: 850.0,
            metered_wh: 980.0,
            technical_wh: 20.0,
            unaccounted_wh: -150.0,
            sigma_random_wh: 1.0,
            sigma_systematic_wh: 1.0,
            coverage: 1.0,
        };
        assert!((reads_low_by(&[balance, balance]).expect("flows") - 0.15).abs() < 1e-12);
        assert_eq!(reads_low_by(&[]), None);
        assert_eq!(reads_low_by(&[EnergyBalance { unaccounted_wh: 150.0, ..balance }]), None);
    }
}
