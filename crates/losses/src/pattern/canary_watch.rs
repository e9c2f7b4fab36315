//! Canary watch: what would the live detection see if somebody stole on *these* feeders, now?
//!
//! Into copies of real feeders' readings known thefts are written, one per copy, and the detector that is in use looks at the
//! copy as it looks at the feeder. Reported are the share found, the days until then, and the visits to others that the
//! canary caused. The same detector also looks at the feeder as it is (the control): what it says there is not credited
//! to a canary, and its visits are reported on their own, because they are real thefts or false alarms and nobody knows yet.
//!
//! Typical use, each night, with a seed made from the date:
//! ```
//! use losses::pattern::canary_watch::{Alarm, Feeder, Member, Options, Target, watch};
//! # let member = |k: usize| Member { usage_point: format!("U{k}"), kwh: (0..60).map(|t| 5.0 + ((t * (k + 3)) % 7) as f64).collect() };
//! # let members: Vec<Member> = (0..6).map(member).collect();
//! # let supplied = (0..60).map(|t| members.iter().map(|m| m.kwh[t]).sum()).collect();
//! # let feeders = [Feeder { name: "T1".to_owned(), slots_per_day: 1, members, supplied_kwh: supplied }];
//! let report = watch(&feeders, Options { seed: 20_260_301, ..Options::default() }, |feeder: &Feeder| {
//!     // … the detector in use; here: the zone lacks more than 5 % on some day.
//!     let metered = |t: usize| feeder.members.iter().map(|m| m.kwh[t]).sum::<f64>();
//!     let slot = (0..60).find(|&t| feeder.supplied_kwh[t] > 1.05 * metered(t));
//!     Ok::<_, String>(slot.map(|slot| Alarm { slot, target: Target::Zone }).into_iter().collect())
//! })?;
//! assert_eq!(report.total.canaries, 4);
//! # Ok::<(), String>(())
//! ```
//! A detector that judges a record as a whole instead of slot by slot is wrapped in [`day_by_day`].
//!
//! Not field precision: the canaries steal in ways that somebody wrote down. A falling rate says that the detection got worse.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::pattern::canary::{Dice, Tampering, falsify};
use crate::pattern::statistics::{mean, median};

/// Fewest slots per day for a theft that runs at night only.
const LEAST_SLOTS_FOR_NIGHT: usize = 8;
/// Share of the slots after the onset that a member must have to lend a canary.
const LEAST_KNOWN: f64 = 0.8;
/// Least mean use of a member that lends a canary, in kWh a day; who uses nothing can steal nothing.
const LEAST_KWH_PER_DAY: f64 = 1.0;

/// One usage point's readings.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its id.
    pub usage_point: String,
    /// kWh per slot, oldest first; NaN = no reading.
    pub kwh: Vec<f64>,
}

/// A feeder (zone) with the readings of its members and of its observer meter; all series have the same slots.
#[derive(Debug, Clone, PartialEq)]
pub struct Feeder {
    /// Its name; also part of the seed, so that the order of the feeders does not matter.
    pub name: String,
    /// Slots per day: 1 for daily, 24 for hourly readings.
    pub slots_per_day: usize,
    /// The usage points.
    pub members: Vec<Member>,
    /// kWh through the observer meter per slot; NaN = no reading; empty without observer meter.
    pub supplied_kwh: Vec<f64>,
}

impl Feeder {
    /// Slots of the shortest series.
    pub fn slots(&self) -> usize {
        let members = self.members.iter().map(|m| m.kwh.len());
        let observer = (!self.supplied_kwh.is_empty()).then_some(self.supplied_kwh.len());
        members.chain(observer).min().unwrap_or(0)
    }

    /// The first `slots` slots: what was known then.
    pub fn until(&self, slots: usize) -> Self {
        let cut = |values: &[f64]| values[..slots.min(values.len())].to_vec();
        let members =
            self.members.iter().map(|m| Member { usage_point: m.usage_point.clone(), kwh: cut(&m.kwh) }).collect();
        Self {
            name: self.name.clone(),
            slots_per_day: self.slots_per_day,
            members,
            supplied_kwh: cut(&self.supplied_kwh),
        }
    }
}

/// Whom an alarm is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Target {
    /// Energy is missing in the zone; nobody is named.
    Zone,
    /// This usage point would be visited.
    UsagePoint(String),
}

/// One alarm of the detector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// The slot after which it was raised; it may rest on this slot and earlier ones only.
    pub slot: usize,
    /// Whom it is about.
    pub target: Target,
}

/// How a canary steals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Theft {
    /// The meter counts a fixed share.
    FixedShare,
    /// A fixed load runs past the meter.
    SecondFeed,
    /// Spells in which little or nothing is counted.
    Spells,
    /// The counted share falls slowly.
    Ramp,
    /// Another share every day.
    RandomShare,
    /// The mean is reported instead of the readings.
    FlatMean,
    /// 80 % is not counted from 22 to 6 o'clock; readings finer than three hours only.
    Night,
    /// A load before all meters of the feeder; only the observer meter can see it, and nobody is to be named.
    UnmeteredTap,
}

impl Theft {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::FixedShare,
        Self::SecondFeed,
        Self::Spells,
        Self::Ramp,
        Self::RandomShare,
        Self::FlatMean,
        Self::Night,
        Self::UnmeteredTap,
    ];

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::FixedShare => "fixed_share",
            Self::SecondFeed => "second_feed",
            Self::Spells => "spells",
            Self::Ramp => "ramp",
            Self::RandomShare => "random_share",
            Self::FlatMean => "flat_mean",
            Self::Night => "night",
            Self::UnmeteredTap => "unmetered_tap",
        }
    }

    fn possible(self, feeder: &Feeder) -> bool {
        match self {
            Self::Night => feeder.slots_per_day >= LEAST_SLOTS_FOR_NIGHT,
            Self::UnmeteredTap => !feeder.supplied_kwh.is_empty(),
            _ => true,
        }
    }
}

/// How many canaries, and when they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Seed of everything drawn; make it from the date, so that a night can be repeated.
    pub seed: u64,
    /// Canaries per feeder.
    pub per_feeder: usize,
    /// Days before the earliest onset, from which the detector learns what is usual.
    pub settled_days: usize,
    /// Days from the latest onset to the end of the record.
    pub observed_days: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 1, per_feeder: 4, settled_days: 21, observed_days: 21 }
    }
}

/// What became of the canaries of one kind, or of all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Canaries let loose.
    pub canaries: usize,
    /// Those that the detector saw: the thief named, or the zone in alarm.
    pub detected: usize,
    /// Those whose usage point was named.
    pub named: usize,
    /// `detected` / `canaries`; None without canaries.
    pub detection_rate: Option<f64>,
    /// 90 % interval of the detection rate (Wilson).
    pub detection_rate_interval: [f64; 2],
    /// Median days from onset to the first alarm of those detected; None when none was.
    pub delay_days: Option<f64>,
    /// Visits to others that the control run does not have.
    pub false_visits: usize,
    /// Energy that all canaries took, in kWh.
    pub stolen_kwh: f64,
    /// Energy that they took before they were seen, in kWh.
    pub stolen_unseen_kwh: f64,
}

/// What the watch found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// All canaries together.
    pub total: Outcome,
    /// By [`Theft::name`].
    pub by_kind: BTreeMap<String, Outcome>,
    /// Feeders watched.
    pub feeders: usize,
    /// Feeders too short, or without anybody whose readings could lend a canary.
    pub feeders_passed_over: usize,
    /// Days of all feeders watched.
    pub feeder_days: f64,
    /// Visits that the detector orders on the feeders as they are: real thefts or false alarms.
    pub visits_in_control: usize,
}

/// Writes canaries into copies of the feeders and lets the detector look at each. The detector returns every alarm that it
/// would have raised, with the slot at which it would have; its error ends the watch.
pub fn watch<E>(
    feeders: &[Feeder],
    options: Options,
    mut detector: impl FnMut(&Feeder) -> Result<Vec<Alarm>, E>,
) -> Result<Report, E> {
    let mut report = Report::default();
    let mut canaries: Vec<Judged> = Vec::new();
    for feeder in feeders {
        let Some(onsets) = onsets(feeder, options) else {
            report.feeders_passed_over += 1;
            continue;
        };
        let control: BTreeSet<Target> = detector(feeder)?.into_iter().map(|a| a.target).collect();
        let mut dice = Dice::new(options.seed ^ name_hash(&feeder.name));
        let mut made = 0;
        for _ in 0..options.per_feeder {
            let Some(canary) = draw(feeder, onsets, &control, &mut dice) else { continue };
            canaries.push(judge(&canary, &control, &detector(&canary.feeder)?));
            made += 1;
        }
        if made == 0 {
            report.feeders_passed_over += 1;
            continue;
        }
        report.feeders += 1;
        report.feeder_days += feeder.slots() as f64 / feeder.slots_per_day as f64;
        report.visits_in_control += control.iter().filter(|t| **t != Target::Zone).count();
    }
    report.total = outcome(canaries.iter());
    for theft in Theft::ALL {
        let of_kind = outcome(canaries.iter().filter(|c| c.theft == theft));
        if of_kind.canaries > 0 {
            report.by_kind.insert(theft.name().to_owned(), of_kind);
        }
    }
    Ok(report)
}

/// Alarms of a detector that judges a whole record: it is asked after every `every_days` days from `first_day` on with what was
/// known then, and an alarm counts from the first time on that its target is named.
pub fn day_by_day<E>(
    feeder: &Feeder,
    first_day: usize,
    every_days: usize,
    mut judge: impl FnMut(&Feeder) -> Result<Vec<Target>, E>,
) -> Result<Vec<Alarm>, E> {
    let per_day = feeder.slots_per_day.max(1);
    let mut seen = BTreeSet::new();
    let mut alarms = Vec::new();
    for day in (first_day.max(1)..=feeder.slots() / per_day).step_by(every_days.max(1)) {
        for target in judge(&feeder.until(day * per_day))? {
            if seen.insert(target.clone()) {
                alarms.push(Alarm { slot: day * per_day - 1, target });
            }
        }
    }
    Ok(alarms)
}

/// First and last slot at which a theft may begin; None when the record is too short.
fn onsets(feeder: &Feeder, options: Options) -> Option<(usize, usize)> {
    let per_day = feeder.slots_per_day;
    if per_day == 0 || feeder.members.is_empty() {
        return None;
    }
    let days = feeder.slots() / per_day;
    let last = days.checked_sub(options.observed_days.max(1))?;
    (options.settled_days <= last).then_some((options.settled_days * per_day, last * per_day))
}

struct Canary {
    theft: Theft,
    /// The thief; None for a tap before all meters.
    thief: Option<String>,
    onset: usize,
    /// Energy taken per slot from the onset on.
    stolen_kwh: Vec<f64>,
    feeder: Feeder,
}

fn draw(feeder: &Feeder, (first, last): (usize, usize), control: &BTreeSet<Target>, dice: &mut Dice) -> Option<Canary> {
    let per_day = feeder.slots_per_day;
    // Whole days, so that the hours of a night are where they belong.
    let onset = first + dice.below((last - first) / per_day + 1) * per_day;
    let lenders: Vec<usize> =
        (0..feeder.members.len()).filter(|&m| may_lend(&feeder.members[m], per_day, onset, control)).collect();
    let thief = *lenders.get(dice.below(lenders.len()))?;
    let kinds: Vec<Theft> = Theft::ALL.into_iter().filter(|t| t.possible(feeder)).collect();
    let theft = kinds[dice.below(kinds.len())];
    let mut copy = feeder.clone();
    let slots = feeder.slots();
    let before = feeder.members[thief].kwh[onset..slots].to_vec();
    let stolen_kwh: Vec<f64> = if theft == Theft::UnmeteredTap {
        let load = before.iter().map(|v| dice.between(0.5, 1.5) * v);
        let load: Vec<f64> = load.map(|v| if v.is_nan() { 0.0 } else { v }).collect();
        copy.supplied_kwh[onset..slots].iter_mut().zip(&load).for_each(|(s, l)| *s += l);
        load
    } else {
        let after = &mut copy.members[thief].kwh[onset..slots];
        steal(after, theft, per_day, dice);
        before.iter().zip(after).map(|(b, a)| b - *a).map(|v| if v.is_nan() { 0.0 } else { v }).collect()
    };
    let thief = (theft != Theft::UnmeteredTap).then(|| feeder.members[thief].usage_point.clone());
    Some(Canary { theft, thief, onset, stolen_kwh, feeder: copy })
}

fn may_lend(member: &Member, per_day: usize, onset: usize, control: &BTreeSet<Target>) -> bool {
    let after = &member.kwh[onset.min(member.kwh.len())..];
    let known = after.iter().filter(|v| !v.is_nan()).count();
    known as f64 >= LEAST_KNOWN * after.len() as f64
        && mean(after) * per_day as f64 >= LEAST_KWH_PER_DAY
        && !control.contains(&Target::UsagePoint(member.usage_point.clone()))
}

fn steal(after: &mut [f64], theft: Theft, per_day: usize, dice: &mut Dice) {
    let tampering = match theft {
        Theft::FixedShare => Tampering::Scale,
        Theft::SecondFeed => Tampering::Subtract,
        Theft::Spells => Tampering::Spells,
        Theft::Ramp => Tampering::Ramp,
        Theft::RandomShare => Tampering::RandomScale,
        Theft::FlatMean => Tampering::FlatMean,
        Theft::Night | Theft::UnmeteredTap => {
            for (slot, v) in after.iter_mut().enumerate() {
                let hour = (slot % per_day) as f64 * 24.0 / per_day as f64;
                if !(6.0..22.0).contains(&hour) {
                    *v *= 0.2;
                }
            }
            return;
        }
    };
    falsify(after, tampering, per_day, dice);
}

struct Judged {
    theft: Theft,
    named: bool,
    /// Days from onset to the first alarm; None when not detected.
    delay_days: Option<f64>,
    false_visits: usize,
    stolen_kwh: f64,
    stolen_unseen_kwh: f64,
}

fn judge(canary: &Canary, control: &BTreeSet<Target>, alarms: &[Alarm]) -> Judged {
    let mine = canary.thief.clone().map(Target::UsagePoint);
    // What stands on the feeder as it is cannot tell whether the canary was seen, and is not its fault either.
    let new: Vec<&Alarm> = alarms.iter().filter(|a| a.slot >= canary.onset && !control.contains(&a.target)).collect();
    let right = |a: &&&Alarm| a.target == Target::Zone || Some(&a.target) == mine.as_ref();
    let seen = new.iter().filter(right).map(|a| a.slot).min();
    let others: BTreeSet<&Target> = alarms
        .iter()
        .map(|a| &a.target)
        .filter(|t| **t != Target::Zone && Some(*t) != mine.as_ref() && !control.contains(*t))
        .collect();
    let per_day = canary.feeder.slots_per_day as f64;
    let unseen = seen.map_or(canary.stolen_kwh.len(), |slot| (slot + 1 - canary.onset).min(canary.stolen_kwh.len()));
    Judged {
        theft: canary.theft,
        named: mine.is_some_and(|m| new.iter().any(|a| a.target == m)),
        delay_days: seen.map(|slot| (slot + 1 - canary.onset) as f64 / per_day),
        false_visits: others.len(),
        stolen_kwh: canary.stolen_kwh.iter().sum(),
        stolen_unseen_kwh: canary.stolen_kwh[..unseen].iter().sum(),
    }
}

fn outcome<'a>(canaries: impl Iterator<Item = &'a Judged>) -> Outcome {
    let mut total = Outcome::default();
    let mut delays = Vec::new();
    for canary in canaries {
        total.canaries += 1;
        total.named += usize::from(canary.named);
        delays.extend(canary.delay_days);
        total.false_visits += canary.false_visits;
        total.stolen_kwh += canary.stolen_kwh;
        total.stolen_unseen_kwh += canary.stolen_unseen_kwh;
    }
    total.detected = delays.len();
    total.detection_rate = (total.canaries > 0).then(|| total.detected as f64 / total.canaries as f64);
    total.detection_rate_interval = wilson(total.detected, total.canaries);
    total.delay_days = (!delays.is_empty()).then(|| median(&delays));
    total
}

/// 90 % interval of a share (Wilson 1927).
fn wilson(hits: usize, of: usize) -> [f64; 2] {
    if of == 0 {
        return [0.0, 1.0];
    }
    const Z: f64 = 1.6449;
    let (n, p) = (of as f64, hits as f64 / of as f64);
    let middle = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    [(middle - half) / (1.0 + Z * Z / n), (middle + half) / (1.0 + Z * Z / n)].map(|v| v.clamp(0.0, 1.0))
}

/// FNV-1a.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const DAYS: usize = 70;

    fn feeder(name: &str, slots_per_day: usize, seed: u64) -> Feeder {
        let mut dice = Dice::new(seed);
        let slots = DAYS * slots_per_day;
        let members: Vec<Member> = (0..12)
            .map(|m| Member {
                usage_point: format!("{name}-{m}"),
                kwh: (0..slots).map(|_| dice.between(4.0, 12.0) / slots_per_day as f64).collect(),
            })
            .collect();
        let supplied_kwh = (0..slots).map(|t| members.iter().map(|m| m.kwh[t]).sum::<f64>() * 1.01).collect();
        Feeder { name: name.to_owned(), slots_per_day, members, supplied_kwh }
    }

    /// Alarms when a day lacks more than 4 %; then names whose mean fell most since the first three weeks.
    fn detector(feeder: &Feeder) -> Result<Vec<Alarm>, Infallible> {
        let per_day = feeder.slots_per_day;
        let day = |values: &[f64], d: usize| values[d * per_day..(d + 1) * per_day].iter().sum::<f64>();
        let lacking =
            |d: usize| 1.0 - feeder.members.iter().map(|m| day(&m.kwh, d)).sum::<f64>() / day(&feeder.supplied_kwh, d);
        let Some(first) = (0..DAYS).find(|&d| lacking(d) > 0.04) else { return Ok(Vec::new()) };
        let usual = |m: &Member| (0..21).map(|d| day(&m.kwh, d)).sum::<f64>() / 21.0;
        let now = |m: &Member| (first..DAYS).map(|d| day(&m.kwh, d)).sum::<f64>() / (DAYS - first) as f64;
        let fell = |m: &Member| now(m) / usual(m);
        let slot = (first + 1) * per_day - 1;
        let mut alarms = vec![Alarm { slot, target: Target::Zone }];
        if let Some(worst) = feeder.members.iter().min_by(|a, b| fell(a).total_cmp(&fell(b)))
            && fell(worst) < 0.7
        {
            alarms.push(Alarm { slot, target: Target::UsagePoint(worst.usage_point.clone()) });
        }
        Ok(alarms)
    }

    fn report(feeders: &[Feeder], seed: u64) -> Report {
        let options = Options { seed, per_feeder: 6, ..Options::default() };
        match watch(feeders, options, detector) {
            Ok(report) => report,
            Err(never) => match never {},
        }
    }

    #[test]
    fn canaries_are_found_named_and_counted() {
        let feeders: Vec<Feeder> = (0..12).map(|f| feeder(&format!("F{f}"), 1, f)).collect();
        let found = report(&feeders, 3);
        assert_eq!((found.total.canaries, found.feeders, found.visits_in_control), (72, 12, 0));
        let rate = found.total.detection_rate.expect("canaries");
        assert!(rate > 0.5, "{found:?}");
        assert!(found.total.named > 20 && found.total.named <= found.total.detected, "{found:?}");
        assert!(found.total.stolen_unseen_kwh < found.total.stolen_kwh);
        let [low, high] = found.total.detection_rate_interval;
        assert!(low < rate && rate < high);
        // A tap has no thief among the members; readings once a day have no night.
        assert_eq!(found.by_kind["unmetered_tap"].named, 0);
        assert!(!found.by_kind.contains_key("night"));
        assert_eq!(found.by_kind.values().map(|k| k.canaries).sum::<usize>(), 72);
        // A half share is gone on the first day, so the alarm comes on the first or a few days later.
        assert!(found.by_kind["fixed_share"].delay_days.is_some_and(|d| d <= 5.0), "{found:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_night_in_any_order() {
        let mut feeders: Vec<Feeder> = (0..5).map(|f| feeder(&format!("F{f}"), 24, f)).collect();
        let first = report(&feeders, 9);
        assert!(first.by_kind.contains_key("night"));
        assert_eq!(first, report(&feeders, 9));
        assert_ne!(first, report(&feeders, 10));
        feeders.reverse();
        let turned = report(&feeders, 9);
        assert_eq!((first.total.detected, first.by_kind.len()), (turned.total.detected, turned.by_kind.len()));
    }

    #[test]
    fn a_standing_alarm_is_not_credited_and_a_blind_detector_finds_nothing() {
        let feeders = [feeder("F", 1, 1)];
        let standing = |_: &Feeder| Ok::<_, Infallible>(vec![Alarm { slot: 30, target: Target::Zone }]);
        let Ok(report) = watch(&feeders, Options::default(), standing);
        assert_eq!((report.total.canaries, report.total.detected), (4, 0));
        let Ok(blind) = watch(&feeders, Options::default(), |_| Ok::<_, Infallible>(Vec::new()));
        assert_eq!(blind.total.stolen_unseen_kwh, blind.total.stolen_kwh);
        assert_eq!(blind.total.delay_days, None);
        let text = serde_json::to_string(&blind).expect("written");
        assert_eq!(serde_json::from_str::<Report>(&text).expect("read"), blind);
    }

    #[test]
    fn short_and_empty_feeders_are_passed_over() {
        let short = feeder("F", 1, 1).until(30);
        let mut idle = feeder("G", 1, 2);
        idle.members.iter_mut().for_each(|m| m.kwh.fill(0.0));
        let found = report(&[short, idle], 1);
        assert_eq!((found.feeders, found.feeders_passed_over, found.total.canaries), (0, 2, 0));
    }

    #[test]
    fn errors_of_the_detector_end_the_watch() {
        let failed = watch(&[feeder("F", 1, 1)], Options::default(), |_| Err::<Vec<Alarm>, _>("no model"));
        assert_eq!(failed, Err("no model"));
    }

    #[test]
    fn day_by_day_sees_no_later_slot() {
        let feeder = feeder("F", 24, 4);
        let alarms = day_by_day(&feeder, 10, 5, |known| {
            let days = known.slots() / 24;
            Ok::<_, Infallible>(if days >= 23 { vec![Target::Zone] } else { Vec::new() })
        });
        assert_eq!(alarms, Ok(vec![Alarm { slot: 25 * 24 - 1, target: Target::Zone }]));
    }
}
