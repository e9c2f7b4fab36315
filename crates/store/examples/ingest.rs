//! How fast the store takes frames and how small it packs them: `cargo run --release -p store --example ingest -- [METERS] [DAYS]`.
//!
//! One record a frame, quarter-hour by quarter-hour as it arrives, in batches of 4,096, each acknowledged after a full sync.
//! Registers in Wh, voltage in steps of 0.1 V, current in steps of 10 mA, export on every tenth meter: four channels a record.
#![allow(clippy::print_stdout, reason = "a program that prints its figures")]

use std::time::Instant;

use metering::{
    Body, Frame, MeterId, Milliamps, Millivolts, ProfileRecord, RecordFlags, Timestamp, WattHours, frame::Profile,
};
use store::{Incoming, OpenOptions, Store};

const T0: Timestamp = Timestamp(1_767_225_600);
const BATCH: usize = 4_096;

struct Home {
    meter: MeterId,
    import: u64,
    export: u64,
    base_w: u64,
}

fn next(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

fn frame(home: &mut Home, number: usize, slot: i64, state: &mut u64) -> Incoming {
    let end = T0.plus((slot + 1) * 900);
    let hour = slot / 4 % 24;
    let evening = if (17..22).contains(&hour) { next(state, 1_200) } else { 0 };
    let watts = home.base_w + next(state, 150) + evening;
    home.import += watts / 4;
    if number.is_multiple_of(10) && (9..16).contains(&hour) {
        home.export += next(state, 600);
    }
    let volts = 2_300 + next(state, 60) - 2 * watts / 100;
    let record = ProfileRecord {
        end,
        flags: RecordFlags::default(),
        import_wh: WattHours(home.import),
        export_wh: WattHours(home.export),
        voltage_mv: u32::try_from(volts * 100).ok().map(Millivolts),
        current_ma: u32::try_from(watts * 100 / 230 * 10).ok().map(Milliamps),
        extra: vec![],
        masked: None,
    };
    let body = Body::Profile(Profile { minutes: 15, records: vec![record] });
    let frame = Frame::new(home.meter, 1, slot.unsigned_abs(), body);
    let payload = frame.to_cbor().into();
    Incoming { frame, payload, received: end.plus(5) }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let meters: usize = arguments.next().map_or(Ok(2_000), |a| a.parse())?;
    let days: i64 = arguments.next().map_or(Ok(5), |a| a.parse())?;
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path(), OpenOptions { create: true, simulation: true }).await?;
    let mut state = 42;
    let mut homes = Vec::new();
    for number in 0..meters {
        let (import, base_w) = (next(&mut state, 9_000_000), 50 + next(&mut state, 300));
        homes.push(Home { meter: MeterId::new(&format!("M-{number:06}"))?, import, export: 0, base_w });
    }
    let (mut busy, mut waits, mut batch) = (0.0, Vec::new(), Vec::with_capacity(BATCH));
    for slot in 0..days * 96 {
        for (number, home) in homes.iter_mut().enumerate() {
            batch.push(frame(home, number, slot, &mut state));
            if batch.len() == BATCH || (slot == days * 96 - 1 && number == meters - 1) {
                let begun = Instant::now();
                store.ingest(std::mem::take(&mut batch)).await?;
                let took = begun.elapsed().as_secs_f64();
                busy += took;
                waits.push(took * 1e3);
            }
        }
    }
    waits.sort_by(f64::total_cmp);
    let frames = store.counts().await?.frames;
    let at = |share: usize| waits[(waits.len() * share / 100).min(waits.len() - 1)];
    println!("{frames} frames in {busy:.2} s of ingest: {:.0} frames/s durable", frames as f64 / busy);
    println!("a batch of {BATCH}: p50 {:.1} ms, p99 {:.1} ms", at(50), at(99));
    let begun = Instant::now();
    store.seal().await?;
    let counts = store.counts().await?;
    let values = counts.readings as f64 * 4.0;
    println!("last packing {:.2} s", begun.elapsed().as_secs_f64());
    println!(
        "{:.3} byte a value in blocks, {:.3} with everything else ({} MiB)",
        counts.block_bytes as f64 / values,
        counts.bytes_on_disk as f64 / values,
        counts.bytes_on_disk >> 20,
    );
    let to = T0.plus(days * 86_400);
    let begun = Instant::now();
    let mut records = 0;
    for home in homes.iter().take(200) {
        records += store.profile(home.meter, T0, to).await?.len();
    }
    let each = begun.elapsed().as_secs_f64() * 1e3 / homes.len().min(200) as f64;
    println!("history of a meter ({} records): {each:.2} ms", records / homes.len().min(200));
    let begun = Instant::now();
    let feeder: Vec<MeterId> = homes.iter().take(100).map(|home| home.meter).collect();
    store.profiles(&feeder, to.plus(-86_400), to).await?;
    println!("a day of 100 meters: {:.2} ms", begun.elapsed().as_secs_f64() * 1e3);
    store.close().await?;
    Ok(())
}
