//! Gradient-boosted trees: the `forust-ml` trainer with the settings that won here, averaged over seeds.
//!
//! Rows are customers, columns features, NaN = missing (each split sends missing values where they fit best).

use forust_ml::data::Matrix;
use forust_ml::gradientbooster::{GradientBooster, MissingNodeTreatment};
use forust_ml::objective::ObjectiveType;
use forust_ml::sampler::SampleMethod;
use serde::{Deserialize, Serialize};

use crate::pattern::ModelError;
use crate::pattern::ensemble::{Ensemble, Node};

/// A table of numbers by rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// Values, row after row.
    pub values: Vec<f64>,
    /// Columns of each row.
    pub columns: usize,
}

impl Rows {
    /// Number of rows.
    pub fn count(&self) -> usize {
        self.values.len().checked_div(self.columns).unwrap_or(0)
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.columns..(index + 1) * self.columns]
    }

    /// The rows picked, in the order picked.
    pub fn pick(&self, members: &[usize]) -> Self {
        let values = members.iter().flat_map(|&i| self.row(i).iter().copied()).collect();
        Self { values, columns: self.columns }
    }

    /// The rows picked with only their first `columns` columns.
    pub fn pick_first_columns(&self, members: &[usize], columns: usize) -> Self {
        let values = members.iter().flat_map(|&i| self.row(i)[..columns].iter().copied()).collect();
        Self { values, columns }
    }

    /// The trainer wants columns one after the other.
    fn by_column(&self) -> Vec<f64> {
        let rows = self.count();
        let mut values = Vec::with_capacity(self.values.len());
        for column in 0..self.columns {
            values.extend((0..rows).map(|row| self.values[row * self.columns + column]));
        }
        values
    }
}

/// What the trees predict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// Log-odds of a yes/no target.
    LogOdds,
    /// A number, by squared error.
    Number,
}

/// Settings of one ensemble.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Trees per seed.
    pub trees: usize,
    /// Step size.
    pub rate: f32,
    /// Greatest depth.
    pub depth: usize,
    /// Greatest number of leaves.
    pub leaves: usize,
    /// L2 regularisation of leaf weights.
    pub l2: f32,
    /// Share of rows per tree.
    pub rows: f32,
    /// Share of columns per tree.
    pub columns: f64,
    /// Least sum of second derivatives in a leaf.
    pub least_leaf_weight: f32,
    /// Ensembles averaged, each with its own seed.
    pub seeds: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            trees: 400,
            rate: 0.04,
            depth: 5,
            leaves: 15,
            l2: 5.0,
            rows: 0.8,
            columns: 0.3,
            least_leaf_weight: 1.0,
            seeds: 1,
        }
    }
}

/// A trained ensemble.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Trees {
    ensembles: Vec<Ensemble>,
    columns: usize,
}

/// Trees as read, before they are believed.
#[derive(Deserialize)]
struct Stored {
    ensembles: Vec<Ensemble>,
    columns: usize,
}

impl TryFrom<Stored> for Trees {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        if stored.ensembles.is_empty() || stored.ensembles.iter().any(|e| e.columns_needed() > stored.columns) {
            return Err("there are no trees, or they ask for columns that do not exist".to_owned());
        }
        Ok(Self { ensembles: stored.ensembles, columns: stored.columns })
    }
}

impl Trees {
    /// Trains on `rows` and `target` (0 or 1 for log-odds), each row counting as often as its weight says, on the calling
    /// thread alone, so that the result does not depend on the number of processors.
    pub fn fit(
        rows: &Rows,
        target: &[f64],
        weights: &[f64],
        kind: Target,
        settings: &Settings,
        seed: u64,
    ) -> Result<Self, ModelError> {
        let by_column = rows.by_column();
        let matrix = Matrix::new(&by_column, rows.count(), rows.columns);
        let ensembles = (0..settings.seeds.max(1) as u64)
            .map(|member| {
                let mut booster = GradientBooster::default()
                    .set_objective_type(match kind {
                        Target::LogOdds => ObjectiveType::LogLoss,
                        Target::Number => ObjectiveType::SquaredLoss,
                    })
                    .set_iterations(settings.trees)
                    .set_learning_rate(settings.rate)
                    .set_max_depth(settings.depth)
                    .set_max_leaves(settings.leaves)
                    .set_l2(settings.l2)
                    .set_min_leaf_weight(settings.least_leaf_weight)
                    .set_sample_method(SampleMethod::Random)
                    .set_subsample(settings.rows)
                    .set_colsample_bytree(settings.columns)
                    .set_initialize_base_score(true)
                    .set_parallel(false)
                    .set_seed(seed.wrapping_mul(1_000).wrapping_add(member));
                booster.missing_node_treatment = MissingNodeTreatment::AssignToParent;
                booster.fit(&matrix, target, weights, None).map_err(|e| {
                    ModelError::Training(format!("the gradient boosting trainer refused the data: {e}"))
                })?;
                Ok(ensemble(&booster))
            })
            .collect::<Result<_, ModelError>>()?;
        Ok(Self { ensembles, columns: rows.columns })
    }

    /// Raw predictions (log-odds or the number), averaged over the seeds.
    pub fn predict(&self, rows: &Rows) -> Vec<f64> {
        let mut sums = vec![0.0; rows.count()];
        for ensemble in &self.ensembles {
            ensemble.add_to(&rows.values, rows.columns, &mut sums);
        }
        let members = self.ensembles.len() as f64;
        sums.iter().map(|s| s / members).collect()
    }

    /// What each column adds to the first ensemble's raw prediction of a row (Saabas: averages of the nodes passed).
    pub fn contributions(&self, row: &[f64]) -> Vec<f64> {
        self.ensembles.first().map(|e| e.contributions(row)).unwrap_or_default()
    }

    /// Columns a row must have.
    pub fn columns(&self) -> usize {
        self.columns
    }
}

/// The trainer's trees in the form for prediction. The trainer keeps values and thresholds in the same order of nodes:
/// the root first, children behind their parent.
fn ensemble(booster: &GradientBooster) -> Ensemble {
    let mut ensemble = Ensemble::new(booster.base_score);
    for tree in &booster.trees {
        let averages = tree.distribute_leaf_weights();
        let node = |(at, average): (usize, f64)| {
            let node = &tree.nodes[at];
            if node.is_leaf {
                let own = at as u32;
                return Node { split: 0.0, average, column: 0, children: [own; 3] };
            }
            Node {
                split: node.split_value,
                average,
                column: node.split_feature as u32,
                children: [node.left_child, node.right_child, node.missing_node].map(|c| c as u32),
            }
        };
        ensemble.push(averages.into_iter().enumerate().map(node));
    }
    ensemble
}
