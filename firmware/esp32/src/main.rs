//! The meter on an ESP32-C6 or ESP32-C3.
//!
//! Tasks: sampling (a timer's interrupt), measuring and the meter's state machine, the display, the network, the serial console.
//! Everything that decides anything is in the crates `metrology`, `meter` and `board`, which run unchanged on a computer. It has
//! been compiled and linked, never run on a chip.
#![no_std]
#![no_main]

extern crate alloc;

mod flash;
mod front;
mod link;
mod panel;

use alloc::{boxed::Box, string::String, vec::Vec};
use core::{cell::RefCell, sync::atomic::Ordering};

use board::{
    provisioning::{Effect, LINE_BYTES_MAX, Provision},
    rollback::{BootState, SelfTest},
};
use ed25519_dalek::VerifyingKey;
use embassy_executor::Spawner;
use embassy_net::{Runner, Stack, StackResources};
use embassy_sync::{
    blocking_mutex::{Mutex as BlockingMutex, raw::CriticalSectionRawMutex, raw::NoopRawMutex},
    channel::Channel,
    mutex::Mutex,
};
use embassy_time::{Duration, Instant, Ticker, Timer};
use embedded_io_async::{Read, Write};
use esp_backtrace as _;
use esp_hal::{
    Async,
    gpio::{Input, InputConfig, Level, Output, OutputConfig, Pull},
    ram,
    timer::timg::TimerGroup,
    usb::usb_serial_jtag::UsbSerialJtag,
};
use esp_radio::wifi::{
    AuthenticationMethodConfig, Config, Interface, Password, Ssid, WifiController, sta::StationConfig,
};
use esp_storage::FlashStorage;
use meter::{
    Action, Inputs, Memory, Meter, MeterConfig, Settings, Uptime,
    clock::MeterClock,
    register::{ActiveRegister, Registers},
    relay::Pulse,
};
use metering::{Down, MeterId, Milliamps, Millihertz, Millivolts, unit::PerMille};
use metrology::{engine::Core, fft::Spectrum, window::WindowReport};
use static_cell::StaticCell;

esp_bootloader_esp_idf::esp_app_desc!();

/// Sample memory of the engine: more than a window at 3,200 samples per second.
const RING: usize = 1_024;
/// Frames that wait in memory.
const FRAMES_MAX: usize = 192;
/// Length of a relay pulse.
const PULSE: Duration = Duration::from_millis(100);
const VERSION: u32 = 1;

/// Frames from the server, for the task that owns the relay.
pub static ACTIONS: Channel<CriticalSectionRawMutex, Down, 4> = Channel::new();
/// The last window, for the display.
static WINDOW: BlockingMutex<CriticalSectionRawMutex, RefCell<Option<WindowReport>>> =
    BlockingMutex::new(RefCell::new(None));

/// Switches and coils.
struct Pins {
    relay_set: Output<'static>,
    relay_reset: Output<'static>,
    contact: Input<'static>,
    lid: Input<'static>,
    magnet: Input<'static>,
    button: Input<'static>,
    buzzer: Output<'static>,
    light: Output<'static>,
}

fn uptime() -> Uptime {
    Uptime(Instant::now().as_millis())
}

fn start_meter(provision: &Provision, kept: flash::Kept) -> Option<Meter> {
    let id = MeterId::new(&provision.meter).ok()?;
    let key = provision.control_key.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
    let model = String::from("GT-1P-ESP32");
    let config = MeterConfig { model, verifying_key: key, ring_frames_max: FRAMES_MAX, ..MeterConfig::new(id) };
    let registers = Registers {
        import: ActiveRegister::starting_at(kept.import_wh),
        export: ActiveRegister::starting_at(kept.export_wh),
        ..Registers::default()
    };
    let memory = Memory::new(&config, Settings::default()).with_registers(registers);
    Some(Meter::start(config, memory, kept.starts, MeterClock::default(), uptime()))
}

/// A window in the meter's units, with the switches as they are.
fn inputs(window: &WindowReport, pins: &Pins) -> Inputs {
    let milli = |micro: u32| micro / 1_000;
    let pf = window.pf_ppm().map_or(1_000, |ppm| (ppm / 1_000).clamp(-1_000, 1_000) as i16);
    Inputs {
        voltage: Millivolts(milli(window.vrms_uv)),
        current: Milliamps(milli(window.irms_ua)),
        active_mw: window.p_uw / 1_000,
        reactive_mvar: window.q1_uvar / 1_000,
        power_factor: PerMille(pf),
        frequency: Millihertz(milli(window.frequency_uhz.unwrap_or(0))),
        neutral: Some(Milliamps(milli(window.neutral_ua))),
        load_voltage: None,
        cover_open: pins.lid.is_high(),
        magnet: pins.magnet.is_low(),
        button: pins.button.is_low(),
        contact_closed: Some(pins.contact.is_low()),
        ..Inputs::default()
    }
}

async fn act(actions: &[Action], pins: &mut Pins, meter: &link::SharedMeter, storage: &flash::Shared, starts: u64) {
    for action in actions {
        match action {
            Action::Relay(pulse) => {
                let coil = match pulse {
                    Pulse::Close => &mut pins.relay_set,
                    Pulse::Open => &mut pins.relay_reset,
                };
                coil.set_high();
                Timer::after(PULSE).await;
                coil.set_low();
            }
            Action::Save => {
                let kept = {
                    let meter = meter.lock().await;
                    let registers = meter.registers();
                    flash::Kept { import_wh: registers.import_wh().0, export_wh: registers.export_wh().0, starts }
                };
                if !flash::save(&mut *storage.lock().await, flash::Place::Registers, &kept) {
                    esp_println::println!("the registers could not be written");
                }
            }
            Action::FrameReady => {}
        }
    }
}

/// Samples become windows, windows the meter's steps; after fifty windows and an acknowledged frame the image is confirmed.
#[embassy_executor::task]
async fn measure(meter: &'static link::SharedMeter, storage: &'static flash::Shared, mut pins: Pins, starts: u64) {
    let mut core = match Core::<RING>::new(front::nominal_config()) {
        Ok(core) => Box::new(core),
        Err(why) => {
            esp_println::println!("metrology: {why}");
            return;
        }
    };
    let mut spectrum = Box::<Spectrum>::default();
    let mut test = SelfTest { windows: 0, storage: true, acknowledged: 0 };
    let mut confirmed = false;
    let (mut lit_mwh, mut tampered) = (0_u64, false);
    loop {
        let sample = front::SAMPLES.receive().await;
        while let Ok(down) = ACTIONS.try_receive() {
            let actions: Vec<Action> = meter.lock().await.receive(&down).collect();
            act(&actions, &mut pins, meter, storage, starts).await;
        }
        let Some(half_cycle) = core.push(&[sample]).half_cycle else { continue };
        if !half_cycle.window_ready {
            continue;
        }
        let Some(window) = core.close_window(&mut spectrum) else { continue };
        let now = inputs(&window, &pins);
        let actions: Vec<Action> = {
            let mut meter = meter.lock().await;
            let actions = meter.step(uptime(), &now).collect();
            let seconds = meter.time().map_or(0, |at| u32::try_from(at.0).unwrap_or(0));
            link::UTC.store(seconds, Ordering::Relaxed);
            actions
        };
        act(&actions, &mut pins, meter, storage, starts).await;
        // milliwatts over a fifth of a second, in thousandths of a milliwatt-hour
        lit_mwh += now.active_mw.unsigned_abs() / 18;
        if lit_mwh >= panel::PULSE_MWH * 1_000 {
            lit_mwh -= panel::PULSE_MWH * 1_000;
            pins.light.toggle();
        }
        let tamper = now.cover_open || now.magnet;
        if tamper != tampered {
            tampered = tamper;
            pins.buzzer.set_level(tamper.into());
        } else if test.windows % 10 == 0 {
            pins.buzzer.set_low();
        }
        WINDOW.lock(|w| w.borrow_mut().replace(window));
        test.windows = test.windows.saturating_add(1);
        test.acknowledged = link::ACKNOWLEDGED.load(Ordering::Relaxed);
        if !confirmed && test.passed() {
            confirmed = true;
            confirm(&mut *storage.lock().await);
        }
    }
}

/// Ends the trial of a new image.
fn confirm(storage: &mut FlashStorage<'static>) {
    let mut state: BootState = flash::load(storage, flash::Place::Boot).unwrap_or(BootState::new(VERSION));
    let running = if state.trial.is_some() { state.confirmed.other() } else { state.confirmed };
    if state.confirm(running) && !flash::save(storage, flash::Place::Boot, &state) {
        esp_println::println!("the new image could not be confirmed: the next starts try it again");
    }
}

#[embassy_executor::task]
async fn show(mut lcd: panel::Lcd, meter: &'static link::SharedMeter) {
    lcd.start().await;
    let mut ticker = Ticker::every(Duration::from_secs(panel::PAGE_SECONDS));
    for number in 0_u64.. {
        let window = WINDOW.lock(|w| w.borrow().clone());
        let import = meter.lock().await.registers().import_wh().0;
        let [first, second] = panel::page(number, window.as_ref(), import);
        lcd.show([&first, &second]).await;
        ticker.next().await;
    }
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

/// Lines over USB. A board without a provision waits here for ever.
#[embassy_executor::task]
async fn console(
    mut port: UsbSerialJtag<'static, Async>,
    mut provision: Provision,
    storage: &'static flash::Shared,
    jumper: Input<'static>,
) {
    let mut line = Vec::new();
    loop {
        let mut part = [0; 64];
        let Ok(count) = port.read(&mut part).await;
        for byte in &part[..count] {
            if !matches!(byte, b'\n' | b'\r') {
                // one more than the limit, so that the answer says so
                if line.len() <= LINE_BYTES_MAX {
                    line.push(*byte);
                }
                continue;
            }
            if line.is_empty() {
                continue;
            }
            let (answer, effect) = provision.line(&String::from_utf8_lossy(&line), jumper.is_low());
            line.clear();
            let _ = port.write_all(answer.as_bytes()).await;
            let _ = port.write_all(b"\r\n").await;
            if effect == Effect::Save && flash::save(&mut *storage.lock().await, flash::Place::Provision, &provision) {
                esp_hal::system::software_reset();
            }
        }
    }
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

#[esp_rtos::main]
async fn main(spawner: Spawner) {
    let p = esp_hal::init(esp_hal::Config::default());
    esp_alloc::heap_allocator!(#[ram(reclaimed)] size: 64 * 1024);
    esp_alloc::heap_allocator!(size: 96 * 1024);
    esp_rtos::start(TimerGroup::new(p.TIMG0).timer0, p.FROM_CPU_INTR0);
    let out = |pin: esp_hal::gpio::AnyPin<'static>| Output::new(pin, Level::Low, OutputConfig::default());
    let switch = |pin: esp_hal::gpio::AnyPin<'static>| Input::new(pin, InputConfig::default().with_pull(Pull::Up));

    static STORAGE: StaticCell<flash::Shared> = StaticCell::new();
    let mut storage = FlashStorage::new(p.FLASH);
    let provision: Provision = flash::load(&mut storage, flash::Place::Provision).unwrap_or_default();
    let mut kept: flash::Kept = flash::load(&mut storage, flash::Place::Registers).unwrap_or_default();
    kept.starts += 1;
    if !flash::save(&mut storage, flash::Place::Registers, &kept) {
        esp_println::println!("the start could not be counted");
    }
    let storage = &*STORAGE.init(Mutex::<NoopRawMutex, _>::new(storage));
    let port = UsbSerialJtag::new(p.USB_DEVICE).into_async();
    spawn(spawner, console(port, provision.clone(), storage, switch(p.GPIO9.into())));
    let (true, Some(meter)) = (provision.missing().is_empty(), start_meter(&provision, kept)) else {
        esp_println::println!("not provisioned: say `show` on this port");
        return core::future::pending().await;
    };

    static METER: StaticCell<link::SharedMeter> = StaticCell::new();
    static PROVISION: StaticCell<Provision> = StaticCell::new();
    static RESOURCES: StaticCell<StackResources<4>> = StaticCell::new();
    let meter = &*METER.init(Mutex::new(meter));
    let provision = &*PROVISION.init(provision);
    front::start(TimerGroup::new(p.TIMG1).timer0.into(), p.ADC1, (p.GPIO0, p.GPIO1, p.GPIO2));
    let pins = Pins {
        relay_set: out(p.GPIO10.into()),
        relay_reset: out(p.GPIO11.into()),
        contact: switch(p.GPIO18.into()),
        lid: switch(p.GPIO22.into()),
        magnet: switch(p.GPIO23.into()),
        button: switch(p.GPIO8.into()),
        buzzer: out(p.GPIO15.into()),
        light: out(p.GPIO14.into()),
    };
    spawn(spawner, measure(meter, storage, pins, kept.starts));
    let data = [out(p.GPIO5.into()), out(p.GPIO6.into()), out(p.GPIO7.into()), out(p.GPIO19.into())];
    spawn(spawner, show(panel::Lcd { rs: out(p.GPIO3.into()), enable: out(p.GPIO4.into()), data }, meter));

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
