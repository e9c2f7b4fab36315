//! Calibration: its order, what each step computes, and the record that keeps the result.
//!
//! The order is fixed, because each step rests on the ones before: zero, voltage gain, current gain, phase, verification.
//! Each step must be measured with what the steps before have found ([`Calibrator::apply`]); a reading of another front end is refused.
//! The record is protected by a CRC-32 and holds a count, the signer, the date and room for a signature over the bytes
//! before it. Making and checking the signature belongs to the crate that holds keys.

use core::fmt;

use crate::config::{Config, FrontEnd};
use crate::window::WindowReport;

/// Steps in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// No current for a minute: noise of the channels.
    Zero,
    /// Reference voltage.
    VoltageGain,
    /// Reference current at power factor one.
    CurrentGain,
    /// Reference angle (60° inductive).
    Phase,
    /// Comparison at other points; changes nothing.
    Verify,
}

/// Why a step was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepError {
    /// Another step comes first.
    OutOfOrder(Step),
    /// The measured value is too far from the reference to be a gain error: wiring or range is wrong.
    Implausible,
    /// No measurement, or no load where one is needed.
    NothingMeasured,
    /// The reading was taken with another front end than the steps before have found.
    Stale,
}

/// What a step looks at: quantities of one window, and what they were measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Voltage, microvolts rms.
    pub vrms_uv: u32,
    /// Phase current, microamperes rms.
    pub irms_ua: u32,
    /// Neutral current, microamperes rms.
    pub neutral_ua: u32,
    /// Active power, microwatts.
    pub p_uw: i64,
    /// Active power of the fundamental, microwatts.
    pub p1_uw: i64,
    /// Reactive power of the fundamental, microvar.
    pub q1_uvar: i64,
    /// Below the start current.
    pub no_load: bool,
    /// The front end that the core was told.
    pub front_end: FrontEnd,
}

impl Reading {
    /// The quantities of `window`, measured with `front_end`.
    pub fn of(window: &WindowReport, front_end: &FrontEnd) -> Self {
        Self {
            vrms_uv: window.vrms_uv,
            irms_ua: window.irms_ua,
            neutral_ua: window.neutral_ua,
            p_uw: window.p_uw,
            p1_uw: window.p1_uw,
            q1_uvar: window.q1_uvar,
            no_load: window.no_load,
            front_end: *front_end,
        }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfOrder(step) => write!(f, "step {step:?} must be done first"),
            Self::Implausible => {
                f.write_str("more than 20 % (or 10 degrees) off the reference: check wiring and range")
            }
            Self::NothingMeasured => f.write_str("nothing measured: apply the reference and wait for a window"),
            Self::Stale => {
                f.write_str("not measured yet with what the step before has found: wait a second and say it again")
            }
        }
    }
}

impl core::error::Error for StepError {}

/// Carries a front end through the steps.
#[derive(Clone, Debug)]
pub struct Calibrator {
    front_end: FrontEnd,
    next: Step,
}

/// `gain · reference / measured`, refused beyond ±20 %.
fn corrected(gain: u64, measured: u32, reference: u32) -> Result<u64, StepError> {
    if measured == 0 {
        return Err(StepError::NothingMeasured);
    }
    if u64::from(measured.abs_diff(reference)) * 5 > u64::from(reference) {
        return Err(StepError::Implausible);
    }
    Ok((u128::from(gain) * u128::from(reference) / u128::from(measured)) as u64)
}

/// `noise · new / old`, what a channel's noise is after its gain was changed.
fn scaled(noise: u32, new: u64, old: u64) -> u32 {
    u32::try_from(u128::from(noise) * u128::from(new) / u128::from(old.max(1))).unwrap_or(u32::MAX)
}

impl Calibrator {
    /// Starts from a front end's design values, with noise correction off: the first step finds the noise.
    pub fn new(design: FrontEnd) -> Self {
        Self { front_end: FrontEnd { phase_noise_ua: 0, neutral_noise_ua: 0, ..design }, next: Step::Zero }
    }

    /// The front end as far as it has been found; the next step must be measured with it.
    pub fn front_end(&self) -> &FrontEnd {
        &self.front_end
    }

    /// Configuration with what has been found so far; measure the next step with it.
    pub fn apply(&self, config: Config) -> Config {
        Config { front_end: self.front_end, ..config }
    }

    /// The step that must come next.
    pub fn next(&self) -> Step {
        self.next
    }

    fn expect(&self, step: Step, reading: &Reading) -> Result<(), StepError> {
        if self.next != step {
            return Err(StepError::OutOfOrder(self.next));
        }
        if reading.front_end == self.front_end { Ok(()) } else { Err(StepError::Stale) }
    }

    /// Zero: a window without current and with noise correction off gives the noise of the current channels.
    pub fn zero(&mut self, reading: &Reading) -> Result<(), StepError> {
        self.expect(Step::Zero, reading)?;
        self.front_end.phase_noise_ua = reading.irms_ua;
        self.front_end.neutral_noise_ua = reading.neutral_ua;
        self.next = Step::VoltageGain;
        Ok(())
    }

    /// Voltage gain against a reference in microvolts.
    pub fn voltage_gain(&mut self, reading: &Reading, reference_uv: u32) -> Result<(), StepError> {
        self.expect(Step::VoltageGain, reading)?;
        self.front_end.volt_pv_per_count = corrected(self.front_end.volt_pv_per_count, reading.vrms_uv, reference_uv)?;
        self.next = Step::CurrentGain;
        Ok(())
    }

    /// Gain of both current channels against a reference in microamperes. The noise found before is the same in counts.
    pub fn current_gain(&mut self, reading: &Reading, reference_ua: u32) -> Result<(), StepError> {
        self.expect(Step::CurrentGain, reading)?;
        let found = self.front_end;
        let phase = corrected(found.phase_pa_per_count, reading.irms_ua, reference_ua)?;
        let neutral = corrected(found.neutral_pa_per_count, reading.neutral_ua, reference_ua)?;
        self.front_end.phase_noise_ua = scaled(found.phase_noise_ua, phase, found.phase_pa_per_count);
        self.front_end.neutral_noise_ua = scaled(found.neutral_noise_ua, neutral, found.neutral_pa_per_count);
        self.front_end.phase_pa_per_count = phase;
        self.front_end.neutral_pa_per_count = neutral;
        self.next = Step::Phase;
        Ok(())
    }

    /// Phase against a reference angle in microdegrees (60,000,000 for power factor 0.5 inductive).
    pub fn phase(&mut self, reading: &Reading, reference_udeg: i32) -> Result<(), StepError> {
        self.expect(Step::Phase, reading)?;
        if reading.no_load {
            return Err(StepError::NothingMeasured);
        }
        let angle = libm::atan2(reading.q1_uvar as f64, reading.p1_uw as f64) * 180.0 / core::f64::consts::PI;
        let error_udeg = libm::round(angle * 1e6) as i64 - i64::from(reference_udeg);
        if error_udeg.abs() > 10_000_000 {
            return Err(StepError::Implausible);
        }
        self.front_end.voltage_lead_udeg += error_udeg as i32;
        self.next = Step::Verify;
        Ok(())
    }

    /// Verification: error of the active power against a reference, parts per million of the reference. May be
    /// repeated at as many points as wanted.
    pub fn verify(&self, reading: &Reading, reference_uw: i64) -> Result<i64, StepError> {
        self.expect(Step::Verify, reading)?;
        if reference_uw == 0 {
            return Err(StepError::NothingMeasured);
        }
        let error = i128::from(reading.p_uw - reference_uw) * 1_000_000 / i128::from(reference_uw.abs());
        Ok(error as i64)
    }

    /// The record once all steps are done.
    pub fn finish(&self, count: u32, date_unix_s: u32, signer: [u8; 8]) -> Result<Record, StepError> {
        if self.next != Step::Verify {
            return Err(StepError::OutOfOrder(self.next));
        }
        Ok(Record { front_end: self.front_end, count, date_unix_s, signer, signature: [0; 64] })
    }
}

/// Length of a stored record.
pub const RECORD_BYTES: usize = 136;
const BODY_BYTES: usize = RECORD_BYTES - 64 - 4;
const MAGIC: [u8; 4] = *b"GTC1";

/// A calibration as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What was found.
    pub front_end: FrontEnd,
    /// How many times this meter has been calibrated.
    pub count: u32,
    /// When, seconds since 1970.
    pub date_unix_s: u32,
    /// Who, the first bytes of the signer's key.
    pub signer: [u8; 8],
    /// Signature over [`Record::signed_part`]; zeros if unsigned.
    pub signature: [u8; 64],
}

/// Why a stored record cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Not a calibration record of this version.
    NotARecord,
    /// The checksum does not match: the storage is damaged or the record was changed.
    Checksum,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotARecord => "no calibration record of a known version here: calibrate the meter",
            Self::Checksum => "the calibration record is damaged or was changed: calibrate the meter again",
        })
    }
}

impl core::error::Error for RecordError {}

/// CRC-32 (IEEE 802.3), bit by bit: records are rare and small.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, value: &[u8]) {
        self.bytes[self.at..self.at + value.len()].copy_from_slice(value);
        self.at += value.len();
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut value = [0; N];
        value.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        value
    }
}

impl Record {
    /// The bytes that a signature covers.
    pub fn signed_part(&self) -> [u8; BODY_BYTES] {
        let mut body = [0; BODY_BYTES];
        let f = &self.front_end;
        let mut w = Writer { bytes: &mut body, at: 0 };
        w.put(&MAGIC);
        for gain in [f.volt_pv_per_count, f.phase_pa_per_count, f.neutral_pa_per_count] {
            w.put(&gain.to_le_bytes());
        }
        w.put(&f.current_delay_ns.to_le_bytes());
        w.put(&f.voltage_lead_udeg.to_le_bytes());
        for value in
            [f.volt_noise_uv, f.phase_noise_ua, f.neutral_noise_ua, f.counts_per_step, self.count, self.date_unix_s]
        {
            w.put(&value.to_le_bytes());
        }
        w.put(&self.signer);
        body
    }

    /// The stored form: body, signature, checksum over both.
    pub fn to_bytes(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..BODY_BYTES].copy_from_slice(&self.signed_part());
        bytes[BODY_BYTES..RECORD_BYTES - 4].copy_from_slice(&self.signature);
        let crc = crc32(&bytes[..RECORD_BYTES - 4]);
        bytes[RECORD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a stored record and checks its checksum; the signature is checked elsewhere.
    pub fn from_bytes(bytes: &[u8; RECORD_BYTES]) -> Result<Self, RecordError> {
        if bytes[..4] != MAGIC {
            return Err(RecordError::NotARecord);
        }
        let mut r = Reader { bytes, at: RECORD_BYTES - 4 };
        if u32::from_le_bytes(r.take()) != crc32(&bytes[..RECORD_BYTES - 4]) {
            return Err(RecordError::Checksum);
        }
        r.at = 4;
        let front_end = FrontEnd {
            volt_pv_per_count: u64::from_le_bytes(r.take()),
            phase_pa_per_count: u64::from_le_bytes(r.take()),
            neutral_pa_per_count: u64::from_le_bytes(r.take()),
            current_delay_ns: i32::from_le_bytes(r.take()),
            voltage_lead_udeg: i32::from_le_bytes(r.take()),
            volt_noise_uv: u32::from_le_bytes(r.take()),
            phase_noise_ua: u32::from_le_bytes(r.take()),
            neutral_noise_ua: u32::from_le_bytes(r.take()),
            counts_per_step: u32::from_le_bytes(r.take()),
        };
        let count = u32::from_le_bytes(r.take());
        let date_unix_s = u32::from_le_bytes(r.take());
        let signer = r.take();
        r.at = BODY_BYTES;
        Ok(Self { front_end, count, date_unix_s, signer, signature: r.take() })
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;
    use crate::config::Nominal;
    use crate::engine::Core;
    use crate::fft::Spectrum;
    use crate::host::synthesis::{Converter, Generator, Line, Wave, config};
    use crate::sums::Sample;

    /// The true front end: 3 % and 4 % gain errors, 2.2 degrees of lead, noise; the core is told `told`.
    fn measure(told: Config, amperes: f64, degrees: f64) -> Reading {
        let wave = |rms: f64, degrees: f64, noise: f64| Wave {
            dc: 0.0,
            lines: vec![Line { hertz: 50.0, rms, degrees }],
            noise,
        };
        let (v, i) = (wave(230.0 * 0.97, 2.2, 0.0), wave(amperes * 1.04, degrees, 0.02));
        let converter = Converter::Ideal { peak: 400.0 };
        let small = Converter::Ideal { peak: 40.0 };
        let mut channels = [
            Generator::new(&v, 8000.0, 0.0, converter, 1),
            Generator::new(&i, 8000.0, 0.0, small, 2),
            Generator::new(&i, 8000.0, 0.0, small, 3),
        ];
        let mut core = Core::<2048>::new(told).unwrap_or_else(|e| panic!("{e}"));
        let mut spectrum = Box::new(Spectrum::default());
        let mut last = None;
        for _ in 0..16_000 {
            let [v, i, n] = channels.each_mut().map(|c| c.step(1.0));
            if core.push(&[Sample { v, i, n }]).half_cycle.is_some_and(|h| h.window_ready) {
                last = core.close_window(&mut spectrum);
            }
        }
        Reading::of(&last.unwrap_or_else(|| panic!("no window")), &told.front_end)
    }

    #[test]
    fn five_steps_bring_the_error_below_a_tenth_of_a_percent() {
        let (wide, small) = (Converter::Ideal { peak: 400.0 }, Converter::Ideal { peak: 40.0 });
        let design = config(8000.0, Nominal::Hz50, 230.0, [wide, small, small]);
        let mut calibrator = Calibrator::new(design.front_end);
        let quiet = measure(calibrator.apply(design), 0.0, 0.0);
        assert_eq!(calibrator.voltage_gain(&quiet, 230_000_000), Err(StepError::OutOfOrder(Step::Zero)));
        calibrator.zero(&quiet).unwrap_or_else(|e| panic!("{e}"));
        let early = calibrator.clone().voltage_gain(&quiet, 230_000_000);
        assert_eq!(early, Err(StepError::Stale), "measured before the noise was known");
        let unity = measure(calibrator.apply(design), 10.0, 0.0);
        assert_eq!(calibrator.clone().voltage_gain(&unity, 400_000_000), Err(StepError::Implausible));
        calibrator.voltage_gain(&unity, 230_000_000).unwrap_or_else(|e| panic!("{e}"));
        let unity = measure(calibrator.apply(design), 10.0, 0.0);
        calibrator.current_gain(&unity, 10_000_000).unwrap_or_else(|e| panic!("{e}"));
        let lagging = measure(calibrator.apply(design), 10.0, -60.0);
        let before = (lagging.p_uw - 1_150_000_000) * 100 / 1_150_000_000;
        assert!(before < -5, "phase error must show: {before} %");
        calibrator.phase(&lagging, 60_000_000).unwrap_or_else(|e| panic!("{e}"));
        for (amperes, degrees, truth) in [(10.0, -60.0, 1_150e6), (2.0, 0.0, 460e6), (5.0, 36.87, 920e6)] {
            let window = measure(calibrator.apply(design), amperes, degrees);
            let error = calibrator.verify(&window, truth as i64).unwrap_or_else(|e| panic!("{e}"));
            assert!(error.abs() < 1000, "{amperes} A at {degrees}: {error} ppm");
        }
    }

    #[test]
    fn a_record_survives_storage_and_damage_shows() {
        let design = config(8000.0, Nominal::Hz50, 230.0, [Converter::Ideal { peak: 400.0 }; 3]);
        let record = Record {
            front_end: FrontEnd { current_delay_ns: -50_000, ..design.front_end },
            count: 3,
            date_unix_s: 1_795_000_000,
            signer: *b"bench-01",
            signature: [7; 64],
        };
        let bytes = record.to_bytes();
        assert_eq!(Record::from_bytes(&bytes), Ok(record));
        for bit in 0..RECORD_BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::from_bytes(&damaged).is_err(), "bit {bit}");
        }
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
