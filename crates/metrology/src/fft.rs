//! Integer Fourier transform of one resampled window: 2,048 real points carried by 1,024 complex ones.
//!
//! Every stage halves, so that nothing overflows and the result is the sum divided by 2,048. Only integers: host and
//! microcontroller agree to the bit. Not a general transform: one length, one direction.

use crate::tables::{FFT_HALF, FFT_LEN, QUARTER_SINE};

/// A complex integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Complex {
    /// Real part.
    pub re: i32,
    /// Imaginary part.
    pub im: i32,
}

impl Complex {
    /// Squared magnitude.
    pub fn norm(self) -> u64 {
        (i64::from(self.re) * i64::from(self.re)).unsigned_abs()
            + (i64::from(self.im) * i64::from(self.im)).unsigned_abs()
    }
}

/// Working memory of the transform: point `2k` of the window in `re`, point `2k + 1` in `im`, in bit-reversed order.
pub struct Spectrum {
    points: [Complex; FFT_HALF],
}

impl Default for Spectrum {
    fn default() -> Self {
        Self { points: [Complex { re: 0, im: 0 }; FFT_HALF] }
    }
}

/// `exp(-j·2π·k/2048)` in Q30, for `k` below 1,024.
fn twiddle(k: usize) -> (i32, i32) {
    const QUARTER: usize = FFT_LEN / 4;
    if k <= QUARTER {
        (QUARTER_SINE[QUARTER - k], -QUARTER_SINE[k])
    } else {
        (-QUARTER_SINE[k - QUARTER], -QUARTER_SINE[2 * QUARTER - k])
    }
}

/// Product of a value and a Q30 factor, rounded.
fn scale(value: i32, factor: i32) -> i64 {
    i64::from(value) * i64::from(factor)
}

fn rotate(value: Complex, (cos, sin): (i32, i32)) -> Complex {
    let re = scale(value.re, cos) - scale(value.im, sin) + (1 << 29);
    let im = scale(value.re, sin) + scale(value.im, cos) + (1 << 29);
    Complex { re: (re >> 30) as i32, im: (im >> 30) as i32 }
}

impl Spectrum {
    /// Stores point `m` of the window. Magnitudes must stay within 2^29.
    #[inline(always)]
    pub fn put(&mut self, m: usize, value: i32) {
        let reversed = (m / 2).reverse_bits() >> (usize::BITS - FFT_HALF.trailing_zeros());
        let point = &mut self.points[reversed & (FFT_HALF - 1)];
        if m.is_multiple_of(2) {
            point.re = value;
        } else {
            point.im = value;
        }
    }

    /// Transforms in place; afterwards [`Spectrum::bin`] reads the result.
    pub fn transform(&mut self) {
        let mut half = 1;
        while half < FFT_HALF {
            let stride = FFT_HALF / half;
            for k in 0..half {
                let w = twiddle(k * stride);
                let mut low = k;
                while low < FFT_HALF {
                    let a = self.points[low];
                    let b = if k == 0 { self.points[low + half] } else { rotate(self.points[low + half], w) };
                    self.points[low] = Complex { re: (a.re + b.re) >> 1, im: (a.im + b.im) >> 1 };
                    self.points[low + half] = Complex { re: (a.re - b.re) >> 1, im: (a.im - b.im) >> 1 };
                    low += 2 * half;
                }
            }
            half *= 2;
        }
    }

    /// Bin `k` (1 to 1,023) of the real transform divided by 2,048: a sine of amplitude A on the bin reads A/2.
    pub fn bin(&self, k: usize) -> Complex {
        debug_assert!(k > 0 && k < FFT_HALF);
        let a = self.points[k];
        let b = self.points[FFT_HALF - k];
        let even = Complex { re: (a.re + b.re) >> 1, im: (a.im - b.im) >> 1 };
        let odd = rotate(Complex { re: (a.im + b.im) >> 1, im: (b.re - a.re) >> 1 }, twiddle(k));
        Complex { re: (even.re + odd.re) >> 1, im: (even.im + odd.im) >> 1 }
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn finds_amplitude_and_phase_of_two_sines() {
        let amplitude = f64::from(1 << 27);
        let wave = |n: usize| {
            let turn = core::f64::consts::TAU * n as f64 / 2048.0;
            (amplitude * ((10.0 * turn).sin() + 0.01 * (333.0 * turn + 0.7).cos())).round() as i32
        };
        let mut spectrum = Spectrum::default();
        for m in 0..FFT_LEN {
            spectrum.put(m, wave(m));
        }
        spectrum.transform();
        let first = spectrum.bin(10);
        assert!((f64::from(first.im) + amplitude / 2.0).abs() < 30.0, "{first:?}");
        assert!(first.re.abs() < 30);
        let second = spectrum.bin(333);
        assert!((f64::from(second.re) - 0.005 * amplitude * 0.7f64.cos()).abs() < 30.0);
        assert!((f64::from(second.im) - 0.005 * amplitude * 0.7f64.sin()).abs() < 30.0);
        for quiet in [1, 9, 11, 100, 332, 1023] {
            assert!(spectrum.bin(quiet).norm() < 900, "{quiet}: {:?}", spectrum.bin(quiet));
        }
    }
}
