//! Sums of balances over time and over zones, for pages: energies add; the random part of the uncertainty adds in quadrature, the
//! systematic part linearly, because what is wrong in one interval or one zone (the loss model, the class of the meters) is wrong in
//! the same direction in the others; coverage is weighted by the energy supplied.

use losses::balance::EnergyBalance;
use metering::Timestamp;
use serde::Serialize;

/// Standard deviations shown behind "±": two, about 95 %.
pub const SHOWN_SIGMAS: f64 = 2.0;
/// Share of the energy that must have been measured for a figure to count as complete.
pub const COVERAGE_COMPLETE: f64 = 0.98;

/// A sum of balances of one zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Totals {
    /// End of the last interval, seconds since 1970 UTC.
    #[schema(value_type = i64)]
    pub end: Timestamp,
    /// Minutes covered.
    pub minutes: u32,
    /// What the observer let in, Wh.
    pub supplied_wh: f64,
    /// What the meters inside report, Wh.
    pub metered_wh: f64,
    /// Expected loss of the network, Wh.
    pub technical_wh: f64,
    /// What remains, Wh.
    pub unaccounted_wh: f64,
    /// Random part of its standard deviation, Wh.
    pub sigma_random_wh: f64,
    /// Systematic part of its standard deviation, Wh.
    pub sigma_systematic_wh: f64,
    /// Share measured, not estimated, 0 to 1.
    pub coverage: f64,
}

impl Totals {
    /// The sum of some balances; `None` of none: nothing known is not zero.
    pub fn of<'a>(balances: impl IntoIterator<Item = &'a EnergyBalance>) -> Option<Self> {
        let mut sum: Option<Self> = None;
        let (mut variance, mut weight, mut covered) = (0.0, 0.0, 0.0);
        for balance in balances {
            let total = sum.get_or_insert_default();
            total.end = total.end.max(balance.end);
            total.minutes += u32::from(balance.minutes);
            total.supplied_wh += balance.supplied_wh;
            total.metered_wh += balance.metered_wh;
            total.technical_wh += balance.technical_wh;
            total.unaccounted_wh += balance.unaccounted_wh;
            total.sigma_systematic_wh += balance.sigma_systematic_wh;
            variance += balance.sigma_random_wh * balance.sigma_random_wh;
            let share = balance.supplied_wh.abs().max(1.0);
            weight += share;
            covered += share * balance.coverage;
        }
        sum.map(|total| Self { sigma_random_wh: variance.sqrt(), coverage: covered / weight, ..total })
    }

    /// The sum over zones of the same time. Their systematic errors are not independent: all zones share one loss model. Added in
    /// quadrature, a network would contradict zones that are each within their uncertainty.
    pub fn across(zones: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut sum: Option<Self> = None;
        let (mut weight, mut covered) = (0.0, 0.0);
        for zone in zones {
            let total = sum.get_or_insert_default();
            total.end = total.end.max(zone.end);
            total.minutes = total.minutes.max(zone.minutes);
            total.supplied_wh += zone.supplied_wh;
            total.metered_wh += zone.metered_wh;
            total.technical_wh += zone.technical_wh;
            total.unaccounted_wh += zone.unaccounted_wh;
            total.sigma_random_wh = total.sigma_random_wh.hypot(zone.sigma_random_wh);
            total.sigma_systematic_wh += zone.sigma_systematic_wh;
            let share = zone.supplied_wh.abs().max(1.0);
            weight += share;
            covered += share * zone.coverage;
        }
        sum.map(|total| Self { coverage: covered / weight, ..total })
    }

    /// Mean power of an energy of this sum, kW.
    pub fn kw(&self, wh: f64) -> f64 {
        crate::format::mean_kw(wh, f64::from(self.minutes))
    }

    /// What stands behind "±", Wh.
    pub fn plus_minus_wh(&self) -> f64 {
        SHOWN_SIGMAS * self.sigma_random_wh.hypot(self.sigma_systematic_wh)
    }

    /// Whether what is missing or too much exceeds its uncertainty.
    pub fn stands_out(&self) -> bool {
        self.unaccounted_wh.abs() > self.plus_minus_wh()
    }

    /// Unaccounted energy as a share of the supplied, when that says something.
    pub fn share(&self) -> Option<f64> {
        (self.supplied_wh > 1.0).then(|| self.unaccounted_wh / self.supplied_wh)
    }

    /// Whether too little was measured to call the figures complete.
    pub fn is_partial(&self) -> bool {
        self.coverage < COVERAGE_COMPLETE
    }
}

/// Balances summed into steps of `minutes` that end on multiples of the step; ascending input.
pub fn stepped(balances: &[EnergyBalance], minutes: u16) -> Vec<Totals> {
    let seconds = i64::from(minutes.max(1)) * 60;
    let step_of = |balance: &EnergyBalance| balance.end.plus(seconds - 1).floor_to(seconds);
    balances
        .chunk_by(|a, b| step_of(a) == step_of(b))
        .filter_map(|chunk| {
            let end = chunk.first().map(step_of)?;
            Totals::of(chunk).map(|total| Totals { end, ..total })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use metering::ZoneId;

    use super::*;

    #[test]
    fn a_network_whose_zones_are_balanced_is_balanced() {
        // One loss model that is 2 % too high everywhere: each zone is within its uncertainty, so is their sum.
        let zone = Totals {
            minutes: 15,
            supplied_wh: 1_000.0,
            unaccounted_wh: -20.0,
            sigma_random_wh: 2.0,
            sigma_systematic_wh: 12.0,
            coverage: 1.0,
            ..Totals::default()
        };
        assert!(!zone.stands_out());
        let network = Totals::across(vec![zone; 400]).expect("zones");
        assert!(!network.stands_out(), "{} ± {}", network.unaccounted_wh, network.plus_minus_wh());
        assert!((network.sigma_systematic_wh - 4_800.0).abs() < 1e-6 && (network.sigma_random_wh - 40.0).abs() < 1e-6);
    }

    #[test]
    fn random_parts_add_in_quadrature_and_systematic_ones_linearly() {
        let zone = ZoneId::new("T-1").expect("id");
        let balance = |end| EnergyBalance {
            zone,
            end: Timestamp(end),
            minutes: 15,
            supplied_wh: 100.0,
            metered_wh: 80.0,
            technical_wh: 5.0,
            unaccounted_wh: 15.0,
            sigma_random_wh: 3.0,
            sigma_systematic_wh: 1.0,
            coverage: 0.5,
        };
        let day: Vec<_> = (1..=4).map(|i| balance(i * 900)).collect();
        let total = Totals::of(&day).expect("four");
        assert!((total.sigma_random_wh - 6.0).abs() < 1e-9 && (total.sigma_systematic_wh - 4.0).abs() < 1e-9);
        assert!((total.coverage - 0.5).abs() < 1e-9 && total.is_partial() && total.stands_out());
        assert_eq!(Totals::of(&[]), None);
        let hours = stepped(&day, 60);
        assert_eq!((hours.len(), hours[0].end, hours[0].minutes), (1, Timestamp(3_600), 60));
    }
}
