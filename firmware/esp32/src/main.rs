//! The meter on an ESP32-C6 or ESP32-C3.
//!
//! Tasks: sampling (a timer's interrupt), measuring and the meter's state machine, display and signals, the network, the serial
//! console. Everything that decides anything is in the crates `metrology`, `meter` and `board`, which run unchanged on a
//! computer. It has been compiled and linked, never run on a chip.
#![no_std]
#![no_main]

extern crate alloc;

mod console;
mod flash;
mod front;
mod link;
mod measure;
mod panel;
mod pins;

use alloc::{format, string::String};
use core::cell::RefCell;

use board::{
    calibration,
    partitions::{BLOCK_BYTES, CALIBRATION, LOG, PROVISION},
    provisioning::Provision,
    record,
    rollback::{Slot, Start},
    service::{Running, Service},
    start,
};
use ed25519_dalek::VerifyingKey;
use embassy_executor::Spawner;
use embassy_net::{Runner, Stack, StackResources};
use embassy_sync::mutex::Mutex;
use embassy_time::{Instant, Timer};
use esp_backtrace as _;
use esp_hal::{ram, timer::timg::TimerGroup, usb::usb_serial_jtag::UsbSerialJtag};
use esp_radio::wifi::{
    AuthenticationMethodConfig, Config, Interface, Password, Ssid, WifiController, sta::StationConfig,
};
use esp_storage::FlashStorage;
use meter::{
    Calibration, MeterConfig, Settings, Uptime,
    clock::MeterClock,
    flash::{FlashStore, Layout},
    kept::KeptMeter,
};
use metering::MeterId;
use static_cell::StaticCell;

use flash::Chip;

esp_bootloader_esp_idf::esp_app_desc!();

/// Frames that wait in memory: two days of quarter-hours.
const FRAMES_MAX: usize = 192;
/// Version of this program, in the headers of images.
pub const VERSION: u32 = 1;

/// Milliseconds since the start.
pub fn uptime() -> Uptime {
    Uptime(Instant::now().as_millis())
}

/// The measuring core's configuration, and where it comes from. A calibration that may not be trusted is not used.
fn calibrated(chip: &mut Chip, provision: &Provision) -> (metrology::config::Config, Calibration) {
    let nominal = front::nominal_config();
    let bytes = record::load(chip, CALIBRATION).ok().flatten();
    match calibration::judge(bytes.as_deref(), provision.calibration_key.as_ref(), &nominal, front::RING) {
        Ok(record) => {
            let config = metrology::config::Config { front_end: record.front_end, ..nominal };
            (config, Calibration::Record(record.count))
        }
        Err(why) => {
            esp_println::println!("not calibrated: {why}");
            (nominal, Calibration::Missing)
        }
    }
}

/// The meter with its memory, or what the display says instead.
fn start_meter(
    chip: Chip,
    provision: &Provision,
    calibration: Calibration,
) -> Result<KeptMeter<Chip>, [&'static str; 2]> {
    let missing = ["NOT PROVISIONED", "say show over USB"];
    if !provision.missing().is_empty() {
        return Err(missing);
    }
    let id = MeterId::new(&provision.meter).map_err(|_| missing)?;
    let key = provision.control_key.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
    let config = MeterConfig {
        model: String::from("GT-1P-ESP32"),
        firmware: format!("gridtally-esp32 {VERSION}"),
        verifying_key: Some(key.ok_or(["BAD CONTROL KEY", "set control-key"])?),
        ring_frames_max: FRAMES_MAX,
        calibration,
        ..MeterConfig::new(id)
    };
    let damaged = ["MEMORY DAMAGED", "format over USB"];
    let blocks = (LOG.end - LOG.start) / BLOCK_BYTES;
    let layout = Layout::divide(LOG.start, blocks, BLOCK_BYTES).ok_or(damaged)?;
    let store = FlashStore::new(chip, layout).map_err(|_| damaged)?;
    KeptMeter::start(store, config, Settings::default(), MeterClock::default(), uptime()).map_err(|why| {
        esp_println::println!("memory: {why}");
        damaged
    })
}

#[embassy_executor::task]
async fn net(mut runner: Runner<'static, Interface>) {
    runner.run().await
}

#[embassy_executor::task]
async fn wifi(mut controller: WifiController<'static>) {
    loop {
        match controller.connect_async().await {
            Ok(_) => {
                let _ = controller.wait_for_disconnect_async().await;
            }
            Err(why) => esp_println::println!("wi-fi: {why:?}"),
        }
        Timer::after_secs(2).await;
    }
}

#[embassy_executor::task]
async fn connect(stack: Stack<'static>, meter: &'static link::SharedMeter, provision: &'static Provision) {
    link::run(stack, meter, provision).await
}

fn station(provision: &Provision) -> Option<StationConfig> {
    let ssid = Ssid::try_from(provision.ssid.as_str()).ok()?;
    let security = if provision.password.is_empty() {
        AuthenticationMethodConfig::Open
    } else {
        AuthenticationMethodConfig::Wpa2Personal(Password::try_from(provision.password.as_str()).ok()?)
    };
    Some(StationConfig::default().with_ssid(ssid).with_authentication(security))
}

/// Runs the program that is to run: this one, or the other slot's after a reset.
fn hand_over(chip: &mut Chip, slot: Slot) {
    match start::begin(chip, slot, VERSION) {
        Ok(Start::Run) => {}
        Ok(Start::Switch(_)) => esp_hal::system::software_reset(),
        Err(why) => esp_println::println!("the start could not be written: {why}"),
    }
}

#[esp_rtos::main]
async fn main(spawner: Spawner) {
    let p = esp_hal::init(esp_hal::Config::default());
    esp_alloc::heap_allocator!(#[ram(reclaimed)] size: 64 * 1024);
    esp_alloc::heap_allocator!(size: 96 * 1024);
    esp_rtos::start(TimerGroup::new(p.TIMG0).timer0, p.FROM_CPU_INTR0);
    let wiring = pins::wiring!(p);

    static FLASH: StaticCell<RefCell<FlashStorage<'static>>> = StaticCell::new();
    static METER: StaticCell<link::SharedMeter> = StaticCell::new();
    static PROVISIONED: StaticCell<Provision> = StaticCell::new();
    static RESOURCES: StaticCell<StackResources<4>> = StaticCell::new();
    let mut chip = Chip(FLASH.init(RefCell::new(FlashStorage::new(p.FLASH))));
    let slot = flash::running(chip);
    hand_over(&mut chip, slot);
    let written = record::load(&mut chip, PROVISION).ok().flatten();
    let provision = written.and_then(|bytes| minicbor::decode::<Provision>(&bytes).ok()).unwrap_or_default();
    let provision = &*PROVISIONED.init(provision);
    let (config, calibration) = calibrated(&mut chip, provision);
    let running = Running {
        hardware: pins::HARDWARE,
        version: VERSION,
        slot,
        front_end: front::nominal_config(),
        ring: front::RING,
    };
    let port = UsbSerialJtag::new(p.USB_DEVICE).into_async();
    spawn(spawner, console::run(port, Service::new(chip, running, provision.clone()), wiring.jumper));
    let meter = match start_meter(chip, provision, calibration) {
        Ok(meter) => &*METER.init(Mutex::new(meter)),
        Err(lines) => {
            panel::notice(wiring.lcd, lines).await;
            return core::future::pending().await;
        }
    };
    front::start(TimerGroup::new(p.TIMG1).timer0.into(), p.ADC1, wiring.analog);
    spawn(spawner, measure::run(meter, config, wiring.switches, chip, slot));
    spawn(spawner, panel::run(wiring.lcd, wiring.signals, meter));

    let radio = WifiController::new(p.WIFI, Default::default()).ok();
    let (Some(mut controller), Some(station)) = (radio, station(provision)) else {
        esp_println::println!("no radio: the meter measures and keeps its frames");
        return core::future::pending().await;
    };
    if let Err(why) = controller.set_config(&Config::Station(station)) {
        esp_println::println!("wi-fi settings: {why:?}");
    }
    let config = embassy_net::Config::dhcpv4(Default::default());
    let seed = esp_hal::rng::Rng::new().random();
    let (stack, runner) =
        embassy_net::new(Interface::station(), config, RESOURCES.init(StackResources::new()), u64::from(seed));
    spawn(spawner, net(runner));
    spawn(spawner, wifi(controller));
    spawn(spawner, connect(stack, meter, provision));
    core::future::pending().await
}

/// Spawns a task; there is room for each of them once.
fn spawn<S>(spawner: Spawner, task: Result<embassy_executor::SpawnToken<S>, embassy_executor::SpawnError>) {
    match task {
        Ok(task) => spawner.spawn(task),
        Err(why) => esp_println::println!("a task does not start: {why:?}"),
    }
}
