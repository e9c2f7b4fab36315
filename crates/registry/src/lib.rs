//! The network as it was valid at a time and as it was known at a time: zones with their observers, usage points with their meters or
//! their supplies without meter, classes, phases and ratios of current transformers.
//!
//! [`Registry`] holds all versions and is built once per version of the master data; [`Topology`] is the network between two changes,
//! with indices, so that every question of it takes constant time. What a member of a zone is, what a meter counted and how accurate it
//! is are defined here once: balances, snapshots, synthetic thefts, ranking and pages all ask here.
//!
//! It is not: a database (`store` keeps the rows and says which version is the newest), a network model (see `grid`), or a place that
//! knows the time: every time is an argument.

mod class;
mod flow;
mod installation;
mod topology;
mod versions;
mod zone;

pub use class::{Accuracy, MeterClass};
pub use flow::{Flow, on_grid};
pub use installation::{Installation, PhaseConnection, UnmeteredSupply};
pub use topology::{Member, MemberId, Topology, TopologyParts};
pub use versions::{Period, Registry, Versioned};
pub use zone::{TopologyUsagePoint, TopologyZone, ZoneKind};
