//! Samples to quantities: rms, power, energy, frequency, harmonics, flicker, dips; power-quality evaluation.
#![cfg_attr(not(feature = "std"), no_std)]
#![warn(missing_docs)]

pub mod config;
pub mod sums;
pub mod engine;
pub mod window;
pub mod energy;
pub mod dips;
pub mod fft;
mod ring;
mod sync;
pub mod tables;
pub mod balance;
pub mod aggregate;
pub mod calibration;
pub mod golden;
#[cfg(feature = "std")]
pub mod host;
