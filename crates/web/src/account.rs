//! A case as people need it: who, how sure, since when, how much, what was done, and one plain sentence. Made from the case, its zone's
//! balances, its meter's readings and its commands; the case page and the overview of a simulation say the same, because both ask
//! here. Not here: how a chance is computed (`losses::fusion`) and how anything looks.

use losses::{
    case::{Case, CaseKind, CaseState},
    evidence::{Direction, EvidenceKind},
    fusion::Fused,
    observer_fault::{self, Pair},
    ranking::{Listed, RecoverySettings},
};
use metering::{ControlKind, ControlState, Timestamp};
use registry::{Topology, TopologyUsagePoint};
use store::{CaseFilter, ControlFilter, Store, StoreError, StoredControl, StoredRecord};

use crate::{format, ranking, totals::Totals};

const DAY_SECONDS: i64 = 86_400;
/// Days before the onset that the use of a meter is compared with.
pub const DAYS_BEFORE: i64 = 14;
/// Most days from the onset on that are read for the curve.
pub const DAYS_AFTER: i64 = 30;
/// A use within so much of its earlier level says nothing, as a share.
const UNCHANGED: f64 = 0.2;

/// What was done about a case, by its newest command.
#[derive(Clone, Debug)]
pub struct Done {
    /// The command.
    pub control: StoredControl,
    /// In words.
    pub words: String,
}

/// A case, told.
#[derive(Clone, Debug)]
pub struct Account {
    /// The usage point it names, with its place in the network.
    pub point: Option<TopologyUsagePoint>,
    /// How sure, when it names somebody or somebody stands out.
    pub chance: Option<Fused>,
    /// Why the chance is not higher.
    pub held_back: Vec<String>,
    /// Who stands out, when the case names nobody.
    pub foremost: Option<Listed>,
    /// Since when, by estimate.
    pub since: Timestamp,
    /// When it ended: the imbalance, or the supply.
    pub until: Option<Timestamp>,
    /// Energy until now, kWh; `None` when it has not been measured.
    pub kwh: Option<f64>,
    /// The same per day, kWh.
    pub kwh_per_day: Option<f64>,
    /// Its price, with the currency.
    pub money: Option<String>,
    /// One plain sentence, or two.
    pub sentence: String,
    /// The newest disconnection or reconnection.
    pub done: Option<Done>,
    /// The other case about the same observer, and how much that reads low, as a share.
    pub observer: Option<(Pair, Option<f64>)>,
}

/// What a case is told from.
pub struct Sources<'a> {
    /// The databases.
    pub store: &'a Store,
    /// The network.
    pub topology: &'a Topology,
    /// Now.
    pub now: Timestamp,
}

impl Account {
    /// Reads everything that a case is told from.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read(sources: &Sources<'_>, case: &Case) -> Result<Self, StoreError> {
        let (store, now) = (sources.store, sources.now);
        let zone_cases =
            store.cases(CaseFilter { zone: Some(case.zone), open_only: true, ..CaseFilter::default() }).await?;
        let (listed, settings) = ranking::of_cases(store, sources.topology, &zone_cases, now).await?;
        let filter = ControlFilter { case: Some(case.id), ..ControlFilter::default() };
        let done = store.controls(filter).await?.into_iter().find(|control| switches(&control.kind)).map(done);
        let point = case.usage_point.and_then(|point| sources.topology.usage_point(point)).cloned();
        let own = listed.iter().find(|one| Some(one.usage_point) == case.usage_point).cloned();
        let foremost = match case.usage_point {
            None => listed
                .iter()
                .filter(|one| one.case == case.id)
                .max_by(|a, b| a.fused.probability.total_cmp(&b.fused.probability))
                .cloned(),
            Some(_) => None,
        };
        let since = case.onset.unwrap_or(case.opened_at);
        let cut = done.as_ref().and_then(|done| done.control.entered("Verified"));
        let is_off = done.as_ref().is_some_and(|done| done.control.kind == ControlKind::Disconnect);
        let until = case.imbalance_ended.or(cut.filter(|_| is_off));
        let balances = store.balances(case.zone, since, until.unwrap_or(now)).await?;
        let observer = observer(sources, case, &balances).await?;
        let mut account = Self {
            chance: own.as_ref().map(|one| one.fused),
            held_back: own.as_ref().map(|one| one.held_back.clone()).unwrap_or_default(),
            point,
            foremost,
            since,
            until,
            kwh: None,
            kwh_per_day: None,
            money: None,
            sentence: String::new(),
            done,
            observer,
        };
        account.measure(case, own.as_ref(), Totals::of(&balances).as_ref(), &settings, now);
        let use_share = match &account.point {
            Some(point) => use_share(store, point, since, until.unwrap_or(now)).await?,
            None => None,
        };
        account.sentence = account.words(case, use_share);
        Ok(account)
    }

    /// Days since it began, until it ended.
    fn days(&self, now: Timestamp) -> f64 {
        days_of(self.until.unwrap_or(now).seconds_since(self.since).max(0))
    }

    fn measure(
        &mut self,
        case: &Case,
        own: Option<&Listed>,
        total: Option<&Totals>,
        settings: &RecoverySettings,
        now: Timestamp,
    ) {
        let days = self.days(now);
        self.kwh_per_day = match own {
            Some(own) => own.recoverable.measured.then_some(own.recoverable.kwh_per_day),
            None if case.usage_point.is_some() => None,
            None => total.filter(|_| days > 0.0).map(|total| total.unaccounted_wh.abs() / 1_000.0 / days),
        };
        self.kwh = self.kwh_per_day.map(|per_day| per_day * days);
        // What is counted too much is nobody's debt.
        let is_lost = case.kind != CaseKind::SurplusEnergy && self.observer.is_none();
        self.money = self.kwh.filter(|_| is_lost).map(|kwh| {
            let minor = kwh * f64::from(settings.tariff_minor_per_kwh);
            format!("{} {}", settings.currency, format::number(minor / 100.0, 0))
        });
    }

    fn words(&self, case: &Case, use_share: Option<f64>) -> String {
        let since = format::day_minute(self.since);
        let (zone, per_day) = (case.zone, self.kwh_per_day.map(|kwh| format::number(kwh, 0)));
        if let Some((pair, share)) = &self.observer {
            let by =
                share.map_or_else(|| "low".to_owned(), |share| format!("{} % low", format::number(100.0 * share, 0)));
            return format!(
                "Since {since} the observer meter of {} reads {by}: it has that much too little, and {} misses the same. One meter \
                 is at fault, not a home; C-{} and C-{} are one.",
                pair.zone, pair.parent, pair.missing, pair.surplus
            );
        }
        match (case.kind, case.usage_point) {
            (CaseKind::TamperSuspected, Some(point)) => {
                let signs = signs(case);
                let loss = per_day.map(|kwh| format!(" It does not count some {kwh} kWh a day.")).unwrap_or_default();
                format!("On {since} the meter of {point} in {zone} reported {signs}.{loss}")
            }
            (_, Some(point)) => {
                let loss = per_day.map_or_else(String::new, |kwh| {
                    format!(", while {zone} misses {kwh} kWh a day that rise and fall with this home")
                });
                match use_share {
                    Some(share) if share < 1.0 - UNCHANGED => format!(
                        "Since {since} the meter of {point} counts about {} % of what it counted before{loss}.",
                        format::number(100.0 * share, 0)
                    ),
                    Some(share) if share > 1.0 + UNCHANGED => format!(
                        "Since {since} {point} uses more than before, and its meter does not count all of it{loss}."
                    ),
                    _ => format!("Since {since} the meter of {point} does not count all that its home uses{loss}."),
                }
            }
            (CaseKind::SurplusEnergy, None) => format!(
                "Since {since} the meters in {zone} count {} kWh a day more than its observer let in: look at the observer, its ratio, \
                 the mapping, and for generation.",
                per_day.as_deref().unwrap_or(format::UNKNOWN)
            ),
            (_, None) => format!(
                "Since {since} {zone} receives {} kWh a day more than all its meters count. {}",
                per_day.as_deref().unwrap_or(format::UNKNOWN),
                self.nobody()
            ),
        }
    }

    /// Why nobody is named.
    fn nobody(&self) -> String {
        match &self.foremost {
            Some(one) => format!(
                "No home explains it clearly enough to be named; {} comes nearest with a chance of {} %.",
                one.usage_point,
                percent(one.fused.probability)
            ),
            None => "No home explains it: look for a tap between the transformer and the meters.".to_owned(),
        }
    }
}

/// A probability in percent; never rounded to certainty.
pub fn percent(p: f64) -> String {
    match 100.0 * p {
        p if p > 99.0 => "over 99".to_owned(),
        p if p < 1.0 => "under 1".to_owned(),
        p => format::number(p, 0),
    }
}

fn days_of(seconds: i64) -> f64 {
    i32::try_from(seconds).map_or(f64::INFINITY, f64::from) / 86_400.0
}

fn switches(kind: &ControlKind) -> bool {
    matches!(kind, ControlKind::Disconnect | ControlKind::Reconnect)
}

/// What a meter reported, in the order of the evidence.
fn signs(case: &Case) -> String {
    let words: Vec<&str> = case
        .evidence
        .iter()
        .filter(|e| e.direction == Direction::For)
        .filter_map(|e| match e.kind {
            EvidenceKind::Tamper(kind) => Some(kind.word()),
            _ => None,
        })
        .collect();
    if words.is_empty() { "tampering".to_owned() } else { words.join(" and ") }
}

fn done(control: StoredControl) -> Done {
    let off = control.kind == ControlKind::Disconnect;
    let (verb, past) =
        if off { ("switch it off", "Switched off") } else { ("switch it on again", "Switched on again") };
    let at = control.history.last().map(|step| format::day_minute(step.at)).unwrap_or_default();
    let words = match &control.state {
        ControlState::Requested => format!("Somebody asks to {verb}; it is not approved yet."),
        ControlState::Approved => format!("Approved to {verb}: meter and transformer are being read first."),
        ControlState::Sent => format!("The order to {verb} is on its way to the meter."),
        ControlState::Acknowledged => {
            format!("The meter says that it did {verb}; it is read back before that is believed.")
        }
        ControlState::Verified => {
            let note = control.history.last().map(|step| step.note.clone()).unwrap_or_default();
            format!("{past} on {at}, verified by reading back: {note}.")
        }
        ControlState::Failed(why) => format!("Could not {verb} ({at}): {why}. Somebody has to go there."),
        ControlState::Unseen(why) => format!("{past} on {at}, as the meter says: {why}."),
        ControlState::Refused(why) => format!("The order to {verb} was refused: {why}."),
        ControlState::Expired => format!("The order to {verb} expired before the meter answered."),
    };
    Done { control, words }
}

/// Whether a case is one of two about the same observer, and how much that reads low since then.
async fn observer(
    sources: &Sources<'_>,
    case: &Case,
    balances: &[losses::balance::EnergyBalance],
) -> Result<Option<(Pair, Option<f64>)>, StoreError> {
    if case.usage_point.is_some() || case.state.is_closed() {
        return Ok(None);
    }
    let open = sources.store.cases(CaseFilter { open_only: true, limit: 5_000, ..CaseFilter::default() }).await?;
    let parent_of = |zone| sources.topology.zone(zone).and_then(|zone| zone.parent);
    let pairs = observer_fault::pairs(&open, parent_of);
    let Some(pair) = pairs.into_iter().find(|pair| pair.surplus == case.id || pair.missing == case.id) else {
        return Ok(None);
    };
    if pair.surplus == case.id {
        return Ok(Some((pair, observer_fault::reads_low_by(balances))));
    }
    let since = case.onset.unwrap_or(case.opened_at);
    let of_child = sources.store.balances(pair.zone, since, sources.now).await?;
    Ok(Some((pair, observer_fault::reads_low_by(&of_child))))
}

/// What a meter counts per day since `since`, as a share of what it counted in the days before.
async fn use_share(
    store: &Store,
    point: &TopologyUsagePoint,
    since: Timestamp,
    until: Timestamp,
) -> Result<Option<f64>, StoreError> {
    let Some(installation) = &point.installation else { return Ok(None) };
    let from = since.plus(-DAYS_BEFORE * DAY_SECONDS);
    let records = store.profile(installation.meter, from.plus(-1), until).await?;
    let (before, after): (Vec<&StoredRecord>, Vec<&StoredRecord>) =
        records.iter().partition(|record| record.record.end <= since);
    let per_day = |records: &[&StoredRecord]| {
        let (first, last) = (records.first()?, records.last()?);
        let days = days_of(last.record.end.seconds_since(first.record.end));
        // Registers of homes fit a float exactly.
        #[allow(clippy::cast_precision_loss)]
        let wh = last.record.import_wh.checked_sub(first.record.import_wh)?.0 as f64;
        (days >= 0.25).then_some(wh / days)
    };
    Ok(per_day(&before).zip(per_day(&after)).filter(|(before, _)| *before > 0.0).map(|(before, after)| after / before))
}

/// Where a case stands, for a strip or a banner.
pub fn state_words(state: CaseState) -> &'static str {
    match state {
        CaseState::New => "nobody has looked at it yet",
        CaseState::Review => "somebody looks at it",
        CaseState::Visit => "a visit is asked for",
        CaseState::Confirmed => "confirmed by a visit",
        CaseState::Cleared => "cleared",
    }
}

/// A sentence of evidence without what only a statistician needs: times as on the page, no test statistics.
pub fn plain(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    let mut rest = words;
    while let Some(place) = rest.find("(t = ") {
        let Some(end) = rest[place..].find(')') else { break };
        out.push_str(rest[..place].trim_end());
        rest = &rest[place + end + 1..];
    }
    out.push_str(rest);
    out.split(' ').map(plain_time).collect::<Vec<_>>().join(" ")
}

/// `2026-03-17T10:15:00Z,` as `2026-03-17 10:15,`.
fn plain_time(word: &str) -> String {
    const LENGTH: usize = "2026-03-17T10:15:00Z".len();
    match word.get(..LENGTH).filter(|time| time.ends_with('Z')).and_then(|time| time.parse::<Timestamp>().ok()) {
        Some(at) => format!("{}{}", format::date_minute(at), &word[LENGTH..]),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_read_without_statistics_and_with_the_times_of_the_page() {
        let words = "2.42 Wh missing per Wh metered (t = 31.5), 104 % since 2026-03-17T10:15:00Z: 1288 W";
        assert_eq!(plain(words), "2.42 Wh missing per Wh metered, 104 % since 2026-03-17 10:15: 1288 W");
        assert_eq!(plain("nothing to change (t"), "nothing to change (t");
    }

    #[test]
    fn a_chance_is_never_rounded_to_certainty() {
        assert_eq!([0.004, 0.5, 0.994].map(percent), ["under 1", "50", "over 99"]);
    }
}
