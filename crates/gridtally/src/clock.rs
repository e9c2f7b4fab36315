//! The one clock. Everything else takes the time as an argument; here it is made, from the machine or from a simulator.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use metering::Timestamp;

/// Where the server's time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    Real,
    /// A simulator's authenticated clock message; stands still in between.
    Simulated(Arc<AtomicI64>),
}

impl Clock {
    /// A simulated clock that begins at `start`.
    pub fn simulated(start: Timestamp) -> Self {
        Self::Simulated(Arc::new(AtomicI64::new(start.0)))
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::Real => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
            }
            Self::Simulated(seconds) => Timestamp(seconds.load(Ordering::Acquire)),
        }
    }

    /// Moves a simulated clock to `to`; it never goes back. A real clock cannot be moved.
    pub fn advance(&self, to: Timestamp) {
        if let Self::Simulated(seconds) = self {
            seconds.fetch_max(to.0, Ordering::AcqRel);
        }
    }

    /// Whether a simulator gives the time.
    pub fn is_simulated(&self) -> bool {
        matches!(self, Self::Simulated(_))
    }

    /// The clock as the function that listeners and pages take.
    pub fn reader(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_clock_never_goes_back() {
        let clock = Clock::simulated(Timestamp(100));
        clock.advance(Timestamp(160));
        clock.advance(Timestamp(40));
        assert_eq!(clock.now(), Timestamp(160));
    }
}
