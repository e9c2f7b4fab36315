//! The meter itself: registers, load profile, event log, store-and-forward, relay, command verification.
//!
//! A [`Meter`] is a pure state machine. A shell (firmware or simulator) calls [`Meter::step`] with the quantities measured since
//! the last call and carries out the [`Action`]s it returns, hands received frames to [`Meter::receive`], takes waiting frames
//! from [`Meter::next_to_send`] and tells with [`Meter::acknowledge`] which of them the server has stored for good.
//!
//! The crate is `no_std` (with `alloc`): no clock, no randomness, no input or output, no floating point. It is not: metrology
//! (samples to quantities, see `metrology`), a radio or a display.
#![no_std]
extern crate alloc;

pub mod inputs;
pub mod meter;
pub mod settings;

pub mod clock;
pub mod control;
pub mod display;
pub mod event_log;
pub mod flash;
pub mod golden;
pub mod kept;
pub mod load_limit;
pub mod local;
pub mod masking;
pub mod measured;
pub mod memory;
pub mod modem;
pub mod outages;
pub mod profile;
pub mod register;
pub mod registration;
pub mod relay;
pub mod ring;
pub mod serial;
pub mod tamper;
pub mod texts;

pub use inputs::{Inputs, Uptime};
pub use memory::Memory;
pub use meter::{Action, Meter};
pub use ring::{FrameId, Outgoing};
pub use settings::{Calibration, MeterConfig, Settings};
