//! What a history of loads says about their usual course: mean and spread by slot of the day, how a deviation follows from the
//! two slots before it, and how the channels move together.

/// Weight of slots around one when its mean and spread are learned: a normal curve of this width, in slots of 15 minutes.
const SMOOTHING_SLOTS: f64 = 3.0;
/// The same for the memory of deviations.
const MEMORY_SLOTS: f64 = 6.0;
/// Weight of a channel's whole day beside the neighbourhood of a slot when its memory is learned.
const WHOLE_DAY: f64 = 0.6;
/// An innovation's variance is at least this share of the channel's mean one.
const LEAST_VARIANCE: f64 = 0.05;

/// How a standardised deviation follows from the two before it: `d(t) = last d(t-1) + earlier d(t-2) + e`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Course {
    pub last: f64,
    pub earlier: f64,
    /// Standard deviation of e.
    pub spread: f64,
}

/// Learns each channel's course by slot of the day, and gives the innovations in units of their spread, from the third row on.
///
/// Least squares with the moments of neighbouring slots and, as far as they are few, of the channel's whole day.
pub(crate) fn autoregression(deviation: &[f64], channels: usize, slots_per_day: usize) -> (Vec<Course>, Vec<f64>) {
    let width = channels * slots_per_day;
    // d1², d1 d2, d2², d d1, d d2
    let mut moments: [Vec<f64>; 5] = std::array::from_fn(|_| vec![0.0; width]);
    for at in 2 * channels..deviation.len() {
        let (now, one, two) = (deviation[at], deviation[at - channels], deviation[at - 2 * channels]);
        for (moment, value) in moments.iter_mut().zip([one * one, one * two, two * two, now * one, now * two]) {
            moment[at % width] += value;
        }
    }
    let moments = moments.map(|m| with_whole_day(&m, channels, slots_per_day));
    let mut course: Vec<Course> = (0..width).map(|at| memory(std::array::from_fn(|k| moments[k][at]))).collect();
    let mut innovations: Vec<f64> = (2 * channels..deviation.len())
        .map(|at| {
            let Course { last, earlier, .. } = course[at % width];
            deviation[at] - last * deviation[at - channels] - earlier * deviation[at - 2 * channels]
        })
        .collect();
    let days = deviation.len() as f64 / width as f64;
    let mut variance = vec![0.0; width];
    for (k, e) in innovations.iter().enumerate() {
        variance[(k + 2 * channels) % width] += e * e / days;
    }
    let variance = smooth(&variance, channels, slots_per_day, SMOOTHING_SLOTS);
    let floor = by_channel(&variance, channels, slots_per_day);
    for (at, course) in course.iter_mut().enumerate() {
        course.spread = variance[at].max(LEAST_VARIANCE * floor[at % channels]).sqrt().max(1e-6);
    }
    for (k, e) in innovations.iter_mut().enumerate() {
        *e /= course[(k + 2 * channels) % width].spread;
    }
    (course, innovations)
}

/// Least squares of a deviation on the two before it, kept where deviations die out: `|b| < 1`, `|a| < 1 - b`.
fn memory([one, cross, two, to_one, to_two]: [f64; 5]) -> Course {
    let tiny = 1e-9 * (one + two) + 1e-12;
    let (one, two) = (one + tiny, two + tiny);
    let determinant = one * two - cross * cross;
    let earlier = ((one * to_two - cross * to_one) / determinant).clamp(-0.98, 0.98);
    let last = ((to_one - earlier * cross) / one).clamp(-0.99 * (1.0 - earlier), 0.99 * (1.0 - earlier));
    Course { last, earlier, spread: 1.0 }
}

/// Sums of neighbouring slots and of the channel's whole day.
fn with_whole_day(values: &[f64], channels: usize, slots_per_day: usize) -> Vec<f64> {
    let day = by_channel(values, channels, slots_per_day);
    let near = smooth(values, channels, slots_per_day, MEMORY_SLOTS);
    near.iter().enumerate().map(|(at, x)| x + WHOLE_DAY * day[at % channels]).collect()
}

/// Mean over the slots of the day by channel.
fn by_channel(values: &[f64], channels: usize, slots_per_day: usize) -> Vec<f64> {
    let mut out = vec![0.0; channels];
    for (at, v) in values.iter().enumerate() {
        out[at % channels] += v / slots_per_day as f64;
    }
    out
}

pub(crate) fn shrunk_covariance(deviation: &[f64], channels: usize, rows: usize, shrinkage: f64) -> Vec<f64> {
    let mut out = vec![0.0; channels * channels];
    for d in deviation.chunks_exact(channels) {
        for (row, &own) in out.chunks_exact_mut(channels).zip(d) {
            for (x, other) in row.iter_mut().zip(d) {
                *x += own * other;
            }
        }
    }
    for (at, x) in out.iter_mut().enumerate() {
        let share = if at / channels == at % channels { 1.0 } else { 1.0 - shrinkage };
        *x *= share / rows as f64;
        if at / channels == at % channels {
            *x = x.max(1e-6);
        }
    }
    out
}

/// Mean and standard deviation by slot of the day, smoothed around the day; the spread is floored at a tenth of the
/// channel's overall spread.
pub(crate) fn daily_shape(values: &[f64], channels: usize, slots_per_day: usize) -> (Vec<f64>, Vec<f64>) {
    let width = channels * slots_per_day;
    let days = (values.len() / width) as f64;
    let mut mean = vec![0.0; width];
    for (at, v) in values.iter().enumerate() {
        mean[at % width] += v / days;
    }
    let mean = smooth(&mean, channels, slots_per_day, SMOOTHING_SLOTS);
    let mut square = vec![0.0; width];
    for (at, v) in values.iter().enumerate() {
        square[at % width] += (v - mean[at % width]).powi(2) / (days - 1.0);
    }
    let square = smooth(&square, channels, slots_per_day, SMOOTHING_SLOTS);
    let mut floor = vec![0.0; channels];
    for (at, s) in square.iter().enumerate() {
        floor[at % channels] += s / slots_per_day as f64;
    }
    let spread =
        square.iter().enumerate().map(|(at, s)| s.max(0.01 * floor[at % channels]).sqrt().max(1e-12)).collect();
    (mean, spread)
}

/// A weighted mean over neighbouring slots, around the clock; the width keeps its meaning in hours.
fn smooth(values: &[f64], channels: usize, slots_per_day: usize, width: f64) -> Vec<f64> {
    let width = width * slots_per_day as f64 / 96.0;
    let reach = ((3.0 * width) as usize).min(slots_per_day.saturating_sub(1) / 2);
    let weights: Vec<f64> =
        (0..=2 * reach).map(|k| (-0.5 * ((k as f64 - reach as f64) / width).powi(2)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let mut out = vec![0.0; values.len()];
    for slot in 0..slots_per_day {
        for (k, w) in weights.iter().enumerate() {
            let from = (slot + slots_per_day + k - reach) % slots_per_day * channels;
            for c in 0..channels {
                out[slot * channels + c] += w / sum * values[from + c];
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Draw;

    #[test]
    fn a_known_course_is_learned() {
        let mut draw = Draw::new(5);
        let (mut one, mut two) = (0.0, 0.0);
        let deviation: Vec<f64> = (0..96 * 200)
            .map(|_| {
                let now = 0.5 * one + 0.3 * two + 0.4 * draw.normal();
                (one, two) = (now, one);
                now
            })
            .collect();
        let (course, innovations) = autoregression(&deviation, 1, 96);
        for course in &course {
            assert!((course.last - 0.5).abs() < 0.06 && (course.earlier - 0.3).abs() < 0.06, "{course:?}");
            assert!((course.spread - 0.4).abs() < 0.04, "{course:?}");
        }
        let variance = innovations.iter().map(|e| e * e).sum::<f64>() / innovations.len() as f64;
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
    }

    #[test]
    fn a_channel_that_never_moves_has_no_memory_that_grows() {
        let (course, _) = autoregression(&[0.0; 48], 1, 24);
        assert!(course.iter().all(|c| c.last == 0.0 && c.earlier == 0.0 && c.spread > 0.0));
        // a ramp would be continued for ever; the memory still dies out
        let ramp: Vec<f64> = (0..96).map(f64::from).collect();
        let (course, _) = autoregression(&ramp, 1, 24);
        for c in course {
            assert!(c.earlier.abs() < 1.0 && c.last.abs() < 1.0 - c.earlier, "{c:?}");
        }
    }
}
