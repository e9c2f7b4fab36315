//! The energy balance of a zone and a slot: `unaccounted = supplied − metered − technical`, with its uncertainty.
//!
//! Positive `unaccounted` means that energy is missing, negative that meters report more than was supplied. All energies in Wh.
//! [`ZoneMonitor`] is the streaming form: fed slot by slot, it estimates missing meters, fits the technical loss
//! ([`crate::technical`]) and watches the residual ([`crate::alarm`]). It is not a network model: where one exists, its loss
//! is handed in as [`crate::technical::TechnicalPrior`].

mod estimate;
mod monitor;

use metering::{Timestamp, ZoneId};
use registry::on_grid;
pub use registry::{Flow, MemberId, MeterClass};
use serde::{Deserialize, Serialize};

pub use monitor::{ZoneConfig, ZoneMonitor, ZoneVerdict};

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

    /// The balance over several intervals: energies add, random sigmas add in quadrature, systematic ones linearly, coverage is
    /// weighted by energy. `None` when there is nothing to add. Zone and end are those of the last.
    pub fn total(balances: &[Self]) -> Option<Self> {
        let last = balances.last()?;
        let mut sum =
            Self { minutes: 0, supplied_wh: 0.0, metered_wh: 0.0, technical_wh: 0.0, unaccounted_wh: 0.0, ..*last };
        let (mut random, mut systematic, mut weight, mut covered) = (0.0, 0.0, 0.0, 0.0);
        for b in balances {
            sum.minutes = sum.minutes.saturating_add(b.minutes);
            sum.supplied_wh += b.supplied_wh;
            sum.metered_wh += b.metered_wh;
            sum.technical_wh += b.technical_wh;
            sum.unaccounted_wh += b.unaccounted_wh;
            random += b.sigma_random_wh * b.sigma_random_wh;
            systematic += b.sigma_systematic_wh;
            weight += b.metered_wh.abs() + 1.0;
            covered += b.coverage * (b.metered_wh.abs() + 1.0);
        }
        sum.sigma_random_wh = random.sqrt();
        sum.sigma_systematic_wh = systematic;
        sum.coverage = covered / weight;
        Some(sum)
    }
}

/// Standard deviation added to the gain of a meter behind current transformers (class 0.5 transformers, IEC 61869-2).
pub(crate) const CT_RATIO_SD: f64 = 0.0025;

/// One meter of the zone in a slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeterSlot {
    /// What it counted; `None` when the readings at either end are missing or not trusted.
    pub flow: Option<Flow>,
    /// Ratio of its current (and voltage) transformers; 1 when directly connected.
    pub ct_ratio: f64,
    /// Its class.
    pub class: MeterClass,
}

impl MeterSlot {
    /// Import less export at the primary side, Wh.
    pub(crate) fn net_wh(&self) -> Option<f64> {
        Some(self.flow?.net_wh(self.ct_ratio))
    }
}

/// A member of the zone with its meter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemberSlot {
    /// Which member.
    pub id: MemberId,
    /// What its meter counted.
    pub meter: MeterSlot,
}

/// Everything the balance of one zone and slot needs.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneSlot {
    /// The zone.
    pub zone: ZoneId,
    /// End of the slot.
    pub end: Timestamp,
    /// Its length, minutes.
    pub minutes: u16,
    /// The observer meter.
    pub observer: MeterSlot,
    /// Usage points and child zones; keep their order between slots, it is faster.
    pub members: Vec<MemberSlot>,
}
