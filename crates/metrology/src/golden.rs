//! Golden runs: the same integer signals through the core on any target, every output folded into one hash.
//!
//! Host and microcontroller must print the same lines. The stimulus is made of integers too (a rotating phasor whose
//! step comes from `libm`), so that a difference can only come from the core, the compiler or the target.

use crate::config::{Config, ConfigError, FrontEnd, Nominal};
use crate::dips::PqEvent;
use crate::energy::{Register, Registers};
use crate::engine::Core;
use crate::fft::Spectrum;
use crate::sums::Sample;
use crate::window::WindowReport;

/// Sample memory of a golden run: what a meter at 8 kS/s has.
pub const GOLDEN_RING: usize = 2048;
/// Samples handed over at once.
pub const BLOCK: usize = 32;

/// A line: order, peak in counts, phase in degrees.
type LineSpec = (u32, i32, i32);

/// One signal.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Name.
    pub name: &'static str,
    /// Samples per second, millihertz.
    pub sample_rate_mhz: u32,
    /// Fundamental, millihertz.
    pub frequency_mhz: u32,
    /// Nominal frequency.
    pub nominal: Nominal,
    /// Voltage.
    pub voltage: &'static [LineSpec],
    /// Current.
    pub current: &'static [LineSpec],
    /// Offset of both channels, counts.
    pub offset: i32,
    /// Lowest bits lost to a coarser converter.
    pub coarse_bits: u32,
    /// Stretch of other voltage: first sample, samples, percent.
    pub disturbance: Option<(u32, u32, i32)>,
    /// Delay of the current, nanoseconds, to be compensated.
    pub delay_ns: i32,
    /// Length, samples.
    pub samples: u32,
}

const PLAIN: Scenario = Scenario {
    name: "unity",
    sample_rate_mhz: 8_000_000,
    frequency_mhz: 50_000,
    nominal: Nominal::Hz50,
    voltage: &[(1, 3_252_691, 0)],
    current: &[(1, 1_414_214, 0)],
    offset: 0,
    coarse_bits: 0,
    disturbance: None,
    delay_ns: 0,
    samples: 8000,
};

/// The signals: quadrants, ends of the frequency range, rates, harmonics, offset, converter, disturbances, skew.
pub static SCENARIOS: [Scenario; 14] = [
    PLAIN,
    Scenario { name: "lagging", current: &[(1, 1_414_214, -60)], ..PLAIN },
    Scenario { name: "export", current: &[(1, 848_528, -150)], ..PLAIN },
    Scenario { name: "capacitive", current: &[(1, 1_414_214, 37)], ..PLAIN },
    Scenario { name: "low-frequency", frequency_mhz: 42_500, current: &[(1, 707_107, -37)], ..PLAIN },
    Scenario { name: "high-frequency", frequency_mhz: 57_500, current: &[(1, 707_107, -37)], ..PLAIN },
    Scenario { name: "off-nominal", frequency_mhz: 49_130, voltage: &[(1, 3_252_691, 17)], ..PLAIN },
    Scenario { name: "sixty", frequency_mhz: 60_000, nominal: Nominal::Hz60, ..PLAIN },
    Scenario {
        name: "slow-rate",
        sample_rate_mhz: 3_906_250,
        frequency_mhz: 50_200,
        voltage: &[(1, 3_252_691, 0), (3, 162_635, 10), (5, 195_161, 40), (11, 113_844, 70), (25, 48_790, 99)],
        samples: 4000,
        ..PLAIN
    },
    Scenario {
        name: "led-lamps",
        frequency_mhz: 47_700,
        voltage: &[(1, 3_252_691, 0), (5, 65_054, 0)],
        current: &[(1, 282_843, -8), (3, 229_103, 170), (5, 149_907, -10), (7, 93_338, 165), (49, 9_000, 5)],
        ..PLAIN
    },
    Scenario { name: "offset", offset: 70_711, current: &[(1, 1_414_214, -30)], ..PLAIN },
    Scenario { name: "twelve-bits", coarse_bits: 11, current: &[(1, 1_414_214, -60)], ..PLAIN },
    Scenario { name: "dip", disturbance: Some((8000, 800, 40)), samples: 16_000, ..PLAIN },
    Scenario { name: "skew", delay_ns: 50_000, current: &[(1, 1_414_214, -60)], ..PLAIN },
];

impl Scenario {
    fn config(&self) -> Config {
        Config {
            sample_rate_mhz: self.sample_rate_mhz,
            nominal: self.nominal,
            u_din_mv: 230_000,
            front_end: FrontEnd {
                volt_pv_per_count: 100_000_000,
                phase_pa_per_count: 10_000_000,
                neutral_pa_per_count: 10_000_000,
                current_delay_ns: self.delay_ns,
                voltage_lead_udeg: 0,
                volt_noise_uv: 0,
                phase_noise_ua: 0,
                neutral_noise_ua: 0,
                counts_per_step: 1 << self.coarse_bits,
            },
            start_current_ua: 20_000,
        }
    }
}

/// Largest number of lines of a channel.
const LINES: usize = 6;

/// A rotating phasor in Q30.
#[derive(Clone, Copy, Default)]
struct Phasor {
    sin: i64,
    cos: i64,
    step_sin: i64,
    step_cos: i64,
    peak: i64,
}

impl Phasor {
    fn new(line: &LineSpec, scenario: &Scenario, delay_ns: i32) -> Self {
        let turn = 2.0 * core::f64::consts::PI;
        let hertz = f64::from(scenario.frequency_mhz) / 1000.0 * f64::from(line.0);
        let step = turn * hertz * 1000.0 / f64::from(scenario.sample_rate_mhz);
        let start = f64::from(line.2) / 360.0 * turn - turn * hertz * f64::from(delay_ns) * 1e-9;
        let q30 = |x: f64| libm::round(x * f64::from(1u32 << 30)) as i64;
        Self {
            sin: q30(libm::sin(start)),
            cos: q30(libm::cos(start)),
            step_sin: q30(libm::sin(step)),
            step_cos: q30(libm::cos(step)),
            peak: i64::from(line.1),
        }
    }

    fn step(&mut self) -> i64 {
        let value = (self.sin * self.peak) >> 30;
        let sin = (self.sin * self.step_cos + self.cos * self.step_sin + (1 << 29)) >> 30;
        let cos = (self.cos * self.step_cos - self.sin * self.step_sin + (1 << 29)) >> 30;
        (self.sin, self.cos) = (sin, cos);
        value
    }
}

struct Stimulus {
    voltage: [Phasor; LINES],
    current: [Phasor; LINES],
    at: u32,
}

impl Stimulus {
    fn new(scenario: &Scenario) -> Self {
        let channel = |lines: &[LineSpec], delay: i32| {
            let mut phasors = [Phasor::default(); LINES];
            for (phasor, line) in phasors.iter_mut().zip(lines) {
                *phasor = Phasor::new(line, scenario, delay);
            }
            phasors
        };
        Self { voltage: channel(scenario.voltage, 0), current: channel(scenario.current, scenario.delay_ns), at: 0 }
    }

    fn next(&mut self, scenario: &Scenario) -> Sample {
        let level = match scenario.disturbance {
            Some((from, length, percent)) if (from..from + length).contains(&self.at) => percent,
            _ => 100,
        };
        self.at += 1;
        let sum = |phasors: &mut [Phasor; LINES]| phasors.iter_mut().map(Phasor::step).sum::<i64>();
        let convert = |x: i64| {
            let x = x as i32 + scenario.offset;
            (x >> scenario.coarse_bits) << scenario.coarse_bits
        };
        let v = convert(sum(&mut self.voltage) * i64::from(level) / 100);
        let i = convert(sum(&mut self.current));
        Sample { v, i, n: i }
    }
}

/// Folds integers into 64 bits (FNV-1a over little-endian bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(pub u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    /// Folds in a number.
    pub fn add(&mut self, value: i64) {
        for byte in value.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Folds in every field of a window.
    pub fn add_window(&mut self, w: &WindowReport) {
        let scalars = [
            i64::from(w.sequence),
            w.end_sample as i64,
            w.length_q16 as i64,
            i64::from(w.free_run) + 2 * i64::from(w.disturbed) + 4 * i64::from(w.no_load),
            w.frequency_uhz.map_or(-1, i64::from),
            i64::from(w.vrms_uv),
            i64::from(w.irms_ua),
            i64::from(w.neutral_ua),
            i64::from(w.v_dc_uv),
            i64::from(w.i_dc_ua),
            w.p_uw,
            w.p_neutral_uw,
            w.p1_uw,
            w.q1_uvar,
            w.q_budeanu_uvar,
            w.s_uva,
            w.n_uva,
            i64::from(w.v1_uv),
            i64::from(w.i1_ua),
            i64::from(w.highest_order),
            w.energy.active,
            w.energy.reactive,
            w.energy.apparent,
            w.energy.active_neutral,
        ];
        for value in scalars {
            self.add(value);
        }
        for groups in [&w.voltage.subgroup, &w.voltage.inter, &w.current.subgroup, &w.current.inter] {
            for &value in groups {
                self.add(i64::from(value));
            }
        }
    }

    fn add_event(&mut self, e: &PqEvent) {
        for value in [e.kind as i64, e.start_sample as i64, e.counted_us as i64, e.duration_us as i64] {
            self.add(value);
        }
        self.add(i64::from(e.extreme_bp));
    }

    fn add_registers(&mut self, r: &Registers) {
        let all: [&Register; 8] = [
            &r.import,
            &r.export,
            &r.reactive[0],
            &r.reactive[1],
            &r.reactive[2],
            &r.reactive[3],
            &r.apparent_import,
            &r.apparent_export,
        ];
        for register in all {
            self.add(register.micro as i64);
        }
    }
}

/// Outcome of a golden run; instruction counts are zero where the counter does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Hash of every output.
    pub hash: Hash,
    /// Windows closed.
    pub windows: u32,
    /// Disturbances seen.
    pub events: u32,
    /// Samples pushed.
    pub samples: u32,
    /// Counter ticks spent in `push`.
    pub push_ticks: u64,
    /// Most ticks spent in closing one window.
    pub close_ticks: u64,
    /// Active power of the last window, microwatts.
    pub p_uw: i64,
    /// Import register, µWh.
    pub import_uwh: u64,
}

/// A core whose every output is folded into one hash.
pub struct Measuring<const RING: usize> {
    core: Core<RING>,
    config: Config,
    registers: Registers,
    outcome: Outcome,
}

impl<const RING: usize> Measuring<RING> {
    /// Nothing pushed yet.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let (registers, outcome) = (Registers::default(), Outcome::default());
        Ok(Self { core: Core::new(config)?, config, registers, outcome })
    }

    /// Takes samples; `counter` reads an instruction counter (or returns zero).
    pub fn push(&mut self, samples: &[Sample], spectrum: &mut Spectrum, counter: impl Fn() -> u64) {
        let outcome = &mut self.outcome;
        outcome.samples += samples.len() as u32;
        let mut rest = samples;
        while !rest.is_empty() {
            let before = counter();
            let pushed = self.core.push(rest);
            outcome.push_ticks += counter() - before;
            rest = &rest[pushed.consumed..];
            let Some(half_cycle) = pushed.half_cycle else { continue };
            outcome.hash.add(half_cycle.urms_sq.map_or(-1, |u| u as i64));
            if let Some(event) = half_cycle.event {
                outcome.events += 1;
                outcome.hash.add_event(&event);
            }
            if !half_cycle.window_ready {
                continue;
            }
            let before = counter();
            let Some(window) = self.core.close_window(spectrum) else { continue };
            self.registers.add(&window.energy, &self.config);
            outcome.close_ticks = outcome.close_ticks.max(counter() - before);
            outcome.hash.add_window(&window);
            outcome.windows += 1;
            outcome.p_uw = window.p_uw;
            outcome.import_uwh = self.registers.import.micro;
        }
    }

    /// What came out, registers included.
    pub fn finish(mut self) -> Outcome {
        self.outcome.hash.add_registers(&self.registers);
        self.outcome
    }
}

/// Runs a scenario; `counter` reads an instruction counter (or returns zero).
pub fn run(scenario: &Scenario, spectrum: &mut Spectrum, counter: impl Fn() -> u64) -> Result<Outcome, ConfigError> {
    let mut measuring = Measuring::<GOLDEN_RING>::new(scenario.config())?;
    let mut stimulus = Stimulus::new(scenario);
    while measuring.outcome.samples < scenario.samples {
        let block: [Sample; BLOCK] = core::array::from_fn(|_| stimulus.next(scenario));
        measuring.push(&block, spectrum, &counter);
    }
    Ok(measuring.finish())
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn scenarios_measure_what_they_say() {
        let mut spectrum = Spectrum::default();
        let find = |name: &str| SCENARIOS.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("{name}"));
        let mut run = |name: &str| super::run(find(name), &mut spectrum, || 0).unwrap_or_else(|e| panic!("{e}"));
        let close = |got: i64, want: i64| assert!((got - want).abs() <= want.abs() / 2000, "{got} {want}");
        close(run("unity").p_uw, 2_300_000_000);
        close(run("lagging").p_uw, 1_150_000_000);
        close(run("skew").p_uw, 1_150_000_000);
        close(run("export").p_uw, -1_195_115_000);
        close(run("twelve-bits").p_uw, 1_150_000_000);
        assert_eq!(run("dip").events, 1);
    }
}
