//! Masked linear queries, custodian policy, differential privacy, commitments, secret sharing, evidence log.
//!
//! A meter sends `c = x + F(k, counter)`; an operator holds `c` and never `k`; a custodian holds `k` and never `c`, and gives
//! `Σ w·F` for a query that its policy allows; the operator then knows exactly `Σ w·x`. Group sums, bills, theft scores,
//! corrections, statistics with noise and the rare unmasking are this one thing under different rules. The protocol, its proof
//! sketch and the threat model are in `docs/privacy/`.
//!
//! Without the feature `std` there is what a meter needs: [`mask`] and [`frame`], `no_std` and without allocation. The crate is pure: no
//! clock, no randomness, no file, no network; all are arguments. It is not: a transport, or legal advice.
#![cfg_attr(not(any(feature = "std", test)), no_std)]

pub mod frame;
pub mod mask;

#[cfg(feature = "std")]
mod answer;
#[cfg(feature = "std")]
mod cross;
#[cfg(feature = "std")]
pub mod custodian;
#[cfg(feature = "std")]
pub mod journal;
#[cfg(feature = "std")]
mod json;
#[cfg(feature = "std")]
mod kept;
#[cfg(feature = "std")]
pub mod ledger;
#[cfg(feature = "std")]
pub mod operator;
#[cfg(feature = "std")]
pub mod orders;
#[cfg(feature = "std")]
pub mod policy;
#[cfg(feature = "std")]
pub mod query;
#[cfg(feature = "std")]
mod roster;
#[cfg(feature = "std")]
pub mod rules;
#[cfg(feature = "std")]
pub mod span;
#[cfg(feature = "std")]
pub mod theft;

#[cfg(feature = "std")]
pub mod commitment;
#[cfg(feature = "std")]
pub mod draws;
#[cfg(feature = "std")]
pub mod escrow;
#[cfg(feature = "std")]
pub mod exchange;
#[cfg(feature = "std")]
pub mod hex;
#[cfg(feature = "std")]
pub mod log;
#[cfg(feature = "std")]
pub mod merkle;
#[cfg(feature = "std")]
pub mod noise;
#[cfg(feature = "std")]
pub mod ramp;
#[cfg(feature = "std")]
pub mod search;

#[cfg(feature = "std")]
pub use custodian::{Custodian, Decision, Event};
pub use mask::{Field, MaskCounter, MaskKey};
