//! Dips, swells and interruptions from the one-cycle rms value refreshed every half cycle, Urms(1/2) (IEC 61000-4-30).
//!
//! Works in squared counts; no root is taken while the supply is sound. Two durations are kept: the standard's count of
//! half cycles, and an estimate of the disturbance itself, which takes out the widening by the one-cycle window.
//! Classification against IEEE 1159 and ITIC is the host's.

/// What kind of disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PqKind {
    /// Voltage below 90 % of the declared voltage.
    Dip,
    /// Voltage above 110 %.
    Swell,
    /// Voltage below the interruption threshold.
    Interruption,
}

/// A finished disturbance of the voltage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PqEvent {
    /// Kind.
    pub kind: PqKind,
    /// Start in samples since the core started.
    pub start_sample: u64,
    /// Duration by the standard's rule (half cycles counted), microseconds.
    pub counted_us: u64,
    /// Estimated duration of the disturbance itself, microseconds.
    pub duration_us: u64,
    /// Lowest (dip, interruption) or highest (swell) Urms(1/2), parts per ten thousand of the declared voltage.
    pub extreme_bp: u32,
}

/// Thresholds in parts per ten thousand of the declared voltage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// A dip begins below this.
    pub dip_bp: u32,
    /// A swell begins above this.
    pub swell_bp: u32,
    /// A dip whose residual voltage is below this is an interruption.
    pub interruption_bp: u32,
    /// Hysteresis of dip and swell.
    pub hysteresis_bp: u32,
}

impl Default for Thresholds {
    /// 90 %, 110 %, 5 % (EN 50160), hysteresis 2 %.
    fn default() -> Self {
        Self { dip_bp: 9000, swell_bp: 11_000, interruption_bp: 500, hysteresis_bp: 200 }
    }
}

#[derive(Clone, Copy, Debug)]
struct Open {
    swell: bool,
    start_sample: u64,
    length_q16: u64,
    extreme_sq: u64,
    half_cycles: u32,
}

/// Detects disturbances; one at a time, a swell inside a dip ends the dip first.
#[derive(Clone, Debug)]
pub struct DipDetector {
    thresholds: Thresholds,
    sample_rate_mhz: u32,
    /// Declared voltage squared, squared counts.
    reference_sq: u64,
    dip_sq: u64,
    dip_end_sq: u64,
    swell_sq: u64,
    swell_end_sq: u64,
    open: Option<Open>,
}

/// `value · (bp/10000)²`.
fn times_bp_squared(value: u64, bp: u32) -> u64 {
    (u128::from(value) * u128::from(bp) * u128::from(bp) / 100_000_000) as u64
}

impl DipDetector {
    /// A detector for a declared voltage of `reference_sq` squared counts.
    pub fn new(reference_sq: u64, sample_rate_mhz: u32, thresholds: Thresholds) -> Self {
        let t = thresholds;
        Self {
            thresholds,
            sample_rate_mhz,
            reference_sq: reference_sq.max(1),
            dip_sq: times_bp_squared(reference_sq, t.dip_bp),
            dip_end_sq: times_bp_squared(reference_sq, t.dip_bp + t.hysteresis_bp),
            swell_sq: times_bp_squared(reference_sq, t.swell_bp),
            swell_end_sq: times_bp_squared(reference_sq, t.swell_bp - t.hysteresis_bp),
            open: None,
        }
    }

    /// Whether a disturbance is under way.
    pub fn active(&self) -> bool {
        self.open.is_some()
    }

    /// Takes the next Urms(1/2), squared counts, at sample `now`, half a cycle of `half_q16` samples after the last.
    pub fn update(&mut self, urms_sq: u64, half_q16: u64, now: u64) -> Option<PqEvent> {
        let low = urms_sq < self.dip_sq;
        let high = urms_sq > self.swell_sq;
        let mut finished = None;
        if let Some(open) = &mut self.open {
            let over = if open.swell { urms_sq <= self.swell_end_sq } else { urms_sq >= self.dip_end_sq };
            if over {
                let ended = *open;
                self.open = None;
                finished = Some(self.finish(ended));
            } else {
                open.extreme_sq = if open.swell { open.extreme_sq.max(urms_sq) } else { open.extreme_sq.min(urms_sq) };
                open.length_q16 += half_q16;
                open.half_cycles += 1;
            }
        }
        if self.open.is_none() && (low || high) {
            self.open = Some(Open {
                swell: high,
                start_sample: now,
                length_q16: half_q16,
                extreme_sq: urms_sq,
                half_cycles: 1,
            });
        }
        finished
    }

    fn finish(&self, open: Open) -> PqEvent {
        let t = self.thresholds;
        let extreme_bp = libm::sqrt(open.extreme_sq as f64 / self.reference_sq as f64) * 10_000.0;
        let extreme_bp = libm::round(extreme_bp) as u32;
        let kind = match (open.swell, extreme_bp < t.interruption_bp) {
            (true, _) => PqKind::Swell,
            (false, true) => PqKind::Interruption,
            (false, false) => PqKind::Dip,
        };
        let end_bp = if open.swell { t.swell_bp - t.hysteresis_bp } else { t.dip_bp + t.hysteresis_bp };
        let start_bp = if open.swell { t.swell_bp } else { t.dip_bp };
        let cycle_q16 = 2.0 * open.length_q16 as f64 / f64::from(open.half_cycles);
        // A one-cycle window that overlaps the disturbance by the share x reads 1 − x·(1 − level²), squared.
        let overlap = |bp: u32| {
            let level = f64::from(extreme_bp) / 10_000.0;
            let threshold = f64::from(bp) / 10_000.0;
            ((1.0 - threshold * threshold) / (1.0 - level * level)).clamp(0.0, 1.0)
        };
        let widening = (1.0 - overlap(start_bp) - overlap(end_bp)) * cycle_q16;
        let estimate_q16 = (open.length_q16 as f64 - widening).max(cycle_q16 / 4.0);
        let us_per_q16 = 1e9 / (f64::from(self.sample_rate_mhz) * 65_536.0);
        PqEvent {
            kind,
            start_sample: open.start_sample,
            counted_us: libm::round(open.length_q16 as f64 * us_per_q16) as u64,
            duration_us: libm::round(estimate_q16 * us_per_q16) as u64,
            extreme_bp,
        }
    }
}
