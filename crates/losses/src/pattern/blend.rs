//! The blend of the pattern members, added on the scale of log-odds with fixed weights.
//!
//! Members: boosted trees and a support vector machine on the labels; a second ensemble of trees and the sequence network
//! that also see canaries (copies of the honest training records with a known theft written in) as thieves, because a few
//! hundred labelled thieves show too few combinations of kind, onset and household. Without labels the two canary members
//! stand alone. The weights were chosen by eye between swept points of a grouped cross-validation and are not fitted per run: with a few hundred positives,
//! fitted weights are noise.

use serde::{Deserialize, Serialize};

use crate::pattern::ModelError;
use crate::pattern::assemble::{Assembled, Canaries, OWN_COLUMNS};
use crate::pattern::sequence::Network;
use crate::pattern::svm::Svm;
use crate::pattern::trees::{Rows, Settings, Target, Trees};

/// Passes of the sequence network over the customers.
const EPOCHS: usize = 8;
/// Networks averaged.
const NETWORKS: usize = 1;
/// Weights with labels, consumption only.
const WEIGHTS: Weights = Weights { trees: 0.5, machine: 0.5, taught: 1.0, network: 0.1 };
/// Weights with labels and observer meters, which the canary members do not see.
const WEIGHTS_WITH_ZONES: Weights = Weights { trees: 1.0, machine: 1.5, taught: 0.35, network: 0.05 };
/// Weights without labels.
const WEIGHTS_WITHOUT_LABELS: Weights = Weights { trees: 0.0, machine: 0.0, taught: 1.0, network: 0.4 };
/// Positives needed to train on labels at all.
pub const LEAST_POSITIVES: usize = 20;

#[derive(Clone, Copy)]
struct Weights {
    trees: f64,
    machine: f64,
    taught: f64,
    network: f64,
}

/// The members' scores of each customer, on their own scales; an absent member's are empty.
#[derive(Debug, Clone, Default)]
pub struct MemberScores {
    /// Log-odds of the trees on labels.
    pub trees: Vec<f64>,
    /// Signed distance of the support vector machine.
    pub machine: Vec<f64>,
    /// Log-odds of the trees that also saw canaries.
    pub taught: Vec<f64>,
    /// Log-odds of the network.
    pub network: Vec<f64>,
    /// Expected stolen energy in kWh; empty when the training data did not know it.
    pub energy_kwh: Vec<f64>,
}

impl MemberScores {
    /// The blended score.
    pub fn blended(&self, with_zones: bool) -> Vec<f64> {
        let weights = match (self.trees.is_empty(), with_zones) {
            (true, _) => WEIGHTS_WITHOUT_LABELS,
            (false, true) => WEIGHTS_WITH_ZONES,
            (false, false) => WEIGHTS,
        };
        let part = |scores: &[f64], index: usize| scores.get(index).copied().unwrap_or(0.0);
        (0..self.taught.len())
            .map(|i| {
                weights.trees * part(&self.trees, i)
                    + weights.machine * part(&self.machine, i)
                    + weights.taught * part(&self.taught, i)
                    + weights.network * part(&self.network, i)
            })
            .collect()
    }
}

/// All members, trained on the same customers.
#[derive(Serialize, Deserialize)]
pub struct Members {
    pub(crate) trees: Option<Trees>,
    machine: Option<Svm>,
    pub(crate) taught: Trees,
    pub(crate) network: Network,
    energy: Option<Trees>,
}

/// What is known about the customers that a model is trained on.
#[derive(Clone, Copy)]
pub struct Outcomes<'a> {
    /// Theft found or not; None trains without labels.
    pub labels: Option<&'a [bool]>,
    /// Stolen energy in kWh where all thieves' is known.
    pub stolen_kwh: Option<&'a [f64]>,
}

impl Members {
    /// Trains all members on the customers picked.
    pub fn fit(
        data: &Assembled,
        canaries: &Canaries,
        outcomes: Outcomes<'_>,
        members: &[usize],
        settings: &Settings,
        seed: u64,
    ) -> Result<Self, ModelError> {
        let (taught, network) = fit_with_canaries(data, canaries, outcomes, members, seed)?;
        let Some(all_labels) = outcomes.labels else {
            return Ok(Self { trees: None, machine: None, taught, network, energy: None });
        };
        let labels: Vec<bool> = members.iter().map(|&i| all_labels[i]).collect();
        let positives = labels.iter().filter(|l| **l).count();
        if positives < LEAST_POSITIVES || positives + LEAST_POSITIVES > labels.len() {
            return Err(ModelError::Training(format!(
                "{positives} of {} customers are labelled as theft; at least {LEAST_POSITIVES} thieves and as many honest \
                 customers are needed. Without labels use the unsupervised mode",
                labels.len()
            )));
        }
        let rows = data.rows.pick(members);
        let target: Vec<f64> = labels.iter().map(|l| f64::from(u8::from(*l))).collect();
        let trees = Trees::fit(&rows, &target, Target::LogOdds, settings, seed)?;
        let machine = Svm::fit(&rows, &labels);
        let energy = match outcomes.stolen_kwh {
            Some(kwh) => Some(fit_energy(&rows, members, kwh, seed)?),
            None => None,
        };
        Ok(Self { trees: Some(trees), machine: Some(machine), taught, network, energy })
    }

    /// Scores of the customers picked.
    pub fn predict(&self, data: &Assembled, members: &[usize]) -> MemberScores {
        let rows = data.rows.pick(members);
        let own = data.rows.pick_first_columns(members, OWN_COLUMNS);
        let courses: Vec<&[f32]> = members.iter().map(|&i| data.courses[i].as_slice()).collect();
        let energy = self.energy.as_ref().map(|e| e.predict(&rows)).unwrap_or_default();
        MemberScores {
            trees: self.trees.as_ref().map(|t| t.predict(&rows)).unwrap_or_default(),
            machine: self.machine.as_ref().map(|m| m.predict(&rows)).unwrap_or_default(),
            taught: self.taught.predict(&own),
            network: self.network.predict(&courses),
            energy_kwh: energy.iter().map(|mwh| mwh.max(0.0) * 1_000.0).collect(),
        }
    }
}

/// The two members that learn from canaries as well. Only honest customers (all of them without labels) lend copies.
fn fit_with_canaries(
    data: &Assembled,
    canaries: &Canaries,
    outcomes: Outcomes<'_>,
    members: &[usize],
    seed: u64,
) -> Result<(Trees, Network), ModelError> {
    let is_thief = |i: usize| outcomes.labels.is_some_and(|l| l[i]);
    let copies: Vec<usize> = {
        let mut chosen = vec![false; data.courses.len()];
        members.iter().for_each(|&i| chosen[i] = !is_thief(i));
        (0..canaries.owners.len()).filter(|&c| chosen[canaries.owners[c]]).collect()
    };
    let mut rows: Rows = data.rows.pick_first_columns(members, OWN_COLUMNS);
    rows.values.extend(canaries.rows.pick(&copies).values);
    let mut labels: Vec<bool> = members.iter().map(|&i| is_thief(i)).collect();
    labels.resize(labels.len() + copies.len(), true);
    let target: Vec<f64> = labels.iter().map(|l| f64::from(u8::from(*l))).collect();
    let settings = Settings { trees: 450, rate: 0.08, depth: 6, leaves: 24, ..Settings::default() };
    let taught = Trees::fit(&rows, &target, Target::LogOdds, &settings, seed)?;
    let mut courses: Vec<&[f32]> = members.iter().map(|&i| data.courses[i].as_slice()).collect();
    courses.extend(copies.iter().map(|&c| canaries.courses[c].as_slice()));
    let network = Network::fit(&courses, &labels, EPOCHS, NETWORKS, seed);
    Ok((taught, network))
}

/// Regression of the stolen energy on all customers (honest: zero), by squared error on MWh.
fn fit_energy(rows: &Rows, members: &[usize], kwh: &[f64], seed: u64) -> Result<Trees, ModelError> {
    let target: Vec<f64> = members.iter().map(|&i| kwh[i].max(0.0) / 1_000.0).collect();
    let settings = Settings { trees: 250, rate: 0.05, least_leaf_weight: 5.0, ..Settings::default() };
    Trees::fit(rows, &target, Target::Number, &settings, seed)
}
