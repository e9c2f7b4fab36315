//! Aggregation of windows to 3 s, 10 min and 2 h (IEC 61000-4-30).
//!
//! Voltages, currents and harmonics aggregate as the root of the mean square, powers and frequency as the mean. An
//! interval touched by a disturbance is flagged, one with missing windows, or with more
//! than a thousandth of its time without samples, is incomplete; neither is hidden. The clock is
//! an argument; ten-minute intervals follow its ticks. Integers throughout.

use crate::window::{ORDERS, WindowReport};

/// Windows in a 3-second value.
const SHORT_WINDOWS: u32 = 15;
/// Milliseconds of a ten-minute interval.
const TEN_MINUTES_MS: u64 = 600_000;
/// Ten-minute values in two hours.
const LONG_VALUES: u32 = 12;
/// Microseconds without samples that a window may have on average: a thousandth of its 200 ms.
const LOST_US_MAX: u64 = 200;

/// Sums over an interval.
#[derive(Clone, Debug)]
pub struct Accumulator {
    windows: u32,
    timed: u32,
    v_sq: u128,
    i_sq: u128,
    p: i128,
    q1: i128,
    frequency: u64,
    v_groups_sq: [u128; ORDERS],
    i_groups_sq: [u128; ORDERS],
    flagged: bool,
    lost_us: u64,
}

/// Values of an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Windows (or shorter values) inside.
    pub windows: u32,
    /// Voltage, microvolts rms.
    pub vrms_uv: u32,
    /// Current, microamperes rms.
    pub irms_ua: u32,
    /// Active power, microwatts.
    pub p_uw: i64,
    /// Reactive power of the fundamental, microvar.
    pub q1_uvar: i64,
    /// Frequency, microhertz; nothing if no window had one.
    pub frequency_uhz: Option<u32>,
    /// Voltage harmonic subgroups, microvolts.
    pub voltage_uv: [u32; ORDERS],
    /// Current harmonic subgroups, microamperes.
    pub current_ua: [u32; ORDERS],
    /// A dip, swell or interruption touched the interval.
    pub flagged: bool,
    /// Windows are missing, or more than a thousandth of the samples.
    pub incomplete: bool,
}

impl Default for Accumulator {
    fn default() -> Self {
        Self {
            windows: 0,
            timed: 0,
            v_sq: 0,
            i_sq: 0,
            p: 0,
            q1: 0,
            frequency: 0,
            v_groups_sq: [0; ORDERS],
            i_groups_sq: [0; ORDERS],
            flagged: false,
            lost_us: 0,
        }
    }
}

fn square(x: u32) -> u128 {
    u128::from(u64::from(x) * u64::from(x))
}

fn root_mean(sum: u128, count: u32) -> u32 {
    // Means of squares of u32 fit u64.
    ((sum / u128::from(count.max(1))) as u64).isqrt() as u32
}

impl Accumulator {
    /// Adds a window.
    pub fn add(&mut self, w: &WindowReport) {
        self.windows += 1;
        self.v_sq += square(w.vrms_uv);
        self.i_sq += square(w.irms_ua);
        self.p += i128::from(w.p_uw);
        self.q1 += i128::from(w.q1_uvar);
        if let Some(f) = w.frequency_uhz {
            self.timed += 1;
            self.frequency += u64::from(f);
        }
        for (sum, &x) in self.v_groups_sq.iter_mut().zip(&w.voltage.subgroup) {
            *sum += square(x);
        }
        for (sum, &x) in self.i_groups_sq.iter_mut().zip(&w.current.subgroup) {
            *sum += square(x);
        }
        self.flagged |= w.disturbed;
        self.lost_us += u64::from(w.lost_us);
    }

    /// Adds an interval's values as one.
    pub fn add_interval(&mut self, v: &Interval) {
        self.windows += 1;
        self.v_sq += square(v.vrms_uv);
        self.i_sq += square(v.irms_ua);
        self.p += i128::from(v.p_uw);
        self.q1 += i128::from(v.q1_uvar);
        if let Some(f) = v.frequency_uhz {
            self.timed += 1;
            self.frequency += u64::from(f);
        }
        for (sum, &x) in self.v_groups_sq.iter_mut().zip(&v.voltage_uv) {
            *sum += square(x);
        }
        for (sum, &x) in self.i_groups_sq.iter_mut().zip(&v.current_ua) {
            *sum += square(x);
        }
        self.flagged |= v.flagged;
    }

    /// The interval's values; nothing if it is empty. Clears the accumulator.
    pub fn take(&mut self, complete: bool) -> Option<Interval> {
        let a = core::mem::take(self);
        if a.windows == 0 {
            return None;
        }
        let mean = |sum: i128| (sum / i128::from(a.windows)) as i64;
        Some(Interval {
            windows: a.windows,
            vrms_uv: root_mean(a.v_sq, a.windows),
            irms_ua: root_mean(a.i_sq, a.windows),
            p_uw: mean(a.p),
            q1_uvar: mean(a.q1),
            frequency_uhz: (a.timed > 0).then(|| (a.frequency / u64::from(a.timed)) as u32),
            voltage_uv: a.v_groups_sq.map(|s| root_mean(s, a.windows)),
            current_ua: a.i_groups_sq.map(|s| root_mean(s, a.windows)),
            flagged: a.flagged,
            incomplete: !complete || a.lost_us > u64::from(a.windows) * LOST_US_MAX,
        })
    }
}

/// What a window completed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completed {
    /// A 3-second value.
    pub short: Option<Interval>,
    /// A ten-minute value and the clock's tick (milliseconds) at which it ended.
    pub ten_minutes: Option<(u64, Interval)>,
    /// A two-hour value.
    pub two_hours: Option<(u64, Interval)>,
}

/// Aggregates one metering point.
#[derive(Clone, Debug, Default)]
pub struct Cascade {
    short: Accumulator,
    ten: Accumulator,
    ten_length_us: u64,
    long: Accumulator,
    long_complete: bool,
    tick: Option<u64>,
}

impl Cascade {
    /// Takes a window that ended at `utc_ms`; `sample_rate_mhz` gives its length.
    pub fn push(&mut self, window: &WindowReport, utc_ms: u64, sample_rate_mhz: u32) -> Completed {
        let mut done = Completed::default();
        let tick = utc_ms / TEN_MINUTES_MS;
        let crossed = self.tick.is_some_and(|t| t != tick);
        let first = self.tick.is_none();
        self.tick = Some(tick);
        if first {
            // The first interval has most likely begun before the start.
            self.long_complete = false;
        }
        self.ten.add(window);
        let length = u128::from(window.length_q16) * 1_000_000_000 / u128::from(sample_rate_mhz.max(1));
        self.ten_length_us += (length >> 16) as u64;
        self.short.add(window);
        if self.short.windows == SHORT_WINDOWS || crossed {
            // At a tick the 3-second interval is cut and begins anew.
            done.short = self.short.take(self.short.windows == SHORT_WINDOWS);
        }
        if crossed {
            // Half a percent covers the windows that the tick cuts.
            let complete = self.ten_length_us >= TEN_MINUTES_MS * 995;
            self.ten_length_us = 0;
            if let Some(value) = self.ten.take(complete) {
                self.end_ten(tick, value, &mut done);
            }
        }
        done
    }

    fn end_ten(&mut self, tick: u64, value: Interval, done: &mut Completed) {
        self.long_complete &= !value.incomplete;
        self.long.add_interval(&value);
        done.ten_minutes = Some((tick * TEN_MINUTES_MS, value));
        if tick.is_multiple_of(u64::from(LONG_VALUES)) {
            let complete = self.long_complete && self.long.windows == LONG_VALUES;
            done.two_hours = self.long.take(complete).map(|v| (tick * TEN_MINUTES_MS, v));
            self.long_complete = true;
        }
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;
    use crate::host::sweep::{FrontEndKind, signal};
    use crate::host::vectors::run;

    fn window() -> WindowReport {
        let run = run(&signal(3, 1, FrontEndKind::TwelveBits { amperes: 5.0 }), 230.0);
        run.unwrap_or_else(|e| panic!("{e}")).windows.remove(0)
    }

    #[test]
    fn squares_are_averaged_and_ticks_cut() {
        let mut cascade = Cascade::default();
        let mut w = window();
        w.length_q16 = 1600 << 16;
        let (mut short, mut ten, mut long) = (0, Vec::new(), Vec::new());
        for k in 0..(4 * 36_000u64) {
            w.vrms_uv = if k % 2 == 0 { 230_000_000 } else { 234_000_000 };
            w.disturbed = k == 40_000;
            // a flash erase now and then is nothing, a second without samples is
            w.lost_us = if k == 130_000 { 1_000_000 } else { u32::from(k % 1_000 == 0) * 45_000 };
            let done = cascade.push(&w, 1_000 + k * 200, 8_000_000);
            short += u32::from(done.short.is_some());
            ten.extend(done.ten_minutes);
            long.extend(done.two_hours);
        }
        assert!((9550..9700).contains(&short), "{short}");
        assert_eq!(ten.len(), 48);
        assert!(ten[0].1.incomplete || ten[0].1.windows > 2980);
        assert_eq!(ten.iter().skip(1).filter(|t| t.1.incomplete).count(), 1, "the one that lost a second");
        assert!(!ten[1].1.incomplete);
        // sqrt((230² + 234²)/2) = 232.00862
        assert!(ten[1].1.vrms_uv.abs_diff(232_008_620) < 3000, "{}", ten[1].1.vrms_uv);
        assert_eq!(ten.iter().filter(|t| t.1.flagged).count(), 1);
        assert_eq!(long.len(), 4);
        assert!(long[0].1.incomplete && long[1].1.flagged && !long[1].1.incomplete);
        assert!(!long[2].1.flagged && !long[2].1.incomplete);
    }
}
