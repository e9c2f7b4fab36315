//! Golden runs of the metrology core on an emulated RISC-V microcontroller.
//!
//! Prints one line per scenario, equal to what the host prints, then the instruction counts of the sample path and of
//! closing a window, and the memory of the core. With `-icount shift=0` the counts are exact and repeatable. Not a
//! meter: nothing is stored or sent.
#![no_std]
#![no_main]

use core::mem::size_of;

use metrology::engine::Core;
use metrology::fft::Spectrum;
use metrology::golden::{GOLDEN_RING, SCENARIOS, run};
use metrology::window::WindowReport;
use riscv_rt::entry;
use semihosting::{println, process};
use static_cell::StaticCell;

static SPECTRUM: StaticCell<Spectrum> = StaticCell::new();

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("panic: {info}");
    process::exit(2)
}

#[entry]
fn main() -> ! {
    let spectrum = SPECTRUM.init_with(Spectrum::default);
    let (mut push_ticks, mut samples, mut close_ticks) = (0, 0, 0);
    for scenario in &SCENARIOS {
        match run(scenario, spectrum, || riscv::register::minstret::read64()) {
            Ok(outcome) => {
                println!("golden {} {:016x} {} {}", scenario.name, outcome.hash.0, outcome.windows, outcome.events);
                push_ticks += outcome.push_ticks;
                samples += u64::from(outcome.samples);
                close_ticks = outcome.close_ticks.max(close_ticks);
            }
            Err(error) => {
                println!("refused {}: {error}", scenario.name);
                process::exit(2);
            }
        }
    }
    println!("count instructions_per_sample_x100 {}", push_ticks * 100 / samples);
    println!("count window_close {close_ticks}");
    let ram = size_of::<Core<GOLDEN_RING>>() + size_of::<Spectrum>() + size_of::<WindowReport>();
    println!("count core_ram_bytes {ram}");
    process::exit(0)
}
