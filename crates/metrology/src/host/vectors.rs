//! Acceptance vectors: a described waveform goes through the real core, and the quantities come out by name.
//!
//! [`measure`] never looks at expectations; [`crate::host::check`] compares. The format is described in
//! `docs/metrology.md`. The bench: two seconds of the undisturbed signal to settle, registers cleared at a window
//! boundary, then `duration_s`, rounded up to whole windows; energies are scaled from the windows' exact length.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::balance::{Comparison, MismatchRule, larger_power_uw};
use crate::config::{Config, ConfigError, Nominal};
use crate::dips::{PqEvent, PqKind};
use crate::energy::Registers;
use crate::engine::Core;
use crate::fft::Spectrum;
use crate::host::synthesis::{self, Converter, Generator, Line, Wave};
use crate::sums::Sample;
use crate::window::{ORDERS, WindowReport};

/// Sample memory of the bench: enough for 16 kS/s.
pub const BENCH_RING: usize = 4096;
/// Seconds of undisturbed signal before the measurement.
const SETTLE_S: f64 = 2.0;

/// A file of vectors.
#[derive(Clone, Debug, Deserialize)]
pub struct VectorFile {
    /// Declared supply voltage, volts.
    #[serde(default = "default_udin")]
    pub udin_v: f64,
    /// The vectors.
    pub vectors: Vec<Vector>,
}

fn default_udin() -> f64 {
    230.0
}

/// Converter of a vector.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Adc {
    /// Resolution.
    pub bits: u32,
    /// Reference, volts.
    pub vref: f64,
    /// Volts at zero input.
    pub offset_v: f64,
    /// Volts per volt of the mains.
    pub v_per_volt: f64,
    /// Volts per ampere.
    pub v_per_amp: f64,
}

/// Noise of a vector.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct NoiseSpec {
    /// Volts rms.
    #[serde(default)]
    pub v_sigma: f64,
    /// Amperes rms.
    #[serde(default)]
    pub i_sigma: f64,
    /// Seed of the generator.
    #[serde(default)]
    pub seed: u64,
}

/// A stretch of other voltage.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Disturbance {
    /// Start, seconds.
    pub start_s: f64,
    /// Length, seconds.
    pub duration_s: f64,
    /// Voltage during the stretch, percent.
    pub level_pct: f64,
}

/// Known channel errors.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct ChannelError {
    /// Delay of the current channels, seconds.
    #[serde(default)]
    pub i_delay_s: f64,
    /// Advance of the voltage's fundamental, degrees.
    #[serde(default)]
    pub v_phase_lead_deg: f64,
}

/// Neutral current.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Neutral {
    /// Amperes rms.
    pub i_rms: f64,
    /// Degrees.
    #[serde(default)]
    pub deg: f64,
}

/// One vector: the signal, and apart from it what is expected.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Vector {
    /// Name.
    pub id: String,
    /// Fundamental, hertz.
    pub f_hz: f64,
    /// Samples per second.
    pub fs_hz: f64,
    /// Length, seconds.
    pub duration_s: f64,
    /// Voltage harmonics: order, rms volts, degrees.
    #[serde(default)]
    pub v_harm: Vec<(f64, f64, f64)>,
    /// Current harmonics: order, rms amperes, degrees.
    #[serde(default)]
    pub i_harm: Vec<(f64, f64, f64)>,
    /// Constant part of the voltage, volts.
    #[serde(default)]
    pub v_dc: f64,
    /// Constant part of the current, amperes.
    #[serde(default)]
    pub i_dc: f64,
    /// Voltage lines off the harmonics: hertz, rms volts, degrees.
    #[serde(default)]
    pub v_inter: Vec<(f64, f64, f64)>,
    /// Current lines off the harmonics: hertz, rms amperes, degrees.
    #[serde(default)]
    pub i_inter: Vec<(f64, f64, f64)>,
    /// Converter; ideal if absent.
    #[serde(default)]
    pub adc: Option<Adc>,
    /// Added white noise.
    #[serde(default)]
    pub noise: Option<NoiseSpec>,
    /// Disturbances of the voltage.
    #[serde(default)]
    pub events: Vec<Disturbance>,
    /// Known channel errors.
    #[serde(default)]
    pub channel: Option<ChannelError>,
    /// Neutral current; equal to the phase current if absent.
    #[serde(default)]
    pub neutral: Option<Neutral>,
    /// Expected quantities by name; used by the check alone.
    #[serde(default)]
    pub expected: Map<String, Value>,
    /// Tolerances by name; used by the check alone.
    #[serde(default)]
    pub tol: Map<String, Value>,
}

/// Why a vector cannot be run.
#[derive(Debug)]
pub enum VectorError {
    /// The signal's parameters are out of range.
    Signal(String, &'static str),
    /// The core refuses the configuration.
    Config(String, ConfigError),
}

impl core::fmt::Display for VectorError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Signal(id, what) => write!(f, "vector {id}: {what}"),
            Self::Config(id, error) => write!(f, "vector {id}: {error}"),
        }
    }
}

impl std::error::Error for VectorError {}

impl Vector {
    fn check_signal(&self) -> Result<(), VectorError> {
        let refuse = |what| Err(VectorError::Signal(self.id.clone(), what));
        if !(40.0..=70.0).contains(&self.f_hz) {
            return refuse("f_hz must lie between 40 and 70");
        }
        if !(3000.0..=16_000.0).contains(&self.fs_hz) {
            return refuse("fs_hz must lie between 3,000 and 16,000");
        }
        if !(0.5..=3600.0).contains(&self.duration_s) {
            return refuse("duration_s must lie between 0.5 and 3,600");
        }
        if self.adc.is_some_and(|a| !(4..=22).contains(&a.bits)) {
            return refuse("adc.bits must lie between 4 and 22");
        }
        Ok(())
    }

    /// Nominal frequency of the network the vector belongs to.
    pub fn nominal(&self) -> Nominal {
        if self.f_hz > 57.5 { Nominal::Hz60 } else { Nominal::Hz50 }
    }

    /// The three channels as the front end sees them, channel errors included.
    fn waves(&self) -> [Wave; 3] {
        let error = self.channel.unwrap_or(ChannelError { i_delay_s: 0.0, v_phase_lead_deg: 0.0 });
        let noise = self.noise.unwrap_or(NoiseSpec { v_sigma: 0.0, i_sigma: 0.0, seed: 0 });
        let lines = |harmonics: &[(f64, f64, f64)], inter: &[(f64, f64, f64)]| -> Vec<Line> {
            let harmonic = harmonics.iter().map(|h| Line { hertz: h.0 * self.f_hz, rms: h.1, degrees: h.2 });
            harmonic.chain(inter.iter().map(|h| Line { hertz: h.0, rms: h.1, degrees: h.2 })).collect()
        };
        let late = |mut lines: Vec<Line>| {
            for line in &mut lines {
                line.degrees -= 360.0 * line.hertz * error.i_delay_s;
            }
            lines
        };
        let mut v = lines(&self.v_harm, &self.v_inter);
        for (line, _) in v.iter_mut().zip(&self.v_harm).filter(|(_, h)| h.0 == 1.0) {
            line.degrees += error.v_phase_lead_deg;
        }
        let i = late(lines(&self.i_harm, &self.i_inter));
        let n = match self.neutral {
            Some(n) => late(vec![Line { hertz: self.f_hz, rms: n.i_rms, degrees: n.deg }]),
            None => i.clone(),
        };
        [
            Wave { dc: self.v_dc, lines: v, noise: noise.v_sigma },
            Wave { dc: self.i_dc, lines: i, noise: noise.i_sigma },
            Wave { dc: 0.0, lines: n, noise: noise.i_sigma },
        ]
    }

    fn converters(&self, waves: &[Wave; 3]) -> [Converter; 3] {
        if let Some(a) = self.adc {
            let quantising = |gain| Converter::Quantising { bits: a.bits, vref: a.vref, offset: a.offset_v, gain };
            return [quantising(a.v_per_volt), quantising(a.v_per_amp), quantising(a.v_per_amp)];
        }
        let highest = self.events.iter().map(|e| e.level_pct / 100.0).fold(1.0, f64::max);
        let range = |peak: f64| Converter::Ideal { peak: if peak > 0.0 { peak * 1.05 } else { 1.0 } };
        [range(waves[0].peak() * highest), range(waves[1].peak()), range(waves[2].peak())]
    }

    fn level(&self, t: f64) -> f64 {
        let inside = |e: &&Disturbance| t >= e.start_s - 1e-9 && t < e.start_s + e.duration_s - 1e-9;
        self.events.iter().find(inside).map_or(1.0, |e| e.level_pct / 100.0)
    }

    /// Configuration for this vector: scales and known channel errors, as a calibration would give them.
    fn config(&self, udin_v: f64, waves: &[Wave; 3], converters: [Converter; 3]) -> Config {
        let mut config = synthesis::config(self.fs_hz, self.nominal(), udin_v, converters);
        if let Some(error) = self.channel {
            config.front_end.current_delay_ns = (error.i_delay_s * 1e9).round() as i32;
            config.front_end.voltage_lead_udeg = (error.v_phase_lead_deg * 1e6).round() as i32;
        }
        config.front_end.volt_noise_uv = (waves[0].noise * 1e6).round() as u32;
        config.front_end.phase_noise_ua = (waves[1].noise * 1e6).round() as u32;
        config.front_end.neutral_noise_ua = (waves[2].noise * 1e6).round() as u32;
        config
    }
}

/// Everything the bench collected about one vector.
pub struct Measurement {
    /// Configuration used.
    pub config: Config,
    /// Windows after settling.
    pub windows: Vec<WindowReport>,
    /// Energy registers over those windows.
    pub registers: Registers,
    /// Disturbances after settling.
    pub events: Vec<PqEvent>,
    /// Whether phase and neutral differed long enough.
    pub mismatch: bool,
}

/// Runs the vector's signal through the core.
pub fn run(vector: &Vector, udin_v: f64) -> Result<Measurement, VectorError> {
    run_recording(vector, udin_v, |_| {})
}

/// As [`run`]; `record` is given every sample that the core takes.
pub fn run_recording(
    vector: &Vector,
    udin_v: f64,
    mut record: impl FnMut(&Sample),
) -> Result<Measurement, VectorError> {
    vector.check_signal()?;
    let waves = vector.waves();
    let converters = vector.converters(&waves);
    let config = vector.config(udin_v, &waves, converters);
    let mut core = Core::<BENCH_RING>::new(config).map_err(|e| VectorError::Config(vector.id.clone(), e))?;
    let seed = vector.noise.map_or(1, |n| n.seed);
    let channel =
        |k: usize| Generator::new(&waves[k], vector.fs_hz, -SETTLE_S, converters[k], seed.wrapping_mul(3) + k as u64);
    let (mut v, mut i, mut n) = (channel(0), channel(1), channel(2));
    let settle = (SETTLE_S * vector.fs_hz).round() as u64;
    let wanted_q16 = (vector.duration_s * vector.fs_hz * 65_536.0) as u64;
    let mut result = Measurement {
        config,
        windows: Vec::new(),
        registers: Registers::default(),
        events: Vec::new(),
        mismatch: false,
    };
    let mut comparison = Comparison::new(MismatchRule {
        smallest_ua: 500_000,
        percent: 6,
        persistence_samples: (2.0 * vector.fs_hz) as u64,
    });
    let mut spectrum = Box::new(Spectrum::default());
    let mut length_q16 = 0;
    let mut settled = false;
    // A window must close within a second even when the core free-runs.
    let limit = settle + ((vector.duration_s + 2.0) * vector.fs_hz) as u64;
    for k in 0..limit {
        let t = k as f64 / vector.fs_hz - SETTLE_S;
        let sample = Sample { v: v.step(vector.level(t)), i: i.step(1.0), n: n.step(1.0) };
        record(&sample);
        let Some(half_cycle) = core.push(&[sample]).half_cycle else { continue };
        if k >= settle {
            result.events.extend(half_cycle.event);
        }
        if !half_cycle.window_ready {
            continue;
        }
        let Some(window) = core.close_window(&mut spectrum) else { continue };
        if !settled {
            settled = k >= settle;
            continue;
        }
        result.registers.add(&window.energy, &config);
        result.mismatch |= comparison.update(&window);
        length_q16 += window.length_q16;
        result.windows.push(window);
        // Half a sample of slack: exact multiples of the window must not need one more.
        if length_q16 + (1 << 15) >= wanted_q16 {
            break;
        }
    }
    Ok(result)
}

struct Averages<'a> {
    windows: &'a [WindowReport],
    total: f64,
}

impl Averages<'_> {
    fn mean(&self, value: impl Fn(&WindowReport) -> f64) -> f64 {
        self.windows.iter().map(|w| value(w) * w.length_q16 as f64).sum::<f64>() / self.total * 1e-6
    }

    fn rms(&self, value: impl Fn(&WindowReport) -> u32) -> f64 {
        let square = |w: &WindowReport| f64::from(value(w)).powi(2) * w.length_q16 as f64;
        (self.windows.iter().map(square).sum::<f64>() / self.total).sqrt() * 1e-6
    }
}

fn thd_pct(groups: &[f64], order: usize) -> Value {
    if groups[0] <= 0.0 {
        return Value::Null;
    }
    json!(groups[1..order].iter().map(|g| g * g).sum::<f64>().sqrt() / groups[0] * 100.0)
}

fn by_order(groups: &[f64]) -> Value {
    Value::Object(groups.iter().enumerate().map(|(k, &g)| ((k + 1).to_string(), json!(g))).collect())
}

fn event_json(event: &PqEvent, rate: f64, settle: f64) -> Value {
    let pct = f64::from(event.extreme_bp) / 100.0;
    let (kind, level) = match event.kind {
        PqKind::Dip => ("dip", "residual_pct"),
        PqKind::Swell => ("swell", "max_pct"),
        PqKind::Interruption => ("interruption", "residual_pct"),
    };
    json!({
        "kind": kind, level: pct,
        "duration_s": event.duration_us as f64 * 1e-6,
        "counted_duration_s": event.counted_us as f64 * 1e-6,
        "start_s": event.start_sample as f64 / rate - settle,
    })
}

/// Measures a vector: quantities by the names that expectations use.
pub fn measure(vector: &Vector, udin_v: f64) -> Result<Map<String, Value>, VectorError> {
    let run = run(vector, udin_v)?;
    Ok(quantities(vector, &run))
}

fn quantities(vector: &Vector, run: &Measurement) -> Map<String, Value> {
    let mut q = Map::new();
    let mut put = |name: &str, value: Value| q.insert(name.to_owned(), value);
    let total: f64 = run.windows.iter().map(|w| w.length_q16 as f64).sum();
    if run.windows.is_empty() {
        return q;
    }
    let a = Averages { windows: &run.windows, total };
    let (vrms, irms) = (a.rms(|w| w.vrms_uv), a.rms(|w| w.irms_ua));
    let (p, p1) = (a.mean(|w| w.p_uw as f64), a.mean(|w| w.p1_uw as f64));
    let (v_dc, i_dc) = (a.mean(|w| f64::from(w.v_dc_uv)), a.mean(|w| f64::from(w.i_dc_ua)));
    let (s, s1) = (a.mean(|w| w.s_uva as f64), a.mean(|w| w.s1_uva() as f64));
    let loaded = run.windows.iter().any(|w| !w.no_load);
    let ratio = |part: f64, whole: f64| if loaded && whole > 0.0 { json!(part / whole) } else { Value::Null };
    put("vrms", json!(vrms));
    put("irms", json!(if loaded { irms } else { 0.0 }));
    put("vrms_incl_dc", json!(vrms.hypot(v_dc)));
    put("irms_incl_dc", json!(irms.hypot(i_dc)));
    put("p_w", json!(p));
    put("p1_w", json!(p1));
    put("q1_var", json!(a.mean(|w| w.q1_uvar as f64)));
    put("q_budeanu_var", json!(a.mean(|w| w.q_budeanu_uvar as f64)));
    put("s_va", json!(s));
    put("s1_va", json!(if loaded { s1 } else { 0.0 }));
    put("n_nonactive_va", json!(a.mean(|w| w.n_uva as f64)));
    put("pf", ratio(p, s));
    put("dpf", ratio(p1, s1));
    put("p_dc_w", json!(v_dc * i_dc));
    let timed: Vec<_> = run.windows.iter().filter(|w| w.frequency_uhz.is_some()).collect();
    let timed_length: f64 = timed.iter().map(|w| w.length_q16 as f64).sum();
    let cycles = f64::from(run.config.nominal.cycles()) * timed.len() as f64;
    let rate = f64::from(run.config.sample_rate_mhz) / 1000.0;
    let frequency = if timed.is_empty() { Value::Null } else { json!(cycles * rate * 65_536.0 / timed_length) };
    put("freq_hz", frequency);
    let v: Vec<f64> = (0..ORDERS).map(|k| a.rms(|w| w.voltage.subgroup[k])).collect();
    let i: Vec<f64> = (0..ORDERS).map(|k| if loaded { a.rms(|w| w.current.subgroup[k]) } else { 0.0 }).collect();
    for order in [40, 50] {
        put(&format!("thd_v_f_{order}_pct"), thd_pct(&v, order));
        put(&format!("thd_i_f_{order}_pct"), thd_pct(&i, order));
    }
    let scale = vector.duration_s * rate * 65_536.0 / total * 1e-6;
    put("energy_wh_import", json!(run.registers.import.micro as f64 * scale));
    put("energy_wh_export", json!(run.registers.export.micro as f64 * scale));
    put("harm_v_rms", by_order(&v));
    put("harm_i_rms", by_order(&i));
    put("interharm_v_rms", by_order(&(0..ORDERS).map(|k| a.rms(|w| w.voltage.inter[k])).collect::<Vec<_>>()));
    put("interharm_i_rms", by_order(&(0..ORDERS).map(|k| a.rms(|w| w.current.inter[k])).collect::<Vec<_>>()));
    put("neutral_irms", json!(a.rms(|w| w.neutral_ua)));
    let events = run.events.iter().map(|e| event_json(e, rate, SETTLE_S)).collect();
    put("pq_events", Value::Array(events));
    put("tamper", if run.mismatch { json!(["current_mismatch"]) } else { json!([]) });
    put("billed_p_w", json!(if run.mismatch { a.mean(|w| larger_power_uw(w) as f64) } else { p }));
    q
}
