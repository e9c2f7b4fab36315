//! Samples become windows, windows the meter's steps; a program that does this and reaches the server is confirmed.

use alloc::boxed::Box;
use core::{cell::Cell, sync::atomic::Ordering};

use board::{
    bench::Bench,
    rollback::{SelfTest, Slot},
    start,
};
use embassy_sync::{
    blocking_mutex::{Mutex, raw::CriticalSectionRawMutex},
    channel::Channel,
    signal::Signal,
};
use meter::measured::inputs_of;
use metering::Down;
use metrology::{
    calibration::Reading,
    config::{Config, FrontEnd},
    engine::Core,
    fft::Spectrum,
};

use crate::{
    VERSION,
    flash::Chip,
    front::{self, RING},
    link::{self, SharedMeter},
    pins::Switches,
    uptime,
};

/// Frames from the server, for the task that owns the relay.
pub static ORDERS: Channel<CriticalSectionRawMutex, Down, 4> = Channel::new();

/// What the newest window measured, for the calibration at the bench.
pub static NEWEST: Mutex<CriticalSectionRawMutex, Cell<Option<Reading>>> = Mutex::new(Cell::new(None));
/// What the bench has found: measure with it from now on.
pub static FOUND: Signal<CriticalSectionRawMutex, FrontEnd> = Signal::new();

#[embassy_executor::task]
pub async fn run(meter: &'static SharedMeter, config: Config, mut switches: Switches, mut chip: Chip, slot: Slot) {
    let mut core = match Core::<RING>::new(config) {
        Ok(core) => Box::new(core),
        Err(why) => {
            esp_println::println!("metrology: {why}");
            return;
        }
    };
    let mut spectrum = Box::<Spectrum>::default();
    let mut test = SelfTest::default();
    let mut confirmed = false;
    loop {
        let taken = front::SAMPLES.receive().await;
        while let Ok(down) = ORDERS.try_receive() {
            let pulse = meter.lock().await.receive(uptime(), &down);
            switches.pulse(pulse).await;
        }
        if let Some(found) = FOUND.try_take() {
            match Core::<RING>::new(Bench::config(&config, found)) {
                Ok(fresh) => *core = fresh,
                Err(why) => esp_println::println!("metrology: {why}"),
            }
            NEWEST.lock(|newest| newest.set(None));
            meter.lock().await.uncalibrate(uptime());
        }
        core.lose(taken.missing);
        if !core.push(&[taken.sample]).half_cycle.is_some_and(|half| half.window_ready) {
            continue;
        }
        let Some(window) = core.close_window(&mut spectrum) else { continue };
        NEWEST.lock(|newest| newest.set(Some(Reading::of(&window, &core.config().front_end))));
        let inputs = inputs_of(&window, switches.inputs());
        let pulse = {
            // step and save under one lock: no other task sees what is not saved
            let mut meter = meter.lock().await;
            let pulse = meter.step(uptime(), &inputs);
            if let Some(why) = meter.fault() {
                esp_println::println!("memory: {why}");
            }
            let seconds = meter.meter().time().map_or(0, |at| u32::try_from(at.0).unwrap_or(0));
            link::UTC.store(seconds, Ordering::Relaxed);
            test.storage = meter.saves() > 0 && meter.fault().is_none();
            pulse
        };
        switches.pulse(pulse).await;
        test.windows = test.windows.saturating_add(1);
        test.acknowledged = link::ACKNOWLEDGED.load(Ordering::Relaxed);
        if !confirmed && test.passed() {
            confirmed = true;
            match start::confirm(&mut chip, slot, VERSION) {
                Ok(true) => esp_println::println!("version {VERSION} has proved itself"),
                Ok(false) => {}
                Err(why) => esp_println::println!("version {VERSION} could not be confirmed: {why}"),
            }
        }
    }
}
