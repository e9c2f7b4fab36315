//! What the server found against what was true: the object that `demo --json` prints.

use std::time::Duration;

use losses::{
    canary_log::CanaryTotals,
    case::{Case, CaseKind, HistoryWhat},
};
use metering::{Timestamp, UsagePointId, ZoneId};
use serde::Serialize;
use sim::SimReport;
use store::{CaseFilter, ControlFilter, Store, StoredControl};

use super::narrate::Narrator;
use crate::{
    commands::CommandError,
    pipeline::alarm_log::{self, AlarmEntry},
};

/// The whole report. Times are virtual.
#[derive(Debug, Serialize)]
pub struct Summary {
    seed: u64,
    meters: usize,
    days: u32,
    simulated_end: String,
    frames_sent: u64,
    readings_stored: u64,
    lost_wh: u64,
    doubled_wh: u64,
    /// Meters whose stored intervals do not sum to the difference of their registers.
    interval_sum_errors: u64,
    zones: Vec<ZoneSummary>,
    cases: Vec<CaseSummary>,
    controls: Vec<ControlSummary>,
    /// Every theft: how long until its zone was alarmed, and until its thief was named.
    thefts: Vec<TheftSummary>,
    /// Of the first five usage points of the ranking at the end, the share that did steal; null when nobody is listed.
    precision_at_5: Option<f64>,
    /// How many of those five there are, and how many stole.
    listed_at_5: usize,
    hits_at_5: usize,
    /// Known thefts in copies of the zones, one a night and zone: what the live detection saw.
    canaries: Option<CanaryTotals>,
    false_accusations: usize,
    wall_s: f64,
    peak_rss_mb: u64,
}

/// A zone; energies since the theft in it began.
#[derive(Debug, Serialize)]
struct ZoneSummary {
    name: ZoneId,
    supplied_wh: Option<f64>,
    stolen_wh: Option<f64>,
    unaccounted_wh: Option<f64>,
    sigma_wh: Option<f64>,
    theft_started: Option<String>,
    alarm_at: Option<String>,
}

/// A theft and when it was found.
#[derive(Debug, Serialize)]
struct TheftSummary {
    kind: String,
    zone: ZoneId,
    usage_point: Option<UsagePointId>,
    started: String,
    stolen_wh: f64,
    /// Energy not registered, as a share of what its zone was supplied meanwhile.
    zone_share: f64,
    alarm_hours: Option<f64>,
    named_hours: Option<f64>,
}

/// A case, and who it should have named.
#[derive(Debug, Serialize)]
struct CaseSummary {
    kind: CaseKind,
    zone: ZoneId,
    usage_point: Option<UsagePointId>,
    true_thief: Option<UsagePointId>,
    opened_at: String,
    rank_of_true_thief: Option<usize>,
}

/// A control and how it ended.
#[derive(Debug, Serialize)]
struct ControlSummary {
    kind: &'static str,
    usage_point: Option<UsagePointId>,
    state: &'static str,
    reason: String,
    seconds_to_verified: Option<i64>,
}

impl Summary {
    /// Compares the store with the truth.
    pub async fn gather(store: &Store, truth: &SimReport, days: u32, wall: Duration) -> Result<Self, CommandError> {
        let (lost_wh, doubled_wh, interval_sum_errors) = registers(store, truth).await?;
        let alarms = alarm_log::read(store).await?;
        let stored_cases = store.cases(CaseFilter { limit: 100_000, ..CaseFilter::default() }).await?;
        let controls = store.controls(ControlFilter { limit: 100_000, ..ControlFilter::default() }).await?;
        let mut zones = Vec::new();
        for zone in &truth.zones {
            zones.push(zone_summary(store, truth, zone, &alarms).await?);
        }
        let mut cases: Vec<CaseSummary> = stored_cases.iter().map(|case| case_summary(case, truth)).collect();
        cases.sort_by(|a, b| a.opened_at.cmp(&b.opened_at));
        let counts = store.counts().await?;
        let ranking = web::ranking::read(store, truth.end).await?;
        let first: Vec<UsagePointId> = ranking.listed.iter().take(5).map(|listed| listed.usage_point).collect();
        let hits = first.iter().filter(|point| stole(truth, **point)).count();
        Ok(Self {
            seed: truth.seed,
            meters: truth.meters.len(),
            days,
            simulated_end: truth.end.to_string(),
            frames_sent: truth.frames_sent,
            readings_stored: counts.readings,
            lost_wh,
            doubled_wh,
            interval_sum_errors,
            zones,
            thefts: truth.thefts.iter().map(|theft| theft_summary(theft, &alarms, &stored_cases)).collect(),
            precision_at_5: (!first.is_empty()).then(|| ratio(hits, first.len())),
            listed_at_5: first.len(),
            hits_at_5: hits,
            canaries: ranking.canaries,
            false_accusations: stored_cases.iter().filter(|case| accuses_the_honest(case, truth)).count(),
            cases,
            controls: controls.iter().rev().map(control_summary).collect(),
            wall_s: wall.as_secs_f64(),
            peak_rss_mb: peak_rss_mb(),
        })
    }

    /// The same in words.
    pub fn tell(&self, say: &Narrator) {
        say.line(&format!(
            "after {} days: {} frames, {} readings stored",
            self.days, self.frames_sent, self.readings_stored
        ));
        say.line(&format!("lost {} Wh, doubled {} Wh", self.lost_wh, self.doubled_wh));
        for zone in &self.zones {
            if let (Some(started), Some(stolen), Some(found)) =
                (&zone.theft_started, zone.stolen_wh, zone.unaccounted_wh)
            {
                say.line(&format!(
                    "{}: theft from {started}, {:.1} kWh stolen, {:.1} ± {:.1} kWh unaccounted, alarm {}",
                    zone.name,
                    stolen / 1_000.0,
                    found / 1_000.0,
                    zone.sigma_wh.unwrap_or(0.0) / 1_000.0,
                    zone.alarm_at.as_deref().unwrap_or("none"),
                ));
            }
        }
        if let Some(precision) = self.precision_at_5 {
            let of = self.listed_at_5;
            say.line(&format!(
                "of the first {of} on the list {} did steal ({:.0} %)",
                self.hits_at_5,
                100.0 * precision
            ));
        }
        say.line(&format!(
            "honest homes named first: {}; {:.1} s, {} MB",
            self.false_accusations, self.wall_s, self.peak_rss_mb
        ));
    }
}

/// Energy in the meters' last records that the store lacks, or has too much of; and meters whose intervals do not add up.
async fn registers(store: &Store, truth: &SimReport) -> Result<(u64, u64, u64), CommandError> {
    let (mut lost, mut doubled, mut errors) = (0, 0, 0);
    for meter in &truth.meters {
        let Some(end) = meter.last_end else { continue };
        let stored = store.registers_at(meter.meter, end).await?;
        let (import, export) = stored.map_or((0, 0), |r| (r.import_wh.0, r.export_wh.0));
        lost += meter.last_import_wh.saturating_sub(import) + meter.last_export_wh.saturating_sub(export);
        doubled += import.saturating_sub(meter.last_import_wh) + export.saturating_sub(meter.last_export_wh);
        let records = store.profile(meter.meter, Timestamp(0), end).await?;
        let steps: u64 =
            records.windows(2).map(|pair| pair[1].record.import_wh.0.saturating_sub(pair[0].record.import_wh.0)).sum();
        let whole = records
            .last()
            .zip(records.first())
            .map_or(0, |(last, first)| last.record.import_wh.0.saturating_sub(first.record.import_wh.0));
        let count = u64::try_from(records.len())?;
        errors += u64::from(steps != whole || count != meter.records || meter.unacknowledged != 0);
    }
    Ok((lost, doubled, errors))
}

async fn zone_summary(
    store: &Store,
    truth: &SimReport,
    zone: &sim::ZoneTruth,
    alarms: &[AlarmEntry],
) -> Result<ZoneSummary, CommandError> {
    let since =
        |started: Timestamp| alarms.iter().find(|a| a.zone == zone.zone && a.raised >= started).map(|a| a.raised);
    let first = alarms.iter().find(|a| a.zone == zone.zone).map(|a| a.raised);
    let Some(started) = zone.theft_started else {
        return Ok(ZoneSummary {
            name: zone.zone,
            supplied_wh: None,
            stolen_wh: None,
            unaccounted_wh: None,
            sigma_wh: None,
            theft_started: None,
            alarm_at: first.map(|at| at.to_string()),
        });
    };
    let balances = store.balances(zone.zone, started, truth.end).await?;
    let random: f64 = balances.iter().map(|b| b.sigma_random_wh.powi(2)).sum();
    let systematic: f64 = balances.iter().map(|b| b.sigma_systematic_wh).sum();
    // An alarm standing since before the theft began counts as it is: early, thus false.
    let alarm_at = match first {
        Some(at) if at < started => Some(at),
        _ => since(started),
    };
    Ok(ZoneSummary {
        name: zone.zone,
        supplied_wh: Some(zone.supplied_wh),
        stolen_wh: Some(zone.stolen_wh),
        unaccounted_wh: Some(balances.iter().map(|b| b.unaccounted_wh).sum()),
        sigma_wh: Some(random.sqrt().hypot(systematic)),
        theft_started: Some(started.to_string()),
        alarm_at: alarm_at.map(|at| at.to_string()),
    })
}

/// The thief in the zone of a case that was active when it was opened, or began last before; the one named, if several.
fn true_thief(case: &Case, truth: &SimReport) -> Option<UsagePointId> {
    let thieves = || {
        truth
            .thefts
            .iter()
            .filter(|theft| theft.zone == case.zone && theft.start <= case.opened_at)
            .filter_map(|theft| theft.usage_point)
    };
    thieves().find(|thief| Some(*thief) == case.usage_point).or_else(|| thieves().next_back())
}

fn case_summary(case: &Case, truth: &SimReport) -> CaseSummary {
    // A surplus has no thief behind a home's meter: the observer reads wrongly.
    let thief = true_thief(case, truth).filter(|_| case.kind != CaseKind::SurplusEnergy);
    let ranked = |thief| case.suspects.iter().position(|suspect| suspect.usage_point == thief).map(|index| index + 1);
    let named_first = thief.is_some() && case.usage_point == thief;
    let rank = if named_first { Some(1) } else { thief.and_then(ranked) };
    CaseSummary {
        kind: case.kind,
        zone: case.zone,
        usage_point: case.usage_point,
        true_thief: thief,
        opened_at: case.opened_at.to_string(),
        rank_of_true_thief: rank,
    }
}

/// Whether a theft case names first a usage point that never stole.
fn accuses_the_honest(case: &Case, truth: &SimReport) -> bool {
    case.kind.names_a_usage_point() && case.usage_point.is_some_and(|point| !stole(truth, point))
}

fn stole(truth: &SimReport, point: UsagePointId) -> bool {
    truth.thefts.iter().any(|theft| theft.usage_point == Some(point))
}

fn ratio(part: usize, whole: usize) -> f64 {
    // Counts are small.
    #[allow(clippy::cast_precision_loss)]
    let ratio = part as f64 / whole.max(1) as f64;
    ratio
}

fn theft_summary(theft: &sim::TheftTruth, alarms: &[AlarmEntry], cases: &[Case]) -> TheftSummary {
    // Seconds since 1970 fit a float exactly.
    #[allow(clippy::cast_precision_loss)]
    let hours = |at: Timestamp| at.seconds_since(theft.start) as f64 / 3_600.0;
    let raised = alarms.iter().filter(|a| a.zone == theft.zone && a.raised >= theft.start).map(|a| a.raised).min();
    let named = cases.iter().filter(|case| theft.usage_point.is_some() && case.usage_point == theft.usage_point);
    TheftSummary {
        kind: theft.kind.clone(),
        zone: theft.zone,
        usage_point: theft.usage_point,
        started: theft.start.to_string(),
        stolen_wh: theft.stolen_wh,
        zone_share: theft.stolen_wh / theft.zone_supplied_wh.max(1.0),
        alarm_hours: raised.map(hours),
        named_hours: named.map(named_at).filter(|at| *at >= theft.start).min().map(hours),
    }
}

/// When a case came to name the usage point it names.
fn named_at(case: &Case) -> Timestamp {
    let changed = case.history.iter().rev().find(|entry| matches!(entry.what, HistoryWhat::Reclassified { .. }));
    changed.map_or(case.opened_at, |entry| entry.at)
}

fn control_summary(control: &StoredControl) -> ControlSummary {
    let seconds =
        control.entered("Verified").zip(control.entered("Approved")).map(|(end, start)| end.seconds_since(start));
    let ended = control.state.reason();
    ControlSummary {
        kind: control.kind.word(),
        usage_point: control.usage_point,
        state: control.state.word(),
        reason: if ended.is_empty() { control.reason.clone() } else { ended.to_owned() },
        seconds_to_verified: seconds,
    }
}

/// Largest resident size so far; 0 where the system does not tell.
fn peak_rss_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) / 1_024
}
