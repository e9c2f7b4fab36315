//! Gridtally in one binary: configuration, pipeline, roles and the command line.
//!
//! The parts are wired in `server.rs`; what happens to a reading is listed in `pipeline.rs`; each command has a file in `commands/`.
//! It is not where decisions are made: those are in the pure crates, and in the pure files of the pipeline.

pub mod audit_head;
pub mod certificate_watch;
pub mod clock;
pub mod commands;
pub mod config;
pub mod custodian;
pub mod data_directory;
mod doors;
pub mod encodings;
pub mod file_budget;
pub mod http_listener;
pub mod local_door;
pub mod logging;
pub mod pipeline;
pub mod public_address;
pub mod server;
pub mod text_inbox;
