//! Synchronisation to the mains: half-cycle boundaries from interpolated zero crossings of the band-limited voltage.
//!
//! The voltage passes a slow high-pass (offset) and two one-pole low-passes, all shifts; both only delay the crossings
//! by a constant. When the voltage is gone the boundaries free-run at the last good half-cycle. Not a phase-locked
//! loop: each crossing stands for itself, errors do not build up.

use crate::config::Config;

/// Fraction bits added to the 24-bit voltage inside the filter.
const FILTER_BITS: u32 = 6;

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
    shortest_q16: u32,
    longest_q16: u32,
    /// Earliest admissible boundary and the forced one, Q16 since the last.
    earliest_q16: u32,
    forced_q16: u32,
    alive: bool,
    last_real: bool,
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
            shortest_q16: half / 100 * 82,
            longest_q16: half / 100 * 122,
            earliest_q16: 0,
            forced_q16: 0,
            alive: false,
            last_real: false,
        };
        sync.set_gate();
        sync
    }

    fn set_gate(&mut self) {
        self.earliest_q16 = self.half_q16 / 4 * 3;
        self.forced_q16 = if self.alive { self.half_q16 / 4 * 5 } else { self.half_q16 };
    }

    /// Says whether the last half cycle held enough voltage to trust its crossings.
    pub fn set_alive(&mut self, alive: bool) {
        self.alive = alive;
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
        let due = if self.alive && (self.before ^ self.stage2) < 0 { self.earliest_q16 } else { self.forced_q16 };
        self.since_q16 >= due
    }

    /// Decides where the boundary lies between the previous sample and this one, and begins the next half cycle.
    pub fn boundary(&mut self) -> Boundary {
        let at_q16 = self.since_q16 - (1 << 16);
        let (before, after) = (i64::from(self.before), i64::from(self.stage2));
        let crossed = (before ^ after) < 0 && self.alive && self.since_q16 >= self.earliest_q16;
        let fraction = if crossed { (-before << 16) / (after - before) } else { i64::from(self.forced_q16 - at_q16) };
        let fraction_q16 = fraction.clamp(0, 65_535) as u32;
        if crossed && self.last_real {
            let change = i64::from(at_q16 + fraction_q16) - i64::from(self.half_q16);
            let half = (i64::from(self.half_q16) + change / 4) as u32;
            self.half_q16 = half.clamp(self.shortest_q16, self.longest_q16);
        }
        self.last_real = crossed;
        self.since_q16 = (1 << 16) - fraction_q16;
        self.set_gate();
        Boundary { fraction_q16, real: crossed }
    }
}
