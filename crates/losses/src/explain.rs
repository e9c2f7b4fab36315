//! Which usage point explains a zone's imbalance, if any does.
//!
//! [`explain`] weighs, for every member of an alarmed zone, evidence for (the loss follows its use, its use fell by what is missing,
//! its meter reported tampering) and against (vacancy, generation, missing readings, a recent change of meter or mapping, a change the
//! neighbours share). A member is *named* only when one of the gates of [`ExplainConfig`] is passed and no other explains it as well;
//! otherwise the answer is [`Localisation::NotLocalised`]: the case names the zone. It is a reason to look, not an accusation.
//! Readings of all meters at the same seconds ([`ZoneInstants`]), where there are any, add what current and voltage say.
//! Not here: localisation with weeks of voltages and a network model, and patterns in consumption alone.

mod instants;
mod linear;
mod prepared;
mod reasons;
mod regression;
mod surplus;

use metering::{MeterEvent, MeterId, Timestamp, UsagePointId, ZoneId};
use serde::{Deserialize, Serialize};

use crate::{
    alarm::{AlarmKind, Chart},
    balance::{EnergyBalance, Flow, MemberId, MeterClass},
    case::CaseKind,
    evidence::{Direction, Evidence, EvidenceKind, ReadingRange},
};
pub use instants::{InstantMember, ZoneInstants};
use prepared::{Prepared, prepare};

/// The readings of one member over the slots of a [`ZoneHistory`].
#[derive(Clone, Debug, PartialEq)]
pub struct MemberHistory {
    /// Which member.
    pub id: MemberId,
    /// Its meter (of a child zone: the observer).
    pub meter: MeterId,
    /// Ratio of its transformers.
    pub ct_ratio: f64,
    /// Its class.
    pub class: MeterClass,
    /// Since when this meter stands here under this mapping; `None` when unknown or long ago.
    pub installed: Option<Timestamp>,
    /// What it counted in each slot of [`ZoneHistory::balances`], same length and order; `None` when missing.
    pub slots: Vec<Option<Flow>>,
    /// Its events in that time, any order.
    pub events: Vec<MeterEvent>,
}

/// A zone's recent past. Useful: 14 days before the onset (or as many as there are) up to now, at most some 45 days.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneHistory {
    /// The zone.
    pub zone: ZoneId,
    /// Its observer meter.
    pub observer: MeterId,
    /// Slot length, minutes.
    pub minutes: u16,
    /// Estimated begin, from the alarm.
    pub onset: Timestamp,
    /// Which way the balance is off.
    pub kind: AlarmKind,
    /// Which test raised the alarm.
    pub by: Chart,
    /// The balances, ascending.
    pub balances: Vec<EnergyBalance>,
    /// The members.
    pub members: Vec<MemberHistory>,
    /// Balances of the parent zone over the same time, where there is one: an observer that reads wrongly shows there with the
    /// opposite sign.
    pub parent: Vec<EnergyBalance>,
}

/// When a usage point is named. All weights in nats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainConfig {
    /// Least sum of evidence, for less against.
    pub weight_min: f64,
    /// Least lead over the next usage point that is not named itself.
    pub lead_min: f64,
    /// Least t of the regression.
    pub t_min: f64,
    /// Least share of the missing energy that the regression must explain.
    pub share_min: f64,
}

impl Default for ExplainConfig {
    fn default() -> Self {
        Self { weight_min: 6.0, lead_min: 3.0, t_min: 5.0, share_min: 0.2 }
    }
}

/// Where the cause was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "found")]
pub enum Localisation {
    /// One usage point explains it (the first of the suspects; others may be named too).
    UsagePoint {
        /// Which.
        usage_point: UsagePointId,
    },
    /// The observer meter of this zone seems to read wrongly (this zone's own, or a child's).
    Observer {
        /// Whose observer.
        zone: ZoneId,
    },
    /// Detected, not localised.
    NotLocalised {
        /// Why nobody is named.
        reason: String,
    },
}

/// A usage point with the evidence for and against it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspect {
    /// Which usage point.
    pub usage_point: UsagePointId,
    /// Its meter.
    pub meter: MeterId,
    /// The kind of case it would be.
    pub kind: CaseKind,
    /// Whether it passed a gate: only then may a case name it.
    pub named: bool,
    /// Sum of the signed weights, nats.
    pub weight: f64,
    /// Energy it may have caused to be missing since the onset, Wh.
    pub estimated_wh: f64,
    /// For and against, strongest first.
    pub evidence: Vec<Evidence>,
}

/// What explains an alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The kind of case.
    pub kind: CaseKind,
    /// Where.
    pub localisation: Localisation,
    /// Usage points with anything for or against them, best first, at most ten.
    pub suspects: Vec<Suspect>,
    /// Evidence that concerns the zone as a whole.
    pub zone_evidence: Vec<Evidence>,
    /// Energy missing (or in surplus) since the onset, Wh.
    pub missing_wh: f64,
}

impl Explanation {
    /// The evidence for a case: that of the named usage point first, then the zone's.
    pub fn case_evidence(&self) -> Vec<Evidence> {
        let named = self.suspects.first().filter(|s| s.named && self.named_usage_point() == Some(s.usage_point));
        named.map(|s| s.evidence.clone()).unwrap_or_default().into_iter().chain(self.zone_evidence.clone()).collect()
    }

    /// The usage point a case may name.
    pub fn named_usage_point(&self) -> Option<UsagePointId> {
        match &self.localisation {
            Localisation::UsagePoint { usage_point } => Some(*usage_point),
            Localisation::Observer { .. } | Localisation::NotLocalised { .. } => None,
        }
    }
}

/// Explains an alarm with the default thresholds, and takes in what the meters said when all were read at the same seconds.
pub fn explain_at_instants(history: &ZoneHistory, read: Option<&ZoneInstants>) -> Explanation {
    let mut explanation = explain(history);
    if let Some(read) = read.filter(|_| history.kind == AlarmKind::Missing) {
        instants::take_in(&mut explanation, history, read);
    }
    explanation
}

/// Explains an alarm with the default thresholds.
pub fn explain(history: &ZoneHistory) -> Explanation {
    explain_with(history, &ExplainConfig::default())
}

/// Explains an alarm. Call it when the alarm is raised and again, say daily, while it lasts: evidence grows with time.
pub fn explain_with(history: &ZoneHistory, config: &ExplainConfig) -> Explanation {
    let data = prepare(history);
    let missing_wh = data.rows.iter().filter(|r| r.after).map(|r| r.residual_w).sum::<f64>() * data.hours;
    let zone_evidence = zone_evidence(history, &data, missing_wh);
    match history.kind {
        AlarmKind::Surplus => surplus::explain(history, &data, zone_evidence, missing_wh),
        AlarmKind::Missing => missing(history, &data, config, zone_evidence, missing_wh),
    }
}

fn missing(
    history: &ZoneHistory,
    data: &Prepared,
    config: &ExplainConfig,
    zone_evidence: Vec<Evidence>,
    missing_wh: f64,
) -> Explanation {
    let fits = regression::regress(data);
    let mut assessed = reasons::assess(history, data, fits.as_ref(), missing_wh);
    assessed.sort_by(|a, b| b.suspect.weight.total_cmp(&a.suspect.weight));
    for candidate in &mut assessed {
        let regression = candidate.t >= config.t_min && candidate.share >= config.share_min;
        let gate = regression || candidate.tamper || candidate.selective_drop;
        candidate.suspect.named = gate && candidate.suspect.weight >= config.weight_min;
    }
    let (localisation, kind) = choose(&mut assessed, config, &fits, data, history);
    let mut suspects: Vec<Suspect> = assessed.into_iter().map(|a| a.suspect).collect();
    suspects.truncate(10);
    Explanation { kind, localisation, suspects, zone_evidence, missing_wh }
}

fn choose(
    assessed: &mut [reasons::Assessed],
    config: &ExplainConfig,
    fits: &Option<regression::Regression>,
    data: &Prepared,
    history: &ZoneHistory,
) -> (Localisation, CaseKind) {
    let not = |reason: &str| (Localisation::NotLocalised { reason: reason.into() }, CaseKind::MissingEnergy);
    // A child zone that explains it: its observer reads low, or a theft sits between; no usage point is to blame.
    let child = fits.as_ref().and_then(|f| f.picks.first()).and_then(|pick| {
        let MemberId::Zone(zone) = data.members[pick.member].history.id else { return None };
        (pick.t >= config.t_min && pick.energy_wh > 0.5 * data.mean_residual_w.max(0.0) * after_hours(data))
            .then_some(zone)
    });
    if let Some(zone) = child {
        return (Localisation::Observer { zone }, CaseKind::MissingEnergy);
    }
    if history.members.iter().all(|m| matches!(m.id, MemberId::Zone(_))) {
        return not("the zone holds smaller zones only: look between their observer meters and this one");
    }
    let Some(top) = assessed.first() else { return not("no usage point has evidence against it") };
    let next = assessed.iter().skip(1).find(|a| !a.suspect.named).map_or(0.0, |a| a.suspect.weight);
    if !top.suspect.named {
        let reason = if fits.is_none() {
            "too few intervals since it began: no usage point can be told from the others yet"
        } else {
            "no usage point explains the missing energy beyond its threshold"
        };
        return not(reason);
    }
    if top.suspect.weight - next < config.lead_min {
        assessed.iter_mut().for_each(|a| a.suspect.named = false);
        return not("several usage points explain the missing energy nearly as well as each other");
    }
    (Localisation::UsagePoint { usage_point: top.suspect.usage_point }, top.suspect.kind)
}

/// Hours observed after the onset.
fn after_hours(data: &Prepared) -> f64 {
    data.rows.iter().filter(|r| r.after).count() as f64 * data.hours
}

/// Intervals after the onset, of one meter.
fn readings(history: &ZoneHistory, data: &Prepared, meter: MeterId) -> Vec<ReadingRange> {
    let from = data.rows.iter().find(|r| r.after).map(|r| r.end.plus(-i64::from(history.minutes) * 60));
    let to = data.rows.last().map(|r| r.end);
    match (from, to) {
        (Some(from), Some(to)) => vec![ReadingRange { meter, from, to }],
        _ => vec![],
    }
}

/// What concerns the whole zone: how much is missing, and what of it could be error.
fn zone_evidence(history: &ZoneHistory, data: &Prepared, missing_wh: f64) -> Vec<Evidence> {
    let after: Vec<EnergyBalance> =
        history.balances.iter().filter(|b| b.end > history.onset && b.coverage > 0.0).copied().collect();
    let Some(total) = EnergyBalance::total(&after) else { return vec![] };
    let hours = after_hours(data);
    let sigma = total.sigma_wh().max(1.0);
    let share = 100.0 * missing_wh / total.supplied_wh.abs().max(1.0);
    let what = match history.kind {
        AlarmKind::Missing => "missing",
        AlarmKind::Surplus => "in surplus",
    };
    // Against the zone's own habit only the random part counts; a standing loss is judged by all of it.
    let scale = if history.by == Chart::Standing { sigma } else { (total.sigma_random_wh * 3.0).max(1.0) };
    let z = missing_wh / scale;
    let readings = readings(history, data, history.observer);
    let mut evidence = vec![Evidence::new(
        EvidenceKind::ZoneImbalance,
        Direction::For,
        (z * z / 2.0).min(20.0) * f64::from(u8::from(z > 0.0)),
        format!(
            "{:.1} kWh {what} in {hours:.0} h since {}: {:.0} W on average, {share:.1} % of the supply (uncertainty ± {:.1} kWh)",
            missing_wh / 1_000.0,
            history.onset,
            missing_wh / hours.max(0.25),
            1.645 * sigma / 1_000.0
        ),
        history.zone,
        readings.clone(),
    )];
    if total.sigma_systematic_wh * 3.0 > missing_wh.abs() {
        evidence.push(Evidence::new(
            EvidenceKind::TechnicalLoss,
            Direction::Against,
            (1.5 * total.sigma_systematic_wh / missing_wh.abs().max(1.0)).min(3.0),
            format!(
                "errors of meters and of the loss model alone may reach ± {:.1} kWh in that time",
                1.645 * total.sigma_systematic_wh / 1_000.0
            ),
            history.zone,
            readings.clone(),
        ));
    }
    if total.coverage < 0.95 {
        evidence.push(Evidence::new(
            EvidenceKind::MissingReadings,
            Direction::Against,
            (10.0 * (1.0 - total.coverage)).min(4.0),
            format!(
                "{:.0} % of the zone's energy since then was estimated, not measured",
                100.0 * (1.0 - total.coverage)
            ),
            history.zone,
            readings,
        ));
    }
    evidence
}

/// Evidence of tampering from the events of one meter, newest kinds once each: for a case that is opened on an event alone.
pub fn tamper_evidence(zone: ZoneId, meter: MeterId, events: &[MeterEvent]) -> Vec<Evidence> {
    reasons::tamper_evidence(zone, meter, events, None)
}
