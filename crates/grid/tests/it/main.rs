//! Power flow, estimation and hosting capacity against independent solutions.

mod estimation;
mod folder;
mod hosting;
mod power_flow;
mod support;
mod three_phase;
