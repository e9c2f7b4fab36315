//! Which transformer and phase a meter really hangs on, from the correlation of voltages.
//!
//! Meters on the same phase of the same transformer see the same upstream voltage. First differences take out slow common
//! movement of the whole grid and constant meter offsets; the reference whose differences correlate best is the likely one,
//! and the margin to the runner-up says how sure that is (Fisher's z, in standard deviations).

/// Verdict on one meter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attachment {
    /// Position of the best reference.
    pub reference: usize,
    pub correlation: f64,
    /// Distance from the second best in standard deviations; below 3 it is a guess.
    pub margin: f64,
}

/// Compares one meter's voltage series with those of known places (transformer phases). `None` when fewer than 16 changes are
/// known in common with any of them, or the voltage does not change. NaN marks missing values.
pub fn attachment(meter: &[f64], references: &[&[f64]]) -> Option<Attachment> {
    const LEAST: usize = 16;
    let mut scores: Vec<(usize, f64, usize)> = references
        .iter()
        .enumerate()
        .filter_map(|(k, reference)| change_correlation(meter, reference).map(|(r, n)| (k, r, n)))
        .filter(|(_, _, n)| *n >= LEAST)
        .collect();
    scores.sort_by(|a, b| b.1.total_cmp(&a.1));
    let &(reference, correlation, n) = scores.first()?;
    let fisher = |r: f64| r.clamp(-0.999_999, 0.999_999).atanh();
    let margin = match scores.get(1) {
        Some(second) => (fisher(correlation) - fisher(second.1)) * ((n as f64 - 3.0) / 2.0).sqrt(),
        None => f64::INFINITY,
    };
    Some(Attachment { reference, correlation, margin })
}

/// Correlation of first differences and how many pairs it rests on.
fn change_correlation(a: &[f64], b: &[f64]) -> Option<(f64, usize)> {
    let pairs: Vec<(f64, f64)> = a
        .windows(2)
        .zip(b.windows(2))
        .map(|(a, b)| (a[1] - a[0], b[1] - b[0]))
        .filter(|(a, b)| a.is_finite() && b.is_finite())
        .collect();
    let n = pairs.len() as f64;
    let (ma, mb) = pairs.iter().fold((0.0, 0.0), |(x, y), (a, b)| (x + a / n, y + b / n));
    let (mut saa, mut sbb, mut sab) = (0.0, 0.0, 0.0);
    for (a, b) in &pairs {
        saa += (a - ma) * (a - ma);
        sbb += (b - mb) * (b - mb);
        sab += (a - ma) * (b - mb);
    }
    let size = (saa * sbb).sqrt();
    (size > 0.0).then(|| (sab / size, pairs.len()))
}

/// Constant offsets of meters' voltages in pu of the modelled voltage, from slots of low load: the median difference between
/// measured and modelled voltage over the `quiet` slots (where drops, and so model errors, are small).
///
/// `measured` and `modelled` are row-major, slots by meters; NaN marks missing values. `None` for a meter without a value.
pub fn meter_offsets(measured: &[f64], modelled: &[f64], meters: usize, quiet: &[usize]) -> Vec<Option<f64>> {
    (0..meters)
        .map(|m| {
            let mut differences: Vec<f64> = quiet
                .iter()
                .filter_map(|s| {
                    let at = s * meters + m;
                    Some(measured.get(at)? - modelled.get(at)?)
                })
                .filter(|d| d.is_finite())
                .collect();
            differences.sort_by(f64::total_cmp);
            let n = differences.len();
            match n {
                0 => None,
                _ if n % 2 == 1 => Some(differences[n / 2]),
                _ => Some(0.5 * (differences[n / 2 - 1] + differences[n / 2])),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Draw;

    #[test]
    fn a_meter_is_found_on_its_phase() {
        let mut draw = Draw::new(5);
        let phases: Vec<Vec<f64>> =
            (0..3).map(|_| (0..200).map(|_| 1.0 + 0.01 * draw.normal()).collect::<Vec<f64>>()).collect();
        let meter: Vec<f64> = phases[2].iter().map(|v| 0.004 + v + 0.004 * draw.normal()).collect();
        let references: Vec<&[f64]> = phases.iter().map(Vec::as_slice).collect();
        let found = attachment(&meter, &references).expect("enough data");
        assert_eq!(found.reference, 2);
        assert!(found.margin > 5.0);
        assert_eq!(attachment(&[1.0; 200], &references), None);
    }

    #[test]
    fn offsets_are_medians_of_quiet_slots() {
        let modelled = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
        let measured = [1.01, f64::NAN, 1.02, f64::NAN, 1.03, f64::NAN, 9.0, 9.0];
        let offsets = meter_offsets(&measured, &modelled, 2, &[0, 1, 2]);
        assert!((offsets[0].expect("three values") - 0.02).abs() < 1e-12);
        assert_eq!(offsets[1], None);
    }
}
