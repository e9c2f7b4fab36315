//! Estimates for missing meters, from what the same meter usually takes at that time of day. Small running state per meter.

use serde::{Deserialize, Serialize};

use super::MemberId;
use metering::Timestamp;

/// Two-hour bins of the day.
const BINS: usize = 12;
/// Relative uncertainty of an estimate's level that stays the same from slot to slot (a home may be vacant while its meter is
/// silent).
const LEVEL_SD: f64 = 0.35;
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
    /// Net energy of the last measured slot, W; for the clock error.
    pub(super) last_w: f32,
}

/// An estimate in place of a reading.
pub(super) struct Estimate {
    pub(super) net_wh: f64,
    pub(super) random_var: f64,
    pub(super) systematic_sd: f64,
}

fn bin_of(end: Timestamp, hours: f64) -> usize {
    let middle = end.second_of_day() as f64 / 3_600.0 - hours / 2.0;
    let bin = (middle.rem_euclid(24.0) / 2.0) as usize;
    bin.min(BINS - 1)
}

impl MemberState {
    pub(super) fn new(id: MemberId) -> Self {
        Self { id, mean_w: [0.0; BINS], seen: [0; BINS], var_w2: 0.0, last_w: 0.0 }
    }

    /// Takes a measured slot in.
    pub(super) fn learn(&mut self, net_wh: f64, end: Timestamp, hours: f64) {
        let watts = (net_wh / hours) as f32;
        let bin = bin_of(end, hours);
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
    }

    /// What the member probably took; `typical_w` is the mean of the zone's other members, for one never seen.
    pub(super) fn estimate(&self, end: Timestamp, hours: f64, typical_w: f64) -> Estimate {
        let bin = bin_of(end, hours);
        let known = self.seen[bin] > 0;
        let watts = if known { f64::from(self.mean_w[bin]) } else { typical_w };
        let level_sd = if known { LEVEL_SD } else { 1.0 };
        let random_var = if known { f64::from(self.var_w2) } else { typical_w * typical_w };
        Estimate {
            net_wh: watts * hours,
            random_var: random_var * hours * hours,
            systematic_sd: level_sd * watts.abs() * hours,
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
            state.learn(if evening { 300.0 } else { 50.0 }, end, 0.25);
        }
        let at = |hour: i64| state.estimate(Timestamp(86_400 * 9 + hour * 3_600), 0.25, 999.0).net_wh;
        assert!((at(20) - 300.0).abs() < 1.0 && (at(4) - 50.0).abs() < 1.0, "{} {}", at(20), at(4));
        let stranger = MemberState::new(state.id).estimate(Timestamp(0), 0.25, 400.0);
        assert!(stranger.net_wh > 99.0 && stranger.systematic_sd > 99.0, "never zero");
    }
}
