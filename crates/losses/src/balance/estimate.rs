//! Estimates for missing meters, from what the same meter usually takes at that time of day. Small running state per meter.

use serde::{Deserialize, Serialize};

use super::MemberId;
use metering::Timestamp;

/// Two-hour bins of the day.
const BINS: usize = 12;
const BIN_HOURS: f64 = 2.0;
/// By how much a home's level differs from day to day, relative to its mean: what an estimate is off by in the same way from slot to
/// slot. The first slot of a gap has it in the spread of the slots, the others need it beside that.
const LEVEL_SD: f64 = 0.35;
/// The same of a member that was never seen, relative to the mean of the others.
const STRANGER_SD: f64 = 1.0;
/// Least share of the slots' spread that is not the level's.
const LEAST_SHARE: f64 = 0.2;
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

/// Slots of a bin after which its mean is known somewhat.
const KNOWN_SLOTS: u8 = 4;
/// A slot further from the mean than so many standard deviations moves it no more than one that far.
const FAR_SD: f32 = 10.0;
/// Standard deviation of a slot's power taken at least for that, W.
const LEAST_SD_W: f32 = 300.0;

/// What the members take whose readings are there.
pub(super) struct Others {
    /// Mean power of each, W.
    pub(super) mean_w: f64,
    /// Relative to what they usually take, whatever the time of day.
    pub(super) over_usual: f64,
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
        let mut miss = watts - self.mean_w[bin];
        if seen >= KNOWN_SLOTS {
            // One reading that is wrong, and not yet known to be, must not rule the estimate of the slots around it.
            let most = FAR_SD * self.var_w2.max(LEAST_SD_W * LEAST_SD_W).sqrt();
            miss = miss.clamp(-most, most);
        }
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

    /// Mean power over the bins seen, W; `None` before the first reading.
    pub(super) fn usual_w(&self) -> Option<f64> {
        let seen =
            || self.mean_w.iter().zip(&self.seen).filter(|(_, seen)| **seen > 0).map(|(mean, _)| f64::from(*mean));
        let count = seen().count();
        (count > 0).then(|| seen().sum::<f64>() / count as f64)
    }

    /// Takes note of a slot without a reading.
    pub(super) fn miss(&mut self, hours: f64) {
        self.gap_hours = (self.gap_hours + hours as f32).min(1e6);
    }

    /// Whether it was ever seen at that time of day.
    pub(super) fn knows(&self, bin: usize) -> bool {
        self.seen[bin] > 0
    }

    /// What the member probably took. At a time of day at which it was never seen that follows what the zone's other members take
    /// then: `others.mean_w` each, `others.over_usual` times what they usually take.
    pub(super) fn estimate(&self, bin: usize, hours: f64, others: &Others) -> Estimate {
        let days = (f64::from(self.seen[bin]) * hours / BIN_HOURS).max(1.0);
        // The mean of a few days is itself off by their levels.
        let level_sd = LEVEL_SD * (1.0 + 1.0 / days).sqrt();
        let (watts, level_sd, slot_var) = if self.knows(bin) {
            (f64::from(self.mean_w[bin]), level_sd, f64::from(self.var_w2))
        } else if let Some(usual_w) = self.usual_w() {
            (usual_w * others.over_usual, level_sd, f64::from(self.var_w2).max((LEVEL_SD * usual_w).powi(2)))
        } else {
            (others.mean_w, STRANGER_SD, others.mean_w * others.mean_w)
        };
        let level_w = level_sd * watts.abs();
        let (slot_var, level_w) = if self.gap_hours <= 0.0 {
            (slot_var, 0.0)
        } else {
            ((slot_var - level_w * level_w).max(LEAST_SHARE * slot_var), level_w)
        };
        Estimate { net_wh: watts * hours, random_var: slot_var * hours * hours, systematic_sd: level_w * hours }
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
        let others = Others { mean_w: 400.0, over_usual: 2.0 };
        let at = |hour: i64| state.estimate(bin_of(Timestamp(86_400 * 9 + hour * 3_600), 0.25), 0.25, &others).net_wh;
        assert!((at(20) - 300.0).abs() < 1.0 && (at(4) - 50.0).abs() < 1.0, "{} {}", at(20), at(4));
        let mut stranger = MemberState::new(state.id);
        (0..200).for_each(|_| stranger.miss(0.25));
        let guess = stranger.estimate(0, 0.25, &others);
        assert!(guess.net_wh > 99.0 && guess.systematic_sd > 99.0, "never zero");
        let mut newcomer = MemberState::new(state.id);
        newcomer.learn(300.0, 4);
        let evening = newcomer.estimate(9, 0.25, &others).net_wh;
        assert!((evening - 150.0).abs() < 1e-9, "as much more than usual as the others: {evening}");
    }
}
