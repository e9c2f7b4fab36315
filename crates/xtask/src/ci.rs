//! Everything continuous integration does, in the order in which a failure is cheapest to learn.

use crate::{
    acceptance, firmware, qemu,
    run::{step, step_with},
    tidy, tools,
};

/// Runs all checks; the first failure ends it.
pub fn run() -> Result<(), String> {
    step("format", "cargo", &["fmt", "--all", "--check"])?;
    println!("── tidy");
    tidy::run()?;
    tools::install_missing();
    // Tests run on the release profile, so that the product is compiled once.
    step(
        "clippy",
        "cargo",
        &["clippy", "--release", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
    )?;
    // All targets: the tests' dependencies choose features too, and nothing shall be compiled twice.
    step("build", "cargo", &["build", "--release", "--workspace", "--all-targets", "--locked"])?;
    // One seed, so that a change is judged by the change; `acceptance properties` draws other ones.
    step_with("test", "cargo", acceptance::TESTS, &[(acceptance::PROPERTY_SEED, "1")])?;
    step_with(
        "documentation",
        "cargo",
        &["doc", "--release", "--workspace", "--no-deps", "--locked"],
        &[("RUSTDOCFLAGS", "-D warnings")],
    )?;
    firmware()?;
    for check in acceptance::IN_CI {
        println!("── {}", check.name);
        (check.run)(&[]).map_err(|why| format!("{}: {why}", check.name))?;
    }
    println!("── all checks passed");
    Ok(())
}

/// The emulated microcontroller, where an emulator and a compiler for it are to be had.
fn firmware() -> Result<(), String> {
    if !tools::install_emulator() {
        println!(
            "── qemu: left out, no qemu-system-riscv32 with a compiler for it (Debian: qemu-system-misc rustc-web rust-web-src)"
        );
        return Ok(());
    }
    println!("── qemu");
    qemu::run().map_err(|why| format!("qemu: {why}"))?;
    firmware::run_where_possible().map_err(|why| format!("firmware: {why}"))
}
