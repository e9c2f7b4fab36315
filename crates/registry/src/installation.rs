//! A meter at a place, or a supply that has none.

use metering::{MeterId, Timestamp, WattHours};
use serde::{Deserialize, Serialize};

use crate::{class::MeterClass, flow::Flow};

/// The phase a single-phase meter hangs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseConnection {
    /// Not known.
    #[default]
    Unknown,
    /// Phase A (L1, R).
    A,
    /// Phase B (L2, Y).
    B,
    /// Phase C (L3, B of the Indian naming is not accepted: it is ambiguous).
    C,
    /// All three.
    Abc,
}

impl PhaseConnection {
    /// The word in files and on pages; empty when unknown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::Abc => "ABC",
        }
    }

    /// The phase of a word: A, B, C, ABC, also L1, L2, L3, empty = unknown.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word.to_ascii_uppercase().as_str() {
            "" => Self::Unknown,
            "A" | "L1" | "1" => Self::A,
            "B" | "L2" | "2" => Self::B,
            "C" | "L3" | "3" => Self::C,
            "ABC" | "L123" | "3P" => Self::Abc,
            _ => return None,
        })
    }
}

/// A meter at a place, for a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Installation {
    /// The meter.
    pub meter: MeterId,
    /// Primary current per secondary current of the current transformer; 1 without one. Energies and currents of the meter are
    /// multiplied by it.
    pub ct_ratio: f64,
    /// The phase.
    pub phase: PhaseConnection,
    /// Its class, where the register names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<MeterClass>,
    /// First instant at which this holds.
    pub valid_from: Timestamp,
    /// First instant at which it does not hold any more; `None` = until further notice.
    pub valid_to: Option<Timestamp>,
}

impl Installation {
    /// Whether it holds from `begin` through `end`: the registers at both ends are of this place then.
    pub fn covers(&self, begin: Timestamp, end: Timestamp) -> bool {
        self.valid_from <= begin && self.valid_to.is_none_or(|valid_to| end <= valid_to)
    }
}

/// A supply that takes the same power all the time and has no meter: street lights that burn, a kiosk, an amplifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnmeteredSupply {
    /// Its power, W.
    pub watts: u32,
}

impl UnmeteredSupply {
    /// What it took from `begin` to `end`: whole Wh that add up over time to the Wh of its power.
    pub fn flow(self, begin: Timestamp, end: Timestamp) -> Flow {
        let until = |at: Timestamp| (i128::from(at.0) * i128::from(self.watts)).div_euclid(3_600);
        let import_wh = WattHours(u64::try_from(until(end) - until(begin)).unwrap_or(0));
        Flow { import_wh, export_wh: WattHours(0) }
    }
}
