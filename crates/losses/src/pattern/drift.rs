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
    /// Learns deciles; values without spread give a single bin. `None` when nothing is known: there is nothing to drift from.
    pub fn new(name: &str, values: &[f64]) -> Option<Self> {
        let sorted = sorted_known(values);
        if sorted.is_empty() {
            return None;
        }
        let mut edges: Vec<f64> =
            (1..BINS).map(|b| quantile_sorted(&sorted, b as f64 / BINS as f64)).filter(|e| e.is_finite()).collect();
        edges.dedup();
        let mut counts = Counts::new(&edges);
        counts.add(sorted.into_iter());
        Some(Self { name: name.to_owned(), shares: counts.shares().collect(), edges })
    }

    /// Population stability index of today's values; NaN without values.
    pub fn stability_index(&self, today: &Counts) -> f64 {
        // Empty bins count as half a customer so that the logarithm exists.
        let least = 0.5 / today.values.max(1) as f64;
        today
            .shares()
            .zip(&self.shares)
            .map(|(n, t)| {
                let (n, t) = (n.max(least), t.max(1e-4));
                (n - t) * (n / t).ln()
            })
            .sum()
    }

    /// Counts for the bins of this quantity, nothing counted yet.
    pub fn counts(&self) -> Counts {
        Counts::new(&self.edges)
    }
}

/// How many of today's customers fall into each bin; may be filled some customers at a time.
#[derive(Debug, Clone)]
pub struct Counts {
    edges: Vec<f64>,
    by_bin: Vec<usize>,
    /// Values counted, those not known among them.
    values: usize,
}

impl Counts {
    fn new(edges: &[f64]) -> Self {
        Self { edges: edges.to_vec(), by_bin: vec![0; edges.len() + 1], values: 0 }
    }

    /// Counts more values; NaN = not known.
    pub fn add(&mut self, values: impl Iterator<Item = f64>) {
        for v in values {
            self.values += 1;
            if !v.is_nan() {
                self.by_bin[self.edges.partition_point(|e| *e < v)] += 1;
            }
        }
    }

    fn shares(&self) -> impl Iterator<Item = f64> {
        let known: usize = self.by_bin.iter().sum();
        self.by_bin.iter().map(move |c| *c as f64 / known as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::canary::Dice;

    #[test]
    fn what_has_no_value_has_no_reference() {
        assert_eq!(Reference::new("year_over_year", &[f64::NAN; 20]), None);
        assert_eq!(Reference::new("year_over_year", &[]), None);
        let one = Reference::new("level", &[f64::NAN, 3.0]).expect("a value");
        let json = serde_json::to_string(&one).expect("json");
        assert_eq!(serde_json::from_str::<Reference>(&json).expect("reads back"), one);
    }

    #[test]
    fn same_population_is_stable_and_a_shift_is_seen() {
        let mut dice = Dice::new(1);
        let then: Vec<f64> = (0..5_000).map(|_| dice.normal()).collect();
        let same: Vec<f64> = (0..5_000).map(|_| dice.normal()).collect();
        let moved: Vec<f64> = same.iter().map(|v| v + 1.0).collect();
        let reference = Reference::new("level", &then).expect("values");
        let index = |parts: [&[f64]; 2]| {
            let mut counts = reference.counts();
            parts.into_iter().for_each(|part| counts.add(part.iter().copied()));
            reference.stability_index(&counts)
        };
        assert!(index([&same, &[]]) < 0.02);
        assert!(index([&moved, &[]]) > 0.25);
        assert_eq!(index([&moved[..700], &moved[700..]]), index([&moved, &[]]));
    }
}
