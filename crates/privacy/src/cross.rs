//! What sums over homes and sums over time tell together.
//!
//! A spatial sum `S_t = Σ_i x_{i,t}` ties the homes of a group to each other. Whoever knows a total of every home but one knows the same
//! total of that one from the sums, although it was never asked for and its own audit never saw it. A combination of everything that
//! was released about a group is `Σ_t λ_t S_t + Σ_i μ_i·F_i`; on home `i` it weighs `λ + μ_i·F_i`. Where it vanishes on two homes,
//! their `F` differ by something in the span of both. Two rules follow, and they are what this file checks:
//!
//! 1. *No omission.* A sum over time declares weights for a stretch of counters (a register's signed runs; whole days of a total; the
//!    window of a theft case). Every reading of that stretch that is in a spatial sum is in the sum over time, or comes into none:
//!    so on the tied cells `F_i` is what was declared, whoever was absent.
//! 2. *No near twins.* Declared weights, of whichever home, are kept; a new one may not come so close to a combination of those that
//!    overlap it that fewer than `twin_support_min` slots remain. Up to [`TOGETHER_MAX`] of them are audited together, more of
//!    them in pairs.
//!
//! It is not: the audit of one home's sums (`span.rs`), which asks for more.

use std::collections::BTreeMap;

use metering::MeterId;

use crate::{
    custodian::State,
    mask::Field,
    policy::Policy,
    query::{BillQuery, FaultQuery, Query, Row, TheftQuery},
    roster::Cells,
    rules::Refusal,
    span::{self, Functional},
    theft,
};

/// Declared weights that are audited together with a new one.
const TOGETHER_MAX: usize = 10;

/// The slot before the first cell of a row, as a counter; the same for all rows of a query that speaks of slots.
pub(crate) fn start(rows: &[Row]) -> Option<u64> {
    rows.first().and_then(|row| row.first.checked_sub(u64::from(row.offset)))
}

/// That all rows count their slots from the same counter. Otherwise one home could stand for many in a slot, or be weighed by another
/// slot's weight.
pub(crate) fn aligned(rows: &[Row]) -> Result<u64, Refusal> {
    let first = start(rows).ok_or(Refusal::Shape("no cells, or an offset beyond the counter"))?;
    let is_aligned = rows.iter().all(|row| row.first.checked_sub(u64::from(row.offset)) == Some(first));
    is_aligned.then_some(first).ok_or(Refusal::Misaligned)
}

/// The weights that a query declares for a stretch of counters, whoever is present in it; `None` when it releases no exact sum over
/// time.
pub(crate) fn declared(policy: &Policy, query: &Query) -> Option<(Field, Functional)> {
    match query {
        Query::Bill(q) => Some((q.field, of_bill(q))),
        Query::Fault(q) => Some((q.field, of_fault(policy, q))),
        Query::Theft(q) if q.epsilon_micro.is_none() => Some((q.field, of_theft(q))),
        _ => None,
    }
}

fn of_bill(q: &BillQuery) -> Functional {
    let mut at = q.weights.first;
    let mut weights = Functional::new();
    for run in &q.weights.runs {
        let end = at.saturating_add(u64::from(run.length));
        if run.weight != 0 {
            weights.extend((at..end).map(|counter| (counter, i64::from(run.weight))));
        }
        at = end;
    }
    weights
}

fn of_fault(policy: &Policy, q: &FaultQuery) -> Functional {
    let day = u64::from(policy.day_slots);
    let first = q.rows.iter().map(|row| row.first).min().unwrap_or(0) / day * day;
    let end = q.rows.iter().map(|row| row.first + row.end() as u64).max().unwrap_or(0).div_ceil(day) * day;
    (first..end).map(|counter| (counter, 1)).collect()
}

fn of_theft(q: &TheftQuery) -> Functional {
    let Some(first) = start(&q.rows) else { return Functional::new() };
    (first..).zip(theft::signs(&q.series)).filter(|(_, sign)| *sign != 0).collect()
}

/// Cells of the declared stretch that each meter's rows leave out.
pub(crate) fn omitted(weights: &Functional, query: &Query) -> BTreeMap<MeterId, Cells> {
    let mut declared = Cells::default();
    declared.extend(weights.keys().map(|counter| (counter / 64, 1 << (counter % 64))));
    let mut by_meter: BTreeMap<MeterId, Vec<&Row>> = BTreeMap::new();
    for row in query.rows() {
        by_meter.entry(row.meter).or_default().push(row);
    }
    let left_out = |rows: Vec<&Row>| -> Cells {
        let present = Cells::of(rows);
        let mut without = Cells::default();
        without.extend(declared.words().map(|(at, bits)| (at, bits & !present.word(at))));
        without
    };
    by_meter.into_iter().map(|(meter, rows)| (meter, left_out(rows))).collect()
}

/// Both rules for a sum over time.
pub(crate) fn audit(policy: &Policy, state: &State, query: &Query) -> Result<(), Refusal> {
    let Some((field, weights)) = declared(policy, query) else { return Ok(()) };
    let field = field.audited_as();
    for (meter, left_out) in omitted(&weights, query) {
        let used = state.roster.get(meter).map(|meter| meter.used(field));
        if let Some(counter) = used.and_then(|used| used.common(left_out.words())) {
            return Err(Refusal::Omitted { meter, counter });
        }
    }
    let all = state.declared.get(&field).map(Vec::as_slice).unwrap_or_default();
    if all.contains(&weights) {
        return Ok(());
    }
    let near: Vec<&Functional> = all.iter().filter(|other| overlap(other, &weights)).collect();
    let least = policy.twin_support_min;
    let check = |together: &[&Functional]| match span::smallest_support(together) {
        Some(slots) if slots < least as usize => Err(Refusal::Twin { slots, least }),
        _ => Ok(()),
    };
    if near.len() <= TOGETHER_MAX {
        let together: Vec<&Functional> = core::iter::once(&weights).chain(near).collect();
        return check(&together);
    }
    near.into_iter().try_for_each(|other| check(&[&weights, other]))
}

fn overlap(a: &Functional, b: &Functional) -> bool {
    let ends = |f: &Functional| Some((*f.keys().next()?, *f.keys().next_back()?));
    ends(a).zip(ends(b)).is_some_and(|(a, b)| a.0 <= b.1 && b.0 <= a.1)
}
