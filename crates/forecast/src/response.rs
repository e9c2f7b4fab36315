//! Demand response: what a load would have been without the event, how good such a claim is, and what the event changed.
//!
//! Baselines are chosen per group by back-test on past days without an event, and every claim carries its bias and CVRMSE. Energy is
//! judged by means, not medians: medians are a fifth low at households. No baseline reaches a market's limits at a single household.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::trees::Draws;

/// A way to a baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Baseline {
    /// Mean of the ten last like days.
    TenOfTen,
    /// Mean of the five of the ten last like days with most energy.
    HighFiveOfTen,
    /// Ten of ten, scaled by the same day's three hours that end an hour before the event, by 20 % at most. As CAISO's rule is
    /// remembered; its text could not be had.
    CaisoRatio,
    /// Expectation of the forecast.
    Model,
    /// The same, moved by half of the same day's difference before the event; for loads without much solar and of 25 homes or more.
    ModelHalfAdjusted,
    /// The same, moved by the share of the same day's difference that held on the past days, 0 to 1: none where the hours before say
    /// nothing (one home, solar), most of it at a substation.
    ModelAdjusted,
}

impl Baseline {
    /// All of them.
    pub const ALL: [Baseline; 6] = [
        Self::TenOfTen,
        Self::HighFiveOfTen,
        Self::CaisoRatio,
        Self::Model,
        Self::ModelHalfAdjusted,
        Self::ModelAdjusted,
    ];

    /// As shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::TenOfTen => "10 of 10",
            Self::HighFiveOfTen => "high 5 of 10",
            Self::CaisoRatio => "10 of 10, same-day ratio",
            Self::Model => "forecast mean",
            Self::ModelHalfAdjusted => "forecast mean, half same-day difference",
            Self::ModelAdjusted => "forecast mean, learnt share of the same-day difference",
        }
    }
}

/// One day as the baselines see it; all slices by slot of the local day, kWh, NaN = missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Day {
    /// What was measured.
    pub actual: Vec<f32>,
    /// Expectations of the forecast made at the midnight before.
    pub expected: Vec<f32>,
}

const LIKE_DAYS: usize = 10;
const RATIO_MOST: f32 = 0.2;

/// The baseline of the window on `day`; `past` = like days before it (same type, no event), the latest first. `None` with too few
/// days or readings.
pub fn baseline(kind: Baseline, day: &Day, past: &[&Day], window: Range<usize>) -> Option<Vec<f32>> {
    let slots_of_hour = (day.actual.len() / 24).max(1);
    // three hours that end an hour before the event
    let before = window.start.checked_sub(4 * slots_of_hour)?..window.start.checked_sub(slots_of_hour)?;
    let model = || {
        let part = day.expected.get(window.clone())?;
        part.iter().all(|v| v.is_finite()).then(|| part.to_vec())
    };
    let wanted = |kind: Baseline| -> Option<(Vec<f32>, f32)> {
        let mut days: Vec<&Day> =
            past.iter().copied().filter(|d| sum(&d.actual, &window).is_some()).take(LIKE_DAYS).collect();
        if days.len() < LIKE_DAYS {
            return None;
        }
        if kind == Baseline::HighFiveOfTen {
            let energy = |d: &Day| sum(&d.actual, &(0..d.actual.len())).unwrap_or(0.0);
            days.sort_by(|a, b| energy(b).total_cmp(&energy(a)));
            days.truncate(LIKE_DAYS / 2);
        }
        let n = days.len() as f32;
        let mean = window.clone().map(|s| days.iter().map(|d| d.actual[s]).sum::<f32>() / n).collect();
        let earlier = days.iter().filter_map(|d| sum(&d.actual, &before)).sum::<f32>() / n;
        Some((mean, earlier))
    };
    match kind {
        Baseline::TenOfTen | Baseline::HighFiveOfTen => wanted(kind).map(|w| w.0),
        Baseline::CaisoRatio => {
            let (mean, earlier) = wanted(kind)?;
            let today = sum(&day.actual, &before)?;
            let ratio = if earlier.abs() > 1e-6 { today / earlier } else { 1.0 };
            let ratio = ratio.clamp(1.0 - RATIO_MOST, 1.0 + RATIO_MOST);
            Some(mean.into_iter().map(|v| v * ratio).collect())
        }
        Baseline::Model => model(),
        Baseline::ModelHalfAdjusted | Baseline::ModelAdjusted => {
            let share = if kind == Baseline::ModelAdjusted { share_that_held(past, &before, &window)? } else { 0.5 };
            let difference = mean_error(day, &before)?;
            model().map(|m| m.into_iter().map(|v| v + share * difference).collect())
        }
    }
}

/// Days the share is learnt from at most, and by how much more than seen a difference before the event is taken to vary.
const SHARE_DAYS: usize = 40;
const SHRINK: f32 = 1.1;

/// The share of the forecast's error before the window that was there in the window too, 0 to 1, from the past days.
fn share_that_held(past: &[&Day], before: &Range<usize>, window: &Range<usize>) -> Option<f32> {
    let errors: Vec<(f32, f32)> =
        past.iter().filter_map(|d| Some((mean_error(d, before)?, mean_error(d, window)?))).take(SHARE_DAYS).collect();
    let along: f32 = errors.iter().map(|(b, w)| b * w).sum();
    let size: f32 = errors.iter().map(|(b, _)| b * b).sum();
    (errors.len() >= LIKE_DAYS).then(|| (along / (SHRINK * size).max(1e-9)).clamp(0.0, 1.0))
}

/// Mean of measured minus expected, kWh of an interval.
fn mean_error(day: &Day, range: &Range<usize>) -> Option<f32> {
    Some((sum(&day.actual, range)? - sum(&day.expected, range)?) / range.len().max(1) as f32)
}

fn sum(values: &[f32], range: &Range<usize>) -> Option<f32> {
    let total: f32 = values.get(range.clone())?.iter().sum();
    total.is_finite().then_some(total)
}

/// How good a baseline was on days without an event.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Root mean square error by mean load.
    pub cvrmse: f64,
    /// (Baseline − actual) by actual, over all days.
    pub bias: f64,
    /// Mean |error of the window's energy| by mean |energy|.
    pub energy_error: f64,
    /// Days tested.
    pub days: usize,
}

/// Back-test on days without an event, the latest last; each with the like days before it. `None` when no day could be tested.
pub fn back_test(kind: Baseline, days: &[Day], window: Range<usize>) -> Option<Quality> {
    back_test_from(kind, days, 0, window)
}

/// The same, judged from day `first` on; the days before it are only looked back on.
pub fn back_test_from(kind: Baseline, days: &[Day], first: usize, window: Range<usize>) -> Option<Quality> {
    let (mut squares, mut error, mut size, mut energy, mut energies, mut n, mut tested) =
        (0.0, 0.0, 0.0, 0.0, 0.0, 0u32, 0);
    for (at, day) in days.iter().enumerate().skip(first) {
        let past: Vec<&Day> = days[..at].iter().rev().collect();
        let (Some(base), Some(actual)) = (baseline(kind, day, &past, window.clone()), sum(&day.actual, &window)) else {
            continue;
        };
        for (b, slot) in base.iter().zip(window.clone()) {
            squares += f64::from(b - day.actual[slot]).powi(2);
            error += f64::from(b - day.actual[slot]);
            size += f64::from(day.actual[slot]);
            n += 1;
        }
        energy += f64::from((base.iter().sum::<f32>() - actual).abs());
        energies += f64::from(actual.abs());
        tested += 1;
    }
    (tested > 0 && size.abs() > 0.0).then(|| Quality {
        cvrmse: (squares / f64::from(n)).sqrt() / (size.abs() / f64::from(n)),
        bias: error / size.abs(),
        energy_error: energy / energies.max(1e-12),
        days: tested,
    })
}

/// The baseline with the least CVRMSE among those with a bias of 10 % at most (of all, when none keeps that).
pub fn choose(days: &[Day], window: Range<usize>) -> Option<(Baseline, Quality)> {
    choose_for_group(&[days], window)
}

/// One baseline for a group of loads: the least median CVRMSE of its members among those with a median bias of 10 % at most. The quality is
/// the members' median, figure by figure.
pub fn choose_for_group(members: &[&[Day]], window: Range<usize>) -> Option<(Baseline, Quality)> {
    let tested: Vec<(Baseline, Quality)> = Baseline::ALL
        .into_iter()
        .filter_map(|kind| {
            let all: Vec<Quality> = members.iter().filter_map(|days| back_test(kind, days, window.clone())).collect();
            Some((kind, median_quality(&all)?))
        })
        .collect();
    let fair: Vec<(Baseline, Quality)> = tested.iter().copied().filter(|t| t.1.bias.abs() <= 0.1).collect();
    let pool = if fair.is_empty() { tested } else { fair };
    pool.into_iter().min_by(|a, b| a.1.cvrmse.total_cmp(&b.1.cvrmse))
}

/// Figure by figure; `None` of nothing.
pub fn median_quality(all: &[Quality]) -> Option<Quality> {
    let middle = |of: &dyn Fn(&Quality) -> f64| {
        let mut values: Vec<f64> = all.iter().map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        let n = values.len();
        if n % 2 == 1 { values[n / 2] } else { 0.5 * (values[n / 2 - 1] + values[n / 2]) }
    };
    (!all.is_empty()).then(|| Quality {
        cvrmse: middle(&|q| q.cvrmse),
        bias: middle(&|q| q.bias),
        energy_error: middle(&|q| q.energy_error),
        days: all.iter().map(|q| q.days).min().unwrap_or(0),
    })
}

/// One window of one day: what the baseline said and what was measured, kWh.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    pub baseline: f64,
    pub actual: f64,
}

/// What an event changed, as a share of the baseline; negative = less was used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reduction {
    pub change: f64,
    /// 90 % interval.
    pub interval: (f64, f64),
    /// The same for days on which nothing happened: must hold 0, or the claim is worth nothing.
    pub placebo: f64,
    pub placebo_interval: (f64, f64),
}

impl Reduction {
    /// Whether the interval excludes no change and the placebo's does not.
    pub fn is_shown(&self) -> bool {
        let without_zero = |i: (f64, f64)| i.0 > 0.0 || i.1 < 0.0;
        without_zero(self.interval) && !without_zero(self.placebo_interval)
    }
}

const DRAWS: usize = 2_000;

/// Change on event days against quiet days (difference in differences on the baseline), intervals by drawing days anew, seeded.
/// `None` with fewer than five days of either.
pub fn reduction(events: &[Claim], quiet: &[Claim], seed: u64) -> Option<Reduction> {
    if events.len() < 5 || quiet.len() < 5 {
        return None;
    }
    let share = |claims: &[Claim]| {
        let (base, actual) = claims.iter().fold((0.0, 0.0), |(b, a), c| (b + c.baseline, a + c.actual));
        actual / base.max(1e-12) - 1.0
    };
    let mut draws = Draws::new(seed);
    let mut draw = |claims: &[Claim]| -> Vec<Claim> {
        (0..claims.len()).map(|_| claims[(draws.bits() % claims.len() as u64) as usize]).collect()
    };
    let interval = |mut values: Vec<f64>| {
        values.sort_unstable_by(f64::total_cmp);
        (values[DRAWS / 20], values[DRAWS - 1 - DRAWS / 20])
    };
    let change = interval((0..DRAWS).map(|_| share(&draw(events)) - share(&draw(quiet))).collect());
    // the placebo: every second quiet day against the others
    let half = |odd: usize| quiet.iter().copied().skip(odd).step_by(2).collect::<Vec<_>>();
    let (a, b) = (half(0), half(1));
    let placebo = interval((0..DRAWS).map(|_| share(&draw(&a)) - share(&draw(&b))).collect());
    Some(Reduction {
        change: share(events) - share(quiet),
        interval: change,
        placebo: share(&a) - share(&b),
        placebo_interval: placebo,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(count: usize, expected_off: f32) -> Vec<Day> {
        let mut draws = Draws::new(3);
        (0..count)
            .map(|d| {
                let level = 10.0 + (d as f32 * 0.9).sin() + draws.unit();
                let actual: Vec<f32> = (0..48).map(|s| level + (s as f32 / 8.0).cos() + 0.2 * draws.unit()).collect();
                let expected = (0..48).map(|s| level + (s as f32 / 8.0).cos() + expected_off).collect();
                Day { actual, expected }
            })
            .collect()
    }

    #[test]
    fn the_back_test_chooses_what_fits() {
        let window = 32..40;
        let good = choose(&days(60, 0.1), window.clone()).expect("enough days");
        assert!(matches!(good.0, Baseline::Model | Baseline::ModelHalfAdjusted | Baseline::ModelAdjusted), "{good:?}");
        let poor = choose(&days(60, 6.0), window.clone()).expect("enough days");
        assert!(!matches!(poor.0, Baseline::Model), "a biased forecast is not chosen: {poor:?}");
        assert!(choose(&[], window).is_none());
    }

    #[test]
    fn the_share_of_the_mornings_error_is_what_held_before() {
        let mut draws = Draws::new(4);
        // mornings are off by e, evenings by `held` of it
        let mut world = |held: f32| -> Vec<Day> {
            (0..60)
                .map(|_| {
                    let e = draws.unit() - 0.5;
                    let off = |s: usize| if s < 31 { e } else { held * e };
                    Day { actual: (0..48).map(|s| 5.0 + off(s)).collect(), expected: vec![5.0; 48] }
                })
                .collect()
        };
        for (held, least, most) in [(0.0, 0.0, 0.001), (0.8, 0.7, 0.76), (-0.5, 0.0, 0.001)] {
            let days = world(held);
            let past: Vec<&Day> = days.iter().rev().collect();
            let share = share_that_held(&past, &(24..30), &(32..40)).expect("enough days");
            assert!((least..=most).contains(&share), "{held}: {share}");
        }
        let (steady, jumpy) = (world(0.9), world(0.9));
        let (kind, quality) = choose_for_group(&[&steady, &jumpy], 32..40).expect("enough days");
        assert_eq!(kind, Baseline::ModelAdjusted, "{quality:?}");
        assert!(median_quality(&[]).is_none());
    }

    #[test]
    fn high_five_is_above_ten_of_ten() {
        let all = days(30, 0.0);
        let past: Vec<&Day> = all[..20].iter().rev().collect();
        let of = |kind| baseline(kind, &all[20], &past, 32..40).expect("enough days").iter().sum::<f32>();
        assert!(of(Baseline::HighFiveOfTen) > of(Baseline::TenOfTen));
        assert!(baseline(Baseline::TenOfTen, &all[20], &past[..9], 32..40).is_none(), "nine days are not ten");
        assert!(baseline(Baseline::CaisoRatio, &all[20], &past, 2..6).is_none(), "no room before the event");
    }

    #[test]
    fn a_reduction_is_found_and_a_placebo_is_not() {
        let mut draws = Draws::new(9);
        let mut claims = |n: usize, factor: f64| -> Vec<Claim> {
            (0..n)
                .map(|_| Claim { baseline: 100.0, actual: 100.0 * factor * (0.9 + 0.2 * f64::from(draws.unit())) })
                .collect()
        };
        let (events, quiet, same) = (claims(20, 0.9), claims(60, 1.0), claims(20, 1.0));
        let found = reduction(&events, &quiet, 1).expect("enough days");
        assert!(found.is_shown() && (found.change + 0.1).abs() < 0.03, "{found:?}");
        assert!(!reduction(&same, &quiet, 1).expect("enough days").is_shown());
        assert!(reduction(&events[..4], &quiet, 1).is_none());
    }
}
