//! The store over real files: what is written is there, once, whatever stops or locks it.

mod crash;
mod guards;
mod locked;
mod network;
mod people;
mod readings;
mod relational;
mod world;
mod wrong_readings;
