//! The pages, one file a use case. `routes.rs` says at which address each stands.

pub mod audit;
pub mod case;
mod case_chart;
pub mod case_files;
pub mod cases;
pub mod controls;
pub mod enrolment;
pub mod find;
pub mod findings;
pub mod meter;
pub mod meters;
mod one_line;
pub mod overview;
pub mod own_meter;
pub mod own_password;
pub mod people;
pub mod policy;
pub mod quality;
mod story;
pub mod suspects;
pub mod tokens;
pub mod zone;
