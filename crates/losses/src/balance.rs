//! The energy balance of a zone and a slot: `unaccounted = supplied − metered − technical`, with its uncertainty.
//!
//! Positive `unaccounted` means that energy is missing, negative that meters report more than was supplied. All energies in Wh.

use metering::{Timestamp, ZoneId};
use serde::{Deserialize, Serialize};

/// The balance of one zone over one interval.
///
/// `supplied = metered + technical + unaccounted` holds exactly: every term is a multiple of 2⁻¹⁰ Wh.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnergyBalance {
    /// The zone.
    pub zone: ZoneId,
    /// End of the interval.
    pub end: Timestamp,
    /// Its length, minutes.
    pub minutes: u16,
    /// What the observer meter let in, import less export, Wh.
    pub supplied_wh: f64,
    /// What the meters inside report, import less export; missing ones estimated, Wh.
    pub metered_wh: f64,
    /// Expected loss of the network itself, Wh.
    pub technical_wh: f64,
    /// What remains, Wh.
    pub unaccounted_wh: f64,
    /// Standard deviation of the part of the error that is independent between intervals: adds in quadrature over time, Wh.
    pub sigma_random_wh: f64,
    /// Standard deviation of the part of the error that is the same in all intervals: adds linearly over time, Wh.
    pub sigma_systematic_wh: f64,
    /// Share of the zone's energy that was measured, not estimated, 0 to 1; 0 when the observer was missing.
    pub coverage: f64,
}

impl EnergyBalance {
    /// Standard deviation of `unaccounted_wh`, both parts together, Wh.
    pub fn sigma_wh(&self) -> f64 {
        self.sigma_random_wh.hypot(self.sigma_systematic_wh)
    }
}
