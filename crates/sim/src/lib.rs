//! A neighbourhood on a virtual clock: real meters, real load shapes, seeded faults and thieves with ground truth.
//!
//! One feeder feeds transformers, each transformer feeds homes; a real [`meter::Meter`] sits in every home, at every transformer
//! and at the head of the feeder. [`World`] is the physics (loads, voltages, losses, thefts) in steps of 60 seconds; [`drive()`]
//! carries the meters' frames over TCP to a server and the server's controls back, in lockstep with the server's clock.
//!
//! It is not: a power-flow solver (`grid`), a server, or a source of statistics about any real town. The same seed gives the
//! same world, the same frames and the same outcome, however fast it is driven.

pub mod config;
pub mod drive;
pub mod error;
pub mod household;
pub mod mqtt_client;
pub mod profiles;
pub mod report;
pub mod rest;
pub mod story;
pub mod theft;
pub mod waveform;
pub mod world;

mod home;
mod neighbours;
mod network;
mod random;
mod topology;
mod truth;

pub use config::{CutOff, LoadSource, SimConfig};
pub use drive::{Pace, Scene, Target, drive};
pub use error::SimError;
pub use report::{MeterTruth, SimEvent, SimReport, TheftTruth, ZoneTruth};
pub use story::{Act, Story};
pub use theft::{TheftKind, TheftPlan};
pub use waveform::WaveformPlan;
pub use world::World;
