//! Ways around the rules that no single rule sees: each is played by an operator who signs everything himself, and must be refused.

use privacy::{
    Field,
    custodian::Role,
    query::{Adjacency, BillQuery, FaultQuery, Mechanism, Query, Request, Row, SpatialQuery, StatisticQuery},
    theft,
};

use crate::{
    abuse::{by_three, statistic, thieving},
    world::{FIRST, NOW, World, id, refused, signed, weights},
};

fn total(world: &World, home: usize, cells: impl Fn(usize) -> bool) -> Request {
    let mut row = Row { present: vec![0; 11], ..Row::full(id(home), 1, FIRST, 1) };
    (0..672).filter(|k| cells(*k)).for_each(|k| row.mark(k));
    let _ = world;
    signed(Query::Fault(FaultQuery { field: Field::Import, rows: vec![row] }))
}

/// Fifteen readings of one home under fifteen names of a slot.
#[test]
fn one_home_cannot_stand_for_fifteen() {
    let mut world = World::new(15, 1);
    world.fill(15, 96, Field::Import);
    let rows: Vec<Row> = (0..15).map(|k| Row::full(id(3), 1, FIRST + k, 1)).collect();
    let query = SpatialQuery { group: "T1".into(), field: Field::Import, day: FIRST as i64 / 96, slots: 1, rows };
    refused(world.ask(&signed(Query::Spatial(query.clone()))), "different counters");
    refused(world.ask(&signed(Query::Late(query))), "different counters");
}

/// One home's evening among the others' nights.
#[test]
fn homes_of_different_hours_are_not_a_slot() {
    let mut world = World::new(15, 1);
    world.fill(15, 96, Field::Import);
    let rows = (0..15).map(|n| Row::full(id(n), 1, FIRST + if n == 3 { 76 } else { 12 }, 4)).collect();
    let query = SpatialQuery { group: "T1".into(), field: Field::Import, day: FIRST as i64 / 96, slots: 4, rows };
    refused(world.ask(&signed(Query::Spatial(query))), "different counters");
}

/// The clipped readings are nearly the same numbers: a sum of them without one home differs from the first by that home.
#[test]
fn the_clipped_field_is_no_second_sum() {
    let mut world = World::new(16, 1);
    world.fill(16, 96, Field::Import);
    world.fill(16, 96, Field::Clipped);
    let all = world.spatial(0..16, FIRST, 96);
    world.ask(&signed(all)).expect("the first sum");
    let but_one = Query::Spatial(SpatialQuery {
        group: "T1".into(),
        field: Field::Clipped,
        day: FIRST as i64 / 96,
        slots: 96,
        rows: world.rows(0..15, Field::Clipped, FIRST, 96),
    });
    refused(world.ask(&signed(but_one)), "already in a released sum");
}

/// Totals of fourteen homes without one slot, and of the fifteenth with it: the group's sums would give its slot.
#[test]
fn totals_of_the_others_do_not_tell_a_home() {
    let mut world = World::new(15, 1);
    world.fill(15, 672, Field::Import);
    for day in 0..7 {
        let sum = world.spatial(0..15, FIRST + day * 96, 96);
        world.ask(&signed(sum)).expect("a day's sums");
    }
    let whole = total(&world, 14, |_| true);
    world.ask(&whole).expect("a week's total");
    let without = total(&world, 0, |k| k != 300);
    refused(world.ask(&without), "left out of this one");
    // nor by a week that begins a slot later
    let later = Row::full(id(0), 1, FIRST + 1, 671);
    let shifted = Query::Fault(FaultQuery { field: Field::Import, rows: vec![later] });
    refused(world.ask(&signed(shifted)), "left out of this one");
}

/// The same in the other order: the totals first, the sums afterwards.
#[test]
fn a_reading_left_out_of_a_total_comes_into_no_sum() {
    let mut world = World::new(16, 1);
    world.fill(16, 672, Field::Import);
    let without = total(&world, 0, |k| k != 50);
    world.ask(&without).expect("nothing of the week is in a sum yet");
    let sum = world.spatial(0..16, FIRST, 96);
    refused(world.ask(&signed(sum)), "left out of this one");
    let Query::Spatial(mut query) = world.spatial(0..16, FIRST, 96) else { unreachable!() };
    query.rows[0].present[0] &= !(1 << 50);
    world.ask(&signed(Query::Spatial(query))).expect("the sums without that reading");
}

/// Registers of two homes that differ in one hour, both signed by the tariff key.
#[test]
fn two_homes_with_nearly_the_same_register() {
    let mut world = World::new(15, 1);
    world.fill(15, 30 * 96, Field::Import);
    let bill = |world: &World, home: usize, runs: &[(u32, i32)]| {
        let rows = world.rows([home], Field::Import, FIRST, 30 * 96);
        signed(Query::Bill(BillQuery {
            field: Field::Import,
            weights: weights("w", FIRST, runs),
            rows,
            exception: None,
        }))
    };
    let flat = bill(&world, 0, &[(2_880, 3)]);
    world.ask(&flat).expect("a flat tariff");
    let near = bill(&world, 1, &[(1_000, 3), (4, 4), (1_876, 3)]);
    refused(world.ask(&near), "differ from those of other");
    // a combination of three, too
    let half = bill(&world, 2, &[(1_440, 1), (1_440, 2)]);
    world.ask(&half).expect("another tariff");
    let third = bill(&world, 3, &[(1_440, 4), (4, 6), (1_436, 5)]);
    refused(world.ask(&third), "differ from those of other");
    let same = bill(&world, 4, &[(2_880, 3)]);
    world.ask(&same).expect("the same tariff for another home");
}

/// A register signed for a month and asked for with one day left out.
#[test]
fn a_bill_does_not_leave_out_what_is_in_sums() {
    let mut world = World::new(15, 1);
    world.fill(15, 30 * 96, Field::Import);
    for day in 0..2 {
        let sum = world.spatial(0..15, FIRST + day * 96, 96);
        world.ask(&signed(sum)).expect("a day's sums");
    }
    let weights = weights("all", FIRST, &[(2_880, 1)]);
    let mut row = Row::full(id(0), 1, FIRST, 2_880);
    row.present[1] &= !(0b1111);
    let query = |rows| Query::Bill(BillQuery { field: Field::Import, weights: weights.clone(), rows, exception: None });
    refused(world.ask(&signed(query(vec![row.clone()]))), "left out of this one");
    row.present[1] |= 0b1111;
    row.present[20] &= !(0b1111);
    world.ask(&signed(query(vec![row]))).expect("what never came, or is in no sum, may be absent");
}

/// A month's register whose weights lie on one day is a bill of that day; one of four thousand million slots is work without end.
#[test]
fn a_register_is_not_a_day_nor_endless() {
    let mut world = World::new(15, 1);
    world.fill(1, 30 * 96, Field::Import);
    let bill = |world: &World, runs: &[(u32, i32)]| {
        let rows = world.rows([0], Field::Import, FIRST, 30 * 96);
        let weights = weights("w", FIRST, runs);
        signed(Query::Bill(BillQuery { field: Field::Import, weights, rows, exception: None }))
    };
    let day = bill(&world, &[(960, 0), (96, 1), (1_824, 0)]);
    refused(world.ask(&day), "period of 1 days");
    let endless = bill(&world, &[(2_880, 1), (u32::MAX, 0), (u32::MAX, 1)]);
    refused(world.ask(&endless), "more slots than");
    let weekends = bill(&world, &[(480, 0), (192, 1), (480, 0), (192, 1), (1_536, 0)]);
    world.ask(&weekends).expect("weekends");
}

/// The custodian's clock is set back by a month: what was summed up then keeps its members, and an expired approval is no better.
#[test]
fn a_clock_set_back_changes_no_group_of_days_that_are_past() {
    let mut world = World::new(17, 1);
    world.fill(17, 96, Field::Import);
    let sum = world.spatial(0..17, FIRST, 96);
    world.ask(&signed(sum)).expect("today's sum");
    let back = FIRST as i64 / 96 * 86_400 - 10 * 86_400;
    world.group("T1", (0..16).map(id).collect(), back);
    let Query::Spatial(query) = world.spatial([16], FIRST + 96, 96) else { unreachable!() };
    refused(world.ask(&signed(Query::Spatial(query))), "no cells");
    (0..17).for_each(|n| (96..192).for_each(|t| assert!(world.send(id(n), Field::Import, FIRST + t, 0, 9))));
    let all = world.spatial(0..17, FIRST + 96, 96);
    world.ask(&signed(all)).expect("the next day has the members it had: the change came after the newest event");
}

/// A month of one home folded into one day of a statistic would need a month's noise.
#[test]
fn days_cannot_be_folded_into_a_band() {
    let mut world = World::new(15, 1);
    world.fill(15, 10 * 96, Field::Clipped);
    let rows = (0..15).flat_map(|n| (0..10).map(move |d| Row::full(id(n), 1, FIRST + d * 96, 96))).collect();
    let folded = StatisticQuery { rows, adjacency: Adjacency::UserMonth, ..statistic(&world, 96, 1, 500_000) };
    refused(world.ask(&signed(Query::Statistic(folded))), "different counters");
}

/// What it costs a home-day, whatever the release calls what it protects.
#[test]
fn noise_that_hides_a_slot_costs_a_day_ten_times_as_much() {
    let mut world = World::new(15, 1);
    world.fill(15, 96, Field::Clipped);
    let event = |micro| StatisticQuery { adjacency: Adjacency::Event, ..statistic(&world, 1, 96, micro) };
    let (dear, fair) = (event(100_001), event(100_000));
    refused(world.ask(&signed(Query::Statistic(dear))), "exhausted");
    world.ask(&signed(Query::Statistic(fair))).expect("a tenth");
    assert_eq!(world.custodian.state().epsilon_micro(), 1_000_000);
}

/// A window from noon to noon touches the allowances of two days: its noise is that of two.
#[test]
fn a_month_from_noon_has_the_noise_of_one_day_more() {
    let spread = |first: u64| {
        let mut world = World::new(15, 1);
        world.fill(15, 3 * 96, Field::Clipped);
        let answers = (0..400_u64).map(|k| {
            let mut fresh = World::new(15, 1);
            let rows = world.rows(0..15, Field::Clipped, first, 96);
            let truth: i64 = world.truth(
                &Query::Statistic(StatisticQuery { rows: rows.clone(), ..statistic(&world, 96, 1, 1) }),
                Field::Clipped,
            );
            let query = Query::Statistic(StatisticQuery {
                rows,
                adjacency: Adjacency::UserMonth,
                ..statistic(&world, 96, 1, 500_000 + k)
            });
            let answer = fresh.ask(&signed(query.clone())).expect("affordable");
            (world.operator.decode(&query, &[answer]).expect("decodes")[0] - truth).abs() as f64
        });
        answers.sum::<f64>() / 400.0
    };
    // mean magnitude of Laplace noise is its scale: 20 kWh / 0.5, and twice that
    let (day, noon) = (spread(FIRST), spread(FIRST + 48));
    assert!((32_000.0..48_000.0).contains(&day), "{day}");
    assert!((64_000.0..96_000.0).contains(&noon), "{noon}");
}

/// Noise that is scaled to clipped readings hides neither others nor voltages; with a third approval the scores are exact and audited.
#[test]
fn noisy_scores_only_of_clipped_readings() {
    let mut world = World::new(20, 3);
    let query = thieving(&mut world, 20, 7);
    for field in [Field::Import, Field::Voltage] {
        let noisy = privacy::query::TheftQuery { field, epsilon_micro: Some(4_000_000), ..query.clone() };
        refused(world.ask(&by_three(noisy)), "clipped");
    }
    let silent = privacy::query::TheftQuery { field: Field::Clipped, epsilon_micro: Some(0), ..query };
    refused(world.ask(&by_three(silent)), "clipped");
}

/// A series that makes every weight zero but those of a single quarter-hour of the days: the metered sums are the operator's word, so he
/// makes them flat, and nothing is left but what he put in.
#[test]
fn a_made_up_series_does_not_pick_slots() {
    let mut world = World::new(20, 3);
    let mut query = thieving(&mut world, 20, 7);
    query.series.metered.fill(10_000);
    query.series.supplied.fill(10_000 + 20 + 600);
    query.series.supplied[76] += 1_000;
    let picked = theft::signs(&query.series).iter().filter(|sign| **sign != 0).count();
    assert!(picked <= 7, "{picked} slots picked");
    refused(world.ask(&by_three(query)), "could be computed apart");
}

/// Two cases whose series differ in a few slots: the scores' difference would be those slots of every home.
#[test]
fn two_cases_that_differ_in_a_few_slots() {
    let mut world = World::new(20, 3);
    let query = thieving(&mut world, 20, 7);
    world.ask(&by_three(query.clone())).expect("a real case");
    let mut near = query.clone();
    let before = theft::signs(&query.series);
    // a little missing more in a few slots turns the weights there
    for (t, sign) in before.iter().enumerate().filter(|(_, sign)| **sign == -1).take(3).map(|(t, s)| (t, *s)) {
        near.series.supplied[t] += 2_000 * -sign;
    }
    let differs = theft::signs(&near.series).iter().zip(&before).filter(|(a, b)| a != b).count();
    assert!((1..96).contains(&differs), "{differs} weights differ");
    refused(world.ask(&by_three(near)), "could be computed apart");
}

/// A home whose noise could not be drawn would have been debited for nothing.
#[test]
fn what_cannot_be_drawn_is_not_debited() {
    let mut world = World::new(15, 1);
    world.fill(15, 96, Field::Clipped);
    let gauss = |level_micro| {
        signed(Query::Statistic(StatisticQuery {
            mechanism: Mechanism::Gauss,
            ..statistic(&world, 96, 1, level_micro)
        }))
    };
    let requests = [gauss(u64::MAX), gauss(u64::MAX / 2), gauss(1 << 60)];
    for request in requests {
        assert!(world.ask(&request).is_err());
    }
    assert_eq!(world.custodian.state().epsilon_micro(), 0);
}

/// A group of another year's members for today's readings.
#[test]
fn membership_is_that_of_the_readings() {
    let mut world = World::new(16, 1);
    world.fill(16, 96, Field::Import);
    world.enrol(id(50), Role::Home);
    world.group("T1", (0..15).map(id).chain([id(50)]).collect(), NOW);
    let Query::Spatial(query) = world.spatial(0..15, FIRST, 96) else { unreachable!() };
    refused(world.ask(&signed(Query::Spatial(SpatialQuery { day: NOW / 86_400 + 1, ..query }))), "not of that day");
}
