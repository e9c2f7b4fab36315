//! Loads and generators that follow the sun: street lighting past all meters, generation that nobody counts.
//!
//! Elevation of the sun by the usual short formulas (declination 23.44°·sin(360°/365·(N + 284)), equation of time in three terms;
//! within a degree of the almanac, which is four minutes of dusk).

use metering::Timestamp;

use super::engine::Engine;
use super::series::{Prepared, Site};
use super::{Correction, Finding, FindingKind, Subject, number, subject};
use crate::balance::MemberId;

/// Elevations at which lighting is switched: sunset, and two settings of dusk.
const DUSK_DEGREES: [f64; 3] = [-0.83, -3.0, -6.0];
/// Least z of either.
const Z_MIN: f64 = 8.0;
/// By how much darkness must beat every fixed window of hours, in nats, to be sure.
const LEAD: f64 = 5.0;
/// Furthest that a window's ends may lie from dusk and dawn when it explains the loss as well, hours.
const NEAR_HOURS: f64 = 0.6;

/// Elevation of the sun in degrees.
pub(super) fn elevation(at: Timestamp, site: Site) -> f64 {
    let day = at.day() as f64;
    let of_year = (day - 10_957.0).rem_euclid(365.25);
    let declination = 23.44 * (360.0 / 365.0 * (of_year + 1.0 + 284.0)).to_radians().sin();
    let b = (360.0 / 364.0 * (of_year + 1.0 - 81.0)).to_radians();
    let equation_minutes = 9.87 * (2.0 * b).sin() - 7.53 * b.cos() - 1.5 * b.sin();
    let hours = at.second_of_day() as f64 / 3_600.0 + site.longitude / 15.0 + equation_minutes / 60.0;
    let angle = (15.0 * (hours - 12.0)).to_radians();
    let (lat, dec) = (site.latitude.to_radians(), declination.to_radians());
    (lat.sin() * dec.sin() + lat.cos() * dec.cos() * angle.cos()).clamp(-1.0, 1.0).asin().to_degrees()
}

/// Share of each slot that is darker than `degrees`.
fn darkness(data: &Prepared, site: Site, degrees: f64) -> Vec<f64> {
    let step = i64::from(data.series.minutes) * 60;
    let samples = 6;
    let dark = |end: Timestamp| {
        let below = (0..samples)
            .filter(|s| elevation(end.plus(-step + step * (2 * s + 1) / (2 * samples)), site) < degrees)
            .count();
        below as f64 / samples as f64
    };
    data.ends.iter().map(|end| dark(*end)).collect()
}

/// Members that feed in although no generator is registered.
pub(super) fn unregistered_generation(data: &Prepared) -> Vec<Finding> {
    data.members
        .iter()
        .filter(|m| !m.series.generates && matches!(m.series.id, MemberId::UsagePoint(_)))
        .filter_map(|member| {
            let fed: f64 = member.export_wh.iter().filter(|e| !e.is_nan()).sum();
            let days = data.ends.len() as f64 / data.per_day as f64;
            let at_day: f64 = (0..data.ends.len())
                .filter(|&t| !member.export_wh[t].is_nan())
                .filter(|&t| data.series.site.is_none_or(|site| elevation(data.ends[t], site) > -3.0))
                .map(|t| member.export_wh[t])
                .sum();
            (fed > 100.0 * days).then(|| Finding {
                kind: FindingKind::Solar,
                zone: data.series.zone,
                subject: subject(member.series.id, member.series.meter),
                correction: Correction::RegisterGeneration,
                confidence: 0.95,
                words: format!(
                    "meter {} fed {:.1} kWh into the network and no generator is registered there: a fall of its import is explained",
                    member.series.meter,
                    fed / 1_000.0
                ),
                numbers: vec![number("fed in", fed, "Wh"), number("of it by day", at_day / fed.max(1.0), "")],
            })
        })
        .collect()
}

/// Lighting past all meters, and generation behind a meter that does not count what it feeds in.
pub(super) fn search(data: &Prepared, found: &[Finding]) -> Vec<Finding> {
    // A fault of the whole balance shows by day and night as well.
    let whole = found.iter().any(|f| matches!(f.subject, Subject::Observer { zone, .. } if zone == data.series.zone));
    let Some(site) = data.series.site.filter(|_| !whole) else { return Vec::new() };
    let engine = Engine::new(data, false);
    let target = engine.scale(&data.residual_wh);
    let mut all: Vec<Finding> = lighting(data, &engine, &target, site).into_iter().collect();
    all.extend(hidden_generation(data, &engine, &target, site, found));
    all
}

fn lighting(data: &Prepared, engine: &Engine, target: &super::engine::Scaled, site: Site) -> Option<Finding> {
    let (dusk, fit) = DUSK_DEGREES
        .iter()
        .map(|d| (*d, engine.fit(&engine.scale(&lit(data, site, *d)), target)))
        .max_by(|a, b| a.1.raw_z.total_cmp(&b.1.raw_z))?;
    if fit.z < Z_MIN || fit.coefficient < 20.0 {
        return None;
    }
    let scale = (fit.z / fit.raw_z).powi(2);
    // A fixed time switch, and every member's use at night, must not explain it as well.
    let (window_z, from, to) = best_window(data, engine, target);
    let dark = darkness(data, site, DUSK_DEGREES[0]);
    let member_z = data
        .members
        .iter()
        .map(|m| {
            let at_night: Vec<f64> = m.net_wh.iter().zip(&dark).map(|(v, d)| v * d).collect();
            engine.quick(&engine.scale(&at_night), target).1.max(engine.quick(&engine.scale(&m.net_wh), target).1)
        })
        .fold(0.0, f64::max);
    let lead = |other: f64| 0.5 * (fit.raw_z.powi(2) - other * other.abs()) * scale;
    if lead(member_z) < LEAD {
        return None;
    }
    let (set, rise) = dusk_and_dawn(data, site, dusk);
    let apart = |a: f64, b: f64| ((a - b + 12.0).rem_euclid(24.0) - 12.0).abs();
    let near = apart(from, set) < NEAR_HOURS && apart(to, rise) < NEAR_HOURS;
    let confidence = match lead(window_z) {
        l if l >= LEAD => 0.95,
        l if l > -LEAD && near => 0.6,
        _ => return None,
    };
    let watts = fit.coefficient;
    Some(Finding {
        kind: FindingKind::PublicSupply,
        zone: data.series.zone,
        subject: Subject::Zone { zone: data.series.zone },
        correction: Correction::RegisterUnmeteredSupply { watts },
        confidence,
        words: format!(
            "{watts:.0} W are missing from dusk to dawn and not by day: probably street lighting without a meter"
        ),
        numbers: vec![
            number("power in the dark", watts, "W"),
            number("z", fit.z, ""),
            number("elevation at which it switches", dusk, "°"),
            number("lead over a fixed time switch", lead(window_z), "nat"),
            number("lead over any meter's own use", lead(member_z), "nat"),
        ],
    })
}

fn lit(data: &Prepared, site: Site, degrees: f64) -> Vec<f64> {
    darkness(data, site, degrees).iter().map(|d| d * data.hours).collect()
}

/// Mean hours (UTC) of dusk and dawn over the series.
fn dusk_and_dawn(data: &Prepared, site: Site, degrees: f64) -> (f64, f64) {
    let middle = data.ends[data.ends.len() / 2];
    let midnight = middle.plus(-middle.second_of_day());
    let dark: Vec<bool> = (0..288).map(|i| elevation(midnight.plus(300 * i), site) < degrees).collect();
    let at = |rising: bool| {
        (0..288usize).find(|&i| dark[i] != rising && dark[(i + 287) % 288] == rising).map_or(0.0, |i| i as f64 / 12.0)
    };
    (at(false), at(true))
}

/// The best constant load in fixed hours (UTC): (raw z, from, to).
fn best_window(data: &Prepared, engine: &Engine, target: &super::engine::Scaled) -> (f64, f64, f64) {
    let step = 24.0 / data.per_day as f64;
    let coarse = (0.5 / step).max(1.0) * step;
    let steps = (24.0 / coarse) as usize;
    let hour = |t: usize| {
        let middle = data.ends[t].plus(-(data.hours * 1_800.0) as i64);
        middle.second_of_day() as f64 / 3_600.0
    };
    let hours: Vec<f64> = (0..data.ends.len()).map(hour).collect();
    let mut best = (0.0, 0.0, 0.0);
    for start in 0..steps {
        for length in (3.0 / coarse) as usize..(20.0 / coarse) as usize {
            let (from, long) = (start as f64 * coarse, length as f64 * coarse);
            let inside = |h: &f64| (h - from).rem_euclid(24.0) < long;
            let column: Vec<f64> = hours.iter().map(|h| if inside(h) { data.hours } else { 0.0 }).collect();
            let (_, z) = engine.quick(&engine.scale(&column), target);
            if z > best.0 {
                best = (z, from, (from + long).rem_euclid(24.0));
            }
        }
    }
    best
}

/// A member that draws nothing while the sun is high and the zone has energy in surplus then: what it feeds in is not counted.
fn hidden_generation(
    data: &Prepared,
    engine: &Engine,
    target: &super::engine::Scaled,
    site: Site,
    found: &[Finding],
) -> Option<Finding> {
    let height: Vec<f64> = data
        .ends
        .iter()
        .map(|end| elevation(end.plus(-(data.hours * 1_800.0) as i64), site).to_radians().sin().max(0.0))
        .collect();
    let mut best = None::<(f64, usize, super::engine::Fit)>;
    for (at, member) in data.members.iter().enumerate() {
        let about = subject(member.series.id, member.series.meter);
        let fed: f64 = member.export_wh.iter().filter(|e| !e.is_nan()).sum();
        if fed > 0.0 || found.iter().any(|f| f.subject == about) {
            continue;
        }
        let mean = member.net_wh.iter().sum::<f64>() / member.net_wh.len() as f64;
        let idle = |t: usize| !member.import_wh[t].is_nan() && member.import_wh[t] < 0.05 * mean;
        let column: Vec<f64> =
            height.iter().enumerate().map(|(t, h)| if idle(t) { -h * data.hours } else { 0.0 }).collect();
        if column.iter().filter(|c| **c < 0.0).count() < data.per_day / 4 {
            continue;
        }
        let fit = engine.fit(&engine.scale(&column), target);
        if fit.z > Z_MIN && fit.coefficient > 200.0 && best.is_none_or(|b| fit.raw_z > b.0) {
            best = Some((fit.raw_z, at, fit));
        }
    }
    let (_, at, fit) = best?;
    let member = data.members[at].series;
    Some(Finding {
        kind: FindingKind::Solar,
        zone: data.series.zone,
        subject: subject(member.id, member.meter),
        correction: Correction::RegisterGeneration,
        confidence: 0.85,
        words: format!(
            "the zone has up to {:.1} kW in surplus while the sun is high and meter {} counts nothing: it probably feeds in and its \
             meter does not count that",
            fit.coefficient / 1_000.0,
            member.meter
        ),
        numbers: vec![number("surplus at zenith", fit.coefficient, "W"), number("z", fit.z, "")],
    })
}
