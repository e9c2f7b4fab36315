//! Solar behind the meter: found and sized from the register that exists, with the evidence.
//!
//! With an export register the power that flows out under a high sun tells it. A meter without one shows zeros instead: many under
//! a high sun, few at night. The plane is the one whose clear-sky curve the deepest values follow best; the size comes from their
//! 95 % quantile; without an export register, from how much sun it takes until a given share of the loads vanishes. The place, when
//! nobody gives it, is the one whose sun explains when sites of the same period export. A battery flattens noon and exports at
//! night: then the finding says "solar or battery".

use crate::calendar::DAY_S;
use crate::series::Known;
use crate::sun::{Place, clear_sky, direction, on_plane};

/// kWh an installed kWp gives in an hour of 1 kW/m² on its plane: heat, wiring, inverter, dust.
const PERFORMANCE: f64 = 0.815;
/// Share of full clear-sky power that the sun gives on an average hour, where no export register shows more.
const USUAL_SKY: f64 = 0.49;
/// A usual size and how far it counts where only the import is seen.
const USUAL_KWP: f64 = 3.0;
const USUAL_SHARE: f64 = 0.2;
/// Less than this is a garden lamp or a meter's error, kWp.
const LEAST_KWP: f64 = 0.25;
/// A high sun, W/m² clear sky on the level.
const HIGH_SUN: f64 = 450.0;
/// Without production for so long first, a site counts as installed later, days.
const BARE_DAYS: i64 = 21;
/// Readings without which nothing is said: two weeks of half hours.
pub const READINGS_LEAST: usize = 48 * 14;
const PLANES: [(f64, f64); 28] = planes();

const fn planes() -> [(f64, f64); 28] {
    let (tilts, azimuths) = ([15.0, 25.0, 35.0, 45.0], [90.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0]);
    let mut out = [(0.0, 0.0); 28];
    let mut at = 0;
    while at < 28 {
        out[at] = (tilts[at / 7], azimuths[at % 7]);
        at += 1;
    }
    out
}

/// Which registers a meter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// Import minus export.
    Net,
    /// Import only: what flows out is not counted.
    ImportOnly,
}

/// What a finding rests on.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Evidence {
    /// Share of intervals under the sun in which power flowed out.
    pub export_share: f64,
    /// Share of intervals under a high sun, and of those at night, in which the load vanished.
    pub vanished_by_day: f64,
    pub vanished_by_night: f64,
    /// Share of intervals at night in which power flowed out: a battery.
    pub night_export_share: f64,
    /// Intervals under a high sun looked at.
    pub intervals: usize,
    /// Readings there were; with less than [`READINGS_LEAST`] nothing is judged.
    pub readings: usize,
}

/// What was found at a site.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// Probability of solar.
    pub probability: f64,
    /// Installed power, kWp, when it is probable.
    pub kwp: Option<f64>,
    /// Range in which four of five true sizes lie, kWp.
    pub kwp_range: Option<(f64, f64)>,
    /// Begin of production, unix seconds, when it began within the readings.
    pub installed: Option<i64>,
    /// Tilt and azimuth of the plane that fits best, degrees; only with an export register.
    pub plane: Option<(f64, f64)>,
    /// What it rests on.
    pub evidence: Evidence,
}

impl Finding {
    /// In words; never without the evidence.
    pub fn words(&self) -> String {
        let e = &self.evidence;
        if !self.is_judged() {
            return format!("not judged: {} readings, {READINGS_LEAST} are needed", e.readings);
        }
        let what = if e.night_export_share > 0.02 { "solar or battery" } else { "solar" };
        let sure = if self.probability >= 0.95 {
            ""
        } else if self.probability >= 0.5 {
            "probably "
        } else {
            "no sign of "
        };
        format!(
            "{sure}{what}: {:.0} % of sunlit intervals export, the load vanishes in {:.0} % of intervals under a high sun and {:.0} % at night",
            100.0 * e.export_share,
            100.0 * e.vanished_by_day,
            100.0 * e.vanished_by_night
        )
    }

    /// Whether there were readings enough to say anything.
    pub fn is_judged(&self) -> bool {
        self.evidence.readings >= READINGS_LEAST
    }

    /// Energy that the site may take less from the network in so many days because of what was found, kWh: what excuses a falling bill.
    /// `hours` = full-load hours of a year at the place (900 in London, 1,700 in California).
    pub fn excused_kwh(&self, days: f64, hours: f64) -> f64 {
        self.kwp.map_or(0.0, |kwp| self.probability * kwp * hours * days / 365.25)
    }
}

/// The sun over one set of sites with the same intervals.
struct Sky {
    first_end: i64,
    step_s: i64,
    directions: Vec<[f64; 3]>,
    /// kWh per m² and interval by plane.
    planes: Vec<Vec<f32>>,
}

impl Sky {
    fn new(first_end: i64, step_s: i64, count: usize, place: Place) -> Self {
        let middle = |at: usize| first_end + at as i64 * step_s - step_s / 2;
        let directions: Vec<[f64; 3]> = (0..count).map(|at| direction(middle(at), place)).collect();
        let hours = step_s as f64 / 3_600.0;
        let plane = |(tilt, azimuth): (f64, f64)| {
            directions.iter().map(|d| (on_plane(*d, tilt, azimuth) / 1_000.0 * hours) as f32).collect()
        };
        let planes = PLANES.map(plane).to_vec();
        Self { first_end, step_s, directions, planes }
    }

    fn day(&self, at: usize) -> i64 {
        (self.first_end + at as i64 * self.step_s - 1).div_euclid(DAY_S)
    }
}

/// Looks at sites. Those of the same interval and the same first day are taken as neighbours under one sky when no place is given.
pub fn find(sites: &[Known<'_>], register: Register, place: Option<Place>) -> Vec<Finding> {
    let mut out: Vec<Option<Finding>> = vec![None; sites.len()];
    let key = |k: &Known<'_>| (k.step_s(), k.first_end().div_euclid(DAY_S));
    for first in 0..sites.len() {
        if out[first].is_some() {
            continue;
        }
        let members: Vec<usize> = (first..sites.len()).filter(|at| key(&sites[*at]) == key(&sites[first])).collect();
        let count = members.iter().map(|m| sites[*m].values().len()).max().unwrap_or(0);
        let begin = members.iter().map(|m| sites[*m].first_end()).min().unwrap_or(0);
        let place = place.or_else(|| likely_place(&members.iter().map(|m| sites[*m]).collect::<Vec<_>>()));
        let sky = place.map(|place| Sky::new(begin, sites[first].step_s(), count + 96, place));
        for member in members {
            let mut finding = sky.as_ref().map_or(NOTHING, |sky| judge(&sites[member], sky, register));
            finding.evidence.readings = sites[member].values().iter().filter(|v| v.is_finite()).count();
            out[member] = Some(finding);
        }
    }
    out.into_iter().map(|f| f.unwrap_or(NOTHING)).collect()
}

const NOTHING: Finding = Finding {
    probability: 0.0,
    kwp: None,
    kwp_range: None,
    installed: None,
    plane: None,
    evidence: Evidence {
        export_share: 0.0,
        vanished_by_day: 0.0,
        vanished_by_night: 0.0,
        night_export_share: 0.0,
        intervals: 0,
        readings: 0,
    },
};

/// One reading under the sky: position in the sky, value.
type Seen = (usize, f64);

fn judge(site: &Known<'_>, sky: &Sky, register: Register) -> Finding {
    let shift = ((site.first_end() - sky.first_end) / sky.step_s) as usize;
    let keep = |v: f32| if register == Register::ImportOnly { v.max(0.0) } else { v };
    let seen: Vec<Seen> = (shift..)
        .zip(site.values())
        .filter(|(at, v)| v.is_finite() && *at < sky.directions.len())
        .map(|(at, v)| (at, f64::from(keep(*v))))
        .collect();
    if seen.len() < READINGS_LEAST {
        return NOTHING;
    }
    let mut dark: Vec<f64> = seen.iter().filter(|(at, _)| sky.directions[*at][2] < -0.1).map(|s| s.1).collect();
    dark.sort_unstable_by(f64::total_cmp);
    let base = quantile(&dark, 0.05).max(0.0);
    let vanished = |v: f64| v < 0.3 * base + 1e-3;
    let installed = installed(&seen, sky, register, base);
    let from = installed.map_or(0, |day| ((day * DAY_S - sky.first_end) / sky.step_s).max(0) as usize);
    let after: Vec<Seen> = seen.iter().copied().filter(|(at, _)| *at >= from).collect();
    let evidence = evidence(&after, sky, &dark, vanished);
    let probability = match register {
        Register::Net => logistic(150.0 * (evidence.export_share - 0.035)),
        Register::ImportOnly => logistic(25.0 * (evidence.vanished_by_day - evidence.vanished_by_night - 0.28)),
    };
    if probability < 0.5 {
        return Finding { probability, evidence, ..NOTHING };
    }
    let (kwp, plane, doubt) = match register {
        Register::Net => {
            let (kwp, plane) = size_of_export(&after, sky, base);
            (kwp, Some(plane), 0.15)
        }
        Register::ImportOnly => (size_of_import(&after, sky, &dark), None, 0.5),
    };
    if kwp < LEAST_KWP {
        return Finding { probability: 0.1 * probability, evidence, ..NOTHING };
    }
    let installed = installed.map(|day| day * DAY_S);
    let kwp_range = Some((kwp / (1.0 + doubt), kwp * (1.0 + doubt)));
    Finding { probability, kwp: Some(kwp), kwp_range, installed, plane, evidence }
}

fn evidence(seen: &[Seen], sky: &Sky, dark: &[f64], vanished: impl Fn(f64) -> bool) -> Evidence {
    let share = |over: &mut dyn Iterator<Item = f64>, test: &dyn Fn(f64) -> bool| {
        let (hits, n) = over.fold((0u32, 0u32), |(h, n), v| (h + u32::from(test(v)), n + 1));
        (f64::from(hits) / f64::from(n.max(1)), n as usize)
    };
    let up = |at: usize| sky.directions[at][2];
    let out = |v: f64| v < -0.01;
    let mut high = seen.iter().filter(|s| clear_sky(up(s.0)) > HIGH_SUN).map(|s| s.1);
    let (vanished_by_day, intervals) = share(&mut high, &vanished);
    Evidence {
        export_share: share(&mut seen.iter().filter(|s| up(s.0) > 0.1).map(|s| s.1), &out).0,
        vanished_by_day,
        vanished_by_night: share(&mut dark.iter().copied(), &vanished).0,
        night_export_share: share(&mut dark.iter().copied(), &out).0,
        intervals,
        readings: 0,
    }
}

/// The first day with production, when [`BARE_DAYS`] passed without any and it goes on afterwards.
fn installed(seen: &[Seen], sky: &Sky, register: Register, base: f64) -> Option<i64> {
    let first = sky.day(seen.first()?.0);
    let mut days: Vec<i64> = Vec::new();
    let (mut day, mut hits) = (i64::MIN, 0);
    for (at, value) in seen.iter().filter(|s| sky.directions[s.0][2] > 0.05) {
        let produced = match register {
            Register::Net => *value < -0.02,
            // a load that never rests at night and is gone under the sun
            Register::ImportOnly => base > 0.004 && *value < 1e-3,
        };
        if sky.day(*at) != day {
            (day, hits) = (sky.day(*at), 0);
        }
        hits += i32::from(produced);
        let needed = if register == Register::Net { 1 } else { 2 };
        if produced && hits == needed {
            days.push(day);
        }
    }
    // a single day of zeros is an outage or a reading gone wrong: the day counts when others follow
    let begin = days.iter().enumerate().find(|(i, d)| days.get(i + 4).is_some_and(|later| later - **d <= BARE_DAYS))?;
    (begin.1 - first >= BARE_DAYS).then_some(*begin.1)
}

/// kWp and plane: the plane whose clear-sky curve the deepest readings follow most closely.
fn size_of_export(seen: &[Seen], sky: &Sky, base: f64) -> (f64, (f64, f64)) {
    let mut best = (f64::INFINITY, 0.0, PLANES[0]);
    for (sun, plane) in sky.planes.iter().zip(PLANES) {
        let most = sun.iter().copied().fold(0.0f32, f32::max);
        let mut ratios: Vec<f64> = seen
            .iter()
            .filter(|(at, _)| sun[*at] > 0.25 * most)
            .map(|(at, v)| (base - v) / f64::from(sun[*at]))
            .collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let (deep, less) = (quantile(&ratios, 0.95), quantile(&ratios, 0.8));
        let spread = deep / less.max(1e-6);
        if spread < best.0 {
            best = (spread, deep, plane);
        }
    }
    (best.1.max(0.0) / PERFORMANCE, best.2)
}

/// kWp from the import alone: where a share z of the loads has vanished, the production equals the z-quantile of the loads without sun.
fn size_of_import(seen: &[Seen], sky: &Sky, dark: &[f64]) -> f64 {
    // 25 degrees, south: what is known of the plane without an export register
    let sun = &sky.planes[7 + 3];
    let hours = sky.step_s as f64 / 3_600.0;
    let mut lit: Vec<(f32, f64)> =
        seen.iter().filter(|s| sky.directions[s.0][2] > 0.0).map(|(at, v)| (sun[*at], *v)).collect();
    lit.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let portion = lit.len().div_ceil(40).max(1);
    let mut sizes: Vec<f64> = lit
        .chunks(portion)
        .filter_map(|part| {
            let power = part.iter().map(|p| f64::from(p.0)).sum::<f64>() / part.len() as f64;
            let gone = part.iter().filter(|p| p.1 < 1e-3).count() as f64 / part.len() as f64;
            (gone > 0.15 && gone < 0.9 && power > 0.02 * hours).then(|| quantile(dark, gone) / power)
        })
        .collect();
    sizes.sort_unstable_by(f64::total_cmp);
    let seen = quantile(&sizes, 0.5) / USUAL_SKY;
    if seen > 0.0 { seen.powf(1.0 - USUAL_SHARE) * USUAL_KWP.powf(USUAL_SHARE) } else { USUAL_KWP }
}

/// The place whose clear sky goes best with when the sites' loads vanish or flow out; `None` when nothing does so by day.
/// Times may carry a local clock: then the longitude is that clock's, not the map's.
pub fn likely_place(sites: &[Known<'_>]) -> Option<Place> {
    let first = sites.first()?;
    let (step, slots) = (first.step_s(), (DAY_S / first.step_s()) as usize);
    // shares by fortnight of the year and slot, of the readings at or under a hundredth of the site's mean
    let mut tables: Vec<(f64, Vec<[u32; 2]>)> = sites.iter().map(|s| low_shares(s, step, slots)).collect();
    tables.sort_by(|a, b| b.0.total_cmp(&a.0));
    let strong: Vec<&Vec<[u32; 2]>> = tables.iter().filter(|t| t.0 > 0.15).take(12).map(|t| &t.1).collect();
    if strong.is_empty() {
        return None;
    }
    let share = |cell: usize| {
        let (low, n) = strong.iter().fold((0u32, 0u32), |(l, n), t| (l + t[cell][0], n + t[cell][1]));
        (n > 0).then(|| f64::from(low) / f64::from(n))
    };
    let cells: Vec<(i64, f64)> = (0..26 * slots)
        .filter_map(|cell| {
            // a day in the middle of the fortnight of 2013; the sun's year repeats
            let day = 15_706 + 14 * (cell / slots) as i64 + 7;
            share(cell).map(|s| (day * DAY_S + (cell % slots) as i64 * step + step / 2, s))
        })
        .collect();
    let fit = |latitude: i32, longitude: i32| {
        let place = Place { latitude: f64::from(latitude), longitude: f64::from(longitude) };
        let suns: Vec<(f64, f64)> = cells.iter().map(|(t, s)| (clear_sky(direction(*t, place)[2]), *s)).collect();
        // how much sun it takes until loads vanish depends on the sites
        let fit_at =
            |enough: f64| correlation(&suns.iter().map(|(w, s)| ((w / enough).min(1.0), *s)).collect::<Vec<_>>());
        [80.0, 160.0, 320.0, 640.0].map(fit_at).into_iter().fold(f64::NEG_INFINITY, f64::max)
    };
    let starts = [40, -36].into_iter().flat_map(|side| (-180..180).step_by(6).map(move |noon| (side, noon)));
    let (side, noon) = starts.max_by(|a, b| fit(a.0, a.1).total_cmp(&fit(b.0, b.1)))?;
    let (mut best, mut place) = (f64::NEG_INFINITY, (side, noon));
    for (latitudes, longitudes, step) in [(26, 9, 4), (3, 2, 1)] {
        let centre = place;
        for latitude in (centre.0 - latitudes..=centre.0 + latitudes).step_by(step) {
            for longitude in (centre.1 - longitudes..=centre.1 + longitudes).step_by(step.min(3)) {
                let score = fit(latitude, longitude);
                if score > best {
                    (best, place) = (score, (latitude, longitude));
                }
            }
        }
    }
    let place = Place { latitude: f64::from(place.0), longitude: f64::from(place.1) };
    (best > 0.3).then_some(place)
}

/// How differently the hours of the day vanish (0 … 1), and counts (low, all) by fortnight and slot.
fn low_shares(site: &Known<'_>, step: i64, slots: usize) -> (f64, Vec<[u32; 2]>) {
    let finite = || site.values().iter().filter(|v| v.is_finite());
    let mean = finite().map(|v| f64::from(v.abs())).sum::<f64>() / finite().count().max(1) as f64;
    let mut cells = vec![[0u32; 2]; 26 * slots];
    let mut by_slot = vec![[0u32; 2]; slots];
    for (at, value) in site.values().iter().enumerate().filter(|(_, v)| v.is_finite()) {
        let begin = site.first_end() + (at as i64 - 1) * step;
        let (day, slot) = (begin.div_euclid(DAY_S), (begin.rem_euclid(DAY_S) / step) as usize);
        let (year, _, _) = crate::calendar::date(day);
        let fortnight = ((day - crate::calendar::day_of(year, 1, 1)) / 14).min(25) as usize;
        let low = u32::from(f64::from(*value) < 0.01 * mean);
        for cell in [&mut cells[fortnight * slots + slot], &mut by_slot[slot]] {
            cell[0] += low;
            cell[1] += 1;
        }
    }
    let share = |c: &[u32; 2]| f64::from(c[0]) / f64::from(c[1].max(1));
    let most = by_slot.iter().map(share).fold(0.0, f64::max);
    let least = by_slot.iter().map(share).fold(1.0, f64::min);
    (most - least, cells)
}

fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let n = pairs.len().max(1) as f64;
    let (ma, mb) = (pairs.iter().map(|p| p.0).sum::<f64>() / n, pairs.iter().map(|p| p.1).sum::<f64>() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 1e-12, 1e-12);
    for (a, b) in pairs {
        ab += (a - ma) * (b - mb);
        aa += (a - ma).powi(2);
        bb += (b - mb).powi(2);
    }
    ab / (aa * bb).sqrt()
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(((share * sorted.len() as f64) as usize).min(last)).copied().unwrap_or(0.0)
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
