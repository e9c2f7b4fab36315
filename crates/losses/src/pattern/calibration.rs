//! From a score to a probability: logistic calibration (Platt) fitted on predictions for customers that the model did not
//! see, with Platt's shrunken targets so that a perfect separation does not give certainty.

use serde::{Deserialize, Serialize};

/// p = 1 / (1 + exp(−(slope · score + offset))).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Factor of the score.
    pub slope: f64,
    /// Added to it.
    pub offset: f64,
}

impl Calibration {
    /// Fits by Newton's method, each customer counting as often as its weight says; needs both outcomes, else probability is
    /// the prevalence.
    pub fn fit(scores: &[f64], labels: &[bool], weights: &[f64]) -> Self {
        let positives: f64 = labels.iter().zip(weights).filter(|(l, _)| **l).map(|(_, w)| w).sum();
        let negatives = weights.iter().sum::<f64>() - positives;
        let (high, low) = ((positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0));
        let mut fitted = Self { slope: 0.0, offset: ((positives + 1.0) / (negatives + 1.0)).ln() };
        if labels.iter().all(|l| *l) || labels.iter().all(|l| !*l) {
            return fitted;
        }
        for _ in 0..100 {
            let (mut g0, mut g1, mut h00, mut h01, mut h11) = (0.0, 0.0, 1e-9, 0.0, 1e-9);
            for ((&s, &l), &times) in scores.iter().zip(labels).zip(weights) {
                let p = fitted.probability(s);
                let error = times * (p - if l { high } else { low });
                let weight = times * p * (1.0 - p);
                g0 += error;
                g1 += error * s;
                h00 += weight;
                h01 += weight * s;
                h11 += weight * s * s;
            }
            let determinant = h00 * h11 - h01 * h01;
            if determinant <= 1e-12 {
                break;
            }
            let (d0, d1) = ((h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant);
            // A damped step: the logistic loss is convex, so a bounded step cannot run away.
            fitted.offset -= d0.clamp(-2.0, 2.0);
            fitted.slope -= d1.clamp(-2.0, 2.0);
            if d0.abs() + d1.abs() < 1e-10 {
                break;
            }
        }
        fitted
    }

    /// The probability for a score.
    pub fn probability(&self, score: f64) -> f64 {
        1.0 / (1.0 + (-(self.slope * score + self.offset)).exp())
    }
}

/// Expected calibration error: mean over ten equally filled bins of |mean probability − share of positives|, weighted.
pub fn calibration_error(probabilities: &[f64], labels: &[bool], weights: &[f64]) -> f64 {
    let order = crate::pattern::metrics::ranking(probabilities);
    let size = order.len().div_ceil(10).max(1);
    let error: f64 = order
        .chunks(size)
        .map(|bin| {
            let predicted: f64 = bin.iter().map(|&i| weights[i] * probabilities[i]).sum();
            let observed: f64 = bin.iter().filter(|&&i| labels[i]).map(|&i| weights[i]).sum();
            (predicted - observed).abs()
        })
        .sum();
    error / weights.iter().sum::<f64>().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::canary::Dice;

    #[test]
    fn recovers_a_known_logistic() {
        let mut dice = Dice::new(3);
        let truth = Calibration { slope: 1.7, offset: -2.0 };
        let scores: Vec<f64> = (0..20_000).map(|_| dice.normal()).collect();
        let labels: Vec<bool> = scores.iter().map(|s| dice.unit() < truth.probability(*s)).collect();
        let once = vec![1.0; labels.len()];
        let fitted = Calibration::fit(&scores, &labels, &once);
        assert!((fitted.slope - 1.7).abs() < 0.1 && (fitted.offset + 2.0).abs() < 0.1, "{fitted:?}");
        let probabilities: Vec<f64> = scores.iter().map(|s| fitted.probability(*s)).collect();
        assert!(calibration_error(&probabilities, &labels, &once) < 0.01);
    }

    #[test]
    fn one_class_gives_the_prevalence() {
        let fitted = Calibration::fit(&[1.0, 2.0, 3.0], &[false; 3], &[1.0; 3]);
        assert_eq!(fitted.probability(9.0), fitted.probability(-9.0));
    }
}
