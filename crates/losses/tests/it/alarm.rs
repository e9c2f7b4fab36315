//! The alarm and the explanation on synthetic zones with known truth. Seeded; longer runs: `examples/calibrate_alarm.rs`.

use crate::neighbourhood::{Run, Theft, Thief, World, run};
use losses::{
    alarm::{AlarmChange, AlarmConfig, AlarmKind, AlarmState, Chart},
    case::CaseKind,
    evidence::{Direction, EvidenceKind},
    explain::{Localisation, explain},
};
use metering::{EventKind, MeterEvent, Timestamp};

const HOMES: usize = 40;

fn world_with(seed: u64, theft: Theft, enlarge: f64) -> (World, usize, usize) {
    let mut world = World::new(seed, HOMES);
    let (home, from) = (seed as usize % HOMES, 96 * 15 + (seed as usize * 7) % 96);
    world.enlarge(home, enlarge);
    world.thieves.push(Thief { home, theft, from, until: usize::MAX });
    (world, home, from)
}

/// First alarm after `from` and its delay in hours; panics with the seed when there is none.
fn alarm_after(result: &Run, from: usize, seed: u64) -> (usize, AlarmChange, f64) {
    let found = result.first_raised();
    let Some((at, change)) = found.filter(|(at, _)| *at >= from) else { panic!("seed {seed}: {:?}", result.changes) };
    (at, change, (at - from) as f64 / 4.0)
}

#[test]
fn honest_zones_stay_quiet() {
    // 4 zones of two months at a budget of one false alarm in 100 zone-months: 0.08 expected.
    for seed in 200..204 {
        let mut world = World::new(seed, HOMES);
        world.missing = 0.002;
        let result = run(&mut world, HOMES, 60, AlarmConfig::default());
        assert_eq!(result.changes, vec![], "seed {seed}");
    }
}

#[test]
fn silent_meters_raise_nothing() {
    for seed in [212, 213] {
        let mut world = World::new(seed, HOMES);
        let mut monitor = World::monitor(HOMES, AlarmConfig::default());
        for at in 0..96 * 24 {
            let mut slot = world.step();
            let day = at / 96;
            // Three homes silent for four days, the observer for one, all homes for two hours.
            for home in [1, 5, 9] {
                slot.members[home].meter.flow = slot.members[home].meter.flow.filter(|_| !(14..18).contains(&day));
            }
            if (96 * 20 + 30..96 * 20 + 38).contains(&at) {
                slot.members.iter_mut().for_each(|m| m.meter.flow = None);
            }
            slot.observer.flow = slot.observer.flow.filter(|_| day != 19);
            let verdict = monitor.observe(&slot);
            assert_eq!(verdict.change, None, "seed {seed} day {day}");
            assert!(verdict.balance.metered_wh > 0.0, "missing meters are estimated");
            assert!(day != 19 || verdict.balance.coverage == 0.0);
        }
    }
}

#[test]
fn three_percent_is_found_within_two_days() {
    for (seed, theft) in [(31, Theft::Tap(700.0)), (32, Theft::Constant(600.0)), (33, Theft::Constant(600.0))] {
        let (mut world, _, from) = world_with(seed, theft, 1.0);
        let result = run(&mut world, HOMES, 18, AlarmConfig::default());
        let (_, change, delay) = alarm_after(&result, from, seed);
        assert!(delay <= 48.0, "seed {seed}: {delay} h");
        let AlarmChange::Raised { kind, onset, .. } = change else { panic!("{change:?}") };
        assert_eq!(kind, AlarmKind::Missing);
        let error_hours = (onset.seconds_since(World::end(from)) as f64 / 3_600.0).abs();
        assert!(error_hours < 24.0, "seed {seed}: onset off by {error_hours} h");
    }
}

#[test]
fn twenty_percent_is_found_within_hours_and_ends_when_it_stops() {
    let (mut world, _, from) = world_with(41, Theft::Tap(4_000.0), 1.0);
    world.thieves[0].until = from + 96;
    let result = run(&mut world, HOMES, 19, AlarmConfig::default());
    let (_, _, delay) = alarm_after(&result, from, 41);
    assert!(delay <= 4.0, "{delay} h");
    let resolved = result.changes.iter().find(|(_, c)| matches!(c, AlarmChange::Resolved { .. }));
    let at = resolved.expect("the alarm ends").0;
    assert!((from + 96..from + 96 * 3 + 32).contains(&at), "resolved {} slots after the end", at - from - 96);
    assert!(matches!(result.verdicts.last().map(|v| v.alarm), Some(AlarmState::Resolved { .. })));
}

#[test]
fn a_meter_that_counts_half_is_named_first() {
    for seed in [51, 52] {
        let (mut world, home, from) = world_with(seed, Theft::Under(0.4), 3.0);
        let result = run(&mut world, HOMES, 22, AlarmConfig::default());
        let (_, change, _) = alarm_after(&result, from, seed);
        let explained = explain(&result.history(change, result.slots.len(), &[]));
        assert_eq!(explained.named_usage_point(), Some(World::point(home)), "seed {seed}: {explained:?}");
        assert_eq!(explained.kind, CaseKind::SuspectedTheft);
        let top = &explained.suspects[0];
        assert!(top.evidence.iter().any(|e| e.kind == EvidenceKind::ProportionalLoss && !e.readings.is_empty()));
        assert!(top.estimated_wh > 0.5 * explained.missing_wh);
    }
}

#[test]
fn two_thieves_are_both_named() {
    let (mut world, home, from) = world_with(61, Theft::Under(0.3), 3.0);
    world.enlarge(7, 3.0);
    world.thieves.push(Thief { home: 7, theft: Theft::Under(0.4), from: from + 5, until: usize::MAX });
    let result = run(&mut world, HOMES, 24, AlarmConfig::default());
    let (_, change, _) = alarm_after(&result, from, 61);
    let explained = explain(&result.history(change, result.slots.len(), &[]));
    let named: Vec<_> = explained.suspects.iter().filter(|s| s.named).map(|s| s.usage_point).collect();
    assert!(named.contains(&World::point(home)) && named.contains(&World::point(7)) && named.len() == 2, "{named:?}");
}

#[test]
fn an_unmetered_tap_names_nobody() {
    for (seed, theft) in [(71, Theft::Tap(2_000.0)), (72, Theft::Constant(1_500.0))] {
        let (mut world, _, from) = world_with(seed, theft, 1.0);
        let result = run(&mut world, HOMES, 22, AlarmConfig::default());
        let (at, change, _) = alarm_after(&result, from, seed);
        for now in [at + 48, result.slots.len()] {
            let explained = explain(&result.history(change, now, &[]));
            assert_eq!(explained.named_usage_point(), None, "seed {seed} at {now}: {:?}", explained.suspects);
            assert_eq!(explained.kind, CaseKind::MissingEnergy);
            assert!(explained.zone_evidence.iter().any(|e| e.direction == Direction::For));
        }
    }
}

#[test]
fn tampering_names_the_meter_at_once() {
    let (mut world, home, from) = world_with(81, Theft::Under(0.02), 6.0);
    let result = run(&mut world, HOMES, 17, AlarmConfig::default());
    let (at, change, _) = alarm_after(&result, from, 81);
    let event = MeterEvent::bare(EventKind::CoverOpen, World::end(from));
    let explained = explain(&result.history(change, at + 1, &[(home, event)]));
    assert_eq!(explained.named_usage_point(), Some(World::point(home)), "{explained:?}");
    let evidence = explained.case_evidence();
    let said: Vec<&str> = evidence.iter().map(|piece| piece.words.as_str()).collect();
    assert!(said.iter().any(|words| words.contains("cover opened")), "{said:?}");
}

#[test]
fn a_low_observer_is_a_surplus_and_blames_no_home() {
    let (mut world, _, from) = world_with(91, Theft::Observer(0.93), 1.0);
    let result = run(&mut world, HOMES, 19, AlarmConfig::default());
    let (_, change, delay) = alarm_after(&result, from, 91);
    assert!(delay < 24.0 && matches!(change, AlarmChange::Raised { kind: AlarmKind::Surplus, .. }));
    let mut history = result.history(change, result.slots.len(), &[]);
    let explained = explain(&history);
    assert_eq!(explained.kind, CaseKind::SurplusEnergy);
    assert_eq!(explained.named_usage_point(), None);
    // With the parent's view the cause is told apart.
    history.parent = history.balances.clone();
    history.parent.iter_mut().for_each(|b| b.unaccounted_wh = -b.unaccounted_wh);
    assert_eq!(explain(&history).localisation, Localisation::Observer { zone: World::zone() });
}

#[test]
fn a_large_theft_from_the_first_day_is_a_standing_loss() {
    let mut world = World::new(101, HOMES);
    world.thieves.push(Thief { home: 3, theft: Theft::Tap(3_500.0), from: 0, until: usize::MAX });
    let result = run(&mut world, HOMES, 12, AlarmConfig::default());
    let (_, change) = result.first_raised().expect("raised");
    assert!(matches!(change, AlarmChange::Raised { by: Chart::Standing, kind: AlarmKind::Missing, .. }), "{change:?}");
}

#[test]
fn a_monitor_continues_from_its_stored_state() {
    let mut world = World::new(111, 8);
    let mut monitor = World::monitor(8, AlarmConfig::default());
    for _ in 0..96 * 3 {
        monitor.observe(&world.step());
    }
    let text = serde_json::to_string(&monitor).expect("json");
    let mut restored = serde_json::from_str(&text).expect("back");
    assert_eq!(monitor, restored);
    for _ in 0..96 {
        let slot = world.step();
        assert_eq!(monitor.observe(&slot), restored.observe(&slot));
    }
    let slot = world.step();
    let late = losses::balance::ZoneSlot { end: Timestamp(slot.end.0 - 86_400), ..slot };
    let before = monitor.clone();
    assert_eq!(monitor.observe(&late).change, None);
    assert_eq!(monitor, before, "a late slot changes nothing");
}
