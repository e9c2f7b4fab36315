//! The demonstration's neighbourhood without a server: how fast the physics run and what the truth is.
//!
//! `cargo run --release -p sim --example physics -- [DAYS] [SEED] [PROFILES]`
#![allow(clippy::print_stdout)]

use std::{path::Path, time::Instant};

use sim::{LoadSource, SimConfig, World, profiles::Profiles};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let days: i64 = arguments.next().map_or(Ok(30), |a| a.parse())?;
    let seed: u64 = arguments.next().map_or(Ok(1), |a| a.parse())?;
    let mut config = SimConfig::demo(seed, 14);
    let begun = Instant::now();
    if let Some(path) = arguments.next() {
        config.loads = LoadSource::Measured(Profiles::read(Path::new(&path))?);
        println!("profiles read in {:.2} s", begun.elapsed().as_secs_f64());
    }
    let until = config.start.plus(days * 86_400);
    let mut world = World::new(&config)?;
    let built = begun.elapsed();
    while world.now() < until {
        world.step();
        for event in world.take_events() {
            tracing::debug!(?event);
        }
        for meter in 0..world.meters().len() {
            while let Some(id) = world.next_to_send(meter).map(|out| out.id) {
                world.acknowledge(meter, id);
            }
        }
    }
    let report = world.report();
    println!(
        "built in {:.2} s; {days} days of {} meters in {:.2} s",
        built.as_secs_f64(),
        report.meters.len(),
        (begun.elapsed() - built).as_secs_f64()
    );
    println!("frames {}, records {}", report.frames_made, report.records_made);
    for zone in &report.zones {
        let share = 100.0 * zone.total_technical_wh / zone.total_supplied_wh;
        println!("{}: supplied {:.0} kWh, technical {share:.2} %", zone.zone, zone.total_supplied_wh / 1e3);
    }
    for theft in &report.thefts {
        let share = 100.0 * theft.stolen_wh / theft.zone_supplied_wh;
        let who = theft.usage_point.map_or_else(|| "observer".to_owned(), |u| u.to_string());
        println!(
            "{} {who} {} from {}: {:.1} kWh, {share:.1} % of its zone",
            theft.zone,
            theft.kind,
            theft.start,
            theft.stolen_wh / 1e3
        );
    }
    Ok(())
}
