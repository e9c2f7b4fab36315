//! A home: its load, its meter, its relay's contact, and what a thief in it does to them.

use meter::{Inputs, Meter, relay::Pulse};
use metering::{Milliamps, Millihertz, Millivolts, Timestamp, unit::PerMille};

use crate::{
    household::Household,
    network::{Draw, NOMINAL_VOLTS},
    profiles::{ProfileView, Profiles},
    random::{Random, Stream},
    theft::TheftKind,
    waveform::{Bench, Flow},
};

/// Where a home's load comes from.
pub(crate) enum Load {
    Generated(Box<Household>),
    Measured(Profiles, ProfileView),
}

/// Errors of one meter's sensors: constant factors, near 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SensorErrors {
    pub gain: f64,
    pub neutral_gain: f64,
}

impl SensorErrors {
    /// Gains with this standard deviation, held within twice of it.
    pub(crate) fn draw(random: &mut Random, sd: f64) -> Self {
        let mut gain = || 1.0 + (sd * random.normal()).clamp(-2.0 * sd, 2.0 * sd);
        Self { gain: gain(), neutral_gain: gain() }
    }
}

/// A theft that is under way in a home.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ActiveTheft {
    /// Its place in the world's list.
    pub index: usize,
    pub kind: TheftKind,
    /// The load the thief adds while he steals, watts.
    pub extra_w: f64,
}

/// What truly flowed in a window, watts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HomeFlow {
    pub draw: Draw,
    /// Through the meter's sensor as it would register without class error.
    pub registered_w: f64,
    /// Of what flows but is not registered.
    pub stolen_w: f64,
}

/// A home.
pub(crate) struct Home {
    pub index: usize,
    pub phase: usize,
    pub load: Load,
    pub mean_w: f64,
    pub service_ohm: f64,
    pub power_factor: f64,
    pub errors: SensorErrors,
    pub meter: Meter,
    pub contact_closed: bool,
    pub cover_open: bool,
    pub theft: Option<ActiveTheft>,
    /// When someone will press the button.
    pub press_at: Option<Timestamp>,
    pub pressing: bool,
    pub true_wh: f64,
    /// Voltage at the meter in this minute, and in the one before.
    volts: f64,
    volts_before: f64,
    today: Vec<f32>,
    today_is: i64,
    flow: HomeFlow,
    /// Set for a home that is driven at sample level.
    pub bench: Option<Bench>,
}

impl Home {
    pub(crate) fn new(seed: u64, index: usize, phase: usize, load: Load, mean_w: f64, meter: Meter) -> Self {
        let number = u64::try_from(index).unwrap_or(0);
        let mut random = Random::of(seed, Stream::Meters, number, 1);
        Self {
            index,
            phase,
            load,
            mean_w,
            // 15 to 45 m of two conductors of 10 mm² copper (1.83 mΩ/m each)
            service_ohm: random.between(15.0, 45.0) * 2.0 * 0.001_83,
            power_factor: random.between(0.94, 0.99),
            errors: SensorErrors::draw(&mut random, 0.005),
            meter,
            contact_closed: true,
            cover_open: false,
            theft: None,
            press_at: None,
            pressing: false,
            true_wh: 0.0,
            volts: NOMINAL_VOLTS,
            volts_before: NOMINAL_VOLTS,
            today: Vec::new(),
            today_is: i64::MIN,
            flow: HomeFlow::default(),
            bench: None,
        }
    }

    /// Whether there is supply behind the relay.
    pub(crate) fn is_live(&self) -> bool {
        self.contact_closed || self.has_wire_around()
    }

    fn has_wire_around(&self) -> bool {
        matches!(self.theft, Some(ActiveTheft { kind: TheftKind::WireAround { .. }, .. }))
    }

    /// What the home would like to use in the minute that begins at `at`, watts.
    fn demand(&mut self, at: Timestamp) -> f64 {
        match &self.load {
            Load::Measured(profiles, view) => profiles.watts(view, at),
            Load::Generated(household) => {
                if self.today_is != at.day() {
                    self.today = household.day(at);
                    self.today_is = at.day();
                }
                let minute = usize::try_from(at.second_of_day() / 60).unwrap_or(0);
                self.today.get(minute).copied().map_or(0.0, f64::from)
            }
        }
    }

    /// A new minute begins: voltages of the old one are what its currents follow.
    pub(crate) fn begin_minute(&mut self) {
        self.volts_before = self.volts;
    }

    /// The minute that begins at `at`: what the home draws with the bus at `bus_volts`. May be asked again when a contact has
    /// moved; the answer depends on nothing but the contacts then.
    pub(crate) fn flow(&mut self, at: Timestamp, bus_volts: f64, restless: f64) -> HomeFlow {
        let live = self.is_live();
        let demand = if live { self.demand(at) } else { 0.0 };
        let active = self.theft.filter(|t| t.kind.is_active_at(at.second_of_day()));
        let (extra, tapped) = match active {
            Some(ActiveTheft { kind: TheftKind::Tap, extra_w, .. }) => (0.0, extra_w * restless),
            Some(theft) if live => (theft.extra_w * restless, 0.0),
            _ => (0.0, 0.0),
        };
        let used = demand + extra;
        let registered = match active.map(|t| t.kind) {
            Some(TheftKind::UnderRegistration { kept } | TheftKind::Shunt { kept }) => used * kept,
            Some(TheftKind::WireAround { kept }) => {
                if self.contact_closed {
                    used * kept
                } else {
                    0.0
                }
            }
            Some(TheftKind::NightBypass { .. }) => used * 0.02,
            _ => used,
        };
        let watts = used + tapped;
        let amperes = watts / (self.volts_before * self.power_factor);
        self.volts = (bus_volts - amperes * self.service_ohm * self.power_factor).max(100.0);
        self.flow = HomeFlow { draw: Draw { watts, amperes }, registered_w: registered, stolen_w: watts - registered };
        self.flow
    }

    /// What flowed in the last minute.
    pub(crate) fn last_flow(&self) -> HomeFlow {
        self.flow
    }

    /// The minute that begins at `at` at sample level, in a home that is driven so.
    pub(crate) fn sample_minute(&mut self, at: Timestamp) {
        let flow = self.sampled_flow();
        if let Some(values) = self.bench.as_mut().and_then(|bench| bench.minute(at, flow)) {
            self.meter.report_quality(values);
        }
    }

    /// The flow through the meter's sensors.
    fn sampled_flow(&self) -> Flow {
        let flow = &self.flow;
        let watts = flow.registered_w * self.errors.gain;
        let share = if flow.draw.watts > 0.0 { flow.registered_w / flow.draw.watts } else { 0.0 };
        let around = matches!(self.theft.map(|t| t.kind), Some(TheftKind::Shunt { .. } | TheftKind::WireAround { .. }));
        let ratio = if around && share > 0.01 { 1.0 / share } else { 1.0 };
        let neutral_ratio = ratio * self.errors.neutral_gain / self.errors.gain;
        Flow { volts: self.volts, watts, power_factor: self.power_factor, neutral_ratio }
    }

    /// What the meter's sensors say about the flow.
    pub(crate) fn inputs(&self) -> Inputs {
        let plain = self.plain_inputs();
        let measured = self.bench.as_ref().and_then(|bench| bench.measured(self.sampled_flow()));
        // a contact that has just moved: nothing has been sampled of what flows now
        let Some(measured) = measured else { return plain };
        Inputs {
            voltage: measured.voltage,
            current: measured.current,
            active_mw: measured.active_mw,
            reactive_mvar: measured.reactive_mvar,
            power_factor: measured.power_factor,
            frequency: measured.frequency,
            neutral: Some(measured.neutral),
            load_voltage: plain.load_voltage.map(|_| if self.is_live() { measured.voltage } else { Millivolts(0) }),
            ..plain
        }
    }

    fn plain_inputs(&self) -> Inputs {
        let flow = &self.flow;
        let share = if flow.draw.watts > 0.0 { flow.registered_w / flow.draw.watts } else { 0.0 };
        let phase = flow.draw.amperes * share;
        // what is shunted or led around on the phase side only still returns through the neutral sensor
        let neutral = match self.theft.map(|t| t.kind) {
            Some(TheftKind::Shunt { .. } | TheftKind::WireAround { .. }) => flow.draw.amperes,
            _ => phase,
        };
        let (gain, neutral_gain) = (self.errors.gain, self.errors.neutral_gain);
        let active = flow.registered_w * gain;
        let tangent = (1.0 / (self.power_factor * self.power_factor) - 1.0).max(0.0).sqrt();
        Inputs {
            voltage: millivolts(self.volts),
            current: milliamps(phase * gain),
            active_mw: (active * 1_000.0).round() as i64,
            reactive_mvar: (active * tangent * 1_000.0).round() as i64,
            power_factor: PerMille((self.power_factor * 1_000.0).round() as i16),
            frequency: Millihertz(50_000),
            neutral: Some(milliamps(neutral * neutral_gain)),
            load_voltage: Some(if self.is_live() { millivolts(self.volts) } else { Millivolts(0) }),
            cover_open: self.cover_open,
            magnet: false,
            button: self.pressing,
            contact_closed: Some(self.contact_closed),
            ..Inputs::default()
        }
    }

    /// The relay follows a pulse.
    pub(crate) fn pulse(&mut self, pulse: Pulse) {
        self.contact_closed = pulse == Pulse::Close;
    }
}

/// What an observer's sensors say: three-phase power, mean voltage and mean phase current. `kept` is below 1 when someone
/// tampered with it.
pub(crate) fn observer_inputs(watts: f64, volts: f64, phase_a: [f64; 3], errors: SensorErrors, kept: f64) -> Inputs {
    let factor = errors.gain * kept;
    let current = milliamps(phase_a.iter().sum::<f64>() / 3.0 * factor);
    Inputs {
        voltage: millivolts(volts),
        current,
        active_mw: (watts * factor * 1_000.0).round() as i64,
        reactive_mvar: (watts * factor * 0.25 * 1_000.0).round() as i64,
        power_factor: PerMille(970),
        frequency: Millihertz(50_000),
        neutral: None,
        load_voltage: None,
        contact_closed: None,
        ..Inputs::default()
    }
}

fn millivolts(volts: f64) -> Millivolts {
    Millivolts((volts * 1_000.0).round() as u32)
}

fn milliamps(amperes: f64) -> Milliamps {
    Milliamps((amperes * 1_000.0).round() as u32)
}
