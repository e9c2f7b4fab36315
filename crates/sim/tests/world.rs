//! The physics without a server: energy adds up, thefts are what they claim, the same seed gives the same frames.

use metering::{
    Control, ControlKind, Down, EventKind, Frame, Timestamp, ZoneId,
    control::ReplyOutcome,
    frame::{Body, Reply},
};
use sim::{SimConfig, SimEvent, TheftKind, TheftPlan, World, config::DEMO_START};

const DAY: i64 = 86_400;

fn small(seed: u64) -> SimConfig {
    SimConfig { transformers: 2, homes_per_transformer: 6, ..SimConfig::honest(seed, 1) }
}

fn run(world: &mut World, until: Timestamp) -> Vec<SimEvent> {
    let mut events = Vec::new();
    while world.now() < until {
        world.step();
        events.extend(world.take_events());
    }
    events
}

/// Takes every waiting frame of a meter and acknowledges it.
fn frames(world: &mut World, meter: usize) -> Vec<Frame> {
    let mut list = Vec::new();
    while let Some(out) = world.next_to_send(meter) {
        let (id, frame) = (out.id, Frame::from_cbor(out.payload).expect("a frame"));
        list.push(frame);
        world.acknowledge(meter, id);
    }
    list
}

fn replies(frames: &[Frame]) -> Vec<Reply> {
    frames.iter().filter_map(|f| if let Body::Reply(r) = &f.body { Some(r.clone()) } else { None }).collect()
}

fn control(id: u64, kind: ControlKind, world: &World) -> Down {
    Down::Control(Control { id, kind, expires: world.now().plus(3_600), counter: id, signatures: vec![] })
}

#[test]
fn what_the_observers_count_is_what_homes_use_and_lines_lose() {
    let mut world = World::new(&small(5)).expect("a world");
    run(&mut world, DEMO_START.plus(DAY));
    let report = world.report();
    for zone in &report.zones[1..] {
        let homes: u64 =
            report.meters.iter().filter(|m| m.zone == zone.zone && m.usage_point.is_some()).map(|m| m.true_wh).sum();
        let expected = homes as f64 + zone.total_technical_wh;
        assert!((zone.total_supplied_wh - expected).abs() < 10.0, "{zone:?} against {expected}");
    }
    let [feeder, zones @ ..] = &report.zones[..] else { panic!("no zones") };
    let below: f64 = zones.iter().map(|z| z.total_supplied_wh).sum();
    assert!((feeder.total_supplied_wh - below - feeder.total_technical_wh).abs() < 1.0);
    assert_eq!(report.records_made, 96 * 15);
}

#[test]
fn registers_follow_the_truth_within_the_class_and_intervals_sum_to_them() {
    let mut world = World::new(&small(6)).expect("a world");
    run(&mut world, DEMO_START.plus(DAY));
    let report = world.report();
    for (place, truth) in report.meters.iter().enumerate() {
        let frames = frames(&mut world, place);
        let Some(Body::Hello(hello)) = frames.first().map(|f| &f.body) else { panic!("no hello") };
        let registered = (truth.import_wh - hello.import_wh.0) as f64;
        assert!((registered / truth.true_wh as f64 - 1.0).abs() < 0.0115, "{truth:?}: {registered}");
        let ends: Vec<i64> = frames
            .iter()
            .flat_map(|f| if let Body::Profile(p) = &f.body { p.records.clone() } else { vec![] })
            .map(|r| r.end.0)
            .collect();
        let expected: Vec<i64> = (1..=96).map(|slot| DEMO_START.0 + slot * 900).collect();
        assert_eq!(ends, expected);
        assert!(frames.iter().enumerate().all(|(i, f)| f.seq == i as u64 || f.seq < frames.len() as u64));
    }
}

#[test]
fn the_same_seed_gives_the_same_frames_however_records_are_gathered() {
    let all = |seed: u64, gather: u16| -> Vec<Vec<u8>> {
        let mut world = World::new(&small(seed)).expect("a world");
        world.gather_records(gather);
        run(&mut world, DEMO_START.plus(DAY));
        world.gather_records(1);
        let records = |f: Frame| match f.body {
            Body::Profile(p) => p.records.iter().flat_map(|r| format!("{r:?}").into_bytes()).collect(),
            _ => Vec::new(),
        };
        (0..world.meters().len()).map(|m| frames(&mut world, m).into_iter().flat_map(records).collect()).collect()
    };
    assert_eq!(all(1, 1), all(1, 1));
    assert_eq!(all(1, 1), all(1, 96));
    assert_ne!(all(1, 1), all(2, 1));
}

fn with_theft(kind: TheftKind, share: Option<f64>) -> World {
    let start = DEMO_START.plus(DAY);
    let plan = TheftPlan { kind, transformer: 0, home: Some(2), start, end: None, zone_share: share };
    let config = SimConfig { homes_per_transformer: 12, thefts: vec![plan], ..small(8) };
    World::new(&config).expect("a world")
}

#[test]
fn a_theft_takes_about_the_share_asked_for_and_the_balance_misses_exactly_it() {
    let kinds = [
        TheftKind::UnderRegistration { kept: 0.3 },
        TheftKind::Tap,
        TheftKind::Shunt { kept: 0.1 },
        TheftKind::WireAround { kept: 0.1 },
    ];
    for kind in kinds {
        let mut world = with_theft(kind, Some(0.2));
        run(&mut world, DEMO_START.plus(4 * DAY));
        let report = world.report();
        let theft = &report.thefts[0];
        let share = theft.stolen_wh / theft.zone_supplied_wh;
        assert!((0.14..0.27).contains(&share), "{kind:?}: {share}");
        let zone = &report.zones[1];
        assert_eq!((zone.stolen_wh, zone.supplied_wh), (theft.stolen_wh, theft.zone_supplied_wh));
        assert_eq!(zone.zone, ZoneId::new("F1-T1").expect("valid"));
    }
}

#[test]
fn a_night_bypass_steals_at_night_only() {
    let mut world = with_theft(TheftKind::NightBypass { from_hour: 22, to_hour: 5 }, Some(0.2));
    run(&mut world, DEMO_START.plus(DAY + 5 * 3_600));
    let at_five = world.report().thefts[0].stolen_wh;
    run(&mut world, DEMO_START.plus(DAY + 22 * 3_600));
    assert!(at_five > 0.0);
    assert!((world.report().thefts[0].stolen_wh - at_five).abs() < 1e-6);
}

#[test]
fn a_shunt_opens_the_cover_shows_in_the_neutral_and_the_relay_cuts_it() {
    let mut world = with_theft(TheftKind::Shunt { kept: 0.1 }, Some(0.2));
    run(&mut world, DEMO_START.plus(DAY + 3_600));
    let raised = frames(&mut world, 2);
    let has = |kind| raised.iter().any(|f| matches!(&f.body, Body::Event(e) if e.kind == kind));
    assert!(has(EventKind::CoverOpen) && has(EventKind::Bypass));
    let stolen = world.report().thefts[0].stolen_wh;
    let down = control(1, ControlKind::Disconnect, &world);
    world.deliver(2, &down);
    let answers = replies(&frames(&mut world, 2));
    let now = &answers[0].now;
    assert_eq!(answers[0].outcome, ReplyOutcome::Done);
    assert_eq!((now.current_ma.map(|c| c.0), now.load_voltage_mv.map(|v| v.0)), (Some(0), Some(0)));
    run(&mut world, DEMO_START.plus(DAY + 7_200));
    assert!((world.report().thefts[0].stolen_wh - stolen).abs() < 1e-6, "nothing flows any more");
}

#[test]
fn a_wire_around_the_meter_stays_live_after_the_relay_opened() {
    let mut world = with_theft(TheftKind::WireAround { kept: 0.1 }, Some(0.2));
    run(&mut world, DEMO_START.plus(DAY + 3_600));
    frames(&mut world, 2);
    let stolen = world.report().thefts[0].stolen_wh;
    let down = control(1, ControlKind::Disconnect, &world);
    world.deliver(2, &down);
    let answers = replies(&frames(&mut world, 2));
    assert_eq!(answers[0].outcome, ReplyOutcome::Done);
    assert!(answers[0].now.load_voltage_mv.is_some_and(|v| v.0 > 200_000));
    assert_eq!(answers[0].now.current_ma.map(|c| c.0), Some(0));
    let told = world.take_events();
    assert!(told.iter().any(|e| matches!(e, SimEvent::RelayOpened { still_supplied: true, .. })), "{told:?}");
    run(&mut world, DEMO_START.plus(DAY + 7_200));
    assert!(world.report().thefts[0].stolen_wh > stolen + 100.0);
    let raised = frames(&mut world, 2);
    assert!(raised.iter().any(|f| matches!(&f.body, Body::Event(e) if e.kind == EventKind::BackFeed)));
    // and it is never closed onto that
    let down = control(2, ControlKind::Reconnect, &world);
    world.deliver(2, &down);
    assert_eq!(replies(&frames(&mut world, 2))[0].outcome, ReplyOutcome::BackFeed);
}

#[test]
fn an_honest_home_is_cut_armed_and_closed_by_its_people() {
    let mut world = World::new(&small(9)).expect("a world");
    run(&mut world, DEMO_START.plus(3_600));
    let down = control(1, ControlKind::Disconnect, &world);
    world.deliver(3, &down);
    run(&mut world, DEMO_START.plus(2 * 3_600));
    let before = world.report().meters[3].true_wh;
    run(&mut world, DEMO_START.plus(3 * 3_600));
    assert_eq!(world.report().meters[3].true_wh, before, "no supply, no load");
    frames(&mut world, 3);
    let down = control(2, ControlKind::Reconnect, &world);
    world.deliver(3, &down);
    assert_eq!(replies(&frames(&mut world, 3))[0].outcome, ReplyOutcome::Armed);
    let events = run(&mut world, DEMO_START.plus(4 * 3_600));
    let order: Vec<_> = events
        .iter()
        .filter(|e| matches!(e, SimEvent::ButtonPressed { .. } | SimEvent::RelayClosed { .. }))
        .map(std::mem::discriminant)
        .collect();
    assert_eq!(order.len(), 2, "{events:?}");
    assert!(world.report().meters[3].true_wh > before);
}

#[test]
fn a_tampered_observer_counts_less_than_flows() {
    let mut world = with_theft(TheftKind::TamperedObserver { kept: 0.8 }, None);
    run(&mut world, DEMO_START.plus(2 * DAY));
    let report = world.report();
    let theft = &report.thefts[0];
    assert!((theft.stolen_wh / theft.zone_supplied_wh - 0.2).abs() < 1e-9);
    assert_eq!((theft.usage_point, report.zones[0].theft_started), (None, Some(DEMO_START.plus(DAY))));
    assert_eq!(report.zones[1].stolen_wh, 0.0, "no home steals");
}

#[test]
fn the_demonstration_holds_every_kind_and_its_first_theft_is_large() {
    let config = SimConfig::demo(1, 1);
    let mut world = World::new(&config).expect("a world");
    assert_eq!(world.meters().len(), 165);
    let events = run(&mut world, DEMO_START.plus(DAY + 8 * 3_600));
    assert!(events.iter().any(|e| matches!(e, SimEvent::TheftBegan { kind: "shunted_sensor", .. })));
    let theft = &world.report().thefts[0];
    assert!(theft.stolen_wh / theft.zone_supplied_wh > 0.2, "{theft:?}");
    let mut kinds: Vec<&str> = config.thefts.iter().map(|t| t.kind.word()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), 6);
}
