//! Faults that leave a column with a known coefficient in the balance: mapping, ratio, clock.
//!
//! One after the other the best is taken and its known effect removed, until nothing is left.

use metering::ZoneId;

use super::engine::{Engine, Fit, Scaled};
use super::series::{Member, MeterSeries, Prepared};
use super::{Correction, Finding, FindingKind, Subject, number, subject};
use crate::localise::regression::dot;

/// Least z of a fault, after the noise it leaves.
const Z_MIN: f64 = 6.0;
/// Most a coefficient may differ from its known value, relative.
const TOLERANCE: f64 = 0.08;
/// Most faults of this kind in one zone.
const ROUNDS: usize = 4;
/// Columns fitted in full in each round, best first.
const FULL_FITS: usize = 16;
/// Spread of the coefficients that theft could leave (share not counted / share counted).
const THEFT_SPREAD: f64 = 3.0;
/// Primary currents of standard transformers, A; the ratio is one of them through 5 or 1.
const PRIMARY_A: [f64; 27] = [
    30.0, 40.0, 50.0, 60.0, 75.0, 80.0, 100.0, 120.0, 125.0, 150.0, 200.0, 250.0, 300.0, 400.0, 500.0, 600.0, 750.0,
    800.0, 1_000.0, 1_200.0, 1_250.0, 1_500.0, 1_600.0, 2_000.0, 2_500.0, 3_000.0, 4_000.0,
];
/// Errors of a multiplier.
const MULTIPLIERS: [f64; 5] = [0.001, 0.01, 0.1, 10.0, 100.0];

/// What a column stands for. Indices are those of [`Prepared`].
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hypothesis {
    /// Member is not supplied from this zone.
    Elsewhere(usize),
    /// A neighbour's meter is supplied from this zone.
    Belongs(usize),
    /// The member's ratio is wrong.
    Ratio(usize),
    /// The observer's ratio is wrong.
    ObserverRatio,
    /// The member's clock is wrong by so many slots.
    Clock(usize, i32),
    /// The observer's.
    ObserverClock(i32),
}

struct Candidate {
    what: Hypothesis,
    column: Scaled,
    values: Vec<f64>,
}

pub(super) fn search(data: &Prepared, found: &[Finding]) -> Vec<Finding> {
    let engine = Engine::new(data, true);
    let candidates = candidates(data, &engine, found);
    let mut residual = data.residual_wh.clone();
    let mut done: Vec<Finding> = Vec::new();
    for _ in 0..ROUNDS {
        let target = engine.scale(&residual);
        let mut ranked: Vec<(f64, &Candidate)> = candidates
            .iter()
            .map(|c| (c, engine.quick(&c.column, &target)))
            .filter(|(c, (coefficient, z))| z.abs() > Z_MIN && known(data, c.what, *coefficient).is_some())
            .map(|(c, (_, z))| (z.abs(), c))
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        let best = ranked.iter().take(FULL_FITS).find_map(|(_, candidate)| {
            let fit = engine.fit(&candidate.column, &target);
            let known = known(data, candidate.what, fit.coefficient)?;
            (fit.z.abs() >= Z_MIN && (fit.coefficient - known).abs() < 0.02 + 4.0 * fit.error)
                .then(|| finding(data, candidate, fit, known))
                .map(|finding| (candidate, known, finding))
        });
        let Some((candidate, known, finding)) = best else { break };
        if done.iter().chain(found).any(|earlier| earlier.subject == finding.subject) {
            break;
        }
        residual.iter_mut().zip(&candidate.values).for_each(|(r, v)| *r -= known * v);
        done.push(finding);
    }
    exchange(done)
}

/// The coefficient that the hypothesis implies, when the fitted one agrees with it.
fn known(data: &Prepared, what: Hypothesis, coefficient: f64) -> Option<f64> {
    let near = |c: f64| ((coefficient - c).abs() <= TOLERANCE * c.abs()).then_some(c);
    match what {
        Hypothesis::Elsewhere(_) => near(-1.0),
        Hypothesis::Belongs(_) | Hypothesis::Clock(..) | Hypothesis::ObserverClock(_) => near(1.0),
        Hypothesis::Ratio(m) => {
            let ratio = data.members[m].series.ct_ratio;
            standard(ratio, 1.0 + coefficient).map(|factor| factor - 1.0)
        }
        Hypothesis::ObserverRatio => {
            standard(data.series.observer.ct_ratio, 1.0 - coefficient).map(|factor| 1.0 - factor)
        }
    }
}

/// The factor by which readings must be multiplied for a standard ratio (or a multiplier's power of ten), if one is near.
fn standard(ratio: f64, factor: f64) -> Option<f64> {
    let near = |candidate: &f64| (factor / candidate - 1.0).abs() < 0.02;
    if let Some(power) = MULTIPLIERS.iter().find(|f| near(f)) {
        return Some(*power);
    }
    if ratio <= 1.0 || (factor - 1.0).abs() < 0.04 || factor <= 0.0 {
        return None;
    }
    let mut all: Vec<f64> = PRIMARY_A.iter().flat_map(|a| [a / 5.0 / ratio, a / ratio]).filter(near).collect();
    all.sort_by(|a, b| (factor / a - 1.0).abs().total_cmp(&(factor / b - 1.0).abs()));
    all.first().copied()
}

/// Slots by which clocks are tried: quarter-hours to an hour, hours (time zone, summer time), half a day.
fn shifts(data: &Prepared) -> Vec<i32> {
    let hour = (1.0 / data.hours).round().max(1.0) as i32;
    let mut all: Vec<i32> = (1..=hour).chain([2 * hour, 3 * hour, 12 * hour]).collect();
    all.dedup();
    all.iter().flat_map(|s| [*s, -*s]).collect()
}

fn shifted(values: &[f64], by: i32) -> Vec<f64> {
    let n = values.len() as i32;
    (0..n).map(|t| values[(t + by).clamp(0, n - 1) as usize]).collect()
}

fn candidates(data: &Prepared, engine: &Engine, found: &[Finding]) -> Vec<Candidate> {
    let mut all = Vec::new();
    let mut push = |what, values: Vec<f64>| all.push(Candidate { what, column: engine.scale(&values), values });
    let taken = |m: &Member| found.iter().any(|f| f.subject == subject(m.series.id, m.series.meter));
    for (at, member) in data.members.iter().enumerate().filter(|(_, m)| !taken(m)) {
        push(Hypothesis::Elsewhere(at), member.net_wh.clone());
        push(Hypothesis::Ratio(at), member.net_wh.clone());
        for by in shifts(data) {
            let moved = shifted(&member.net_wh, by);
            push(Hypothesis::Clock(at, by), moved.iter().zip(&member.net_wh).map(|(m, n)| m - n).collect());
        }
    }
    for (at, (_, member)) in data.foreign.iter().enumerate() {
        push(Hypothesis::Belongs(at), member.net_wh.clone());
    }
    push(Hypothesis::ObserverRatio, data.supplied_wh.clone());
    let metered: Vec<f64> =
        (0..data.ends.len()).map(|t| data.members.iter().map(|m| m.net_wh[t]).sum::<f64>()).collect();
    for by in shifts(data) {
        // The observer's series, recorded `by` slots late, less what it should have been.
        let moved = shifted(&metered, -by);
        push(Hypothesis::ObserverClock(by), moved.iter().zip(&metered).map(|(m, n)| m - n).collect());
    }
    all
}

/// Probability of the known coefficient against a coefficient from anywhere that theft could leave.
fn confidence(fit: Fit, known: f64, prior_odds: f64) -> f64 {
    let sd = fit.error.hypot(0.01 * known.abs());
    let at_known = (-0.5 * ((fit.coefficient - known) / sd).powi(2)).exp() / (sd * std::f64::consts::TAU.sqrt());
    let odds = prior_odds * at_known * THEFT_SPREAD;
    (odds / (1.0 + odds)).min(0.99)
}

/// How a neighbour's residual depends on a member's readings, as (slope, its z).
fn in_neighbour(data: &Prepared, neighbour: usize, values: &[f64]) -> Option<(f64, f64)> {
    let residual = data.neighbour_residual.get(neighbour)?;
    let known: Vec<usize> = (0..values.len()).filter(|&t| !residual[t].is_nan()).collect();
    if known.len() < data.per_day {
        return None;
    }
    let n = known.len() as f64;
    // Homes share a daily shape: only what departs from each series' own counts.
    let departs = |v: &[f64]| -> Vec<f64> {
        let mut sums = vec![(0.0, 0.0f64); data.per_day];
        for &t in &known {
            let bin = &mut sums[t % data.per_day];
            *bin = (bin.0 + v[t], bin.1 + 1.0);
        }
        known.iter().map(|&t| v[t] - sums[t % data.per_day].0 / sums[t % data.per_day].1.max(1.0)).collect()
    };
    let (x, y) = (departs(values), departs(residual));
    let (xx, xy, yy) = (dot(&x, &x), dot(&x, &y), dot(&y, &y));
    if xx <= 0.0 {
        return None;
    }
    let slope = xy / xx;
    let rest = ((yy - slope * xy) / (n - 2.0).max(1.0)).max(1e-9);
    Some((slope, slope / (rest / xx).sqrt()))
}

fn finding(data: &Prepared, candidate: &Candidate, fit: Fit, known: f64) -> Finding {
    let zone = data.series.zone;
    let mut numbers = vec![
        number("fitted coefficient", fit.coefficient, ""),
        number("coefficient of this fault", known, ""),
        number("standard error", fit.error, ""),
        number("z", fit.z, ""),
        number("slots", data.ends.len() as f64, ""),
    ];
    let energy = known.abs() * candidate.values.iter().sum::<f64>().abs();
    let observer = &data.series.observer;
    let (kind, subject, correction, confidence, words) = match candidate.what {
        Hypothesis::Elsewhere(m) => {
            let member = data.members[m].series;
            let to = home_of(data, &candidate.values, &mut numbers);
            let odds = if to.is_some() { 100.0 } else { 1.0 };
            let words = format!(
                "the readings of meter {} are in surplus one to one ({:.2} ± {:.2}): it is probably not supplied from zone {zone}{}",
                member.meter,
                -fit.coefficient,
                fit.error,
                to.map_or(String::new(), |z| format!("; zone {z} misses the same energy"))
            );
            let sure = confidence(fit, known, odds);
            (
                FindingKind::WrongMapping,
                subject(member.id, member.meter),
                Correction::Remap { from: zone, to },
                sure,
                words,
            )
        }
        Hypothesis::Belongs(f) => belongs(data, f, fit, known, &candidate.values, &mut numbers),
        Hypothesis::Ratio(m) => {
            let member = data.members[m].series;
            ratio(member, subject(member.id, member.meter), fit, known, 1.0 + known)
        }
        Hypothesis::ObserverRatio => {
            ratio(observer, Subject::Observer { zone, meter: observer.meter }, fit, known, 1.0 - known)
        }
        Hypothesis::Clock(m, by) => {
            let member = data.members[m].series;
            clock(data, member, subject(member.id, member.meter), fit, -by)
        }
        Hypothesis::ObserverClock(by) => {
            clock(data, observer, Subject::Observer { zone, meter: observer.meter }, fit, -by)
        }
    };
    numbers.push(number("energy concerned", energy, "Wh"));
    Finding { kind, zone, subject, correction, confidence, words, numbers }
}

type Parts = (FindingKind, Subject, Correction, f64, String);

/// The neighbour that misses a member's readings, if one does.
fn home_of(data: &Prepared, values: &[f64], numbers: &mut Vec<super::Number>) -> Option<ZoneId> {
    let fits = (0..data.neighbour_residual.len()).filter_map(|n| in_neighbour(data, n, values).map(|f| (n, f)));
    let (n, (slope, z)) =
        fits.filter(|(_, (s, z))| (s - 1.0).abs() < 0.15 && *z > 6.0).max_by(|a, b| a.1.1.total_cmp(&b.1.1))?;
    numbers.push(number("coefficient in the other zone", slope, ""));
    numbers.push(number("z in the other zone", z, ""));
    Some(data.series.neighbours[n].zone)
}

fn belongs(
    data: &Prepared,
    foreign: usize,
    fit: Fit,
    known: f64,
    values: &[f64],
    numbers: &mut Vec<super::Number>,
) -> Parts {
    let (neighbour, member) = &data.foreign[foreign];
    let (member, from) = (member.series, data.series.neighbours[*neighbour].zone);
    let zone = data.series.zone;
    let mut odds = 1.0;
    if let Some((slope, z)) = in_neighbour(data, *neighbour, values) {
        numbers.push(number("coefficient in the other zone", slope, ""));
        numbers.push(number("z in the other zone", z, ""));
        odds = if (slope + 1.0).abs() < 0.15 && z < -6.0 { 100.0 } else { 0.1 };
    }
    let words = format!(
        "zone {zone} misses the readings of meter {} one to one ({:.2} ± {:.2}), which is mapped to zone {from}",
        member.meter, fit.coefficient, fit.error
    );
    let correction = Correction::Remap { from, to: Some(zone) };
    let sure = confidence(fit, known, odds);
    (FindingKind::WrongMapping, subject(member.id, member.meter), correction, sure, words)
}

fn ratio(series: &MeterSeries, subject: Subject, fit: Fit, known: f64, factor: f64) -> Parts {
    let (from, to) = (series.ct_ratio, series.ct_ratio * factor);
    let words = format!(
        "the balance closes when the readings of meter {} are multiplied by {factor:.3}: ratio {to:.1} instead of {from:.1}",
        series.meter
    );
    // Standard ratios lie close together: a theft may meet one by chance.
    let odds = if from > 1.0 { 0.5 } else { 2.0 };
    (FindingKind::WrongRatio, subject, Correction::SetRatio { from, to }, confidence(fit, known, odds), words)
}

fn clock(data: &Prepared, series: &MeterSeries, subject: Subject, fit: Fit, add_slots: i32) -> Parts {
    let add_seconds = i64::from(add_slots) * i64::from(data.series.minutes) * 60;
    let words = format!(
        "the balance closes when the readings of meter {} are moved by {:.2} h: its clock or time zone is wrong",
        series.meter,
        add_seconds as f64 / 3_600.0
    );
    (FindingKind::ClockShift, subject, Correction::SetClock { add_seconds }, confidence(fit, 1.0, 10.0), words)
}

/// A member that belongs to a neighbour, and a meter of the same neighbour that belongs here: exchanged meters.
fn exchange(mut found: Vec<Finding>) -> Vec<Finding> {
    let out =
        found.iter().position(|f| matches!(f.correction, Correction::Remap { from, to: Some(_) } if from == f.zone));
    let Some(out) = out else { return found };
    let Correction::Remap { to: Some(other), .. } = found[out].correction else { return found };
    let back = found.iter().position(
        |f| matches!(f.correction, Correction::Remap { from, to: Some(to) } if from == other && to == f.zone),
    );
    let Some(back) = back else { return found };
    let partner = found[back].clone();
    let (meter, usage_point) = match partner.subject {
        Subject::UsagePoint { usage_point, meter } => (meter, Some(usage_point)),
        Subject::Observer { meter, .. } => (meter, None),
        Subject::Zone { .. } => return found,
    };
    let first = &mut found[out];
    first.kind = FindingKind::SwappedMeters;
    first.confidence = first.confidence.min(partner.confidence);
    first.words = format!("exchanged with a meter of zone {other}: {}; {}", first.words, partner.words);
    first.numbers.extend(partner.numbers);
    first.correction = Correction::ExchangeMeters { with: meter, usage_point };
    found.remove(back);
    found
}
