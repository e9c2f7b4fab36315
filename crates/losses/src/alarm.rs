//! The sequential alarm of a zone: is energy missing (or in surplus) beyond what errors and habit explain?
//!
//! Two pairs of CUSUM charts (missing and surplus) on the residual `unaccounted − known gain error − habit`:
//! - *fast*: every slot, residual whitened by its lag-1 correlation and scaled by its own measured spread; finds large thefts in
//!   a few slots;
//! - *slow*: every four hours; finds small and night-only thefts in a day or two.
//!
//! The *habit* is the mean residual per four hours of the day over clean days; it never grows beyond what meter classes permit.
//! A third test, *standing*, compares several days with the prior alone and finds what was there from the first day.
//! Single values are clipped (a glitch alone never alarms). Thresholds follow from the wanted run length by Siegmund's formula for
//! CUSUM charts (Siegmund 1985: ARL = (e^{2kb} − 2kb − 1)/(2k²), b = h + 1.166), with a margin measured by simulation for tails
//! and correlation that the formula does not know. While an alarm of the charts is active nothing is learned.
//! Not here: where the energy is lost ([`crate::explain`]).

use std::collections::VecDeque;

use metering::Timestamp;
use serde::{Deserialize, Serialize};

/// Length of a block of the slow chart, seconds.
pub const BLOCK_SECONDS: i64 = 4 * 3_600;
const BLOCKS_PER_DAY: usize = 6;
/// Clean days before the charts may alarm.
pub const WARM_UP_DAYS: f64 = 7.0;
/// Lack of fit of the loss model per slot, as a share of the supplied energy; the measured spread corrects it.
const MISFIT_SHARE: f64 = 0.003;
/// Slow drift that no alarm is worth, as a share of the supplied energy.
const DRIFT_SHARE: f64 = 0.0035;
const FAST_SLACK: f64 = 1.0;
const FAST_CLIP: f64 = 4.0;
const SLOW_SLACK: f64 = 0.75;
const SLOW_CLIP: f64 = 4.5;
/// Margins on the thresholds of Siegmund's formula.
const FAST_MARGIN: f64 = 3.4;
const SLOW_MARGIN: f64 = 1.25;
/// Deviations from the prior, over at least [`STANDING_DAYS`], that are called a standing loss.
const STANDING_Z: f64 = 4.5;
const STANDING_DAYS: f64 = 5.0;
/// Deviations of the last 24 hours below which an alarm is over.
const RESOLVED_Z: f64 = 3.0;
/// Days before a clean day becomes habit.
const HABIT_DELAY_DAYS: usize = 2;

/// What the operator sets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlarmConfig {
    /// Accepted false alarms per zone and month (30 days); 0.01 is one in 100 zone-months. Held between 0.0001 and 10.
    pub false_alarms_per_zone_month: f64,
}

impl Default for AlarmConfig {
    fn default() -> Self {
        Self { false_alarms_per_zone_month: 0.01 }
    }
}

impl AlarmConfig {
    /// In-control run length each of the four charts must have, in days.
    fn run_length_days(&self) -> f64 {
        let rate = self.false_alarms_per_zone_month;
        let rate = if rate.is_finite() { rate.clamp(1e-4, 10.0) } else { 0.01 };
        4.0 * 30.0 / rate
    }

    /// Threshold of the fast chart for slots of `minutes`, in standard deviations.
    pub fn fast_threshold(&self, minutes: u16) -> f64 {
        let slots = self.run_length_days() * 1_440.0 / f64::from(minutes.max(1));
        FAST_MARGIN * siegmund_threshold(FAST_SLACK, slots)
    }

    /// Threshold of the slow chart, in standard deviations of a block.
    pub fn slow_threshold(&self) -> f64 {
        SLOW_MARGIN * siegmund_threshold(SLOW_SLACK, self.run_length_days() * BLOCKS_PER_DAY as f64)
    }
}

/// The threshold h of a one-sided CUSUM with slack k whose in-control run length is `run_length` observations.
pub fn siegmund_threshold(k: f64, run_length: f64) -> f64 {
    let arl = |h: f64| {
        let x = 2.0 * k * (h + 1.166);
        (x.exp() - x - 1.0) / (2.0 * k * k)
    };
    let (mut low, mut high) = (0.0, 60.0 / k);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if arl(middle) < run_length { low = middle } else { high = middle }
    }
    high
}

/// Which way the balance is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// More is supplied than metered and lost.
    Missing,
    /// More is metered than supplied.
    Surplus,
}

impl AlarmKind {
    /// +1 for missing, −1 for surplus.
    pub const fn sign(self) -> f64 {
        match self {
            Self::Missing => 1.0,
            Self::Surplus => -1.0,
        }
    }
}

/// Which test raised an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chart {
    /// Slot by slot.
    Fast,
    /// Four hours by four hours.
    Slow,
    /// Against the prior, over days.
    Standing,
}

/// Where the alarm of a zone stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum AlarmState {
    /// Nothing found.
    #[default]
    Quiet,
    /// The balance is off.
    Raised {
        /// End of the slot that raised it.
        since: Timestamp,
        /// Estimated begin of what raised it.
        onset: Timestamp,
        /// Which way.
        kind: AlarmKind,
        /// By which test.
        by: Chart,
    },
    /// The balance was off and is back.
    Resolved {
        /// When it was raised.
        raised: Timestamp,
        /// End of the slot that ended it.
        at: Timestamp,
        /// Which way it was off.
        kind: AlarmKind,
    },
}

/// A change of the alarm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum AlarmChange {
    /// Raised.
    Raised {
        /// Which way.
        kind: AlarmKind,
        /// Estimated begin.
        onset: Timestamp,
        /// By which test.
        by: Chart,
        /// Mean power missing (or in surplus) since the onset, W; positive for both kinds.
        mean_w: f64,
    },
    /// Clearly more is missing than when the alarm was raised: perhaps a second cause.
    Escalated {
        /// Which way.
        kind: AlarmKind,
        /// Estimated begin of the increase.
        onset: Timestamp,
        /// Mean power over the last 24 hours, W.
        mean_w: f64,
    },
    /// The balance is back to its habit for 24 hours.
    Resolved {
        /// Which way it was off.
        kind: AlarmKind,
        /// When it was raised.
        raised: Timestamp,
    },
}

/// What the detector sees of a slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Residual {
    /// End of the slot.
    pub end: Timestamp,
    /// Its length, minutes.
    pub minutes: u16,
    /// Unaccounted energy less the known gain error, Wh.
    pub residual_wh: f64,
    /// Variance of the meters' random errors, Wh².
    pub meter_var: f64,
    /// Variance and systematic variance that estimates of missing meters add, Wh².
    pub estimate_var: f64,
    /// Standard deviation of what estimates have in common from slot to slot, Wh.
    pub estimate_sd: f64,
    /// Scale of the zone in this slot: the supplied energy without sign, Wh.
    pub supplied_wh: f64,
    /// `supplied − metered − prior loss` and its standard deviation, Wh.
    pub standing: (f64, f64),
    /// Whether enough was measured to learn from.
    pub learnable: bool,
    /// Whether the loss model has seen a day: before that the residual shows its prior, not its noise.
    pub settled: bool,
}

/// One four-hour block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Block {
    residual_wh: f64,
    var: f64,
    estimate_sd: f64,
    supplied_wh: f64,
    hours: f64,
}

impl Block {
    fn add(&mut self, other: &Self) {
        self.residual_wh += other.residual_wh;
        self.var += other.var;
        self.estimate_sd += other.estimate_sd;
        self.supplied_wh += other.supplied_wh;
        self.hours += other.hours;
    }

    fn sd(&self) -> f64 {
        let drift = DRIFT_SHARE * self.supplied_wh;
        (self.var + self.estimate_sd * self.estimate_sd + drift * drift).sqrt().max(1.0)
    }
}

/// One side of a chart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cusum {
    sum: f64,
    /// Since when the sum is above zero.
    since: Timestamp,
    /// Residual energy and hours since then.
    residual_wh: f64,
    hours: f64,
}

impl Cusum {
    fn step(&mut self, value: f64, residual_wh: f64, hours: f64, begin: Timestamp) {
        if self.sum <= 0.0 {
            *self = Self { sum: 0.0, since: begin, residual_wh: 0.0, hours: 0.0 };
        }
        self.sum = (self.sum + value).max(0.0);
        self.residual_wh += residual_wh;
        self.hours += hours;
    }
}

/// Habit of one day, waiting to be learned: residual and hours per four hours of the day.
type DayHabit = [(f64, f64); BLOCKS_PER_DAY];

/// The running detector of one zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    state: AlarmState,
    /// Mean residual power per four hours of the day, W.
    habit_w: [f64; BLOCKS_PER_DAY],
    habit_days: f64,
    pending: VecDeque<DayHabit>,
    today: DayHabit,
    day: i64,
    /// Clean days seen.
    clean_days: f64,
    /// Mean square and lag-1 product of the scaled slot residual.
    square: f64,
    product: f64,
    last_z: f64,
    slots: f64,
    /// Mean square of the scaled block residual.
    block_square: f64,
    blocks: f64,
    fast: [Cusum; 2],
    slow: [Cusum; 2],
    block: Block,
    window: VecDeque<Block>,
    /// Blocks since the alarm was raised or escalated, and the level then (Wh in 24 hours).
    blocks_raised: u32,
    level_wh: f64,
    standing_sum: f64,
    standing_sd: f64,
    standing_days: f64,
}

const KINDS: [AlarmKind; 2] = [AlarmKind::Missing, AlarmKind::Surplus];

impl Default for Detector {
    fn default() -> Self {
        Self {
            state: AlarmState::Quiet,
            habit_w: [0.0; BLOCKS_PER_DAY],
            habit_days: 0.0,
            pending: VecDeque::new(),
            today: DayHabit::default(),
            day: i64::MIN,
            clean_days: 0.0,
            square: 1.0,
            product: 0.3,
            last_z: 0.0,
            slots: 0.0,
            block_square: 1.0,
            blocks: 0.0,
            fast: <[Cusum; 2]>::default(),
            slow: <[Cusum; 2]>::default(),
            block: Block::default(),
            window: VecDeque::new(),
            blocks_raised: 0,
            level_wh: 0.0,
            standing_sum: 0.0,
            standing_sd: 0.0,
            standing_days: 0.0,
        }
    }
}

fn bin_of(end: Timestamp) -> usize {
    usize::try_from((end.second_of_day() - 1).rem_euclid(86_400) / BLOCK_SECONDS).unwrap_or(0).min(BLOCKS_PER_DAY - 1)
}

impl Detector {
    /// Where the alarm stands.
    pub fn state(&self) -> AlarmState {
        self.state
    }

    /// Whether the charts have raised an alarm, so that nothing may be learned.
    pub fn blocks_learning(&self) -> bool {
        matches!(self.state, AlarmState::Raised { by: Chart::Fast | Chart::Slow, .. })
    }

    /// Whether enough clean days were seen for the charts to alarm.
    pub fn is_warm(&self) -> bool {
        self.clean_days >= WARM_UP_DAYS
    }

    /// Variance of the random error of a slot as measured, Wh².
    pub fn slot_var(&self, meter_var: f64, supplied_wh: f64) -> f64 {
        let misfit = MISFIT_SHARE * supplied_wh;
        self.square * (meter_var + misfit * misfit)
    }

    /// By how much the variance of a sum of slots exceeds that of independent ones: (1 + φ)/(1 − φ), 1 to 19.
    pub fn correlation_factor(&self) -> f64 {
        let phi = self.phi();
        (1.0 + phi) / (1.0 - phi)
    }

    /// The same of a sum of `slots` slots: 1 + 2 Σ (1 − k/slots) φᵏ.
    pub fn correlation_over(&self, slots: usize) -> f64 {
        let (phi, n) = (self.phi(), slots.max(1) as f64);
        self.correlation_factor() - 2.0 * phi * (1.0 - phi.powf(n)) / (n * (1.0 - phi) * (1.0 - phi))
    }

    fn phi(&self) -> f64 {
        (self.product / self.square.max(1e-9)).clamp(0.0, 0.9)
    }

    /// Habit of the slot that ends at `end`, Wh.
    pub fn habit_wh(&self, end: Timestamp, minutes: u16) -> f64 {
        self.habit_w[bin_of(end)] * f64::from(minutes) / 60.0
    }

    /// Takes the present level as habit, ends the alarm and starts the charts anew: for an operator who knows the reason.
    pub fn accept_level(&mut self) {
        let mut day = Block::default();
        self.window.iter().for_each(|b| day.add(b));
        if day.hours > 0.0 {
            // The window's residuals are relative to the habit already.
            self.habit_w.iter_mut().for_each(|w| *w += day.residual_wh / day.hours);
        }
        self.state = AlarmState::Quiet;
        (self.standing_sum, self.standing_sd, self.standing_days) = (0.0, 0.0, 0.0);
        self.restart_charts();
    }

    /// Takes in one slot.
    pub fn observe(&mut self, slot: &Residual, config: &AlarmConfig) -> Option<AlarmChange> {
        let hours = f64::from(slot.minutes) / 60.0;
        self.roll(slot.end.plus(-1).day());
        let residual = slot.residual_wh - self.habit_wh(slot.end, slot.minutes);
        let var = self.slot_var(slot.meter_var, slot.supplied_wh) + slot.estimate_var;
        let z = residual / var.sqrt().max(1e-6);
        let clean = slot.learnable && slot.settled && !self.blocks_learning();
        let phi = self.phi();
        let innovation = (z - phi * self.last_z) / (1.0 - phi * phi).sqrt();
        if clean {
            // Spread and habit are those of measurements: slots that hang on estimates say nothing about them.
            let estimated = slot.estimate_var + slot.estimate_sd * slot.estimate_sd;
            if estimated <= 0.2 * var {
                self.learn_spread(z);
                let bin = &mut self.today[bin_of(slot.end)];
                *bin = (bin.0 + slot.residual_wh, bin.1 + hours);
            }
            self.clean_days = (self.clean_days + hours / 24.0).min(1e6);
        }
        self.last_z = z.clamp(-8.0, 8.0);
        let whitened_var = var * self.correlation_factor();
        self.block.add(&Block {
            residual_wh: residual,
            var: whitened_var,
            estimate_sd: slot.estimate_sd,
            supplied_wh: slot.supplied_wh,
            hours,
        });
        let mut change = self.step_fast(slot, innovation, residual, hours, config);
        if slot.end.0.rem_euclid(BLOCK_SECONDS) == 0 {
            let closed = self.close_block(slot, clean, config);
            change = change.or(closed);
        }
        change.or_else(|| self.step_standing(slot, hours))
    }

    fn step_fast(
        &mut self,
        slot: &Residual,
        innovation: f64,
        residual: f64,
        hours: f64,
        config: &AlarmConfig,
    ) -> Option<AlarmChange> {
        if !self.is_warm() || self.blocks_learning() {
            return None;
        }
        let begin = slot.end.plus(-i64::from(slot.minutes) * 60);
        // Estimates make the residual a guess with a memory: it must not drive the fast chart.
        let trust = 1.0 / (1.0 + slot.estimate_sd / slot.meter_var.sqrt().max(1.0));
        let threshold = config.fast_threshold(slot.minutes);
        for (kind, chart) in KINDS.into_iter().zip(0..) {
            let value = (kind.sign() * innovation * trust).clamp(-FAST_CLIP, FAST_CLIP) - FAST_SLACK;
            self.fast[chart].step(value, kind.sign() * residual, hours, begin);
        }
        let chart = (0..2).find(|&c| self.fast[c].sum > threshold)?;
        Some(self.raise(slot.end, KINDS[chart], Chart::Fast, self.fast[chart]))
    }

    fn close_block(&mut self, slot: &Residual, clean: bool, config: &AlarmConfig) -> Option<AlarmChange> {
        let block = std::mem::take(&mut self.block);
        if block.hours < 2.0 {
            return None;
        }
        self.window.push_back(block);
        while self.window.len() > BLOCKS_PER_DAY {
            self.window.pop_front();
        }
        if self.blocks_learning() {
            return self.follow_alarm(slot);
        }
        let z = block.residual_wh / block.sd();
        let scaled = z / self.block_square.max(1.0).sqrt();
        if clean {
            self.blocks += 1.0;
            let step = (1.0 / (self.blocks + 12.0)).max(1.0 / 120.0);
            self.block_square += step * (z * z).min(9.0 * self.block_square.max(1.0)) - step * self.block_square;
        }
        if !self.is_warm() {
            return None;
        }
        let begin = slot.end.plus(-BLOCK_SECONDS);
        for (kind, chart) in KINDS.into_iter().zip(0..) {
            let value = (kind.sign() * scaled).clamp(-SLOW_CLIP, SLOW_CLIP) - SLOW_SLACK;
            self.slow[chart].step(value, kind.sign() * block.residual_wh, block.hours, begin);
        }
        let chart = (0..2).find(|&c| self.slow[c].sum > config.slow_threshold())?;
        Some(self.raise(slot.end, KINDS[chart], Chart::Slow, self.slow[chart]))
    }

    fn raise(&mut self, at: Timestamp, kind: AlarmKind, by: Chart, chart: Cusum) -> AlarmChange {
        let mean_w = (chart.residual_wh / chart.hours.max(0.01)).max(0.0);
        let was_standing = matches!(self.state, AlarmState::Raised { by: Chart::Standing, .. });
        let onset = chart.since;
        self.state = AlarmState::Raised { since: at, onset, kind, by };
        self.restart_charts();
        self.pending.clear();
        self.today = DayHabit::default();
        if was_standing {
            AlarmChange::Escalated { kind, onset, mean_w }
        } else {
            AlarmChange::Raised { kind, onset, by, mean_w }
        }
    }

    fn restart_charts(&mut self) {
        self.fast = <[Cusum; 2]>::default();
        self.slow = <[Cusum; 2]>::default();
        self.blocks_raised = 0;
        self.level_wh = 0.0;
    }

    /// An alarm is active: has it ended, has it grown?
    fn follow_alarm(&mut self, slot: &Residual) -> Option<AlarmChange> {
        let AlarmState::Raised { since, onset, kind, by } = self.state else { return None };
        self.blocks_raised = self.blocks_raised.saturating_add(1);
        if self.window.len() < BLOCKS_PER_DAY || self.blocks_raised < BLOCKS_PER_DAY as u32 {
            return None;
        }
        let mut day = Block::default();
        self.window.iter().for_each(|b| day.add(b));
        let level = kind.sign() * day.residual_wh;
        if level < RESOLVED_Z * day.sd() {
            self.state = AlarmState::Resolved { raised: since, at: slot.end, kind };
            self.restart_charts();
            return Some(AlarmChange::Resolved { kind, raised: since });
        }
        if self.level_wh <= 0.0 {
            self.level_wh = level;
            return None;
        }
        let grown = (5.0 * day.sd()).max(0.02 * day.supplied_wh).max(0.6 * self.level_wh);
        if level - self.level_wh <= grown {
            return None;
        }
        self.level_wh = level;
        self.state = AlarmState::Raised { since, onset, kind, by };
        Some(AlarmChange::Escalated { kind, onset: slot.end.plus(-86_400), mean_w: level / day.hours })
    }

    /// Compares several days with the prior alone, once a day.
    fn step_standing(&mut self, slot: &Residual, hours: f64) -> Option<AlarmChange> {
        if slot.learnable {
            self.standing_sum += slot.standing.0;
            self.standing_sd += slot.standing.1;
            self.standing_days += hours / 24.0;
        }
        if slot.end.second_of_day() != 0 || self.standing_days < STANDING_DAYS {
            return None;
        }
        let z = self.standing_sum / self.standing_sd.max(1.0);
        let mean_w = self.standing_sum.abs() / (self.standing_days * 24.0);
        for value in [&mut self.standing_sum, &mut self.standing_sd, &mut self.standing_days] {
            *value *= 0.9;
        }
        match self.state {
            AlarmState::Raised { since, kind, by: Chart::Standing, .. } if z.abs() < STANDING_Z - 1.0 => {
                self.state = AlarmState::Resolved { raised: since, at: slot.end, kind };
                Some(AlarmChange::Resolved { kind, raised: since })
            }
            AlarmState::Raised { .. } => None,
            AlarmState::Quiet | AlarmState::Resolved { .. } if z.abs() > STANDING_Z => {
                let kind = if z > 0.0 { AlarmKind::Missing } else { AlarmKind::Surplus };
                #[allow(clippy::cast_possible_truncation)]
                let onset = slot.end.plus(-(self.standing_days / 0.9 * 86_400.0) as i64);
                self.state = AlarmState::Raised { since: slot.end, onset, kind, by: Chart::Standing };
                Some(AlarmChange::Raised { kind, onset, by: Chart::Standing, mean_w })
            }
            AlarmState::Quiet | AlarmState::Resolved { .. } => None,
        }
    }

    fn learn_spread(&mut self, z: f64) {
        self.slots += 1.0;
        let unit = self.square.max(1e-9);
        // z is scaled by the present spread: undo it, clip, average.
        let clip = |v: f64| v.clamp(-3.5, 3.5);
        let step = (1.0 / (self.slots + 48.0)).max(1.0 / 1_500.0);
        let (now, before) = (clip(z), clip(self.last_z));
        let square = (unit * (1.0 - step) + step * unit * now * now).clamp(0.05, 100.0);
        self.product = ((1.0 - step) * self.product + step * unit * now * before).clamp(0.0, 0.9 * square);
        self.square = square;
    }

    fn roll(&mut self, day: i64) {
        if day <= self.day {
            return;
        }
        if self.day != i64::MIN {
            self.pending.push_back(std::mem::take(&mut self.today));
            let delay = if self.habit_days < WARM_UP_DAYS { 0 } else { HABIT_DELAY_DAYS };
            while self.pending.len() > delay
                && let Some(old) = self.pending.pop_front()
            {
                self.learn_habit(&old);
            }
        }
        self.day = day;
    }

    fn learn_habit(&mut self, day: &DayHabit) {
        if day.iter().all(|(_, hours)| *hours < 2.0) {
            return;
        }
        // The prior counts as two days without any habit.
        let step = (1.0 / (self.habit_days + 3.0)).max(1.0 / 14.0);
        self.habit_days += 1.0;
        for (habit, (residual_wh, hours)) in self.habit_w.iter_mut().zip(day) {
            if *hours >= 2.0 {
                *habit += step * (residual_wh / hours - *habit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_follow_the_wanted_run_length() {
        let strict = AlarmConfig { false_alarms_per_zone_month: 0.001 };
        let loose = AlarmConfig { false_alarms_per_zone_month: 0.1 };
        assert!(strict.fast_threshold(15) > loose.fast_threshold(15) + 1.0);
        assert!(strict.slow_threshold() > loose.slow_threshold() + 1.0);
        // Siegmund's formula at a tabulated point: k = 0.5, h = 4 has a run length of about 336 on one side.
        assert!((siegmund_threshold(0.5, 336.0) - 4.0).abs() < 0.02);
    }
}
