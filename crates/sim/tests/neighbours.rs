//! Neighbours compare while no meter reaches the server: a bypass is flagged in its zone and nowhere else, honest losses are not.

use metering::{Body, EventKind, Frame, MeterId, Timestamp};
use sim::{CutOff, SimConfig, SimEvent, TheftKind, TheftPlan, World, config::DEMO_START};

const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;
const HOMES: u16 = 5;

fn world(thefts: Vec<TheftPlan>, lost_permille: u16) -> World {
    let cut_off = CutOff { from: DEMO_START.plus(DAY), to: DEMO_START.plus(DAY + 2 * HOUR), lost_permille };
    let config = SimConfig {
        transformers: 2,
        homes_per_transformer: HOMES,
        thefts,
        cut_off: Some(cut_off),
        ..SimConfig::honest(3, 1)
    };
    World::new(&config).expect("a world")
}

/// A wire around the meter, half an hour after the server is gone.
fn bypass() -> TheftPlan {
    TheftPlan {
        kind: TheftKind::WireAround { kept: 0.1 },
        transformer: 0,
        home: Some(2),
        start: DEMO_START.plus(DAY + HOUR / 2),
        end: None,
        zone_share: Some(0.3),
    }
}

/// What meters found, and when, until an hour after the server is back.
fn compared(world: &mut World) -> Vec<(Timestamp, MeterId, bool)> {
    let mut found = Vec::new();
    while world.now() < DEMO_START.plus(DAY + 3 * HOUR) {
        world.step();
        for event in world.take_events() {
            if let SimEvent::NeighboursCompared { at, meter, is_missing } = event {
                found.push((at, meter, is_missing));
            }
        }
    }
    found
}

/// The discrepancies among a meter's waiting frames.
fn reported(world: &mut World, meter: usize) -> Vec<(EventKind, Timestamp)> {
    let mut list = Vec::new();
    while let Some(out) = world.next_to_send(meter) {
        let (id, frame) = (out.id, Frame::from_cbor(out.payload).expect("a frame"));
        if let Body::Event(event) = frame.body
            && matches!(event.kind, EventKind::LocalDiscrepancy | EventKind::LocalDiscrepancyEnd)
        {
            list.push((event.kind, event.at));
        }
        world.acknowledge(meter, id);
    }
    list
}

#[test]
fn a_bypass_is_flagged_by_its_zone_while_the_server_is_away() {
    let mut world = world(vec![bypass()], 2);
    let found = compared(&mut world);
    let begun = bypass().start;
    let zone: Vec<usize> = (0..usize::from(HOMES)).chain([2 * usize::from(HOMES)]).collect();
    for (place, meter) in world.meters().to_vec().into_iter().enumerate() {
        let own: Vec<_> = found.iter().filter(|(_, who, _)| *who == meter).collect();
        let told = reported(&mut world, place);
        if !zone.contains(&place) {
            assert_eq!((own.len(), told.len()), (0, 0), "{meter} has no thief in its zone: {own:?}");
            continue;
        }
        let [(at, _, true)] = own[..] else { panic!("{meter}: {own:?}") };
        assert!((5 * 60..=15 * 60).contains(&at.seconds_since(begun)), "{meter} after {} s", at.seconds_since(begun));
        let [(EventKind::LocalDiscrepancy, stamped)] = told[..] else { panic!("{meter} tells {told:?}") };
        assert!(stamped.seconds_since(*at).abs() <= 30, "by its own clock: {stamped}, truly {at}");
    }
}

#[test]
fn honest_losses_and_silence_are_not_flagged() {
    assert_eq!(compared(&mut world(Vec::new(), 2)), []);
    // a link that carries nothing: nothing can be judged, whatever is stolen
    assert_eq!(compared(&mut world(vec![bypass()], 1_000)), []);
}

#[test]
fn without_a_cut_off_nobody_compares() {
    let config = SimConfig { cut_off: None, ..world(vec![bypass()], 0).config().clone() };
    assert_eq!(compared(&mut World::new(&config).expect("a world")), []);
    let backwards = CutOff { from: DEMO_START.plus(60), to: DEMO_START, lost_permille: 0 };
    assert!(World::new(&SimConfig { cut_off: Some(backwards), ..config }).is_err());
}
