//! Evidence for and against each usage point of a zone in which energy is missing.

use metering::{MeterEvent, MeterId, Timestamp, ZoneId};

use super::{
    Suspect, ZoneHistory,
    prepared::{Member, Prepared, mean},
    readings,
    regression::{Fit, Regression},
};
use crate::{
    balance::MemberId,
    case::CaseKind,
    evidence::{Direction, Evidence, EvidenceKind, ReadingRange},
};

/// How long before the onset a tamper event still belongs to it, seconds.
const TAMPER_BEFORE_SECONDS: i64 = 7 * 86_400;
/// How long before the onset a change of meter or mapping explains it, seconds.
const MAPPING_SECONDS: i64 = 3 * 86_400;

/// A suspect with what the gates ask for.
pub(super) struct Assessed {
    pub(super) suspect: Suspect,
    /// t of its regression when taken, and the share of the missing energy it explains.
    pub(super) t: f64,
    pub(super) share: f64,
    /// Its meter reported strong tampering.
    pub(super) tamper: bool,
    /// Its use fell in the hours of the loss only, night after night, by what is missing.
    pub(super) selective_drop: bool,
}

/// How a member's use changed at the onset, against its own earlier level and the neighbours' change.
struct Change {
    /// Mean power before (scaled by the neighbours' change) and after, W.
    expected_w: f64,
    after_w: f64,
    /// Fall in standard deviations of its own day-to-day changes.
    z: f64,
    /// Fall by hour of the day, W.
    fall_w: [f64; 24],
    /// Standard deviation within the days after, relative to their mean.
    unevenness: f64,
    /// Largest hourly mean after the onset, relative to its largest hourly mean before.
    peak: f64,
}

/// Assesses every usage point with anything for or against it.
pub(super) fn assess(
    history: &ZoneHistory,
    data: &Prepared,
    fits: Option<&Regression>,
    missing_wh: f64,
) -> Vec<Assessed> {
    let common = common_change(data);
    let tests = 2.0 * data.members.len().max(1) as f64;
    data.members
        .iter()
        .enumerate()
        .filter_map(|(index, member)| {
            let pick = fits.and_then(|f| f.picks.iter().find(|p| p.member == index)).copied();
            let single = fits.and_then(|f| f.single[index]);
            assess_one(&Context { history, data, common, tests, missing_wh }, member, pick, single)
        })
        .collect()
}

struct Context<'a> {
    history: &'a ZoneHistory,
    data: &'a Prepared<'a>,
    common: f64,
    tests: f64,
    missing_wh: f64,
}

fn assess_one(context: &Context, member: &Member, pick: Option<Fit>, single: Option<Fit>) -> Option<Assessed> {
    let MemberId::UsagePoint(usage_point) = member.history.id else { return None };
    let Context { history, data, missing_wh, .. } = *context;
    let meter = member.history.meter;
    let range = readings(history, data, meter);
    let change = change(context, member);
    let mut evidence = tamper_evidence(history.zone, meter, &member.history.events, Some(history.onset));
    let tamper = evidence.iter().any(|e| e.direction == Direction::For && e.weight >= 4.0);
    let mut share = 0.0;
    let t = pick.map_or(0.0, |p| p.t);
    let fit = pick.or(single).filter(|f| f.t > 2.0 && f.coefficient > 0.0);
    if let Some(fit) = fit {
        share = (fit.energy_wh / missing_wh.max(1.0)).max(0.0);
        evidence.push(regression_evidence(context, &fit, pick.is_some(), share, range.clone()));
    }
    let mut selective_drop = false;
    if let Some(change) = &change {
        let (fall, selective) = fall_evidence(context, change, range.clone());
        selective_drop = selective;
        evidence.extend(fall);
        evidence.extend(fit.and_then(|fit| ratio_evidence(context, change, &fit, range.clone())));
        evidence.extend(vacancy(context, change, tamper, t, range.clone()));
    }
    if evidence.is_empty() {
        return None;
    }
    let fell = evidence.iter().any(|e| e.kind == EvidenceKind::MissingLoad);
    evidence.extend(honest_alternatives(context, member, range));
    evidence.retain(|e| fell || e.kind != EvidenceKind::SharedChange);
    evidence.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let weight = evidence.iter().map(Evidence::signed_weight).sum();
    let estimated_wh = match (&fit, &change) {
        (Some(fit), _) if t > 0.0 => fit.energy_wh,
        (_, Some(change)) if change.z > 2.0 => (change.expected_w - change.after_w).max(0.0) * super::after_hours(data),
        (fit, _) => fit.map_or(0.0, |f| f.energy_wh),
    };
    let kind = if t >= 5.0 || !tamper { CaseKind::SuspectedTheft } else { CaseKind::TamperSuspected };
    let suspect = Suspect {
        usage_point,
        meter,
        kind,
        named: false,
        weight,
        estimated_wh: estimated_wh.min(missing_wh.max(0.0)),
        evidence,
    };
    Some(Assessed { suspect, t, share, tamper, selective_drop })
}

fn regression_evidence(context: &Context, fit: &Fit, taken: bool, share: f64, range: Vec<ReadingRange>) -> Evidence {
    let kind = if fit.selective { EvidenceKind::NightLoss } else { EvidenceKind::ProportionalLoss };
    let hours = if fit.selective { " in the hours in which energy is missing" } else { "" };
    let bits = if taken { (fit.t * fit.t / 2.0 - context.tests.ln()).clamp(0.0, 20.0) } else { 0.0 };
    Evidence::new(
        kind,
        Direction::For,
        bits * share.min(1.0).sqrt(),
        format!(
            "the missing energy rises and falls with this meter's use{hours}: {:.2} Wh missing per Wh metered (t = {:.1}), \
             {:.0} % of what is missing",
            fit.coefficient,
            fit.t,
            100.0 * share
        ),
        context.history.zone,
        range,
    )
}

/// Ratio of the members' use after and before the onset at the same hours of the day, median: what the season did to all. One
/// with less than half a day to compare.
fn common_change(data: &Prepared) -> f64 {
    if super::after_hours(data) < 12.0 {
        return 1.0;
    }
    let mut ratios: Vec<f64> = data.members.iter().filter_map(|member| member_ratio(data, member)).collect();
    if ratios.len() < 5 {
        return 1.0;
    }
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2].clamp(0.3, 3.0)
}

fn member_ratio(data: &Prepared, member: &Member) -> Option<f64> {
    let mut before = [(0.0, 0.0f64); 24];
    for (row, power) in data.rows.iter().zip(&member.power_w).filter(|(row, _)| !row.after) {
        before[row.hour].0 += power;
        before[row.hour].1 += 1.0;
    }
    let (mut expected, mut now, mut n) = (0.0, 0.0, 0.0);
    for (row, power) in data.rows.iter().zip(&member.power_w).filter(|(row, _)| row.after) {
        let (sum, count) = before[row.hour];
        if count > 0.0 {
            expected += sum / count;
            now += power;
            n += 1.0;
        }
    }
    (n > 0.0 && expected / n > 10.0).then(|| now / expected)
}

fn change(context: &Context, member: &Member) -> Option<Change> {
    let data = context.data;
    let mut hours = [[(0.0, 0.0); 24]; 2];
    for (row, (&power, &measured)) in data.rows.iter().zip(member.power_w.iter().zip(&member.measured)) {
        if measured {
            let cell = &mut hours[usize::from(row.after)][row.hour];
            cell.0 += power;
            cell.1 += 1.0;
        }
    }
    let per_hour = 1.0 / data.hours;
    let count = |side: usize| hours[side].iter().map(|h| h.1).sum::<f64>() / per_hour;
    if count(0) < 72.0 || count(1) < 3.0 {
        return None;
    }
    let level =
        |side: usize, hour: usize| (hours[side][hour].1 > 0.0).then(|| hours[side][hour].0 / hours[side][hour].1);
    let mut fall_w = [0.0; 24];
    let (mut expected, mut after, mut n, mut peaks) = (0.0, 0.0, 0.0, [0.0f64; 2]);
    for hour in 0..24 {
        let (Some(before), Some(now)) = (level(0, hour), level(1, hour)) else { continue };
        fall_w[hour] = before * context.common - now;
        let weight = hours[1][hour].1;
        expected += before * context.common * weight;
        after += now * weight;
        n += weight;
        peaks = [peaks[0].max(before), peaks[1].max(now)];
    }
    if n < 1.0 {
        return None;
    }
    let (expected_w, after_w) = (expected / n, after / n);
    let days_after = (n / per_hour / 24.0).max(0.1);
    let sd = day_sd(data, member) * context.common;
    let z = (expected_w - after_w) / (sd * (1.0 / days_after + 0.1).sqrt()).max(10.0);
    let spread: f64 = data
        .rows
        .iter()
        .zip(&member.power_w)
        .filter(|(row, _)| row.after)
        .map(|(_, p)| (p - after_w) * (p - after_w))
        .sum::<f64>()
        / n.max(1.0);
    let unevenness = spread.sqrt() / after_w.abs().max(1.0);
    Some(Change { expected_w, after_w, z, fall_w, unevenness, peak: peaks[1] / peaks[0].max(1.0) })
}

/// Standard deviation of the member's daily means before the onset, W.
fn day_sd(data: &Prepared, member: &Member) -> f64 {
    let mut days: Vec<(i64, f64, f64)> = Vec::new();
    for (row, power) in data.rows.iter().zip(&member.power_w).filter(|(row, _)| !row.after) {
        let day = row.end.plus(-1).day();
        match days.last_mut() {
            Some(last) if last.0 == day => (last.1, last.2) = (last.1 + power, last.2 + 1.0),
            _ => days.push((day, *power, 1.0)),
        }
    }
    let means: Vec<f64> = days.iter().filter(|d| d.2 * data.hours >= 20.0).map(|d| d.1 / d.2).collect();
    if means.len() < 3 {
        return f64::INFINITY;
    }
    let average = mean(means.iter().copied());
    (means.iter().map(|m| (m - average) * (m - average)).sum::<f64>() / (means.len() as f64 - 1.0)).sqrt()
}

/// Use fell at the onset by about what is missing. Alone it never names anybody, since people also leave for holidays; a fall in the
/// hours of the loss only, on at least three days, does.
fn fall_evidence(context: &Context, change: &Change, range: Vec<ReadingRange>) -> (Option<Evidence>, bool) {
    let data = context.data;
    let fall = change.expected_w - change.after_w;
    if change.z < 2.5 || data.mean_residual_w <= 0.0 {
        return (None, false);
    }
    let amplitude = fall / data.mean_residual_w;
    let mismatch = (amplitude.max(0.05).ln() / 0.4).powi(2) / 2.0;
    let likeness = likeness(data, change);
    let days = super::after_hours(data) / 24.0;
    let selective = data.selective
        && days >= 3.0
        && likeness > 0.85
        && (0.7..1.4).contains(&amplitude)
        && change.z > 4.0
        && outside_unchanged(data, change);
    let most = if selective { 7.0 } else { 3.5 };
    let weight = (change.z.min(6.0) * 0.7 + 2.0 * likeness - mismatch).clamp(0.0, most);
    if weight <= 0.0 {
        return (None, false);
    }
    let words = format!(
        "use fell from {:.0} W to {:.0} W when energy went missing (neighbours taken into account); {:.0} W are missing{}",
        change.expected_w,
        change.after_w,
        data.mean_residual_w,
        if selective { ", and it fell in the hours of the loss only" } else { "" }
    );
    let evidence = Evidence::new(EvidenceKind::MissingLoad, Direction::For, weight, words, context.history.zone, range);
    (Some(evidence), selective)
}

/// Cosine between the fall and the missing power by hour of the day, 0 to 1.
fn likeness(data: &Prepared, change: &Change) -> f64 {
    let missing = missing_by_hour(data);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in change.fall_w.iter().zip(missing) {
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    (ab / (aa * bb).sqrt().max(1e-9)).clamp(0.0, 1.0)
}

fn missing_by_hour(data: &Prepared) -> [f64; 24] {
    let mut sums = [(0.0, 0.0f64); 24];
    for row in data.rows.iter().filter(|row| row.after) {
        sums[row.hour].0 += row.residual_w;
        sums[row.hour].1 += 1.0;
    }
    sums.map(|(sum, n)| sum / n.max(1.0))
}

/// Outside the hours of the loss the use did not change by more than a quarter of the fall inside.
fn outside_unchanged(data: &Prepared, change: &Change) -> bool {
    let mut active = [false; 24];
    for row in data.rows.iter().filter(|row| row.after) {
        active[row.hour] |= row.active;
    }
    let of = |wanted: bool| mean((0..24).filter(|&h| active[h] == wanted).map(|h| change.fall_w[h]));
    of(false).abs() < 0.25 * of(true)
}

/// A meter that counts 1/(1+g) of the truth must have fallen by that ratio at the onset.
fn ratio_evidence(context: &Context, change: &Change, fit: &Fit, range: Vec<ReadingRange>) -> Option<Evidence> {
    if fit.selective || fit.t < 4.0 || change.expected_w < 20.0 {
        return None;
    }
    let expected = 1.0 / (1.0 + fit.coefficient);
    let ratio = (change.after_w / change.expected_w).max(0.01);
    let miss = (ratio / expected).ln() / 0.35;
    let weight = 1.5 - miss * miss / 2.0;
    let direction = if weight > 0.0 { Direction::For } else { Direction::Against };
    Some(Evidence::new(
        EvidenceKind::ChangeAtOnset,
        direction,
        weight.abs().min(3.0),
        format!(
            "metered use is {:.0} % of its earlier level; a meter that misses this share would show {:.0} %",
            100.0 * ratio,
            100.0 * expected
        ),
        context.history.zone,
        range,
    ))
}

/// Low and flat: fridge and standby only, as of a home that is empty.
fn vacancy(context: &Context, change: &Change, tamper: bool, t: f64, range: Vec<ReadingRange>) -> Option<Evidence> {
    let fell = change.after_w < 0.5 * change.expected_w;
    let flat = change.unevenness < 0.9 && change.peak < 0.45;
    (fell && flat && change.after_w > 3.0).then(|| {
        let weight = if tamper || t >= 5.0 { 0.5 } else { 2.5 };
        Evidence::new(
            EvidenceKind::Vacancy,
            Direction::Against,
            weight,
            format!("what remains ({:.0} W) is small and even: the home may simply be empty", change.after_w),
            context.history.zone,
            range,
        )
    })
}

fn honest_alternatives(context: &Context, member: &Member, range: Vec<ReadingRange>) -> Vec<Evidence> {
    let Context { history, data, common, .. } = *context;
    let mut against = Vec::new();
    let mut push = |kind, weight, words: String| {
        against.push(Evidence::new(kind, Direction::Against, weight, words, history.zone, range.clone()));
    };
    let after = data.rows.iter().zip(&member.measured).filter(|(row, _)| row.after);
    let gaps = 1.0 - mean(after.map(|(_, measured)| f64::from(u8::from(*measured))));
    if gaps > 0.05 {
        push(
            EvidenceKind::MissingReadings,
            (8.0 * gaps).min(4.0),
            format!("{:.0} % of its readings since then are missing and were estimated", 100.0 * gaps),
        );
    }
    let exported: u64 = member.history.slots.iter().flatten().map(|flow| flow.export_wh.0).sum();
    if exported > 0 {
        push(
            EvidenceKind::Generation,
            1.5,
            format!("it fed {:.1} kWh into the network: own generation lowers its import", exported as f64 / 1_000.0),
        );
    }
    if let Some(installed) = member.history.installed
        && installed >= history.onset.plus(-MAPPING_SECONDS)
    {
        push(
            EvidenceKind::MappingChange,
            3.0,
            format!("its meter or its place in the network was changed on {installed}: check the mapping first"),
        );
    }
    if common < 0.8 {
        push(
            EvidenceKind::SharedChange,
            1.0,
            format!("the use of its neighbours fell as well, to {:.0} %", 100.0 * common),
        );
    }
    against
}

/// See [`super::tamper_evidence`]; with an onset only events near it count, and those next to it count more.
pub(super) fn tamper_evidence(
    zone: ZoneId,
    meter: MeterId,
    events: &[MeterEvent],
    onset: Option<Timestamp>,
) -> Vec<Evidence> {
    let mut found: Vec<(MeterEvent, f64)> = Vec::new();
    for (event, tamper) in events.iter().filter_map(|event| Some((event, event.kind.tamper()?))) {
        let mut weight = f64::from(tamper.decinats) / 10.0;
        if let Some(onset) = onset {
            let distance = event.at.seconds_since(onset);
            if distance < -TAMPER_BEFORE_SECONDS {
                continue;
            }
            weight += if distance.abs() <= 6 * 3_600 { 2.0 } else { 0.0 };
        }
        match found.iter_mut().find(|(other, _)| other.kind == event.kind) {
            Some(other) if other.1 >= weight => {}
            Some(other) => *other = (*event, weight),
            None => found.push((*event, weight)),
        }
    }
    found
        .into_iter()
        .map(|(event, weight)| {
            let range = ReadingRange { meter, from: event.at.plus(-900), to: event.at.plus(900) };
            let words = format!("the meter reported '{}' at {}", event.kind.word(), event.at);
            Evidence::new(EvidenceKind::Tamper(event.kind), Direction::For, weight, words, zone, vec![range])
        })
        .collect()
}
