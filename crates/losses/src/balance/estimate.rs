//! Estimates for missing meters, from what the same meter usually takes at that time of day. Small running state per meter.

use serde::{Deserialize, Serialize};

use super::MemberId;
use metering::Timestamp;

/// Two-hour bins of the day.
const BINS: usize = 12;
/// Relative uncertainty of the level of an estimate in a long gap, the same from slot to slot (a home may be vacant while its meter is
/// silent).
const LEVEL_SD: f64 = 0.35;
/// Length of a gap beyond which that uncertainty counts in full; single missing slots are covered by the spread of the slots.
const GAP_HOURS: f64 = 6.0;
/// Memory of a bin in slots of that bin: about two weeks of quarter-hours.
const MEMORY_SLOTS: u8 = 112;

/// The running state of one member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct MemberState {
    pub(super) id: MemberId,
    /// Mean power per bin, W.
    mean_w: [f32; BINS],
    /// Slots seen per bin, up to the memory.
    seen: [u8; BINS],
    /// Variance of a slot's mean power around its bin, W².
    var_w2: f32,
    /// Mean power of the last measured slot, W; for the clock error.
    pub(super) last_w: f32,
    /// For how long its meter has been silent, hours.
    gap_hours: f32,
}

/// An estimate in place of a reading.
pub(super) struct Estimate {
    pub(super) net_wh: f64,
    pub(super) random_var: f64,
    pub(super) systematic_sd: f64,
}

/// The bin of the middle of a slot.
pub(super) fn bin_of(end: Timestamp, hours: f64) -> usize {
    let middle = end.second_of_day() as f64 / 3_600.0 - hours / 2.0;
    let bin = (middle.rem_euclid(24.0) / 2.0) as usize;
    bin.min(BINS - 1)
}

impl MemberState {
    pub(super) fn new(id: MemberId) -> Self {
        Self { id, mean_w: [0.0; BINS], seen: [0; BINS], var_w2: 0.0, last_w: 0.0, gap_hours: 0.0 }
    }

    /// Takes a measured slot in.
    pub(super) fn learn(&mut self, watts: f32, bin: usize) {
        let seen = self.seen[bin];
        let step = 1.0 / (f32::from(seen) + 1.0);
        let miss = watts - self.mean_w[bin];
        if seen > 0 {
            // Winsorised, so that one oven does not rule the variance.
            let square = (miss * miss).min(25.0 * self.var_w2.max(400.0));
            self.var_w2 += (square - self.var_w2) * step.max(0.02);
        }
        self.mean_w[bin] += miss * step;
        self.seen[bin] = (seen + 1).min(MEMORY_SLOTS);
        self.last_w = watts;
        self.gap_hours = 0.0;
    }

    /// Takes note of a slot without a reading.
    pub(super) fn miss(&mut self, hours: f64) {
        self.gap_hours = (self.gap_hours + hours as f32).min(1e6);
    }

    /// What the member probably took; `typical_w` is the mean of the zone's other members, for one never seen.
    pub(super) fn estimate(&self, bin: usize, hours: f64, typical_w: f64) -> Estimate {
        let known = self.seen[bin] > 0;
        let watts = if known { f64::from(self.mean_w[bin]) } else { typical_w };
        let level_sd = if known { LEVEL_SD } else { 1.0 };
        let random_var = if known { f64::from(self.var_w2) } else { typical_w * typical_w };
        let common = 1.0 - (-(f64::from(self.gap_hours) + hours) / GAP_HOURS).exp();
        Estimate {
            net_wh: watts * hours,
            random_var: random_var * hours * hours,
            systematic_sd: level_sd * watts.abs() * hours * common,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metering::UsagePointId;

    #[test]
    fn an_estimate_follows_the_time_of_day() {
        let mut state = MemberState::new(MemberId::UsagePoint(UsagePointId::new("U").expect("id")));
        for slot in 1..=96 * 7i64 {
            let end = Timestamp(slot * 900);
            let evening = (18..22).contains(&((end.second_of_day() - 1).div_euclid(3_600)));
            state.learn(if evening { 1_200.0 } else { 200.0 }, bin_of(end, 0.25));
        }
        let at = |hour: i64| state.estimate(bin_of(Timestamp(86_400 * 9 + hour * 3_600), 0.25), 0.25, 999.0).net_wh;
        assert!((at(20) - 300.0).abs() < 1.0 && (at(4) - 50.0).abs() < 1.0, "{} {}", at(20), at(4));
        let mut stranger = MemberState::new(state.id);
        (0..200).for_each(|_| stranger.miss(0.25));
        let guess = stranger.estimate(0, 0.25, 400.0);
        assert!(guess.net_wh > 99.0 && guess.systematic_sd > 99.0, "never zero");
    }
}
