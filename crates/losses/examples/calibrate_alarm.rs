//! Measures what the alarm promises on synthetic zones: false alarms per zone-month, detection delay, right and wrong names.
//!
//! `cargo run --release -p losses --example calibrate_alarm [ZONES] [MONTHS]`
#![allow(clippy::print_stdout)]

#[path = "../tests/it/neighbourhood.rs"]
#[allow(dead_code)]
mod neighbourhood;

use losses::{
    alarm::{AlarmChange, AlarmConfig, AlarmKind},
    explain::explain,
};
use neighbourhood::{Theft, Thief, World, run};

const HOMES: usize = 40;
/// When the explanation is asked for, hours after the alarm.
const HOURS: [usize; 6] = [0, 12, 24, 48, 96, 192];

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|a| a.parse::<usize>().ok());
    let (zones, months) = (args.next().unwrap_or(60), args.next().unwrap_or(3));
    let begin = std::time::Instant::now();
    let mut slots = 0;
    for rate in [0.01, 0.1] {
        let (mut raised, mut by) = (0, vec![]);
        for seed in 0..zones as u64 {
            let mut world = World::new(seed, HOMES);
            let result = run(&mut world, HOMES, 30 * months, AlarmConfig { false_alarms_per_zone_month: rate });
            slots += result.slots.len();
            for (at, change) in &result.changes {
                if let AlarmChange::Raised { by: chart, kind, .. } = change {
                    raised += 1;
                    by.push((seed, at / 96, *kind, *chart));
                }
            }
        }
        println!("budget {rate}: {raised} false alarms in {} zone-months {by:?}", zones * months);
    }
    println!("{:.2} µs per zone-slot with the synthetic world", begin.elapsed().as_secs_f64() * 1e6 / slots as f64);
    for (name, theft) in [
        ("under-registration to 50 %", Theft::Under(0.5)),
        ("under-registration to 10 %", Theft::Under(0.1)),
        ("night bypass to 5 %", Theft::Night(0.05)),
        ("tap 600 W", Theft::Tap(600.0)),
        ("tap 3 kW", Theft::Tap(3_000.0)),
        ("constant 500 W", Theft::Constant(500.0)),
        ("observer 4 % low", Theft::Observer(0.96)),
    ] {
        detection(name, theft, zones);
    }
}

fn detection(name: &str, theft: Theft, zones: usize) {
    let (mut delays, mut missed, mut tried) = (vec![], vec![], 0);
    let (mut right, mut wrong, mut wrong_kind) = ([0; HOURS.len()], [0; HOURS.len()], 0);
    for seed in 0..zones as u64 {
        let mut world = World::new(1_000 + seed, HOMES);
        let from = 96 * 15 + (seed as usize * 7) % 96;
        let home = seed as usize % HOMES;
        match theft {
            Theft::Under(_) => world.enlarge(home, 4.0),
            Theft::Night(_) => world.enlarge(home, 9.0),
            _ => {}
        }
        world.thieves.push(Thief { home, theft, from, until: usize::MAX });
        let result = run(&mut world, HOMES, 25, AlarmConfig::default());
        let total = |f: fn(&losses::balance::EnergyBalance) -> f64| -> f64 {
            result.verdicts[from..].iter().map(|v| f(&v.balance)).sum()
        };
        let share = (total(|b| b.unaccounted_wh) / total(|b| b.supplied_wh)).abs();
        if share < 0.03 {
            continue;
        }
        tried += 1;
        let Some((at, alarm)) = result.first_raised().filter(|(at, _)| *at >= from) else {
            missed.push((seed, format!("{:.1} %", 100.0 * share)));
            continue;
        };
        delays.push((at - from) as f64 / 4.0);
        let expected = if matches!(theft, Theft::Observer(_)) { AlarmKind::Surplus } else { AlarmKind::Missing };
        wrong_kind += usize::from(!matches!(alarm, AlarmChange::Raised { kind, .. } if kind == expected));
        for (index, hours) in HOURS.into_iter().enumerate() {
            let now = (at + 1 + 4 * hours).min(result.slots.len());
            let named = explain(&result.history(alarm, now, &[])).named_usage_point();
            right[index] += usize::from(named == Some(World::point(home)));
            wrong[index] += usize::from(named.is_some_and(|n| n != World::point(home)));
        }
    }
    delays.sort_by(f64::total_cmp);
    let at = |q: f64| delays.get(((delays.len() as f64 - 1.0) * q) as usize).copied().unwrap_or(f64::NAN);
    println!(
        "{name}: {tried} of >= 3 %, delay h median {:.1} / 90 % {:.1} / max {:.1}, missed {missed:?}, wrong kind {wrong_kind}; \
         {HOURS:?} h after the alarm named right {right:?}, wrong {wrong:?}",
        at(0.5),
        at(0.9),
        at(1.0)
    );
}
