//! Thieves: what they do, where and when. The truth that a server is later measured against.

use metering::Timestamp;
use serde::{Deserialize, Serialize};

/// A way to steal, or to hide that something is stolen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TheftKind {
    /// The meter registers only a part of what flows; nothing else shows.
    UnderRegistration {
        /// The part that is still registered, 0 to 1.
        kept: f64,
    },
    /// Both conductors are led around the meter during the night; nothing of that load is registered then.
    NightBypass {
        /// First hour of the night (UTC, 0–23).
        from_hour: u8,
        /// Hour at which the bypass is taken off.
        to_hour: u8,
    },
    /// A second line is tapped between the street and the meter, at the meter's terminals: its load is never seen by the meter,
    /// but it loads the service line, so the voltage falls.
    Tap,
    /// The cover is opened and the phase sensor shunted inside; the neutral sensor still sees all. The relay still cuts.
    Shunt {
        /// The part of the phase current that the sensor still sees, 0 to 1.
        kept: f64,
    },
    /// The cover is opened and a wire led around meter and relay; the relay does not cut, its load side stays live.
    WireAround {
        /// The part of the current that still flows through the meter, 0 to 1.
        kept: f64,
    },
    /// The transformer's observer meter registers only a part: its zone then shows more metered than supplied.
    TamperedObserver {
        /// The part that is still registered, 0 to 1.
        kept: f64,
    },
}

impl TheftKind {
    /// The word in reports.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::UnderRegistration { .. } => "under_registration",
            Self::NightBypass { .. } => "night_bypass",
            Self::Tap => "tap_before_meter",
            Self::Shunt { .. } => "shunted_sensor",
            Self::WireAround { .. } => "wire_around_meter",
            Self::TamperedObserver { .. } => "tampered_observer",
        }
    }

    /// Whether the meter's cover is opened for it.
    pub const fn opens_cover(&self) -> bool {
        matches!(self, Self::Shunt { .. } | Self::WireAround { .. })
    }

    /// Whether the theft happens at this second of the UTC day.
    pub fn is_active_at(&self, second_of_day: i64) -> bool {
        match *self {
            Self::NightBypass { from_hour, to_hour } => {
                let (from, to) = (i64::from(from_hour) * 3_600, i64::from(to_hour) * 3_600);
                if from <= to {
                    (from..to).contains(&second_of_day)
                } else {
                    second_of_day >= from || second_of_day < to
                }
            }
            _ => true,
        }
    }
}

/// One theft of the scenario.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TheftPlan {
    /// How.
    pub kind: TheftKind,
    /// Which transformer, from 0.
    pub transformer: u16,
    /// Which home of it, from 0; `None` lets the seed choose one (not used for a tampered observer).
    pub home: Option<u16>,
    /// When it begins.
    pub start: Timestamp,
    /// When it ends; `None` = never.
    pub end: Option<Timestamp>,
    /// The share of the zone's mean inflow that shall be stolen while the theft is active, 0 to 0.6. The thief's own load is
    /// raised until it is (a thief with a workshop). `None` leaves the load as it is.
    pub zone_share: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_night_may_cross_midnight() {
        let night = TheftKind::NightBypass { from_hour: 22, to_hour: 5 };
        assert!(night.is_active_at(23 * 3_600) && night.is_active_at(0) && night.is_active_at(5 * 3_600 - 1));
        assert!(!night.is_active_at(5 * 3_600) && !night.is_active_at(12 * 3_600));
        assert!(TheftKind::Tap.is_active_at(12 * 3_600));
    }
}
