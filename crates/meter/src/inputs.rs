//! What a meter feels: the quantities of one measuring window and the state of its switches.

use metering::{Milliamps, Millihertz, Millivolts, unit::PerMille};

/// Milliseconds since the start of the meter; never goes back while the meter runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uptime(pub u64);

impl Uptime {
    /// Milliseconds since `earlier`, 0 when that is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Means over the window since the last step, and switches as they are at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// Rms voltage on the supply side.
    pub voltage: Millivolts,
    /// Rms current in the phase conductor, as the meter's sensor sees it.
    pub current: Milliamps,
    /// Active power, milliwatts; positive is import.
    pub active_mw: i64,
    /// Reactive power, milli-var; positive is inductive on import.
    pub reactive_mvar: i64,
    /// Power factor.
    pub power_factor: PerMille,
    /// Frequency.
    pub frequency: Millihertz,
    /// Rms current in the neutral; `None` without a second sensor.
    pub neutral: Option<Milliamps>,
    /// Rms voltage on the load side of the relay; `None` when it is not sensed.
    pub load_voltage: Option<Millivolts>,
    /// The cover switch is open.
    pub cover_open: bool,
    /// The magnet sensor is above its threshold.
    pub magnet: bool,
    /// How far the zero of the phase current sensor has moved, thousandths of its full scale.
    pub zero_shift: PerMille,
    /// Total harmonic distortion of the voltage, thousandths of the fundamental.
    pub voltage_thd: PerMille,
    /// Direct current in the phase current, thousandths of its rms.
    pub current_dc: PerMille,
    /// The consumer's button is held down.
    pub button: bool,
    /// Position of the relay's contact; `None` when it is not sensed (then current and load voltage tell).
    pub contact_closed: Option<bool>,
    /// Part of the window that no sample covers, microseconds: what is measured there is taken to be as in the rest.
    pub unsampled_us: u32,
}

impl Default for Inputs {
    /// 230 V, 50 Hz, no load, contact closed and supply through.
    fn default() -> Self {
        Self {
            voltage: Millivolts(230_000),
            current: Milliamps(0),
            active_mw: 0,
            reactive_mvar: 0,
            power_factor: PerMille(1_000),
            frequency: Millihertz(50_000),
            neutral: Some(Milliamps(0)),
            load_voltage: Some(Millivolts(230_000)),
            cover_open: false,
            magnet: false,
            zero_shift: PerMille(0),
            voltage_thd: PerMille(0),
            current_dc: PerMille(0),
            button: false,
            contact_closed: Some(true),
            unsampled_us: 0,
        }
    }
}
