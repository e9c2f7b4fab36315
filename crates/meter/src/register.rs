//! Cumulative registers in whole units with an exact remainder: nothing floats, nothing is rounded away.

use metering::WattHours;
use minicbor::{Decode, Encode};

/// A register of energy. Fed with an integer product of power and time, of which `PER_UNIT` make one unit on the display.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Register<const PER_UNIT: u64> {
    #[n(0)]
    units: u64,
    #[n(1)]
    remainder: u64,
}

/// Milliwatts times milliseconds are microwatt-seconds: 3.6 · 10⁹ of them make a watt-hour (or a var-hour).
pub type ActiveRegister = Register<3_600_000_000>;
/// Millivolts times milliamps times milliseconds are nano-volt-ampere-seconds: 3.6 · 10¹² make a volt-ampere-hour.
pub type ApparentRegister = Register<3_600_000_000_000>;

impl<const PER_UNIT: u64> Register<PER_UNIT> {
    /// A register that begins at this many whole units.
    pub const fn starting_at(units: u64) -> Self {
        Self { units, remainder: 0 }
    }

    /// Adds a product of power and time. Holds at the largest value instead of turning over.
    pub fn add(&mut self, amount: u128) {
        let per_unit = u128::from(PER_UNIT);
        let total = u128::from(self.remainder).saturating_add(amount);
        self.units = self.units.saturating_add(u64::try_from(total / per_unit).unwrap_or(u64::MAX));
        self.remainder = u64::try_from(total % per_unit).unwrap_or(0);
    }

    /// Whole units.
    pub const fn units(&self) -> u64 {
        self.units
    }

    /// What is carried below one unit.
    pub const fn remainder(&self) -> u64 {
        self.remainder
    }
}

/// All registers of a meter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Registers {
    /// Active energy, import, Wh.
    #[n(0)]
    pub import: ActiveRegister,
    /// Active energy, export, Wh.
    #[n(1)]
    pub export: ActiveRegister,
    /// Reactive energy of quadrants I to IV, varh.
    #[n(2)]
    pub reactive: [ActiveRegister; 4],
    /// Apparent energy, VAh.
    #[n(3)]
    pub apparent: ApparentRegister,
}

impl Registers {
    /// Adds what flowed during `milliseconds`: active power in mW, reactive in mvar, voltage in mV, current in mA.
    pub fn add(&mut self, active_mw: i64, reactive_mvar: i64, voltage_mv: u32, current_ma: u32, milliseconds: u64) {
        let time = u128::from(milliseconds);
        let active = u128::from(active_mw.unsigned_abs()) * time;
        let (register, importing) = if active_mw >= 0 { (&mut self.import, true) } else { (&mut self.export, false) };
        register.add(active);
        let quadrant = match (importing, reactive_mvar >= 0) {
            (true, true) => 0,
            (false, true) => 1,
            (false, false) => 2,
            (true, false) => 3,
        };
        self.reactive[quadrant].add(u128::from(reactive_mvar.unsigned_abs()) * time);
        self.apparent.add(u128::from(voltage_mv) * u128::from(current_ma) * time);
    }

    /// Import register.
    pub const fn import_wh(&self) -> WattHours {
        WattHours(self.import.units())
    }

    /// Export register.
    pub const fn export_wh(&self) -> WattHours {
        WattHours(self.export.units())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_watt_for_an_hour_is_a_watt_hour_in_any_steps() {
        for step in [1, 7, 200, 999, 60_000] {
            let mut registers = Registers::default();
            let mut left = 3_600_000u64;
            while left > 0 {
                let now = left.min(step);
                registers.add(1_000, 0, 230_000, 4, now);
                left -= now;
            }
            assert_eq!((registers.import.units(), registers.import.remainder()), (1, 0), "step {step}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_below_a_unit(parts in prop::collection::vec(0u64..50_000_000_000, 0..40)) {
            let mut register = ActiveRegister::starting_at(5);
            for &part in &parts {
                register.add(u128::from(part));
            }
            let total: u128 = parts.iter().map(|&p| u128::from(p)).sum();
            let held = u128::from(register.units() - 5) * 3_600_000_000 + u128::from(register.remainder());
            prop_assert_eq!(held, total);
        }
    }
}
