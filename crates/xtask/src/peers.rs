//! Comparisons with programs of others on the same data, the same machine, in one run. Not part of `ci`: they measure, they do not judge.

mod billing;
mod devices;
mod forecast;
mod grid;
mod losses;

/// One comparison by its name.
pub fn run(name: &str) -> Result<(), String> {
    match name {
        "billing" => billing::run(),
        "devices" => crate::run::build_product().and_then(|()| devices::run()),
        "forecast" => forecast::run(),
        "grid" => grid::run(),
        "losses" => losses::run(),
        other => Err(format!("no such comparison: {other}; there are billing, devices, forecast, grid and losses")),
    }
}

/// One comparison by its name on the product as it lies there, for those that run it.
pub fn as_built(name: &str) -> Result<(), String> {
    match name {
        "devices" => devices::run(),
        other => Err(format!("{other} cannot be compared as built: `cargo xtask peers {other}` builds what it needs")),
    }
}
