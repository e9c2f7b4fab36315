//! Exact discrete Laplace and discrete Gaussian noise, by integers only.
//!
//! Floating-point noise leaks through the gaps of its number line (Mironov 2012). Here every decision is an integer comparison
//! with a uniform integer; the algorithms are those of Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential
//! Privacy" (2020), algorithms 1 to 3. Scales are fractions. What is not done: constant time, which a custodian that answers
//! over a network hides behind one write to a disk.

use crate::draws::Draws;

/// A non-negative fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ratio {
    /// Numerator.
    pub num: u64,
    /// Denominator, not 0.
    pub den: u64,
}

/// Why a scale is not usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoiseError {
    /// Zero over something, or something over zero.
    #[error("the scale of the noise must be a positive fraction")]
    NotPositive,
    /// The integers would leave 128 bits.
    #[error(
        "the scale of the noise is too large or too finely divided: give it with a smaller numerator and denominator"
    )]
    TooLarge,
}

impl Ratio {
    /// The fraction in lowest terms.
    pub fn new(num: u64, den: u64) -> Self {
        let divisor = gcd(num, den).max(1);
        Self { num: num / divisor, den: den / divisor }
    }

    /// As a floating-point number, for reports.
    pub fn to_f64(self) -> f64 {
        self.num as f64 / self.den as f64
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// True with probability `num/den`.
fn bernoulli(draws: &mut Draws, num: u128, den: u128) -> bool {
    draws.below(den) < num
}

/// True with probability `exp(−num/den)`, for `num ≤ den` (algorithm 1, first part).
fn bernoulli_exp_small(draws: &mut Draws, num: u128, den: u128) -> bool {
    let mut k: u128 = 1;
    loop {
        // γ/k, its second factor apart so that nothing overflows
        if !(bernoulli(draws, num, den) && bernoulli(draws, 1, k)) {
            return k % 2 == 1;
        }
        k += 1;
    }
}

/// True with probability `exp(−num/den)` (algorithm 1).
fn bernoulli_exp(draws: &mut Draws, num: u128, den: u128) -> bool {
    let whole = num / den;
    // the product of so many factors 1/e is below 2^-128 long before
    for _ in 0..whole.min(1_000) {
        if !bernoulli_exp_small(draws, 1, 1) {
            return false;
        }
    }
    whole <= 1_000 && bernoulli_exp_small(draws, num % den, den)
}

/// A draw from the discrete Laplace distribution of scale `b`: `P(y) ∝ exp(−|y|/b)` (algorithm 2). With `b = Δ/ε`
/// an integer answer of sensitivity Δ becomes ε-differentially private.
///
/// # Errors
/// See [`NoiseError`].
pub fn laplace(draws: &mut Draws, scale: Ratio) -> Result<i64, NoiseError> {
    if scale.num == 0 || scale.den == 0 {
        return Err(NoiseError::NotPositive);
    }
    let (t, s) = (u128::from(scale.num), u128::from(scale.den));
    loop {
        let u = draws.below(t);
        if !bernoulli_exp_small(draws, u, t) {
            continue;
        }
        let mut v: u128 = 0;
        while bernoulli_exp_small(draws, 1, 1) {
            v += 1;
        }
        let magnitude = (u + t * v) / s;
        let negative = draws.below(2) == 1;
        if negative && magnitude == 0 {
            continue;
        }
        let magnitude = i64::try_from(magnitude).map_err(|_| NoiseError::TooLarge)?;
        return Ok(if negative { -magnitude } else { magnitude });
    }
}

/// A draw from the discrete Gaussian: `P(y) ∝ exp(−y²/(2σ²))`, the variance parameter `σ²` given as a fraction (algorithm 3).
///
/// # Errors
/// See [`NoiseError`].
pub fn gauss(draws: &mut Draws, variance: Ratio) -> Result<i64, NoiseError> {
    if variance.num == 0 || variance.den == 0 {
        return Err(NoiseError::NotPositive);
    }
    let (n, d) = (u128::from(variance.num), u128::from(variance.den));
    let t = (n / d).isqrt() + 1;
    let scale = Ratio { num: u64::try_from(t).map_err(|_| NoiseError::TooLarge)?, den: 1 };
    // exp(−(|y| − σ²/t)² / (2σ²)) = exp(−(|y|·d·t − n)² / (2·n·d·t²))
    let below = [2, n, d, t, t].iter().try_fold(1_u128, |product, factor| product.checked_mul(*factor));
    let below = below.ok_or(NoiseError::TooLarge)?;
    loop {
        let y = laplace(draws, scale)?;
        let scaled = u128::from(y.unsigned_abs()).checked_mul(d).and_then(|p| p.checked_mul(t));
        let distance = scaled.ok_or(NoiseError::TooLarge)?.abs_diff(n);
        let above = distance.checked_mul(distance).ok_or(NoiseError::TooLarge)?;
        if bernoulli_exp(draws, above, below) {
            return Ok(y);
        }
    }
}

/// Deviations from the middle that must stay within the integers; beyond 64 of them lies less than 10⁻²⁷ of either distribution.
const REACH: u128 = 64;

/// Whether a Laplace scale can be drawn from without leaving the integers.
///
/// # Errors
/// See [`NoiseError`].
pub fn check_laplace(scale: Ratio) -> Result<(), NoiseError> {
    if scale.num == 0 || scale.den == 0 {
        return Err(NoiseError::NotPositive);
    }
    let far = u128::from(scale.num) * REACH / u128::from(scale.den);
    if i64::try_from(far).is_ok() { Ok(()) } else { Err(NoiseError::TooLarge) }
}

/// Whether a Gaussian variance can be drawn from without leaving the integers.
///
/// # Errors
/// See [`NoiseError`].
pub fn check_gauss(variance: Ratio) -> Result<(), NoiseError> {
    if variance.num == 0 || variance.den == 0 {
        return Err(NoiseError::NotPositive);
    }
    let (n, d) = (u128::from(variance.num), u128::from(variance.den));
    let t = (n / d).isqrt() + 1;
    let product = |factors: &[u128]| factors.iter().try_fold(1_u128, |product, factor| product.checked_mul(*factor));
    // the two products of `gauss`, at its farthest proposal
    let far = product(&[REACH, t, d, t]).and_then(|far| product(&[far, far]));
    let below = product(&[2, n, d, t, t]);
    if far.is_some() && below.is_some() { Ok(()) } else { Err(NoiseError::TooLarge) }
}

/// Zero-concentrated privacy loss of a Gaussian of variance `σ²` at L2 sensitivity `Δ`, and what ε it means at δ:
/// `ρ = Δ²/(2σ²)`, `ε = ρ + 2·√(ρ·ln(1/δ))`.
pub fn epsilon_of_gauss(sensitivity: f64, variance: f64, delta: f64) -> f64 {
    let rho = sensitivity * sensitivity / (2.0 * variance);
    rho + 2.0 * (rho * (1.0 / delta).ln()).sqrt()
}
