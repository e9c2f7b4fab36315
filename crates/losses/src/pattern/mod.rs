//! Pattern models: from daily consumption (and, where there is one, the zone's observer meter) to a calibrated
//! probability of theft, the energy that can be recovered, and the reasons in words.
//!
//! Not an accusation and not evidence by itself: a score is a reason to look. Gaps are NaN everywhere in this module and
//! stay gaps; nothing is resampled or imputed for the models.

pub mod features;
pub mod metrics;
pub mod population;
pub mod signature;
pub mod statistics;
pub mod trees;

/// Why a model could not be trained, read or used; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Training is not possible with these data.
    #[error("training is not possible: {0}")]
    Training(String),
    /// The model file cannot be used.
    #[error("the model file cannot be used: {0}")]
    File(String),
    /// The customers do not fit the model.
    #[error("the model cannot score these customers: {0}")]
    Scoring(String),
    /// A table could not be read.
    #[error(transparent)]
    Table(#[from] crate::tables::TableError),
}
pub mod assemble;
pub mod blend;
pub mod calibration;
pub mod canary;
pub mod canary_watch;
pub mod drift;
mod ensemble;
pub mod inspection;
pub mod mixture;
pub mod model;
pub mod observer;
pub mod reasons;
pub mod sequence;
pub mod svm;
