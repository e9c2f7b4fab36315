//! Power is cut at random places inside flash writes and erases, thousands of times: no record that was safe is lost, none is
//! doubled at the server, registers and counters never go back. Every other meter masks its records: no mask is used twice.
//!
//! The flash model tears words (any subset of the bits that were to become 0 has become 0) and erases (a part of the block is
//! erased, a word of it is half erased, the rest is as before). `GRIDTALLY_CUTS` sets how many cuts; a failure names its seed.
#![allow(clippy::print_stdout)] // the long runs say what they have tried

use std::collections::{BTreeMap, BTreeSet};

use crate::random::Random;
use crate::torn::{Fault, Socket};
use meter::{
    Inputs, Meter, MeterConfig, Settings, Uptime,
    clock::MeterClock,
    flash::{FlashError, FlashStore, Layout},
    kept::KeptMeter,
    masking::Masking,
};
use metering::{
    Body, Control, ControlKind, Down, Frame, MeterId, Milliamps, Timestamp, control::ReplyOutcome, frame::Reply,
    reading::Channel,
};
use privacy::MaskKey;

const START: i64 = 1_772_409_600;

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
    /// Masks that arrived: epoch and counter.
    masks: BTreeSet<(u32, u64)>,
    acknowledged_by_cut: u64,
}

fn meter() -> MeterId {
    MeterId::new("M-1").expect("valid")
}

/// Two custodians; the keys are ratcheted on every fifty masks.
fn masking() -> Masking {
    let keys = vec![MaskKey::from_bytes([1; 32]), MaskKey::from_bytes([2; 32])];
    Masking { epoch: 1, keys, clip_day_wh: 20_000, clip_slot_wh: 2_000, epoch_masks: 50 }
}

fn name(payload: &[u8]) -> (u64, u64) {
    let frame = Frame::from_cbor(payload).expect("a whole frame");
    (frame.boot, frame.seq)
}

struct Rig {
    flash: Socket,
    kept: Option<KeptMeter<Socket>>,
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
        let mut rig = Self {
            flash: Socket::new(seed),
            kept: None,
            config: MeterConfig { masking: (seed % 2 == 1).then(masking), ..MeterConfig::new(meter()) },
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

    /// Power is back: everything that was safe is there, and nothing is there that was not.
    fn start(&mut self) -> Result<(), Fault> {
        let settings = Settings { now_seconds: 0, ..Settings::default() };
        let store = FlashStore::new(self.flash.clone(), layout()).expect("a layout");
        let clock = MeterClock::backed_up(START * 1_000 + i64::try_from(self.time).expect("small"), Uptime(0));
        let kept = match KeptMeter::start(store, self.config.clone(), settings, clock, Uptime(0)) {
            Ok(kept) => kept,
            Err(FlashError::Device(fault)) => return Err(fault),
            Err(other) => panic!("{other}"),
        };
        let meter = kept.meter();
        assert!(meter.boot() > self.oracle.boot, "boot number {} again", meter.boot());
        let import = meter.registers().import;
        let held = (import.units(), import.remainder());
        assert!(held >= (self.oracle.import_wh, self.oracle.import_remainder), "a register went back to {held:?}");
        let counter = meter.controls().last_counter().unwrap_or(0);
        assert!(counter >= self.oracle.counter, "the control counter went back");
        assert!(meter.log().total() >= self.oracle.events, "events were lost");
        self.oracle.boot = meter.boot();
        (self.oracle.import_wh, self.oracle.import_remainder) = held;
        self.oracle.counter = counter;
        self.oracle.events = meter.log().total();
        let waiting: BTreeSet<_> = meter.ring().payloads().map(name).collect();
        for frame in &self.oracle.safe {
            assert!(waiting.contains(frame), "frame {frame:?} was safe and is lost");
        }
        // a save that was cut after its commit is also safe
        self.oracle.safe.extend(waiting.iter().filter(|frame| !self.oracle.server.contains_key(frame)));
        self.check_whole(meter);
        self.uptime = 0;
        self.kept = Some(kept);
        Ok(())
    }

    /// What the meter remembers having told is told: its last record and every frame of earlier starts arrived or waits.
    fn check_whole(&self, meter: &Meter) {
        let waiting: Vec<Frame> =
            meter.ring().payloads().map(|payload| Frame::from_cbor(payload).expect("a whole frame")).collect();
        if let Some(last) = meter.profile().last() {
            let waits = waiting.iter().any(|frame| {
                matches!(&frame.body, Body::Profile(profile) if profile.records.iter().any(|r| r.end == last.end))
            });
            assert!(waits || self.oracle.ends.contains_key(&last.end.0), "the record of {} is lost", last.end.0);
        }
        let made = waiting.iter().map(|frame| (frame.boot, frame.seq));
        let made: BTreeSet<_> = made.chain(self.oracle.server.keys().copied()).collect();
        for (boot, seq) in &made {
            assert!(*seq == 0 || made.contains(&(*boot, seq - 1)), "a gap before frame {seq} of start {boot}");
        }
    }

    fn kept(&mut self) -> &mut KeptMeter<Socket> {
        self.kept.as_mut().expect("running")
    }

    /// Something is done to the meter; what it has saved then is safe.
    fn act(&mut self, act: impl FnOnce(&mut KeptMeter<Socket>)) -> Result<(), Fault> {
        let kept = self.kept.as_mut().expect("running");
        let before = kept.saves();
        act(kept);
        if let Some(why) = kept.fault() {
            let FlashError::Device(fault) = why else { panic!("{why}") };
            let fault = *fault;
            assert!(kept.next_to_send().is_none(), "something is sent that is not safe");
            return Err(fault);
        }
        if kept.saves() == before {
            return Ok(());
        }
        self.saves += kept.saves() - before;
        let import = kept.meter().registers().import;
        (self.oracle.import_wh, self.oracle.import_remainder) = (import.units(), import.remainder());
        self.oracle.events = kept.meter().log().total();
        let waiting = kept.meter().ring().payloads().map(name);
        self.oracle.safe = waiting.filter(|frame| !self.oracle.server.contains_key(frame)).collect();
        Ok(())
    }

    fn step(&mut self, inputs: &Inputs) -> Result<(), Fault> {
        let uptime = Uptime(self.uptime);
        self.act(|kept| {
            kept.step(uptime, inputs);
        })
    }

    /// The server takes some frames; their acknowledgement may be lost.
    fn deliver(&mut self, most: u64) {
        for _ in 0..most {
            let lost = self.random.below(4) == 0;
            let kept = self.kept.as_mut().expect("running");
            let Some(out) = kept.next_to_send() else { break };
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
                assert!(self.kept().acknowledge(id));
            }
        }
        self.kept().link_lost();
    }

    fn take(&mut self, payload: &[u8]) {
        let frame = Frame::from_cbor(payload).expect("a frame");
        if let Body::Profile(profile) = frame.body {
            for record in profile.records {
                let end = record.end.0;
                if let Some(masked) = record.masked {
                    let counter = record.extra.iter().find(|v| v.channel == Channel::MASK_COUNTER).expect("a counter");
                    let name = (masked.epoch, counter.value.cast_unsigned());
                    assert!(self.oracle.masks.insert(name), "mask {name:?} was used twice");
                    let latest = self.oracle.masks.last().map(|(epoch, _)| *epoch);
                    assert!(latest <= Some(masked.epoch + 1), "the keys went back to epoch {}", masked.epoch);
                }
                assert_eq!(record.masked.is_some(), self.config.masking.is_some());
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
                self.step(&inputs)
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
                let uptime = Uptime(self.uptime);
                self.act(|kept| {
                    kept.receive(uptime, &Down::Control(control));
                })?;
                self.oracle.counter = id;
                Ok(())
            }
            _ => {
                let most = self.random.below(12);
                self.deliver(most);
                if self.random.below(2) == 0 && self.kept().forget_acknowledged().is_err() {
                    return Err(Fault::PowerCut);
                }
                Ok(())
            }
        }
    }

    /// It was the flash that failed and not the power: the meter runs on and saves later what it could not save.
    fn recover(&mut self) {
        self.flash.power(None);
        (self.uptime, self.time) = (self.uptime + 60_000, self.time + 60_000);
        self.step(&Inputs { magnet: true, ..Inputs::default() }).expect("the flash is whole again");
        self.deliver(4);
    }

    /// Runs until power fails after `budget` word writes, and starts again (which may be cut as well).
    fn run_to_cut(&mut self, budget: u64) {
        self.flash.power(Some(budget));
        while self.happen().is_ok() {}
        if self.random.below(4) == 0 {
            self.recover();
        }
        self.kept = None;
        for again in 0.. {
            // the start itself writes (boot number, removal of what was not committed): cut it too, twice
            let left = (again < 2 && self.random.below(3) == 0).then(|| self.random.below(60));
            self.flash.power(left);
            if self.start().is_ok() {
                break;
            }
        }
        self.flash.power(None);
        self.step(&Inputs::default()).expect("power is on");
    }
}

fn layout() -> Layout {
    Layout::divide(0, 24, 4_096).expect("enough blocks")
}

fn cuts() -> u64 {
    std::env::var("GRIDTALLY_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

#[test]
fn no_cut_loses_or_doubles_anything() {
    const CUTS_PER_RIG: u64 = 25;
    let (mut cut, mut saves, mut resent, mut intervals, mut masks) = (0, 0, 0, 0, 0);
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
            let length = |length: usize| u64::try_from(length).expect("small");
            let (ends, masks) = (length(rig.oracle.ends.len()), length(rig.oracle.masks.len()));
            (rig.saves, rig.oracle.acknowledged_by_cut, ends, masks)
        });
        let (saved, again, ends, masked) = outcome.unwrap_or_else(|why| {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(why)
        });
        cut += CUTS_PER_RIG;
        saves += saved;
        resent += again;
        intervals += ends;
        masks += masked;
    }
    assert!(masks > cut / 4, "{masks} masks");
    assert!(saves > cut && intervals > cut && resent > 0, "{saves} saves, {intervals} intervals: nothing was tried");
    println!(
        "{cut} cuts, {saves} saves, {intervals} intervals at the server ({masks} masked), {resent} frames sent twice and taken once"
    );
}

#[test]
fn a_flash_that_is_too_small_is_refused_and_a_full_one_says_so() {
    assert!(Layout::divide(0, 7, 4_096).is_none());
    let mut crooked = layout();
    crooked.frames.start += 1;
    let refused = FlashStore::new(Socket::new(0), crooked).map(|_| ()).expect_err("crooked");
    assert!(refused.to_string().contains("erase blocks"), "{refused}");
    let mut store = FlashStore::new(Socket::new(0), Layout::divide(0, 8, 4_096).expect("eight")).expect("a layout");
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
        rig.step(&inputs).expect("power is on");
        rig.deliver(8);
    }
    let before = rig.kept().meter().log().clone();
    rig.kept = None;
    rig.start().expect("power is on");
    assert_eq!(*rig.kept().meter().log(), before);
    assert!(before.total() > 50);
}
