//! Outages from last gasps and silence: evidence per meter, lifted to the lowest element of the network that explains it.
//!
//! A silent meter says little: links fail. Each meter has its own silence rate; at an element the silent children are weighed against it
//! by a binomial tail (Poisson-binomial, computed exactly). A last gasp is a witness of its own. The concentrator's silence is
//! explained away first: where nothing gasped, silence of meters that all report through one concentrator is the link's, and an
//! outage there without a single last gasp is not told from it.

use core::ops::Range;

/// One element of the network: meters are the leaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Element {
    /// Position of the element that feeds it.
    pub parent: Option<usize>,
    /// Meters only: share of its reporting intervals in which it is silent without an outage.
    pub silence_rate: Option<f64>,
    /// Meters only: the concentrator it reports through.
    pub concentrator: Option<usize>,
}

/// What was seen of a meter lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It reported, last at that time (unix seconds).
    Reports(i64),
    /// Nothing since that time, for three reporting intervals.
    Silent(i64),
    /// It said that its supply was gone, at that time.
    LastGasp(i64),
}

impl Sign {
    fn lost(self) -> Option<i64> {
        match self {
            Sign::Reports(_) => None,
            Sign::Silent(at) | Sign::LastGasp(at) => Some(at),
        }
    }
}

/// An outage at an element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outage {
    /// Where.
    pub element: usize,
    /// Begin: the earliest last gasp, or the middle of the silences' begins, unix seconds.
    pub since: i64,
    /// Meters without supply, as far as seen, of those below.
    pub meters: usize,
    pub of_meters: usize,
    /// Probability that so much silence comes about by chance; small = sure.
    pub chance: f64,
}

/// Least share of an element's meters that must be lost, and least number for an element above a single meter.
const SHARE_LEAST: f64 = 0.6;
const METERS_LEAST: usize = 3;
/// Share of a concentrator's meters that fell silent at once without a last gasp: then the link is at fault. Above a half, so that one branch
/// of two behind it is still seen.
const SHARE_LINK: f64 = 0.55;
/// Chance below which silence is an outage: less than one false group in 1,000 transformer-years, when a transformer with four elements is
/// looked at every quarter of an hour (1/1,000/35,064/4 = 7e-9), and a tenth of that for rates that are not quite known.
const CHANCE_MOST: f64 = 7e-10;
/// Begins further apart than this do not belong together, seconds.
const TOGETHER_S: i64 = 180;

/// Groups what is lost; `signs` by element (only meters' are read). Outages come in order of elements, none inside another.
///
/// `None` when a parent does not exist or parents form a ring.
pub fn group(elements: &[Element], signs: &[Sign]) -> Option<Vec<Outage>> {
    let below = meters_below(elements)?;
    let quiet_links = quiet_concentrators(elements, signs);
    let lost: Vec<Option<i64>> = elements
        .iter()
        .zip(signs)
        .map(|(e, sign)| {
            let link = e.concentrator.is_some_and(|c| quiet_links.contains(&c));
            let gasped = matches!(sign, Sign::LastGasp(_));
            e.silence_rate.and_then(|_| if link && !gasped { None } else { sign.lost() })
        })
        .collect();
    let mut out: Vec<Outage> = Vec::new();
    let found: Vec<Option<Outage>> = (0..elements.len())
        .map(|at| {
            if elements[at].silence_rate.is_some() {
                single(at, signs[at])
            } else {
                explain(at, &below[at], elements, signs, &lost)
            }
        })
        .collect();
    for (at, outage) in found.iter().enumerate() {
        let Some(outage) = outage else { continue };
        // an element above is only to blame when more than one of its branches is out
        let mut above = elements[at].parent;
        let mut explained = false;
        while let Some(up) = above {
            explained |= found[up].is_some_and(|o| is_wider(&o, outage, elements, &found));
            above = elements[up].parent;
        }
        if !explained && !is_hollow(at, elements, &found) {
            out.push(*outage);
        }
    }
    Some(out)
}

/// Whether the upper outage covers meters beyond the lower one: else the lower element explains everything.
fn is_wider(upper: &Outage, lower: &Outage, elements: &[Element], found: &[Option<Outage>]) -> bool {
    upper.meters > lower.meters && !is_hollow(upper.element, elements, found)
}

/// Whether a single child explains all that is lost at an element.
fn is_hollow(at: usize, elements: &[Element], found: &[Option<Outage>]) -> bool {
    let Some(own) = found[at] else { return true };
    elements.iter().zip(found).any(|(e, o)| {
        e.parent == Some(at)
            && e.silence_rate.is_none()
            && o.is_some_and(|o| o.meters == own.meters && own.of_meters > o.of_meters)
    })
}

/// A single meter's outage is believed from a last gasp only.
fn single(at: usize, sign: Sign) -> Option<Outage> {
    match sign {
        Sign::LastGasp(since) => Some(Outage { element: at, since, meters: 1, of_meters: 1, chance: 1e-3 }),
        _ => None,
    }
}

fn explain(at: usize, meters: &[usize], elements: &[Element], signs: &[Sign], lost: &[Option<i64>]) -> Option<Outage> {
    let mut begins: Vec<i64> = meters.iter().filter_map(|m| lost[*m]).collect();
    if begins.len() < METERS_LEAST.min(meters.len()) || meters.len() < 2 {
        return None;
    }
    begins.sort_unstable();
    let cluster = densest(&begins);
    let count = cluster.len();
    let within = begins[cluster.start]..=begins[cluster.end - 1];
    if count < METERS_LEAST.min(meters.len()) || (count as f64) < SHARE_LEAST * meters.len() as f64 {
        return None;
    }
    let gasps: Vec<i64> = meters
        .iter()
        .filter_map(|m| if let Sign::LastGasp(t) = signs[*m] { Some(t) } else { None })
        .filter(|t| within.contains(t))
        .collect();
    // silence alone behind one concentrator may be the link's, also while its meters come back one by one
    let mut links =
        meters.iter().filter(|m| lost[**m].is_some_and(|t| within.contains(&t))).map(|m| elements[*m].concentrator);
    let one_link = links.next().flatten().is_some_and(|first| links.all(|other| other == Some(first)));
    if gasps.is_empty() && one_link {
        return None;
    }
    let rates: Vec<f64> = meters.iter().filter_map(|m| elements[*m].silence_rate).collect();
    // each last gasp is a thousand times rarer by mistake than a silence
    let chance = tail(&rates, count) * 1e-3f64.powi(gasps.len().min(5) as i32);
    let since = gasps.iter().min().copied().unwrap_or(begins[cluster.start + count / 2]);
    (chance <= CHANCE_MOST).then_some(Outage { element: at, since, meters: count, of_meters: meters.len(), chance })
}

/// The most begins that lie together.
fn densest(sorted: &[i64]) -> Range<usize> {
    let mut best = 0..0;
    let mut start = 0;
    for end in 1..=sorted.len() {
        while sorted[end - 1] - sorted[start] > TOGETHER_S {
            start += 1;
        }
        if end - start > best.len() {
            best = start..end;
        }
    }
    best
}

/// Probability that at least `least` of independent events happen.
fn tail(rates: &[f64], least: usize) -> f64 {
    let mut chances = vec![0.0; least + 1];
    chances[0] = 1.0;
    for rate in rates {
        for k in (0..=least).rev() {
            let stays = if k == least { chances[k] } else { chances[k] * (1.0 - rate) };
            chances[k] = stays + if k > 0 { chances[k - 1] * rate } else { 0.0 };
        }
    }
    chances[least]
}

/// Concentrators behind which as much fell silent at once as makes an outage, and nothing gasped: also one that comes back, whose
/// meters report again one after the other.
fn quiet_concentrators(elements: &[Element], signs: &[Sign]) -> Vec<usize> {
    let mut seen: std::collections::BTreeMap<usize, (usize, usize, Vec<i64>)> = std::collections::BTreeMap::new();
    for (element, sign) in elements.iter().zip(signs) {
        if let Some(link) = element.concentrator {
            let entry = seen.entry(link).or_default();
            entry.0 += 1;
            match sign {
                Sign::LastGasp(_) => entry.1 += 1,
                Sign::Silent(at) => entry.2.push(*at),
                Sign::Reports(_) => {}
            }
        }
    }
    let quiet = |(all, gasps, mut begins): (usize, usize, Vec<i64>)| {
        begins.sort_unstable();
        // the share that is left of a fault whose meters come back one by one
        let together = densest(&begins).len();
        gasps == 0 && together >= METERS_LEAST && together as f64 >= SHARE_LINK * all as f64
    };
    seen.into_iter().filter_map(|(link, counts)| quiet(counts).then_some(link)).collect()
}

fn meters_below(elements: &[Element]) -> Option<Vec<Vec<usize>>> {
    let mut below = vec![Vec::new(); elements.len()];
    for (meter, element) in elements.iter().enumerate().filter(|(_, e)| e.silence_rate.is_some()) {
        let (mut above, mut steps) = (element.parent, 0);
        while let Some(up) = above {
            below.get_mut(up)?.push(meter);
            above = elements[up].parent;
            steps += 1;
            if steps > elements.len() {
                return None;
            }
        }
    }
    Some(below)
}

/// One customer's interruption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interruption {
    /// Customers without supply.
    pub customers: u64,
    /// How long, seconds.
    pub duration_s: i64,
}

/// Indices of IEEE 1366 over a period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reliability {
    /// Minutes of interruption per customer served.
    pub saidi_minutes: f64,
    /// Interruptions per customer served.
    pub saifi: f64,
    /// Minutes per interruption of a customer; `None` without one.
    pub caidi_minutes: Option<f64>,
}

/// Interruptions of five minutes and less are momentary and do not count (IEEE 1366).
const SUSTAINED_S: i64 = 300;

/// The indices; `None` without customers.
pub fn reliability(interruptions: &[Interruption], customers: u64) -> Option<Reliability> {
    if customers == 0 {
        return None;
    }
    let sustained = || interruptions.iter().filter(|i| i.duration_s > SUSTAINED_S);
    let minutes: f64 = sustained().map(|i| i.customers as f64 * i.duration_s as f64 / 60.0).sum();
    let hit: f64 = sustained().map(|i| i.customers as f64).sum();
    let n = customers as f64;
    Some(Reliability { saidi_minutes: minutes / n, saifi: hit / n, caidi_minutes: (hit > 0.0).then(|| minutes / hit) })
}

/// Energy not served: the forecast's expectations over the gap, kWh; the first and last interval in part. `ends` of intervals of `step_s`.
pub fn energy_not_served(means: &[f32], ends: &[i64], step_s: i64, since: i64, until: i64) -> f64 {
    let part = |end: i64| ((until.min(end) - since.max(end - step_s)).max(0)) as f64 / step_s as f64;
    means.iter().zip(ends).map(|(m, end)| f64::from(m.max(0.0)) * part(*end)).sum()
}
