//! Hotspots: where were thefts found, where are they to be expected next month, and which visits are worth their cost?
//!
//! Empirical Bayes: each area's rate of theft is drawn from a Beta(a, b) that is fitted on all areas, so that an area with
//! two inspections is not called 50 %. Earlier outcomes fade with time, and the unlabelled share of missing energy of the
//! area's zones moves the prior mean. Only outcomes from before the month that is forecast are used; a back-test says how well that works.
//!
//! Not a score for a person: an area's rate says nothing about a household by itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Months after which an outcome counts half.
const HALF_LIFE_MONTHS: f64 = 12.0;
/// How strongly the missing share moves the prior mean: factor exp(strength · (share − mean share) / spread).
const RESIDUAL_STRENGTH: f64 = 0.3;
/// Limits of a + b, the weight of the prior in inspections.
const PRIOR_WEIGHT: (f64, f64) = (2.0, 200.0);

/// One inspection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// Zone or grid cell.
    pub area: String,
    /// Month counted from any common start.
    pub month: u32,
    /// Theft was found.
    pub found: bool,
}

/// The rate of one area with its uncertainty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hotspot {
    /// Zone or grid cell.
    pub area: String,
    /// Expected share of thefts among inspections next month.
    pub rate: f64,
    /// Standard deviation of that rate.
    pub deviation: f64,
    /// Inspections so far, faded.
    pub inspected: f64,
    /// Thefts found so far, faded.
    pub found: f64,
}

/// Rates of all areas for `month` from the inspections before it, highest first. `missing_share`: unaccounted / supplied
/// energy per area, where known; areas that appear only there are rated too.
pub fn hotspots(inspections: &[Inspection], missing_share: &BTreeMap<String, f64>, month: u32) -> Vec<Hotspot> {
    let mut counts: BTreeMap<&str, (f64, f64)> = missing_share.keys().map(|a| (a.as_str(), (0.0, 0.0))).collect();
    for inspection in inspections.iter().filter(|i| i.month < month) {
        let age = f64::from(month - inspection.month);
        let weight = 0.5f64.powf(age / HALF_LIFE_MONTHS);
        let count = counts.entry(&inspection.area).or_default();
        count.0 += weight;
        count.1 += if inspection.found { weight } else { 0.0 };
    }
    let (mean, weight) = fit_prior(&counts.values().copied().collect::<Vec<_>>());
    let shares: Vec<f64> = missing_share.values().copied().filter(|s| s.is_finite()).collect();
    let centre = crate::pattern::statistics::mean(&shares);
    let spread = crate::pattern::statistics::deviation(&shares);
    let mut areas: Vec<Hotspot> = counts
        .into_iter()
        .map(|(area, (inspected, found))| {
            let moved = missing_share
                .get(area)
                .filter(|s| s.is_finite() && spread > 0.0)
                .map_or(0.0, |s| RESIDUAL_STRENGTH * ((s - centre) / spread).clamp(-3.0, 3.0));
            let prior = (mean * moved.exp()).clamp(1e-4, 0.9);
            let (a, b) = (prior * weight + found, (1.0 - prior) * weight + inspected - found);
            let rate = a / (a + b);
            let deviation = (rate * (1.0 - rate) / (a + b + 1.0)).sqrt();
            Hotspot { area: area.to_owned(), rate, deviation, inspected, found }
        })
        .collect();
    areas.sort_by(|x, y| y.rate.total_cmp(&x.rate));
    areas
}

/// (mean, weight a + b) of the Beta prior by moments over the areas; wide when there is little to learn from.
fn fit_prior(counts: &[(f64, f64)]) -> (f64, f64) {
    let inspected: f64 = counts.iter().map(|c| c.0).sum();
    let found: f64 = counts.iter().map(|c| c.1).sum();
    let mean = (found + 0.5) / (inspected + 10.0);
    let known: Vec<&(f64, f64)> = counts.iter().filter(|c| c.0 > 0.0).collect();
    if known.len() < 3 {
        return (mean, 10.0);
    }
    // Σ n (p − mean)² exceeds its binomial expectation by Σ (n − 1) times the variance between areas.
    let scatter: f64 = known.iter().map(|(n, f)| n * (f / n - mean).powi(2)).sum();
    let expected = mean * (1.0 - mean) * known.len() as f64;
    let freedom: f64 = known.iter().map(|(n, _)| (n - 1.0).max(0.0)).sum();
    let between = (scatter - expected) / freedom.max(1.0);
    let weight = if between > 0.0 { mean * (1.0 - mean) / between - 1.0 } else { PRIOR_WEIGHT.1 };
    (mean, weight.clamp(PRIOR_WEIGHT.0, PRIOR_WEIGHT.1))
}

/// How well earlier months foretold later ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackTest {
    /// Months forecast.
    pub months: usize,
    /// Thefts per inspection in the areas forecast highest (first fifth).
    pub rate_in_hotspots: f64,
    /// Thefts per inspection in all areas of the same months.
    pub rate_overall: f64,
}

/// Forecasts each of the months `from..=to` from the months before it and compares with what was then found.
pub fn back_test(inspections: &[Inspection], missing_share: &BTreeMap<String, f64>, from: u32, to: u32) -> BackTest {
    let (mut hot, mut all) = ((0usize, 0usize), (0usize, 0usize));
    let mut months = 0;
    for month in from..=to {
        let forecast = hotspots(inspections, missing_share, month);
        let first = &forecast[..forecast.len().div_ceil(5)];
        months += 1;
        for inspection in inspections.iter().filter(|i| i.month == month) {
            let hit = usize::from(inspection.found);
            all = (all.0 + 1, all.1 + hit);
            if first.iter().any(|h| h.area == inspection.area) {
                hot = (hot.0 + 1, hot.1 + hit);
            }
        }
    }
    let rate = |(n, f): (usize, usize)| f as f64 / n.max(1) as f64;
    BackTest { months, rate_in_hotspots: rate(hot), rate_overall: rate(all) }
}

/// A customer who might be visited.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The customer.
    pub id: String,
    /// Probability of theft.
    pub probability: f64,
    /// Energy recoverable if there is theft, in kWh.
    pub recoverable_kwh: f64,
}

/// What a visit costs and what a recovered kWh brings, in minor units of one currency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Economy {
    /// Cost of a visit.
    pub visit_cost_minor: i64,
    /// Value of a recovered kWh.
    pub kwh_value_minor: i64,
    /// Most visits.
    pub visits: usize,
    /// Share of the visits drawn at random from all others, so that outcomes stay honest labels (0.02–0.05).
    pub random_share: f64,
}

/// One planned visit.
#[derive(Debug, Clone, PartialEq)]
pub struct Visit {
    /// The customer.
    pub id: String,
    /// Expected net value in minor units: probability × recoverable energy × value − cost.
    pub value_minor: f64,
    /// Drawn at random, not for suspicion.
    pub random: bool,
}

/// The visits worth making within the budget: highest expected value first, only positive ones, plus the random share.
pub fn plan_visits(candidates: &[Candidate], economy: Economy, seed: u64) -> Vec<Visit> {
    let value = |c: &Candidate| {
        c.probability * c.recoverable_kwh * economy.kwh_value_minor as f64 - economy.visit_cost_minor as f64
    };
    let values: Vec<f64> = candidates.iter().map(value).collect();
    let order = crate::pattern::metrics::ranking(&values);
    let random = ((economy.visits as f64 * economy.random_share).round() as usize).min(economy.visits);
    let mut visits: Vec<Visit> = Vec::new();
    let mut left: Vec<usize> = Vec::new();
    for &i in &order {
        if visits.len() < economy.visits - random && values[i] > 0.0 {
            visits.push(Visit { id: candidates[i].id.clone(), value_minor: values[i], random: false });
        } else {
            left.push(i);
        }
    }
    let mut dice = crate::pattern::canary::Dice::new(seed);
    for _ in 0..random.min(left.len()) {
        let i = left.swap_remove(dice.below(left.len()));
        visits.push(Visit { id: candidates[i].id.clone(), value_minor: values[i], random: true });
    }
    visits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::canary::Dice;

    /// Forty areas with rates of their own, ten inspections each and month.
    fn world(seed: u64) -> Vec<Inspection> {
        let mut dice = Dice::new(seed);
        let rates: Vec<f64> = (0..40).map(|a| if a % 8 == 0 { 0.25 } else { 0.03 }).collect();
        let mut inspections = Vec::new();
        for month in 0..12 {
            for (area, rate) in rates.iter().enumerate() {
                for _ in 0..5 {
                    let found = dice.unit() < *rate;
                    inspections.push(Inspection { area: format!("A{area:02}"), month, found });
                }
            }
        }
        inspections
    }

    #[test]
    fn few_inspections_are_drawn_to_the_mean() {
        let mut inspections = world(1);
        inspections.push(Inspection { area: "lonely".to_owned(), month: 11, found: true });
        let areas = hotspots(&inspections, &BTreeMap::new(), 12);
        let lonely = areas.iter().find(|a| a.area == "lonely").expect("rated");
        assert!(lonely.rate < 0.5 && lonely.deviation > 0.02, "{lonely:?}");
        assert!(
            areas[..5].iter().filter(|a| ["A00", "A08", "A16", "A24", "A32"].contains(&a.area.as_str())).count() >= 4
        );
    }

    #[test]
    fn hotspots_of_the_past_foretell_the_next_month() {
        let tested = back_test(&world(2), &BTreeMap::new(), 6, 11);
        assert!(tested.rate_in_hotspots > 2.0 * tested.rate_overall, "{tested:?}");
    }

    #[test]
    fn the_forecast_beats_last_months_rate() {
        let (mut squared, mut naive_squared) = (0.0, 0.0);
        for seed in 1..=5 {
            let inspections = world(seed);
            for month in 6..12 {
                let rate_of = |area: &str, month: u32| {
                    let there: Vec<&Inspection> =
                        inspections.iter().filter(|i| i.area == area && i.month == month).collect();
                    there.iter().filter(|i| i.found).count() as f64 / there.len() as f64
                };
                for forecast in hotspots(&inspections, &BTreeMap::new(), month) {
                    let found = rate_of(&forecast.area, month);
                    squared += (forecast.rate - found).powi(2);
                    naive_squared += (rate_of(&forecast.area, month - 1) - found).powi(2);
                }
            }
        }
        assert!(squared < 0.7 * naive_squared, "{squared} {naive_squared}");
    }

    #[test]
    fn later_outcomes_are_never_used() {
        let all = world(3);
        let past: Vec<Inspection> = all.iter().filter(|i| i.month < 6).cloned().collect();
        assert_eq!(hotspots(&all, &BTreeMap::new(), 6), hotspots(&past, &BTreeMap::new(), 6));
    }

    #[test]
    fn missing_energy_moves_an_area_without_inspections() {
        let shares = BTreeMap::from([("dry".to_owned(), 0.0), ("leaky".to_owned(), 0.2)]);
        let areas = hotspots(&world(4), &shares, 12);
        let rate = |name: &str| areas.iter().find(|a| a.area == name).map_or(f64::NAN, |a| a.rate);
        assert!(rate("leaky") > rate("dry"));
    }

    #[test]
    fn visits_stop_where_they_cost_more_than_they_bring() {
        let candidate = |id: &str, probability| Candidate { id: id.to_owned(), probability, recoverable_kwh: 1_000.0 };
        let candidates = [candidate("sure", 0.9), candidate("hardly", 0.01), candidate("maybe", 0.3)];
        let economy = Economy { visit_cost_minor: 5_000, kwh_value_minor: 30, visits: 3, random_share: 0.0 };
        let visits = plan_visits(&candidates, economy, 1);
        assert_eq!(visits.iter().map(|v| v.id.as_str()).collect::<Vec<_>>(), ["sure", "maybe"]);
        let mixed = plan_visits(&candidates, Economy { random_share: 0.34, ..economy }, 1);
        assert_eq!(mixed.iter().filter(|v| v.random).count(), 1);
    }
}
