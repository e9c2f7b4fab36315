//! Faults seen in the meters' own series: one that stopped counting, two that exchanged their habits.

use super::engine::Engine;
use super::series::{Member, Prepared};
use super::{Correction, Finding, FindingKind, Subject, number, subject};

/// Days of use before, and of silence after, that a dead meter needs.
const DEAD_DAYS: usize = 2;
/// Least mean power before, W.
const DEAD_LEAST_W: f64 = 30.0;
/// Days on either side of an exchange.
const EXCHANGE_DAYS: usize = 4;
/// How much better the exchange must explain the habits than no exchange, in nats.
const EXCHANGE_LEAD: f64 = 18.0;
/// Parts of a day whose mean power makes a habit.
const PARTS: usize = 8;

/// A meter that counts nothing to the end, after a time of use, while energy went missing of that shape.
pub(super) fn dead(data: &Prepared) -> Vec<Finding> {
    let engine = Engine::new(data, false);
    let target = engine.scale(&data.residual_wh);
    data.members.iter().filter_map(|member| dead_one(data, &engine, &target, member)).collect()
}

fn dead_one(data: &Prepared, engine: &Engine, target: &super::engine::Scaled, member: &Member) -> Option<Finding> {
    let n = member.import_wh.len();
    let idle = |t: usize| {
        member.import_wh[t].is_nan()
            || (member.import_wh[t] == 0.0 && (member.export_wh[t].is_nan() || member.export_wh[t] <= 0.0))
    };
    let silent = (0..n).rev().take_while(|&t| idle(t)).count();
    let since = n - silent;
    let measured = (since..n).filter(|&t| !member.import_wh[t].is_nan()).count();
    if measured < DEAD_DAYS * data.per_day || since < DEAD_DAYS * data.per_day {
        return None;
    }
    let mut habit = vec![(0.0, 0.0); data.per_day];
    for t in (0..since).filter(|&t| !member.import_wh[t].is_nan()) {
        habit[t % data.per_day].0 += member.import_wh[t];
        habit[t % data.per_day].1 += 1.0;
    }
    let habit: Vec<f64> = habit.iter().map(|(sum, count)| sum / f64::max(*count, 1.0)).collect();
    let watts = habit.iter().sum::<f64>() / data.per_day as f64 / data.hours;
    if watts < DEAD_LEAST_W {
        return None;
    }
    let column: Vec<f64> = (0..n).map(|t| if t < since { 0.0 } else { habit[t % data.per_day] }).collect();
    let fit = engine.fit(&engine.scale(&column), target);
    // A vacant home counts nothing and nothing is missing.
    if fit.z < 5.0 || !(0.35..2.0).contains(&fit.coefficient) {
        return None;
    }
    let closeness = (-0.5 * (fit.coefficient.ln() / 0.35).powi(2)).exp();
    Some(Finding {
        kind: FindingKind::DeadMeter,
        zone: data.series.zone,
        subject: subject(member.series.id, member.series.meter),
        correction: Correction::ReplaceMeter { uncounted_w: fit.coefficient * watts },
        confidence: 0.6 + 0.35 * closeness,
        words: format!(
            "meter {} has counted nothing since {}; before it counted {watts:.0} W, and {:.0} W have been missing since then",
            member.series.meter,
            data.ends[since.saturating_sub(1)],
            fit.coefficient * watts
        ),
        numbers: vec![
            number("mean power before", watts, "W"),
            number("missing since, as a share of it", fit.coefficient, ""),
            number("z", fit.z, ""),
            number("slots without energy", measured as f64, ""),
        ],
    })
}

/// Habit of a member over some days: logarithm of the mean power by part of the day. NaN when nothing was measured.
fn habit(data: &Prepared, member: &Member, from: usize, to: usize) -> [f64; PARTS] {
    let mut sums = [(0.0, 0.0); PARTS];
    for t in from..to {
        if !member.import_wh[t].is_nan() {
            let part = &mut sums[t % data.per_day * PARTS / data.per_day];
            part.0 += member.import_wh[t];
            part.1 += 1.0;
        }
    }
    sums.map(|(sum, n)| if n > 0.0 { (sum / n / data.hours + 20.0).ln() } else { f64::NAN })
}

fn distance(a: &[f64; PARTS], b: &[f64; PARTS]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// Two members of the zone that took over each other's habits from one day to the next. The sum does not change, so the balance
/// is silent about it; only the habits tell.
pub(super) fn swapped(data: &Prepared) -> Vec<Finding> {
    let (n, days) = (data.ends.len(), data.ends.len() / data.per_day);
    let mut best: Option<(f64, usize, usize, usize)> = None;
    for day in EXCHANGE_DAYS..=days.saturating_sub(EXCHANGE_DAYS) {
        let at = day * data.per_day;
        let habits: Vec<([f64; PARTS], [f64; PARTS])> =
            data.members.iter().map(|m| (habit(data, m, 0, at), habit(data, m, at, n))).collect();
        // What habits differ by from one time to another, without any exchange.
        let mut own: Vec<f64> = habits.iter().map(|(b, a)| distance(b, a)).filter(|d| d.is_finite()).collect();
        if own.len() < 4 {
            return Vec::new();
        }
        own.sort_by(f64::total_cmp);
        let variance = (own[own.len() / 2] / PARTS as f64).max(0.01);
        for i in 0..habits.len() {
            for j in 0..i {
                let stay = distance(&habits[i].0, &habits[i].1) + distance(&habits[j].0, &habits[j].1);
                let cross = distance(&habits[i].0, &habits[j].1) + distance(&habits[j].0, &habits[i].1);
                // Parts of one day go together: they count half.
                let lead = 0.5 * (stay - cross) / (2.0 * variance);
                let fits = cross / (2.0 * PARTS as f64 * variance) < 3.0;
                if lead.is_finite() && fits && best.is_none_or(|b| lead > b.0) {
                    best = Some((lead, i, j, at));
                }
            }
        }
    }
    let Some((lead, i, j, at)) = best.filter(|b| b.0 > EXCHANGE_LEAD) else { return Vec::new() };
    let (a, b) = (data.members[i].series, data.members[j].series);
    let partner = match subject(b.id, b.meter) {
        Subject::UsagePoint { usage_point, .. } => Some(usage_point),
        Subject::Observer { .. } | Subject::Zone { .. } => None,
    };
    vec![Finding {
        kind: FindingKind::SwappedMeters,
        zone: data.series.zone,
        subject: subject(a.id, a.meter),
        correction: Correction::ExchangeMeters { with: b.meter, usage_point: partner },
        confidence: (lead / (lead + 4.0)).min(0.95),
        words: format!(
            "meters {} and {} took over each other's level and daily habit about {}: exchanged at the head end or on site",
            a.meter, b.meter, data.ends[at]
        ),
        numbers: vec![number("lead over no exchange", lead, "nat"), number("slots before", at as f64, "")],
    }]
}
