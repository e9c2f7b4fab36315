//! Energy balance, indicators, localisation, pattern models, evidence, the case and its states, hotspots.

pub mod localise;
pub mod pattern;
pub mod tables;
pub mod study;
