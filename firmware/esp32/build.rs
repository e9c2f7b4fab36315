//! The chip's memory layout for the linker.

fn main() {
    println!("cargo:rustc-link-arg=-Tlinkall.x");
}
