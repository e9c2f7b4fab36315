//! The meter's idea of the time: uptime plus an offset that the server (or a backed-up clock chip) sets.

use metering::Timestamp;

use crate::inputs::Uptime;

/// Largest difference that is corrected without an event, milliseconds.
const SLEW_MS_MAX: i64 = 2_000;

/// A clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterClock {
    offset_ms: i64,
    set: bool,
}

/// How a time from the server was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeChange {
    /// By at most two seconds: corrected silently.
    Slewed,
    /// By more, or for the first time: an event.
    Stepped,
}

impl MeterClock {
    /// A clock that was never set; times count from the start.
    pub const fn unset() -> Self {
        Self { offset_ms: 0, set: false }
    }

    /// A clock chip with a backup battery that shows `now` (milliseconds since the epoch) at `uptime`.
    pub fn backed_up(now_ms: i64, uptime: Uptime) -> Self {
        Self { offset_ms: now_ms.saturating_sub(signed(uptime.0)), set: true }
    }

    /// Whether it was ever set.
    pub const fn is_set(&self) -> bool {
        self.set
    }

    /// Milliseconds since the epoch (or since the start while unset).
    pub fn milliseconds(&self, uptime: Uptime) -> i64 {
        signed(uptime.0).saturating_add(self.offset_ms)
    }

    /// Whole seconds.
    pub fn now(&self, uptime: Uptime) -> Timestamp {
        Timestamp(self.milliseconds(uptime).div_euclid(1_000))
    }

    /// The time when it is set.
    pub fn known(&self, uptime: Uptime) -> Option<Timestamp> {
        self.set.then(|| self.now(uptime))
    }

    /// Takes the server's time.
    pub fn set(&mut self, now: Timestamp, uptime: Uptime) -> TimeChange {
        let target = Self::backed_up(now.0.saturating_mul(1_000), uptime);
        let difference = target.offset_ms.saturating_sub(self.offset_ms);
        let small = self.set && difference.abs() <= SLEW_MS_MAX;
        *self = target;
        if small { TimeChange::Slewed } else { TimeChange::Stepped }
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
}
