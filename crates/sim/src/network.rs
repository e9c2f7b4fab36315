//! What flows in one minute: currents, voltages and losses of a radial low-voltage network.
//!
//! Each home hangs on its own two-wire service line; the service lines of a phase share a main; the mains meet at the
//! transformer, whose low-voltage side the observer measures. Losses: I²R in service lines and mains (inside the transformer's
//! zone), copper and no-load losses of transformers and I²R of the medium-voltage line (in the feeder's zone). Voltages follow
//! the currents of the minute before, which is exact enough at these drops (a few per cent). It is not a power flow; that is `grid`.

use crate::random::{Random, Stream, mix};

/// Nominal phase voltage at the transformer, volts.
pub const NOMINAL_VOLTS: f64 = 231.0;

/// Electrical data of one transformer and its mains.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transformer {
    /// Copper resistance per phase, seen from the low-voltage side, ohms (100 kVA: about 1.5 % short-circuit loss).
    pub copper_ohm: f64,
    /// No-load loss, watts.
    pub no_load_w: f64,
    /// Effective resistance of a phase's main (load spread along it: a third of the end-to-end value), ohms.
    pub main_ohm: f64,
}

impl Transformer {
    pub(crate) fn draw(seed: u64, index: u64) -> Self {
        let mut random = Random::of(seed, Stream::Homes, 1_000_000 + index, 0);
        Self {
            copper_ohm: random.between(0.007, 0.010),
            no_load_w: random.between(180.0, 240.0),
            main_ohm: random.between(0.015, 0.03),
        }
    }
}

/// What a home draws from the street in this minute.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Draw {
    /// Active power, watts, taps included.
    pub watts: f64,
    /// Rms current, amperes.
    pub amperes: f64,
}

/// Sums of a transformer's zone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ZoneFlow {
    /// Active power at the low-voltage side, watts: what the observer sees.
    pub supplied_w: f64,
    /// Lost in service lines and mains, watts.
    pub line_loss_w: f64,
    /// Current of each phase, amperes.
    pub phase_a: [f64; 3],
    /// Voltage at the low-voltage side, volts.
    pub volts: f64,
}

impl ZoneFlow {
    /// Copper and no-load losses of the transformer, watts.
    pub(crate) fn transformer_loss_w(&self, transformer: &Transformer) -> f64 {
        self.phase_a.iter().map(|a| a * a).sum::<f64>() * transformer.copper_ohm + transformer.no_load_w
    }
}

/// Sums up a zone while its homes are visited one by one.
pub(crate) struct ZoneSum {
    flow: ZoneFlow,
}

impl ZoneSum {
    pub(crate) fn new(volts: f64) -> Self {
        Self { flow: ZoneFlow { volts, ..ZoneFlow::default() } }
    }

    pub(crate) fn add(&mut self, phase: usize, draw: Draw, service_ohm: f64) {
        let loss = draw.amperes * draw.amperes * service_ohm;
        self.flow.supplied_w += draw.watts + loss;
        self.flow.line_loss_w += loss;
        self.flow.phase_a[phase] += draw.amperes;
    }

    pub(crate) fn finish(mut self, transformer: &Transformer) -> ZoneFlow {
        let main = self.flow.phase_a.iter().map(|a| a * a).sum::<f64>() * transformer.main_ohm;
        self.flow.supplied_w += main;
        self.flow.line_loss_w += main;
        self.flow
    }
}

/// Voltage at the low-voltage side before its own drop: a slow daily swing and a little noise common to the feeder.
pub(crate) fn source_volts(seed: u64, seconds: i64) -> f64 {
    let day = core::f64::consts::TAU * (seconds.rem_euclid(86_400) as f64) / 86_400.0;
    let noise = (mix(seed ^ seconds.unsigned_abs()) >> 40) as f64 / f64::from(1u32 << 24) - 0.5;
    NOMINAL_VOLTS + 1.2 * (day + 0.8).cos() + 0.4 * noise
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_enters_a_zone_is_what_homes_draw_plus_what_lines_lose() {
        let transformer = Transformer::draw(1, 0);
        let mut sum = ZoneSum::new(230.0);
        let mut drawn = 0.0;
        for home in 0..40 {
            let watts = 300.0 + 20.0 * f64::from(home);
            sum.add(usize::try_from(home % 3).unwrap_or(0), Draw { watts, amperes: watts / 230.0 }, 0.1);
            drawn += watts;
        }
        let flow = sum.finish(&transformer);
        assert!((flow.supplied_w - drawn - flow.line_loss_w).abs() < 1e-9);
        assert!((0.002..0.03).contains(&(flow.line_loss_w / flow.supplied_w)), "{flow:?}");
    }
}
