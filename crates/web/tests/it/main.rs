//! The router over a real store in a temporary directory, called as anybody, as a consumer, an engineer, an operator.

mod api;
mod app;
mod case_page;
mod live;
mod pages;
mod palette;
mod readings;
mod security;
mod sign_in;
mod world;
