//! Evidence: one reason for or against a suspicion, with its weight in numbers and in words and the readings it rests on.
//!
//! The weight is the natural logarithm of a likelihood ratio (nats), never negative; [`Direction`] gives its sign. Weights of one
//! case may be added only as far as the pieces are independent, which they rarely are: the sum ranks, it does not prove.
//! Evidence is not an accusation and holds no verdict; that is for a person, in a [`crate::case::Case`].

use metering::{EventKind, MeterId, Timestamp, ZoneId};
use serde::{Deserialize, Serialize};

/// Whether a piece of evidence speaks for the suspicion or for an honest explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Supports the suspicion.
    For,
    /// Supports an honest explanation.
    Against,
}

impl Direction {
    /// The word shown to people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::For => "for",
            Self::Against => "against",
        }
    }
}

/// What a piece of evidence is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    /// The zone's balance is off by more than its uncertainty.
    ZoneImbalance,
    /// What is missing follows this usage point's metered use: part of its energy is not counted.
    ProportionalLoss,
    /// What is missing follows this usage point's use at night only.
    NightLoss,
    /// This usage point's metered use fell when energy went missing, by what is missing.
    MissingLoad,
    /// This usage point's metered level changed at the onset.
    ChangeAtOnset,
    /// The meter reported tampering.
    Tamper(EventKind),
    /// After a disconnection was reported, supply was still present.
    SupplyStillPresent,
    /// What is missing fell when this usage point was disconnected or returned to its earlier use.
    EndedWithLoad,
    /// The parent zone shows the opposite imbalance: the observer meter between them reads wrongly.
    ObserverDisagrees,
    /// The usage point looks vacant or is disconnected: a fall in use is explained.
    Vacancy,
    /// Readings are missing and were estimated.
    MissingReadings,
    /// The usage point feeds energy in: a fall of its import is explained.
    Generation,
    /// The meter, its transformer or its ratio was changed shortly before.
    MappingChange,
    /// Other usage points explain it nearly as well.
    Ambiguous,
    /// A loss of the network itself may explain it.
    TechnicalLoss,
    /// The fall in use is shared by the neighbours.
    SharedChange,
    /// All meters were read at the same second, several times: what was missing in the zone then.
    MissingAtInstants,
    /// At those seconds this meter's current times voltage was, or was not, much more than it counts.
    CurrentUncounted,
    /// The voltages of those seconds lie as if the missing power were drawn here, or elsewhere.
    VoltageAtInstants,
}

impl EvidenceKind {
    /// The words shown to people as a heading.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ZoneImbalance => "imbalance of the zone",
            Self::ProportionalLoss => "loss follows the use",
            Self::NightLoss => "loss follows the use at night",
            Self::MissingLoad => "use fell by what is missing",
            Self::ChangeAtOnset => "change when the loss began",
            Self::Tamper(kind) => kind.word(),
            Self::SupplyStillPresent => "supply still present",
            Self::EndedWithLoad => "loss ended with the load",
            Self::ObserverDisagrees => "observer disagrees with its parent",
            Self::Vacancy => "vacancy",
            Self::MissingReadings => "missing readings",
            Self::Generation => "own generation",
            Self::MappingChange => "recent change of meter or mapping",
            Self::Ambiguous => "others explain it as well",
            Self::TechnicalLoss => "loss of the network",
            Self::SharedChange => "neighbours changed as well",
            Self::MissingAtInstants => "all meters read at one second",
            Self::CurrentUncounted => "current against count at one second",
            Self::VoltageAtInstants => "voltages of one second",
        }
    }
}

/// The readings a piece of evidence rests on: the intervals of `meter` that end in (`from`, `to`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingRange {
    /// Whose readings.
    pub meter: MeterId,
    /// Intervals that end after this instant …
    pub from: Timestamp,
    /// … up to this one.
    pub to: Timestamp,
}

/// One reason for or against.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What it is about.
    pub kind: EvidenceKind,
    /// For the suspicion or for an honest explanation.
    pub direction: Direction,
    /// Natural logarithm of the likelihood ratio, not negative (nats).
    pub weight: f64,
    /// The reason in a sentence, with its numbers.
    pub words: String,
    /// The zone it concerns.
    pub zone: ZoneId,
    /// What it was computed from.
    pub readings: Vec<ReadingRange>,
}

impl Evidence {
    /// A piece of evidence; a weight that is negative or not a number counts as zero, one above 50 nats as 50.
    pub fn new(
        kind: EvidenceKind,
        direction: Direction,
        weight: f64,
        words: impl Into<String>,
        zone: ZoneId,
        readings: Vec<ReadingRange>,
    ) -> Self {
        let weight = if weight.is_finite() { weight.clamp(0.0, 50.0) } else { 0.0 };
        Self { kind, direction, weight, words: words.into(), zone, readings }
    }

    /// The weight with the sign of its direction (nats; positive speaks for the suspicion).
    pub fn signed_weight(&self) -> f64 {
        match self.direction {
            Direction::For => self.weight,
            Direction::Against => -self.weight,
        }
    }

    /// The weight in a word, on the scale of Kass and Raftery (1995) for Bayes factors: 1, 3, 5 nats.
    pub fn strength(&self) -> &'static str {
        match self.weight {
            w if w < 1.0 => "weak",
            w if w < 3.0 => "moderate",
            w if w < 5.0 => "strong",
            _ => "very strong",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_bounded_and_signed() {
        let zone = ZoneId::new("T-1").expect("id");
        let make = |direction, weight| {
            Evidence::new(EvidenceKind::Vacancy, direction, weight, "no use for nine days", zone, vec![])
        };
        assert_eq!(make(Direction::Against, 2.0).signed_weight(), -2.0);
        assert_eq!(make(Direction::For, f64::NAN).weight, 0.0);
        assert_eq!(make(Direction::For, 1e9).weight, 50.0);
        assert_eq!(make(Direction::For, 4.0).strength(), "strong");
        let json = serde_json::to_string(&make(Direction::For, 1.0)).expect("json");
        assert_eq!(serde_json::from_str::<Evidence>(&json).expect("back"), make(Direction::For, 1.0));
    }
}
