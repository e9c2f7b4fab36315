//! The noise is what it says: χ² and Kolmogorov–Smirnov on a million draws, and a distinguisher that sees a broken mechanism.

use privacy::{
    draws::Draws,
    noise::{NoiseError, Ratio, epsilon_of_gauss, gauss, laplace},
};

const DRAWS: usize = 1_000_000;

/// Upper tail of χ² by the Wilson–Hilferty approximation: as a standard normal number.
fn chi2_as_normal(statistic: f64, freedom: f64) -> f64 {
    let k = 2.0 / (9.0 * freedom);
    ((statistic / freedom).cbrt() - (1.0 - k)) / k.sqrt()
}

/// Both tests against probabilities `p(y)`; a right sampler fails one with probability 0.001 each.
fn fits(draws: &[i64], p: impl Fn(i64) -> f64) -> (f64, f64) {
    let reach = draws.iter().map(|d| d.abs()).max().unwrap_or(0);
    let mut counts = std::collections::BTreeMap::<i64, f64>::new();
    draws.iter().for_each(|d| *counts.entry(*d).or_default() += 1.0);
    let n = draws.len() as f64;
    let (mut chi2, mut cells, mut expected, mut seen) = (0.0, 0.0, 0.0, 0.0);
    let (mut ks, mut below, mut below_seen) = (0.0_f64, 0.0, 0.0);
    for y in -reach..=reach {
        let count = counts.get(&y).copied().unwrap_or(0.0);
        expected += n * p(y);
        seen += count;
        if expected >= 25.0 {
            chi2 += (seen - expected).powi(2) / expected;
            cells += 1.0;
            (expected, seen) = (0.0, 0.0);
        }
        below += p(y);
        below_seen += count / n;
        ks = ks.max((below - below_seen).abs());
    }
    (chi2_as_normal(chi2, cells - 1.0), ks * n.sqrt())
}

/// 3.09: one in a thousand. 1.95: the same for Kolmogorov–Smirnov (smaller still for a discrete distribution).
fn assert_fits(name: &str, draws: &[i64], p: impl Fn(i64) -> f64) {
    let (chi2, ks) = fits(draws, p);
    assert!(chi2 < 3.09, "{name}: χ² stands {chi2} deviations high");
    assert!(ks < 1.95, "{name}: KS {ks}");
}

fn laplace_p(b: f64) -> impl Fn(i64) -> f64 {
    let q = (-1.0 / b).exp();
    move |y| (1.0 - q) / (1.0 + q) * (-(y.abs() as f64) / b).exp()
}

fn gauss_p(variance: f64) -> impl Fn(i64) -> f64 {
    let reach = (40.0 * variance.sqrt()) as i64 + 2;
    let weight = move |y: i64| (-(y as f64).powi(2) / (2.0 * variance)).exp();
    let total: f64 = (-reach..=reach).map(weight).sum();
    move |y| weight(y) / total
}

#[test]
fn a_million_draws_of_discrete_laplace() {
    for (num, den) in [(7, 2), (40, 1)] {
        let mut draws = Draws::new(&[21; 32]);
        let scale = Ratio::new(num, den);
        let all: Vec<i64> = (0..DRAWS).map(|_| laplace(&mut draws, scale).expect("draws")).collect();
        assert_fits("Laplace", &all, laplace_p(scale.to_f64()));
    }
}

#[test]
fn a_million_draws_of_discrete_gauss() {
    let mut draws = Draws::new(&[22; 32]);
    let variance = Ratio::new(81, 2);
    let all: Vec<i64> = (0..DRAWS).map(|_| gauss(&mut draws, variance).expect("draws")).collect();
    assert_fits("Gauss", &all, gauss_p(variance.to_f64()));
}

#[test]
fn the_tests_see_a_wrong_scale() {
    let mut draws = Draws::new(&[23; 32]);
    let all: Vec<i64> = (0..DRAWS).map(|_| laplace(&mut draws, Ratio::new(7, 2)).expect("draws")).collect();
    let (chi2, _) = fits(&all, laplace_p(3.6));
    assert!(chi2 > 10.0, "{chi2}");
}

/// Two neighbouring truths, 0 and `sensitivity`: the best event for telling them apart, by counting, as an estimate of ε.
fn distinguished(mechanism: &mut dyn FnMut(i64) -> i64, sensitivity: i64) -> f64 {
    let rounds = 200_000;
    let mut histogram = std::collections::BTreeMap::<i64, (f64, f64)>::new();
    for _ in 0..rounds {
        histogram.entry(mechanism(0)).or_default().0 += 1.0;
        histogram.entry(mechanism(sensitivity)).or_default().1 += 1.0;
    }
    // only outputs that were seen often enough for the ratio to mean something; a one-sided one counts its rarer side as 1
    let often = histogram.values().filter(|(a, b)| a.max(*b) >= 400.0);
    often.map(|(a, b)| (a.max(1.0) / b.max(1.0)).ln().abs()).fold(0.0, f64::max)
}

#[test]
fn a_distinguisher_fails_on_the_mechanism_and_succeeds_on_broken_ones() {
    let (sensitivity, epsilon) = (10_i64, 1.0);
    let mut draws = Draws::new(&[24; 32]);
    let scale = Ratio::new(sensitivity.unsigned_abs(), 1);
    let sound = distinguished(&mut |x| x + laplace(&mut draws, scale).expect("draws"), sensitivity);
    assert!(sound <= epsilon + 0.25, "a sound mechanism looks like ε = {sound}");
    // half the noise
    let mut draws = Draws::new(&[25; 32]);
    let half = Ratio::new(sensitivity.unsigned_abs(), 2);
    let weak = distinguished(&mut |x| x + laplace(&mut draws, half).expect("draws"), sensitivity);
    assert!(weak > 1.6, "half the noise looks like ε = {weak}");
    // noise on even numbers only: the parity gives the truth away
    let mut draws = Draws::new(&[26; 32]);
    let gappy = distinguished(&mut |x| x + 2 * laplace(&mut draws, Ratio::new(5, 1)).expect("draws"), 5);
    assert!(gappy > 4.0, "noise with gaps looks like ε = {gappy}");
}

#[test]
fn scales_that_make_no_sense_are_refused() {
    let mut draws = Draws::new(&[1; 32]);
    assert_eq!(laplace(&mut draws, Ratio { num: 0, den: 1 }), Err(NoiseError::NotPositive));
    assert_eq!(laplace(&mut draws, Ratio { num: 1, den: 0 }), Err(NoiseError::NotPositive));
    assert_eq!(gauss(&mut draws, Ratio { num: u64::MAX, den: u64::MAX - 2 }), Err(NoiseError::TooLarge));
    assert!((epsilon_of_gauss(1.0, 0.5, 1e-6) - (1.0 + 2.0 * 13.815_510_557_964_274_f64.sqrt())).abs() < 1e-12);
}
