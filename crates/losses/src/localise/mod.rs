//! Where on a feeder does unmetered energy go? From the meters of all connections, the meter at the transformer and the network
//! model. Sign conventions, formulas and measured figures: `docs/localisation.md`.
//!
//! Steps: [`trial`] reads and fills gaps; [`feeder`] makes the residual y = delivered − metered − losses with its noise per
//! slot; [`regression`] finds metered thieves in it; [`joint`] finds unmetered connections by voltage ([`tap`] on meshed networks), of
//! whom `household` asks who would gain; [`verdict`] decides. "Detected but not localisable" is an answer. [`snapshot`] does the same
//! from three instants instead of weeks.

pub mod feeder;
mod household;
pub mod joint;
pub mod regression;
pub mod snapshot;
pub mod tap;
pub mod trial;
pub mod verdict;

pub use trial::Trial;
pub use verdict::{Known, Suspect, TheftKind, Verdict, localise, oracle};

/// Why localisation was not possible; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LocaliseError {
    /// A table could not be read.
    #[error(transparent)]
    Table(#[from] crate::tables::TableError),
    /// The network or its power flow failed.
    #[error("the network model: {0}")]
    Grid(#[from] grid::GridError),
    /// The description of the trial is unusable.
    #[error("{path}: {problem}")]
    Description {
        /// File.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// Readings and network do not belong together.
    #[error("{0}")]
    Mismatch(String),
}
