//! The customers, zones and weather a pattern model is trained on or scores, and how they are read from tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::pattern::inspection::Selection;
use crate::pattern::{assemble, statistics};
use crate::tables::{Batches, Table, TableError};

/// Fewest days with which a series says anything about patterns.
pub const LEAST_DAYS: usize = 120;

/// One customer's record.
#[derive(Debug, Clone, PartialEq)]
pub struct Customer {
    /// The customer's id.
    pub id: String,
    /// The transformer (zone) the customer hangs on.
    pub transformer: String,
    /// Outcome of an inspection where known: true = theft found.
    pub label: Option<bool>,
    /// Why the customer was inspected, where known.
    pub selection: Option<Selection>,
    /// Energy stolen over the record in kWh, where known.
    pub stolen_kwh: Option<f64>,
    /// Daily consumption in kWh, index 0 = first day; NaN = not metered.
    pub kwh: Vec<f64>,
}

/// Customers with a common calendar, the observer meters of their zones and the weather.
#[derive(Debug, Clone, Default)]
pub struct Population {
    /// All customers; every series has `days` entries.
    pub customers: Vec<Customer>,
    /// Daily energy in kWh through the observer meter, by transformer; NaN = not metered. May be empty.
    pub zones: BTreeMap<String, Vec<f64>>,
    /// Daily mean outdoor temperature in °C. May be empty.
    pub temperature_c: Vec<f64>,
    /// Days of the calendar.
    pub days: usize,
}

/// Columns of the customers' table.
const COLUMNS: [&str; 6] = ["id", "transformer", "kwh", "label", "selection", "stolen_kwh"];

impl Population {
    /// Reads customers (columns `id`, `transformer`, `kwh`; `label`, `selection` and `stolen_kwh` where present), zones (`transformer`,
    /// `kwh`), weather (`temperatureMax`, `temperatureMin` or `temperature_c`) and details of known thefts (`id`, `stolen_kwh`).
    pub fn read(
        customers: &Path,
        zones: Option<&Path>,
        weather: Option<&Path>,
        details: Option<&Path>,
    ) -> Result<Self, TableError> {
        let mut population = read_customers(Batches::open(customers, Some(&COLUMNS))?.next(usize::MAX)?)?;
        if let Some(path) = zones {
            population.zones = read_zones(Table::read(path)?, population.days)?;
        }
        if let Some(path) = weather {
            population.temperature_c = read_weather(&Table::read(path)?, population.days)?;
        }
        if let Some(path) = details {
            let table = Table::read(path)?;
            let stolen = table.reals("stolen_kwh")?;
            let by_id: BTreeMap<String, f64> = table.texts("id")?.into_iter().zip(stolen).collect();
            for customer in &mut population.customers {
                customer.stolen_kwh = by_id.get(&customer.id).copied();
            }
        }
        Ok(population)
    }

    /// Indices of the customers of each transformer, in input order.
    pub fn by_transformer(&self) -> BTreeMap<&str, Vec<usize>> {
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, customer) in self.customers.iter().enumerate() {
            groups.entry(&customer.transformer).or_default().push(index);
        }
        groups
    }

    /// The seasonal curve: for each day the median over customers of consumption divided by the customer's own mean.
    /// `members` picks the customers it is learnt from. Days without data are 1.
    pub fn seasonal_curve(&self, members: &[usize], threads: usize) -> Vec<f64> {
        let means = assemble::in_parallel(members, threads, |&i| statistics::mean(&self.customers[i].kwh));
        let starts: Vec<usize> = (0..self.days).step_by(DAYS_AT_ONCE).collect();
        let parts = assemble::in_parallel(&starts, threads, |&start| {
            let days = DAYS_AT_ONCE.min(self.days - start);
            let mut ratios = vec![Vec::with_capacity(members.len()); days];
            for (&i, &m) in members.iter().zip(&means) {
                for (ratios, kwh) in ratios.iter_mut().zip(&self.customers[i].kwh[start..start + days]) {
                    if (kwh / m).is_finite() {
                        ratios.push(kwh / m);
                    }
                }
            }
            ratios.into_iter().map(middle).collect::<Vec<f64>>()
        });
        parts.concat()
    }
}

/// Days taken from each customer in one visit: some lines of the cache side by side, so that the visits are few.
const DAYS_AT_ONCE: usize = 32;

/// Upper median, at least 0.05; 1 without values.
fn middle(mut ratios: Vec<f64>) -> f64 {
    if ratios.is_empty() {
        return 1.0;
    }
    let half = ratios.len() / 2;
    ratios.select_nth_unstable_by(half, f64::total_cmp).1.max(0.05)
}

/// Customers some at a time, so that the readings of a large utility need not fit into memory. Every portion holds the weather
/// and the zones of its customers; where there are zones, the customers of one transformer come together.
pub struct Portions {
    table: Batches,
    /// Customers of each portion, last first.
    sizes: Vec<usize>,
    zones: Option<PathBuf>,
    weather: Option<PathBuf>,
    /// Known once the first portion is read.
    calendar: Option<Calendar>,
}

/// What all portions share.
struct Calendar {
    days: usize,
    temperature_c: Vec<f64>,
    /// Zones whose customers are still to come.
    zones: BTreeMap<String, Vec<f64>>,
}

impl Portions {
    /// Opens the tables of [`Population::read`] for portions of at most `most` customers. With zones a transformer is never
    /// parted; where a transformer's customers lie scattered over the file, everybody is one portion.
    pub fn open(
        customers: &Path,
        zones: Option<&Path>,
        weather: Option<&Path>,
        most: usize,
    ) -> Result<Self, TableError> {
        let table = Batches::open(customers, Some(&COLUMNS))?;
        if table.total_rows() == 0 {
            return Err(table.content_error("there are no customers in it"));
        }
        let blocks = match zones {
            Some(_) => together(Batches::open(customers, Some(&["transformer"]))?)?,
            None => vec![1; table.total_rows()],
        };
        let mut sizes = portions(&blocks, most);
        sizes.reverse();
        let (zones, weather) = (zones.map(Path::to_owned), weather.map(Path::to_owned));
        Ok(Self { table, sizes, zones, weather, calendar: None })
    }

    /// The next portion; None at the end.
    pub fn next_portion(&mut self) -> Result<Option<Population>, TableError> {
        let Some(size) = self.sizes.pop() else { return Ok(None) };
        let mut population = read_customers(self.table.next(size)?)?;
        let mut calendar = match self.calendar.take() {
            Some(calendar) => calendar,
            None => self.calendar_of(population.days)?,
        };
        if population.days != calendar.days {
            return Err(self.table.content_error(format!(
                "some customers have {} days, others {}; all series must start on the same day and be equally long",
                calendar.days, population.days
            )));
        }
        let names: BTreeSet<&str> = population.customers.iter().map(|c| c.transformer.as_str()).collect();
        population.zones = names.into_iter().filter_map(|name| calendar.zones.remove_entry(name)).collect();
        population.temperature_c.clone_from(&calendar.temperature_c);
        self.calendar = Some(calendar);
        Ok(Some(population))
    }

    fn calendar_of(&self, days: usize) -> Result<Calendar, TableError> {
        let zones = self.zones.as_deref().map(|path| read_zones(Table::read(path)?, days)).transpose()?;
        let weather = self.weather.as_deref().map(|path| read_weather(&Table::read(path)?, days)).transpose()?;
        Ok(Calendar { days, zones: zones.unwrap_or_default(), temperature_c: weather.unwrap_or_default() })
    }
}

/// Sizes of the blocks of customers that must stay together: a transformer's, or everybody's where one transformer's customers
/// lie in several places.
fn together(mut table: Batches) -> Result<Vec<usize>, TableError> {
    let total = table.total_rows();
    let mut seen = BTreeSet::new();
    let (mut blocks, mut last): (Vec<usize>, Option<String>) = (Vec::new(), None);
    loop {
        let names = table.next(NAMES_AT_ONCE)?;
        if names.rows() == 0 {
            return Ok(blocks);
        }
        for name in names.texts("transformer")? {
            if last.as_ref() == Some(&name) {
                blocks.last_mut().into_iter().for_each(|size| *size += 1);
            } else if seen.insert(name.clone()) {
                blocks.push(1);
                last = Some(name);
            } else {
                return Ok(vec![total]);
            }
        }
    }
}

/// Names of transformers read together.
const NAMES_AT_ONCE: usize = 65_536;

/// Joins blocks to portions of about equal size, none above `most` unless a block is.
fn portions(blocks: &[usize], most: usize) -> Vec<usize> {
    let total: usize = blocks.iter().sum();
    let even = total.div_ceil(total.div_ceil(most.max(1)).max(1));
    let mut sizes: Vec<usize> = Vec::new();
    for &block in blocks {
        match sizes.last_mut() {
            Some(size) if *size < even && *size + block <= most => *size += block,
            _ => sizes.push(block),
        }
    }
    sizes
}

fn read_customers(mut table: Table) -> Result<Population, TableError> {
    let ids = table.texts("id")?;
    let transformers = table.texts("transformer")?;
    let mut series = table.take_real_lists("kwh")?;
    let labels = if table.has("label") { Some(table.integers("label")?) } else { None };
    let selections = if table.has("selection") { Some(table.texts("selection")?) } else { None };
    let stolen = if table.has("stolen_kwh") { Some(table.reals("stolen_kwh")?) } else { None };
    let days = series.iter().map(Vec::len).max().unwrap_or(0);
    if days < LEAST_DAYS {
        return Err(table.content_error(format!(
            "the longest series has {days} days; patterns need at least {LEAST_DAYS} days of consumption"
        )));
    }
    let mut customers = Vec::with_capacity(ids.len());
    for (row, (id, transformer)) in ids.into_iter().zip(transformers).enumerate() {
        let mut kwh = std::mem::take(&mut series[row]);
        if kwh.len() != days && !kwh.is_empty() {
            return Err(table.content_error(format!(
                "customer {id} has {} days, others {days}; all series must start on the same day and be equally long",
                kwh.len()
            )));
        }
        kwh.resize(days, f64::NAN);
        // A negative or infinite day is not consumption; treated as not metered.
        for value in &mut kwh {
            if !value.is_finite() || *value < 0.0 {
                *value = f64::NAN;
            }
        }
        let label = labels.and_then(|l| l[row]).map(|l| l != 0);
        let selection = match selections.as_ref().map(|s| s[row].as_str()) {
            None | Some("") => None,
            Some(word) => Some(Selection::of_word(word).ok_or_else(|| {
                table.content_error(format!("customer {id} has selection {word:?}; known are random and targeted"))
            })?),
        };
        let stolen_kwh = stolen.as_ref().map(|s| s[row]).filter(|s| s.is_finite());
        customers.push(Customer { id, transformer, label, selection, stolen_kwh, kwh });
    }
    Ok(Population { customers, zones: BTreeMap::new(), temperature_c: Vec::new(), days })
}

fn read_zones(mut table: Table, days: usize) -> Result<BTreeMap<String, Vec<f64>>, TableError> {
    let mut zones = BTreeMap::new();
    for (name, kwh) in table.texts("transformer")?.into_iter().zip(table.take_real_lists("kwh")?) {
        if kwh.len() != days {
            return Err(table.content_error(format!(
                "transformer {name} has {} days, the customers {days}; both files must cover the same days",
                kwh.len()
            )));
        }
        zones.insert(name, kwh);
    }
    Ok(zones)
}

fn read_weather(table: &Table, days: usize) -> Result<Vec<f64>, TableError> {
    let temperature = if table.has("temperature_c") {
        table.reals("temperature_c")?
    } else {
        let high = table.reals("temperatureMax")?;
        let low = table.reals("temperatureMin")?;
        high.iter().zip(&low).map(|(h, l)| 0.5 * (h + l)).collect()
    };
    if temperature.len() != days {
        return Err(table.content_error(format!(
            "the weather has {} days, the customers {days}; both files must cover the same days",
            temperature.len()
        )));
    }
    Ok(temperature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_are_about_equal_and_keep_blocks_whole() {
        assert_eq!(portions(&[1; 10], 4), [4, 4, 2]);
        assert_eq!(portions(&[1; 7], 7), [7]);
        assert_eq!(portions(&[3, 3, 3, 3], 7), [6, 6]);
        assert_eq!(portions(&[2, 9, 2], 4), [2, 9, 2]);
        assert_eq!(portions(&[], 4), [0usize; 0]);
    }
}
