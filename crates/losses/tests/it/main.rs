//! Balances, alarms, findings and localisation over synthetic neighbourhoods whose truth is known.

mod alarm;
mod balance;
mod coverage;
mod coverage_world;
mod feeder;
mod findings;
mod localisation;
#[allow(dead_code, reason = "the examples use its other parts")]
mod neighbourhood;
mod pattern;
mod snapshot;
