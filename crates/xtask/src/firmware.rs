//! `cargo xtask firmware [c3]`: builds the meter's firmware for an ESP32 and turns it into an image that can be flashed.
//!
//! The compiler is rustup's when it has the target, otherwise Debian's `rustc-web` with `rust-web-src`. The flash image is made
//! by `esptool` (PyPI); without it the ELF file is all there is, and a line says so. It flashes nothing.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{run, tools};

/// A chip that can be built.
struct Chip {
    feature: &'static str,
    target: &'static str,
}

const C6: Chip = Chip { feature: "esp32c6", target: "riscv32imac-unknown-none-elf" };
const C3: Chip = Chip { feature: "esp32c3", target: "riscv32imc-unknown-none-elf" };
/// Partition of one program (`partitions.csv`).
const SLOT_BYTES: u64 = 0x18_0000;

/// Builds for the chip named, the C6 without a name.
pub fn run(words: &[&str]) -> Result<(), String> {
    let chip = match words {
        [] | ["c6"] => C6,
        ["c3"] => C3,
        other => return Err(format!("no such chip: {}; c6 or c3", other.join(" "))),
    };
    let elf = build(&chip)?;
    image(&chip, &elf)
}

/// As [`run()`], in continuous integration: one line where no compiler is to be had.
pub fn run_where_possible() -> Result<(), String> {
    if compiler(&C6).is_none() {
        println!("── firmware: left out, no compiler for {} (Debian: rustc-web rust-web-src)", C6.target);
        return Ok(());
    }
    run(&[])
}

/// Which compiler there is for a chip.
enum Compiler {
    Rustup,
    Debian,
}

fn compiler(chip: &Chip) -> Option<Compiler> {
    let installed = run::output("rustup", &["target", "list", "--installed"]).unwrap_or_default();
    if installed.lines().any(|line| line == chip.target) {
        return Some(Compiler::Rustup);
    }
    let debian = Path::new("/usr/bin/rustc").is_file() && Path::new("/usr/lib/rustlib/src/rust/library").is_dir();
    debian.then_some(Compiler::Debian)
}

fn build(chip: &Chip) -> Result<PathBuf, String> {
    let folder = run::root().join("firmware/esp32");
    let target_dir = std::env::var_os("GRIDTALLY_ESP_TARGET_DIR").map_or_else(|| folder.join("target"), PathBuf::from);
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--target", chip.target]).current_dir(&folder);
    cargo.args(["--no-default-features", "--features", chip.feature]).env("CARGO_TARGET_DIR", &target_dir);
    match compiler(chip) {
        Some(Compiler::Rustup) => {}
        Some(Compiler::Debian) => {
            let sysroot = run::output("rustc", &["--print", "sysroot"])?;
            let linker = format!("{}/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld", sysroot.trim());
            let name = format!("CARGO_TARGET_{}_LINKER", chip.target.to_uppercase().replace('-', "_"));
            cargo.arg("-Zbuild-std=core,alloc").env(name, linker);
            cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
        }
        None => {
            return Err(format!(
                "no compiler for {0}: run `rustup target add {0}`, or install rustc-web and rust-web-src",
                chip.target
            ));
        }
    }
    println!("── firmware: cargo build --target {} --features {}", chip.target, chip.feature);
    let status = cargo.status().map_err(|e| format!("cargo does not start: {e}"))?;
    if !status.success() {
        return Err(format!("the firmware does not build ({status})"));
    }
    Ok(target_dir.join(chip.target).join("release/firmware-esp32"))
}

/// The image for the flash, and whether it fits a slot.
fn image(chip: &Chip, elf: &Path) -> Result<(), String> {
    println!("   {}", elf.display());
    let Some(python) = tools::python_with(&["esptool"]) else { return Ok(()) };
    let out = elf.with_extension("bin");
    let words = [
        "-m",
        "esptool",
        "--chip",
        chip.feature,
        "elf2image",
        "--flash-size",
        "4MB",
        "-o",
        &out.to_string_lossy(),
        &elf.to_string_lossy(),
    ];
    run::step("flash image", &python.to_string_lossy(), &words)?;
    let bytes = std::fs::metadata(&out).map_err(|e| format!("{}: {e}", out.display()))?.len();
    println!("   {} bytes of {SLOT_BYTES} that a slot holds: {}", bytes, out.display());
    if bytes > SLOT_BYTES { Err("the image does not fit its slot".into()) } else { Ok(()) }
}
