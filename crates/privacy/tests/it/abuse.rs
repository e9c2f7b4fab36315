//! Abuses, each with its number in `docs/privacy/threats.md`, and what must come of it.

use metering::MeterId;
use privacy::{
    Event, Field,
    custodian::Role,
    hex::Hex,
    operator::{Conflict, MaskedReading, Taken, check_range},
    orders::{ErasureOrder, GroupOrder},
    query::{
        Adjacency, BalanceSeries, BillQuery, FaultQuery, LegalBasis, Mechanism, Purpose, Query, Request, Row,
        SignedWeights, SpatialQuery, StatisticQuery, TheftQuery, UnmaskQuery,
    },
};

use crate::world::{FIRST, NOW, World, id, key, refused, signed, weights};

const MONTH: usize = 30 * 96;

fn masked(world: &World, meter: MeterId, counter: u64, rev: u16, x: i64) -> MaskedReading {
    let mask = world.keys[&meter].mask(Field::Import, rev, counter).expect("in range");
    let value = x.cast_unsigned().wrapping_add(mask);
    MaskedReading { meter, field: Field::Import, epoch: 1, counter, rev, value }
}

fn bill(world: &World, home: usize, weights: SignedWeights, slots: usize) -> Request {
    let rows = world.rows([home], Field::Import, FIRST, slots);
    signed(Query::Bill(BillQuery { field: Field::Import, weights, rows, exception: None }))
}

#[test]
fn case_09_two_different_readings_of_one_counter() {
    let mut world = World::new(15, 1);
    let reading = masked(&world, id(0), FIRST, 0, 100);
    assert_eq!(world.operator.take(&reading), Ok(Taken::New));
    assert_eq!(world.operator.take(&reading), Ok(Taken::Again), "identical bytes change nothing");
    let other = masked(&world, id(0), FIRST, 0, 101);
    let conflict = world.operator.take(&other);
    assert!(matches!(conflict, Err(Conflict::Differs { rev: 0, .. })), "{conflict:?}");
}

#[test]
fn case_10_a_correction_needs_the_next_revision() {
    let mut world = World::new(15, 1);
    assert!(world.send(id(0), Field::Import, FIRST, 0, 100));
    assert!(!world.send(id(0), Field::Import, FIRST, 0, 90), "the same revision");
    assert!(!world.send(id(0), Field::Import, FIRST, 2, 90), "a revision left out");
    assert!(world.send(id(0), Field::Import, FIRST, 1, 90), "the next one");
    let rows = world.rows([0], Field::Import, FIRST, 1);
    assert_eq!(rows[0].revs, [(0, 1)]);
}

/// A clone sends under the real meter's name: its readings are other ones, so the second of each counter is refused.
#[test]
fn case_13_a_cloned_key_shows_as_conflict() {
    let mut world = World::new(15, 1);
    let (real, clone) = (masked(&world, id(0), FIRST, 0, 100), masked(&world, id(0), FIRST, 0, 7));
    assert_eq!(world.operator.take(&real), Ok(Taken::New));
    assert!(matches!(world.operator.take(&clone), Err(Conflict::Differs { meter, .. }) if meter == id(0)));
}

#[test]
fn case_16_fewer_homes_than_the_floor() {
    let mut world = World::new(15, 1);
    (0..3).for_each(|n| world.enrol(id(100 + n), Role::Test));
    world.group("T1", (0..15).chain(100..103).map(id).collect(), (query_day() - 1) * 86_400 - 1);
    world.fill(15, 96, Field::Import);
    (100..103).for_each(|n| {
        (0..96).for_each(|t| assert!(world.send(id(n), Field::Import, FIRST + t, 0, 5)));
    });
    let mut at = |homes: Vec<usize>| {
        let query = world.spatial(homes, FIRST, 96);
        world.ask(&signed(query))
    };
    refused(at((0..14).collect()), "fewer than the floor");
    refused(at((0..12).chain(100..103).collect()), "fewer than the floor");
    at((0..15).chain(100..103).collect()).expect("fifteen homes and three test meters");
}

#[test]
fn case_17_the_difference_of_two_groups() {
    let mut world = World::new(17, 1);
    world.fill(17, 96, Field::Import);
    let (all, but_one) = (world.spatial(0..17, FIRST, 96), world.spatial(0..16, FIRST, 96));
    world.ask(&signed(all)).expect("the first sum");
    refused(world.ask(&signed(but_one)), "already in a released sum");
}

#[test]
fn case_18_one_late_home() {
    let mut world = World::new(17, 1);
    world.fill(16, MONTH, Field::Import);
    let early = world.spatial(0..16, FIRST, 96);
    world.ask(&signed(early)).expect("the early sum");
    (0..MONTH as u64).for_each(|t| assert!(world.send(id(16), Field::Import, FIRST + t, 0, 50)));
    let Query::Spatial(late) = world.spatial([16], FIRST, 96) else { unreachable!() };
    refused(world.ask(&signed(Query::Late(late))), "fewer than the floor");
    let request = bill(&world, 16, weights("all", FIRST, &[(MONTH as u32, 1)]), MONTH);
    let answer = world.ask(&request).expect("the bill is given");
    assert_eq!(world.operator.decode(&request.query, &[answer]), Ok(vec![50 * MONTH as i64]));
}

#[test]
fn case_19_a_group_that_would_isolate_one_home() {
    let mut world = World::new(16, 1);
    world.fill(16, 96, Field::Import);
    let noon = (FIRST as i64 / 96) * 86_400 + 43_200;
    let order = |homes: usize| GroupOrder::sign("T1", (0..homes).map(id).collect(), 1, &key(1));
    refused(world.custodian.regroup(&order(14), noon), "fewer than the floor");
    let event = world.custodian.regroup(&order(15), noon).expect("fifteen stay");
    assert!(
        matches!(event, Event::Grouped { from_day, .. } if from_day == FIRST as i64 / 96 + 1),
        "not before tomorrow"
    );
    world.commit(event);
    let today = world.spatial(0..16, FIRST, 96);
    world.ask(&signed(today)).expect("today the old group holds");
    let Query::Spatial(query) = world.spatial([15], FIRST, 96) else { unreachable!() };
    let tomorrow = SpatialQuery { day: query.day + 1, ..query };
    refused(world.ask(&signed(Query::Spatial(tomorrow))), "not a member");
}

#[test]
fn case_20_weights_that_read_single_slots() {
    let mut world = World::new(15, 1);
    world.fill(1, MONTH, Field::Import);
    let unit = weights("unit", FIRST + 5, &[(1, 1)]);
    refused(world.ask(&bill(&world, 0, unit, MONTH)), "weights");
    let packed = weights("packed", FIRST, &[(1, 1), (1, 1 << 15), (1, 1 << 30), (700, 1)]);
    refused(world.ask(&bill(&world, 0, packed, MONTH)), "weights");
    let heavy = weights("heavy", FIRST, &[(8, 64), (700, 1)]);
    refused(world.ask(&bill(&world, 0, heavy, MONTH)), "weights");
    let day = weights("day", FIRST, &[(96, 1)]);
    refused(world.ask(&bill(&world, 0, day, 96)), "shorter");
    let forged = SignedWeights { register: "mine".into(), ..weights("all", FIRST, &[(MONTH as u32, 1)]) };
    refused(world.ask(&bill(&world, 0, forged, MONTH)), "tariff key");
}

#[test]
fn case_21_two_bills_that_differ_in_one_slot() {
    let mut world = World::new(15, 1);
    world.fill(1, MONTH, Field::Import);
    world.ask(&bill(&world, 0, weights("a", FIRST, &[(MONTH as u32, 3)]), MONTH)).expect("the first");
    let other = weights("b", FIRST, &[(1_000, 3), (1, 4), (MONTH as u32 - 1_001, 3)]);
    refused(world.ask(&bill(&world, 0, other, MONTH)), "could be computed apart");
    // three bills of which only all together tell a slot
    let half = MONTH as u32 / 2;
    world.ask(&bill(&world, 0, weights("c", FIRST, &[(half, 1), (half, 2)]), MONTH)).expect("another register");
    let third = weights("d", FIRST, &[(half, 2), (1, 5), (half - 1, 4)]);
    refused(world.ask(&bill(&world, 0, third, MONTH)), "could be computed apart");
}

/// A week in which home 3 registers three quarters of what it uses.
pub fn thieving(world: &mut World, homes: usize, days: usize) -> TheftQuery {
    world.fill(homes, days * 96, Field::Import);
    let mut metered = Vec::new();
    let mut supplied = Vec::new();
    for t in 0..days * 96 {
        let at = |n: usize| world.readings[&(id(n), Field::Import, FIRST + t as u64)];
        let sum: i64 = (0..homes).map(at).sum();
        metered.push(sum);
        supplied.push(sum + at(3) * 2 / 3 + 20);
    }
    let series = BalanceSeries { loss: vec![20; metered.len()], metered, supplied };
    for day in 0..days as u64 {
        let sum = world.spatial(0..homes, FIRST + day * 96, 96);
        world.ask(&signed(sum)).expect("a day's sums");
    }
    let rows = world.rows(0..homes, Field::Import, FIRST, days * 96);
    TheftQuery { group: "T1".into(), field: Field::Import, day: FIRST as i64 / 96, series, rows, epsilon_micro: None }
}

pub fn by_three(query: TheftQuery) -> Request {
    let until = NOW + 86_400;
    let request = signed(Query::Theft(query));
    request.approved("Ada", until, &key(5)).approved("Ben", until, &key(6)).approved("Cleo", until, &key(7))
}

#[test]
fn case_22_theft_queries_that_fish() {
    let mut world = World::new(20, 3);
    let query = thieving(&mut world, 20, 7);
    let until = NOW + 86_400;
    let alone = signed(Query::Theft(query.clone())).approved("Ada", until, &key(5)).approved("Ada", until, &key(5));
    refused(world.ask(&alone), "approvals");
    let quiet = BalanceSeries { supplied: query.series.metered.clone(), ..query.series.clone() };
    refused(world.ask(&by_three(TheftQuery { series: quiet, ..query.clone() })), "no alarm");
    // the operator cannot choose weights: only a series can be sent, and one home alone is not a case
    let some = query.rows.iter().take(19).cloned().collect();
    refused(world.ask(&by_three(TheftQuery { rows: some, ..query.clone() })), "all homes");
    world.ask(&by_three(query.clone())).expect("a real case");
    let shifted = |by: i64| TheftQuery {
        series: BalanceSeries { loss: query.series.loss.iter().map(|l| l - by).collect(), ..query.series.clone() },
        ..query.clone()
    };
    world.ask(&by_three(shifted(1))).expect("a second one");
    refused(world.ask(&by_three(shifted(2))), "permitted number");
}

fn unmask(world: &World, expires: i64, scope: (u64, u64)) -> Query {
    Query::Unmask(UnmaskQuery {
        field: Field::Import,
        rows: world.rows([3], Field::Import, FIRST, 96),
        basis: LegalBasis::CourtOrder { number: "12 O 7/26".into() },
        scope,
        expires,
        notice_at: NOW + 86_400,
    })
}

#[test]
fn case_23_unmasking_without_right() {
    let mut world = World::new(15, 1);
    world.fill(15, 96, Field::Import);
    let (until, scope) = (NOW + 86_400, (FIRST, FIRST + 95));
    let two = |query: Query, a: (&str, u8), b: (&str, u8)| {
        signed(query).approved(a.0, until, &key(a.1)).approved(b.0, until, &key(b.1))
    };
    let good = unmask(&world, until, scope);
    refused(world.ask(&two(good.clone(), ("Ada", 5), ("Ben", 6))), "one organisation");
    refused(world.ask(&two(unmask(&world, NOW, scope), ("Ada", 5), ("Cleo", 7))), "expired");
    refused(world.ask(&two(unmask(&world, until, (FIRST, FIRST + 94)), ("Ada", 5), ("Cleo", 7))), "scope");
    refused(world.ask(&two(good.clone(), ("Ada", 5), ("Cleo", 6))), "approvals");
    let evidence = Query::Unmask(UnmaskQuery {
        basis: LegalBasis::FieldEvidence { case: Hex([9; 32]) },
        ..match &good {
            Query::Unmask(q) => q.clone(),
            _ => unreachable!(),
        }
    });
    refused(world.ask(&two(evidence, ("Ada", 5), ("Cleo", 7))), "no theft case");
    let answer = world.ask(&two(good.clone(), ("Ada", 5), ("Cleo", 7))).expect("two organisations");
    let curve = world.operator.decode(&good, &[answer]).expect("decodes");
    assert!((0..96).all(|t| curve[t] == world.readings[&(id(3), Field::Import, FIRST + t as u64)]));
}

#[test]
fn case_25_a_custodian_away_for_six_hours() {
    let run = |pause: bool| {
        let mut world = World::new(15, 1);
        world.fill(15, 96, Field::Import);
        let mut waiting: Vec<Request> = Vec::new();
        let mut sums = Vec::new();
        for quarter in 0..96 {
            waiting.push(signed(world.spatial(0..15, FIRST + quarter, 1)));
            let away = pause && (30..54).contains(&quarter);
            for request in if away { Vec::new() } else { core::mem::take(&mut waiting) } {
                let answer = world.ask(&request).expect("answers");
                sums.extend(world.operator.decode(&request.query, &[answer]).expect("decodes"));
            }
        }
        sums
    };
    assert_eq!(run(true), run(false), "the queue drains to the same sums");
}

#[test]
fn case_26_a_third_of_the_group_is_silent() {
    let mut world = World::new(60, 1);
    world.fill(42, 7 * 96, Field::Import);
    let query = world.spatial(0..60, FIRST, 96);
    let answer = world.ask(&signed(query.clone())).expect("42 are enough");
    let sums = world.operator.decode(&query, &[answer]).expect("decodes");
    assert_eq!(sums.iter().sum::<i64>(), world.truth(&query, Field::Import));
    let coverage = query.rows().iter().map(Row::count).sum::<usize>() * 1_000 / (60 * 96);
    assert_eq!(coverage, 700, "the coverage is told");
    // and no theft case can rest on it
    let series = BalanceSeries { supplied: vec![90_000; 672], metered: vec![0; 672], loss: vec![0; 672] };
    let rows = world.rows(0..60, Field::Import, FIRST, 672);
    let case =
        TheftQuery { group: "T1".into(), field: Field::Import, day: query_day(), series, rows, epsilon_micro: None };
    refused(world.ask(&by_three(case)), "all homes");
}

fn query_day() -> i64 {
    FIRST as i64 / 96
}

#[test]
fn case_27_a_meter_reports_an_absurd_number() {
    let mut world = World::new(15, 1);
    world.fill(14, 7 * 96, Field::Import);
    (0..672).for_each(|t| {
        let x = if t == 10 { 1 << 60 } else { 40 };
        assert!(world.send(id(14), Field::Import, FIRST + t, 0, x));
    });
    let limit = 15 * 4_000;
    let query = world.spatial(0..15, FIRST, 96);
    let answer = world.ask(&signed(query.clone())).expect("the custodian cannot know");
    let sums = world.operator.decode(&query, &[answer]).expect("decodes");
    let spoiled = check_range(&sums, limit).expect_err("the window sees it");
    assert_eq!(spoiled.slot, 10);
    let culprit = (0..15).find(|n| {
        let fault =
            Query::Fault(FaultQuery { field: Field::Import, rows: world.rows([*n], Field::Import, FIRST, 672) });
        let answer = world.ask(&signed(fault.clone())).expect("totals of a week are given");
        let total = world.operator.decode(&fault, &[answer]).expect("decodes");
        check_range(&total, 672 * 4_000).is_err()
    });
    assert_eq!(culprit, Some(14));
    let next = world.spatial(0..15, FIRST + 96, 96);
    let answer = world.ask(&signed(next.clone())).expect("the next day");
    check_range(&world.operator.decode(&next, &[answer]).expect("decodes"), limit).expect("is not touched");
}

pub fn statistic(world: &World, band: u32, bands: u32, level_micro: u64) -> StatisticQuery {
    StatisticQuery {
        group: "T1".into(),
        day: query_day(),
        band,
        bands,
        rows: world.rows(0..15, Field::Clipped, FIRST, (band * bands) as usize),
        adjacency: Adjacency::HomeDay,
        mechanism: Mechanism::Laplace,
        level_micro,
        purpose: Purpose::Research,
    }
}

#[test]
fn case_28_a_budget_is_spent_once() {
    let mut world = World::new(15, 1);
    world.fill(15, 96, Field::Clipped);
    let request = signed(Query::Statistic(statistic(&world, 96, 1, 600_000)));
    let first = world.ask(&request).expect("affordable");
    for _ in 0..1_000 {
        assert_eq!(world.ask(&request), Ok(first.clone()), "the same question, the same answer");
    }
    assert_eq!(world.custodian.state().epsilon_micro(), 600_000, "debited once");
    let other = signed(Query::Statistic(statistic(&world, 48, 2, 600_000)));
    refused(world.ask(&other), "exhausted");
    let smaller = signed(Query::Statistic(statistic(&world, 48, 2, 400_000)));
    world.ask(&smaller).expect("what is left");
    assert_eq!(world.custodian.state().epsilon_micro(), 1_000_000);
}

/// The same custodian asked from a thousand threads' worth of requests at once: one lock, one debit each.
#[test]
fn case_28_a_thousand_requests_at_once() {
    let mut world = World::new(15, 1);
    world.fill(15, 30 * 96, Field::Clipped);
    // different questions of ε = 0.04 for one day: 25 are affordable
    let requests: Vec<Request> =
        (1..=96).map(|bands| signed(Query::Statistic(statistic(&world, 1, bands, 40_000)))).collect();
    let world = std::sync::Mutex::new(world);
    let granted = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..10 {
            let (world, granted, requests) = (&world, &granted, &requests);
            scope.spawn(move || {
                for k in 0..100 {
                    let request = &requests[(k * 7 + thread * 13) % 96];
                    let before = world.lock().expect("no panic").ask(request).is_ok();
                    granted.fetch_add(usize::from(before), std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    let world = world.into_inner().expect("no panic");
    assert_eq!(world.custodian.state().released(), 25);
    assert_eq!(world.custodian.state().epsilon_micro(), 1_000_000);
    assert!(granted.into_inner() > 250, "every repetition of a granted question is answered");
}

#[test]
fn case_29_noise_of_one_query_is_never_that_of_another() {
    let mut world = World::new(15, 1);
    world.fill(15, 2 * 96, Field::Clipped);
    let request = signed(Query::Statistic(statistic(&world, 96, 1, 500_000)));
    let answer = world.ask(&request).expect("answers");
    // a restart from the journal gives the same noise
    let mut again = World::new(15, 1);
    again.fill(15, 2 * 96, Field::Clipped);
    for event in &world.journal[16..] {
        again.custodian.apply(event);
    }
    assert_eq!(again.custodian.answer(&request.query), Ok(answer.clone()));
    // another query over the same cells has other noise: the difference is not zero for all of many
    let mut differ = 0;
    for k in 1..8 {
        let mut other = World::new(15, 1);
        other.fill(15, 2 * 96, Field::Clipped);
        let answered = other.ask(&signed(Query::Statistic(statistic(&world, 96, 1, 500_000 + k)))).expect("answers");
        differ += usize::from(answered != answer);
    }
    assert!(differ >= 6, "{differ} of 7");
}

#[test]
fn case_30_a_key_store_from_a_backup_after_an_erasure() {
    let mut world = World::new(16, 1);
    world.fill(16, 2 * 96, Field::Import);
    let order = ErasureOrder::sign(id(5), &key(1)).approved("Ada", NOW + 1, &key(5));
    let event = world.custodian.erase(&order, NOW).expect("is approved").expect("for the first time");
    world.commit(event);
    let backup = world.keys[&id(5)].clone();
    assert!(!world.custodian.insert_key(id(5), 1, backup), "an erased key does not come back");
    let query = world.spatial(0..16, FIRST, 96);
    refused(world.ask(&signed(query)), "no key");
    let others = world.spatial((0..16).filter(|n| *n != 5), FIRST, 96);
    world.ask(&signed(others)).expect("the others' sums go on");
}

#[test]
fn a_request_that_is_not_the_operators_is_refused() {
    let mut world = World::new(15, 1);
    world.fill(15, 96, Field::Import);
    let query = world.spatial(0..15, FIRST, 96);
    refused(world.ask(&Request::sign(query, &key(9))), "not signed by the operator");
    assert_eq!(world.custodian.state().refused(), 1);
}

#[test]
fn a_meter_that_nobody_vouches_for_is_not_enrolled() {
    let world = World::new(15, 1);
    let enrolment = world
        .journal
        .iter()
        .find_map(|event| match event {
            Event::Enrolled { enrolment, .. } => Some(enrolment.clone()),
            _ => None,
        })
        .expect("one was enrolled");
    let taken = world.custodian.enrol(enrolment.clone(), 0).expect_err("twice");
    assert!(taken.to_string().contains("taken"));
    let mut sybil = enrolment;
    sybil.meter = id(500);
    let why = world.custodian.enrol(sybil, 0).expect_err("the signature names another meter");
    assert!(why.to_string().contains("manufacturer"), "{why}");
}
