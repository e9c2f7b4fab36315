//! How good a ranking is: the fixed definitions used in every table and test.
//!
//! Ties are resolved in input order for the counting metrics and count half for the AUC. Average precision is the mean of
//! precision at the rank of each thief. MAP@N follows Zheng et al. 2018 (the paper, not its code): AP truncated at N and divided
//! by the thieves found among the first N.

use serde::{Deserialize, Serialize};

/// The metrics of one ranking.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Customers ranked.
    pub customers: usize,
    /// Thieves among them.
    pub thieves: usize,
    /// Area under the receiver operating characteristic.
    pub auc: f64,
    /// Average precision.
    pub ap: f64,
    /// MAP@100.
    pub map_100: f64,
    /// MAP@200.
    pub map_200: f64,
    /// Precision at a false-positive rate of 1 %.
    pub precision_at_1_percent_fpr: f64,
    /// Recall at a false-positive rate of 1 %.
    pub recall_at_1_percent_fpr: f64,
    /// Share of stolen energy in the 5 % ranked first, by the score. None without known stolen energy.
    pub kwh_at_5_percent: Option<f64>,
}

impl Metrics {
    /// Measures `scores` (higher is more suspicious) against `labels`; `stolen_kwh` per customer where known.
    pub fn measure(scores: &[f64], labels: &[bool], stolen_kwh: Option<&[f64]>) -> Self {
        let order = ranking(scores);
        let (precision, recall) = at_false_positive_rate(&order, labels, 0.01);
        Self {
            customers: labels.len(),
            thieves: labels.iter().filter(|l| **l).count(),
            auc: auc(scores, labels),
            ap: average_precision(&order, labels),
            map_100: map_at(&order, labels, 100),
            map_200: map_at(&order, labels, 200),
            precision_at_1_percent_fpr: precision,
            recall_at_1_percent_fpr: recall,
            kwh_at_5_percent: stolen_kwh.map(|kwh| energy_share(scores, kwh, 0.05)),
        }
    }
}

/// Indices by falling score; equal scores keep input order.
pub fn ranking(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order
}

/// Area under the ROC curve by ranks, ties counted half; NaN without both classes.
pub fn auc(scores: &[f64], labels: &[bool]) -> f64 {
    let order = ranking(scores);
    let positives = labels.iter().filter(|l| **l).count();
    let negatives = labels.len() - positives;
    if positives == 0 || negatives == 0 {
        return f64::NAN;
    }
    let mut wins = 0.0;
    let mut positives_above = 0usize;
    let mut start = 0;
    while start < order.len() {
        let mut end = start;
        let mut tied = (0usize, 0usize);
        while end < order.len() && scores[order[end]] == scores[order[start]] {
            if labels[order[end]] {
                tied.0 += 1;
            } else {
                tied.1 += 1;
            }
            end += 1;
        }
        wins += tied.1 as f64 * (positives_above as f64 + 0.5 * tied.0 as f64);
        positives_above += tied.0;
        start = end.max(start + 1);
    }
    wins / (positives as f64 * negatives as f64)
}

/// Average precision over a ranking.
pub fn average_precision(order: &[usize], labels: &[bool]) -> f64 {
    let positives = labels.iter().filter(|l| **l).count();
    if positives == 0 {
        return f64::NAN;
    }
    precision_sum(order, labels).0 / positives as f64
}

/// MAP@N: mean precision at the ranks of the thieves found among the first `n`; 0 when none is found.
pub fn map_at(order: &[usize], labels: &[bool], n: usize) -> f64 {
    let (sum, found) = precision_sum(&order[..n.min(order.len())], labels);
    if found == 0 { 0.0 } else { sum / found as f64 }
}

fn precision_sum(order: &[usize], labels: &[bool]) -> (f64, usize) {
    let (mut sum, mut found) = (0.0, 0usize);
    for (rank, &index) in order.iter().enumerate() {
        if labels[index] {
            found += 1;
            sum += found as f64 / (rank + 1) as f64;
        }
    }
    (sum, found)
}

/// (precision, recall) of the longest prefix of the ranking whose false positives stay within `rate` of the honest.
pub fn at_false_positive_rate(order: &[usize], labels: &[bool], rate: f64) -> (f64, f64) {
    let positives = labels.iter().filter(|l| **l).count();
    let allowed = ((labels.len() - positives) as f64 * rate).floor() as usize;
    let (mut hits, mut false_alarms) = (0usize, 0usize);
    for &index in order {
        if labels[index] {
            hits += 1;
        } else if false_alarms == allowed {
            break;
        } else {
            false_alarms += 1;
        }
    }
    let visited = (hits + false_alarms).max(1);
    (hits as f64 / visited as f64, hits as f64 / positives.max(1) as f64)
}

/// Share of the positive energy that lies in the first `share` of the ranking.
pub fn energy_share(scores: &[f64], kwh: &[f64], share: f64) -> f64 {
    let order = ranking(scores);
    let visited = (scores.len() as f64 * share).round() as usize;
    let total: f64 = kwh.iter().map(|v| v.max(0.0)).sum();
    order[..visited.min(order.len())].iter().map(|&i| kwh[i].max(0.0)).sum::<f64>() / total
}

/// Bootstrap figures of one ranking, or of the difference between two: (lower, middle, upper) of 90 % intervals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// Area under the ROC curve.
    pub auc: [f64; 3],
    /// Average precision.
    pub ap: [f64; 3],
    /// Share of stolen energy in the 5 % ranked first; None where it is not known.
    pub kwh_at_5_percent: Option<[f64; 3]>,
}

/// The figures of one ranking in one draw: AUC, AP, share of energy (NaN when not known).
type Drawn = [f64; 3];

/// A paired bootstrap over groups: every ranking is measured on the same draws, and whole groups (transformers) are drawn,
/// because their customers share weather, meter and fold.
#[derive(Debug, Clone)]
pub struct Bootstrap<'a> {
    labels: &'a [bool],
    stolen_kwh: Option<&'a [f64]>,
    /// How often each customer appears, by draw.
    times: Vec<Vec<u32>>,
}

impl<'a> Bootstrap<'a> {
    /// Draws from the groups of the customers (`groups`: one number per customer).
    pub fn new(groups: &[usize], labels: &'a [bool], stolen_kwh: Option<&'a [f64]>, draws: usize, seed: u64) -> Self {
        let mut names: Vec<usize> = groups.to_vec();
        names.sort_unstable();
        names.dedup();
        let place: Vec<usize> = groups.iter().map(|g| names.binary_search(g).unwrap_or(0)).collect();
        let mut dice = crate::pattern::canary::Dice::new(seed);
        let times = (0..draws)
            .map(|_| {
                let mut drawn = vec![0u32; names.len()];
                (0..names.len()).for_each(|_| drawn[dice.below(names.len())] += 1);
                place.iter().map(|p| drawn[*p]).collect()
            })
            .collect();
        Self { labels, stolen_kwh, times }
    }

    /// The figures of a ranking in every draw.
    pub fn measure(&self, scores: &[f64]) -> Vec<[f64; 3]> {
        let order = ranking(scores);
        self.times.iter().map(|times| self.measure_draw(scores, &order, times)).collect()
    }

    fn measure_draw(&self, scores: &[f64], order: &[usize], times: &[u32]) -> Drawn {
        let total: u64 = times.iter().map(|t| u64::from(*t)).sum();
        let visited = (total as f64 * 0.05).round() as u64;
        let (mut rank, mut hits, mut precision, mut wins, mut energy, mut all_energy) =
            (0u64, 0u64, 0.0, 0.0, 0.0, 0.0);
        // Thieves and honest with the score of the moment; thieves above it.
        let (mut tied, mut above, mut last) = ([0.0f64; 2], 0.0, f64::NAN);
        let mut settle = |tied: &mut [f64; 2], above: &mut f64| {
            wins += tied[1] * (*above + 0.5 * tied[0]);
            *above += tied[0];
            *tied = [0.0; 2];
        };
        for &i in order.iter().filter(|i| times[**i] > 0) {
            let count = u64::from(times[i]);
            if scores[i] != last {
                settle(&mut tied, &mut above);
                last = scores[i];
            }
            if let Some(kwh) = self.stolen_kwh {
                all_energy += kwh[i].max(0.0) * count as f64;
                energy += kwh[i].max(0.0) * visited.saturating_sub(rank).min(count) as f64;
            }
            tied[usize::from(!self.labels[i])] += count as f64;
            if self.labels[i] {
                precision += (1..=count).map(|k| (hits + k) as f64 / (rank + k) as f64).sum::<f64>();
                hits += count;
            }
            rank += count;
        }
        settle(&mut tied, &mut above);
        let share = if self.stolen_kwh.is_some() { energy / all_energy } else { f64::NAN };
        [wins / (hits as f64 * (total - hits) as f64), precision / hits as f64, share]
    }

    /// Intervals of one ranking's figures.
    pub fn intervals(&self, drawn: &[[f64; 3]]) -> Intervals {
        let interval = |figure: usize| {
            let values: Vec<f64> = drawn.iter().map(|d| d[figure]).collect();
            crate::pattern::statistics::quantiles(&values, [0.05, 0.5, 0.95])
        };
        Intervals { auc: interval(0), ap: interval(1), kwh_at_5_percent: self.stolen_kwh.map(|_| interval(2)) }
    }

    /// Intervals of the first ranking's figures minus the second's, draw by draw.
    pub fn difference(&self, first: &[[f64; 3]], second: &[[f64; 3]]) -> Intervals {
        let differences: Vec<Drawn> =
            first.iter().zip(second).map(|(a, b)| std::array::from_fn(|k| a[k] - b[k])).collect();
        self.intervals(&differences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfect_and_reversed_rankings() {
        let labels = [true, false, true, false, false];
        let perfect = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(auc(&perfect, &labels), 1.0);
        assert_eq!(average_precision(&ranking(&perfect), &labels), 1.0);
        let reversed: Vec<f64> = perfect.iter().map(|v| -v).collect();
        assert_eq!(auc(&reversed, &labels), 0.0);
        assert_eq!(average_precision(&ranking(&reversed), &labels), (1.0 / 4.0 + 2.0 / 5.0) / 2.0);
    }

    #[test]
    fn ties_count_half() {
        assert_eq!(auc(&[1.0, 1.0], &[true, false]), 0.5);
        assert_eq!(auc(&[1.0; 6], &[true, false, true, false, true, false]), 0.5);
    }

    #[test]
    fn map_divides_by_the_thieves_found() {
        let labels = [false, true, false, true, false, false];
        let scores = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
        assert_eq!(map_at(&ranking(&scores), &labels, 2), 0.5);
        assert_eq!(map_at(&ranking(&scores), &labels, 4), 0.5);
        assert_eq!(map_at(&ranking(&scores), &labels, 1), 0.0);
    }

    #[test]
    fn false_positive_rate_bounds_the_prefix() {
        let labels = [true, false, true, false, true];
        let scores = [5.0, 4.0, 3.0, 2.0, 1.0];
        assert_eq!(at_false_positive_rate(&ranking(&scores), &labels, 0.5), (2.0 / 3.0, 2.0 / 3.0));
        assert_eq!(at_false_positive_rate(&ranking(&scores), &labels, 0.0), (1.0, 1.0 / 3.0));
    }

    #[test]
    fn energy_share_counts_the_first_part() {
        let kwh = [0.0, 10.0, 0.0, 30.0];
        assert_eq!(energy_share(&[1.0, 2.0, 3.0, 4.0], &kwh, 0.25), 0.75);
    }

    /// 30 groups of 20, a tenth thieves who steal 1–10 kWh; a good and a worse ranking.
    type World = (Vec<usize>, Vec<bool>, Vec<f64>, Vec<f64>, Vec<f64>);

    fn world() -> World {
        let mut dice = crate::pattern::canary::Dice::new(8);
        let groups: Vec<usize> = (0..600).map(|i| 7 * (i / 20)).collect();
        let labels: Vec<bool> = (0..600).map(|_| dice.unit() < 0.1).collect();
        let kwh = labels.iter().map(|l| if *l { dice.between(1.0, 10.0) } else { 0.0 }).collect();
        let good: Vec<f64> = labels.iter().map(|l| if *l { 2.0 } else { 0.0 } + dice.normal()).collect();
        let worse = good.iter().map(|s| s + 1.5 * dice.normal()).collect();
        (groups, labels, kwh, good, worse)
    }

    #[test]
    fn a_draw_counts_like_the_customers_written_out() {
        let (groups, labels, kwh, good, _) = world();
        // Coarse scores, so that there are ties.
        let scores: Vec<f64> = good.iter().map(|s| s.round()).collect();
        let bootstrap = Bootstrap::new(&groups, &labels, Some(&kwh), 3, 1);
        for (drawn, times) in bootstrap.measure(&scores).iter().zip(&bootstrap.times) {
            let written: Vec<usize> = (0..600).flat_map(|i| std::iter::repeat_n(i, times[i] as usize)).collect();
            assert_eq!(written.len(), 600, "whole groups of equal size");
            let pick = |values: &[f64]| -> Vec<f64> { written.iter().map(|&i| values[i]).collect() };
            let (scores, kwh) = (pick(&scores), pick(&kwh));
            let labels: Vec<bool> = written.iter().map(|&i| labels[i]).collect();
            let wanted = Metrics::measure(&scores, &labels, Some(&kwh));
            assert!((drawn[0] - wanted.auc).abs() < 1e-12);
            assert!((drawn[1] - wanted.ap).abs() < 1e-12);
            assert!((drawn[2] - wanted.kwh_at_5_percent.expect("known")).abs() < 1e-12);
        }
    }

    #[test]
    fn the_better_ranking_is_told_from_the_worse_and_not_from_itself() {
        let (groups, labels, kwh, good, worse) = world();
        let bootstrap = Bootstrap::new(&groups, &labels, Some(&kwh), 300, 2);
        let (a, b) = (bootstrap.measure(&good), bootstrap.measure(&worse));
        let [lower, middle, upper] = bootstrap.difference(&a, &b).ap;
        assert!(0.0 < lower && lower < middle && middle < upper, "{lower} {middle} {upper}");
        assert_eq!(bootstrap.difference(&a, &a).auc, [0.0; 3]);
        let [lower, _, upper] = bootstrap.intervals(&a).auc;
        assert!(lower < auc(&good, &labels) && auc(&good, &labels) < upper);
    }
}
