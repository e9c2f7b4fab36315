//! Recorded samples through the metrology core on an emulated RISC-V microcontroller: reads the file `vectors.bin` of the folder
//! in which the emulator was started (`metrology::stream`) and prints for each recording what the host prints.
#![no_std]
#![no_main]

use metrology::fft::Spectrum;
use metrology::golden::Measuring;
use metrology::stream::{HEAD_BYTES, Head, SAMPLE_BYTES, read_sample};
use metrology::sums::Sample;
use riscv_rt::entry;
use semihosting::{fs::File, io::Read, println, process};
use static_cell::StaticCell;

/// Sample memory of the bench.
const RING: usize = 4096;
/// Samples handed over at once.
const BLOCK: usize = 256;

static SPECTRUM: StaticCell<Spectrum> = StaticCell::new();

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("panic: {info}");
    process::exit(2)
}

fn stop(why: &str) -> ! {
    println!("stopped: {why}");
    process::exit(2)
}

/// One recording; its samples follow in the file.
fn measure(file: &mut File, head: &Head, spectrum: &mut Spectrum) {
    let Ok(mut measuring) = Measuring::<RING>::new(head.config) else { stop("the core refuses the configuration") };
    let mut left = head.samples as usize;
    let (mut bytes, mut block) = ([0; BLOCK * SAMPLE_BYTES], [Sample::default(); BLOCK]);
    while left > 0 {
        let count = left.min(BLOCK);
        let part = &mut bytes[..count * SAMPLE_BYTES];
        if file.read_exact(part).is_err() {
            stop("the recording is cut short");
        }
        for (sample, chunk) in block.iter_mut().zip(part.as_chunks::<SAMPLE_BYTES>().0) {
            *sample = read_sample(chunk);
        }
        measuring.push(&block[..count], spectrum, || 0);
        left -= count;
    }
    let outcome = measuring.finish();
    let (hash, windows, events) = (outcome.hash.0, outcome.windows, outcome.events);
    println!("vector {} {hash:016x} {windows} {events} {}", head.name(), outcome.samples);
}

#[entry]
fn main() -> ! {
    let spectrum = SPECTRUM.init_with(Spectrum::default);
    let Ok(mut file) = File::open(c"vectors.bin") else { stop("there is no vectors.bin") };
    let length = match file.metadata() {
        Ok(about) => about.len(),
        Err(_) => stop("vectors.bin cannot be asked for its length"),
    };
    let mut at = 0;
    while at < length {
        let mut bytes = [0; HEAD_BYTES];
        if file.read_exact(&mut bytes).is_err() {
            stop("a head is cut short");
        }
        let Some(head) = Head::read(&bytes) else { stop("a head is damaged") };
        measure(&mut file, &head, spectrum);
        at += (HEAD_BYTES + head.samples as usize * SAMPLE_BYTES) as u64;
    }
    process::exit(0)
}
