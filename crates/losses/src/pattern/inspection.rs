//! What inspections say about everybody: as how many customers does an inspected one count?
//!
//! A utility knows outcomes only where somebody has looked, and mostly looks where it suspects. Targeted inspections stand for
//! themselves; the customers that nobody suspected are known through the random inspections alone, so that each of these stands
//! for its share of them (post-stratification). Without that, the probability would be that of suspects, for all.
//! Where the reason of an inspection is not known, everyone with a label counts once.

use serde::{Deserialize, Serialize};

use crate::pattern::population::Customer;

/// Random inspections below which nothing is concluded from them.
const LEAST_RANDOM: usize = 20;
/// Most customers that one random inspection stands for, relative to a targeted one: bounds what a single outcome can do.
const MOST_WEIGHT: f64 = 50.0;

/// Why a customer was inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// Drawn at random among those that were not suspected.
    Random,
    /// Suspected by a model, a person or a tip.
    Targeted,
}

impl Selection {
    /// The selection of a word in a table.
    pub fn of_word(word: &str) -> Option<Self> {
        match word {
            "random" => Some(Self::Random),
            "targeted" => Some(Self::Targeted),
            _ => None,
        }
    }
}

/// Weight of each customer, with mean 1 over those with a label; 0 for those without. All with a label weigh the same unless the
/// selection of each of them is known and at least twenty were drawn at random.
pub fn weights(customers: &[Customer]) -> Vec<f64> {
    let labelled = || customers.iter().filter(|c| c.label.is_some());
    let random = labelled().filter(|c| c.selection == Some(Selection::Random)).count();
    let targeted = labelled().filter(|c| c.selection == Some(Selection::Targeted)).count();
    let inspected = labelled().count();
    let known = random + targeted == inspected && random >= LEAST_RANDOM;
    let each_random = if known {
        // Everybody who was not targeted, seen through the random inspections.
        ((customers.len() - targeted) as f64 / random as f64).min(MOST_WEIGHT)
    } else {
        1.0
    };
    let total = each_random * random as f64 + (inspected - random) as f64;
    let scale = inspected as f64 / total;
    customers
        .iter()
        .map(|c| match (c.label, c.selection) {
            (None, _) => 0.0,
            (Some(_), Some(Selection::Random)) if known => each_random * scale,
            (Some(_), _) if known => scale,
            (Some(_), _) => 1.0,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customer(label: Option<bool>, selection: Option<Selection>) -> Customer {
        Customer { id: String::new(), transformer: String::new(), label, selection, stolen_kwh: None, kwh: Vec::new() }
    }

    #[test]
    fn a_random_inspection_stands_for_those_nobody_suspected() {
        let mut customers = vec![customer(Some(false), Some(Selection::Random)); 40];
        customers.extend(vec![customer(Some(true), Some(Selection::Targeted)); 60]);
        customers.extend(vec![customer(None, None); 360]);
        let found = weights(&customers);
        assert!((found[0] / found[40] - 10.0).abs() < 1e-9, "400 others, 40 looked at: ten each");
        assert_eq!(found[100], 0.0);
        assert!((found.iter().sum::<f64>() - 100.0).abs() < 1e-9);
        // One outcome whose reason nobody noted, or too few random ones, and all count once.
        customers[0].selection = None;
        assert!(weights(&customers)[..100].iter().all(|w| *w == 1.0));
        let few: Vec<Customer> = customers[30..].to_vec();
        assert!(weights(&few)[..70].iter().all(|w| *w == 1.0));
    }
}
