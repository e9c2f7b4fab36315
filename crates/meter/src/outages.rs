//! How often and how long the supply was away (OBIS 0.0.96.7.0 and its companions): an outage longer than three minutes counts as
//! long (EN 50160), and is told as such.

use metering::Timestamp;
use minicbor::{Decode, Encode};

/// An outage longer than this is long, seconds.
pub const LONG_SECONDS: i64 = 180;

/// The counters, kept through power failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Outages {
    /// Outages ever.
    #[n(0)]
    pub count: u32,
    /// Those longer than three minutes, as far as the clock could tell.
    #[n(1)]
    pub long: u32,
    /// Time without supply, seconds, as far as the clock could tell.
    #[n(2)]
    pub seconds: u64,
    /// Since when the supply is away, if it is and the clock was set.
    #[n(3)]
    pub since: Option<Timestamp>,
}

impl Outages {
    /// The supply fails; `now` is unknown while the clock is not set.
    pub fn begin(&mut self, now: Option<Timestamp>) {
        self.count = self.count.saturating_add(1);
        self.since = now;
    }

    /// The supply is back. Gives how long it was away, seconds, when that is known.
    pub fn end(&mut self, now: Option<Timestamp>) -> Option<i64> {
        let seconds = now?.seconds_since(self.since.take()?).max(0);
        self.seconds = self.seconds.saturating_add(u64::try_from(seconds).unwrap_or(0));
        if seconds > LONG_SECONDS {
            self.long = self.long.saturating_add(1);
        }
        Some(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_outages_are_those_above_three_minutes() {
        let mut outages = Outages::default();
        for (from, to) in [(0, 180), (1_000, 1_181), (2_000, 1_990)] {
            outages.begin(Some(Timestamp(from)));
            outages.end(Some(Timestamp(to)));
        }
        outages.begin(None);
        assert_eq!(outages.end(Some(Timestamp(5_000))), None);
        assert_eq!(outages, Outages { count: 4, long: 1, seconds: 361, since: None });
    }
}
