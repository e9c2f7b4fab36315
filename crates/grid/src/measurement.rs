//! What is measured, how well, and the CSV form of it.

use crate::error::GridError;
use crate::folder::Table;
use crate::network::Network;
use std::collections::HashMap;
use std::path::Path;

/// Which end of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    From,
    To,
}

/// A measurable quantity; buses and branches as positions in the network's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Voltage magnitude.
    Voltage {
        bus: usize,
    },
    /// Active power injected into the network at a bus (consumption negative).
    ActiveInjection {
        bus: usize,
    },
    ReactiveInjection {
        bus: usize,
    },
    /// Active power from a bus into a branch.
    ActiveFlow {
        branch: usize,
        side: Side,
    },
    ReactiveFlow {
        branch: usize,
        side: Side,
    },
}

/// One measurement, pu.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    pub quantity: Quantity,
    pub value_pu: f64,
    /// Standard deviation of its error.
    pub sigma_pu: f64,
}

impl Measurement {
    /// The measurement in words, with the network's own numbers.
    pub(crate) fn describe(&self, bus_ids: &[u32]) -> String {
        let bus = |i: usize| bus_ids.get(i).map_or_else(|| format!("position {i}"), ToString::to_string);
        match self.quantity {
            Quantity::Voltage { bus: b } => format!("v at bus {}", bus(b)),
            Quantity::ActiveInjection { bus: b } => format!("p_inj at bus {}", bus(b)),
            Quantity::ReactiveInjection { bus: b } => format!("q_inj at bus {}", bus(b)),
            Quantity::ActiveFlow { branch, side } => format!("p_flow in branch position {branch} ({side:?} side)"),
            Quantity::ReactiveFlow { branch, side } => format!("q_flow in branch position {branch} ({side:?} side)"),
        }
    }
}

/// Reads `type,at,side,value_pu,sigma_pu`; `at` is a bus or branch number.
pub fn read_measurements(path: &Path, network: &Network) -> Result<Vec<Measurement>, GridError> {
    let buses = network.bus_index();
    let branches: HashMap<u32, usize> = network.branches.iter().enumerate().map(|(i, b)| (b.id, i)).collect();
    let table = Table::read(path)?;
    table.require(&["type", "at", "value_pu", "sigma_pu"])?;
    table
        .rows()
        .map(|row| {
            let id = row.id("at")?;
            let bus = || buses.get(&id).copied().ok_or_else(|| row.error(format!("bus {id} is not in buses.csv")));
            let branch =
                || branches.get(&id).copied().ok_or_else(|| row.error(format!("branch {id} is not in branches.csv")));
            let side = || match row.text("side") {
                "from" | "" => Ok(Side::From),
                "to" => Ok(Side::To),
                other => Err(row.error(format!("side '{other}' is neither 'from' nor 'to'"))),
            };
            let quantity = match row.text("type") {
                "v" => Quantity::Voltage { bus: bus()? },
                "p_inj" => Quantity::ActiveInjection { bus: bus()? },
                "q_inj" => Quantity::ReactiveInjection { bus: bus()? },
                "p_flow" => Quantity::ActiveFlow { branch: branch()?, side: side()? },
                "q_flow" => Quantity::ReactiveFlow { branch: branch()?, side: side()? },
                other => return Err(row.error(format!("type '{other}' is none of v, p_inj, q_inj, p_flow, q_flow"))),
            };
            let (value_pu, sigma_pu) = (row.number("value_pu")?, row.number("sigma_pu")?);
            if !value_pu.is_finite() {
                return Err(row.error(format!("value_pu {value_pu} is not a finite number")));
            }
            if !(sigma_pu.is_finite() && sigma_pu > 0.0) {
                return Err(row.error(format!(
                    "sigma_pu {sigma_pu} must be positive; exact zeros belong in the zero-injection list"
                )));
            }
            Ok(Measurement { quantity, value_pu, sigma_pu })
        })
        .collect()
}

/// Reads the list of buses (column `bus`) without any load or generation; returns positions.
pub fn read_zero_injections(path: &Path, network: &Network) -> Result<Vec<usize>, GridError> {
    let buses = network.bus_index();
    let table = Table::read(path)?;
    table.require(&["bus"])?;
    table
        .rows()
        .map(|row| {
            let id = row.id("bus")?;
            buses.get(&id).copied().ok_or_else(|| row.error(format!("bus {id} is not in buses.csv")))
        })
        .collect()
}
