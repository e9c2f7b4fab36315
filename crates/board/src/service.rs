//! The other end of the serial port: carries out what its lines ask for.
//!
//! Provision and calibration are written to flash, an image goes into the slot that does not run, each checked before it counts;
//! every buffer is bounded by what is being written. Not a shell: it can read nothing back but what `show` says.

use alloc::{format, string::String, vec::Vec};
use core::fmt;

use ed25519_dalek::VerifyingKey;
use embedded_storage::nor_flash::NorFlash;
use metrology::{
    calibration::{RECORD_BYTES, Reading, Record},
    config::{Config, FrontEnd},
};

use crate::{
    bench::{Bench, Progress},
    calibration,
    image::{Board, HEADER_BYTES},
    partitions::{self, CALIBRATION, LOG, PROVISION, SLOT_BYTES},
    provisioning::{Effect, Provision},
    record,
    rollback::Slot,
    start,
    update::Update,
};

/// What does not change while the board runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its hardware number.
    pub hardware: u16,
    /// Version of the program.
    pub version: u32,
    /// The slot it lies in.
    pub slot: Slot,
    /// The front end as its parts are, uncalibrated.
    pub front_end: Config,
    /// Sample memory of the measuring core, samples.
    pub ring: usize,
}

/// What the firmware does after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Waits for the next line.
    Stay,
    /// Starts the chip again.
    Restart,
    /// Measures with this front end from now on and counts as not calibrated, until the next start.
    Measure(FrontEnd),
}

/// The serial port's other end.
#[derive(Debug)]
pub struct Service<F> {
    flash: F,
    running: Running,
    provision: Provision,
    record: Vec<u8>,
    update: Option<Update>,
    bench: Option<Bench>,
}

impl<F: NorFlash> Service<F>
where
    F::Error: fmt::Debug,
{
    /// For a board that was told `provision`.
    pub fn new(flash: F, running: Running, provision: Provision) -> Self {
        Self { flash, running, provision, record: Vec::new(), update: None, bench: None }
    }

    /// Takes a line and gives the answer. `jumper`: the calibration jumper is closed; `reading`: the newest window.
    pub fn line(&mut self, line: &str, jumper: bool, reading: Option<&Reading>) -> (String, After) {
        let (answer, effect) = self.provision.line(line, jumper);
        let restarts = matches!(effect, Effect::Save | Effect::Install | Effect::Format);
        let result = match effect {
            Effect::None => return (answer, After::Stay),
            Effect::Save => self.save().map(|()| answer),
            Effect::Bench(words) => return self.bench(&words, reading),
            Effect::Calibrate(is_first, bytes) => return self.calibrate(is_first, &bytes),
            Effect::Image(header) => self.image(&header),
            Effect::Part(at, bytes) => self.part(at, &bytes),
            Effect::Install => self.install(),
            Effect::Format => self.format(),
        };
        match result {
            Ok(answer) => (answer, if restarts { After::Restart } else { After::Stay }),
            Err(why) => (format!("error {why}"), After::Stay),
        }
    }

    fn save(&mut self) -> Result<(), String> {
        let bytes = minicbor::to_vec(&self.provision).map_err(|_| String::from("out of memory"))?;
        record::save(&mut self.flash, PROVISION, &bytes).map_err(|why| format!("{why}"))
    }

    fn bench(&mut self, words: &str, reading: Option<&Reading>) -> (String, After) {
        let progress = match (words, &mut self.bench) {
            ("start", bench) => {
                let last = record::load(&mut self.flash, CALIBRATION).ok().flatten();
                let last = last.and_then(|bytes| Record::from_bytes(bytes.as_slice().try_into().ok()?).ok());
                let (begun, progress) = Bench::begin(&self.running.front_end, last.as_ref());
                *bench = Some(begun);
                Ok(progress)
            }
            (_, Some(bench)) => bench.say(words, reading),
            (_, None) => Err("no calibration has been begun: bench start".into()),
        };
        match progress {
            Ok(Progress { answer, measure_with }) => (answer, measure_with.map_or(After::Stay, After::Measure)),
            Err(why) => (format!("error {why}"), After::Stay),
        }
    }

    fn calibrate(&mut self, is_first: bool, bytes: &[u8]) -> (String, After) {
        if is_first {
            self.record.clear();
        }
        if self.record.len() + bytes.len() > RECORD_BYTES {
            self.record.clear();
            return (format!("error a calibration record has {RECORD_BYTES} bytes; begin again"), After::Stay);
        }
        self.record.extend_from_slice(bytes);
        if self.record.len() < RECORD_BYTES {
            return (format!("ok {} of {RECORD_BYTES} bytes", self.record.len()), After::Stay);
        }
        let whole = core::mem::take(&mut self.record);
        let key = self.provision.calibration_key.as_ref();
        let judged = calibration::judge(Some(&whole), key, &self.running.front_end, self.running.ring)
            .map_err(|why| format!("{why}"))
            .and_then(|record| {
                let saved = record::save(&mut self.flash, CALIBRATION, &whole);
                saved.map(|()| record.count).map_err(|why| format!("{why}"))
            });
        match judged {
            Ok(count) => (format!("ok calibration {count}; starting again"), After::Restart),
            Err(why) => (format!("error {why}"), After::Stay),
        }
    }

    fn image(&mut self, header: &[u8]) -> Result<String, String> {
        self.update = None;
        let header: &[u8; HEADER_BYTES] =
            header.try_into().map_err(|_| format!("the header of an image has {HEADER_BYTES} bytes"))?;
        let key = self.provision.firmware_key.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
        let key = key.ok_or("no key of a maker is set: set firmware-key")?;
        let state = self.state()?;
        if state.trial.is_some() || state.confirmed != self.running.slot {
            return Err("the program that runs has not proved itself yet: no other one before".into());
        }
        let board = Board {
            hardware: self.running.hardware,
            version: self.running.version,
            security_floor: state.security_floor,
            slot_bytes: SLOT_BYTES,
        };
        let slot = partitions::slot(self.running.slot.other());
        let update = Update::begin(header, &key, &board, slot).map_err(|why| format!("{why}"))?;
        let answer = format!("ok {} bytes to come", update.length());
        self.update = Some(update);
        Ok(answer)
    }

    fn part(&mut self, at: u32, bytes: &[u8]) -> Result<String, String> {
        let update = self.update.as_mut().ok_or("no image has been begun")?;
        update.part(&mut self.flash, at, bytes).map_err(|why| format!("{why}"))?;
        Ok(format!("ok {} of {}", update.taken(), update.length()))
    }

    fn install(&mut self) -> Result<String, String> {
        let update = self.update.take().ok_or("no image has been begun")?;
        let header = update.finish(&mut self.flash).map_err(|why| format!("{why}"))?;
        let state = self.state()?;
        start::install(&mut self.flash, &state, &header).map_err(|why| format!("{why}"))?;
        Ok(format!("ok version {} is tried now", header.version))
    }

    fn format(&mut self) -> Result<String, String> {
        self.flash.erase(LOG.start, LOG.end).map_err(|why| format!("the flash failed: {why:?}"))?;
        Ok("ok registers and frames are erased; starting again".into())
    }

    fn state(&mut self) -> Result<crate::rollback::BootState, String> {
        start::state(&mut self.flash, self.running.slot, self.running.version)
            .map_err(|why| format!("the flash failed: {why:?}"))
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        calibration::tests::{RING, nominal, record as signed_record},
        image::Header,
        otadata,
        ram::RamFlash,
    };

    fn digits(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn service() -> (Service<RamFlash>, SigningKey, SigningKey) {
        let (maker, bench) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[3; 32]));
        let provision = Provision {
            firmware_key: Some(maker.verifying_key().to_bytes()),
            calibration_key: Some(bench.verifying_key().to_bytes()),
            ..Provision::default()
        };
        let running = Running { hardware: 6, version: 1, slot: Slot::A, front_end: nominal(), ring: RING };
        (Service::new(RamFlash::new(0x400), running, provision), maker, bench)
    }

    fn feed(service: &mut Service<RamFlash>, maker: &SigningKey, program: &[u8]) -> (String, After) {
        let signed = Header::of(program, 6, 2, 1).expect("short").signed_bytes();
        let header = [&signed[..], &maker.sign(&signed).to_bytes()].concat();
        let line = format!("image {}", digits(&header));
        assert_eq!(service.line(&line, false, None).0, format!("ok {} bytes to come", program.len()));
        for (part, bytes) in program.chunks(120).enumerate() {
            let (answer, _) = service.line(&format!("part {} {}", part * 120, digits(bytes)), false, None);
            assert!(answer.starts_with("ok"), "{answer}");
        }
        service.line("install", false, None)
    }

    #[test]
    fn an_image_over_the_line_is_tried_at_the_next_start() {
        let (mut service, maker, _) = service();
        let program: Vec<u8> = (0..20_001_u32).map(|n| n.to_le_bytes()[1]).collect();
        assert_eq!(service.line("install", false, None).0, "error no image has been begun");
        let (answer, after) = feed(&mut service, &maker, &program);
        assert_eq!((answer.as_str(), after), ("ok version 2 is tried now", After::Restart));
        assert_eq!(otadata::selected(&mut service.flash), Ok(Slot::B));
        let slot = partitions::slot(Slot::B).start as usize;
        assert_eq!(service.flash.bytes[slot..slot + program.len()], program);
        let state = service.state().expect("power");
        assert_eq!(state.trial.map(|trial| trial.version), Some(2));
        // while it is on trial no other one is taken
        let (answer, _) = service.line(&format!("image {}", "00".repeat(HEADER_BYTES)), false, None);
        assert!(answer.contains("not proved itself"), "{answer}");
    }

    #[test]
    fn an_image_of_a_stranger_or_a_damaged_one_changes_nothing() {
        let (mut service, maker, _) = service();
        let before = service.flash.bytes.clone();
        let program = [5; 300];
        let signed = Header::of(&program, 6, 2, 1).expect("short").signed_bytes();
        let stranger = SigningKey::from_bytes(&[9; 32]).sign(&signed).to_bytes();
        let (answer, _) = service.line(&format!("image {}", digits(&[&signed[..], &stranger].concat())), false, None);
        assert!(answer.starts_with("error the image is not signed"), "{answer}");
        assert!(service.flash.bytes == before);
        let good = [&signed[..], &maker.sign(&signed).to_bytes()].concat();
        service.line(&format!("image {}", digits(&good)), false, None);
        service.line(&format!("part 0 {}", digits(&[6; 100])), false, None);
        let (answer, after) = service.line("install", false, None);
        assert_eq!((answer.as_str(), after), ("error 200 bytes of the program are missing", After::Stay));
        assert_eq!(otadata::selected(&mut service.flash), Ok(Slot::A));
    }

    #[test]
    fn a_calibration_comes_in_two_lines_and_is_checked() {
        let (mut service, maker, bench) = service();
        let good = signed_record(&bench, nominal().front_end);
        assert_eq!(service.line(&format!("calibrate {}", digits(&good[..68])), false, None).0, "ok 68 of 136 bytes");
        let (answer, after) = service.line(&format!("calibrate+ {}", digits(&good[68..])), false, None);
        assert_eq!((answer.as_str(), after), ("ok calibration 1; starting again", After::Restart));
        assert_eq!(record::load(&mut service.flash, CALIBRATION), Ok(Some(good.to_vec())));
        let bad = signed_record(&maker, nominal().front_end);
        service.line(&format!("calibrate {}", digits(&bad[..100])), false, None);
        let (answer, after) = service.line(&format!("calibrate+ {}", digits(&bad[100..])), false, None);
        assert!(answer.starts_with("error the calibration record is not signed") && after == After::Stay, "{answer}");
        assert_eq!(record::load(&mut service.flash, CALIBRATION), Ok(Some(good.to_vec())), "the good one stays");
        service.line(&format!("calibrate {}", digits(&bad[..100])), false, None);
        let (answer, _) = service.line(&format!("calibrate+ {}", digits(&bad[..100])), false, None);
        assert!(answer.contains("136 bytes"), "{answer}");
    }

    #[test]
    fn the_bench_is_asked_for_and_measures_with_what_it_finds() {
        let (mut service, ..) = service();
        let (answer, _) = service.line("bench zero", false, None);
        assert_eq!(answer, "error no calibration has been begun: bench start");
        let (answer, after) = service.line("bench start", false, None);
        let front_end = FrontEnd { phase_noise_ua: 0, neutral_noise_ua: 0, ..nominal().front_end };
        assert!(answer.starts_with("ok calibration 1 begins"), "{answer}");
        assert_eq!(after, After::Measure(front_end));
        let quiet = Reading {
            vrms_uv: 230_000_000,
            irms_ua: 21_000,
            neutral_ua: 19_000,
            p_uw: 0,
            p1_uw: 0,
            q1_uvar: 0,
            no_load: true,
            front_end,
        };
        let (answer, after) = service.line("bench zero", false, Some(&quiet));
        assert_eq!(answer, "ok phase 0.021 A, neutral 0.019 A measured; then say: bench voltage VOLTS");
        assert_eq!(after, After::Measure(FrontEnd { phase_noise_ua: 21_000, neutral_noise_ua: 19_000, ..front_end }));
    }

    #[test]
    fn a_locked_board_does_none_of_it_without_its_jumper() {
        let (mut service, ..) = service();
        service.provision.locked = true;
        let before = service.flash.bytes.clone();
        for line in
            ["calibrate 00", "image 00", "part 0 00", "install", "format", "save", "lock", "set port 1", "bench start"]
        {
            assert_eq!(service.line(line, false, None), ("error locked: close the jumper first".into(), After::Stay));
        }
        assert!(service.flash.bytes == before);
        service.flash.bytes[LOG.start as usize] = 0;
        assert_eq!(service.line("format", true, None).1, After::Restart);
        assert!(service.flash.bytes[LOG.start as usize..].iter().all(|byte| *byte == 0xff));
    }

    proptest! {
        #[test]
        fn no_line_panics_or_switches(lines in prop::collection::vec("(calibrate|calibrate\\+|image|part [0-9]{1,6}|install|set port) [0-9a-f]{0,240}", 0..8)) {
            let (mut service, ..) = service();
            for line in &lines {
                service.line(line, true, None);
            }
            prop_assert_eq!(otadata::selected(&mut service.flash), Ok(Slot::A));
        }
    }
}
