//! Analysis of recorded waveforms on the server: the core's window, in single precision and with a library transform.
//!
//! For raw waveforms of many meters, where speed counts and bit equality with the meter does not. The meter's own
//! quantities come from [`crate::window`].

use pulp::{Simd, WithSimd};
use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

use crate::tables::{COEFFICIENT_BITS, PHASES, POLYPHASE, TAPS};
use crate::window::ORDERS;

/// Points per window.
const POINTS: usize = 2048;
/// Bits of a 32-bit sample fraction below the number of the filter's row.
const ROW_SHIFT: u32 = 32 - PHASES.trailing_zeros();

/// Quantities of one channel in its own unit (rms).
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelWindow {
    /// Root mean square without direct current.
    pub rms: f32,
    /// Harmonic subgroups, index 0 the fundamental.
    pub subgroup: [f32; ORDERS],
    /// Distortion to order 50, percent of the fundamental.
    pub thd_pct: f32,
}

/// Quantities of a pair of voltage and current.
#[derive(Clone, Debug, PartialEq)]
pub struct PairWindow {
    /// Voltage.
    pub voltage: ChannelWindow,
    /// Current.
    pub current: ChannelWindow,
    /// Active power.
    pub p: f32,
    /// Reactive power of the fundamental, inductive positive.
    pub q1: f32,
}

/// The interpolation filter at one phase, and what it changes by until the next.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Row {
    low: [f32; TAPS],
    step: [f32; TAPS],
}

/// Interpolation of `length` samples of both channels from position `start` to the points of the transform.
struct Interpolation<'a> {
    filter: &'a [Row; PHASES],
    input: [&'a [f32]; 2],
    output: [&'a mut [f32]; 2],
    start: f64,
    length: f64,
}

impl WithSimd for Interpolation<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Positions in samples with 32 fraction bits: after 2,048 steps off by less than a millionth of a sample.
        let fixed = |samples: f64| (samples * (1u64 << 32) as f64) as u64;
        let (mut position, step) = (fixed(self.start), fixed(self.length / POINTS as f64));
        let [out_v, out_i] = self.output;
        for (out_v, out_i) in out_v.iter_mut().zip(out_i.iter_mut()) {
            let fraction = position as u32;
            let row = &self.filter[(fraction >> ROW_SHIFT) as usize];
            let between = (fraction & ((1 << ROW_SHIFT) - 1)) as i32 as f32 * (1.0 / (1 << ROW_SHIFT) as f32);
            let between = simd.splat_f32s(between);
            let first = (position >> 32) as usize - (TAPS / 2 - 1);
            position += step;
            let taps = first..first + TAPS;
            (*out_v, *out_i) = weigh(simd, row, between, &self.input[0][taps.clone()], &self.input[1][taps]);
        }
    }
}

/// The sums of both channels' samples times the row's coefficients.
#[inline(always)]
fn weigh<S: Simd>(simd: S, row: &Row, between: S::f32s, v: &[f32], i: &[f32]) -> (f32, f32) {
    let (mut sum_v, mut sum_i) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
    let mut add = |low, step, v, i| {
        let c = simd.mul_add_e_f32s(between, step, low);
        sum_v = simd.mul_add_e_f32s(c, v, sum_v);
        sum_i = simd.mul_add_e_f32s(c, i, sum_i);
    };
    let (low, low_rest) = S::as_simd_f32s(&row.low);
    let (step, step_rest) = S::as_simd_f32s(&row.step);
    let ((v, v_rest), (i, i_rest)) = (S::as_simd_f32s(v), S::as_simd_f32s(i));
    for (((low, step), v), i) in low.iter().zip(step).zip(v).zip(i) {
        add(*low, *step, *v, *i);
    }
    if !low_rest.is_empty() {
        let load = |rest: &[f32]| simd.partial_load_f32s(rest);
        add(load(low_rest), load(step_rest), load(v_rest), load(i_rest));
    }
    (simd.reduce_sum_f32s(sum_v), simd.reduce_sum_f32s(sum_i))
}

/// Working memory for windows of one length.
pub struct Analyser {
    #[cfg(target_arch = "x86_64")]
    eight_lanes: Option<pulp::x86::V3>,
    plan: std::sync::Arc<dyn RealToComplex<f32>>,
    filter: Box<[Row; PHASES]>,
    points: [Vec<f32>; 2],
    spectra: [Vec<Complex<f32>>; 2],
    scratch: Vec<Complex<f32>>,
    cycles: usize,
}

impl Analyser {
    /// For windows of `cycles` (10 at 50 Hz, 12 at 60 Hz).
    pub fn new(cycles: usize) -> Self {
        let plan = RealFftPlanner::<f32>::new().plan_fft_forward(POINTS);
        let unit = 1.0 / f64::from(1u32 << COEFFICIENT_BITS);
        let row = |low: &[i32; TAPS], high: &[i32; TAPS]| Row {
            low: low.map(|c| (f64::from(c) * unit) as f32),
            step: core::array::from_fn(|k| ((f64::from(high[k]) - f64::from(low[k])) * unit) as f32),
        };
        Self {
            #[cfg(target_arch = "x86_64")]
            eight_lanes: pulp::x86::V3::try_new(),
            filter: Box::new(core::array::from_fn(|k| row(&POLYPHASE[k], &POLYPHASE[k + 1]))),
            points: [plan.make_input_vec(), plan.make_input_vec()],
            spectra: [plan.make_output_vec(), plan.make_output_vec()],
            scratch: plan.make_scratch_vec(),
            plan,
            cycles,
        }
    }

    /// Interpolates `length` samples from position `start`; needs 11 samples before and 13 after.
    fn resample(&mut self, v: &[f32], i: &[f32], start: f64, length: f64) {
        let [out_v, out_i] = &mut self.points;
        let work = Interpolation { filter: &self.filter, input: [v, i], output: [out_v, out_i], start, length };
        // Eight lanes divide the taps; with sixteen the masked rest costs more than the width gains.
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = self.eight_lanes {
            return Simd::vectorize(simd, work);
        }
        pulp::Arch::new().dispatch(work);
    }

    fn channel(spectrum: &[Complex<f32>], cycles: usize, mean_square: f32) -> ChannelWindow {
        let norm = |k: usize| spectrum[k].norm_sqr();
        let unit = 2.0 / (POINTS as f32 * POINTS as f32);
        let mut subgroup = [0.0; ORDERS];
        let mut distortion = 0.0;
        for (k, group) in subgroup.iter_mut().enumerate() {
            let centre = cycles * (k + 1);
            let square = (norm(centre - 1) + norm(centre) + norm(centre + 1)) * unit;
            if k > 0 {
                distortion += square;
            }
            *group = square.sqrt();
        }
        let thd_pct = if subgroup[0] > 0.0 { distortion.sqrt() / subgroup[0] * 100.0 } else { 0.0 };
        ChannelWindow { rms: mean_square.max(0.0).sqrt(), subgroup, thd_pct }
    }

    /// Analyses the window of `length` samples that begins at position `start` of both channels. Nothing if the slices
    /// do not hold 11 samples before and 13 after it.
    pub fn analyse(&mut self, v: &[f32], i: &[f32], start: f64, length: f64) -> Option<PairWindow> {
        let needed = (start + length).ceil() as usize + TAPS / 2 + 1;
        if start < (TAPS / 2 - 1) as f64 || v.len() < needed || i.len() < needed {
            return None;
        }
        self.resample(v, i, start, length);
        let n = POINTS as f32;
        let (mut sums, mut squares, mut product) = ([0.0f32; 2], [[0.0f32; 4]; 2], [0.0f32; 4]);
        for (v, i) in self.points[0].chunks_exact(4).zip(self.points[1].chunks_exact(4)) {
            for lane in 0..4 {
                squares[0][lane] += v[lane] * v[lane];
                squares[1][lane] += i[lane] * i[lane];
                product[lane] += v[lane] * i[lane];
            }
        }
        for (input, output) in self.points.iter_mut().zip(&mut self.spectra) {
            self.plan.process_with_scratch(input, output, &mut self.scratch).ok()?;
        }
        for (sum, spectrum) in sums.iter_mut().zip(&self.spectra) {
            *sum = spectrum[0].re / n;
        }
        let total = |lanes: [f32; 4]| lanes.iter().sum::<f32>() / n;
        let phasor = self.spectra[0][self.cycles] * self.spectra[1][self.cycles].conj();
        Some(PairWindow {
            voltage: Self::channel(&self.spectra[0], self.cycles, total(squares[0]) - sums[0] * sums[0]),
            current: Self::channel(&self.spectra[1], self.cycles, total(squares[1]) - sums[1] * sums[1]),
            p: total(product) - sums[0] * sums[1],
            q1: phasor.im * 2.0 / (n * n),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_closed_form() {
        let (fs, f) = (8000.0f64, 49.3f64);
        let wave = |lines: &[(f64, f64, f64)]| -> Vec<f32> {
            (0..1800)
                .map(|k| {
                    let t = f64::from(k) / fs;
                    let line = |l: &(f64, f64, f64)| {
                        l.1 * 2f64.sqrt() * (core::f64::consts::TAU * l.0 * f * t + l.2.to_radians()).sin()
                    };
                    (lines.iter().map(line).sum::<f64>() + 1.0) as f32
                })
                .collect()
        };
        let v = wave(&[(1.0, 230.0, 20.0), (5.0, 11.5, 40.0), (49.0, 1.0, 0.0)]);
        let i = wave(&[(1.0, 10.0, -40.0), (3.0, 2.0, 10.0)]);
        let mut analyser = Analyser::new(10);
        let w = analyser.analyse(&v, &i, 20.25, 10.0 * fs / f).unwrap_or_else(|| panic!("too short"));
        assert!((w.voltage.subgroup[0] - 230.0).abs() < 0.02);
        assert!((w.voltage.subgroup[4] - 11.5).abs() < 0.005);
        assert!((w.voltage.subgroup[48] - 1.0).abs() < 0.005);
        assert!((w.current.thd_pct - 20.0).abs() < 0.02);
        assert!((w.p - 1150.0).abs() < 0.3, "{}", w.p);
        assert!((w.q1 - 2300.0 * 60f32.to_radians().sin()).abs() < 0.5, "{}", w.q1);
        assert!(analyser.analyse(&v, &i, 2.0, 1600.0).is_none());
    }
}
