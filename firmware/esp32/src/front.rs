//! The analogue front end: a timer reads voltage, phase and neutral current one after the other.
//!
//! The converter has no continuous mode in this driver, and one conversion of the C6 waits 40 µs: three of them take half of every
//! period at 3,200 samples per second. The delay between the channels is told to the core as `current_delay_ns`. A board with a
//! metering chip replaces this file.

use core::cell::RefCell;

use critical_section::Mutex;
use embassy_sync::{blocking_mutex::raw::CriticalSectionRawMutex, channel::Channel};
use esp_hal::{
    Blocking,
    analog::adc::{Adc, AdcConfig, AdcPin, Attenuation},
    handler,
    peripherals::{ADC1, GPIO0, GPIO1, GPIO2},
    time::Duration,
    timer::{AnyTimer, PeriodicTimer},
};
use metrology::{
    config::{Config, FrontEnd, Nominal},
    sums::Sample,
};

/// Samples per second and channel: at 50 Hz 64 in a cycle.
pub const SAMPLE_RATE: u32 = 3_200;
/// Samples that wait for the measuring task: 80 ms.
const WAITING: usize = 256;
/// Twelve bits, moved up to the core's 24.
const SHIFT: u32 = 11;

/// Samples on their way to the measuring task; a full channel loses the newest.
pub static SAMPLES: Channel<CriticalSectionRawMutex, Sample, WAITING> = Channel::new();
static CONVERTER: Mutex<RefCell<Option<Converter>>> = Mutex::new(RefCell::new(None));

struct Converter {
    timer: PeriodicTimer<'static, Blocking>,
    adc: Adc<'static, ADC1<'static>, Blocking>,
    voltage: AdcPin<GPIO0<'static>, ADC1<'static>>,
    phase: AdcPin<GPIO1<'static>, ADC1<'static>>,
    neutral: AdcPin<GPIO2<'static>, ADC1<'static>>,
}

/// What the core is told until a calibration record says better: the parts' nominal values at the pins, 1.9 mV per volt and 42.7 mV per ampere.
pub fn nominal_config() -> Config {
    Config {
        sample_rate_mhz: SAMPLE_RATE * 1_000,
        nominal: Nominal::Hz50,
        u_din_mv: 230_000,
        front_end: FrontEnd {
            volt_pv_per_count: 207_000_000,
            phase_pa_per_count: 9_214_000,
            neutral_pa_per_count: 9_214_000,
            current_delay_ns: 45_000,
            voltage_lead_udeg: 0,
            volt_noise_uv: 0,
            phase_noise_ua: 25_000,
            neutral_noise_ua: 25_000,
            counts_per_step: 1 << SHIFT,
        },
        start_current_ua: 40_000,
    }
}

/// Starts sampling.
pub fn start(
    timer: AnyTimer<'static>,
    adc: ADC1<'static>,
    (voltage, phase, neutral): (GPIO0<'static>, GPIO1<'static>, GPIO2<'static>),
) {
    let mut config = AdcConfig::new();
    let voltage = config.enable_pin(voltage, Attenuation::_11dB);
    let phase = config.enable_pin(phase, Attenuation::_11dB);
    let neutral = config.enable_pin(neutral, Attenuation::_11dB);
    let mut timer = PeriodicTimer::new(timer);
    timer.set_interrupt_handler(sample);
    timer.listen();
    let started = timer.start(Duration::from_micros(u64::from(1_000_000 / SAMPLE_RATE)));
    let adc = Adc::new(adc, config);
    critical_section::with(|cs| {
        CONVERTER.borrow_ref_mut(cs).replace(Converter { timer, adc, voltage, phase, neutral });
    });
    if started.is_err() {
        esp_println::println!("the sampling timer does not start: nothing is measured");
    }
}

/// A reading around the middle of the converter, in the core's counts.
fn counts(reading: Option<u16>) -> i32 {
    // a conversion that failed is the middle: the window's noise shows it
    reading.map_or(0, |r| (i32::from(r) - 2_048) << SHIFT)
}

#[handler]
fn sample() {
    critical_section::with(|cs| {
        let mut converter = CONVERTER.borrow_ref_mut(cs);
        let Some(c) = converter.as_mut() else { return };
        c.timer.clear_interrupt();
        let v = counts(nb::block!(c.adc.read_oneshot(&mut c.voltage)).ok());
        let i = counts(nb::block!(c.adc.read_oneshot(&mut c.phase)).ok());
        let n = counts(nb::block!(c.adc.read_oneshot(&mut c.neutral)).ok());
        let _ = SAMPLES.try_send(Sample { v, i, n });
    });
}
