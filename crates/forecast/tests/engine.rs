//! The engine as a whole: no look ahead, the same numbers on any number of threads, sums, a cold start, clear refusals.

use forecast::calendar::{Clock, DAY_S, Holidays};
use forecast::engine::{Engine, Forecast, Member, Plan, World};
use forecast::trees::{Draws, Settings};
use forecast::{ForecastError, Origin, Series};

/// Homes with a daily shape, a weekly one and noise; the last member is their sum.
fn town(homes: usize, days: i64, spoil_after: Option<i64>) -> Vec<Member> {
    let mut sums = vec![0.0f32; (days * 48) as usize];
    let mut members: Vec<Member> = Vec::new();
    for home in 0..homes {
        let mut draws = Draws::new(home as u64 + 1);
        let mut rows = Vec::new();
        for at in 0..days * 48 {
            let (day, slot) = (at / 48, (at % 48) as f32);
            let weekend = if day % 7 >= 5 { 0.2 } else { 0.0 };
            let kwh = (0.3 + weekend + 0.2 * (slot * 0.26).sin()) * (0.5 + draws.unit());
            sums[at as usize] += kwh;
            rows.push((at, kwh));
        }
        members.push(Member {
            series: series(&format!("H{home}"), &rows, spoil_after),
            kind: "household".into(),
            parent: Some(homes),
        });
    }
    let rows: Vec<(i64, f32)> = sums.into_iter().enumerate().map(|(at, kwh)| (at as i64, kwh)).collect();
    members.push(Member { series: series("T", &rows, spoil_after), kind: "transformer".into(), parent: None });
    members
}

fn series(id: &str, rows: &[(i64, f32)], spoil_after: Option<i64>) -> Series {
    let end = |at: i64| (at + 1) * 1_800;
    let value = |at: i64, kwh: f32| if spoil_after.is_some_and(|t| end(at) > t) { 77.0 } else { kwh };
    let rows: Vec<(i64, f32)> = rows.iter().map(|(at, kwh)| (end(*at), value(*at, *kwh))).collect();
    Series::new(id, 1_800, &rows).expect("a good series")
}

fn plan(threads: usize) -> Plan {
    let trees = Settings { rounds: 8, bags: 2, leaves: 8, ..Settings::default() };
    Plan { threads, customer_trees: trees, sum_trees: trees, rows_max: 4_000, warm_up_days: 14, ..Plan::default() }
}

fn forecasts(members: &[Member], first: i64, until: i64, threads: usize) -> Result<Vec<Forecast>, ForecastError> {
    let world = World { clock: Clock::Fixed(0), holidays: Holidays::default(), weather: None };
    let mut all = Vec::new();
    let mut engine = Engine::new(members, world.around(), plan(threads))?;
    engine.run::<ForecastError>(Origin::at(first * DAY_S), Origin::at(until * DAY_S), 48, &mut |f| {
        all.extend(f);
        Ok(())
    })?;
    Ok(all)
}

#[test]
fn what_comes_after_an_origin_changes_nothing() {
    let honest = forecasts(&town(3, 70, None), 50, 58, 2).expect("forecasts");
    assert_eq!(honest.len(), 8 * 4);
    for day in [50, 53, 57] {
        let spoilt = forecasts(&town(3, 70, Some(day * DAY_S)), 50, day + 1, 1).expect("forecasts");
        let before: Vec<&Forecast> = honest.iter().filter(|f| f.origin.unix_s() <= day * DAY_S).collect();
        assert_eq!(before, spoilt.iter().collect::<Vec<_>>(), "day {day}, and on one thread as on two");
    }
}

#[test]
fn children_sum_to_their_parent_and_bands_do_not_cross() {
    for day in forecasts(&town(3, 70, None), 56, 59, 2).expect("forecasts").chunks(4) {
        for k in 0..48 {
            let sum: f32 = day[..3].iter().map(|f| f.means[k]).sum();
            assert!((sum - day[3].means[k]).abs() < 1e-5 * sum, "{sum} {}", day[3].means[k]);
            assert!(day.iter().all(|f| f.bands[k].0.is_sorted()));
        }
        let (_, ninety) = day[3].coverage.expect("days were learnt");
        assert!(ninety > 0.7, "{ninety}");
    }
}

#[test]
fn a_week_is_enough_to_begin_and_less_is_refused_by_name() {
    let members = town(1, 20, None);
    assert_eq!(forecasts(&members, 9, 10, 1).expect("a climatology").len(), 2);
    assert!(matches!(forecasts(&members, 4, 5, 1), Err(ForecastError::TooShort { days: 4, .. })));
    let world = World { clock: Clock::Fixed(0), holidays: Holidays::default(), weather: None };
    let mut ring = members.clone();
    ring[1].parent = Some(0);
    assert!(matches!(Engine::new(&ring, world.around(), plan(1)), Err(ForecastError::Request(_))));
    let mut engine = Engine::new(&members, world.around(), plan(1)).expect("good");
    let far = engine.run::<ForecastError>(Origin::at(9 * DAY_S), Origin::at(10 * DAY_S), 96, &mut |_| Ok(()));
    assert!(matches!(far, Err(ForecastError::Request(_))), "two days ahead are refused");
}
