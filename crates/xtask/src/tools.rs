//! Programs of other makers that the checks need; installed on Debian and Ubuntu when they are missing and we may.

use std::{path::Path, process::Command};

use crate::run;

/// What the interface of libmosquitto is found by.
pub const MOSQUITTO_HEADER: &str = "/usr/include/mosquitto.h";

/// Program or file and the Debian package that brings it.
const WANTED: &[(&str, &str)] = &[
    ("mosquitto_pub", "mosquitto-clients"),
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
    ("g++", "g++"),
    (MOSQUITTO_HEADER, "libmosquitto-dev"),
];

/// Whether a program is on the path, or a file given from the root is there.
pub fn present(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// Installs what is missing; what cannot be had is said in one line and its check later says so too.
pub fn install_missing() {
    let missing: Vec<&str> =
        WANTED.iter().filter(|(program, _)| !present(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return;
    }
    if !Path::new("/usr/bin/apt-get").is_file() || !is_root() {
        println!("── tools: not installed and no right to install: {} (their checks are left out)", missing.join(", "));
        return;
    }
    if let Err(why) = install(&missing) {
        println!("── tools: {why}; the checks that need them are left out");
    }
}

fn install(packages: &[&str]) -> Result<(), String> {
    let quiet = [("DEBIAN_FRONTEND", "noninteractive")];
    let _ = run::step_with("tools: package lists", "apt-get", &["update", "-qq"], &quiet);
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(packages);
    run::step_with("tools: install", "apt-get", &arguments, &quiet)
}

/// Installs the emulator and, where rustup has no target for it, Debian's compiler with the sources of its library. `false`: not to be had.
pub fn install_emulator() -> bool {
    let by_rustup =
        || run::output("rustup", &["target", "list", "--installed"]).is_ok_and(|list| list.contains("riscv32imac"));
    let by_debian = || Path::new("/usr/bin/rustc").is_file() && Path::new("/usr/lib/rustlib/src/rust/library").is_dir();
    let there = || present("qemu-system-riscv32") && (by_rustup() || by_debian());
    if !there() && Path::new("/usr/bin/apt-get").is_file() && is_root() {
        let mut wanted = vec!["qemu-system-misc"];
        if !by_rustup() {
            wanted.extend(["rustc-web", "rust-web-src"]);
        }
        // This download sometimes breaks half-way; once more is enough.
        if install(&wanted).is_err() {
            let _ = run::step("tools: repair", "apt-get", &["-f", "install", "-y", "-qq"]);
            let _ = install(&wanted);
        }
    }
    there()
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}

/// A Python with `packages` in a virtual environment under the build folder; `None`, and a line that says so, when it cannot be had.
pub fn python_with(packages: &[&str]) -> Option<std::path::PathBuf> {
    let target = run::gridtally();
    let folder = target.parent()?.parent()?.join("python");
    let python = folder.join("bin/python");
    let made = python.is_file()
        || Command::new("python3").args(["-m", "venv"]).arg(&folder).status().is_ok_and(|status| status.success());
    let installed = made
        && Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(packages)
            .status()
            .is_ok_and(|status| status.success());
    if !installed {
        println!("── tools: no Python with {} to be had; its check is left out", packages.join(", "));
    }
    installed.then_some(python)
}
