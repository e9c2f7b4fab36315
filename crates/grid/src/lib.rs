//! Network model, power flow, state estimation, lost measurements.
//!
//! The crate knows where energy must be flowing. Give it a network ([`folder`], [`network`]) and injections and it returns
//! voltages, flows and losses ([`flow`], [`series`]). It holds no clock, no randomness and no database. The method and its
//! derivation are in `docs/grid.md`.

// index loops over small matrices read as the formulas they are
#![allow(clippy::needless_range_loop)]

pub mod error;
pub mod folder;
pub mod measurement;
pub mod model;
pub mod network;

mod dense;
pub mod estimate;
pub mod estimate_covariance;
mod estimate_kernel;
pub mod flow;
pub mod hosting;
mod kernel;
pub mod lost;
mod lost_course;
pub mod lost_study;
pub mod private;
pub mod profiles;
pub mod quality;
pub mod series;
mod sparse;
pub mod threephase;
pub mod topology;

pub mod bench;
pub mod check;

pub use error::GridError;
pub use estimate_kernel::BatchEstimator;
pub use kernel::Tolerance;
pub use num_complex::Complex64;
