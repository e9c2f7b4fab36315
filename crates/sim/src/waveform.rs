//! Homes at sample level: mains and appliances as waveforms, an analogue-to-digital converter, and the real metrology engine.
//!
//! The physics of the neighbourhood says what a home draws in a minute; here that minute becomes samples (harmonics, dips,
//! swells, interruptions, flicker, noise, twelve bits), and what [`metrology`] measures in them is what the meter is fed with.
//! Every ten minutes the measured windows become one `quality` frame.
//!
//! Cost is bounded by sampling a share of every minute ([`WaveformPlan::ms_per_minute`]): one window of a fifth of a second by
//! default, and a quarter of a second before it until a window begins. Only at
//! a whole minute are the windows gapless; only then is there a flicker severity, which needs ten unbroken minutes. A disturbance
//! is always sampled from before its start to after its end. It is not a network model: all homes see the same disturbances.

mod spectra;

use metering::{
    Milliamps, Millihertz, Millivolts, Timestamp,
    frame::{Cycle, Dip, PowerQuality},
    unit::PerMille,
};
use metrology::{
    aggregate::{Accumulator, Interval},
    config::Nominal,
    dips::PqEvent,
    engine::Core,
    fft::Spectrum,
    host::{
        flicker::{Flickermeter, Lamp, pst},
        synthesis::{Converter, Generator, Line, Wave, config},
    },
    sums::Sample,
    window::WindowReport,
};

use crate::{
    error::SimError,
    network::NOMINAL_VOLTS,
    random::{Random, Stream, mix},
};
use spectra::{Disturbance, appliances, disturbance, mains};

/// Samples per second and channel.
const SAMPLE_RATE: f64 = 6_400.0;
/// Sample memory of the engine.
const RING: usize = 2_048;
/// Length of a `quality` interval, seconds.
const INTERVAL_SECONDS: i64 = 600;
/// Points of a cycle in a frame.
const CYCLE_POINTS: usize = 64;
/// A frame carries a cycle every so many intervals.
const CYCLE_EVERY: i64 = 3;
/// Harmonics in a frame go to this order.
const ORDERS: usize = 40;
/// The engine's windows are gapless only at this length.
const WHOLE_MINUTE_MS: u32 = 60_000;
/// Samples taken beside those asked for, so that windows begin within the minute.
const LEAD_S: f64 = 0.25;
/// Sound supply sampled before and after a disturbance, seconds: before it, one window begins and ends whatever the phase.
const MARGIN_S: f64 = 0.45;

/// Which homes are driven at sample level, and how much of every minute is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaveformPlan {
    /// The first homes of the neighbourhood.
    pub homes: u16,
    /// Milliseconds sampled in every minute, 200 to 60,000.
    pub ms_per_minute: u32,
    /// Sampled from here on; before, these homes are measured as all others, hundreds of times faster.
    pub from: Timestamp,
}

impl WaveformPlan {
    /// Checks that windows can close.
    pub fn check(&self) -> Result<(), SimError> {
        if (200..=WHOLE_MINUTE_MS).contains(&self.ms_per_minute) && self.homes > 0 {
            return Ok(());
        }
        Err(SimError::Config("waveforms need at least one home and 200 to 60000 ms of every minute".into()))
    }
}

/// What truly flows at a meter in a minute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Flow {
    /// Voltage at the meter, rms.
    pub volts: f64,
    /// Active power through the phase sensor, with the sensor's gain.
    pub watts: f64,
    /// Power factor of the fundamental.
    pub power_factor: f64,
    /// Neutral current over phase current.
    pub neutral_ratio: f64,
}

/// What the engine measured in a minute: means over its windows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub of: Flow,
    pub voltage: Millivolts,
    pub current: Milliamps,
    pub neutral: Milliamps,
    pub active_mw: i64,
    pub reactive_mvar: i64,
    pub power_factor: PerMille,
    pub frequency: Millihertz,
}

/// The measuring side of one home.
pub(crate) struct Bench {
    seed: u64,
    home: u64,
    plan: WaveformPlan,
    core: Box<Core<RING>>,
    spectrum: Box<Spectrum>,
    interval: Accumulator,
    dips: Vec<Dip>,
    cycle: Option<Cycle>,
    /// Where the cycle of the mains stands, in turns.
    turns: f64,
    samples_taken: u64,
    flicker: Option<(Flickermeter, Vec<f32>)>,
    measured: Option<Measured>,
}

/// Twelve bits over 3.3 V: 3.05 mV per volt, 44 mV per ampere; noise in volts and amperes. What the demonstration board has.
const VOLTAGE: Converter = Converter::Quantising { bits: 12, vref: 3.3, offset: 1.652, gain: 3.05e-3 };
const CURRENT: Converter = Converter::Quantising { bits: 12, vref: 3.3, offset: 1.647, gain: 44.0e-3 };
const NOISE_V: f64 = 0.25;
const NOISE_A: f64 = 0.02;

impl Bench {
    pub(crate) fn new(seed: u64, home: usize, plan: WaveformPlan) -> Result<Self, SimError> {
        let mut config = config(SAMPLE_RATE, Nominal::Hz50, NOMINAL_VOLTS, [VOLTAGE, CURRENT, CURRENT]);
        config.front_end.volt_noise_uv = (NOISE_V * 1e6) as u32;
        config.front_end.phase_noise_ua = (NOISE_A * 1e6) as u32;
        config.front_end.neutral_noise_ua = (NOISE_A * 1e6) as u32;
        let core = Core::new(config).map_err(|e| SimError::Config(format!("metrology: {e}")))?;
        let gapless = plan.ms_per_minute == WHOLE_MINUTE_MS;
        Ok(Self {
            seed,
            home: u64::try_from(home).unwrap_or(0),
            plan,
            core: Box::new(core),
            spectrum: Box::default(),
            interval: Accumulator::default(),
            dips: Vec::new(),
            cycle: None,
            turns: 0.0,
            samples_taken: 0,
            flicker: gapless.then(|| (Flickermeter::new(SAMPLE_RATE, Lamp::V230, Nominal::Hz50), Vec::new())),
            measured: None,
        })
    }

    /// What was measured in the last minute, if the flow was this one.
    pub(crate) fn measured(&self, flow: Flow) -> Option<Measured> {
        self.measured.filter(|m| m.of == flow)
    }

    /// Samples the minute that begins at `at`; gives the values of the ten minutes that end with it.
    pub(crate) fn minute(&mut self, at: Timestamp, flow: Flow) -> Option<PowerQuality> {
        if at < self.plan.from {
            return None;
        }
        let minute = at.0.div_euclid(60).unsigned_abs();
        let mut random = Random::of(self.seed, Stream::Waves, u64::MAX, minute);
        let hertz = 50.0 + (0.02 * random.normal()).clamp(-0.06, 0.06);
        let disturbance = disturbance(&mut random);
        let lines = self.lines(at, flow, hertz);
        let windows = self.sample(&lines, hertz, disturbance.as_ref(), at, minute);
        self.measured = mean(&windows, flow);
        let end = at.plus(60);
        if end.0.rem_euclid(INTERVAL_SECONDS) != 0 {
            return None;
        }
        let interval = self.interval.take(true)?;
        Some(self.quality(end, &interval))
    }

    /// The spectra of voltage, phase and neutral current in a minute.
    fn lines(&self, at: Timestamp, flow: Flow, hertz: f64) -> [Wave; 3] {
        let line = |&(order, rms, degrees): &(u32, f64, f64)| Line { hertz: f64::from(order) * hertz, rms, degrees };
        let hour = f64::from(u32::try_from(at.second_of_day()).unwrap_or(0)) / 3_600.0;
        let voltage: Vec<Line> = mains(flow.volts, hour).iter().map(line).collect();
        let current: Vec<Line> = appliances(flow).iter().map(line).collect();
        let neutral = current.iter().map(|l| Line { rms: l.rms * flow.neutral_ratio, ..*l }).collect();
        [
            Wave { dc: 0.0, lines: voltage, noise: NOISE_V },
            Wave { dc: 0.0, lines: current, noise: NOISE_A },
            Wave { dc: 0.0, lines: neutral, noise: NOISE_A },
        ]
    }

    /// Feeds the engine with this minute's samples and gathers the windows that close.
    fn sample(
        &mut self,
        waves: &[Wave; 3],
        hertz: f64,
        disturbance: Option<&Disturbance>,
        at: Timestamp,
        minute: u64,
    ) -> Vec<WindowReport> {
        let start_s = self.turns / hertz;
        let noise = mix(self.seed ^ self.home.rotate_left(32) ^ minute);
        let generator =
            |k: usize, converter| Generator::new(&waves[k], SAMPLE_RATE, start_s, converter, noise ^ k as u64);
        let (mut v, mut i, mut n) = (generator(0, VOLTAGE), generator(1, CURRENT), generator(2, CURRENT));
        let longest = disturbance.map_or(0.0, |d| d.seconds + 2.0 * MARGIN_S);
        // the window that is open belongs partly to the minute before: its samples are taken beside those asked for
        let gapless = self.plan.ms_per_minute == WHOLE_MINUTE_MS;
        let lead_s = if gapless { 0.0 } else { LEAD_S };
        let seconds = (f64::from(self.plan.ms_per_minute) / 1e3 + lead_s).max(longest);
        let count = (seconds * SAMPLE_RATE).round() as u32;
        let first_sample = self.samples_taken;
        let mut windows = Vec::new();
        let mut shape: Vec<Sample> = Vec::new();
        for k in 0..count {
            let t = f64::from(k) / SAMPLE_RATE;
            let level = disturbance.map_or(1.0, |d| d.level(t - MARGIN_S)) * spectra::flicker(minute, t);
            let sample = Sample { v: v.step(level), i: i.step(level), n: n.step(level) };
            if shape.len() < 2 * CYCLE_POINTS * 4 {
                shape.push(sample);
            }
            if let Some((flickermeter, values)) = &mut self.flicker {
                let value = flickermeter.push(f64::from(sample.v));
                if k % 8 == 0 {
                    values.push(value as f32);
                }
            }
            self.samples_taken += 1;
            let Some(half_cycle) = self.core.push(&[sample]).half_cycle else { continue };
            if let Some(event) = half_cycle.event {
                self.dips.push(dip(&event, first_sample, at));
            }
            if !half_cycle.window_ready {
                continue;
            }
            if let Some(window) = self.core.close_window(&mut self.spectrum) {
                let begun = window.end_sample.saturating_sub(window.length_q16.div_ceil(1 << 16) + 2);
                let whole = begun >= first_sample;
                if whole || gapless {
                    self.interval.add(&window);
                }
                if whole {
                    windows.push(window);
                }
            }
        }
        self.turns = (self.turns + f64::from(count) / SAMPLE_RATE * hertz).rem_euclid(1.0);
        if disturbance.is_none() {
            self.cycle = cycle(&shape, hertz).or(self.cycle.take());
        }
        windows
    }

    fn quality(&mut self, end: Timestamp, interval: &Interval) -> PowerQuality {
        let fundamental = f64::from(interval.voltage_uv[0]).max(1.0);
        let squares: f64 = interval.voltage_uv[1..ORDERS].iter().map(|&u| f64::from(u) * f64::from(u)).sum();
        let share = |&u: &u32| (f64::from(u) / fundamental * 10_000.0).round().min(65_535.0) as u16;
        let with_cycle = end.0.div_euclid(INTERVAL_SECONDS) % CYCLE_EVERY == 0;
        let severity = self.flicker.as_mut().and_then(|(_, values)| pst(&mut std::mem::take(values)));
        PowerQuality {
            end,
            voltage_mv: Millivolts(interval.vrms_uv / 1_000),
            frequency_mhz: interval.frequency_uhz.map(|f| Millihertz(f / 1_000)),
            thd: Some(PerMille((squares.sqrt() / fundamental * 1_000.0).round().min(32_767.0) as i16)),
            harmonics: interval.voltage_uv[1..ORDERS].iter().map(share).collect(),
            pst: severity.map(|p| PerMille((p * 1_000.0).round().min(32_767.0) as i16)),
            dips: std::mem::take(&mut self.dips),
            flagged: interval.flagged,
            current_harmonics_ma: interval.current_ua[..ORDERS].iter().map(|&i| Milliamps(i / 1_000)).collect(),
            cycle: with_cycle.then(|| self.cycle.take()).flatten(),
        }
    }
}

/// A disturbance in the frame's words. It is placed within its minute; the engine counts samples only.
fn dip(event: &PqEvent, first_sample: u64, at: Timestamp) -> Dip {
    let samples = event.start_sample.saturating_sub(first_sample);
    let seconds = samples as f64 / SAMPLE_RATE;
    Dip {
        at: at.plus(seconds as i64),
        duration_ms: u32::try_from(event.counted_us / 1_000).unwrap_or(u32::MAX),
        extreme: PerMille(i16::try_from(event.extreme_bp / 10).unwrap_or(i16::MAX)),
    }
}

/// Means over the windows without a disturbance; over all of them when there is no other.
fn mean(windows: &[WindowReport], of: Flow) -> Option<Measured> {
    let sound: Vec<&WindowReport> = windows.iter().filter(|w| !w.disturbed).collect();
    let used = if sound.is_empty() { windows.iter().collect() } else { sound };
    let count = u64::try_from(used.len()).ok().filter(|&n| n > 0)?;
    let mean = |value: fn(&WindowReport) -> u32| used.iter().map(|w| u64::from(value(w))).sum::<u64>() / count;
    let signed = |value: fn(&WindowReport) -> i64| used.iter().map(|w| value(w)).sum::<i64>() / count as i64;
    let (active, apparent) = (signed(|w| w.p_uw), signed(|w| w.s_uva));
    let factor = if apparent > 0 { (active as f64 / apparent as f64 * 1_000.0).round() } else { 1_000.0 };
    Some(Measured {
        of,
        voltage: Millivolts((mean(|w| w.vrms_uv) / 1_000) as u32),
        current: Milliamps((mean(|w| w.irms_ua) / 1_000) as u32),
        neutral: Milliamps((mean(|w| w.neutral_ua) / 1_000) as u32),
        active_mw: active / 1_000,
        reactive_mvar: signed(|w| w.q1_uvar) / 1_000,
        power_factor: PerMille(factor.clamp(-1_000.0, 1_000.0) as i16),
        frequency: Millihertz((mean(|w| w.frequency_uhz.unwrap_or(50_000_000)) / 1_000) as u32),
    })
}

/// One cycle from a rising zero crossing, interpolated between samples.
fn cycle(samples: &[Sample], hertz: f64) -> Option<Cycle> {
    let half = i64::try_from(samples.len()).ok()?.max(1);
    let mean = |value: fn(&Sample) -> i32| samples.iter().map(|s| i64::from(value(s))).sum::<i64>() / half;
    // the mean over a few cycles is the converter's zero, near enough for a picture
    let (zero_v, zero_i) = (mean(|s| s.v), mean(|s| s.i));
    let first = samples.windows(2).position(|w| i64::from(w[0].v) < zero_v && i64::from(w[1].v) >= zero_v)?;
    let (volt, ampere) = (VOLTAGE.scale().0 as f64 * 1e-12, CURRENT.scale().0 as f64 * 1e-12);
    let step = SAMPLE_RATE / hertz / CYCLE_POINTS as f64;
    let at = |position: f64, value: fn(&Sample) -> i32, zero: i64| -> Option<f64> {
        let whole = position as usize;
        let (a, b) = (f64::from(value(samples.get(whole)?)), f64::from(value(samples.get(whole + 1)?)));
        Some(a + (b - a) * (position - whole as f64) - zero as f64)
    };
    let mut out = Cycle::default();
    for k in 0..CYCLE_POINTS {
        let position = first as f64 + 1.0 + step * k as f64;
        out.voltage_dv.push((at(position, |s| s.v, zero_v)? * volt * 10.0).round() as i16);
        out.current_ca.push((at(position, |s| s.i, zero_i)? * ampere * 100.0).round() as i16);
    }
    Some(out)
}

#[cfg(test)]
mod tests;
