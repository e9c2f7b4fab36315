//! What a meter's board needs around the meter: firmware images with rollback, provisioning, MQTT packets, display bytes.
//!
//! Everything that can be wrong without a chip is here, so that it is tested on a computer: the firmware in `firmware/esp32`
//! adds pins, flash and sockets only. No input or output, no clock; not the meter itself (`meter`), not a general MQTT client.
#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

extern crate alloc;

pub mod bench;
pub mod calibration;
pub mod display;
pub mod gaps;
pub mod image;
pub mod mqtt;
pub mod otadata;
pub mod partitions;
pub mod provisioning;
pub mod record;
pub mod rollback;
pub mod service;
pub mod start;
pub mod update;

#[cfg(test)]
mod ram;
