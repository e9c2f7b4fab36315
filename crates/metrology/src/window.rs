//! Closing a window: sums and spectrum become quantities, once per 10 or 12 cycles.
//!
//! Power comes from the time sums over whole cycles; the spectrum adds the fundamental, the harmonics and the phase
//! compensation, which rotates each harmonic exactly instead of delaying samples. Here is the one step in floating
//! point, by `libm`, so that every target computes the same bits. Results are integers in micro-units.
//!
//! Signs: import is positive active power, an inductive load has positive reactive power (IEEE 1459, sine reference).

use crate::config::Config;
use crate::fft::{Complex, Spectrum};
use crate::ring::{Channel, Ring};
use crate::sums::Sums;
use crate::tables::{COEFFICIENT_BITS, FFT_LEN, PHASES, POLYPHASE, TAPS};

/// Highest harmonic order.
pub const ORDERS: usize = 50;
/// Harmonics above this share of the sample rate (percent) are not reported: the filter no longer passes them.
const PASS_BAND_PERCENT: u64 = 42;

/// A window whose cycles have ended, waiting to be closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClosedWindow {
    pub sums: Sums,
    pub start: (u32, u32),
    pub length_q16: u64,
    pub sequence: u32,
    pub end_sample: u64,
    pub free_run: bool,
    pub disturbed: bool,
    pub lost: u32,
}

/// Spectrum of one channel; index 0 is the fundamental. Unit: micro-units of the channel, rms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Harmonics {
    /// Harmonic subgroups (IEC 61000-4-7): bins `N·h − 1` to `N·h + 1`.
    pub subgroup: [u32; ORDERS],
    /// Centred interharmonic subgroups: bins `N·h + 2` to `N·(h + 1) − 2`.
    pub inter: [u32; ORDERS],
}

impl Harmonics {
    const NONE: Self = Self { subgroup: [0; ORDERS], inter: [0; ORDERS] };

    /// Total harmonic distortion of the subgroups up to `order`, parts per million of the fundamental; nothing
    /// without a fundamental.
    pub fn thd_ppm(&self, order: usize) -> Option<u32> {
        let fundamental = self.subgroup[0];
        if fundamental == 0 {
            return None;
        }
        let squares: u128 = self.subgroup[1..order.min(ORDERS)].iter().map(|&x| u128::from(x) * u128::from(x)).sum();
        Some(to_u32(libm::sqrt(squares as f64) / f64::from(fundamental) * 1e6))
    }
}

/// Energy of one window in raw units (squared counts times samples); [`crate::energy::Registers`] carries the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawEnergy {
    /// Active, phase current; import positive.
    pub active: i64,
    /// Reactive of the fundamental; inductive positive.
    pub reactive: i64,
    /// Apparent.
    pub apparent: i64,
    /// Active computed with the neutral current, in neutral counts.
    pub active_neutral: i64,
}

/// The quantities of one 10/12-cycle window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowReport {
    /// Number of the window since the start.
    pub sequence: u32,
    /// Samples taken when the window ended.
    pub end_sample: u64,
    /// Length in samples, Q16.
    pub length_q16: u64,
    /// Some boundary was not a crossing of the voltage: the frequency is not valid.
    pub free_run: bool,
    /// A dip, swell or interruption touches the window (IEC 61000-4-30 flag).
    pub disturbed: bool,
    /// Time inside the window that no sample covers, microseconds: the quantities rest on the samples there are.
    pub lost_us: u32,
    /// Frequency, microhertz; nothing when free-running.
    pub frequency_uhz: Option<u32>,
    /// Voltage without direct current, microvolts rms.
    pub vrms_uv: u32,
    /// Phase current without direct current, noise taken out, microamperes rms.
    pub irms_ua: u32,
    /// Neutral current, microamperes rms.
    pub neutral_ua: u32,
    /// Mean of the voltage, microvolts.
    pub v_dc_uv: i32,
    /// Mean of the phase current, microamperes.
    pub i_dc_ua: i32,
    /// Active power, microwatts.
    pub p_uw: i64,
    /// Active power with the neutral current in place of the phase current, microwatts.
    pub p_neutral_uw: i64,
    /// Active power of the fundamental, microwatts.
    pub p1_uw: i64,
    /// Reactive power of the fundamental, microvar.
    pub q1_uvar: i64,
    /// Sum of the reactive powers of all harmonics (Budeanu), microvar; informative.
    pub q_budeanu_uvar: i64,
    /// Apparent power, microvolt-amperes.
    pub s_uva: i64,
    /// Non-active power `sqrt(S² − P²)`, microvolt-amperes. It is not the reactive power.
    pub n_uva: i64,
    /// Fundamental voltage, microvolts rms.
    pub v1_uv: u32,
    /// Fundamental current, microamperes rms.
    pub i1_ua: u32,
    /// Below the start current: power reads zero and no energy registers.
    pub no_load: bool,
    /// Highest order that this sample rate allows; higher ones read zero.
    pub highest_order: u8,
    /// Spectrum of the voltage, microvolts.
    pub voltage: Harmonics,
    /// Spectrum of the phase current, microamperes.
    pub current: Harmonics,
    /// Energy of the window.
    pub energy: RawEnergy,
}

fn ratio_ppm(part: i64, whole: i64) -> Option<i32> {
    (whole > 0).then(|| ((i128::from(part) * 1_000_000) / i128::from(whole)).clamp(-1_000_000, 1_000_000) as i32)
}

fn power_uva(volt_uv: u32, current_ua: u32) -> i64 {
    ((u64::from(volt_uv) * u64::from(current_ua)) / 1_000_000) as i64
}

impl WindowReport {
    /// Power factor P/S, parts per million; nothing without load.
    pub fn pf_ppm(&self) -> Option<i32> {
        if self.no_load { None } else { ratio_ppm(self.p_uw, self.s_uva) }
    }

    /// Displacement factor cos φ1, parts per million; nothing without load.
    pub fn dpf_ppm(&self) -> Option<i32> {
        if self.no_load { None } else { ratio_ppm(self.p1_uw, self.s1_uva()) }
    }

    /// Fundamental apparent power, microvolt-amperes.
    pub fn s1_uva(&self) -> i64 {
        power_uva(self.v1_uv, self.i1_ua)
    }

    /// Current distortion power `V1·I_H` (IEEE 1459), microvolt-amperes.
    pub fn current_distortion_uva(&self) -> i64 {
        power_uva(self.v1_uv, rest(self.irms_ua, self.i1_ua))
    }

    /// Voltage distortion power `V_H·I1` (IEEE 1459), microvolt-amperes.
    pub fn voltage_distortion_uva(&self) -> i64 {
        power_uva(rest(self.vrms_uv, self.v1_uv), self.i1_ua)
    }

    /// Harmonic apparent power `V_H·I_H` (IEEE 1459), microvolt-amperes.
    pub fn harmonic_apparent_uva(&self) -> i64 {
        power_uva(rest(self.vrms_uv, self.v1_uv), rest(self.irms_ua, self.i1_ua))
    }
}

/// `sqrt(total² − part²)`, zero when the part is larger.
fn rest(total: u32, part: u32) -> u32 {
    let square = (u64::from(total) * u64::from(total)).saturating_sub(u64::from(part) * u64::from(part));
    to_u32(libm::sqrt(square as f64))
}

fn lost_us(samples: u32, sample_rate_mhz: u32) -> u32 {
    let us = u64::from(samples) * 1_000_000_000 / u64::from(sample_rate_mhz.max(1));
    u32::try_from(us).unwrap_or(u32::MAX)
}

fn to_u32(x: f64) -> u32 {
    libm::round(x) as u32
}

fn to_i64(x: f64) -> i64 {
    libm::round(x) as i64
}

/// Fundamental and harmonic phasors of a channel, scaled up by `2^shift` counts.
struct Phasors {
    bins: [Complex; ORDERS],
    shift: u32,
}

/// Sets how the spectrum of one channel is read.
struct Reading {
    cycles: usize,
    highest: usize,
    /// Micro-units per count.
    unit: f64,
    /// White noise of the channel, squared counts.
    noise_sq: f64,
    /// Length of the window, samples.
    samples: f64,
    /// Converter step, counts.
    step: f64,
}

// Not inlined: twice this code would not fit a small flash.
/// Interpolates the window to 2,048 points and transforms it; returns the shift that scales the counts up.
#[inline(never)]
fn transform<const N: usize>(
    ring: &Ring<N>,
    channel: Channel,
    window: &ClosedWindow,
    mean: i32,
    spectrum: &mut Spectrum,
) -> u32 {
    let (first, fraction_q16) = window.start;
    let samples = (window.length_q16 >> 16) as u32 + 2;
    let mut peak = 1u32;
    for k in 0..samples {
        peak |= (ring.read(channel, first.wrapping_add(k)) - mean).unsigned_abs();
    }
    // 2^27 leaves room for what band-limited interpolation adds between samples.
    let shift = (peak.leading_zeros()).saturating_sub(5);
    let at = |m: u32| {
        let position_q32 = (u64::from(fraction_q16) << 16) + u64::from(m) * (window.length_q16 << 5);
        interpolate(ring, channel, first, position_q32, mean, shift)
    };
    for m in 0..FFT_LEN as u32 {
        spectrum.put(m as usize, at(m));
    }
    spectrum.transform();
    shift
}

/// The channel's value at `first + position`, less `mean`, times `2^shift`.
#[inline(always)]
fn interpolate<const N: usize>(
    ring: &Ring<N>,
    channel: Channel,
    first: u32,
    position_q32: u64,
    mean: i32,
    shift: u32,
) -> i32 {
    let fraction = position_q32 as u32;
    let phase = (fraction >> 26) as usize & (PHASES - 1);
    let between = (fraction >> 12) as i32 & 0x3fff;
    let base = first.wrapping_add((position_q32 >> 32) as u32).wrapping_sub(TAPS as u32 / 2 - 1);
    let (low, high) = (&POLYPHASE[phase], &POLYPHASE[phase + 1]);
    let mut sum = 0i64;
    for tap in 0..TAPS {
        let coefficient = low[tap] + ((((high[tap] - low[tap]) >> 8) * between) >> 6);
        sum += i64::from(coefficient) * i64::from(ring.read(channel, base.wrapping_add(tap as u32)) - mean);
    }
    (sum >> (COEFFICIENT_BITS - shift.min(COEFFICIENT_BITS))) as i32
}

#[inline(never)]
/// Reads subgroups and phasors out of a transformed spectrum.
fn read_spectrum(spectrum: &Spectrum, reading: &Reading, shift: u32) -> (Harmonics, Phasors) {
    let mut harmonics = Harmonics::NONE;
    let mut bins = [Complex::default(); ORDERS];
    let scale = f64::from(1u32 << shift.min(31));
    // rms² in squared counts of one bin is twice its squared magnitude.
    let square = |norm: u64| 2.0 * norm as f64 / (scale * scale);
    let noise_bin = 2.0 * reading.noise_sq / reading.samples;
    let per_cycle = reading.samples / reading.cycles as f64;
    let limit = 3.0 * reading.step * reading.step / per_cycle;
    let value = |norm: u64, bins: f64| {
        let clean = square(norm) - bins * noise_bin;
        if clean <= limit { 0 } else { to_u32(libm::sqrt(clean) * reading.unit) }
    };
    for order in 1..=reading.highest {
        let centre = reading.cycles * order;
        bins[order - 1] = spectrum.bin(centre);
        let group =
            bins[order - 1].norm().saturating_add(spectrum.bin(centre - 1).norm() + spectrum.bin(centre + 1).norm());
        harmonics.subgroup[order - 1] = value(group, 3.0);
        let between = (centre + 2..centre + reading.cycles - 1).map(|k| spectrum.bin(k).norm());
        let (mut total, mut count) = (0u64, 0.0);
        for norm in between {
            total = total.saturating_add(norm);
            count += 1.0;
        }
        harmonics.inter[order - 1] = value(total, count);
    }
    (harmonics, Phasors { bins, shift })
}

/// Powers of the harmonics in squared counts, mean per sample.
struct HarmonicPowers {
    p1: f64,
    q1: f64,
    q_all: f64,
    /// What compensation adds to the measured active power.
    active_correction: f64,
}

fn harmonic_powers(config: &Config, v: &Phasors, i: &Phasors, highest: usize, period_s: f64) -> HarmonicPowers {
    let scale = f64::from(1u32 << v.shift.min(31)) * f64::from(1u32 << i.shift.min(31));
    let lead = f64::from(config.front_end.voltage_lead_udeg) * 1e-6 * core::f64::consts::PI / 180.0;
    let delay = f64::from(config.front_end.current_delay_ns) * 1e-9 * 2.0 * core::f64::consts::PI / period_s;
    let mut powers = HarmonicPowers { p1: 0.0, q1: 0.0, q_all: 0.0, active_correction: 0.0 };
    for order in 1..=highest {
        let (a, b) = (v.bins[order - 1], i.bins[order - 1]);
        let dot = i64::from(a.re) * i64::from(b.re) + i64::from(a.im) * i64::from(b.im);
        let cross = i64::from(a.im) * i64::from(b.re) - i64::from(a.re) * i64::from(b.im);
        let (p, q) = (2.0 * dot as f64 / scale, 2.0 * cross as f64 / scale);
        // The measured angle φv − φi is too large by the lead and by the delay.
        let excess = delay * order as f64 + if order == 1 { lead } else { 0.0 };
        let (sin, cos) = if excess == 0.0 { (0.0, 1.0) } else { (libm::sin(excess), libm::cos(excess)) };
        let (true_p, true_q) = (p * cos + q * sin, q * cos - p * sin);
        if order == 1 {
            (powers.p1, powers.q1) = (true_p, true_q);
        }
        powers.q_all += true_q;
        powers.active_correction += true_p - p;
    }
    powers
}

/// Mean of `sum` over the window, rounded toward zero; zero for an empty window.
fn mean(sum: i64, length_q16: u64) -> i32 {
    (((i128::from(sum)) << 16) / i128::from(length_q16.max(1))) as i32
}

/// Noise of a channel in squared counts.
fn noise_sq(noise_micro: u32, unit_pico: u64) -> f64 {
    let counts = f64::from(noise_micro) * 1e6 / unit_pico as f64;
    counts * counts
}

/// Closes a window. See the module's head.
pub(crate) fn close<const N: usize>(
    config: &Config,
    ring: &Ring<N>,
    window: &ClosedWindow,
    spectrum: &mut Spectrum,
) -> WindowReport {
    let front = &config.front_end;
    let sums = &window.sums;
    let cycles = config.nominal.cycles();
    let samples = window.length_q16 as f64 / 65_536.0;
    let sample_rate = f64::from(config.sample_rate_mhz) / 1000.0;
    let highest = highest_order(window.length_q16, cycles);
    let (uv, ua, na) = (
        front.volt_pv_per_count as f64 * 1e-6,
        front.phase_pa_per_count as f64 * 1e-6,
        front.neutral_pa_per_count as f64 * 1e-6,
    );
    let (v_mean, i_mean) = (mean(sums.v, window.length_q16), mean(sums.i, window.length_q16));
    let (v_noise, i_noise) = (
        noise_sq(front.volt_noise_uv, front.volt_pv_per_count),
        noise_sq(front.phase_noise_ua, front.phase_pa_per_count),
    );
    let reading = |unit, noise_sq| Reading {
        cycles: cycles as usize,
        highest,
        unit,
        noise_sq,
        samples,
        step: f64::from(front.counts_per_step),
    };
    let shift = transform(ring, Channel::Voltage, window, v_mean, spectrum);
    let (voltage, v_phasors) = read_spectrum(spectrum, &reading(uv, v_noise), shift);
    let shift = transform(ring, Channel::Current, window, i_mean, spectrum);
    let (current, i_phasors) = read_spectrum(spectrum, &reading(ua, i_noise), shift);

    let rms = |sum: i64, noise: f64| libm::sqrt((sum as f64 / samples - noise).max(0.0));
    let vrms = rms(sums.vv_ac(), v_noise);
    let irms = rms(sums.ii_ac(), i_noise);
    let n_noise = noise_sq(front.neutral_noise_ua, front.neutral_pa_per_count);
    let neutral = rms(sums.nn_ac(), n_noise);
    let no_load = irms * ua < f64::from(config.start_current_ua);
    let period_s = samples / sample_rate / f64::from(cycles);
    let powers = harmonic_powers(config, &v_phasors, &i_phasors, highest, period_s);
    let gate = |x: f64| if no_load { 0.0 } else { x };
    let active = gate(sums.vi_ac() as f64 / samples + powers.active_correction);
    let apparent = gate(vrms * irms);
    let watt = uv * ua * 1e-6;
    let fundamental = |p: &Phasors, unit: f64| {
        to_u32(libm::sqrt(2.0 * p.bins[0].norm() as f64) / f64::from(1u32 << p.shift.min(31)) * unit)
    };
    let frequency = (u64::from(cycles) * u64::from(config.sample_rate_mhz) * 1000) << 16;
    WindowReport {
        sequence: window.sequence,
        end_sample: window.end_sample,
        length_q16: window.length_q16,
        free_run: window.free_run,
        disturbed: window.disturbed,
        lost_us: lost_us(window.lost, config.sample_rate_mhz),
        frequency_uhz: (!window.free_run).then(|| (frequency / window.length_q16.max(1)) as u32),
        vrms_uv: to_u32(vrms * uv),
        irms_ua: to_u32(irms * ua),
        neutral_ua: to_u32(neutral * na),
        v_dc_uv: libm::round(sums.v as f64 / samples * uv) as i32,
        i_dc_ua: libm::round(sums.i as f64 / samples * ua) as i32,
        p_uw: to_i64(active * watt),
        p_neutral_uw: to_i64(sums.vn_ac() as f64 / samples * uv * na * 1e-6),
        p1_uw: to_i64(gate(powers.p1) * watt),
        q1_uvar: to_i64(gate(powers.q1) * watt),
        q_budeanu_uvar: to_i64(gate(powers.q_all) * watt),
        s_uva: to_i64(apparent * watt),
        n_uva: to_i64(libm::sqrt((apparent * apparent - active * active).max(0.0)) * watt),
        v1_uv: fundamental(&v_phasors, uv),
        i1_ua: fundamental(&i_phasors, ua),
        no_load,
        highest_order: highest as u8,
        voltage,
        current,
        energy: RawEnergy {
            active: if no_load { 0 } else { sums.vi_ac() + to_i64(powers.active_correction * samples) },
            reactive: to_i64(gate(powers.q1) * samples),
            apparent: to_i64(apparent * samples),
            active_neutral: if neutral * na < f64::from(config.start_current_ua) { 0 } else { sums.vn_ac() },
        },
    }
}

/// Highest order whose frequency the interpolation filter still passes.
fn highest_order(length_q16: u64, cycles: u32) -> usize {
    let per_cycle_percent = (length_q16 * PASS_BAND_PERCENT) / u64::from(cycles);
    ((per_cycle_percent / 100) >> 16).clamp(1, ORDERS as u64) as usize
}
