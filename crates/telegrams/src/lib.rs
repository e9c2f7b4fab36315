//! Real meters, makers' devices and interval files: bytes to readings, and the DLMS conversation in both roles.
//!
//! Layers, each of which takes bytes and returns values: `framing` finds telegrams in a stream, one module a format decodes them,
//! a description file (feature `host`) says what a model means, [`Reading`] is what comes out. No socket, clock or file is touched;
//! without the feature `host` the crate is `no_std` (with `alloc`) and serves in a meter's firmware.
//!
//! It is not: a store, a poller, or a judge of readings. Decimal integers stay decimal integers to the end.
#![cfg_attr(not(any(test, feature = "host")), no_std)]
extern crate alloc;

pub mod bytes;
pub mod checksum;
pub mod cipher;
mod decimal;
pub mod dlms;
#[cfg(feature = "host")]
pub mod explain;
#[cfg(feature = "host")]
pub mod files;
#[cfg(feature = "host")]
pub mod folder;
pub mod framing;
#[cfg(feature = "host")]
pub mod makers;
pub mod mbus;
#[cfg(feature = "host")]
pub mod modbus;
#[cfg(feature = "host")]
pub mod models;
pub mod p1;
mod reading;
pub mod sml;
#[cfg(feature = "host")]
pub mod stream;
pub mod zone;

pub use decimal::Decimal;
pub use reading::{Fault, Quality, Reading};
pub use zone::Zone;
