//! Tests of the crate on a small town: meters, an operator and a custodian that only meet through messages.
// the tests of this crate talk in small numbers
#![allow(clippy::cast_possible_truncation)]

mod abuse;
mod attacks;
mod audit;
mod commitments;
mod crash;
mod evidence;
mod exact;
mod frames;
mod ledger;
mod memory;
mod noise;
mod orders;
mod parties;
mod processes;
mod sharing;
mod theft;
mod vectors;
mod world;
