//! Time series of a network's loads: from a file of profiles, or synthetic where the network has none.
//!
//! Consumers of one class share one profile. So that no two are alike, each takes its profile of another week of the year
//! (drawn without repetition, weekdays kept); generators of one network see the same sky and are not moved.

use crate::bench::Draw;
use crate::error::GridError;
use crate::network::{Load, Network};
use crate::threephase::folder::read_parquet;
use std::collections::HashMap;
use std::path::Path;

/// Slots of 15 minutes.
pub const SLOTS_PER_DAY: usize = 96;

/// Injections of every bus that has a load, pu, generation positive: row-major, one row per slot.
#[derive(Debug, Clone)]
pub struct LoadSeries {
    /// Positions of the buses in the network: the columns.
    pub buses: Vec<usize>,
    pub p_pu: Vec<f64>,
    pub q_pu: Vec<f64>,
}

/// A year of profiles, per unit of each load's peak, one value every 15 minutes.
#[derive(Debug)]
pub struct Profiles {
    columns: HashMap<String, Vec<f64>>,
    slots: usize,
}

impl Profiles {
    /// Reads the profiles that the network's loads name from a Parquet file: `NAME_pload` and `NAME_qload` for consumers,
    /// `NAME` for generators.
    ///
    /// # Errors
    /// A load without a profile or peak, a column that is missing, fewer than eight weeks.
    pub fn read(path: &Path, network: &Network) -> Result<Self, GridError> {
        let mut names: Vec<String> = Vec::new();
        for load in &network.loads {
            if load.profile.is_empty() || load.peak_p_mw.is_none() {
                return Err(GridError::element(format!("load {}", load.id), "has no profile and peak in loads.csv"));
            }
            names.extend(columns_of(load));
        }
        names.sort();
        names.dedup();
        let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
        let values = read_parquet(path, &wanted)?;
        let slots = values.first().map_or(0, Vec::len);
        if slots < 56 * SLOTS_PER_DAY {
            return Err(GridError::Length { what: "the profiles", found: slots, expected: 56 * SLOTS_PER_DAY });
        }
        Ok(Self { columns: names.into_iter().zip(values).collect(), slots })
    }

    /// `days` whole days of the network's loads, the first day and each consumer's week drawn.
    ///
    /// # Errors
    /// More days than the profiles have.
    pub fn series(&self, network: &Network, days: usize, seed: u64) -> Result<LoadSeries, GridError> {
        let year = self.slots / SLOTS_PER_DAY;
        if days > year {
            return Err(GridError::Length { what: "the profiles in days", found: year, expected: days });
        }
        let mut draw = Draw::new(seed);
        let first = pick(&mut draw, year - days + 1) * SLOTS_PER_DAY;
        let mut weeks: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut out = LoadSeries::zeros(network, days);
        let index = network.bus_index();
        for load in &network.loads {
            let column = out.column(index[&load.bus]);
            let names = columns_of(load);
            let shift = if names.len() == 1 {
                0
            } else {
                let left = weeks.entry(&load.profile).or_default();
                if left.is_empty() {
                    left.extend(0..year / 7);
                }
                let k = pick(&mut draw, left.len());
                left.swap_remove(k) * 7 * SLOTS_PER_DAY
            };
            let scale = [load.peak_p_mw.unwrap_or(0.0), load.peak_q_mvar.unwrap_or(0.0)];
            for slot in 0..days * SLOTS_PER_DAY {
                let at = (first + shift + slot) % self.slots;
                let power = |k: usize| names.get(k).map_or(0.0, |n| scale[k] * self.columns[n][at] / network.base_mva);
                out.add(slot, column, -power(0), -power(1));
            }
        }
        Ok(out)
    }
}

fn columns_of(load: &Load) -> Vec<String> {
    // a generator's peak is negative: its profile is one column and its reactive power zero
    if load.peak_p_mw.is_some_and(|p| p < 0.0) {
        vec![load.profile.clone()]
    } else {
        vec![format!("{}_pload", load.profile), format!("{}_qload", load.profile)]
    }
}

fn pick(draw: &mut Draw, n: usize) -> usize {
    ((draw.uniform() * n as f64) as usize).min(n - 1)
}

impl LoadSeries {
    fn zeros(network: &Network, days: usize) -> Self {
        let index = network.bus_index();
        let mut buses: Vec<usize> = network.loads.iter().map(|l| index[&l.bus]).collect();
        buses.sort_unstable();
        buses.dedup();
        let size = buses.len() * days * SLOTS_PER_DAY;
        Self { buses, p_pu: vec![0.0; size], q_pu: vec![0.0; size] }
    }

    /// Column of a bus that carries a load.
    fn column(&self, bus: usize) -> usize {
        self.buses.partition_point(|&with_load| with_load < bus)
    }

    fn add(&mut self, slot: usize, column: usize, p: f64, q: f64) {
        let at = slot * self.buses.len() + column;
        self.p_pu[at] += p;
        self.q_pu[at] += q;
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.p_pu.len() / self.buses.len().max(1)
    }

    /// Synthetic days around the network's own loads, for networks without profiles: one of three daily shapes per load,
    /// weather that all share and a course of its own, each with memory; generators follow one wind.
    pub fn synthetic(network: &Network, days: usize, seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let mut out = Self::zeros(network, days);
        let index = network.bus_index();
        let mut own = vec![[0.0; 2]; network.loads.len()];
        let (mut weather, mut wind) = (0.0, 0.0);
        let walk = |x: &mut f64, memory: f64, draw: &mut Draw| {
            *x = memory * *x + (1.0 - memory * memory).sqrt() * draw.normal();
        };
        for slot in 0..days * SLOTS_PER_DAY {
            let hour = (slot % SLOTS_PER_DAY) as f64 / 4.0;
            walk(&mut weather, 0.995, &mut draw);
            walk(&mut wind, 0.98, &mut draw);
            for (k, load) in network.loads.iter().enumerate() {
                walk(&mut own[k][0], 0.9, &mut draw);
                walk(&mut own[k][1], 0.9, &mut draw);
                let size = if load.p_mw < 0.0 {
                    (0.5 + 0.3 * wind + 0.05 * own[k][0]).clamp(0.0, 1.0)
                } else {
                    daily(k % 3, hour) * (0.1 * weather + 0.25 * own[k][0]).exp()
                };
                let reactive = size * (1.0 + 0.1 * own[k][1]);
                let column = out.column(index[&load.bus]);
                out.add(slot, column, -load.p_mw * size / network.base_mva, -load.q_mvar * reactive / network.base_mva);
            }
        }
        out
    }
}

/// Relative load by hour: households, shops, industry.
fn daily(kind: usize, hour: f64) -> f64 {
    let bump = |centre: f64, width: f64| (-0.5 * ((hour - centre) / width).powi(2)).exp();
    match kind {
        0 => 0.4 + 0.3 * bump(8.0, 1.5) + 0.7 * bump(19.0, 2.5),
        1 => 0.3 + 0.8 * bump(13.0, 3.5),
        _ => 0.7 + 0.2 * bump(11.0, 4.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::radial_feeder;

    #[test]
    fn synthetic_days_keep_the_size_of_the_loads_and_repeat_by_seed() {
        let network = radial_feeder(20, 1);
        let series = LoadSeries::synthetic(&network, 3, 5);
        assert_eq!(series.slots(), 3 * SLOTS_PER_DAY);
        assert_eq!(series.buses.len(), 9);
        let mean = -series.p_pu.iter().sum::<f64>() / series.slots() as f64;
        let own: f64 = network.loads.iter().map(|l| l.p_mw).sum();
        assert!(mean > 0.3 * own && mean < 1.5 * own, "{mean} against {own}");
        assert_eq!(series.p_pu, LoadSeries::synthetic(&network, 3, 5).p_pu);
    }
}
