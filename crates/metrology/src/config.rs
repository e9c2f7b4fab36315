//! What the core must be told: sample rate, nominal values, and the scale of each channel.
//!
//! All values are integers so that a configuration is the same bits everywhere. Not the calibration record itself
//! (see [`crate::calibration`]), which yields one of these.

use core::fmt;

/// Nominal frequency of the network; it sets the cycles of a window and the admissible range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nominal {
    /// 50 Hz: windows of 10 cycles, 42.5 to 57.5 Hz.
    Hz50,
    /// 60 Hz: windows of 12 cycles, 51 to 69 Hz.
    Hz60,
}

impl Nominal {
    /// Nominal frequency in hertz.
    pub const fn hertz(self) -> u32 {
        match self {
            Self::Hz50 => 50,
            Self::Hz60 => 60,
        }
    }

    /// Cycles of one measurement window (IEC 61000-4-30): about 200 ms.
    pub const fn cycles(self) -> u32 {
        self.hertz() / 5
    }
}

/// Scale and known errors of one front end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrontEnd {
    /// Picovolts at the mains per count of a voltage sample.
    pub volt_pv_per_count: u64,
    /// Picoamperes per count of the phase-current sample.
    pub phase_pa_per_count: u64,
    /// Picoamperes per count of the neutral-current sample.
    pub neutral_pa_per_count: u64,
    /// Delay of the current channels behind the voltage channel, nanoseconds (multiplexer skew).
    pub current_delay_ns: i32,
    /// Advance of the measured voltage's fundamental, microdegrees (sensor phase error).
    pub voltage_lead_udeg: i32,
    /// Root mean square of the voltage channel's own noise, microvolts.
    pub volt_noise_uv: u32,
    /// Root mean square of the phase-current channel's own noise, microamperes, measured at no load.
    pub phase_noise_ua: u32,
    /// Root mean square of the neutral-current channel's own noise, microamperes.
    pub neutral_noise_ua: u32,
    /// Counts per step of the converter (1 for a 24-bit converter, 2,048 for 12 bits shifted up by 11).
    pub counts_per_step: u32,
}

/// Everything the core needs to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Samples per second and channel, in millihertz.
    pub sample_rate_mhz: u32,
    /// Nominal frequency.
    pub nominal: Nominal,
    /// Declared supply voltage, millivolts.
    pub u_din_mv: u32,
    /// Scale of the channels.
    pub front_end: FrontEnd,
    /// Below this current nothing registers, microamperes (anti-creep; class 1 must start at 0.4 % of Ib).
    pub start_current_ua: u32,
}

/// Why a configuration was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The sample rate is outside 3,000 to 16,000 per second.
    SampleRate,
    /// The slowest window does not fit the sample memory at this rate.
    RingTooSmall,
    /// A scale is zero or absurdly large.
    Scale,
    /// The sample memory's length is not a power of two.
    RingLength,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SampleRate => "the sample rate must lie between 3,000 and 16,000 per second",
            Self::RingTooSmall => {
                "a window of the slowest frequency does not fit the sample memory: lower the sample rate or enlarge it"
            }
            Self::Scale => "a channel scale is zero or above 1 mV / 1 mA per count: check the calibration",
            Self::RingLength => "the length of the sample memory must be a power of two",
        })
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// Checks the configuration against a sample memory of `ring` samples.
    pub fn validate(&self, ring: usize) -> Result<(), ConfigError> {
        if !ring.is_power_of_two() {
            return Err(ConfigError::RingLength);
        }
        if !(3_000_000..=16_000_000).contains(&self.sample_rate_mhz) {
            return Err(ConfigError::SampleRate);
        }
        let slowest_mhz = u64::from(self.nominal.hertz()) * 850;
        let samples = u64::from(self.nominal.cycles()) * u64::from(self.sample_rate_mhz) / slowest_mhz;
        if samples + 2 * crate::tables::TAPS as u64 > ring as u64 {
            return Err(ConfigError::RingTooSmall);
        }
        let scales =
            [self.front_end.volt_pv_per_count, self.front_end.phase_pa_per_count, self.front_end.neutral_pa_per_count];
        if scales.iter().any(|&s| s == 0 || s > 1_000_000_000) || self.front_end.counts_per_step == 0 {
            return Err(ConfigError::Scale);
        }
        Ok(())
    }

    /// Half a nominal cycle in samples, Q16.
    pub(crate) fn nominal_half_q16(&self) -> u32 {
        let half = (u64::from(self.sample_rate_mhz) << 16) / (2000 * u64::from(self.nominal.hertz()));
        half as u32
    }
}
