//! Modbus: registers to values by a map, and the models of SunSpec. Requests and answers are built and judged, not sent.

pub mod frame;
pub mod map;
pub mod sunspec;

use std::collections::BTreeMap;

/// Registers that were read, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    registers: BTreeMap<u16, u16>,
}

impl Image {
    /// From pairs of address and value.
    pub fn new(registers: impl IntoIterator<Item = (u16, u16)>) -> Self {
        Self { registers: registers.into_iter().collect() }
    }

    /// `count` registers from `address`; `None` when one was not read.
    pub fn words(&self, address: u16, count: u16) -> Option<Vec<u16>> {
        (0..count).map(|offset| self.registers.get(&address.checked_add(offset)?).copied()).collect()
    }

    /// One register.
    pub fn word(&self, address: u16) -> Option<u16> {
        self.registers.get(&address).copied()
    }
}
