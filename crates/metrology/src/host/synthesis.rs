//! Synthesised waveforms with an ideal or a quantising front end: the stimulus of vectors, sweeps and simulations.
//!
//! Signals follow `x(t) = dc + sum Xh·√2·sin(2π·h·f·t + φh)` with rms amplitudes. Not a model of a network: what the
//! caller asks for is what comes out.

use core::f64::consts::{PI, SQRT_2};

use crate::config::{Config, FrontEnd, Nominal};
use crate::sums::Sample;

/// A sine by rotation: cheap and exact enough for hours (renormalised at every step).
#[derive(Clone, Copy, Debug)]
pub struct Oscillator {
    sin: f64,
    cos: f64,
    step_sin: f64,
    step_cos: f64,
}

impl Oscillator {
    /// Sine of `f` hertz at `fs` samples per second, starting at phase `radians`.
    pub fn new(f: f64, fs: f64, radians: f64) -> Self {
        let step = 2.0 * PI * f / fs;
        Self { sin: radians.sin(), cos: radians.cos(), step_sin: step.sin(), step_cos: step.cos() }
    }

    /// The present value; moves on by one sample.
    #[inline]
    pub fn step(&mut self) -> f64 {
        let now = self.sin;
        let (sin, cos) =
            (self.sin * self.step_cos + self.cos * self.step_sin, self.cos * self.step_cos - self.sin * self.step_sin);
        let correct = 1.5 - 0.5 * (sin * sin + cos * cos);
        (self.sin, self.cos) = (sin * correct, cos * correct);
        now
    }
}

/// A spectral line: frequency in hertz, rms amplitude, phase in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Hertz.
    pub hertz: f64,
    /// Root mean square, volts or amperes.
    pub rms: f64,
    /// Degrees, sine reference at time zero.
    pub degrees: f64,
}

/// One channel: lines on a constant.
#[derive(Clone, Debug, Default)]
pub struct Wave {
    /// Constant part.
    pub dc: f64,
    /// Lines.
    pub lines: Vec<Line>,
    /// Root mean square of added white Gaussian noise.
    pub noise: f64,
}

impl Wave {
    /// Largest magnitude that can occur, noise to six sigma.
    pub fn peak(&self) -> f64 {
        self.dc.abs() + self.lines.iter().map(|l| l.rms.abs() * SQRT_2).sum::<f64>() + 6.0 * self.noise
    }
}

/// Analogue-to-digital converter of a channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Converter {
    /// 24 bits over ±`peak` volts or amperes.
    Ideal {
        /// Full scale.
        peak: f64,
    },
    /// `bits` over 0 to `vref` volts, input `offset + gain·x`.
    Quantising {
        /// Resolution.
        bits: u32,
        /// Reference, volts.
        vref: f64,
        /// Volts at zero input.
        offset: f64,
        /// Volts per volt or ampere.
        gain: f64,
    },
}

impl Converter {
    /// Converts a value into counts of 24 bits.
    pub fn convert(&self, x: f64) -> i32 {
        let limit = f64::from(Sample::LIMIT);
        match *self {
            Self::Ideal { peak } => (x / peak * limit).round().clamp(-limit, limit) as i32,
            Self::Quantising { bits, vref, offset, gain } => {
                let top = f64::from((1u32 << bits) - 1);
                let code = ((offset + x * gain) * top / vref).round().clamp(0.0, top);
                (2 * code as i32 - ((1 << bits) - 1)) << (22 - bits)
            }
        }
    }

    /// Pico-units per count and counts per converter step.
    pub fn scale(&self) -> (u64, u32) {
        match *self {
            Self::Ideal { peak } => ((peak / f64::from(Sample::LIMIT) * 1e12).round().max(1.0) as u64, 1),
            Self::Quantising { bits, vref, gain, .. } => {
                let step = 1u32 << (23 - bits);
                let unit = vref / (f64::from((1u32 << bits) - 1) * gain) / f64::from(step);
                ((unit * 1e12).round() as u64, step)
            }
        }
    }
}

/// A generator of Gaussian noise: SplitMix64 and the polar form of Box and Muller.
#[derive(Clone, Debug)]
pub struct Noise {
    state: u64,
    spare: Option<f64>,
}

impl Noise {
    /// A generator for `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed, spare: None }
    }

    /// Uniform in 0 to 1.
    pub fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `low` to `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let angle = 2.0 * PI * self.uniform();
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }
}

/// A running channel: oscillators, noise and converter.
#[derive(Clone, Debug)]
pub struct Generator {
    dc: f64,
    lines: Vec<(f64, Oscillator)>,
    sigma: f64,
    noise: Noise,
    converter: Converter,
}

impl Generator {
    /// A generator of `wave` from time `start_s` at `fs` samples per second.
    pub fn new(wave: &Wave, fs: f64, start_s: f64, converter: Converter, seed: u64) -> Self {
        let oscillator = |l: &Line| {
            let turns = (l.hertz * start_s).rem_euclid(1.0);
            (l.rms * SQRT_2, Oscillator::new(l.hertz, fs, 2.0 * PI * turns + l.degrees.to_radians()))
        };
        Self {
            dc: wave.dc,
            lines: wave.lines.iter().map(oscillator).collect(),
            sigma: wave.noise,
            noise: Noise::new(seed),
            converter,
        }
    }

    /// The next sample in counts; the lines are multiplied by `level`.
    pub fn step(&mut self, level: f64) -> i32 {
        let mut x = 0.0;
        for (amplitude, oscillator) in &mut self.lines {
            x += *amplitude * oscillator.step();
        }
        x = x * level + self.dc;
        if self.sigma > 0.0 {
            x += self.sigma * self.noise.normal();
        }
        self.converter.convert(x)
    }
}

/// Configuration of a core for three converters on a network of `nominal` frequency.
pub fn config(fs: f64, nominal: Nominal, u_din_v: f64, converters: [Converter; 3]) -> Config {
    let [v, i, n] = converters.map(|c| c.scale());
    Config {
        sample_rate_mhz: (fs * 1000.0).round() as u32,
        nominal,
        u_din_mv: (u_din_v * 1000.0).round() as u32,
        front_end: FrontEnd {
            volt_pv_per_count: v.0,
            phase_pa_per_count: i.0,
            neutral_pa_per_count: n.0,
            current_delay_ns: 0,
            voltage_lead_udeg: 0,
            volt_noise_uv: 0,
            phase_noise_ua: 0,
            neutral_noise_ua: 0,
            counts_per_step: i.1.max(v.1),
        },
        start_current_ua: 20_000,
    }
}
