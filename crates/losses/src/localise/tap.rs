//! Where does an unmetered, varying connection hang? Its power s(t) is known from the balance, and it pulls every voltage
//! down in proportion to the resistance that its path shares with the meter's: slope of (measured − modelled voltage) on s.
//!
//! Per meter i: E_i = V_measured − V_modelled is regressed on a constant, s, and two nuisance columns with a prior of
//! 10 % (the meter's own modelled fall, wrong impedances; and the feeder's mean fall, reactive power). That leaves a slope b_i
//! with variance v_i. A tap at k predicts b_i = −a R_ik; a ~ N(1, 0.25²) because the amount is known from the balance. The
//! observer's own voltage noise is common to all slopes. Only variation counts: a constant tap moves nothing and cannot be placed.

use crate::localise::feeder::Feeder;
use crate::localise::regression::{cholesky, dot, forward};

/// Prior standard deviation of the amplitude.
const AMPLITUDE_SD: f64 = 0.25;
/// Prior standard deviation of the nuisance coefficients (relative error of modelled falls).
const FALL_SD: f64 = 0.1;
/// Relative standard deviation of each predicted slope (impedances along the path).
const PREDICTION_SD: f64 = 0.05;
/// Fewest slots with voltage for a meter to count.
const LEAST_SLOTS: usize = 48;

/// A place and how badly it fits: twice the negative log-likelihood plus the amplitude's prior.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Index of the usage point at whose bus the tap would hang.
    pub point: usize,
    /// Misfit; differences of a few units matter.
    pub misfit: f64,
    /// Fitted amplitude.
    pub amplitude: f64,
}

/// All connections by rising misfit, given the tap's power in W by slot.
pub fn places(feeder: &Feeder, power_w: &[f64]) -> Vec<Place> {
    let points = feeder.points();
    let slopes: Vec<Option<(f64, f64)>> = (0..points).map(|i| slope(feeder, i, power_w)).collect();
    let used: Vec<usize> = (0..points).filter(|&i| slopes[i].is_some()).collect();
    let centred: f64 = {
        let mean = power_w.iter().sum::<f64>() / power_w.len() as f64;
        power_w.iter().map(|p| (p - mean) * (p - mean)).sum()
    };
    let common = feeder.observer_class.voltage_random_sd.powi(2) / centred.max(1e-9);
    let mut places: Vec<Place> = (0..points)
        .filter(|&k| !feeder.generator[k])
        .map(|k| {
            let n = used.len();
            let predicted: Vec<f64> = used.iter().map(|&i| -feeder.fall_per_watt[i][k]).collect();
            let mut covariance = vec![common; n * n];
            for (row, &i) in used.iter().enumerate() {
                let own = slopes[i].map_or(0.0, |s| s.1);
                covariance[row * n + row] += own + (PREDICTION_SD * predicted[row]).powi(2);
            }
            cholesky(&mut covariance, n);
            let mut measured: Vec<f64> = used.iter().map(|&i| slopes[i].map_or(0.0, |s| s.0)).collect();
            let mut expected = predicted;
            forward(&covariance, &mut measured);
            forward(&covariance, &mut expected);
            let prior = 1.0 / (AMPLITUDE_SD * AMPLITUDE_SD);
            let amplitude = (dot(&measured, &expected) + prior) / (dot(&expected, &expected) + prior);
            let rest: f64 = measured.iter().zip(&expected).map(|(m, e)| (m - amplitude * e).powi(2)).sum();
            let determinant: f64 = (0..n).map(|i| 2.0 * covariance[i * n + i].ln()).sum();
            let misfit = rest + prior * (amplitude - 1.0).powi(2) + determinant;
            Place { point: k, misfit, amplitude }
        })
        .collect();
    places.sort_by(|a, b| a.misfit.total_cmp(&b.misfit));
    places
}

/// (slope of the voltage error on the tap's power in pu per W, its variance) of one meter.
fn slope(feeder: &Feeder, point: usize, power_w: &[f64]) -> Option<(f64, f64)> {
    let slots = feeder.slots();
    let error: Vec<f64> = feeder.voltage_pu[point].iter().zip(&feeder.modelled_pu[point]).map(|(m, v)| m - v).collect();
    let known: Vec<usize> = (0..slots).filter(|&t| !error[t].is_nan()).collect();
    if known.len() < LEAST_SLOTS {
        return None;
    }
    let sigma = feeder.class.voltage_random_sd;
    let centred = |values: &dyn Fn(usize) -> f64| -> Vec<f64> {
        let mean = known.iter().map(|&t| values(t)).sum::<f64>() / known.len() as f64;
        known.iter().map(|&t| values(t) - mean).collect()
    };
    let target = centred(&|t| error[t]);
    let tap = centred(&|t| power_w[t]);
    let own = centred(&|t| -feeder.modelled_pu[point][t]);
    let points = feeder.points() as f64;
    let shared = centred(&|t| -feeder.modelled_pu.iter().map(|v| v[t]).sum::<f64>() / points);
    // Normal equations with the prior on the nuisance; three unknowns.
    let columns = [&tap, &own, &shared];
    let precision = [0.0, 1.0 / (FALL_SD * FALL_SD), 1.0 / (FALL_SD * FALL_SD)];
    let mut normal = vec![0.0; 9];
    let mut right = vec![0.0; 3];
    for i in 0..3 {
        for j in 0..3 {
            normal[i * 3 + j] = dot(columns[i], columns[j]) / (sigma * sigma) + if i == j { precision[i] } else { 0.0 };
        }
        right[i] = dot(columns[i], &target) / (sigma * sigma);
    }
    // Unequal units: scale to a unit diagonal before factorising.
    let scale: Vec<f64> = (0..3).map(|i| normal[i * 3 + i].max(1e-30).sqrt()).collect();
    for i in 0..3 {
        for j in 0..3 {
            normal[i * 3 + j] /= scale[i] * scale[j];
        }
        right[i] /= scale[i];
        normal[i * 3 + i] += 1e-9;
    }
    cholesky(&mut normal, 3);
    let solve = |mut b: Vec<f64>| {
        forward(&normal, &mut b);
        crate::localise::regression::backward(&normal, &mut b);
        b
    };
    let solution = solve(right);
    let variance = solve(vec![1.0, 0.0, 0.0])[0];
    Some((solution[0] / scale[0], variance / (scale[0] * scale[0])))
}
