//! The 90 % intervals of unaccounted energy hold the truth about nine times in ten: not much less, which would accuse, and not much
//! more, which would hide.

use std::sync::LazyLock;

use crate::coverage_world::{Outcome, Source, WATCHED, covered, draw};
use crate::neighbourhood::Dice;

static OUTCOMES: LazyLock<Vec<Outcome>> = LazyLock::new(|| {
    let mut dice = Dice::new(2_026);
    (0..1_000).map(|_| draw(&mut dice, &Source::ALL)).collect()
});

#[test]
fn ninety_per_cent_intervals_of_an_hour_and_a_day_hold_the_truth() {
    let outcomes = &*OUTCOMES;
    let (hour, day) = (covered(outcomes.iter().map(|o| &o.hour)), covered(outcomes.iter().map(|o| &o.day)));
    assert!((0.87..=0.93).contains(&hour) && (0.87..=0.93).contains(&day), "hour {hour:.3}, day {day:.3}");
}

#[test]
fn no_kind_of_zone_is_held_for_surer_than_it_is() {
    let outcomes = &*OUTCOMES;
    let least = |what: &str, of: &dyn Fn(&Outcome) -> bool| {
        let chosen: Vec<&Outcome> = outcomes.iter().filter(|o| of(o)).collect();
        let day = covered(chosen.iter().map(|o| &o.day));
        // 0.87 less two standard errors of so few draws.
        let least = 0.87 - 2.0 * (0.87 * 0.13 / chosen.len() as f64).sqrt();
        assert!(day >= least, "{what}: {day:.3} of {} draws", chosen.len());
    };
    (0..3).for_each(|late| least(&format!("{late} meters late"), &|o| o.late == late));
    WATCHED.iter().for_each(|days| least(&format!("watched for {days} days"), &|o| o.days == *days));
}
