//! A whole meter on an emulated RISC-V microcontroller: metrology core, meter, store-and-forward in (emulated) flash, and a serial
//! line to the world.
//!
//! Time is virtual and runs as fast as the line takes what the meter says: a step lasts five minutes, and
//! every third measures one real window of a changing load. Power fails now and then: the meter is thrown away and started again from flash. When three
//! days have passed and everything is acknowledged, it prints what it has made and ends. It is not a product: the boards'
//! firmware is elsewhere and uses the same crates.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::{boxed::Box, vec::Vec};
use core::ptr::{read_volatile, write_volatile};

use embedded_alloc::LlffHeap;
use embedded_storage::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use meter::{
    Action, Inputs, Meter, MeterConfig, Settings, Uptime,
    clock::MeterClock,
    flash::{FlashStore, Layout},
    measured::inputs_of,
    serial::{Decoder, Message},
};
use metering::MeterId;
use metrology::{
    config::{Config, FrontEnd, Nominal},
    engine::Core,
    fft::Spectrum,
    sums::Sample,
};
use riscv_rt::entry;
use semihosting::{println, process};

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

const HEAP_BYTES: usize = 640 * 1024;
const FLASH_BLOCKS: usize = 64;
const BLOCK: usize = 4_096;
/// Virtual time: its beginning, the length of a step, the number of steps.
const START: i64 = 1_772_409_600;
const STEP_MS: u64 = 300_000;
const STEPS: u64 = 3 * 288;
/// A real window of samples is measured every so many steps.
const STEPS_PER_WINDOW: u64 = 3;
/// Power fails after so many steps, again and again.
const STEPS_PER_LIFE: u64 = 250;
/// Frames on the way at once, and frames waiting at which virtual time stands still.
const WINDOW: u32 = 8;
const WAITING_MAX: usize = 60;
/// Without an acknowledgement for so long, everything is sent again; ticks of 100 ns.
const PATIENCE: u64 = 50_000_000;
/// Silence after which half a message is given up, ticks.
const SILENCE: u64 = 2_000_000;

const UART: *mut u8 = 0x1000_0000 as *mut u8;
const MTIME: *const u64 = 0x0200_bff8 as *const u64;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("panic: {info}");
    process::exit(2)
}

fn ticks() -> u64 {
    // SAFETY: the timer of the machine `virt`, readable at any time.
    unsafe { read_volatile(MTIME) }
}

fn send_bytes(bytes: &[u8]) {
    for byte in bytes {
        // SAFETY: the UART (16550) of the machine `virt`; bit 5 of its line status says that it takes a byte.
        unsafe {
            while read_volatile(UART.add(5)) & 0x20 == 0 {}
            write_volatile(UART, *byte);
        }
    }
}

fn received() -> Option<u8> {
    // SAFETY: as above; bit 0 says that a byte has come.
    unsafe { (read_volatile(UART.add(5)) & 1 == 1).then(|| read_volatile(UART)) }
}

/// Flash in memory; what power cuts do to flash is tested on the host.
struct RamFlash(Box<[u8]>);

#[derive(Debug)]
struct NeverFails;

impl NorFlashError for NeverFails {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl ErrorType for RamFlash {
    type Error = NeverFails;
}

impl ReadNorFlash for RamFlash {
    const READ_SIZE: usize = 4;
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NeverFails> {
        let at = offset as usize;
        bytes.copy_from_slice(&self.0[at..at + bytes.len()]);
        Ok(())
    }
    fn capacity(&self) -> usize {
        self.0.len()
    }
}

impl NorFlash for RamFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = BLOCK;
    fn erase(&mut self, from: u32, to: u32) -> Result<(), NeverFails> {
        self.0[from as usize..to as usize].fill(0xff);
        Ok(())
    }
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NeverFails> {
        self.0[offset as usize..].iter_mut().zip(bytes).for_each(|(cell, byte)| *cell &= byte);
        Ok(())
    }
}

impl MultiwriteNorFlash for RamFlash {}

/// Voltage and current as rotating phasors in Q30; the amplitude of the current follows the virtual time.
struct Signal {
    phase: (i64, i64),
}

impl Signal {
    /// Sine and cosine of 2π · 50 / 8000.
    const STEP: (i64, i64) = (42_154_906, 1_072_914_008);

    fn next(&mut self, peak: i64) -> Sample {
        let (sin, cos) = self.phase;
        let (ds, dc) = Self::STEP;
        let half = 1 << 29;
        self.phase = ((sin * dc + cos * ds + half) >> 30, (cos * dc - sin * ds + half) >> 30);
        let volt = (sin * 3_252_691) >> 30;
        let ampere = (sin * peak) >> 30;
        Sample { v: volt as i32, i: ampere as i32, n: ampere as i32 }
    }
}

fn front_end() -> Config {
    Config {
        sample_rate_mhz: 8_000_000,
        nominal: Nominal::Hz50,
        u_din_mv: 230_000,
        front_end: FrontEnd {
            volt_pv_per_count: 100_000_000,
            phase_pa_per_count: 10_000_000,
            neutral_pa_per_count: 10_000_000,
            current_delay_ns: 0,
            voltage_lead_udeg: 0,
            volt_noise_uv: 0,
            phase_noise_ua: 0,
            neutral_noise_ua: 0,
            counts_per_step: 1,
        },
        start_current_ua: 20_000,
    }
}

/// What the run has made.
#[derive(Default)]
struct Tally {
    boots: u64,
    windows: u64,
    resent: u64,
    saves: u64,
}

struct Rig {
    store: FlashStore<RamFlash>,
    meter: Meter,
    config: MeterConfig,
    decoder: Decoder,
    on_the_way: u32,
    heard: u64,
    /// Virtual milliseconds at the start of this life, and since.
    born: u64,
    uptime: u64,
    tally: Tally,
}

fn start(store: &mut FlashStore<RamFlash>, config: &MeterConfig, born: u64) -> Meter {
    let settings = Settings { now_seconds: 0, ..Settings::default() };
    match store.load(config, settings) {
        Ok((memory, boot)) => {
            let clock = MeterClock::backed_up(START * 1_000 + born as i64, Uptime(0));
            Meter::start(config.clone(), memory, boot, clock, Uptime(0))
        }
        Err(error) => {
            println!("flash: {error}");
            process::exit(2)
        }
    }
}

impl Rig {
    fn step(&mut self, inputs: &Inputs) {
        self.uptime += STEP_MS;
        let must_save = self.meter.step(Uptime(self.uptime), inputs).any(|action| action == Action::Save);
        if must_save {
            self.save();
        }
    }

    fn save(&mut self) {
        self.tally.saves += 1;
        if let Err(error) = self.store.save(&mut self.meter) {
            println!("flash: {error}");
            process::exit(2)
        }
    }

    fn power_cut(&mut self) {
        self.born += self.uptime;
        self.uptime = 0;
        self.meter = start(&mut self.store, &self.config, self.born);
        (self.on_the_way, self.decoder) = (0, Decoder::default());
        self.tally.boots += 1;
    }

    /// Sends what there is to send and takes what has come.
    fn talk(&mut self) {
        while self.on_the_way < WINDOW {
            let Some(out) = self.meter.next_to_send() else { break };
            let message = Message::Up { id: out.id, kind: out.kind, payload: Vec::from(out.payload) };
            send_bytes(&message.encode());
            self.on_the_way += 1;
        }
        let mut any = false;
        while let Some(byte) = received() {
            self.decoder.push(&[byte]);
            any = true;
        }
        let now = ticks();
        if any {
            self.heard = now;
        } else if now - self.heard > SILENCE {
            self.decoder.give_up();
        }
        while let Some(message) = self.decoder.next_message() {
            match message {
                Message::Acknowledge(id) => {
                    if self.meter.acknowledge(id) {
                        self.on_the_way = self.on_the_way.saturating_sub(1);
                    }
                }
                Message::Down(down) => {
                    if self.meter.receive(&down).any(|action| action == Action::Save) {
                        self.save();
                    }
                }
                Message::Up { .. } | Message::Neighbour(_) => {}
            }
        }
        if self.on_the_way > 0 && now - self.heard > PATIENCE {
            self.tally.resent += u64::from(self.on_the_way);
            self.meter.link_lost();
            (self.on_the_way, self.heard) = (0, now);
        }
    }

    fn report(&self) {
        println!("frames {}", self.meter.ring().frames_made());
        println!("records {}", self.meter.profile().records());
        println!("last {}", self.meter.profile().last().map_or(0, |last| last.end.0));
        println!("import_wh {}", self.meter.profile().last().map_or(0, |last| last.import_wh.0));
        println!("boots {}", self.tally.boots);
        println!("windows {}", self.tally.windows);
        println!("resent {}", self.tally.resent);
        println!("saves {}", self.tally.saves);
        println!("heap {}", HEAP.used());
    }
}

/// The samples of one window of ten cycles; what they come to, once the window has closed.
fn measure(core: &mut Core<2048>, spectrum: &mut Spectrum, signal: &mut Signal, peak: i64) -> Option<Inputs> {
    let mut inputs = None;
    for _ in 0..50 {
        let block: [Sample; 32] = core::array::from_fn(|_| signal.next(peak));
        let mut rest = &block[..];
        while !rest.is_empty() {
            let pushed = core.push(rest);
            rest = &rest[pushed.consumed..];
            if pushed.half_cycle.is_some_and(|half| half.window_ready)
                && let Some(report) = core.close_window(spectrum)
            {
                inputs = Some(inputs_of(&report, Inputs::default()));
            }
        }
    }
    inputs
}

#[entry]
fn main() -> ! {
    // SAFETY: called once, before anything is allocated.
    unsafe {
        embedded_alloc::init!(HEAP, HEAP_BYTES);
    }
    let Ok(id) = MeterId::new("M-QEMU") else { process::exit(2) };
    let config = MeterConfig { ring_frames_max: 400, ..MeterConfig::new(id) };
    let Some(layout) = Layout::divide(0, FLASH_BLOCKS as u32, BLOCK as u32) else { process::exit(2) };
    let flash = RamFlash(alloc::vec![0xff; FLASH_BLOCKS * BLOCK].into_boxed_slice());
    let Ok(mut store) = FlashStore::new(flash, layout) else { process::exit(2) };
    let Ok(core) = Core::<2048>::new(front_end()) else { process::exit(2) };
    let mut metrology = Box::new(core);
    let mut spectrum = Box::<Spectrum>::default();
    let mut signal = Signal { phase: (0, 1 << 30) };
    let meter = start(&mut store, &config, 0);
    let tally = Tally { boots: 1, ..Tally::default() };
    let decoder = Decoder::default();
    let mut rig = Rig { store, meter, config, decoder, on_the_way: 0, heard: ticks(), born: 0, uptime: 0, tally };
    let mut inputs = Inputs::default();
    // the first windows find the frequency
    for _ in 0..4 {
        inputs = measure(&mut metrology, &mut spectrum, &mut signal, 100_000).unwrap_or(inputs);
    }
    for step in 0..STEPS {
        while rig.meter.ring().len() > WAITING_MAX {
            rig.talk();
        }
        // from 0.7 to 6.3 A, down and up over a virtual day
        let peak = 100_000 + 800_000 * (step % 288).abs_diff(144) as i64 / 144;
        if step % STEPS_PER_WINDOW == 0 {
            inputs = measure(&mut metrology, &mut spectrum, &mut signal, peak).unwrap_or(inputs);
            rig.tally.windows += 1;
        }
        rig.step(&inputs);
        rig.talk();
        if step % STEPS_PER_LIFE == STEPS_PER_LIFE - 1 {
            rig.power_cut();
        }
    }
    while !rig.meter.ring().is_empty() {
        rig.talk();
    }
    rig.report();
    process::exit(0)
}
