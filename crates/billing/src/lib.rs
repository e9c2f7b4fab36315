//! Tariffs, billing determinants, bills to the minor unit, and why.
//!
//! A pure core: readings and a price list go in, a bill with a reason for every line comes out. Exact rationals inside, whole minor
//! units outside, no floating-point number anywhere. It knows no clock, no database, no file: the caller gives bytes by name.
//!
//! In reading order: numbers (`exact`, `rounding`), the price list (`tariff`, `when`, `calendar`, `series`), what was used (`readings`,
//! `usage`, `demand`), the bill (`plan`, `customer`, `rate`, `bill`, `cycle`), supply paid in advance (`vend`, `prepaid`), files and
//! answers (`case`, `report`). It is no ledger: payments and reminders are not here.

pub mod exact;
pub mod rounding;

pub mod currency;
pub mod error;
pub mod when;

pub mod tariff;

pub mod calendar;
pub mod series;

pub mod readings;
pub mod usage;

pub mod customer;
pub mod demand;
pub mod plan;

pub mod bill;
pub mod rate;

pub mod bulk;
pub mod cycle;
pub mod prepaid;
pub mod vend;

pub mod case;
pub mod compare;
pub mod explain;
pub mod forecast;
pub mod report;
pub mod urdb;
