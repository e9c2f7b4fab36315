//! What honest fault explains a zone's imbalance? To be asked before anybody is suspected.
//!
//! [`findings`] takes a zone's readings over some weeks and answers with faults of mapping, ratio, meter and clock, and with loads
//! and generators that nobody registered: each with a proposed correction, a confidence and the numbers it rests on. Every
//! fault changes the balance in a way that is known beforehand: a meter that hangs elsewhere puts exactly its own readings in
//! surplus, a shifted clock leaves the difference of the series and its shifted copy, street lighting is a constant
//! from dusk to dawn. So each is a column of a regression with a *known* coefficient; theft has none.
//! Residual: r = supplied − Σ metered − technical loss, in Wh, positive: energy is missing.
//!
//! Needs at least two days; two to five weeks are best. What it cannot see: two meters of the same zone that were
//! exchanged before the first reading (the sum is the same), a fault that began in the last day, wrong phases without a balance per
//! phase (give each phase as a zone and the other phases as its neighbours). A finding is a proposal for a person.

mod engine;
mod hypotheses;
mod loss;
mod meters;
mod series;
mod sun;

use metering::{MeterId, UsagePointId, ZoneId};
use serde::{Deserialize, Serialize};

use crate::balance::MemberId;

pub use loss::implausible_loss;
pub use series::{MeterSeries, NeighbourZone, Site, ZoneSeries};

/// Most findings of one zone.
pub const FINDINGS_MAX: usize = 8;

/// The kinds of honest faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A meter is mapped to this zone (transformer or phase) and supplied from another, or the other way round.
    WrongMapping,
    /// The ratio of current transformers or a register's multiplier is wrong.
    WrongRatio,
    /// A meter counts nothing any more, and what it used to count is missing.
    DeadMeter,
    /// The readings of two meters are exchanged.
    SwappedMeters,
    /// A meter's clock or time zone is wrong.
    ClockShift,
    /// Unmetered public supply: a constant load from dusk to dawn.
    PublicSupply,
    /// A generator that is not registered or not counted.
    Solar,
    /// More is called technical loss than any network loses.
    ImplausibleLoss,
}

impl FindingKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::WrongMapping,
        Self::WrongRatio,
        Self::DeadMeter,
        Self::SwappedMeters,
        Self::ClockShift,
        Self::PublicSupply,
        Self::Solar,
        Self::ImplausibleLoss,
    ];

    /// The words shown to people as a heading.
    pub const fn word(self) -> &'static str {
        match self {
            Self::WrongMapping => "wrong transformer or phase",
            Self::WrongRatio => "wrong ratio or multiplier",
            Self::DeadMeter => "dead meter",
            Self::SwappedMeters => "exchanged meters",
            Self::ClockShift => "shifted clock",
            Self::PublicSupply => "unmetered public supply",
            Self::Solar => "unregistered generation",
            Self::ImplausibleLoss => "implausible technical loss",
        }
    }
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "about")]
pub enum Subject {
    /// A meter at a usage point.
    UsagePoint {
        /// Which.
        usage_point: UsagePointId,
        /// Its meter.
        meter: MeterId,
    },
    /// The observer meter of a zone: this one's, or a child's.
    Observer {
        /// Whose observer.
        zone: ZoneId,
        /// The meter.
        meter: MeterId,
    },
    /// The zone as a whole.
    Zone {
        /// Which.
        zone: ZoneId,
    },
}

impl Subject {
    /// The usage point, if it is one.
    pub fn usage_point(&self) -> Option<UsagePointId> {
        match self {
            Self::UsagePoint { usage_point, .. } => Some(*usage_point),
            Self::Observer { .. } | Self::Zone { .. } => None,
        }
    }
}

/// What to change in the register of the network or at the meter. Nothing is changed without a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum Correction {
    /// Map the subject to another zone; without `to` only that it is not supplied from `from` is known.
    Remap {
        /// Where it is mapped now.
        from: ZoneId,
        /// Where it seems to be supplied from.
        to: Option<ZoneId>,
    },
    /// Exchange the mappings of the subject's meter and this one.
    ExchangeMeters {
        /// The other meter.
        with: MeterId,
        /// Its usage point, where it is one.
        usage_point: Option<UsagePointId>,
    },
    /// Set the ratio of the transformers (or the multiplier).
    SetRatio {
        /// The ratio in the register.
        from: f64,
        /// The ratio that balances the zone.
        to: f64,
    },
    /// Visit and replace the meter.
    ReplaceMeter {
        /// Mean power not counted, W.
        uncounted_w: f64,
    },
    /// Set the clock or time zone; times of its past readings move by so much.
    SetClock {
        /// To be added to the time of its readings, seconds.
        add_seconds: i64,
    },
    /// Register an unmetered supply with a burning-hour profile.
    RegisterUnmeteredSupply {
        /// Its power while on, W.
        watts: f64,
    },
    /// Register a generator and read both directions.
    RegisterGeneration,
    /// Check suspect readings, ratings, ratios and unregistered consumers of the zone.
    CheckZone,
}

/// A number a finding rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Number {
    /// What it is.
    pub name: String,
    /// Value.
    pub value: f64,
    /// Unit; empty for a bare number.
    pub unit: String,
}

/// A honest fault that explains (part of) the imbalance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Kind.
    pub kind: FindingKind,
    /// The zone whose balance showed it.
    pub zone: ZoneId,
    /// What it is about.
    pub subject: Subject,
    /// What to change.
    pub correction: Correction,
    /// Probability that it is this fault rather than theft or chance, 0 to 1.
    pub confidence: f64,
    /// The reason in a sentence.
    pub words: String,
    /// The numbers it rests on.
    pub numbers: Vec<Number>,
}

impl Finding {
    /// Whether it is sure enough that its subject must not be suspected before it is checked.
    pub fn is_to_be_checked_first(&self) -> bool {
        self.confidence >= 0.5
    }
}

/// Whether a usage point must not be named before these findings are checked: one is about it, or about the balance as a whole.
pub fn rules_out(findings: &[Finding], usage_point: UsagePointId) -> bool {
    findings.iter().filter(|f| f.is_to_be_checked_first()).any(|finding| {
        match (&finding.subject, &finding.correction) {
            (_, Correction::ExchangeMeters { usage_point: Some(other), .. }) if *other == usage_point => true,
            (Subject::UsagePoint { usage_point: about, .. }, _) => *about == usage_point,
            (Subject::Observer { zone, .. }, _) => *zone == finding.zone,
            (Subject::Zone { .. }, _) => true,
        }
    })
}

/// Searches a zone's readings for honest faults, surest first; empty when none is found, and with less than two days.
pub fn findings(series: &ZoneSeries) -> Vec<Finding> {
    let Some(data) = series::prepare(series) else { return Vec::new() };
    let mut found = meters::dead(&data);
    found.extend(meters::swapped(&data));
    found.extend(sun::unregistered_generation(&data));
    found.extend(hypotheses::search(&data, &found));
    found.extend(sun::search(&data, &found));
    found.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    found.truncate(FINDINGS_MAX);
    found
}

fn number(name: &str, value: f64, unit: &str) -> Number {
    Number { name: name.to_owned(), value, unit: unit.to_owned() }
}

/// The subject for a member.
fn subject(id: MemberId, meter: MeterId) -> Subject {
    match id {
        MemberId::UsagePoint(usage_point) => Subject::UsagePoint { usage_point, meter },
        MemberId::Zone(zone) => Subject::Observer { zone, meter },
    }
}
