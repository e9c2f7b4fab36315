//! The host side: floating point, files and reports. Nothing here runs on a meter.

pub mod check;
pub mod flicker;
pub mod synthesis;
pub mod vectors;
