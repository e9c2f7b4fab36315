//! The members of the blend: trained together, scored together.
//!
//! Members: boosted trees and a support vector machine on the labels; a second ensemble of trees and the sequence network
//! that also see canaries (copies of the honest training records with a known theft written in) as thieves, because a few
//! hundred labelled thieves show too few combinations of kind, onset and household. Without labels the two canary members
//! stand alone. How the members are weighted is learnt in [`crate::pattern::mixture`] from predictions for customers that the
//! members had not seen.

use serde::{Deserialize, Serialize};

use crate::pattern::ModelError;
use crate::pattern::assemble::{Assembled, Canaries, OWN_COLUMNS, in_parallel};
use crate::pattern::sequence::Network;
use crate::pattern::svm::Svm;
use crate::pattern::trees::{Rows, Settings, Target, Trees};

/// Passes of the sequence network over the customers.
const EPOCHS: usize = 8;
/// Networks averaged.
const NETWORKS: usize = 1;
/// Members that are blended.
pub const MEMBERS: usize = 4;
/// Customers whose predictions are made together; their features stay in the cache.
const PREDICTED_AT_ONCE: usize = 256;
/// Positives needed to train on labels at all.
pub const LEAST_POSITIVES: usize = 20;

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
    /// Customers scored.
    pub fn count(&self) -> usize {
        self.taught.len()
    }

    /// The members' scores of one customer, absent ones 0: trees, machine, taught, network.
    pub fn of(&self, index: usize) -> [f64; MEMBERS] {
        [&self.trees, &self.machine, &self.taught, &self.network].map(|s| s.get(index).copied().unwrap_or(0.0))
    }

    /// Appends the scores of more customers.
    pub fn extend(&mut self, more: Self) {
        self.trees.extend(more.trees);
        self.machine.extend(more.machine);
        self.taught.extend(more.taught);
        self.network.extend(more.network);
        self.energy_kwh.extend(more.energy_kwh);
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
    /// Theft found or not, None where nobody has looked; no list at all trains without labels.
    pub labels: Option<&'a [Option<bool>]>,
    /// As how many customers each counts, where it has a label.
    pub weights: &'a [f64],
    /// Stolen energy in kWh where all thieves' is known.
    pub stolen_kwh: Option<&'a [f64]>,
}

/// What members are trained on.
#[derive(Clone, Copy)]
pub struct Learning<'a> {
    /// Everybody's features and courses.
    pub data: &'a Assembled,
    /// Copies with a theft written in.
    pub canaries: &'a Canaries,
    /// What is known about the customers.
    pub outcomes: Outcomes<'a>,
    /// The customers to train on.
    pub members: &'a [usize],
}

/// The members that need labels.
struct Labelled {
    trees: Trees,
    machine: Svm,
    energy: Option<Trees>,
}

impl Members {
    /// Trains all members on the customers picked, on two threads when there are two. Each member is trained on one thread,
    /// so the result does not depend on their number.
    pub fn fit(learning: Learning<'_>, settings: &Settings, seed: u64, threads: usize) -> Result<Self, ModelError> {
        let (labelled, (taught, network)) = if threads >= 2 {
            std::thread::scope(|scope| {
                let beside = scope.spawn(|| fit_with_canaries(learning, seed));
                let labelled = fit_labelled(learning, settings, seed)?;
                let taught = beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                Ok::<_, ModelError>((labelled, taught))
            })?
        } else {
            (fit_labelled(learning, settings, seed)?, fit_with_canaries(learning, seed)?)
        };
        Ok(match labelled {
            None => Self { trees: None, machine: None, taught, network, energy: None },
            Some(Labelled { trees, machine, energy }) => {
                Self { trees: Some(trees), machine: Some(machine), taught, network, energy }
            }
        })
    }

    /// Scores of the customers picked.
    pub fn predict(&self, data: &Assembled, members: &[usize], threads: usize) -> MemberScores {
        let blocks: Vec<&[usize]> = members.chunks(PREDICTED_AT_ONCE).collect();
        let mut joined = MemberScores::default();
        for part in in_parallel(&blocks, threads, |block| self.predict_block(data, block)) {
            joined.extend(part);
        }
        joined
    }

    fn predict_block(&self, data: &Assembled, members: &[usize]) -> MemberScores {
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

/// The members on labels; None without labels.
fn fit_labelled(learning: Learning<'_>, settings: &Settings, seed: u64) -> Result<Option<Labelled>, ModelError> {
    let Learning { data, outcomes, members, .. } = learning;
    let Some(all_labels) = outcomes.labels else { return Ok(None) };
    let known: Vec<usize> = members.iter().copied().filter(|&i| all_labels[i].is_some()).collect();
    let labels: Vec<bool> = known.iter().map(|&i| all_labels[i] == Some(true)).collect();
    let positives = labels.iter().filter(|l| **l).count();
    if positives < LEAST_POSITIVES || positives + LEAST_POSITIVES > labels.len() {
        return Err(ModelError::Training(format!(
            "{positives} of {} customers with a label are labelled as theft; at least {LEAST_POSITIVES} thieves and as many honest \
             customers are needed. Without labels use the unsupervised mode",
            labels.len()
        )));
    }
    let rows = data.rows.pick(&known);
    let target: Vec<f64> = labels.iter().map(|l| f64::from(u8::from(*l))).collect();
    let weights: Vec<f64> = known.iter().map(|&i| outcomes.weights[i]).collect();
    let trees = Trees::fit(&rows, &target, &weights, Target::LogOdds, settings, seed)?;
    let machine = Svm::fit(&rows, &labels);
    let energy = match outcomes.stolen_kwh {
        Some(kwh) => Some(fit_energy(&rows, &known, &weights, kwh, seed)?),
        None => None,
    };
    Ok(Some(Labelled { trees, machine, energy }))
}

/// The two members that learn from canaries as well. Customers without a label are taken for honest, as most are. Only honest
/// customers lend copies.
fn fit_with_canaries(learning: Learning<'_>, seed: u64) -> Result<(Trees, Network), ModelError> {
    let Learning { data, canaries, outcomes, members } = learning;
    let is_thief = |i: usize| outcomes.labels.is_some_and(|l| l[i] == Some(true));
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
    let taught = Trees::fit(&rows, &target, &vec![1.0; target.len()], Target::LogOdds, &settings, seed)?;
    let mut courses: Vec<&[f32]> = members.iter().map(|&i| data.courses[i].as_slice()).collect();
    courses.extend(copies.iter().map(|&c| canaries.courses[c].as_slice()));
    let network = Network::fit(&courses, &labels, EPOCHS, NETWORKS, seed);
    Ok((taught, network))
}

/// Regression of the stolen energy on all customers with a label (honest: zero), by squared error on MWh.
fn fit_energy(rows: &Rows, members: &[usize], weights: &[f64], kwh: &[f64], seed: u64) -> Result<Trees, ModelError> {
    let target: Vec<f64> = members.iter().map(|&i| kwh[i].max(0.0) / 1_000.0).collect();
    let settings = Settings { trees: 250, rate: 0.05, least_leaf_weight: 5.0, ..Settings::default() };
    Trees::fit(rows, &target, weights, Target::Number, &settings, seed)
}
