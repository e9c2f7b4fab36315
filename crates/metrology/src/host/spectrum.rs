//! Analysis of recorded waveforms on the server: the core's window, in single precision and with a library transform.
//!
//! For raw waveforms of many meters, where speed counts and bit equality with the meter does not. The meter's own
//! quantities come from [`crate::window`].

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

use crate::tables::{COEFFICIENT_BITS, PHASES, POLYPHASE, TAPS};
use crate::window::ORDERS;

/// Points per window.
const POINTS: usize = 2048;

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

/// Working memory for windows of one length.
pub struct Analyser {
    plan: std::sync::Arc<dyn RealToComplex<f32>>,
    filter: Vec<[f32; TAPS]>,
    points: [Vec<f32>; 2],
    spectra: [Vec<Complex<f32>>; 2],
    scratch: Vec<Complex<f32>>,
    cycles: usize,
}

impl Analyser {
    /// For windows of `cycles` (10 at 50 Hz, 12 at 60 Hz).
    pub fn new(cycles: usize) -> Self {
        let plan = RealFftPlanner::<f32>::new().plan_fft_forward(POINTS);
        let unit = 1.0 / (1u32 << COEFFICIENT_BITS) as f32;
        Self {
            filter: POLYPHASE.iter().map(|row| row.map(|c| c as f32 * unit)).collect(),
            points: [plan.make_input_vec(), plan.make_input_vec()],
            spectra: [plan.make_output_vec(), plan.make_output_vec()],
            scratch: plan.make_scratch_vec(),
            plan,
            cycles,
        }
    }

    /// Interpolates `length` samples from position `start`; needs 11 samples before and 13 after.
    fn resample(&mut self, v: &[f32], i: &[f32], start: f64, length: f64) {
        let step = length / POINTS as f64;
        let [out_v, out_i] = &mut self.points;
        for (k, (out_v, out_i)) in out_v.iter_mut().zip(out_i.iter_mut()).enumerate() {
            let position = start + step * k as f64;
            let whole = position as usize;
            let fine = (position - whole as f64) as f32 * PHASES as f32;
            let phase = (fine as usize).min(PHASES - 1);
            let between = fine - phase as f32;
            let (low, high) = (&self.filter[phase], &self.filter[phase + 1]);
            let first = whole - (TAPS / 2 - 1);
            let (v, i) = (&v[first..first + TAPS], &i[first..first + TAPS]);
            let (mut sum_v, mut sum_i) = ([0.0f32; 4], [0.0f32; 4]);
            let coefficients = low.as_chunks::<4>().0.iter().zip(high.as_chunks::<4>().0);
            let values = v.as_chunks::<4>().0.iter().zip(i.as_chunks::<4>().0);
            for ((low, high), (v, i)) in coefficients.zip(values) {
                for lane in 0..4 {
                    let c = low[lane] + between * (high[lane] - low[lane]);
                    sum_v[lane] += c * v[lane];
                    sum_i[lane] += c * i[lane];
                }
            }
            *out_v = (sum_v[0] + sum_v[1]) + (sum_v[2] + sum_v[3]);
            *out_i = (sum_i[0] + sum_i[1]) + (sum_i[2] + sum_i[3]);
        }
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
