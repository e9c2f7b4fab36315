//! What the waveforms are made of: the mains' harmonics through the day, the spectra of appliances, disturbances, flicker.
//!
//! Orders of magnitude of European low-voltage networks and households, made up for the simulation; not measured anywhere.

use super::Flow;
use crate::random::Random;

/// Order, rms, degrees.
pub(super) type Spectrum = Vec<(u32, f64, f64)>;

/// Chances per minute: about fifteen dips, three swells and one interruption in a week.
const DIP_CHANCE: f64 = 0.0015;
const SWELL_CHANCE: f64 = 0.0003;
const INTERRUPTION_CHANCE: f64 = 0.0001;

/// The mains at `volts` (rms of everything) and at this hour: televisions and lamps raise the fifth harmonic in the evening.
pub(super) fn mains(volts: f64, hour: f64) -> Spectrum {
    let evening = (-((hour - 20.5) / 2.5).powi(2)).exp();
    let shares = [
        (3, 0.007 + 0.004 * evening, 20.0),
        (5, 0.018 + 0.020 * evening, 185.0),
        (7, 0.011 + 0.006 * evening, 30.0),
        (9, 0.003, 200.0),
        (11, 0.005, 70.0),
        (13, 0.004, 110.0),
        (17, 0.002, 0.0),
        (25, 0.001, 0.0),
    ];
    let rest: f64 = shares.iter().map(|(_, share, _)| share * share).sum();
    let fundamental = volts / (1.0 + rest).sqrt();
    let mut lines = vec![(1, fundamental, 0.0)];
    lines.extend(shares.map(|(order, share, degrees)| (order, share * fundamental, degrees)));
    lines
}

/// A switched supply without correction: shares of its fundamental by order.
const ELECTRONICS: [(u32, f64, f64); 6] =
    [(3, 0.75, 180.0), (5, 0.50, 0.0), (7, 0.28, 180.0), (9, 0.12, 0.0), (11, 0.07, 180.0), (13, 0.05, 0.0)];
/// A motor: a little third harmonic.
const MOTOR: [(u32, f64, f64); 2] = [(3, 0.09, 160.0), (5, 0.03, 60.0)];

/// The current that draws `flow.watts` with this displacement: electronics first, then motors, then heating.
pub(super) fn appliances(flow: Flow) -> Spectrum {
    if flow.volts < 1.0 || flow.watts <= 0.0 {
        return Vec::new();
    }
    let electronics_w = (0.5 * flow.watts).min(180.0);
    let motor_w = (0.3 * flow.watts).min(400.0);
    let active_a = flow.watts / flow.volts;
    let angle = flow.power_factor.clamp(0.1, 1.0).acos().to_degrees();
    let mut lines = vec![(1, active_a / angle.to_radians().cos(), -angle)];
    for (watts, spectrum) in [(electronics_w, &ELECTRONICS[..]), (motor_w, &MOTOR[..])] {
        lines.extend(spectrum.iter().map(|&(order, share, degrees)| (order, share * watts / flow.volts, degrees)));
    }
    lines
}

/// The voltage leaves its level for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Disturbance {
    /// Level meanwhile, 1 is sound.
    pub level: f64,
    pub seconds: f64,
}

impl Disturbance {
    /// The level `t` seconds after its start.
    pub(super) fn level(&self, t: f64) -> f64 {
        if (0.0..self.seconds).contains(&t) { self.level } else { 1.0 }
    }
}

/// The disturbance of a minute, if any.
pub(super) fn disturbance(random: &mut Random) -> Option<Disturbance> {
    let draw = random.unit();
    if draw < INTERRUPTION_CHANCE {
        Some(Disturbance { level: 0.0, seconds: random.between(0.15, 2.5) })
    } else if draw < INTERRUPTION_CHANCE + SWELL_CHANCE {
        Some(Disturbance { level: random.between(1.12, 1.22), seconds: random.between(0.06, 0.6) })
    } else if draw < INTERRUPTION_CHANCE + SWELL_CHANCE + DIP_CHANCE {
        Some(Disturbance { level: random.between(0.35, 0.87), seconds: random.between(0.04, 1.2) })
    } else {
        None
    }
}

/// Amplitude modulation by a neighbour's machine: 8.8 Hz, a tenth of a percent, on in one minute of three.
pub(super) fn flicker(minute: u64, t: f64) -> f64 {
    let depth = if minute.is_multiple_of(3) { 0.001 } else { 0.0003 };
    1.0 + 0.5 * depth * (core::f64::consts::TAU * 8.8 * t).sin()
}
