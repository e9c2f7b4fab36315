//! Samples that were not taken: counted where they are missing, so that none is lost unseen.
//!
//! A sampling interrupt can come late (a flash erase stops everything for some 40 ms), a conversion can fail, and the queue to the
//! measuring task can be full. Each sample that does arrive carries how many are missing before it. It does not make up for them.

/// Counts what is missing between two samples.
#[derive(Clone, Debug)]
pub struct Gaps {
    period_us: u64,
    /// When the last tick came, microseconds since the start.
    ticked: Option<u64>,
    /// Missing since the last sample that arrived.
    missing: u32,
}

impl Gaps {
    /// For samples at this distance, microseconds.
    pub const fn new(period_us: u64) -> Self {
        Self { period_us, ticked: None, missing: 0 }
    }

    /// A sample is due now: counts the ticks that never came.
    pub fn tick(&mut self, now_us: u64) {
        if let Some(before) = self.ticked.replace(now_us) {
            let periods = (now_us.saturating_sub(before) + self.period_us / 2) / self.period_us.max(1);
            self.add(periods.saturating_sub(1));
        }
    }

    /// How many samples are missing before the one of this tick.
    pub const fn missing(&self) -> u32 {
        self.missing
    }

    /// The sample of this tick has arrived, or has not.
    pub fn arrived(&mut self, has: bool) {
        if has {
            self.missing = 0;
        } else {
            self.add(1);
        }
    }

    fn add(&mut self, samples: u64) {
        self.missing = self.missing.saturating_add(u32::try_from(samples).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However ticks come late and samples get lost: those that arrive and those that are told as missing are all.
        #[test]
        fn every_sample_arrives_or_is_told(ticks in prop::collection::vec((1_u64..200, 0_u64..150, any::<bool>()), 1..300)) {
            let mut gaps = Gaps::new(312);
            let (mut due, mut told) = (0_u64, 0_u64);
            let mut first = true;
            for (periods, late_us, arrives) in ticks {
                due += if first { 1 } else { periods };
                first = false;
                gaps.tick(due * 312 + late_us);
                let missing = u64::from(gaps.missing());
                if arrives {
                    told += missing + 1;
                }
                gaps.arrived(arrives);
            }
            prop_assert_eq!(told + u64::from(gaps.missing()), due);
        }
    }
}
