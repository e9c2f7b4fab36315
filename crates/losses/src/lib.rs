//! Energy balance, indicators, localisation, pattern models, evidence, the case and its states, hotspots.

pub mod hotspots;
pub mod localise;
pub mod pattern;
pub mod study;
pub mod tables;
