//! How the members' scores are weighted: logistic regression on the members' scores for customers that the members had not
//! seen, with weights that cannot be negative and are drawn to equal ones.
//!
//! Every figure of a cross-validation uses weights learnt on the *other* folds, so that the weights are not fitted on what is
//! reported. The ridge towards equal weights keeps a few hundred thieves from being over-read.

use serde::{Deserialize, Serialize};

use crate::pattern::blend::{MEMBERS, MemberScores};
use crate::pattern::statistics::{deviation, mean};

/// Weight of a member, in standardised scores, that the fit is drawn to, for each of the members present.
const PRIOR_TOTAL: f64 = 2.0;
/// Strength of the pull (in observations).
const RIDGE: f64 = 5.0;
/// Most steps of the fit.
const STEPS: usize = 200;
/// Weights without labels, where none can be learnt: trees and network that learnt from canaries.
const WITHOUT_LABELS: [f64; MEMBERS] = [0.0, 0.0, 1.0, 0.4];

/// Log-odds = offset + Σ weight × score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mixture {
    offset: f64,
    weights: [f64; MEMBERS],
}

impl Mixture {
    /// The fixed weights of training without labels.
    pub fn without_labels() -> Self {
        Self { offset: 0.0, weights: WITHOUT_LABELS }
    }

    /// Learns from the members' scores of the customers `picked` (places in `scores`, `labels` and `weights`, which say as how
    /// many each counts).
    pub fn fit(scores: &MemberScores, labels: &[bool], weights: &[f64], picked: &[usize]) -> Self {
        let rows: Vec<[f64; MEMBERS]> = picked.iter().map(|&i| scores.of(i)).collect();
        let column = |m: usize| -> Vec<f64> { rows.iter().map(|r| r[m]).collect() };
        let centre: [f64; MEMBERS] = std::array::from_fn(|m| mean(&column(m)));
        let spread: [f64; MEMBERS] = std::array::from_fn(|m| deviation(&column(m)));
        let present = spread.map(|s| s > 1e-9);
        let prior = PRIOR_TOTAL / present.iter().filter(|p| **p).count().max(1) as f64;
        let standard: Vec<[f64; MEMBERS]> = rows
            .iter()
            .map(|r| std::array::from_fn(|m| if present[m] { (r[m] - centre[m]) / spread[m] } else { 0.0 }))
            .collect();
        let targets: Vec<f64> = picked.iter().map(|&i| f64::from(u8::from(labels[i]))).collect();
        let times: Vec<f64> = picked.iter().map(|&i| weights[i]).collect();
        let (offset, standard_weights) =
            descend(&standard, &targets, &times, present.map(|p| if p { prior } else { 0.0 }));
        let weights: [f64; MEMBERS] =
            std::array::from_fn(|m| if present[m] { standard_weights[m] / spread[m] } else { 0.0 });
        let shift: f64 = weights.iter().zip(centre).map(|(w, c)| w * c).sum();
        Self { offset: offset - shift, weights }
    }

    /// Log-odds of one customer.
    pub fn blend(&self, scores: &MemberScores, index: usize) -> f64 {
        self.offset + self.weights.iter().zip(scores.of(index)).map(|(w, s)| w * s).sum::<f64>()
    }

    /// Log-odds of all customers.
    pub fn blend_all(&self, scores: &MemberScores) -> Vec<f64> {
        (0..scores.count()).map(|i| self.blend(scores, i)).collect()
    }
}

/// Coordinate-wise Newton steps on the ridge-penalised logistic loss, weights held at or above zero. The loss is convex, and
/// a step along one coordinate with the greatest possible curvature (a quarter of the sum of squares) cannot overshoot.
fn descend(rows: &[[f64; MEMBERS]], targets: &[f64], times: &[f64], prior: [f64; MEMBERS]) -> (f64, [f64; MEMBERS]) {
    let thieves: f64 = targets.iter().zip(times).map(|(t, n)| t * n).sum();
    let mut offset = ((thieves + 0.5) / (times.iter().sum::<f64>() - thieves + 0.5)).ln();
    let mut weights = prior;
    let mut linear: Vec<f64> =
        rows.iter().map(|r| offset + r.iter().zip(weights).map(|(v, w)| v * w).sum::<f64>()).collect();
    let probability = |z: f64| 1.0 / (1.0 + (-z).exp());
    for _ in 0..STEPS {
        let mut moved = 0.0f64;
        for coordinate in 0..=MEMBERS {
            let value = |r: &[f64; MEMBERS]| if coordinate == MEMBERS { 1.0 } else { r[coordinate] };
            let (mut slope, mut curvature) = (0.0, 1e-9);
            for (((r, z), t), n) in rows.iter().zip(&linear).zip(targets).zip(times) {
                let (p, v) = (probability(*z), value(r));
                slope += n * (p - t) * v;
                curvature += n * (p * (1.0 - p)).max(0.02) * v * v;
            }
            let step = if coordinate == MEMBERS {
                -slope / curvature
            } else {
                let pull = RIDGE * (weights[coordinate] - prior[coordinate]);
                (-(slope + pull) / (curvature + RIDGE)).max(-weights[coordinate])
            }
            .clamp(-0.5, 0.5);
            if step == 0.0 {
                continue;
            }
            match weights.get_mut(coordinate) {
                Some(weight) => *weight += step,
                None => offset += step,
            }
            linear.iter_mut().zip(rows).for_each(|(z, r)| *z += step * value(r));
            moved = moved.max(step.abs());
        }
        if moved < 1e-6 {
            break;
        }
    }
    (offset, weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::canary::Dice;
    use crate::pattern::metrics::auc;

    #[test]
    fn the_better_member_weighs_more_and_a_useless_one_hardly() {
        let mut dice = Dice::new(1);
        let labels: Vec<bool> = (0..3_000).map(|_| dice.unit() < 0.1).collect();
        let mut member = |signal: f64| -> Vec<f64> {
            labels.iter().map(|l| 10.0 * (if *l { signal } else { 0.0 } + dice.normal())).collect()
        };
        let scores = MemberScores {
            trees: member(2.0),
            machine: member(1.0),
            taught: member(0.0),
            network: Vec::new(),
            energy_kwh: Vec::new(),
        };
        let everyone: Vec<usize> = (0..labels.len()).collect();
        let mixture = Mixture::fit(&scores, &labels, &vec![1.0; labels.len()], &everyone);
        let [good, fair, useless, absent] = mixture.weights;
        assert!(good > 1.5 * fair && fair > 3.0 * useless && absent == 0.0, "{mixture:?}");
        let blended = mixture.blend_all(&scores);
        assert!(auc(&blended, &labels) > auc(&scores.trees, &labels) + 0.01);
        let expected: f64 = blended.iter().map(|z| 1.0 / (1.0 + (-z).exp())).sum();
        let thieves = labels.iter().filter(|l| **l).count() as f64;
        assert!((expected - thieves).abs() < 0.01 * thieves, "{expected} {thieves}");
    }
}
