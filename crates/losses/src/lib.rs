//! Energy balance, indicators, localisation, pattern models, evidence, the case and its states, hotspots.
//!
//! Pure: no clock, randomness, input or output; every function takes what it needs and returns what it found.

pub mod alarm;
pub mod balance;
pub mod canary_log;
pub mod case;
pub mod evidence;
pub mod explain;
pub mod findings;
pub mod fusion;
pub mod hotspots;
pub mod localise;
pub mod observer_fault;
pub mod pattern;
pub mod ranking;
pub mod study;
pub mod tables;
pub mod technical;
