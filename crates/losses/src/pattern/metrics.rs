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

/// Difference between two rankings of the same customers: (lower, middle, upper) of a 90 % bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// AUC of the first minus AUC of the second.
    pub auc: [f64; 3],
    /// AP of the first minus AP of the second.
    pub ap: [f64; 3],
}

/// Paired bootstrap over customers: both rankings are measured on the same draws.
pub fn paired_bootstrap(first: &[f64], second: &[f64], labels: &[bool], draws: usize, seed: u64) -> Comparison {
    let mut dice = crate::pattern::canary::Dice::new(seed);
    let (mut aucs, mut aps) = (Vec::with_capacity(draws), Vec::with_capacity(draws));
    for _ in 0..draws {
        let picked: Vec<usize> = (0..labels.len()).map(|_| dice.below(labels.len())).collect();
        let drawn: Vec<bool> = picked.iter().map(|&i| labels[i]).collect();
        let measure = |scores: &[f64]| {
            let scores: Vec<f64> = picked.iter().map(|&i| scores[i]).collect();
            (auc(&scores, &drawn), average_precision(&ranking(&scores), &drawn))
        };
        let (a, b) = (measure(first), measure(second));
        aucs.push(a.0 - b.0);
        aps.push(a.1 - b.1);
    }
    let interval = |values: &[f64]| [0.05, 0.5, 0.95].map(|p| crate::pattern::statistics::quantile(values, p));
    Comparison { auc: interval(&aucs), ap: interval(&aps) }
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
}
