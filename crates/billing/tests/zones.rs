//! Every zone of the tz database: what is billed by period is all the time that passes, and each instant is in the period that the clock on
//! the wall says.

use billing::{calendar::day_start, plan::Plan, tariff::Tariff};
use jiff::{Timestamp, civil::date, tz::TimeZone};

fn tariff(zone: &str) -> Tariff {
    let text = format!(
        r#"{{"schema":"gridtally-tariff/1","id":"z","name":"z","currency":"EUR","minor_digits":2,"timezone":"{zone}","rounding":{{}},
        "periods":{{"main":[{{"name":"night","when":[{{"from":"22:30","to":"05:45"}}]}},
        {{"name":"sunday","when":[{{"days":["sun"]}}]}},{{"name":"day","when":[{{}}]}}]}},
        "charges":[{{"code":"E","name":"E","basis":"energy","rates":[{{"period":"night","rate":"1"}},{{"period":"sunday","rate":"2"}},
        {{"period":"day","rate":"3"}}]}}]}}"#
    );
    Tariff::read("tariff.json", &text).unwrap_or_else(|findings| panic!("{zone}: {findings:?}"))
}

/// The period by the wall clock, asked of the time library instant by instant.
fn period_on_the_wall(zone: &TimeZone, at_s: i64) -> u16 {
    let local = zone.to_datetime(Timestamp::from_second(at_s).unwrap());
    let minute = u32::from(local.hour().unsigned_abs()) * 60 + u32::from(local.minute().unsigned_abs());
    if !(345..1350).contains(&minute) {
        0
    } else if local.weekday() == jiff::civil::Weekday::Sunday {
        1
    } else {
        2
    }
}

#[test]
fn hours_billed_are_hours_elapsed_in_every_zone() {
    let mut zones = 0;
    for name in jiff::tz::db().available() {
        let tariff = tariff(name.as_str());
        zones += 1;
        // Years with changed rules: Samoa skipped a day at the end of 2011, Russia, Turkey, Egypt, Mexico and Greenland changed.
        for year in [2011, 2014, 2016, 2022, 2023, 2025] {
            let (from, to) = (date(year, 1, 1), date(year + 1, 1, 1));
            let plan = Plan::new(&tariff, from, to, (from, to)).unwrap();
            let mut reached = plan.from_s;
            for (start_s, end_s, period) in plan.calendars[0].iter() {
                assert_eq!(start_s, reached, "{name} {year}: a gap or an overlap");
                assert!(end_s > start_s && period.is_some(), "{name} {year}");
                reached = end_s;
            }
            assert_eq!(reached, plan.to_s, "{name} {year}");
            let mut days_s = 0;
            let mut day = from;
            while day < to {
                let next = day.tomorrow().unwrap();
                let (begins, ends) = (day_start(&tariff.zone, day).unwrap(), day_start(&tariff.zone, next).unwrap());
                assert!((0..=48 * 3600).contains(&(ends - begins)), "{name} {day}: {} s", ends - begins);
                days_s += ends - begins;
                day = next;
            }
            assert_eq!(days_s, plan.to_s - plan.from_s, "{name} {year}");
        }
    }
    assert!(zones > 400, "{zones} zones");
}

#[test]
fn each_quarter_hour_around_a_change_is_in_the_period_of_the_wall_clock() {
    let mut looked_at = 0u32;
    for name in jiff::tz::db().available() {
        let tariff = tariff(name.as_str());
        let (from, to) = (date(2025, 1, 1), date(2026, 1, 1));
        let plan = Plan::new(&tariff, from, to, (from, to)).unwrap();
        let start = Timestamp::from_second(plan.from_s).unwrap();
        let changes = tariff.zone.following(start).map(|change| change.timestamp().as_second());
        let changes: Vec<i64> = changes.take_while(|at| *at < plan.to_s).chain([plan.from_s + 40 * 86_400]).collect();
        for change in changes {
            for quarter in -50i64..50 {
                let at_s = (change + quarter * 900).clamp(plan.from_s, plan.to_s - 1);
                let (period, until_s) = plan.calendars[0].at(at_s);
                assert_eq!(period, Some(period_on_the_wall(&tariff.zone, at_s)), "{name} at {at_s}");
                assert!(until_s > at_s, "{name}");
                looked_at += 1;
            }
        }
    }
    assert!(looked_at > 50_000, "{looked_at}");
}
