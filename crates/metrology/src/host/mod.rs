//! The host side: floating point, files and reports. Nothing here runs on a meter.

pub mod check;
pub mod classify;
pub mod demo;
pub mod files;
pub mod flicker;
pub mod flicker_tests;
pub mod limits;
pub mod picture;
pub mod spectrum;
pub mod sweep;
pub mod synthesis;
pub mod vectors;
pub mod weekly;
