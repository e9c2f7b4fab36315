//! What is registered while a sign of tampering is present: a contract may say that the larger of the two currents counts, that
//! reversed energy counts as consumption, or that a missing neutral is replaced by the nominal voltage.
//!
//! By default nothing is replaced: the registers hold what was measured, and the difference is for the server to claim.

use crate::{
    inputs::Inputs,
    tamper::{TamperEngine, Thresholds},
};
use metering::EventKind;

/// Replacements that the contract of the connection permits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegistrationPolicy {
    /// While phase and neutral differ, power counts as if the larger current flowed.
    pub larger_current: bool,
    /// While current flows back without a licence, its energy counts as import.
    pub reverse_as_import: bool,
    /// While the neutral is missing, nominal voltage times current counts.
    pub nominal_without_neutral: bool,
}

/// The inputs to be registered, after the replacements that apply now.
pub fn registered(
    inputs: &Inputs,
    policy: RegistrationPolicy,
    engine: &TamperEngine,
    thresholds: &Thresholds,
) -> Inputs {
    let mut counted = *inputs;
    if policy.nominal_without_neutral && engine.is_present(EventKind::NeutralMissing) {
        counted.voltage.0 = counted.voltage.0.max(thresholds.nominal_mv);
        // millivolts times milliamps are microwatts
        counted.active_mw = i64::from(thresholds.nominal_mv) * i64::from(inputs.current.0) / 1_000;
        return counted;
    }
    if policy.larger_current && engine.is_present(EventKind::Bypass) {
        let (phase, neutral) = (inputs.current.0, inputs.neutral.map_or(0, |neutral| neutral.0));
        if neutral > phase {
            counted.current.0 = neutral;
            counted.active_mw = larger(inputs, phase, neutral);
        }
    }
    if policy.reverse_as_import && engine.is_present(EventKind::ReverseCurrent) {
        counted.active_mw = counted.active_mw.saturating_abs();
    }
    counted
}

/// Power in proportion to the larger current; with no current in the phase, voltage times the neutral's.
fn larger(inputs: &Inputs, phase: u32, neutral: u32) -> i64 {
    if phase == 0 || inputs.active_mw == 0 {
        return i64::from(inputs.voltage.0).saturating_mul(i64::from(neutral)) / 1_000;
    }
    let scaled = i128::from(inputs.active_mw) * i128::from(neutral) / i128::from(phase);
    i64::try_from(scaled).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use metering::{Milliamps, Millivolts};

    use super::*;

    const ALL: RegistrationPolicy =
        RegistrationPolicy { larger_current: true, reverse_as_import: true, nominal_without_neutral: true };

    fn after_persistence(inputs: &Inputs) -> (Inputs, Inputs) {
        let (mut engine, thresholds) = (TamperEngine::default(), Thresholds::default());
        let before = registered(inputs, ALL, &engine, &thresholds);
        assert_eq!(engine.step(300_000, inputs, &thresholds).count(), 1);
        assert_eq!(registered(inputs, RegistrationPolicy::default(), &engine, &thresholds), *inputs);
        (before, registered(inputs, ALL, &engine, &thresholds))
    }

    #[test]
    fn only_what_the_contract_permits_and_only_while_the_sign_is_present() {
        let calm = Inputs::default();
        let bypass = Inputs { current: Milliamps(2_000), neutral: Some(Milliamps(8_000)), active_mw: 400_000, ..calm };
        let (before, after) = after_persistence(&bypass);
        assert_eq!((before, after.active_mw, after.current), (bypass, 1_600_000, Milliamps(8_000)));
        let shunted = Inputs { current: Milliamps(0), neutral: Some(Milliamps(8_000)), ..calm };
        assert_eq!(after_persistence(&shunted).1.active_mw, 1_840_000);
        let back = Inputs { current: Milliamps(2_000), neutral: Some(Milliamps(2_000)), active_mw: -400_000, ..calm };
        assert_eq!(after_persistence(&back).1.active_mw, 400_000);
        let dead = Inputs {
            voltage: Millivolts(20_000),
            current: Milliamps(4_000),
            neutral: Some(Milliamps(4_000)),
            active_mw: 80_000,
            ..calm
        };
        assert_eq!(after_persistence(&dead).1.active_mw, 920_000);
    }
}
