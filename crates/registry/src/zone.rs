//! Zones and usage points.

use metering::{UsagePointId, ZoneId};
use serde::{Deserialize, Serialize};

use crate::installation::{Installation, UnmeteredSupply};

/// What a zone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZoneKind {
    /// A feeder: a zone without a parent.
    Feeder,
    /// What a transformer supplies.
    Transformer,
    /// A branch behind a transformer.
    Branch,
    /// A single service line: one usage point.
    Service,
}

impl ZoneKind {
    /// The word in files and on pages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Feeder => "feeder",
            Self::Transformer => "transformer",
            Self::Branch => "branch",
            Self::Service => "service",
        }
    }

    /// The kind of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Feeder, Self::Transformer, Self::Branch, Self::Service].into_iter().find(|kind| kind.word() == word)
    }
}

/// A zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopologyZone {
    /// Its name.
    pub zone: ZoneId,
    /// The zone it is part of.
    pub parent: Option<ZoneId>,
    /// What it is.
    pub kind: ZoneKind,
    /// Power the line or transformer is built for, W.
    pub rating_w: Option<u64>,
    /// The meter at its inflow.
    pub observer: Option<Installation>,
}

/// A usage point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopologyUsagePoint {
    /// Its name.
    pub usage_point: UsagePointId,
    /// The innermost zone it is in.
    pub zone: ZoneId,
    /// Never to be disconnected (life support, hospital, …).
    pub never_disconnect: bool,
    /// Power the connection is built for, W; `None` = not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating_w: Option<u64>,
    /// The meter there.
    pub installation: Option<Installation>,
    /// What is taken there without a meter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmetered: Option<UnmeteredSupply>,
}
