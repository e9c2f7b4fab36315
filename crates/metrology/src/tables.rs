//! Constant tables, computed by the compiler: sine, bit patterns and the polyphase interpolation filter.
//!
//! They are made in `const` context, so host and microcontroller hold the same bits and neither spends start-up
//! time or RAM on them. This is not a maths library: nothing here runs after compilation.

/// Points of the real transform of one window.
pub const FFT_LEN: usize = 2048;
/// Points of the complex transform that carries the real one.
pub const FFT_HALF: usize = FFT_LEN / 2;
/// Taps of the interpolation filter.
pub const TAPS: usize = 24;
/// Sub-sample phases of the interpolation filter.
pub const PHASES: usize = 64;
/// Fraction bits of the interpolation coefficients.
pub const COEFFICIENT_BITS: u32 = 30;
/// Kaiser window parameter: about 80 dB, pass band to 0.39 of the sample rate.
const KAISER_BETA: f64 = 8.0;
const PI: f64 = core::f64::consts::PI;

/// Sine over the first quarter turn, `round(sin(pi/2·k/512)·2^30)`.
pub static QUARTER_SINE: [i32; FFT_HALF / 2 + 1] = quarter_sine();

/// Interpolation filter: row `p` holds the taps for a position `p/64` of a sample after tap 11; every row sums to 2^30.
#[allow(long_running_const_eval)]
pub static POLYPHASE: [[i32; TAPS]; PHASES + 1] = polyphase();

const fn round_i32(x: f64) -> i32 {
    if x < 0.0 { (x - 0.5) as i32 } else { (x + 0.5) as i32 }
}

/// Taylor series after reduction to ±pi/2; exact to about 1e-16 there.
const fn sine(angle: f64) -> f64 {
    let mut x = angle;
    while x > PI {
        x -= 2.0 * PI;
    }
    while x < -PI {
        x += 2.0 * PI;
    }
    if x > PI / 2.0 {
        x = PI - x;
    } else if x < -PI / 2.0 {
        x = -PI - x;
    }
    let square = x * x;
    let mut term = x;
    let mut sum = x;
    let mut n = 1;
    while n < 13 {
        term *= -square / ((2 * n) as f64 * (2 * n + 1) as f64);
        sum += term;
        n += 1;
    }
    sum
}

/// Modified Bessel function of order zero of `2·sqrt(quarter)`, by its power series.
const fn bessel_i0_of_quarter_square(quarter: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    let mut n = 1;
    while n < 30 {
        term *= quarter / ((n * n) as f64);
        sum += term;
        n += 1;
    }
    sum
}

const fn quarter_sine() -> [i32; FFT_HALF / 2 + 1] {
    let mut table = [0; FFT_HALF / 2 + 1];
    let mut k = 0;
    while k < table.len() {
        table[k] = round_i32(sine(PI / 2.0 * k as f64 / (FFT_HALF / 2) as f64) * (1u32 << 30) as f64);
        k += 1;
    }
    table
}

/// Kaiser-windowed sinc at distance `d` samples from the wanted position.
const fn windowed_sinc(d: f64) -> f64 {
    let half = (TAPS / 2) as f64;
    if d <= -half || d >= half {
        return 0.0;
    }
    let sinc = if d == 0.0 { 1.0 } else { sine(PI * d) / (PI * d) };
    let quarter = KAISER_BETA * KAISER_BETA / 4.0;
    sinc * bessel_i0_of_quarter_square(quarter * (1.0 - d * d / (half * half))) / bessel_i0_of_quarter_square(quarter)
}

const fn polyphase() -> [[i32; TAPS]; PHASES + 1] {
    let mut table = [[0; TAPS]; PHASES + 1];
    let mut phase = 0;
    while phase <= PHASES {
        let mut row = [0.0; TAPS];
        let mut sum = 0.0;
        let mut tap = 0;
        while tap < TAPS {
            let distance = tap as f64 - (TAPS / 2 - 1) as f64 - phase as f64 / PHASES as f64;
            row[tap] = windowed_sinc(distance);
            sum += row[tap];
            tap += 1;
        }
        tap = 0;
        while tap < TAPS {
            table[phase][tap] = round_i32(row[tap] / sum * (1u32 << COEFFICIENT_BITS) as f64);
            tap += 1;
        }
        phase += 1;
    }
    table
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn sine_table_equals_the_library() {
        for (k, &value) in QUARTER_SINE.iter().enumerate() {
            let exact = (core::f64::consts::FRAC_PI_2 * k as f64 / 512.0).sin() * f64::from(1u32 << 30);
            assert!((f64::from(value) - exact).abs() <= 0.51, "{k}");
        }
    }

    #[test]
    fn every_phase_passes_direct_current() {
        for row in &POLYPHASE {
            let sum: i64 = row.iter().map(|&c| i64::from(c)).sum();
            assert!((sum - (1 << COEFFICIENT_BITS)).abs() < 16);
        }
    }
}
