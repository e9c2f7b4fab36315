//! The meter core: relay, tamper rules, display, memory and texts, at their limits and at power cuts.

mod answers;
mod display;
mod flags;
mod kept;
mod last_gasp;
mod local;
mod masked;
mod meter;
mod power_cut;
mod random;
mod relay;
mod sms;
mod tamper;
mod torn;
