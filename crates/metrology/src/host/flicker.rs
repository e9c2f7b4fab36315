//! Flickermeter of IEC 61000-4-15 edition 2: from voltage samples to instantaneous flicker sensation, Pst and Plt.
//!
//! Blocks: normalise, square, band-pass (0.05 Hz, and 6th-order Butterworth at 35 or 42 Hz), lamp-eye weighting,
//! square and 0.3 s smoothing, statistics. Coefficients: the standard's table for 230 V and 120 V lamps. Percentiles
//! are taken from the values themselves, not from 64 classes.

use core::f64::consts::PI;

use crate::config::Nominal;

/// Reference lamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lamp {
    /// 60 W, 230 V.
    V230,
    /// 60 W, 120 V.
    V120,
}

/// Second-order section, transposed direct form II.
#[derive(Clone, Copy, Debug)]
struct Section {
    b: [f64; 3],
    a: [f64; 2],
    s: [f64; 2],
}

impl Section {
    /// Bilinear transform of `(n2 s² + n1 s + n0) / (d2 s² + d1 s + d0)` at sample rate `fs`.
    fn bilinear(n: [f64; 3], d: [f64; 3], fs: f64) -> Self {
        let c = 2.0 * fs;
        if n[0] == 0.0 && d[0] == 0.0 {
            // First order: the general form would leave a pole and a zero on the unit circle.
            let d0 = d[1] * c + d[2];
            let b = [(n[1] * c + n[2]) / d0, (n[2] - n[1] * c) / d0, 0.0];
            return Self { b, a: [(d[2] - d[1] * c) / d0, 0.0], s: [0.0; 2] };
        }
        let lift = |p: [f64; 3]| {
            let (a, b, k) = (p[0] * c * c, p[1] * c, p[2]);
            [a + b + k, 2.0 * (k - a), a - b + k]
        };
        let (n, d) = (lift(n), lift(d));
        Self { b: n.map(|x| x / d[0]), a: [d[1] / d[0], d[2] / d[0]], s: [0.0; 2] }
    }

    #[inline(always)]
    fn run(&mut self, x: f64) -> f64 {
        let y = self.b[0] * x + self.s[0];
        self.s[0] = self.b[1] * x - self.a[0] * y + self.s[1];
        self.s[1] = self.b[2] * x - self.a[1] * y;
        y
    }

    /// Magnitude of the response at `f` hertz.
    fn magnitude(&self, f: f64, fs: f64) -> f64 {
        let w = 2.0 * PI * f / fs;
        let at = |c: [f64; 3]| {
            let re = c[0] + c[1] * w.cos() + c[2] * (2.0 * w).cos();
            let im = c[1] * w.sin() + c[2] * (2.0 * w).sin();
            re.hypot(im)
        };
        at(self.b) / at([1.0, self.a[0], self.a[1]])
    }
}

/// One-channel flickermeter.
#[derive(Clone, Debug)]
pub struct Flickermeter {
    sections: [Section; 6],
    gain: f64,
    smooth: f64,
    smoothing: f64,
    mean_square: f64,
    tracking: f64,
    started: f64,
    to_start: f64,
}

impl Flickermeter {
    /// A flickermeter for `fs` samples per second (at least 2,000) on a network of `nominal` frequency.
    pub fn new(fs: f64, lamp: Lamp, nominal: Nominal) -> Self {
        let w = |hertz: f64| 2.0 * PI * hertz;
        let (k, lambda, w1, w2, w3, w4, depth) = match lamp {
            Lamp::V230 => (1.74802, w(4.05981), w(9.15494), w(2.27979), w(1.22535), w(21.9), 0.250),
            Lamp::V120 => (1.6357, w(4.167375), w(9.077169), w(2.939902), w(1.394468), w(17.31512), 0.321),
        };
        let low_pass: f64 = match nominal {
            Nominal::Hz50 => 35.0,
            Nominal::Hz60 => 42.0,
        };
        let wc = 2.0 * fs * (PI * low_pass / fs).tan();
        let butterworth = |pair: f64| {
            let damping = 2.0 * (PI * (2.0 * pair + 1.0) / 12.0).sin();
            Section::bilinear([0.0, 0.0, wc * wc], [1.0, damping * wc, wc * wc], fs)
        };
        let sections = [
            butterworth(0.0),
            butterworth(1.0),
            butterworth(2.0),
            Section::bilinear([0.0, 1.0, 0.0], [0.0, 1.0, w(0.05)], fs),
            Section::bilinear([0.0, k * w1, 0.0], [1.0, 2.0 * lambda, w1 * w1], fs),
            Section::bilinear([0.0, 1.0 / w2, 1.0], [1.0 / (w3 * w4), 1.0 / w3 + 1.0 / w4, 1.0], fs),
        ];
        // A sine of 8.8 Hz and `depth` percent must read a maximum of 1: mean plus the smoothed double-frequency ripple.
        let amplitude: f64 = depth / 100.0 * sections.iter().map(|s| s.magnitude(8.8, fs)).product::<f64>();
        let ripple = 1.0 / (1.0 + (w(17.6) * 0.3).powi(2)).sqrt();
        Self {
            sections,
            gain: 1.0 / (amplitude * amplitude / 2.0 * (1.0 + ripple)),
            smooth: 0.0,
            smoothing: 1.0 - (-1.0 / (0.3 * fs)).exp(),
            mean_square: 0.0,
            tracking: 1.0 / (60.0 * fs),
            started: 0.0,
            to_start: fs,
        }
    }

    /// Takes one voltage sample in any unit; gives the instantaneous flicker sensation Pinst. The first second sets the
    /// reference level and reads zero; allow 60 s before statistics.
    #[inline]
    pub fn push(&mut self, u: f64) -> f64 {
        let square = u * u;
        if self.started < self.to_start {
            self.started += 1.0;
            self.mean_square += (square - self.mean_square) / self.started;
            return 0.0;
        }
        self.mean_square += (square - self.mean_square) * self.tracking;
        let mut x = square / self.mean_square - 1.0;
        for section in &mut self.sections {
            x = section.run(x);
        }
        self.smooth += (x * x * self.gain - self.smooth) * self.smoothing;
        self.smooth
    }
}

/// Value exceeded during `percent` of the time, from ascending values, interpolated.
fn exceeded(sorted: &[f32], percent: f64) -> f64 {
    let position = (1.0 - percent / 100.0) * (sorted.len() - 1) as f64;
    let low = position.floor() as usize;
    let high = (low + 1).min(sorted.len() - 1);
    let part = position - position.floor();
    f64::from(sorted[low]) * (1.0 - part) + f64::from(sorted[high]) * part
}

/// Short-term severity of ten minutes of Pinst values (evenly spaced, at least 100 a second; sorted in place). Nothing
/// for fewer than 100 values.
pub fn pst(pinst: &mut [f32]) -> Option<f64> {
    if pinst.len() < 100 {
        return None;
    }
    pinst.sort_unstable_by(f32::total_cmp);
    let mean = |levels: &[f64]| levels.iter().map(|&p| exceeded(pinst, p)).sum::<f64>() / levels.len() as f64;
    let severity = 0.0314 * mean(&[0.1])
        + 0.0525 * mean(&[0.7, 1.0, 1.5])
        + 0.0657 * mean(&[2.2, 3.0, 4.0])
        + 0.28 * mean(&[6.0, 8.0, 10.0, 13.0, 17.0])
        + 0.08 * mean(&[30.0, 50.0, 80.0]);
    Some(severity.sqrt())
}

/// Long-term severity of twelve consecutive Pst values (two hours).
pub fn plt(pst: &[f64; 12]) -> f64 {
    (pst.iter().map(|p| p.powi(3)).sum::<f64>() / 12.0).cbrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::synthesis::Oscillator;

    #[test]
    fn the_reference_sine_reads_one() {
        let fs = 4000.0;
        let mut meter = Flickermeter::new(fs, Lamp::V230, Nominal::Hz50);
        let mut mains = Oscillator::new(50.0, fs, 0.0);
        let mut flicker = Oscillator::new(8.8, fs, 0.0);
        let mut largest = 0.0f64;
        for k in 0..100_000 {
            let value = meter.push(325.0 * mains.step() * (1.0 + 0.250 / 200.0 * flicker.step()));
            if k > 80_000 {
                largest = largest.max(value);
            }
        }
        assert!((largest - 1.0).abs() < 0.02, "{largest}");
    }

    #[test]
    fn plt_of_equal_values_is_that_value() {
        assert!((plt(&[0.7; 12]) - 0.7).abs() < 1e-12);
        assert_eq!(pst(&mut [1.0; 5]), None);
    }
}
