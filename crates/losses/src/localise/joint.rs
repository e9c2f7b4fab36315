//! Place of an unmetered, varying connection on a radial feeder: the likelihood of all voltages of all slots together, with the
//! true impedance of every cable unknown.
//!
//! E_i(t) = measured − modelled voltage of meter i. With f_b(t) the modelled fall over cable section b, δ_b its relative
//! impedance error, s(t) the tap's power and φ_bk the fall over b per watt drawn at k:
//! `E_i(t) = o_i − Σ_{b above i} [δ_b f_b(t) + a (1 + δ_b) φ_bk s(t)] + c(t) + noise`,
//! o_i the meter's offset (free), c(t) the observer's own voltage noise (common to all), δ_b ~ N(0, 0.1²), a ~ N(1, 0.25²).
//! A month of ordinary load reveals the impedances of the sections that matter; the tap is placed with what is learnt. The data enter
//! through second moments once; every candidate k then costs one Gaussian marginal likelihood over (δ, a), linearised at its maximum.
//! Sections are cables between connections and junctions. Meshed networks have none: see [`crate::localise::tap`].

use crate::localise::feeder::Feeder;
use crate::localise::regression::{backward, cholesky, dot, forward};
use crate::localise::tap::Place;

/// What is believed before the voltages are looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlacePrior {
    /// Relative standard deviation of a section's impedance.
    pub impedance_sd: f64,
    /// Standard deviation of the tap's power relative to the balance's.
    pub amplitude_sd: f64,
}

impl Default for PlacePrior {
    fn default() -> Self {
        Self { impedance_sd: 0.1, amplitude_sd: 0.25 }
    }
}

/// Linearisations per candidate.
const STEPS: usize = 3;
/// Fewest slots with voltage for a meter to count.
const LEAST_SLOTS: usize = 48;

/// Second moments of falls, tap and voltage errors, in units of the voltage noise. n = sections.
struct Moments {
    n: usize,
    /// f'f, n × n.
    falls: Vec<f64>,
    /// f's by (section of f, section of the tap's fall), n × n.
    cross: Vec<f64>,
    /// s's by pairs of sections, n × n.
    tap: Vec<f64>,
    /// −f'E.
    falls_error: Vec<f64>,
    /// −s'E by section.
    tap_error: Vec<f64>,
}

/// All connections by rising misfit, given the tap's power in W by slot; `None` when the network is not radial or no voltage was
/// measured.
pub fn places(feeder: &Feeder, power_w: &[f64], prior: PlacePrior) -> Option<Vec<Place>> {
    let moments = moments(feeder, power_w)?;
    let mut seen: Vec<(usize, Place)> = Vec::new();
    let mut places: Vec<Place> = Vec::new();
    for point in (0..feeder.points()).filter(|&k| !feeder.generator[k]) {
        let bus = feeder.bus_of_point[point];
        let place = match seen.iter().find(|(b, _)| *b == bus) {
            Some((_, place)) => Place { point, ..*place },
            None => {
                let place = weigh(feeder, &moments, point, prior);
                seen.push((bus, place));
                place
            }
        };
        places.push(place);
    }
    places.sort_by(|a, b| a.misfit.total_cmp(&b.misfit));
    Some(places)
}

fn moments(feeder: &Feeder, power_w: &[f64]) -> Option<Moments> {
    let n = feeder.sections.len();
    if n == 0 {
        return None;
    }
    let slots = feeder.slots();
    let centre = |values: &[f64]| -> Vec<f64> {
        let mean = values.iter().sum::<f64>() / slots as f64;
        values.iter().map(|v| v - mean).collect()
    };
    let falls: Vec<Vec<f64>> = feeder.sections.iter().map(|s| centre(&s.fall_pu)).collect();
    let tap = centre(power_w);
    let mut gram = vec![0.0; n * n];
    for b in 0..n {
        for c in 0..=b {
            gram[b * n + c] = dot(&falls[b], &falls[c]);
            gram[c * n + b] = gram[b * n + c];
        }
    }
    let with_tap: Vec<f64> = falls.iter().map(|f| dot(f, &tap)).collect();
    let whole = Whole { falls: &falls, tap: &tap, gram: &gram, with_tap: &with_tap, tap_square: dot(&tap, &tap) };
    let (mut meters, mut below, mut total) = (0.0, vec![0.0; n], vec![0.0; slots]);
    let square = vec![0.0; n * n];
    let mut sum = Moments {
        n,
        falls: square.clone(),
        cross: square.clone(),
        tap: square,
        falls_error: vec![0.0; n],
        tap_error: vec![0.0; n],
    };
    for point in 0..feeder.points() {
        if let Some(error) = add_meter(feeder, point, &whole, &mut sum) {
            meters += 1.0;
            feeder.paths[point].iter().for_each(|&b| below[b] += 1.0);
            total.iter_mut().zip(&error).for_each(|(t, e)| *t += e);
        }
    }
    if meters == 0.0 {
        return None;
    }
    remove_common(&mut sum, &whole, &below, &total, common_share(feeder, meters));
    let scale = 1.0 / feeder.class.voltage_random_sd.powi(2).max(1e-12);
    let Moments { falls, cross, tap, falls_error, tap_error, .. } = &mut sum;
    for values in [falls, cross, tap, falls_error, tap_error] {
        values.iter_mut().for_each(|v| *v *= scale);
    }
    Some(sum)
}

/// Share of the meters' mean that is the observer's noise, per meter: (I − share·11') inverts the noise.
fn common_share(feeder: &Feeder, meters: f64) -> f64 {
    let own = feeder.class.voltage_random_sd.powi(2);
    let common = feeder.observer_class.voltage_random_sd.powi(2);
    common / (own + meters * common).max(1e-18)
}

/// Centred series over all slots with their products.
struct Whole<'a> {
    falls: &'a [Vec<f64>],
    tap: &'a [f64],
    gram: &'a [f64],
    with_tap: &'a [f64],
    tap_square: f64,
}

/// Adds one meter's moments over the slots it measured; answers its centred error (0 where missing).
fn add_meter(feeder: &Feeder, point: usize, whole: &Whole, sum: &mut Moments) -> Option<Vec<f64>> {
    let (n, path) = (sum.n, &feeder.paths[point]);
    let mut error: Vec<f64> =
        feeder.voltage_pu[point].iter().zip(&feeder.modelled_pu[point]).map(|(m, v)| m - v).collect();
    let missing: Vec<usize> = (0..error.len()).filter(|&t| error[t].is_nan()).collect();
    let known = error.len() - missing.len();
    if known < LEAST_SLOTS {
        return None;
    }
    let count = known as f64;
    let mean = error.iter().filter(|e| !e.is_nan()).sum::<f64>() / count;
    error.iter_mut().for_each(|e| *e = if e.is_nan() { 0.0 } else { *e - mean });
    let absent = |values: &[f64]| missing.iter().map(|&t| values[t]).sum::<f64>();
    // Over all slots the sums are 0, so over the known ones they are the missing ones' with the other sign.
    let sums: Vec<f64> = path.iter().map(|&b| absent(&whole.falls[b])).collect();
    let tap_sum = absent(whole.tap);
    let tap_square =
        whole.tap_square - missing.iter().map(|&t| whole.tap[t].powi(2)).sum::<f64>() - tap_sum * tap_sum / count;
    let tap_error = dot(whole.tap, &error);
    for (i, &b) in path.iter().enumerate() {
        let fall = &whole.falls[b];
        let gone = missing.iter().map(|&t| fall[t] * whole.tap[t]).sum::<f64>();
        let with_tap = whole.with_tap[b] - gone - sums[i] * tap_sum / count;
        sum.falls_error[b] -= dot(fall, &error);
        sum.tap_error[b] -= tap_error;
        for (j, &c) in path.iter().enumerate() {
            let gone = missing.iter().map(|&t| fall[t] * whole.falls[c][t]).sum::<f64>();
            sum.falls[b * n + c] += whole.gram[b * n + c] - gone - sums[i] * sums[j] / count;
            sum.cross[b * n + c] += with_tap;
            sum.tap[b * n + c] += tap_square;
        }
    }
    Some(error)
}

/// Takes the observer's noise, the same in all meters of a slot, out of the moments.
fn remove_common(sum: &mut Moments, whole: &Whole, below: &[f64], total: &[f64], share: f64) {
    let n = sum.n;
    let tap_total = dot(whole.tap, total);
    for b in 0..n {
        sum.falls_error[b] += share * below[b] * dot(&whole.falls[b], total);
        sum.tap_error[b] += share * below[b] * tap_total;
        for c in 0..n {
            let both = share * below[b] * below[c];
            sum.falls[b * n + c] -= both * whole.gram[b * n + c];
            sum.cross[b * n + c] -= both * whole.with_tap[b];
            sum.tap[b * n + c] -= both * whole.tap_square;
        }
    }
}

fn times(matrix: &[f64], vector: &[f64]) -> Vec<f64> {
    let n = vector.len();
    (0..n).map(|row| dot(&matrix[row * n..(row + 1) * n], vector)).collect()
}

/// Twice the negative logarithm of the marginal likelihood of a tap at `point`, up to a constant.
fn weigh(feeder: &Feeder, moments: &Moments, point: usize, prior: PlacePrior) -> Place {
    let n = moments.n;
    let mut per_watt = vec![0.0; n];
    feeder.paths[point].iter().for_each(|&b| per_watt[b] = feeder.sections[b].fall_per_watt[point]);
    let (mut delta, mut amplitude, mut misfit) = (vec![0.0; n], 1.0, f64::INFINITY);
    let (prior_delta, prior_amplitude) = (prior.impedance_sd.powi(-2), prior.amplitude_sd.powi(-2));
    let size = n + 1;
    for _ in 0..STEPS {
        // θ = fixed + D δ + w a is the tap's fall per section, linearised at (δ, a).
        let d: Vec<f64> = per_watt.iter().map(|u| amplitude * u).collect();
        let w: Vec<f64> = per_watt.iter().zip(&delta).map(|(u, e)| (1.0 + e) * u).collect();
        let fixed: Vec<f64> = d.iter().zip(&delta).map(|(d, e)| -d * e).collect();
        let (cross_w, tap_w) = (times(&moments.cross, &w), times(&moments.tap, &w));
        let (cross_fixed, tap_fixed) = (times(&moments.cross, &fixed), times(&moments.tap, &fixed));
        let mut normal = vec![0.0; size * size];
        let mut right = vec![0.0; size];
        for b in 0..n {
            for c in 0..=b {
                normal[b * size + c] = moments.falls[b * n + c]
                    + moments.cross[b * n + c] * d[c]
                    + moments.cross[c * n + b] * d[b]
                    + moments.tap[b * n + c] * d[b] * d[c];
            }
            normal[b * size + b] += prior_delta;
            normal[n * size + b] = cross_w[b] + d[b] * tap_w[b];
            right[b] = moments.falls_error[b] + d[b] * moments.tap_error[b] - cross_fixed[b] - d[b] * tap_fixed[b];
        }
        normal[n * size + n] = dot(&w, &tap_w) + prior_amplitude;
        right[n] = dot(&w, &moments.tap_error) - dot(&w, &tap_fixed) + prior_amplitude;
        cholesky(&mut normal, size);
        forward(&normal, &mut right);
        let explained = dot(&right, &right);
        let determinant: f64 = (0..size).map(|i| 2.0 * normal[i * size + i].ln()).sum();
        misfit =
            dot(&fixed, &tap_fixed) - 2.0 * dot(&fixed, &moments.tap_error) + prior_amplitude - explained + determinant;
        backward(&normal, &mut right);
        amplitude = right[n].clamp(0.2, 3.0);
        delta.copy_from_slice(&right[..n]);
        delta.iter_mut().for_each(|e| *e = e.clamp(-0.6, 1.5));
    }
    Place { point, misfit, amplitude }
}
