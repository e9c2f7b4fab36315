//! Synchronisation to the mains: half-cycle boundaries from interpolated zero crossings of the band-limited voltage.
//!
//! The voltage passes a slow high-pass (offset) and two one-pole low-passes, all shifts; both only delay the crossings
//! by a constant. Not a phase-locked loop: each crossing stands for itself, errors do not build up.
//!
//! When the voltage changes at once (a dip, an interruption, a load behind a weak line) the filters need a while: what
//! is left in them of the higher voltage moves the crossings of the lower one. So the frequency is held then, and
//! boundaries follow each other by the last good half cycle, which keeps every whole cycle a whole cycle, whatever its
//! phase. Afterwards, and after a jump of the phase alone, they are led back to the crossings by small steps.

use crate::config::Config;

/// Fraction bits added to the 24-bit voltage inside the filter.
const FILTER_BITS: u32 = 6;

/// Half cycles for which the frequency is held after the voltage changed at once: five time constants of the slowest filter.
const HELD_HALVES: u32 = 32;
/// Half cycles for which it is held at most, when the voltage goes on changing: three seconds.
const HELD_HALVES_MAX: u32 = 300;
/// Half cycles for which boundaries are led back by small steps; then a crossing is taken wherever it is.
const LED_HALVES_MAX: u32 = 200;
/// Crossings in a row near the expected place after which the frequency is known.
const KNOWN_AFTER: u32 = 50;
/// A crossing is near the expected place within this part of a half cycle; harmonics and noise move it less.
const NEAR_SHARE: u32 = 16;
/// Largest part of a half cycle by which even harmonics move its end and are followed.
const SKEW_SHARE_MAX: u32 = 6;
/// A step by which a boundary is led back, as part of a half cycle: it moves Urms(1/2) by less than half a percent of itself.
const STEP_SHARE: u32 = 128;

/// How the next boundary is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// At the next crossing. Counts the crossings in a row that lay near the expected place.
    Following { near: u32 },
    /// At the held half cycle: so many more, of so many since the frequency was held.
    Holding { left: u32, since: u32 },
    /// At the crossing, or as near to it as a small step allows, for so many half cycles.
    Leading { since: u32 },
}

/// A half-cycle boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// Part of a sample from the previous sample to the boundary, Q16, 0 to 65,535.
    pub fraction_q16: u32,
    /// Whether a crossing of the voltage made it, and not the free run.
    pub real: bool,
}

/// The synchroniser.
#[derive(Clone, Debug)]
pub struct Sync {
    offset: i32,
    stage1: i32,
    stage2: i32,
    before: i32,
    high_pass_shift: u32,
    low_pass_shift: u32,
    /// Samples since the last boundary, Q16, at the latest sample.
    since_q16: u32,
    /// Expected half cycle, Q16.
    half_q16: u32,
    /// The same over the last dozens of half cycles: what is held, since the last few may already be of a disturbance.
    steady_q16: u32,
    /// How much longer than that a half cycle is that ends with a rising voltage, Q16; the others are as much shorter. Even
    /// harmonics do that.
    skew_q16: i32,
    /// Whether the voltage rose at the last crossing.
    rose: bool,
    shortest_q16: u32,
    longest_q16: u32,
    /// Earliest admissible boundary and the forced one, Q16 since the last.
    earliest_q16: u32,
    forced_q16: u32,
    /// A crossing after this and before the earliest boundary calls for the earliest one, Q16 since the last.
    early_from_q16: u32,
    /// Before this no crossing means anything: the least of both, so that most samples need one comparison.
    quiet_until_q16: u32,
    alive: bool,
    last_real: bool,
    mode: Mode,
}

impl Sync {
    /// A synchroniser at rest, expecting the nominal frequency.
    pub fn new(config: &Config) -> Self {
        let log2 = |x: u32| 31 - x.max(1).leading_zeros();
        let half = config.nominal_half_q16();
        let mut sync = Self {
            offset: 0,
            stage1: 0,
            stage2: 0,
            before: 0,
            high_pass_shift: log2(config.sample_rate_mhz / 1000 / 9),
            low_pass_shift: log2(config.sample_rate_mhz / 1000 / 470),
            since_q16: 0,
            half_q16: half,
            steady_q16: half,
            skew_q16: 0,
            rose: false,
            shortest_q16: half / 100 * 82,
            longest_q16: half / 100 * 122,
            earliest_q16: 0,
            forced_q16: 0,
            early_from_q16: u32::MAX,
            quiet_until_q16: 0,
            alive: false,
            last_real: false,
            mode: Mode::Following { near: 0 },
        };
        sync.set_gate();
        sync
    }

    fn set_gate(&mut self) {
        let half = self.half_q16;
        let expected = half.saturating_add_signed(self.expected_skew(!self.rose));
        let reach = match self.mode {
            _ if !self.alive => 0,
            Mode::Following { near: KNOWN_AFTER } => half / NEAR_SHARE,
            Mode::Following { .. } => half / 4,
            Mode::Leading { .. } => half / STEP_SHARE,
            Mode::Holding { .. } => 0,
        };
        (self.earliest_q16, self.forced_q16) = (expected - reach, expected + reach);
        let is_searching = matches!(self.mode, Mode::Following { near } if near < KNOWN_AFTER);
        self.early_from_q16 = if is_searching { u32::MAX } else { half / 2 };
        self.quiet_until_q16 = self.earliest_q16.min(self.early_from_q16.saturating_add(1));
    }

    /// How much longer a half cycle is to be that ends with a rising or a falling voltage, Q16; only while crossings are followed
    /// is it known which of the two comes next.
    fn expected_skew(&self, rises: bool) -> i32 {
        match self.mode {
            Mode::Following { .. } if self.last_real && rises => self.skew_q16,
            Mode::Following { .. } if self.last_real => -self.skew_q16,
            _ => 0,
        }
    }

    /// Says of the half cycle that ended whether it held enough voltage to trust its crossings, and whether its voltage
    /// was another than that of the one before.
    pub fn set_level(&mut self, alive: bool, changed: bool) {
        self.alive = alive;
        self.mode = match self.mode {
            // Before the frequency is known nothing can be held.
            Mode::Following { near: KNOWN_AFTER } if changed => Mode::Holding { left: HELD_HALVES, since: 0 },
            Mode::Leading { .. } if changed => Mode::Holding { left: HELD_HALVES, since: 0 },
            // Without voltage there is nothing to be led back to.
            Mode::Holding { left, since } if !alive => Mode::Holding { left: left.max(1), since },
            Mode::Holding { since, .. } if changed && since < HELD_HALVES_MAX => {
                Mode::Holding { left: HELD_HALVES, since: since + 1 }
            }
            Mode::Holding { left: 0, .. } => Mode::Leading { since: 0 },
            Mode::Holding { left, since } => Mode::Holding { left: left - 1, since: since + 1 },
            Mode::Leading { since } if since >= LED_HALVES_MAX => Mode::Following { near: 0 },
            Mode::Leading { since } if alive => Mode::Leading { since: since + 1 },
            Mode::Leading { .. } => Mode::Holding { left: HELD_HALVES, since: 0 },
            Mode::Following { near: KNOWN_AFTER } if !alive => Mode::Holding { left: HELD_HALVES, since: 0 },
            following @ Mode::Following { .. } => following,
        };
        if matches!(self.mode, Mode::Holding { .. }) {
            self.half_q16 = self.steady_q16;
        }
        self.set_gate();
    }

    /// Takes one voltage sample (counts); true when [`Sync::boundary`] must be asked.
    #[inline(always)]
    pub fn advance(&mut self, v: i32) -> bool {
        let wide = v << FILTER_BITS;
        self.offset += (wide - self.offset) >> self.high_pass_shift;
        self.stage1 += ((wide - self.offset) - self.stage1) >> self.low_pass_shift;
        self.before = self.stage2;
        self.stage2 += (self.stage1 - self.before) >> self.low_pass_shift;
        self.since_q16 += 1 << 16;
        if self.since_q16 < self.quiet_until_q16 {
            return false;
        }
        let mut due = self.forced_q16;
        if self.alive && (self.before ^ self.stage2) < 0 {
            due = self.earliest_q16;
            if self.since_q16 > self.early_from_q16 {
                // A crossing before the earliest place: the boundary comes there, not at the latest one.
                self.forced_q16 = self.earliest_q16;
            }
        }
        self.since_q16 >= due
    }

    /// Decides where the boundary lies between the previous sample and this one, and begins the next half cycle.
    pub fn boundary(&mut self) -> Boundary {
        let at_q16 = self.since_q16 - (1 << 16);
        let (before, after) = (i64::from(self.before), i64::from(self.stage2));
        let gated = self.alive && !matches!(self.mode, Mode::Holding { .. }) && self.since_q16 >= self.earliest_q16;
        let crossed = (before ^ after) < 0 && gated;
        let fraction = if crossed { (-before << 16) / (after - before) } else { i64::from(self.forced_q16 - at_q16) };
        let fraction_q16 = fraction.clamp(0, 65_535) as u32;
        let rises = after > before;
        let skew = self.expected_skew(rises);
        let change = i64::from(at_q16 + fraction_q16) - i64::from(self.half_q16) - i64::from(skew);
        let near = crossed && change.unsigned_abs() <= u64::from(self.half_q16 / NEAR_SHARE);
        let jumped = match self.mode {
            // With a known frequency a crossing elsewhere is a jump of the phase: led back to, not followed.
            Mode::Following { near: KNOWN_AFTER } if !near && self.alive => {
                self.mode = Mode::Leading { since: 0 };
                true
            }
            Mode::Following { near: known } => {
                self.mode = Mode::Following { near: if near { (known + 1).min(KNOWN_AFTER) } else { 0 } };
                false
            }
            Mode::Leading { .. } if near && self.last_real => {
                self.mode = Mode::Following { near: KNOWN_AFTER };
                false
            }
            Mode::Leading { .. } | Mode::Holding { .. } => false,
        };
        if crossed && self.last_real && !jumped {
            let half = (i64::from(self.half_q16) + change / 4) as u32;
            self.half_q16 = half.clamp(self.shortest_q16, self.longest_q16);
            // Until the frequency is known its newest value is the best.
            let is_known = matches!(self.mode, Mode::Following { near: KNOWN_AFTER });
            let share = if is_known { 32 } else { 4 };
            // In 32 bits, which the chip divides by itself: a half cycle in Q16 is below 2^31.
            let ahead = half.wrapping_sub(self.steady_q16).cast_signed();
            self.steady_q16 = self.steady_q16.wrapping_add_signed(ahead / share);
        }
        match self.mode {
            Mode::Following { .. } if crossed && self.last_real => {
                let of_rising = if rises { change } else { -change } as i32;
                let most = (self.half_q16 / SKEW_SHARE_MAX).cast_signed();
                self.skew_q16 = (self.skew_q16 + of_rising / 8).clamp(-most, most);
            }
            Mode::Following { .. } => {}
            Mode::Leading { .. } | Mode::Holding { .. } => self.skew_q16 = 0,
        }
        if jumped {
            self.half_q16 = self.steady_q16;
        }
        self.rose = rises;
        self.last_real = crossed && !jumped;
        self.since_q16 = (1 << 16) - fraction_q16;
        self.set_gate();
        Boundary { fraction_q16, real: crossed }
    }
}
