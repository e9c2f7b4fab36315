//! The list of suspects as the console shows it: open cases and settings read from the store, ranked by [`losses::ranking`].

use std::collections::BTreeMap;

use losses::{
    canary_log::{self, CanaryLog, CanaryTotals},
    case::{Case, Verdict},
    fusion::Calibration,
    ranking::{self, Listed, PlannedVisit, RecoverySettings, Surroundings},
};
use metering::{Timestamp, UsagePointId};
use registry::Topology;
use store::{CaseFilter, FindingFilter, FindingState, Store, StoreError};

/// Key of the settings.
pub const SETTING: &str = "recovery";
/// Open cases looked at.
const CASES_MAX: u32 = 5_000;
/// Ended cases from which probabilities learn.
const OUTCOMES_MAX: u32 = 2_000;
/// Visits behind the hit rate.
const VISITS: usize = 30;
/// Usage points from which the random share is drawn.
const OTHERS_MAX: usize = 500;
/// Days over which a meter's use is measured.
const USE_DAYS: i64 = 7;

/// The list with everything that stands beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// Suspects, highest value first.
    pub listed: Vec<Listed>,
    /// The visits of this night.
    pub plan: Vec<PlannedVisit>,
    /// What recovered energy brings and visits cost.
    pub settings: RecoverySettings,
    /// What outcomes taught.
    pub calibration: Calibration,
    /// Of the newest visits: confirmed, and all.
    pub hits: (usize, usize),
    /// What canaries say of the live detection; `None` before the first night.
    pub canaries: Option<CanaryTotals>,
    /// Findings that wait for a decision.
    pub findings_open: usize,
}

/// Reads and ranks.
///
/// # Errors
/// When the store fails.
pub async fn read(store: &Store, now: Timestamp) -> Result<Ranking, StoreError> {
    let settings: RecoverySettings = store.setting(SETTING).await?.unwrap_or_default();
    let topology = store.topology(now).await?;
    let open = store.cases(CaseFilter { open_only: true, limit: CASES_MAX, ..CaseFilter::default() }).await?;
    let ended = ended(store).await?;
    let around = surroundings(store, &topology, &open, now).await?;
    let calibration = ranking::calibration(&ended, &around.members);
    let listed = ranking::list(&open, &settings, &calibration, &around, now);
    let visited = ended.iter().filter_map(|case| case.outcome.as_ref()).take(VISITS);
    let hits = visited
        .fold((0, 0), |(hits, all), outcome| (hits + usize::from(outcome.verdict == Verdict::Confirmed), all + 1));
    let plan = ranking::plan(&listed, &others(&topology), &settings, now.day());
    let log = store.pipeline_document(canary_log::KEY).await?;
    let log: CanaryLog = log.map(|bytes| serde_json::from_slice(&bytes)).transpose()?.unwrap_or_default();
    let waiting = FindingFilter { state: Some(FindingState::Open), ..FindingFilter::default() };
    let findings_open = store.findings(waiting).await?.len();
    Ok(Ranking { listed, plan, settings, calibration, hits, canaries: log.totals(), findings_open })
}

/// The suspects of some open cases: those of one zone are ranked as on the whole list, since nobody else shares their losses.
///
/// # Errors
/// When the store fails.
pub async fn of_cases(
    store: &Store,
    topology: &Topology,
    cases: &[Case],
    now: Timestamp,
) -> Result<(Vec<Listed>, RecoverySettings), StoreError> {
    let settings: RecoverySettings = store.setting(SETTING).await?.unwrap_or_default();
    let around = surroundings(store, topology, cases, now).await?;
    let calibration = ranking::calibration(&ended(store).await?, &around.members);
    Ok((ranking::list(cases, &settings, &calibration, &around, now), settings))
}

async fn ended(store: &Store) -> Result<Vec<Case>, StoreError> {
    store.cases(CaseFilter { ended_only: true, limit: OUTCOMES_MAX, ..CaseFilter::default() }).await
}

async fn surroundings(
    store: &Store,
    topology: &Topology,
    open: &[Case],
    now: Timestamp,
) -> Result<Surroundings, StoreError> {
    let mut around = Surroundings { members: members(topology), ..Surroundings::default() };
    for point in open.iter().filter_map(|case| case.usage_point) {
        if let Some(used) = use_wh_per_day(store, topology, point, now).await? {
            around.use_wh_per_day.insert(point, used);
        }
    }
    Ok(around)
}

/// Usage points by the zone under which their cases are filed.
fn members(topology: &Topology) -> BTreeMap<metering::ZoneId, usize> {
    let mut members = BTreeMap::new();
    for zone in topology.usage_points.iter().filter_map(|point| topology.filed_under(point.usage_point)) {
        *members.entry(zone).or_default() += 1;
    }
    members
}

/// Usage points spread over the whole network.
fn others(topology: &Topology) -> Vec<UsagePointId> {
    let step = topology.usage_points.len().div_ceil(OTHERS_MAX).max(1);
    topology.usage_points.iter().step_by(step).map(|point| point.usage_point).collect()
}

/// What a usage point's meter counted per day of late, Wh.
async fn use_wh_per_day(
    store: &Store,
    topology: &Topology,
    point: UsagePointId,
    now: Timestamp,
) -> Result<Option<f64>, StoreError> {
    let installed = topology.usage_point(point).and_then(|p| p.installation.as_ref());
    let Some(installation) = installed else { return Ok(None) };
    let records = store.profile(installation.meter, now.plus(-USE_DAYS * 86_400), now).await?;
    let trusted = || records.iter().filter(|record| record.quality.is_trusted());
    let Some((first, last)) = trusted().next().zip(trusted().next_back()) else { return Ok(None) };
    let seconds = last.record.end.seconds_since(first.record.end);
    let Some(used) = last.record.import_wh.checked_sub(first.record.import_wh) else { return Ok(None) };
    // A week's energy and its seconds fit a float exactly.
    #[allow(clippy::cast_precision_loss)]
    let per_day = used.0 as f64 * installation.ct_ratio * 86_400.0 / seconds.max(1) as f64;
    Ok((seconds >= 86_400).then_some(per_day))
}
