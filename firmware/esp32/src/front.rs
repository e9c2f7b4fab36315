//! The analogue front end: a timer reads voltage, phase and neutral current one after the other.
//!
//! The converter has no continuous mode in this driver, and one conversion of the C6 waits 40 µs: three of them take half of every
//! period at 3,200 samples per second. The delay between the channels is told to the core as `current_delay_ns`. A board with a
//! metering chip replaces this file.

use core::cell::RefCell;

use board::gaps::Gaps;
use critical_section::Mutex;
use embassy_sync::{blocking_mutex::raw::CriticalSectionRawMutex, channel::Channel};
use esp_hal::{
    Blocking,
    analog::adc::{Adc, AdcConfig, AdcPin, Attenuation},
    handler,
    peripherals::ADC1,
    time::{Duration, Instant},
    timer::{AnyTimer, PeriodicTimer},
};
use metrology::{
    config::{Config, FrontEnd, Nominal},
    sums::Sample,
};

use crate::pins::{Neutral, Phase, Voltage};

/// Sample memory of the engine: more than a window.
pub const RING: usize = 1_024;
/// Microseconds between two samples, a whole number for the timer: at 50 Hz 64 in a cycle.
const PERIOD_US: u64 = 312;
/// Samples per second and channel, millihertz.
const SAMPLE_RATE_MHZ: u32 = (1_000_000_000 / PERIOD_US) as u32;
/// Samples that wait for the measuring task: 320 ms, longer than a save or a pulse of the relay takes.
const WAITING: usize = 1_024;
/// Twelve bits, moved up to the core's 24.
const SHIFT: u32 = 11;

/// A sample, and how many are missing before it.
pub struct Taken {
    pub sample: Sample,
    pub missing: u32,
}

/// Samples on their way to the measuring task; what does not get through is counted.
pub static SAMPLES: Channel<CriticalSectionRawMutex, Taken, WAITING> = Channel::new();
static CONVERTER: Mutex<RefCell<Option<Converter>>> = Mutex::new(RefCell::new(None));

struct Converter {
    timer: PeriodicTimer<'static, Blocking>,
    adc: Adc<'static, ADC1<'static>, Blocking>,
    voltage: AdcPin<Voltage, ADC1<'static>>,
    phase: AdcPin<Phase, ADC1<'static>>,
    neutral: AdcPin<Neutral, ADC1<'static>>,
    gaps: Gaps,
}

impl Converter {
    /// Nothing when a conversion fails.
    fn sample(&mut self) -> Option<Sample> {
        let v = counts(nb::block!(self.adc.read_oneshot(&mut self.voltage)).ok()?);
        let i = counts(nb::block!(self.adc.read_oneshot(&mut self.phase)).ok()?);
        let n = counts(nb::block!(self.adc.read_oneshot(&mut self.neutral)).ok()?);
        Some(Sample { v, i, n })
    }
}

/// What the core is told until a calibration record says better: the parts' nominal values at the pins, 1.9 mV per volt and 42.7 mV per ampere.
pub fn nominal_config() -> Config {
    Config {
        sample_rate_mhz: SAMPLE_RATE_MHZ,
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
pub fn start(timer: AnyTimer<'static>, adc: ADC1<'static>, (voltage, phase, neutral): (Voltage, Phase, Neutral)) {
    let mut config = AdcConfig::new();
    let voltage = config.enable_pin(voltage, Attenuation::_11dB);
    let phase = config.enable_pin(phase, Attenuation::_11dB);
    let neutral = config.enable_pin(neutral, Attenuation::_11dB);
    let mut timer = PeriodicTimer::new(timer);
    timer.set_interrupt_handler(take_sample);
    timer.listen();
    let started = timer.start(Duration::from_micros(PERIOD_US));
    let adc = Adc::new(adc, config);
    critical_section::with(|cs| {
        CONVERTER.borrow_ref_mut(cs).replace(Converter {
            timer,
            adc,
            voltage,
            phase,
            neutral,
            gaps: Gaps::new(PERIOD_US),
        });
    });
    if started.is_err() {
        esp_println::println!("the sampling timer does not start: nothing is measured");
    }
}

/// A reading around the middle of the converter, in the core's counts.
fn counts(reading: u16) -> i32 {
    (i32::from(reading) - 2_048) << SHIFT
}

#[handler]
fn take_sample() {
    let now_us = Instant::now().duration_since_epoch().as_micros();
    critical_section::with(|cs| {
        let mut converter = CONVERTER.borrow_ref_mut(cs);
        let Some(c) = converter.as_mut() else { return };
        c.timer.clear_interrupt();
        c.gaps.tick(now_us);
        let missing = c.gaps.missing();
        let arrives = c.sample().is_some_and(|s| SAMPLES.try_send(Taken { sample: s, missing }).is_ok());
        c.gaps.arrived(arrives);
    });
}
