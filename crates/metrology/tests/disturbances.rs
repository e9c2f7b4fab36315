//! Deep and long dips, interruptions and jumps of the phase, at the declared accuracy of class S: ±1 % of the declared
//! voltage for the residual voltage, one cycle for the duration (IEC 61000-4-30). The signals are made here.
#![cfg(feature = "std")]

use metrology::config::{Config, FrontEnd, Nominal};
use metrology::dips::{PqEvent, PqKind};
use metrology::engine::Core;
use metrology::fft::Spectrum;
use metrology::sums::Sample;

const RATE_HZ: f64 = 8_000.0;
/// Microvolts of a count.
const COUNT_UV: f64 = 100.0;
/// Undisturbed before, seconds, so that the frequency is known.
const BEFORE_S: f64 = 2.0;
/// Undisturbed after.
const AFTER_S: f64 = 2.0;

/// A stretch of other voltage, whose phase jumps at its begin and back at its end.
#[derive(Clone, Copy, Debug)]
struct Disturbance {
    hertz: f64,
    percent: f64,
    seconds: f64,
    degrees: f64,
}

/// What came out.
struct Measured {
    events: Vec<PqEvent>,
    /// Smallest and largest Urms(1/2) while the supply was sound, percent.
    sound: (f64, f64),
    /// Frequency of the last window, hertz.
    frequency: Option<f64>,
}

fn core() -> Core<2048> {
    let front_end = FrontEnd {
        volt_pv_per_count: (COUNT_UV * 1e6) as u64,
        phase_pa_per_count: 10_000_000,
        neutral_pa_per_count: 10_000_000,
        current_delay_ns: 0,
        voltage_lead_udeg: 0,
        volt_noise_uv: 0,
        phase_noise_ua: 0,
        neutral_noise_ua: 0,
        counts_per_step: 1,
    };
    let config = Config {
        sample_rate_mhz: (RATE_HZ * 1_000.0) as u32,
        nominal: Nominal::Hz50,
        u_din_mv: 230_000,
        front_end,
        start_current_ua: 20_000,
    };
    Core::new(config).expect("a usable configuration")
}

fn measure(d: Disturbance) -> Measured {
    let mut core = core();
    let mut spectrum = Spectrum::default();
    let (begin, end) = (BEFORE_S + 0.0037, BEFORE_S + 0.0037 + d.seconds);
    let declared_sq = (230.0e6 / COUNT_UV).powi(2);
    let mut measured = Measured { events: Vec::new(), sound: (f64::MAX, 0.0), frequency: None };
    for k in 0..((end + AFTER_S) * RATE_HZ) as u64 {
        let t = k as f64 / RATE_HZ;
        let inside = t >= begin && t < end;
        let (level, degrees) = if inside { (d.percent / 100.0, d.degrees) } else { (1.0, 0.0) };
        let angle = std::f64::consts::TAU * d.hertz * t + degrees.to_radians();
        let volts = 230.0 * std::f64::consts::SQRT_2 * level * (angle.sin() + 0.02 * (5.0 * angle).sin());
        let v = (volts * 1e6 / COUNT_UV).round() as i32;
        let Some(half) = core.push(&[Sample { v, i: v / 50, n: v / 50 }]).half_cycle else { continue };
        measured.events.extend(half.event);
        let is_sound = t > 0.5 && (t < begin || t > end + 0.06);
        if let Some(square) = half.urms_sq.filter(|_| is_sound) {
            let percent = (square as f64 / declared_sq).sqrt() * 100.0;
            measured.sound = (measured.sound.0.min(percent), measured.sound.1.max(percent));
        }
        if half.window_ready
            && let Some(window) = core.close_window(&mut spectrum)
        {
            measured.frequency = window.frequency_uhz.map(|uhz| f64::from(uhz) * 1e-6);
        }
    }
    measured
}

fn check(d: Disturbance, kind: PqKind) {
    let measured = measure(d);
    let [event] = measured.events[..] else { panic!("{d:?}: {:?}", measured.events) };
    assert_eq!(event.kind, kind, "{d:?}");
    let residual = f64::from(event.extreme_bp) / 100.0;
    let cycle_s = 1.0 / d.hertz;
    // Within a cycle or less the one-cycle value cannot reach the residual voltage.
    if d.seconds > 1.6 * cycle_s {
        assert!((residual - d.percent).abs() < 1.0, "{d:?}: residual {residual} %");
    }
    let seconds = event.duration_us as f64 * 1e-6;
    assert!((seconds - d.seconds).abs() <= cycle_s, "{d:?}: {seconds} s");
    let counted = event.counted_us as f64 * 1e-6;
    assert!(counted > d.seconds - cycle_s && counted < d.seconds + 2.0 * cycle_s, "{d:?}: counted {counted} s");
    sound_again(d, &measured);
}

/// Afterwards the voltage reads right, without a false event, and the frequency is there again.
fn sound_again(d: Disturbance, measured: &Measured) {
    assert!(measured.sound.0 > 98.5 && measured.sound.1 < 101.5, "{d:?}: {:?}", measured.sound);
    let frequency = measured.frequency.unwrap_or_else(|| panic!("{d:?}: no frequency two seconds later"));
    assert!((frequency - d.hertz).abs() < 0.01, "{d:?}: {frequency} Hz");
}

const HERTZ: [f64; 4] = [49.2, 50.0, 50.13, 51.0];

#[test]
fn deep_and_long_dips_keep_their_residual_voltage() {
    for hertz in HERTZ {
        for (percent, seconds) in
            [(15.0, 1.0), (15.0, 0.06), (12.0, 0.2), (8.0, 1.0), (30.0, 4.0), (40.0, 0.1), (60.0, 0.5), (82.0, 3.0)]
        {
            check(Disturbance { hertz, percent, seconds, degrees: 0.0 }, PqKind::Dip);
        }
    }
}

#[test]
fn a_dip_whose_phase_jumps_keeps_its_residual_voltage() {
    for hertz in [49.6, 50.0] {
        for degrees in [-60.0, -25.0, 25.0, 45.0, 90.0] {
            check(Disturbance { hertz, percent: 15.0, seconds: 1.0, degrees }, PqKind::Dip);
            check(Disturbance { hertz, percent: 55.0, seconds: 0.4, degrees }, PqKind::Dip);
        }
    }
}

#[test]
fn interruptions_short_and_long() {
    for hertz in HERTZ {
        for (percent, seconds) in [(0.0, 0.1), (0.0, 2.0), (3.0, 10.0)] {
            check(Disturbance { hertz, percent, seconds, degrees: 0.0 }, PqKind::Interruption);
        }
    }
}

#[test]
fn a_jump_of_the_phase_alone_is_no_event() {
    for hertz in [49.6, 50.0] {
        for degrees in [-50.0, -20.0, 10.0, 30.0, 50.0] {
            let d = Disturbance { hertz, percent: 100.0, seconds: 1.0, degrees };
            let measured = measure(d);
            assert!(measured.events.is_empty(), "{d:?}: {:?}", measured.events);
            let frequency = measured.frequency.unwrap_or_else(|| panic!("{d:?}: no frequency"));
            assert!((frequency - hertz).abs() < 0.01, "{d:?}: {frequency} Hz");
        }
    }
}
