//! The meter's idea of the time: uptime plus an offset that the server (or a backed-up clock chip) sets, plus what is known of
//! the oscillator's drift.
//!
//! Rules: the server's time has a resolution of one second, so a clock inside that second is right. Outside it, up to two seconds
//! are slewed at 5 ms a second, silently and without ever going back; more is a step, which is an event and marks the interval.
//! A step of more than an hour, from a server whose own clock may be wrong for a moment, is taken only when a second time that comes
//! at least a minute later says the same.
//! The drift is estimated over the whole time since the clock was first right, only as far as the resolution proves it.

use metering::Timestamp;

use crate::inputs::Uptime;

/// Largest difference that is corrected without an event, milliseconds.
const SLEW_MS_MAX: i64 = 2_000;
/// How fast it is corrected, millionths.
const SLEW_PPM: i64 = 5_000;
/// Resolution of the server's time, milliseconds: it is at most this much later than it says.
const RESOLUTION_MS: i64 = 999;
/// Shortest time over which the drift is judged, milliseconds.
const BASELINE_MS_MIN: u64 = 3_600_000;
/// Longest; then the baseline begins again.
const BASELINE_MS_MAX: u64 = 90 * 86_400_000;
/// An oscillator worse than this is broken, not drifting.
const DRIFT_PPM_MAX: i64 = 500;

/// A step above this must be said twice, milliseconds.
const STEP_MS_MAX: i64 = 3_600_000;
/// How long after the first, milliseconds.
const SAID_AGAIN_MS_MIN: u64 = 60_000;
/// By how much the second may differ from the first, milliseconds: the resolution and the way.
const SAID_AGAIN_MS_OFF: i64 = 5_000;

/// A clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterClock {
    /// Time at `base`, milliseconds, less `base`.
    offset_ms: i64,
    base: Uptime,
    slew_ms: i64,
    drift_ppm: i32,
    set: bool,
    /// Server's milliseconds and uptime when the baseline of the drift began.
    reference: Option<(i64, Uptime)>,
    /// Server's milliseconds and uptime of a time that is too far away to be taken when it is said once.
    far: Option<(i64, Uptime)>,
}

/// How a time from the server was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeChange {
    /// By at most two seconds: corrected silently, and slowly.
    Slewed,
    /// By more, or for the first time: an event.
    Stepped,
}

impl MeterClock {
    /// A clock that was never set; times count from the start.
    pub const fn unset() -> Self {
        Self { offset_ms: 0, base: Uptime(0), slew_ms: 0, drift_ppm: 0, set: false, reference: None, far: None }
    }

    /// A clock chip with a backup battery that shows `now` (milliseconds since the epoch) at `uptime`.
    pub fn backed_up(now_ms: i64, uptime: Uptime) -> Self {
        Self { offset_ms: now_ms.saturating_sub(signed(uptime.0)), base: uptime, set: true, ..Self::unset() }
    }

    /// The same clock with a drift known from before.
    #[must_use]
    pub fn with_drift(mut self, drift_ppm: i32) -> Self {
        self.drift_ppm = drift_ppm;
        self
    }

    /// How much the oscillator is slow, millionths; negative when it is fast.
    pub const fn drift_ppm(&self) -> i32 {
        self.drift_ppm
    }

    /// Whether it was ever set.
    pub const fn is_set(&self) -> bool {
        self.set
    }

    /// Milliseconds since the epoch (or since the start while unset).
    pub fn milliseconds(&self, uptime: Uptime) -> i64 {
        let elapsed = signed(uptime.since(self.base));
        let drift = elapsed.saturating_mul(i64::from(self.drift_ppm)) / 1_000_000;
        let most = elapsed.saturating_mul(SLEW_PPM) / 1_000_000;
        signed(uptime.0).saturating_add(self.offset_ms).saturating_add(drift + self.slew_ms.clamp(-most, most))
    }

    /// Whole seconds.
    pub fn now(&self, uptime: Uptime) -> Timestamp {
        Timestamp(self.milliseconds(uptime).div_euclid(1_000))
    }

    /// The time when it is set.
    pub fn known(&self, uptime: Uptime) -> Option<Timestamp> {
        self.set.then(|| self.now(uptime))
    }

    /// Whether a time from the server may be taken; one that is far away must be said twice.
    pub fn admits(&mut self, now: Timestamp, uptime: Uptime) -> bool {
        let server = now.0.saturating_mul(1_000);
        if !self.set || server.saturating_sub(self.milliseconds(uptime)).saturating_abs() <= STEP_MS_MAX {
            self.far = None;
            return true;
        }
        let agrees = |(then, at): (i64, Uptime)| {
            let off = server.saturating_sub(then).saturating_sub(signed(uptime.since(at)));
            off.saturating_abs() <= SAID_AGAIN_MS_OFF
        };
        match self.far {
            Some(first) if agrees(first) && uptime.since(first.1) >= SAID_AGAIN_MS_MIN => {
                self.far = None;
                true
            }
            Some(first) if agrees(first) => false,
            _ => {
                self.far = Some((server, uptime));
                false
            }
        }
    }

    /// Takes the server's time.
    pub fn set(&mut self, now: Timestamp, uptime: Uptime) -> TimeChange {
        let server = now.0.saturating_mul(1_000);
        let shown = self.milliseconds(uptime);
        let wanted = shown.clamp(server, server.saturating_add(RESOLUTION_MS));
        let difference = wanted.saturating_sub(shown);
        if !self.set || difference.abs() > SLEW_MS_MAX {
            let drift_ppm = self.drift_ppm;
            *self = Self::backed_up(server, uptime).with_drift(drift_ppm);
            self.reference = Some((server, uptime));
            return TimeChange::Stepped;
        }
        (self.offset_ms, self.base) = (shown.saturating_sub(signed(uptime.0)), uptime);
        self.slew_ms = difference;
        self.estimate_drift(server, uptime);
        TimeChange::Slewed
    }

    /// The drift is moved only as far as two times of this resolution prove it wrong.
    fn estimate_drift(&mut self, server: i64, uptime: Uptime) {
        let Some((server_then, uptime_then)) = self.reference else {
            self.reference = Some((server, uptime));
            return;
        };
        let elapsed = uptime.since(uptime_then);
        if elapsed < BASELINE_MS_MIN {
            return;
        }
        let gained = server.saturating_sub(server_then).saturating_sub(signed(elapsed));
        let ppm = |ms: i64| ms.saturating_mul(1_000_000) / signed(elapsed);
        let (least, most) = (ppm(gained.saturating_sub(RESOLUTION_MS)), ppm(gained.saturating_add(RESOLUTION_MS)));
        let drift = i64::from(self.drift_ppm).clamp(least, most).clamp(-DRIFT_PPM_MAX, DRIFT_PPM_MAX);
        self.drift_ppm = i32::try_from(drift).unwrap_or(0);
        if elapsed > BASELINE_MS_MAX {
            self.reference = Some((server, uptime));
        }
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_differences_slew_and_large_ones_step() {
        let mut clock = MeterClock::unset();
        assert_eq!(clock.known(Uptime(5_000)), None);
        assert_eq!(clock.set(Timestamp(1_000_000), Uptime(5_000)), TimeChange::Stepped);
        assert_eq!(clock.known(Uptime(6_500)), Some(Timestamp(1_000_001)));
        assert_eq!(clock.set(Timestamp(1_000_003), Uptime(6_500)), TimeChange::Slewed);
        assert_eq!(clock.set(Timestamp(1_000_100), Uptime(6_500)), TimeChange::Stepped);
        assert_eq!(clock.now(Uptime(7_499)), Timestamp(1_000_100));
    }

    #[test]
    fn a_far_step_is_taken_when_it_is_said_twice() {
        let mut clock = MeterClock::unset();
        assert!(clock.admits(Timestamp(1_000_000), Uptime(0)), "the first time is taken wherever it is");
        clock.set(Timestamp(1_000_000), Uptime(0));
        let day_back = |seconds: i64| Timestamp(1_000_000 - 86_400 + seconds);
        assert!(clock.admits(Timestamp(1_003_500), Uptime(0)));
        assert!(!clock.admits(day_back(0), Uptime(0)));
        assert!(!clock.admits(day_back(59), Uptime(59_000)), "too soon");
        assert!(clock.admits(day_back(60), Uptime(60_000)));
        assert!(!clock.admits(Timestamp(64_000_000), Uptime(61_000)), "two years ahead for a moment");
        assert!(!clock.admits(day_back(120), Uptime(120_000)), "and another far time");
        assert!(clock.admits(Timestamp(1_000_130), Uptime(130_000)));
        assert!(!clock.admits(day_back(200), Uptime(200_000)), "what came between is forgotten");
    }

    #[test]
    fn a_slew_takes_its_time_and_never_goes_back() {
        let mut clock = MeterClock::backed_up(1_000_000_000, Uptime(0));
        assert_eq!(clock.set(Timestamp(999_998), Uptime(0)), TimeChange::Slewed);
        let mut before = 0;
        for ms in (0..400_000).step_by(100) {
            let now = clock.milliseconds(Uptime(ms));
            assert!(now >= before, "went back at {ms} ms");
            before = now;
        }
        assert_eq!(clock.milliseconds(Uptime(100_000)), 1_000_099_500);
        assert_eq!(clock.milliseconds(Uptime(1_000_000)), 1_000_998_999, "to the end of the second the server named");
    }

    #[test]
    fn a_time_within_the_second_named_changes_nothing() {
        let mut clock = MeterClock::backed_up(5_000_700, Uptime(0));
        assert_eq!(clock.set(Timestamp(5_000), Uptime(0)), TimeChange::Slewed);
        assert_eq!(clock.milliseconds(Uptime(90_000)), 5_090_700);
    }

    #[test]
    fn a_slow_or_fast_oscillator_is_known_after_days_and_never_steps_the_clock() {
        for ppm in [-100i64, -20, 20, 100] {
            let mut clock = MeterClock::backed_up(0, Uptime(0));
            let mut error = 0;
            for day in 0..60i64 {
                for quarter in 0..4i64 {
                    let true_ms = (day * 4 + quarter) * 21_600_000 + 437;
                    let uptime = Uptime(u64::try_from(true_ms - true_ms * ppm / 1_000_000).expect("positive"));
                    error = (clock.milliseconds(uptime) - true_ms).abs();
                    let change = clock.set(Timestamp(true_ms.div_euclid(1_000)), uptime);
                    assert_eq!(change, TimeChange::Slewed, "{ppm} ppm, day {day}, {error} ms off");
                }
            }
            assert!((i64::from(clock.drift_ppm()) - ppm).abs() <= 2, "{ppm} ppm taken for {}", clock.drift_ppm());
            assert!(error < 1_100, "{error} ms off at {ppm} ppm");
        }
    }
}
