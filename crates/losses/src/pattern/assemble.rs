//! From a population to the tables that the models see: one row of features and one weekly course per customer.

use crate::pattern::canary::{Dice, draw_kind, tamper};
use crate::pattern::features::{self, Background, Prepared};
use crate::pattern::population::Population;
use crate::pattern::trees::Rows;
use crate::pattern::{ModelError, observer, sequence, signature};

/// Fewest customers from whose median a seasonal curve of their own is taken; below it the model's curve is used.
pub const LEAST_FOR_CURVE: usize = 200;

/// What the models see.
#[derive(Debug, Clone, Default)]
pub struct Assembled {
    /// Features; NaN = missing.
    pub rows: Rows,
    /// Weekly courses for the sequence model.
    pub courses: Vec<Vec<f32>>,
    /// Energy in kWh that lacks to the customer's usual level over the record: a bound for what could be recovered.
    pub lacking_kwh: Vec<f64>,
}

/// Names of the features, in the order of the columns.
pub fn names(with_zones: bool) -> Vec<String> {
    let mut names = features::names();
    names.extend(signature::NAMES.iter().map(|n| (*n).to_owned()));
    if with_zones {
        names.extend(observer::NAMES.iter().map(|n| (*n).to_owned()));
    }
    names
}

/// Computes all features on `threads` threads. Zone columns are there when `with_zones`; a zone without meter has NaN.
pub fn assemble(
    population: &Population,
    background: &Background,
    with_zones: bool,
    threads: usize,
) -> Result<Assembled, ModelError> {
    if background.seasonal.len() != population.days {
        return Err(ModelError::Scoring(format!(
            "the seasonal curve has {} days and the customers {}; score at least {LEAST_FOR_CURVE} customers together, \
             or the same days as the model was trained on",
            background.seasonal.len(),
            population.days
        )));
    }
    let own = own_features(population, background, threads);
    let width = OWN_COLUMNS;
    let zones = with_zones.then(|| zone_features(population, background, threads));
    let columns = width + if with_zones { observer::NAMES.len() } else { 0 };
    let mut assembled = Assembled { rows: Rows { values: Vec::new(), columns }, ..Assembled::default() };
    assembled.rows.values.reserve(columns * own.len());
    for (index, (row, course, lacking)) in own.into_iter().enumerate() {
        assembled.rows.values.extend(row);
        if let Some(zones) = &zones {
            assembled.rows.values.extend(&zones[index]);
        }
        assembled.courses.push(course);
        assembled.lacking_kwh.push(lacking);
    }
    Ok(assembled)
}

/// Copies of all customers' records with a theft written into each.
#[derive(Debug, Clone, Default)]
pub struct Canaries {
    /// The customer of whom each is a copy.
    pub owners: Vec<usize>,
    /// Own features (no zone columns).
    pub rows: Rows,
    /// Weekly courses.
    pub courses: Vec<Vec<f32>>,
}

/// Number of features that need the customer's own record alone.
pub const OWN_COLUMNS: usize = features::COUNT + signature::NAMES.len();

/// One copy of every customer with a theft drawn from `seed`. Labels are not looked at; who trains picks by owner.
pub fn canaries(population: &Population, background: &Background, seed: u64, threads: usize) -> Canaries {
    let owners: Vec<usize> = (0..population.customers.len()).collect();
    let made = in_parallel(&owners, threads, |&owner| {
        let mut dice = Dice::new(seed.wrapping_mul(1_000_003).wrapping_add(owner as u64));
        let kind = draw_kind(&mut dice);
        let canary = tamper(&population.customers[owner].kwh, kind, &mut dice);
        let series = Prepared::new(&canary.kwh, background);
        let mut row = Vec::with_capacity(OWN_COLUMNS);
        features::extract(&series, background, &mut row);
        signature::extract(&series, background, &mut row);
        (row, sequence::input(&series))
    });
    let mut canaries =
        Canaries { owners, rows: Rows { values: Vec::new(), columns: OWN_COLUMNS }, courses: Vec::new() };
    for (row, course) in made {
        canaries.rows.values.extend(row);
        canaries.courses.push(course);
    }
    canaries
}

type Own = (Vec<f64>, Vec<f32>, f64);

fn own_features(population: &Population, background: &Background, threads: usize) -> Vec<Own> {
    in_parallel(&population.customers, threads, |customer| {
        let series = Prepared::new(&customer.kwh, background);
        let mut row = Vec::with_capacity(OWN_COLUMNS);
        features::extract(&series, background, &mut row);
        signature::extract(&series, background, &mut row);
        (row, sequence::input(&series), lacking(&series, background))
    })
}

/// Energy below the usual level (85th percentile of x / ref), summed over the record.
fn lacking(series: &Prepared, background: &Background) -> f64 {
    let level = crate::pattern::statistics::quantile(&series.ratio, 0.85) * series.mean;
    let below = series.kwh.iter().zip(&background.seasonal).filter(|(x, _)| !x.is_nan());
    below.map(|(x, r)| (level * r - x).max(0.0)).filter(|v| v.is_finite()).sum()
}

fn zone_features(population: &Population, background: &Background, threads: usize) -> Vec<Vec<f64>> {
    let groups: Vec<(&str, Vec<usize>)> = population.by_transformer().into_iter().collect();
    let found = in_parallel(&groups, threads, |(transformer, members)| {
        let supplied = population.zones.get(*transformer)?;
        let customers = members.iter().map(|&i| population.customers[i].kwh.as_slice()).collect();
        Some(observer::extract(&observer::Zone { customers, supplied, seasonal: &background.seasonal }))
    });
    let mut rows = vec![vec![f64::NAN; observer::NAMES.len()]; population.customers.len()];
    for ((_, members), zone) in groups.iter().zip(found) {
        for (&member, row) in members.iter().zip(zone.into_iter().flatten()) {
            rows[member] = row;
        }
    }
    rows
}

/// Maps in input order on several threads; the result does not depend on their number.
pub fn in_parallel<T: Sync, R: Send>(items: &[T], threads: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let size = items.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let handles: Vec<_> =
            items.chunks(size).map(|part| scope.spawn(|| part.iter().map(&work).collect::<Vec<R>>())).collect();
        handles
            .into_iter()
            .flat_map(|handle| match handle.join() {
                Ok(part) => part,
                // A panic of the work is the caller's panic.
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    })
}
