//! Seeded randomness: every draw belongs to a named stream of the one seed, so that adding a draw here never moves one there.

use rand_pcg::{Pcg64Mcg, rand_core::RngCore};

/// Names of the streams; the number is part of the stream's seed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Homes = 1,
    Day = 2,
    Links = 3,
    Meters = 4,
    Thefts = 5,
    Actors = 6,
    Waves = 7,
    Neighbours = 8,
}

/// A stream of random numbers.
pub(crate) struct Random(Pcg64Mcg);

impl Random {
    /// The stream of a seed, a name and two indices (for example home and day).
    pub(crate) fn of(seed: u64, stream: Stream, first: u64, second: u64) -> Self {
        let mut state = mix(seed ^ 0x6772_6964_7461_6c6c);
        for part in [stream as u64, first, second] {
            state = mix(state ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        Self(Pcg64Mcg::new(u128::from(state) << 64 | u128::from(mix(state))))
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        // 53 bits fit an f64 exactly
        (self.0.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Uniform in [low, high).
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform whole number in [0, below); 0 when `below` is 0.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.0.next_u64().checked_rem(below).unwrap_or(0)
    }

    /// Whether an event of this probability happens.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Normal with mean 0 and standard deviation 1 (Box–Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (core::f64::consts::TAU * self.unit()).cos()
    }

    /// Number of events of a Poisson process with this mean (small means; at most 64).
    pub(crate) fn poisson(&mut self, mean: f64) -> u32 {
        let limit = (-mean).exp();
        let (mut product, mut count) = (self.unit(), 0);
        while product > limit && count < 64 {
            product *= self.unit();
            count += 1;
        }
        count
    }
}

/// Bit mixer of SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
