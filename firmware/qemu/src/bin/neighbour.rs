//! A home that compares with its neighbours, on an emulated RISC-V microcontroller: their signed sums come over the serial line,
//! and so does the end of each minute; its own sum goes back, and what it finds is printed as the host prints it (`meter::golden`).
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::ptr::{read_volatile, write_volatile};

use embedded_alloc::LlffHeap;
use meter::{
    golden::{Home, MINUTES},
    serial::{Decoder, Message},
};
use metering::Down;
use riscv_rt::entry;
use semihosting::{println, process};

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

const HEAP_BYTES: usize = 256 * 1024;
const UART: *mut u8 = 0x1000_0000 as *mut u8;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("panic: {info}");
    process::exit(2)
}

fn send(bytes: &[u8]) {
    for byte in bytes {
        // SAFETY: the UART (16550) of the machine `virt`; bit 5 of its line status says that it takes a byte.
        unsafe {
            while read_volatile(UART.add(5)) & 0x20 == 0 {}
            write_volatile(UART, *byte);
        }
    }
}

fn received() -> u8 {
    // SAFETY: as above; bit 0 says that a byte has come.
    unsafe {
        while read_volatile(UART.add(5)) & 1 == 0 {}
        read_volatile(UART)
    }
}

#[entry]
fn main() -> ! {
    // SAFETY: called once, before anything is allocated.
    unsafe {
        embedded_alloc::init!(HEAP, HEAP_BYTES);
    }
    let Some(mut home) = Home::new() else { process::exit(2) };
    let (mut decoder, mut heard, mut minutes) = (Decoder::default(), Vec::new(), 0);
    while minutes < MINUTES {
        decoder.push(&[received()]);
        while let Some(message) = decoder.next_message() {
            match message {
                Message::Neighbour(datagram) => heard.push(datagram),
                Message::Down(Down::Time(_)) => {
                    let (datagram, line) = home.minute(&heard);
                    println!("{line}");
                    send(&Message::Neighbour(datagram).encode());
                    heard.clear();
                    minutes += 1;
                }
                _ => {}
            }
        }
    }
    println!("{}", home.waiting());
    process::exit(0)
}
