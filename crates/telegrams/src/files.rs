//! Files of interval energies and registers that utilities and markets exchange: kept as what they are, never turned into registers.

pub mod clock;
pub mod cmep;
pub mod columns;
pub mod espi;
pub mod iec61968;
pub mod mscons;
pub mod nem12;
mod xml;

/// Most readings taken from one file; a longer file is an error that says so.
pub const READINGS_MAX: usize = 4_000_000;
