//! The decoders as a meter's firmware would call them: bytes of a line in, readings out. Each program of this package links one of them.
#![no_std]

extern crate alloc;

use core::hint::black_box;

use telegrams::{
    Fault, Reading,
    cipher::Keys,
    dlms::{
        push::{self, Layout, Notification},
        push_link::Assembler,
        security::CounterGuard,
    },
    framing::{Splitter, hdlc::HdlcFraming, p1::P1, sml, sml::SmlTransport},
    p1, sml as sml_telegram,
};

#[doc(hidden)]
pub use {embedded_alloc::LlffHeap, riscv_rt, semihosting};

/// Bytes that nobody knows before the program runs.
fn line() -> &'static [u8] {
    static LINE: [u8; 64] = [0; 64];
    black_box(&LINE)
}

fn keys() -> Option<Keys> {
    black_box(Some(Keys { encryption: [0; 16], authentication: Some([0; 16]) }))
}

/// P1 of all versions, encrypted ones included.
pub fn p1() -> usize {
    let mut readings = 0;
    Splitter::new(P1).push(line(), &mut |frame| {
        let decoded = frame.and_then(|frame| p1::decode(frame, black_box(Some(telegrams::Zone::UTC)), keys().as_ref()));
        readings += count(decoded);
    });
    readings
}

/// SML of meters without quirks.
pub fn sml() -> usize {
    let mut readings = 0;
    Splitter::new(SmlTransport).push(line(), &mut |frame| {
        let decoded = frame.and_then(|frame| {
            let contents = sml::contents(frame)?;
            let lists = sml_telegram::lists(&contents)?;
            Ok(lists.iter().flat_map(|list| sml_telegram::readings(list, Default::default())).collect())
        });
        readings += count(decoded);
    });
    readings
}

/// DLMS push in HDLC frames, plain and protected.
pub fn push() -> usize {
    let (mut readings, mut assembler, mut guard) = (0, Assembler::new(), CounterGuard::default());
    Splitter::new(HdlcFraming).push(line(), &mut |frame| {
        let apdu = frame.and_then(|frame| assembler.hdlc(frame));
        if let Some(apdu) = apdu.ok().flatten() {
            readings += count(notification(&apdu, &mut guard));
        }
    });
    readings
}

fn notification(apdu: &[u8], guard: &mut CounterGuard) -> Result<alloc::vec::Vec<Reading>, Fault> {
    let (plain, opened) = push::plain(apdu, keys().as_ref())?;
    let notification = Notification::parse(&plain).ok_or(Fault::WrongKey)?;
    if let Some(opened) = &opened {
        guard.accept(opened.counter)?;
    }
    Ok(notification.readings(black_box(&Layout::default()), None))
}

fn count(decoded: Result<alloc::vec::Vec<Reading>, Fault>) -> usize {
    black_box(decoded).map_or(0, |readings| readings.len())
}

/// A program that runs `$decoders` once and says how many readings came.
#[macro_export]
macro_rules! program {
    ($decoders:expr) => {
        use $crate::semihosting::{println, process};

        #[global_allocator]
        static HEAP: $crate::LlffHeap = $crate::LlffHeap::empty();

        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
            println!("panic: {info}");
            process::exit(2)
        }

        #[$crate::riscv_rt::entry]
        fn main() -> ! {
            static mut MEMORY: [u8; 65_536] = [0; 65_536];
            // SAFETY: called once, before anything is allocated; nothing else names the memory.
            unsafe {
                HEAP.init(&raw mut MEMORY as usize, 65_536);
            }
            let readings: usize = $decoders;
            println!("readings {readings}");
            process::exit(0)
        }
    };
}
