//! Time of the balance: a neighbourhood's month, and a night's balance of 25,000 transformers on two threads.
//!
//! `cargo run --release -p losses --example bench_balance`
#![allow(clippy::print_stdout)]

#[path = "../tests/it/neighbourhood.rs"]
#[allow(dead_code)]
mod neighbourhood;

use std::time::Instant;

use losses::{
    alarm::AlarmConfig,
    balance::{ZoneMonitor, ZoneSlot},
    explain::explain,
};
use neighbourhood::{Theft, Thief, World, run};

fn main() {
    let homes = 40;
    let worlds: Vec<Vec<ZoneSlot>> = (0..4)
        .map(|seed| {
            let mut world = World::new(seed, homes);
            (0..2_880).map(|_| world.step()).collect()
        })
        .collect();
    let begin = Instant::now();
    let mut unaccounted = 0.0;
    let mut bytes = 0;
    for slots in &worlds {
        let mut monitor = World::monitor(homes, AlarmConfig::default());
        for slot in slots {
            unaccounted += monitor.observe(slot).balance.unaccounted_wh;
        }
        bytes = serde_json::to_vec(&monitor).map_or(0, |json| json.len());
    }
    println!(
        "4 zones of 40 meters x 2,880 slots: {:.3} s (state {bytes} bytes of JSON a zone, {unaccounted:.0} Wh)",
        begin.elapsed().as_secs_f64()
    );
    let begin = Instant::now();
    let night = |zones: usize| {
        let mut sum = 0.0;
        for zone in 0..zones {
            let mut monitor: ZoneMonitor = World::monitor(homes, AlarmConfig::default());
            for slot in &worlds[zone % 4][..96] {
                sum += monitor.observe(slot).balance.unaccounted_wh;
            }
        }
        sum
    };
    let total: f64 = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..2).map(|_| scope.spawn(|| night(12_500))).collect();
        handles.into_iter().filter_map(|handle| handle.join().ok()).sum()
    });
    println!("25,000 zones of 40 meters x 96 slots, 2 threads: {:.2} s ({total:.0} Wh)", begin.elapsed().as_secs_f64());
    let mut world = World::new(5, homes);
    world.enlarge(3, 3.0);
    world.thieves.push(Thief { home: 3, theft: Theft::Under(0.4), from: 96 * 20, until: usize::MAX });
    let result = run(&mut world, homes, 30, AlarmConfig::default());
    if let Some((_, alarm)) = result.first_raised() {
        let history = result.history(alarm, result.slots.len(), &[]);
        let begin = Instant::now();
        let explained = explain(&history);
        println!(
            "explain, 40 members x 2,880 slots: {:.3} s, {:?}",
            begin.elapsed().as_secs_f64(),
            explained.localisation
        );
    }
}
