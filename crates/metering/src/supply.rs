//! The one guard before a relay: whether a control may be asked for, approved or sent now. It is asked at the request, at the
//! approval, at the sending and at every further sending, each time with the facts of that moment.
//!
//! Pure: whoever asks gathers the facts in the transaction in which the answer takes effect, so that nothing changes in between.

use alloc::{format, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    control::ControlKind,
    event::EventKind,
    id::{UsagePointId, ZoneId},
    time::Timestamp,
};

/// Pause before a restore that waits for its turn is looked at again, seconds.
const TURN_SECONDS: i64 = 10;

/// The rules for cutting supply. What cuts supply is a disconnect and a load limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupplyPolicy {
    /// Event kinds (by code) on which a disconnect may be approved without a person. Default: none.
    pub automatic_kinds: Vec<EventKind>,
    /// Most cuts approved within any hour, all together.
    pub per_hour_max: u32,
    /// Most cuts approved within any hour on one feeder.
    pub per_feeder_hour_max: u32,
    /// Most cuts approved within any 24 hours, in thousandths of all usage points …
    pub per_day_per_mille: u32,
    /// … but at least this many, so that a small fleet is not barred.
    pub per_day_min: u32,
    /// Whether every cut needs two persons: who asks does not approve. Without effect while there is one operator only.
    pub two_persons: bool,
    /// Most cuts that one person may both ask for and approve within any 24 hours; further ones wait for another operator.
    /// Without effect while there is one operator only.
    pub alone_per_day_max: u32,
    /// Most restores sent within a minute on one feeder; further ones wait their turn, so that a feeder does not take the whole
    /// load at once.
    pub restores_per_feeder_minute: u32,
}

impl Default for SupplyPolicy {
    /// No automatic trips; 5 an hour, 3 an hour on a feeder, 0.1 % or 10 a day; 5 a day by one person alone; 20 restores a minute.
    fn default() -> Self {
        Self {
            automatic_kinds: Vec::new(),
            per_hour_max: 5,
            per_feeder_hour_max: 3,
            per_day_per_mille: 1,
            per_day_min: 10,
            two_persons: false,
            alone_per_day_max: 5,
            restores_per_feeder_minute: 20,
        }
    }
}

/// What no setting may go beyond; from the configuration file, which only who runs the machine can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupplyCeilings {
    /// Highest value of [`SupplyPolicy::per_hour_max`].
    pub per_hour_max: u32,
    /// Highest value of [`SupplyPolicy::per_feeder_hour_max`].
    pub per_feeder_hour_max: u32,
    /// Highest value of [`SupplyPolicy::per_day_per_mille`].
    pub per_day_per_mille: u32,
    /// Highest value of [`SupplyPolicy::per_day_min`].
    pub per_day_min: u32,
}

impl Default for SupplyCeilings {
    /// 100 an hour, 50 of them on one feeder, 1 % or 500 a day.
    fn default() -> Self {
        Self { per_hour_max: 100, per_feeder_hour_max: 50, per_day_per_mille: 10, per_day_min: 500 }
    }
}

impl SupplyPolicy {
    /// What of the policy lies above the ceilings, in words; `None` when nothing does.
    pub fn above(&self, ceilings: &SupplyCeilings) -> Option<String> {
        let values = [
            ("per_hour_max", self.per_hour_max, ceilings.per_hour_max),
            ("per_feeder_hour_max", self.per_feeder_hour_max, ceilings.per_feeder_hour_max),
            ("per_day_per_mille", self.per_day_per_mille, ceilings.per_day_per_mille),
            ("per_day_min", self.per_day_min, ceilings.per_day_min),
        ];
        let (name, value, most) = values.into_iter().find(|(_, value, most)| value > most)?;
        Some(format!("{name} is {value}; the configuration file of this server allows at most {most}"))
    }

    /// The policy with every limit at or below its ceiling: a stored one may be older than the configuration file.
    #[must_use]
    pub fn within(mut self, ceilings: &SupplyCeilings) -> Self {
        self.per_hour_max = self.per_hour_max.min(ceilings.per_hour_max);
        self.per_feeder_hour_max = self.per_feeder_hour_max.min(ceilings.per_feeder_hour_max);
        self.per_day_per_mille = self.per_day_per_mille.min(ceilings.per_day_per_mille);
        self.per_day_min = self.per_day_min.min(ceilings.per_day_min);
        self
    }

    /// Whether `to` lets through what this one stops: such a change is confirmed by another person.
    pub fn is_loosened_by(&self, to: &Self) -> bool {
        to.per_hour_max > self.per_hour_max
            || to.per_feeder_hour_max > self.per_feeder_hour_max
            || to.per_day_per_mille > self.per_day_per_mille
            || to.per_day_min > self.per_day_min
            || to.alone_per_day_max > self.alone_per_day_max
            || to.restores_per_feeder_minute > self.restores_per_feeder_minute
            || (self.two_persons && !to.two_persons)
            || to.automatic_kinds.iter().any(|kind| !self.automatic_kinds.contains(kind))
    }

    /// Most cuts within 24 hours among so many usage points.
    fn per_day_max(&self, usage_points: u64) -> u64 {
        (usage_points.saturating_mul(u64::from(self.per_day_per_mille)) / 1_000).max(u64::from(self.per_day_min))
    }
}

impl ControlKind {
    /// Whether it can take supply away.
    pub const fn cuts_supply(&self) -> bool {
        matches!(self, Self::Disconnect | Self::LoadLimit { limit_w: Some(_) })
    }

    /// Whether it only gives supply back.
    pub const fn restores_supply(&self) -> bool {
        matches!(self, Self::Reconnect | Self::LoadLimit { limit_w: None })
    }
}

/// What is about to happen to the control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It is asked for, and not approved with it.
    Request,
    /// It is approved.
    Approval,
    /// It is sent, for the first time or again.
    Sending,
}

/// Cuts that were approved before the one that is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutsBefore {
    /// Within the hour.
    pub hour: u64,
    /// Within the hour, on the same feeder.
    pub feeder_hour: u64,
    /// Within 24 hours.
    pub day: u64,
    /// Within 24 hours, asked for and approved by one person who has a part in this one, or with a program's part.
    pub alone_day: u64,
}

/// Everything the answer rests on, as it is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupplyFacts {
    /// What it does.
    pub kind: ControlKind,
    /// After this it must not be sent.
    pub expires: Timestamp,
    /// Only supply may be restored.
    pub aborted: bool,
    /// The usage point, when it is marked never to be disconnected.
    pub protected: Option<UsagePointId>,
    /// The zone whose inflow the meter measures.
    pub observes: Option<ZoneId>,
    /// How the meter's place differs from where it was asked for, in words.
    pub moved: Option<String>,
    /// The feeder.
    pub feeder: Option<ZoneId>,
    /// Cuts approved before.
    pub cuts: CutsBefore,
    /// Usage points of the whole network.
    pub usage_points: u64,
    /// Restores sent on the same feeder within the last minute.
    pub restores_minute: u64,
    /// Operators that may sign in.
    pub operators: u64,
    /// Whether one person both asks and approves.
    pub is_alone: bool,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permit {
    /// It may.
    Granted,
    /// Not before this time.
    Wait(String, Timestamp),
    /// Another person must approve it; why.
    SecondPerson(String),
    /// It must not; why.
    Refused(String),
}

/// Whether a control may do now what `moment` says.
pub fn permit(facts: &SupplyFacts, policy: &SupplyPolicy, moment: Moment, now: Timestamp) -> Permit {
    if let Some(why) = forbidden(facts, now) {
        return Permit::Refused(why);
    }
    if facts.kind.restores_supply() {
        let most = u64::from(policy.restores_per_feeder_minute.max(1));
        if moment == Moment::Sending && facts.restores_minute >= most {
            let why = format!("{most} restores within a minute on one feeder is the limit: it waits its turn");
            return Permit::Wait(why, now.plus(TURN_SECONDS));
        }
        return Permit::Granted;
    }
    if moment == Moment::Request || !facts.kind.cuts_supply() {
        return Permit::Granted;
    }
    if let Some(why) = over_limit(facts, policy) {
        return Permit::Refused(why);
    }
    if moment == Moment::Approval && facts.is_alone && facts.operators > 1 {
        if policy.two_persons {
            return Permit::SecondPerson("the policy wants two persons: another operator approves it".into());
        }
        let most = policy.alone_per_day_max;
        if facts.cuts.alone_day >= u64::from(most) {
            return Permit::SecondPerson(format!(
                "{most} disconnections within 24 hours is what one person may do alone: another operator approves it"
            ));
        }
    }
    Permit::Granted
}

/// What no limit and no approval changes.
fn forbidden(facts: &SupplyFacts, now: Timestamp) -> Option<String> {
    if facts.expires <= now {
        return Some(format!("it would expire at {}, which is not after now ({now})", facts.expires));
    }
    if facts.aborted && !facts.kind.restores_supply() {
        return Some("the abort switch is on: only restores are sent until it is switched off".into());
    }
    if let Some(how) = &facts.moved {
        return Some(format!("{how}: ask anew, for where it is meant"));
    }
    if !facts.kind.cuts_supply() {
        return None;
    }
    if let Some(point) = &facts.protected {
        return Some(format!("{point} is marked never to be disconnected"));
    }
    facts.observes.map(|zone| format!("the meter is the observer of zone {zone}: it would cut the whole zone"))
}

fn over_limit(facts: &SupplyFacts, policy: &SupplyPolicy) -> Option<String> {
    let cuts = &facts.cuts;
    if cuts.hour >= u64::from(policy.per_hour_max) {
        return Some(format!("{} disconnections within the hour is the limit: wait", policy.per_hour_max));
    }
    if let Some(feeder) = facts.feeder
        && cuts.feeder_hour >= u64::from(policy.per_feeder_hour_max)
    {
        let most = policy.per_feeder_hour_max;
        return Some(format!("{most} disconnections on feeder {feeder} within the hour is the limit: wait"));
    }
    let most = policy.per_day_max(facts.usage_points);
    (cuts.day >= most).then(|| format!("{most} disconnections within 24 hours is the limit: wait"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn facts(kind: ControlKind) -> SupplyFacts {
        SupplyFacts {
            kind,
            expires: NOW.plus(60),
            aborted: false,
            protected: None,
            observes: None,
            moved: None,
            feeder: ZoneId::new("F-1").ok(),
            cuts: CutsBefore::default(),
            usage_points: 100,
            restores_minute: 0,
            operators: 2,
            is_alone: true,
        }
    }

    #[test]
    fn whatever_forbids_a_cut_forbids_it_at_every_moment() {
        let cut = || facts(ControlKind::Disconnect);
        let cases = [
            (SupplyFacts { expires: NOW, ..cut() }, "expire"),
            (SupplyFacts { aborted: true, ..cut() }, "abort switch"),
            (SupplyFacts { moved: Some("M-1 is at U-2 now".into()), ..cut() }, "U-2"),
            (SupplyFacts { protected: UsagePointId::new("U-1").ok(), ..cut() }, "never to be disconnected"),
            (SupplyFacts { observes: ZoneId::new("T-1").ok(), ..cut() }, "whole zone"),
        ];
        for (facts, words) in cases {
            for moment in [Moment::Request, Moment::Approval, Moment::Sending] {
                match permit(&facts, &SupplyPolicy::default(), moment, NOW) {
                    Permit::Refused(why) => assert!(why.contains(words), "{why}"),
                    other => panic!("{words}: {other:?} at {moment:?}"),
                }
            }
        }
        for moment in [Moment::Request, Moment::Approval, Moment::Sending] {
            assert_eq!(permit(&cut(), &SupplyPolicy::default(), moment, NOW), Permit::Granted);
        }
    }

    #[test]
    fn limits_hold_at_the_approval_and_still_at_the_sending() {
        for cuts in [
            CutsBefore { hour: 5, ..CutsBefore::default() },
            CutsBefore { feeder_hour: 3, ..CutsBefore::default() },
            CutsBefore { day: 10, ..CutsBefore::default() },
        ] {
            let facts = SupplyFacts { cuts, ..facts(ControlKind::Disconnect) };
            let policy = SupplyPolicy::default();
            assert_eq!(permit(&facts, &policy, Moment::Request, NOW), Permit::Granted);
            assert!(matches!(permit(&facts, &policy, Moment::Approval, NOW), Permit::Refused(_)), "{cuts:?}");
            assert!(matches!(permit(&facts, &policy, Moment::Sending, NOW), Permit::Refused(_)), "{cuts:?}");
        }
    }

    #[test]
    fn one_person_alone_is_stopped_only_when_there_is_another() {
        let many = CutsBefore { alone_day: 5, ..CutsBefore::default() };
        let policy = SupplyPolicy { per_hour_max: 100, per_feeder_hour_max: 100, ..SupplyPolicy::default() };
        let strict = SupplyPolicy { two_persons: true, ..SupplyPolicy::default() };
        let cut = SupplyFacts { cuts: many, ..facts(ControlKind::Disconnect) };
        assert!(matches!(permit(&cut, &policy, Moment::Approval, NOW), Permit::SecondPerson(_)));
        let first = facts(ControlKind::Disconnect);
        assert!(matches!(permit(&first, &strict, Moment::Approval, NOW), Permit::SecondPerson(_)));
        for allowed in [
            SupplyFacts { operators: 1, ..cut.clone() },
            SupplyFacts { is_alone: false, ..cut.clone() },
            SupplyFacts { cuts: CutsBefore::default(), ..cut.clone() },
        ] {
            assert_eq!(permit(&allowed, &policy, Moment::Approval, NOW), Permit::Granted, "{allowed:?}");
        }
    }

    #[test]
    fn restores_pass_every_brake_but_take_turns() {
        let restore = SupplyFacts { aborted: true, restores_minute: 20, ..facts(ControlKind::Reconnect) };
        let policy = SupplyPolicy::default();
        assert_eq!(permit(&restore, &policy, Moment::Approval, NOW), Permit::Granted);
        let Permit::Wait(_, until) = permit(&restore, &policy, Moment::Sending, NOW) else { panic!("it waits") };
        assert!(until > NOW);
        let first = SupplyFacts { restores_minute: 19, ..restore };
        assert_eq!(permit(&first, &policy, Moment::Sending, NOW), Permit::Granted);
    }

    #[test]
    fn a_policy_is_loosened_by_any_higher_limit_and_by_any_new_kind() {
        let base = SupplyPolicy::default();
        assert!(!base.is_loosened_by(&base));
        assert!(!base.is_loosened_by(&SupplyPolicy { per_hour_max: 1, two_persons: true, ..base.clone() }));
        for looser in [
            SupplyPolicy { per_hour_max: 6, per_day_min: 0, ..base.clone() },
            SupplyPolicy { automatic_kinds: alloc::vec![EventKind::Magnet], ..base.clone() },
        ] {
            assert!(base.is_loosened_by(&looser), "{looser:?}");
        }
        let ceilings = SupplyCeilings::default();
        let high = SupplyPolicy { per_hour_max: 101, ..base.clone() };
        assert!(high.above(&ceilings).is_some_and(|why| why.contains("per_hour_max is 101")));
        assert_eq!((base.above(&ceilings), high.within(&ceilings).per_hour_max), (None, 100));
    }
}
