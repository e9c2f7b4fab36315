//! Power is cut at random places inside flash writes and erases, thousands of times: no record that was safe is lost, none is
//! doubled at the server, registers and counters never go back.
//!
//! The flash model tears words (any subset of the bits that were to become 0 has become 0) and erases (a part of the block is
//! erased, a word of it is half erased, the rest is as before). `GRIDTALLY_CUTS` sets how many cuts; a failure names its seed.
#![allow(clippy::print_stdout)] // the long runs say what they have tried

use std::collections::{BTreeMap, BTreeSet};

use embedded_storage::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use meter::{
    Action, Inputs, Meter, MeterConfig, Settings, Uptime,
    clock::MeterClock,
    flash::{FlashStore, Layout},
};
use metering::{
    Body, Control, ControlKind, Down, Frame, MeterId, Milliamps, Timestamp, control::ReplyOutcome, frame::Reply,
};

const BLOCK: usize = 4_096;
const BLOCKS: usize = 24;
const START: i64 = 1_772_409_600;

#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn word(&mut self) -> [u8; 4] {
        u32::try_from(self.next() & 0xffff_ffff).expect("32 bits").to_le_bytes()
    }
}

/// NOR flash in RAM that dies after a number of word writes (an erase counts as eight).
struct TornFlash {
    bytes: Vec<u8>,
    left: Option<u64>,
    random: Random,
    spent: u64,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Fault {
    PowerCut,
    Misuse,
}

impl NorFlashError for Fault {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl ErrorType for TornFlash {
    type Error = Fault;
}

impl TornFlash {
    fn new(seed: u64) -> Self {
        Self { bytes: vec![0xff; BLOCK * BLOCKS], left: None, random: Random(seed), spent: 0 }
    }

    /// Takes the price of an operation; what is left of it when power fails in its midst.
    fn pay(&mut self, price: u64) -> Result<(), u64> {
        self.spent += price;
        match &mut self.left {
            None => Ok(()),
            Some(left) if *left >= price => {
                *left -= price;
                Ok(())
            }
            Some(left) => Err(std::mem::take(left)),
        }
    }
}

impl ReadNorFlash for TornFlash {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        let at = usize::try_from(offset).expect("small");
        bytes.copy_from_slice(self.bytes.get(at..at + bytes.len()).ok_or(Fault::Misuse)?);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for TornFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = BLOCK;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        let (from, to) = (usize::try_from(from).expect("small"), usize::try_from(to).expect("small"));
        assert!(from.is_multiple_of(BLOCK) && to.is_multiple_of(BLOCK) && to <= self.bytes.len());
        for block in (from..to).step_by(BLOCK) {
            if let Err(done) = self.pay(8) {
                // a part is erased, a word is half erased
                let end = block + BLOCK / 8 * usize::try_from(done).expect("small");
                self.bytes[block..end].fill(0xff);
                for byte in 0..4 {
                    self.bytes[end + byte] |= self.random.word()[byte];
                }
                return Err(Fault::PowerCut);
            }
            self.bytes[block..block + BLOCK].fill(0xff);
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        let at = usize::try_from(offset).expect("small");
        assert!(at.is_multiple_of(4) && bytes.len().is_multiple_of(4), "not whole words");
        for (n, word) in bytes.chunks(4).enumerate() {
            let torn = if self.pay(1).is_err() { Some(self.random.word()) } else { None };
            for (byte, value) in word.iter().enumerate() {
                let cell = &mut self.bytes[at + 4 * n + byte];
                // only from 1 to 0; a torn word has only some of the bits
                *cell &= value | torn.map_or(0, |mask| mask[byte]);
            }
            if torn.is_some() {
                return Err(Fault::PowerCut);
            }
        }
        Ok(())
    }
}

impl MultiwriteNorFlash for TornFlash {}

/// What the server and an onlooker know.
#[derive(Default)]
struct Oracle {
    /// Frames taken by the server: (boot, seq) and their bytes.
    server: BTreeMap<(u64, u64), Vec<u8>>,
    /// Frames that were safe in flash and not acknowledged: (boot, seq).
    safe: BTreeSet<(u64, u64)>,
    /// As of the last save that returned.
    import_wh: u64,
    import_remainder: u64,
    boot: u64,
    counter: u64,
    events: u64,
    /// Import by interval end, as the server has it.
    ends: BTreeMap<i64, u64>,
    acknowledged_by_cut: u64,
}

fn name(payload: &[u8]) -> (u64, u64) {
    let frame = Frame::from_cbor(payload).expect("a whole frame");
    (frame.boot, frame.seq)
}

struct Rig {
    store: Option<FlashStore<TornFlash>>,
    meter: Option<Meter>,
    config: MeterConfig,
    oracle: Oracle,
    random: Random,
    uptime: u64,
    time: u64,
    watts: i64,
    saves: u64,
}

impl Rig {
    fn new(seed: u64) -> Self {
        let store = FlashStore::new(TornFlash::new(seed), layout()).expect("a layout");
        let config = MeterConfig::new(MeterId::new("M-1").expect("valid"));
        let mut rig = Self {
            store: Some(store),
            meter: None,
            config,
            oracle: Oracle::default(),
            random: Random(seed ^ 0x5555),
            uptime: 0,
            time: 0,
            watts: 1_000,
            saves: 0,
        };
        rig.start().expect("no cut yet");
        rig
    }

    fn store(&mut self) -> &mut FlashStore<TornFlash> {
        self.store.as_mut().expect("there")
    }

    /// Power is back: everything that was safe is there, and nothing is there that was not.
    fn start(&mut self) -> Result<(), Fault> {
        let settings = Settings { now_seconds: 0, ..Settings::default() };
        let config = self.config.clone();
        let (memory, boot) = match self.store().load(&config, settings) {
            Ok(loaded) => loaded,
            Err(meter::flash::FlashError::Device(fault)) => return Err(fault),
            Err(other) => panic!("{other}"),
        };
        assert!(boot > self.oracle.boot, "boot number {boot} again");
        let import = memory.registers().import;
        let held = (import.units(), import.remainder());
        assert!(held >= (self.oracle.import_wh, self.oracle.import_remainder), "a register went back to {held:?}");
        assert!(memory.controls().last_counter().unwrap_or(0) >= self.oracle.counter, "the control counter went back");
        assert!(memory.log().total() >= self.oracle.events, "events were lost");
        self.oracle.boot = boot;
        (self.oracle.import_wh, self.oracle.import_remainder) = held;
        self.oracle.counter = memory.controls().last_counter().unwrap_or(0);
        self.oracle.events = memory.log().total();
        let waiting = waiting(&memory);
        for frame in &self.oracle.safe {
            assert!(waiting.contains(frame), "frame {frame:?} was safe and is lost");
        }
        // a save that was cut after its commit is also safe
        self.oracle.safe.extend(waiting.iter().filter(|frame| !self.oracle.server.contains_key(frame)));
        self.uptime = 0;
        let clock = MeterClock::backed_up(START * 1_000 + i64::try_from(self.time).expect("small"), Uptime(0));
        self.meter = Some(Meter::start(self.config.clone(), memory, boot, clock, Uptime(0)));
        Ok(())
    }

    fn meter(&mut self) -> &mut Meter {
        self.meter.as_mut().expect("running")
    }

    fn save(&mut self) -> Result<(), Fault> {
        let mut meter = self.meter.take().expect("running");
        let result = self.store().save(&mut meter);
        match result {
            Ok(saved) => {
                assert!(!saved.overwritten, "the region is large enough");
                self.saves += 1;
                let import = meter.registers().import;
                (self.oracle.import_wh, self.oracle.import_remainder) = (import.units(), import.remainder());
                self.oracle.events = meter.log().total();
                meter.link_lost();
                let mut all = BTreeSet::new();
                while let Some(out) = meter.next_to_send() {
                    all.insert(name(out.payload));
                }
                meter.link_lost();
                self.oracle.safe = all.into_iter().filter(|f| !self.oracle.server.contains_key(f)).collect();
                self.meter = Some(meter);
                Ok(())
            }
            Err(meter::flash::FlashError::Device(fault)) => Err(fault),
            Err(other) => panic!("{other}"),
        }
    }

    fn obey(&mut self, actions: &[Action]) -> Result<(), Fault> {
        if actions.contains(&Action::Save) { self.save() } else { Ok(()) }
    }

    /// The server takes some frames; their acknowledgement may be lost.
    fn deliver(&mut self, most: u64) {
        for _ in 0..most {
            let lost = self.random.below(4) == 0;
            let meter = self.meter.as_mut().expect("running");
            let Some(out) = meter.next_to_send() else { break };
            let (id, payload) = (out.id, out.payload.to_vec());
            let key = name(&payload);
            assert!(
                self.oracle.safe.contains(&key) || self.oracle.server.contains_key(&key),
                "sent before it was safe"
            );
            if let Some(known) = self.oracle.server.get(&key) {
                assert_eq!(*known, payload, "one number, two contents");
                self.oracle.acknowledged_by_cut += 1;
            } else {
                self.take(&payload);
                self.oracle.server.insert(key, payload);
                self.oracle.safe.remove(&key);
            }
            if !lost {
                assert!(self.meter().acknowledge(id));
            }
        }
        self.meter().link_lost();
    }

    fn take(&mut self, payload: &[u8]) {
        let frame = Frame::from_cbor(payload).expect("a frame");
        if let Body::Profile(profile) = frame.body {
            for record in profile.records {
                let end = record.end.0;
                assert!(self.oracle.ends.insert(end, record.import_wh.0).is_none(), "interval {end} came twice");
                let before = self.oracle.ends.range(..end).next_back().map_or(0, |(_, wh)| *wh);
                let after = self.oracle.ends.range(end + 1..).next().map_or(u64::MAX, |(_, wh)| *wh);
                assert!((before..=after).contains(&record.import_wh.0), "the register stepped back at {end}");
            }
        } else if let Body::Reply(Reply { outcome: ReplyOutcome::Done, control, .. }) = frame.body {
            self.oracle.counter = self.oracle.counter.max(control);
        }
    }

    /// Something happens.
    fn happen(&mut self) -> Result<(), Fault> {
        match self.random.below(10) {
            0..=4 => {
                let ms = 60_000 * (1 + self.random.below(20));
                (self.uptime, self.time) = (self.uptime + ms, self.time + ms);
                let ma = u32::try_from(self.watts * 1_000 / 230).expect("positive");
                let inputs = Inputs {
                    active_mw: self.watts * 1_000,
                    current: Milliamps(ma),
                    neutral: Some(Milliamps(ma)),
                    cover_open: self.random.below(12) == 0,
                    magnet: self.random.below(12) == 0,
                    ..Inputs::default()
                };
                let uptime = Uptime(self.uptime);
                let actions: Vec<Action> = self.meter().step(uptime, &inputs).collect();
                self.obey(&actions)
            }
            5 => {
                self.watts = i64::try_from(self.random.below(7_000)).expect("small");
                Ok(())
            }
            6 => {
                let id = self.oracle.counter.max(self.random.next() >> 40) + 1;
                let expires = Timestamp(START + i64::try_from(self.time / 1_000).expect("small") + 600);
                let kind = ControlKind::SnapshotAt { at: expires };
                let control = Control { id, kind, expires, counter: id, signatures: vec![] };
                let actions: Vec<Action> = self.meter().receive(&Down::Control(control)).collect();
                self.obey(&actions)?;
                self.oracle.counter = id;
                Ok(())
            }
            _ => {
                let most = self.random.below(12);
                self.deliver(most);
                if self.random.below(2) == 0 {
                    let mut store = self.store.take().expect("there");
                    let result = store.forget_acknowledged(self.meter());
                    self.store = Some(store);
                    if result.is_err() {
                        return Err(Fault::PowerCut);
                    }
                }
                Ok(())
            }
        }
    }

    /// Runs until power fails after `budget` word writes, and starts again (which may be cut as well).
    fn run_to_cut(&mut self, budget: u64) {
        self.store().flash().left = Some(budget);
        while self.happen().is_ok() {}
        self.meter = None;
        for again in 0.. {
            // the start itself writes (boot number, removal of what was not committed): cut it too, twice
            let left = (again < 2 && self.random.below(3) == 0).then(|| self.random.below(60));
            self.reset(left);
            if self.start().is_ok() {
                break;
            }
        }
        self.store().flash().left = None;
        self.save().expect("power is on");
    }

    fn reset(&mut self, left: Option<u64>) {
        let mut flash = self.store.take().expect("there").into_flash();
        flash.left = left;
        self.store = Some(FlashStore::new(flash, layout()).expect("a layout"));
    }
}

fn layout() -> Layout {
    Layout::divide(0, 24, 4_096).expect("enough blocks")
}

fn waiting(memory: &meter::Memory) -> BTreeSet<(u64, u64)> {
    memory.ring().payloads().map(name).collect()
}

fn cuts() -> u64 {
    std::env::var("GRIDTALLY_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

#[test]
fn no_cut_loses_or_doubles_anything() {
    const CUTS_PER_RIG: u64 = 25;
    let (mut cut, mut saves, mut resent, mut intervals) = (0, 0, 0, 0);
    for seed in 0..cuts().div_ceil(CUTS_PER_RIG) {
        let outcome = std::panic::catch_unwind(|| {
            let mut rig = Rig::new(seed);
            for _ in 0..CUTS_PER_RIG {
                let budget = match rig.random.below(3) {
                    0 => rig.random.below(200),
                    1 => rig.random.below(2_000),
                    _ => rig.random.below(20_000),
                };
                rig.run_to_cut(budget);
            }
            // at last everything comes through
            for _ in 0..1_000 {
                rig.deliver(64);
                if rig.oracle.safe.is_empty() {
                    break;
                }
            }
            assert!(rig.oracle.safe.is_empty(), "frames that never arrive");
            (rig.saves, rig.oracle.acknowledged_by_cut, u64::try_from(rig.oracle.ends.len()).expect("small"))
        });
        let (saved, again, ends) = outcome.unwrap_or_else(|why| {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(why)
        });
        cut += CUTS_PER_RIG;
        saves += saved;
        resent += again;
        intervals += ends;
    }
    assert!(saves > cut && intervals > cut && resent > 0, "{saves} saves, {intervals} intervals: nothing was tried");
    println!(
        "{cut} cuts, {saves} saves, {intervals} intervals at the server, {resent} frames sent twice and taken once"
    );
}

#[test]
fn a_flash_that_is_too_small_is_refused_and_a_full_one_says_so() {
    assert!(Layout::divide(0, 7, 4_096).is_none());
    let mut crooked = layout();
    crooked.frames.start += 1;
    let refused = FlashStore::new(TornFlash::new(0), crooked).map(|_| ()).expect_err("crooked");
    assert!(refused.to_string().contains("erase blocks"), "{refused}");
    let mut store = FlashStore::new(TornFlash::new(0), Layout::divide(0, 8, 4_096).expect("eight")).expect("a layout");
    let config = MeterConfig::new(MeterId::new("M-1").expect("valid"));
    let (memory, boot) = store.load(&config, Settings::default()).expect("loads");
    let mut meter =
        Meter::start(config.clone(), memory, boot, MeterClock::backed_up(START * 1_000, Uptime(0)), Uptime(0));
    let mut overwritten = false;
    for minute in 0..6_000 {
        meter.step(Uptime(minute * 60_000), &Inputs::default()).for_each(drop);
        overwritten |= store.save(&mut meter).expect("saves").overwritten;
    }
    assert!(overwritten, "a hundred hours without a server do not fit into 8 KiB");
    let (memory, _) = store.load(&config, Settings::default()).expect("loads");
    assert_eq!(memory.registers(), meter.registers(), "registers are kept whatever happens to frames");
    assert!(memory.ring().len() > 20, "the newest frames are kept");
}

#[test]
fn the_log_and_settings_return_as_they_were() {
    let mut rig = Rig::new(99);
    for n in 0..400 {
        rig.time += 70_000;
        rig.uptime += 70_000;
        let inputs = Inputs { magnet: n % 4 < 2, cover_open: n % 50 == 0, ..Inputs::default() };
        let uptime = Uptime(rig.uptime);
        let actions: Vec<Action> = rig.meter().step(uptime, &inputs).collect();
        rig.obey(&actions).expect("power is on");
        rig.deliver(8);
    }
    let before = rig.meter().log().clone();
    rig.meter = None;
    rig.reset(None);
    rig.start().expect("power is on");
    assert_eq!(*rig.meter().log(), before);
    assert!(before.total() > 50);
}
