//! Energy registers with the remainder carried, so that nothing is lost however small a window's share is.
//!
//! One register per direction and quadrant, never a sign. Unit of the registers: micro-watt-hours (µvarh, µVAh). The
//! remainder is kept in the raw unit picovolt·picoampere·sample, exactly. Not the billing registers: the meter stores
//! and signs those.

use crate::config::Config;
use crate::window::RawEnergy;

/// One cumulative register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Register {
    /// Whole micro-units-hours.
    pub micro: u64,
    remainder: u128,
}

impl Register {
    fn add(&mut self, raw: u128, divisor: u128) {
        let total = self.remainder + raw;
        self.micro = self.micro.wrapping_add((total / divisor) as u64);
        self.remainder = total % divisor;
    }
}

/// The registers of one metering point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Active energy delivered to the consumer, µWh.
    pub import: Register,
    /// Active energy delivered to the network, µWh.
    pub export: Register,
    /// Reactive energy of quadrants I to IV, µvarh. I: import inductive; II: export inductive; III: export capacitive;
    /// IV: import capacitive.
    pub reactive: [Register; 4],
    /// Apparent energy while importing, µVAh.
    pub apparent_import: Register,
    /// Apparent energy while exporting, µVAh.
    pub apparent_export: Register,
}

impl Registers {
    /// Adds the energy of one window measured under `config`.
    pub fn add(&mut self, energy: &RawEnergy, config: &Config) {
        let scale = u128::from(config.front_end.volt_pv_per_count) * u128::from(config.front_end.phase_pa_per_count);
        // 1 µWh = 3.6e-3 W·s = 3.6e21 pV·pA·s = 3.6e21·rate samples; the rate is in thousandths.
        let divisor = 3_600_000_000_000_000_000u128 * u128::from(config.sample_rate_mhz);
        let raw = |x: i64| u128::from(x.unsigned_abs()) * scale;
        let exporting = energy.active < 0;
        let inductive = energy.reactive >= 0;
        let (active, apparent) = if exporting {
            (&mut self.export, &mut self.apparent_export)
        } else {
            (&mut self.import, &mut self.apparent_import)
        };
        active.add(raw(energy.active), divisor);
        apparent.add(raw(energy.apparent), divisor);
        let quadrant = match (exporting, inductive) {
            (false, true) => 0,
            (true, true) => 1,
            (true, false) => 2,
            (false, false) => 3,
        };
        self.reactive[quadrant].add(raw(energy.reactive), divisor);
    }
}
