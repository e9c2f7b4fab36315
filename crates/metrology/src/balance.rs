//! Comparison of phase and neutral current of one metering point.
//!
//! In a sound installation both are equal. A lasting difference means that part of the load returns past the meter
//! (bypass, earth load); energy then follows the larger power. This measures and decides nothing further: what a
//! mismatch leads to is the meter's tamper engine.

use crate::window::WindowReport;

/// When phase and neutral count as different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MismatchRule {
    /// At least one current must exceed this, microamperes.
    pub smallest_ua: u32,
    /// Difference in percent of the larger current that begins a mismatch.
    pub percent: u32,
    /// How long the difference must last, samples.
    pub persistence_samples: u64,
}

/// Follows one metering point.
#[derive(Clone, Debug)]
pub struct Comparison {
    rule: MismatchRule,
    since: Option<u64>,
}

impl Comparison {
    /// A comparison under `rule`.
    pub fn new(rule: MismatchRule) -> Self {
        Self { rule, since: None }
    }

    /// Takes a window; true while a mismatch has lasted long enough.
    pub fn update(&mut self, window: &WindowReport) -> bool {
        let larger = window.irms_ua.max(window.neutral_ua);
        let difference = window.irms_ua.abs_diff(window.neutral_ua);
        let apart = larger >= self.rule.smallest_ua
            && u64::from(difference) * 100 > u64::from(larger) * u64::from(self.rule.percent);
        if !apart {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(window.end_sample);
        window.end_sample - since >= self.rule.persistence_samples
    }
}

/// The power to bill during a mismatch: the one of larger magnitude, microwatts.
pub fn larger_power_uw(window: &WindowReport) -> i64 {
    if window.p_neutral_uw.unsigned_abs() > window.p_uw.unsigned_abs() { window.p_neutral_uw } else { window.p_uw }
}
