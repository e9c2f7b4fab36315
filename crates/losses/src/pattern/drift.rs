//! Has the population moved away from the one that a model was trained on? Population stability index over ten bins:
//! Σ (share now − share then) ln(share now / share then). Below 0.1 nothing, above 0.25 the model should be trained again.

use serde::{Deserialize, Serialize};

use crate::pattern::statistics::{quantile_sorted, sorted_known};

const BINS: usize = 10;

/// The distribution of one quantity at training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Name of the quantity.
    pub name: String,
    edges: Vec<f64>,
    shares: Vec<f64>,
}

impl Reference {
    /// Learns deciles; values without spread give a single bin.
    pub fn new(name: &str, values: &[f64]) -> Self {
        let sorted = sorted_known(values);
        let mut edges: Vec<f64> =
            (1..BINS).map(|b| quantile_sorted(&sorted, b as f64 / BINS as f64)).filter(|e| e.is_finite()).collect();
        edges.dedup();
        let shares = shares(&edges, &sorted);
        Self { name: name.to_owned(), edges, shares }
    }

    /// Population stability index of today's values; NaN without values.
    pub fn stability_index(&self, values: &[f64]) -> f64 {
        let now = shares(&self.edges, values);
        // Empty bins count as half a customer so that the logarithm exists.
        let least = 0.5 / values.len().max(1) as f64;
        now.iter()
            .zip(&self.shares)
            .map(|(n, t)| {
                let (n, t) = (n.max(least), t.max(1e-4));
                (n - t) * (n / t).ln()
            })
            .sum()
    }
}

fn shares(edges: &[f64], values: &[f64]) -> Vec<f64> {
    let mut counts = vec![0usize; edges.len() + 1];
    let mut known = 0usize;
    for v in values.iter().filter(|v| !v.is_nan()) {
        counts[edges.partition_point(|e| e < v)] += 1;
        known += 1;
    }
    counts.iter().map(|c| *c as f64 / known as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::canary::Dice;

    #[test]
    fn same_population_is_stable_and_a_shift_is_seen() {
        let mut dice = Dice::new(1);
        let then: Vec<f64> = (0..5_000).map(|_| dice.normal()).collect();
        let same: Vec<f64> = (0..5_000).map(|_| dice.normal()).collect();
        let moved: Vec<f64> = same.iter().map(|v| v + 1.0).collect();
        let reference = Reference::new("level", &then);
        assert!(reference.stability_index(&same) < 0.02);
        assert!(reference.stability_index(&moved) > 0.25);
    }
}
