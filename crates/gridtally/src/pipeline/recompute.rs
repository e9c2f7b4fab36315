//! Every number of a case's evidence once more, from the stored readings, compared with what the case says.
//!
//! The bases kept with the case ([`store::CaseBasis`]) say what was known at the time; readings and events are read from the store as
//! they are now, and so are the answers of meters that were read at the same second. So a reading that was changed, removed or moved to another usage point since then shows as a difference. The
//! balances themselves are compared too: supplied and metered energy are summed from registers. The technical loss and the
//! uncertainty, which the zone's monitor learnt slot by slot, are taken as kept.

use losses::{
    balance::EnergyBalance,
    case::{Case, RankedSuspect},
    evidence::{Evidence, EvidenceKind},
    explain::ZoneHistory,
};
use metering::{ControlKind, ControlState, Timestamp};
use registry::{MemberId, Topology};
use serde::Serialize;
use store::{CaseBasis, ControlFilter, EventFilter, Store, StoreError};

use super::{
    SLOT, balance::valid_in, command::still_present, history, instants, investigate::explained, series::series, tamper,
};

/// Relative difference below which two numbers are equal: sums in another order differ in the last digits.
const SAME: f64 = 1e-9;
/// A balance below this coverage holds estimates.
const COMPLETE: f64 = 0.999_999;
/// Pairs of numbers in two sentences that are compared one by one.
const NUMBERS_MAX: usize = 40;

/// One number of the evidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The piece it belongs to.
    pub what: String,
    /// What it is.
    pub number: String,
    /// As the case says.
    pub stored: String,
    /// As computed now; `None` when nothing stored leads to it.
    pub recomputed: Option<String>,
    /// Whether the two are the same.
    pub equal: bool,
}

/// All numbers of a case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The case.
    pub case: u64,
    /// Whether all are equal.
    pub equal: bool,
    /// How many there are.
    pub numbers: usize,
    /// How many differ.
    pub different: usize,
    /// Versions of the program that computed what is stored.
    pub computed_by: Vec<String>,
    /// The numbers.
    pub rows: Vec<Row>,
}

/// Computes everything again; `None` when there is no such case.
///
/// # Errors
/// When the store fails.
pub async fn recompute(store: &Store, id: u64) -> Result<Option<Report>, StoreError> {
    let Some(case) = store.case(id).await? else { return Ok(None) };
    let bases = store.case_bases(id).await?;
    let mut found = Found::default();
    let mut rows = Vec::new();
    for (index, basis) in bases.iter().enumerate() {
        let topology = store.topology(valid_in(basis.at)).await?;
        let Some(history) = history::again(store, &topology, basis).await? else { continue };
        let read = instants::again(store, &topology, &history, &basis.instants).await?;
        let (explanation, suspects) = explained(&history, read.as_ref(), &basis.withheld);
        found.evidence.extend(explanation.case_evidence());
        if index == 0 {
            found.suspects = suspects;
        }
        rows.extend(balance_rows(store, &topology, basis, &history).await?);
    }
    found.evidence.extend(from_events(store, &case).await?);
    found.evidence.extend(from_controls(store, &case).await?);
    for piece in &case.evidence {
        evidence_rows(&mut rows, "", piece, &found.evidence);
    }
    if !bases.is_empty() {
        suspect_rows(&mut rows, &case.suspects, &found.suspects);
    }
    let different = rows.iter().filter(|row| !row.equal).count();
    let mut computed_by: Vec<String> = bases.into_iter().map(|basis| basis.program).collect();
    computed_by.dedup();
    Ok(Some(Report { case: id, equal: different == 0, numbers: rows.len(), different, computed_by, rows }))
}

/// What stored readings, events and controls lead to.
#[derive(Default)]
struct Found {
    evidence: Vec<Evidence>,
    suspects: Vec<RankedSuspect>,
}

/// Tamper evidence again, from the events in the hours around it.
async fn from_events(store: &Store, case: &Case) -> Result<Vec<Evidence>, StoreError> {
    let mut found = Vec::new();
    for piece in &case.evidence {
        let (EvidenceKind::Tamper(kind), Some(range)) = (piece.kind, piece.readings.first()) else { continue };
        let filter = EventFilter {
            meter: Some(range.meter),
            after: Some(range.from.plus(-1)),
            to: Some(range.to),
            kinds: vec![kind],
            ..EventFilter::default()
        };
        let events = store.events(filter).await?;
        found.extend(events.iter().map(|event| tamper::evidence(range.meter, piece.zone, &event.event)));
    }
    Ok(found)
}

/// Evidence of disconnections that did not take, again from the steps of the case's controls.
async fn from_controls(store: &Store, case: &Case) -> Result<Vec<Evidence>, StoreError> {
    let filter = ControlFilter { case: Some(case.id), ..ControlFilter::default() };
    let controls = store.controls(filter).await?;
    let failed = controls.iter().filter(|c| c.kind == ControlKind::Disconnect).filter_map(|control| {
        let step = control.history.iter().find(|step| matches!(step.state, ControlState::Failed(_)))?;
        let piece = case.evidence.iter().find(|e| e.kind == EvidenceKind::SupplyStillPresent)?;
        Some(still_present(control.meter, piece.zone, control.requested_at, step.at, &step.note))
    });
    Ok(failed.collect())
}

fn evidence_rows(rows: &mut Vec<Row>, of: &str, stored: &Evidence, found: &[Evidence]) {
    let what = format!("{of}{} ({})", stored.kind.word(), stored.direction.word());
    let same_kind = || found.iter().filter(|e| e.kind == stored.kind && e.direction == stored.direction);
    let exact =
        same_kind().find(|e| e.words == stored.words && near(e.weight, stored.weight) && e.readings == stored.readings);
    let best = exact.or_else(|| same_kind().find(|e| e.readings == stored.readings)).or_else(|| same_kind().next());
    push(rows, &what, "weight, nats", Some(stored.weight), best.map(|e| e.weight));
    let (ours, theirs) = (numbers(&stored.words), best.map(|e| numbers(&e.words)).unwrap_or_default());
    for (index, stored) in ours.iter().enumerate() {
        push(rows, &what, &format!("number {} of the sentence", index + 1), Some(*stored), theirs.get(index).copied());
    }
    rows.push(Row {
        what,
        number: "the sentence and its readings".into(),
        stored: stored.words.clone(),
        recomputed: best.map(|e| e.words.clone()),
        equal: best.is_some_and(|e| e.words == stored.words && e.readings == stored.readings),
    });
}

fn suspect_rows(rows: &mut Vec<Row>, stored: &[RankedSuspect], found: &[RankedSuspect]) {
    for (rank, suspect) in stored.iter().enumerate() {
        let what = format!("suspect {} of the ranking, {}", rank + 1, suspect.usage_point);
        let again = found.get(rank).filter(|other| other.usage_point == suspect.usage_point);
        push(rows, &what, "score", Some(suspect.score), again.map(|s| s.score));
        push(rows, &what, "energy since the onset, Wh", Some(suspect.estimated_wh), again.map(|s| s.estimated_wh));
        push(rows, &what, "its standard deviation, Wh", Some(suspect.sigma_wh), again.map(|s| s.sigma_wh));
        push(rows, &what, "hours", Some(suspect.hours), again.map(|s| s.hours));
        for piece in &suspect.evidence {
            evidence_rows(rows, &format!("{}: ", suspect.usage_point), piece, again.map_or(&[], |s| &s.evidence));
        }
    }
}

/// Supplied and metered energy since the onset, from registers, over the intervals that hold no estimate.
async fn balance_rows(
    store: &Store,
    topology: &Topology,
    basis: &CaseBasis,
    history: &ZoneHistory,
) -> Result<Vec<Row>, StoreError> {
    let observer_ratio = topology.observer_of(basis.zone).map_or(1.0, |o| o.ct_ratio);
    let ends: Vec<Timestamp> = basis.balances.iter().map(|balance| balance.end).collect();
    let observers = history::hung_there(&*store.registry().await?, MemberId::Zone(basis.zone), &ends);
    let supplied = series(store, &observers, &ends).await?;
    let declared = |end: Timestamp| -> f64 {
        let members = topology.members(basis.zone);
        members.filter_map(|m| m.declared(end.plus(-SLOT.seconds()), end)).map(|flow| flow.net_wh(1.0)).sum()
    };
    let (mut kept, mut again) = ([0.0; 2], [0.0; 2]);
    let mut complete = true;
    for (index, balance) in basis.balances.iter().enumerate().filter(|(_, b)| is_compared(b, basis)) {
        kept[0] += balance.supplied_wh;
        kept[1] += balance.metered_wh;
        let members: Option<f64> =
            history.members.iter().map(|m| Some(m.slots.get(index).copied().flatten()?.net_wh(m.ct_ratio))).sum();
        match (supplied.get(index).copied().flatten(), members) {
            (Some(flow), Some(metered)) => {
                again[0] += flow.net_wh(observer_ratio);
                again[1] += metered + declared(balance.end);
            }
            _ => complete = false,
        }
    }
    let points = history.members.iter().filter(|m| matches!(m.id, MemberId::UsagePoint(_))).count();
    let what = format!("balance of zone {} from {} to {}", basis.zone, basis.onset, basis.at);
    let mut rows = Vec::new();
    push(&mut rows, &what, "supplied, Wh", Some(kept[0]), complete.then_some(again[0]));
    push(
        &mut rows,
        &what,
        &format!("metered by {points} usage points and child zones, Wh"),
        Some(kept[1]),
        complete.then_some(again[1]),
    );
    Ok(rows)
}

/// After the onset, and without estimates.
fn is_compared(balance: &EnergyBalance, basis: &CaseBasis) -> bool {
    balance.end > basis.onset && balance.coverage >= COMPLETE
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= SAME * a.abs().max(b.abs()).max(1.0)
}

fn push(rows: &mut Vec<Row>, what: &str, number: &str, stored: Option<f64>, again: Option<f64>) {
    let text = |value: f64| format!("{value}");
    rows.push(Row {
        what: what.into(),
        number: number.into(),
        stored: stored.map(text).unwrap_or_default(),
        recomputed: again.map(text),
        equal: stored.zip(again).is_some_and(|(a, b)| near(a, b)),
    });
}

/// The numbers in a sentence, in their order; times and names are left to the comparison of the whole sentence.
fn numbers(words: &str) -> Vec<f64> {
    let trimmed = |word: &str| word.trim_matches(['(', ')', ',', ';', ':', '.', '±', '%']).parse::<f64>().ok();
    words.split_whitespace().filter_map(trimmed).take(NUMBERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use losses::evidence::{Direction, ReadingRange};
    use metering::{MeterId, ZoneId};

    use super::*;

    fn piece(weight: f64, words: &str) -> Evidence {
        let zone = ZoneId::new("T-1").expect("id");
        let readings =
            vec![ReadingRange { meter: MeterId::new("M-1").expect("id"), from: Timestamp(0), to: Timestamp(900) }];
        Evidence::new(EvidenceKind::ProportionalLoss, Direction::For, weight, words, zone, readings)
    }

    #[test]
    fn a_changed_number_is_found_and_named() {
        let stored = piece(4.5, "0.42 Wh missing per Wh metered (t = 9.1), 83 % of what is missing");
        assert_eq!(numbers(&stored.words), [0.42, 9.1, 83.0]);
        let mut rows = Vec::new();
        evidence_rows(&mut rows, "", &stored, std::slice::from_ref(&stored));
        assert!(rows.len() == 5 && rows.iter().all(|row| row.equal), "{rows:?}");
        let other = piece(4.5, "0.42 Wh missing per Wh metered (t = 9.2), 83 % of what is missing");
        rows.clear();
        evidence_rows(&mut rows, "", &stored, &[other]);
        let different: Vec<&str> = rows.iter().filter(|row| !row.equal).map(|row| row.number.as_str()).collect();
        assert_eq!(different, ["number 2 of the sentence", "the sentence and its readings"]);
        rows.clear();
        evidence_rows(&mut rows, "", &stored, &[]);
        assert!(rows.iter().all(|row| !row.equal && row.recomputed.is_none()));
    }
}
