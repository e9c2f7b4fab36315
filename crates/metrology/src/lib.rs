//! Samples to quantities: rms, power, energy, frequency, harmonics, flicker, dips; power-quality evaluation.
#![cfg_attr(not(feature = "std"), no_std)]
#![warn(missing_docs)]

pub mod aggregate;
pub mod balance;
pub mod calibration;
pub mod config;
pub mod dips;
pub mod energy;
pub mod engine;
pub mod fft;
pub mod golden;
#[cfg(feature = "std")]
pub mod host;
mod ring;
pub mod stream;
pub mod sums;
mod sync;
pub mod tables;
pub mod window;
