//! Forecasts that say how sure they are: loads, solar behind the meter, demand-response baselines, overload, outages, false data.
//!
//! Everything is a pure function of its arguments and a seed: no clock, no file, no network. Data are reached through
//! [`series::Known`] only, which holds what had ended at an [`series::Origin`]; a model that looks into the future does not
//! compile. The methods and what was measured are in `docs/forecast.md`.

pub mod calendar;
pub mod error;
pub mod quantiles;
pub mod series;

pub mod holidays;
pub mod weather;

pub mod features;
pub mod frame;

pub mod climatology;
pub mod conformal;
pub mod ridge;
pub mod trees;

pub mod engine;
pub mod reconcile;

pub mod false_data;
pub mod hosting;
pub mod insight;
pub mod outage;
pub mod overload;
pub mod response;
pub mod solar;
pub mod sun;

pub use error::ForecastError;
pub use quantiles::{Band, LEVELS};
pub use series::{Known, Origin, Series};
