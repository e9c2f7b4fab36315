//! Mean and covariance of a normal distribution of three unknowns that is cut off at the sides of a box, by expectation propagation
//! (Minka 2001; Cunningham, Hennig and Lacoste-Julien 2011, arXiv 1111.6832): each unknown's limits stand as a normal factor that gives
//! it the mean and the variance of its own cut-off marginal.
//!
//! Means come out within a percent, covariances of unknowns that hang together strongly up to a seventh too small.
//!
//! A loss is not negative, so its spread is smaller and its mean larger than those of the normal without limits.

use super::{Symmetric, inverse, multiply};

/// Rounds over the unknowns; three to five are usual.
const ROUNDS: usize = 30;
/// Change of a mean in standard deviations below which the rounds end.
const SETTLED: f64 = 1e-6;
/// Logarithm of the density relative to its highest, below which it is left out of the integrals.
const NEGLIGIBLE: f64 = 25.0;
/// Intervals of Simpson's rule.
const INTERVALS: u32 = 64;

/// Lower and upper limit of each unknown, in its unit.
pub(super) type Limits = [(f64, f64); 3];

/// Mean and covariance within `limits` of the normal with this precision matrix and this product of precision and mean.
pub(super) fn moments(precision: &Symmetric, shift: &[f64; 3], limits: &Limits) -> ([f64; 3], Symmetric) {
    const DIAGONAL: [usize; 3] = [0, 3, 5];
    let (mut with_factors, mut with_shifts) = (*precision, *shift);
    let mut covariance = inverse(&with_factors);
    let mut mean = multiply(&covariance, &with_shifts);
    let mut factors = [(0.0, 0.0); 3];
    for _ in 0..ROUNDS {
        let before = mean;
        for i in 0..3 {
            let (own, at) = (1.0 / covariance[DIAGONAL[i]], DIAGONAL[i]);
            // The marginal without its own factor: what the rest says of this unknown.
            let rest = (own - factors[i].0).max(1e-9 * own);
            let rest_mean = (own * mean[i] - factors[i].1) / rest;
            let (cut_mean, cut_var) = cut_off(rest_mean, 1.0 / rest, limits[i]);
            let factor = ((1.0 / cut_var - rest).max(0.0), cut_mean / cut_var - rest_mean * rest);
            with_factors[at] += factor.0 - factors[i].0;
            with_shifts[i] += factor.1 - factors[i].1;
            factors[i] = factor;
            covariance = inverse(&with_factors);
            mean = multiply(&covariance, &with_shifts);
        }
        if (0..3).all(|i| (mean[i] - before[i]).abs() <= SETTLED * covariance[DIAGONAL[i]].sqrt()) {
            break;
        }
    }
    let inside = std::array::from_fn(|i| mean[i].clamp(limits[i].0, limits[i].1));
    (inside, covariance)
}

/// Mean and variance of a normal between two limits.
fn cut_off(mean: f64, variance: f64, (low, high): (f64, f64)) -> (f64, f64) {
    let sd = variance.sqrt();
    let (from, to) = ((low - mean) / sd, (high - mean) / sd);
    let peak = 0f64.clamp(from, to);
    // Where the density e^{−z²/2} has fallen by e^{−NEGLIGIBLE} from its highest: nearer, the farther out that lies.
    let fall = |slope: f64| (slope * slope + 2.0 * NEGLIGIBLE).sqrt() - slope;
    let (begin, end) = (from.max(peak - fall((-peak).max(0.0))), to.min(peak + fall(peak.max(0.0))));
    let step = (end - begin) / f64::from(INTERVALS);
    let (mut mass, mut first, mut second) = (0.0, 0.0, 0.0);
    for node in 0..=INTERVALS {
        let beside = begin + f64::from(node) * step - peak;
        let simpson = match node {
            0 | INTERVALS => 1.0,
            _ if node % 2 == 1 => 4.0,
            _ => 2.0,
        };
        let weight = simpson * (-beside * (0.5 * beside + peak)).exp();
        mass += weight;
        first += weight * beside;
        second += weight * beside * beside;
    }
    let beside = first / mass;
    (mean + sd * (peak + beside), variance * (second / mass - beside * beside).max(1e-12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_normal_has_the_textbooks_moments() {
        // 64 intervals of Simpson's rule are off by 4e-6 and 1.3e-5 here; with 128 it is a sixteenth.
        let (mean, variance) = cut_off(0.0, 4.0, (0.0, 1e3));
        let half = std::f64::consts::FRAC_2_PI;
        assert!((mean - 2.0 * half.sqrt()).abs() < 1e-5 && (variance - 4.0 * (1.0 - half)).abs() < 2e-5);
        // Far out it is an exponential: mean and deviation 1/10 beyond the limit, to a hundredth of that.
        let (mean, variance) = cut_off(-10.0, 1.0, (0.0, f64::INFINITY));
        assert!((mean - 0.098).abs() < 1e-3 && (variance.sqrt() - 0.097).abs() < 1e-3, "{mean} {variance}");
    }

    #[test]
    fn unknowns_that_hang_together_are_cut_off_together() {
        // Correlation 0.8 between the first two, both not negative: against the fixed point of the method with moments in closed form, and
        // against a sum over a fine grid, from which the method itself is off by a seventh of a covariance.
        let (a, b) = (1.0 / 0.36, -0.8 / 0.36);
        let limits = [(0.0, f64::INFINITY), (0.0, f64::INFINITY), (f64::NEG_INFINITY, f64::INFINITY)];
        let (mean, covariance) = moments(&[a, b, 0.0, a, 0.0, 1.0], &[0.0; 3], &limits);
        let (mut mass, mut first, mut square, mut product) = (0.0, 0.0, 0.0, 0.0);
        for i in 0..600 {
            for j in 0..600 {
                let (x, y) = (0.005 + 0.01 * f64::from(i), 0.005 + 0.01 * f64::from(j));
                let density = (-0.5 * a * (x * x + y * y) - b * x * y).exp();
                mass += density;
                first += density * x;
                square += density * x * x;
                product += density * x * y;
            }
        }
        let centre = first / mass;
        assert!((mean[0] / centre - 1.0).abs() < 0.01 && mean[2].abs() < 1e-12, "{mean:?} {centre}");
        assert!((covariance[0] - 0.351_734).abs() < 1e-5 && (covariance[1] - 0.192_542).abs() < 1e-5, "{covariance:?}");
        let expected = (square / mass - centre * centre, product / mass - centre * centre);
        assert!((covariance[0] / expected.0 - 1.0).abs() < 0.08, "{covariance:?} {expected:?}");
        assert!((covariance[1] / expected.1 - 1.0).abs() < 0.15, "{covariance:?} {expected:?}");
    }
}
