//! `cargo xtask qemu`: builds the RISC-V images, runs them in emulation and holds them to the host and to the ratchet.
//!
//! Every golden line must equal the host's, and so must what comes of the recorded vectors (`vectors.rs`) and of a meter that
//! compares with its neighbours (`neighbour.rs`) and of masked records (`masked.rs`). Instruction counts, memory and size must not
//! exceed the figures in `firmware/qemu/ratchet.json` by more than five percent, and never the hard limits below. Needs
//! `qemu-system-riscv32` and either the rustup target or Debian's `rustc-web` with `rust-web-src`.

pub mod decoders;
mod masked;
mod neighbour;
mod vectors;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run;

const TARGET: &str = "riscv32imac-unknown-none-elf";
/// Name in the ratchet file and the limit that never moves.
const LIMITS: [(&str, u64); 4] = [
    ("instructions_per_sample_x100", 15_000),
    ("window_close", 8_000_000),
    ("core_ram_bytes", 24 * 1024),
    ("flash_bytes", 64 * 1024),
];

/// Builds, runs and compares.
pub fn run() -> Result<(), String> {
    golden()?;
    masked::run()?;
    neighbour::run()?;
    decoders::run()?;
    vectors::run()
}

/// The emulator without a screen and with semihosting; the caller says what hangs on the serial line.
fn emulator(image: &Path) -> Command {
    let mut command = Command::new("qemu-system-riscv32");
    command.args(["-M", "virt", "-bios", "none", "-display", "none", "-monitor", "none"]);
    command.args(["-semihosting-config", "enable=on,target=native", "-kernel"]).arg(image);
    command
}

/// What an emulated program printed; fails when it fails.
fn printed(command: &mut Command) -> Result<String, String> {
    let out = command.output().map_err(|e| format!("qemu-system-riscv32 does not start: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() { Ok(text) } else { Err(format!("the emulated program failed ({}):\n{text}", out.status)) }
}

/// The lines that begin with a word.
fn lines<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.split(' ').next() == Some(word)).collect()
}

/// The golden runs, and what they cost.
fn golden() -> Result<(), String> {
    let image = image("firmware-qemu")?;
    let emulated = printed(emulator(&image).args(["-serial", "null", "-icount", "shift=0"]))?;
    let host = run::output(
        "cargo",
        &["run", "--release", "--quiet", "--package", "metrology", "--features", "std", "--example", "golden"],
    )?;
    let host_golden = lines(&host, "golden");
    if host_golden.is_empty() || lines(&emulated, "golden") != host_golden {
        return Err(format!("host and emulation differ\nhost:\n{host}\nemulation:\n{emulated}"));
    }
    println!("   {} golden runs are equal on host and {TARGET}", host_golden.len());
    let mut counts = counts(&emulated)?;
    counts.push(("flash_bytes".to_owned(), flash_bytes(&image)?));
    hold(&counts, &LIMITS)
}

/// The programs' counts: lines `count NAME VALUE`.
fn counts(text: &str) -> Result<Vec<(String, u64)>, String> {
    let parse = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let name = words.next()?.to_owned();
        Some((name, words.next()?.parse().ok()?))
    };
    let lines = text.lines().filter(|l| l.starts_with("count "));
    lines.map(|l| parse(l).ok_or_else(|| format!("unreadable count: {l}"))).collect()
}

fn hold(counts: &[(String, u64)], limits: &[(&'static str, u64)]) -> Result<(), String> {
    let path = run::root().join("firmware/qemu/ratchet.json");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let ratchet: serde_json::Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut worse = Vec::new();
    for (name, limit) in limits.iter().copied() {
        let value = counts.iter().find(|(n, _)| n == name).map(|c| c.1);
        let value = value.ok_or_else(|| format!("the image printed no {name}"))?;
        let before = ratchet[name].as_u64().ok_or_else(|| format!("{}: no {name}", path.display()))?;
        println!("   {name}: {value} (ratchet {before}, limit {limit})");
        if value > limit || value * 100 > before * 105 {
            worse.push(name);
        }
    }
    if worse.is_empty() { Ok(()) } else { Err(format!("more than 5 % above the ratchet or over the limit: {worse:?}")) }
}

/// Text and read-only data of the image, from its section headers (32-bit little-endian ELF).
pub fn flash_bytes(image: &Path) -> Result<u64, String> {
    let bytes = std::fs::read(image).map_err(|e| format!("cannot read {}: {e}", image.display()))?;
    let number = |at: usize, length: usize| -> Option<u64> {
        let part = bytes.get(at..at + length)?;
        Some(part.iter().rev().fold(0, |sum, &b| (sum << 8) | u64::from(b)))
    };
    let total = || -> Option<u64> {
        let (start, size, count) = (number(32, 4)? as usize, number(46, 2)? as usize, number(48, 2)? as usize);
        let mut total = 0;
        for section in (0..count).map(|k| start + k * size) {
            let (kind, flags) = (number(section + 4, 4)?, number(section + 8, 4)?);
            // Program data that is loaded (SHF_ALLOC) and does not lie in memory only (SHT_PROGBITS).
            if kind == 1 && flags & 2 != 0 {
                total += number(section + 20, 4)?;
            }
        }
        Some(total)
    };
    total().ok_or_else(|| format!("{} is not a 32-bit ELF image", image.display()))
}

/// Builds the images and names one: with the rustup target where it is installed, otherwise with Debian's compiler and its library sources.
pub fn image(name: &str) -> Result<PathBuf, String> {
    let firmware = run::root().join("firmware");
    let target_dir = firmware.join("target");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--target", TARGET]).current_dir(&firmware);
    cargo.env("CARGO_TARGET_DIR", &target_dir);
    let installed = run::output("rustup", &["target", "list", "--installed"]).unwrap_or_default();
    if !installed.lines().any(|l| l == TARGET) {
        if !Path::new("/usr/bin/rustc").exists() {
            return Err(format!(
                "no compiler for {TARGET}: run `rustup target add {TARGET}`, or install rustc-web and rust-web-src"
            ));
        }
        let sysroot = run::output("rustc", &["--print", "sysroot"])?;
        let linker = format!("{}/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld", sysroot.trim());
        cargo.arg("-Zbuild-std=core,alloc");
        cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
        cargo.env("CARGO_TARGET_RISCV32IMAC_UNKNOWN_NONE_ELF_LINKER", linker);
    }
    println!("── firmware: cargo build --target {TARGET}");
    let status = cargo.status().map_err(|e| format!("cargo does not start: {e}"))?;
    if !status.success() {
        return Err(format!("the firmware does not build ({status})"));
    }
    Ok(target_dir.join(TARGET).join("release").join(name))
}
