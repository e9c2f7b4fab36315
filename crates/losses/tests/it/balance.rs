//! Laws of the balance, on arbitrary input and on a synthetic zone.

use crate::neighbourhood::{Dice, SLOT_SECONDS, World};
use losses::{
    alarm::{AlarmConfig, AlarmState},
    balance::{EnergyBalance, Flow, MemberId, MemberSlot, MeterClass, MeterSlot, ZoneConfig, ZoneMonitor, ZoneSlot},
};
use metering::{Timestamp, UsagePointId, WattHours, ZoneId};
use proptest::prelude::*;

fn meter(flow: Option<(u64, u64)>, ct_ratio: f64) -> MeterSlot {
    let flow = flow.map(|(import, export)| Flow { import_wh: WattHours(import), export_wh: WattHours(export) });
    MeterSlot { flow, ct_ratio, class: MeterClass::Class1 }
}

fn flows() -> impl Strategy<Value = Option<(u64, u64)>> {
    prop_oneof![4 => (0u64..20_000, 0u64..5_000).prop_map(Some), 1 => Just(None)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn supplied_is_metered_and_technical_and_unaccounted(
        slots in prop::collection::vec((flows(), prop::collection::vec(flows(), 5)), 1..40),
        ct in prop_oneof![Just(1.0), Just(40.0), 0.1f64..200.0],
    ) {
        let zone = ZoneId::new("Z").expect("id");
        let mut monitor = ZoneMonitor::new(ZoneConfig::usage_points(zone, 5, AlarmConfig::default()));
        for (at, (observer, members)) in slots.into_iter().enumerate() {
            let some_missing = members.iter().any(Option::is_none);
            let members = members.into_iter().enumerate().map(|(i, flow)| MemberSlot {
                id: MemberId::UsagePoint(UsagePointId::new(&format!("U{i}")).expect("id")),
                meter: meter(flow, 1.0),
            }).collect();
            let slot = ZoneSlot {
                zone, end: Timestamp(900 * (at as i64 + 1)), minutes: 15, observer: meter(observer, ct), members,
            };
            let b = monitor.observe(&slot).balance;
            prop_assert_eq!(b.supplied_wh, b.metered_wh + b.technical_wh + b.unaccounted_wh);
            prop_assert!((0.0..=1.0).contains(&b.coverage));
            prop_assert!(b.sigma_random_wh > 0.0 && b.sigma_systematic_wh >= 0.0 && b.sigma_wh().is_finite());
            prop_assert!(!some_missing || b.coverage < 1.0);
            prop_assert!(monitor.technical().k0_w() >= 0.0 && monitor.technical().k2_per_w() >= 0.0);
            prop_assert!(b.technical_wh <= b.supplied_wh.abs() + 1e-3, "{} lost of {}", b.technical_wh, b.supplied_wh);
        }
        let json = serde_json::to_string(&monitor).expect("json");
        prop_assert_eq!(serde_json::from_str::<ZoneMonitor>(&json).expect("back"), monitor);
    }
}

#[test]
fn nested_zones_reconcile() {
    // The feeder's members are the observers of its transformers: what the feeder meters is what they are supplied.
    let homes = 10;
    let mut worlds: Vec<World> = (0..3).map(|seed| World::new(seed, homes)).collect();
    let mut monitors: Vec<ZoneMonitor> = (0..3).map(|_| World::monitor(homes, AlarmConfig::default())).collect();
    let feeder = ZoneId::new("F-1").expect("id");
    let mut top = ZoneMonitor::new(ZoneConfig::feeder(feeder, 3, 3 * homes, AlarmConfig::default()));
    let (mut above, mut below) = (vec![], vec![]);
    for at in 0..96 * 2 {
        let slots: Vec<ZoneSlot> = worlds.iter_mut().map(World::step).collect();
        let balances: Vec<EnergyBalance> =
            monitors.iter_mut().zip(&slots).map(|(monitor, slot)| monitor.observe(slot).balance).collect();
        let inflow: u64 = slots.iter().filter_map(|s| s.observer.flow).map(|f| f.import_wh.0).sum();
        let members = slots
            .iter()
            .zip(["T-1", "T-2", "T-3"])
            .map(|(slot, id)| MemberSlot { id: MemberId::Zone(ZoneId::new(id).expect("id")), meter: slot.observer })
            .collect();
        let slot = ZoneSlot {
            zone: feeder,
            end: World::end(at),
            minutes: 15,
            observer: MeterSlot {
                flow: Some(Flow { import_wh: WattHours(inflow + 150), export_wh: WattHours(0) }),
                ct_ratio: 1.0,
                class: MeterClass::Class02S,
            },
            members,
        };
        above.push(top.observe(&slot).balance);
        below.push(EnergyBalance::total(&balances).expect("three"));
    }
    let (above, below) = (EnergyBalance::total(&above).expect("some"), EnergyBalance::total(&below).expect("some"));
    assert_eq!(above.metered_wh, below.supplied_wh);
    let together = above.technical_wh + above.unaccounted_wh + below.technical_wh + below.unaccounted_wh;
    assert_eq!(above.supplied_wh, below.metered_wh + together);
}

/// The 90 % interval covers the truth in about 90 % of independent draws, with the losses drawn from the prior, gains from their
/// classes, register steps, clock offsets and missing readings on.
#[test]
fn the_interval_covers_the_truth() {
    let (draws, homes, days) = (400, 6, 3);
    let (mut slot_hits, mut day_hits) = (0, 0);
    let mut dice = Dice::new(11);
    for _ in 0..draws {
        let outcome = draw(&mut dice, homes, days);
        slot_hits += usize::from(outcome.0);
        day_hits += usize::from(outcome.1);
    }
    let share = |hits: usize| hits as f64 / draws as f64;
    // Three standard errors of 400 draws are 0.045.
    assert!((0.855..=0.955).contains(&share(slot_hits)), "slot {}", share(slot_hits));
    assert!((0.855..=0.955).contains(&share(day_hits)), "day {}", share(day_hits));
}

/// One zone: does the interval of its last slot and of its last day hold the truth (nothing is stolen)?
fn draw(dice: &mut Dice, homes: usize, days: usize) -> (bool, bool) {
    let zone = ZoneId::new("Z").expect("id");
    let config = ZoneConfig::usage_points(zone, homes, AlarmConfig::default());
    let prior = config.prior;
    let inside = |dice: &mut Dice| loop {
        let n = dice.normal();
        if n.abs() < 2.0 {
            break n;
        }
    };
    let k0 = (prior.k0_w + prior.k0_sd_w * inside(dice)).max(0.0);
    let k2 = (prior.k2_share + prior.k2_share_sd * inside(dice)).max(0.0) / prior.reference_w;
    let gains: Vec<f64> = (0..=homes)
        .map(|i| if i == homes { 0.0025 } else { 0.005 })
        .map(|sd| 1.0 + (sd * dice.normal()).clamp(-2.0 * sd, 2.0 * sd))
        .collect();
    let clocks: Vec<f64> = (0..homes).map(|_| 4.0 * dice.normal()).collect();
    let mut monitor = ZoneMonitor::new(config);
    let mut last = vec![300.0; homes];
    let mut registers = vec![0.0f64; homes + 1];
    let mut balances = vec![];
    for at in 0..days * 96 {
        let count = |register: &mut f64, wh: f64| {
            let before = register.floor();
            *register += wh.max(0.0);
            Flow { import_wh: WattHours((register.floor() - before) as u64), export_wh: WattHours(0) }
        };
        let (mut total, mut members) = (0.0, vec![]);
        for home in 0..homes {
            let watts = (150.0 + 200.0 * dice.uniform()) * if at % 96 > 68 { 2.0 } else { 1.0 };
            total += watts;
            let wh = watts * 0.25 * gains[home] + clocks[home] / 3_600.0 * (watts - last[home]);
            last[home] = watts;
            let flow = count(&mut registers[home], wh);
            let gap = dice.chance(0.01);
            let id = MemberId::UsagePoint(UsagePointId::new(&format!("U{home}")).expect("id"));
            let meter = MeterSlot { flow: (!gap).then_some(flow), ct_ratio: 1.0, class: MeterClass::Class1 };
            members.push(MemberSlot { id, meter });
        }
        // The model's own law of loss, so that the test is about the errors, with its misfit.
        let supply = (total + k0 + k2 * total * total) * (1.0 + 0.003 * dice.normal());
        let flow = count(&mut registers[homes], supply * 0.25 * gains[homes]);
        let slot = ZoneSlot {
            zone,
            end: Timestamp((at as i64 + 1) * SLOT_SECONDS),
            minutes: 15,
            observer: MeterSlot { flow: Some(flow), ct_ratio: 1.0, class: MeterClass::Class05S },
            members,
        };
        balances.push(monitor.observe(&slot).balance);
    }
    assert_eq!(monitor.alarm(), AlarmState::Quiet);
    let holds = |b: &EnergyBalance| b.unaccounted_wh.abs() <= 1.645 * b.sigma_wh();
    let day = EnergyBalance::total(&balances[balances.len() - 96..]).expect("a day");
    (holds(&balances[balances.len() - 1]), holds(&day))
}
