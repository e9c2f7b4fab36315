//! Masked records on an emulated RISC-V microcontroller: the lines that the host prints (`meter::golden::masked`), and what one costs.
#![no_std]
#![no_main]

extern crate alloc;

use embedded_alloc::LlffHeap;
use meter::golden::masked;
use riscv_rt::entry;
use semihosting::{println, process};

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

const HEAP_BYTES: usize = 64 * 1024;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("panic: {info}");
    process::exit(2)
}

#[entry]
fn main() -> ! {
    // SAFETY: called once, before anything is allocated.
    unsafe {
        embedded_alloc::init!(HEAP, HEAP_BYTES);
    }
    for custodians in 1..=3 {
        let cost = masked(custodians, || riscv::register::minstret::read64(), |line| println!("{line}"));
        println!("count masked_record_{custodians} {cost}");
    }
    process::exit(0)
}
